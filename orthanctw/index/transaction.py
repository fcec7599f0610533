"""What an operation of the writer works with: the connection, the counters, the parents it knows."""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from orthanctw.index.batch import COUNTER_NAMES, Batch, Kind
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
    """Totals and the numbers given last: the columns of the only row of `counters`."""

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
_values_of = operator.attrgetter(*COUNTER_NAMES)
_READ_COUNTERS: Final = f"SELECT {', '.join(COUNTER_NAMES)} FROM counters"


@attrs.define
class Parents:
    """The rows above an instance.

    `expected` is the number of instances that the series announces, `instances` the number that it has, where that has
    been counted; `updated` is the LastUpdate that all three are known to have.
    """

    series: int
    study: int
    patient: int
    expected: int | None
    instances: int | None = None
    updated: str = ""


class Transaction:
    """The state of the writer. Everything here follows the database: `load` makes it so again after a rollback.

    What is only written is gathered, and is written before the next statement of an operation, or at the commit: a
    group of uploads is often one statement, which is its own transaction.

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
        self.quota = quota
        self.now = now
        self.counters = Counters()
        #: Look before an object is stored whether it is there; without this the commit fails when one is.
        self.is_careful = False
        #: An object was stored already since this was last set to False.
        self.met_known_object = False
        self._newest_patient = 0
        self._stored_counters = Counters()
        self._parents: dict[str, Parents] = {}
        self._touched: dict[int, str] = {}
        self._batch = Batch(connection)
        self._begun = False
        connection.execute(
            "CREATE TEMP TABLE doomed"
            " (id INTEGER PRIMARY KEY, level INTEGER, public_id TEXT, parent INTEGER, new_change INTEGER)"
        )
        connection.execute("CREATE INDEX temp.doomed_level ON doomed (level)")

    # What the writer does with it
    def load(self) -> None:
        """Read the counters and forget everything else."""
        self.counters = Counters(*self.connection.execute(_READ_COUNTERS).fetchone())
        self._stored_counters = self.counters.copy()
        self._newest_patient = 0
        self._parents.clear()
        self._touched.clear()
        self._batch.clear()

    def commit(self) -> None:
        """Make everything durable since the commit before."""
        self._gather_dates()
        if self.counters != self._stored_counters:
            self._batch.add(Kind.COUNTERS, *_values_of(self.counters))
            self._stored_counters = self.counters.copy()
        if not self._begun and not self._batch.is_one_statement:
            self._begin()
        self._batch.write()
        if self._begun:
            self.connection.execute("COMMIT")
            self._begun = False

    def roll_back(self) -> None:
        """Undo everything since the last commit in the database; `load` has to follow."""
        self._begun = False
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def skip_row_number(self) -> None:
        """A transaction of its own that changes a page and nothing that matters; `load` has to follow."""
        self.connection.execute("UPDATE counters SET last_resource = last_resource + 1")

    # What operations do
    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Carry out a statement, which sees everything that was done before."""
        if not self._begun:
            self._begin()
        self._gather_dates()
        self._batch.write()
        return self.connection.execute(statement, parameters)

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

    def add(self, kind: Kind, *values: Any) -> None:
        """Write a row, with what other operations write."""
        self._batch.add(kind, *values)

    def touch(self, resources: Iterable[int], date: str) -> None:
        """Set LastUpdate: many objects of a series then cost one update."""
        for resource in resources:
            self._touched[resource] = date

    def log(self, change_type: ChangeType, level: ResourceLevel, resource: int, public_id: str, date: str) -> Change:
        """Write an entry of ``/changes``."""
        self.counters.last_change += 1
        seq = self.counters.last_change
        self._batch.add(Kind.CHANGE, seq, int(change_type), resource, date)
        return Change(seq=seq, change_type=change_type, level=level, public_id=public_id, date=date)

    def move_to_end(self, patient: int) -> None:
        """Make an unprotected patient the last one to be recycled."""
        if patient == self._newest_patient:
            return
        self.counters.last_recycling += 1
        self._batch.add(Kind.MOVED, patient, self.counters.last_recycling)
        self._newest_patient = patient

    def append_to_end(self, patient: int) -> None:
        """Make a patient one that may be recycled, the last of them."""
        self.counters.last_recycling += 1
        self._batch.add(Kind.RECYCLABLE, patient, self.counters.last_recycling)
        self._newest_patient = patient

    def _begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self._begun = True

    def _gather_dates(self) -> None:
        if self._touched:
            for resource, date in self._touched.items():
                self._batch.add(Kind.DATE, resource, date)
            self._touched.clear()
