"""Writing what the files of instances say anew: main tags, search tags, metadata, stored headers, and the files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from orthanctw.index import edits
from orthanctw.index.batch import Kind
from orthanctw.index.rows import decode_metadata, encode_metadata, encode_tags, in_series, internal_id, search_rows
from orthanctw.index.transaction import Transaction
from orthanctw.model import AttachmentType, MetadataValue, NewResource, ResourceLevel
from orthanctw.versions import OF_HEADER, Reconstructed

#: Files that old versions of Orthanc have derived from the one that is read: first always, the rest with a new file.
_DERIVED: Final = (AttachmentType.DICOM_AS_JSON, AttachmentType.DICOM_UNTIL_PIXEL_DATA)


def reconstruct(transaction: Transaction, items: Sequence[Reconstructed]) -> tuple[str, ...]:
    """Write `items`; answers the UUIDs of files that are to be removed, those of items without effect included.

    An instance that is gone, or has another file by now, is left as it is. No quota is asked: what is stored already
    may stay.
    """
    removed: tuple[str, ...] = ()
    for item in items:
        removed += _reconstruct(transaction, item)
    transaction.forget_parents()
    return removed


def _reconstruct(transaction: Transaction, item: Reconstructed) -> tuple[str, ...]:
    instance = internal_id(transaction.execute, ResourceLevel.INSTANCE, item.instance)
    present = {} if instance is None else edits.present_attachments(transaction, instance)
    old = present.get(AttachmentType.DICOM)
    new = item.attachment
    if instance is None or old is None or old.uuid != item.uuid:
        return () if new is None else (new.uuid,)
    for level, resource in item.resources.items():
        _write(transaction, level, resource)
    if item.header is not None:
        transaction.execute("UPDATE details SET header = ? WHERE id = ?", (item.header, instance))
    removed: tuple[str, ...] = ()
    for content_type in _DERIVED if new is not None else _DERIVED[:1]:
        if content_type in present:
            removed += edits.drop_attachment(transaction, instance, present[content_type])
    if new is not None:
        removed += edits.drop_attachment(transaction, instance, old)
        edits.insert_attachment(transaction, instance, new, old)
    return removed


def _write(transaction: Transaction, level: ResourceLevel, new: NewResource) -> None:
    row = internal_id(transaction.execute, level, new.public_id)
    if row is None:
        return
    (column,) = transaction.execute("SELECT metadata FROM details WHERE id = ?", (row,)).fetchone()
    present = decode_metadata(column)
    metadata = {number: item for number, item in present.items() if number not in OF_HEADER}
    for number, value in new.metadata.items():
        metadata[number] = _next(present.get(number), value)
    transaction.execute(
        "UPDATE details SET main_tags = ?, metadata = ? WHERE id = ?",
        (encode_tags(new.main_tags), encode_metadata(dict(sorted(metadata.items()))), row),
    )
    texts = {number: item.value for number, item in metadata.items()}
    transaction.execute("UPDATE resources SET in_series = ? WHERE id = ?", (in_series(level, texts), row))
    transaction.execute("DELETE FROM search WHERE resource = ?", (row,))
    for row_of_tag in search_rows(row, level, new.search_tags):
        transaction.add(Kind.SEARCH, *row_of_tag)


def _next(present: MetadataValue | None, value: str) -> MetadataValue:
    """A value that has not changed keeps its revision."""
    if present is None:
        return MetadataValue(value)
    return present if present.value == value else MetadataValue(value, present.revision + 1)
