"""Lua engines for tests, with a server that is made of plain functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from orthanctw.errors import UnknownResource
from orthanctw.interfaces import ScriptRequest
from orthanctw.lua import LuaEngine, LuaError, LuaOptions, LuaServices
from orthanctw.metrics import Metrics

MEGABYTE = 1024 * 1024


class FakeServices:
    """Answers what tests have put in, and notes what it is asked."""

    def __init__(self) -> None:
        self.requests: list[ScriptRequest] = []
        self.submitted: list[Sequence[Mapping[str, Any]]] = []
        self.values: dict[tuple[str, str], bytes] = {}
        #: By method and URI: a body, or what awaits one.
        self.answers: dict[str, Any] = {}

    async def request(self, request: ScriptRequest) -> bytes:
        self.requests.append(request)
        answer = self.answers.get(f"{request.method} {request.uri}")
        if answer is None:
            raise UnknownResource(request.uri)
        body: bytes = answer if isinstance(answer, bytes) else await answer
        return body

    async def submit(self, operations: Sequence[Mapping[str, Any]]) -> None:
        self.submitted.append(operations)

    async def set_stable(self, public_id: str, stable: bool) -> bool:
        return stable

    async def store_value(self, store: str, key: str, value: bytes) -> None:
        self.values[store, key] = value

    async def value(self, store: str, key: str) -> bytes | None:
        return self.values.get((store, key))

    async def delete_value(self, store: str, key: str) -> None:
        self.values.pop((store, key), None)


class LuaCase(TestCase):
    """A test with an engine of its own."""

    OPTIONS = LuaOptions(executes=True, memory=32 * MEGABYTE, compute=0.3, answer=20)
    timeout = 60

    async def setUp(self) -> None:
        self.services = FakeServices()
        await self.start(self.OPTIONS)

    async def start(self, options: LuaOptions) -> None:
        self.metrics = Metrics(lambda: 0.0)
        services = LuaServices(
            rest=self.services.request,
            http=self.services.request,
            submit=self.services.submit,
            set_stable=self.services.set_stable,
            store_value=self.services.store_value,
            value=self.services.value,
            delete_value=self.services.delete_value,
            configuration={"Name": "T", "HttpPort": 8042},
        )
        self.engine = LuaEngine(reactor, services, options, self.metrics)
        await self.engine.start()

    async def restart(self, *scripts: str, **options: Any) -> None:
        """Go on with an engine that has configured scripts of these texts."""
        await self.engine.stop(0)
        folder = Path(self.mktemp())
        folder.mkdir()
        paths = []
        for number, text in enumerate(scripts):
            path = folder / f"script{number}.lua"
            path.write_text(text)
            paths.append(str(path))
        await self.start(attrs.evolve(self.OPTIONS, scripts=paths, **options))

    async def tearDown(self) -> None:
        await self.engine.stop(0)

    async def run_script(self, source: str) -> str:
        """What a script prints, without the last line feed."""
        return (await self.engine.execute(source.encode())).decode().removesuffix("\n")

    async def fails(self, source: str) -> str:
        """What is wrong with a script."""
        with self.assertRaises(LuaError) as caught:
            await self.engine.execute(source.encode())
        return caught.exception.details
