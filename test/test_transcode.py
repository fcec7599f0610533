"""Transcoding: what is lossless, what may be lost, what others read of it, and the transcoder of the server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, Final

import attrs
import numpy as np
import pydicom
from pydicom import dcmread
from pydicom.encaps import parse_basic_offsets
from pydicom.filebase import DicomBytesIO
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from orthanctw.dicom.elements import EXPLICIT_BIG_ENDIAN, EXPLICIT_LITTLE_ENDIAN
from orthanctw.dicom.pixels.encode import ENCODERS, encoder_for
from orthanctw.dicom.pixels.model import PixelFormat
from orthanctw.dicom.pixels.syntaxes import (
    ENCODABLE,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    JPEG_XL,
    LOSSY,
    NATIVE,
    RLE,
)
from orthanctw.dicom.pixels.transcode import transcode_operation
from orthanctw.dicom.scanner import ScannedFile, inflate, meta_end, scan
from orthanctw.dicom.transcode import NativeTranscoder
from orthanctw.dicom.transcoder import CodecTranscoder
from orthanctw.errors import OrthancError
from orthanctw.processes import ProcessPool
from orthanctw.remote import Outgoing
from orthanctw.threads import NamedPool
from test.dicom_case import DicomCase
from test.dicom_files import DEFLATED, EXPLICIT, IMPLICIT, element
from test.dicom_peers import run
from test.pixel_samples import (
    INSTANCE,
    SECONDARY_CAPTURE,
    coloured,
    frame,
    frames,
    grey,
    image,
    name_of,
    samples,
    wave,
)
from test.scu_case import program
from test.servers import PATIENCE, ServerProcess, free_port, wait_until
from test.test_processes import is_alive

#: What may change, since the pixels are described by it: photometric interpretation, planes, bits.
_DESCRIPTION: Final = {0x00280004, 0x00280006, 0x00280101, 0x00280102}
_OFFSETS: Final = {0x7FE00001, 0x7FE00002, 0x7FE00003}
_PIXEL_DATA: Final = 0x7FE00010


def request(targets: list[str], **fields: Any) -> dict[str, Any]:
    usual = {"Path": "", "StorageCompression": 1, "Quality": 90, "AllowsNewUid": True, "Output": "", "Threshold": 0}
    return {"Targets": targets, "Dictionary": "", **usual, **fields}


def transcoded(data: bytes, target: str, **fields: Any) -> bytes | None:
    """An object in another transfer syntax, as a child makes it; None when that is not possible."""
    header, content = transcode_operation(request([target], **fields), data)
    return content if header["TransferSyntax"] == target else None


def values(data: bytes, scanned: ScannedFile) -> Iterator[tuple[tuple[int, ...], object]]:
    """Every value by its place, but for pixels, group lengths and what describes pixels."""
    body = inflate(data, meta_end(data)) if scanned.transfer_syntax == DEFLATED else data

    def walk(elements: list[Any], path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], object]]:
        for found in elements:
            tag = found[0]
            if not tag & 0xFFFF or (not path and tag in _DESCRIPTION | _OFFSETS | {_PIXEL_DATA}):
                continue
            if len(found) == 4:
                yield (*path, tag), bytes(body[found[2] : found[2] + found[3]])
            elif isinstance(found[2], list):
                for number, item in enumerate(found[2]):
                    yield from walk(item, (*path, tag, number))
            else:
                yield (*path, tag), found[2] or ""

    return walk(scanned.elements, ())


class LosslessTests(SynchronousTestCase):
    """What loses nothing."""

    def test_tables(self) -> None:
        """What is declared as encodable is what there are encoders for."""
        self.assertEqual(set(ENCODERS), ENCODABLE)

    def test_samples(self) -> None:
        """In each syntax that can hold it an image keeps its pixels and all other values, and others can read it."""
        done: set[tuple[str, str]] = set()
        kinds: dict[Any, int] = {}
        for name, data, header in samples(400_000):
            try:
                expected = frames(data)
                pixels = frame(data).format
            except OrthancError:
                continue
            kind = (header.transfer_syntax, attrs.evolve(pixels, rows=1, columns=1))
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] > 1:
                continue
            for target in sorted(ENCODABLE - LOSSY | NATIVE):
                content = transcoded(data, target) if target != header.transfer_syntax else None
                if content is not None:
                    self.check(f"{name} {header.transfer_syntax} {target}", data, content, expected)
                    done.add((header.transfer_syntax, target))
        self.assertGreater(len(done), 80)

    def check(self, name: str, data: bytes, content: bytes, expected: Any) -> None:
        before, after = scan(data), scan(content)
        np.testing.assert_array_equal(frames(content), expected, name)
        was, now = dict(values(data, before)), dict(values(content, after))
        for place in sorted(was.keys() | now.keys()):
            old, new = was.get(place), now.get(place)
            if isinstance(old, bytes) and isinstance(new, bytes) and before.order != after.order:
                self.assertEqual(sorted(old), sorted(new), (name, place))
            elif IMPLICIT in name.split() and not (isinstance(old, str) and isinstance(new, str)):
                # What only one of the two knows to be a sequence, or text.
                continue
            elif isinstance(old, str) and isinstance(new, str) and old != new and IMPLICIT in name.split():
                # Without VRs a signed number is read as an unsigned one.
                words = [[int(part) & 0xFFFF for part in text.split("\\")] for text in (old, new)]
                self.assertEqual(words[0], words[1], (name, place))
            else:
                self.assertEqual(old, new, (name, [name_of(tag) for tag in place]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = dcmread(DicomBytesIO(content)).pixel_array
        self.assertEqual(pixels.size, expected.size, name)

    def test_forms(self) -> None:
        """Pixels of any bits, sign and samples survive each syntax; what a syntax cannot hold it does not get."""
        for pixels in (
            *(grey(37, 53), grey(37, 53, is_signed=True), grey(37, 53, bits_stored=6, high_bit=5)),
            *(grey(37, 53, bits_allocated=16, bits_stored=bits, high_bit=bits - 1) for bits in (9, 10, 12, 16)),
            *(
                grey(37, 53, bits_allocated=16, bits_stored=bits, high_bit=bits - 1, is_signed=True)
                for bits in (12, 16)
            ),
            *(coloured(37, 53), coloured(37, 53, photometric_interpretation="YBR_FULL")),
            coloured(37, 53, bits_allocated=16, bits_stored=16, high_bit=15),
            grey(37, 53, photometric_interpretation="PALETTE COLOR"),
            grey(37, 53, bits_allocated=32, bits_stored=32, high_bit=31),
        ):
            raw = wave(pixels).astype(f"<{'i' if pixels.is_signed else 'u'}{pixels.bits_allocated // 8}").tobytes()
            data = image(pixels, raw + bytes(len(raw) % 2))
            for target in ENCODABLE - LOSSY:
                content = transcoded(data, target)
                if pixels.bits_allocated == 32 and target != RLE:
                    self.assertIsNone(content)
                    continue
                assert content is not None
                np.testing.assert_array_equal(frames(content)[0], wave(pixels), f"{pixels} {target}")
                back = transcoded(content, EXPLICIT)
                assert back is not None
                np.testing.assert_array_equal(frames(back)[0], wave(pixels))

    def test_one_bit(self) -> None:
        """Pixels of one bit go through all native syntaxes, and are not compressed."""
        pixels = grey(3, 5, bits_allocated=1, bits_stored=1, high_bit=0, number_of_frames=3)
        data = image(pixels, bytes([0xA5, 0x3C, 0x77, 0x01, 0xFE, 0]))
        for target in NATIVE - {EXPLICIT}:
            np.testing.assert_array_equal(frames(transcoded(data, target) or b""), frames(data))
        for target in ENCODABLE:
            self.assertIsNone(transcoded(data, target))

    def test_offset_tables(self) -> None:
        """Objects of several frames get a basic offset table, and lose an extended one."""
        pixels = grey(20, 20, number_of_frames=4)
        planes = np.random.default_rng(1).integers(0, 256, (4, 20, 20), "u1")
        planes[1:3] = 7
        data = image(pixels, planes.tobytes())
        place = data.index(b"\xe0\x7f\x10\x00OW")
        table = np.array([0, 1, 2, 3], "<u8").tobytes()
        data = data[:place] + element(0x7FE00001, "OV", table) + element(0x7FE00002, "OV", table) + data[place:]
        content = transcoded(data, RLE)
        assert content is not None
        np.testing.assert_array_equal(frames(content), planes)
        dataset = dcmread(DicomBytesIO(content))
        self.assertNotIn("ExtendedOffsetTable", dataset)
        offsets = parse_basic_offsets(dataset.PixelData)
        self.assertEqual(len(offsets), 4)
        facts = scan(content).pixels
        assert facts is not None
        self.assertEqual([place - 8 - facts.offset - 8 - 16 for ((place, _),) in map(facts.frame, range(4))], offsets)

    def test_what_follows(self) -> None:
        """Elements behind the pixel data stay there."""
        content = transcoded(image(grey(), bytes(24)), JPEG_LS_LOSSLESS)
        assert content is not None
        self.assertEqual(content[-16:], image(grey(), bytes(24))[-16:])

    def test_no_image(self) -> None:
        """An object without pixels only changes its encoding."""
        data = image(grey(), bytes(24))
        start = data.index(b"\xe0\x7f\x10\x00OW")
        for target in NATIVE - {EXPLICIT}:
            content = transcoded(data[:start], target)
            assert content is not None
            self.assertEqual(scan(content).text(0x00100010), "A^B")
        self.assertIsNone(transcoded(data[:start], JPEG_LS_LOSSLESS))

    def test_first_possible(self) -> None:
        """The first of several syntaxes that is possible is taken."""
        pixels = grey(bits_allocated=32, bits_stored=32, high_bit=31)
        data = image(pixels, bytes(96))
        targets = ["1.2.840.10008.1.2.4.100", JPEG_LS_LOSSLESS, JPEG_XL[0], RLE, EXPLICIT_BIG_ENDIAN]
        self.assertEqual(transcode_operation(request(targets), data)[0]["TransferSyntax"], RLE)
        video = image(grey(), [b"ab"], "1.2.840.10008.1.2.4.100")
        self.assertEqual(transcode_operation(request([EXPLICIT, RLE]), video)[0], {"TransferSyntax": None})

    def test_hostile(self) -> None:
        """What cannot be decoded fails, and leaves no file."""
        folder = Path(self.mktemp())
        folder.mkdir()
        header = request([EXPLICIT], Output=str(folder / "out"))
        for data in (
            image(grey(60000, 60000), [bytes(1000)], RLE),
            image(grey(40, 40, number_of_frames=3), [bytes(1000)] * 3, RLE),
            image(grey(0, 0), [bytes(10)], RLE),
            b"nothing",
            b"",
        ):
            with self.assertRaises(OrthancError):
                transcode_operation(header, data)
        self.assertEqual(os.listdir(folder), [])
        good = encoder_for(RLE, grey(40, 40), "MONOCHROME2", 90)
        assert good is not None
        half = [good.encode(wave(grey(40, 40))), bytes(1000)]
        with self.assertRaises(OrthancError):
            transcode_operation(header, image(grey(40, 40, number_of_frames=2), half, RLE))
        self.assertEqual(os.listdir(folder), [])


class LossyTests(SynchronousTestCase):
    """What loses something, within limits."""

    def lossy(self, pixels: PixelFormat, target: str, quality: int = 90, before: bytes = b"") -> pydicom.Dataset:
        raw = wave(pixels).tobytes()
        data = image(pixels, raw + bytes(len(raw) % 2))
        place = data.index(b"\xe0\x7f\x10\x00OW")
        content = transcoded(data[:place] + before + data[place:], target, Quality=quality)
        assert content is not None
        found = dcmread(DicomBytesIO(content))
        decoded = frames(content)[0].astype(int)
        reference = wave(pixels).astype(int)
        found.difference = float(abs(decoded - reference).max()) / (1 << pixels.bits_stored)
        found.size = len(content)
        return found

    def test_what_is_lost(self) -> None:
        """Each lossy syntax keeps values within some percent, and names itself in a new instance."""
        deep = grey(128, 96, bits_allocated=16, bits_stored=12, high_bit=11)
        for pixels, target, method, photometric, most in (
            (grey(128, 96), JPEG_BASELINE, "ISO_10918_1", "MONOCHROME2", 0.06),
            (coloured(128, 96), JPEG_BASELINE, "ISO_10918_1", "YBR_FULL_422", 0.12),
            (grey(128, 96), JPEG_EXTENDED, "ISO_10918_1", "MONOCHROME2", 0.06),
            (deep, JPEG_EXTENDED, "ISO_10918_1", "MONOCHROME2", 0.03),
            (deep, JPEG_LS_NEAR_LOSSLESS, "ISO_14495_1", "MONOCHROME2", 0.001),
            (attrs.evolve(deep, is_signed=True), JPEG_LS_NEAR_LOSSLESS, "ISO_14495_1", "MONOCHROME2", 0.001),
            (deep, JPEG_2000, "ISO_15444_1", "MONOCHROME2", 0.02),
            (attrs.evolve(deep, is_signed=True), JPEG_2000, "ISO_15444_1", "MONOCHROME2", 0.02),
            (coloured(128, 96), JPEG_2000, "ISO_15444_1", "YBR_ICT", 0.05),
        ):
            found = self.lossy(pixels, target)
            self.assertLess(found.difference, most, (target, pixels))
            self.assertTrue(found.SOPInstanceUID.startswith("2.25."))
            self.assertEqual(found.SOPInstanceUID, found.file_meta.MediaStorageSOPInstanceUID)
            self.assertEqual(found.LossyImageCompression, "01")
            self.assertEqual(list(found.ImageType), ["DERIVED", "SECONDARY"])
            self.assertEqual(found.SourceImageSequence[0].ReferencedSOPInstanceUID, INSTANCE)
            self.assertIn(method, found.DerivationDescription)
            self.assertEqual(found.LossyImageCompressionMethod, method)
            self.assertGreater(found.LossyImageCompressionRatio, 1)
            self.assertEqual(found.PhotometricInterpretation, photometric)
            self.assertEqual(found.file_meta.TransferSyntaxUID, target)

    def test_history(self) -> None:
        """What was lost before stays in the header, and the new loss comes after it."""
        before = element(0x00282110, "CS", "01") + element(0x00282112, "DS", "9.5")
        before += element(0x00282114, "CS", "ISO_15444_1")
        found = self.lossy(grey(64, 64), JPEG_BASELINE, before=before)
        self.assertEqual(list(found.LossyImageCompressionMethod), ["ISO_15444_1", "ISO_10918_1"])
        self.assertEqual(found.LossyImageCompressionRatio[0], 9.5)
        self.assertEqual(len(found.LossyImageCompressionRatio), 2)

    def test_quality(self) -> None:
        """Less quality makes smaller objects."""
        for target in (JPEG_BASELINE, JPEG_2000):
            sizes = [self.lossy(grey(128, 128), target, quality).size for quality in (20, 60, 95)]
            self.assertEqual(sizes, sorted(sizes))
            self.assertEqual(len(set(sizes)), 3)

    def test_more_bits(self) -> None:
        """12-bit JPEG of fewer bits stored says that it has 12: losses may need them."""
        found = self.lossy(grey(64, 64, bits_allocated=16, bits_stored=10, high_bit=9), JPEG_EXTENDED)
        self.assertEqual((found.BitsStored, found.HighBit, found.BitsAllocated), (12, 11, 16))

    def test_refused(self) -> None:
        """Nothing is lost without leave for a new instance, nor of what a syntax would ruin."""
        data = image(grey(), bytes(24))
        for target in LOSSY:
            self.assertIsNone(transcoded(data, target, AllowsNewUid=False))
        for pixels, target in (
            (grey(is_signed=True), JPEG_BASELINE),
            (grey(bits_allocated=16, bits_stored=12, high_bit=11), JPEG_BASELINE),
            (grey(bits_allocated=16, bits_stored=16, high_bit=15), JPEG_EXTENDED),
            (grey(photometric_interpretation="PALETTE COLOR"), JPEG_BASELINE),
            (grey(photometric_interpretation="PALETTE COLOR"), JPEG_2000),
            (grey(photometric_interpretation="PALETTE COLOR"), JPEG_LS_NEAR_LOSSLESS),
        ):
            self.assertIsNone(transcoded(image(pixels, wave(pixels).tobytes()), target))


class DcmtkTests(SynchronousTestCase):
    """DCMTK reads what we write, and the other way round."""

    def convert(self, tool: str, data: bytes, *options: str) -> bytes:
        source, target = Path(self.mktemp()), Path(self.mktemp())
        source.write_bytes(data)
        ran = subprocess.run([tool, *options, str(source), str(target)], capture_output=True, check=False)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return target.read_bytes()

    def forms(self) -> Iterator[tuple[PixelFormat, bytes]]:
        for pixels in (
            grey(36, 52, number_of_frames=2),
            grey(36, 52, bits_allocated=16, bits_stored=12, high_bit=11),
            grey(36, 52, bits_allocated=16, bits_stored=16, high_bit=15, is_signed=True),
            coloured(36, 52),
        ):
            raw = wave(pixels).tobytes() * pixels.number_of_frames
            yield pixels, image(pixels, raw)

    def test_lossless_by_us(self) -> None:
        """dcmdjpeg, dcmdjpls and dcmdrle find the very pixels in what we have encoded."""
        for pixels, data in self.forms():
            for target, tool in (
                (JPEG_LOSSLESS, "dcmdjpeg"),
                (JPEG_LOSSLESS_SV1, "dcmdjpeg"),
                (JPEG_LS_LOSSLESS, "dcmdjpls"),
                (RLE, "dcmdrle"),
            ):
                content = transcoded(data, target)
                assert content is not None
                back = frames(self.convert(tool, content))
                np.testing.assert_array_equal(back, frames(data), f"{target} {pixels}")

    def test_lossy_by_us(self) -> None:
        """dcmdjpeg and dcmdjpls find the values in what we have encoded with losses that we find ourselves."""
        for pixels, data in self.forms():
            for target, tool in (
                (JPEG_BASELINE, "dcmdjpeg"),
                (JPEG_EXTENDED, "dcmdjpeg"),
                (JPEG_LS_NEAR_LOSSLESS, "dcmdjpls"),
            ):
                content = transcoded(data, target)
                if content is None:
                    continue
                back = frames(self.convert(tool, content)).astype(int)
                most = 40 if pixels.samples_per_pixel == 3 else 2
                self.assertLessEqual(abs(back - frames(content)).max(), most, f"{target} {pixels}")

    def test_by_dcmtk(self) -> None:
        """What DCMTK has encoded without losses has the very pixels here."""
        for pixels, data in self.forms():
            for tool, *options in (
                ("dcmcjpeg", "+e1"),
                ("dcmcjpeg", "+el", "+sv", "4"),
                ("dcmcjpls",),
                ("dcmcrle",),
            ):
                content = self.convert(tool, data, *options)
                np.testing.assert_array_equal(frames(content), frames(data), f"{tool} {options} {pixels}")

    def test_lossy_by_dcmtk(self) -> None:
        """JPEG that DCMTK has encoded in all its ways has nearly the pixels here."""
        for pixels, data in self.forms():
            if pixels.is_signed:
                continue
            ways: tuple[tuple[str, ...], ...] = (("+ee",),) if pixels.bits_allocated > 8 else (("+eb",), ("+ee",))
            for way in ways:
                content = self.convert("dcmcjpeg", data, *way)
                difference = abs(frames(content).astype(int) - frames(data))
                self.assertLess(difference.mean() / (1 << pixels.bits_stored), 0.03, f"{way} {pixels}")


class TranscoderTests(TestCase):
    """The transcoder of the server, with children."""

    def setUp(self) -> None:
        self.processes = ProcessPool(
            reactor, ("-m", "orthanctw.dicom.pixels.child"), size=1, memory=2 << 30, timeout=60
        )
        self.pool = NamedPool(reactor, "test-transcode", 1)  # type: ignore[arg-type]
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.addCleanup(self.processes.close)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.transcoder = CodecTranscoder(
            self.processes,
            self.pool,
            NativeTranscoder(self.pool),
            self.output,
            quality=90,
            threshold=100_000,
        )
        pixels = grey(400, 500)
        self.data = image(pixels, wave(pixels).tobytes())

    def output(self) -> str:
        return str(self.folder / "out")

    def outgoing(self, data: bytes, path: str = "") -> Outgoing:
        if path:
            Path(path).write_bytes(data)
        return Outgoing(
            sop_class_uid=SECONDARY_CAPTURE,
            sop_instance_uid=INSTANCE,
            transfer_syntax=scan(data).transfer_syntax,
            path=path,
            content=b"" if path else data,
        )

    async def idle(self) -> None:
        """Until the thread has done what it was told."""
        await self.pool.call(int)

    async def transcode(self, outgoing: Outgoing, *accepted: str, **options: Any) -> Outgoing:
        found: Outgoing | None = await self.transcoder.transcode(outgoing, accepted, **options)
        assert found is not None
        return found

    async def test_memory_and_files(self) -> None:
        """From bytes and from a file; results are bytes, or a temporary file where one is wanted and it is large."""
        for path in ("", str(self.folder / "in")):
            small = await self.transcode(self.outgoing(self.data, path), RLE, JPEG_LS_LOSSLESS)
            self.assertEqual((small.path, small.is_temporary, small.transfer_syntax), ("", False, RLE))
            back = await self.transcode(small, DEFLATED, EXPLICIT)
            np.testing.assert_array_equal(frames(back.content), frames(self.data))
            large = await self.transcode(small, EXPLICIT, spools=True)
            self.assertEqual((large.path, large.content, large.is_temporary), (self.output(), b"", True))
            np.testing.assert_array_equal(frames(Path(large.path).read_bytes()), frames(self.data))
            for one in (small, back, large):
                self.transcoder.release(one)
            await self.idle()
            self.assertFalse(os.path.exists(self.output()))

    async def test_nothing_to_do(self) -> None:
        """What the peer takes goes as it is; what is not possible needs no process."""
        outgoing = self.outgoing(self.data)
        self.assertIs(await self.transcode(outgoing, RLE, EXPLICIT), outgoing)
        for accepted in ((), JPEG_XL, ("1.2.840.10008.1.2.4.100",), tuple(LOSSY)):
            self.assertIsNone(await self.transcoder.transcode(outgoing, accepted))
        video = attrs.evolve(outgoing, transfer_syntax="1.2.840.10008.1.2.4.102")
        self.assertIsNone(await self.transcoder.transcode(video, (EXPLICIT,)))
        native = await self.transcode(outgoing, IMPLICIT)
        self.assertEqual(native.transfer_syntax, IMPLICIT)
        self.assertEqual(self.processes.pids, [])

    async def test_lossy(self) -> None:
        """With leave for it a lossy object comes back, as the instance that it now is."""
        lossy = await self.transcode(self.outgoing(self.data), JPEG_BASELINE, allows_new_uid=True, quality=30)
        better = await self.transcode(self.outgoing(self.data), JPEG_BASELINE, allows_new_uid=True)
        self.assertNotEqual(lossy.sop_instance_uid, INSTANCE)
        self.assertEqual(scan(lossy.content).text(0x00080018), lossy.sop_instance_uid)
        self.assertLess(len(lossy.content), len(better.content))

    async def test_large_native(self) -> None:
        """Objects too large for memory are encoded anew by a child, piece by piece, with the same result."""
        pixels = grey(2048, 1024, bits_allocated=16, bits_stored=16, high_bit=15, number_of_frames=5)
        data = image(pixels, np.arange(5 << 21, dtype="<u2").tobytes())
        large = await self.transcode(
            self.outgoing(data, str(self.folder / "in")), EXPLICIT_BIG_ENDIAN, EXPLICIT_LITTLE_ENDIAN, spools=True
        )
        if large.transfer_syntax == EXPLICIT_LITTLE_ENDIAN:
            large = await self.transcode(large, EXPLICIT_BIG_ENDIAN, spools=True)
        content = Path(large.path).read_bytes()
        facts = scan(content).pixels
        assert facts is not None
        found = np.frombuffer(content, ">u2", 5 << 21, facts.offset)
        np.testing.assert_array_equal(found, np.arange(5 << 21, dtype="u2"))

    async def failing(self, start: Callable[[], Deferred[Any]]) -> None:
        work = start()
        with self.assertRaises((OrthancError, CancelledError)):
            await work
        await self.idle()
        self.assertFalse(os.path.exists(self.output()))

    async def test_failures(self) -> None:
        """What fails leaves no file: an object that cannot be read, one that is gone, a child that dies."""
        compressed = await self.transcode(self.outgoing(self.data), RLE)

        def begin(outgoing: Outgoing) -> Callable[[], Deferred[Any]]:
            return lambda: self.transcoder.transcode(outgoing, (EXPLICIT,), spools=True)

        def killed() -> Deferred[Any]:
            work = begin(compressed)()
            os.kill(self.processes.pids[0], signal.SIGKILL)
            return work

        await self.failing(begin(attrs.evolve(compressed, content=compressed.content[:-3000])))
        await self.failing(begin(attrs.evolve(compressed, content=b"nothing")))
        await self.failing(begin(attrs.evolve(compressed, content=b"", path=str(self.folder / "gone"))))
        await self.failing(killed)

    async def test_given_up(self) -> None:
        """The file of a result that nobody waits for any more is removed."""
        compressed = await self.transcode(self.outgoing(self.data), RLE)
        work = self.transcoder.transcode(compressed, (EXPLICIT,), spools=True)
        work.cancel()
        self.failureResultOf(work, CancelledError)
        # Behind it in the one child.
        await self.processes.call("transcode", request([EXPLICIT]), self.data)
        await self.idle()
        self.assertFalse(os.path.exists(self.output()))


class ServerTests(DicomCase):
    """A server whose peers take other transfer syntaxes than it has."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"DicomAlwaysAllowGet": True}

    async def fill(self) -> PixelFormat:
        """Store an object in JPEG 2000 that is larger, once it is decoded, than what stays in memory."""
        pixels = grey(600, 2000, bits_allocated=16, bits_stored=12, high_bit=11)
        content = transcoded(image(pixels, wave(pixels).tobytes()), JPEG_2000_LOSSLESS)
        assert content is not None
        self.assertEqual((await self.client.post("/instances", content)).status, 200)
        return pixels

    async def check_received(self, pixels: PixelFormat) -> None:
        """One object has come, with its pixels, and nothing is left in the spool folder."""
        (received,) = (path for path in self.work.iterdir() if path.suffix != ".txt")
        dataset = dcmread(received)
        self.assertIn(dataset.file_meta.TransferSyntaxUID, (IMPLICIT, EXPLICIT))
        np.testing.assert_array_equal(dataset.pixel_array, wave(pixels))
        await self.until(lambda: not self.spooled())

    async def test_store(self) -> None:
        """storescp receives compressed objects in the one syntax that it takes."""
        pixels = await self.fill()
        port = free_port()
        peer = {"AET": "SINK", "Host": "127.0.0.1", "Port": port}
        self.assertEqual((await self.client.ask("PUT", "/modalities/sink", peer)).status, 200)
        with program(port, "/usr/bin/storescp", "+xi", "-aet", "SINK", "-od", str(self.work), str(port), cwd=self.work):
            answer = await self.client.post("/modalities/sink/store", (await self.instances())[0])
        self.assertEqual(answer.status, 200, answer.text)
        await self.check_received(pixels)

    async def test_get(self) -> None:
        """getscu receives compressed objects in the one syntax that it takes."""
        pixels = await self.fill()
        ran = await run(
            *("getscu", "-v", "-S", "-aec", "ORTHANC", "-od", str(self.work), "-k", "QueryRetrieveLevel=STUDY"),
            *("-k", "StudyInstanceUID=1.2.3", "127.0.0.1", str(self.dicom_port)),
        )
        self.assertEqual((ran.status, len(list(self.work.iterdir()))), (0, 1), ran.output)
        await self.check_received(pixels)


class KillTests(SynchronousTestCase):
    """A server that is killed while its children work."""

    def children(self, pid: int) -> list[int]:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]

    def test_kill(self) -> None:
        """kill -9 of a server leaves no child, and another server has port and folder at once."""
        server = ServerProcess(Path(self.mktemp()))
        server.start()
        self.addCleanup(server.stop)
        pixels = grey(2000, 2000, bits_allocated=16, bits_stored=16, high_bit=15)
        content = transcoded(image(pixels, wave(pixels).tobytes()), JPEG_2000_LOSSLESS)
        assert content is not None
        instance = server.upload(content)
        asking = Thread(target=self.ask, args=(server, instance))
        asking.start()
        wait_until(lambda: self.children(server.pid), lambda: "a child")
        children = self.children(server.pid)
        server.kill()
        server.start()
        asking.join(PATIENCE)
        wait_until(lambda: not any(map(is_alive, children)), lambda: "the end of the children")
        self.assertEqual(server.request("GET", f"/instances/{instance}/preview").status, 200)

    def ask(self, server: ServerProcess, instance: str) -> None:
        with contextlib.suppress(OSError, HTTPException):
            server.request("GET", f"/instances/{instance}/preview")
