"""Archives that lie in files: those of jobs, for as long as they are kept, and those that must be whole to be sent."""

from __future__ import annotations

import itertools
from typing import Final

from twisted.internet.defer import CancelledError

from orthanctw.errors import InexistentItem
from orthanctw.interfaces import IReader, ISpool, IStorageArea
from orthanctw.sending import temporary_reader
from orthanctw.threads import shield

_CHUNK: Final = 1024 * 1024


class Shelf:
    """Keeps the archives made last. They lie among the files being received, which a start removes.

    Parameters
    ----------
    size : int
        ``MediaArchiveSize``; at least one is kept.
    """

    def __init__(self, storage: IStorageArea, size: int) -> None:
        self._storage = storage
        self._size = max(1, size)
        self._kept: dict[str, ISpool] = {}
        self._names = map(str, itertools.count(1))

    def begin(self) -> ISpool:
        """A file for a new archive; it is the caller's until it is kept."""
        spool: ISpool = self._storage.spool(is_object=False)
        return spool

    async def keep(self, spool: ISpool) -> str:
        """Keep a file whose bytes are flushed, in place of the oldest one if there are too many; its name."""
        name = next(self._names)
        self._kept[name] = spool
        while len(self._kept) > self._size:
            await self.drop(next(iter(self._kept)))
        return name

    def size(self, name: str) -> int | None:
        """Bytes of an archive; None when it has gone."""
        spool = self._kept.get(name)
        return None if spool is None else spool.size

    async def reader(self, name: str, offset: int, length: int) -> IReader:
        """A reader over a range of an archive, which stays readable when the archive goes.

        InexistentItem when it has gone.
        """
        spool = self._kept.get(name)
        if spool is None:
            raise InexistentItem("The archive has gone")
        call = self._storage.call
        reader: IReader = await call(temporary_reader, spool.path, call, offset, length)
        return reader

    async def drop(self, name: str) -> bool:
        """Remove an archive; whether it was there."""
        spool = self._kept.pop(name, None)
        if spool is not None:
            await spool.discard()
        return spool is not None

    def holds(self, name: str) -> bool:
        """Whether an archive is there."""
        return name in self._kept

    async def buffer(self, source: IReader) -> IReader:
        """A reader over a file with all that `source` has; the file goes with the reader."""
        given_up: list[bool] = []
        try:
            # Threads must not find their file closed: who gives up does not end what they are at.
            return await shield(self._buffer(source, given_up))
        except CancelledError:
            given_up.append(True)
            raise

    async def _buffer(self, source: IReader, given_up: list[bool]) -> IReader:
        spool = self.begin()
        try:
            while source.remaining and not given_up:
                await spool.write(await source.read(_CHUNK))
            await spool.flush()
            reader: IReader = await self._storage.call(spool.reader_blocking)
        finally:
            source.close()
            await spool.discard()
        if given_up:
            reader.close()
        return reader
