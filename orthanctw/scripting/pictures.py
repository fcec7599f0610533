"""Pictures of scripts: pixels in the formats of ``orthanc.PixelFormat``, and image files made of them."""

from __future__ import annotations

from typing import Any, Final

import attrs

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ParameterOutOfRange

GRAYSCALE8, GRAYSCALE16, SIGNED_GRAYSCALE16, RGB24, RGBA32 = 1, 2, 3, 4, 5
RGB48, GRAYSCALE32, FLOAT32, BGRA32, GRAYSCALE64 = 7, 8, 9, 10, 11

Array = Any
#: numpy's type of a sample, and the samples of a pixel.
FORMATS: Final = {
    GRAYSCALE8: ("u1", 1),
    GRAYSCALE16: ("<u2", 1),
    SIGNED_GRAYSCALE16: ("<i2", 1),
    RGB24: ("u1", 3),
    RGBA32: ("u1", 4),
    RGB48: ("<u2", 3),
    GRAYSCALE32: ("<u4", 1),
    FLOAT32: ("<f4", 1),
    BGRA32: ("u1", 4),
    GRAYSCALE64: ("<u8", 1),
}
_PNG: Final = frozenset({GRAYSCALE8, GRAYSCALE16, SIGNED_GRAYSCALE16, RGB24, RGBA32})
_JPEG: Final = frozenset({GRAYSCALE8, RGB24})
#: Bytes of a picture.
_LARGEST: Final = 1 << 31


@attrs.frozen
class Raster:
    """A picture: `pitch` bytes a row, of which those behind the last pixel mean nothing."""

    format: int
    width: int
    height: int
    pitch: int
    buffer: bytes | bytearray


def row_size(format: int, width: int) -> int:
    """Bytes that the pixels of a row take. ParameterOutOfRange for an unknown format."""
    if format not in FORMATS:
        raise ParameterOutOfRange("There is no such pixel format")
    kind, samples = FORMATS[format]
    return width * samples * int(kind[-1])


def check_size(format: int, width: int, height: int, pitch: int, size: int) -> None:
    """Raise ParameterOutOfRange unless `size` bytes hold a picture."""
    if width < 0 or height < 0 or pitch < row_size(format, width) or not pitch * height <= min(size, _LARGEST):
        raise ParameterOutOfRange("The buffer does not hold an image of this format and size")


def pixels_of(raster: Raster) -> Array:
    """The pixels of a picture, as an array of rows and columns, and of samples if there are several.

    It shares the memory of the buffer.
    """
    import numpy as np

    kind, samples = FORMATS[raster.format]
    if not raster.width or not raster.height:
        return np.empty((raster.height, raster.width, *([samples] if samples > 1 else [])), kind)
    rows = np.frombuffer(raster.buffer, np.uint8, raster.height * raster.pitch).reshape(raster.height, raster.pitch)
    pixels = rows[:, : row_size(raster.format, raster.width)].view(kind)
    return pixels if samples == 1 else pixels.reshape(raster.height, raster.width, samples)


def raster_of(format: int, pixels: Array) -> Raster:
    """A picture of pixels, whose type is that of the format."""
    import numpy as np

    height, width = pixels.shape[:2]
    content = np.ascontiguousarray(pixels, FORMATS[format][0]).tobytes()
    return Raster(format, width, height, row_size(format, width), content)


def encode_png(format: int, width: int, height: int, pitch: int, buffer: bytes) -> bytes:
    """A PNG: grey of 8 or 16 bits (the bits of signed ones are kept), RGB24 or RGBA32.

    Raises
    ------
    ParameterOutOfRange
        An unknown format, or a buffer that is too short.
    OrthancError
        NOT_IMPLEMENTED for another format, INTERNAL_ERROR without pixels.
    """
    from orthanctw.dicom.pixels.images import png

    check_size(format, width, height, pitch, len(buffer))
    if format not in _PNG:
        raise OrthancError("A PNG cannot have this pixel format", code=ErrorCode.NOT_IMPLEMENTED)
    if not width or not height:
        raise OrthancError("There are no pixels")
    return png(pixels_of(Raster(format, width, height, pitch, buffer)))


def encode_jpeg(format: int, width: int, height: int, pitch: int, buffer: bytes, quality: int) -> bytes:
    """A JPEG of grey or RGB of 8 bits; `quality` is 1 to 100.

    Raises
    ------
    ParameterOutOfRange
        Another format or quality, or a buffer that is too short.
    OrthancError
        INTERNAL_ERROR without pixels, or with more than JPEG can hold.
    """
    from orthanctw.dicom.pixels.images import jpeg

    check_size(format, width, height, pitch, len(buffer))
    if format not in _JPEG or not 1 <= quality <= 100:
        raise ParameterOutOfRange("A JPEG has 8 bits, grey or RGB, and a quality from 1 to 100")
    if not 0 < width <= 0xFFFF or not 0 < height <= 0xFFFF:
        raise OrthancError("A JPEG has from 1 to 65535 rows and columns")
    return jpeg(pixels_of(Raster(format, width, height, pitch, buffer)), quality)
