"""The command line (level 6)."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from orthanctw.configuration import load
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import ConfigurationError
from orthanctw.settings import LOG_CATEGORIES, RunOptions, Sample, Settings
from orthanctw.settings.sample import sample_configuration

_LOG_LEVELS: Final = ("verbose", "trace")
#: Options that are known elsewhere and change nothing here.
_WITHOUT_EFFECT: Final = ("logs-no-thread", "logs-no-context", "logs-thread-names-in-context")
#: Options that write a document which does not exist yet.
_NOT_AVAILABLE: Final = ("cheatsheet",)

Run = Callable[[Settings, RunOptions], int | None]


class _LogLevel(argparse.Action):
    """Collects log levels from left to right: one for all categories resets what stands before it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: object, option: object = None
    ) -> None:
        category, level = self.const
        levels: dict[str, str] = {} if category == "*" else dict(namespace.log_levels)
        namespace.log_levels = {**levels, category: level}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="orthanctw", description="DICOM server with a REST API.", allow_abbrev=False
    )
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="configuration file, or folder of *.json files; none: the defaults")
    add("--check", action="store_true", help="read the configuration, tell what is wrong with it, and exit")
    add(
        "--import",
        dest="take_over",
        action="store_true",
        help="take over the index of the Orthanc that has used the folders of the configuration, and exit; the first "
        "PATH may be the file of that index",
    )
    add("--config", metavar="FILE", help="write a sample configuration and exit (-: to the standard output)")
    add("--advanced-config", metavar="FILE", nargs="?", const="-", help="the same with the less usual options")
    add("--openapi", metavar="FILE", help="write the OpenAPI document of the REST API and exit")
    add("--errors", action="store_true", help="list the error codes and exit")
    add("--version", action="store_true", help="print the version and exit")
    add("--logdir", metavar="DIR", help="folder of log files (default: log to the standard error)")
    add("--logfile", metavar="FILE", help="log file")
    add("--no-jobs", action="store_true", help="do not go on with the jobs of the last run")
    add("--upgrade", action="store_true", help="permit the upgrade of an older database")
    for level in _LOG_LEVELS:
        add(f"--{level}", action=_LogLevel, nargs=0, const=("*", level), dest="log_levels", help=f"log level {level}")
        for category in LOG_CATEGORIES:
            add(
                f"--{level}-{category}",
                action=_LogLevel,
                nargs=0,
                const=(category, level),
                dest="log_levels",
                help=f"log level {level} for the category {category}",
            )
    for name in _WITHOUT_EFFECT:
        add(f"--{name}", action="store_true", help="no effect")
    for name in _NOT_AVAILABLE:
        add(f"--{name}", metavar="FILE", help="not available")
    parser.set_defaults(log_levels={})
    return parser


def main(argv: Sequence[str] | None = None, run: Run | None = None) -> int:
    """Do what the command line says; answers the exit status.

    `run` is what runs the server, `orthanctw.service.run` by default. Prints problems of the configuration one per
    line to the standard error, and answers 1 then.
    """
    arguments = _parser().parse_args(argv)
    values: dict[str, Any] = vars(arguments)
    for name in _WITHOUT_EFFECT:
        if values[name.replace("-", "_")]:
            _tell(f"--{name} has no effect")
    document = _document(values)
    if document is not None:
        return document()
    paths = tuple(os.path.abspath(path) for path in arguments.paths)
    old_index = _old_index(paths) if arguments.take_over else None
    if old_index is not None:
        paths = paths[1:]

    def read() -> Settings:
        return load(paths, os.environ)

    try:
        settings = read()
        if arguments.check:
            _check_certificates(settings)
    except ConfigurationError as error:
        for problem in error.problems:
            _tell(problem)
        return 1
    if arguments.take_over:
        return _take_over(settings, old_index)
    if arguments.openapi is not None:
        return _write(arguments.openapi, _openapi(settings))
    if arguments.check:
        for warning in settings.warnings:
            _print(f"warning: {warning}")
        return 0
    options = RunOptions(
        paths=paths,
        log_levels=arguments.log_levels,
        logdir=arguments.logdir,
        logfile=arguments.logfile,
        no_jobs=arguments.no_jobs,
        upgrade=arguments.upgrade,
        reload=read,
    )
    return (run or _server())(settings, options) or 0


def _check_certificates(settings: Settings) -> None:
    # Late, because it brings OpenSSL with it.
    from orthanctw.tls import Encryption

    Encryption.of(settings.security)


def _document(values: dict[str, Any]) -> Callable[[], int] | None:
    """What writes the document that is asked for, or None when there is none."""
    for name in _NOT_AVAILABLE:
        if values[name] is not None:
            return partial(_refuse, f"--{name} is not available")
    if values["version"]:
        return partial(_print, f"orthanctw {importlib.metadata.version('orthanctw')}")
    if values["errors"]:
        return partial(_print, "\n".join(f"{code.value:>6}  {code.message}" for code in ErrorCode))
    for option, sample in (("config", Sample.MAIN), ("advanced_config", Sample.ADVANCED)):
        if values[option] is not None:
            return partial(_write_sample, values[option], sample)
    return None


def _server() -> Run:
    # Late, because nothing above needs the reactor.
    from orthanctw.service import run

    return run


def _old_index(paths: tuple[str, ...]) -> str | None:
    """The first path when it is a database."""
    from orthanctw.takeover.access import is_database

    return paths[0] if paths and is_database(paths[0]) else None


def _take_over(settings: Settings, old_index: str | None) -> int:
    from orthanctw.parts import DATABASE, dictionary_of, index_folder, main_tags_of
    from orthanctw.takeover.coexistence import FOREIGN_DATABASE
    from orthanctw.takeover.command import Places, take_over

    folder = index_folder(settings)
    places = Places(
        old_index=old_index or os.path.join(folder, FOREIGN_DATABASE),
        database=os.path.join(folder, DATABASE),
        storage=settings.storage.storage_directory,
    )
    try:
        dictionary = dictionary_of(settings)
        return take_over(settings, dictionary, main_tags_of(settings, dictionary), places)
    except ConfigurationError as error:
        for problem in error.problems:
            _tell(problem)
        return 1


def _openapi(settings: Settings) -> str:
    """The document of the routes that a server with these settings has; nothing is started."""
    from twisted.internet.task import Clock

    from orthanctw.log import LogLevels
    from orthanctw.parts import Parts
    from orthanctw.rest.openapi import document

    def never() -> None:
        """What only a server that runs can be asked for."""

    clock = Clock()
    parts = Parts(clock, settings, LogLevels(), never, never, clock.seconds)
    version = importlib.metadata.version("orthanctw")
    return json.dumps(document(parts.api.declarations, version), indent=2, ensure_ascii=False) + "\n"


def _tell(text: str) -> None:
    sys.stderr.write(f"orthanctw: {text}\n")


def _print(text: str) -> int:
    sys.stdout.write(text + "\n")
    return 0


def _refuse(text: str) -> int:
    _tell(text)
    return 1


def _write_sample(file: str, sample: Sample) -> int:
    return _write(file, sample_configuration(sample))


def _write(file: str, text: str) -> int:
    if file == "-":
        sys.stdout.write(text)
        return 0
    try:
        with open(file, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        return _refuse(f"{file}: {error.strerror}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
