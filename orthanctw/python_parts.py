"""Composition of Python scripts over the parts of a server (level 6)."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.httpclient import HttpRequest
from orthanctw.interfaces import IChangeListener, IJobListener, ScriptRequest
from orthanctw.model import Change, ChangeType, JobEvent, JobEventType, Origin, OriginKind
from orthanctw.python_hooks.cstore import PythonStoreFilter
from orthanctw.python_hooks.facts import server_facts
from orthanctw.python_hooks.find import Reading
from orthanctw.python_hooks.http_filter import PythonHttpFilter
from orthanctw.python_hooks.objects import ScriptObjects
from orthanctw.python_hooks.received import PythonReceived
from orthanctw.python_hooks.scp import PythonServices
from orthanctw.python_hooks.storage import PythonFiles
from orthanctw.python_hooks.stored import StoredTelling
from orthanctw.python_hooks.worklists import matcher_of
from orthanctw.rest.authentication import AccessToken
from orthanctw.rest.scripting import ScriptDispatcher
from orthanctw.scripting import (
    Host,
    Kind,
    Registry,
    ScriptingOptions,
    ScriptingServices,
    Scripts,
    build_module,
)
from orthanctw.scripting.forks import Belongings, part_from_children
from orthanctw.scripting.memory import MemoryDisplay
from orthanctw.scripting.presentation import Presentation
from orthanctw.settings import DecoderOrder
from orthanctw.storage.scripted import ScriptedStorage
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
#: What statuses of other servers mean to scripts.
_HTTP_CODES: Final = {
    400: ErrorCode.BAD_REQUEST,
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.UNAUTHORIZED,
    404: ErrorCode.UNKNOWN_RESOURCE,
}
#: ``ResourceType.NONE``.
_NO_LEVEL: Final = 4
#: Seconds in which threads without work end.
_LEAST: Final = 1.0


class PythonParts:
    """The scripts of a server; nothing when there are none."""

    _loading: Deferred[None] | None = None

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
        self.token = AccessToken()
        reading = Reading(parts.dictionary, parts.default_encoding)
        case_sensitive = settings.dicom.case_sensitive_pn
        self.host = Host(
            reactor,
            ScriptingServices(
                index=parts.index,
                rest=self._rest,
                http=self._http,
                token=self.token.value,
                set_stable=parts.stability.decide,
                objects=self._objects(),
                facts=server_facts(settings, parts.peers.all),
                matcher=matcher_of(reading, case_sensitive_names=case_sensitive),
            ),
            self.options,
            parts.metrics,
        )
        self.dicom = PythonServices(self.host, reading, case_sensitive_names=case_sensitive)
        self._scripts = Scripts(
            self.options.scripts, self.options.environment, is_verbose=self.options.is_verbose
        )
        self.host.script_of_caller = self._scripts.script_of_caller
        self._changes = SerialWorker(reactor, "python-changes")
        self._stored = StoredTelling(self.host, reactor, parts.index, parts.storage, parts.names)
        self._is_running = self._has_ended = False
        self._reloading = DeferredLock()
        self._memory = MemoryDisplay(reactor)
        self._ports: Collection[int] = ()
        storage = settings.storage
        self._belongings = Belongings(
            reactor=reactor,
            folders=[path for path in (storage.storage_directory, storage.index_directory) if path],
            ports=lambda: self._ports,
        )
        if self.is_used:
            telling = ChangeTelling(self)
            parts.events.subscribe(telling)
            parts.events.subscribe_to_jobs(telling)
            parts.peers.changed = partial(self.tell, _UPDATED_PEERS)
            parts.modalities.changed = partial(self.tell, _UPDATED_MODALITIES)
            parts.events.subscribe_to_jobs(self.dicom.commitment)
            parts.http_filters.append(PythonHttpFilter(self.host))
            parts.events.subscribe(self._stored)
            parts.ingest.revision.add(PythonReceived(self.host))
            parts.ingest.add_filter(PythonStoreFilter(self.host))
        if isinstance(parts.storage, ScriptedStorage):
            parts.storage.files = PythonFiles(self.host, parts.index)

    def _objects(self) -> ScriptObjects:
        parts = self._parts
        return ScriptObjects(
            parts.catalog,
            parts.contents,
            parts.processes,
            parts.transcoder,
            parts.default_encoding,
            nesting=parts.settings.orthanctw.maximum_nesting,
            decodes=parts.settings.transcoding.builtin_decoder_transcoder_order is not DecoderOrder.DISABLED,
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
        part_from_children(self._belongings)
        if self.options.shows_memory:
            self._memory.start()
        try:
            await self._load()
        except BaseException:
            await self._end()
            raise
        self._stored.start()
        self._is_running = True

    async def _load(self) -> None:
        self._loading = self.host.threads.call(self._scripts.load, build_module(self.host))
        try:
            await self._loading
        except CancelledError:
            raise OrthancError("It was stopped while scripts were loaded") from None
        finally:
            self._loading = None

    def give_up(self) -> None:
        """A start that waits for scripts to be loaded fails."""
        if self._loading is not None:
            self._loading.cancel()

    def started(self, ports: Collection[int]) -> None:
        """The server is there for everybody, on these ports."""
        self._ports = ports
        self.tell(_STARTED)

    async def stop(self, deadline: float) -> None:
        """Tell what waits and the end; what scripts have not done at the reactor's time `deadline` is given up."""
        if not self._is_running:
            return
        await self._within(deadline, self._stored.stop())
        self.tell(_STOPPED)
        self._is_running = False
        await self._end(deadline)

    async def _end(self, deadline: float = 0.0) -> None:
        try:
            await self._within(deadline, self._changes.stop())
        finally:
            self._has_ended = True
            self.host.stop()
            self._memory.stop()
            self._scripts.unload()

    async def _within(self, deadline: float, ended: Deferred[None]) -> None:
        """Wait for an end, until the reactor's time `deadline`."""
        late = self._reactor.callLater(max(_LEAST, deadline - self._reactor.seconds()), ended.cancel)
        try:
            await ended
        except CancelledError:
            log.error("Python scripts have not ended in time")
        finally:
            if late.active():
                late.cancel()

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
        await self._reloading.run(lambda: Deferred.fromCoroutine(self._reload()))

    async def _reload(self) -> None:
        if not self._is_running:
            return
        host = self.host
        host.registering = Registry()
        try:
            await host.threads.call(self._scripts.reload, build_module(host))
        except BaseException:
            host.registering = host.registry
            raise
        if self._has_ended:
            self._scripts.unload()
            return
        self.tell(_STOPPED)
        host.registry = host.registering
        self.tell(_STARTED)

    @property
    def presentation(self) -> Presentation | None:
        """How scripts present themselves; None when there are none."""
        return self.host.registry.presentation if self.is_used else None

    @property
    def storage_script(self) -> str | None:
        """The script that keeps files in place of the storage directory; None when there is none."""
        registration = self.host.registry.one(Kind.STORAGE_AREA)
        return None if registration is None else registration.script

    async def _rest(self, request: ScriptRequest) -> bytes:
        dispatcher = ScriptDispatcher(
            self._parts.api, Origin(kind=OriginKind.PLUGINS), _MAXIMUM, successes=range(200, 301)
        )
        return await dispatcher.ask(
            request.method, request.uri, request.body, request.headers, is_builtin=request.is_builtin
        )

    async def _http(self, request: ScriptRequest) -> bytes:
        answer = await self._parts.http.request(HttpRequest.of_script(request, _MAXIMUM))
        if not answer.is_success:
            code = _HTTP_CODES.get(answer.status, ErrorCode.NETWORK_PROTOCOL)
            raise OrthancError(f"{request.method} is answered with {answer.status} {answer.reason}", code=code)
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
