"""One life of the server: its parts started and stopped in order (level 6)."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from orthanctw.dicom.upper.sockets import quick_ack_of
from orthanctw.errors import ConfigurationError
from orthanctw.log import LogLevels
from orthanctw.parts import DATABASE, Parts, index_folder
from orthanctw.removal import REPAIR_MARGIN
from orthanctw.rest_parts import http_options
from orthanctw.settings import Settings
from orthanctw.storage.filesystem import FilesystemStorage
from orthanctw.takeover.coexistence import FOREIGN_DATABASE, TAKEN_OVER, last_written
from orthanctw.tls import Encryption, Tls, TlsFactory

log = Logger(namespace="orthanctw.generic")
#: Global property that holds when the server last started, in seconds since 1970.
LAST_START = 1001
#: How often the end of running requests is looked for while stopping, in seconds.
_STOP_INTERVAL = 0.02
#: Seconds that scripts have in any case, whatever has taken the time of all.
_SCRIPTS_TIME = 2.0
#: What they are told who speak plain HTTP where HTTPS is expected.
_NO_HTTPS = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


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


def check_files(settings: Settings) -> None:
    """Refuse folders and certificates that cannot be used, before a daemon forks. Raises ConfigurationError."""
    Encryption.of(settings.security)
    check_foreign_index(settings)
    FilesystemStorage.check_free(settings.storage.storage_directory)


class Server(Parts):
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
        super().__init__(reactor, settings, levels, shut_down, reset, wall_clock)
        self._goes_on = goes_on
        self._ports: list[IListeningPort] = []
        self._dicom_ports: list[IListeningPort] = []

    # Life

    async def start(self) -> None:
        """Start everything, the ports last. What was started is stopped again when a step fails."""
        started: list[Callable[[], Awaitable[object]]] = []
        try:
            self.storage_pool.start()
            self.encoder_pool.start()
            started.append(self._stop_pools)
            await self.storage.open()
            started.append(self.storage.close)
            check_foreign_index(self.settings)
            self._make_index_folder()
            await self._refuse_strange_files()
            await self.index.open()
            started.append(self.index.close)
            started.append(self.scu.close)
            started.append(self.http.close)
            await self._repair()
            left = await self.index.pending_removals()
            await self.modalities.load()
            await self.peers.load()
            await self.jobs.start(goes_on=self._goes_on, waits=True)
            started.append(lambda: self.jobs.stop(self._reactor.seconds()))
            if self.housekeeping is not None:
                self.housekeeping.start()
                started.append(self.housekeeping.stop)
            started.append(lambda: self.python.stop(self._reactor.seconds()))
            await self.python.start()
            # They may be about what scripts keep.
            self.jobs.go_on()
            self._remove_later(left)
            started.append(lambda: self.lua.stop(self._reactor.seconds()))
            await self.lua.start()
            self._listen()
            self.python.started((self.http_port, self.dicom_port))
            self.lua.begin()
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
        now = str(self.wall_clock())
        await self.index.set_global_property(LAST_START, now)
        await self.storage.set_mark(now)

    def _remove_later(self, uuids: Sequence[str]) -> None:
        """Behind the start, since a script may take its time; what is interrupted stays for the next one."""
        removed: Deferred[None] = Deferred.fromCoroutine(self.removal.remove_files(uuids))
        removed.addErrback(lambda failure: log.failure("Deleted files could not be removed", failure))

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
        https, dicom_tls = self.encryption.https, self.encryption.dicom_server
        try:
            if http.http_server_enabled:
                site = self._secured(https, self.site, refusal=_NO_HTTPS)
                for address in http.http_bind_addresses or ("",):
                    self._listen_on(self._ports, "HttpPort", http.http_port, site, address)
            if dicom.dicom_server_enabled:
                associations = self._secured(dicom_tls, self.dicom, after_read=quick_ack_of)
                self._listen_on(self._dicom_ports, "DicomPort", dicom.dicom_port, associations, "")
        except ConfigurationError:
            for port in (*self._ports, *self._dicom_ports):
                port.stopListening()
            raise
        log.warn(
            "{name} server: port {port} (remote access is {remote}, authentication is {state})",
            name="HTTP" if https is None else "HTTPS",
            port=self.http_port or "disabled",
            remote="allowed" if self.settings.security.remote_access_allowed else "not allowed",
            state="on" if self.settings.security.authentication_enabled else "off",
        )
        log.warn(
            "DICOM server: port {port}, AE title {aet}, TLS is {tls}",
            port=self.dicom_port or "disabled",
            aet=dicom.dicom_aet,
            tls="off" if dicom_tls is None else "on",
        )

    def _secured(self, tls: Tls | None, factory: IProtocolFactory, **options: Any) -> IProtocolFactory:
        return factory if tls is None else TlsFactory(tls, factory, self._reactor, **options)

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
        deadline = self._reactor.seconds() + self.settings.orthanctw.shutdown_timeout
        self.api.stopping = True
        self.reconstruction.stop()
        self.site.stop_idle()
        # At once: a job that hangs must not take the time of associations.
        jobs_stopped = Deferred.fromCoroutine(self.jobs.stop(deadline))
        await self.dicom.stop(deadline)
        await jobs_stopped
        while (self.api.active or self.site.connections) and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, _STOP_INTERVAL)
        self.site.abort()
        self.stability.stop()
        if self.housekeeping is not None:
            await self.housekeeping.stop()
        # Its filters decided about all that came in until now, and all that was stored is to be told.
        scripts_end = max(deadline, self._reactor.seconds() + _SCRIPTS_TIME)
        await self.lua.stop(scripts_end)
        await self.python.stop(scripts_end)
        await self.senders.close()
        await self.scu.close()
        await self.http.close()
        await self.processes.close()
        await self.ingest.settle()
        await self.retirement.stop()
        await self.index.close()
        await self.storage.close()
        await self._stop_pools()
        log.warn("The server has stopped")

    async def _stop_pools(self) -> None:
        await self.storage_pool.stop()
        await self.encoder_pool.stop()

    def reload(self, settings: Settings) -> list[str]:
        """Take over what can change while running; answers the names of sections that need a restart.

        Raises ConfigurationError, and then nothing has changed.
        """
        is_same_encryption = self.encryption.take(Encryption.of(settings.security))
        self.site.options = attrs.evolve(
            http_options(self, settings), limits=self.site.options.limits
        )
        changed = [] if is_same_encryption else ["Security"]
        for old, new in zip(self.settings.sections, settings.sections, strict=True):
            if type(new).__name__ not in ("Security",) and old != new:
                changed.append(type(new).__name__)
        return changed
