"""Streaming a stored file to a client: a pool thread never waits for a slow reader."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from orthanctw.interfaces import IReader

log = Logger(namespace="orthanctw.http")
#: Bytes read at a time. One read covers most single images.
CHUNK = 1024 * 1024


@implementer(IPushProducer)
class ReaderProducer:
    """Writes a reader's bytes to a request, at the speed of the client.

    Parameters
    ----------
    chunked : bool
        In chunks of HTTP (RFC 9112 section 7.1), as the length was not announced.
    """

    def __init__(self, request: Any, reader: IReader, *, chunked: bool = False) -> None:
        self._chunked = chunked
        self._request = request
        self._reader = reader
        self._paused = True
        self._reading = False
        self._stopped = False
        #: Fires when the last byte is with the transport, or the client has gone.
        self.done: Deferred[None] = Deferred()

    def resumeProducing(self) -> None:
        self._paused = False
        self._next()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        if not self._stopped:
            self._end()

    def _end(self) -> None:
        self._stopped = True
        self._reader.close()
        if not self.done.called:
            self.done.callback(None)

    def _next(self) -> None:
        if self._paused or self._reading or self._stopped:
            return
        if self._reader.remaining == 0:
            self._finish()
            return
        self._reading = True
        self._reader.read(CHUNK).addCallbacks(self._got, self._failed)

    def _got(self, data: bytes) -> None:
        self._reading = False
        if self._stopped:
            return
        if self._chunked:
            # An empty chunk would be the last one.
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._request.channel.write(data)
        self._next()

    def _finish(self) -> None:
        if self._chunked:
            self._request.channel.write(b"0\r\n\r\n")
        self._request.unregisterProducer()
        self._request.finish()
        self._end()

    def _failed(self, failure: Failure) -> None:
        """Bytes have left already: the client learns by a connection that is cut before Content-Length."""
        self._reading = False
        log.error("A download failed in the middle: {reason}", reason=failure.getErrorMessage())
        if not self._stopped:
            self._request.unregisterProducer()
            self._request.channel.transport.abortConnection()
            self._end()
