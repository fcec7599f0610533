"""HTTP servers in the process of the tests, well-behaved and not, and a proxy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.http import HTTPChannel, HTTPFactory, Request
from zope.interface import implementer

from test.certificates import Identity

STORED = json.dumps({"Status": "Success"}).encode()


@attrs.frozen
class Asked:
    """A request as it arrived; names of `headers` are in lower case. `connection` tells connections apart."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@attrs.frozen
class Say:
    """What is answered."""

    status: int = 200
    body: bytes = STORED
    headers: dict[str, str] = attrs.field(factory=dict)


class _Request(Request):
    def process(self) -> None:
        headers = {
            name.decode().lower(): values[-1].decode("latin-1")
            for name, values in self.requestHeaders.getAllRawHeaders()
        }
        self.content.seek(0)
        body = self.content.read()
        server: HttpServer = self.channel.factory.server  # type: ignore[attr-defined]
        server.told(Asked(self.method.decode(), self.uri.decode(), headers, body, id(self.channel)), self)


class _Channel(HTTPChannel):
    requestFactory = _Request  # noqa: N815 - Twisted's name

    def connectionMade(self) -> None:
        self.factory.server.connections += 1  # type: ignore[attr-defined]
        super().connectionMade()


class HttpServer:
    """Keeps what it is asked, and answers what `answer` says: a `Say`, or None for nothing, now or ever."""

    def __init__(self, answer: Callable[[Asked], Say | None] = lambda asked: Say()) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.connections = 0
        self.waiting: list[tuple[Asked, Request]] = []
        self._wanted: tuple[int, Deferred[None]] | None = None

    def factory(self) -> Factory:
        factory = HTTPFactory()
        factory.protocol = _Channel
        factory.server = self  # type: ignore[attr-defined]
        return factory  # type: ignore[return-value]

    def told(self, asked: Asked, request: Request) -> None:
        self.asked.append(asked)
        answer = self.answer(asked)
        if answer is None:
            self.waiting.append((asked, request))
        else:
            _say(request, answer)
        if self._wanted is not None and len(self.asked) >= self._wanted[0]:
            wanted, self._wanted = self._wanted[1], None
            wanted.callback(None)

    def until(self, count: int) -> Deferred[None]:
        """Fires when it was asked so often."""
        wanted: Deferred[None] = Deferred()
        if len(self.asked) >= count:
            wanted.callback(None)
        else:
            self._wanted = (count, wanted)
        return wanted

    def release(self, say: Say) -> None:
        """Answer all who wait."""
        waiting, self.waiting = self.waiting, []
        for _, request in waiting:
            _say(request, say)


def _say(request: Request, answer: Say) -> None:
    request.setResponseCode(answer.status)
    for name, value in answer.headers.items():
        request.setHeader(name, value)
    request.setHeader("Content-Length", str(len(answer.body)))
    request.write(answer.body)
    request.finish()


class Talker(Protocol):
    """Says what it is told to say, once something arrives; ``None`` at the end closes the connection."""

    def __init__(self, *words: bytes | None) -> None:
        self._words = words
        self.received = b""

    def then(self, *words: bytes | None) -> None:
        """Say this when something else arrives."""
        self._words = words

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.received += data
        words, self._words = self._words, ()
        for word in words:
            if word is None:
                self.transport.loseConnection()
            else:
                self.transport.write(word)


class Proxy(Protocol):
    """A proxy that knows CONNECT only; `factory.seen` are the heads of requests."""

    def __init__(self) -> None:
        self._head = b""
        self._other: Any = None
        self._early = b""

    def dataReceived(self, data: bytes) -> None:
        if self._other is not None:
            self._other.transport.write(data)
            return
        self._head += data
        head, end, _ = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        self.factory.seen.append(head.decode())  # type: ignore[attr-defined]
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        # Names are resolved here.
        address = "127.0.0.1" if host == "localhost" else host
        factory = Factory.forProtocol(_Other)
        factory.proxy = self  # type: ignore[attr-defined]
        connecting: Any = TCP4ClientEndpoint(reactor, address, int(port)).connect(factory)
        connecting.addCallback(self._connected)

    def _connected(self, other: Protocol) -> None:
        self._other = other
        self.transport.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._other is not None:
            self._other.transport.loseConnection()


class _Other(Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.factory.proxy.transport.write(data)  # type: ignore[attr-defined,union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.proxy.transport.loseConnection()  # type: ignore[attr-defined,union-attr]


class Deaf(Protocol):
    """Reads nothing."""

    def connectionMade(self) -> None:
        # Nobody else knows of a connection that is not read.
        self.factory.kept = self  # type: ignore[attr-defined]
        self.transport.pauseProducing()  # type: ignore[union-attr]


@implementer(IOpenSSLServerConnectionCreator)
class TlsContext:
    """Server side of TLS, as Twisted wants it; with `authority`, clients need a certificate of it."""

    def __init__(self, identity: Identity, authority: str = "") -> None:
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_certificate_file(identity.certificate)
        self._context.use_privatekey_file(identity.private_key)
        if authority:
            self._context.load_verify_locations(authority)
            self._context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *a: bool(a[-1]))

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context, None)


def listen(case: TestCase, factory: Factory, tls: TlsContext | None = None) -> int:
    """A port of 127.0.0.1 for the length of a test."""
    if tls is None:
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    else:
        port = reactor.listenSSL(0, factory, tls, interface="127.0.0.1")  # type: ignore[attr-defined]
    case.addCleanup(port.stopListening)
    return int(port.getHost().port)


def talkers(case: TestCase, *words: bytes | None, tls: TlsContext | None = None) -> tuple[int, list[Talker]]:
    """A port whose connections are `Talker`s, and these."""
    made: list[Talker] = []

    class _Factory(Factory):
        def buildProtocol(self, addr: object) -> Talker:
            made.append(Talker(*words))
            return made[-1]

    return listen(case, _Factory(), tls), made


def proxy(case: TestCase) -> tuple[int, list[str]]:
    """The port of a proxy, and the heads of requests that it has seen."""
    factory = Factory.forProtocol(Proxy)
    factory.seen = []  # type: ignore[attr-defined]
    return listen(case, factory), factory.seen  # type: ignore[attr-defined]
