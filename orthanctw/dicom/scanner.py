"""Scanner of DICOM files (PS3.10): the header as values, the bulk as offsets. The hot path of every received object.

Little and big endian, explicit and implicit VRs, deflated data sets, with or without preamble and meta header. Values
over a limit, binary values and pixel data are not read: only their place is kept, so a file may be a large `mmap`.
"""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import Any, Final

import attrs

from orthanctw.dicom.datasets import DatasetReader
from orthanctw.dicom.dictionary import STANDARD, Dictionary
from orthanctw.dicom.elements import (
    DEFLATED_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    LONG_VRS,
    VR_NAMES,
    Buffer,
    Elements,
    Encoding,
    is_encapsulated,
    read_head,
)
from orthanctw.dicom.frames import PixelFacts, pixel_facts
from orthanctw.dicom.uids import VIDEO
from orthanctw.errors import BadFileFormat, InexistentTag

#: Elements and items of one file. A list element takes some 200 bytes, its encoding 8.
ELEMENT_LIMIT: Final = 2_000_000
DEPTH_LIMIT: Final = 64
_INFLATED_LIMIT: Final = 512 << 20
_RATIO_LIMIT: Final = 200
_SMALL_INFLATED: Final = 16 << 20
#: With the one of GE whose pixel data alone is big endian.
_IMPLICIT: Final = frozenset({IMPLICIT_LITTLE_ENDIAN, "1.2.840.113619.5.2"})
_META_ENCODING: Final = Encoding(True)
_LONG_HEADS: Final = frozenset(vr.encode() for vr in LONG_VRS)
_IDENTIFIERS: Final = (0x0020000D, 0x0020000E, 0x00080018)
_PATIENT_ID: Final = 0x00100020


@attrs.frozen(kw_only=True, slots=False)
class ScannedFile:
    """What a DICOM file says.

    `meta` is group 0002, `elements` the data set, both sorted by tag. Offsets are from the start of the file; in a
    deflated data set from the start of the inflated one (`inflate`). `order` is ``<`` or ``>``. `transfer_syntax` is
    as in the file, or as detected when the file does not tell.
    """

    meta: Elements
    elements: Elements
    transfer_syntax: str
    order: str
    charset: str | None
    pixels: PixelFacts | None

    @property
    def pixel_data_offset(self) -> int | None:
        """Metadata ``PixelDataOffset``; None without pixel data, or when it does not lie in the file as it is."""
        if self.pixels is None or self.transfer_syntax == DEFLATED_LITTLE_ENDIAN:
            return None
        return self.pixels.start

    @cached_property
    def by_tag(self) -> dict[int, Any]:
        """The elements of the data set's top level."""
        return {element[0]: element for element in self.elements}

    def text(self, tag: int) -> str | None:
        """Text of an element of the data set's top level, without spaces around it; None when there is none."""
        element = self.by_tag.get(tag)
        if element is None or element[2].__class__ is not str:
            return None
        value: str = element[2].strip(" \0")
        return value

    def identifiers(self) -> tuple[str, str, str, str]:
        """PatientID (empty when absent) and the UIDs of study, series and instance, as Orthanc identifies objects.

        Raises InexistentTag when a UID is missing, BadFileFormat when one is empty.
        """
        uids = [self.text(tag) for tag in _IDENTIFIERS]
        study, series, instance = uids
        if study is None or series is None or instance is None:
            raise InexistentTag("StudyInstanceUID, SeriesInstanceUID or SOPInstanceUID")
        if not study or not series or not instance:
            raise BadFileFormat("an empty StudyInstanceUID, SeriesInstanceUID or SOPInstanceUID")
        patient = self.by_tag.get(_PATIENT_ID)
        patient_id = patient[2] if patient is not None and isinstance(patient[2], str) else ""
        return patient_id.rstrip(" \0"), study, series, instance


