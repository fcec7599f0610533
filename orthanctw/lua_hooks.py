"""Lua's filters of requests over HTTP, of queries and of objects that go out (level 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zope.interface import implementer

from orthanctw.interfaces import FindPeer, HttpQuestion, IFindFilter, IHttpFilter, IStoreFilter
from orthanctw.lua import LuaEngine

_HTTP: Final = "IncomingHttpRequestFilter"
_FIND: Final = "IncomingFindRequestFilter"
_WORKLIST: Final = "IncomingWorklistRequestFilter"
_OUTGOING_FIND: Final = "OutgoingFindRequestFilter"
_OUTGOING_STORE: Final = "OutgoingCStoreInstanceFilter"
_FINDS: Final[Mapping[str, str]] = {"find": _FIND, "outgoing": _OUTGOING_FIND, "worklist": _WORKLIST}


@implementer(IHttpFilter)
class LuaHttpFilter:
    """Asks ``IncomingHttpRequestFilter``."""

    def __init__(self, engine: LuaEngine) -> None:
        self._engine = engine

    def is_needed(self) -> bool:
        return self._engine.has(_HTTP)

    async def allows(self, question: HttpQuestion) -> bool:
        answer = await self._engine.call_filter(
            _HTTP, question.method, question.uri, question.ip, question.username, question.headers
        )
        # None: the filter was taken away meanwhile.
        return answer is not False


@implementer(IFindFilter)
class LuaFindFilter:
    """Asks ``IncomingFindRequestFilter``, ``IncomingWorklistRequestFilter`` and ``OutgoingFindRequestFilter``."""

    def __init__(self, engine: LuaEngine) -> None:
        self._engine = engine

    def is_needed(self, kind: str) -> bool:
        return self._engine.has(_FINDS[kind])

    async def incoming_find(self, query: Mapping[str, Any], peer: FindPeer) -> Mapping[str, Any]:
        return await self._ask(_FIND, query, _origin(peer))

    async def incoming_worklist(self, query: Mapping[str, Any], peer: FindPeer) -> Mapping[str, Any]:
        return await self._ask(_WORKLIST, query, _origin(peer))

    async def outgoing_find(self, query: Mapping[str, Any], modality: str) -> Mapping[str, Any]:
        return await self._ask(_OUTGOING_FIND, query, modality)

    async def _ask(self, name: str, query: Mapping[str, Any], *further: object) -> Mapping[str, Any]:
        answer = await self._engine.call_filter(name, query, *further)
        # What is no query is told by who asks.
        result: Mapping[str, Any] = query if answer is None else answer
        return result


@implementer(IStoreFilter)
class LuaStoreFilter:
    """Asks ``OutgoingCStoreInstanceFilter``."""

    def __init__(self, engine: LuaEngine) -> None:
        self._engine = engine

    def is_needed(self) -> bool:
        return self._engine.has(_OUTGOING_STORE)

    async def sends(self, tags: Mapping[str, object], host: str, aet: str) -> bool:
        answer = await self._engine.call_filter(_OUTGOING_STORE, tags, {"RemoteIp": host, "RemoteAet": aet})
        return answer is not False


def _origin(peer: FindPeer) -> dict[str, str]:
    return {
        "RemoteIp": peer.remote_ip,
        "RemoteAet": peer.remote_aet,
        "CalledAet": peer.called_aet,
        "Manufacturer": peer.manufacturer,
    }
