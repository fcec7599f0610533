"""Adding an object: the transaction behind every upload."""

from __future__ import annotations

from typing import Final

from orthanctw.errors import DatabaseError
from orthanctw.index import removal
from orthanctw.index.rows import attachment_row, encode_new_metadata, encode_tags, in_series, tag_key
from orthanctw.index.transaction import Parents, Transaction
from orthanctw.model import (
    AttachmentType,
    Change,
    ChangeType,
    Deleted,
    MetadataType,
    NewInstance,
    NewResource,
    OverwriteMode,
    ResourceLevel,
    SeriesStatus,
    Stored,
    StoreStatus,
    series_status,
)

_INSERT_RESOURCE: Final = (
    "INSERT INTO resources (id, level, parent, public_id, in_series) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (public_id) DO NOTHING"
)
_INSERT_ATTACHMENT: Final = "INSERT INTO attachments VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FIND_PARENTS: Final = (
    "SELECT s.id, t.id, t.parent, s.in_series FROM resources s CROSS JOIN resources t ON t.id = s.parent"
    " WHERE s.public_id = ? AND +s.level = 3"
)
_FIND_INSTANCE: Final = (
    "SELECT r.id, a.md5 FROM resources r LEFT JOIN attachments a ON a.resource = r.id AND a.type = ?"
    " WHERE r.public_id = ? AND +r.level = 4"
)
_NEW: Final = {
    ResourceLevel.SERIES: ChangeType.NEW_SERIES,
    ResourceLevel.STUDY: ChangeType.NEW_STUDY,
    ResourceLevel.PATIENT: ChangeType.NEW_PATIENT,
}
_INSTANCE_ONLY: Final = frozenset({ResourceLevel.INSTANCE})
_NOTHING_DELETED: Final = Deleted(remaining=None)
_ALREADY_STORED: Final = Stored(status=StoreStatus.ALREADY_STORED)

#: Resources that a transaction has created, from the lowest upwards.
_Created = list[tuple[ResourceLevel, int, NewResource]]


def store(transaction: Transaction, instance: NewInstance) -> Stored:
    """Add an object, or replace it, or leave it, as its `overwrite` says.

    Raises FullStorage when a quota forbids it.
    """
    overwritten = _NOTHING_DELETED
    parents, created = _find_or_create_parents(transaction, instance)
    resource = _insert(transaction, ResourceLevel.INSTANCE, instance.instance, parents.series)
    if resource is None:
        existing = _to_overwrite(transaction, instance)
        if existing is None:
            return _ALREADY_STORED
        overwritten = removal.remove(transaction, [existing])
        parents, created = _find_or_create_parents(transaction, instance)
        resource = _insert(transaction, ResourceLevel.INSTANCE, instance.instance, parents.series)
        if resource is None:
            raise DatabaseError("an identifier is in use at another level")
    recycled = _fit_quota(transaction, instance, parents)
    _add_content(transaction, instance, resource)
    transaction.move_to_end(parents.patient)
    if created or parents.updated != instance.date:
        transaction.touch((parents.series, parents.study, parents.patient), instance.date)
        parents.updated = instance.date
    if recycled.changes:
        # Recycling forgets what is known above instances.
        transaction.remember_parents(instance.series.public_id, parents)
    changes = _log_new(transaction, instance, resource, created, parents)
    return Stored(
        status=StoreStatus.SUCCESS,
        changes=(*overwritten.changes, *recycled.changes, *changes),
        removed_files=overwritten.removed_files + recycled.removed_files,
        created=_INSTANCE_ONLY.union(level for level, _, _ in created) if created else _INSTANCE_ONLY,
    )


def _find_or_create_parents(transaction: Transaction, instance: NewInstance) -> tuple[Parents, _Created]:
    series_id = instance.series.public_id
    parents = transaction.known_parents(series_id)
    created: _Created = []
    if parents is None:
        row = transaction.execute(_FIND_PARENTS, (series_id,)).fetchone()
        if row is None:
            parents, created = _create_parents(transaction, instance)
        else:
            series, study, patient, expected = row
            parents = Parents(series, study, patient, _number(expected))
        transaction.remember_parents(series_id, parents)
    return parents, created


def _create_parents(transaction: Transaction, instance: NewInstance) -> tuple[Parents, _Created]:
    created: _Created = []
    rows = []
    parent: int | None = None
    for level, new in (
        (ResourceLevel.PATIENT, instance.patient),
        (ResourceLevel.STUDY, instance.study),
        (ResourceLevel.SERIES, instance.series),
    ):
        row = transaction.execute(
            "SELECT id FROM resources WHERE public_id = ? AND +level = ?", (new.public_id, int(level))
        ).fetchone()
        if row is None:
            resource = _insert(transaction, level, new, parent)
            if resource is None:
                raise DatabaseError("an identifier is in use at another level")
            _add_shown(transaction, level, new, resource)
            created.insert(0, (level, resource, new))
            if level is ResourceLevel.PATIENT:
                transaction.append_to_end(resource)
        else:
            resource = row[0]
        rows.append(resource)
        parent = resource
    patient, study, series = rows
    expected = instance.series.metadata.get(MetadataType.EXPECTED_NUMBER_OF_INSTANCES)
    return Parents(series, study, patient, _number(expected)), created


