"""Contracts between the layers (level 1). Imports only values.

Every method that returns a `Deferred` may fail with an `orthanctw.errors.OrthancError`; anything else is a defect.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from orthanctw.lookups import LookedUp, Lookup
from orthanctw.model import (
    Attachment,
    Change,
    ChangeType,
    Compression,
    Constraint,
    Deleted,
    Expanded,
    ExportedResource,
    JobEvent,
    NewInstance,
    Origin,
    Resource,
    ResourceLevel,
    SavedJob,
    Statistics,
    Stored,
)
from orthanctw.remote import Originator, Outgoing, Remote, RetrieveResult
from orthanctw.versions import Edited, Reconstructed, Version


class IIndex(Interface):
    """The database of resources. One writer with group commit, readers in parallel.

    A write is durable when its Deferred fires. Writes are carried out in the order of the calls.
    """

    # Life cycle
    def open() -> Deferred[None]:
        """Create or migrate the schema and start the threads. Never called before the daemon has forked."""

    def close() -> Deferred[None]:
        """Finish the writes that wait, then close; later calls fail with ServiceUnavailable."""

    # Ingest and removal
    def store(instance: NewInstance | Callable[[], NewInstance]) -> Deferred[Stored]:
        """Add an object whose files, and their names, are durable already.

        May be called in any thread; the Deferred fires in the reactor's, where callbacks are added to it. A callable
        is called by the thread that writes, and may make the file first: for one object alone that is the shortest
        way.
        """

    def delete(level: ResourceLevel, public_id: str) -> Deferred[Deleted | None]:
        """Delete a resource, what is below it and every ancestor that is left empty; None when it is unknown."""

    def delete_many(public_ids: Sequence[str]) -> Deferred[Deleted]:
        """Delete resources of any level in one transaction; unknown ones are skipped."""

    def pending_removals() -> Deferred[tuple[str, ...]]:
        """UUIDs of files that were dropped from the index and not yet confirmed as removed."""

    def forget_removals(uuids: Sequence[str]) -> Deferred[None]:
        """The files are gone from the storage area."""

    def note_checksums(checksums: Mapping[str, int]) -> Deferred[None]:
        """The CRC-32 of files, by their UUIDs, that nobody had computed before."""

    def known_files(uuids: Sequence[str]) -> Deferred[frozenset[str]]:
        """Those of `uuids` that the index refers to (start-up repair)."""

    # Reading resources
    def resource(level: ResourceLevel, public_id: str) -> Deferred[Resource | None]:
        """One resource, or None."""

    def expand(
        level: ResourceLevel,
        public_ids: Sequence[str],
        *,
        children: bool,
        attachments: bool,
        indices: bool,
    ) -> Deferred[list[Expanded]]:
        """Several resources with what their JSON shows, in the order asked; unknown ones are left out."""

    def ancestors(
        level: ResourceLevel, public_ids: Sequence[str], parent_level: ResourceLevel
    ) -> Deferred[dict[str, Resource]]:
        """The ancestor of `parent_level` of each resource, by the resource's public id."""

    def lookup_level(public_id: str) -> Deferred[ResourceLevel | None]:
        """The level of a public identifier."""

    def list_ids(level: ResourceLevel, since: int = 0, limit: int = 0) -> Deferred[list[str]]:
        """Public ids of a level in a stable order; `limit` 0 is no limit."""

    def list_resources(level: ResourceLevel, since: int = 0, limit: int = 0) -> Deferred[list[Resource]]:
        """As `list_ids`, the whole resources."""

    def resources(level: ResourceLevel, public_ids: Sequence[str]) -> Deferred[list[Resource]]:
        """Several resources by id, in the order asked; unknown ones are left out."""

    def children(
        level: ResourceLevel, public_id: str, child_level: ResourceLevel
    ) -> Deferred[list[str] | None]:
        """Ids of the descendants of `child_level`; None when the resource is unknown."""

    def children_resources(
        level: ResourceLevel, public_id: str, child_level: ResourceLevel
    ) -> Deferred[list[Resource] | None]:
        """As `children`, the whole resources."""

    def ancestor(level: ResourceLevel, public_id: str, parent_level: ResourceLevel) -> Deferred[Resource | None]:
        """The ancestor of `parent_level`; None when the resource is unknown."""

    def header(public_id: str) -> Deferred[bytes | None]:
        """The stored header of an instance, as given in `NewInstance.header`."""

    def headers(public_ids: Sequence[str]) -> Deferred[dict[str, bytes]]:
        """Headers of several instances."""

    def first_instance(level: ResourceLevel, public_id: str) -> Deferred[str | None]:
        """Any instance below (or equal to) a resource: where tags of the file can be read."""

    # Attachments, metadata, labels, protection
    def attachments(level: ResourceLevel, public_id: str) -> Deferred[dict[int, Attachment] | None]:
        """Attachments by content type; None when the resource is unknown."""

    def instance_attachments(public_ids: Sequence[str]) -> Deferred[dict[str, dict[int, Attachment]]]:
        """Attachments of several resources of one kind, by public id."""

    def set_metadata(
        level: ResourceLevel,
        public_id: str,
        metadata: int,
        value: str,
        expected: Version | None = None,
        check: bool = False,
    ) -> Deferred[Edited]:
        """Write metadata.

        Raises UnknownResource, and RevisionMismatch when there is another version than `expected`, or with `check` any
        version and none is expected.
        """

    def delete_metadata(
        level: ResourceLevel, public_id: str, metadata: int, expected: Version | None = None, check: bool = False
    ) -> Deferred[Edited]:
        """Remove metadata. UnknownResource when it is not set, RevisionMismatch as `set_metadata`."""

    def add_attachment(
        level: ResourceLevel,
        public_id: str,
        attachment: Attachment,
        expected: Version | None = None,
        check: bool = False,
    ) -> Deferred[Edited]:
        """Add or replace an attachment whose file is durable.

        Raises FullStorage, and RevisionMismatch as `set_metadata`.
        """

    def replace_attachment(
        level: ResourceLevel, public_id: str, attachment: Attachment, uuid: str
    ) -> Deferred[Edited | None]:
        """Put a file that is durable in the place of the file `uuid`; None when that is not the one any more."""

    def delete_attachment(
        level: ResourceLevel, public_id: str, content_type: int, expected: Version | None = None, check: bool = False
    ) -> Deferred[Edited]:
        """Remove an attachment. UnknownResource when it is not there, RevisionMismatch as `set_metadata`."""

    def reconstruct(items: Sequence[Reconstructed]) -> Deferred[tuple[str, ...]]:
        """Write what files say anew, in one transaction; answers the UUIDs of files to remove.

        An item whose instance is gone, or has another file by now, does nothing, and its own file is to be removed.
        """

    def set_protected(public_id: str, protected: bool) -> Deferred[None]:
        """Protect a patient from recycling; UnknownResource when it is unknown."""

    def add_label(level: ResourceLevel, public_id: str, label: str) -> Deferred[None]:
        """Add a label; UnknownResource when the resource is unknown."""

    def remove_label(level: ResourceLevel, public_id: str, label: str) -> Deferred[None]:
        """Remove a label; nothing happens when it is not there."""

    def all_labels() -> Deferred[list[str]]:
        """Every label in use, sorted."""

    # Changes and exports
    def log_changes(changes: Sequence[Change], last_update: Mapping[str, str]) -> Deferred[list[Change]]:
        """Log changes of resources that still exist; answers them with their sequence numbers."""

    def changes(
        since: int | None, limit: int, to: int | None, types: frozenset[ChangeType]
    ) -> Deferred[tuple[list[Change], bool]]:
        """Entries in ascending order, and whether the list is at its end in the direction of reading."""

    def last_change() -> Deferred[tuple[Change | None, int]]:
        """The newest entry, and the last sequence number ever given."""

    def clear_changes() -> Deferred[None]:
        """Forget all changes; sequence numbers go on."""

    def log_exported(exported: ExportedResource) -> Deferred[None]:
        """Log that a resource was sent."""

    def exports(since: int, limit: int) -> Deferred[tuple[list[ExportedResource], bool]]:
        """As `changes`."""

    def last_export() -> Deferred[tuple[ExportedResource | None, int]]:
        """As `last_change`."""

    def clear_exports() -> Deferred[None]:
        """As `clear_changes`."""

    # Counters
    def statistics() -> Deferred[Statistics]:
        """Totals of the server, from counters."""

    def resource_statistics(level: ResourceLevel, public_id: str) -> Deferred[Statistics | None]:
        """Numbers below one resource; None when it is unknown."""

    # Search. Constraints on normalised values may let too many through, never too few: the finder compares real ones.
    def candidates(level: ResourceLevel, constraints: Sequence[Constraint]) -> Deferred[list[Resource]]:
        """Resources for which every constraint holds, on their own or an ancestor's search tags, as they were added."""

    def look_up_ids(lookup: Lookup) -> Deferred[list[str]]:
        """Public ids of a page of what a lookup finds."""

    def look_up_rows(lookup: Lookup, first: int) -> Deferred[LookedUp]:
        """As `look_up_ids`: row numbers, and whole resources of the `first` ones."""

    def count(lookup: Lookup) -> Deferred[int]:
        """How many resources a lookup finds, whatever its page."""

    def resources_of_rows(rows: Sequence[int]) -> Deferred[list[Resource]]:
        """Resources by row number, in the order asked; those that are gone are left out."""

    # Key-value stores, queues, global properties
    def global_property(number: int) -> Deferred[str | None]:
        """A global property, or None."""

    def set_global_property(number: int, value: str) -> Deferred[None]:
        """Write a global property."""

    def store_value(store: str, key: str, value: bytes) -> Deferred[None]:
        """Write into a key-value store."""

    def value(store: str, key: str) -> Deferred[bytes | None]:
        """Read from a key-value store."""

    def delete_value(store: str, key: str) -> Deferred[None]:
        """Delete from a key-value store; nothing happens when it is not there."""

    def keys(store: str, since: str | None, limit: int) -> Deferred[list[str]]:
        """Keys in ascending order, those after `since`."""

    def enqueue(queue: str, value: bytes) -> Deferred[None]:
        """Append to a queue."""

    def dequeue(queue: str, from_front: bool) -> Deferred[bytes | None]:
        """Take from a queue; None when it is empty."""

    def queue_size(queue: str) -> Deferred[int]:
        """Number of values in a queue."""

    def reserve(queue: str, from_front: bool, seconds: int) -> Deferred[tuple[int, bytes] | None]:
        """Hide a value from others for a time, until `acknowledge`; None when nothing is free."""

    def acknowledge(queue: str, value_id: int) -> Deferred[None]:
        """Remove a reserved value."""

    # Jobs
    def add_jobs(jobs: Sequence[SavedJob]) -> Deferred[None]:
        """Keep new jobs."""

    def update_jobs(statuses: Mapping[int, bytes], forgotten: Sequence[int]) -> Deferred[None]:
        """Write how far jobs came, by their numbers, and drop those that are forgotten; unknown ones are skipped."""

    def jobs() -> Deferred[list[SavedJob]]:
        """All that are kept, by their numbers, without their parameters."""

    def job_parameters(number: int) -> Deferred[bytes | None]:
        """Parameters of a job; None when it is not kept."""


