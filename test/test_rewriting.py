"""Attachments and reconstruction in real processes, which are killed, and given more than their memory."""

from __future__ import annotations

import hashlib
import http.client
import itertools
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.rest_samples import peak_memory
from test.servers import PATIENCE, ServerProcess, ct_image, shared_server
from test.storage_checks import check_agreement
from test.system_calls import Trace
from test.test_rest_large import LIMIT, download

_WRITES = ("write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "sendto", "writev", "sendmsg")
#: Bytes of an attachment that does not fit into the memory that the server may take.
_LARGE = 160 * 1024 * 1024
_PIECE = 1024 * 1024


def pieces() -> Iterator[bytes]:
    """The bytes of the large attachment."""
    for number in range(_LARGE // _PIECE):
        yield hashlib.md5(bytes([number & 255, number >> 8]), usedforsecurity=False).digest() * (_PIECE // 16)


class CrashTests(SynchronousTestCase):
    """A process that dies in the middle of a write."""

    numbers = itertools.count(1)

    def setUp(self) -> None:
        self.server = shared_server(type(self), {"Orthanctw": {"SpoolThresholdKB": 64, "StorageThreads": 1}})
        number = next(self.numbers)
        self.data = ct_image(number, series=number)
        self.instance = self.server.upload(self.data)

    def die(self, name: str, when: int, method: str, path: str, body: bytes | str | None = None) -> None:
        """Die as the `when`-th call of a name begins, while something is asked; start anew and check the storage."""
        trace = Trace(self.server.pid, self.server.folder, _WRITES, inject=f"{name}:signal=SIGKILL:when={when}")
        try:
            self.assertRaises((OSError, http.client.HTTPException), self.server.request, method, path, body)
        finally:
            trace.abandon()
        self.server.wait()
        self.server.start()
        check_agreement(self, self.server)

    def test_attachment(self) -> None:
        """The attachment is the old one or the new one, whole."""
        path = f"/instances/{self.instance}/attachments/1024"
        old = b"old" * 100_000
        self.assertEqual(self.server.request("PUT", path, old).status, 200)
        for name, kept in (("rename", True), ("pwrite64", True), ("sendto", False)):
            new = name.encode() * 100_000
            self.die(name, 1, "PUT", path, new)
            self.assertEqual(self.server.request("GET", f"{path}/data").body, old if kept else new)
            old = old if kept else new

    def test_compression(self) -> None:
        """The object is readable before and after, compressed or not."""
        path = f"/instances/{self.instance}/attachments/dicom"
        for name, operation in (("fdatasync", "compress"), ("sendto", "uncompress")):
            self.die(name, 1, "POST", f"{path}/{operation}")
            self.assertEqual(self.server.request("GET", f"/instances/{self.instance}/file").body, self.data)
            self.assertEqual(self.server.request("POST", f"{path}/verify-md5").status, 200)

    def test_reconstruction(self) -> None:
        """Some objects are done, the others are as before; the next time all are done."""
        objects = {self.server.upload(data): data for data in (ct_image(n, study=2, side=48) for n in range(1, 60))}
        study = self.server.get(f"/instances/{next(iter(objects))}/study")["ID"]
        self.server.stop()
        self.server.configure(StorageCompression=True)
        self.server.start()
        self.die("rename", 25, "POST", f"/studies/{study}/reconstruct", '{"ReconstructFiles": true}')
        done = 0
        for instance, data in objects.items():
            done += int(self.server.request("GET", f"/instances/{instance}/attachments/dicom/is-compressed").body)
            self.assertEqual(self.server.request("GET", f"/instances/{instance}/file").body, data)
        self.assertEqual(done, 24)
        answer = self.server.request("POST", f"/studies/{study}/reconstruct", '{"ReconstructFiles": true}')
        self.assertEqual(answer.status, 200)
        for instance, data in objects.items():
            path = f"/instances/{instance}"
            self.assertEqual(self.server.request("GET", f"{path}/attachments/dicom/is-compressed").body, b"1")
            self.assertEqual(self.server.request("GET", f"{path}/file").body, data)
        # The files of before go with the next start.
        self.server.stop()
        self.server.start()
        check_agreement(self, self.server)


class LargeTests(SynchronousTestCase):
    """A server of its own."""

    def test_memory(self) -> None:
        """An attachment of 160 MB is written, read, compressed and verified in little memory."""
        server = ServerProcess(Path(self.mktemp()))
        server.start()
        self.addCleanup(server.stop)
        path = f"/instances/{server.upload(ct_image(1))}/attachments/1024"
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10 * PATIENCE)
        connection.request("PUT", path, pieces(), {"Content-Length": str(_LARGE)})
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()
        digest = hashlib.md5(usedforsecurity=False)
        for piece in pieces():
            digest.update(piece)
        expected = (_LARGE, digest.hexdigest())
        for operation in ("compress", "verify-md5", "uncompress"):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10 * PATIENCE)
            connection.request("POST", f"{path}/{operation}")
            self.assertEqual(connection.getresponse().status, 200)
            connection.close()
        self.assertEqual(download(server.port, f"{path}/data"), expected)
        self.assertLess(peak_memory(server.pid), LIMIT)
        check_agreement(self, server)
