"""Worklists in a key-value store of the index, where nobody but this server writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from twisted.logger import Logger

from orthanctw.errors import BadFileFormat, UnknownResource
from orthanctw.interfaces import IIndex
from orthanctw.stability import timestamp
from orthanctw.worklists.model import Reading, Wanted, Worklist

log = Logger(namespace="orthanctw.dicom")
STORE: Final = "worklists"
#: A value is when the worklist was made, and its DICOM file.
_CREATED: Final = re.compile(rb"\d{8}T\d{6}")
_LENGTH: Final = 15
_BATCH: Final = 200


class IndexSource:
    """All worklists of the index, in memory once one was asked for.

    Parameters
    ----------
    call : callable
        Runs a function in a thread.
    wall_clock : callable
        Seconds since 1970.
    """

    dates = True

    def __init__(
        self, index: IIndex, reading: Reading, call: Callable[..., Deferred[Any]], wall_clock: Callable[[], float]
    ) -> None:
        self._index = index
        self._reading = reading
        self._call = call
        self._wall_clock = wall_clock
        self._lock = DeferredLock()
        self._known: dict[str, Worklist] | None = None

    async def select(self, wanted: Wanted, limit: int = 0) -> list[Worklist]:
        """See `Source`."""
        async with self._lock:
            known = list((await self._load()).values())
        found: list[Worklist] = await self._call(_select, known, wanted, limit)
        return found

    async def write(self, identifier: str, file: bytes, *, is_new: bool) -> None:
        """See `Source`."""
        async with self._lock:
            known = await self._load()
            created = timestamp(self._wall_clock)
            if not is_new:
                if identifier not in known:
                    raise UnknownResource()
                created = known[identifier].created
            worklist: Worklist = await self._call(self._reading.read, identifier, file, created)
            await self._index.store_value(STORE, identifier, created.encode("ascii") + file)
            known[identifier] = worklist

    async def remove(self, identifier: str) -> bool:
        """See `Source`."""
        async with self._lock:
            known = await self._load()
            if identifier not in known:
                return False
            await self._index.delete_value(STORE, identifier)
            del known[identifier]
        return True

    async def _load(self) -> dict[str, Worklist]:
        if self._known is None:
            keys: list[str] = await self._index.keys(STORE, None, 0)
            known: dict[str, Worklist] = {}
            for start in range(0, len(keys), _BATCH):
                batch = keys[start : start + _BATCH]
                values = await gatherResults([self._index.value(STORE, key) for key in batch], consumeErrors=True)
                known |= await self._call(self._read, dict(zip(batch, values, strict=True)))
            self._known = known
        return self._known

    # In a thread

    def _read(self, values: dict[str, bytes | None]) -> dict[str, Worklist]:
        read: dict[str, Worklist] = {}
        for key, value in values.items():
            try:
                if value is None or _CREATED.match(value) is None:
                    raise BadFileFormat("another program has written it")
                read[key] = self._reading.read(key, value[_LENGTH:], value[:_LENGTH].decode("ascii"))
            except BadFileFormat as e:
                log.warn("Worklist {key} of the index is passed over: {reason}", key=ascii(key), reason=e.details)
        return read


def _select(worklists: list[Worklist], wanted: Wanted, limit: int) -> list[Worklist]:
    found: list[Worklist] = []
    for worklist in sorted(worklists, key=lambda item: item.identifier):
        if wanted(worklist):
            found.append(worklist)
            if len(found) == limit:
                break
    return found
