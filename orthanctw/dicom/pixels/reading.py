"""Image files as pixel data: PNG and JPEG by Pillow, PAM by ourselves. Runs in a child."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from orthanctw.dicom.pixels.images import JPEG, PAM, PNG
from orthanctw.dicom.pixels.streams import check_jpeg_end, jpeg_facts
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadFileFormat, OrthancError

#: Bytes of the pixels of an image at most.
PICTURE_LIMIT: Final = 128 << 20
#: Longest side (PS3.3 section C.7.6.3.1.6): Rows and Columns have 16 bits.
_LONGEST_SIDE: Final = 0xFFFF
#: Bytes of a pixel in Pillow's modes, and the mode that it is converted to: without transparency, without palette.
_MODES: Final = {
    "1": (1, "L"),
    "L": (1, "L"),
    "LA": (4, "L"),
    "P": (4, "RGB"),
    "PA": (4, "RGB"),
    "RGB": (4, "RGB"),
    "RGBA": (4, "RGB"),
    "I;16": (2, "I;16"),
}
_PNG_GREY: Final = 0
_HEAD_LIMIT: Final = 4096
_PAM_FIELD: Final = re.compile(rb"(WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE)[ \t]+(\S+)[ \t]*\Z")
#: What Pillow raises for files that are damaged.
_DAMAGED: Final = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
_BASELINE: Final = "1.2.840.10008.1.2.4.50"


def read_operation(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    """The image of the payload, of type ``Mime``: what it is, and its pixels, little endian, colours together.

    With ``Encapsulate``, a JPEG stays as it is; with ``KeepsAlpha``, transparency of 8 bits beside colours stays.
    BadFileFormat for what is damaged, too large, or another type; NOT_IMPLEMENTED for pixels that are neither grey of 8
    or 16 bits nor RGB of 8.
    """
    mime = header["Mime"]
    if mime == JPEG and header["Encapsulate"]:
        return _encapsulated(payload), payload
    pixels = _pam(payload) if mime == PAM else _opened(payload, mime, keeps_alpha=header.get("KeepsAlpha", False))
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    facts = {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "samples": samples,
        "bits": pixels.dtype.itemsize * 8,
        "photometric_interpretation": "MONOCHROME2" if samples == 1 else "RGB",
    }
    return facts, np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()


def _check_size(rows: int, columns: int, pixel_size: int) -> None:
    if not (0 < rows <= _LONGEST_SIDE and 0 < columns <= _LONGEST_SIDE):
        raise BadFileFormat("An image has no size that DICOM knows")
    if rows * columns * pixel_size > PICTURE_LIMIT:
        raise BadFileFormat("An image is too large")


def _unsupported(what: str) -> OrthancError:
    return OrthancError(f"{what} are not supported", code=ErrorCode.NOT_IMPLEMENTED)


def _opened(payload: bytes, mime: str, *, keeps_alpha: bool) -> Any:
    from PIL import Image

    # Ours is the limit, and no warning goes anywhere.
    Image.MAX_IMAGE_PIXELS = None
    if mime == JPEG:
        facts = jpeg_facts(payload)
        _check_size(facts.rows, facts.columns, facts.components or 1)
        check_jpeg_end(payload)
    try:
        image = Image.open(io.BytesIO(payload), formats=("JPEG",) if mime == JPEG else ("PNG",))
        if mime == PNG and payload[24] == 16 and payload[25] != _PNG_GREY:
            raise _unsupported("Colours or transparency of 16 bits")
        if image.mode not in _MODES:
            raise _unsupported(f"Images of mode {image.mode}")
        size, mode = _MODES[image.mode]
        _check_size(image.height, image.width, size)
        image.load()
        is_kept = image.mode == mode or (keeps_alpha and image.mode == "RGBA")
        return np.asarray(image if is_kept else image.convert(mode))
    except _DAMAGED as e:
        raise BadFileFormat("An image is damaged, or not of the type that is told") from e


def _pam(payload: bytes) -> Any:
    """Of a portable arbitrary map (netpbm's P7); 16 bits are big endian."""
    end = payload.find(b"\nENDHDR\n", 0, _HEAD_LIMIT)
    if not payload.startswith(b"P7\n") or end < 0:
        raise BadFileFormat("This is no portable arbitrary map")
    fields: dict[bytes, bytes] = {}
    for line in payload[3:end].split(b"\n"):
        if not line.strip() or line.startswith(b"#"):
            continue
        match = _PAM_FIELD.match(line)
        if match is None:
            raise BadFileFormat("The head of a portable arbitrary map is damaged")
        fields[match[1]] = match[2]
    rows, columns, depth, maximum = (_number(fields, name) for name in (b"HEIGHT", b"WIDTH", b"DEPTH", b"MAXVAL"))
    if (depth, maximum) not in ((1, 255), (1, 65535), (3, 255)):
        raise _unsupported("Portable arbitrary maps of such a depth and maximum")
    kind = ">u2" if maximum > 255 else "u1"
    _check_size(rows, columns, depth * np.dtype(kind).itemsize)
    data = memoryview(payload)[end + len(b"\nENDHDR\n") :]
    if len(data) != rows * columns * depth * np.dtype(kind).itemsize:
        raise BadFileFormat("A portable arbitrary map has a wrong length")
    shape = (rows, columns) if depth == 1 else (rows, columns, depth)
    return np.frombuffer(data, kind).reshape(shape)


def _number(fields: Mapping[bytes, bytes], name: bytes) -> int:
    text = fields.get(name, b"")
    if not text.isdigit() or len(text) > 9:
        raise BadFileFormat("The head of a portable arbitrary map is damaged")
    return int(text)


def _encapsulated(payload: bytes) -> Mapping[str, Any]:
    """What a JPEG stream is that is kept. Only baseline is a transfer syntax of its own for 8 bits."""
    facts = jpeg_facts(payload)
    check_jpeg_end(payload)
    if not facts.is_baseline or facts.precision != 8 or facts.components not in (1, 3):
        raise _unsupported("Encapsulated JPEG streams that are not baseline")
    _check_size(facts.rows, facts.columns, facts.components)
    photometric = "MONOCHROME2"
    if facts.components == 3:
        photometric = "RGB" if facts.adobe_transform == 0 else "YBR_FULL_422"
    return {
        "rows": facts.rows,
        "columns": facts.columns,
        "samples": facts.components,
        "bits": facts.precision,
        "photometric_interpretation": photometric,
        "transfer_syntax": _BASELINE,
    }
