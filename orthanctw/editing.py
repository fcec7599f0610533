"""Changing stored objects into new ones, which enter through the one ingest (level 4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, DeferredLock

from orthanctw.dicom.editing.editor import EditedObject, Editor
from orthanctw.dicom.editing.modification import IDENTIFIERS, PATIENT_ID, SOP_INSTANCE_UID, Modification
from orthanctw.dicom.maintags import MainTags
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadRequest, OrthancError, ServiceUnavailable, UnknownResource
from orthanctw.identifiers import hierarchy_ids, orthanc_id
from orthanctw.ingest import Derivation, Ingest
from orthanctw.interfaces import IIndex, IStorageArea
from orthanctw.model import MetadataType, Origin, Resource, ResourceLevel, StoreStatus
from orthanctw.reconstruction import Extent, Reconstruction
from orthanctw.removal import Removal
from orthanctw.retrieval import Retrieval, StoredObject
from orthanctw.sending import outgoing_object

#: Global property: how many anonymised patients have got a name.
ANONYMIZATION_SEQUENCE: Final = 3
#: Instances that are read at once.
_BATCH: Final = 500
_PARENTS: Final = (ResourceLevel.PATIENT, ResourceLevel.STUDY, ResourceLevel.SERIES)


@attrs.frozen
class Made:
    """What became of an object: Orthanc identifiers from the patient downwards, and those of what it was made of."""

    ids: tuple[str, ...]
    sources: tuple[str, ...]


def metadata_of(modification: Modification) -> MetadataType:
    """The metadata that says what a result was made of."""
    return MetadataType.ANONYMIZED_FROM if modification.is_anonymization else MetadataType.MODIFIED_FROM


class Editing:
    """Makes new objects of stored ones.

    Parameters
    ----------
    overwrites : bool
        Whether ``OverwriteInstances`` lets stored objects be replaced.
    has_patients : bool
        ``PatientLevelEnabled``: without it nobody minds what studies say of one patient.
    """

    def __init__(
        self,
        index: IIndex,
        storage: IStorageArea,
        retrieval: Retrieval,
        editor: Editor,
        ingest: Ingest,
        removal: Removal,
        reconstruction: Reconstruction,
        main_tags: MainTags,
        *,
        overwrites: bool,
        has_patients: bool,
    ) -> None:
        self._index = index
        self._storage = storage
        self._retrieval = retrieval
        self._editor = editor
        self._ingest = ingest
        self._removal = removal
        self._reconstruction = reconstruction
        self._main_tags = main_tags
        self._overwrites = overwrites
        self._has_patients = has_patients
        self._naming = DeferredLock()

    # What is asked for

    async def level_of(self, public_id: str) -> ResourceLevel | None:
        """The level of a resource; None when it is unknown."""
        level: ResourceLevel | None = await self._index.lookup_level(public_id)
        return level

    async def instances(self, resources: Iterable[tuple[ResourceLevel, str]]) -> list[str]:
        """The instances at and below resources, each once."""
        found: dict[str, None] = {}
        for level, public_id in resources:
            if level is ResourceLevel.INSTANCE:
                found[public_id] = None
            else:
                children = await self._index.children(level, public_id, ResourceLevel.INSTANCE)
                found.update(dict.fromkeys(children or ()))
        return list(found)

    async def check(
        self,
        modification: Modification,
        resources: Sequence[tuple[ResourceLevel, str]],
        instances: Sequence[str],
    ) -> None:
        """Raise BadRequest for what would lose objects, or say contradictory things of a patient."""
        await self.check_distinct(modification, instances)
        if modification.level <= ResourceLevel.STUDY:
            modification.check_overwriting(overwrites=self._overwrites)
        if modification.level is ResourceLevel.STUDY and not modification.is_anonymization and self._has_patients:
            for level, public_id in resources:
                if level is ResourceLevel.STUDY:
                    await self._check_patient(modification, public_id)

    async def check_distinct(self, modification: Modification, instances: Sequence[str]) -> None:
        """Raise BadRequest when results of two instances would be the same one: the second would replace the first.

        Instances differ in their identifiers, and so do those that become new ones: only the same replacement for
        several can make them equal.
        """
        replaced = [level for level, tag in IDENTIFIERS.items() if modification.replaces(tag)]
        if not replaced or len(instances) < 2:
            return
        if ResourceLevel.INSTANCE in replaced:
            raise BadRequest("Several instances cannot have one SOPInstanceUID")
        identifiers = await self._of_same_uid(instances)
        for level in _PARENTS:
            if level not in replaced and identifiers:
                parents: Mapping[str, Resource]
                parents = await self._index.ancestors(ResourceLevel.INSTANCE, tuple(identifiers), level)
                for public_id, parent in parents.items():
                    identifiers[public_id].append(parent.main_tags.get(IDENTIFIERS[level], ""))
        if len(set(map(tuple, identifiers.values()))) < len(identifiers):
            raise BadRequest("Two instances would become the same one")

    async def _of_same_uid(self, instances: Sequence[str]) -> dict[str, list[str]]:
        """The SOPInstanceUID of those that share theirs with others, in a list."""
        found: dict[str, list[str]] = {}
        for start in range(0, len(instances), _BATCH):
            batch: Sequence[Resource]
            batch = await self._index.resources(ResourceLevel.INSTANCE, instances[start : start + _BATCH])
            for resource in batch:
                uid = resource.main_tags.get(SOP_INSTANCE_UID, "")
                found.setdefault(uid, []).append(resource.public_id)
        return {public_id: [uid] for uid, shared in found.items() if len(shared) > 1 for public_id in shared}

    async def _check_patient(self, modification: Modification, study: str) -> None:
        """Other studies of the patient must say of the patient what this one will say."""
        known = self._main_tags.tags(ResourceLevel.PATIENT)
        values = modification.replacements
        replaced = {path.tag: value for path, value in values if not path.steps and path.tag in known}
        if not replaced:
            return
        target = await self._target(study, replaced.get(PATIENT_ID))
        if target is None:
            return
        studies = await self._index.children(ResourceLevel.PATIENT, target.public_id, ResourceLevel.STUDY)
        if not set(studies or ()) - {study}:
            return
        present = {tag: value for tag, value in target.main_tags.items() if value and tag in known}
        if present.keys() - replaced.keys() or any(value != present.get(tag) for tag, value in replaced.items()):
            raise BadRequest(
                "The patient has other studies: all that is known of the patient must be in Replace, as it is there"
            )

    async def _target(self, study: str, patient_id: Any) -> Resource | None:
        """The patient that a study will belong to, if known."""
        target: Resource | None
        if patient_id is None:
            target = await self._index.ancestor(ResourceLevel.STUDY, study, ResourceLevel.PATIENT)
        else:
            target = await self._index.resource(ResourceLevel.PATIENT, orthanc_id(str(patient_id)))
        return target

    async def named(self, modification: Modification) -> Modification:
        """The modification with a name for the anonymised patient, where it needs one: it is used once."""
        if not modification.needs_patient_name or self._editor.is_reproducible:
            return modification
        number: int = await self._naming.run(Deferred.fromCoroutine, self._next_number())
        return modification.named(f"Anonymized{number}")

    async def _next_number(self) -> int:
        text: str | None = await self._index.global_property(ANONYMIZATION_SEQUENCE)
        number = (int(text) if text and text.isascii() and text.isdigit() else 0) + 1
        await self._index.set_global_property(ANONYMIZATION_SEQUENCE, str(number))
        return number

    # One object

    async def objects(self, instances: Sequence[str]) -> dict[str, StoredObject]:
        """Stored objects by their identifiers; those that are gone are left out."""
        found = await self._retrieval.below([(ResourceLevel.INSTANCE, public_id) for public_id in instances])
        return {item.public_id: item for item in found}

    async def edit(self, item: StoredObject, modification: Modification, key: bytes) -> EditedObject:
        """A changed object, which is not stored; whoever has it discards it. Raises what `Editor.edit` raises.

        UnknownResource when the object is deleted meanwhile.
        """
        try:
            async with outgoing_object(self._storage, item) as source:
                return await self._editor.edit(source, modification, key)
        except ServiceUnavailable:
            raise
        except OrthancError as e:
            if await self._index.resource(ResourceLevel.INSTANCE, item.public_id) is None:
                raise UnknownResource("An instance was deleted meanwhile") from e
            raise

    async def change(
        self,
        item: StoredObject,
        modification: Modification,
        key: bytes,
        origin: Origin,
        metadata: MetadataType | None,
    ) -> Made:
        """Store a changed object. Doing it again changes nothing.

        `metadata` is what names the source at every level; None for none. Raises what `edit` and `Ingest.store` raise;
        CANNOT_STORE_INSTANCE when a filter refuses the result.
        """
        edited = await self.edit(item, modification, key)
        try:
            ids, sources = hierarchy_ids(*edited.identifiers), hierarchy_ids(*edited.source_identifiers)
            derivation = Derivation(
                metadata={} if metadata is None else _sources_by_level(metadata, ids, sources),
                overwrites=True,
                is_final=bool(modification.transfer_syntax),
            )
            stored = await self._ingest.store(edited.content, origin, derivation=derivation)
        finally:
            await edited.discard()
        if stored.status is StoreStatus.FILTERED_OUT:
            raise OrthancError("A filter refuses the new instance", code=ErrorCode.CANNOT_STORE_INSTANCE)
        made = Made((stored.patient, stored.study, stored.series, stored.instance), sources)
        if modification.keep_labels:
            await self._copy_labels(ResourceLevel.INSTANCE, item.public_id, made.ids[3])
        return made

    # All of them

    async def complete(self, made: Made, modification: Modification, metadata: MetadataType | None) -> None:
        """What is to be done once for each new series, and for all above it. It may be done again."""
        renewed = set()
        for level, result, source in zip(_PARENTS, made.ids, made.sources, strict=False):
            if result == source:
                if self._may_renew(modification, level):
                    renewed.add(level)
                continue
            if metadata is not None:
                await self._mark(level, result, source, metadata)
            if modification.keep_labels:
                await self._copy_labels(level, source, result)
        if renewed:
            await self._renew(made.ids[2], frozenset(renewed))

    def _may_renew(self, modification: Modification, level: ResourceLevel) -> bool:
        """Whether a resource that has kept its identifier may have to say something else now."""
        if level is ResourceLevel.PATIENT and modification.level is ResourceLevel.STUDY:
            tags = self._main_tags.tags(level)
            paths = (*modification.removals, *(path for path, _ in modification.replacements))
            return any(not path.steps and path.tag in tags for path in paths)
        return level >= modification.level

    async def _mark(self, level: ResourceLevel, result: str, source: str, metadata: MetadataType) -> None:
        """Name the source of a resource that was there before."""
        resource: Resource | None = await self._index.resource(level, result)
        present = None if resource is None else resource.metadata.get(metadata)
        if resource is not None and (present is None or present.value != source):
            try:
                await self._index.set_metadata(level, result, metadata, source)
            except UnknownResource:
                # Deleted meanwhile.
                return

    async def _renew(self, series: str, levels: frozenset[ResourceLevel]) -> None:
        """Have resources say what a new series says."""
        try:
            await self._reconstruction.resource(ResourceLevel.SERIES, series, Extent(levels=levels, headers=False))
        except UnknownResource:
            # Deleted meanwhile.
            return

    async def _copy_labels(self, level: ResourceLevel, source: str, result: str) -> None:
        resource: Resource | None = await self._index.resource(level, source)
        for label in () if resource is None or source == result else resource.labels:
            try:
                await self._index.add_label(level, result, label)
            except UnknownResource:
                return

    async def delete(self, instances: Sequence[str]) -> None:
        """Delete sources; those that are gone are skipped."""
        await self._removal.delete_many(instances)


def _sources_by_level(
    metadata: MetadataType, ids: Sequence[str], sources: Sequence[str]
) -> Mapping[ResourceLevel, Mapping[int, str]]:
    return {
        level: {metadata: source}
        for level, result, source in zip(ResourceLevel, ids, sources, strict=True)
        if result != source
    }

