"""Rows for several tables in one statement.

Each statement gives the interpreter's lock away, and a busy reactor takes it: what a group of uploads writes is
therefore gathered here, and a view whose triggers know the tables carries it out at once.
"""

from __future__ import annotations

import enum
import functools
import sqlite3
from itertools import chain
from typing import Any, Final

#: Rows of one statement at most: each number of rows is a statement of its own to prepare.
_ROWS: Final = 64
_COLUMNS: Final = "abcdefghijkl"
_PADDING: Final = tuple((None,) * (len(_COLUMNS) - given) for given in range(len(_COLUMNS) + 1))
COUNTER_NAMES: Final = (
    "level_1",
    "level_2",
    "level_3",
    "level_4",
    "disk_size",
    "uncompressed_size",
    "dicom_disk_size",
    "dicom_uncompressed_size",
    "last_resource",
    "last_change",
    "last_export",
    "last_recycling",
)


class Kind(enum.IntEnum):
    """What a row is for, with its values in their order."""

    #: The columns of `resources`, then those of `details` after the first.
    RESOURCE = 0
    #: The columns of the table.
    ATTACHMENT = 1
    SEARCH = 2
    CHANGE = 3
    #: A resource and its LastUpdate.
    DATE = 4
    #: A patient that may be recycled, and its new position.
    MOVED = 5
    #: A patient that may be recycled from now on, and its position.
    RECYCLABLE = 6
    #: The counters, in the order of `COUNTER_NAMES`.
    COUNTERS = 7


def _values(first: int, last: int) -> str:
    return ", ".join(f"NEW.{column}" for column in _COLUMNS[first:last])


_ACTIONS: Final = {
    Kind.RESOURCE: (
        f"INSERT INTO resources VALUES ({_values(0, 7)}); INSERT INTO details VALUES (NEW.a, {_values(7, 10)})"
    ),
    # What a script keeps was noted as one to be removed, in case that nothing comes of it.
    Kind.ATTACHMENT: (
        f"INSERT INTO attachments VALUES ({_values(0, 12)}); DELETE FROM removals WHERE NEW.k = 1 AND uuid = NEW.c"
    ),
    Kind.SEARCH: f"INSERT INTO search VALUES ({_values(0, 3)})",
    Kind.CHANGE: f"INSERT INTO changes VALUES ({_values(0, 4)})",
    Kind.DATE: "UPDATE resources SET last_update = NEW.b WHERE id = NEW.a",
    Kind.MOVED: "UPDATE recycling SET position = NEW.b WHERE patient = NEW.a",
    Kind.RECYCLABLE: "INSERT OR IGNORE INTO recycling VALUES (NEW.b, NEW.a)",
    Kind.COUNTERS: "UPDATE counters SET "
    + ", ".join(f"{name} = NEW.{column}" for name, column in zip(COUNTER_NAMES, _COLUMNS, strict=True)),
}


class Batch:
    """Rows that wait to be written, in their order.

    Parameters
    ----------
    connection : sqlite3.Connection
        The connection that writes; the view and its triggers belong to it and are not part of the file.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._rows: list[tuple[Any, ...]] = []
        columns = ", ".join(_COLUMNS)
        nulls = ", ".join(["NULL"] * len(_COLUMNS))
        connection.execute(f"CREATE TEMP VIEW batch (kind, {columns}) AS SELECT NULL, {nulls}")
        for kind, action in _ACTIONS.items():
            connection.execute(
                f"CREATE TEMP TRIGGER batch_{kind.name} INSTEAD OF INSERT ON batch WHEN NEW.kind = {int(kind)}"
                f" BEGIN {action}; END"
            )

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_one_statement(self) -> bool:
        """Whether `write` needs no transaction around it, since a statement is one."""
        return len(self._rows) <= _ROWS

    def add(self, kind: Kind, *values: Any) -> None:
        self._rows.append((kind, *values, *_PADDING[len(values)]))

    def clear(self) -> None:
        self._rows.clear()

    def write(self) -> None:
        """Carry out what waits. Raises sqlite3.IntegrityError when a row is there already."""
        rows, self._rows = self._rows, []
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            self._execute(_insertion(len(part)), tuple(chain.from_iterable(part)))


@functools.cache
def _insertion(rows: int) -> str:
    row = f"({', '.join('?' * (1 + len(_COLUMNS)))})"
    return f"INSERT INTO batch VALUES {', '.join([row] * rows)}"
