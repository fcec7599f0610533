"""The index behind `orthanctw.interfaces.IIndex`: who calls what in which thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.index import edits, jobs, journal, keyvalues, queries, reconstruction, removal, schema, search
from orthanctw.index.connection import BUSY_TIMEOUT, Readers, connect_writer, translate
from orthanctw.index.store import store
from orthanctw.index.transaction import Quota, Transaction
from orthanctw.index.writer import IndexWriter
from orthanctw.interfaces import IIndex
from orthanctw.lookups import LookedUp, Lookup
from orthanctw.model import (
    Attachment,
    Change,
    ChangeType,
    Constraint,
    Deleted,
    Expanded,
    ExportedResource,
    NewInstance,
    Resource,
    ResourceLevel,
    SavedJob,
    Statistics,
    StorageMode,
    Stored,
)
from orthanctw.threads import NamedPool, at_once, shield
from orthanctw.versions import Edited, Reconstructed, Version

_T = TypeVar("_T")


@implementer(IIndex)
class SqliteIndex:
    """The index in one SQLite file.

    Parameters
    ----------
    reactor : IReactorFromThreads
    path : str
        The file; its folder exists.
    readers : int
        Number of threads that read.
    maximum_size : int
        Quota of the storage in bytes of files as they lie on the disk, 0 for none.
    maximum_patients : int
        Quota of patients, 0 for none.
    mode : StorageMode
        What happens when a quota is reached.
    durability : str
        ``FULL`` (a commit survives a power cut) or ``NORMAL`` (it survives the death of the process).
    clock : callable
        Seconds since 1970, for the dates of deletions and reserved values of queues.
    busy_timeout : float
        Seconds to wait for a lock of another program.
    inline_point_reads : bool
        Reads of one resource are made at once by the caller, in the reactor's thread: several times cheaper than the
        way through a thread, but a page that is not in memory then holds up everybody.
    synchronous : bool
        Everything is done at once by the caller; for tests.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        path: str,
        *,
        readers: int = 4,
        maximum_size: int = 0,
        maximum_patients: int = 0,
        mode: StorageMode = StorageMode.RECYCLE,
        durability: str = "FULL",
        clock: Callable[[], float] = time.time,
        busy_timeout: float = BUSY_TIMEOUT,
        inline_point_reads: bool = False,
        synchronous: bool = False,
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._quota = Quota(maximum_size=maximum_size, maximum_patients=maximum_patients, mode=mode)
        self._durability = durability
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._inline = inline_point_reads
        self._synchronous = synchronous
        self._readers = Readers(path)
        self.read_pool = NamedPool(reactor, "index-readers", readers, synchronous=synchronous)
        self._writer: IndexWriter | None = None
        self._closing: Deferred[None] | None = None

    @property
    def writes_waiting(self) -> int:
        """Number of writes that the writer has not taken yet."""
        return 0 if self._writer is None else self._writer.waiting

    # Life cycle
    async def _open(self) -> None:
        self.read_pool.start()
        writer: IndexWriter | None = None
        # A quota may be lower than it was; the files that this frees go with those of interrupted removals.
        first: Callable[..., None] = removal.apply_quota
        try:
            transaction = await self.read_pool.call(self._prepare)
            writer = IndexWriter(self._reactor, transaction, synchronous=self._synchronous)
            writer.start()
            await writer.call(first)
            if self._closing is not None:
                raise ServiceUnavailable("the index was closed while it opened")
        except OrthancError:
            if writer is not None:
                await writer.stop()
            await self.read_pool.stop()
            raise
        self._writer = writer

    def _prepare(self) -> Transaction:
        try:
            connection = connect_writer(self._path, self._durability, busy_timeout=self._busy_timeout)
            try:
                schema.migrate(connection, self._now())
                return Transaction(connection, self._quota, self._now)
            except BaseException:
                connection.close()
                raise
        except Exception as error:
            raise translate(error) from error

    async def _close(self) -> None:
        # The readers first: the last checkpoint is complete only when nobody reads.
        writer, self._writer = self._writer, None
        await self.read_pool.stop()
        self._readers.close()
        if writer is not None:
            await writer.stop()

    def _now(self) -> str:
        return time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._clock()))

    def _write(self, operation: Callable[..., _T], *args: Any) -> Deferred[_T]:
        if self._writer is None:
            return fail(ServiceUnavailable("the index is not open"))
        return self._writer.call(operation, *args)

    def _read(self, query: Callable[..., _T], *args: Any) -> Deferred[_T]:
        """One statement, in a thread that reads."""
        if self._writer is None:
            return fail(ServiceUnavailable("the index is not open"))
        return self.read_pool.call(self._readers.run, query, *args)

    def _read_point(self, query: Callable[..., _T], *args: Any) -> Deferred[_T]:
        """A few rows that are looked up by identifier."""
        if not self._inline:
            return self._read(query, *args)
        if self._writer is None:
            return fail(ServiceUnavailable("the index is not open"))
        return at_once(self._readers.run, query, *args)

    def _read_snapshot(self, query: Callable[..., _T], *args: Any) -> Deferred[_T]:
        """Several statements that see the same state, in a thread that reads."""
        if self._writer is None:
            return fail(ServiceUnavailable("the index is not open"))
        return self.read_pool.call(self._readers.run_snapshot, query, *args)

    def open(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._open())

    def close(self) -> Deferred[None]:
        if self._closing is None:
            self._closing = Deferred.fromCoroutine(self._close())
        return shield(self._closing)

    # Ingest and removal
    def store(self, instance: NewInstance | Callable[[], NewInstance]) -> Deferred[Stored]:
        return self._write(store, instance)

    def delete(self, level: ResourceLevel, public_id: str) -> Deferred[Deleted | None]:
        return self._write(removal.delete, level, public_id)

    def delete_many(self, public_ids: Sequence[str]) -> Deferred[Deleted]:
        return self._write(removal.delete_many, public_ids)

    def pending_removals(self) -> Deferred[tuple[str, ...]]:
        return self._read(keyvalues.pending_removals)

    def forget_removals(self, uuids: Sequence[str]) -> Deferred[None]:
        return self._write(keyvalues.forget_removals, uuids)

    def note_scripted(self, uuid: str, content_type: int, custom_data: bytes) -> Deferred[None]:
        return self._write(keyvalues.note_scripted, uuid, content_type, custom_data)

    def scripted_removals(self, uuids: Sequence[str]) -> Deferred[dict[str, tuple[int, bytes]]]:
        return self._read(keyvalues.scripted_removals, uuids)

    def forget_scripted(self, uuids: Sequence[str]) -> Deferred[None]:
        return self._write(keyvalues.forget_scripted, uuids)

    def custom_data(self, uuid: str) -> Deferred[bytes | None]:
        return self._read(keyvalues.custom_data, uuid)

    def set_custom_data(self, uuid: str, value: bytes) -> Deferred[bool]:
        return self._write(keyvalues.set_custom_data, uuid, value)

    def note_checksums(self, checksums: Mapping[str, int]) -> Deferred[None]:
        return self._write(keyvalues.note_checksums, checksums)

    def known_files(self, uuids: Sequence[str]) -> Deferred[frozenset[str]]:
        return self._read(keyvalues.known_files, uuids)

    # Reading resources
    def resource(self, level: ResourceLevel, public_id: str) -> Deferred[Resource | None]:
        return self._read_point(queries.resource, level, public_id)

    def expand(
        self, level: ResourceLevel, public_ids: Sequence[str], *, children: bool, attachments: bool, indices: bool
    ) -> Deferred[list[Expanded]]:
        if len(public_ids) == 1 and not (children or indices):
            return self._read_point(queries.expand_one, level, public_ids[0], attachments)
        return self._read_snapshot(queries.expand, level, public_ids, children, attachments, indices)

    def ancestors(
        self, level: ResourceLevel, public_ids: Sequence[str], parent_level: ResourceLevel
    ) -> Deferred[dict[str, Resource]]:
        return self._read_snapshot(queries.ancestors, level, public_ids, parent_level)

    def lookup_level(self, public_id: str) -> Deferred[ResourceLevel | None]:
        return self._read_point(queries.lookup_level, public_id)

    def list_ids(self, level: ResourceLevel, since: int = 0, limit: int = 0) -> Deferred[list[str]]:
        return self._read(queries.list_ids, level, since, limit)

    def list_resources(self, level: ResourceLevel, since: int = 0, limit: int = 0) -> Deferred[list[Resource]]:
        return self._read(queries.list_resources, level, since, limit)

    def resources(self, level: ResourceLevel, public_ids: Sequence[str]) -> Deferred[list[Resource]]:
        return self._read(queries.resources, level, public_ids)

    def children(self, level: ResourceLevel, public_id: str, child_level: ResourceLevel) -> Deferred[list[str] | None]:
        return self._read_snapshot(queries.children, level, public_id, child_level)

    def children_resources(
        self, level: ResourceLevel, public_id: str, child_level: ResourceLevel
    ) -> Deferred[list[Resource] | None]:
        return self._read_snapshot(queries.children_resources, level, public_id, child_level)

    def ancestor(self, level: ResourceLevel, public_id: str, parent_level: ResourceLevel) -> Deferred[Resource | None]:
        return self._read(queries.ancestor, level, public_id, parent_level)

    def header(self, public_id: str) -> Deferred[bytes | None]:
        return self._read_point(queries.header, public_id)

    def headers(self, public_ids: Sequence[str]) -> Deferred[dict[str, bytes]]:
        return self._read(queries.headers, public_ids)

    def first_instance(self, level: ResourceLevel, public_id: str) -> Deferred[str | None]:
        return self._read_snapshot(queries.first_instance, level, public_id)

    # Attachments, metadata, labels, protection
    def attachments(self, level: ResourceLevel, public_id: str) -> Deferred[dict[int, Attachment] | None]:
        return self._read_point(queries.attachments, level, public_id)

    def instance_attachments(self, public_ids: Sequence[str]) -> Deferred[dict[str, dict[int, Attachment]]]:
        return self._read(queries.instance_attachments, public_ids)

    def set_metadata(
        self,
        level: ResourceLevel,
        public_id: str,
        metadata: int,
        value: str,
        expected: Version | None = None,
        check: bool = False,
    ) -> Deferred[Edited]:
        return self._write(edits.set_metadata, level, public_id, metadata, value, expected, check)

    def delete_metadata(
        self, level: ResourceLevel, public_id: str, metadata: int, expected: Version | None = None, check: bool = False
    ) -> Deferred[Edited]:
        return self._write(edits.delete_metadata, level, public_id, metadata, expected, check)

    def add_attachment(
        self,
        level: ResourceLevel,
        public_id: str,
        attachment: Attachment,
        expected: Version | None = None,
        check: bool = False,
    ) -> Deferred[Edited]:
        return self._write(edits.add_attachment, level, public_id, attachment, expected, check)

    def replace_attachment(
        self, level: ResourceLevel, public_id: str, attachment: Attachment, uuid: str
    ) -> Deferred[Edited | None]:
        return self._write(edits.replace_attachment, level, public_id, attachment, uuid)

    def delete_attachment(
        self,
        level: ResourceLevel,
        public_id: str,
        content_type: int,
        expected: Version | None = None,
        check: bool = False,
    ) -> Deferred[Edited]:
        return self._write(edits.delete_attachment, level, public_id, content_type, expected, check)

    def reconstruct(self, items: Sequence[Reconstructed]) -> Deferred[tuple[str, ...]]:
        return self._write(reconstruction.reconstruct, items)

    def set_protected(self, public_id: str, protected: bool) -> Deferred[None]:
        return self._write(edits.set_protected, public_id, protected)

    def add_label(self, level: ResourceLevel, public_id: str, label: str) -> Deferred[None]:
        return self._write(edits.add_label, level, public_id, label)

    def remove_label(self, level: ResourceLevel, public_id: str, label: str) -> Deferred[None]:
        return self._write(edits.remove_label, level, public_id, label)

    def all_labels(self) -> Deferred[list[str]]:
        return self._read(queries.all_labels)

    # Changes and exports
    def log_changes(self, changes: Sequence[Change], last_update: Mapping[str, str]) -> Deferred[list[Change]]:
        return self._write(journal.log_changes, changes, last_update)

    def changes(
        self, since: int | None, limit: int, to: int | None, types: frozenset[ChangeType]
    ) -> Deferred[tuple[list[Change], bool]]:
        return self._read(journal.changes, since, limit, to, types)

    def last_change(self) -> Deferred[tuple[Change | None, int]]:
        return self._read_snapshot(journal.last_change)

    def clear_changes(self) -> Deferred[None]:
        return self._write(journal.clear_changes)

    def log_exported(self, exported: ExportedResource) -> Deferred[None]:
        return self._write(journal.log_exported, exported)

    def exports(self, since: int, limit: int) -> Deferred[tuple[list[ExportedResource], bool]]:
        return self._read(journal.exports, since, limit)

    def last_export(self) -> Deferred[tuple[ExportedResource | None, int]]:
        return self._read_snapshot(journal.last_export)

    def clear_exports(self) -> Deferred[None]:
        return self._write(journal.clear_exports)

    # Counters
    def statistics(self) -> Deferred[Statistics]:
        return self._read(queries.statistics)

    def resource_statistics(self, level: ResourceLevel, public_id: str) -> Deferred[Statistics | None]:
        return self._read_snapshot(queries.resource_statistics, level, public_id)

    # Search
    def candidates(self, level: ResourceLevel, constraints: Sequence[Constraint]) -> Deferred[list[Resource]]:
        return self._read_snapshot(search.candidates, level, constraints)

    def look_up_ids(self, lookup: Lookup) -> Deferred[list[str]]:
        return self._read_snapshot(search.look_up_ids, lookup)

    def look_up_rows(self, lookup: Lookup, first: int) -> Deferred[LookedUp]:
        return self._read_snapshot(search.look_up_rows, lookup, first)

    def count(self, lookup: Lookup) -> Deferred[int]:
        return self._read_snapshot(search.count, lookup)

    def resources_of_rows(self, rows: Sequence[int]) -> Deferred[list[Resource]]:
        return self._read(queries.resources_of_rows, rows)

    # Key-value stores, queues, global properties
    def global_property(self, number: int) -> Deferred[str | None]:
        return self._read(keyvalues.global_property, number)

    def set_global_property(self, number: int, value: str) -> Deferred[None]:
        return self._write(keyvalues.set_global_property, number, value)

    def store_value(self, store: str, key: str, value: bytes) -> Deferred[None]:
        return self._write(keyvalues.store_value, store, key, value)

    def value(self, store: str, key: str) -> Deferred[bytes | None]:
        return self._read(keyvalues.value, store, key)

    def delete_value(self, store: str, key: str) -> Deferred[None]:
        return self._write(keyvalues.delete_value, store, key)

    def keys(self, store: str, since: str | None, limit: int) -> Deferred[list[str]]:
        return self._read(keyvalues.keys, store, since, limit)

    def enqueue(self, queue: str, value: bytes) -> Deferred[None]:
        return self._write(keyvalues.enqueue, queue, value)

    def dequeue(self, queue: str, from_front: bool) -> Deferred[bytes | None]:
        return self._write(keyvalues.dequeue, queue, from_front, self._clock)

    def queue_size(self, queue: str) -> Deferred[int]:
        return self._read(keyvalues.queue_size, queue)

    def reserve(self, queue: str, from_front: bool, seconds: int) -> Deferred[tuple[int, bytes] | None]:
        return self._write(keyvalues.reserve, queue, from_front, seconds, self._clock)

    def acknowledge(self, queue: str, value_id: int) -> Deferred[None]:
        return self._write(keyvalues.acknowledge, queue, value_id)

    # Jobs
    def add_jobs(self, new: Sequence[SavedJob]) -> Deferred[None]:
        return self._write(jobs.add_jobs, new)

    def update_jobs(self, statuses: Mapping[int, bytes], forgotten: Sequence[int]) -> Deferred[None]:
        return self._write(jobs.update_jobs, statuses, forgotten)

    def jobs(self) -> Deferred[list[SavedJob]]:
        return self._read_snapshot(jobs.jobs)

    def job_parameters(self, number: int) -> Deferred[bytes | None]:
        return self._read(jobs.job_parameters, number)
