"""Between scripts and the server: calls from their threads into the reactor, calls of theirs from the reactor."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python import threadable
from twisted.python.failure import Failure

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.interfaces import IIndex, ScriptRequest
from orthanctw.metrics import Metrics
from orthanctw.scripting.exposure import OrthancException, check_process, failure
from orthanctw.scripting.facts import ServerFacts
from orthanctw.scripting.objects import ObjectWork
from orthanctw.scripting.registry import Kind, Registration, Registry
from orthanctw.scripting.workers import ScriptThreads
from orthanctw.threads import Bridge

log = Logger(namespace="orthanctw.plugins")


@attrs.frozen(kw_only=True)
class ScriptingOptions:
    """Of scripts in Python: paths in their order, a virtual environment, threads, seconds to decide in."""

    scripts: tuple[str, ...] = ()
    environment: str = ""
    threads: int = 32
    answer: float = 30
    is_verbose: bool = False
    shows_memory: bool = False


@attrs.frozen(kw_only=True)
class ScriptingServices:
    """What scripts can ask of the server; called in the reactor's thread. Failures are OrthancErrors."""

    index: IIndex
    rest: Callable[[ScriptRequest], Awaitable[bytes]]
    http: Callable[[ScriptRequest], Awaitable[bytes]]
    #: The value of ``Authorization`` that lets in programs which scripts start.
    token: Callable[[], str]
    #: Calls a resource stable, or not; answers whether that changed something.
    set_stable: Callable[[str, bool], Awaitable[bool]]
    #: What compares DICOM files with a query; on any thread. Both raise BadFileFormat.
    matcher: Callable[[bytes], Callable[[bytes], bool]]
    objects: ObjectWork
    facts: ServerFacts = attrs.field(factory=ServerFacts)


class Host:
    """What the module ``orthanc`` stands on.

    Attributes
    ----------
    registry : Registry
        What scripts have registered; another one after they were loaded anew.
    registering : Registry
        Where they register: while they are loaded anew, it is not the one above yet.
    threads : ScriptThreads
        Where callbacks run.
    services : ScriptingServices
    """

    def __init__(
        self, reactor: Any, services: ScriptingServices, options: ScriptingOptions, metrics: Metrics
    ) -> None:
        self.reactor = reactor
        self.services = services
        self.options = options
        self.registry = self.registering = Registry()
        self.threads = ScriptThreads(reactor, "python", options.threads)
        self.script_of_caller: Callable[[], str] = lambda: ""
        self._bridge = Bridge(reactor)
        self._pid = os.getpid()
        self.metrics = metrics
        self._durations = metrics.durations("orthanctw_python_seconds", "Callbacks of Python scripts", ["callback"])
        metrics.gauge("orthanctw_python_waiting", lambda: self.threads.waiting)
        metrics.gauge("orthanctw_python_running", lambda: self.threads.running)

    # For scripts, on any thread but the reactor's

    def wait(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the reactor answers to a call of a function, which may be a coroutine; waits for it.

        Raises what it raises; OrthancException where nobody can wait.
        """
        check_process(self._pid)
        if threadable.isInIOThread():
            raise failure(ErrorCode.BAD_SEQUENCE_OF_CALLS, "Not in the thread of the reactor")
        return self._bridge.begin(function, *arguments).result()

    def register(self, kind: Kind, *callbacks: Any, version: int = 1) -> None:
        """Note callbacks of the calling script. ValueError, RuntimeError."""
        self.registering.add(kind, self.registration(*callbacks, version=version))

    def registration(self, *callbacks: Any, version: int = 1) -> Registration:
        """Callbacks of the calling script. ValueError when one cannot be called."""
        if not all(callable(callback) for callback in callbacks):
            raise ValueError("A callable is needed")
        return Registration(self.script_of_caller(), callbacks, version)

    # For the server, in the reactor's thread

    def ask(self, kind: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Deferred[Any]:
        """What a callback answers that decides; fails with ServiceUnavailable after ``PythonFilterTimeout``."""
        done = self.threads.call_limited(
            self.options.answer, lambda: self.run(kind, function, *arguments, **keywords)
        )
        done.addErrback(self._late)
        return done

    def _late(self, failure: Failure) -> Failure:
        if failure.check(ServiceUnavailable):
            self.metrics.add("orthanctw_python_late_answers_total")
        return failure

    def call(
        self, kind: str, function: Callable[..., Any], *arguments: Any, urgent: bool = False, **keywords: Any
    ) -> Deferred[Any]:
        """What a callback answers that may take its time; not `urgent`: when a thread is free."""
        return self.threads.call(lambda: self.run(kind, function, *arguments, **keywords), urgent=urgent)

    def run(self, kind: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call a callback, in the present thread; what it raises is logged and becomes an OrthancError."""
        started = time.monotonic()
        try:
            return function(*arguments, **keywords)
        except OrthancError:
            raise
        except BaseException as error:  # noqa: BLE001 - it is foreign code, which may call sys.exit
            log.failure("Error in the Python {kind} callback", kind=kind)
            self.metrics.add("orthanctw_python_errors_total")
            raise self._seen_as(error) from None
        finally:
            self._durations.observe(time.monotonic() - started, kind)

    def _seen_as(self, error: BaseException) -> OrthancError:
        """What clients see of an exception: nothing, unless it has an error code that scripts have added."""
        match error.args if isinstance(error, OrthancException) else ():
            case (int(number), *texts) if number in self.registry.codes:
                return OrthancError(" ".join(map(str, texts)), code=self.registry.codes[number])
        return OrthancError("Error in a Python script", code=ErrorCode.PLUGIN)

    def stop(self) -> None:
        """Let no script begin anything, or wait for anything, any more."""
        self.threads.stop()
        self._bridge.stop()