def scan(
    data: Buffer,
    *,
    default_encoding: str = "Latin1",
    dictionary: Dictionary = STANDARD,
    depth_limit: int = DEPTH_LIMIT,
    element_limit: int = ELEMENT_LIMIT,
) -> ScannedFile:
    """Read the header of a DICOM file.

    Parameters
    ----------
    data : bytes, memoryview or mmap
        The whole file.
    default_encoding : str
        Orthanc's name of the encoding of files without SpecificCharacterSet.
    depth_limit : int
        Nesting of sequences; up to 64, the stored form relies on it.

    Raises BadFileFormat when it is no DICOM file, is truncated, or passes a limit.
    """
    position = dataset_start(data)
    reader = DatasetReader(data, default_encoding, dictionary, depth_limit, element_limit)
    meta_end = _meta_end(data, position)
    meta = reader.dataset(position, meta_end, _META_ENCODING)
    transfer_syntax = next((e[2].strip(" \0") for e in meta if e[0] == 0x00020010 and isinstance(e[2], str)), "")
    if not transfer_syntax:
        transfer_syntax = detect_syntax(data, meta_end)
    if transfer_syntax == DEFLATED_LITTLE_ENDIAN:
        data, meta_end = inflate(data, meta_end), 0
        reader = DatasetReader(data, default_encoding, dictionary, depth_limit, element_limit)
    encoding = encoding_of(transfer_syntax)
    elements = reader.dataset(meta_end, len(data), encoding)
    pixels = None
    if reader.pixels is not None:
        if reader.fragments is None and is_encapsulated(transfer_syntax):
            raise BadFileFormat("pixel data should be encapsulated")
        pixels = pixel_facts(reader.pixels, reader.fragments, elements, data, is_video=transfer_syntax in VIDEO)
    return ScannedFile(
        meta=meta,
        elements=elements,
        transfer_syntax=transfer_syntax,
        order=encoding.order,
        charset=reader.charset,
        pixels=pixels,
    )


def dataset_start(data: Buffer) -> int:
    """Where the meta header starts: after the preamble, or at the first byte (PS3.10 section 7.1)."""
    if len(data) < 8:
        raise BadFileFormat("too short to be a DICOM file")
    return 132 if bytes(data[128:132]) == b"DICM" else 0


def _meta_end(data: Buffer, position: int) -> int:
    size = len(data)
    while position + 8 <= size and data[position] == 2 and data[position + 1] == 0:
        if bytes(data[position + 4 : position + 6]) in _LONG_HEADS:
            position += read_head(data, position, _META_ENCODING).length + 12
        else:
            position += 8 + data[position + 6] + 256 * data[position + 7]
        if position > size:
            raise BadFileFormat("the file ends within its meta header")
    return position


def meta_end(data: Buffer) -> int:
    """Where the data set starts. Raises BadFileFormat."""
    return _meta_end(data, dataset_start(data))


def encoding_of(transfer_syntax: str) -> Encoding:
    """How data sets of a transfer syntax are encoded; an unknown one is explicit little endian, as all are today."""
    return Encoding(transfer_syntax not in _IMPLICIT, ">" if transfer_syntax == EXPLICIT_BIG_ENDIAN else "<")


def detect_syntax(data: Buffer, position: int) -> str:
    """The transfer syntax that the first element of a data set looks like."""
    start = bytes(data[position : position + 6])
    if start[4:6] not in VR_NAMES:
        return IMPLICIT_LITTLE_ENDIAN
    return EXPLICIT_BIG_ENDIAN if start[0] == 0 and start[1] != 0 else EXPLICIT_LITTLE_ENDIAN


def inflate(data: Buffer, position: int) -> bytes:
    """The inflated data set that starts at `position` (PS3.5 section A.5). Raises BadFileFormat over a limit."""
    limit = min(_INFLATED_LIMIT, max(_SMALL_INFLATED, _RATIO_LIMIT * (len(data) - position)))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        result = inflater.decompress(data[position:], limit)
    except zlib.error:
        raise BadFileFormat("a deflated data set cannot be inflated") from None
    if not inflater.eof:
        raise BadFileFormat("a deflated data set is truncated or too large")
    return result