class IReader(Interface):
    """Uncompressed bytes of a stored file, forwards. The file stays readable when it is deleted meanwhile."""

    remaining = Attribute("Bytes that are still to come (int); -1 when nobody knows, until the end.")

    def read(length: int) -> Deferred[bytes]:
        """The next bytes, at most `length`; empty at the end. One call at a time. CorruptedFile when damaged."""

    def close() -> None:
        """Let the file go; a read that is under way ends first."""


class IBlockingReader(IReader):
    """A reader that storage threads can use."""

    def read_blocking(length: int) -> bytes:
        """As `read`, for work on a storage thread."""


class ISpool(Interface):
    """A file being received inside the storage area, not yet part of it.

    One call at a time: the next write, flush, create or discard waits for the Deferred of the one before.
    """

    size = Attribute("Bytes written so far (int).")
    path = Attribute("Where the file lies (str).")
    md5 = Attribute("Digest of what was flushed (str); empty when none is computed.")

    def write(data: bytes) -> Deferred[None]:
        """Append; fires when the bytes have left memory."""

    def flush() -> Deferred[None]:
        """Write what was gathered in memory."""

    def append_blocking(batch: list[bytes]) -> None:
        """Append at once, from a thread that may block; the caller adds to `size`."""

    def read_at(offset: int, length: int) -> bytes:
        """Blocking read of a flushed file."""

    def open() -> BinaryIO:
        """The flushed file, opened anew for reading (blocking)."""

    def reader_blocking() -> IBlockingReader:
        """A reader over the flushed file, which stays readable when it is discarded (blocking)."""

    def map() -> mmap.mmap | bytes:
        """The flushed file as a read-only buffer."""

    def discard() -> Deferred[None]:
        """Remove the file; nothing happens once `IStorageArea.create` took it."""


