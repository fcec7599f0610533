"""Composition of Lua over the parts of a server (level 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.task import LoopingCall

from orthanctw.httpclient import HttpFailure, HttpRequest
from orthanctw.interfaces import ScriptRequest
from orthanctw.lua import LuaEngine, LuaOptions, LuaServices
from orthanctw.lua_events import EventValues, LuaTelling
from orthanctw.lua_hooks import LuaFindFilter, LuaHttpFilter, LuaStoreFilter
from orthanctw.lua_ingest import LuaIngestFilter
from orthanctw.lua_operations import LuaOperations
from orthanctw.model import Origin, OriginKind
from orthanctw.rest.resources.scripts import ScriptRoutes
from orthanctw.rest.scripting import ScriptDispatcher

if TYPE_CHECKING:
    from orthanctw.parts import Parts

_MEGABYTE: Final = 1024 * 1024
_HEART_BEAT: Final = "OnHeartBeat"


class LuaParts:
    """What scripts can ask of the parts of a server."""

    def __init__(self, parts: Parts, reactor: Any) -> None:
        self._parts = parts
        settings, own = parts.settings, parts.settings.orthanctw
        self._memory = own.lua_memory_mb * _MEGABYTE
        self._operations = LuaOperations(
            parts.modalities,
            parts.peers,
            parts.dictionary,
            parts.storage.call,
            private_creator=settings.dicom.default_private_creator,
        )
        self.engine = LuaEngine(
            reactor,
            LuaServices(
                rest=self._rest,
                http=self._http,
                submit=self._submit,
                set_stable=parts.stability.decide,
                store_value=parts.index.store_value,
                value=parts.index.value,
                delete_value=parts.index.delete_value,
                configuration=settings.document,
            ),
            LuaOptions(
                scripts=settings.lua.lua_scripts,
                executes=settings.lua.execute_lua_enabled,
                memory=self._memory,
                compute=own.lua_timeout,
                answer=own.lua_filter_timeout,
                wait=own.lua_wait_timeout,
                trusts_rest=own.lua_rest_scripts_trusted,
                keeps_strings=own.lua_keep_strings,
            ),
            parts.metrics,
        )
        self._heart = LoopingCall(self.engine.beat, _HEART_BEAT)
        self._heart.clock = reactor
        self._telling = LuaTelling(
            self.engine,
            reactor,
            EventValues(
                index=parts.index,
                names=parts.names,
                main_tags=parts.main_tags,
                dictionary=parts.dictionary,
                default_encoding=parts.default_encoding,
            ),
        )
        if self.engine.is_used:
            parts.events.subscribe(self._telling)
            parts.events.subscribe_to_jobs(self._telling)
            parts.ingest.add_filter(LuaIngestFilter(self.engine))
            parts.http_filters.append(LuaHttpFilter(self.engine))
            parts.find_filters.append(LuaFindFilter(self.engine))
            parts.store_filters.add(LuaStoreFilter(self.engine))

    async def start(self) -> None:
        """Run the configured scripts. ConfigurationError when one fails."""
        await self.engine.start()

    def begin(self) -> None:
        """Tell that the server is ready."""
        self.engine.notify("Initialize")
        period = self._parts.settings.lua.lua_heart_beat_period
        if period and self.engine.is_used:
            # It waits for each call; beats that are due meanwhile are left out.
            self._heart.start(period, now=False)

    async def stop(self, deadline: float) -> None:
        """Tell what waits, then ``Finalize``; what has not ended at the reactor's time `deadline` is killed."""
        if self._heart.running:
            self._heart.stop()
        self._telling.flush()
        await self.engine.stop(deadline)

    def routes(self) -> ScriptRoutes:
        """Those that run scripts."""
        engine = self.engine
        if not engine.executes:
            return ScriptRoutes(None)
        return ScriptRoutes(lambda source, is_nested: engine.execute(source, is_nested=is_nested))

    async def _rest(self, request: ScriptRequest) -> bytes:
        dispatcher = ScriptDispatcher(self._parts.api, Origin(kind=OriginKind.LUA), self._memory)
        return await dispatcher.ask(
            request.method, request.uri, request.body, request.headers, is_builtin=request.is_builtin
        )

    async def _http(self, request: ScriptRequest) -> bytes:
        answer = await self._parts.http.request(HttpRequest.of_script(request, self._memory))
        if not answer.is_success:
            raise HttpFailure(f"{request.method} is answered with {answer.status} {answer.reason}")
        return answer.body

    async def _submit(self, operations: Sequence[Mapping[str, Any]]) -> None:
        """Have the operations that a callback has asked for carried out, one after the other, by one job."""
        job, error = await self._operations.job(operations)
        if job is not None:
            await self._parts.jobs.submit(job, for_later=True)
        if error is not None:
            raise error
