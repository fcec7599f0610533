"""Composition of Python scripts over the parts of a server (level 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.httpclient import HttpFailure, HttpRequest
from orthanctw.interfaces import IChangeListener, IJobListener
from orthanctw.model import Change, ChangeType, JobEvent, JobEventType, Origin, OriginKind
from orthanctw.python_hooks.objects import ScriptObjects
from orthanctw.rest.scripting import ScriptDispatcher
from orthanctw.scripting import (
    Host,
    Kind,
    Registry,
    ScriptingOptions,
    ScriptingServices,
    ScriptRequest,
    Scripts,
    build_module,
)
from orthanctw.threads import SerialWorker

if TYPE_CHECKING:
    from orthanctw.parts import Parts

log = Logger(namespace="orthanctw.plugins")
#: Bytes of an answer that a script can take.
_MAXIMUM: Final = 1 << 31
#: Numbers of ``ChangeType``.
_CHANGES: Final = {
    ChangeType.COMPLETED_SERIES: 0,
    ChangeType.DELETED: 1,
    ChangeType.NEW_CHILD_INSTANCE: 2,
    ChangeType.NEW_INSTANCE: 3,
    ChangeType.NEW_PATIENT: 4,
    ChangeType.NEW_SERIES: 5,
    ChangeType.NEW_STUDY: 6,
    ChangeType.STABLE_PATIENT: 7,
    ChangeType.STABLE_SERIES: 8,
    ChangeType.STABLE_STUDY: 9,
    ChangeType.UPDATED_ATTACHMENT: 12,
    ChangeType.UPDATED_METADATA: 13,
}
_STARTED, _STOPPED, _UPDATED_PEERS, _UPDATED_MODALITIES = 10, 11, 14, 15
_JOBS: Final = {JobEventType.SUBMITTED: 16, JobEventType.SUCCESS: 17, JobEventType.FAILURE: 18}
#: ``ResourceType.NONE``.
_NO_LEVEL: Final = 4


class PythonParts:
    """The scripts of a server; nothing when there are none."""

    def __init__(self, parts: Parts, reactor: Any) -> None:
        self._parts = parts
        self._reactor = reactor
        settings, own = parts.settings, parts.settings.orthanctw
        self.options = ScriptingOptions(
            scripts=settings.python_scripts,
            environment=own.python_virtual_environment,
            threads=own.python_threads,
            answer=own.python_filter_timeout,
            is_verbose=settings.python.python_verbose or settings.python_section.verbose,
            shows_memory=settings.python_section.display_memory_usage,
        )
        self.host = Host(
            reactor,
            ScriptingServices(index=parts.index, rest=self._rest, http=self._http, objects=self._objects()),
            self.options,
            parts.metrics,
        )
        self._scripts = Scripts(
            self.options.scripts, self.options.environment, is_verbose=self.options.is_verbose
        )
        self.host.script_of_caller = self._scripts.script_of_caller
        self._changes = SerialWorker(reactor, "python-changes")
        self._is_running = False
        if self.is_used:
            telling = ChangeTelling(self)
            parts.events.subscribe(telling)
            parts.events.subscribe_to_jobs(telling)

    def _objects(self) -> ScriptObjects:
        parts = self._parts
        return ScriptObjects(
            parts.catalog,
            parts.contents,
            parts.processes,
            parts.transcoder,
            parts.default_encoding,
            nesting=parts.settings.orthanctw.maximum_nesting,
        )

    @property
    def is_used(self) -> bool:
        """Whether there are scripts."""
        return bool(self.options.scripts)

    async def start(self) -> None:
        """Load the scripts, before anybody is served. ConfigurationError."""
        if not self.is_used:
            return
        self._changes.start()
        try:
            await self._load()
        except BaseException:
            await self._end()
            raise
        self._is_running = True

    async def _load(self) -> None:
        await self.host.threads.call(self._scripts.load, build_module(self.host))

    def started(self) -> None:
        """The server is there for everybody."""
        self.tell(_STARTED)

    async def stop(self, deadline: float) -> None:
        """Tell what waits and the end; what scripts have not done at the reactor's time `deadline` is given up."""
        if not self._is_running:
            return
        self.tell(_STOPPED)
        self._is_running = False
        await self._end(max(0.0, deadline - self._reactor.seconds()))

    async def _end(self, seconds: float = 0.0) -> None:
        ended = self._changes.stop()
        late = self._reactor.callLater(seconds, ended.cancel)
        try:
            await ended
        except BaseException:  # noqa: BLE001
            log.error("Python scripts have not ended in time")
        finally:
            if late.active():
                late.cancel()
            self.host.stop()
            self._scripts.unload()

    def tell(self, change: int, level: int = _NO_LEVEL, resource: str = "") -> None:
        """Tell scripts of a change, after those before, by the numbers of ``ChangeType`` and ``ResourceType``."""
        if not self._is_running:
            return
        for registration in self.host.registry.all(Kind.CHANGE):
            (callback,) = registration.callbacks
            told: Deferred[Any] = self._changes.call(self.host.run, "change", callback, change, level, resource)
            # It is in the log.
            told.addErrback(lambda _: None)

    async def reload(self) -> None:
        """Load the scripts anew. ConfigurationError, and then those before go on."""
        if not self.is_used:
            return
        former, self.host.registry = self.host.registry, Registry()
        self._scripts.unload()
        try:
            await self._load()
        except BaseException:
            self.host.registry = former
            raise

    async def _rest(self, request: ScriptRequest) -> bytes:
        dispatcher = ScriptDispatcher(
            self._parts.api, Origin(kind=OriginKind.PLUGINS), _MAXIMUM, successes=range(200, 301)
        )
        return await dispatcher.ask(request.method, request.uri, request.body, request.headers)

    async def _http(self, request: ScriptRequest) -> bytes:
        answer = await self._parts.http.request(
            HttpRequest(
                method=request.method,
                url=request.uri,
                headers=request.headers,
                body=request.body,
                username=request.username,
                password=request.password,
                maximum=_MAXIMUM,
                is_repeatable=request.method in ("GET", "PUT", "DELETE"),
            )
        )
        if not answer.is_success:
            raise HttpFailure(f"{request.method} is answered with {answer.status} {answer.reason}")
        return answer.body


@implementer(IChangeListener, IJobListener)
class ChangeTelling:
    """Tells scripts of changes and jobs."""

    def __init__(self, python: PythonParts) -> None:
        self._python = python

    def changed(self, change: Change) -> None:
        number = _CHANGES.get(change.change_type)
        if number is not None:
            self._python.tell(number, change.level - 1, change.public_id)

    def job_changed(self, event: JobEvent) -> None:
        self._python.tell(_JOBS[event.event_type], _NO_LEVEL, event.job_id)
