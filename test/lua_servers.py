"""Servers with Lua for tests: their script, what it has noted, and gates at which it waits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import orjson

from orthanctw.dicom import dimse
from orthanctw.model import Origin, OriginKind
from test.dicom_case import DicomCase
from test.dicom_peers import RawPeer, data_set, sop_instance
from test.rest_samples import Answer

SCRIPTS = "/tools/execute-script"
#: What a C-STORE is told to come from.
FROM_DICOM = Origin(kind=OriginKind.DICOM_PROTOCOL, remote_ip="127.0.0.1", remote_aet="A", called_aet="B")
_PRELUDE = """
told = {}
function note(...) told[#told + 1] = DumpJson({...}, true) end
"""


class Gate:
    """A script that runs `code` waits until the gate is opened."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        self._end: int | None = None
        self.code = f"os.execute('read x < {path}')"

    def is_reached(self) -> bool:
        """Whether a script waits."""
        with contextlib.suppress(OSError):
            self._end = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        return self._end is not None

    def open(self) -> None:
        """Let the script go on that has reached the gate."""
        assert self._end is not None
        os.write(self._end, b"\n")
        os.close(self._end)
        self._end = None


class LuaServerCase(DicomCase):
    """A test with a server that runs a script, in which ``note(...)`` is there to note values."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"ExecuteLuaEnabled": True, "LuaFilterTimeout": 60}

    async def scripted(self, source: str, **settings: object) -> None:
        """Go on with a server that runs this script."""
        path = self.work / "script.lua"
        path.write_text(_PRELUDE + source)
        await self.restart(LuaScripts=[str(path)], **settings)

    def gate(self) -> Gate:
        return Gate(self.work / "gate")

    async def run_script(self, source: str) -> str:
        """What a script prints."""
        answer = await self.client.post(SCRIPTS, source)
        self.assertEqual(answer.status, 200, answer.text)
        return answer.text

    async def told(self) -> list[Any]:
        """What has been noted so far, a list for each time. Events that happened before have been told."""
        printed = await self.run_script("for _, line in ipairs(told) do print(line) end")
        return [orjson.loads(line) for line in printed.splitlines()]

    async def upload(self, data: bytes) -> Answer:
        """Give an object to the REST API."""
        return await self.client.post("/instances", data)

    def store_one(self) -> tuple[int, str]:
        """Status and comment of a C-STORE (blocking)."""
        with RawPeer(self.dicom_port) as peer:
            peer.associate()
            response = peer.store(data_set(1), sop_instance(1))
            return response.number(dimse.STATUS), response.text(dimse.ERROR_COMMENT)

    async def assertNothingStored(self) -> None:
        """There is no instance, no file, and nothing half received."""
        self.assertEqual((await self.instances(), self.files()), ([], []))
