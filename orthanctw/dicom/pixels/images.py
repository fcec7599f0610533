"""Arrays as image files: PNG, JPEG, PAM, and the text and binary forms for computing."""

from __future__ import annotations

import io
import struct
from typing import Any, Final

import numpy as np
from isal import isal_zlib

from orthanctw.errors import BadFileFormat

Array = Any
PNG: Final = "image/png"
JPEG: Final = "image/jpeg"
PAM: Final = "image/x-portable-arbitrarymap"
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
#: PNG filter "up" (ISO 15948 section 9.2): neighbouring rows of images are alike.
_UP: Final = 2
_LEVEL: Final = 1


def _unsigned(picture: Array) -> Array:
    """PNG and PAM know no sign: the bits of int16 are kept."""
    return picture.view(np.uint16) if picture.dtype == np.int16 else picture


def png(picture: Array) -> bytes:
    """A PNG of a grey, RGB or RGBA picture of 8 or 16 bits."""
    picture = np.ascontiguousarray(_unsigned(picture))
    rows, columns = picture.shape[:2]
    depth = picture.dtype.itemsize * 8
    color = 0 if picture.ndim == 2 else 6 if picture.shape[2] == 4 else 2
    raw = picture.astype(">u2").view(np.uint8) if depth == 16 else picture
    lines = raw.reshape(rows, -1)
    filtered = np.empty((rows, lines.shape[1] + 1), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", columns, rows, depth, color, 0, 0, 0)
    data = isal_zlib.compress(filtered.tobytes(), _LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", isal_zlib.crc32(kind + data))


def jpeg(picture: Array, quality: int) -> bytes:
    """A JPEG of 8 bits. BadFileFormat for pictures of more."""
    if picture.dtype != np.uint8:
        raise BadFileFormat("a JPEG has 8 bits")
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def pam(picture: Array) -> bytes:
    """A portable arbitrary map; 16 bits are big endian."""
    picture = _unsigned(picture)
    rows, columns = picture.shape[:2]
    depth = picture.shape[2] if picture.ndim == 3 else 1
    maximum = 65535 if picture.dtype == np.uint16 else 255
    kind = "RGB" if depth == 3 else "GRAYSCALE"
    head = f"P7\nWIDTH {columns}\nHEIGHT {rows}\nDEPTH {depth}\nMAXVAL {maximum}\nTUPLTYPE {kind}\nENDHDR\n"
    data: bytes = picture.astype(">u2" if maximum == 65535 else np.uint8).tobytes()
    return head.encode("ascii") + data


def encode(picture: Array, mime: str, quality: int) -> bytes:
    """A picture in one of the image types."""
    if mime == JPEG:
        return jpeg(picture, quality)
    return pam(picture) if mime == PAM else png(picture)


def matlab(pixels: Array) -> bytes:
    """Text of an Octave matrix; of colours, one that is put into order by Octave."""
    if pixels.ndim == 3:
        rows, columns, channels = pixels.shape
        values = " ".join(map(str, pixels.reshape(-1).tolist()))
        text = f"double(permute(reshape([ {values} ], [ {channels} {rows} {columns} ]), [ 3 2 1 ]))"
        return text.encode("ascii")
    lines = ("".join(f"{value} " for value in row) for row in pixels.tolist())
    return f"double([ {'; '.join(lines)}])".encode("ascii")
