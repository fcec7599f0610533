"""``/studies/{id}/split`` and ``/studies/{id}/merge``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from orthanctw.catalog import Catalog
from orthanctw.dicom.editing.modification import Modification
from orthanctw.editing import Editing
from orthanctw.errors import BadFileFormat, BadRequest, UnknownResource
from orthanctw.identifiers import generate_uid
from orthanctw.jobs.kinds.modification import editing_parameters
from orthanctw.jobs.kinds.splitting import MERGE, SPLIT
from orthanctw.model import ResourceLevel
from orthanctw.rest.arguments import JOB
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import Argument, Body, route
from orthanctw.rest.reply import Reply
from orthanctw.rest.resources.editing import listed
from orthanctw.rest.resources.modalities import needed_object
from orthanctw.rest.submission import Submission
from orthanctw.splitting import merge_modification, split_modification

_KEEP_SOURCE: Final = Argument("KeepSource", "boolean", "Whether the source stays; false by default")
_SPLIT: Final = (
    Argument("Series", "strings", "Series that leave the study"),
    Argument("Instances", "strings", "Instances that leave the study"),
    Argument("Replace", "object", "New texts by tag, of the modules of patient and study"),
    Argument("Remove", "strings", "Tags of these modules that go"),
    _KEEP_SOURCE,
    Argument("KeepLabels", "boolean", "Whether the results bear the labels of their sources"),
    *JOB,
)
_MERGE: Final = (
    Argument("Resources", "strings", "Studies, series and instances that come into the study", required=True),
    _KEEP_SOURCE,
    *JOB,
)
_MERGED: Final = (ResourceLevel.STUDY, ResourceLevel.SERIES, ResourceLevel.INSTANCE)
_Resources = Sequence[tuple[ResourceLevel, str]]


class SplittingRoutes:
    """Moving series and instances from one study to another. The new ones have identifiers of their own."""

    def __init__(self, editing: Editing, catalog: Catalog, submission: Submission) -> None:
        self._editing = editing
        self._catalog = catalog
        self._submission = submission

    @route("POST", "/studies/<id>/split", body=Body(fields=_SPLIT))
    async def split(self, call: Call) -> Reply:
        """Make a new study of some series or instances of a study, as a job."""
        body = await needed_object(call)
        await self._check_study(call["id"])
        resources = [
            *((ResourceLevel.SERIES, public_id) for public_id in listed(body, "Series")),
            *((ResourceLevel.INSTANCE, public_id) for public_id in listed(body, "Instances")),
        ]
        if not resources:
            raise BadRequest("Series or Instances are needed")
        for level, public_id in resources:
            if await self._study_of(level, public_id) != call["id"]:
                raise UnknownResource("Series and Instances must belong to the study")
        study_uid = generate_uid(ResourceLevel.STUDY)
        modification = split_modification(
            study_uid,
            self._replacements(body),
            [self._catalog.dictionary.parse(name) for name in listed(body, "Remove")],
            keep_source=field(body, "KeepSource", bool, False, BadFileFormat),
            keep_labels=field(body, "KeepLabels", bool, False, BadFileFormat),
        )
        return await self._submit(call, SPLIT, body, resources, modification, TargetStudyUID=study_uid)

    @route("POST", "/studies/<id>/merge", body=Body(fields=_MERGE))
    async def merge(self, call: Call) -> Reply:
        """Bring other studies, series or instances into a study, as a job."""
        body = await needed_object(call)
        await self._check_study(call["id"])
        resources = []
        for public_id in listed(body, "Resources", needed=True):
            level = await self._editing.level_of(public_id)
            if level not in _MERGED:
                raise UnknownResource("Studies, series and instances can be merged")
            if await self._study_of(level, public_id) == call["id"]:
                raise UnknownResource("A resource belongs to the study already")
            resources.append((level, public_id))
        headers = await self._catalog.any_headers(ResourceLevel.STUDY, [call["id"]])
        if call["id"] not in headers:
            raise UnknownResource("There is no such study")
        modification = merge_modification(
            headers[call["id"]].by_tag, keep_source=field(body, "KeepSource", bool, False, BadFileFormat)
        )
        return await self._submit(call, MERGE, body, resources, modification, TargetStudy=call["id"])

    async def _check_study(self, public_id: str) -> None:
        if await self._editing.level_of(public_id) is not ResourceLevel.STUDY:
            raise UnknownResource("There is no such study")

    async def _study_of(self, level: ResourceLevel, public_id: str) -> str | None:
        if level is ResourceLevel.STUDY:
            return public_id
        study = await self._catalog.index.ancestor(level, public_id, ResourceLevel.STUDY)
        return None if study is None else str(study.public_id)

    def _replacements(self, body: Mapping[str, Any]) -> dict[int, str]:
        values = field(body, "Replace", dict, {}, BadFileFormat)
        if not all(isinstance(value, str) for value in values.values()):
            raise BadFileFormat("Values in Replace must be strings")
        return {self._catalog.dictionary.parse(name): value for name, value in values.items()}

    async def _submit(
        self,
        call: Call,
        kind: str,
        body: Mapping[str, Any],
        resources: _Resources,
        modification: Modification,
        **target: str,
    ) -> Reply:
        instances = await self._editing.instances(resources)
        await self._editing.check_distinct(modification, instances)
        parameters = editing_parameters(instances, modification, resources, call.origin)
        return await self._submission.submit(kind, {**parameters, **target}, body, synchronous=True)
