"""Tests of the DICOM server within the process of the tests."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import deferLater

from test.dicom_peers import run
from test.rest_samples import SPOOL, RestCase


class DicomCase(RestCase):
    """A test with a server of its own, and peers."""

    async def setUp(self) -> None:
        await super().setUp()
        self.work = Path(self.mktemp()).absolute()
        self.work.mkdir()

    async def tearDown(self) -> None:
        await super().tearDown()
        # Whatever a test did, no connection is left to the server.
        self.assertEqual(self.server.dicom._connections, {})
        self.assertEqual(self.server.body_limits.budget.used, 0)

    @property
    def dicom_port(self) -> int:
        return self.server.dicom_port

    def file(self, data: bytes, name: str = "a.dcm") -> str:
        path = self.work / name
        path.write_bytes(data)
        return str(path)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for the server to notice what a peer did."""
        while not condition():
            await deferLater(reactor, 0.005)

    async def storescu(self, *arguments: str) -> str:
        """DCMTK's ``storescu``, which must succeed; what it prints."""
        ran = await run("storescu", "-v", "-aec", "ORTHANC", "127.0.0.1", str(self.dicom_port), *arguments)
        self.assertEqual(ran.status, 0, ran.output)
        return ran.output

    async def zipped(self, files: Iterable[bytes]) -> None:
        """Store many objects at once."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for number, data in enumerate(files):
                archive.writestr(f"{number}.dcm", data)
        answer = await self.client.post("/instances", buffer.getvalue())
        self.assertEqual(answer.status, 200, answer.text)

    async def instances(self) -> list[str]:
        found: list[str] = await self.client.json("/instances")
        return found

    async def stored(self) -> bytes:
        """The file of the only instance."""
        (instance,) = await self.instances()
        return (await self.client.get(f"/instances/{instance}/file")).body

    def spooled(self) -> list[str]:
        return [path.name for path in (self.folder / SPOOL).iterdir()]
