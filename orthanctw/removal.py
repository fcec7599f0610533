"""Deleting: the index first, in one transaction with the list of files; the files after its commit (level 4)."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

from orthanctw.caches import Caches
from orthanctw.errors import ServiceUnavailable
from orthanctw.events import EventBus
from orthanctw.interfaces import IIndex, IStorageArea
from orthanctw.model import Deleted, ResourceLevel

log = Logger(namespace="orthanctw.generic")
#: Files that may have been written this long before the newest durable row, in seconds.
REPAIR_MARGIN = 3600.0


class Removal:
    """Deletes resources and their files."""

    def __init__(self, index: IIndex, storage: IStorageArea, events: EventBus, caches: Caches) -> None:
        self._index = index
        self._storage = storage
        self._events = events
        self._caches = caches

    async def delete(self, level: ResourceLevel, public_id: str) -> Deleted | None:
        """Delete a resource with all below it; None when it is unknown."""
        deleted = await self._index.delete(level, public_id)
        if deleted is not None:
            await self._finish(deleted)
        return deleted

    async def delete_many(self, public_ids: Sequence[str]) -> None:
        """Delete resources of any level; unknown ones are skipped."""
        await self._finish(await self._index.delete_many(public_ids))

    async def _finish(self, deleted: Deleted) -> None:
        self._events.publish(deleted.changes)
        await self.remove_files(deleted.removed_files)

    async def remove_files(self, uuids: Sequence[str]) -> None:
        """Remove files that no row refers to; those that cannot go now are tried again at the next start."""
        if not uuids:
            return
        try:
            gone = await self._storage.remove(uuids)
            # Now nobody can make anything of them any more.
            self._caches.drop(uuids)
            await self._index.forget_removals(gone)
        except ServiceUnavailable:
            # The server has stopped meanwhile.
            log.debug("{count} files are left to the next start", count=len(uuids))

    async def repair(self, last_start: float | None) -> None:
        """After a start: remove what an interrupted process left.

        Parameters
        ----------
        last_start : float or None
            When the process before this one started, in seconds since 1970: only younger files can be strays. None
            when another program may have written files since.
        """
        await self.remove_files(await self._index.pending_removals())
        if last_start is None:
            return
        files = await self._storage.tail(last_start - REPAIR_MARGIN)
        known = await self._index.known_files(files)
        strays = [uuid for uuid in files if uuid not in known]
        if strays:
            log.warn("{count} files of interrupted uploads are removed", count=len(strays))
            await self._storage.remove(strays)
