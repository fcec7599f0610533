"""Reading resources: what the JSON of a resource shows, gathered in few reads of the index (level 4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.elements import Element
from orthanctw.dicom.header import Header, decode
from orthanctw.dicom.jsonforms import TagFormat
from orthanctw.dicom.maintags import COMPUTED_TAGS, MainTags
from orthanctw.errors import UnknownResource
from orthanctw.interfaces import IIndex
from orthanctw.model import Expanded, MetadataType, Resource, ResourceLevel, SeriesStatus, series_status
from orthanctw.settings import StorageAccess
from orthanctw.stability import StabilityMonitor
from orthanctw.storedwarnings import StoredWarnings


class Content:
    """Groups of fields of a resource's JSON (``response-content``), as bits: enumerations cost too much here."""

    MAIN_DICOM_TAGS: Final = 1
    METADATA: Final = 2
    CHILDREN: Final = 4
    PARENT: Final = 8
    LABELS: Final = 16
    STATUS: Final = 32
    IS_STABLE: Final = 64
    IS_PROTECTED: Final = 128
    ATTACHMENTS: Final = 256
    #: Fields at the root that older clients expect: LastUpdate, IndexInSeries, FileSize ...
    ROOT_FIELDS: Final = 512


#: What ``expand`` and a single resource show.
EXPANDED: Final = (
    Content.MAIN_DICOM_TAGS
    | Content.STATUS
    | Content.PARENT
    | Content.CHILDREN
    | Content.LABELS
    | Content.IS_STABLE
    | Content.IS_PROTECTED
    | Content.ROOT_FIELDS
)
CONTENT_NAMES: Mapping[str, int] = {
    "MainDicomTags": Content.MAIN_DICOM_TAGS,
    "Metadata": Content.METADATA,
    "Children": Content.CHILDREN,
    "Parent": Content.PARENT,
    "Labels": Content.LABELS,
    "Status": Content.STATUS,
    "IsStable": Content.IS_STABLE,
    "IsProtected": Content.IS_PROTECTED,
    "Attachments": Content.ATTACHMENTS,
}


@attrs.frozen(kw_only=True)
class Wanted:
    """What is to be shown of each resource, and in which format of tags."""

    content: int = EXPANDED
    requested_tags: tuple[int, ...] = ()
    format: TagFormat = TagFormat.SIMPLIFY


@attrs.frozen(kw_only=True)
class View:
    """One resource, ready to be serialised. `requested` are elements by tag, None for those that it lacks."""

    expanded: Expanded
    wanted: Wanted
    is_stable: bool
    status: SeriesStatus | None = None
    expected: int | None = None
    requested: Mapping[int, Element | None] = attrs.field(factory=dict)

    @property
    def resource(self) -> Resource:
        return self.expanded.resource


