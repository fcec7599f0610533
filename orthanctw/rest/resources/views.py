"""Tags of resources above instances: those of a module, those of each instance, those shared; slices in order."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from orthanctw.catalog import Catalog
from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.jsonforms import TagFormat
from orthanctw.errors import UnknownResource
from orthanctw.interfaces import IIndex
from orthanctw.model import Resource, ResourceLevel
from orthanctw.rest.arguments import FULL, SHORT, SIMPLIFY
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import Argument, route
from orthanctw.rest.encoding import Members, streamed
from orthanctw.rest.reply import Reply, json_reply
from orthanctw.rest.resources.browsing import format_of, level_of
from orthanctw.slices import frame_count, in_order, volume
from orthanctw.tagviews import TagView, TagViews

#: How tags are shown where the full format is the default.
FORMATS: Final = (SIMPLIFY, SHORT, FULL)
IGNORE_LENGTH: Final = Argument(
    "ignore-length", "string", "Tags that are shown even when they are long, separated by commas"
)
_ABOVE: Final = tuple(level for level in ResourceLevel if level is not ResourceLevel.INSTANCE)


def ignored_lengths(call: Call, dictionary: Dictionary) -> frozenset[int]:
    """The tags of ``ignore-length``. UnknownDicomTag."""
    texts = (text.strip() for text in call.arguments.get("ignore-length", "").split(","))
    return frozenset(dictionary.parse(text) for text in texts if text)


class ViewRoutes:
    """Reading what the headers of several instances tell."""

    def __init__(self, catalog: Catalog, views: TagViews) -> None:
        self._catalog = catalog
        self._index: IIndex = catalog.index
        self._views = views

    def _view(self, call: Call) -> TagView:
        return TagView(
            format=format_of(call, TagFormat.FULL), ignore_length=ignored_lengths(call, self._catalog.dictionary)
        )

    async def _instances(self, call: Call) -> list[str]:
        ids: list[str] | None = await self._index.children(level_of(call), call["id"], ResourceLevel.INSTANCE)
        if ids is None:
            raise UnknownResource()
        return ids

    @route(
        "GET", *(f"/{level.plural}/<id>/module" for level in ResourceLevel), query=(*FORMATS, IGNORE_LENGTH)
    )
    async def module(self, call: Call) -> Reply:
        """Tags that describe the resource itself: those of its level's modules."""
        level = level_of(call)
        return await self._views.module(level, call["id"], level, self._view(call), json_reply)

    @route("GET", "/studies/<id>/module-patient", query=(*FORMATS, IGNORE_LENGTH))
    async def module_patient(self, call: Call) -> Reply:
        """Tags of a study that describe its patient."""
        return await self._views.module(
            ResourceLevel.STUDY, call["id"], ResourceLevel.PATIENT, self._view(call), json_reply
        )

    @route("GET", *(f"/{level.plural}/<id>/shared-tags" for level in _ABOVE), query=FORMATS)
    async def shared_tags(self, call: Call) -> Reply:
        """Tags that have the same text in all instances."""
        return json_reply(await self._views.shared(level_of(call), call["id"], format_of(call, TagFormat.FULL)))

    @route("GET", *(f"/{level.plural}/<id>/instances-tags" for level in _ABOVE), query=(*FORMATS, IGNORE_LENGTH))
    async def instances_tags(self, call: Call) -> Reply:
        """All tags of all instances, by identifier."""
        view = self._view(call)
        ids = sorted(await self._instances(call))
        members = Members(call)
        encoded: AsyncGenerator[bytes, None] = self._views.batches(ids, view, members.encode)
        return await streamed(members.pieces(encoded), members.content_type)

    @route("GET", "/series/<id>/ordered-slices")
    async def ordered_slices(self, call: Call) -> Reply:
        """Files and frames of a series from slice to slice, and whether their place in space gives the order."""
        ids = await self._instances(call)
        resources: list[Resource] = await self._index.resources(ResourceLevel.INSTANCE, tuple(ids))
        ordered = in_order(resources)
        counts = await self._views.each(
            [resource.public_id for resource in ordered], lambda header: frame_count(header.pixels)
        )
        found = [(public_id, count) for public_id, count in counts.items()]
        return json_reply(
            {
                "Dicom": [f"/instances/{public_id}/file" for public_id, _ in found],
                "Slices": [
                    f"/instances/{public_id}/frames/{frame}" for public_id, count in found for frame in range(count)
                ],
                "SlicesShort": [[public_id, 0, count] for public_id, count in found],
                "Type": "Volume" if volume(resources) else "Sequence",
            }
        )
