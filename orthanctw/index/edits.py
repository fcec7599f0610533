"""Writing metadata, attachments, labels and protection of resources that exist."""

from __future__ import annotations

import attrs

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
from orthanctw.model import Attachment, MetadataType, MetadataValue, ResourceLevel


def set_metadata(
    transaction: Transaction,
    level: ResourceLevel,
    public_id: str,
    metadata: int,
    value: str,
    expected: MetadataValue | None,
    check: bool,
) -> MetadataValue:
    """Write metadata; `expected` matters, with `check`, only where there is a value already."""
    resource = _find(transaction, level, public_id)
    if metadata == MetadataType.LAST_UPDATE:
        _check(_last_update(transaction, resource), expected, check)
        _write_last_update(transaction, resource, value)
        return MetadataValue(value)
    values = _read_metadata(transaction, resource)
    present = values.get(metadata)
    _check(present, expected, check)
    written = MetadataValue(value, 0 if present is None else present.revision + 1)
    values[metadata] = written
    _write_metadata(transaction, level, resource, values)
    return written


def delete_metadata(
    transaction: Transaction,
    level: ResourceLevel,
    public_id: str,
    metadata: int,
    expected: MetadataValue | None,
    check: bool,
) -> None:
    resource = _find(transaction, level, public_id)
    if metadata == MetadataType.LAST_UPDATE:
        present = _last_update(transaction, resource)
        _check_present(present, expected, check)
        _write_last_update(transaction, resource, None)
        return
    values = _read_metadata(transaction, resource)
    _check_present(values.pop(metadata, None), expected, check)
    _write_metadata(transaction, level, resource, values)


def add_attachment(
    transaction: Transaction, level: ResourceLevel, public_id: str, attachment: Attachment
) -> tuple[Attachment, tuple[str, ...]]:
    """Add or replace an attachment; its revision goes on from the one before. Raises FullStorage."""
    resource = _find(transaction, level, public_id)
    old = _attachment(transaction, resource, attachment.content_type)
    replaced: tuple[str, ...] = ()
    if old is not None:
        replaced = _drop_attachment(transaction, resource, old)
    recycled = removal.make_room(transaction, _patient(transaction, resource), attachment.compressed_size)
    added = attrs.evolve(attachment, revision=0 if old is None else old.revision + 1)
    transaction.add(Kind.ATTACHMENT, *attachment_row(resource, added))
    transaction.counters.count_file(added)
    return added, replaced + recycled.removed_files


def delete_attachment(
    transaction: Transaction, level: ResourceLevel, public_id: str, content_type: int
) -> tuple[str, ...]:
    resource = _find(transaction, level, public_id)
    old = _attachment(transaction, resource, content_type)
    if old is None:
        raise UnknownResource
    return _drop_attachment(transaction, resource, old)


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


def _check(present: MetadataValue | None, expected: MetadataValue | None, check: bool) -> None:
    if check and present is not None and present != expected:
        raise RevisionMismatch


def _check_present(present: MetadataValue | None, expected: MetadataValue | None, check: bool) -> None:
    if present is None:
        raise UnknownResource
    _check(present, expected, check)


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
    row = transaction.execute(
        f"SELECT {ATTACHMENT_COLUMNS} FROM attachments a WHERE a.resource = ? AND a.type = ?", (resource, content_type)
    ).fetchone()
    return None if row is None else attachment_from_row(row)


def _drop_attachment(transaction: Transaction, resource: int, old: Attachment) -> tuple[str, ...]:
    transaction.execute("DELETE FROM attachments WHERE resource = ? AND type = ?", (resource, old.content_type))
    transaction.counters.count_file(old, -1)
    removal.drop_later(transaction, [old.uuid])
    return (old.uuid,)


def _patient(transaction: Transaction, resource: int) -> int:
    while True:
        (parent,) = transaction.execute("SELECT parent FROM resources WHERE id = ?", (resource,)).fetchone()
        if parent is None:
            return resource
        resource = parent
