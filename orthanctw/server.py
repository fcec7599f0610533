"""Composition: builds every part from the settings, starts and stops them in order (level 6)."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from orthanctw.acceptance import Acceptance
from orthanctw.bodies import BodyLimits, MemoryBudget
from orthanctw.catalog import Catalog
from orthanctw.configuration import mac_addresses
from orthanctw.contents import Contents
from orthanctw.dicom.dictionary import Dictionary, DictionaryEntry
from orthanctw.dicom.maintags import MainTags
from orthanctw.dicom.scp.association import Services
from orthanctw.dicom.scp.server import DicomServer
from orthanctw.errors import ConfigurationError
from orthanctw.events import EventBus
from orthanctw.finder import Finder
from orthanctw.index.database import SqliteIndex
from orthanctw.ingest import Ingest, IngestOptions
from orthanctw.jobs.engine import JobsEngine
from orthanctw.jobs.kinds.sequence import Operations, sequence_kind
from orthanctw.log import LogLevels
from orthanctw.metrics import Metrics
from orthanctw.model import Compression, JobState
from orthanctw.names import Names
from orthanctw.removal import REPAIR_MARGIN, Removal
from orthanctw.rest.app import RestApi
from orthanctw.rest.authentication import Authenticator
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.resources.acceptance import AcceptanceRoutes
from orthanctw.rest.resources.attached import AttachedRoutes
from orthanctw.rest.resources.browsing import BrowsingRoutes
from orthanctw.rest.resources.changes import ChangeRoutes
from orthanctw.rest.resources.contents import ContentRoutes
from orthanctw.rest.resources.jobs import JobRoutes
from orthanctw.rest.resources.system import ExplorerRoutes, SystemRoutes
from orthanctw.rest.resources.tools import SearchRoutes, ToolRoutes
from orthanctw.rest.resources.uploads import UploadRoutes
from orthanctw.rest.serialisers import ResourceSerialiser
from orthanctw.rest.site import HttpOptions, OrthancSite
from orthanctw.rest.submission import Submission
from orthanctw.settings import Settings
from orthanctw.stability import StabilityMonitor
from orthanctw.storage.filesystem import FilesystemStorage
from orthanctw.system import system_information
from orthanctw.takeover.coexistence import FOREIGN_DATABASE, TAKEN_OVER, last_written
from orthanctw.threads import NamedPool
from orthanctw.uploads import UploadLimits, Uploads

log = Logger(namespace="orthanctw.generic")
DATABASE = "orthanctw.db"
_MEGABYTE = 1024 * 1024
#: Global property that holds when the server last started, in seconds since 1970.
LAST_START = 1001
#: How often the end of running requests is looked for while stopping, in seconds.
_STOP_INTERVAL = 0.02
_JOB_METRICS = {
    "orthanc_jobs_pending": (JobState.PENDING,),
    "orthanc_jobs_running": (JobState.RUNNING,),
    "orthanc_jobs_total_completed": (JobState.SUCCESS, JobState.FAILURE),
    "orthanc_jobs_total_failed": (JobState.FAILURE,),
    "orthanc_jobs_total_success": (JobState.SUCCESS,),
}


def check_foreign_index(settings: Settings) -> None:
    """ConfigurationError when only an Orthanc has used the folders so far."""
    if os.path.exists(os.path.join(index_folder(settings), DATABASE)):
        return
    for folder in (settings.storage.storage_directory, index_folder(settings)):
        if os.path.exists(os.path.join(folder, FOREIGN_DATABASE)):
            raise ConfigurationError(
                [
                    f"StorageDirectory: {folder} holds the index of an Orthanc and none of orthanctw; "
                    "`orthanctw --import` takes it over, its files stay as they are"
                ]
            )


def index_folder(settings: Settings) -> str:
    """Where the database lies."""
    return settings.storage.index_directory or settings.storage.storage_directory


def check_folders(settings: Settings) -> None:
    """Refuse folders that cannot be used, before a daemon forks. Holds nothing. Raises ConfigurationError."""
    check_foreign_index(settings)
    FilesystemStorage.check_free(settings.storage.storage_directory)


class Server:
    """One life of the server: everything between a start and a stop.

    Parameters
    ----------
    shut_down, reset : callable
        End the process, and start anew; called by the routes of these names.
    goes_on : bool
        Jobs of the process before are taken up (without ``--no-jobs``).
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        levels: LogLevels,
        shut_down: Callable[[], None],
        reset: Callable[[], None],
        *,
        goes_on: bool = True,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._goes_on = goes_on
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._ports: list[IListeningPort] = []
        self._dicom_ports: list[IListeningPort] = []
        own, storage = settings.orthanctw, settings.storage
        self._storage_pool = NamedPool(reactor, "storage", own.storage_threads)
        self._encoder_pool = NamedPool(reactor, "json", 1)
        self.metrics = Metrics(wall_clock, settings.general.metrics_enabled)
        self.storage = FilesystemStorage(
            storage.storage_directory,
            self._storage_pool,
            sync=storage.sync_storage_area,
            md5=storage.store_md5_for_attachments,
        )
        self._index_folder = index_folder(settings)
        self.index = SqliteIndex(
            reactor,
            os.path.join(self._index_folder, DATABASE),
            readers=own.reader_threads,
            maximum_size=storage.maximum_storage_size * _MEGABYTE,
            maximum_patients=storage.maximum_patient_count,
            mode=storage.maximum_storage_mode,
            clock=wall_clock,
        )
        self.dictionary = dictionary_of(settings)
        self._build_domain()
        self.acceptance = Acceptance(settings.dicom, lambda: settings.network.dicom_modalities)
        self.body_limits = BodyLimits(
            maximum=0,
            threshold=own.spool_threshold_kb * 1024,
            budget=MemoryBudget(own.memory_budget_mb * _MEGABYTE),
            spool=self.storage.spool,
        )
        self.dicom = self._build_dicom()
        self.api = self._build_api(levels, shut_down, reset)
        self.site = OrthancSite(self._http_options(settings), self.api.render, self.api.fail, reactor)

    def _build_domain(self) -> None:
        settings, storage = self.settings, self.settings.storage
        own = settings.orthanctw
        self.main_tags = main_tags_of(settings, self.dictionary)
        self.events = EventBus()
        self.stability = StabilityMonitor(
            self.index, self.events, self._reactor, settings.general.stable_age, self._wall_clock
        )
        self.events.subscribe(self.stability)
        self.removal = Removal(self.index, self.storage, self.events)
        self.ingest = Ingest(
            self.index,
            self.storage,
            main_tags=self.main_tags,
            dictionary=self.dictionary,
            events=self.events,
            stability=self.stability,
            removal=self.removal,
            metrics=self.metrics,
            wall_clock=self._wall_clock,
            options=IngestOptions(
                compression=Compression.ZLIB_WITH_SIZE if storage.storage_compression else Compression.NONE,
                overwrite=storage.overwrite_instances,
                default_encoding=settings.dicom.default_encoding,
                nesting=own.maximum_nesting,
            ),
        )
        self.uploads = Uploads(
            self.ingest,
            self.storage,
            UploadLimits(
                maximum_member=settings.http.maximum_file_size_in_archive_mb * _MEGABYTE,
                ratio=own.inflate_ratio_limit,
                members=own.archive_members_limit,
                threshold=own.spool_threshold_kb * 1024,
            ),
        )
        self.catalog = Catalog(self.index, self.stability, self.main_tags, self.dictionary)
        self.finder = Finder(
            self.catalog,
            limit_results=settings.dicom.limit_find_results,
            limit_instances=settings.dicom.limit_find_instances,
        )
        content_types = settings.database.user_content_type.items()
        self.names = Names(
            settings.database.user_metadata, {name: (item.number, item.mime) for name, item in content_types}
        )
        self.jobs = self._build_jobs()

    def _build_jobs(self) -> JobsEngine:
        options = self.settings.jobs
        operations = Operations(self.ingest, self.removal, self.index, self.names)
        engine = JobsEngine(
            self.index,
            [sequence_kind(operations)],
            clock=self._reactor,
            wall_clock=self._wall_clock,
            slots=options.concurrent_jobs or os.cpu_count() or 1,
            history=options.jobs_history_size,
            is_saving=options.save_jobs,
            notify=self.events.publish_job,
        )
        for name, states in _JOB_METRICS.items():
            self.metrics.gauge(name, partial(engine.count, *states))
        return engine

    def _build_dicom(self) -> DicomServer:
        options = self.settings.dicom
        services = Services(
            acceptance=self.acceptance,
            ingest=self.ingest,
            limits=self.body_limits,
            operations=DeferredSemaphore(max(1, options.dicom_threads_count)),
            maximum_length=options.maximum_pdu_length,
            metrics=self.metrics,
        )
        return DicomServer(
            services,
            self._reactor,
            timeout=options.dicom_scp_timeout,
            maximum_associations=self.settings.orthanctw.maximum_associations,
        )

    def _build_api(
        self, levels: LogLevels, shut_down: Callable[[], None], reset: Callable[[], None]
    ) -> RestApi:
        settings, names = self.settings, self.names
        serialiser = ResourceSerialiser(
            self.dictionary, names.metadata_name, self.catalog.patient_tags
        )
        encoder = JsonEncoder(self._encoder_pool)
        identifier = settings.server_identifier(mac_addresses())
        contents = Contents(self.catalog, self.storage)
        system = system_information(settings, self.main_tags, names, identifier)
        owners: list[object] = [
            SystemRoutes(
                self.index,
                lambda: system,
                lambda: self.api.routes,
            ),
            UploadRoutes(self.uploads),
            BrowsingRoutes(self.catalog, self.removal, serialiser, encoder),
            ContentRoutes(self.catalog, contents),
            AttachedRoutes(self.index, self.storage, names),
            ChangeRoutes(self.index),
            SearchRoutes(self.catalog, self.finder, serialiser, encoder),
            AcceptanceRoutes(self.acceptance),
            ToolRoutes(levels, self._wall_clock, shut_down, reset),
            JobRoutes(
                self.jobs,
                Submission(self.jobs),
                encoder,
                clock=self._reactor.seconds,
                wall_clock=self._wall_clock,
            ),
        ]
        if settings.http.orthanc_explorer_enabled:
            owners.append(ExplorerRoutes())
        return RestApi(
            owners,
            metrics=self.metrics,
            clock=self._reactor.seconds,
            describe_errors=settings.http.http_describe_errors,
        )

    def _http_options(self, settings: Settings) -> HttpOptions:
        own, http, security = settings.orthanctw, settings.http, settings.security
        return HttpOptions(
            authenticator=Authenticator(
                remote_access=security.remote_access_allowed,
                enabled=security.authentication_enabled,
                users=security.registered_users,
            ),
            limits=attrs.evolve(self.body_limits, maximum=http.maximum_request_body_size_mb * _MEGABYTE),
            compression=http.http_compression_enabled,
            keep_alive=http.keep_alive,
            keep_alive_timeout=http.keep_alive_timeout,
            request_timeout=http.http_request_timeout,
            body_timeout=own.request_body_timeout,
            tcp_no_delay=http.tcp_no_delay,
            maximum_connections=own.maximum_connections,
        )

    # Life

    async def start(self) -> None:
        """Start everything, the ports last. What was started is stopped again when a step fails."""
        started: list[Callable[[], Awaitable[object]]] = []
        try:
            self._storage_pool.start()
            self._encoder_pool.start()
            started.append(self._stop_pools)
            await self.storage.open()
            started.append(self.storage.close)
            check_foreign_index(self.settings)
            self._make_index_folder()
            await self._refuse_strange_files()
            await self.index.open()
            started.append(self.index.close)
            await self._repair()
            await self.jobs.start(goes_on=self._goes_on)
            started.append(lambda: self.jobs.stop(self._reactor.seconds()))
            self._listen()
        except BaseException:
            for stop in reversed(started):
                await stop()
            raise

    def _make_index_folder(self) -> None:
        try:
            os.makedirs(self._index_folder, mode=0o750, exist_ok=True)
        except OSError as e:
            raise ConfigurationError([f"IndexDirectory: cannot be made: {self._index_folder}: {e.strerror}"]) from e

    async def _refuse_strange_files(self) -> None:
        """A new index would know nothing of the files that are there, and take them for the strays of a crash."""
        path = os.path.join(self._index_folder, DATABASE)
        if not os.path.exists(path) and await self.storage.holds_objects():
            raise ConfigurationError(
                [
                    f"StorageDirectory: {self.storage.root} holds objects, but there is no index {path}: "
                    "put the index back, or choose another folder"
                ]
            )

    async def _repair(self) -> None:
        last: str | None = await self.index.global_property(LAST_START)
        if last is not None:
            if last == await self.storage.mark():
                await self.removal.repair(await self._strays_since(float(last)))
            else:
                log.warn("Index and storage area are not of the same run (a backup was put back?): no file is removed")
        now = str(self._wall_clock())
        await self.index.set_global_property(LAST_START, now)
        await self.storage.set_mark(now)

    async def _strays_since(self, last_start: float) -> float | None:
        """What `Removal.repair` wants: files that an Orthanc wrote, before or since its index was taken over, stay."""
        taken_over: str | None = await self.index.global_property(TAKEN_OVER)
        since = last_start if taken_over is None else max(last_start, float(taken_over) + REPAIR_MARGIN)
        written = last_written((self.storage.root, self._index_folder))
        if written is not None and written >= since - REPAIR_MARGIN:
            log.warn("An Orthanc has used this folder lately: no file is removed because it has no row in the index")
            return None
        return since

    def _listen(self) -> None:
        http, dicom = self.settings.http, self.settings.dicom
        try:
            if http.http_server_enabled:
                for address in http.http_bind_addresses or ("",):
                    self._listen_on(self._ports, "HttpPort", http.http_port, self.site, address)
            if dicom.dicom_server_enabled:
                self._listen_on(self._dicom_ports, "DicomPort", dicom.dicom_port, self.dicom, "")
        except ConfigurationError:
            for port in (*self._ports, *self._dicom_ports):
                port.stopListening()
            raise
        log.warn(
            "HTTP server: port {port} (remote access is {remote}, authentication is {state})",
            port=self.http_port or "disabled",
            remote="allowed" if self.settings.security.remote_access_allowed else "not allowed",
            state="on" if self.settings.security.authentication_enabled else "off",
        )
        log.warn("DICOM server: port {port}, AE title {aet}", port=self.dicom_port or "disabled", aet=dicom.dicom_aet)

    def _listen_on(
        self, ports: list[IListeningPort], option: str, port: int, factory: IProtocolFactory, address: str
    ) -> None:
        try:
            ports.append(self._reactor.listenTCP(port, factory, interface=address, backlog=511))
        except CannotListenError as e:
            raise ConfigurationError([f"{option}: cannot listen on {port}: {e.socketError}"]) from e

    @property
    def http_port(self) -> int:
        """The port that the HTTP server listens on; 0 when it does not."""
        return int(self._ports[0].getHost().port) if self._ports else 0  # type: ignore[attr-defined]

    @property
    def dicom_port(self) -> int:
        """The port that the DICOM server listens on; 0 when it does not."""
        return int(self._dicom_ports[0].getHost().port) if self._dicom_ports else 0  # type: ignore[attr-defined]

    async def stop(self) -> None:
        """Refuse new work, finish what runs within ``ShutdownTimeout``, close everything."""
        log.warn("The server is stopping")
        for port in (*self._ports, *self._dicom_ports):
            stopped: Deferred[None] | None = port.stopListening()
            if stopped is not None:
                await stopped
        self.api.stopping = True
        self.site.stop_idle()
        deadline = self._reactor.seconds() + self.settings.orthanctw.shutdown_timeout
        await self.jobs.stop(deadline)
        await self.dicom.stop(deadline)
        while (self.api.active or self.site.connections) and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, _STOP_INTERVAL)
        self.site.abort()
        self.stability.stop()
        await self.ingest.settle()
        await self.index.close()
        await self.storage.close()
        await self._stop_pools()
        log.warn("The server has stopped")

    async def _stop_pools(self) -> None:
        await self._storage_pool.stop()
        await self._encoder_pool.stop()

    def reload(self, settings: Settings) -> list[str]:
        """Take over what can change while running; answers the names of sections that need a restart."""
        self.site.options = attrs.evolve(
            self._http_options(settings), limits=self.site.options.limits
        )
        changed = []
        for old, new in zip(self.settings.sections, settings.sections, strict=True):
            if type(new).__name__ not in ("Security",) and old != new:
                changed.append(type(new).__name__)
        return changed


def dictionary_of(settings: Settings) -> Dictionary:
    """The dictionary with what the configuration adds."""
    entries = [
        DictionaryEntry(
            tag=item.tag, vr=item.vr, name=item.name, private_creator=item.private_creator
        )
        for item in settings.dicom.dictionary.values()
    ]
    return Dictionary(entries, private=settings.dicom.load_private_dictionary)


def main_tags_of(settings: Settings, dictionary: Dictionary) -> MainTags:
    """The main tags with those that the configuration adds. Raises ConfigurationError."""
    extra = {
        level: tuple(dictionary.parse(tag) for tag in tags)
        for level, tags in settings.database.extra_main_dicom_tags.items()
    }
    return MainTags(extra, dictionary=dictionary)
