"""Options of the Lua engine, what it needs of the server, and its failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.interfaces import ScriptRequest


def forget_frames(error: BaseException | None) -> None:
    """Let an error, and those that it comes from, forget the frames that they have gone through.

    Arguments of host functions in there belong to a coroutine of Lua, which may be gone when they are freed later:
    that would crash the process. Others would be freed by a thread that has to wait for Lua.
    """
    known: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is not None and id(current) not in known:
            known.add(id(current))
            current.__traceback__ = None
            waiting += (current.__cause__, current.__context__)


class LuaError(OrthancError):
    """A script has failed; `details` is what Lua says of it."""

    code = ErrorCode.CANNOT_EXECUTE_LUA


@attrs.frozen(kw_only=True)
class LuaOptions:
    """Limits in seconds and bytes.

    `compute` is the time that what is no filter may run for, waiting not counted; `answer` the time for the answer of a
    filter, and `wait` that for one answer of the REST API or a program. With `trusts_rest`, scripts of the REST API may
    do what configured ones may. `keeps_strings`: replacements that look like numbers stay strings.
    """

    scripts: Sequence[str] = ()
    executes: bool = False
    memory: int = 256 * 1024 * 1024
    compute: float = 60
    answer: float = 10
    wait: float = 600
    trusts_rest: bool = False
    keeps_strings: bool = False

    @property
    def is_used(self) -> bool:
        """Whether there is any Lua at all."""
        return bool(self.scripts) or self.executes


@attrs.frozen(kw_only=True)
class LuaServices:
    """What scripts can ask of the server; called in the reactor's thread.

    Whatever is not answered with success is an OrthancError. `rest` and `http` answer a body.
    """

    rest: Callable[[ScriptRequest], Awaitable[bytes]]
    http: Callable[[ScriptRequest], Awaitable[bytes]]
    submit: Callable[[Sequence[Mapping[str, Any]]], Awaitable[object]]
    set_stable: Callable[[str, bool], Awaitable[bool]]
    store_value: Callable[[str, str, bytes], Awaitable[None]]
    value: Callable[[str, str], Awaitable[bytes | None]]
    delete_value: Callable[[str, str], Awaitable[None]]
    configuration: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