class IStorageArea(Interface):
    """Files named by UUIDs of ours in ``ab/cd`` folders."""

    def open() -> Deferred[None]:
        """Make the folders, take the lock, remove what an earlier process left in the spool folder."""

    def close() -> Deferred[None]:
        """Give the lock back."""

    def holds_objects() -> Deferred[bool]:
        """Whether any object lies in the storage area."""

    def mark() -> Deferred[str]:
        """What `set_mark` wrote last: tells whether index and storage area belong together."""

    def set_mark(mark: str) -> Deferred[None]:
        """Write a text, durably."""

    def spool(*, is_object: bool = True) -> ISpool:
        """A new file to receive into; its MD5 is computed only if it may become part of the storage area."""

    def adopt_blocking(path: str) -> ISpool:
        """A file of the spool folder that somebody else has made, as if it was received (blocking).

        The file is removed when it cannot be read.
        """

    def create(data: bytes | ISpool, content_type: int, compression: Compression) -> Deferred[Attachment]:
        """Make content durable under a new UUID, its folder included.

        Raises FullStorage when the disk is full; then nothing is left behind.
        """

    def create_blocking(data: bytes | ISpool, content_type: int, compression: Compression) -> Attachment:
        """As `create`, for work on a storage thread."""

    def reader(
        attachment: Attachment, offset: int = 0, length: int | None = None, *, raw: bool = False
    ) -> Deferred[IReader]:
        """A reader over a range of the uncompressed bytes (`raw`: of the file as it lies on the disk, never of memory).

        Raises InexistentFile, BadRange, CorruptedFile.
        """

    def reader_blocking(attachment: Attachment, offset: int = 0, length: int | None = None) -> IBlockingReader:
        """As `reader`, for work on a storage thread."""

    def read(attachment: Attachment, offset: int = 0, length: int | None = None) -> Deferred[bytes]:
        """The bytes of a range at once, for small ones."""

    def map(attachment: Attachment) -> AbstractContextManager[mmap.mmap | bytes]:
        """The uncompressed bytes as a read-only buffer, for blocking work on a storage thread."""

    def call(function: Callable[..., object], *arguments: object) -> Deferred[Any]:
        """Run blocking work on a storage thread."""

    def path(uuid: str) -> str:
        """Where the file lies."""

    def remove(uuids: Iterable[str]) -> Deferred[tuple[str, ...]]:
        """Remove files; answers those that are gone now (absent ones count as gone)."""

    def remove_blocking(uuids: Iterable[str]) -> tuple[str, ...]:
        """As `remove`, for work on a storage thread."""

    def tail(newer_than: float) -> Deferred[list[str]]:
        """UUIDs of files modified after a time stamp: those that a crash may have left without a row."""


