"""What the index of an Orthanc says: schema 6, as 1.10.1 writes it and with what came later within that version."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs
import orjson

from orthanctw.index.schema import APPLICATION_ID
from orthanctw.model import ExportedResource, MetadataValue, ResourceLevel
from orthanctw.takeover.access import CannotTakeOver, unreadable

SCHEMA_VERSION: Final = "6"
#: Global properties that are about the old database itself, its saved jobs, or numbers of ours.
_SCHEMA_PROPERTY: Final = 1
_JOBS_PROPERTY: Final = 5
_OWN_PROPERTIES: Final = frozenset({_SCHEMA_PROPERTY, 2, 4, _JOBS_PROPERTY, 6, 7, *range(10, 20), *range(1000, 1024)})
_FINISHED_JOBS: Final = frozenset({"Success", "Failure"})
#: Tables and columns without which it is no index of an Orthanc.
_TABLES: Final[Mapping[str, Sequence[str]]] = {
    "GlobalProperties": ("property", "value"),
    "Resources": ("internalId", "resourceType", "publicId", "parentId"),
    "MainDicomTags": ("id", "tagGroup", "tagElement", "value"),
    "Metadata": ("id", "type", "value"),
    "AttachedFiles": (
        *("id", "fileType", "uuid", "compressedSize", "uncompressedSize"),
        *("compressionType", "uncompressedMD5", "compressedMD5"),
    ),
    "Changes": ("seq", "changeType", "internalId", "date"),
    "ExportedResources": (
        *("seq", "resourceType", "publicId", "remoteModality", "patientId"),
        *("studyInstanceUid", "seriesInstanceUid", "sopInstanceUid", "date"),
    ),
    "PatientRecyclingOrder": ("seq", "patientId"),
}
#: Those that came later within the version.
_LATER_TABLES: Final[Mapping[str, Sequence[str]]] = {
    "Labels": ("id", "label"),
    "KeyValueStores": ("storeId", "key", "value"),
    "Queues": ("id", "queueId", "value"),
}
_NEW_INSTANCE: Final = 2


@attrs.frozen(kw_only=True)
class OldAttachment:
    """A file as the old index knows it; `is_elsewhere` when a plugin has stored it in a way of its own."""

    content_type: int
    uuid: str
    size: int
    md5: str
    compression: int
    compressed_size: int
    compressed_md5: str
    revision: int
    is_elsewhere: bool


@attrs.frozen(kw_only=True)
class OldResource:
    """A resource as the old index knows it."""

    row: int
    level: int
    public_id: str
    parent: int | None
    main_tags: Mapping[int, str]
    metadata: Mapping[int, MetadataValue]
    attachments: Sequence[OldAttachment]
    labels: Sequence[str]
    new_change: int | None


@attrs.define
class _Facts:
    """What belongs to a resource."""

    main_tags: dict[int, str] = attrs.field(factory=dict)
    metadata: dict[int, MetadataValue] = attrs.field(factory=dict)
    attachments: list[OldAttachment] = attrs.field(factory=list)
    labels: list[str] = attrs.field(factory=list)
    new_change: int | None = None


class OrthancIndex:
    """Reads the index of an Orthanc.

    Parameters
    ----------
    connection : sqlite3.Connection
    path : str
        Its name in messages.

    Raises CannotTakeOver when it is of another program or version.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        columns = self._columns()
        if self._all("PRAGMA application_id") == [(APPLICATION_ID,)]:
            raise CannotTakeOver(f"{path}: an index of orthanctw already")
        for table, wanted in _TABLES.items():
            if not {name.lower() for name in wanted} <= columns.get(table.lower(), set()):
                raise CannotTakeOver(f"{path}: not the index of an Orthanc (table {table} is missing or different)")
        version = self._property(_SCHEMA_PROPERTY)
        if version != SCHEMA_VERSION:
            raise CannotTakeOver(
                f"{path}: schema version {version}, only {SCHEMA_VERSION} can be taken over; "
                "an Orthanc of version 1.0 to 1.12 upgrades it with --upgrade"
            )
        self._later = {
            table: {name.lower() for name in wanted} <= columns.get(table.lower(), set())
            for table, wanted in _LATER_TABLES.items()
        }
        #: Tables that are there and cannot be read.
        self.strange_tables = [name for name, is_read in self._later.items() if not is_read and name.lower() in columns]
        files = columns["attachedfiles"]
        self._metadata_revision = "COALESCE(revision, 0)" if "revision" in columns["metadata"] else "0"
        self._file_revision = "COALESCE(revision, 0)" if "revision" in files else "0"
        # An empty value is what is written when no plugin has a say.
        self._elsewhere = "LENGTH(COALESCE(customData, '')) > 0" if "customdata" in files else "0"

    def check(self) -> None:
        """Raises CannotTakeOver when the file is damaged."""
        found = " ".join(str(self._all("PRAGMA quick_check(1)")[0][0]).split())
        if found != "ok":
            raise CannotTakeOver(f"{self._path}: the old index is damaged: {found}")

    # Resources

    def count_instances(self) -> int:
        return self._number("SELECT COUNT(*) FROM Resources WHERE resourceType = 4")

    def instances_after(self, row: int, limit: int) -> list[OldResource]:
        """Instances with the next higher row numbers, in their order."""
        return self._resources(
            "SELECT internalId, resourceType, publicId, parentId FROM Resources"
            " WHERE resourceType = 4 AND internalId > ? ORDER BY internalId LIMIT ?",
            (row, limit),
        )

    def resource(self, row: int) -> OldResource | None:
        found = self._resources(
            "SELECT internalId, resourceType, publicId, parentId FROM Resources WHERE internalId = ?", (row,)
        )
        return found[0] if found else None

    def _resources(self, statement: str, parameters: tuple[int, ...]) -> list[OldResource]:
        heads = self._all(statement, parameters)
        if not heads:
            return []
        facts = self._facts(heads[0][0], heads[-1][0])
        result = []
        for row, level, public_id, parent in heads:
            known = facts.get(row) or _Facts()
            result.append(
                OldResource(
                    row=row,
                    level=level,
                    public_id=public_id or "",
                    parent=parent,
                    main_tags=known.main_tags,
                    metadata=known.metadata,
                    attachments=known.attachments,
                    labels=known.labels,
                    new_change=known.new_change,
                )
            )
        return result

    def _facts(self, first: int, last: int) -> dict[int, _Facts]:
        """What belongs to the resources of a range of rows, whatever their level."""
        facts: dict[int, _Facts] = defaultdict(_Facts)

        def rows(columns: str, table: str) -> list[tuple[Any, ...]]:
            return self._all(f"SELECT {columns} FROM {table} WHERE id BETWEEN ? AND ?", span)

        span = (first, last)
        for row, group, element, value in rows("id, tagGroup, tagElement, CAST(value AS TEXT)", "MainDicomTags"):
            facts[row].main_tags[group << 16 | element] = value or ""
        columns = f"id, type, CAST(value AS TEXT), {self._metadata_revision}"
        for row, number, value, revision in rows(columns, "Metadata"):
            facts[row].metadata[number] = MetadataValue(value or "", revision)
        for row, *values in rows(
            "id, fileType, uuid, uncompressedSize, uncompressedMD5, compressionType, compressedSize, compressedMD5,"
            f" {self._file_revision}, {self._elsewhere}",
            "AttachedFiles",
        ):
            facts[row].attachments.append(_attachment(values))
        if self._later["Labels"]:
            for row, label in rows("id, label", "Labels"):
                facts[row].labels.append(label)
        for row, seq in self._all(
            "SELECT internalId, seq FROM Changes WHERE internalId BETWEEN ? AND ? AND changeType = ?",
            (*span, _NEW_INSTANCE),
        ):
            facts[row].new_change = seq
        return facts

    # Everything else

    def changes_after(self, seq: int, limit: int) -> list[tuple[int, int, int, str]]:
        """``(seq, type, row of the resource, date)``."""
        return self._all(
            "SELECT seq, changeType, internalId, COALESCE(date, '') FROM Changes WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, limit),
        )

    def exports(self) -> Iterator[ExportedResource]:
        """In their order; those of no level are left out."""
        for seq, level, *texts in self._each(
            "SELECT seq, resourceType, publicId, remoteModality, date, patientId, studyInstanceUid, seriesInstanceUid,"
            " sopInstanceUid FROM ExportedResources WHERE resourceType BETWEEN 1 AND 4 ORDER BY seq"
        ):
            public_id, modality, date, patient, study, series, instance = (text or "" for text in texts)
            yield ExportedResource(
                seq=seq,
                level=ResourceLevel(level),
                public_id=public_id,
                remote_modality=modality,
                date=date,
                patient_id=patient,
                study_instance_uid=study,
                series_instance_uid=series,
                sop_instance_uid=instance,
            )

    def recycling(self) -> Iterator[tuple[int, int]]:
        """Position and row of the patients that are not protected, the next to be recycled first."""
        yield from self._each("SELECT seq, patientId FROM PatientRecyclingOrder ORDER BY seq")

    def properties(self) -> list[tuple[int, str]]:
        """Global properties that mean the same to another program."""
        rows = self._all("SELECT property, COALESCE(value, '') FROM GlobalProperties ORDER BY property")
        return [row for row in rows if row[0] not in _OWN_PROPERTIES]

    def unfinished_jobs(self) -> list[tuple[str, str]]:
        """Identifier and type of the saved jobs that had not come to their end."""
        try:
            jobs = orjson.loads(self._property(_JOBS_PROPERTY) or "{}").get("Jobs") or {}
            return [
                (job_id, str(job.get("Job", {}).get("Type", "")))
                for job_id, job in jobs.items()
                if job.get("State") not in _FINISHED_JOBS
            ]
        except (ValueError, AttributeError):
            return [("JobsRegistry", "not readable")]

    def key_values(self) -> Iterator[tuple[str, str, bytes]]:
        if self._later["KeyValueStores"]:
            yield from self._each("SELECT storeId, key, CAST(value AS BLOB) FROM KeyValueStores")

    def queued(self) -> Iterator[tuple[int, str, bytes]]:
        """Identifier, queue and value."""
        if self._later["Queues"]:
            yield from self._each("SELECT id, queueId, CAST(value AS BLOB) FROM Queues ORDER BY id")

    def last_given(self, table: str) -> int:
        """The number that was given last to a row of a table, which may be gone."""
        return self._number("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = ?", (table,))

    def _number(self, statement: str, parameters: tuple[Any, ...] = ()) -> int:
        return int(self._all(statement, parameters)[0][0])

    def _property(self, number: int) -> str | None:
        rows = self._all("SELECT value FROM GlobalProperties WHERE property = ?", (number,))
        return None if not rows or rows[0][0] is None else str(rows[0][0])

    def _columns(self) -> dict[str, set[str]]:
        """The columns of every table, all names in lower case."""
        columns: dict[str, set[str]] = {}
        for (table,) in self._all("SELECT name FROM sqlite_schema WHERE type = 'table'"):
            names = self._all("SELECT name FROM pragma_table_info(?)", (table,))
            columns[table.lower()] = {row[0].lower() for row in names}
        return columns

    def _all(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return list(self._each(statement, parameters))

    def _each(self, statement: str, parameters: tuple[Any, ...] = ()) -> Iterator[Any]:
        """Rows as they come. Raises CannotTakeOver, or Interrupted."""
        try:
            yield from self._connection.execute(statement, parameters)
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from error


def _attachment(row: Sequence[Any]) -> OldAttachment:
    content_type, uuid, size, md5, compression, compressed_size, compressed_md5, revision, is_elsewhere = row
    return OldAttachment(
        content_type=content_type,
        uuid=uuid or "",
        size=size or 0,
        md5=md5 or "",
        compression=compression,
        compressed_size=compressed_size or 0,
        compressed_md5=compressed_md5 or "",
        revision=revision,
        is_elsewhere=bool(is_elsewhere),
    )
