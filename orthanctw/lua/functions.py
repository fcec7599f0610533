"""The functions of scripts that the host carries out."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import orjson
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.errors import OrthancError
from orthanctw.interfaces import ScriptRequest
from orthanctw.lua.conversion import ConversionError, Converter
from orthanctw.lua.programs import Program
from orthanctw.lua.values import LuaOptions, LuaServices, forget_frames
from orthanctw.lua.worker import LuaWorker

log = Logger(namespace="orthanctw.lua")
#: Operations of one job at most.
_MAXIMUM_OPERATIONS = 10_000
#: null, zero, full and urandom.
_HARMLESS_DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 7, 9))


class ScriptMistake(Exception):
    """A function is used as it cannot be: an error in the script."""


class Functions:
    """Carries functions out by their names; arguments and results are Lua's.

    Parameters
    ----------
    begin : callable
        Has the reactor call a function of the services, and answers a future.
    """

    def __init__(
        self,
        worker: LuaWorker,
        services: LuaServices,
        options: LuaOptions,
        begin: Callable[..., Future[Any]],
    ) -> None:
        self._worker = worker
        self._services = services
        self._options = options
        self._begin = begin
        #: Set by the context: each Lua runtime has its own.
        self.converter: Converter
        self._username = ""
        self._password = ""
        self._timeout = 0
        self._functions: Mapping[str, Callable[..., Any]] = {
            "print": self._print,
            "append_operation": self._append_operation,
            "is_file": is_file,
            "run_program": self._run_program,
            "ParseJson": self._parse_json,
            "DumpJson": self._dump_json,
            "HttpGet": self._http_get,
            "HttpPost": self._http_post,
            "HttpPut": self._http_put,
            "HttpDelete": self._http_delete,
            "SetHttpCredentials": self._set_http_credentials,
            "SetHttpTimeout": self._set_http_timeout,
            "RestApiGet": self._rest_get,
            "RestApiPost": self._rest_post,
            "RestApiPut": self._rest_put,
            "RestApiDelete": self._rest_delete,
            "GetOrthancConfiguration": self._configuration,
            "SetStableStatus": self._set_stable_status,
            "StoreKeyValue": self._store_key_value,
            "GetKeyValue": self._get_key_value,
            "DeleteKeyValue": self._delete_key_value,
        }

    def call(self, name: bytes, *arguments: Any) -> Any:
        """For the sandbox: True and the results, or False and what is wrong. Never raises."""
        title = name.decode()
        try:
            result = self._functions[title](*arguments)
        except Exception as e:  # noqa: BLE001 - an exception in Lua would show the host to scripts
            mistake = _told(title, e)
            forget_frames(e)
            return (True, None) if mistake is None else (False, mistake.encode("utf-8", "replace"))
        return (True, *result) if isinstance(result, tuple) else (True, result)

    def _wait(self, what: str, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        try:
            return self._worker.wait(self._begin(function, *arguments), self._options.wait)
        except FutureTimeout:
            self._check_killed()
            raise OrthancError(f"{what}: no answer in time") from None

    def _check_killed(self) -> None:
        if self._worker.frame.is_killed:
            raise ScriptMistake("the time limit is exceeded")

    # Output and conversion

    def _print(self, text: bytes) -> None:
        shown = text.decode("utf-8", "replace")
        log.warn("Lua says: {text}", text=shown)
        frame = self._worker.frame
        if frame.output is not None:
            frame.printed += len(text) + 1
            if frame.printed > self._options.memory:
                raise ScriptMistake("too much output")
            frame.output.append(text + b"\n")

    def _parse_json(self, text: Any) -> Any:
        try:
            value = orjson.loads(_string(text))
        except ValueError:
            log.error("Lua: ParseJson(): the text is no JSON")
            return None
        return self.converter.to_lua(value)

    def _dump_json(self, value: Any, keep_strings: Any = False) -> bytes:
        if not isinstance(keep_strings, bool):
            raise _WrongArguments
        converted = self.converter.to_json(value, keep_strings=keep_strings)
        # Tables have no order; clients of Orthanc know that of names.
        return orjson.dumps(converted, option=orjson.OPT_SORT_KEYS)

    def _configuration(self, *_: Any) -> Any:
        return self.converter.to_lua(self._services.configuration)

    def _append_operation(self, operation: Any) -> None:
        operations = self._worker.frame.operations
        if operations is None:
            raise ScriptMistake(
                "this is only possible in OnStoredInstance, OnStable..., OnDeleted... and OnUpdated..."
            )
        if len(operations) >= _MAXIMUM_OPERATIONS:
            raise ScriptMistake("too many operations")
        # Numbers in names, identifiers and arguments would be others there.
        converted = self.converter.to_json(operation, keep_strings=True)
        if "Replace" in converted and not self._options.keeps_strings:
            converted["Replace"] = self.converter.to_json(operation[b"Replace"], keep_strings=False)
        operations.append(converted)

    # HTTP

    def _http(self, method: str, url: Any, body: Any, headers: Any) -> bytes:
        request = ScriptRequest(
            method=method,
            uri=_text(url),
            body=b"" if body is None else _string(body),
            headers=self._headers(headers),
            username=self._username,
            password=self._password,
            timeout=self._timeout,
        )
        answer: bytes = self._wait(f"{method} {request.uri}", self._services.http, request)
        return answer

    def _http_get(self, url: Any, headers: Any = None) -> bytes:
        return self._http("GET", url, None, headers)

    def _http_post(self, url: Any, body: Any = None, headers: Any = None) -> bytes:
        return self._http("POST", url, body, headers)

    def _http_put(self, url: Any, body: Any = None, headers: Any = None) -> bytes:
        return self._http("PUT", url, body, headers)

    def _http_delete(self, url: Any, headers: Any = None) -> bytes:
        self._http("DELETE", url, None, headers)
        return b"SUCCESS"

    def _set_http_credentials(self, username: Any, password: Any) -> None:
        self._username, self._password = _text(username), _text(password)

    def _set_http_timeout(self, seconds: Any) -> None:
        if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 <= seconds < 2**31:
            raise _WrongArguments
        self._timeout = seconds

    # The REST API of this server

    def _rest(self, method: str, uri: Any, body: Any, options: tuple[Any, ...]) -> bytes:
        """`options` are the arguments after the body: whether it is built in, and headers."""
        if len(options) > 2:
            raise _WrongArguments
        is_builtin = len(options) == 1 and options[0]
        if not isinstance(is_builtin, bool):
            raise _WrongArguments
        request = ScriptRequest(
            method=method,
            uri=_text(uri),
            body=body,
            headers=self._headers(options[1] if len(options) == 2 else None),
            is_builtin=is_builtin,
        )
        answer: bytes = self._wait(f"{method} {request.uri}", self._services.rest, request)
        return answer

    def _rest_get(self, uri: Any, *options: Any) -> bytes:
        return self._rest("GET", uri, b"", options)

    def _rest_post(self, uri: Any, body: Any, *options: Any) -> bytes:
        return self._rest("POST", uri, _string(body), options)

    def _rest_put(self, uri: Any, body: Any, *options: Any) -> bytes:
        return self._rest("PUT", uri, _string(body), options)

    def _rest_delete(self, uri: Any, *options: Any) -> bool:
        self._rest("DELETE", uri, b"", options)
        return True

    def _headers(self, table: Any) -> dict[str, str]:
        if table is None:
            return {}
        if isinstance(table, bool | int | float | bytes) or self.converter.type_of(table) != "table":
            raise _WrongArguments
        return {_text(name): _text(value) for name, value in table.items()}

    # The index

    def _set_stable_status(self, public_id: Any, stable: Any) -> bool:
        if not isinstance(stable, bool):
            raise _WrongArguments
        changed: bool = self._wait("SetStableStatus", self._services.set_stable, _text(public_id), stable)
        return changed

    def _store_key_value(self, store: Any, key: Any, value: Any) -> Any:
        self._wait("StoreKeyValue", self._services.store_value, _text(store), _text(key), _string(value))
        return value

    def _get_key_value(self, store: Any, key: Any) -> bytes | None:
        value: bytes | None = self._wait("GetKeyValue", self._services.value, _text(store), _text(key))
        return value

    def _delete_key_value(self, store: Any, key: Any) -> Any:
        self._wait("DeleteKeyValue", self._services.delete_value, _text(store), _text(key))
        return key

    # Programs

    def _run_program(self, command: Any, text: Any, captures: Any) -> tuple[bytes, bool | None, bytes, int]:
        program = Program(_string(command), _string(text), captures=captures, maximum=self._options.memory)
        program.start()
        try:
            output, status = self._worker.wait(program.result, self._options.wait)
        except FutureTimeout:
            program.kill()
            self._check_killed()
            return b"", None, b"signal", int(signal.SIGKILL)
        except OSError as e:
            raise OrthancError(f"the program cannot be run: {e.strerror}") from e
        if status < 0:
            return output, None, b"signal", -status
        return output, status == 0 or None, b"exit", status


def _told(function: str, error: Exception) -> str | None:
    """What is wrong with the script; None when the log tells why a function has answered nothing."""
    if isinstance(error, ScriptMistake | ConversionError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OrthancError | _WrongArguments):
        log.error("Lua: {function}(): {reason}", function=function, reason=str(error))
    elif isinstance(error, TypeError):
        log.error("Lua: {function}(): wrong number of arguments", function=function)
    else:
        failure = Failure(error)
        failure.cleanFailure()
        log.failure("Lua: {function}() has failed", failure, function=function)
    return None


class _WrongArguments(Exception):
    def __str__(self) -> str:
        return "wrong arguments"


def is_file(path: bytes | str) -> bool:
    """Whether a file can be opened without waiting for somebody else, or is not there."""
    try:
        status = os.stat(path)
    except ValueError:
        # Lua's library would leave out what follows a NUL.
        return False
    except OSError:
        return True
    if stat.S_ISCHR(status.st_mode):
        return status.st_rdev in _HARMLESS_DEVICES
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _string(value: Any) -> bytes:
    """A string, or a number as Lua writes it."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (b"%d" if isinstance(value, int) else b"%.14g") % value
    raise _WrongArguments


def _text(value: Any) -> str:
    return _string(value).decode("utf-8", "replace")
