"""Connections that are kept and used again; those with different certificates never serve each other."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.web.client import URI, Agent, HTTPConnectionPool, ProxyAgent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from orthanctw.httpclient.certificates import ConnectionCreator
from orthanctw.httpclient.tunnel import TunnelEndpoint, basic
from orthanctw.httpclient.values import Proxy

#: Idle connections that are kept for each host.
_KEPT: Final = 16
#: Seconds that they are kept; whoever closes earlier is asked again on a new one.
_IDLE: Final = 10
#: Seconds that a connection may need to be made; the time limit of a request usually comes first.
_CONNECT: Final = 120
#: Bytes that may come before the head of an answer is complete.
_LONGEST_HEAD: Final = 256 * 1024


@implementer(IAgentEndpointFactory)
class Connections:
    """Makes and keeps connections that begin alike. `context` is needed for HTTPS only."""

    def __init__(self, reactor: Any, proxy: Proxy | None, context: SSL.Context | None) -> None:
        self.reactor = reactor
        self.proxy = proxy
        self._context = context
        self.pool = HTTPConnectionPool(reactor)
        self.pool.maxPersistentPerHost = _KEPT
        self.pool.cachedConnectionTimeout = _IDLE
        # It would only do so for some methods, and not tell.
        self.pool.retryAutomatically = False
        self.to_proxy: IStreamClientEndpoint | None = None
        if proxy is not None:
            self.to_proxy = self._to(proxy.authority.host, proxy.authority.port)

    def _to(self, host: str, port: int) -> IStreamClientEndpoint:
        # For an address, nobody is to be asked, and there are no others to be tried after a while.
        kind: Any = HostnameEndpoint
        if isIPAddress(host):
            kind = TCP4ClientEndpoint
        elif isIPv6Address(host):
            kind = TCP6ClientEndpoint
        endpoint: IStreamClientEndpoint = kind(self.reactor, host, port, timeout=_CONNECT)
        return endpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii")
        if self.proxy is not None and self.to_proxy is not None:
            endpoint: IStreamClientEndpoint = TunnelEndpoint(self.to_proxy, self.proxy.authority, host, uri.port)
        else:
            endpoint = self._to(host, uri.port)
        if uri.scheme == b"https":
            assert self._context is not None
            secured: IStreamClientEndpoint = wrapClientTLS(ConnectionCreator(self._context, host), endpoint)
            return secured
        return endpoint

    def close(self) -> Deferred[None]:
        """End connections that nobody uses."""
        closed: Deferred[None] = self.pool.closeCachedConnections()
        return closed


@implementer(IStreamClientEndpoint)
class _Noting:
    """An endpoint that notes that it is used: that no connection was there already."""

    def __init__(self, endpoint: IStreamClientEndpoint, request: OneRequest) -> None:
        self._endpoint = endpoint
        self._request = request

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        self._request.is_reused = False
        connected: Deferred[IProtocol] = self._endpoint.connect(factory)
        return connected


@implementer(IAgent)
class OneRequest:
    """An agent for a single request, which knows the connection that it goes over; as a pool is asked, too."""

    persistent = True

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._connection: Any = None
        self._head = 0
        #: Whether the connection has carried another request before.
        self.is_reused = False
        #: Whether the head of the answer is there.
        self.has_answer = False
        self.has_long_head = False

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        headers = Headers() if headers is None else headers.copy()
        # A few bytes that inflate to a lot are no answer that we want.
        headers.removeHeader(b"Accept-Encoding")
        proxy, to_proxy = self._connections.proxy, self._connections.to_proxy
        agent: Any
        if proxy is not None and uri.startswith(b"http:"):
            if proxy.authority.username:
                credentials = basic(proxy.authority.username, proxy.authority.password)
                headers.setRawHeaders(b"Proxy-Authorization", [credentials.encode("ascii")])
            agent = ProxyAgent(to_proxy, self._connections.reactor, pool=self)
        else:
            agent = Agent.usingEndpointFactory(self._connections.reactor, self._connections, pool=self)
        asked: Deferred[IResponse] = agent.request(method, uri, headers, bodyProducer)
        return asked

    def getConnection(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """As `HTTPConnectionPool` has it."""
        self.is_reused = True
        connected: Deferred[Any] = self._connections.pool.getConnection(key, _Noting(endpoint, self))
        return connected.addCallback(self._connected)

    def _connected(self, connection: Any) -> Any:
        self._connection = connection
        receive = type(connection).dataReceived

        def bounded(data: bytes) -> None:
            # Twisted's client takes as many headers as there are.
            if not self.has_answer:
                self._head += len(data)
                if self._head > _LONGEST_HEAD:
                    self.has_long_head = True
                    self.abort()
                    return
            receive(connection, data)

        connection.dataReceived = bounded
        return connection

    def abort(self) -> bool:
        """End the connection at once; False when there is none yet."""
        if self._connection is None:
            return False
        self._connection.transport.abortConnection()
        return True
