"""What queries to some manufacturers must look like."""

from __future__ import annotations

from typing import Final

from orthanctw.dicom.elements import Element, Elements
from orthanctw.settings.structures import Manufacturer

QUERY_RETRIEVE_LEVEL: Final = 0x00080052
_PATIENT_ID: Final = 0x00100020
_ACCESSION_NUMBER: Final = 0x00080050
_STUDY: Final = 0x0020000D
_SERIES: Final = 0x0020000E
_INSTANCE: Final = 0x00080018
#: Keys that every query of a level has; the VR of each.
_KEYS: Final[dict[str, tuple[tuple[int, str], ...]]] = {
    "PATIENT": ((_PATIENT_ID, "LO"),),
    "STUDY": ((_PATIENT_ID, "LO"), (_ACCESSION_NUMBER, "SH"), (_STUDY, "UI")),
    "SERIES": ((_PATIENT_ID, "LO"), (_ACCESSION_NUMBER, "SH"), (_STUDY, "UI"), (_SERIES, "UI")),
    "IMAGE": (
        (_PATIENT_ID, "LO"),
        (_ACCESSION_NUMBER, "SH"),
        (_STUDY, "UI"),
        (_SERIES, "UI"),
        (_INSTANCE, "UI"),
    ),
}


def universal_value(manufacturer: Manufacturer) -> str:
    """The value of a key that is only asked for, not compared."""
    return "*" if manufacturer is Manufacturer.GE else ""


def adapt_query(query: Elements, manufacturer: Manufacturer) -> Elements:
    """A query as the manufacturer understands it, with the keys that its level needs."""
    adapted = [_adapted(element, manufacturer) for element in query]
    present = {element[0]: element for element in adapted}
    level = present.get(QUERY_RETRIEVE_LEVEL)
    keys = _KEYS.get(str(level[2]).strip(), ()) if level is not None else ()
    universal = universal_value(manufacturer)
    adapted += [(tag, vr, universal) for tag, vr in keys if tag not in present]
    return adapted


def _adapted(element: Element, manufacturer: Manufacturer) -> Element:
    tag, vr, value = element[:3]
    if vr == "SQ" and isinstance(value, list):
        return (tag, vr, [[_adapted(inner, manufacturer) for inner in item] for item in value])
    if value == "*" and (
        manufacturer is Manufacturer.GENERIC_NO_UNIVERSAL_WILDCARD
        or (manufacturer is Manufacturer.GENERIC_NO_WILDCARD_IN_DATES and vr == "DA")
    ):
        return (tag, vr, "")
    return element
