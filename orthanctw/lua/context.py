"""The one Lua context: its runtime, with sandbox and functions, for the thread of Lua alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Any, Final

import attrs
from twisted.logger import Logger

from orthanctw.errors import ConfigurationError, ServiceUnavailable
from orthanctw.lua.conversion import ConversionError, Converter
from orthanctw.lua.functions import Functions, is_file
from orthanctw.lua.values import LuaError, LuaOptions
from orthanctw.lua.worker import Frame, LuaWorker

log = Logger(namespace="orthanctw.lua")
_KILLED: Final = "the time limit is exceeded"
#: Errors that begin with it are told with a line of the script instead.
_OWN_CHUNK: Final = b"=orthanctw"
#: What they are told who have waited for an answer.
TOO_LATE: Final = "The script gave no answer in time"


@cache
def _source(name: str) -> bytes:
    return files("orthanctw.lua").joinpath(name).read_bytes()


def _refuse(*_: Any) -> Any:
    raise AttributeError("Objects of the host have no attributes")


@attrs.frozen(kw_only=True)
class _Lua:
    """A runtime, and the functions of its sandbox."""

    runtime: Any
    run: Callable[..., Any]
    load: Callable[..., Any]
    get: Callable[[bytes], Any]
    defined: Callable[[], bytes]
    trusted: Any
    restricted: Any
    converter: Converter


class LuaContext:
    """Runs scripts and callbacks within limits.

    Parameters
    ----------
    names : sequence of str
        The callbacks that somebody may ask for.
    """

    def __init__(self, worker: LuaWorker, functions: Functions, options: LuaOptions, names: Sequence[str]) -> None:
        self._worker = worker
        self._functions = functions
        self._options = options
        self._names = names
        #: Which of the callbacks there are.
        self.defined: frozenset[str] = frozenset()
        self._lua: _Lua
        #: False while the configured scripts must be run anew: filters that they define are missing.
        self._is_whole = True
        self._is_limited = False

    def open(self) -> None:
        """Make the runtime and run the configured scripts. ConfigurationError, naming script and line."""
        # Not before Lua is used: most servers have none.
        from lupa import lua53

        runtime = lua53.LuaRuntime(
            encoding=None,
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=_refuse,
            # Limited by the sandbox, while scripts run.
            max_memory=0,
        )
        original = runtime.globals()
        converter = Converter(
            table=runtime.table,
            type_of=lua53.lua_type,
            to_number=original[b"tonumber"],
            to_string=original[b"tostring"],
            check=self._check,
        )
        sandbox = runtime.execute(
            _source("sandbox.lua"),
            self._worker.is_due,
            self._is_killed,
            lambda: self._limit(True),
            lambda: self._limit(False),
            self._functions.call,
            _find,
            _source("patterns.lua"),
            name=_OWN_CHUNK,
        )
        trusted = sandbox[b"globals"]
        runtime.execute(_source("toolbox.lua"), sandbox[b"host"], trusted, name=_OWN_CHUNK)
        names = runtime.table_from([name.encode() for name in self._names])
        self._lua = _Lua(
            runtime=runtime,
            run=sandbox[b"run"],
            load=sandbox[b"loader"],
            get=sandbox[b"get"],
            defined=partial(sandbox[b"defined"], names),
            trusted=trusted,
            restricted=trusted if self._options.trusts_rest else sandbox[b"restrict"](),
            converter=converter,
        )
        self._functions.converter = converter
        self._run_configured()
        self._is_whole = True
        self._look()

    def close(self) -> None:
        """Let go of everything."""
        del self._lua, self._functions.converter

    def execute(self, source: bytes) -> bytes:
        """Run code of the REST API; what it prints. LuaError."""
        frame = self._frame(output=[])
        self._run_in(frame, self._load(source, b"line", self._lua.restricted))
        return b"".join(frame.output or ())

    def call(self, name: str, values: Sequence[Any], deadline: float) -> list[Any] | None:
        """Ask a callback; what it answers, as JSON, or None when there is none of this name. LuaError.

        ServiceUnavailable when it is too slow, or the scripts that define it could not be run anew.

        Parameters
        ----------
        deadline : float
            When nobody waits for the answer any more (monotonic seconds).
        """
        if not self._is_whole:
            raise ServiceUnavailable("The scripts have not been run")
        function = self._lua.get(name.encode())
        return None if function is None else self._run_in(self._frame(deadline), function, values)

    def tell(self, name: str, values: Sequence[Any], *, is_followed: bool) -> list[Any]:
        """Call a callback that answers nothing; the operations that are to follow, if that is possible. LuaError."""
        function = self._lua.get(name.encode())
        frame = self._frame(operations=[] if is_followed else None)
        if function is not None:
            self._run_in(frame, function, values)
        return frame.operations or []

    def tidy(self) -> None:
        """Make a new context when what scripts keep leaves no memory for anything else."""
        limit, runtime = self._options.memory, self._lua.runtime
        if runtime.get_memory_used() < limit / 2:
            return
        runtime.gccollect()
        used = runtime.get_memory_used()
        if used < limit * 7 / 8:
            return
        log.error("Lua: scripts hold {used} MB: their context is given up, and made anew", used=used >> 20)
        self._is_whole = False
        try:
            self.open()
        except ConfigurationError as e:
            log.error("Lua: {problem}", problem=e.details)

    def _frame(self, deadline: float | None = None, **fields: Any) -> Frame:
        expires = time.monotonic() + self._options.compute if deadline is None else deadline
        return Frame(expires=expires, deadline=deadline, **fields)

    def _run_configured(self) -> None:
        for path in self._options.scripts:
            if not is_file(path):
                raise ConfigurationError([f"LuaScripts: {path} is no regular file"])
            try:
                with open(path, "rb") as file:
                    source = file.read()
                self._run_in(self._frame(), self._load(source, _chunk_name(path), self._lua.trusted))
            except OSError as e:
                raise ConfigurationError([f"LuaScripts: {path} cannot be read: {e.strerror}"]) from e
            except LuaError as e:
                raise ConfigurationError([f"LuaScripts: {path}: {e.details}"]) from e

    def _load(self, source: bytes, name: bytes, environment: Any) -> Any:
        loaded = self._lua.load(source, name, b"t", environment)
        if isinstance(loaded, tuple):
            raise LuaError(_message(loaded[1]))
        return loaded

    def _run_in(self, frame: Frame, function: Any, values: Sequence[Any] = ()) -> list[Any]:
        """Results are converted as those of find filters are: numbers within tables as strings."""
        lua, was_limited = self._lua, self._is_limited
        self._limit(False)
        self._worker.enter(frame)
        try:
            outcome = lua.run(function, *[lua.converter.to_lua(value) for value in values])
            ok, *results = outcome if isinstance(outcome, tuple) else (outcome,)
            problem = "" if ok else _message(results[0] if results else None)
            if frame.is_killed and frame.deadline is not None:
                log.error("Lua: {problem}", problem=problem or _KILLED)
                raise ServiceUnavailable(TOO_LATE)
            if frame.is_killed or not ok:
                raise LuaError(problem or (_KILLED if frame.is_killed else ""))
            return [
                result if isinstance(result, int | float) else lua.converter.to_json(result, keep_strings=True)
                for result in results
            ]
        except ConversionError as e:
            raise LuaError(str(e)) from e
        finally:
            self._worker.leave()
            self._look()
            # Whoever is interrupted goes on as it was.
            self._limit(was_limited)

    def _look(self) -> None:
        if self._is_whole:
            self.defined = frozenset(self._lua.defined().decode().split())

    def _is_killed(self) -> bool:
        return self._worker.frame.is_killed

    def _limit(self, is_limited: bool) -> None:
        self._is_limited = is_limited
        self._lua.runtime.set_max_memory(self._options.memory if is_limited else 0)

    def _check(self, made: int) -> None:
        if made > self._options.memory or self._lua.runtime.get_memory_used() > self._options.memory:
            raise ConversionError("not enough memory")
        if self._worker.is_due():
            raise ConversionError(_KILLED)


def _chunk_name(path: str) -> bytes:
    """Without its folder: clients are told of errors in filters."""
    return b"@" + os.path.basename(path).encode()


def _find(subject: bytes, text: bytes, init: int) -> tuple[bool, Any, Any]:
    at = subject.find(text, init - 1)
    return (True, None, None) if at < 0 else (True, at + 1, at + len(text))


def _message(error: Any) -> str:
    """What Lua says of an error; a value that is no text says nothing."""
    if isinstance(error, bytes):
        return error.decode("utf-8", "replace")
    return str(error) if isinstance(error, int | float) and not isinstance(error, bool) else ""
