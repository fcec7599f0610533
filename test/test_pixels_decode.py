"""Decoding of frames: every image of pydicom, pixels of every form, and what is no image at all."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.pixels import get_decoder
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from orthanctw.dicom.elements import is_encapsulated
from orthanctw.dicom.header import decode, encode
from orthanctw.dicom.pixelrequest import content_request, frame_request, pixel_format
from orthanctw.dicom.pixels import codecs
from orthanctw.dicom.pixels.decode import decode_frame, load_frame
from orthanctw.dicom.pixels.model import PixelFormat
from orthanctw.dicom.pixels.rle import encode_rle
from orthanctw.dicom.pixels.syntaxes import (
    DECODABLE,
    HTJ2K,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LS_LOSSLESS,
    JPEG_XL,
    RLE,
)
from orthanctw.dicom.scanner import scan
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadFileFormat, CorruptedFile, NotImplementedHere, OrthancError, ParameterOutOfRange
from orthanctw.model import Attachment, Compression
from orthanctw.processes import ProcessPool
from orthanctw.storage.compression import compress
from test.dicom_files import BIG_ENDIAN, DEFLATED
from test.pixel_samples import coloured, frame, frames, grey, image, samples, wave

#: Starts of frames of JPEG and JPEG-LS.
_FRAME_MARKERS = (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7")
#: Streams of 12 bits: pydicom has nobody to decode them.
_TWELVE_BITS = {"JPEG-lossy.dcm", "JPGExtended.dcm"}


class SampleTests(SynchronousTestCase):
    """Files that others have made."""

    def test_same_as_pydicom(self) -> None:
        """Every image that pydicom can decode has the same values here, and the same colour space."""
        compared = set()
        for name, data, header in samples():
            decoded = self.by_pydicom(data)
            if decoded is None:
                continue
            expected, photometric = decoded
            first = frame(data)
            if first.photometric_interpretation == "RGB" and photometric.startswith("YBR"):
                # Codecs of JPEG turn these into RGB; pydicom does so when asked.
                expected, _ = self.by_pydicom(data, raw=False) or (None, "")
            elif is_encapsulated(header.transfer_syntax) or photometric != "YBR_FULL_422":
                self.assertEqual(first.photometric_interpretation, photometric, name)
            mine = frames(data) if first.format.number_of_frames > 1 else first.pixels
            stored = first.format.bits_stored
            if not first.format.is_signed and not first.format.is_float and expected.dtype.kind == "u":
                expected = expected & ((1 << stored) - 1)
            np.testing.assert_array_equal(mine, expected, name)
            compared.add((header.transfer_syntax, first.format.bits_allocated))
        self.assertGreater(len(compared), 24)

    def by_pydicom(self, data: bytes, raw: bool = True) -> tuple[Any, str] | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                dataset = dcmread(DicomBytesIO(data), force=True)
                decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
                pixels, about = decoder.as_array(dataset, raw=raw)
            except Exception:  # noqa: BLE001 - whatever it is, there is nothing to compare with
                return None
        return pixels, str(about["photometric_interpretation"])

    def test_same_as_dcmtk(self) -> None:
        """JPEG of 12 bits, which pydicom cannot decode, has the values that DCMTK finds."""
        seen = 0
        for name, data, _ in samples():
            if name not in _TWELVE_BITS:
                continue
            source, target = Path(self.mktemp()), Path(self.mktemp())
            source.write_bytes(data)
            subprocess.run(["dcmdjpeg", str(source), str(target)], check=True, capture_output=True)
            difference = frames(data).astype(int) - frames(target.read_bytes())
            self.assertLessEqual(abs(difference).max(), 2, name)
            seen += 1
        self.assertEqual(seen, len(_TWELVE_BITS))


class FormTests(SynchronousTestCase):
    """Pixels in every form that a header can describe."""

    def check(self, data: bytes, expected: Any, number: int = 0, photometric: str | None = None) -> None:
        decoded = frame(data, number)
        np.testing.assert_array_equal(decoded.pixels, expected)
        if photometric is not None:
            self.assertEqual(decoded.photometric_interpretation, photometric)

    def test_one_bit(self) -> None:
        """Pixels of one bit are packed, and frames need not start at a byte."""
        pixels = grey(3, 5, bits_allocated=1, bits_stored=1, high_bit=0, number_of_frames=3)
        bits = np.random.default_rng(2).integers(0, 2, (3, 3, 5), "u1")
        data = image(pixels, np.packbits(bits.reshape(-1), bitorder="little").tobytes())
        for number in range(3):
            self.check(data, bits[number], number)

    def test_bits(self) -> None:
        """Unused bits are cleared, or have the sign, wherever the stored ones lie."""
        for allocated, stored, high, signed in (
            *((8, 8, 7, False), (8, 6, 5, False), (8, 8, 7, True), (8, 5, 6, True)),
            *((16, 12, 11, False), (16, 12, 15, False), (16, 12, 11, True), (16, 13, 14, True), (16, 8, 7, False)),
            *((32, 32, 31, False), (32, 24, 23, True), (64, 64, 63, False), (32, 20, 31, True)),
        ):
            pixels = grey(bits_allocated=allocated, bits_stored=stored, high_bit=high, is_signed=signed)
            rubbish = np.random.default_rng(3).integers(0, 1 << min(allocated, 62), (4, 6), "u8")
            values = rubbish >> (high + 1 - stored) & ((1 << stored) - 1)
            expected = values.astype("i8")
            if signed:
                expected = np.where(expected >> (stored - 1) & 1, expected - (1 << stored), expected)
            data = image(pixels, rubbish.astype(f"<u{allocated // 8}").tobytes())
            self.check(data, expected)
            size = 1 if stored <= 8 else 2 if stored <= 16 else 4 if stored <= 32 else 8
            self.assertEqual(frame(data).pixels.dtype, np.dtype(f"{'i' if signed else 'u'}{size}"))

    def test_planes(self) -> None:
        """Samples of a pixel are together, whether the file has them so or in planes."""
        pixels = coloured()
        values = wave(pixels)
        self.check(image(pixels, values.tobytes()), values, photometric="RGB")
        planes = attrs.evolve(pixels, planar_configuration=1)
        self.check(image(planes, values.transpose(2, 0, 1).tobytes()), values)

    def test_subsampled(self) -> None:
        """Of YBR_FULL_422 two pixels share their colour; a file that has all samples is taken as it is."""
        pixels = coloured(2, 4, photometric_interpretation="YBR_FULL_422", number_of_frames=2)
        packed = np.arange(32, dtype="u1").reshape(2, 4, 4)
        expected = np.stack(
            [packed[:, :, :2].reshape(2, 8), packed[:, :, 2].repeat(2, 1), packed[:, :, 3].repeat(2, 1)], -1
        )
        data = image(pixels, packed.tobytes())
        for number in range(2):
            self.check(data, expected[number].reshape(2, 4, 3), number, "YBR_FULL")
        full = np.arange(48, dtype="u1").reshape(2, 2, 4, 3)
        self.check(image(pixels, full.tobytes()), full[1], 1, "YBR_FULL")

    def test_palette(self) -> None:
        """Indexes into a palette stay indexes."""
        pixels = grey(photometric_interpretation="PALETTE COLOR")
        self.check(image(pixels, wave(pixels).tobytes()), wave(pixels), photometric="PALETTE COLOR")

    def test_floats(self) -> None:
        """FloatPixelData and DoubleFloatPixelData are decoded with all of their frames."""
        for bits, tag, vr, kind in ((32, 0x7FE00008, "OF", "f4"), (64, 0x7FE00009, "OD", "f8")):
            pixels = grey(bits_allocated=bits, bits_stored=bits, high_bit=bits - 1, number_of_frames=2)
            values = np.random.default_rng(4).normal(size=(2, 4, 6)).astype(kind)
            self.check(image(pixels, values.tobytes(), tag=tag, vr=vr), values[1], 1)

    def test_encodings(self) -> None:
        """Big endian and deflated data sets hold the same pixels; bytes may lie in words of big endian."""
        for name, data, header in samples(200_000):
            if header.transfer_syntax in (BIG_ENDIAN, DEFLATED):
                self.assertGreater(frame(data).pixels.max(), 0, name)
        pixels = grey(3, 3, number_of_frames=2)
        values = np.arange(18, dtype="u1")
        swapped = values.view("<u2").byteswap().tobytes()
        for number in range(2):
            request = content_request(scan(image(pixels, swapped)), 10_000, number)
            request |= {"Order": ">", "TransferSyntax": BIG_ENDIAN}
            found = load_frame(request, image(pixels, swapped)).pixels
            np.testing.assert_array_equal(found, values.reshape(2, 3, 3)[number])

    def test_storage_compression(self) -> None:
        """A child reads files of the storage area, plain or compressed, with the header that the index keeps."""
        pixels = grey(40, 60, number_of_frames=3)
        values = np.random.default_rng(5).integers(0, 256, (3, 40, 60), "u1")
        data = image(pixels, values.tobytes())
        header = decode(encode(scan(data)))
        for compression, stored in (
            (Compression.NONE, data),
            (Compression.ZLIB_WITH_SIZE, b"".join(compress(iter((data,)), len(data)))),
        ):
            path = Path(self.mktemp())
            path.write_bytes(stored)
            attachment = Attachment(
                content_type=1,
                uuid="",
                size=len(data),
                md5="",
                compression=compression,
                compressed_size=len(stored),
                compressed_md5="",
            )
            for number in (2, 0):
                found = load_frame(frame_request(header, attachment, str(path), number)).pixels
                np.testing.assert_array_equal(found, values[number])
            path.write_bytes(stored[: len(stored) // 2])
            with self.assertRaises(CorruptedFile):
                load_frame(frame_request(header, attachment, str(path), 2))

    def test_deflated(self) -> None:
        """Frames of a deflated data set are found in what is inflated of it."""
        pixels = grey(30, 40, number_of_frames=2)
        values = np.random.default_rng(6).integers(0, 256, (2, 30, 40), "u1")
        plain = image(pixels, values.tobytes(), DEFLATED)
        start = plain.index(b"\x08\x00\x16\x00UI")
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = plain[:start] + deflater.compress(plain[start:]) + deflater.flush()
        for number in range(2):
            self.check(data, values[number], number)


class StreamTests(SynchronousTestCase):
    """Compressed frames."""

    def test_tables(self) -> None:
        """What is declared as decodable is what there are decoders for."""
        self.assertEqual(set(codecs.DECODERS), DECODABLE)

    def test_new_codecs(self) -> None:
        """HTJ2K and JPEG XL, which no sample has in all forms, give back what was encoded."""
        encoders: dict[str, Callable[[Any], bytes]] = {
            **dict.fromkeys(HTJ2K[:2], lambda values: bytes(imagecodecs.htj2k_encode(values, reversible=True))),
            JPEG_XL[0]: lambda values: bytes(imagecodecs.jpegxl_encode(values, lossless=True)),
            JPEG_XL[2]: lambda values: bytes(imagecodecs.jpegxl_encode(values, lossless=True, usecontainer=True)),
        }
        for syntax, encoder in encoders.items():
            for pixels in (
                grey(64, 48),
                grey(37, 53, bits_allocated=16, bits_stored=12, high_bit=11),
                grey(300, 600, bits_allocated=16, bits_stored=16, high_bit=15),
                coloured(61, 47),
            ):
                values = wave(pixels)
                decoded = frame(image(pixels, [encoder(values)], syntax))
                np.testing.assert_array_equal(decoded.pixels, values)

    def test_recompressed_jpeg(self) -> None:
        """JPEG within JPEG XL is decoded to RGB."""
        pixels = coloured(64, 48, photometric_interpretation="YBR_FULL_422")
        values = wave(attrs.evolve(pixels, photometric_interpretation="RGB"))
        stream = bytes(imagecodecs.jpegxl_encode_jpeg(imagecodecs.jpeg8_encode(values, 95, subsampling="444")))
        decoded = frame(image(pixels, [stream], JPEG_XL[1]))
        self.assertEqual(decoded.photometric_interpretation, "RGB")
        self.assertLess(abs(decoded.pixels.astype(int) - values).mean(), 4)

    def fragments(self, count: int) -> tuple[PixelFormat, list[bytes], Any]:
        """Frames as JPEG-LS, each in two fragments."""
        pixels = grey(40, 50, number_of_frames=count)
        values = np.stack([np.roll(wave(grey(40, 50)), shift) for shift in range(count)])
        streams = [bytes(imagecodecs.jpegls_encode(plane)) for plane in values]
        return pixels, [part for stream in streams for part in (stream[:100], stream[100:])], values

    def test_fragments(self) -> None:
        """Frames of several fragments are found by the offset table, and without one by the ends of streams."""
        pixels, parts, values = self.fragments(3)
        offsets, position = [], 0
        for index, part in enumerate(parts):
            if index % 2 == 0:
                offsets.append(position)
            position += len(part) + len(part) % 2 + 8
        right = np.array(offsets, "<u4").tobytes()
        lying = np.array([0, 7, 9], "<u4").tobytes()
        short = right[:8]
        beyond = np.array([0, offsets[1], 1 << 30], "<u4").tobytes()
        for table in (b"", right, lying, short, beyond):
            np.testing.assert_array_equal(frames(image(pixels, parts, JPEG_LS_LOSSLESS, table=table)), values)

    def test_single_frame_of_fragments(self) -> None:
        """All fragments of an object with one frame belong to it."""
        pixels, parts, values = self.fragments(1)
        cut = [parts[0], parts[1][:50], parts[1][50:]]
        np.testing.assert_array_equal(frames(image(pixels, cut, JPEG_LS_LOSSLESS)), values)

    def test_adobe_marker(self) -> None:
        """A stream that says what its colours are is believed; else the header is."""
        values = wave(coloured(32, 32))
        as_rgb = bytes(imagecodecs.jpeg8_encode(values, 98, colorspace="RGB", outcolorspace="RGB"))
        as_ycc = bytes(imagecodecs.jpeg8_encode(values, 98, subsampling="444"))
        for stream, photometric in ((as_rgb, "YBR_FULL_422"), (as_rgb, "RGB"), (as_ycc, "YBR_FULL")):
            pixels = coloured(32, 32, photometric_interpretation=photometric)
            decoded = frame(image(pixels, [stream], JPEG_BASELINE))
            self.assertEqual(decoded.photometric_interpretation, "RGB")
            self.assertLess(abs(decoded.pixels.astype(int) - values).max(), 30)

    def test_missing_package(self) -> None:
        """Without its package a codec names it."""
        codecs.imagecodecs.cache_clear()
        self.addCleanup(codecs.imagecodecs.cache_clear)
        with mock.patch.dict(sys.modules, {"imagecodecs": None}), self.assertRaises(NotImplementedHere) as caught:
            frame(image(grey(), [b"x"], RLE))
        self.assertIn("imagecodecs", caught.exception.details)

    def test_unknown_syntax(self) -> None:
        """A transfer syntax that nobody decodes is said to be one."""
        with self.assertRaises(NotImplementedHere):
            frame(image(grey(), [b"x"], "1.2.840.10008.1.2.4.100"))


def _streams() -> dict[str, tuple[PixelFormat, bytes]]:
    """A good stream for each codec."""
    small, deep = grey(64, 64), grey(64, 64, bits_allocated=16, bits_stored=12, high_bit=11)
    values, deep_values = wave(small), wave(deep)
    return {
        JPEG_BASELINE: (small, bytes(imagecodecs.jpeg8_encode(values, 90))),
        JPEG_EXTENDED: (deep, bytes(imagecodecs.jpeg8_encode(deep_values, 90, bitspersample=12))),
        JPEG_LOSSLESS: (deep, bytes(imagecodecs.jpeg8_encode(deep_values, lossless=True, bitspersample=12))),
        JPEG_LS_LOSSLESS: (small, bytes(imagecodecs.jpegls_encode(values))),
        JPEG_2000_LOSSLESS: (small, bytes(imagecodecs.jpeg2k_encode(values, codecformat="J2K"))),
        HTJ2K[0]: (small, bytes(imagecodecs.htj2k_encode(values, reversible=True))),
        JPEG_XL[0]: (small, bytes(imagecodecs.jpegxl_encode(values, lossless=True))),
        RLE: (small, encode_rle(values, imagecodecs)),
    }


class HostileTests(SynchronousTestCase):
    """What must fail, clearly and before it costs anything."""

    def refusal(self, data: bytes, number: int = 0) -> OrthancError:
        with self.assertRaises(OrthancError) as caught:
            frame(data, number)
        self.assertNotEqual(caught.exception.details, "")
        return caught.exception

    def test_no_such_frame(self) -> None:
        """A frame beyond the last is out of range, or missing."""
        data = image(grey(number_of_frames=2), bytes(48))
        for number in (2, -1, 1 << 40):
            self.assertIsInstance(self.refusal(data, number), ParameterOutOfRange)
        self.assertIsInstance(self.refusal(image(grey(number_of_frames=9), bytes(48)), 5), BadFileFormat)
        self.assertIsInstance(self.refusal(image(grey(number_of_frames=3), [b"ab"], RLE), 2), BadFileFormat)
        self.assertIsInstance(self.refusal(image(grey(number_of_frames=1 << 31), bytes(48)), 1 << 30), BadFileFormat)

    def test_no_image(self) -> None:
        """Descriptions that contradict themselves are refused."""
        for pixels in (
            *(grey(0, 6), grey(4, 0)),
            *(grey(photometric_interpretation="NOTHING"), grey(photometric_interpretation="")),
            *(grey(samples_per_pixel=3), grey(samples_per_pixel=0), coloured(samples_per_pixel=2)),
            *(grey(bits_allocated=12), grey(bits_allocated=0), grey(bits_stored=0), grey(bits_stored=9)),
            *(grey(high_bit=8), grey(high_bit=3), grey(bits_allocated=65535, bits_stored=65535, high_bit=65534)),
        ):
            self.refusal(image(pixels, bytes(100)))
        self.refusal(image(grey(), b""))

    def test_too_short(self) -> None:
        """Pixel data that the dimensions do not fit in is refused."""
        self.refusal(image(grey(50, 50), bytes(2498)))
        self.refusal(image(coloured(planar_configuration=1), bytes(70)))
        self.refusal(image(grey(1, 9, bits_allocated=1, bits_stored=1, high_bit=0, number_of_frames=2), bytes(2)), 1)

    def test_announced(self) -> None:
        """60000 x 60000 pixels in 1 kB are refused before anything is allocated, by every codec."""
        huge = {"rows": 60000, "columns": 60000}
        self.refusal(image(grey(**huge), bytes(1000)))
        for syntax in DECODABLE:
            self.refusal(image(grey(**huge), [bytes(1000)], syntax))
        # Less than the limit for one frame, and more than a stream of this length can hold.
        large = {"rows": 30000, "columns": 30000}
        for syntax, (pixels, stream) in _streams().items():
            self.refusal(image(attrs.evolve(pixels, **large), [stream], syntax))
        for syntax in (JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LS_LOSSLESS):
            pixels, stream = _streams()[syntax]
            start = min(stream.find(marker) % (1 << 30) for marker in _FRAME_MARKERS)
            forged = stream[: start + 5] + b"\x75\x30\x75\x30" + stream[start + 9 :]
            self.refusal(image(attrs.evolve(pixels, **large), [forged], syntax))
        pixels, stream = _streams()[JPEG_2000_LOSSLESS]
        forged = stream[:8] + b"\0\0\x75\x30" * 2 + stream[16:24] + b"\0\0\x75\x30" * 2 + stream[32:]
        self.refusal(image(attrs.evolve(pixels, **large), [forged], JPEG_2000_LOSSLESS))

    def test_other_size(self) -> None:
        """A stream of another size, or other samples, than the header tells is refused."""
        for syntax, (pixels, stream) in _streams().items():
            # RLE tells no size: a segment is too long.
            self.refusal(image(attrs.evolve(pixels, rows=32), [stream], syntax))
            if syntax != RLE:
                three = attrs.evolve(pixels, samples_per_pixel=3, photometric_interpretation="RGB")
                self.refusal(image(three, [stream], syntax))

    def test_truncated(self) -> None:
        """Streams that are cut off are refused, wherever that is."""
        for syntax, (pixels, stream) in _streams().items():
            for length in (0, 1, 3, 10, 40, len(stream) // 2, len(stream) - 8):
                with self.subTest(syntax=syntax, length=length):
                    self.refusal(image(pixels, [stream[:length]], syntax))

    def test_rle(self) -> None:
        """RLE that reads or writes past its end, or whose segments lie elsewhere, is refused."""
        pixels, stream = _streams()[RLE]
        header, packed = stream[:64], stream[64:]
        for wrong in (
            header + b"\x7fabc",
            header + packed[: len(packed) // 2] + b"\x7f\x7f",
            header + b"\x81\0" * 4000,
            b"\x02" + stream[1:],
            b"\x00" + stream[1:],
            b"\xff" * 64 + packed,
            header[:4] + b"\x00\x00\x01\x00" + header[8:] + packed,
            header[:4] + b"\x04\x00\x00\x00" + header[8:] + packed,
        ):
            self.refusal(image(pixels, [wrong], RLE))

    def test_fragment_of_nowhere(self) -> None:
        """A request that does not fit its file is refused."""
        data = image(grey(), bytes(24))
        for fragments in ([[0, 1 << 62]], [[1 << 62, 24]], [[-5, 24]], [[10, 24], [0, 24]], [[len(data) - 10, 24]]):
            request = content_request(scan(data), len(data), 0) | {"Fragments": fragments}
            with self.assertRaises(OrthancError):
                load_frame(request, data)


class CorruptTests(TestCase):
    """Streams with wrong bytes in them, in a child: some codecs would rather crash."""

    async def test_corrupt(self) -> None:
        """Whatever is wrong in a stream, the answer is an error or a frame of the right size, and children go on."""
        pool = ProcessPool(
            reactor, ("-m", "orthanctw.dicom.pixels.child"), size=2, memory=2 << 30, timeout=60
        )
        self.addCleanup(pool.close)
        random = np.random.default_rng(7)
        for syntax, (pixels, stream) in _streams().items():
            for _ in range(12):
                wrong = bytearray(stream)
                for place in random.integers(0, len(stream), 4):
                    wrong[place] = random.integers(0, 256)
                data = image(pixels, [bytes(wrong)], syntax)
                try:
                    header, content = await pool.call("decode", content_request(scan(data), len(data), 0), data)
                except OrthancError as e:
                    self.assertNotEqual(e.details, "")
                else:
                    self.assertEqual(header["Shape"], [64, 64])
                    self.assertEqual(len(content), 64 * 64 * (pixels.bits_allocated // 8))
        good, stream = _streams()[JPEG_BASELINE]
        data = image(good, [stream], JPEG_BASELINE)
        header, content = await pool.call("decode", content_request(scan(data), len(data), 0), data)
        self.assertEqual((header["Type"], len(content)), ("|u1", 64 * 64))


    async def test_memory(self) -> None:
        """An image that needs more memory than a child may have fails by itself; the child goes on."""
        pool = ProcessPool(
            reactor, ("-m", "orthanctw.dicom.pixels.child"), size=1, memory=400 << 20, timeout=60
        )
        self.addCleanup(pool.close)
        side = 14_000
        packed = b"\x81\0" * (side * side // 128)
        stream = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + packed
        data = image(grey(side, side), [stream], RLE)
        with self.assertRaises(OrthancError) as caught:
            await pool.call("decode", content_request(scan(data), len(data), 0), data)
        self.assertEqual(caught.exception.code, ErrorCode.NOT_ENOUGH_MEMORY)
        (pid,) = pool.pids
        small = image(grey(), bytes(24))
        await pool.call("decode", content_request(scan(small), len(small), 0), small)
        self.assertEqual(pool.pids, [pid])


class LazyTests(SynchronousTestCase):
    def test_no_numpy(self) -> None:
        """The server does not import numpy or a codec: only its children do."""
        program = "import sys, orthanctw.server; print([m for m in ('numpy', 'imagecodecs') if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.strip(), "[]")

    def test_no_twisted(self) -> None:
        """A child does not import Twisted: it starts quickly."""
        program = "import sys, orthanctw.dicom.pixels.child; print('twisted' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.strip(), "False")


class FormatTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        """A description with words where numbers belong is refused; what is missing has its usual value."""
        data = image(grey(), bytes(24))
        header = scan(data)
        self.assertEqual(pixel_format(header), grey())
        elements = [e for e in header.elements if e[0] not in (0x00280008, 0x00280101, 0x00280102, 0x00280006)]
        self.assertEqual(pixel_format(attrs.evolve(header, elements=elements)), grey())
        wrong = [*(e for e in header.elements if e[0] != 0x00280010), (0x00280010, "US", "x")]
        with self.assertRaises(BadFileFormat):
            pixel_format(attrs.evolve(header, elements=wrong))

    def test_direct(self) -> None:
        """A frame can be decoded from its bytes alone."""
        values = wave(grey(8, 8))
        np.testing.assert_array_equal(decode_frame(grey(8, 8), "1.2.840.10008.1.2", values.tobytes()).pixels, values)
        stream = bytes(imagecodecs.jpeg2k_encode(values, codecformat="JP2"))
        np.testing.assert_array_equal(decode_frame(grey(8, 8), JPEG_2000, stream).pixels, values)
