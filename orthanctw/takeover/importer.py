"""From the index of an Orthanc to ours: instance by instance, each with the parents that it is the first of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from orthanctw.dicom.header import encode
from orthanctw.dicom.maintags import MainTags, normalized_tags
from orthanctw.dicom.scanner import ScannedFile
from orthanctw.index.bulk import BulkIndex, BulkResource
from orthanctw.model import Attachment, AttachmentType, ChangeType, MetadataValue, ResourceLevel
from orthanctw.takeover.access import Interrupted
from orthanctw.takeover.coexistence import TAKEN_OVER
from orthanctw.takeover.files import CannotTake, OldFiles
from orthanctw.takeover.source import OldAttachment, OldResource, OrthancIndex

_T = TypeVar("_T")
#: Instances of one transaction, and of one look into the old index.
BATCH: Final = 500
_CHANGES: Final = 20_000
#: Rows between two looks at whether to stop.
_LOOK: Final = 1000
_PARENTS_KNOWN: Final = 4096
_LOGGED: Final = frozenset(int(change) for change in ChangeType if change.logged)
#: The kind of notes about what could not be taken.
NOT_TAKEN: Final = "not taken"


class Importer:
    """Fills a new index.

    Parameters
    ----------
    progress : callable
        Told, as ``progress(done, total)``, of every instance.
    is_stopped : callable
        Whether to end soon, with Interrupted.
    """

    def __init__(
        self,
        source: OrthancIndex,
        target: BulkIndex,
        files: OldFiles,
        main_tags: MainTags,
        *,
        progress: Callable[[int, int], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        self._source = source
        self._target = target
        self._files = files
        self._main_tags = main_tags
        self._progress = progress
        self._is_stopped = is_stopped
        self._parents_known: dict[int, None] = {}

    def run(self) -> None:
        """Do what is left to do. May be repeated after any failure."""
        self._take_instances()
        self._take_changes()
        if self._target.state("rest") is None:
            self._take_rest()
            self._target.commit(rest="taken")

    # Instances and their parents

    def _take_instances(self) -> None:
        total = self._source.count_instances()
        last = int(self._target.state("instance") or 0)
        done = int(self._target.state("instances") or 0)
        while batch := self._source.instances_after(last, BATCH):
            known = self._target.known_ids([old.public_id for old in batch])
            for old in batch:
                if self._is_stopped():
                    self._target.commit(instance=last, instances=done)
                    raise Interrupted
                self._take_instance(old, known)
                last, done = old.row, done + 1
                self._progress(done, total)
            self._target.commit(instance=last, instances=done)

    def _take_instance(self, old: OldResource, known: set[str]) -> None:
        dicom = next((item for item in old.attachments if item.content_type == AttachmentType.DICOM), None)
        try:
            if not old.public_id or old.public_id in known:
                raise CannotTake("no identifier, or one that occurs twice")
            if dicom is None:
                raise CannotTake("the old index has no DICOM file for it")
            attachment = self._files.attachment(dicom)
            scanned = self._files.header(attachment)
            parents = self._missing_parents(old)
        except CannotTake as problem:
            place = "" if dicom is None else f" {self._files.path(dicom)}:"
            self._target.note(NOT_TAKEN, f"instance {old.public_id}:{place} {problem}")
            return
        for parent in parents:
            self._add(parent, self._attachments(parent, parent.attachments), scanned, None)
            self._remember(parent.row)
        others = [item for item in old.attachments if item is not dicom]
        self._add(old, [attachment, *self._attachments(old, others)], scanned, encode(scanned))
        known.add(old.public_id)

    def _missing_parents(self, old: OldResource) -> list[OldResource]:
        """Series, study and patient, as far as they are not there yet, from above. Raises CannotTake."""
        missing: list[OldResource] = []
        row, level = old.parent, old.level - 1
        while level >= ResourceLevel.PATIENT:
            if row is None:
                raise CannotTake(f"the old index has no {ResourceLevel(level).title.lower()} for it")
            if self._is_known(row):
                return missing
            parent = self._source.resource(row)
            if parent is None or parent.level != level or not parent.public_id:
                raise CannotTake(f"the old index has no {ResourceLevel(level).title.lower()} for it")
            if self._target.known_ids([parent.public_id]):
                raise CannotTake(f"the identifier {parent.public_id} above it occurs twice")
            missing.insert(0, parent)
            row, level = parent.parent, level - 1
        return missing

    def _is_known(self, row: int) -> bool:
        if row in self._parents_known:
            return True
        if not self._target.holds(row):
            return False
        self._remember(row)
        return True

    def _remember(self, parent: int) -> None:
        if len(self._parents_known) >= _PARENTS_KNOWN:
            del self._parents_known[next(iter(self._parents_known))]
        self._parents_known[parent] = None

    def _attachments(self, old: OldResource, items: Iterable[OldAttachment]) -> list[Attachment]:
        """Those of `items` whose files are there; the others are noted."""
        taken = []
        for item in items:
            try:
                taken.append(self._files.attachment(item))
            except CannotTake as problem:
                level = ResourceLevel(old.level).title.lower()
                self._target.note(
                    NOT_TAKEN,
                    f"attachment {item.content_type} of {level} {old.public_id}: {self._files.path(item)}: {problem}",
                )
        return taken

    def _add(
        self, old: OldResource, attachments: list[Attachment], scanned: ScannedFile, header: bytes | None
    ) -> None:
        """Add a resource: what the old index says of it, and what only the header of its first instance tells."""
        level = ResourceLevel(old.level)
        main_tags = {**self._main_tags.values(scanned, level), **old.main_tags}
        metadata = {number: MetadataValue(value) for number, value in self._main_tags.metadata(scanned, level).items()}
        metadata.update(old.metadata)
        self._target.add(
            BulkResource(
                row=old.row,
                level=level,
                parent=old.parent if level > ResourceLevel.PATIENT else None,
                public_id=old.public_id,
                main_tags=main_tags,
                search_tags=normalized_tags(main_tags, level),
                metadata=metadata,
                attachments=attachments,
                labels=old.labels,
                new_change=old.new_change if level is ResourceLevel.INSTANCE else None,
                header=header,
            )
        )

    # Everything else

    def _take_changes(self) -> None:
        last = int(self._target.state("change") or 0)
        strange = int(self._target.state("strange_changes") or 0)
        while batch := self._source.changes_after(last, _CHANGES):
            logged = [change for change in batch if change[1] in _LOGGED]
            strange += len(batch) - len(logged)
            self._target.add_changes(logged)
            last = batch[-1][0]
            self._target.commit(change=last, strange_changes=strange)
            if self._is_stopped():
                raise Interrupted

    def _take_rest(self) -> None:
        """Small tables, in one transaction."""
        source, target = self._source, self._target
        target.add_exports(self._watched(source.exports()))
        target.add_recyclable(self._watched(source.recycling()))
        target.add_properties([*source.properties(), (TAKEN_OVER, str(time.time()))])
        target.add_key_values(self._watched(source.key_values()))
        target.add_queued(self._watched(source.queued()))
        target.set_last_queued(source.last_given("Queues"))
        counters = target.counters
        counters.last_resource = max(source.last_given("Resources"), target.highest("resources", "id"))
        counters.last_change = max(source.last_given("Changes"), target.highest("changes", "seq"))
        counters.last_export = max(source.last_given("ExportedResources"), target.highest("exports", "seq"))
        counters.last_recycling = max(
            source.last_given("PatientRecyclingOrder"), target.highest("recycling", "position")
        )
        strange = int(target.state("strange_changes") or 0)
        if strange:
            target.note(NOT_TAKEN, f"{strange} changes of kinds that are not known")
        for table in source.strange_tables:
            target.note(NOT_TAKEN, f"table {table}: its columns are not known")
        for job_id, kind in source.unfinished_jobs():
            target.note(NOT_TAKEN, f"job {job_id}: {kind or 'of unknown type'}, saved jobs are not taken")

    def _watched(self, rows: Iterable[_T]) -> Iterator[_T]:
        for number, row in enumerate(rows):
            if number % _LOOK == 0 and self._is_stopped():
                raise Interrupted
            yield row
