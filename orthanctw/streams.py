"""Answers that are made while they are read (level 2)."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.interfaces import IReader

log = Logger(namespace="orthanctw.http")


@implementer(IReader)
class PieceReader:
    """Reads what a generator makes, piece by piece, after what it has made already; `remaining` is -1 until its end."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], made: bytes = b"") -> None:
        self.remaining = -1
        self.closed = False
        self._pieces = pieces
        self._pending = memoryview(made)
        self._busy = False

    def read(self, length: int) -> Deferred[bytes]:
        self._busy = True
        return Deferred.fromCoroutine(self._read(length))

    async def _read(self, length: int) -> bytes:
        parts: list[bytes | memoryview] = []
        left = length
        try:
            while left > 0 and not self.closed:
                if not self._pending:
                    try:
                        # Not with a default: some releases of Python 3.11 cannot wait within that.
                        self._pending = memoryview(await anext(self._pieces))
                    except StopAsyncIteration:
                        self.remaining = 0
                        break
                parts.append(self._pending[:left])
                self._pending = self._pending[left:]
                left -= len(parts[-1])
        finally:
            self._busy = False
            if self.closed:
                await self._pieces.aclose()
        return b"".join(parts)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if not self._busy:
            Deferred.fromCoroutine(self._pieces.aclose()).addErrback(
                lambda failure: log.failure("A stream could not be closed", failure)
            )
