"""RLE Lossless (PS3.5 annex G): a segment of PackBits for each byte of a sample."""

from __future__ import annotations

import itertools
import struct
from typing import Any, Final

import numpy as np

from orthanctw.dicom.pixels.model import PixelFormat
from orthanctw.errors import BadFileFormat

_HEADER: Final = struct.Struct("<16I")
#: Two bytes are at most 128.
_RATIO: Final = 64
#: Bytes that a segment may have too many.
_PADDING: Final = 256


def decode_rle(frame_format: PixelFormat, data: bytes, codec: Any) -> Any:
    """The pixels of a frame; `codec` is the package imagecodecs. Raises BadFileFormat."""
    size = frame_format.bits_allocated // 8
    samples, pixels = frame_format.samples_per_pixel, frame_format.rows * frame_format.columns
    if frame_format.bits_allocated % 8 or not size:
        raise BadFileFormat("RLE needs whole bytes")
    bounds = _segments(data, samples * size)
    if pixels * samples * size > _RATIO * len(data):
        raise BadFileFormat("An RLE frame is too short for the size of the image")
    # The most significant byte of a sample comes first.
    result = np.empty((samples, pixels, size), "u1")
    for index, (start, end) in enumerate(bounds):
        result[index // size, :, size - 1 - index % size] = _unpacked(data[start:end], pixels, codec)
    kind = "i" if frame_format.is_signed else "u"
    planes = result.view(f"<{kind}{size}").reshape(samples, frame_format.rows, frame_format.columns)
    return planes[0] if samples == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))


def _segments(data: bytes, expected: int) -> list[tuple[int, int]]:
    if len(data) < _HEADER.size:
        raise BadFileFormat("An RLE frame has no header")
    count, *offsets = _HEADER.unpack_from(data)
    if count != expected or count > 15:
        raise BadFileFormat(f"An RLE frame has {count} segments, {expected} are needed")
    bounds = [*offsets[:count], len(data)]
    if bounds[0] < _HEADER.size or any(a >= b for a, b in itertools.pairwise(bounds)):
        raise BadFileFormat("The segments of an RLE frame lie outside of it")
    return list(itertools.pairwise(bounds))


def _unpacked(segment: bytes, size: int, codec: Any) -> Any:
    """`size` bytes of a segment; what follows them is padding."""
    out = bytearray(size + _PADDING)
    try:
        content = codec.packbits_decode(segment, out=out)
    except Exception as e:
        raise BadFileFormat("An RLE segment cannot be decoded") from e
    if len(content) < size:
        raise BadFileFormat("An RLE segment is too short")
    return np.frombuffer(content, "u1", size)


def encode_rle(pixels: Any, codec: Any) -> bytes:
    """A frame of ``(rows, columns[, samples])`` in integers of whole bytes."""
    planes = pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    size = pixels.dtype.itemsize
    segments = []
    for plane in planes:
        parts = np.ascontiguousarray(plane).astype(plane.dtype.newbyteorder(">")).view("u1")
        parts = parts.reshape(*plane.shape, size)
        for index in range(size):
            # Rows are packed one by one (PS3.5 section G.3.1).
            packed = bytes(codec.packbits_encode(np.ascontiguousarray(parts[:, :, index])))
            segments.append(packed + b"\0" * (len(packed) % 2))
    offsets, position = [], _HEADER.size
    for segment in segments:
        offsets.append(position)
        position += len(segment)
    offsets += [0] * (15 - len(offsets))
    return b"".join([_HEADER.pack(len(segments), *offsets), *segments])
