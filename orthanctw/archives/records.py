"""What the directory records of a DICOMDIR tell (PS3.3 annex F.5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from orthanctw.dicom.elements import Element
from orthanctw.dicom.header import Header

_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_SEPARATORS: Final[Mapping[str, str]] = {"DA": ".", "TM": ":"}
_SERIES_DATES: Final = (0x00080021, 0x00080022, 0x00080023)
_SERIES_TIMES: Final = (0x00080031, 0x00080032, 0x00080033)


@attrs.frozen
class Key:
    """An element of a record: where else its value may be found, and what stands for it when it must not be empty.

    An element without `default` is empty when nothing is found, one that is `optional` is left out. One that lies
    `inside` a sequence is that of its last item.
    """

    tag: int
    vr: str
    default: str | None = None
    elsewhere: Sequence[int] = ()
    optional: bool = False
    inside: int = 0


def _needed(tag: int, vr: str, default: str, *elsewhere: int) -> Key:
    return Key(tag, vr, default, elsewhere)


def _optional(tag: int, vr: str) -> Key:
    return Key(tag, vr, optional=True)


_NUMBER: Final = _needed(0x00200013, "IS", "0")
_CONTENT_DATE: Final = (
    _needed(0x00080023, "DA", "19000101", 0x00080020),
    _needed(0x00080033, "TM", "000000", 0x00080030),
)
#: Of type 2 where the table of a record says so.
_MAYBE_CONTENT_DATE: Final = (Key(0x00080023, "DA"), Key(0x00080033, "TM"))
#: Content Identification Macro.
_CONTENT: Final = (
    _NUMBER,
    _needed(0x00700080, "CS", "UNNAMED"),
    Key(0x00700081, "LO"),
    Key(0x00700084, "PN"),
)
_CONCEPT: Final = Key(0x0040A043, "SQ")

PATIENT: Final[Sequence[Key]] = (Key(0x00100010, "PN"), _needed(0x00100020, "LO", "UNKNOWN"))
PATIENT_EXTENDED: Final[Sequence[Key]] = (_optional(0x00100030, "DA"), _optional(0x00100040, "CS"))
STUDY: Final[Sequence[Key]] = (
    _needed(0x00080020, "DA", "19000101", *_SERIES_DATES),
    _needed(0x00080030, "TM", "000000", *_SERIES_TIMES),
    Key(0x00080050, "SH"),
    Key(0x00081030, "LO"),
    Key(0x0020000D, "UI"),
    _needed(0x00200010, "SH", "UNKNOWN"),
)
STUDY_EXTENDED: Final[Sequence[Key]] = (
    *(_optional(0x00080080, "LO"), _optional(0x00080090, "PN"), _optional(0x00321060, "LO")),
)
SERIES: Final[Sequence[Key]] = (_needed(0x00080060, "CS", "OT"), Key(0x0020000E, "UI"), _needed(0x00200011, "IS", "0"))
SERIES_EXTENDED: Final[Sequence[Key]] = (
    *(_optional(0x00080021, "DA"), _optional(0x00080031, "TM"), _optional(0x0008103E, "LO")),
    *(_optional(0x00180015, "CS"), _optional(0x00181030, "LO"), _optional(0x00200060, "CS")),
)
#: What viewers show and sort images by (PS3.11 tables of general purpose profiles).
INSTANCE_EXTENDED: Final[Sequence[Key]] = (
    *(_optional(0x00080008, "CS"), _optional(0x00200032, "DS"), _optional(0x00200037, "DS")),
    *(_optional(0x00200052, "UI"), _optional(0x00280008, "IS"), _optional(0x00280010, "US")),
    *(_optional(0x00280011, "US"), _optional(0x00280030, "DS")),
)

#: Elements of the records below a series, by type.
KEYS: Final[Mapping[str, Sequence[Key]]] = {
    "IMAGE": (_NUMBER,),
    "RT DOSE": (_NUMBER, _needed(0x3004000A, "CS", "PLAN")),
    "RT STRUCTURE SET": (
        _NUMBER,
        _needed(0x30060002, "SH", "UNNAMED"),
        *(Key(0x30060008, "DA"), Key(0x30060009, "TM")),
    ),
    "RT PLAN": (_NUMBER, _needed(0x300A0002, "SH", "UNNAMED"), Key(0x300A0006, "DA"), Key(0x300A0007, "TM")),
    "RT TREAT RECORD": (_NUMBER, Key(0x30080250, "DA"), Key(0x30080251, "TM")),
    "PRESENTATION": (
        *_CONTENT,
        _needed(0x00700082, "DA", "19000101", 0x00080023, 0x00080020),
        _needed(0x00700083, "TM", "000000", 0x00080033, 0x00080030),
        *(_optional(0x00081115, "SQ"), _optional(0x00700402, "SQ")),
    ),
    "WAVEFORM": (_NUMBER, *_CONTENT_DATE),
    "SR DOCUMENT": (
        *(_NUMBER, *_CONTENT_DATE, _CONCEPT),
        *(_needed(0x0040A491, "CS", "PARTIAL"), _needed(0x0040A493, "CS", "UNVERIFIED")),
        Key(0x0040A030, "DT", optional=True, inside=0x0040A073),
    ),
    "KEY OBJECT DOC": (_NUMBER, *_CONTENT_DATE, _CONCEPT),
    "SPECTROSCOPY": (
        *(_NUMBER, *_CONTENT_DATE, _needed(0x00080008, "CS", "ORIGINAL\\PRIMARY"), _optional(0x00089092, "SQ")),
        *(_needed(0x00280008, "IS", "1"), _needed(0x00280010, "US", "1"), _needed(0x00280011, "US", "1")),
        *(_needed(0x00289001, "UL", "1"), _needed(0x00289002, "UL", "1")),
    ),
    "RAW DATA": (_NUMBER, *_CONTENT_DATE),
    "REGISTRATION": (*_CONTENT, *_CONTENT_DATE),
    "FIDUCIAL": (*_CONTENT, *_CONTENT_DATE),
    "ENCAP DOC": (
        *(_NUMBER, *_MAYBE_CONTENT_DATE, _CONCEPT, Key(0x00420010, "ST")),
        _needed(0x00420012, "LO", "application/octet-stream"),
    ),
    "VALUE MAP": (*_CONTENT, *_CONTENT_DATE),
    "STEREOMETRIC": (),
    "SURFACE": (*_CONTENT, *_CONTENT_DATE),
    "SURFACE SCAN": _CONTENT_DATE,
    "TRACT": (*_CONTENT, *_CONTENT_DATE),
    "MEASUREMENT": (_NUMBER, *_CONTENT_DATE),
    "ASSESSMENT": (_NUMBER, _needed(0x00080012, "DA", "19000101", 0x00080020), Key(0x00080013, "TM")),
}
#: Types of records, by SOP class without the root of them all, whole or up to a last dot. All others are images.
_TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("104.1", "104.2", "104.3", "104.4", "104.5"), "ENCAP DOC"),
    **{f"11.{number}": "PRESENTATION" for number in range(1, 13)},
    "9.": "WAVEFORM",
    "4.2": "SPECTROSCOPY",
    "66": "RAW DATA",
    "66.1": "REGISTRATION",
    "66.2": "FIDUCIAL",
    "66.3": "REGISTRATION",
    "66.5": "SURFACE",
    "66.6": "TRACT",
    "67": "VALUE MAP",
    "68.1": "SURFACE SCAN",
    "68.2": "SURFACE SCAN",
    "77.1.5.3": "STEREOMETRIC",
    "78.": "MEASUREMENT",
    "88.": "SR DOCUMENT",
    "88.59": "KEY OBJECT DOC",
    "90.1": "ASSESSMENT",
    "481.2": "RT DOSE",
    "481.3": "RT STRUCTURE SET",
    "481.5": "RT PLAN",
    "481.8": "RT PLAN",
    **{f"481.{number}": "RT TREAT RECORD" for number in (4, 6, 7, 9)},
}


def record_type(sop_class_uid: str) -> str:
    """The type of the record of an instance."""
    if not sop_class_uid.startswith(_STORAGE):
        return "IMAGE"
    name = sop_class_uid[len(_STORAGE) :]
    return _TYPES.get(name) or _TYPES.get(f"{name.partition('.')[0]}.") or "IMAGE"


def values(header: Header, keys: Sequence[Key]) -> list[Element]:
    """The elements that `keys` ask for, as a header tells them."""
    found: list[Element] = []
    for key in keys:
        value = _sequence(header, key.tag) if key.vr == "SQ" else _text(header, key)
        if value or not key.optional:
            found.append((key.tag, key.vr, value if value is not None else ""))
    return found


def _sequence(header: Header, tag: int) -> Any:
    element = header.by_tag.get(tag)
    items = element[2] if element is not None else None
    return items if isinstance(items, list) else []


def _text(header: Header, key: Key) -> str | None:
    read: Callable[[int], str | None] = header.text
    if key.inside:
        items = _sequence(header, key.inside)
        return next((str(element[2]) for item in items[-1:] for element in item if element[0] == key.tag), None)
    for tag in (key.tag, *key.elsewhere):
        text = read(tag)
        if text:
            # Dates and times of ACR-NEMA have these separators.
            return text.replace(_SEPARATORS[key.vr], "") if key.vr in _SEPARATORS else text
    return key.default
