"""Pixels that are not compressed (PS3.5 section 8.1)."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from orthanctw.dicom.pixels.model import SUBSAMPLED, PixelFormat
from orthanctw.errors import BadFileFormat

_ALLOCATED: Final = frozenset({1, 8, 16, 32, 64})


def is_subsampled(frame_format: PixelFormat, data: bytes) -> bool:
    """Whether two pixels share their colour; some writers name it so and subsample nothing."""
    if frame_format.photometric_interpretation not in SUBSAMPLED or frame_format.samples_per_pixel != 3:
        return False
    return len(data) * 8 < frame_format.rows * frame_format.columns * 3 * frame_format.bits_allocated


def decode_native(frame_format: PixelFormat, data: bytes, *, order: str, skip_bits: int, swaps: bool) -> Any:
    """The pixels as an array of ``(rows, columns[, samples])``, as they lie in the file. Raises BadFileFormat.

    Parameters
    ----------
    order : str
        ``<`` or ``>``.
    skip_bits : int
        Bits before the first pixel.
    swaps : bool
        Bytes lie in words of the other order.
    """
    allocated = frame_format.bits_allocated
    if allocated not in _ALLOCATED:
        raise BadFileFormat(f"Pixels of {allocated} bits cannot be decoded")
    subsampled = is_subsampled(frame_format, data)
    samples = 2 if subsampled else frame_format.samples_per_pixel
    count = frame_format.rows * frame_format.columns * samples
    if len(data) * 8 - skip_bits < count * allocated:
        raise BadFileFormat("The pixel data is too short for the size of the image")
    if swaps:
        data = np.frombuffer(data[: len(data) // 2 * 2], "<u2").byteswap().tobytes()
    if allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, "u1"), bitorder="little", count=skip_bits + count)
        flat = bits[skip_bits:]
    else:
        kind = "f" if frame_format.is_float else "i" if frame_format.is_signed else "u"
        flat = np.frombuffer(data, np.dtype(f"{order}{kind}{allocated // 8}"), count, skip_bits // 8)
    if subsampled:
        return _upsampled(flat, frame_format)
    return shaped(flat, frame_format)


def shaped(flat: Any, frame_format: PixelFormat) -> Any:
    """Samples in the order of the file as an array with those of a pixel together."""
    rows, columns, samples = frame_format.rows, frame_format.columns, frame_format.samples_per_pixel
    if samples == 1:
        return flat.reshape(rows, columns)
    if frame_format.planar_configuration == 1:
        return np.ascontiguousarray(flat.reshape(samples, rows, columns).transpose(1, 2, 0))
    return flat.reshape(rows, columns, samples)


def _upsampled(flat: Any, frame_format: PixelFormat) -> Any:
    """Two of luminance, then one of each colour (PS3.3 section C.7.6.3.1.2)."""
    if flat.size % 4:
        raise BadFileFormat("Subsampled pixels need pairs of columns")
    groups = flat.reshape(-1, 4)
    result = np.empty((len(groups), 2, 3), flat.dtype)
    result[:, :, 0] = groups[:, :2]
    result[:, :, 1] = groups[:, 2:3]
    result[:, :, 2] = groups[:, 3:4]
    return result.reshape(frame_format.rows, frame_format.columns, 3)
