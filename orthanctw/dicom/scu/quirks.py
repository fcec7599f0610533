"""What queries to some manufacturers must look like."""

from __future__ import annotations

from orthanctw.dicom.elements import Element, Elements
from orthanctw.settings.structures import Manufacturer


def adapt_query(query: Elements, manufacturer: Manufacturer) -> Elements:
    """A query as the manufacturer understands it: some take ``*`` for no wildcard, in dates or anywhere."""
    return [_adapted(element, manufacturer) for element in query]


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
