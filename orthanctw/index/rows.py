"""How values become columns and columns become values."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from orthanctw.errors import BadFileFormat
from orthanctw.model import Attachment, Compression, MetadataType, MetadataValue, Resource, ResourceLevel

Row = tuple[Any, ...]
LEVELS: Final = (None, *ResourceLevel)
_LAST_UPDATE: Final = int(MetadataType.LAST_UPDATE)
_COMPRESSIONS: Final = {int(c): c for c in Compression}
#: The column `crc32` of a file whose checksum nobody has computed.
NO_CRC32: Final = -1

#: The columns of `resource_from_row`, of the resource ``r``; `RESOURCE_JOINS` brings the tables.
RESOURCE_COLUMNS: Final = (
    "r.id, r.level, r.public_id, p.public_id, r.last_update, d.main_tags, d.metadata,"
    " (SELECT json_group_array(label) FROM labels WHERE resource = r.id),"
    " r.level = 1 AND NOT EXISTS (SELECT 1 FROM recycling WHERE patient = r.id)"
)
RESOURCE_JOINS: Final = "CROSS JOIN details d ON d.id = r.id LEFT JOIN resources p ON p.id = r.parent"
ATTACHMENT_COLUMNS: Final = (
    "a.type, a.uuid, a.size, a.md5, a.crc32, a.compression, a.compressed_size, a.compressed_md5, a.revision,"
    " a.is_scripted, a.custom_data"
)


def tag_key(level: int, tag: int) -> int:
    """The `tag` column of the table `search`: a tag may be looked up at several levels."""
    return level << 32 | tag


def encode(value: Any) -> bytes:
    """JSON of tuples, texts and numbers; raises BadFileFormat for a text that is not Unicode."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise BadFileFormat("a text is not valid Unicode") from error


def encode_tags(tags: Mapping[int, str]) -> bytes:
    return encode(tuple(tags.items()))


def encode_metadata(metadata: Mapping[int, MetadataValue]) -> bytes:
    return encode(tuple([(number, item.value, item.revision) for number, item in metadata.items()]))


def encode_new_metadata(metadata: Mapping[int, str]) -> bytes:
    """As `encode_metadata`, for metadata that is written the first time."""
    return encode(tuple([(number, value, 0) for number, value in metadata.items()]))


def decode_metadata(column: bytes) -> dict[int, MetadataValue]:
    return {number: MetadataValue(value, revision) for number, value, revision in orjson.loads(column)}


def in_series(level: int, metadata: Mapping[int, str]) -> str | None:
    """The column `in_series`, which copies what the status of a series needs."""
    if level == ResourceLevel.INSTANCE:
        return metadata.get(MetadataType.INDEX_IN_SERIES)
    if level == ResourceLevel.SERIES:
        return metadata.get(MetadataType.EXPECTED_NUMBER_OF_INSTANCES)
    return None


def resource_from_row(row: Row) -> Resource:
    """The resource of a row of `RESOURCE_COLUMNS`."""
    internal_id, level, public_id, parent_id, last_update, main_tags, metadata, labels, protected = row
    values = decode_metadata(metadata)
    if last_update is not None:
        values[_LAST_UPDATE] = MetadataValue(last_update)
    return Resource(
        internal_id=internal_id,
        level=LEVELS[level],
        public_id=public_id,
        parent_id=parent_id,
        main_tags=dict(orjson.loads(main_tags)),
        metadata=values,
        labels=() if labels == "[]" else tuple(sorted(orjson.loads(labels))),
        is_protected=protected == 1,
    )


def attachment_from_row(row: Row) -> Attachment:
    """The attachment of a row of `ATTACHMENT_COLUMNS`."""
    content_type, uuid, size, md5, crc32, compression, compressed_size, compressed_md5, revision, *scripted = row
    return Attachment(
        content_type=content_type,
        uuid=uuid,
        size=size,
        md5=md5,
        crc32=None if crc32 == NO_CRC32 else crc32,
        compression=_COMPRESSIONS[compression],
        compressed_size=compressed_size,
        compressed_md5=compressed_md5,
        revision=revision,
        is_scripted=scripted[0] == 1,
        custom_data=scripted[1],
    )


def attachment_row(resource: int, attachment: Attachment) -> Row:
    """The row of the table `attachments`."""
    return (
        resource,
        attachment.content_type,
        attachment.uuid,
        attachment.size,
        attachment.md5,
        NO_CRC32 if attachment.crc32 is None else attachment.crc32,
        int(attachment.compression),
        attachment.compressed_size,
        attachment.compressed_md5,
        attachment.revision,
        int(attachment.is_scripted),
        attachment.custom_data,
    )


def search_rows(resource: int, level: int, search_tags: Mapping[int, str]) -> Iterator[tuple[int, int, str]]:
    """The rows of the table `search`: a value of several parts is looked up as a whole, and by each part."""
    for tag, value in search_tags.items():
        for item in {value, *value.split("\\")} if "\\" in value else (value,):
            yield resource, tag_key(level, tag), item


def json_list(values: Iterable[Any]) -> str:
    """A parameter for ``json_each``: as many values as one likes in one parameter."""
    return encode(list(values)).decode("utf-8")


def internal_id(execute: Callable[..., sqlite3.Cursor], level: ResourceLevel, public_id: str) -> int | None:
    """The row number of a resource, or None."""
    row = execute(
        "SELECT id FROM resources WHERE public_id = ? AND +level = ?", (public_id, int(level))
    ).fetchone()
    return None if row is None else int(row[0])
