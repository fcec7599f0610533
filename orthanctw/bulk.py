"""Reading and deleting many resources of any level at once (level 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from orthanctw.catalog import Catalog, View, Wanted
from orthanctw.model import ResourceLevel
from orthanctw.removal import Removal

#: Resources that are read at once, and deleted in one transaction: others have their turn in between.
_BATCH: Final = 200


class Bulk:
    """Works on lists of resources; those that are unknown are skipped."""

    def __init__(self, catalog: Catalog, removal: Removal) -> None:
        self._catalog = catalog
        self._removal = removal

    async def views(self, public_ids: Sequence[str], wanted: Wanted) -> list[View]:
        """The resources, in the order asked."""
        result: list[View] = []
        for batch in _batches(public_ids):
            result += await self._views(batch, wanted)
        return result

    async def views_at(self, level: ResourceLevel, public_ids: Sequence[str], wanted: Wanted) -> list[View]:
        """The resources of a level that are below the resources, above them, or themselves; each of them once."""
        found: dict[str, None] = {}
        for public_id in dict.fromkeys(public_ids):
            found.update(dict.fromkeys(await self._related(level, public_id)))
        result: list[View] = []
        for batch in _batches(list(found)):
            result += await self._catalog.views(level, batch, wanted)
        return result

    async def delete(self, public_ids: Sequence[str]) -> None:
        """Delete resources, with what is below them."""
        for batch in _batches(list(dict.fromkeys(public_ids))):
            await self._removal.delete_many(batch)

    async def of_level(self, level: ResourceLevel, public_ids: Sequence[str]) -> list[str]:
        """Those of the identifiers that are resources of a level."""
        result: list[str] = []
        for batch in _batches(public_ids):
            result += [resource.public_id for resource in await self._catalog.index.resources(level, batch)]
        return result

    async def _views(self, public_ids: Sequence[str], wanted: Wanted) -> list[View]:
        views: dict[str, View] = {}
        for level in ResourceLevel:
            missing = [public_id for public_id in dict.fromkeys(public_ids) if public_id not in views]
            if missing:
                found = await self._catalog.views(level, missing, wanted)
                views.update((view.resource.public_id, view) for view in found)
        return [views[public_id] for public_id in public_ids if public_id in views]

    async def _related(self, level: ResourceLevel, public_id: str) -> Sequence[str]:
        index = self._catalog.index
        own = await index.lookup_level(public_id)
        if own is None:
            return ()
        if own == level:
            return (public_id,)
        if own < level:
            return await index.children(own, public_id, level) or ()
        ancestor = await index.ancestor(own, public_id, level)
        return () if ancestor is None else (ancestor.public_id,)


def _batches(public_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(public_ids), _BATCH):
        yield public_ids[start : start + _BATCH]
