"""Receiving a request body: in memory while it is small and the budget lasts, else in a spool file."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.interfaces import ISpool

log = Logger(namespace="orthanctw.generic")
#: Pieces below this size are joined as they come: each would cost more memory than it has bytes.
_SMALL = 4096
#: What is given to the spool at a time, and how large joined pieces grow.
_BATCH = 64 * 1024


@attrs.define
class MemoryBudget:
    """Bytes of request bodies that may lie in memory, over all connections."""

    limit: int
    used: int = 0

    def take(self, count: int) -> bool:
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give_back(self, count: int) -> None:
        self.used -= count


@attrs.frozen(kw_only=True)
class BodyLimits:
    """`maximum` is ``MaximumRequestBodySizeMB`` in bytes (0: none), `threshold` what may stay in memory."""

    maximum: int
    threshold: int
    budget: MemoryBudget
    spool: Callable[[], ISpool]

    def refuses(self, size: int) -> bool:
        return 0 < self.maximum < size


class Body:
    """Takes the bytes of one request as they arrive; pauses `producer` while the disk is slower than the peer."""

    def __init__(self, limits: BodyLimits, producer: IPushProducer) -> None:
        self._limits = limits
        self._producer = producer
        self._chunks: list[bytes | bytearray] = []
        self._gathered = 0
        self._in_memory = 0
        self._spool: ISpool | None = None
        self._writing = False
        self._waiter: Deferred[None] | None = None
        self._failure: Failure | None = None
        self._dropped = False
        self.size = 0
        self.too_large = False

    def refuse(self) -> None:
        """Throw away what came and what will come."""
        self.too_large = True
        self.discard()

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self._dropped or self._failure is not None:
            return
        if self._limits.refuses(self.size):
            self.refuse()
            return
        self._gather(data)
        if self._spool is None:
            if self.size <= self._limits.threshold and self._limits.budget.take(len(data)):
                self._in_memory += len(data)
                return
            self._spool = self._limits.spool()
        if self._gathered >= _BATCH:
            self._drain()

    def _gather(self, data: bytes) -> None:
        self._gathered += len(data)
        if len(data) >= _SMALL:
            self._chunks.append(data)
            return
        last = self._chunks[-1] if self._chunks else None
        if isinstance(last, bytearray) and len(last) < _BATCH:
            last += data
        else:
            self._chunks.append(bytearray(data))

    def _take(self) -> bytes:
        """All that was gathered."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._gathered = 0
        return bytes(data)

    def _drain(self) -> None:
        """Move what was gathered to the spool file, one write at a time."""
        if self._writing or not self._gathered or self._spool is None:
            return
        data = self._take()
        self._release_memory()
        written = self._spool.write(data)
        if written.called:
            written.addErrback(self._failed)
            return
        self._writing = True
        self._producer.pauseProducing()
        written.addErrback(self._failed)
        written.addCallback(self._written)

    def _failed(self, failure: Failure) -> None:
        self._failure = failure

    def _written(self, _: object) -> None:
        self._writing = False
        self._producer.resumeProducing()
        if self._dropped:
            self._remove_spool()
        elif self._failure is None and (self._waiter is not None or self._gathered >= _BATCH):
            self._drain()
        if not self._writing and self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter.callback(None)

    def complete(self) -> Deferred[None]:
        """Fires when the last byte has left memory, or fails as the disk did."""
        if self._failure is None:
            self._drain()
        waiter: Deferred[None] = Deferred() if self._writing else succeed(None)
        if self._writing:
            self._waiter = waiter
        return waiter.addCallback(self._check)

    def _check(self, _: None) -> None:
        if self._failure is not None:
            self._failure.raiseException()

    def content(self) -> bytes | ISpool:
        """The whole body, once `complete` has fired."""
        if self._spool is not None:
            return self._spool
        data = self._take()
        self._chunks.append(data)
        return data

    def discard(self) -> None:
        """Give memory and file back; what became part of the storage area stays."""
        if self._dropped:
            return
        self._dropped = True
        self._chunks.clear()
        self._gathered = 0
        self._release_memory()
        if not self._writing:
            self._remove_spool()

    def _remove_spool(self) -> None:
        if self._spool is not None:
            self._spool.discard().addErrback(_removal_failed)

    def _release_memory(self) -> None:
        self._limits.budget.give_back(self._in_memory)
        self._in_memory = 0


def _removal_failed(failure: Failure) -> None:
    log.failure("A file of a request cannot be removed; the next start does", failure)
