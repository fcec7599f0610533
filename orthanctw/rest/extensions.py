"""Routes of scripts in Python: before all others, and in place of those of the same path."""

from __future__ import annotations

from functools import partial
from typing import Any

from orthanctw.model import OriginKind
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import Handler
from orthanctw.rest.reply import Reply
from orthanctw.scripting import Exchange, Host, Route

_WITH_BODY = ("POST", "PUT")


class Extensions:
    """What ``RegisterRestCallback`` has registered."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def find(self, path: str) -> Handler | None:
        """What answers calls of a path; the first that was registered wins. BadRequest."""
        for route in self._host.registry.routes:
            groups = route.groups_of(path)
            if groups is not None:
                return partial(self._answer, route, groups)
        return None

    async def _answer(self, route: Route, groups: tuple[str, ...], call: Call) -> Reply | None:
        keywords: dict[str, Any] = {"method": call.method, "groups": groups, "headers": dict(call.headers)}
        if call.method == "GET":
            keywords["get"] = dict(call.arguments)
        # A script that calls waits for this, and it may hold one of the threads.
        is_nested = call.origin.kind is not OriginKind.REST_API
        exchange = Exchange(self._host, is_head=call.is_head)
        (callback,) = route.registration.callbacks
        exchange.begin(callback, call.path, keywords, body=await _body_of(call), urgent=is_nested)
        answer = await exchange.answered
        if is_nested and answer is not None and not answer.is_stream:
            await exchange.ended
        if answer is None:
            return None
        # The type is among the headers: what a script answers is never made XML of.
        return Reply(answer.body, None, answer.status, answer.headers, reader=answer.reader, compressible=True)


async def _body_of(call: Call) -> Any:
    """A buffer, or None where scripts are told of no body. What lies on disk is mapped: it may be removed meanwhile."""
    if call.method not in _WITH_BODY:
        return None
    if isinstance(call.body, bytes):
        return call.body
    await call.body.flush()
    return call.body.map()
