"""Which instances an archive is about, grouped by series."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

import attrs

from orthanctw.errors import UnknownResource
from orthanctw.interfaces import IIndex
from orthanctw.model import Attachment, AttachmentType, MetadataType, Resource, ResourceLevel

_INSTANCE_NUMBER: Final = 0x00200013
_SOP_INSTANCE_UID: Final = 0x00080018
#: Instances whose rows are in memory at a time.
_BATCH: Final = 1000


@attrs.frozen(kw_only=True)
class Instance:
    """What an archive must know of an instance. `received` is ``yyyymmddThhmmss``, in UTC."""

    public_id: str
    number: int | None
    received: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    attachment: Attachment


@attrs.frozen(kw_only=True)
class Group:
    """The instances of one series, in the order of their InstanceNumber."""

    patient: Resource
    study: Resource
    series: Resource
    instances: Sequence[Instance]


async def select(index: IIndex, public_ids: Sequence[str]) -> list[Group]:
    """What lies at and below resources of any level, each instance once; a patient's and a study's groups together.

    Raises UnknownResource for a resource that is not there.
    """
    wanted = await _series_of(index, tuple(dict.fromkeys(public_ids)))
    series = await _by_id(index, ResourceLevel.SERIES, wanted)
    studies = await _by_id(index, ResourceLevel.STUDY, _parents(series.values()))
    patients = await _by_id(index, ResourceLevel.PATIENT, _parents(studies.values()))
    groups = []
    for item in series.values():
        study = studies.get(item.parent_id or "")
        patient = None if study is None else patients.get(study.parent_id or "")
        if study is None or patient is None:
            raise UnknownResource("A resource was deleted meanwhile")
        instances = await _instances(index, item.public_id, wanted[item.public_id])
        groups.append(Group(patient=patient, study=study, series=item, instances=instances))
    patient_order = _order(group.patient.public_id for group in groups)
    study_order = _order(group.study.public_id for group in groups)
    return sorted(groups, key=lambda g: (patient_order[g.patient.public_id], study_order[g.study.public_id]))


def _order(ids: Iterable[str]) -> dict[str, int]:
    order: dict[str, int] = {}
    for public_id in ids:
        order.setdefault(public_id, len(order))
    return order


def _parents(resources: Iterable[Resource]) -> dict[str, None]:
    return dict.fromkeys(resource.parent_id or "" for resource in resources)


async def _by_id(index: IIndex, level: ResourceLevel, public_ids: Iterable[str]) -> dict[str, Resource]:
    found: Sequence[Resource] = await index.resources(level, tuple(public_ids))
    return {resource.public_id: resource for resource in found}


async def find(index: IIndex, public_ids: Sequence[str]) -> dict[str, Resource]:
    """Resources of any level, in the order asked. UnknownResource for one that is not there."""
    known: dict[str, Resource] = {}
    for level in ResourceLevel:
        left = [public_id for public_id in public_ids if public_id not in known]
        if left:
            known |= await _by_id(index, level, left)
    try:
        return {public_id: known[public_id] for public_id in public_ids}
    except KeyError:
        raise UnknownResource() from None


async def _series_of(index: IIndex, public_ids: Sequence[str]) -> dict[str, list[str] | None]:
    """The series that resources belong to or consist of, with the instances that are asked for, None for all."""
    wanted: dict[str, list[str] | None] = {}
    for public_id, resource in (await find(index, public_ids)).items():
        if resource.level is ResourceLevel.INSTANCE:
            some = wanted.setdefault(resource.parent_id or "", [])
            if some is not None:
                some.append(public_id)
        elif resource.level is ResourceLevel.SERIES:
            wanted[public_id] = None
        else:
            children: Sequence[str] | None = await index.children(resource.level, public_id, ResourceLevel.SERIES)
            wanted |= dict.fromkeys(children or ())
    return wanted


async def _instances(index: IIndex, series: str, some: Sequence[str] | None) -> list[Instance]:
    ids: Sequence[str] | None = some
    if ids is None:
        ids = await index.children(ResourceLevel.SERIES, series, ResourceLevel.INSTANCE)
    chosen: list[Instance] = []
    left = iter(ids or ())
    while batch := tuple(islice(left, _BATCH)):
        resources: Sequence[Resource] = await index.resources(ResourceLevel.INSTANCE, batch)
        attachments = await index.instance_attachments(batch)
        for resource in resources:
            attachment = attachments.get(resource.public_id, {}).get(AttachmentType.DICOM)
            if attachment is not None:
                chosen.append(_instance(resource, attachment))
    return sorted(chosen, key=lambda item: (item.number is None, item.number or 0))


def _instance(resource: Resource, attachment: Attachment) -> Instance:
    def metadata(number: MetadataType) -> str:
        value = resource.metadata.get(number)
        return "" if value is None else value.value

    return Instance(
        public_id=resource.public_id,
        number=_number(resource.main_tags.get(_INSTANCE_NUMBER)),
        received=metadata(MetadataType.RECEPTION_DATE),
        sop_class_uid=metadata(MetadataType.SOP_CLASS_UID),
        sop_instance_uid=resource.main_tags.get(_SOP_INSTANCE_UID, ""),
        transfer_syntax=metadata(MetadataType.TRANSFER_SYNTAX),
        attachment=attachment,
    )


def _number(text: str | None) -> int | None:
    # Not more than IS allows: Python refuses to read numbers of thousands of digits.
    try:
        return int(text[:12]) if text else None
    except ValueError:
        return None
