"""The REST API on Klein: route declarations, the one wrapper around every route, and the dispatcher for scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from werkzeug.exceptions import MethodNotAllowed, NotFound

from orthanctw.errors import EmptyAnswer, ServiceUnavailable
from orthanctw.identifiers import ORTHANC_ID_LENGTH
from orthanctw.metrics import Metrics
from orthanctw.model import Origin, OriginKind
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import Handler, Route, declared_routes
from orthanctw.rest.encoding import JsonEncoder, wants_xml
from orthanctw.rest.errors import FURTHER_METHODS, METHODS, options_reply, render_failure
from orthanctw.rest.reply import Reply
from orthanctw.rest.site import OrthancRequest, split_path
from orthanctw.threads import shield

_T = TypeVar("_T")


class RestApi:
    """All routes.

    Parameters
    ----------
    owners : iterable of objects
        Their methods carry `declaration.route`.
    encoder : JsonEncoder
        Makes XML of JSON for those who ask for it.
    describe_errors : bool
        ``HttpDescribeErrors``.
    is_available : callable
        Whether a route is offered; one that is not is unknown.
    overriding : callable
        What answers a path in place of the routes, or None.
    """

    def __init__(
        self,
        owners: Iterable[object],
        *,
        metrics: Metrics,
        clock: Callable[[], float],
        encoder: JsonEncoder,
        describe_errors: bool = True,
        is_available: Callable[[Route], bool] = lambda _: True,
        overriding: Callable[[str], Handler | None] = lambda _: None,
    ) -> None:
        self.klein = Klein()
        # Works only before the first route.
        self.klein.url_map.strict_slashes = False
        self.routes: dict[str, dict[str, Handler]] = {}
        self.declarations: list[tuple[Route, Handler]] = []
        self.stopping = False
        self.active = 0
        self._metrics = metrics
        self._durations = metrics.durations("orthanctw_http_request_seconds", "Work on HTTP requests", ["method"])
        self._clock = clock
        self._encoder = encoder
        self._describe_errors = describe_errors
        self._overriding = overriding
        for owner in owners:
            for mark, handler in declared_routes(owner):
                if not is_available(mark):
                    continue
                methods = self.routes.setdefault(mark.path, {})
                if mark.method in methods:
                    raise ValueError(f"{mark.method} {mark.path} is declared twice")
                methods[mark.method] = handler
                self.declarations.append((mark, handler))
        for path, methods in self.routes.items():
            self._add(path, methods)
        self._adapter = self.klein.url_map.bind("localhost")
        self._known_paths: dict[tuple[str, str, tuple[str, ...]], str] = {}

    def _add(self, path: str, methods: Mapping[str, Handler]) -> None:
        async def endpoint(request: OrthancRequest, **parameters: str) -> None:
            await self._answer(request, methods[request.method.decode("latin-1")], parameters)

        # Klein finds the handler by its endpoint; the names of our handlers are not unique.
        self.klein.route(path, methods=list(methods), endpoint=path)(endpoint)

    async def _answer(self, request: OrthancRequest, handler: Handler, parameters: Mapping[str, str]) -> None:
        if self.stopping:
            raise ServiceUnavailable("The server is stopping")
        await request.answer(await self._serve(handler, self._call(request, parameters)))

    def render(self, request: OrthancRequest) -> None:
        """Route a request; what Klein's own resource does, without what nothing here uses."""
        try:
            options = self._options(request.segments) if request.method == b"OPTIONS" else None
            if options is not None:
                request.answer(options)
                return
            method = request.method.decode("latin-1")
            handler = self._overriding(_path_of(request)) if method in METHODS else None
            running: Any
            if handler is not None:
                running = Deferred.fromCoroutine(self._answer(request, handler, {}))
            else:
                path, parameters = self._match(request.segments, method)
                running = self.klein.execute_endpoint(path, request, **parameters)
        except Exception:  # noqa: BLE001 - whatever it is, the client is told
            self.fail(request, Failure())
            return
        request.notifyFinish().addErrback(lambda _: running.cancel())
        running.addErrback(self._failed, request)

    def _options(self, segments: tuple[str, ...]) -> Reply | None:
        """The answer to OPTIONS; None where there is a route for it. NotFound."""
        if segments == ("*",):
            # The server as a whole.
            return options_reply(METHODS)
        if self._overriding("/" + "/".join(segments)) is not None:
            return options_reply(METHODS)
        allowed = set(self._adapter.allowed_methods("/" + "/".join(segments)))
        if not allowed:
            raise NotFound()
        return None if "OPTIONS" in allowed else options_reply(allowed)

    def _match(self, segments: tuple[str, ...], method: str) -> tuple[str, Mapping[str, Any]]:
        """The route of a path, and the parts of the path that it names. NotFound, MethodNotAllowed."""
        if method not in METHODS and method not in FURTHER_METHODS:
            raise MethodNotAllowed()
        # Most requests differ in the identifier alone, and the URL map takes its time.
        key = None
        if len(segments) > 1 and len(segments[1]) == ORTHANC_ID_LENGTH:
            key = (method, segments[0], segments[2:])
            known = self._known_paths.get(key)
            if known is not None:
                return known, {"id": segments[1]}
        path, parameters = self._adapter.match("/" + "/".join(segments), method=method)
        if key is not None and parameters == {"id": segments[1]}:
            # Bounded by the number of routes: such a path has no other variable part.
            self._known_paths[key] = path
        return path, parameters

    def _call(self, request: OrthancRequest, parameters: Mapping[str, str]) -> Call:
        return Call(
            method=request.method.decode("latin-1"),
            path=_path_of(request),
            arguments=request.arguments,
            headers=_Headers(request),
            body=request.body.content(),
            origin=Origin(
                kind=OriginKind.REST_API, remote_ip=request.client.host, username=request.username
            ),
            parameters=parameters,
            is_head=request.head,
        )

    async def _serve(self, handler: Handler, call: Call) -> Reply:
        """The one wrapper: timing, and work that outlives the client's interest."""
        started = self._clock()
        work = Deferred.fromCoroutine(handler(call))
        self.active += 1
        work.addBoth(self._finished, started, call.method)
        left: list[bool] = []
        work.addCallback(_unless_left, left)
        try:
            reply = await (work if call.method == "GET" else shield(work))
        except CancelledError:
            left.append(True)
            raise
        if reply is None:
            raise EmptyAnswer(400 if call.method == "POST" else 404)
        return await self._encoder.as_xml(reply) if wants_xml(call) else reply

    def _finished(self, result: _T, started: float, method: str) -> _T:
        self.active -= 1
        elapsed = self._clock() - started
        self._metrics.peak("orthanc_rest_api_duration_ms", elapsed * 1000)
        self._durations.observe(elapsed, method)
        return result

    async def dispatch(self, call: Call, *, is_builtin: bool = True) -> Reply:
        """Answer a call that came without a socket, even while the server stops. Fails as the route does.

        Parameters
        ----------
        is_builtin : bool
            Ask the routes, and not what is in their place.
        """
        segments = split_path(call.path.encode("utf-8"))
        if not is_builtin:
            whole = "/" + "/".join(segments)
            handler = self._overriding(whole)
            if handler is not None:
                return await self._serve(handler, attrs.evolve(call, path=whole))
        path, parameters = self._match(segments, call.method)
        return await self._serve(self.routes[path][call.method], attrs.evolve(call, parameters=parameters))

    def _failed(self, failure: Failure, request: OrthancRequest) -> None:
        # A client that has left cancels its request; nobody reads an answer.
        if not failure.check(CancelledError):
            self.fail(request, failure)

    def fail(self, request: OrthancRequest, failure: Failure) -> None:
        """Answer a request with the error that `failure` means."""
        method = request.method.decode("latin-1")
        request.answer(render_failure(failure, method, _path_of(request), described=self._describe_errors))
        # Failures are part of circles: what their frames hold, bodies above all, would stay until the collector comes.
        failure.cleanFailure()


def _unless_left(reply: Reply | None, left: list[bool]) -> Reply | None:
    """An answer; what it holds is let go when nobody waits for it any more."""
    if left and reply is not None and reply.reader is not None:
        reply.reader.close()
    return reply


def _path_of(request: OrthancRequest) -> str:
    return "/" + "/".join(request.segments)


class _Headers(Mapping[str, str]):
    """Headers of a request, by lower-case name; looked up when asked, as few routes ask."""

    def __init__(self, request: OrthancRequest) -> None:
        self._headers = request.requestHeaders

    def __getitem__(self, name: str) -> str:
        # By bytes: as text, a header that is no UTF-8 would fail.
        values = self._headers.getRawHeaders(name.encode("latin-1", "replace"))
        if not values:
            raise KeyError(name)
        # The one that filters decide by.
        return values[0].decode("utf-8", "replace")

    def __iter__(self) -> Any:
        return iter(name.decode("latin-1").lower() for name, _ in self._headers.getAllRawHeaders())

    def __len__(self) -> int:
        return sum(1 for _ in self._headers.getAllRawHeaders())
