"""From decoded frames to pictures: windows, palettes, colours, sizes (PS3.3 sections C.7.6.3, C.11.1 and C.11.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import numpy as np

from orthanctw.dicom.pixels.model import DecodedFrame
from orthanctw.errors import BadFileFormat, ParameterOutOfRange

Array = Any
#: Largest side of a resized picture, in pixels.
MAXIMUM_SIDE: Final = 16384

@attrs.frozen(kw_only=True)
class Palette:
    """A palette colour look-up table: ``(entries, 3)`` of 8 or 16 bits, and the first index that it maps."""

    colors: Array
    first: int = 0
    bits: int = 16


@attrs.frozen(kw_only=True)
class Table:
    """A modality or VOI look-up table: what values become, beginning with `first`; entries have `bits` bits."""

    entries: Array
    first: int = 0
    bits: int = 16

    def map(self, values: Array) -> Array:
        """The entries of values; those beyond either end take the entry at that end."""
        if self.entries.size == 0:
            raise BadFileFormat("a look-up table is empty")
        return self.entries[np.clip(values.astype(np.int64) - self.first, 0, self.entries.size - 1)]


@attrs.frozen(kw_only=True)
class Display:
    """What the header says of showing a frame.

    A `modality` table stands in the place of slope and intercept (PS3.3 section C.11.1). The function of a window is
    LINEAR, LINEAR_EXACT or SIGMOID (PS3.3 section C.11.2.1.2).
    """

    slope: float = 1.0
    intercept: float = 0.0
    center: float | None = None
    width: float | None = None
    function: str = "LINEAR"
    palette: Palette | None = None
    modality: Table | None = None
    lut: Table | None = None


def is_color(frame: DecodedFrame, display: Display) -> bool:
    """Whether the picture has colours."""
    return frame.pixels.ndim == 3 or (
        frame.photometric_interpretation == "PALETTE COLOR" and display.palette is not None
    )


def to_rgb(frame: DecodedFrame, display: Display) -> Array:
    """Red, green and blue of 8 bits, or of 16 when samples have more. BadFileFormat for what is no colour."""
    if frame.pixels.ndim == 2:
        if display.palette is None:
            raise BadFileFormat("the frame has no colours")
        return _of_palette(frame.pixels, display.palette)
    pixels = frame.pixels[..., :3]
    if frame.photometric_interpretation.startswith("YBR") and frame.photometric_interpretation not in _RGB_STREAMS:
        pixels = _from_ybr(pixels, frame.format.bits_stored, frame.photometric_interpretation.startswith("YBR_PARTIAL"))
    return pixels


#: Reversible and irreversible colour transforms are undone by the decoder.
_RGB_STREAMS: Final = frozenset({"YBR_RCT", "YBR_ICT"})


def _of_palette(indexes: Array, palette: Palette) -> Array:
    entries = len(palette.colors)
    if entries == 0:
        raise BadFileFormat("the palette is empty")
    # Indexes beyond either end take the entry at that end (PS3.3 section C.7.6.3.1.5).
    places = np.clip(indexes.astype(np.int64) - palette.first, 0, entries - 1)
    colors = palette.colors[places]
    if palette.bits > 8:
        colors = (colors >> 8).astype(np.uint8)
    return colors.astype(np.uint8)


def _from_ybr(pixels: Array, bits: int, is_partial: bool) -> Array:
    """YCbCr to RGB (PS3.3 section C.7.6.3.1.2); of partial range, black is 16 and white 235 of 8 bits."""
    half, top = float(1 << (bits - 1)), float((1 << bits) - 1)
    y, cb, cr = (pixels[..., channel].astype(np.float32) for channel in range(3))
    cb, cr = cb - half, cr - half
    if is_partial:
        unit = top / 255
        y, cb, cr = (y - 16 * unit) * (255 / 219), cb * (255 / 224), cr * (255 / 224)
    rgb = np.stack((y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb), axis=-1)
    return np.clip(np.rint(rgb), 0, top).astype(pixels.dtype)


def preview(frame: DecodedFrame, display: Display) -> Array:
    """8 bits: grey values stretched from the least to the greatest; colours as they are."""
    if is_color(frame, display):
        return _eight_bits(to_rgb(frame, display), frame.format.bits_stored)
    pixels = frame.pixels
    least, greatest = pixels.min(), pixels.max()
    if not np.isfinite(float(least)) or not np.isfinite(float(greatest)):
        finite = pixels[np.isfinite(pixels)]
        least, greatest = (finite.min(), finite.max()) if finite.size else (0, 0)
    if greatest == least:
        stretched = np.zeros(pixels.shape, np.uint8)
    else:
        scale = 255.0 / (float(greatest) - float(least))
        values = (np.nan_to_num(pixels.astype(np.float32)) - np.float32(least)) * np.float32(scale)
        stretched = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return 255 - stretched if frame.photometric_interpretation == "MONOCHROME1" else stretched


def _eight_bits(colors: Array, bits: int) -> Array:
    if colors.dtype == np.uint8:
        return colors
    return (colors.astype(np.uint32) >> max(0, bits - 8)).clip(0, 255).astype(np.uint8)


def clipped(frame: DecodedFrame, display: Display, kind: str) -> Array:
    """Values cut to the range of uint8, uint16 or int16, as they are otherwise. BadFileFormat for colours."""
    if is_color(frame, display):
        raise BadFileFormat("colours are not cut")
    limits = np.iinfo(kind)
    return np.clip(np.nan_to_num(np.rint(frame.pixels)), limits.min, limits.max).astype(kind)


def rendered(frame: DecodedFrame, display: Display) -> Array:
    """8 bits: rescaled, through the window or the look-up table; colours as they are."""
    if is_color(frame, display):
        return _eight_bits(to_rgb(frame, display), frame.format.bits_stored)
    values, bits = _modality_values(frame, display), frame.format.bits_stored
    if display.modality is not None:
        bits = display.modality.bits
    if display.center is None and display.lut is not None:
        shown = display.lut.map(np.rint(values)) * np.float32(255.0 / ((1 << display.lut.bits) - 1))
    else:
        # Without a window: all values that so many bits can have, if they have no sign.
        width = float(1 << bits) if display.width is None else display.width
        center = float(1 << bits) / 2 if display.center is None else display.center
        shown = _WINDOWS.get(display.function, _linear)(values, center, width)
    # Cut, not rounded, as Orthanc does.
    result = np.clip(shown, 0, 255).astype(np.uint8)
    return 255 - result if frame.photometric_interpretation == "MONOCHROME1" else result


def _modality_values(frame: DecodedFrame, display: Display) -> Array:
    """Stored values as they are shown: through the modality table, else rescaled; floats of 32 bits."""
    if display.modality is not None:
        return display.modality.map(np.nan_to_num(frame.pixels)).astype(np.float32)
    return np.nan_to_num(frame.pixels.astype(np.float32) * np.float32(display.slope) + np.float32(display.intercept))


def _linear(values: Array, center: float, width: float) -> Array:
    """From 0 to 255 within the window; LINEAR is taken for LINEAR_EXACT, as Orthanc does."""
    if width <= 0:
        return np.where(values <= center, 0.0, 255.0)
    # In this order what can be exact is exact, before it is cut.
    return (values - (center - width / 2)) * 255.0 / width


def _sigmoid(values: Array, center: float, width: float) -> Array:
    return 255.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / max(width, 1e-6), -700, 700)))


_WINDOWS: Final[Mapping[str, Callable[[Array, float, float], Array]]] = {
    "LINEAR": _linear,
    "LINEAR_EXACT": _linear,
    "SIGMOID": _sigmoid,
}


def resized(picture: Array, width: int | None, height: int | None, *, smooth: bool) -> Array:
    """The picture within a box of the given size, its aspect ratio kept. ParameterOutOfRange for a huge box."""
    if not width and not height:
        return picture
    rows, columns = picture.shape[:2]
    ratio = min(
        (width / columns) if width else float("inf"),
        (height / rows) if height else float("inf"),
    )
    target = max(1, round(columns * ratio)), max(1, round(rows * ratio))
    if max(target) > MAXIMUM_SIDE:
        raise ParameterOutOfRange("The size is too large")
    from PIL import Image

    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(target, method))