class Catalog:
    """Reads resources.

    Parameters
    ----------
    main_tags : MainTags
        Which tags the index keeps of each level.
    access : StorageAccess
        ``StorageAccessOnFind``: what stored headers may be read for, where the main tags do not suffice.
    """

    def __init__(
        self,
        index: IIndex,
        stability: StabilityMonitor,
        main_tags: MainTags,
        dictionary: Dictionary,
        *,
        access: StorageAccess = StorageAccess.ALWAYS,
        warnings: StoredWarnings | None = None,
    ) -> None:
        self.index = index
        self.access = access
        self.warnings = warnings or StoredWarnings()
        self.dictionary = dictionary
        self._stability = stability
        self._signatures = {level: main_tags.signature(level) for level in ResourceLevel}
        #: Tags of each level that the index keeps as text.
        self.stored_tags = {
            level: frozenset(tag for tag in main_tags.tags(level) if dictionary.vr(tag) != "SQ")
            for level in ResourceLevel
        }
        self.patient_tags = self.stored_tags[ResourceLevel.PATIENT]
        self.stored_tags[ResourceLevel.STUDY] |= self.patient_tags

    def knows(self, resource: Resource, tag: int) -> bool:
        """Whether the index would have the tag if the object had it, as it was told of it when it was stored."""
        return tag in self.stored_tags[resource.level] and self._signature(resource) == self._signatures[resource.level]

    @staticmethod
    def _signature(resource: Resource) -> str | None:
        """The main tags with which a resource was stored."""
        signature = resource.metadata.get(MetadataType.MAIN_DICOM_TAGS_SIGNATURE)
        return None if signature is None else signature.value

    async def view(self, level: ResourceLevel, public_id: str, wanted: Wanted) -> View | None:
        """One resource; None when it is unknown."""
        views = await self.views(level, (public_id,), wanted)
        return views[0] if views else None

    async def views(self, level: ResourceLevel, public_ids: Sequence[str], wanted: Wanted) -> list[View]:
        """Several resources in the order asked; unknown ones are left out."""
        content = wanted.content
        expanded = await self.index.expand(
            level,
            public_ids,
            children=bool(content & Content.CHILDREN),
            attachments=bool(content & Content.ATTACHMENTS)
            or (level is ResourceLevel.INSTANCE and bool(content & Content.ROOT_FIELDS)),
            indices=level is ResourceLevel.SERIES and bool(content & Content.STATUS),
        )
        requested: Mapping[str, Mapping[int, Element | None]] = {}
        if wanted.requested_tags:
            requested = await self._requested(level, expanded, wanted)
        return [self._view(item, wanted, requested.get(item.resource.public_id, {})) for item in expanded]

    def _view(self, expanded: Expanded, wanted: Wanted, requested: Mapping[int, Element | None]) -> View:
        resource = expanded.resource
        status = expected = None
        if resource.level is ResourceLevel.SERIES and wanted.content & Content.STATUS:
            metadata = resource.metadata.get(MetadataType.EXPECTED_NUMBER_OF_INSTANCES)
            expected = int(metadata.value) if metadata is not None and metadata.value.isdigit() else None
            status = series_status(expected, expanded.indices)
        return View(
            expanded=expanded,
            wanted=wanted,
            is_stable=self._stability.is_stable(resource.public_id),
            status=status,
            expected=expected,
            requested=requested,
        )

    # Requested tags

    async def _requested(
        self, level: ResourceLevel, expanded: Iterable[Expanded], wanted: Wanted
    ) -> dict[str, dict[int, Element | None]]:
        """The requested tags of each resource: counted, from the index, or from the header of one instance."""
        resources = [item.resource for item in expanded]
        values: dict[str, dict[int, Element | None]] = {resource.public_id: {} for resource in resources}
        missing: dict[str, list[int]] = {}
        self._warn_of_tags(level, wanted.requested_tags)
        for tag in wanted.requested_tags:
            if tag >> 16 == META_HEADER_GROUP:
                continue
            vr = self.dictionary.vr(tag)
            if tag in _COMPUTED:
                if tag in COMPUTED_TAGS[level]:
                    for resource in resources:
                        values[resource.public_id][tag] = (tag, vr, await self.computed(tag, resource))
                continue
            for resource in resources:
                value = resource.main_tags.get(tag)
                if value is not None:
                    values[resource.public_id][tag] = (tag, vr, value)
                elif self.knows(resource, tag):
                    values[resource.public_id][tag] = None
                else:
                    missing.setdefault(resource.public_id, []).append(tag)
        if missing:
            self._warn_of_resources(item for item in resources if item.public_id in missing)
            if self.access is StorageAccess.NEVER:
                await self._take_from_ancestors(level, missing, values)
            else:
                await self._take_from_headers(level, missing, values)
        return values

    async def _take_from_headers(
        self, level: ResourceLevel, missing: Mapping[str, Sequence[int]], values: dict[str, dict[int, Element | None]]
    ) -> None:
        stored = self.tags_at_or_above(ResourceLevel.INSTANCE)
        read = {tag for tags in missing.values() for tag in tags if tag not in stored}
        if read:
            self.warnings.tags_read(level.plural, read)
        headers = await self.any_headers(level, tuple(missing))
        for public_id, tags in missing.items():
            header = headers.get(public_id)
            for tag in tags:
                values[public_id][tag] = None if header is None else header.by_tag.get(tag)

    async def _take_from_ancestors(
        self, level: ResourceLevel, missing: Mapping[str, list[int]], values: dict[str, dict[int, Element | None]]
    ) -> None:
        for ancestor_level in reversed(tuple(ResourceLevel)[: level - 1]):
            stored = self.stored_tags[ancestor_level]
            ids = [public_id for public_id, tags in missing.items() if not stored.isdisjoint(tags)]
            ancestors: Mapping[str, Resource] = await self.index.ancestors(level, ids, ancestor_level)
            for public_id, ancestor in ancestors.items():
                for tag in stored.intersection(missing[public_id]):
                    value = ancestor.main_tags.get(tag)
                    values[public_id][tag] = None if value is None else (tag, self.dictionary.vr(tag), value)
        left = {tag for public_id, tags in missing.items() for tag in tags if tag not in values[public_id]}
        if left:
            self.warnings.tags_left_out(level.plural, left)

    def tags_at_or_above(self, level: ResourceLevel) -> frozenset[int]:
        """The tags that the index keeps of resources of a level and of those above."""
        return frozenset().union(*(self.stored_tags[item] for item in tuple(ResourceLevel)[:level]))

    def _warn_of_tags(self, level: ResourceLevel, tags: Sequence[int]) -> None:
        meta = [tag for tag in tags if tag >> 16 == META_HEADER_GROUP]
        if meta:
            self.warnings.tags_of_meta_header(meta)
        above = self.tags_at_or_above(level)
        stored = self.tags_at_or_above(ResourceLevel.INSTANCE)
        lower = [tag for tag in tags if tag in stored and tag not in above]
        if lower:
            self.warnings.tags_of_lower_levels(level.plural, lower)

    def _warn_of_resources(self, resources: Iterable[Resource]) -> None:
        for resource in resources:
            signature = self._signature(resource)
            if signature is None:
                self.warnings.no_signature(resource.level.plural, resource.public_id)
            elif signature != self._signatures[resource.level]:
                self.warnings.inconsistent_tags(resource.level.plural, resource.public_id)

    async def compared_headers(self, level: ResourceLevel, public_ids: Sequence[str]) -> dict[str, Header]:
        """As `any_headers`, to search in; empty unless ``StorageAccessOnFind`` allows that."""
        return await self.any_headers(level, public_ids) if self.access is StorageAccess.ALWAYS else {}

    async def any_headers(self, level: ResourceLevel, public_ids: Sequence[str]) -> dict[str, Header]:
        """The decoded header of one instance of each resource, by the resource's id."""
        instances: dict[str, str] = {}
        if level is ResourceLevel.INSTANCE:
            instances = {public_id: public_id for public_id in public_ids}
        else:
            for public_id in public_ids:
                instance = await self.index.first_instance(level, public_id)
                if instance is not None:
                    instances[public_id] = instance
        stored = await self.index.headers(tuple(instances.values()))
        return {
            public_id: decode(stored[instance]) for public_id, instance in instances.items() if instance in stored
        }

    async def header(self, public_id: str) -> Header:
        """The decoded header of an instance. UnknownResource when there is none."""
        stored = await self.index.header(public_id)
        if stored is None:
            raise UnknownResource()
        return decode(stored)

    async def computed(self, tag: int, resource: Resource) -> str:
        """A tag that is counted or gathered, not stored (``ModalitiesInStudy`` ...)."""
        level, public_id = resource.level, resource.public_id
        counted = _COUNTED.get(tag)
        if counted is not None:
            children = await self.index.children(level, public_id, counted)
            return str(len(children or ()))
        if tag == MODALITIES_IN_STUDY:
            series = await self.index.children_resources(level, public_id, ResourceLevel.SERIES)
            return _joined(item.main_tags.get(_MODALITY) for item in series or ())
        if tag == SOP_CLASSES_IN_STUDY:
            instances = await self.index.children_resources(level, public_id, ResourceLevel.INSTANCE)
            classes = (item.metadata.get(MetadataType.SOP_CLASS_UID) for item in instances or ())
            return _joined(value.value for value in classes if value is not None)
        return "ONLINE"


META_HEADER_GROUP = 0x0002
_COMPUTED = frozenset(tag for tags in COMPUTED_TAGS.values() for tag in tags)
_MODALITY = 0x00080060
MODALITIES_IN_STUDY = 0x00080061
SOP_CLASSES_IN_STUDY = 0x00080062
_COUNTED = {
    0x00201200: ResourceLevel.STUDY,
    0x00201202: ResourceLevel.SERIES,
    0x00201204: ResourceLevel.INSTANCE,
    0x00201206: ResourceLevel.SERIES,
    0x00201208: ResourceLevel.INSTANCE,
    0x00201209: ResourceLevel.INSTANCE,
}


def _joined(values: Iterable[str | None]) -> str:
    return "\\".join(sorted({value for value in values if value}))
