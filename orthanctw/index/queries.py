"""Reading resources. Functions take a connection first; those of several statements expect a snapshot."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import orjson

from orthanctw.errors import ParameterOutOfRange
from orthanctw.index.rows import (
    ATTACHMENT_COLUMNS,
    LEVELS,
    RESOURCE_COLUMNS,
    RESOURCE_JOINS,
    attachment_from_row,
    internal_id,
    json_list,
    resource_from_row,
)
from orthanctw.model import Attachment, Expanded, Resource, ResourceLevel, Statistics

_BY_ID: Final = (
    f"SELECT {RESOURCE_COLUMNS} FROM resources r {RESOURCE_JOINS} WHERE r.public_id = ? AND +r.level = ?"
)
_BY_IDS: Final = (
    f"SELECT {RESOURCE_COLUMNS} FROM json_each(?) j CROSS JOIN resources r ON r.public_id = j.value"
    f" {RESOURCE_JOINS} WHERE +r.level = ? ORDER BY j.key"
)
#: The index of levels leaves out instances, which are most of the rows.
_ROWS_OF_LEVEL: Final = {
    level: f"resources WHERE level = {int(level)}{' AND level < 4' if level < 4 else ''} ORDER BY id LIMIT ? OFFSET ?"
    for level in ResourceLevel
}
#: One row of JSON for all ids: stepping through rows takes and gives the interpreter's lock for each of them.
_LIST_IDS: Final = {
    level: f"SELECT json_group_array(public_id) FROM (SELECT public_id FROM {rows})"
    for level, rows in _ROWS_OF_LEVEL.items()
}
_LIST_RESOURCES: Final = {
    level: f"SELECT {RESOURCE_COLUMNS} FROM (SELECT id FROM {rows}) l"
    f" CROSS JOIN resources r ON r.id = l.id {RESOURCE_JOINS} ORDER BY r.id"
    for level, rows in _ROWS_OF_LEVEL.items()
}
_ATTACHMENTS: Final = (
    f"SELECT {ATTACHMENT_COLUMNS} FROM resources r LEFT JOIN attachments a ON a.resource = r.id"
    " WHERE r.public_id = ? AND +r.level = ?"
)
_ATTACHMENTS_OF_MANY: Final = (
    f"SELECT r.public_id, {ATTACHMENT_COLUMNS} FROM json_each(?) j CROSS JOIN resources r ON r.public_id = j.value"
    " CROSS JOIN attachments a ON a.resource = r.id"
)
_BY_ROWS: Final = (
    f"SELECT {RESOURCE_COLUMNS} FROM json_each(?) j CROSS JOIN resources r ON r.id = j.value {RESOURCE_JOINS}"
)
_BY_ROWS_IN_ORDER: Final = f"{_BY_ROWS} ORDER BY j.key"
_CHILDREN_OF_ROWS: Final = (
    "SELECT c.parent, c.public_id, c.in_series FROM json_each(?) j CROSS JOIN resources c ON c.parent = j.value"
    " ORDER BY c.id"
)
_ATTACHMENTS_OF_ROW: Final = f"SELECT {ATTACHMENT_COLUMNS} FROM attachments a WHERE a.resource = ?"
_ATTACHMENTS_OF_ROWS: Final = (
    f"SELECT a.resource, {ATTACHMENT_COLUMNS} FROM json_each(?) j CROSS JOIN attachments a ON a.resource = j.value"
)
_HEADERS: Final = (
    "SELECT r.public_id, d.header FROM json_each(?) j CROSS JOIN resources r ON r.public_id = j.value"
    " CROSS JOIN details d ON d.id = r.id WHERE d.header IS NOT NULL"
)
_STATISTICS: Final = (
    "SELECT level_1, level_2, level_3, level_4, disk_size, uncompressed_size, dicom_disk_size, dicom_uncompressed_size"
    " FROM counters"
)
_BELOW: Final = (
    "WITH RECURSIVE below (id, level) AS (SELECT id, level FROM resources WHERE public_id = ? AND +level = ?"
    " UNION ALL SELECT c.id, c.level FROM below CROSS JOIN resources c ON c.parent = below.id)"
)
_COUNT_BELOW: Final = f"{_BELOW} SELECT level, COUNT(*) FROM below GROUP BY level"
_SIZES_BELOW: Final = (
    f"{_BELOW} SELECT COALESCE(SUM(a.compressed_size), 0), COALESCE(SUM(a.size), 0),"
    " COALESCE(SUM(a.compressed_size * (a.type = 1)), 0), COALESCE(SUM(a.size * (a.type = 1)), 0)"
    " FROM below CROSS JOIN attachments a ON a.resource = below.id"
)
#: A loose scan: one look-up for each label in use, however many resources bear it.
_ALL_LABELS: Final = (
    "WITH RECURSIVE used (label) AS (SELECT MIN(label) FROM labels UNION ALL"
    " SELECT (SELECT MIN(l.label) FROM labels l WHERE l.label > used.label) FROM used WHERE used.label IS NOT NULL)"
    " SELECT label FROM used WHERE label IS NOT NULL"
)


def resource(connection: sqlite3.Connection, level: ResourceLevel, public_id: str) -> Resource | None:
    row = connection.execute(_BY_ID, (public_id, int(level))).fetchone()
    return None if row is None else resource_from_row(row)


def lookup_level(connection: sqlite3.Connection, public_id: str) -> ResourceLevel | None:
    row = connection.execute("SELECT level FROM resources WHERE public_id = ?", (public_id,)).fetchone()
    return None if row is None else LEVELS[row[0]]


def list_ids(connection: sqlite3.Connection, level: ResourceLevel, since: int, limit: int) -> list[str]:
    """Public ids in the order of their creation; `limit` 0 is no limit."""
    (column,) = connection.execute(_LIST_IDS[level], _window(since, limit)).fetchone()
    found: list[str] = orjson.loads(column)
    return found


def list_resources(connection: sqlite3.Connection, level: ResourceLevel, since: int, limit: int) -> list[Resource]:
    rows = connection.execute(_LIST_RESOURCES[level], _window(since, limit)).fetchall()
    return [resource_from_row(row) for row in rows]


def resources(connection: sqlite3.Connection, level: ResourceLevel, public_ids: Sequence[str]) -> list[Resource]:
    rows = connection.execute(_BY_IDS, (json_list(public_ids), int(level))).fetchall()
    return [resource_from_row(row) for row in rows]


def resources_of_rows(connection: sqlite3.Connection, rows: Sequence[int]) -> list[Resource]:
    """Several resources by row number, in the order asked; those that are gone are left out."""
    if not rows:
        return []
    found = connection.execute(_BY_ROWS_IN_ORDER, (json_list(rows),)).fetchall()
    return [resource_from_row(row) for row in found]


def children(
    connection: sqlite3.Connection, level: ResourceLevel, public_id: str, child_level: ResourceLevel
) -> list[str] | None:
    """Ids of descendants in the order of their creation; None for an unknown resource."""
    root = internal_id(connection.execute, level, public_id)
    if root is None:
        return None
    source, last = _descent(level, child_level)
    (column,) = connection.execute(
        "SELECT json_group_array(public_id) FROM (SELECT r.public_id"
        f" FROM {source} CROSS JOIN resources r ON r.id = {last} ORDER BY r.id LIMIT -1)",
        (root,),
    ).fetchone()
    found: list[str] = orjson.loads(column)
    return found


def children_resources(
    connection: sqlite3.Connection, level: ResourceLevel, public_id: str, child_level: ResourceLevel
) -> list[Resource] | None:
    root = internal_id(connection.execute, level, public_id)
    if root is None:
        return None
    source, last = _descent(level, child_level)
    rows = connection.execute(
        f"SELECT {RESOURCE_COLUMNS} FROM {source} CROSS JOIN resources r ON r.id = {last} {RESOURCE_JOINS}"
        " ORDER BY r.id",
        (root,),
    ).fetchall()
    return [resource_from_row(row) for row in rows]


def ancestor(
    connection: sqlite3.Connection, level: ResourceLevel, public_id: str, parent_level: ResourceLevel
) -> Resource | None:
    source, last = _ascent(level, parent_level)
    row = connection.execute(
        f"SELECT {RESOURCE_COLUMNS} FROM resources u{int(level)}{source}"
        f" CROSS JOIN resources r ON r.id = {last} {RESOURCE_JOINS}"
        f" WHERE u{int(level)}.public_id = ? AND +u{int(level)}.level = ?",
        (public_id, int(level)),
    ).fetchone()
    return None if row is None else resource_from_row(row)


def header(connection: sqlite3.Connection, public_id: str) -> bytes | None:
    row = connection.execute(
        "SELECT d.header FROM resources r CROSS JOIN details d ON d.id = r.id WHERE r.public_id = ?", (public_id,)
    ).fetchone()
    return None if row is None else row[0]


def headers(connection: sqlite3.Connection, public_ids: Sequence[str]) -> dict[str, bytes]:
    return dict(connection.execute(_HEADERS, (json_list(public_ids),)).fetchall())


def first_instance(connection: sqlite3.Connection, level: ResourceLevel, public_id: str) -> str | None:
    """The first instance of the first series of the first study of a resource."""
    row = connection.execute(
        "SELECT id, level, public_id FROM resources WHERE public_id = ? AND +level = ?", (public_id, int(level))
    ).fetchone()
    while row is not None and row[1] != ResourceLevel.INSTANCE:
        row = connection.execute(
            "SELECT id, level, public_id FROM resources WHERE parent = ? ORDER BY id LIMIT 1", (row[0],)
        ).fetchone()
    return None if row is None else str(row[2])


def expand(
    connection: sqlite3.Connection,
    level: ResourceLevel,
    public_ids: Sequence[str],
    with_children: bool,
    with_attachments: bool,
    with_indices: bool,
) -> list[Expanded]:
    """Resources in the order asked, each with what is wanted of its surroundings."""
    present = resources(connection, level, public_ids)
    rows = [item.internal_id for item in present]
    below: dict[int, list[tuple[str, str | None]]] = {}
    if with_children or with_indices:
        below = _children_of_many(connection, rows)
    files = _attachments_of_rows(connection, rows) if with_attachments else {}
    return [
        Expanded(
            resource=item,
            children=tuple([child for child, _ in below.get(item.internal_id, ())]) if with_children else (),
            attachments=files.get(item.internal_id, {}),
            indices=tuple([index for _, index in below.get(item.internal_id, ())]) if with_indices else (),
        )
        for item in present
    ]


def expand_one(
    connection: sqlite3.Connection, level: ResourceLevel, public_id: str, with_attachments: bool
) -> list[Expanded]:
    """As `expand`, of one resource and without what is below it: the way of ``/instances/{id}``."""
    item = resource(connection, level, public_id)
    if item is None:
        return []
    if not with_attachments:
        return [Expanded(resource=item)]
    rows = connection.execute(_ATTACHMENTS_OF_ROW, (item.internal_id,)).fetchall()
    if not rows and resource(connection, level, public_id) is None:
        # Deleted between the two statements, which need no snapshot otherwise.
        return []
    return [Expanded(resource=item, attachments={row[0]: attachment_from_row(row) for row in rows})]


def ancestors(
    connection: sqlite3.Connection, level: ResourceLevel, public_ids: Sequence[str], parent_level: ResourceLevel
) -> dict[str, Resource]:
    """The ancestor of each resource that exists, by the resource's public id."""
    source, last = _ascent(level, parent_level)
    pairs = connection.execute(
        f"SELECT u{int(level)}.public_id, {last} FROM json_each(?) j"
        f" CROSS JOIN resources u{int(level)} ON u{int(level)}.public_id = j.value{source}"
        f" WHERE +u{int(level)}.level = ?",
        (json_list(public_ids), int(level)),
    ).fetchall()
    rows = connection.execute(_BY_ROWS, (json_list(dict.fromkeys(row for _, row in pairs)),)).fetchall()
    upper = {row[0]: resource_from_row(row) for row in rows}
    return {public_id: upper[row] for public_id, row in pairs}


