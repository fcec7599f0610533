"""The codecs of compressed transfer syntaxes: each is available, or names the package that is missing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from orthanctw.dicom.pixels.model import PixelFormat
from orthanctw.dicom.pixels.rle import decode_rle
from orthanctw.dicom.pixels.streams import (
    StreamFacts,
    check_jpeg_end,
    jpeg2000_facts,
    jpeg_facts,
    jpegxl_facts,
)
from orthanctw.dicom.pixels.syntaxes import (
    HTJ2K,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_XL,
    RLE,
)
from orthanctw.errors import BadFileFormat, NotImplementedHere

#: Streams of lossy JPEG have two bits at least for each block of 64 samples, some of which are subsampled.
_DCT_RATIO: Final = 64 * 8
#: Predictive coding has one bit at least for each sample.
_PREDICTIVE_RATIO: Final = 8
#: Frames of more bytes may not be so many times larger than their streams.
_LARGE: Final = 64 << 20
_LARGE_RATIO: Final = 20_000
_SUBSAMPLED: Final = ("YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420")


@attrs.frozen(kw_only=True)
class Decoded:
    """What a codec has made of a stream: an array, its colour space, and the bits of its samples (0: as described)."""

    pixels: Any
    photometric_interpretation: str
    precision: int = 0


Decode = Callable[[Any, PixelFormat, bytes], Decoded]


@functools.cache
def imagecodecs() -> Any:
    """The package. Raises NotImplementedHere when it is not installed."""
    try:
        import imagecodecs as package
    except ImportError:
        raise NotImplementedHere("This transfer syntax needs the Python package imagecodecs") from None
    return package


def available(name: str) -> Any:
    """The package imagecodecs, with one of its codecs. Raises NotImplementedHere when it was built without."""
    package = imagecodecs()
    if not getattr(getattr(package, name), "available", False):
        raise NotImplementedHere(f"This transfer syntax needs the Python package imagecodecs with {name}")
    return package


def decode_stream(transfer_syntax: str, frame_format: PixelFormat, data: bytes) -> Decoded:
    """Decode the stream of a frame. Raises BadFileFormat, NotImplementedHere."""
    found = DECODERS.get(transfer_syntax)
    if found is None:
        raise NotImplementedHere(f"Pixels of transfer syntax {transfer_syntax} cannot be decoded")
    name, decode = found
    return decode(available(name), frame_format, data)


def _check(facts: StreamFacts, frame_format: PixelFormat, data: bytes) -> None:
    """Refuse a stream of another size than the header tells, or of more than can be in it."""
    if (facts.rows, facts.columns) != (frame_format.rows, frame_format.columns):
        raise BadFileFormat("The size of a frame differs from that of the header")
    if facts.components and facts.components != frame_format.samples_per_pixel:
        raise BadFileFormat("The samples of a frame differ from those of the header")
    size = facts.rows * facts.columns * frame_format.samples_per_pixel * (2 if facts.precision > 8 else 1)
    if size > _LARGE and size > _LARGE_RATIO * len(data):
        raise BadFileFormat("A frame is too short for the size of the image")


def _called(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    try:
        return function(*arguments, **options)
    except MemoryError:
        raise
    except Exception as e:
        raise BadFileFormat(f"A frame cannot be decoded: {str(e)[:200]}") from e


def _decode_jpeg(package: Any, frame_format: PixelFormat, data: bytes) -> Decoded:
    facts = jpeg_facts(data)
    _check(facts, frame_format, data)
    check_jpeg_end(data)
    ratio = _PREDICTIVE_RATIO if facts.is_lossless else _DCT_RATIO
    if facts.rows * facts.columns > ratio * len(data):
        raise BadFileFormat("A JPEG stream is too short for the size of the image")
    photometric = frame_format.photometric_interpretation
    options = {}
    if facts.components == 3:
        # As DICOM tells it, but a marker of Adobe knows better. Without options the decoder would guess.
        is_ycc = photometric.startswith("YBR") if facts.adobe_transform is None else facts.adobe_transform == 1
        options = {"colorspace": "YCBCR" if is_ycc and not facts.is_lossless else "RGB", "outcolorspace": "RGB"}
        if not facts.is_lossless:
            photometric = "RGB"
    pixels = _called(package.jpeg8_decode, data, **options)
    return Decoded(pixels=pixels, photometric_interpretation=photometric, precision=facts.precision)


def _decode_jpegls(package: Any, frame_format: PixelFormat, data: bytes) -> Decoded:
    facts = jpeg_facts(data)
    _check(facts, frame_format, data)
    # Without its end the decoder looks for seconds.
    check_jpeg_end(data)
    pixels = _called(package.jpegls_decode, data)
    photometric = frame_format.photometric_interpretation
    return Decoded(pixels=pixels, photometric_interpretation=photometric, precision=facts.precision)


def _decode_jpeg2000(package: Any, frame_format: PixelFormat, data: bytes) -> Decoded:
    facts = jpeg2000_facts(data)
    _check(facts, frame_format, data)
    pixels = _called(package.jpeg2k_decode, data, numthreads=1)
    photometric = frame_format.photometric_interpretation
    if photometric in ("YBR_RCT", "YBR_ICT"):
        photometric = "RGB"
    return Decoded(pixels=pixels, photometric_interpretation=photometric, precision=facts.precision)


def _decode_jpegxl(package: Any, frame_format: PixelFormat, data: bytes) -> Decoded:
    facts = jpegxl_facts(data)
    _check(facts, frame_format, data)
    pixels = _called(package.jpegxl_decode, data, numthreads=1)
    photometric = "RGB" if frame_format.samples_per_pixel == 3 else frame_format.photometric_interpretation
    return Decoded(pixels=pixels, photometric_interpretation=photometric)


def _decode_rle(package: Any, frame_format: PixelFormat, data: bytes) -> Decoded:
    pixels = decode_rle(frame_format, data, package)
    photometric = frame_format.photometric_interpretation
    # Samples of RLE are all there, whatever the name of their colour space.
    return Decoded(
        pixels=pixels, photometric_interpretation="YBR_FULL" if photometric in _SUBSAMPLED else photometric
    )


#: Codec of imagecodecs and our use of it, by transfer syntax.
DECODERS: Final[Mapping[str, tuple[str, Decode]]] = {
    JPEG_BASELINE: ("JPEG8", _decode_jpeg),
    JPEG_EXTENDED: ("JPEG8", _decode_jpeg),
    JPEG_LOSSLESS: ("JPEG8", _decode_jpeg),
    JPEG_LOSSLESS_SV1: ("JPEG8", _decode_jpeg),
    JPEG_LS_LOSSLESS: ("JPEGLS", _decode_jpegls),
    JPEG_LS_NEAR_LOSSLESS: ("JPEGLS", _decode_jpegls),
    JPEG_2000_LOSSLESS: ("JPEG2K", _decode_jpeg2000),
    JPEG_2000: ("JPEG2K", _decode_jpeg2000),
    **dict.fromkeys(HTJ2K, ("JPEG2K", _decode_jpeg2000)),
    **dict.fromkeys(JPEG_XL, ("JPEGXL", _decode_jpegxl)),
    RLE: ("PACKBITS", _decode_rle),
}
