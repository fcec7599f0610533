"""Elements as values: kinds of VRs, numbers as text, heads of encoded elements (PS3.5 sections 6.2 and 7.1)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import attrs

from orthanctw.errors import BadFileFormat

#: What a file is read from: anything with the buffer protocol.
Buffer = bytes | bytearray | memoryview | Any

#: ``(tag, vr, text)``, ``(tag, vr, None)`` for a number without value, ``(tag, vr, items)`` with a list of elements per
#: item, or ``(tag, vr, offset, length)`` for what stays in the file. Lists instead of tuples after decoding.
Element = Any
Elements = list[Element]

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
PIXEL_DATA: Final = 0x7FE00010
SPECIFIC_CHARACTER_SET: Final = 0x00080005

IMPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_ENCAPSULATED: Final = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")

TEXT_VRS: Final = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
)
BINARY_VRS: Final = frozenset({"OB", "OD", "OL", "OV", "OW", "UN"})
#: Struct code and bytes per number. OF counts as numbers: Orthanc prints it.
NUMBERS: Final[dict[str, tuple[str, int]]] = {
    "FL": ("f", 4),
    "OF": ("f", 4),
    "FD": ("d", 8),
    "SL": ("i", 4),
    "SS": ("h", 2),
    "UL": ("I", 4),
    "US": ("H", 2),
    "SV": ("q", 8),
    "UV": ("Q", 8),
}
#: How numbers of a struct code are written, if not by `str`.
NUMBER_FORMATS: Final[dict[str, Callable[[float], str]]] = {"f": "%.9g".__mod__, "d": "%.17g".__mod__}
#: Bytes of the numbers that a value consists of, when they are more than one (PS3.5 section 7.3).
NUMBER_SIZES: Final[dict[str, int]] = {
    **{vr: size for vr, (_code, size) in NUMBERS.items()},
    "AT": 2,
    "OW": 2,
    "OL": 4,
    "OD": 8,
    "OV": 8,
}
_LONGEST_SHORT: Final = 0xFFFF
#: VRs with a length of 32 bits (PS3.5 table 7.1-1).
LONG_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
ALL_VRS: Final = TEXT_VRS | BINARY_VRS | NUMBERS.keys() | {"AT", "SQ"}
VR_NAMES: Final[dict[bytes, str]] = {vr.encode(): vr for vr in ALL_VRS}


def is_encapsulated(transfer_syntax: str) -> bool:
    """Whether pixel data must be encapsulated (PS3.5 section A.4)."""
    return transfer_syntax.startswith(_ENCAPSULATED)


def strip_text(vr: str, text: str) -> str:
    """Text without its padding: trailing spaces, and all from the first NUL on; leading spaces stay but in UIDs."""
    text = text.rstrip(" ")
    if "\0" in text:
        text = text[: text.index("\0")]
    return text.strip(" ") if vr == "UI" else text


def number_text(vr: str, raw: bytes, order: str = "<") -> str | None:
    """Numbers of a binary VR as decimal text joined by backslashes; None when there are none or the length is wrong.

    AT gives ``gggg,eeee``; FL and OF have up to 9 significant digits, FD up to 17.
    """
    if len(raw) % 2:
        raw += b"\0"
    if vr == "AT":
        if not raw or len(raw) % 4:
            return None
        words = struct.unpack(f"{order}{len(raw) // 2}H", raw)
        return "\\".join([f"{group:04x},{element:04x}" for group, element in zip(*[iter(words)] * 2, strict=True)])
    code, size = NUMBERS[vr]
    if not raw or len(raw) % size:
        return None
    values = struct.unpack(f"{order}{len(raw) // size}{code}", raw)
    return "\\".join(map(NUMBER_FORMATS.get(code, str), values))


@attrs.frozen
class Encoding:
    """How a data set is encoded (PS3.5 annex A): explicit VRs or not, ``<`` or ``>``."""

    explicit: bool
    order: str = "<"


@attrs.frozen
class Head:
    """Where an element lies. `length` is `UNDEFINED` when its end is marked by a delimiter."""

    tag: int
    vr: str
    start: int
    offset: int
    length: int


def read_head(data: Buffer, position: int, encoding: Encoding) -> Head:
    """The head of the element at `position`; its VR is empty when VRs are implicit or it is an item or delimiter.

    Raises BadFileFormat when the data ends within it.
    """
    try:
        group, element, length = struct.unpack_from(f"{encoding.order}HHI", data, position)
        tag = group << 16 | element
        if not encoding.explicit or group == 0xFFFE:
            return Head(tag, "", position, position + 8, length)
        raw = bytes(data[position + 4 : position + 6])
        vr = VR_NAMES.get(raw) or ("UN" if raw.isalpha() and raw.isupper() else "??")
        if vr in LONG_VRS:
            (length,) = struct.unpack_from(f"{encoding.order}I", data, position + 8)
            return Head(tag, vr, position, position + 12, length)
        (length,) = struct.unpack_from(f"{encoding.order}H", data, position + 6)
    except struct.error:
        raise BadFileFormat("the file ends within an element") from None
    return Head(tag, vr, position, position + 8, length)


def encoded_head(tag: int, vr: str, length: int, encoding: Encoding) -> bytes:
    """The head of an element; a length that its VR cannot have makes it UN (PS3.5 section 6.2.2, note 1)."""
    order, group, number = encoding.order, tag >> 16, tag & 0xFFFF
    if not encoding.explicit or group == 0xFFFE:
        return struct.pack(f"{order}HHI", group, number, length)
    if vr not in LONG_VRS and length > _LONGEST_SHORT:
        vr = "UN"
    if vr in LONG_VRS:
        return struct.pack(f"{order}HH2sHI", group, number, vr.encode("ascii"), 0, length)
    return struct.pack(f"{order}HH2sH", group, number, vr.encode("ascii"), length)
