"""The logs that clients follow: ``/changes`` and ``/exports``."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from orthanctw.index.rows import LEVELS, Row, json_list
from orthanctw.index.transaction import Transaction
from orthanctw.model import Change, ChangeType, ExportedResource, ResourceLevel

_T = TypeVar("_T")
_CHANGE_COLUMNS: Final = (
    "SELECT c.seq, c.type, r.level, r.public_id, c.date FROM changes c CROSS JOIN resources r ON r.id = c.resource"
)
_EXPORT_COLUMNS: Final = (
    "SELECT seq, level, public_id, remote_modality, date, patient_id, study_instance_uid,"
    " series_instance_uid, sop_instance_uid FROM exports"
)
INSERT_EXPORT: Final = "INSERT INTO exports VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LAST_SEQUENCE: Final = (1 << 63) - 1


def log_changes(
    transaction: Transaction, changes: Sequence[Change], last_update: Mapping[str, str]
) -> list[Change]:
    """Log the changes whose resource exists; those that are never logged pass as they are.

    `last_update` gives resources, by public id, a new LastUpdate.
    """
    named = dict.fromkeys([*(change.public_id for change in changes), *last_update])
    found = transaction.execute(
        "SELECT r.public_id, r.level, r.id FROM json_each(?) j CROSS JOIN resources r ON r.public_id = j.value",
        (json_list(named),),
    ).fetchall()
    rows = {public_id: (level, row) for public_id, level, row in found}
    logged = []
    for change in changes:
        level, row = rows.get(change.public_id, (None, 0))
        if not change.change_type.logged:
            logged.append(change)
        elif level == change.level:
            logged.append(transaction.log(change.change_type, change.level, row, change.public_id, change.date))
    for public_id, date in last_update.items():
        if public_id in rows:
            transaction.touch((rows[public_id][1],), date)
    if last_update:
        transaction.forget_parents()
    return logged


def changes(
    connection: sqlite3.Connection, since: int | None, limit: int, to: int | None, types: frozenset[ChangeType]
) -> tuple[list[Change], bool]:
    """Entries after `since`, up to and including `to`; from `to` backwards when there is no `since`."""
    condition = ""
    if types:
        condition = f" AND c.type IN ({', '.join(sorted(str(int(change_type)) for change_type in types))})"
        if ChangeType.NEW_INSTANCE not in types:
            condition += " AND c.type <> 2"
    backwards = since is None and to is not None
    rows = connection.execute(
        f"{_CHANGE_COLUMNS} WHERE c.seq > ? AND c.seq <= ?{condition}"
        f" ORDER BY c.seq {'DESC' if backwards else 'ASC'} LIMIT ?",
        (since or 0, _LAST_SEQUENCE if to is None else to, _one_more(limit)),
    ).fetchall()
    return _page(rows, limit, backwards, _change)


def last_change(connection: sqlite3.Connection) -> tuple[Change | None, int]:
    row = connection.execute(f"{_CHANGE_COLUMNS} ORDER BY c.seq DESC LIMIT 1").fetchone()
    return None if row is None else _change(row), _last_given(connection, "last_change")


def clear_changes(transaction: Transaction) -> None:
    transaction.execute("DELETE FROM changes")


def log_exported(transaction: Transaction, exported: ExportedResource) -> None:
    transaction.counters.last_export += 1
    transaction.execute(INSERT_EXPORT, export_row(transaction.counters.last_export, exported))


def export_row(seq: int, exported: ExportedResource) -> Row:
    """The row of the table `exports`."""
    return (
        seq,
        int(exported.level),
        exported.public_id,
        exported.remote_modality,
        exported.date,
        exported.patient_id,
        exported.study_instance_uid,
        exported.series_instance_uid,
        exported.sop_instance_uid,
    )


def exports(connection: sqlite3.Connection, since: int, limit: int) -> tuple[list[ExportedResource], bool]:
    rows = connection.execute(
        f"{_EXPORT_COLUMNS} WHERE seq > ? ORDER BY seq LIMIT ?", (since, _one_more(limit))
    ).fetchall()
    return _page(rows, limit, False, _exported)


def last_export(connection: sqlite3.Connection) -> tuple[ExportedResource | None, int]:
    row = connection.execute(f"{_EXPORT_COLUMNS} ORDER BY seq DESC LIMIT 1").fetchone()
    return None if row is None else _exported(row), _last_given(connection, "last_export")


def clear_exports(transaction: Transaction) -> None:
    transaction.execute("DELETE FROM exports")


def _one_more(limit: int) -> int:
    """One row more than wanted tells whether there are more."""
    return min(max(limit, 0), _LAST_SEQUENCE - 1) + 1


def _page(
    rows: list[Row], limit: int, backwards: bool, make: Callable[[Row], _T]
) -> tuple[list[_T], bool]:
    done = len(rows) <= max(limit, 0)
    page = [make(row) for row in rows[: max(limit, 0)]]
    return (page[::-1] if backwards else page), done


def _last_given(connection: sqlite3.Connection, counter: str) -> int:
    (number,) = connection.execute(f"SELECT {counter} FROM counters").fetchone()
    return int(number)


def _change(row: Row) -> Change:
    seq, change_type, level, public_id, date = row
    return Change(
        seq=seq,
        change_type=ChangeType(change_type),
        level=ResourceLevel(level),
        public_id=public_id,
        date=date,
    )


def _exported(row: Row) -> ExportedResource:
    return ExportedResource(
        seq=row[0],
        level=LEVELS[row[1]],
        public_id=row[2],
        remote_modality=row[3],
        date=row[4],
        patient_id=row[5],
        study_instance_uid=row[6],
        series_instance_uid=row[7],
        sop_instance_uid=row[8],
    )
