"""What compressed streams say of themselves, read before a codec allocates anything by it."""

from __future__ import annotations

import struct
from typing import Final

import attrs

from orthanctw.errors import BadFileFormat

_SOI: Final = b"\xff\xd8"
#: Start of frame of any JPEG process (ISO 10918-1 table B.1), and of JPEG-LS.
_START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN: Final = 0xDA
_JPEG_BASELINE: Final = 0xC0
_JPEG_LOSSLESS: Final = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_J2K_START: Final = b"\xff\x4f\xff\x51"
_JP2_START: Final = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_CODING_STYLE: Final = 0x52
_START_OF_TILE: Final = 0x90
_JXL_START: Final = b"\xff\x0a"
_JXL_BOXES: Final = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_JXL_RATIOS: Final = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_JXL_SIZES: Final = (9, 13, 18, 30)


@attrs.frozen(kw_only=True)
class StreamFacts:
    """Dimensions of a stream.

    Parameters
    ----------
    components, precision : int
        0 when the stream does not tell in a simple way.
    adobe_transform : int, optional
        Of an APP14 segment of JPEG: 0 for RGB, 1 for YCbCr.
    is_baseline, is_lossless : bool
        JPEG: the baseline process, predictive coding.
    is_transformed : bool
        JPEG 2000: the components are those of a colour transform.
    """

    rows: int
    columns: int
    components: int = 0
    precision: int = 0
    is_signed: bool = False
    adobe_transform: int | None = None
    is_baseline: bool = False
    is_lossless: bool = False
    is_transformed: bool = False


def jpeg_facts(data: bytes) -> StreamFacts:
    """Of JPEG and JPEG-LS. Raises BadFileFormat."""
    if data[:2] != _SOI:
        raise BadFileFormat("This is no JPEG stream")
    position, adobe = 2, None
    frame: tuple[int, bytes] | None = None
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF or marker in _ALONE:
            position += 1 if marker == 0xFF else 2
            continue
        length = data[position + 2] << 8 | data[position + 3]
        segment = data[position + 4 : position + 2 + length]
        if marker in _START_OF_FRAME and frame is None:
            frame = marker, segment
        elif marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe = segment[11]
        elif marker == _START_OF_SCAN:
            break
        position += 2 + length
    if frame is None or len(frame[1]) < 6:
        raise BadFileFormat("A JPEG stream has no frame")
    precision, rows, columns, components = struct.unpack_from(">BHHB", frame[1])
    return StreamFacts(
        rows=rows,
        columns=columns,
        components=components,
        precision=precision,
        adobe_transform=adobe,
        is_baseline=frame[0] == _JPEG_BASELINE,
        is_lossless=frame[0] in _JPEG_LOSSLESS,
    )


def check_jpeg_end(data: bytes) -> None:
    """Raise BadFileFormat when a JPEG stream is cut off: decoders would fill up what is missing."""
    # Padding may follow, but hardly more than some bytes.
    if data.rfind(b"\xff\xd9") < 4:
        raise BadFileFormat("A JPEG stream is truncated")


def jpeg2000_facts(data: bytes) -> StreamFacts:
    """Of a JPEG 2000 or HTJ2K codestream, bare or in boxes. Raises BadFileFormat."""
    start = 0 if data[:4] == _J2K_START else data.find(_J2K_START) if data[:12] == _JP2_START else -1
    if start < 0:
        raise BadFileFormat("This is no JPEG 2000 stream")
    try:
        x1, y1, x0, y0 = struct.unpack_from(">IIII", data, start + 8)
        (components,) = struct.unpack_from(">H", data, start + 40)
        depths = data[start + 42 : start + 42 + 3 * components : 3]
        is_transformed = _has_colour_transform(data, start + 2)
    except struct.error:
        raise BadFileFormat("A JPEG 2000 stream is truncated") from None
    if not depths or x1 <= x0 or y1 <= y0:
        raise BadFileFormat("A JPEG 2000 stream has no size")
    return StreamFacts(
        rows=y1 - y0,
        columns=x1 - x0,
        components=components,
        precision=(depths[0] & 0x7F) + 1,
        is_signed=bool(depths[0] & 0x80),
        is_transformed=is_transformed,
    )


def _has_colour_transform(data: bytes, position: int) -> bool:
    while True:
        marker, length = struct.unpack_from(">HH", data, position)
        if marker & 0xFF == _CODING_STYLE:
            # Marker, length, style, progression, layers: the next byte tells.
            return data[position + 8] != 0 if position + 8 < len(data) else False
        if marker & 0xFF == _START_OF_TILE or marker >> 8 != 0xFF:
            return False
        position += 2 + length


def jpegxl_facts(data: bytes) -> StreamFacts:
    """Of a JPEG XL codestream, bare or in boxes (ISO 18181-1 section D.2). Raises BadFileFormat."""
    if data[:12] == _JXL_BOXES:
        data = _jxl_codestream(data)
    if data[:2] != _JXL_START:
        raise BadFileFormat("This is no JPEG XL stream")
    bits = _Bits(data[2:16])
    if bits.take(1):
        rows = 8 * (bits.take(5) + 1)
        ratio = bits.take(3)
        columns = 8 * (bits.take(5) + 1) if not ratio else 0
    else:
        rows = bits.take(_JXL_SIZES[bits.take(2)]) + 1
        ratio = bits.take(3)
        columns = bits.take(_JXL_SIZES[bits.take(2)]) + 1 if not ratio else 0
    if ratio:
        numerator, denominator = _JXL_RATIOS[ratio]
        columns = rows * numerator // denominator
    return StreamFacts(rows=rows, columns=columns)


def _jxl_codestream(data: bytes) -> bytes:
    """The first bytes of the codestream within boxes (ISO 18181-2)."""
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        head = 8
        if length == 1 and position + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, position + 8)
            head = 16
        if kind == b"jxlc":
            return data[position + head : position + head + 64]
        if kind == b"jxlp":
            return data[position + head + 4 : position + head + 68]
        if length < head:
            break
        position += length
    raise BadFileFormat("A JPEG XL file has no codestream")


class _Bits:
    """Bits from the lowest of each byte on."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        result = self._value & ((1 << count) - 1)
        self._value >>= count
        return result
