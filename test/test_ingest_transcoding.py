"""Received objects that are stored in another transfer syntax."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar, Final

import numpy as np
from pydicom import dcmread
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.pixels.syntaxes import (
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    RLE,
)
from orthanctw.dicom.scanner import scan
from orthanctw.errors import CannotWriteFile, ConfigurationError, FullStorage
from orthanctw.identifiers import hierarchy_ids
from orthanctw.interfaces import Received
from test.dicom_case import DicomCase
from test.dicom_files import DEFLATED, EXPLICIT, IMPLICIT
from test.pixel_samples import coloured, frames, grey, image, wave
from test.rest_samples import LargeObject, peak_memory, wire
from test.servers import ServerProcess, wait_until
from test.test_dicom_senders import EXPLICIT_BIG, sample
from test.test_rest_large import LIMIT, upload
from test.test_transcode import transcoded

_OPTIONS: Final[Mapping[str, object]] = {"IngestTranscoding": JPEG_LS_LOSSLESS, "Orthanctw": {"SpoolThresholdKB": 64}}
#: Files of pydicom's, and whether Orthanc takes them for uncompressed ones.
_KINDS: Final = (
    ("MR_small.dcm", EXPLICIT, True),
    ("MR_small_implicit.dcm", IMPLICIT, True),
    ("MR_small_bigendian.dcm", EXPLICIT_BIG, True),
    ("image_dfl.dcm", DEFLATED, False),
    ("MR_small_RLE.dcm", RLE, False),
    ("SC_rgb_dcmtk_+eb+cr.dcm", JPEG_BASELINE, False),
)


def content(name: str) -> bytes:
    """One of pydicom's files."""
    return Path(sample(name)).read_bytes()


def large() -> bytes:
    """An image that goes through a file when it is received, and when it is encoded."""
    pixels = grey(600, 1000, bits_allocated=16, bits_stored=12, high_bit=11)
    return image(pixels, wave(pixels).tobytes())


class _Filter:
    """Notes what it is asked."""

    def __init__(self, answer: bool) -> None:
        self.asked: list[tuple[Any, int]] = []
        self._answer = answer

    def is_needed(self) -> bool:
        return True

    async def accepts(self, received: Received) -> bool:
        self.asked.append((received.tags()["PatientName"], received.size))
        return self._answer


class TranscodingCase(DicomCase):
    """A server that stores what it can in JPEG-LS."""

    SETTINGS: ClassVar[Mapping[str, object]] = _OPTIONS

    async def tearDown(self) -> None:
        # Whatever a test did, no temporary file is left.
        await self.until(lambda: not self.spooled())
        await super().tearDown()

    def count_transcodings(self) -> list[str]:
        """The transfer syntaxes of the objects that will be given to the transcoder."""
        seen: list[str] = []
        transcode = self.server.transcoder.transcode

        def noting(outgoing: Any, *arguments: Any, **options: Any) -> Any:
            seen.append(outgoing.transfer_syntax)
            return transcode(outgoing, *arguments, **options)

        self.patch(self.server.transcoder, "transcode", noting)
        return seen

    async def check(self, received: bytes, target: str = JPEG_LS_LOSSLESS) -> bytes:
        """The only object is one that was received, its pixels are the same, and all that is told of it is true."""
        (instance,) = await self.instances()
        path = f"/instances/{instance}"
        file = (await self.client.get(f"{path}/file")).body
        dataset = dcmread(io.BytesIO(file))
        self.assertEqual(dataset.file_meta.TransferSyntaxUID, target)
        np.testing.assert_array_equal(frames(file), frames(received))
        metadata = await self.client.json(f"{path}/metadata", expand="")
        self.assertEqual(metadata["TransferSyntax"], target)
        self.assertEqual(metadata["PixelDataOffset"], str(scan(file).pixel_data_offset))
        told = await self.client.json(f"{path}/attachments/dicom/info")
        digest = hashlib.md5(file, usedforsecurity=False).hexdigest()
        self.assertEqual((told["UncompressedSize"], told["UncompressedMD5"]), (len(file), digest))
        raw = await self.client.get(f"{path}/frames/0/raw")
        self.assertEqual(raw.body[:2] == b"\xff\xd8", target == JPEG_LS_LOSSLESS)
        self.assertEqual((await self.client.get(f"{path}/preview")).status, 200)
        self.assertEqual(len(self.files()), 1)
        self.assertEqual((await self.client.json("/statistics"))["TotalDiskSize"], str(told["CompressedSize"]))
        return file

    async def clear(self) -> None:
        for instance in await self.instances():
            await self.client.ask("DELETE", f"/instances/{instance}")


