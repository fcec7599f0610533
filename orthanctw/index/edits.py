"""Writing metadata, attachments, labels and protection of resources that exist."""

from __future__ import annotations

import attrs

from orthanctw import versions
from orthanctw.errors import RevisionMismatch, UnknownResource
from orthanctw.index import removal
from orthanctw.index.batch import Kind
from orthanctw.index.rows import (
    ATTACHMENT_COLUMNS,
    attachment_from_row,
    attachment_row,
    decode_metadata,
    encode_metadata,
    in_series,
    internal_id,
)
from orthanctw.index.transaction import Transaction
from orthanctw.model import (
    USER_DEFINED,
    Attachment,
    Change,
    ChangeType,
    MetadataType,
    MetadataValue,
    ResourceLevel,
)
from orthanctw.versions import Edited, Version


def set_metadata(
    transaction: Transaction,
    level: ResourceLevel,
    public_id: str,
    metadata: int,
    value: str,
    expected: Version | None,
    check: bool,
) -> Edited:
    """Write metadata. RevisionMismatch when there is another version than `expected`, or any, with `check`, without."""
    resource = _find(transaction, level, public_id)
    if metadata == MetadataType.LAST_UPDATE:
        _check(_version(_last_update(transaction, resource)), expected, check)
        _write_last_update(transaction, resource, value)
        return Edited(version=versions.of_metadata(MetadataValue(value)))
    values = _read_metadata(transaction, resource)
    present = values.get(metadata)
    _check(_version(present), expected, check)
    written = MetadataValue(value, 0 if present is None else present.revision + 1)
    values[metadata] = written
    _write_metadata(transaction, level, resource, values)
    return Edited(
        version=versions.of_metadata(written),
        changes=_log(transaction, ChangeType.UPDATED_METADATA, (level, resource, public_id), metadata),
    )


def delete_metadata(
    transaction: Transaction,
    level: ResourceLevel,
    public_id: str,
    metadata: int,
    expected: Version | None,
    check: bool,
) -> Edited:
    """Remove metadata; UnknownResource when it is not set, RevisionMismatch as `set_metadata`."""
    resource = _find(transaction, level, public_id)
    if metadata == MetadataType.LAST_UPDATE:
        _check_present(_version(_last_update(transaction, resource)), expected, check)
        _write_last_update(transaction, resource, None)
        return Edited()
    values = _read_metadata(transaction, resource)
    _check_present(_version(values.pop(metadata, None)), expected, check)
    _write_metadata(transaction, level, resource, values)
    return Edited(changes=_log(transaction, ChangeType.UPDATED_METADATA, (level, resource, public_id), metadata))


def add_attachment(
    transaction: Transaction,
    level: ResourceLevel,
    public_id: str,
    attachment: Attachment,
    expected: Version | None,
    check: bool,
) -> Edited:
    """Add or replace an attachment; its revision goes on from the one before.

    Raises FullStorage, and RevisionMismatch as `set_metadata`.
    """
    resource = _find(transaction, level, public_id)
    old = _attachment(transaction, resource, attachment.content_type)
    if old is not None:
        _check(versions.of_attachment(old), expected, check)
    return _put_attachment(transaction, (level, resource, public_id), attachment, old)


def replace_attachment(
    transaction: Transaction, level: ResourceLevel, public_id: str, attachment: Attachment, uuid: str
) -> Edited | None:
    """Put another file in the place of the file `uuid`; None when that is not the one any more. Raises FullStorage."""
    resource = _find(transaction, level, public_id)
    old = _attachment(transaction, resource, attachment.content_type)
    if old is None or old.uuid != uuid:
        return None
    return _put_attachment(transaction, (level, resource, public_id), attachment, old)


def delete_attachment(
    transaction: Transaction,
    level: ResourceLevel,
    public_id: str,
    content_type: int,
    expected: Version | None,
    check: bool,
) -> Edited:
    """Remove an attachment; UnknownResource when it is not there, RevisionMismatch as `set_metadata`."""
    resource = _find(transaction, level, public_id)
    old = _attachment(transaction, resource, content_type)
    if old is None:
        raise UnknownResource
    _check(versions.of_attachment(old), expected, check)
    removed = drop_attachment(transaction, resource, old)
    changes = _log(transaction, ChangeType.UPDATED_ATTACHMENT, (level, resource, public_id), content_type)
    return Edited(changes=changes, removed_files=removed)


def set_protected(transaction: Transaction, public_id: str, protected: bool) -> None:
    """A patient that is no longer protected is the last one to be recycled."""
    patient = _find(transaction, ResourceLevel.PATIENT, public_id)
    if protected:
        transaction.execute("DELETE FROM recycling WHERE patient = ?", (patient,))
    else:
        transaction.append_to_end(patient)


