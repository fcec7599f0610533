"""What an operation of the writer works with: the connection, the counters, the parents it knows."""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from orthanctw.model import Attachment, AttachmentType, Change, ChangeType, ResourceLevel, StorageMode

_PARENTS_KNOWN: Final = 1024


@attrs.frozen(kw_only=True)
class Quota:
    """Limits of the storage; 0 is none. `maximum_size` is bytes of files as they lie on the disk."""

    maximum_size: int = 0
    maximum_patients: int = 0
    mode: StorageMode = StorageMode.RECYCLE


@attrs.define
class Counters:
    """Totals and the numbers given last; one row of the table `counters` for each."""

    level_1: int = 0
    level_2: int = 0
    level_3: int = 0
    level_4: int = 0
    disk_size: int = 0
    uncompressed_size: int = 0
    dicom_disk_size: int = 0
    dicom_uncompressed_size: int = 0
    last_resource: int = 0
    last_change: int = 0
    last_export: int = 0
    last_recycling: int = 0

    def copy(self) -> Counters:
        return Counters(*_values_of(self))

    def count(self, level: int, number: int) -> None:
        """`number` more resources of `level`."""
        name = _LEVEL_COUNTERS[level]
        setattr(self, name, getattr(self, name) + number)

    def count_file(self, attachment: Attachment, sign: int = 1) -> None:
        """One more file, or with a `sign` of -1 one less."""
        self.disk_size += sign * attachment.compressed_size
        self.uncompressed_size += sign * attachment.size
        if attachment.content_type == AttachmentType.DICOM:
            self.dicom_disk_size += sign * attachment.compressed_size
            self.dicom_uncompressed_size += sign * attachment.size


_LEVEL_COUNTERS: Final = ("", "level_1", "level_2", "level_3", "level_4")
_COUNTER_NAMES: Final = tuple(field.name for field in attrs.fields(Counters))
_values_of = operator.attrgetter(*_COUNTER_NAMES)


@attrs.define
class Parents:
    """The rows above an instance; `updated` is the LastUpdate that they are known to have."""

    series: int
    study: int
    patient: int
    expected: int | None
    updated: str = ""


class Transaction:
    """The state of the writer. Everything here follows the database: `load` makes it so again after a rollback.

    Parameters
    ----------
    connection : sqlite3.Connection
        The only connection that writes.
    quota : Quota
    now : callable
        The present time, ``yyyymmddThhmmss`` in UTC.
    """

    def __init__(self, connection: sqlite3.Connection, quota: Quota, now: Callable[[], str]) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.quota = quota
        self.now = now
        self.counters = Counters()
        self.newest_patient = 0
        self._stored_counters = Counters()
        self._parents: dict[str, Parents] = {}
        self._touched: dict[int, str] = {}
        connection.execute(
            "CREATE TEMP TABLE doomed (id INTEGER PRIMARY KEY, level INTEGER, public_id TEXT, parent INTEGER)"
        )
        connection.execute("CREATE INDEX temp.doomed_level ON doomed (level)")

    def load(self) -> None:
        """Read the counters and forget everything else."""
        rows = self.execute("SELECT name, value FROM counters").fetchall()
        self.counters = Counters(**{name: value for name, value in rows if name in _COUNTER_NAMES})
        self._stored_counters = self.counters.copy()
        self.newest_patient = 0
        self._parents.clear()
        self._touched.clear()

    def flush(self) -> None:
        """Write what operations of this transaction have left to its end."""
        self.write_dates()
        if self.counters != self._stored_counters:
            before, after = _values_of(self._stored_counters), _values_of(self.counters)
            self.connection.executemany(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [item[:2] for item in zip(_COUNTER_NAMES, after, before, strict=True) if item[1] != item[2]],
            )
            self._stored_counters = self.counters.copy()

    def savepoint(self) -> tuple[Counters, int, dict[int, str]]:
        """Begin an operation whose failure leaves its neighbours alone."""
        self.execute("SAVEPOINT operation")
        return self.counters.copy(), self.newest_patient, self._touched.copy()

    def release(self) -> None:
        """End an operation that succeeded."""
        self.execute("RELEASE operation")

    def undo(self, state: tuple[Counters, int, dict[int, str]]) -> None:
        """End an operation that failed; `state` is what `savepoint` answered."""
        self.execute("ROLLBACK TO operation")
        self.execute("RELEASE operation")
        self.counters, self.newest_patient, self._touched = state
        self._parents.clear()

    # What operations share
    def known_parents(self, series_id: str) -> Parents | None:
        """The rows above the instances of a series, if they were used lately."""
        parents = self._parents.pop(series_id, None)
        if parents is not None:
            self._parents[series_id] = parents
        return parents

    def remember_parents(self, series_id: str, parents: Parents) -> None:
        if len(self._parents) >= _PARENTS_KNOWN:
            del self._parents[next(iter(self._parents))]
        self._parents[series_id] = parents

    def forget_parents(self) -> None:
        """Something above instances was deleted or edited."""
        self._parents.clear()

    def touch(self, resources: Iterable[int], date: str) -> None:
        """Set LastUpdate when the transaction ends: many objects of a series then cost one update."""
        for resource in resources:
            self._touched[resource] = date

    def write_dates(self) -> None:
        """Write the dates of `touch` before an operation that reads or sets them itself."""
        if self._touched:
            self.connection.executemany(
                "UPDATE resources SET last_update = ? WHERE id = ?",
                [(date, resource) for resource, date in self._touched.items()],
            )
            self._touched.clear()

    def log(self, change_type: ChangeType, level: ResourceLevel, resource: int, public_id: str, date: str) -> Change:
        """Write an entry of ``/changes``."""
        self.counters.last_change += 1
        seq = self.counters.last_change
        self.execute("INSERT INTO changes VALUES (?, ?, ?, ?)", (seq, int(change_type), resource, date))
        return Change(seq=seq, change_type=change_type, level=level, public_id=public_id, date=date)

    def move_to_end(self, patient: int) -> None:
        """Make an unprotected patient the last one to be recycled."""
        if patient == self.newest_patient:
            return
        self.counters.last_recycling += 1
        self.execute(
            "UPDATE recycling SET position = ? WHERE patient = ?", (self.counters.last_recycling, patient)
        )
        self.newest_patient = patient

    def append_to_end(self, patient: int) -> None:
        """Make a patient one that may be recycled, the last of them."""
        self.counters.last_recycling += 1
        self.execute(
            "INSERT OR IGNORE INTO recycling VALUES (?, ?)", (self.counters.last_recycling, patient)
        )
        self.newest_patient = patient