class StoredFormTests(TranscodingCase):
    """What is stored."""

    async def test_http(self) -> None:
        """Uploads keep their pixels and identifiers, whatever syntax they come in."""
        for name in ("CT_small.dcm", *(name for name, _, _ in _KINDS)):
            data = content(name)
            answer = await self.client.store(data)
            self.assertEqual((answer["Status"], answer["ID"]), ("Success", hierarchy_ids(*scan(data).identifiers())[3]))
            await self.check(data)
            await self.clear()

    async def test_storescu(self) -> None:
        """So do objects that come by C-STORE; UIDs are compared with what was received."""
        for options, name in (((), "CT_small.dcm"), (("-xi",), "MR_small.dcm"), (("-xs",), "SC_rgb_jpeg_gdcm.dcm")):
            await self.storescu("-R", *options, sample(name))
            await self.check(content(name))
            await self.clear()

    async def test_lossy_by_storescu(self) -> None:
        """An object that becomes another instance is no mismatch for its sender."""
        await self.restart(IngestTranscoding=JPEG_BASELINE)
        pixels = grey(40, 60)
        data = image(pixels, wave(pixels).tobytes())
        await self.storescu("-R", self.file(data))
        self.assertNotEqual(scan(await self.stored()).identifiers()[3], scan(data).identifiers()[3])

    async def test_large(self) -> None:
        """Large objects go through files; with StorageCompression, too."""
        for compression in (False, True):
            await self.restart(StorageCompression=compression)
            data = large()
            self.assertEqual((await self.client.store(data))["Status"], "Success")
            self.assertGreater(len(await self.check(data)), 1 << 17)
            for path in self.files():
                self.assertEqual((self.folder / path).stat().st_mode & 0o137, 0)
            await self.clear()

    async def test_native(self) -> None:
        """To an uncompressed syntax: small and large ones, without codecs and with."""
        await self.restart(IngestTranscoding=IMPLICIT)
        compressed = transcoded(large(), JPEG_2000_LOSSLESS)
        assert compressed is not None
        for data in (content("MR_small.dcm"), large(), compressed):
            self.assertEqual((await self.client.store(data))["Status"], "Success")
            await self.check(data, IMPLICIT)
            await self.clear()

    async def test_same_syntax(self) -> None:
        """What has the syntax already is stored byte for byte."""
        seen = self.count_transcodings()
        data = content("MR_small_jpeg_ls_lossless.dcm")
        await self.client.store(data)
        self.assertEqual((await self.stored(), seen), (data, []))

    async def test_companions(self) -> None:
        """Each of the two options concerns its kind of syntaxes alone; deflated ones count as compressed."""
        for of_uncompressed in (False, True):
            of_compressed = not of_uncompressed
            await self.restart(
                IngestTranscodingOfUncompressed=of_uncompressed, IngestTranscodingOfCompressed=of_compressed
            )
            for name, syntax, is_uncompressed in _KINDS:
                data = content(name)
                self.assertEqual(scan(data).transfer_syntax, syntax)
                await self.client.store(data)
                if is_uncompressed == of_uncompressed:
                    await self.check(data)
                else:
                    self.assertEqual(await self.stored(), data, name)
                await self.clear()

    async def test_lossy(self) -> None:
        """A lossy syntax makes a new instance each time, as Orthanc does, beside what cannot be transcoded."""
        await self.restart(IngestTranscoding=JPEG_BASELINE)
        pixels = coloured(40, 60)
        data = image(pixels, wave(pixels).tobytes())
        answers = [await self.client.store(data) for _ in range(2)]
        self.assertEqual([answer["Status"] for answer in answers], ["Success", "Success"])
        received = hierarchy_ids(*scan(data).identifiers())
        self.assertEqual(len({received[3], *(answer["ID"] for answer in answers)}), 3)
        self.assertEqual({answer["ParentSeries"] for answer in answers}, {received[2]})
        for answer in answers:
            tags = await self.client.json(f"/instances/{answer['ID']}/simplified-tags")
            self.assertEqual(tags["LossyImageCompression"], "01")
            self.assertEqual(tags["SourceImageSequence"][0]["ReferencedSOPInstanceUID"], scan(data).identifiers()[3])
        signed = content("MR_small.dcm")
        self.assertEqual([(await self.client.store(signed))["Status"] for _ in range(2)], ["Success", "AlreadyStored"])

    async def test_unknown_syntax(self) -> None:
        """The server does not start with a UID that is no transfer syntax."""
        await self.stop()
        with self.assertRaises(ConfigurationError):
            await self._start({"IngestTranscoding": "1.2.3"})
        self.running = False


