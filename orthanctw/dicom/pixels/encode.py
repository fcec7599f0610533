"""Frames as streams of compressed transfer syntaxes: what each can hold, and what the header then says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import numpy as np

from orthanctw.dicom.pixels.codecs import available
from orthanctw.dicom.pixels.model import PixelFormat
from orthanctw.dicom.pixels.rle import encode_rle
from orthanctw.dicom.pixels.syntaxes import (
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    RLE,
)
from orthanctw.errors import BadFileFormat

#: How much a sample may change by near-lossless coding: what DCMTK takes unless told otherwise.
NEAR_LOSSLESS_ERROR: Final = 2
#: Selection values of lossless JPEG (ISO 10918-1 table H.1): 1 is the one of its own syntax.
_PREDICTORS: Final[Mapping[str, int]] = {JPEG_LOSSLESS_SV1: 1, JPEG_LOSSLESS: 6}
_MONOCHROME: Final = ("MONOCHROME1", "MONOCHROME2")
#: Markers of segments.
_SPIFF: Final = 0xE8
_ADOBE: Final = 0xEE


@attrs.frozen(kw_only=True)
class Encoder:
    """Encodes the frames of one object.

    Parameters
    ----------
    encode : callable
        Stream of an array as in `DecodedFrame`.
    photometric_interpretation : str
        What the streams hold.
    bits_stored : int
        Of the new header.
    method : str
        LossyImageCompressionMethod (PS3.3 section C.7.6.1.1.5); empty when nothing is lost.
    """

    encode: Callable[[Any], bytes]
    photometric_interpretation: str
    bits_stored: int
    method: str = ""


def encoder_for(
    transfer_syntax: str, frame_format: PixelFormat, photometric_interpretation: str, quality: int
) -> Encoder | None:
    """An encoder for frames of a format whose arrays hold a colour space; None when the syntax cannot hold them.

    `quality` is 1 to 100, for what is lossy.
    """
    make = ENCODERS.get(transfer_syntax)
    if make is None or frame_format.is_float or frame_format.bits_allocated % 8:
        return None
    return make(transfer_syntax, frame_format, photometric_interpretation, quality)


def _called(function: Callable[..., Any], *arguments: Any, **options: Any) -> bytes:
    try:
        return bytes(function(*arguments, **options))
    except MemoryError:
        raise
    except Exception as e:
        raise BadFileFormat(f"A frame cannot be encoded: {str(e)[:200]}") from e


def _jpeg_lossy(transfer_syntax: str, frame_format: PixelFormat, photometric: str, quality: int) -> Encoder | None:
    stored = frame_format.bits_stored
    if frame_format.is_signed or frame_format.bits_allocated > 16:
        return None
    package = available("JPEG8")
    options: dict[str, Any] = {}
    if stored == 8 and photometric in ("RGB", "YBR_FULL"):
        source = "RGB" if photometric == "RGB" else "YCBCR"
        options = {"colorspace": source, "outcolorspace": "YCBCR", "subsampling": "422"}
        photometric = "YBR_FULL_422"
    elif photometric not in _MONOCHROME:
        return None
    elif stored == 8:
        pass
    elif transfer_syntax == JPEG_EXTENDED and 8 < stored <= 12:
        # The stream has 12 bits, and what is lost may lead to values that need them all.
        options, stored = {"bitspersample": 12}, 12
    else:
        return None
    return Encoder(
        encode=lambda pixels: _called(package.jpeg8_encode, pixels, quality, **options),
        photometric_interpretation=photometric,
        bits_stored=stored,
        method="ISO_10918_1",
    )


def _jpeg_lossless(transfer_syntax: str, frame_format: PixelFormat, photometric: str, quality: int) -> Encoder | None:
    if not _is_usual(frame_format):
        return None
    package = available("JPEG8")
    # Of signed samples the bits of the sign are part of what is coded, for readers that do not extend it.
    precision = frame_format.bits_allocated if frame_format.is_signed else max(2, frame_format.bits_stored)
    options: dict[str, Any] = {
        "lossless": True,
        "predictor": _PREDICTORS[transfer_syntax],
        "bitspersample": precision,
    }
    if frame_format.samples_per_pixel == 3:
        # The encoder would convert everything else.
        options |= {"colorspace": "RGB", "outcolorspace": "RGB"}
    # What the three samples are is for the header to tell.
    unwanted = _ADOBE if photometric != "RGB" else 0
    return Encoder(
        encode=lambda pixels: without_segments(
            _called(package.jpeg8_encode, _cells(pixels, frame_format), **options), unwanted
        ),
        photometric_interpretation=photometric,
        bits_stored=frame_format.bits_stored,
    )


def _jpeg_ls(transfer_syntax: str, frame_format: PixelFormat, photometric: str, quality: int) -> Encoder | None:
    is_lossy = transfer_syntax == JPEG_LS_NEAR_LOSSLESS
    if not _is_usual(frame_format) or (is_lossy and photometric == "PALETTE COLOR"):
        return None
    package = available("JPEGLS")
    level = NEAR_LOSSLESS_ERROR if is_lossy else 0
    stored = frame_format.bits_stored
    # What is lost must not lead to values that need more bits, or another sign.
    lowest, highest = (-(1 << stored - 1), (1 << stored - 1) - 1) if frame_format.is_signed else (0, (1 << stored) - 1)

    def encode(pixels: Any) -> bytes:
        if is_lossy and frame_format.is_signed:
            pixels = np.clip(pixels, lowest + NEAR_LOSSLESS_ERROR, highest - NEAR_LOSSLESS_ERROR)
        elif is_lossy and stored < frame_format.bits_allocated:
            pixels = np.minimum(pixels, highest - NEAR_LOSSLESS_ERROR)
        cells = _cells(pixels, frame_format)
        return without_segments(_called(package.jpegls_encode, cells, level), _SPIFF)

    return Encoder(
        encode=encode,
        photometric_interpretation=photometric,
        bits_stored=stored,
        method="ISO_14495_1" if is_lossy else "",
    )


def _jpeg_2000(transfer_syntax: str, frame_format: PixelFormat, photometric: str, quality: int) -> Encoder | None:
    is_lossy = transfer_syntax == JPEG_2000
    if not _is_usual(frame_format) or (is_lossy and photometric == "PALETTE COLOR"):
        return None
    package = available("JPEG2K")
    is_rgb = photometric == "RGB"
    options: dict[str, Any] = {
        "codecformat": "J2K",
        "reversible": not is_lossy,
        "mct": is_rgb,
        "numthreads": 1,
        "bitspersample": frame_format.bits_stored,
    }
    if is_rgb:
        photometric = "YBR_ICT" if is_lossy else "YBR_RCT"
    full = (1 << frame_format.bits_stored) - 1

    def encode(pixels: Any) -> bytes:
        # Peak signal to noise ratio in dB; 0 keeps all.
        level = _ratio(pixels, full, quality) if is_lossy else 0
        return _called(package.jpeg2k_encode, np.ascontiguousarray(pixels), level, **options)

    return Encoder(
        encode=encode,
        photometric_interpretation=photometric,
        bits_stored=frame_format.bits_stored,
        method="ISO_15444_1" if is_lossy else "",
    )


def _ratio(pixels: Any, full: int, quality: int) -> float:
    """Ratio of signal and noise for a quality: for the range that the samples have, not for all they might have."""
    extent = max(1, int(pixels.max()) - int(pixels.min()))
    return 30 + quality / 4 + 20 * math.log10(full / extent)


def _rle(transfer_syntax: str, frame_format: PixelFormat, photometric: str, quality: int) -> Encoder | None:
    if frame_format.samples_per_pixel * frame_format.bits_allocated > 15 * 8:
        return None
    package = available("PACKBITS")
    return Encoder(
        encode=lambda pixels: encode_rle(_cells(pixels, frame_format), package),
        photometric_interpretation=photometric,
        bits_stored=frame_format.bits_stored,
    )


def _is_usual(frame_format: PixelFormat) -> bool:
    """What all codecs can hold but RLE: up to 16 bits, grey or of three colours."""
    return frame_format.bits_allocated <= 16 and frame_format.samples_per_pixel in (1, 3)


def _cells(pixels: Any, frame_format: PixelFormat) -> Any:
    """Samples as unsigned numbers of the bits allocated, with their sign extended."""
    size = frame_format.bits_allocated // 8
    kind = "i" if frame_format.is_signed else "u"
    return np.ascontiguousarray(pixels.astype(f"{kind}{size}", copy=False)).view(f"u{size}")


def without_segments(stream: bytes, unwanted: int) -> bytes:
    """A stream of JPEG or JPEG-LS without the segments of a marker, which DICOM has no use for."""
    position, kept = 2, [stream[:2]]
    while position + 4 <= len(stream) and stream[position] == 0xFF and stream[position + 1] != 0xDA:
        end = position + 2 + (stream[position + 2] << 8 | stream[position + 3])
        if stream[position + 1] != unwanted:
            kept.append(stream[position:end])
        position = end
    return b"".join([*kept, stream[position:]])


#: By transfer syntax: makes an encoder, when the syntax can hold such frames.
ENCODERS: Final[Mapping[str, Callable[[str, PixelFormat, str, int], Encoder | None]]] = {
    JPEG_BASELINE: _jpeg_lossy,
    JPEG_EXTENDED: _jpeg_lossy,
    JPEG_LOSSLESS: _jpeg_lossless,
    JPEG_LOSSLESS_SV1: _jpeg_lossless,
    JPEG_LS_LOSSLESS: _jpeg_ls,
    JPEG_LS_NEAR_LOSSLESS: _jpeg_ls,
    JPEG_2000_LOSSLESS: _jpeg_2000,
    JPEG_2000: _jpeg_2000,
    RLE: _rle,
}
