"""Pixels from one format of ``orthanc.PixelFormat`` to another, as Orthanc converts them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.scripting.pictures import (
    BGRA32,
    FLOAT32,
    FORMATS,
    GRAYSCALE8,
    GRAYSCALE16,
    GRAYSCALE32,
    RGB24,
    RGB48,
    RGBA32,
    SIGNED_GRAYSCALE16,
    Array,
    Raster,
    pixels_of,
    raster_of,
)

#: Shares of red, green and blue in grey, in ten-thousandths. That of blue is not the usual one, but Orthanc's.
_LUMINANCE: Final = (2126, 7152, 466)
_OPAQUE: Final = 255


def converted(raster: Raster, target: int) -> Raster:
    """A picture in another pixel format: numbers are cut to the range of the target, floats are rounded.

    OrthancError NOT_IMPLEMENTED where Orthanc has no such conversion.
    """
    pixels = pixels_of(raster)
    if target != raster.format:
        convert = _CONVERSIONS.get((raster.format, target))
        if convert is None:
            raise OrthancError("There is no such conversion of pixels", code=ErrorCode.NOT_IMPLEMENTED)
        pixels = convert(pixels)
    return raster_of(target, pixels)


def _cut(target: int, pixels: Array) -> Array:
    """Numbers within the range of another type of integers."""
    import numpy as np

    kind = np.dtype(FORMATS[target][0])
    limits = np.iinfo(kind)
    if pixels.dtype.kind == "f":
        # Halves go up.
        pixels = np.floor(np.nan_to_num(pixels.astype(np.float64)) + 0.5)
    return np.clip(pixels, limits.min, limits.max).astype(kind)


def _float(pixels: Array) -> Array:
    return pixels.astype("<f4")


def _colours(pixels: Array, *, order: tuple[int, ...] = (0, 1, 2), alpha: bool = False) -> Array:
    """Colours in another order, with or without an opaque alpha channel."""
    import numpy as np

    colours = pixels[..., list(order)]
    if not alpha:
        return colours
    opaque = np.full((*colours.shape[:2], 1), _OPAQUE, np.uint8)
    return np.concatenate([colours, opaque], axis=-1)


def _grey_to_colours(pixels: Array, *, alpha: bool) -> Array:
    return _colours(_cut(GRAYSCALE8, pixels)[..., None], order=(0, 0, 0), alpha=alpha)


def _grey(target: int, pixels: Array, *, order: tuple[int, ...] = (0, 1, 2)) -> Array:
    """Luminance of colours."""
    import numpy as np

    parts = (pixels[..., place].astype(np.uint32) * share for place, share in zip(order, _LUMINANCE, strict=True))
    return (sum(parts) // 10000).astype(FORMATS[target][0])


def _eight_bits(pixels: Array) -> Array:
    return pixels >> 8


_BLUE_FIRST: Final = (2, 1, 0)
_INTEGERS: Final = (GRAYSCALE8, GRAYSCALE16, SIGNED_GRAYSCALE16)
_CONVERSIONS: Final[dict[tuple[int, int], Callable[[Any], Any]]] = {
    **{(source, target): partial(_cut, target) for source in _INTEGERS for target in _INTEGERS if source != target},
    **{(source, FLOAT32): _float for source in (*_INTEGERS, GRAYSCALE32)},
    **{(source, BGRA32): partial(_grey_to_colours, alpha=True) for source in _INTEGERS},
    (FLOAT32, GRAYSCALE8): partial(_cut, GRAYSCALE8),
    (FLOAT32, GRAYSCALE16): partial(_cut, GRAYSCALE16),
    (FLOAT32, RGB24): partial(_grey_to_colours, alpha=False),
    (GRAYSCALE8, RGB24): partial(_grey_to_colours, alpha=False),
    (GRAYSCALE8, RGBA32): partial(_grey_to_colours, alpha=True),
    **{(RGB24, target): partial(_grey, target) for target in _INTEGERS},
    (RGB24, RGBA32): partial(_colours, alpha=True),
    (RGB24, BGRA32): partial(_colours, order=_BLUE_FIRST, alpha=True),
    (RGBA32, GRAYSCALE8): partial(_grey, GRAYSCALE8),
    (RGBA32, RGB24): _colours,
    (RGBA32, BGRA32): partial(_colours, order=(*_BLUE_FIRST, 3)),
    (BGRA32, GRAYSCALE8): partial(_grey, GRAYSCALE8, order=_BLUE_FIRST),
    (BGRA32, RGB24): partial(_colours, order=_BLUE_FIRST),
    (BGRA32, RGBA32): partial(_colours, order=(*_BLUE_FIRST, 3)),
    (RGB48, RGB24): _eight_bits,
}
