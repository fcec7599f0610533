"""Objects that are larger than the memory that the server may have."""

from __future__ import annotations

import hashlib
import http.client
import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.rest_samples import LargeObject, peak_memory
from test.servers import PATIENCE, ServerProcess

#: Memory that the server may take at any time, in MB: it takes about 75 at rest.
LIMIT = 120


def upload(port: int, large: LargeObject) -> bytes:
    """POST an object while it is made."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10 * PATIENCE)
    connection.request("POST", "/instances", large.chunks(), {"Content-Length": str(large.size)})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise AssertionError(body)
    return body


def download(port: int, path: str) -> tuple[int, str]:
    """Size and digest of what a path answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10 * PATIENCE)
    connection.request("GET", path)
    answer = connection.getresponse()
    digest, size = hashlib.md5(usedforsecurity=False), 0
    while data := answer.read(1024 * 1024):
        digest.update(data)
        size += len(data)
    connection.close()
    return size, digest.hexdigest()


class LargeTests(SynchronousTestCase):
    """A server of its own."""

    def test_memory(self) -> None:
        """An object of 300 MB goes up and down in little memory, while another client does not read it."""
        server = ServerProcess(Path(self.mktemp()))
        server.start()
        self.addCleanup(server.stop)
        large = LargeObject(150)
        self.assertIn(b"Success", upload(server.port, large))
        (instance,) = server.get("/instances")
        expected = (large.size, large.md5())
        stalled = socket.create_connection(("127.0.0.1", server.port))
        self.addCleanup(stalled.close)
        stalled.sendall(f"GET /instances/{instance}/file HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.assertTrue(stalled.recv(15).startswith(b"HTTP/1.1 200 OK"))
        self.assertEqual(download(server.port, f"/instances/{instance}/file"), expected)
        self.assertEqual(download(server.port, f"/instances/{instance}/attachments/dicom/data"), expected)
        size, _ = download(server.port, f"/instances/{instance}/content/7fe0-0010/0")
        self.assertEqual(size, large.size - len(large.head))
        self.assertEqual(server.get(f"/instances/{instance}/tags?short")["0028,0008"], "150")
        self.assertEqual(len(server.get(f"/instances/{instance}/frames")), 150)
        self.assertEqual(server.get(f"/instances/{instance}/attachments/dicom/info")["UncompressedMD5"], expected[1])
        self.assertLess(peak_memory(server.pid), LIMIT)