def add_label(transaction: Transaction, level: ResourceLevel, public_id: str, label: str) -> None:
    resource = _find(transaction, level, public_id)
    transaction.execute("INSERT OR IGNORE INTO labels VALUES (?, ?)", (resource, label))


def remove_label(transaction: Transaction, level: ResourceLevel, public_id: str, label: str) -> None:
    resource = _find(transaction, level, public_id)
    transaction.execute("DELETE FROM labels WHERE resource = ? AND label = ?", (resource, label))


def _find(transaction: Transaction, level: ResourceLevel, public_id: str) -> int:
    resource = internal_id(transaction.execute, level, public_id)
    if resource is None:
        raise UnknownResource
    return resource


def _version(item: MetadataValue | None) -> Version | None:
    return None if item is None else versions.of_metadata(item)


def _check(present: Version | None, expected: Version | None, check: bool) -> None:
    if present is not None and (check or expected is not None) and present != expected:
        raise RevisionMismatch


def _check_present(present: Version | None, expected: Version | None, check: bool) -> None:
    if present is None:
        raise UnknownResource
    _check(present, expected, check)


def _log(
    transaction: Transaction, change_type: ChangeType, row: tuple[ResourceLevel, int, str], number: int
) -> tuple[Change, ...]:
    """Log that metadata or an attachment has changed, unless it is one of the server's own."""
    first, last = USER_DEFINED
    if not first <= number <= last:
        return ()
    level, resource, public_id = row
    return (transaction.log(change_type, level, resource, public_id, transaction.now()),)


def _read_metadata(transaction: Transaction, resource: int) -> dict[int, MetadataValue]:
    (column,) = transaction.execute("SELECT metadata FROM details WHERE id = ?", (resource,)).fetchone()
    return decode_metadata(column)


def _write_metadata(
    transaction: Transaction, level: ResourceLevel, resource: int, values: dict[int, MetadataValue]
) -> None:
    transaction.execute("UPDATE details SET metadata = ? WHERE id = ?", (encode_metadata(values), resource))
    if level >= ResourceLevel.SERIES:
        texts = {number: item.value for number, item in values.items()}
        transaction.execute("UPDATE resources SET in_series = ? WHERE id = ?", (in_series(level, texts), resource))
        transaction.forget_parents()


def _last_update(transaction: Transaction, resource: int) -> MetadataValue | None:
    (date,) = transaction.execute("SELECT last_update FROM resources WHERE id = ?", (resource,)).fetchone()
    return None if date is None else MetadataValue(date)


def _write_last_update(transaction: Transaction, resource: int, date: str | None) -> None:
    transaction.execute("UPDATE resources SET last_update = ? WHERE id = ?", (date, resource))
    transaction.forget_parents()


def _attachment(transaction: Transaction, resource: int, content_type: int) -> Attachment | None:
    return present_attachments(transaction, resource).get(content_type)


def present_attachments(transaction: Transaction, resource: int) -> dict[int, Attachment]:
    """The attachments of a row of `resources`, by type."""
    rows = transaction.execute(f"SELECT {ATTACHMENT_COLUMNS} FROM attachments a WHERE a.resource = ?", (resource,))
    return {attachment.content_type: attachment for attachment in map(attachment_from_row, rows)}


def _put_attachment(
    transaction: Transaction, row: tuple[ResourceLevel, int, str], attachment: Attachment, old: Attachment | None
) -> Edited:
    resource = row[1]
    replaced = () if old is None else drop_attachment(transaction, resource, old)
    recycled = removal.make_room(transaction, _patient(transaction, resource), attachment.compressed_size)
    added = insert_attachment(transaction, resource, attachment, old)
    return Edited(
        version=versions.of_attachment(added),
        changes=(
            *recycled.changes,
            *_log(transaction, ChangeType.UPDATED_ATTACHMENT, row, attachment.content_type),
        ),
        removed_files=replaced + recycled.removed_files,
    )


def insert_attachment(
    transaction: Transaction, resource: int, attachment: Attachment, old: Attachment | None
) -> Attachment:
    """Add the row of an attachment in the place of `old`, whose row is gone; answers it with its revision."""
    added = attrs.evolve(attachment, revision=0 if old is None else old.revision + 1)
    transaction.add(Kind.ATTACHMENT, *attachment_row(resource, added))
    transaction.counters.count_file(added)
    return added


def drop_attachment(transaction: Transaction, resource: int, old: Attachment) -> tuple[str, ...]:
    """Remove the row of an attachment; its file becomes a pending removal."""
    removal.drop_later(transaction, [old.uuid])
    transaction.execute("DELETE FROM attachments WHERE resource = ? AND type = ?", (resource, old.content_type))
    transaction.counters.count_file(old, -1)
    return (old.uuid,)


def _patient(transaction: Transaction, resource: int) -> int:
    while True:
        (parent,) = transaction.execute("SELECT parent FROM resources WHERE id = ?", (resource,)).fetchone()
        if parent is None:
            return resource
        resource = parent
