"""Files of the storage area that are written anew, and what happens to those that they replace (level 4)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.errors import CorruptedFile
from orthanctw.interfaces import ISpool, IStorageArea
from orthanctw.model import Attachment
from orthanctw.removal import Removal
from orthanctw.threads import shield

log = Logger(namespace="orthanctw.generic")
#: Bytes that are copied at a time: whoever else wants the threads gets them in between.
PIECE: Final = 1 << 20
#: Seconds for which a replaced object stays on the disk, at least.
_DELAY: Final = 60.0


@asynccontextmanager
async def copied(storage: IStorageArea, attachment: Attachment) -> AsyncIterator[ISpool]:
    """The uncompressed content of a stored file in a temporary one, for the length of a block.

    Raises InexistentFile, and CorruptedFile when it is not what was stored: damage must not get a new digest.
    """
    spool = storage.spool()
    try:
        reader = await storage.reader(attachment)
        try:
            while data := await reader.read(PIECE):
                await spool.write(data)
        finally:
            reader.close()
        await spool.flush()
        if attachment.md5 and spool.md5 and spool.md5 != attachment.md5:
            raise CorruptedFile("The stored file is not what was received")
        yield spool
    finally:
        await spool.discard()


class Retirement:
    """Removes the files of objects that have a new one, but only after a while.

    An archive or a transfer has looked up files that it opens later. The index knows that they are to be removed: what
    is left when the server stops goes at the next start.
    """

    def __init__(self, removal: Removal, clock: IReactorTime, delay: float = _DELAY) -> None:
        self._removal = removal
        self._clock = clock
        self.delay = delay
        #: What waits for its first, and for its last turn.
        self._new: list[str] = []
        self._old: list[str] = []
        self._turn: IDelayedCall | None = None
        self._running: set[Deferred[None]] = set()
        self._is_stopped = False

    def add(self, uuids: Iterable[str]) -> None:
        """Remove these files when `delay` seconds have passed, but not more than twice as many."""
        self._new += uuids
        self._schedule()

    def _schedule(self) -> None:
        if self._turn is None and not self._is_stopped and (self._new or self._old):
            self._turn = self._clock.callLater(self.delay, self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        due, self._old, self._new = self._old, self._new, []
        self._schedule()
        running: Deferred[None] = Deferred.fromCoroutine(self._removal.remove_files(due))
        self._running.add(running)
        running.addErrback(_failed)
        running.addCallback(partial(self._removed, running))

    def _removed(self, running: Deferred[None], _: object) -> None:
        self._running.discard(running)

    async def stop(self) -> None:
        """Remove nothing more, and wait for what is being removed."""
        self._is_stopped = True
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        while self._running:
            await shield(next(iter(self._running)))


def _failed(failure: Failure) -> None:
    log.failure("Replaced files could not be removed; the next start tries again", failure)
