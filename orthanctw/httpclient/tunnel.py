"""A connection through an HTTP proxy, by CONNECT (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import base64
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from orthanctw.httpclient.values import Authority, HttpFailure

#: Longest head of a proxy's answer.
_MAXIMUM: Final = 16 * 1024


def basic(username: str, password: str) -> str:
    """The value of a header with these credentials (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


class _Tunnel(Protocol):
    """Asks the proxy for a connection, then leaves it to the protocol of a factory, which `opened` fires with."""

    def __init__(self, host: str, port: int, proxy: Authority, factory: IProtocolFactory) -> None:
        self._target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._proxy = proxy
        self._factory = factory
        self._head = b""
        self._inner: IProtocol | None = None
        self.opened: Deferred[IProtocol] = Deferred(lambda _: self._abort())

    def connectionMade(self) -> None:
        assert self.transport is not None
        lines = [f"CONNECT {self._target} HTTP/1.1", f"Host: {self._target}"]
        if self._proxy.username:
            lines.append(f"Proxy-Authorization: {basic(self._proxy.username, self._proxy.password)}")
        self.transport.write("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1", "replace"))

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self.opened.called:
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            if len(self._head) > _MAXIMUM:
                self._refuse("The proxy gives no answer to CONNECT")
            return
        status = head.split(b"\r\n")[0].split(b" ", 2)
        if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or not status[1].isdigit():
            self._refuse("The proxy does not speak HTTP")
        elif not status[1].startswith(b"2"):
            self._refuse(f"The proxy refuses the connection by status {int(status[1])}")
        else:
            self._open(rest)

    def _open(self, rest: bytes) -> None:
        assert self.transport is not None
        self._head = b""
        self._inner = inner = self._factory.buildProtocol(self.transport.getPeer())
        assert inner is not None
        inner.makeConnection(self.transport)
        self.opened.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def _refuse(self, details: str) -> None:
        self.opened.errback(HttpFailure(details))
        self._abort()

    def _abort(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self.opened.called:
            self.opened.errback(HttpFailure("The proxy has closed the connection", is_transient=True))


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """A host and port behind a proxy, which `endpoint` connects to."""

    def __init__(self, endpoint: IStreamClientEndpoint, proxy: Authority, host: str, port: int) -> None:
        self._endpoint = endpoint
        self._proxy = proxy
        self._host = host
        self._port = port

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        tunnel = _Tunnel(self._host, self._port, self._proxy, factory)
        connected: Deferred[IProtocol] = self._endpoint.connect(Factory.forProtocol(lambda: tunnel))
        return connected.addCallback(lambda _: tunnel.opened)
