"""Data sets with all of their values, as answers to queries are given."""

from __future__ import annotations

from typing import Final

from orthanctw.dicom.dictionary import STANDARD, Dictionary
from orthanctw.dicom.elements import DEFLATED_LITTLE_ENDIAN, PIXEL_DATA, Elements, Encoding
from orthanctw.dicom.encoding import decode_dataset
from orthanctw.dicom.reencode import reencode
from orthanctw.dicom.scanner import encoding_of, inflate, meta_end, scan
from orthanctw.errors import BadFileFormat

_PLAIN: Final = Encoding(True)
_FIRST_GROUP: Final = 0x0008


def plain_elements(file: bytes, *, default_encoding: str, dictionary: Dictionary = STANDARD) -> Elements:
    """The elements of a DICOM file or data set but its pixels; binary values are bytes in little endian.

    Raises BadFileFormat.
    """
    scanned = scan(file, default_encoding=default_encoding, dictionary=dictionary)
    start = meta_end(file)
    data = file
    if scanned.transfer_syntax == DEFLATED_LITTLE_ENDIAN:
        data, start = inflate(file, start), 0
    end = len(data) if scanned.pixels is None else scanned.pixels.start
    plain = reencode(data, start, end, encoding_of(scanned.transfer_syntax), _PLAIN, dictionary)
    elements = decode_dataset(plain, explicit=True, default_encoding=default_encoding, dictionary=dictionary)
    found = [element for element in _with_bytes(elements, plain) if element[0] >> 16 >= _FIRST_GROUP]
    if not found:
        # Almost anything is elements of some groups.
        raise BadFileFormat("no DICOM data set")
    return found


def _with_bytes(elements: Elements, data: bytes) -> Elements:
    result: Elements = []
    for element in elements:
        tag, vr, value = element[:3]
        if len(element) == 4:
            if tag != PIXEL_DATA:
                raw = data[value : value + element[3]]
                result.append((tag, vr, raw + bytes(len(raw) % 2)))
        elif isinstance(value, list):
            result.append((tag, vr, [_with_bytes(item, data) for item in value]))
        else:
            result.append(element)
    return result
