"""What a header says of showing its frames, as JSON for the processes that render (PS3.3 sections C.11, C.7.6.16).

Look-up tables mostly lie in the file: then only their place is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orthanctw.dicom.elements import Element, Elements
from orthanctw.dicom.header import Header

_SLOPE: Final = 0x00281053
_INTERCEPT: Final = 0x00281052
_CENTER: Final = 0x00281050
_WIDTH: Final = 0x00281051
_FUNCTION: Final = 0x00281056
_SHARED_GROUPS: Final = 0x52009229
_FRAME_GROUPS: Final = 0x52009230
_VALUE_TRANSFORMATION: Final = 0x00289145
_FRAME_VOI_LUT: Final = 0x00289132
_MODALITY_LUT_SEQUENCE: Final = 0x00283000
_VOI_LUT_SEQUENCE: Final = 0x00283010
_LUT_DESCRIPTOR: Final = 0x00283002
_LUT_DATA: Final = 0x00283006
_PALETTE_DESCRIPTORS: Final = (0x00281101, 0x00281102, 0x00281103)
_PALETTE_DATA: Final = (0x00281201, 0x00281202, 0x00281203)
_SEGMENTED_DATA: Final = (0x00281221, 0x00281222, 0x00281223)


def display_of(header: Header, frame: int) -> dict[str, Any]:
    """How a frame is shown: rescaling, window, palette, tables; only what the header has."""
    display: dict[str, Any] = {}
    places = _places(header, frame)
    for name, tag in (("Slope", _SLOPE), ("Intercept", _INTERCEPT), ("Center", _CENTER), ("Width", _WIDTH)):
        value = next((number for place in places if (number := _first_number(place.get(tag))) is not None), None)
        if value is not None:
            display[name] = value
    function = next((text for place in places if (text := _text(place.get(_FUNCTION)))), "")
    if function:
        display["Function"] = function.strip(" ")
    for name, tag in (("ModalityTable", _MODALITY_LUT_SEQUENCE), ("Table", _VOI_LUT_SEQUENCE)):
        table = _table(header.by_tag.get(tag))
        if table is not None:
            display[name] = table
    palette = _palette(header)
    if palette is not None:
        display["Palette"] = palette
    return display


def _places(header: Header, frame: int) -> list[Mapping[int, Element]]:
    """Where attributes of a frame may stand, the nearest first: its functional groups, the shared ones, the top."""
    places: list[Mapping[int, Element]] = []
    for tag, number in ((_FRAME_GROUPS, frame), (_SHARED_GROUPS, 0)):
        items = _items(header.by_tag.get(tag))
        if number < len(items):
            groups = {element[0]: element for element in items[number]}
            for macro in (_VALUE_TRANSFORMATION, _FRAME_VOI_LUT):
                places += [{element[0]: element for element in item} for item in _items(groups.get(macro))[:1]]
    return [*places, header.by_tag]


def _items(element: Element | None) -> list[Elements]:
    if element is None or element[1] != "SQ" or len(element) != 3:
        return []
    found: list[Elements] = element[2]
    return found


def _text(element: Element | None) -> str:
    return element[2] if element is not None and isinstance(element[2], str) else ""


def _first_number(element: Element | None) -> float | None:
    try:
        value = float(_text(element).split("\\")[0])
    except ValueError:
        return None
    # Neither infinite nor NaN.
    return value if value - value == 0 else None


def _integers(element: Element | None) -> list[int]:
    try:
        return [int(text) for text in _text(element).split("\\")]
    except ValueError:
        return []


def _data(element: Element | None) -> dict[str, Any] | None:
    """The numbers of a table, or where their bytes lie in the file."""
    if element is None:
        return None
    if len(element) == 4:
        return {"Offset": element[2], "Length": element[3]}
    values = _integers(element)
    return {"Values": values} if values else None


def _table(element: Element | None) -> dict[str, Any] | None:
    for item in _items(element)[:1]:
        found = {inner[0]: inner for inner in item}
        descriptor, data = _integers(found.get(_LUT_DESCRIPTOR)), _data(found.get(_LUT_DATA))
        if len(descriptor) == 3 and data is not None:
            return {"Descriptor": descriptor, "Data": data}
    return None


def _palette(header: Header) -> dict[str, Any] | None:
    descriptors = [_integers(header.by_tag.get(tag)) for tag in _PALETTE_DESCRIPTORS]
    if any(len(descriptor) != 3 for descriptor in descriptors):
        return None
    for name, tags in (("Data", _PALETTE_DATA), ("Segments", _SEGMENTED_DATA)):
        data = [_data(header.by_tag.get(tag)) for tag in tags]
        if all(item is not None for item in data):
            return {"Descriptors": descriptors, name: data}
    return None
