"""``/tools/bulk-content`` and ``/tools/bulk-delete``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from orthanctw.bulk import Bulk
from orthanctw.catalog import EXPANDED, Content, Wanted
from orthanctw.dicom.jsonforms import TagFormat
from orthanctw.errors import BadFileFormat, ParameterOutOfRange
from orthanctw.model import ResourceLevel
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import TEXT, Argument, Body, route
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.reply import EMPTY, Reply
from orthanctw.rest.serialisers import ResourceSerialiser

_field = partial(field, error=BadFileFormat)
_CONTENT: Final = Body(
    fields=(
        Argument("Resources", "strings", "Identifiers of any level", required=True),
        Argument("Level", "string", "Answer with the resources of this level that belong to those"),
        Argument("Metadata", "boolean", "Whether metadata is told; true by default"),
        Argument("Short", "boolean", "Tags as gggg,eeee"),
        Argument("Full", "boolean", "Tags with their names and types"),
    )
)
_DELETION: Final = Body(
    fields=(Argument("Resources", "array", "Identifiers of any level, or objects with Level and ID", required=True),)
)


class BulkRoutes:
    """Many resources at once."""

    def __init__(self, bulk: Bulk, serialiser: ResourceSerialiser, encoder: JsonEncoder) -> None:
        self._bulk = bulk
        self._serialiser = serialiser
        self._encoder = encoder

    @route("POST", "/tools/bulk-content", body=_CONTENT)
    async def content(self, call: Call) -> Reply:
        """Describe resources; those that are unknown are skipped."""
        body = await call.json_object()
        public_ids = _resources(body)
        if not all(isinstance(item, str) for item in public_ids):
            raise BadFileFormat("Field Resources must be an array of strings")
        wanted = _wanted(body)
        if "Level" in body:
            views = await self._bulk.views_at(_level(_field(body, "Level", str, "")), public_ids, wanted)
        else:
            views = await self._bulk.views(public_ids, wanted)
        return await self._encoder.reply([self._serialiser.resource(view) for view in views])

    @route("POST", "/tools/bulk-delete", body=_DELETION, answers=(TEXT,))
    async def delete(self, call: Call) -> Reply:
        """Delete resources; those that are unknown are skipped."""
        public_ids: list[str] = []
        by_level: dict[ResourceLevel, list[str]] = {}
        for item in _resources(await call.json_object()):
            if isinstance(item, str):
                public_ids.append(item)
            elif isinstance(item, dict) and isinstance(item.get("Level"), str) and isinstance(item.get("ID"), str):
                by_level.setdefault(_level(item["Level"]), []).append(item["ID"])
            else:
                raise BadFileFormat("Items of Resources must be strings, or objects with Level and ID")
        for level, items in by_level.items():
            public_ids += await self._bulk.of_level(level, items)
        await self._bulk.delete(public_ids)
        return EMPTY


def _resources(body: Mapping[str, Any]) -> list[Any]:
    if "Resources" not in body:
        raise BadFileFormat("Field Resources is needed")
    resources: list[Any] = _field(body, "Resources", list, [])
    return resources


def _level(text: str) -> ResourceLevel:
    level = ResourceLevel.parse(text)
    if level is None:
        raise ParameterOutOfRange("Unknown level")
    return level


def _wanted(body: Mapping[str, Any]) -> Wanted:
    content = EXPANDED
    if _field(body, "Metadata", bool, True):
        content |= Content.METADATA
    form = TagFormat.SIMPLIFY
    for name, candidate in (("Full", TagFormat.FULL), ("Short", TagFormat.SHORT)):
        if _field(body, name, bool, False):
            form = candidate
    return Wanted(content=content, format=form)