class AgainTests(TranscodingCase):
    """Objects that come more than once."""

    async def test_already_stored(self) -> None:
        """What is stored in its new form is not transcoded again, in whatever syntax it comes."""
        first = await self.client.store(content("MR_small.dcm"))
        file = await self.stored()
        seen = self.count_transcodings()
        for name in ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"):
            self.assertEqual(await self.client.store(content(name)), {**first, "Status": "AlreadyStored"})
        await self.storescu("-R", sample("MR_small.dcm"))
        self.assertEqual((await self.stored(), seen), (file, []))
        self.assertEqual(len((await self.client.json("/changes"))["Changes"]), 4)

    async def test_at_once(self) -> None:
        """Of the same object in several uploads at once one is stored."""
        data = large()
        pending = [Deferred.fromCoroutine(self.client.store(data)) for _ in range(8)]
        statuses = [(await answer)["Status"] for answer in pending]
        self.assertEqual(sorted(statuses), ["AlreadyStored"] * 7 + ["Success"])
        await self.check(data)

    async def test_overwrite(self) -> None:
        """The modes of OverwriteInstances hold for the stored form."""
        data = content("MR_small.dcm")
        other = data.replace(b"CompressedSamples^MR1", b"CompressedSamples^MR2")
        self.assertNotEqual(data, other)
        for mode, expected in (("Always", ["Success"] * 2), ("IfChanged", ["AlreadyStored", "Success"])):
            await self.restart(OverwriteInstances=mode)
            await self.client.store(data)
            self.assertEqual([(await self.client.store(each))["Status"] for each in (data, other)], expected)
            await self.check(other)
            await self.clear()

    async def test_filters(self) -> None:
        """Filters are asked about the object as it was received; what they refuse is not transcoded."""
        seen = self.count_transcodings()
        data = content("CT_small.dcm")
        for answer, status in ((False, "FilteredOut"), (True, "Success")):
            hook = _Filter(answer)
            self.patch(self.server.ingest, "_filters", [hook])
            self.assertEqual((await self.client.store(data))["Status"], status)
            self.assertEqual([size for _, size in hook.asked], [len(data)])
        self.assertEqual(seen, [EXPLICIT])


