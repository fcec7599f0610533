"""Global properties, key-value stores, queues, and the list of files to remove."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from orthanctw.index.rows import NO_CRC32, json_list
from orthanctw.index.transaction import Transaction

_FREE_FRONT: Final = (
    "SELECT id, value FROM queues WHERE queue = ? AND reserved_until <= ? ORDER BY id ASC LIMIT 1"
)
_FREE_BACK: Final = (
    "SELECT id, value FROM queues WHERE queue = ? AND reserved_until <= ? ORDER BY id DESC LIMIT 1"
)


def global_property(connection: sqlite3.Connection, number: int) -> str | None:
    row = connection.execute("SELECT value FROM properties WHERE number = ?", (number,)).fetchone()
    return None if row is None else str(row[0])


def set_global_property(transaction: Transaction, number: int, value: str) -> None:
    transaction.execute("INSERT OR REPLACE INTO properties VALUES (?, ?)", (number, value))


def store_value(transaction: Transaction, store: str, key: str, value: bytes) -> None:
    transaction.execute("INSERT OR REPLACE INTO key_values VALUES (?, ?, ?)", (store, key, value))


def value(connection: sqlite3.Connection, store: str, key: str) -> bytes | None:
    row = connection.execute("SELECT value FROM key_values WHERE store = ? AND key = ?", (store, key)).fetchone()
    return None if row is None else bytes(row[0])


def delete_value(transaction: Transaction, store: str, key: str) -> None:
    transaction.execute("DELETE FROM key_values WHERE store = ? AND key = ?", (store, key))


def keys(connection: sqlite3.Connection, store: str, since: str | None, limit: int) -> list[str]:
    """Keys after `since` in ascending order; `limit` 0 is no limit."""
    condition = "" if since is None else " AND key > ?"
    parameters = (store,) if since is None else (store, since)
    rows = connection.execute(
        f"SELECT key FROM key_values WHERE store = ?{condition} ORDER BY key LIMIT ?", (*parameters, limit or -1)
    ).fetchall()
    return [row[0] for row in rows]


def enqueue(transaction: Transaction, queue: str, value: bytes) -> None:
    transaction.execute("INSERT INTO queues (queue, value) VALUES (?, ?)", (queue, value))


def dequeue(transaction: Transaction, queue: str, from_front: bool, clock: Callable[[], float]) -> bytes | None:
    """Take the first, or last, value that nobody has reserved."""
    row = transaction.execute(_FREE_FRONT if from_front else _FREE_BACK, (queue, clock())).fetchone()
    if row is None:
        return None
    transaction.execute("DELETE FROM queues WHERE id = ?", (row[0],))
    return bytes(row[1])


def queue_size(connection: sqlite3.Connection, queue: str) -> int:
    """Number of values, reserved ones included."""
    (number,) = connection.execute("SELECT COUNT(*) FROM queues WHERE queue = ?", (queue,)).fetchone()
    return int(number)


def reserve(
    transaction: Transaction, queue: str, from_front: bool, seconds: int, clock: Callable[[], float]
) -> tuple[int, bytes] | None:
    """Hide a value for `seconds`."""
    now = clock()
    row = transaction.execute(_FREE_FRONT if from_front else _FREE_BACK, (queue, now)).fetchone()
    if row is None:
        return None
    transaction.execute("UPDATE queues SET reserved_until = ? WHERE id = ?", (now + seconds, row[0]))
    return int(row[0]), bytes(row[1])


def acknowledge(transaction: Transaction, queue: str, value_id: int) -> None:
    transaction.execute("DELETE FROM queues WHERE id = ? AND queue = ?", (value_id, queue))


def pending_removals(connection: sqlite3.Connection) -> tuple[str, ...]:
    return tuple(row[0] for row in connection.execute("SELECT uuid FROM removals ORDER BY uuid"))


def forget_removals(transaction: Transaction, uuids: Sequence[str]) -> None:
    """Those of files; what scripts keep is `forget_scripted`."""
    transaction.execute(
        "DELETE FROM removals WHERE uuid IN (SELECT value FROM json_each(?)) AND NOT is_scripted", (json_list(uuids),)
    )


def note_scripted(transaction: Transaction, uuid: str, content_type: int, custom_data: bytes) -> None:
    """Note what a script keeps, or is about to, as one to be removed, until an attachment of it is added."""
    transaction.execute("INSERT OR REPLACE INTO removals VALUES (?, ?, 1, ?)", (uuid, content_type, custom_data))


def scripted_removals(connection: sqlite3.Connection, uuids: Sequence[str]) -> dict[str, tuple[int, bytes]]:
    rows = connection.execute(
        "SELECT r.uuid, r.type, r.custom_data FROM json_each(?) j CROSS JOIN removals r ON r.uuid = j.value"
        " WHERE r.is_scripted",
        (json_list(uuids),),
    )
    return {uuid: (content_type, bytes(custom_data)) for uuid, content_type, custom_data in rows}


def forget_scripted(transaction: Transaction, uuids: Sequence[str]) -> None:
    transaction.execute("DELETE FROM removals WHERE uuid IN (SELECT value FROM json_each(?))", (json_list(uuids),))


def custom_data(connection: sqlite3.Connection, uuid: str) -> bytes | None:
    row = connection.execute("SELECT custom_data FROM attachments WHERE uuid = ?", (uuid,)).fetchone()
    return None if row is None else bytes(row[0])


def set_custom_data(transaction: Transaction, uuid: str, value: bytes) -> bool:
    cursor = transaction.execute("UPDATE attachments SET custom_data = ? WHERE uuid = ?", (value, uuid))
    return cursor.rowcount > 0


def note_checksums(transaction: Transaction, checksums: Mapping[str, int]) -> None:
    for uuid, crc32 in checksums.items():
        transaction.execute(
            "UPDATE attachments SET crc32 = ? WHERE uuid = ? AND crc32 = ?", (crc32, uuid, NO_CRC32)
        )


def known_files(connection: sqlite3.Connection, uuids: Sequence[str]) -> frozenset[str]:
    rows = connection.execute(
        "SELECT j.value FROM json_each(?) j WHERE EXISTS (SELECT 1 FROM attachments a WHERE a.uuid = j.value)",
        (json_list(uuids),),
    )
    return frozenset(row[0] for row in rows)
