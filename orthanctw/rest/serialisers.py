"""From values of the domain to JSON values: one function for each kind of value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from orthanctw.catalog import Catalog, Content, View, Wanted
from orthanctw.dicom.dictionary import Dictionary, format_tag
from orthanctw.dicom.elements import Element
from orthanctw.dicom.jsonforms import FormOptions, TagFormat, form_of
from orthanctw.dicom.maintags import DEFAULT_MAIN_TAGS
from orthanctw.ingest import Ingested
from orthanctw.model import (
    Attachment,
    Change,
    ExportedResource,
    MetadataType,
    ResourceLevel,
    Statistics,
)

_CHILDREN = {
    ResourceLevel.PATIENT: "Studies",
    ResourceLevel.STUDY: "Series",
    ResourceLevel.SERIES: "Instances",
}
_PARENT = {
    ResourceLevel.STUDY: "ParentPatient",
    ResourceLevel.SERIES: "ParentStudy",
    ResourceLevel.INSTANCE: "ParentSeries",
}
_MEGABYTE = 1024 * 1024
#: Resources that are made into JSON at once.
_BATCH = 100


class ResourceSerialiser:
    """JSON of resources.

    Parameters
    ----------
    patient_tags : collection of int
        Main tags of the patient; a study keeps them too.
    metadata_name : callable
        Names of metadata by number, those of the configuration included.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        metadata_name: Callable[[int], str],
        patient_tags: Collection[int] = DEFAULT_MAIN_TAGS[ResourceLevel.PATIENT],
    ) -> None:
        self._dictionary = dictionary
        self._options = FormOptions(dictionary=dictionary, maximum_length=0)
        self._patient_tags = frozenset(patient_tags)
        self._metadata_name = metadata_name

    async def resources(
        self, catalog: Catalog, level: ResourceLevel, ids: Sequence[str], wanted: Wanted
    ) -> list[dict[str, Any]]:
        """Several of them, a few between two turns of the reactor; unknown ones are left out."""
        items: list[dict[str, Any]] = []
        for start in range(0, len(ids), _BATCH):
            views = await catalog.views(level, ids[start : start + _BATCH], wanted)
            items += map(self.resource, views)
        return items

    def resource(self, view: View) -> dict[str, Any]:
        """A patient, study, series or instance with the groups of fields that were wanted."""
        resource, content = view.resource, view.wanted.content
        level = resource.level
        result: dict[str, Any] = {"ID": resource.public_id, "Type": level.title}
        if content & Content.MAIN_DICOM_TAGS:
            self._add_main_tags(result, view)
        if content & Content.PARENT and resource.parent_id is not None:
            result[_PARENT[level]] = resource.parent_id
        if content & Content.CHILDREN and level is not ResourceLevel.INSTANCE:
            result[_CHILDREN[level]] = view.expanded.children
        if content & Content.LABELS:
            result["Labels"] = resource.labels
        if content & Content.IS_STABLE and level is not ResourceLevel.INSTANCE:
            result["IsStable"] = view.is_stable
        if content & Content.IS_PROTECTED and level is ResourceLevel.PATIENT:
            result["IsProtected"] = resource.is_protected
        if view.status is not None:
            result["Status"] = view.status.value
            result["ExpectedNumberOfInstances"] = view.expected
        if content & Content.METADATA:
            result["Metadata"] = {
                self._metadata_name(number): item.value for number, item in resource.metadata.items()
            }
        if content & Content.ATTACHMENTS:
            result["Attachments"] = [attachment(item) for item in view.expanded.attachments.values()]
        if content & Content.ROOT_FIELDS:
            _add_root_fields(result, view)
        if view.wanted.requested_tags:
            result["RequestedTags"] = self._requested(view.requested, view.wanted.format)
        return result

    def _add_main_tags(self, result: dict[str, Any], view: View) -> None:
        resource, form = view.resource, view.wanted.format
        if resource.level is not ResourceLevel.STUDY:
            result["MainDicomTags"] = self._tags(resource.main_tags, form)
            return
        own: dict[int, str] = {}
        of_patient: dict[int, str] = {}
        for tag, value in resource.main_tags.items():
            (of_patient if tag in self._patient_tags else own)[tag] = value
        result["MainDicomTags"] = self._tags(own, form)
        result["PatientMainDicomTags"] = self._tags(of_patient, form)

    def _tags(self, tags: Mapping[int, str], form: TagFormat) -> dict[str, Any]:
        if form is TagFormat.SIMPLIFY:
            name = self._dictionary.name
            return {name(tag, None): value for tag, value in tags.items()}
        elements = [(tag, self._dictionary.vr(tag), value) for tag, value in sorted(tags.items())]
        return form_of(elements, form, self._options)

    def _requested(self, requested: Mapping[int, Element | None], form: TagFormat) -> dict[str, Any]:
        found = [element for _, element in sorted(requested.items()) if element is not None]
        result = form_of(found, form, self._options)
        for tag, element in requested.items():
            if element is None:
                result[self._dictionary.name(tag, None) if form is TagFormat.SIMPLIFY else format_tag(tag)] = None
        return result


