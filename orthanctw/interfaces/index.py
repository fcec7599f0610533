"""The contract of the database of resources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Interface

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
    Stored,
)
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
        """The files are gone from the storage area; what scripts keep is not meant."""

    def note_scripted(uuid: str, content_type: int, custom_data: bytes) -> Deferred[None]:
        """A script is about to keep something: it is one of `pending_removals` until an attachment of it is added."""

    def scripted_removals(uuids: Sequence[str]) -> Deferred[dict[str, tuple[int, bytes]]]:
        """Those that a script has to remove: their content types and custom data."""

    def forget_scripted(uuids: Sequence[str]) -> Deferred[None]:
        """Scripts have removed these."""

    def custom_data(uuid: str) -> Deferred[bytes | None]:
        """What scripts have noted of a file; None when it belongs to no resource."""

    def set_custom_data(uuid: str, value: bytes) -> Deferred[bool]:
        """Note something of a file; False when it belongs to no resource."""

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
