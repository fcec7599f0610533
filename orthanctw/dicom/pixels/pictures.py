"""What a child makes of one frame: a picture, or its numbers. `orthanctw.pictures` makes the requests."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

import attrs
import numpy as np

from orthanctw.dicom.pixels import images, render
from orthanctw.dicom.pixels.decode import load_frame
from orthanctw.dicom.pixels.model import DecodedFrame
from orthanctw.dicom.pixels.render import Display, Palette, Table
from orthanctw.dicom.pixels.source import read_frame
from orthanctw.errors import BadFileFormat

#: Entries of a palette or table at most (PS3.3 section C.7.6.3.1.5).
_ENTRIES: Final = 65536
#: Segments that may be nested within indirect ones (PS3.3 section C.7.9.2): none.
_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


def picture_operation(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    """A frame as an image file: ``Kind`` preview, rendered, uint8, uint16 or int16; ``Mime``, ``Quality``, a box."""
    frame = _frame(header, payload)
    display = _display(header, payload)
    kind = header["Kind"]
    if kind == "preview":
        picture = render.preview(frame, display)
    elif kind == "rendered":
        picture = render.resized(
            render.rendered(frame, display), header.get("Width"), header.get("Height"), smooth=header["Smooth"]
        )
    else:
        picture = render.clipped(frame, display, kind)
    return {}, images.encode(picture, header["Mime"], header["Quality"])


def array_operation(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    """The numbers of a frame: ``Kind`` matlab, or numpy with or without ``Rescale``; colours are 8 bits.

    ``Kind`` raster is numpy with colours of as many bits as they have.
    """
    frame = _frame(header, payload)
    display = _display(header, payload)
    if header["Kind"] == "raster" and render.is_color(frame, display):
        pixels = render.to_rgb(frame, display)
    else:
        pixels = _numbers(frame, display)
    if header["Kind"] == "matlab":
        return {}, images.matlab(pixels)
    if pixels.ndim == 2:
        if header["Rescale"]:
            pixels = _rescaled(pixels, display)
        pixels = pixels[..., np.newaxis]
    content = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return {"Kind": _KINDS.get(content.dtype.str, content.dtype.str), "Shape": content.shape}, content.tobytes()


def _rescaled(pixels: Any, display: Display) -> Any:
    """Values in the unit of the rescale tags, as floats of 32 bits."""
    if display.slope == 1 and display.intercept == int(display.intercept) and pixels.dtype.itemsize <= 2:
        # Whole numbers of this size are exact in 32 bits.
        result = pixels.astype("<f4")
        if display.intercept:
            result += np.float32(display.intercept)
        return result
    return (pixels.astype(np.float64) * display.slope + display.intercept).astype("<f4")


def _frame(header: Mapping[str, Any], payload: bytes) -> DecodedFrame:
    """The frame; of single bits, those that are set are 255, as Orthanc shows them."""
    frame = load_frame(header, payload)
    if frame.format.bits_allocated != 1:
        return frame
    return attrs.evolve(frame, pixels=frame.pixels.astype(np.uint8) * np.uint8(255))


#: Types of one byte have no order, but Orthanc gives them one.
_KINDS: Final = {"|u1": "<u1", "|i1": "<i1"}


def _numbers(frame: DecodedFrame, display: Display) -> Any:
    """Grey values as uint8, uint16, int16 or wider as they need; colours as RGB of 8 bits."""
    if render.is_color(frame, display):
        return render.preview(frame, display)
    pixels = frame.pixels
    return pixels.astype("<i2") if pixels.dtype == np.int8 else pixels


def _display(header: Mapping[str, Any], payload: bytes) -> Display:
    told: Mapping[str, Any] = header.get("Display", {})
    is_rendered = header["Kind"] == "rendered"
    return Display(
        slope=told.get("Slope", 1.0),
        intercept=told.get("Intercept", 0.0),
        center=told.get("Center"),
        width=told.get("Width"),
        function=told.get("Function", "LINEAR"),
        palette=_palette(header, payload, told["Palette"]) if "Palette" in told else None,
        modality=_table(header, payload, "ModalityTable") if is_rendered else None,
        lut=_table(header, payload, "Table") if is_rendered and "Center" not in told else None,
    )


def _table(header: Mapping[str, Any], payload: bytes, name: str) -> Table | None:
    """A look-up table of the header; None without one."""
    told: Mapping[str, Any] | None = header["Display"].get(name)
    if told is None:
        return None
    count, first, bits = told["Descriptor"]
    if name == "ModalityTable" and header["Format"]["is_signed"] and first > 0x7FFF:
        # Written as US, but it is a stored value.
        first -= 1 << 16
    # Some descriptors tell no bits, or nonsense.
    bits = bits if 8 <= bits <= 16 else 16
    return Table(entries=_entries(header, payload, told["Data"], count, bits), first=first, bits=bits)


def _raw(header: Mapping[str, Any], payload: bytes, data: Mapping[str, Any]) -> bytes:
    """The bytes of a table: told in the request, or read where they lie."""
    if "Values" in data:
        values = [int(value) & 0xFFFF for value in data["Values"]]
        return struct.pack(f"<{len(values)}H", *values)
    place = {**header, "Fragments": [[data["Offset"], data["Length"]]]}
    raw = read_frame(place, payload)
    return np.frombuffer(raw[: len(raw) // 2 * 2], ">u2").astype("<u2").tobytes() if header["Order"] == ">" else raw


def _entries(header: Mapping[str, Any], payload: bytes, data: Mapping[str, Any], count: int, bits: int) -> Any:
    """The entries of a table of 8 or 16 bits, `count` as its descriptor tells. BadFileFormat when there are none."""
    raw = _raw(header, payload, data)
    entries = _number_of_entries(count)
    # Tables of 8 bits are packed two in a word, or have a word for each entry.
    wide = bits > 8 or len(raw) >= 2 * entries
    found = np.frombuffer(raw[: len(raw) // 2 * 2], "<u2") if wide else np.frombuffer(raw, np.uint8)
    if found.size == 0:
        raise BadFileFormat("a look-up table is empty")
    return found[:entries]


def _number_of_entries(count: int) -> int:
    """0 is 65536; the VR of a descriptor may give a large number a sign."""
    return count & 0xFFFF or _ENTRIES


def _palette(header: Mapping[str, Any], payload: bytes, told: Mapping[str, Any]) -> Palette:
    descriptors = told["Descriptors"]
    count, first, bits = descriptors[0]
    if "Data" in told:
        channels = [_entries(header, payload, data, count, bits) for data in told["Data"]]
    else:
        entries = _number_of_entries(count)
        channels = [_segments(_raw(header, payload, data), entries, bits) for data in told["Segments"]]
    size = min(len(channel) for channel in channels)
    return Palette(colors=np.stack([channel[:size] for channel in channels], axis=-1), first=first, bits=bits)


def _segments(raw: bytes, entries: int, bits: int) -> Any:
    """A segmented table, expanded (PS3.3 section C.7.9.2). BadFileFormat when it is damaged."""
    words = np.frombuffer(raw[: len(raw) // 2 * 2], "<u2") if bits > 8 else np.frombuffer(raw, np.uint8)
    values = words.tolist()
    result: list[int] = []
    _expand(values, range(len(values)), entries, result, bits, may_point=True)
    if not result:
        raise BadFileFormat("a segmented palette is empty")
    return np.asarray(result[:entries], np.uint16)


def _expand(
    values: list[int], span: range, entries: int, result: list[int], bits: int, *, may_point: bool, count: int = 0
) -> None:
    position, end = span.start, span.stop
    done = 0
    try:
        while position < end and len(result) < entries and not (count and done == count):
            opcode, length = values[position], values[position + 1]
            position += 2
            if opcode == _DISCRETE:
                result += values[position : position + length]
                position += length
            elif opcode == _LINEAR:
                start, stop = (result[-1] if result else 0), values[position]
                result += [round(start + (stop - start) * step / length) for step in range(1, length + 1)]
                position += 1
            elif opcode == _INDIRECT and may_point:
                width = 2 if bits > 8 else 4
                offset = sum(part << (bits * place) for place, part in enumerate(values[position : position + width]))
                _expand(values, range(offset, len(values)), entries, result, bits, may_point=False, count=length)
                position += width
            else:
                raise BadFileFormat("a segmented palette has an unknown segment")
            done += 1
    except (IndexError, ZeroDivisionError):
        raise BadFileFormat("a segmented palette is damaged") from None
