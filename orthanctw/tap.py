"""``twistd orthanc -c FILE`` (level 6)."""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from orthanctw.configuration import load
from orthanctw.errors import ConfigurationError
from orthanctw.server import check_files
from orthanctw.service import OrthancService
from orthanctw.settings import RunOptions


class Options(usage.Options):
    """Options behind ``twistd orthanc``."""

    synopsis = "[options] [PATH ...]"
    longdesc = "Runs orthanctw on Orthanc's configuration: files, or folders with *.json files."
    optFlags = [
        ["verbose", None, "Log more"],
        ["trace", None, "Log everything"],
        ["no-jobs", None, "Do not take up the jobs of the last run"],
        ["upgrade", None, "Accepted: the database is always upgraded"],
    ]
    paths: tuple[str, ...] = ()

    def opt_config(self, path: str) -> None:
        """Configuration file or folder; may be given more than once."""
        self.paths = (*self.paths, path)

    opt_c = opt_config

    def parseArgs(self, *paths: str) -> None:
        self.paths = (*self.paths, *paths)


def makeService(options: Options) -> IService:
    """The service. Ends the process with code 1, all problems told, when the configuration cannot be used."""
    # twistd changes to "/" when it forks.
    paths = tuple(os.path.abspath(path) for path in options.paths)
    try:
        return _make_service(options, paths)
    except ConfigurationError as e:
        for problem in e.problems:
            sys.stderr.write(f"orthanc: {problem}\n")
        raise SystemExit(1) from None


def _make_service(options: Options, paths: tuple[str, ...]) -> IService:
    settings = load(paths, os.environ)
    check_files(settings)
    level = "trace" if options["trace"] else "verbose" if options["verbose"] else "default"
    run_options = RunOptions(
        paths=paths,
        log_levels={"*": level},
        logfile=_log_file(getattr(options, "parent", None)),
        no_jobs=bool(options["no-jobs"]),
        upgrade=bool(options["upgrade"]),
        reload=lambda: load(paths, os.environ),
    )
    from twisted.internet import reactor

    service: IService = _Service(reactor, settings, run_options)
    return service


class _Service(OrthancService):
    """Under twistd a start that fails must end the process with an error, which twistd offers no way for."""

    def startService(self) -> None:
        super().startService()
        self._reactor.addSystemEventTrigger("after", "shutdown", self._exit)

    def _exit(self) -> None:
        if self.failed:
            self.log_file.flush()
            os._exit(1)


def _log_file(twistd: Any) -> str | None:
    """The file that twistd's own option ``--logfile`` names; a daemon without one logs to ``twistd.log``."""
    if twistd is None:
        return None
    name = twistd.get("logfile")
    if name == "-" or (name is None and twistd.get("nodaemon")):
        return None
    return os.path.abspath(name or "twistd.log")