def attachments(
    connection: sqlite3.Connection, level: ResourceLevel, public_id: str
) -> dict[int, Attachment] | None:
    rows = connection.execute(_ATTACHMENTS, (public_id, int(level))).fetchall()
    if not rows:
        return None
    return {row[0]: attachment_from_row(row) for row in rows if row[0] is not None}


def instance_attachments(
    connection: sqlite3.Connection, public_ids: Sequence[str]
) -> dict[str, dict[int, Attachment]]:
    found: dict[str, dict[int, Attachment]] = {}
    for public_id, *row in connection.execute(_ATTACHMENTS_OF_MANY, (json_list(public_ids),)).fetchall():
        found.setdefault(public_id, {})[row[0]] = attachment_from_row(tuple(row))
    return found


def all_labels(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute(_ALL_LABELS)]


def statistics(connection: sqlite3.Connection) -> Statistics:
    row = connection.execute(_STATISTICS).fetchone()
    return Statistics(
        patients=row[0],
        studies=row[1],
        series=row[2],
        instances=row[3],
        disk_size=row[4],
        uncompressed_size=row[5],
        dicom_disk_size=row[6],
        dicom_uncompressed_size=row[7],
    )


def resource_statistics(connection: sqlite3.Connection, level: ResourceLevel, public_id: str) -> Statistics | None:
    """Numbers of what is below a resource, the sizes of its own files included."""
    counts: dict[int, int] = dict(connection.execute(_COUNT_BELOW, (public_id, int(level))).fetchall())
    if not counts:
        return None
    counts[int(level)] = 0
    sizes: tuple[Any, ...] = connection.execute(_SIZES_BELOW, (public_id, int(level))).fetchone()
    return Statistics(
        patients=counts.get(1, 0),
        studies=counts.get(2, 0),
        series=counts.get(3, 0),
        instances=counts.get(4, 0),
        disk_size=sizes[0],
        uncompressed_size=sizes[1],
        dicom_disk_size=sizes[2],
        dicom_uncompressed_size=sizes[3],
    )


