"""Main tags: what the index keeps of every level, and how it is looked up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import orjson

from orthanctw.dicom.dictionary import STANDARD, Dictionary, format_tag
from orthanctw.dicom.jsonforms import FormOptions, TagFormat, form_of
from orthanctw.dicom.scanner import ScannedFile
from orthanctw.errors import ConfigurationError
from orthanctw.identifiers import normalize_identifier
from orthanctw.model import MetadataType, ResourceLevel

_SOP_CLASS_UID: Final = 0x00080016
_PATIENT: Final = (0x00100010, 0x00100020, 0x00100030, 0x00100040, 0x00101000)
#: Main tags of each level, without ``ExtraMainDicomTags``.
DEFAULT_MAIN_TAGS: Final[Mapping[ResourceLevel, tuple[int, ...]]] = {
    ResourceLevel.PATIENT: _PATIENT,
    ResourceLevel.STUDY: (
        *(0x00080020, 0x00080030, 0x00080050, 0x00080080, 0x00080090, 0x00080201),
        *(0x00081030, 0x0020000D, 0x00200010, 0x00321032, 0x00321060),
    ),
    ResourceLevel.SERIES: (
        *(0x00080021, 0x00080031, 0x00080060, 0x00080070, 0x00080201, 0x00081010, 0x0008103E, 0x00081070),
        *(0x00180010, 0x00180015, 0x00180024, 0x00181030, 0x00181090, 0x00181400),
        *(0x0020000E, 0x00200011, 0x00200037, 0x00200105, 0x00201002),
        *(0x00400244, 0x00400245, 0x00400254, 0x00400275, 0x00540081, 0x00540101, 0x00541000),
    ),
    ResourceLevel.INSTANCE: (
        *(0x00080012, 0x00080013, 0x00080018, 0x00200012, 0x00200013, 0x00200032),
        *(0x00200037, 0x00200100, 0x00204000, 0x00280008, 0x00541330),
    ),
}
#: Tags that are looked up in normalised form.
IDENTIFIER_TAGS: Final[Mapping[ResourceLevel, tuple[int, ...]]] = {
    ResourceLevel.PATIENT: (0x00100020, 0x00100010, 0x00100030),
    ResourceLevel.STUDY: (
        *(0x00100020, 0x00100010, 0x00100030),
        *(0x0020000D, 0x00080050, 0x00081030, 0x00080020),
    ),
    ResourceLevel.SERIES: (0x0020000E,),
    ResourceLevel.INSTANCE: (0x00080018,),
}
#: Tags that no file holds: their values come from the index.
COMPUTED_TAGS: Final[Mapping[ResourceLevel, tuple[int, ...]]] = {
    ResourceLevel.PATIENT: (0x00201200, 0x00201202, 0x00201204),
    ResourceLevel.STUDY: (0x00080061, 0x00080062, 0x00201206, 0x00201208),
    ResourceLevel.SERIES: (0x00201209,),
    ResourceLevel.INSTANCE: (0x00080056,),
}
#: Longer values, in bytes of UTF-8, are not stored.
MAXIMUM_LENGTH: Final = 256
_SPACES: Final = " \t\n\v\f\r\0"
#: Pairs whose product is the number of instances of a series, and the tag that tells it alone.
_EXPECTED: Final = ((0x00201002, 0x00200105), (0x00540081, 0x00540101), (0x00181090,))


def _stored_values(scanned: ScannedFile, tags: Iterable[int]) -> dict[int, str]:
    result = {}
    get = scanned.by_tag.get
    for tag in tags:
        element = get(tag)
        if element is not None and element[2].__class__ is str:
            value = element[2].strip(_SPACES)
            if len(value) <= 64 or len(value.encode("utf-8")) <= MAXIMUM_LENGTH:
                result[tag] = value
    return result


def stored_value(scanned: ScannedFile, tag: int) -> str | None:
    """The value of a main tag as the index keeps it; None when it is absent, binary or too long."""
    return _stored_values(scanned, (tag,)).get(tag)


class MainTags:
    """The main tags of a server.

    Parameters
    ----------
    extra : mapping of ResourceLevel to tags, optional
        Option ``ExtraMainDicomTags``.
    dictionary : Dictionary, optional
        Tells which tags are sequences.

    Raises ConfigurationError when an extra tag is there already.
    """

    def __init__(
        self, extra: Mapping[ResourceLevel, Collection[int]] | None = None, *, dictionary: Dictionary = STANDARD
    ) -> None:
        self._dictionary = dictionary
        self._tags: dict[ResourceLevel, tuple[int, ...]] = dict(DEFAULT_MAIN_TAGS)
        problems = []
        for level, added in (extra or {}).items():
            for tag in added:
                taken = self._tags[level] + (self._tags[ResourceLevel.PATIENT] if level == ResourceLevel.STUDY else ())
                if tag in taken:
                    problems.append(f"ExtraMainDicomTags.{level.title}: {format_tag(tag)} is a main tag already")
                else:
                    self._tags[level] += (tag,)
        if problems:
            raise ConfigurationError(problems)
        sequences = {level: {tag for tag in tags if dictionary.vr(tag) == "SQ"} for level, tags in self._tags.items()}
        self._sequences = sequences
        self._values = {
            level: tuple(tag for tag in tags if tag not in sequences[level]) for level, tags in self._tags.items()
        }
        # Each study also keeps the main tags of its patient.
        self._values[ResourceLevel.STUDY] += self._values[ResourceLevel.PATIENT]
        self._signatures = {level: self.signature(level) for level in ResourceLevel}

    def tags(self, level: ResourceLevel) -> tuple[int, ...]:
        """The main tags of a level, sequences included."""
        return self._tags[level]

    def signature(self, level: ResourceLevel) -> str:
        """What metadata ``MainDicomTagsSignature`` says of resources stored now."""
        return ";".join(sorted(map(format_tag, self._tags[level])))

    def values(self, scanned: ScannedFile, level: ResourceLevel) -> dict[int, str]:
        """Main tags of a level for the index, those of the patient also at the study; no sequences."""
        return _stored_values(scanned, self._values[level])

    def sequences(self, scanned: ScannedFile, level: ResourceLevel) -> str | None:
        """Metadata ``MainDicomSequences``: the main tags that are sequences, in the full format; None without any."""
        wanted = self._sequences[level]
        found = [element for tag in sorted(wanted) if (element := scanned.by_tag.get(tag)) and element[1] == "SQ"]
        if not found:
            return None
        form = form_of(found, TagFormat.FULL, FormOptions(dictionary=self._dictionary))
        return orjson.dumps({"Version": 1, "Sequences": form}).decode("utf-8")

    def metadata(self, scanned: ScannedFile, level: ResourceLevel) -> dict[int, str]:
        """The metadata of a new resource that its header alone tells."""
        metadata: dict[int, str] = {MetadataType.MAIN_DICOM_TAGS_SIGNATURE: self._signatures[level]}
        sequences = self.sequences(scanned, level)
        if sequences is not None:
            metadata[MetadataType.MAIN_DICOM_SEQUENCES] = sequences
        if level is ResourceLevel.INSTANCE:
            _add_instance_metadata(metadata, scanned)
        elif level is ResourceLevel.SERIES:
            expected = expected_number_of_instances(scanned)
            if expected is not None:
                metadata[MetadataType.EXPECTED_NUMBER_OF_INSTANCES] = str(expected)
        return metadata


def _add_instance_metadata(metadata: dict[int, str], scanned: ScannedFile) -> None:
    metadata[MetadataType.TRANSFER_SYNTAX] = scanned.transfer_syntax
    sop_class = scanned.text(_SOP_CLASS_UID)
    if sop_class is not None:
        metadata[MetadataType.SOP_CLASS_UID] = sop_class
    index = index_in_series(scanned)
    if index is not None:
        metadata[MetadataType.INDEX_IN_SERIES] = index
    if scanned.pixel_data_offset is not None:
        metadata[MetadataType.PIXEL_DATA_OFFSET] = str(scanned.pixel_data_offset)
    pixels = scanned.pixels
    # PS3.5 annex A: the VR that pixel data usually has in the transfer syntax is not told.
    if pixels is not None and pixels.vr != ("OB" if pixels.encapsulated else "OW"):
        metadata[MetadataType.PIXEL_DATA_VR] = pixels.vr


def search_tags(scanned: ScannedFile, level: ResourceLevel) -> dict[int, str]:
    """Identifier tags of a level, normalised for look-ups."""
    return normalized_tags(_stored_values(scanned, IDENTIFIER_TAGS[level]), level)


def normalized_tags(main_tags: Mapping[int, str], level: ResourceLevel) -> dict[int, str]:
    """As `search_tags`, from the main tags of the level."""
    return {tag: normalize_identifier(main_tags[tag]) for tag in IDENTIFIER_TAGS[level] if tag in main_tags}


def expected_number_of_instances(scanned: ScannedFile) -> int | None:
    """How many instances the series should have, by the first rule whose tags are present."""
    for tags in _EXPECTED:
        texts = [stored_value(scanned, tag) for tag in tags]
        if None in texts:
            continue
        product = 1
        for text in texts:
            if not text or not text.lstrip("+-").isdecimal() or len(text) > 10:
                return None
            product *= int(text)
        return product if product > 0 else None
    return None


def index_in_series(scanned: ScannedFile) -> str | None:
    """InstanceNumber, else ImageIndex, without surrounding spaces."""
    number = stored_value(scanned, 0x00200013)
    return stored_value(scanned, 0x00541330) if number is None else number
