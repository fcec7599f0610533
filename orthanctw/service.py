"""The process: a Twisted service around the server, its signals, its logs, its end (level 6)."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any, TextIO

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver, Logger, globalLogBeginner
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from orthanctw import __version__
from orthanctw.errors import ConfigurationError, OrthancError
from orthanctw.log import LineObserver, LogLevels
from orthanctw.scripting.ending import end_children, end_within
from orthanctw.server import Server, check_files
from orthanctw.settings import RunOptions, Settings
from orthanctw.tls import Encryption

log = Logger(namespace="orthanctw.generic")
LOG_NAME = "orthanctw.log"


class LogFile:
    """The stream of the log: a file that can be opened anew after it was moved away, or standard error output."""

    def __init__(self, options: RunOptions) -> None:
        self._path = options.logfile
        if self._path is None and options.logdir is not None:
            self._path = os.path.join(options.logdir, LOG_NAME)
        self._stream: TextIO = sys.stderr
        self.reopen()

    def reopen(self) -> None:
        """ConfigurationError when the file cannot be written."""
        if self._path is None:
            return
        try:
            stream = open(self._path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - stays open
        except OSError as e:
            raise ConfigurationError([f"The log cannot be written: {self._path}: {e.strerror}"]) from e
        old, self._stream = self._stream, stream
        if old is not sys.stderr:
            old.close()

    @property
    def is_file(self) -> bool:
        return self._stream is not sys.stderr

    def write(self, text: str) -> int:
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


class OrthancService(MultiService):
    """Runs one `Server` after the other: `reset` stops one and starts the next with the settings read anew.

    Nothing that threads, sockets, databases or scripts need exists before `startService`: twistd forks in between.
    """

    def __init__(self, reactor: Any, settings: Settings, options: RunOptions) -> None:
        super().__init__()
        self.setName("orthanctw")
        self._reactor = reactor
        self._settings = settings
        self._options = options
        self._goes_on = not options.no_jobs
        self.levels = LogLevels(options.log_levels)
        self.log_file = LogFile(options)
        self.observer = LineObserver(self.log_file, self.levels)
        self.server: Server | None = None
        self._begun: Server | None = None
        self.failed = False
        self._starting: Deferred[None] = succeed(None)
        self._stopping: Deferred[None] | None = None

    def setServiceParent(self, parent: Any) -> None:
        """Under twistd our observer takes the place of its own."""
        if isinstance(parent, Componentized) and parent.getComponent(ILogObserver, None) is None:
            parent.setComponent(ILogObserver, self.observer)
        super().setServiceParent(parent)

    def startService(self) -> None:
        super().startService()
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reload))
        log.warn("orthanctw {version} is starting", version=__version__)
        for warning in self._settings.warnings:
            log.warn("Configuration: {warning}", warning=warning)
        self._starting = Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        try:
            server = Server(
                self._reactor,
                self._settings,
                self.levels,
                self._shut_down,
                self._reset,
                goes_on=self._goes_on,
            )
            self._begun = server
            await server.start()
        except Exception:  # noqa: BLE001 - whatever it is, the process must end with an error
            self._start_failed(Failure())
            return
        finally:
            self._begun = None
        self.server = server
        self._goes_on = True
        # What lives now lives as long as the process: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)

    def _start_failed(self, failure: Failure) -> None:
        self.failed = True
        if isinstance(failure.value, OrthancError):
            reason = failure.value.details or str(failure.value)
            log.critical("The server cannot start: {reason}", reason=reason)
            if self.log_file.is_file:
                # Whoever started it does not look into the log.
                sys.stderr.write(f"orthanctw: The server cannot start: {reason}\n")
        else:
            log.failure("The server cannot start", failure)
        self._shut_down()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        if self._stopping is None:
            self._stopping = Deferred.fromCoroutine(self._stop())
        return self._stopping

    async def _stop(self) -> None:
        deadline = self._reactor.seconds() + self._settings.orthanctw.shutdown_timeout
        if self._begun is not None:
            self._begun.python.give_up()
        await self._starting
        server, self.server = self.server, None
        if server is not None:
            await server.stop()
            if server.python.is_used:
                self._reactor.addSystemEventTrigger("after", "shutdown", self._end_scripts, deadline)

    def _end_scripts(self, deadline: float) -> None:
        """Threads and children of scripts do not hold up the end of the process beyond ``ShutdownTimeout``."""
        end_children(max(0.0, deadline - self._reactor.seconds()))
        end_within(max(0.0, deadline - self._reactor.seconds()), int(self.failed), self.log_file.flush)

    def _shut_down(self) -> None:
        # Not at once: the answer to the request must leave, and the reactor may not run yet.
        self._reactor.callLater(0.1, self._stop_reactor)

    def _stop_reactor(self) -> None:
        if self._reactor.running:
            self._reactor.stop()

    # Signals and resets

    def _read_settings(self) -> Settings | None:
        try:
            settings = self._options.reload()
            # Looked at before anything is stopped for them.
            Encryption.of(settings.security)
        except ConfigurationError as e:
            for problem in e.problems:
                log.error("Configuration, not taken over: {problem}", problem=problem)
            return None
        return settings

    def _reload(self) -> None:
        """SIGHUP: open the log file anew, and take over what can change while the server runs."""
        try:
            self.log_file.reopen()
        except ConfigurationError as e:
            log.error("{problem}", problem=str(e))
        settings = self._read_settings()
        if settings is None or self.server is None:
            return
        for section in self.server.reload(settings):
            log.warn("Options of section {section} have changed: they need a restart", section=section)
        log.warn("The configuration has been read again")
        if self.server.python.is_used:
            Deferred.fromCoroutine(self._reload_scripts(self.server))

    async def _reload_scripts(self, server: Server) -> None:
        try:
            await server.python.reload()
        except Exception as e:  # noqa: BLE001 - it is foreign code
            log.error("Python scripts, those before go on: {problem}", problem=str(e))
        else:
            log.warn("The Python scripts have been loaded again")

    def _reset(self) -> None:
        settings = self._read_settings()
        if settings is None:
            raise OrthancError("The configuration cannot be read, see the log")
        self._settings = settings
        # The answer to this request leaves first; it would not end while the server waits for it.
        self._reactor.callLater(0.1, self._restart)

    def _restart(self) -> None:
        if self._stopping is None:
            self._starting = Deferred.fromCoroutine(self._stop_and_start())

    async def _stop_and_start(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            await server.stop()
        await self._start()


def run(settings: Settings, options: RunOptions) -> int:
    """Run the server in the foreground until a signal ends it; the exit code of the process.

    What keeps it from starting is printed to the standard error, and the code is 1 then.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    try:
        check_files(settings)
        service = OrthancService(reactor, settings, options)
    except ConfigurationError as e:
        for problem in e.problems:
            sys.stderr.write(f"orthanctw: {problem}\n")
        return 1
    globalLogBeginner.beginLoggingTo([service.observer], redirectStandardIO=False)
    reactor.callWhenRunning(service.startService)
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()
    return 1 if service.failed else 0
