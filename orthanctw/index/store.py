"""Adding an object: the transaction behind every upload."""

from __future__ import annotations

from typing import Final

from orthanctw.errors import DatabaseError
from orthanctw.index import removal
from orthanctw.index.batch import Kind
from orthanctw.index.rows import (
    attachment_row,
    encode_new_metadata,
    encode_tags,
    in_series,
    internal_id,
    search_rows,
)
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

_FIND_PARENTS: Final = (
    "SELECT s.id, t.id, t.parent, s.in_series FROM resources s CROSS JOIN resources t ON t.id = s.parent"
    " WHERE s.public_id = ? AND +s.level = 3"
)
_FIND_INSTANCE: Final = (
    "SELECT r.id, r.level, a.md5 FROM resources r LEFT JOIN attachments a ON a.resource = r.id AND a.type = ?"
    " WHERE r.public_id = ?"
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
    # Near the quota it matters beforehand what the object replaces.
    if transaction.is_careful or _may_exceed_quota(transaction, instance):
        present = _find_instance(transaction, instance)
        if present is not None:
            transaction.met_known_object = True
            if not _overwrites(instance, present):
                return _ALREADY_STORED
            overwritten = removal.remove(transaction, [present[0]])
    parents, created = _find_or_create_parents(transaction, instance)
    recycled = _fit_quota(transaction, instance, parents)
    resource = _next_row(transaction, ResourceLevel.INSTANCE)
    changes = _log_new(transaction, instance, resource, created, parents)
    _add_resource(
        transaction,
        ResourceLevel.INSTANCE,
        instance.instance,
        (resource, parents.series),
        new_change=changes[0].seq,
        header=instance.header,
    )
    for attachment in instance.attachments:
        transaction.add(Kind.ATTACHMENT, *attachment_row(resource, attachment))
        transaction.counters.count_file(attachment)
    transaction.move_to_end(parents.patient)
    if created or parents.updated != instance.date:
        transaction.touch((parents.series, parents.study, parents.patient), instance.date)
        parents.updated = instance.date
    if recycled.changes:
        # Recycling forgets what is known above instances.
        transaction.remember_parents(instance.series.public_id, parents)
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
    patient = internal_id(transaction.execute, ResourceLevel.PATIENT, instance.patient.public_id)
    study = internal_id(transaction.execute, ResourceLevel.STUDY, instance.study.public_id)
    created: _Created = []

    def create(level: ResourceLevel, new: NewResource, parent: int | None) -> int:
        resource = _next_row(transaction, level)
        _add_resource(transaction, level, new, (resource, parent))
        created.insert(0, (level, resource, new))
        return resource

    if patient is None:
        patient = create(ResourceLevel.PATIENT, instance.patient.make(), None)
        transaction.append_to_end(patient)
    if study is None:
        study = create(ResourceLevel.STUDY, instance.study.make(), patient)
    new_series = instance.series.make()
    series = create(ResourceLevel.SERIES, new_series, study)
    expected = new_series.metadata.get(MetadataType.EXPECTED_NUMBER_OF_INSTANCES)
    return Parents(series, study, patient, _number(expected), instances=0), created


def _next_row(transaction: Transaction, level: ResourceLevel) -> int:
    transaction.counters.last_resource += 1
    transaction.counters.count(level, 1)
    return transaction.counters.last_resource


def _add_resource(
    transaction: Transaction,
    level: ResourceLevel,
    new: NewResource,
    row: tuple[int, int | None],
    *,
    new_change: int | None = None,
    header: bytes | None = None,
) -> None:
    """Write a new resource; `row` is its number and that of its parent."""
    resource, parent = row
    transaction.add(
        Kind.RESOURCE,
        resource,
        int(level),
        parent,
        new.public_id,
        None,
        in_series(level, new.metadata),
        new_change,
        encode_tags(new.main_tags),
        encode_new_metadata(new.metadata),
        header,
    )
    for row_of_tag in search_rows(resource, level, new.search_tags):
        transaction.add(Kind.SEARCH, *row_of_tag)


def _find_instance(transaction: Transaction, instance: NewInstance) -> tuple[int, str | None] | None:
    """The row and the digest of the stored object, or None."""
    found: tuple[int, int, str | None] | None = transaction.execute(
        _FIND_INSTANCE, (int(AttachmentType.DICOM), instance.instance.public_id)
    ).fetchone()
    if found is None:
        return None
    resource, level, md5 = found
    if level != ResourceLevel.INSTANCE:
        raise DatabaseError("an identifier is in use at another level")
    return resource, md5


def _overwrites(instance: NewInstance, present: tuple[int, str | None]) -> bool:
    """Whether `instance` replaces the stored object."""
    if instance.overwrite is not OverwriteMode.IF_CHANGED:
        return instance.overwrite is OverwriteMode.ALWAYS
    received = [a.md5 for a in instance.attachments if a.content_type == AttachmentType.DICOM]
    # Without digests nothing can be compared, and the received object is taken as another one.
    return not present[1] or present[1] not in received


def _may_exceed_quota(transaction: Transaction, instance: NewInstance) -> bool:
    """Whether this object could be too much, if it is one of a new patient."""
    return not instance.skip_quota and removal.is_over_quota(transaction, _size(instance), 1)


def _fit_quota(transaction: Transaction, instance: NewInstance, parents: Parents) -> Deleted:
    if instance.skip_quota:
        return _NOTHING_DELETED
    return removal.make_room(transaction, parents.patient, _size(instance))


def _size(instance: NewInstance) -> int:
    return sum([attachment.compressed_size for attachment in instance.attachments])


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
    if parents.expected is not None and _is_complete(transaction, instance, parents, parents.expected):
        changes.append(
            log(ChangeType.COMPLETED_SERIES, ResourceLevel.SERIES, parents.series, instance.series.public_id, date)
        )
    return changes


def _is_complete(transaction: Transaction, instance: NewInstance, parents: Parents, expected: int) -> bool:
    """Whether the series, with this object, has every index from 1 to `expected`, and none besides."""
    series = parents.series
    if parents.instances is None:
        row = transaction.execute("SELECT COUNT(*) FROM resources WHERE parent = ?", (series,)).fetchone()
        parents.instances = int(row[0])
    parents.instances += 1
    if parents.instances < expected:
        return False
    rows = transaction.execute("SELECT DISTINCT in_series FROM resources WHERE parent = ?", (series,)).fetchall()
    indices = [row[0] for row in rows]
    indices.append(in_series(ResourceLevel.INSTANCE, instance.instance.metadata))
    return series_status(expected, indices) is SeriesStatus.COMPLETE


def _number(text: str | None) -> int | None:
    """The expected number of instances; what is not a number of reasonable length is none."""
    return int(text) if text and len(text) < 10 and text.isascii() and text.isdigit() else None