def _window(since: int, limit: int) -> tuple[int, int]:
    if since < 0 or limit < 0:
        raise ParameterOutOfRange("since and limit are not negative")
    return limit or -1, since


@functools.cache
def _descent(level: ResourceLevel, child_level: ResourceLevel) -> tuple[str, str]:
    """Tables that lead from the row given as parameter down to `child_level`, and the column of its rows."""
    if child_level < level:
        raise ParameterOutOfRange("a descendant is not above its resource")
    source, last = "(SELECT ? AS id) c0", "c0.id"
    for depth in range(1, child_level - level + 1):
        source += f" CROSS JOIN resources c{depth} ON c{depth}.parent = {last}"
        last = f"c{depth}.id"
    return source, last


@functools.cache
def _ascent(level: ResourceLevel, parent_level: ResourceLevel) -> tuple[str, str]:
    """Joins that lead from the row ``u`` of `level` up to `parent_level`, and the column of that row."""
    if parent_level > level:
        raise ParameterOutOfRange("an ancestor is not below its resource")
    joins = "".join(
        f" CROSS JOIN resources u{upper} ON u{upper}.id = u{upper + 1}.parent"
        for upper in range(level - 1, parent_level - 1, -1)
    )
    return joins, f"u{int(parent_level)}.id"


def _children_of_many(connection: sqlite3.Connection, rows: Sequence[int]) -> dict[int, list[tuple[str, str | None]]]:
    """Public id and IndexInSeries of the children of each row, in the order of their creation."""
    below: dict[int, list[tuple[str, str | None]]] = {}
    for parent, child, index in connection.execute(_CHILDREN_OF_ROWS, (json_list(rows),)).fetchall():
        below.setdefault(parent, []).append((child, index))
    return below


def _attachments_of_rows(connection: sqlite3.Connection, rows: Sequence[int]) -> dict[int, dict[int, Attachment]]:
    files: dict[int, dict[int, Attachment]] = {}
    for owner, *row in connection.execute(_ATTACHMENTS_OF_ROWS, (json_list(rows),)).fetchall():
        files.setdefault(owner, {})[row[0]] = attachment_from_row(tuple(row))
    return files
