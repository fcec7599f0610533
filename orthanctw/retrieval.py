"""Which objects a C-MOVE, a C-GET or a transfer is about, ready to be sent (level 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from orthanctw.catalog import Catalog
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.scuqueries import (
    ACCESSION_NUMBER,
    PATIENT_ID,
    QUERY_RETRIEVE_LEVEL,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
)
from orthanctw.errors import BadRequest, UnknownResource
from orthanctw.identifiers import normalize_identifier
from orthanctw.interfaces import IIndex
from orthanctw.model import Attachment, AttachmentType, Constraint, MetadataType, Resource, ResourceLevel
from orthanctw.querying import LEVELS, text_of

_INSTANCE_NUMBER: Final = 0x00200013
_SOP_CLASS_UID: Final = 0x00080016
#: Unique keys, from the lowest level upwards (PS3.4 section C.6).
_UNIQUE_KEYS: Final = (
    (ResourceLevel.INSTANCE, SOP_INSTANCE_UID),
    (ResourceLevel.SERIES, SERIES_INSTANCE_UID),
    (ResourceLevel.STUDY, STUDY_INSTANCE_UID),
    (ResourceLevel.PATIENT, PATIENT_ID),
)


@attrs.frozen(kw_only=True)
class StoredObject:
    """An instance, and what a transfer must know of it. `number` is its InstanceNumber."""

    public_id: str
    series: str
    number: int | None
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    attachment: Attachment


class Retrieval:
    """Finds stored objects."""

    def __init__(self, index: IIndex, catalog: Catalog) -> None:
        self._index = index
        self._catalog = catalog

    async def requested(self, identifier: Elements) -> list[StoredObject]:
        """The objects that the identifier of a C-MOVE or C-GET names.

        The unique key of the level, or AccessionNumber for studies, each maybe a list; keys above narrow it down.
        Raises BadRequest when the level is unknown or has no key, or when nothing matches, as Orthanc does.
        """
        level, tag, values = _key(identifier)
        constraints = [_constraint(level, tag, values)]
        for upper_level, upper_tag in _UNIQUE_KEYS:
            upper = _values(identifier, upper_tag)
            if upper_level < level and upper:
                constraints.append(_constraint(upper_level, upper_tag, upper))
        candidates: Sequence[Resource] = await self._index.candidates(level, constraints)
        # The index compares in normalised form.
        found = [resource for resource in candidates if resource.main_tags.get(tag, "").strip(" ") in values]
        objects = await self.below([(resource.level, resource.public_id) for resource in found])
        if not objects:
            raise BadRequest("Nothing matches the identifier")
        return objects

    async def of_ids(self, public_ids: Sequence[str]) -> list[StoredObject]:
        """The objects at and below resources of any level. Raises UnknownResource for one that is not there."""
        resources = []
        for public_id in public_ids:
            level = await self._index.lookup_level(public_id)
            if level is None:
                raise UnknownResource()
            resources.append((level, public_id))
        return await self.below(resources)

    async def below(self, resources: Sequence[tuple[ResourceLevel, str]]) -> list[StoredObject]:
        """The objects of resources, each once, grouped by series, in the order of their InstanceNumber."""
        ids: dict[str, None] = {}
        for level, public_id in resources:
            if level is ResourceLevel.INSTANCE:
                ids[public_id] = None
            else:
                children: Sequence[str] | None = await self._index.children(level, public_id, ResourceLevel.INSTANCE)
                ids.update(dict.fromkeys(children or ()))
        instances: Sequence[Resource] = await self._index.resources(ResourceLevel.INSTANCE, tuple(ids))
        attachments = await self._index.instance_attachments(tuple(ids))
        objects = []
        for instance in instances:
            attachment = attachments.get(instance.public_id, {}).get(AttachmentType.DICOM)
            if attachment is not None:
                objects.append(await self._object(instance, attachment))
        first: dict[str, int] = {}
        for place, item in enumerate(objects):
            first.setdefault(item.series, place)
        return sorted(objects, key=lambda item: (first[item.series], item.number is None, item.number or 0))

    async def _object(self, instance: Resource, attachment: Attachment) -> StoredObject:
        sop_class = instance.metadata.get(MetadataType.SOP_CLASS_UID)
        syntax = instance.metadata.get(MetadataType.TRANSFER_SYNTAX)
        if sop_class is None or syntax is None:
            header = await self._catalog.header(instance.public_id)
            texts = (header.text(_SOP_CLASS_UID) or "", header.transfer_syntax)
        else:
            texts = (sop_class.value, syntax.value)
        return StoredObject(
            public_id=instance.public_id,
            series=instance.parent_id or "",
            number=_number(instance.main_tags.get(_INSTANCE_NUMBER)),
            sop_class_uid=texts[0],
            sop_instance_uid=instance.main_tags.get(SOP_INSTANCE_UID, ""),
            transfer_syntax=texts[1],
            attachment=attachment,
        )


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _values(identifier: Elements, tag: int) -> tuple[str, ...]:
    text = text_of(identifier, tag)
    return tuple(item for part in text.split("\\") if (item := part.strip(" "))) if text else ()


def _key(identifier: Elements) -> tuple[ResourceLevel, int, tuple[str, ...]]:
    level_text = text_of(identifier, QUERY_RETRIEVE_LEVEL)
    level = LEVELS.get(level_text.upper())
    if level is None and level_text:
        raise BadRequest("QueryRetrieveLevel is unknown")
    for key_level, tag in _UNIQUE_KEYS:
        values = _values(identifier, tag)
        if values and level in (None, key_level):
            return key_level, tag, values
    accession = _values(identifier, ACCESSION_NUMBER)
    if accession and level in (None, ResourceLevel.STUDY):
        return ResourceLevel.STUDY, ACCESSION_NUMBER, accession
    raise BadRequest("The key of the level is missing")


def _constraint(level: ResourceLevel, tag: int, values: Sequence[str]) -> Constraint:
    return Constraint(tag=tag, level=level, equal=tuple(normalize_identifier(value) for value in values))
