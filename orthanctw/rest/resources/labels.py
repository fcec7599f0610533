"""Labels of resources."""

from __future__ import annotations

from typing import Final

from orthanctw.errors import EmptyAnswer, ParameterOutOfRange, UnknownResource
from orthanctw.identifiers import is_label
from orthanctw.interfaces import IIndex
from orthanctw.model import Resource, ResourceLevel
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import TEXT, Body, route
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.reply import BINARY, EMPTY, Reply, json_reply
from orthanctw.rest.resources.browsing import level_of

_LISTS: Final = tuple(f"/{level.plural}/<id>/labels" for level in ResourceLevel)
_ONE: Final = tuple(f"{path}/<label>" for path in _LISTS)
_IGNORED: Final = Body(content=(BINARY,), summary="Ignored", required=False)


class LabelRoutes:
    """Reading, adding and removing labels. They are no changes: neither ``/changes`` nor LastUpdate tell of them."""

    def __init__(self, index: IIndex, encoder: JsonEncoder) -> None:
        self._index = index
        self._encoder = encoder

    @route("GET", "/tools/labels")
    async def used(self, call: Call) -> Reply:
        """List the labels of all resources."""
        return await self._encoder.reply(await self._index.all_labels())

    @route("GET", *_LISTS)
    async def labels(self, call: Call) -> Reply:
        """List the labels of a resource."""
        return json_reply((await self._resource(call)).labels)

    @route("GET", *_ONE, answers=(TEXT,))
    async def has(self, call: Call) -> Reply:
        """Tell whether a resource bears a label: 404 if it does not."""
        if call["label"] not in (await self._resource(call)).labels:
            raise EmptyAnswer(404)
        return EMPTY

    @route("PUT", *_ONE, body=_IGNORED, answers=(TEXT,))
    async def add(self, call: Call) -> Reply:
        """Give a resource a label."""
        await self._index.add_label(level_of(call), call["id"], _label(call))
        return EMPTY

    @route("DELETE", *_ONE, answers=(TEXT,))
    async def remove(self, call: Call) -> Reply:
        """Take a label away from a resource."""
        await self._index.remove_label(level_of(call), call["id"], _label(call))
        return EMPTY

    async def _resource(self, call: Call) -> Resource:
        resource: Resource | None = await self._index.resource(level_of(call), call["id"])
        if resource is None:
            raise UnknownResource()
        return resource


def _label(call: Call) -> str:
    if not is_label(call["label"]):
        raise ParameterOutOfRange("Labels have 1 to 64 letters, digits, hyphens and underscores")
    return call["label"]
