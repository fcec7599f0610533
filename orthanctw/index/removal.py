"""Deleting resources, and making room by deleting patients."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

from orthanctw.errors import FullStorage
from orthanctw.index.rows import LEVELS, internal_id, json_list
from orthanctw.index.transaction import Transaction
from orthanctw.model import Change, ChangeType, Deleted, ResourceLevel, StorageMode

_ADD_ROOTS: Final = (
    "INSERT OR IGNORE INTO doomed SELECT r.id, r.level, r.public_id, r.parent, r.new_change"
    " FROM json_each(?) j CROSS JOIN resources r ON r.id = j.value"
)
_ADD_CHILDREN: Final = (
    "INSERT OR IGNORE INTO doomed SELECT r.id, r.level, r.public_id, r.parent, r.new_change"
    " FROM doomed CROSS JOIN resources r ON r.parent = doomed.id WHERE doomed.level = ?"
)
_ADD_EMPTY_PARENTS: Final = (
    "INSERT OR IGNORE INTO doomed SELECT p.id, p.level, p.public_id, p.parent, p.new_change"
    " FROM (SELECT DISTINCT parent FROM doomed WHERE level = ?) above CROSS JOIN resources p ON p.id = above.parent"
    " WHERE NOT EXISTS (SELECT 1 FROM resources c WHERE c.parent = p.id AND c.id NOT IN (SELECT id FROM doomed))"
)
_REMAINING: Final = (
    "SELECT p.id, p.level, p.public_id, p.parent"
    " FROM (SELECT DISTINCT parent FROM doomed) above CROSS JOIN resources p ON p.id = above.parent"
    " WHERE p.id NOT IN (SELECT id FROM doomed) ORDER BY p.level DESC, p.id"
)
_FILES: Final = (
    "SELECT a.uuid, a.type = 1, a.compressed_size, a.size"
    " FROM doomed CROSS JOIN attachments a ON a.resource = doomed.id ORDER BY a.resource, a.type"
)
_DROP_LATER: Final = (
    "INSERT OR IGNORE INTO removals SELECT a.uuid, a.type, a.is_scripted, a.custom_data"
    " FROM json_each(?) j CROSS JOIN attachments a ON a.uuid = j.value"
)
_DELETIONS: Final = (
    "DELETE FROM changes WHERE seq IN (SELECT new_change FROM doomed WHERE level = 4)",
    "DELETE FROM changes WHERE type <> 2 AND resource IN (SELECT id FROM doomed)",
    *(
        f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM doomed)"
        for table, column in (
            ("search", "resource"),
            ("attachments", "resource"),
            ("labels", "resource"),
            ("details", "id"),
            ("recycling", "patient"),
            ("resources", "id"),
        )
    ),
)


def delete(transaction: Transaction, level: ResourceLevel, public_id: str) -> Deleted | None:
    """Delete one resource; None when it is unknown."""
    resource = internal_id(transaction.execute, level, public_id)
    return None if resource is None else remove(transaction, [resource])


def delete_many(transaction: Transaction, public_ids: Sequence[str]) -> Deleted:
    """Delete resources of any level; nothing is told of what remains above them."""
    rows = transaction.execute(
        "SELECT r.id FROM json_each(?) j CROSS JOIN resources r ON r.public_id = j.value", (json_list(public_ids),)
    ).fetchall()
    deleted = remove(transaction, [row[0] for row in rows])
    return Deleted(remaining=None, changes=deleted.changes, removed_files=deleted.removed_files)


def remove(transaction: Transaction, roots: Sequence[int]) -> Deleted:
    """Delete rows, what is below them and what is left empty above; their files become pending removals."""
    execute = transaction.execute
    execute("DELETE FROM doomed")
    execute(_ADD_ROOTS, (json_list(roots),))
    for level in (ResourceLevel.PATIENT, ResourceLevel.STUDY, ResourceLevel.SERIES):
        execute(_ADD_CHILDREN, (int(level),))
    for level in (ResourceLevel.INSTANCE, ResourceLevel.SERIES, ResourceLevel.STUDY):
        execute(_ADD_EMPTY_PARENTS, (int(level),))
    date = transaction.now()
    remaining = _touch_remaining(transaction, date)
    changes = _count_resources(transaction, date)
    files = _drop_files(transaction)
    for statement in _DELETIONS:
        execute(statement)
    transaction.forget_parents()
    return Deleted(remaining=remaining, changes=changes, removed_files=files)


def _touch_remaining(transaction: Transaction, date: str) -> tuple[ResourceLevel, str] | None:
    rows = transaction.execute(_REMAINING).fetchall()
    for resource, _, _, parent in rows:
        transaction.touch((resource,), date)
        while parent is not None:
            transaction.touch((parent,), date)
            (parent,) = transaction.execute("SELECT parent FROM resources WHERE id = ?", (parent,)).fetchone()
    return (ResourceLevel(rows[0][1]), rows[0][2]) if rows else None


def _count_resources(transaction: Transaction, date: str) -> tuple[Change, ...]:
    rows = transaction.execute("SELECT level, public_id FROM doomed ORDER BY level DESC, id").fetchall()
    for level, _ in rows:
        transaction.counters.count(level, -1)
    return tuple(
        [
            Change(change_type=ChangeType.DELETED, level=LEVELS[level], public_id=public_id, date=date)
            for level, public_id in rows
        ]
    )


def _drop_files(transaction: Transaction) -> tuple[str, ...]:
    rows = transaction.execute(_FILES).fetchall()
    counters = transaction.counters
    for _, is_dicom, disk_size, size in rows:
        counters.disk_size -= disk_size
        counters.uncompressed_size -= size
        if is_dicom:
            counters.dicom_disk_size -= disk_size
            counters.dicom_uncompressed_size -= size
    files = tuple([row[0] for row in rows])
    drop_later(transaction, files)
    return files


def drop_later(transaction: Transaction, uuids: Sequence[str]) -> None:
    """Record that files are to be removed from the storage area, whatever happens after the commit.

    Their rows are still there.
    """
    transaction.execute(_DROP_LATER, (json_list(uuids),))


def make_room(transaction: Transaction, patient: int, size: int) -> Deleted:
    """Delete the oldest unprotected patients until `size` more bytes are within the quota; never `patient`.

    Raises FullStorage when that cannot be, or must not: then the caller's operation is undone.
    """
    changes: list[Change] = []
    files: list[str] = []
    while is_over_quota(transaction, size):
        if transaction.quota.mode is StorageMode.REJECT:
            raise FullStorage("the storage quota is reached")
        row = transaction.execute(
            "SELECT patient FROM recycling WHERE patient <> ? ORDER BY position LIMIT 1", (patient,)
        ).fetchone()
        if row is None:
            raise FullStorage("the storage quota is reached and no patient can be recycled")
        deleted = remove(transaction, [row[0]])
        changes += deleted.changes
        files += deleted.removed_files
    return Deleted(remaining=None, changes=tuple(changes), removed_files=tuple(files))


def apply_quota(transaction: Transaction) -> None:
    """Recycle what is over the quota before anything is stored, as far as protection allows."""
    if transaction.quota.mode is StorageMode.RECYCLE:
        with contextlib.suppress(FullStorage):
            make_room(transaction, 0, 0)


def is_over_quota(transaction: Transaction, size: int, patients: int = 0) -> bool:
    """Whether so many more bytes and patients are more than the quota allows."""
    quota, counters = transaction.quota, transaction.counters
    return bool(
        (quota.maximum_size and counters.disk_size + size > quota.maximum_size)
        or (quota.maximum_patients and counters.level_1 + patients > quota.maximum_patients)
    )
