"""Filling a new index in large transactions, in a file of another name that becomes the index when it is complete."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from orthanctw.index import journal, schema
from orthanctw.index.batch import Kind
from orthanctw.index.connection import connect_writer
from orthanctw.index.rows import (
    attachment_row,
    encode_metadata,
    encode_tags,
    in_series,
    json_list,
    search_rows,
)
from orthanctw.index.transaction import Quota, Transaction
from orthanctw.model import Attachment, ExportedResource, MetadataType, MetadataValue, ResourceLevel

#: Pages of the journal after which it is copied into the file: some 32 MB.
_CHECKPOINT_PAGES: Final = 8000
#: What must survive an interruption and is no part of the index.
_STATE_TABLES: Final = {
    "filling_state": "name TEXT PRIMARY KEY, value TEXT NOT NULL",
    "filling_notes": "id INTEGER PRIMARY KEY, kind TEXT NOT NULL, text TEXT NOT NULL",
}
_ADD_CHANGE: Final = (
    "INSERT INTO changes SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM resources WHERE id = ?3)"
)
_ADD_RECYCLABLE: Final = (
    "INSERT OR IGNORE INTO recycling SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM resources WHERE id = ?2 AND level = 1)"
)
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")


@attrs.frozen(kw_only=True)
class BulkResource:
    """A resource with all that belongs to it; `row` is its number, which orders the lists of its level."""

    row: int
    level: ResourceLevel
    parent: int | None
    public_id: str
    main_tags: Mapping[int, str]
    search_tags: Mapping[int, str]
    metadata: Mapping[int, MetadataValue]
    attachments: Sequence[Attachment] = ()
    labels: Sequence[str] = ()
    new_change: int | None = None
    header: bytes | None = None


class BulkIndex:
    """A file that becomes an index. Any exception means: close it, and go on from the last `commit`, or another time.

    Parameters
    ----------
    path : str
        The file; one that an interrupted process has left is gone on with.
    date : str
        ``yyyymmddThhmmss`` in UTC.
    """

    def __init__(self, path: str, date: str) -> None:
        self._path = path
        # A power cut may cost the last transactions, and they are repeated then.
        self._connection = connect_writer(path, "NORMAL")
        try:
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            schema.migrate(self._connection, date)
            for table, columns in _STATE_TABLES.items():
                self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
            self._transaction = Transaction(self._connection, Quota(), lambda: date)
            self._transaction.load()
        except BaseException:
            self._connection.close()
            raise
        self._labels: list[tuple[int, str]] = []
        self.counters = self._transaction.counters

    @staticmethod
    def remove(path: str) -> None:
        """Remove a file that is not complete."""
        for suffix in _SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + suffix)

    def close(self) -> None:
        """What was not committed is lost."""
        self._connection.close()

    # What goes on after an interruption

    def state(self, name: str) -> str | None:
        """What `commit` noted last under a name."""
        row = self._connection.execute("SELECT value FROM filling_state WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, kind: str, text: str) -> None:
        """Keep a text until the end."""
        self._transaction.execute("INSERT INTO filling_notes (kind, text) VALUES (?, ?)", (kind, text))

    def notes(self, kind: str) -> list[str]:
        """The texts of a kind, in the order of their notes."""
        rows = self._transaction.execute("SELECT text FROM filling_notes WHERE kind = ? ORDER BY id", (kind,))
        return [row[0] for row in rows]

    def commit(self, **state: object) -> None:
        """Make everything so far one transaction, with where to go on from."""
        self._transaction.execute("SELECT 1")
        self._connection.executemany("INSERT OR IGNORE INTO labels VALUES (?, ?)", self._labels)
        self._labels.clear()
        values = [(name, str(value)) for name, value in state.items()]
        self._connection.executemany("INSERT OR REPLACE INTO filling_state VALUES (?, ?)", values)
        self._transaction.commit()

    # Resources

    def known_ids(self, public_ids: Sequence[str]) -> set[str]:
        """Those of `public_ids` that are there."""
        rows = self._transaction.execute(
            "SELECT j.value FROM json_each(?) j CROSS JOIN resources r ON r.public_id = j.value",
            (json_list(public_ids),),
        )
        return {row[0] for row in rows}

    def holds(self, row: int) -> bool:
        """Whether there is a resource of this number."""
        found = self._transaction.execute("SELECT 1 FROM resources WHERE id = ?", (row,))
        return found.fetchone() is not None

    def add(self, resource: BulkResource) -> None:
        """Add a resource whose row and identifier are new; its LastUpdate is one of its metadata."""
        metadata = dict(resource.metadata)
        last_update = metadata.pop(MetadataType.LAST_UPDATE, None)
        texts = {number: item.value for number, item in metadata.items()}
        level = resource.level
        add = self._transaction.add
        add(
            Kind.RESOURCE,
            resource.row,
            int(level),
            resource.parent,
            resource.public_id,
            None if last_update is None else last_update.value,
            in_series(level, texts),
            resource.new_change,
            encode_tags(resource.main_tags),
            encode_metadata(metadata),
            resource.header,
        )
        self.counters.count(level, 1)
        for row in search_rows(resource.row, level, resource.search_tags):
            add(Kind.SEARCH, *row)
        for attachment in resource.attachments:
            add(Kind.ATTACHMENT, *attachment_row(resource.row, attachment))
            self.counters.count_file(attachment)
        self._labels += [(resource.row, label) for label in resource.labels]

    # Everything else

    def add_changes(self, changes: Iterable[tuple[int, int, int, str]]) -> int:
        """Add entries, ``(seq, type, row of the resource, date)``, of resources that are there; answers how many."""
        return self._fill(_ADD_CHANGE, changes)

    def add_exports(self, exports: Iterable[ExportedResource]) -> int:
        return self._fill(journal.INSERT_EXPORT, (journal.export_row(item.seq, item) for item in exports))

    def add_recyclable(self, patients: Iterable[tuple[int, int]]) -> int:
        """``(position, row)`` of patients that are not protected; those that are not there are left out."""
        return self._fill(_ADD_RECYCLABLE, patients)

    def add_properties(self, properties: Iterable[tuple[int, str]]) -> int:
        return self._fill("INSERT OR REPLACE INTO properties VALUES (?, ?)", properties)

    def add_key_values(self, values: Iterable[tuple[str, str, bytes]]) -> int:
        return self._fill("INSERT OR REPLACE INTO key_values VALUES (?, ?, ?)", values)

    def add_queued(self, values: Iterable[tuple[int, str, bytes]]) -> int:
        """``(id, queue, value)``; the values of a queue are taken in the order of their ids."""
        return self._fill("INSERT INTO queues (id, queue, value) VALUES (?, ?, ?)", values)

    def set_last_queued(self, last: int) -> None:
        """The id that was given last to a value of a queue."""
        execute = self._transaction.execute
        (highest,) = execute("SELECT COALESCE(MAX(id), 0) FROM queues").fetchone()
        execute("DELETE FROM sqlite_sequence WHERE name = 'queues'")
        execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('queues', ?)", (max(last, highest),))

    def _checkpoint(self) -> None:
        busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("the new index is in use")

    def count(self, table: str) -> int:
        (number,) = self._transaction.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
        return int(number)

    def highest(self, table: str, column: str) -> int:
        (number,) = self._transaction.execute(f"SELECT COALESCE(MAX({column}), 0) FROM {table}").fetchone()
        return int(number)

    def _fill(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> int:
        self._transaction.execute("SELECT 1")
        return max(0, self._connection.executemany(statement, rows).rowcount)

    def finish(self, path: str) -> None:
        """Close the file, make it durable, and give it its name. Raises OSError and sqlite3.Error."""
        self.commit()
        execute = self._connection.execute
        # Twice: where the disk is full, it fails while it is still known where to go on from.
        self._checkpoint()
        for table in _STATE_TABLES:
            execute(f"DROP TABLE {table}")
        self._checkpoint()
        self._connection.close()
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(self._path, path)
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