class FailureTests(TranscodingCase):
    """What cannot be transcoded is stored as received."""

    async def check_as_received(self, data: bytes) -> None:
        self.assertEqual((await self.client.store(data))["Status"], "Success")
        self.assertEqual(await self.stored(), data)
        self.assertEqual(len(self.files()), 1)
        await self.clear()

    async def test_not_possible(self) -> None:
        """No image, a syntax that nobody decodes, or damaged pixels."""
        compressed = transcoded(large(), JPEG_LOSSLESS_SV1)
        assert compressed is not None
        start = compressed.index(b"\xff\xd8\xff") + 2
        damaged = compressed[:start] + bytes(40) + compressed[start + 40 :]
        unknown = content("JPEG2000.dcm").replace(JPEG_2000.encode(), b"1.2.840.10008.1.2.4.92")
        for data in (content("rtplan.dcm"), damaged, unknown):
            await self.check_as_received(data)

    async def test_target_without_encoder(self) -> None:
        """A transfer syntax that nothing can be transcoded to."""
        await self.restart(IngestTranscoding="1.2.840.10008.1.2.4.107")
        await self.check_as_received(content("CT_small.dcm"))

    async def test_transcoder(self) -> None:
        """A transcoder that fails, or has no room."""
        for error in (FullStorage("full"), ValueError("a defect")):
            self.patch(self.server.transcoder, "transcode", lambda *_, error=error, **__: fail(error))
            await self.check_as_received(large())

    async def test_result(self) -> None:
        """A result that cannot be read, or is another object."""

        def failing(*_: Any) -> Any:
            raise CannotWriteFile("no")

        with contextlib.ExitStack() as stack:
            patch = self.patch(self.server.storage, "adopt_blocking", failing)
            stack.callback(patch.restore)
            await self.check_as_received(large())
        other = content("CT_small.dcm")
        transcode: Callable[..., Any] = self.server.transcoder.transcode
        source = await self.source(other)

        def exchanged(outgoing: Any, *arguments: Any, **options: Any) -> Any:
            return transcode(source, *arguments, **options)

        self.patch(self.server.transcoder, "transcode", exchanged)
        await self.check_as_received(content("MR_small.dcm"))
        await self.check_as_received(large())

    async def source(self, data: bytes) -> Any:
        """An object as the transcoder is given it."""
        given: list[Any] = []
        patch = self.patch(self.server.transcoder, "transcode", lambda outgoing, *_, **__: given.append(outgoing))
        with contextlib.suppress(Exception):
            await self.client.store(data)
        patch.restore()
        await self.clear()
        return given[0]

    async def test_no_room(self) -> None:
        """When there is no room for the file either, the client is told so, and nothing is left."""

        def full(*_: Any) -> Any:
            raise FullStorage("full")

        patch = self.patch(self.server.storage, "create_blocking", full)
        self.assertError(await self.client.post("/instances", large()), 507, 19)
        patch.restore()
        await self.until(lambda: not self.files())
        self.assertEqual(await self.instances(), [])

    async def test_child(self) -> None:
        """A child that refuses its work costs the new form only."""
        call = self.server.processes.call
        self.patch(self.server.processes, "call", lambda operation, *rest, **more: call("nonsense", *rest, **more))
        await self.check_as_received(large())

    async def leave(self, data: bytes, is_transcoded: bool) -> None:
        """Upload, and leave before or after the transcoder has done its work, but before ingest goes on."""
        reached: Deferred[None] = Deferred()
        going_on: Deferred[None] = Deferred()
        transcode = self.server.transcoder.transcode

        async def slow(*arguments: Any, **options: Any) -> Any:
            made = await transcode(*arguments, **options) if is_transcoded else None
            reached.callback(None)
            await going_on
            return made or await transcode(*arguments, **options)

        patch = self.patch(
            self.server.transcoder, "transcode", lambda *args, **more: Deferred.fromCoroutine(slow(*args, **more))
        )
        peer = await wire(self.port)
        peer.write(f"POST /instances HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        await reached
        peer.abort()
        # The spool file of the request goes with its connection.
        await self.until(lambda: not self.server.site.connections and len(self.spooled()) == is_transcoded)
        patch.restore()
        going_on.callback(None)

    async def test_client_gone(self) -> None:
        """A client that leaves while its object is transcoded leaves no temporary file."""
        await self.leave(large(), False)
        await self.until(lambda: self.flushLoggedErrors(CannotWriteFile))
        self.assertEqual((self.files(), await self.instances()), ([], []))
        await self.leave(large(), True)
        # The file stands before its row does, and nobody waits for the answer.
        while not await self.instances():
            await deferLater(reactor, 0.005)
        await self.check(large())


class ProcessTests(SynchronousTestCase):
    """Servers as processes."""

    def server(self, syntax: str) -> ServerProcess:
        server = ServerProcess(Path(self.mktemp()), options={"IngestTranscoding": syntax})
        server.start()
        self.addCleanup(server.stop)
        return server

    def test_memory(self) -> None:
        """An object of 300 MB is transcoded in little memory."""
        server = self.server(RLE)
        self.assertIn(b"Success", upload(server.port, LargeObject(150)))
        (instance,) = server.get("/instances")
        self.assertEqual(server.get(f"/instances/{instance}/metadata?expand")["TransferSyntax"], RLE)
        self.assertLess(peak_memory(server.pid), LIMIT)
        self.assertEqual(list((server.storage / "orthanctw-spool").iterdir()), [])

    def test_crash(self) -> None:
        """kill -9 while an object is transcoded leaves neither a file nor a row once the server is started again."""
        server = self.server(IMPLICIT)
        spool = server.storage / "orthanctw-spool"

        def ask() -> None:
            with contextlib.suppress(OSError, HTTPException, AssertionError):
                upload(server.port, LargeObject(150))

        asking = Thread(target=ask)
        asking.start()
        try:
            wait_until(lambda: len(list(spool.iterdir())) == 2, lambda: "the file of a child")
        finally:
            server.kill()
            asking.join()
        server.start()
        self.assertEqual((server.get("/instances"), list(spool.iterdir())), ([], []))
        self.assertEqual(server.get("/statistics")["TotalDiskSize"], "0")
