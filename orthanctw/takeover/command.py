"""``orthanctw --import``: the index of an Orthanc becomes one of ours, told to the person in front of it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, TextIO, cast

import attrs

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.maintags import MainTags
from orthanctw.errors import ConfigurationError, DatabaseError, OrthancError
from orthanctw.index.bulk import BulkIndex
from orthanctw.index.connection import translate
from orthanctw.model import ResourceLevel
from orthanctw.settings import Settings
from orthanctw.stability import timestamp
from orthanctw.storage.filesystem import FilesystemStorage
from orthanctw.takeover import access
from orthanctw.takeover.access import CannotTakeOver, Interrupted
from orthanctw.takeover.files import OldFiles, ScanOptions
from orthanctw.takeover.importer import NOT_TAKEN, Importer
from orthanctw.takeover.source import OrthancIndex
from orthanctw.threads import NamedPool

#: Everything was taken; nothing was; all but what the report names. A signal gives 128 and its number.
COMPLETE, FAILED, INCOMPLETE = 0, 1, 2
_INTERVAL: Final = 1.0
_AGAIN: Final = "the same command goes on from here"


@attrs.frozen(kw_only=True)
class Places:
    """Where things lie: the old index, the new one, the files."""

    old_index: str
    database: str
    storage: str

    @property
    def partial(self) -> str:
        return self.database + ".import"

    @property
    def copy(self) -> str:
        """Folder of the copy of an old index that has a journal."""
        return self.partial + "-copy"


class Progress:
    """Tells at most once a second how far it came.

    Parameters
    ----------
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._begun: tuple[float, int] | None = None
        self._told = clock()

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        if self._begun is None:
            self._begun = (now, done - 1)
        if now - self._told >= _INTERVAL:
            self._told = now
            rate = (done - self._begun[1]) / max(now - self._begun[0], 1e-9)
            self.tell(f"{done} of {total} instances, {rate:.0f}/s")

    def tell(self, text: str) -> None:
        self._stream.write(f"orthanctw: {text}\n")
        self._stream.flush()


class _Stop:
    """Remembers the signal that asks to end."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        return self.signal != 0

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def take_over(
    settings: Settings,
    dictionary: Dictionary,
    main_tags: MainTags,
    places: Places,
    *,
    output: TextIO | None = None,
    errors: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Make our index from that of an Orthanc; answers the exit status.

    The report goes to `output`, progress and what keeps it from going on to `errors`; the standard ones by default.
    """
    progress = Progress(errors or sys.stderr, clock)
    stop = _Stop()
    run = _Run(settings, dictionary, main_tags, places, progress, stop)
    try:
        with stop.listening():
            report = run.to_the_end()
    except Interrupted:
        progress.tell(f"interrupted; {_AGAIN}")
        return 128 + stop.signal
    except ConfigurationError as error:
        for problem in error.problems:
            progress.tell(problem)
    except OrthancError as error:
        progress.tell(error.details)
    except sqlite3.Error as error:
        # Those of the old index are CannotTakeOver.
        progress.tell(f"{places.partial}: {translate(error).details}; then {_AGAIN}")
    except OSError as error:
        progress.tell(f"{error.filename or places.partial}: {error.strerror}; then {_AGAIN}")
    else:
        (output or sys.stdout).write("\n".join([*report.lines, ""]))
        return COMPLETE if report.is_complete else INCOMPLETE
    return FAILED


@attrs.frozen
class Report:
    """What was taken, and what was not."""

    lines: list[str]
    is_complete: bool


@attrs.frozen
class _Run:
    """One attempt."""

    settings: Settings
    dictionary: Dictionary
    main_tags: MainTags
    places: Places
    progress: Progress
    stop: _Stop

    def to_the_end(self) -> Report:
        """Raises OrthancError, OSError, sqlite3.Error, Interrupted."""
        places = self.places
        self._check()
        with contextlib.ExitStack() as stack:
            stack.enter_context(access.reserved(places.old_index))
            storage = stack.enter_context(self._storage())
            self._make_index_folder()
            connection = stack.enter_context(access.opened(places.old_index, places.copy, self.stop))
            source = OrthancIndex(connection, places.old_index)
            target = self._target(source)
            stack.callback(target.close)
            Importer(
                source,
                target,
                OldFiles(storage, self._scan_options()),
                self.main_tags,
                progress=self.progress,
                is_stopped=self.stop,
            ).run()
            report = _report(target)
            target.finish(places.database)
        return report

    def _check(self) -> None:
        """Raises CannotTakeOver when there is nothing to take it from, or something there already."""
        places = self.places
        for suffix in ("", "-wal"):
            path = places.database + suffix
            if os.path.exists(path):
                raise CannotTakeOver(f"{path} exists already: nothing is taken over")
        if not os.path.isdir(places.storage):
            raise CannotTakeOver(f"StorageDirectory: {places.storage}: no such folder")

    def _make_index_folder(self) -> None:
        folder = os.path.dirname(self.places.database)
        try:
            os.makedirs(folder, mode=0o750, exist_ok=True)
        except OSError as error:
            raise CannotTakeOver(f"IndexDirectory: cannot be made: {folder}: {error.strerror}") from error

    @contextlib.contextmanager
    def _storage(self) -> Iterator[FilesystemStorage]:
        # Its threads are not needed, nor the reactor that they report to.
        pool = NamedPool(cast(Any, None), "storage", 1, synchronous=True)
        storage = FilesystemStorage(self.places.storage, pool, sync=self.settings.storage.sync_storage_area)
        storage.lock()
        try:
            yield storage
        finally:
            storage.close()

    def _scan_options(self) -> ScanOptions:
        return ScanOptions(
            dictionary=self.dictionary,
            default_encoding=self.settings.dicom.default_encoding,
            nesting=self.settings.orthanctw.maximum_nesting,
        )

    def _target(self, source: OrthancIndex) -> BulkIndex:
        """The file that an interrupted import has left, if it is of the same index and configuration, or a new one."""
        path = self.places.partial
        signatures = [self.main_tags.signature(level) for level in ResourceLevel]
        state = " ".join([access.fingerprint(self.places.old_index), self.places.storage, *signatures])
        if os.path.exists(path):
            with contextlib.suppress(sqlite3.DatabaseError, DatabaseError):
                target = BulkIndex(path, timestamp(time.time))
                if target.state("source") == state:
                    self.progress.tell("an interrupted import is gone on with")
                    return target
                target.close()
            self.progress.tell(f"{path} is of another state of the old index: the import begins anew")
            BulkIndex.remove(path)
        self.progress.tell("the old index is checked")
        source.check()
        target = BulkIndex(path, timestamp(time.time))
        target.commit(source=state)
        return target


def _report(target: BulkIndex) -> Report:
    counters = target.counters
    taken = {
        "patients": counters.level_1,
        "studies": counters.level_2,
        "series": counters.level_3,
        "instances": counters.level_4,
        **{
            name: target.count(table)
            for name, table in (
                ("attachments", "attachments"),
                ("labels", "labels"),
                ("changes", "changes"),
                ("exports", "exports"),
                ("values of key-value stores", "key_values"),
                ("values of queues", "queues"),
            )
        },
    }
    problems = target.notes(NOT_TAKEN)
    lines = ["Taken over: " + ", ".join(f"{number} {name}" for name, number in taken.items() if number) + "."]
    lines.append(f"Not taken over: {len(problems)}." if problems else "Nothing was left out.")
    return Report([*lines, *(f"  {problem}" for problem in problems)], not problems)
