"""Frames as values (PS3.3 section C.7.6.3)."""

from __future__ import annotations

from typing import Any, Final

import attrs

#: Photometric interpretations of which two pixels share their colour when they are not compressed (PS3.3 section
#: C.7.6.3.1.2).
SUBSAMPLED: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})


@attrs.frozen(kw_only=True)
class PixelFormat:
    """How the pixels of an object are described in its header. `number_of_frames` is at least 1.

    `is_float` is for FloatPixelData (32 bits) and DoubleFloatPixelData (64 bits, as `bits_allocated` tells).
    """

    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    photometric_interpretation: str
    planar_configuration: int = 0
    number_of_frames: int = 1
    is_float: bool = False


@attrs.frozen(kw_only=True)
class DecodedFrame:
    """One frame, decoded.

    `pixels` is a numpy array of ``(rows, columns)``, or of ``(rows, columns, samples)`` with the samples of a pixel
    together, in the smallest integer type that holds `bits_stored` with its sign, or in a floating-point type; unused
    bits are cleared or sign-extended. `photometric_interpretation` is what the array holds: a codec may have changed
    it (YBR of a JPEG stream to RGB).
    """

    format: PixelFormat
    photometric_interpretation: str
    pixels: Any
