"""Images of scripts."""

from __future__ import annotations

from orthanctw.scripting.exposure import exposed, exposed_class
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


exposed_class(Image)
