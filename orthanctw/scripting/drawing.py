"""Text on pictures. Pillow's built-in font is the only one."""

from __future__ import annotations

import functools
from typing import Any, Final

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ParameterOutOfRange
from orthanctw.scripting.pictures import BGRA32, GRAYSCALE8, RGB24, RGBA32, Raster, pixels_of

FONT_NAME: Final = "Pillow"
#: Pixels.
FONT_SIZE: Final = 16
_DRAWABLE: Final = frozenset({GRAYSCALE8, RGB24, RGBA32, BGRA32})
#: Characters of a text.
_LONGEST: Final = 4096


@functools.cache
def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(FONT_SIZE)


def draw_text(raster: Raster, font: int, text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    """Draw into a picture, whose buffer is a bytearray; of grey pictures, red is the value.

    Raises
    ------
    ParameterOutOfRange
        Another font than 0, a colour beyond 0 to 255, or a very long text.
    OrthancError
        NOT_IMPLEMENTED for pixels that do not have 8 bits.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    if font != 0 or not all(0 <= part <= 255 for part in colour) or len(text) > _LONGEST:
        raise ParameterOutOfRange("There is no such font or colour, or the text is too long")
    if raster.format not in _DRAWABLE:
        raise OrthancError("Text is drawn on pixels of 8 bits only", code=ErrorCode.NOT_IMPLEMENTED)
    if not raster.width or not raster.height or not text:
        return
    mask = Image.new("L", (raster.width, raster.height))
    ImageDraw.Draw(mask).text((x, y), text, 255, _font())
    pixels = pixels_of(raster)
    parts: tuple[int, ...] = colour[::-1] if raster.format == BGRA32 else colour
    if raster.format == GRAYSCALE8:
        pixels, parts = pixels[..., None], colour[:1]
    weight = np.asarray(mask, np.uint16)
    for place, part in enumerate(parts):
        plane = pixels[..., place]
        plane[...] = (plane * (255 - weight) + part * weight) // 255
    if raster.format in (RGBA32, BGRA32):
        plane = pixels[..., 3]
        np.maximum(plane, weight, out=plane, casting="unsafe")
