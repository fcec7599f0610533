"""Large objects that are transcoded pass through files, and those files go."""

from __future__ import annotations

import hashlib
import http.client
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from orthanctw import sending
from orthanctw.dicom.pixels.syntaxes import RLE
from test.dicom_case import DicomCase
from test.dicom_files import EXPLICIT, IMPLICIT
from test.rest_samples import LargeObject, dicom_object, peak_memory, pixels, wire
from test.servers import PATIENCE, ServerProcess
from test.test_rest_large import upload
from test.test_transcode import ServerTests

#: Memory that the server may take at any time, in MB.
_LIMIT = 200
_DATA = dicom_object(**{**pixels(64, 64), "PixelData": os.urandom(4096)})


class CompressedServerTests(ServerTests):
    """Peers that take other transfer syntaxes, of a server whose files are compressed and too large for the memory."""

    SETTINGS: ClassVar[Mapping[str, object]] = {**ServerTests.SETTINGS, "StorageCompression": True}

    async def setUp(self) -> None:
        self.patch(sending, "_SMALL", 0)
        await super().setUp()


class FileTests(DicomCase):
    """``/file?transcode``, its source and its result in files."""

    SETTINGS: ClassVar[Mapping[str, object]] = {
        "StorageCompression": True,
        # All is done anew each time.
        "MaximumStorageCacheSize": 0,
        "TranscoderCacheSize": 0,
        "Orthanctw": {"SpoolThresholdKB": 0},
    }

    async def setUp(self) -> None:
        await super().setUp()
        self.path = f"/instances/{(await self.client.store(_DATA))['ID']}/file"

    async def transcoded(self, syntax: str) -> bytes:
        answer = await self.client.get(self.path, transcode=syntax)
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/dicom"))
        self.assertIn("filename", answer.headers["content-disposition"])
        self.assertEqual(int(answer.headers["content-length"]), len(answer.body))
        await self.until(lambda: not self.spooled())
        return answer.body

    async def test_same_bytes(self) -> None:
        """The file is the same whether its source and itself lie in memory or not."""
        in_memory = [await self.transcoded(syntax) for syntax in (IMPLICIT, RLE)]
        self.patch(sending, "_SMALL", 0)
        self.patch(self.server.storage, "read", self.fail)
        self.assertEqual([await self.transcoded(syntax) for syntax in (IMPLICIT, RLE)], in_memory)
        self.assertEqual(await self.transcoded(EXPLICIT), _DATA)

    async def test_head(self) -> None:
        """HEAD tells the length."""
        target = f"{self.path}?transcode={RLE}"
        answer = await self.exchange(f"HEAD {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK"))
        self.assertIn(f"Content-Length: {len(await self.transcoded(RLE))}\r\n".encode(), answer)

    async def test_failures(self) -> None:
        """A syntax that is not possible, a damaged file and one that is gone leave nothing."""
        self.patch(sending, "_SMALL", 0)
        self.assertError(await self.client.get(self.path, transcode="1.2.840.10008.1.2.4.100"), 400, 2)
        await self.until(lambda: not self.spooled())
        (file,) = (self.folder / name for name in self.files())
        file.write_bytes(file.read_bytes()[:100])
        answer = await self.client.get(self.path, transcode=RLE)
        self.assertError(answer, 500, 20)
        await self.until(lambda: not self.spooled())
        file.unlink()
        answer = await self.client.get(self.path, transcode=RLE)
        self.assertError(answer, 404, 13)
        self.assertEqual(self.spooled(), [])

    async def test_client_gone(self) -> None:
        """A client that leaves while its object is inflated leaves no file."""
        inflated, going_on, inflate = Event(), Event(), sending._inflate
        self.addCleanup(going_on.set)

        def slowly(*arguments: Any) -> None:
            inflate(*arguments)
            inflated.set()
            going_on.wait(PATIENCE)

        self.patch(sending, "_SMALL", 0)
        self.patch(sending, "_inflate", slowly)
        peer = await wire(self.port)
        peer.write(f"GET {self.path}?transcode={RLE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await self.until(inflated.is_set)
        peer.abort()
        await self.until(lambda: not self.server.site.connections and not self.server.api.active)
        self.assertEqual(len(self.spooled()), 1)
        going_on.set()
        await self.until(lambda: not self.spooled())


class MemoryTests(SynchronousTestCase):
    """Servers of their own."""

    def check(self, **options: object) -> None:
        """300 MB are given in two other syntaxes, the pixels unchanged."""
        server = ServerProcess(Path(self.mktemp()), options=options)
        server.start()
        self.addCleanup(server.stop)
        large = LargeObject(150)
        self.assertIn(b"Success", upload(server.port, large))
        (instance,) = server.get("/instances")
        expected = hashlib.md5(usedforsecurity=False)
        for number, chunk in enumerate(large.chunks()):
            if number:
                expected.update(chunk)
        length = large.size - len(large.head)
        path = f"/instances/{instance}/file?transcode="
        self.assertEqual(_tail(server.port, path + IMPLICIT, length), expected.hexdigest())
        self.assertLess(len(server.request("GET", path + RLE).body), length)
        self.assertLess(peak_memory(server.pid), _LIMIT)
        self.assertEqual(list((server.storage / "orthanctw-spool").iterdir()), [])

    def test_plain(self) -> None:
        """An object that lies as it is on the disk."""
        self.check()

    def test_compressed(self) -> None:
        """An object that is compressed on the disk."""
        self.check(StorageCompression=True)


def _tail(port: int, path: str, length: int) -> str:
    """Digest of the last bytes of what a path answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10 * PATIENCE)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read(int(answer.headers["Content-Length"]) - length)
    digest = hashlib.md5(usedforsecurity=False)
    while data := answer.read(1024 * 1024):
        digest.update(data)
    connection.close()
    return digest.hexdigest()
