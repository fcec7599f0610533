"""What is made of received objects before anything else looks at them (level 4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from orthanctw.interfaces import IReceivedHook, ISpool, IStorageArea
from orthanctw.model import Origin

#: Larger results, in bytes, are files.
_LARGE: Final = 1 << 20


class Revision:
    """Asks hooks in turn; each gets what the one before has left."""

    def __init__(self, storage: IStorageArea) -> None:
        self._storage = storage
        self._hooks: list[IReceivedHook] = []

    def add(self, hook: IReceivedHook) -> None:
        """Have one more hook asked, after those that there are."""
        self._hooks.append(hook)

    def is_needed(self) -> bool:
        """Whether there is anything to ask at the moment; cheap."""
        return any(hook.is_needed() for hook in self._hooks)

    @asynccontextmanager
    async def revised(self, content: bytes | ISpool, origin: Origin) -> AsyncIterator[bytes | ISpool | None]:
        """What is to be stored, for the length of a block: `content` itself, another one, or None."""
        received = content if isinstance(content, bytes) else await self._read(content)
        revised: bytes | None = received
        for hook in self._hooks:
            if revised is not None and hook.is_needed():
                revised = await hook.revise(revised, origin)
        if revised is received:
            yield content
        elif revised is None or len(revised) <= _LARGE:
            yield revised
        else:
            spool = self._storage.spool()
            try:
                await spool.write(revised)
                revised = None
                await spool.flush()
                yield spool
            finally:
                await spool.discard()

    async def _read(self, spool: ISpool) -> bytes:
        await spool.flush()
        content: bytes = await self._storage.call(lambda: bytes(spool.map()))
        return content
