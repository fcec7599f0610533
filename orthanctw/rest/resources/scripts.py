"""``/tools/execute-script``: Lua of clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from orthanctw.errors import EmptyAnswer
from orthanctw.model import OriginKind
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import TEXT, Body, route
from orthanctw.rest.reply import TEXT as TEXT_TYPE
from orthanctw.rest.reply import Reply

_SCRIPT = Body(content=(TEXT,), schema={"type": "string"}, summary="The script")


class ScriptRoutes:
    """Lua.

    Parameters
    ----------
    execute : callable, optional
        Runs a script, at once when the second argument says that another script waits for it; None: nobody may.
    """

    def __init__(self, execute: Callable[[bytes, bool], Awaitable[bytes]] | None) -> None:
        self._execute = execute

    @route("POST", "/tools/execute-script", body=_SCRIPT, answers=[TEXT])
    async def execute(self, call: Call) -> Reply:
        """Run a Lua script, with ``ExecuteLuaEnabled``; answers what it has printed."""
        if self._execute is None:
            raise EmptyAnswer(403)
        printed = await self._execute(await call.content(), call.origin.kind is OriginKind.LUA)
        return Reply(printed, TEXT_TYPE, compressible=True)
