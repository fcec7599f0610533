"""Images in Python scripts: made, read, converted, drawn on, given to Pillow and numpy."""

from __future__ import annotations

import struct

import numpy as np

from test.python_case import example
from test.rest_samples import dicom_object, pixels
from test.script_case import ScriptCase, opened, png
from test.servers import ct_image


class PythonImageTests(ScriptCase):
    """Functions for images, and the class ``Image``."""

    async def test_image(self) -> None:
        """An image is a copy without the bytes behind its rows; wrong sizes and formats are refused."""
        noted = await self.run_script(
            """
    image = orthanc.CreateImageFromBuffer(orthanc.PixelFormat.RGB24, 2, 2, 8, bytes(range(16)))
    note(image.GetImagePixelFormat(), image.GetImageWidth(), image.GetImageHeight(), image.GetImagePitch())
    note(list(image.GetImageBuffer()))
    black = orthanc.CreateImage(orthanc.PixelFormat.GRAYSCALE16, 3, 1)
    note(type(black.GetImageBuffer()).__name__, list(black.GetImageBuffer()))
    attempt(orthanc.CreateImageFromBuffer, 1, 5, 3, 5, bytes(14))
    attempt(orthanc.CreateImageFromBuffer, 1, 5, 3, 4, bytes(12))
    attempt(orthanc.CreateImageFromBuffer, 6, 5, 3, 5, bytes(15))
    attempt(orthanc.CreateImage, 6, 5, 3)
    attempt(orthanc.CreateImage, 1, -1, 3)
    attempt(orthanc.CreateImage, 1, 1 << 40, 1 << 40)
    attempt(orthanc.CreateImage, 1, 0, 0)
    attempt(orthanc.CreateImage, '1', 0, 0)
"""
        )
        self.assertEqual(noted[:3], [[4, 2, 2, 6], [[0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]], ["bytes", [0] * 6]])
        expected = ["TypeError", "ValueError", "ValueError", -1, -1, -1, "done", "TypeError"]
        self.assertEqual([result for (result,) in noted[3:]], expected)

    async def test_files(self) -> None:
        """PNG and JPEG are what Pillow reads, pitch or not; formats and qualities that they cannot have are errors."""
        noted = await self.run_script(
            """
    pixels = bytes(range(48))
    for name, format, width in (('g8', 1, 4), ('g16', 2, 4), ('s16', 3, 4), ('rgb', 4, 3), ('rgba', 5, 3)):
        write(name, orthanc.CompressPngImage(format, width, 4, 12, pixels))
    write('jpeg', orthanc.CompressJpegImage(1, 8, 8, 8, bytes([90] * 64), 95))
    for format in (0, 6, 12, 7, 8, 9, 10, 11):
        attempt(orthanc.CompressPngImage, format, 1, 2, 24, pixels)
    for format, quality in ((1, 0), (1, 101), (2, 90), (5, 90), (1, 100)):
        attempt(orthanc.CompressJpegImage, format, 1, 2, 24, pixels, quality)
    attempt(orthanc.CompressPngImage, 1, 12, 5, 12, pixels)
    attempt(orthanc.CompressPngImage, 1, 13, 4, 12, pixels)
    attempt(orthanc.CompressPngImage, 1, 0, 0, 0, None)
    attempt(orthanc.CompressPngImage, 1, 1 << 70, 4, 12, pixels)
"""
        )
        rows = np.arange(48, dtype=np.uint8).reshape(4, 12)
        self.assertEqual(opened(self.written("g8")).tolist(), rows[:, :4].tolist())
        sixteen = rows[:, :8].copy().view("<u2").tolist()
        self.assertEqual(opened(self.written("g16")).tolist(), sixteen)
        self.assertEqual(opened(self.written("s16")).tolist(), sixteen)
        self.assertEqual(opened(self.written("rgb")).tolist(), rows[:, :9].reshape(4, 3, 3).tolist())
        self.assertEqual(opened(self.written("rgba")).tolist(), rows.reshape(4, 3, 4).tolist())
        self.assertEqual(opened(self.written("jpeg")).tolist(), [[90] * 8] * 8)
        codes = [result for (result,) in noted]
        self.assertEqual(codes[:8], [3, 3, 3, 2, 2, 2, 2, 2])
        self.assertEqual(codes[8:13], [3, 3, 3, 3, "done"])
        self.assertEqual(codes[13:], [3, 3, -1, 3])

    async def test_uncompress(self) -> None:
        """PNG, JPEG and DICOM become pixels; whatever is damaged is an exception, and the server goes on."""
        grey, colour = np.arange(12, dtype=np.uint8).reshape(3, 4), np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        sources = {
            "g8": png(grey),
            "g16": png(grey.astype(np.uint16) * 300),
            "rgb": png(colour[..., :3]),
            "rgba": png(colour),
            "ct": ct_image(5, side=4),
        }
        noted = await self.run_script(
            """
    for name in ('g8', 'g16', 'rgb', 'rgba', 'ct'):
        content = read(name)
        format = orthanc.ImageFormat.DICOM if name == 'ct' else orthanc.ImageFormat.PNG
        image = orthanc.UncompressImage(content, format)
        note(image.GetImagePixelFormat(), image.GetImageWidth(), image.GetImageHeight(), image.GetImageBuffer().hex())
    frame = orthanc.DecodeDicomImage(content, 0)
    note(frame.GetImageBuffer() == image.GetImageBuffer())
    jpeg = orthanc.UncompressImage(orthanc.CompressJpegImage(4, 8, 8, 24, bytes(192), 90), orthanc.ImageFormat.JPEG)
    note(jpeg.GetImagePixelFormat(), jpeg.GetImageBuffer() == bytes(192))
    png = read('g8')
    for format in (0, 1, 2, 3):
        attempt(orthanc.UncompressImage, b'abc', format)
        attempt(orthanc.UncompressImage, None, format)
    attempt(orthanc.UncompressImage, png[:40] + b'xxxx' + png[44:], 0)
    attempt(orthanc.UncompressImage, content[:-9], 2)
    attempt(orthanc.DecodeDicomImage, content, 1)
    attempt(orthanc.DecodeDicomImage, content, -1)
    attempt(orthanc.DecodeDicomImage, b'', 0)
""",
            **sources,
        )
        self.assertEqual(noted[0], [1, 4, 3, grey.tobytes().hex()])
        self.assertEqual(noted[1], [2, 4, 3, (grey.astype("<u2") * 300).tobytes().hex()])
        self.assertEqual(noted[2], [4, 3, 2, np.ascontiguousarray(colour[..., :3]).tobytes().hex()])
        self.assertEqual(noted[3], [5, 3, 2, colour.tobytes().hex()])
        self.assertEqual(noted[4], [3, 4, 4, struct.pack("<16h", *[5] * 16).hex()])
        self.assertEqual(noted[5:7], [[True], [4, True]])
        self.assertEqual([result for (result,) in noted[7:]], [-1] * 13)

    async def test_no_decoder(self) -> None:
        """Without a decoder, DICOM files are not decoded; PNG and JPEG need none."""
        (self.scripts / "ct").write_bytes(ct_image(1))
        await self.start_scripts(
            """
            content = open(folder + '/ct', 'rb').read()
            try:
                orthanc.DecodeDicomImage(content, 0)
            except orthanc.OrthancException as e:
                note(e.args[0])
            note(orthanc.UncompressImage(orthanc.CompressPngImage(1, 1, 1, 1, b'5'), 0).GetImageBuffer().decode())
            """,
            BuiltinDecoderTranscoderOrder="Disabled",
        )
        self.assertEqual(self.noted(), [[-1], ["5"]])

    async def test_convert(self) -> None:
        """Numbers are cut to the range of the target, colours change their order; the rest is no conversion."""
        await self.run_script(
            """
    import struct
    def convert(source, target, layout, *values):
        image = orthanc.CreateImageFromBuffer(source, 2, 1, struct.calcsize(layout), struct.pack(layout, *values))
        note(list(image.ConvertPixelFormat(target).GetImageBuffer()))
    P = orthanc.PixelFormat
    convert(P.GRAYSCALE16, P.GRAYSCALE8, '<2H', 7, 256)
    convert(P.SIGNED_GRAYSCALE16, P.GRAYSCALE8, '<2h', -1, 32767)
    convert(P.SIGNED_GRAYSCALE16, P.GRAYSCALE16, '<2h', -1, 258)
    convert(P.GRAYSCALE16, P.SIGNED_GRAYSCALE16, '<2H', 1, 65535)
    convert(P.FLOAT32, P.GRAYSCALE8, '<2f', 0.5, 1e9)
    convert(P.FLOAT32, P.RGB24, '<2f', -3.0, float('nan'))
    convert(P.GRAYSCALE8, P.RGBA32, '2B', 9, 10)
    convert(P.GRAYSCALE16, P.BGRA32, '<2H', 9, 300)
    convert(P.RGB24, P.GRAYSCALE8, '6B', 10, 20, 30, 0, 0, 255)
    convert(P.RGB24, P.BGRA32, '6B', 1, 2, 3, 4, 5, 6)
    convert(P.BGRA32, P.RGBA32, '8B', 1, 2, 3, 4, 5, 6, 7, 8)
    convert(P.RGBA32, P.RGB24, '8B', 1, 2, 3, 4, 5, 6, 7, 8)
    convert(P.RGB48, P.RGB24, '<6H', 256, 511, 512, 65535, 1, 30000)
    convert(P.GRAYSCALE64, P.GRAYSCALE64, '<2Q', 1, 2)
    image = orthanc.CreateImage(P.GRAYSCALE32, 1, 1)
    for target in (P.GRAYSCALE8, P.RGB24, P.GRAYSCALE64, P.UNKNOWN, 99):
        attempt(image.ConvertPixelFormat, target)
    note(struct.unpack('<f', image.ConvertPixelFormat(P.FLOAT32).GetImageBuffer()))
"""
        )
        expected = [
            [7, 255], [0, 255], [0, 0, 2, 1], [1, 0, 255, 127], [1, 255], [0] * 6,
            [9, 9, 9, 255, 10, 10, 10, 255], [9, 9, 9, 255, 255, 255, 255, 255], [17, 11],
            [3, 2, 1, 255, 6, 5, 4, 255], [3, 2, 1, 4, 7, 6, 5, 8], [1, 2, 3, 5, 6, 7], [1, 1, 2, 255, 0, 117],
            [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        ]  # fmt: skip
        noted = [result for (result,) in self.noted()]
        self.assertEqual(noted[: len(expected)], expected)
        self.assertEqual(noted[len(expected) :], [-1, -1, -1, -1, -1, [0.0]])

    async def test_text(self) -> None:
        """Text is drawn in its colour where it fits, with the one font."""
        await self.run_script(
            """
    note(orthanc.GetFontsCount(), orthanc.GetFontName(0), orthanc.GetFontSize(0))
    note(orthanc.GetFontName(1), orthanc.GetFontSize(-1))
    for format, length in ((1, 1), (4, 3), (5, 4), (10, 4)):
        image = orthanc.CreateImage(format, 60, 20)
        note(image.DrawText(0, 'H\u00e4llo', 2, 1, 200, 100, 50))
        pixels = image.GetImageBuffer()
        note([max(pixels[place::length]) for place in range(length)], sum(map(bool, pixels[::length])) > 50)
    image = orthanc.CreateImage(1, 20, 20)
    image.DrawText(0, 'far away', 1000, -1000, 255, 0, 0)
    image.DrawText(0, '', 0, 0, 255, 0, 0)
    note(image.GetImageBuffer() == bytes(400))
    for font, red in ((1, 0), (-1, 0), (0, 256), (0, -1)):
        attempt(image.DrawText, font, 'x', 0, 0, red, 0, 0)
    attempt(orthanc.CreateImage(2, 9, 9).DrawText, 0, 'x', 0, 0, 1, 1, 1)
"""
        )
        noted = self.noted()
        self.assertEqual(noted[:2], [[1, "Pillow", 16], [None, 0]])
        drawn = [[200], [200, 100, 50], [200, 100, 50, 255], [50, 100, 200, 255]]
        self.assertEqual(noted[2:10], [line for colours in drawn for line in ([None], [colours, True])])
        self.assertEqual(noted[10:], [[True], [3], [3], [3], [3], [2]])

    async def test_pillow(self) -> None:
        """An image goes to Pillow, becomes a thumbnail there, and comes back."""
        await self.run_script(
            """
    from PIL import Image
    image = orthanc.UncompressImage(read('source'), orthanc.ImageFormat.PNG)
    picture = Image.frombytes('L', (image.GetImageWidth(), image.GetImageHeight()), image.GetImageBuffer())
    picture.thumbnail((4, 4))
    back = orthanc.CreateImageFromBuffer(orthanc.PixelFormat.GRAYSCALE8, 4, 4, 4, picture.tobytes())
    note(list(picture.tobytes()), list(back.GetImageBuffer()))
    write('thumbnail', orthanc.CompressPngImage(1, 4, 4, 4, back.GetImageBuffer()))
""",
            source=png(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4),
        )
        ((there, back),) = self.noted()
        self.assertEqual(there, back)
        self.assertEqual(opened(self.written("thumbnail")).reshape(-1).tolist(), there)

    async def test_mosaic(self) -> None:
        """The example of the documentation: all images of a series, as one PNG."""
        await self.start_scripts(example("Images"))
        for number in (3, 1, 2, 4, 5):
            bright = {"PixelData": bytes([200] * 8 * number + [100] * 8 * (8 - number))}
            stored = await self.client.store(dicom_object(sop=f"1.2.1.1.{number}", **pixels(8, 8) | bright))
        answer = await self.client.get(f"/mosaic/{stored['ParentSeries']}")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "image/png"))
        picture = opened(answer.body)
        tiles = [picture[top : top + 64, left : left + 64] for top in (0, 64) for left in (0, 64, 128, 192)]
        self.assertEqual([round(tile.mean() * 8 / 255) for tile in tiles], [1, 2, 3, 4, 5, 0, 0, 0])