class IIngestFilter(Interface):
    """A hook that decides about a received object before it is stored."""

    def accepts(origin: Origin, tags: Mapping[str, object], data_size: int) -> Deferred[bool]:
        """False filters the object out. A failure means the same as no answer."""


class IChangeListener(Interface):
    """A hook that is told of changes, after their commit, in order; its errors are logged."""

    def changed(change: Change) -> None:
        """Must not block and not raise."""


class IJobListener(Interface):
    """A hook that is told of jobs, in order; its errors are logged."""

    def job_changed(event: JobEvent) -> None:
        """Must not block and not raise."""


class IDicomScu(Interface):
    """Outgoing DICOM operations. Associations are pooled and used again for ``DicomAssociationCloseDelay`` seconds.

    What a peer refuses, breaks off or does not answer fails with an OrthancError of code NETWORK_PROTOCOL. Elements
    are those of `orthanctw.dicom.elements`. Cancelling a Deferred ends the operation: a C-CANCEL, then an abort.
    """

    def echo(remote: Remote, *, checks_find: bool = False) -> Deferred[None]:
        """C-ECHO, and with `checks_find` a C-FIND that matches nothing after it (``DicomEchoChecksFind``)."""

    def find(remote: Remote, sop_class_uid: str, query: Sequence[Any]) -> Deferred[list[list[Any]]]:
        """C-FIND: the identifiers of all matches; text is Unicode."""

    def move(
        remote: Remote, query: Sequence[Any], target_aet: str, progress: Callable[[RetrieveResult], None]
    ) -> Deferred[RetrieveResult]:
        """C-MOVE in the Study Root (PatientRoot at the patient level); told of pending responses by `progress`."""

    def get(
        remote: Remote,
        query: Sequence[Any],
        sop_class_uids: Sequence[str],
        progress: Callable[[RetrieveResult], None],
    ) -> Deferred[tuple[RetrieveResult, list[str]]]:
        """C-GET into the one ingest; the last answer, and the Orthanc ids of the instances received."""

    def store(
        remote: Remote, outgoing: Outgoing, contexts: Sequence[tuple[str, str]], originator: Originator | None = None
    ) -> Deferred[int]:
        """C-STORE; the status when it is success or a warning.

        `contexts` are the SOP classes and transfer syntaxes of all objects that will follow: they are proposed at once.
        """

    def close() -> Deferred[None]:
        """Release idle associations, end running operations, stop the threads."""


class ITranscoder(Interface):
    """Changes the transfer syntax of objects."""

    def transcode(
        outgoing: Outgoing,
        accepted: Sequence[str],
        *,
        quality: int | None = None,
        allows_new_uid: bool = False,
        spools: bool = False,
    ) -> Deferred[Outgoing | None]:
        """The object in one of the `accepted` transfer syntaxes, the first that is possible; None when none is.

        `quality` is that of lossy JPEG and JPEG 2000, 1 to 100. What loses something makes another instance, with a
        SOPInstanceUID of its own, and is only possible with `allows_new_uid`. With `spools` the result may be a
        temporary file, which the caller has removed by `release`; else it is in memory. Raises BadFileFormat when the
        object cannot be read.
        """

    def release(outgoing: Outgoing) -> None:
        """Remove a temporary file that `transcode` has made; nothing happens to any other object."""
