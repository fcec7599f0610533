"""Requests that scripts answer, between their threads and the reactor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.interfaces import IReader
from orthanctw.scripting.exposure import OrthancException
from orthanctw.scripting.host import Host
from orthanctw.scripting.output import Answer, RestOutput

#: Bytes that wait for a reader before the script waits for it.
_BUFFER: Final = 1 << 20
#: Bytes that a reader is given at a time.
_PIECE: Final = 1 << 18
#: Seconds that a script waits for a reader who takes nothing.
_PATIENCE: Final = 60.0


@implementer(IReader)
class Stream:
    """Bytes that a script sends while somebody reads them; in the reactor's thread.

    Parameters
    ----------
    clock : IReactorTime
    discards : bool
        Nobody will read: what is sent is thrown away.
    """

    def __init__(self, clock: Any, *, discards: bool = False) -> None:
        self.remaining = -1
        self.closed = False
        self._clock = clock
        self._discards = discards
        self._pieces: deque[memoryview] = deque()
        self._size = 0
        self._ended = False
        self._failure: Exception | None = None
        self._reading: tuple[int, Deferred[bytes]] | None = None
        self._sending: list[Deferred[None]] = []
        #: Runs while a script waits, anew with all that is taken.
        self._timer: Any = None

    def send(self, data: bytes) -> Deferred[None]:
        """Fires when there is room for more. NETWORK_PROTOCOL when the reader has gone or takes nothing."""
        if self._discards or not data:
            return succeed(None)
        if self.closed or self._failure is not None:
            return fail(self._failure or _gone())
        self._pieces.append(memoryview(data))
        self._size += len(data)
        self._feed()
        if self._size < _BUFFER:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._sending.append(waiting)
        if self._timer is None:
            self._timer = self._clock.callLater(_PATIENCE, self._give_up)
        return waiting

    def end(self, failure: Exception | None = None) -> None:
        """Nothing more comes; with a failure, the reader learns that something is missing."""
        self._failure = self._failure or failure
        self._ended = True
        self._feed()

    def read(self, length: int) -> Deferred[bytes]:
        answer: Deferred[bytes] = Deferred()
        self._reading = length, answer
        self._feed()
        return answer

    def close(self) -> None:
        self.closed = True
        self.remaining = 0
        self._pieces.clear()
        self._size = 0
        self._let_go(_gone())
        self._feed()

    def _give_up(self) -> None:
        self._timer = None
        self.end(_gone())
        self._let_go(_gone())

    def _feed(self) -> None:
        """Give the reader what there is."""
        if self._ended and not self._pieces and self._failure is None:
            self.remaining = 0
        if self._reading is None or not (self._pieces or self._ended or self.closed):
            return
        (length, answer), self._reading = self._reading, None
        if self._failure is not None and not self._pieces:
            answer.errback(self._failure)
        else:
            answer.callback(self._take(min(length, _PIECE)))

    def _take(self, length: int) -> bytes:
        taken = []
        while self._pieces and length > 0:
            piece = self._pieces.popleft()
            if len(piece) > length:
                self._pieces.appendleft(piece[length:])
                piece = piece[:length]
            taken.append(piece)
            length -= len(piece)
            self._size -= len(piece)
        if self._ended and not self._pieces and self._failure is None:
            self.remaining = 0
        if self._size < _BUFFER:
            self._let_go(None)
        elif self._timer is not None:
            self._timer.reset(_PATIENCE)
        return b"".join(taken)

    def _let_go(self, error: Exception | None) -> None:
        """Tell those that wait for room."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._sending = self._sending, []
        for each in waiting:
            if error is None:
                each.callback(None)
            else:
                each.errback(error)


def _gone() -> OrthancError:
    return OrthancError("The client takes no more", code=ErrorCode.NETWORK_PROTOCOL)


class Exchange:
    """One request to a script; everything in the reactor's thread.

    Attributes
    ----------
    answered : Deferred
        The `Answer`, as soon as the script gives it; None when it has ended without any. Who cancels it wants none.
    ended : Deferred
        Fires after the callback.
    """

    def __init__(self, host: Host, *, is_head: bool = False) -> None:
        self._host = host
        self._stream = Stream(host.reactor, discards=is_head)
        self._has_left = False
        self._output = RestOutput(self._give, self._send)
        self.answered: Deferred[Answer | None] = Deferred(self._leave)
        self.ended: Deferred[None] = Deferred()

    def begin(
        self, callback: Callable[..., Any], uri: str, keywords: Mapping[str, Any], *, body: Any, urgent: bool
    ) -> None:
        """Have the callback called. A body that is not None is copied when its turn comes."""
        work = self._host.call("REST", self._run, callback, uri, keywords, body, urgent=urgent)
        work.addBoth(self._finish)

    def _run(self, callback: Callable[..., Any], uri: str, keywords: Mapping[str, Any], body: Any) -> None:
        """On a thread of scripts."""
        if self._has_left:
            return
        further = {} if body is None else {"body": bytes(body)}
        try:
            callback(self._output, uri, **keywords, **further)
            self._output.complete()
        except OrthancException:
            # A script need not care for a client that has gone.
            if not self._stream.closed:
                raise
        finally:
            self._output.end()

    def _give(self, answer: Answer) -> None:
        self._host.reactor.callFromThread(self._deliver, answer)

    def _send(self, data: bytes) -> None:
        self._host.wait(self._stream.send, data)

    def _deliver(self, answer: Answer) -> None:
        if answer.is_stream:
            answer = attrs.evolve(answer, reader=self._stream)
        if not self.answered.called:
            self.answered.callback(answer)
        elif answer.is_stream:
            self._stream.close()

    def _leave(self, _: object) -> None:
        self._has_left = True
        self._stream.close()

    def _finish(self, result: Any) -> None:
        failed = isinstance(result, Failure)
        self._stream.end(result.value if failed else None)
        if not self.answered.called:
            if failed:
                self.answered.errback(self._described(result.value))
            else:
                self.answered.callback(None)
        self.ended.callback(None)

    def _described(self, error: Exception) -> Exception:
        """A failure, with what the script has said about it."""
        if not isinstance(error, OrthancError):
            return error
        described = OrthancError(
            self._output.details or error.details, code=error.code, http_status=error.http_status
        )
        described.headers = self._output.headers
        return described
