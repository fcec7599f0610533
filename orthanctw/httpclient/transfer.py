"""What moves on a connection: bodies of requests and answers, and how long nothing has moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from orthanctw.errors import OrthancError
from orthanctw.httpclient.values import HttpFailure
from orthanctw.interfaces import IReader

#: Bytes of a body that are read at a time.
_CHUNK: Final = 256 * 1024


class Watch:
    """Ends a request in which nothing moves for `seconds`; 0 for never.

    One timer looks now and then: to move it with every chunk would cost more.
    """

    def __init__(self, clock: IReactorTime, seconds: float, expire: Callable[[], object]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._expire = expire
        self._moved = clock.seconds()
        self._timer: IDelayedCall | None = clock.callLater(seconds, self._look) if seconds else None

    def moved(self) -> None:
        """Something has moved."""
        self._moved = self._clock.seconds()

    def stop(self) -> None:
        """The request is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        left = self._moved + self._seconds - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
            return
        self._expire()


class BytesBody:
    """A body in memory: as much of `IReader` as a `Producer` needs."""

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self.remaining = len(content)

    def read(self, length: int) -> Deferred[bytes]:
        start = len(self._content) - self.remaining
        data = bytes(self._content[start : start + length])
        self.remaining -= len(data)
        return succeed(data)

    def close(self) -> None:
        """Nothing is open."""


@implementer(IBodyProducer)
class Producer:
    """Sends what a reader has, one chunk ahead of the connection; closes it in any case."""

    def __init__(self, reader: IReader | BytesBody, moved: Callable[[], None]) -> None:
        self._reader = reader
        self._moved = moved
        self._pending = b""
        self._busy = self._paused = False
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self.length: int = reader.remaining
        self.sent = 0
        self.is_over = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self._consumer = consumer
        self._pull()
        return self._done

    def stopProducing(self) -> None:
        self.is_over = True
        self._pending = b""
        if not self._busy:
            self._reader.close()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._moved()
        self._write()

    def _pull(self) -> None:
        if self.sent == self.length:
            self.stopProducing()
            self._done.callback(None)
            return
        self._busy = True
        read: Deferred[bytes] = maybeDeferred(self._reader.read, min(_CHUNK, self.length - self.sent))
        read.addCallbacks(self._arrived, self._failed)

    def _arrived(self, data: bytes) -> None:
        self._busy = False
        if self.is_over:
            self._reader.close()
            return
        # Time that we needed is no silence of the other side.
        self._moved()
        self._pending = data
        self._write()

    def _failed(self, failure: Failure) -> None:
        self._busy = False
        was_over = self.is_over
        self.stopProducing()
        if not was_over:
            self._done.errback(failure)

    def _write(self) -> None:
        if self._paused or not self._pending or self._consumer is None:
            return
        data, self._pending = self._pending, b""
        self.sent += len(data)
        self._consumer.write(data)
        if not self.is_over:
            self._pull()


class Collector(Protocol):
    """Takes the body of an answer, up to `maximum` bytes; `body` fires with it."""

    def __init__(self, maximum: int, moved: Callable[[], None], abort: Callable[[], object]) -> None:
        self._maximum = maximum
        self._moved = moved
        self._abort = abort
        self._received = bytearray()
        self.body: Deferred[bytes] = Deferred(lambda _: self._end())

    def dataReceived(self, data: bytes) -> None:
        self._moved()
        if self.body.called:
            return
        if len(self._received) + len(data) > self._maximum:
            self.body.errback(HttpFailure(f"The answer is longer than {self._maximum} bytes"))
            self._received.clear()
            self._end()
            return
        self._received += data

    def _end(self) -> None:
        self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.body.called:
            return
        # Without a length, the end of the connection is that of the answer.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.body.callback(bytes(self._received))
        else:
            self.body.errback(reason)


def own_error(error: BaseException) -> bool:
    """Whether a failure is ours: what was to be sent could not be read."""
    return isinstance(error, OrthancError) and not isinstance(error, HttpFailure)


def reasons(failure: Failure) -> list[Any]:
    """The exceptions that a failure of Twisted's client is made of, the innermost last."""
    found = [failure.value]
    for inner in getattr(failure.value, "reasons", None) or ():
        found += reasons(inner)
    return found
