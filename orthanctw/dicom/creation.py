"""Data sets that are made from tags and contents: identifiers, inherited modules, documents, pictures (PS3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from orthanctw.dicom.authoring import ValueOptions, decode_data_uri, elements_of
from orthanctw.dicom.dictionary import STANDARD, Dictionary
from orthanctw.dicom.elements import EXPLICIT_LITTLE_ENDIAN, PIXEL_DATA, SPECIFIC_CHARACTER_SET, Element, Elements
from orthanctw.dicom.encoding import Pieces, dataset_parts, is_known
from orthanctw.dicom.filemeta import file_head
from orthanctw.dicom.header import Header
from orthanctw.dicom.modules import module_tags
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadFileFormat, OrthancError, ParameterOutOfRange
from orthanctw.identifiers import generate_uid
from orthanctw.model import ResourceLevel

SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
PATIENT_ID: Final = 0x00100020
ENCAPSULATED_DOCUMENT: Final = 0x00420011
_MIME_TYPE: Final = 0x00420012
_MODALITY: Final = 0x00080060
_CONVERSION_TYPE: Final = 0x00080064
_PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
_IDENTIFIERS: Final = {
    ResourceLevel.PATIENT: PATIENT_ID,
    ResourceLevel.STUDY: 0x0020000D,
    ResourceLevel.SERIES: 0x0020000E,
    ResourceLevel.INSTANCE: SOP_INSTANCE_UID,
}
#: Of instance creation, study, series, acquisition and content.
_DATES: Final = (0x00080012, 0x00080020, 0x00080021, 0x00080022, 0x00080023)
_TIMES: Final = (0x00080013, 0x00080030, 0x00080031, 0x00080032, 0x00080033)
_REPLACEABLE: Final = frozenset({PATIENT_ID, *_DATES, *_TIMES})
#: DCMTK's class for what has none, in the file meta information alone.
_NO_CLASS: Final = "1.2.276.0.7230010.3.1.0.1"

@attrs.frozen
class Document:
    """What an encapsulated document of some media type is in DICOM (PS3.3 sections A.45.1 and A.85)."""

    sop_class: str
    modality: str
    is_scanned: bool = False


_PDF: Final = "application/pdf"
_DOCUMENTS: Final[Mapping[str, Document]] = {
    _PDF: Document("1.2.840.10008.5.1.4.1.1.104.1", "OT", is_scanned=True),
    "model/stl": Document("1.2.840.10008.5.1.4.1.1.104.3", "M3D"),
    "model/obj": Document("1.2.840.10008.5.1.4.1.1.104.4", "M3D"),
    "model/mtl": Document("1.2.840.10008.5.1.4.1.1.104.5", "M3D"),
}
#: How a document starts that is given as a tag.
_DOCUMENT_URIS: Final = tuple(f"data:{mime};base64," for mime in _DOCUMENTS)
#: Media types of pictures, which a child decodes.
PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/x-portable-arbitrarymap"})


@attrs.frozen
class Content:
    """What becomes pixel data or an encapsulated document."""

    mime: str
    data: bytes

    @property
    def is_picture(self) -> bool:
        return self.mime in PICTURES


def content_of(text: str) -> Content:
    """The content of a data URI. BadFileFormat when it is none, NOT_IMPLEMENTED for an unknown media type."""
    found = decode_data_uri(text)
    if found is None:
        raise BadFileFormat("A content must be a data URI in base64")
    content = Content(*found)
    if not content.is_picture and content.mime not in _DOCUMENTS:
        raise OrthancError(
            f"Contents of the type {content.mime} are not supported", code=ErrorCode.NOT_IMPLEMENTED, http_status=400
        )
    if content.mime == _PDF and not content.data.startswith(b"%PDF-"):
        raise BadFileFormat("The content is no PDF")
    return content


@attrs.frozen(kw_only=True)
class PictureFacts:
    """What a child has found out about a picture. Its bytes are a JPEG stream in `transfer_syntax`, unless native."""

    rows: int
    columns: int
    samples: int
    bits: int
    photometric_interpretation: str
    transfer_syntax: str = EXPLICIT_LITTLE_ENDIAN


class Draft:
    """A data set that is being made.

    Parameters
    ----------
    character_set : str
        SpecificCharacterSet, as long as it can hold all text: else UTF-8 is used.
    """

    def __init__(self, character_set: str, dictionary: Dictionary = STANDARD) -> None:
        self.elements: dict[int, Element] = {}
        self.content: Content | None = None
        self.transfer_syntax = EXPLICIT_LITTLE_ENDIAN
        self._character_set = character_set
        self._dictionary = dictionary

    def copy(self) -> Draft:
        """Another one, equal so far."""
        result = Draft(self._character_set, self._dictionary)
        result.elements = dict(self.elements)
        result.content = self.content
        return result

    def identify(self, *levels: ResourceLevel) -> None:
        """Generate the identifiers of some levels."""
        for level in levels:
            self.replace(_IDENTIFIERS[level], generate_uid(level))

    def inherit(self, level: ResourceLevel, header: Header) -> None:
        """Take the modules of a level, and of those above, over from an object; sequences are not inherited."""
        if header.charset and is_known(header.charset):
            self._character_set = header.charset
        modules = module_tags()
        inherited = frozenset().union(*(modules[each] for each in ResourceLevel if each <= level))
        for element in header.elements:
            if element[0] in inherited and len(element) == 3 and isinstance(element[2], str):
                self.elements[element[0]] = tuple(element)

    def replace(self, tag: int, value: Any) -> None:
        """Set an element of the standard."""
        self.elements[tag] = (tag, self._dictionary.vr(tag), value)

    def complete(self, tag: int, value: Any) -> None:
        """Set an element of the standard that is not there."""
        if tag not in self.elements:
            self.replace(tag, value)

    def add(self, tags: Mapping[str, Any], options: ValueOptions, *, force: bool) -> None:
        """Add the tags of a request.

        CREATE_DICOM_OVERRIDE_TAG when one is there already and there is no `force`, CREATE_DICOM_USE_CONTENT for
        pixels; see also `elements_of`.
        """
        named = {self._dictionary.parse(name): value for name, value in tags.items()}
        if PIXEL_DATA in named:
            raise OrthancError("PixelData is no tag but a content", code=ErrorCode.CREATE_DICOM_USE_CONTENT)
        for element in elements_of(tags, options):
            tag = element[0]
            if tag == SPECIFIC_CHARACTER_SET:
                self._set_character_set(element[2])
            elif not force and tag not in _REPLACEABLE and tag in self.elements:
                name = self._dictionary.name(tag, None)
                raise OrthancError(f"{name} has a value already", code=ErrorCode.CREATE_DICOM_OVERRIDE_TAG)
            else:
                self.elements[tag] = element
        document = named.get(ENCAPSULATED_DOCUMENT)
        if isinstance(document, str) and document.startswith(_DOCUMENT_URIS):
            self.content = content_of(document)

    def _set_character_set(self, value: str) -> None:
        if not value:
            return
        if not is_known(value):
            raise ParameterOutOfRange("Unknown SpecificCharacterSet")
        self._character_set = value

    def date(self, date: str, time: str) -> None:
        """Complete dates and times, in DICOM's form."""
        for tags, value in ((_DATES, date), (_TIMES, time)):
            for tag in tags:
                self.complete(tag, value)

    def number(self, index: int, count: int) -> None:
        """Make it one of the instances of a new series; `index` is from 1."""
        for tag, number in ((0x00200013, index), (0x00541330, index), (0x00201002, count), (0x00200105, 1)):
            self.replace(tag, str(number))

    def add_document(self, content: Content) -> None:
        """Encapsulate a document."""
        document = _DOCUMENTS[content.mime]
        self.replace(SOP_CLASS_UID, document.sop_class)
        self.complete(_MODALITY, document.modality)
        if document.is_scanned:
            # A workstation has made it (PS3.3 section C.24.1).
            self.complete(_CONVERSION_TYPE, "WSD")
        self.complete(_MIME_TYPE, content.mime)
        self.replace(ENCAPSULATED_DOCUMENT, Pieces((content.data, bytes(len(content.data) % 2))))

    def add_picture(self, facts: PictureFacts, pieces: Sequence[bytes]) -> None:
        """Add the pixels of a picture (PS3.3 section C.7.6.3)."""
        short = {
            0x00280002: facts.samples,
            0x00280010: facts.rows,
            0x00280011: facts.columns,
            0x00280100: facts.bits,
            0x00280101: facts.bits,
            0x00280102: facts.bits - 1,
            0x00280103: 0,
        }
        if facts.samples > 1:
            short[0x00280006] = 0
            self.replace(_PHOTOMETRIC_INTERPRETATION, facts.photometric_interpretation)
        self.complete(_PHOTOMETRIC_INTERPRETATION, facts.photometric_interpretation)
        for tag, value in short.items():
            self.replace(tag, str(value))
        size = sum(map(len, pieces))
        pixels = (*pieces, bytes(size % 2))
        self.transfer_syntax = facts.transfer_syntax
        if facts.transfer_syntax == EXPLICIT_LITTLE_ENDIAN:
            self.elements[PIXEL_DATA] = (PIXEL_DATA, "OW", Pieces(pixels))
            return
        self.elements[PIXEL_DATA] = (PIXEL_DATA, "OB", Pieces(pixels, is_encapsulated=True))
        self.replace(0x00282110, "01")
        original_size = facts.rows * facts.columns * facts.samples * facts.bits // 8
        self.replace(0x00282112, f"{original_size / size:.6g}")
        self.replace(0x00282114, "ISO_10918_1")

    def file_parts(self) -> list[bytes]:
        """The DICOM file, in pieces."""
        elements: Elements = list(self.elements.values())
        sop_class, sop_instance = self._text(SOP_CLASS_UID), self._text(SOP_INSTANCE_UID)
        return [
            file_head(sop_class or _NO_CLASS, sop_instance, self.transfer_syntax),
            *dataset_parts(elements, explicit=True, character_sets=(self._character_set,)),
        ]

    def _text(self, tag: int) -> str:
        element = self.elements.get(tag)
        return element[2] if element is not None and isinstance(element[2], str) else ""