def _add_root_fields(result: dict[str, Any], view: View) -> None:
    resource = view.resource
    metadata = resource.metadata
    for kind, name in ((MetadataType.MODIFIED_FROM, "ModifiedFrom"), (MetadataType.ANONYMIZED_FROM, "AnonymizedFrom")):
        if kind in metadata:
            result[name] = metadata[kind].value
    if resource.level is not ResourceLevel.INSTANCE:
        if MetadataType.LAST_UPDATE in metadata:
            result["LastUpdate"] = metadata[MetadataType.LAST_UPDATE].value
        return
    index = metadata.get(MetadataType.INDEX_IN_SERIES)
    if index is not None:
        try:
            result["IndexInSeries"] = int(index.value)
        except ValueError:
            result["IndexInSeries"] = None
    dicom = view.expanded.attachments.get(1)
    if dicom is not None:
        result["FileSize"] = dicom.size
        result["FileUuid"] = dicom.uuid


def attachment(item: Attachment) -> dict[str, Any]:
    """What the index knows of a file."""
    return {
        "CompressedMD5": item.compressed_md5,
        "CompressedSize": item.compressed_size,
        "ContentType": item.content_type,
        "UncompressedMD5": item.md5,
        "UncompressedSize": item.size,
        "Uuid": item.uuid,
    }


def ingested(result: Ingested) -> dict[str, Any]:
    """The answer to an upload."""
    return {
        "ID": result.instance,
        "ParentPatient": result.patient,
        "ParentSeries": result.series,
        "ParentStudy": result.study,
        "Path": f"/instances/{result.instance}",
        "Status": result.status.value,
    }


def reference(level: ResourceLevel, public_id: str) -> dict[str, str]:
    """Where a resource is found."""
    return {"ID": public_id, "Path": f"/{level.plural}/{public_id}", "Type": level.title}


def change(item: Change) -> dict[str, Any]:
    """An entry of ``/changes``."""
    return {
        "ChangeType": item.change_type.title,
        "Date": item.date,
        "ID": item.public_id,
        "Path": f"/{item.level.plural}/{item.public_id}",
        "ResourceType": item.level.title,
        "Seq": item.seq,
    }


def exported(item: ExportedResource) -> dict[str, Any]:
    """An entry of ``/exports``, with the DICOM identifiers of its level."""
    result: dict[str, Any] = {
        "Date": item.date,
        "ID": item.public_id,
        "Path": f"/{item.level.plural}/{item.public_id}",
        "RemoteModality": item.remote_modality,
        "ResourceType": item.level.title,
        "Seq": item.seq,
    }
    identifiers = (
        ("PatientID", item.patient_id),
        ("StudyInstanceUID", item.study_instance_uid),
        ("SeriesInstanceUID", item.series_instance_uid),
        ("SOPInstanceUID", item.sop_instance_uid),
    )
    result.update(identifiers[: item.level])
    return result


def log_entries(
    name: str, items: Iterable[Mapping[str, Any]], done: bool, last: int
) -> dict[str, Any]:
    """The envelope of ``/changes`` and ``/exports``; `last` is used when the list is empty."""
    entries = list(items)
    result: dict[str, Any] = {name: entries, "Done": done, "Last": entries[-1]["Seq"] if entries else last}
    if entries:
        result["First"] = entries[0]["Seq"]
    return result


def sizes(prefix: str, values: Mapping[str, int]) -> dict[str, Any]:
    """Sizes as text in bytes, beside whole megabytes."""
    result: dict[str, Any] = {}
    for name, size in values.items():
        result[f"{prefix}{name}"] = str(size)
        result[f"{prefix}{name}MB"] = size // _MEGABYTE
    return result


def system_statistics(statistics: Statistics) -> dict[str, Any]:
    """``/statistics``."""
    return {
        "CountInstances": statistics.instances,
        "CountPatients": statistics.patients,
        "CountSeries": statistics.series,
        "CountStudies": statistics.studies,
        **sizes("Total", {"DiskSize": statistics.disk_size, "UncompressedSize": statistics.uncompressed_size}),
    }


def resource_statistics(level: ResourceLevel, statistics: Statistics) -> dict[str, Any]:
    """``/{level}/{id}/statistics``: counts of the levels below."""
    counts = (
        ("CountStudies", statistics.studies),
        ("CountSeries", statistics.series),
        ("CountInstances", statistics.instances),
    )
    return {
        **dict(counts[level - 1 :]),
        **sizes(
            "",
            {
                "DicomDiskSize": statistics.dicom_disk_size,
                "DicomUncompressedSize": statistics.dicom_uncompressed_size,
                "DiskSize": statistics.disk_size,
                "UncompressedSize": statistics.uncompressed_size,
            },
        ),
    }
