"""Images of scripts."""

from __future__ import annotations

from typing import Any

from orthanctw.scripting.conversion import converted
from orthanctw.scripting.drawing import draw_text
from orthanctw.scripting.exposure import exposed, exposed_class, gives_object
from orthanctw.scripting.host import Host
from orthanctw.scripting.pictures import Raster


class Image:
    """An image in memory."""

    def __init__(self, raster: Raster) -> None:
        self.raster = raster

    @exposed
    def GetImagePixelFormat(self) -> int:
        """The number of a ``PixelFormat``."""
        return self.raster.format

    @exposed
    def GetImageWidth(self) -> int:
        """Number of columns."""
        return self.raster.width

    @exposed
    def GetImageHeight(self) -> int:
        """Number of rows."""
        return self.raster.height

    @exposed
    def GetImagePitch(self) -> int:
        """Bytes from one row to the next."""
        return self.raster.pitch

    @exposed
    def GetImageBuffer(self) -> bytes:
        """The pixels, little endian, row by row."""
        return bytes(self.raster.buffer)

    @exposed
    @gives_object
    def ConvertPixelFormat(self, target_format: int, /) -> Image:
        """A copy in another pixel format."""
        return Image(converted(self.raster, target_format))

    @exposed
    def DrawText(self, font_index: int, utf8_text: str, x: int, y: int, r: int, g: int, b: int, /) -> None:
        """Draw a text into the image, whose upper left corner is at column `x` and row `y`."""
        raster = self.raster
        if not isinstance(raster.buffer, bytearray):
            raster = Raster(raster.format, raster.width, raster.height, raster.pitch, bytearray(raster.buffer))
        draw_text(raster, font_index, utf8_text, x, y, (r, g, b))
        self.raster = raster


exposed_class(Image)


def decoded_frame(host: Host, header: Any, content: bytes, number: int) -> Image:
    """A frame of a DICOM file, whose header is what `ObjectWork.header` has answered. OrthancErrors."""
    objects = host.services.objects
    return Image(host.wait(objects.decoded, objects.frame(header, content, number)))
