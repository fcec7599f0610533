"""The HTTP server: our own request and channel on twisted.web, with limits and without form parsing.

A request is authenticated before its body is received, so a stranger cannot fill the disk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

import attrs
from isal import igzip, isal_zlib
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.resource import Resource

from orthanctw.bodies import Body, BodyLimits
from orthanctw.errors import EmptyAnswer, OrthancError, RequestTooLarge
from orthanctw.interfaces import IHttpFilter, IReader
from orthanctw.rest.authentication import Authenticator
from orthanctw.rest.filtering import question_of, refusal
from orthanctw.rest.reply import Reply
from orthanctw.rest.sending import ReaderProducer
from orthanctw.threads import NamedPool

log = Logger(namespace="orthanctw.http")
#: Bodies of JSON and text from this size on are compressed when the client accepts it.
COMPRESSION_THRESHOLD = 2048
#: A refused body is received to its end up to this size, so that the client reads the refusal; a longer one is
#: answered at once and cut later.
UNREAD_LIMIT = 1024 * 1024
#: Bodies from this size on are compressed on a thread.
_THREAD_THRESHOLD = 256 * 1024
_COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": partial(igzip.compress, compresslevel=1),
    "deflate": partial(isal_zlib.compress, level=1),
}
#: A quality of nothing.
_REFUSED = re.compile(r"q=0(\.0*)?\Z")
#: Bytes read from a socket at a time, for most requests and for those with a large body.
_READ_SIZE = 64 * 1024
_LARGE_READ_SIZE = 256 * 1024
#: How often connections are looked at for silence, in seconds.
_SWEEP_INTERVAL = 0.5
_OVERRIDES = frozenset(("PUT", "DELETE"))
#: What stands before the path when a request is written for a proxy (RFC 9112 section 3.2.2).
_ABSOLUTE = re.compile(rb"https?://[^/]*", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class HttpOptions:
    """How the server speaks HTTP. Times in seconds."""

    authenticator: Authenticator
    limits: BodyLimits
    compression: bool = False
    keep_alive: bool = True
    keep_alive_timeout: int = 1
    request_timeout: int = 30
    body_timeout: int = 60
    tcp_no_delay: bool = True
    maximum_connections: int = 1000
    #: Compresses large bodies; without it, the reactor does.
    pool: NamedPool | None = None
    #: Asked in turn, once it is known who asks.
    filters: Sequence[IHttpFilter] = ()


class OrthancChannel(http.HTTPChannel):
    """One connection: a time limit for headers, another for each silence in a body, a third between requests.

    The limits cost nothing per request: the site looks at all connections once in a while.
    """

    site: OrthancSite
    transport: Any
    _limit: float | None = None
    _last_activity = 0.0
    _host: IAddress | None = None
    _peer: IAddress | None = None
    #: The time limit before `hold`.
    _held: float | None = None

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.setTcpNoDelay(self.site.options.tcp_no_delay)
        self.setTimeout(self.site.options.request_timeout or None)
        self.site.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.connections.discard(self)
        super().connectionLost(reason)

    def setTimeout(self, period: float | None) -> float | None:
        before, self._limit = self._limit, period
        self.resetTimeout()
        return before

    def resetTimeout(self) -> None:
        self._last_activity = self.site.now()

    def is_overdue(self, now: float) -> bool:
        """Whether the peer has been silent for longer than it may."""
        return self._limit is not None and now - self._last_activity > self._limit

    def getHost(self) -> Any:
        # Asked for by every request, and each time a system call.
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def getPeer(self) -> Any:
        if self._peer is None:
            self._peer = super().getPeer()
        return self._peer

    def allHeadersReceived(self) -> None:
        self.setTimeout(self.site.options.body_timeout or None)
        if self.length is None or self.length > _READ_SIZE:
            self.transport.bufferSize = _LARGE_READ_SIZE
        super().allHeadersReceived()

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        if not self.site.options.keep_alive or version != b"HTTP/1.1":
            return False
        asked = b",".join(request.requestHeaders.getRawHeaders(b"connection", ()))
        return b"close" not in (token.strip().lower() for token in asked.split(b","))

    def hold(self) -> None:
        """Take nothing more from the peer until `release`: not even what has been read with the headers."""
        self.paused = True
        self._networkProducer.pauseProducing()
        self._held = self.setTimeout(None)

    def release(self) -> None:
        """Go on after `hold`."""
        self.setTimeout(self._held)
        self.paused = False
        if not self._waitingForTransport:
            self._networkProducer.resumeProducing()
        self.dataReceived(b"")

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self.paused:
            # The peer has read the answer before; its next request still waits.
            self._networkProducer.pauseProducing()

    def requestDone(self, request: Any) -> None:
        self.transport.bufferSize = _READ_SIZE
        super().requestDone(request)
        if not self.requests:
            self.setTimeout(self.site.options.keep_alive_timeout or 1)
            if self.site.stopping:
                self.loseConnection()

    def timeoutConnection(self) -> None:
        log.debug("Connection closed after its time limit")
        self.loseConnection()


class OrthancRequest(server.Request):
    """One request: body to memory or spool, path normalised as Orthanc does, reply written at once."""

    channel: Any
    transport: Any
    site: Any
    body: Body
    username = ""
    refused: OrthancError | None = None
    #: Under way while filters are asked.
    _decision: Deferred[Any] | None = None
    answered_early = False
    head = False
    segments: tuple[str, ...] = ()
    arguments: dict[str, str]

    def parseCookies(self) -> None:
        """Nothing here reads cookies."""

    def _header(self, name: bytes) -> str | None:
        # By bytes: as text, a header that is no UTF-8 would fail.
        values = self.requestHeaders.getRawHeaders(name)
        return values[0].decode("utf-8", "replace") if values else None

    def gotLength(self, length: int | None) -> None:
        options = self.channel.site.options
        self.body = Body(options.limits, self.transport)
        try:
            self.username = options.authenticator.authenticate(
                self.client.host, self._header(b"authorization")
            )
            if length is not None and options.limits.refuses(length):
                raise RequestTooLarge()
        except EmptyAnswer as e:
            self._refuse(e)
            return
        if any(each.is_needed() for each in options.filters):
            self._ask(options.filters, has_body=length != 0)

    def _refuse(self, error: OrthancError) -> None:
        self.refused = error
        self.body.refuse()
        if self.requestHeaders.hasHeader("expect"):
            # The client asks before it sends: the refusal is the answer, not 100.
            self.requestHeaders.removeHeader("expect")
            self._refuse_early()

    def _ask(self, filters: Sequence[IHttpFilter], *, has_body: bool) -> None:
        """Ask filters before anything of the body is taken."""
        channel = self.channel
        self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version
        self._prepare()
        question = None if self.refused is not None else question_of(self)
        if question is None:
            return
        expected = self.requestHeaders.getRawHeaders(b"expect", ()) if has_body else ()
        # Else the client is told to go on before anybody has decided.
        self.requestHeaders.removeHeader(b"expect")
        if has_body:
            channel.hold()
        deciding: Deferred[Any] = Deferred.fromCoroutine(refusal(filters, question))
        self._decision = deciding
        deciding.addBoth(self._decided, expected, has_body)

    def _decided(self, refused: Any, expected: Sequence[bytes], has_body: bool) -> None:
        self._decision = None
        if self._disconnected:
            return
        if expected:
            self.requestHeaders.setRawHeaders(b"expect", expected)
        if refused is not None:
            self._refuse(refused)
        elif expected and expected[0].lower() == b"100-continue" and self.clientproto == b"HTTP/1.1":
            self.channel._send100Continue()
            self.requestHeaders.removeHeader(b"expect")
        if has_body:
            self.channel.release()

    def handleContentChunk(self, data: bytes) -> None:
        self.body.write(data)
        if self.body.too_large and self.refused is None:
            self.refused = RequestTooLarge()
        if self.refused is not None and self.body.size > UNREAD_LIMIT:
            self._refuse_early()

    def _refuse_early(self) -> None:
        """Answer before the body has come. The rest of it is thrown away, for a while: see `UNREAD_LIMIT`."""
        if self.answered_early:
            if self.body.size > 64 * UNREAD_LIMIT:
                self.channel.transport.abortConnection()
            return
        self.answered_early = True
        self.channel.persistent = False
        assert self.refused is not None
        self.channel.write(self._head(Reply(status=self.refused.http_status, headers=self.refused.headers), 0, ""))

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.method, self.uri, self.clientproto = command, path, version
        if self.answered_early:
            self.finish()
            return
        self.body.complete().addCallbacks(self._start, self._body_failed)

    def _body_failed(self, failure: Failure) -> None:
        self._prepare()
        self.channel.persistent = False
        self.site.fail(self, failure)

    def _start(self, _: None) -> None:
        if self._decision is not None:
            self._decision.addCallback(self._start)
            return
        if self._disconnected:
            self.body.discard()
            return
        self._prepare()
        if self.refused is not None:
            self.site.fail(self, Failure(self.refused))
            return
        self.site.answer(self)

    def _prepare(self) -> None:
        self.site = self.channel.site
        path, _, query = self.uri.partition(b"?")
        absolute = _ABSOLUTE.match(path)
        self.path = path[absolute.end() :] if absolute else path
        method = self.method.decode("latin-1")
        self.head = method == "HEAD"
        self.arguments = {}
        if query and method in ("GET", "HEAD"):
            # Bytes for characters, until they are put together again.
            pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
            self.arguments = {_text(name): _text(value) for name, value in pairs}
        override = self._header(b"x-http-method-override")
        if override is None and method == "GET":
            override = self.arguments.get("_method")
        elif self.head:
            method = "GET"
        if override is not None:
            method = override.upper()
            if method not in _OVERRIDES and self.refused is None:
                self.refused = EmptyAnswer(400)
        self.method = method.encode("latin-1", "replace")
        self.segments = split_path(self.path)

    def answer(self, reply: Reply) -> Deferred[None]:
        """Write the reply; fires when all of it is with the transport, or nobody is left to read it."""
        options = self.channel.site.options
        if not (options.compression and reply.compressible and len(reply.body) >= COMPRESSION_THRESHOLD):
            return self._write_answer(reply.body, reply, "")
        encoding = accepted_encoding(self._header(b"accept-encoding"))
        if not encoding:
            return self._write_answer(reply.body, reply, "")
        compress = _COMPRESSORS[encoding]
        if len(reply.body) < _THREAD_THRESHOLD or options.pool is None:
            return self._write_answer(compress(reply.body), reply, encoding)
        compressed: Deferred[bytes] = options.pool.call(compress, reply.body)
        return compressed.addCallback(self._write_answer, reply, encoding)

    def _write_answer(self, body: bytes, reply: Reply, encoding: str) -> Deferred[None]:
        if self._disconnected or self.finished:
            if reply.reader is not None:
                reply.reader.close()
            return succeed(None)
        length = len(body) if reply.reader is None else reply.reader.remaining
        if reply.length is not None:
            length = reply.length
        chunked = length < 0 and self.clientproto == b"HTTP/1.1"
        if length < 0 and not chunked and not self.head:
            # The end of the connection is the end of the body.
            self.channel.persistent = False
        head = self._head(reply, length, encoding)
        self.startedWriting = 1
        if self.head or reply.reader is None:
            self.channel.writeSequence([head] if self.head else [head, body])
            if reply.reader is not None:
                reply.reader.close()
            self.finish()
            return succeed(None)
        self.channel.write(head)
        return self._stream(reply.reader, chunked)

    def _head(self, reply: Reply, length: int, encoding: str) -> bytes:
        self.code = reply.status
        lines = [f"HTTP/1.1 {reply.status} {_phrase(reply.status)}"]
        if self.channel.persistent:
            seconds = self.channel.site.options.keep_alive_timeout
            lines.append(f"Connection: keep-alive\r\nKeep-Alive: timeout={seconds}")
        else:
            lines.append("Connection: close")
        if reply.content_type is not None:
            lines.append(f"Content-Type: {reply.content_type}")
        if encoding:
            lines.append(f"Content-Encoding: {encoding}")
        lines += [f"{name}: {value}" for name, value in reply.headers]
        lines.append("X-Content-Type-Options: nosniff")
        if reply.status not in (204, 304):
            if length >= 0:
                lines.append(f"Content-Length: {length}")
            elif self.clientproto == b"HTTP/1.1" and not self.head:
                lines.append("Transfer-Encoding: chunked")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _stream(self, reader: IReader, chunked: bool) -> Deferred[None]:
        producer = ReaderProducer(self, reader, chunked=chunked)
        self.registerProducer(producer, True)
        producer.resumeProducing()
        return producer.done

    def finish(self) -> None:
        self.finished = 1
        if not self._disconnected:
            self.body.discard()
            self._cleanup()

    def connectionLost(self, reason: Failure) -> None:
        if hasattr(self, "body"):
            self.body.discard()
        super().connectionLost(reason)
        if self._decision is not None:
            self._decision.cancel()


def _text(query_value: str) -> str:
    return query_value.encode("latin-1", "replace").decode("utf-8", "replace")


def accepted_encoding(accepted: str | None) -> str:
    """The name of the compression that a client takes (RFC 9110 section 12.5.3), gzip first; empty for none."""
    names = set()
    for item in (accepted or "").lower().split(","):
        name, *parameters = item.replace(" ", "").replace("\t", "").split(";")
        if not any(_REFUSED.match(parameter) for parameter in parameters):
            names.add(name)
    return next((name for name in _COMPRESSORS if name in names), "")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def split_path(path: bytes) -> tuple[str, ...]:
    """The segments of a path, decoded before it is split; empty ones and dots dropped, ``..`` goes up."""
    segments: list[str] = []
    for segment in unquote(path.decode("latin-1"), "utf-8", "replace").split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return tuple(segments)


class OrthancSite(server.Site):
    """The factory of connections.

    Parameters
    ----------
    render : callable
        ``render(request)`` answers a request whose body is complete.
    fail : callable
        ``fail(request, failure)``, the one way in which a request is answered with an error.
    """

    protocol: Any = OrthancChannel

    def __init__(
        self,
        options: HttpOptions,
        render: Callable[[OrthancRequest], None],
        fail: Callable[[OrthancRequest, Failure], None],
        reactor: IReactorTime,
    ) -> None:
        super().__init__(Resource(), requestFactory=OrthancRequest, reactor=reactor)
        self.options = options
        self.answer = render
        self.fail = fail
        self.connections: set[OrthancChannel] = set()
        self.stopping = False
        self.now = reactor.seconds
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self.stopping or len(self.connections) >= self.options.maximum_connections:
            log.warn("Connection refused: too many, or the server stops")
            return None
        return super().buildProtocol(addr)

    def log(self, request: Any) -> None:
        log.debug("{request.method} {request.path} {request.code}", request=request)

    def startFactory(self) -> None:
        super().startFactory()
        self._sweeper.start(_SWEEP_INTERVAL, now=False)

    def _sweep(self) -> None:
        now = self.now()
        for channel in list(self.connections):
            if channel.is_overdue(now):
                channel.setTimeout(None)
                channel.timeoutConnection()

    def stop_idle(self) -> None:
        """Close connections that wait for a request; the others close after their answer."""
        self.stopping = True
        if self._sweeper.running:
            self._sweeper.stop()
        for channel in list(self.connections):
            if not channel.requests:
                channel.loseConnection()

    def abort(self) -> None:
        """Cut the connections that are left."""
        for channel in list(self.connections):
            channel.transport.abortConnection()
