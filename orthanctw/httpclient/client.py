"""The client: requests over kept connections, with everything that may go wrong told in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.errors import ServiceUnavailable
from orthanctw.httpclient.transfer import BytesBody, Collector, Producer, Watch, own_error, reasons
from orthanctw.httpclient.tunnel import basic
from orthanctw.httpclient.values import Authority, ClientOptions, HttpAnswer, HttpFailure, HttpRequest

if TYPE_CHECKING:
    from orthanctw.httpclient.certificates import Trust
    from orthanctw.httpclient.connections import Connections, OneRequest

log = Logger(namespace="orthanctw.http")
#: Certificates that connections are kept for at once.
_IDENTITIES: Final = 64
#: How often a request is sent at most, when connections that were kept turn out to be closed.
_ATTEMPTS: Final = 3
#: Methods without a body: others have one, if of no bytes.
_BODILESS: Final = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))


class HttpClient:
    """Outgoing HTTP and HTTPS.

    Parameters
    ----------
    reactor : any
    call : callable
        Runs blocking work on a thread: reading certificates.
    options : ClientOptions
    """

    def __init__(self, reactor: Any, call: Callable[..., Deferred[Any]], options: ClientOptions) -> None:
        self._reactor = reactor
        self._call = call
        self._options = options
        self._plain: Connections | None = None
        #: By how they begin; the one used last is the last.
        self._secure: dict[Trust, Connections] = {}
        self._active: set[Deferred[HttpAnswer]] = set()
        self._stopped = False

    def request(self, request: HttpRequest) -> Deferred[HttpAnswer]:
        """Ask; the answer, whatever its status. Redirections are answers, too.

        Fails with HttpFailure when there is none, and with what reading the body raises. Cancelling it ends the
        connection.
        """
        asked: Deferred[HttpAnswer] = Deferred.fromCoroutine(self._ask(request))
        self._active.add(asked)

        def over(result: HttpAnswer | Failure) -> HttpAnswer | Failure:
            self._active.discard(asked)
            return result

        return asked.addBoth(over)

    async def close(self) -> None:
        """End what is under way, and what is kept."""
        self._stopped = True
        for asked in list(self._active):
            asked.cancel()
        kept = [*self._secure.values(), *([self._plain] if self._plain is not None else ())]
        self._secure.clear()
        self._plain = None
        for connections in kept:
            await connections.close()

    async def _ask(self, request: HttpRequest) -> HttpAnswer:
        host = Authority.of(request.url).host
        started = self._reactor.seconds()
        outcome = "given up"
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                if self._stopped:
                    raise ServiceUnavailable("The server is stopping")
                connections = await self._connections(request)
                exchange = _Exchange(self._reactor, self._options, connections, request)
                try:
                    answer = await exchange.run()
                except HttpFailure as e:
                    outcome = e.details
                    if attempt == _ATTEMPTS or not exchange.may_repeat:
                        raise
                    # The others are as old as this one.
                    connections.close()
                else:
                    outcome = f"{answer.status} {answer.reason}, {len(answer.body)} bytes"
                    return answer
            raise AssertionError
        finally:
            if self._options.is_verbose:
                log.warn(
                    "{method} {path} of {host}: {outcome} after {seconds:.3f} s",
                    method=request.method,
                    path=urlsplit(request.url).path,
                    host=host,
                    outcome=outcome,
                    seconds=self._reactor.seconds() - started,
                )

    async def _connections(self, request: HttpRequest) -> Connections:
        # Not before somebody is asked: a server starts without what TLS needs.
        from orthanctw.httpclient.certificates import Trust
        from orthanctw.httpclient.connections import Connections

        if urlsplit(request.url).scheme != "https":
            if self._plain is None:
                self._plain = Connections(self._reactor, self._options.proxy, None)
            return self._plain
        trust = Trust(request.certificate, self._options.authorities, self._options.verifies)
        trust = await self._call(trust.current)
        if trust not in self._secure:
            context = await self._call(trust.context)
            if trust not in self._secure:
                self._secure[trust] = Connections(self._reactor, self._options.proxy, context)
        # Used last, it is the last to go.
        found = self._secure[trust] = self._secure.pop(trust)
        if len(self._secure) > _IDENTITIES:
            self._secure.pop(next(iter(self._secure))).close()
        return found


class _Exchange:
    """One request that is sent once."""

    def __init__(self, reactor: Any, options: ClientOptions, connections: Connections, request: HttpRequest) -> None:
        from orthanctw.httpclient.connections import OneRequest

        self._reactor = reactor
        self._request = request
        self._seconds = options.timeout if request.timeout is None else request.timeout
        self._agent: OneRequest = OneRequest(connections)
        self._asked: Deferred[Any] | None = None
        self._expired = False

    @property
    def may_repeat(self) -> bool:
        """Whether it failed because an old connection was closed meanwhile."""
        agent = self._agent
        has_begun = agent.has_answer or agent.has_long_head
        return self._request.is_repeatable and agent.is_reused and not has_begun and not self._expired

    async def run(self) -> HttpAnswer:
        body = self._request.body
        reader = BytesBody(body) if isinstance(body, bytes) else await body()
        watch = Watch(self._reactor, self._seconds, self._expire)
        producer = Producer(reader, watch.moved)
        try:
            return await self._answer(watch, producer)
        except Exception as e:  # noqa: BLE001 - Twisted's client fails in many ways; `meaning` tells them apart
            if self._expired:
                raise HttpFailure(f"No answer within {self._seconds:g} s", is_transient=True) from None
            if self._agent.has_long_head:
                raise HttpFailure("The head of the answer is too long") from None
            raise meaning(e) from None
        finally:
            watch.stop()
            if not producer.is_over:
                # There was no connection, or the answer came too early: nobody reads the rest.
                producer.stopProducing()
                self._agent.abort()

    async def _answer(self, watch: Watch, producer: Producer) -> HttpAnswer:
        # Not before somebody is asked: its import takes a while.
        from treq.client import HTTPClient

        url, headers = self._addressed()
        has_body = producer.length > 0 or self._request.method not in _BODILESS
        # A client of its own: it keeps cookies.
        self._asked = HTTPClient(self._agent).request(
            self._request.method,
            url,
            headers=headers,
            data=producer if has_body else None,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )
        if not has_body:
            producer.stopProducing()
        response = await self._asked
        self._agent.has_answer = True
        watch.moved()
        collector = Collector(self._request.maximum, watch.moved, self._agent.abort)
        response.deliverBody(collector)
        body = await collector.body
        shown = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return HttpAnswer(response.code, response.phrase.decode("latin-1"), shown, body)

    def _addressed(self) -> tuple[str, dict[str | bytes, str | bytes]]:
        """The URL without its credentials, and the headers with those that count."""
        authority = Authority.of(self._request.url)
        parts = urlsplit(self._request.url)
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        headers: dict[str | bytes, str | bytes] = {}
        headers.update(self._request.headers.items())
        username = self._request.username or authority.username
        if username and not any(name.lower() == "authorization" for name in self._request.headers):
            password = self._request.password if self._request.username else authority.password
            headers["Authorization"] = basic(username, password)
        return url, headers

    def _expire(self) -> None:
        self._expired = True
        if not self._agent.abort() and self._asked is not None:
            self._asked.cancel()


def meaning(error: Exception) -> Exception:
    """What an error of Twisted's client means."""
    from orthanctw.httpclient.failures import told

    found = reasons(Failure(error))
    for reason in reversed(found):
        if isinstance(reason, CancelledError | ConnectingCancelledError):
            return CancelledError()
        if own_error(reason):
            return cast(Exception, reason)
    return told(found)
