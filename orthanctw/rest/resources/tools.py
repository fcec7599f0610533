"""``/tools``: identifiers, time, logs, and the life of the process."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from orthanctw.dicom.charset import ENCODINGS, DefaultEncoding
from orthanctw.errors import EmptyAnswer, ParameterOutOfRange
from orthanctw.identifiers import generate_uid
from orthanctw.log import CATEGORIES, LEVELS, LogLevels
from orthanctw.model import ResourceLevel
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import TEXT, Argument, Body, route
from orthanctw.rest.reply import EMPTY, Reply, text_reply

_LOG_PATHS = ("/tools/log-level", *(f"/tools/log-level-{category}" for category in CATEGORIES))
_GENERATED = {level.title.lower(): level for level in ResourceLevel}
_LEVEL = Argument("level", "string", "What the identifier is for", required=True, values=tuple(_GENERATED))
_LOG_LEVEL = Body(content=(TEXT,), schema={"type": "string", "enum": list(LEVELS)})
_ENCODING = Body(content=(TEXT,), schema={"type": "string", "enum": list(ENCODINGS)})


class ToolRoutes:
    """Small services.

    Parameters
    ----------
    shut_down, reset : callable
        Stop the process, and start it anew, after the answer.
    conformance : callable
        Makes the conformance statement.
    """

    def __init__(
        self,
        levels: LogLevels,
        wall_clock: Callable[[], float],
        shut_down: Callable[[], None],
        reset: Callable[[], None],
        default_encoding: DefaultEncoding,
        conformance: Callable[[], Awaitable[str]],
    ) -> None:
        self._levels = levels
        self._default_encoding = default_encoding
        self._conformance = conformance
        self._wall_clock = wall_clock
        self._shut_down = shut_down
        self._reset = reset

    @route("GET", "/tools/generate-uid", query=[_LEVEL], answers=[TEXT])
    async def generate_uid(self, call: Call) -> Reply:
        """A new identifier for a level."""
        level = _GENERATED.get(call.arguments.get("level", ""))
        if level is None:
            raise EmptyAnswer(404)
        return text_reply(generate_uid(level))

    @route("GET", "/tools/now", answers=[TEXT])
    async def now(self, call: Call) -> Reply:
        """The time in UTC."""
        return text_reply(time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._wall_clock())))

    @route("GET", "/tools/now-local", answers=[TEXT])
    async def now_local(self, call: Call) -> Reply:
        """The time of the server's zone."""
        return text_reply(time.strftime("%Y%m%dT%H%M%S", time.localtime(self._wall_clock())))

    @route("GET", "/tools/default-encoding", answers=[TEXT])
    async def default_encoding(self, call: Call) -> Reply:
        """Name of the encoding of files that name none."""
        return text_reply(self._default_encoding.name)

    @route("PUT", "/tools/default-encoding", body=_ENCODING, answers=[TEXT])
    async def set_default_encoding(self, call: Call) -> Reply:
        """Take another encoding for files that name none, until the server ends; answers its name."""
        self._default_encoding.set(await call.text())
        return await self.default_encoding(call)

    @route("GET", "/tools/dicom-conformance", answers=[TEXT])
    async def conformance(self, call: Call) -> Reply:
        """What the server provides and uses of DICOM's services, as text."""
        return text_reply(await self._conformance())

    @route("POST", "/tools/shutdown", answers=[TEXT])
    async def shutdown(self, call: Call) -> Reply:
        """Stop the server."""
        self._shut_down()
        return EMPTY

    @route("POST", "/tools/reset", answers=[TEXT])
    async def reset(self, call: Call) -> Reply:
        """Restart the server with its configuration read anew."""
        self._reset()
        return EMPTY

    @route("GET", *_LOG_PATHS, answers=[TEXT])
    async def log_level(self, call: Call) -> Reply:
        """What is logged of a category, or in general."""
        category = _category(call)
        return text_reply(self._levels.get(category) if category else self._levels.overall())

    @route("PUT", *_LOG_PATHS, body=_LOG_LEVEL, answers=[TEXT])
    async def set_log_level(self, call: Call) -> Reply:
        """Change what is logged."""
        level = await call.text()
        if level not in LEVELS:
            raise ParameterOutOfRange("Unknown level of logs")
        category = _category(call)
        if category:
            self._levels.set(category, level)
        else:
            self._levels.set_all(level)
        return EMPTY


def _category(call: Call) -> str:
    return call.path.removeprefix("/tools/log-level").removeprefix("-")


