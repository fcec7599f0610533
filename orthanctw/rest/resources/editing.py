"""Modification and anonymisation: single instances as files, everything above and many resources by jobs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.editing.modification import Modification
from orthanctw.dicom.editing.parsing import implied_level, parse_anonymization, parse_modification
from orthanctw.editing import Editing
from orthanctw.errors import BadFileFormat, ParameterOutOfRange, UnknownResource
from orthanctw.interfaces import IStorageArea
from orthanctw.jobs.kinds.modification import KEY_LENGTH, MODIFICATION, editing_parameters
from orthanctw.model import ResourceLevel
from orthanctw.rest.arguments import JOB, RESOURCES
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import DICOM, Argument, Body, route
from orthanctw.rest.reply import Reply
from orthanctw.rest.resources.browsing import level_of
from orthanctw.rest.resources.modalities import needed_object
from orthanctw.rest.submission import Submission

_COMMON: Final = (
    Argument("Replace", "object", "New values by tag, or by path to a tag: text, or arrays of objects for sequences"),
    Argument("Remove", "strings", "Tags, or paths to tags, that go"),
    Argument("Keep", "strings", "Tags that stay as they are"),
    Argument("KeepSource", "boolean", "Whether the source stays; true by default"),
    Argument("KeepLabels", "boolean", "Whether the result bears the labels of the source"),
    Argument("Force", "boolean", "Allow identifiers in Replace and Keep"),
    Argument("PrivateCreator", "string", "Creator of the private tags in Replace"),
    Argument("Transcode", "string", "UID of the transfer syntax of the result"),
    Argument("LossyQuality", "quality", "Quality of lossy compression, if it comes to that"),
)
_MODIFY: Final = (*_COMMON, Argument("RemovePrivateTags", "boolean", "Whether private tags go that are not in Keep"))
_ANONYMIZE: Final = (
    *_COMMON,
    Argument(
        "DicomVersion",
        "string",
        "Year of the profile (PS3.15 annex E)",
        values=("2008", "2017c", "2021b", "2023b"),
    ),
    Argument("KeepPrivateTags", "boolean", "Whether private tags stay"),
)
_LEVEL: Final = Argument(
    "Level",
    "string",
    "What is modified: identifiers of this level and below become new ones",
    values=tuple(level.title for level in ResourceLevel),
)
_WITH_JOBS: Final = tuple(level.plural for level in ResourceLevel if level is not ResourceLevel.INSTANCE)
_MODIFY_PATHS: Final = tuple(f"/{plural}/<id>/modify" for plural in _WITH_JOBS)
_ANONYMIZE_PATHS: Final = tuple(f"/{plural}/<id>/anonymize" for plural in _WITH_JOBS)


class EditingRoutes:
    """Changing objects into new ones.

    Parameters
    ----------
    private_creator : str
        ``DefaultPrivateCreator``.
    """

    def __init__(
        self,
        editing: Editing,
        storage: IStorageArea,
        submission: Submission,
        dictionary: Dictionary,
        *,
        private_creator: str,
    ) -> None:
        self._editing = editing
        self._storage = storage
        self._dictionary = dictionary
        self._submission = submission
        self._private_creator = private_creator

    @route("POST", "/instances/<id>/modify", body=Body(fields=_MODIFY), answers=(DICOM,))
    async def modify_instance(self, call: Call) -> Reply:
        """A modified instance as a file; nothing is stored."""
        body = await needed_object(call)
        body.pop("Level", None)
        return await self._edited(call["id"], self._modification(body, implied_level(body, self._dictionary)))

    @route("POST", "/instances/<id>/anonymize", body=Body(fields=_ANONYMIZE), answers=(DICOM,))
    async def anonymize_instance(self, call: Call) -> Reply:
        """An anonymised instance as a file; nothing is stored."""
        return await self._edited(call["id"], self._anonymization(await needed_object(call)))

    @route("POST", *_MODIFY_PATHS, body=Body(fields=(*_MODIFY, *JOB)))
    async def modify(self, call: Call) -> Reply:
        """Make a modified copy of a resource, as a job."""
        body = await needed_object(call)
        level = level_of(call)
        return await self._submit_one(call, body, self._modification(body, level), level)

    @route("POST", *_ANONYMIZE_PATHS, body=Body(fields=(*_ANONYMIZE, *JOB)))
    async def anonymize(self, call: Call) -> Reply:
        """Make an anonymised copy of a resource, as a job."""
        body = await needed_object(call)
        return await self._submit_one(call, body, self._anonymization(body), level_of(call))

    @route("POST", "/tools/bulk-modify", body=Body(fields=(RESOURCES, _LEVEL, *_MODIFY, *JOB)))
    async def modify_many(self, call: Call) -> Reply:
        """Make modified copies of resources of any level, as one job."""
        body = await needed_object(call)
        resources = listed(body, "Resources", needed=True)
        modification = self._modification(body, implied_level(body, self._dictionary))
        return await self._submit(call, body, modification, await self._found(resources), None)

    @route("POST", "/tools/bulk-anonymize", body=Body(fields=(RESOURCES, *_ANONYMIZE, *JOB)))
    async def anonymize_many(self, call: Call) -> Reply:
        """Make anonymised copies of resources of any level, as one job."""
        body = await needed_object(call)
        resources = listed(body, "Resources", needed=True)
        return await self._submit(call, body, self._anonymization(body), await self._found(resources), None)

    def _modification(self, body: Mapping[str, Any], level: ResourceLevel) -> Modification:
        return parse_modification(body, level, self._dictionary, private_creator=self._private_creator)

    def _anonymization(self, body: Mapping[str, Any]) -> Modification:
        # Whatever is anonymised, it is so as that of another patient.
        level = ResourceLevel.PATIENT
        return parse_anonymization(body, level, self._dictionary, private_creator=self._private_creator)

    async def _edited(self, public_id: str, modification: Modification) -> Reply:
        item = (await self._editing.objects([public_id])).get(public_id)
        if item is None:
            raise ParameterOutOfRange("There is no such instance")
        named = await self._editing.named(modification)
        edited = await self._editing.edit(item, named, secrets.token_bytes(KEY_LENGTH))
        if isinstance(edited.content, bytes):
            return Reply(edited.content, DICOM)
        try:
            await edited.content.flush()
            reader = await self._storage.call(edited.content.reader_blocking)
        finally:
            await edited.discard()
        return Reply(content_type=DICOM, reader=reader)

    async def _submit_one(
        self, call: Call, body: Mapping[str, Any], modification: Modification, level: ResourceLevel
    ) -> Reply:
        if await self._editing.level_of(call["id"]) is not level:
            raise ParameterOutOfRange("There is no such resource")
        return await self._submit(call, body, modification, [(level, call["id"])], level)

    async def _found(self, public_ids: Sequence[str]) -> list[tuple[ResourceLevel, str]]:
        found = []
        for public_id in dict.fromkeys(public_ids):
            level = await self._editing.level_of(public_id)
            if level is None:
                raise UnknownResource("There is no such resource")
            found.append((level, public_id))
        return found

    async def _submit(
        self,
        call: Call,
        body: Mapping[str, Any],
        modification: Modification,
        resources: Sequence[tuple[ResourceLevel, str]],
        shown: ResourceLevel | None,
    ) -> Reply:
        """Submit a job; `shown` is the level of the one resource that it is about, None for a list."""
        instances = await self._editing.instances(resources)
        await self._editing.check(modification, resources, instances)
        named = await self._editing.named(modification)
        parameters = editing_parameters(instances, named, resources, call.origin)
        return await self._submission.submit(MODIFICATION, {**parameters, "Level": shown}, body, synchronous=True)


def listed(body: Mapping[str, Any], name: str, *, needed: bool = False) -> list[str]:
    """A field with identifiers. BadFileFormat when it is something else, or is `needed` and missing."""
    values: list[Any] = field(body, name, list, [], BadFileFormat)
    if (needed and name not in body) or not all(isinstance(value, str) for value in values):
        raise BadFileFormat(f"Field {name} must be an array of strings")
    return values
