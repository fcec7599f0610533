"""Images."""

from __future__ import annotations

from typing import Final

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ParameterOutOfRange
from orthanctw.scripting import drawing
from orthanctw.scripting.exposure import Data, exposed, gives_object
from orthanctw.scripting.host import Host
from orthanctw.scripting.images import Image, decoded_frame
from orthanctw.scripting.pictures import Raster, check_size, encode_jpeg, encode_png, pixels_of, raster_of, row_size

#: ``ImageFormat``.
_PNG, _JPEG, _DICOM = 0, 1, 2
_TYPES: Final = {_PNG: "image/png", _JPEG: "image/jpeg"}


class ImageArea:
    """Making, reading and writing images."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def CompressPngImage(self, format: int, width: int, height: int, pitch: int, buffer: Data, /) -> bytes:
        """A PNG of grey of 8 or 16 bits, RGB24 or RGBA32."""
        return encode_png(format, width, height, pitch, buffer)

    @exposed
    def CompressJpegImage(
        self, format: int, width: int, height: int, pitch: int, buffer: Data, quality: int, /
    ) -> bytes:
        """A JPEG of grey or RGB of 8 bits; a quality is 1 to 100."""
        return encode_jpeg(format, width, height, pitch, buffer, quality)

    @exposed
    @gives_object
    def CreateImage(self, format: int, width: int, height: int, /) -> Image:
        """A black image."""
        pitch = row_size(format, width)
        check_size(format, width, height, pitch, pitch * height)
        try:
            return Image(Raster(format, width, height, pitch, bytearray(pitch * height)))
        except MemoryError:
            raise OrthancError("The image is too large", code=ErrorCode.NOT_ENOUGH_MEMORY) from None

    @exposed
    def CreateImageFromBuffer(self, format: int, width: int, height: int, pitch: int, buffer: Data, /) -> Image:
        """An image of a copy of pixels."""
        if len(buffer) != height * pitch:
            raise TypeError("The size of the memory buffer must match the product of height by pitch")
        try:
            check_size(format, width, height, pitch, len(buffer))
        except ParameterOutOfRange as e:
            raise ValueError(e.details) from None
        return Image(raster_of(format, pixels_of(Raster(format, width, height, pitch, buffer))))

    @exposed
    @gives_object
    def UncompressImage(self, data: Data, format: int, /) -> Image:
        """The image of a PNG, a JPEG, or the first frame of a DICOM file, by the numbers of ``ImageFormat``."""
        if format == _DICOM:
            return self._decoded(data, 0)
        if format not in _TYPES:
            raise ParameterOutOfRange("There is no such image format")
        return Image(self._host.wait(self._host.services.objects.picture, data, _TYPES[format]))

    @exposed
    @gives_object
    def DecodeDicomImage(self, buffer: Data, frame_index: int, /) -> Image:
        """A frame of a DICOM file."""
        return self._decoded(buffer, frame_index)

    def _decoded(self, content: bytes, number: int) -> Image:
        return decoded_frame(self._host, self._host.services.objects.header(content), content, number)

    @exposed
    def GetFontsCount(self) -> int:
        """Number of fonts: one."""
        return 1

    @exposed
    def GetFontName(self, font_index: int, /) -> str | None:
        """The name of a font."""
        return drawing.FONT_NAME if font_index == 0 else None

    @exposed
    def GetFontSize(self, font_index: int, /) -> int:
        """The size of a font in pixels, 0 if there is none."""
        return drawing.FONT_SIZE if font_index == 0 else 0