def _insert(transaction: Transaction, level: ResourceLevel, new: NewResource, parent: int | None) -> int | None:
    """The row of a new resource; None when the identifier exists."""
    resource = transaction.counters.last_resource + 1
    cursor = transaction.execute(
        _INSERT_RESOURCE, (resource, int(level), parent, new.public_id, in_series(level, new.metadata))
    )
    if cursor.rowcount != 1:
        return None
    transaction.counters.last_resource = resource
    transaction.counters.count(level, 1)
    return resource


def _add_shown(transaction: Transaction, level: ResourceLevel, new: NewResource, resource: int) -> None:
    """What is shown and searched of a new resource."""
    transaction.execute(
        "INSERT INTO details VALUES (?, ?, ?)",
        (resource, encode_tags(new.main_tags), encode_new_metadata(new.metadata)),
    )
    rows = [
        (resource, tag_key(level, tag), item)
        for tag, value in new.search_tags.items()
        for item in ({value, *value.split("\\")} if "\\" in value else (value,))
    ]
    if len(rows) == 1:
        transaction.execute("INSERT INTO search VALUES (?, ?, ?)", rows[0])
    else:
        transaction.connection.executemany("INSERT INTO search VALUES (?, ?, ?)", rows)


def _add_content(transaction: Transaction, instance: NewInstance, resource: int) -> None:
    _add_shown(transaction, ResourceLevel.INSTANCE, instance.instance, resource)
    transaction.execute("INSERT INTO headers VALUES (?, ?)", (resource, instance.header))
    for attachment in instance.attachments:
        transaction.execute(_INSERT_ATTACHMENT, attachment_row(resource, attachment))
        transaction.counters.count_file(attachment)


def _to_overwrite(transaction: Transaction, instance: NewInstance) -> int | None:
    """The row of the stored object that `instance` replaces, or None when it stays."""
    if instance.overwrite is OverwriteMode.NEVER:
        return None
    row = transaction.execute(
        _FIND_INSTANCE, (int(AttachmentType.DICOM), instance.instance.public_id)
    ).fetchone()
    if row is None:
        raise DatabaseError("an identifier is in use at another level")
    if instance.overwrite is OverwriteMode.IF_CHANGED:
        received = [a.md5 for a in instance.attachments if a.content_type == AttachmentType.DICOM]
        # Without digests nothing can be compared, and the received object is taken as another one.
        if row[1] and row[1] in received:
            return None
    return int(row[0])


def _fit_quota(transaction: Transaction, instance: NewInstance, parents: Parents) -> Deleted:
    quota = transaction.quota
    if instance.skip_quota or not (quota.maximum_size or quota.maximum_patients):
        return _NOTHING_DELETED
    size = sum(attachment.compressed_size for attachment in instance.attachments)
    return removal.make_room(transaction, parents.patient, size)


def _log_new(
    transaction: Transaction, instance: NewInstance, resource: int, created: _Created, parents: Parents
) -> list[Change]:
    date = instance.date
    log = transaction.log
    changes = [
        log(ChangeType.NEW_INSTANCE, ResourceLevel.INSTANCE, resource, instance.instance.public_id, date)
    ]
    for level, row, new in created:
        changes.append(log(_NEW[level], level, row, new.public_id, date))
    if parents.expected is not None and _is_complete(transaction, parents.series, parents.expected):
        changes.append(
            log(ChangeType.COMPLETED_SERIES, ResourceLevel.SERIES, parents.series, instance.series.public_id, date)
        )
    return changes


def _is_complete(transaction: Transaction, series: int, expected: int) -> bool:
    """Whether the series has every index from 1 to `expected`, and none besides."""
    (count,) = transaction.execute("SELECT COUNT(*) FROM resources WHERE parent = ?", (series,)).fetchone()
    if count < expected:
        return False
    rows = transaction.execute("SELECT DISTINCT in_series FROM resources WHERE parent = ?", (series,)).fetchall()
    return series_status(expected, [row[0] for row in rows]) is SeriesStatus.COMPLETE


def _number(text: str | None) -> int | None:
    """The expected number of instances; what is not a number of reasonable length is none."""
    return int(text) if text and len(text) < 10 and text.isascii() and text.isdigit() else None
