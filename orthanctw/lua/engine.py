"""The face of Lua to the server, in the reactor's thread: filters are asked, events told, scripts run."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.lua.context import TOO_LATE, LuaContext
from orthanctw.lua.functions import Functions
from orthanctw.lua.values import LuaError, LuaOptions, LuaServices
from orthanctw.lua.worker import Event, Frame, LuaWorker, Task, Values, log_failure
from orthanctw.metrics import Metrics
from orthanctw.threads import Bridge

log = Logger(namespace="orthanctw.lua")
_LEVELS: Final = ("Patient", "Study", "Series")
#: Callbacks that are told of something; in those of the first kind, operations for later can be given.
FOLLOWED: Final = frozenset(
    (
        "OnStoredInstance",
        *(f"OnStable{level}" for level in _LEVELS),
        *(f"On{event}{level}" for event in ("Deleted", "Updated") for level in (*_LEVELS, "Instance")),
    )
)
EVENTS: Final = frozenset(
    (*FOLLOWED, "Initialize", "Finalize", "OnJobSubmitted", "OnJobSuccess", "OnJobFailure", "OnHeartBeat")
)
#: Callbacks that decide.
FILTERS: Final = frozenset(
    (
        "ReceivedInstanceFilter",
        "ReceivedCStoreInstanceFilter",
        "OutgoingCStoreInstanceFilter",
        "IncomingHttpRequestFilter",
        "IncomingFindRequestFilter",
        "OutgoingFindRequestFilter",
        "IncomingWorklistRequestFilter",
    )
)
#: Those of them that answer yes or no.
PREDICATES: Final = frozenset(
    (
        "ReceivedInstanceFilter",
        "OutgoingCStoreInstanceFilter",
        "IncomingHttpRequestFilter",
    )
)
#: Waiting events after which a warning is logged, and again after twice as many.
_MANY_EVENTS: Final = 5000


class LuaEngine:
    """All Lua of a server, on one thread that starts with `start`, if there is any Lua at all.

    Parameters
    ----------
    reactor : any
    services : LuaServices
        What scripts can ask of the server.
    """

    def __init__(self, reactor: Any, services: LuaServices, options: LuaOptions, metrics: Metrics) -> None:
        self._reactor = reactor
        self._services = services
        self._options = options
        self._metrics = metrics
        self._bridge = Bridge(reactor)
        self._worker = LuaWorker(reactor, self._tell, self._between)
        self._context = LuaContext(
            self._worker,
            Functions(self._worker, services, options, self._bridge.begin),
            options,
            sorted(EVENTS | FILTERS),
        )
        self._is_running = False
        self._warns_at = _MANY_EVENTS
        self._durations = metrics.durations("orthanctw_lua_seconds", "Callbacks of Lua", ["callback"])
        metrics.gauge("orthanctw_lua_waiting", lambda: self._worker.waiting)

    @property
    def is_used(self) -> bool:
        """Whether there is any Lua."""
        return self._options.is_used

    @property
    def executes(self) -> bool:
        """``ExecuteLuaEnabled``."""
        return self._options.executes

    async def start(self) -> None:
        """Run the configured scripts, in their order. ConfigurationError, naming script and line."""
        if not self._options.is_used:
            return
        self._worker.start()
        self._is_running = True
        try:
            await self._worker.post(Task(self._context.open)).done
        except BaseException:
            self._is_running = False
            self._worker.end()
            raise

    async def stop(self, deadline: float) -> None:
        """Tell what waits, then ``Finalize``; what has not ended at the reactor's time `deadline` is killed."""
        if not self._is_running:
            return
        self.notify("Finalize")
        self._is_running = False
        ended = self._worker.post(Task(self._context.close)).done
        late = self._reactor.callLater(max(0.0, deadline - self._reactor.seconds()), self._worker.abort)
        try:
            await ended
        except ServiceUnavailable:
            log.error("Lua: callbacks were given up, since the server stops")
        finally:
            if late.active():
                late.cancel()
            self._worker.end()
            self._bridge.stop()

    def has(self, name: str) -> bool:
        """Whether scripts define a callback; a moment ago they may not have."""
        return name in self._context.defined

    def call_filter(self, name: str, *values: Any, deadline: float | None = None) -> Deferred[Any]:
        """What a callback that decides answers, as JSON; None when there is none.

        A value that can be called is made in Lua's thread.
        Numbers within tables are strings. Fails with ServiceUnavailable after `deadline` seconds (``LuaFilterTimeout``
        when None) and while stopping, with LuaError when the callback fails, with LUA_BAD_OUTPUT when it does not
        return one value, and with NOT_LUA_PREDICATE when that is no boolean and should be.
        """
        if not self._is_running:
            return fail(ServiceUnavailable("Lua has stopped")) if self.has(name) else succeed(None)
        seconds = self._options.answer if deadline is None else deadline
        until = time.monotonic() + seconds
        task = self._worker.post(Task(lambda: self._ask(name, values, until)), overtakes=True)
        late = self._reactor.callLater(seconds, self._give_up, task, name, seconds)

        def answered(result: Any) -> Any:
            # It may still wait for its turn when nobody else does.
            task.is_wanted = False
            if late.active():
                late.cancel()
            if isinstance(result, Failure) and result.check(ServiceUnavailable):
                self._metrics.add("orthanctw_lua_late_answers_total")
            return result

        return task.done.addBoth(answered)

    def notify(self, name: str, *values: Any, make: Values | None = None) -> None:
        """Tell a callback, when those before have been told. An error is logged.

        `make` makes further values when its turn comes; of those a value that can be called is made in Lua's thread.
        """
        if self._is_running and self.has(name):
            self._metrics.add("orthanctw_lua_events_total")
            self._worker.note(Event(name, values, make))
            self._warn_of_many()

    def beat(self, name: str) -> Deferred[None]:
        """Tell a callback before all that waits. An error is logged. Fires when it has been told."""
        if not (self._is_running and self.has(name)):
            return succeed(None)
        task = Task(lambda: self._tell(Event(name, ())))
        return self._worker.post(task, is_next=True).done.addErrback(log_failure, name)

    def execute(self, source: bytes, *, is_nested: bool = False) -> Deferred[bytes]:
        """Run code; what it prints. Fails with LuaError.

        `is_nested`: on behalf of a script, which waits for it.
        """
        if not self._is_running:
            return fail(ServiceUnavailable("Lua has stopped"))
        if is_nested and self._worker.is_deepest:
            return fail(LuaError("Scripts run each other too deeply"))
        return self._worker.post(Task(lambda: self._context.execute(source)), overtakes=is_nested).done

    # In Lua's thread

    def _between(self) -> None:
        if self._is_running:
            self._context.tidy()

    def _ask(self, name: str, values: Sequence[Any], until: float) -> Any:
        started = time.monotonic()
        try:
            results = self._context.call(name, _made(values), until)
        finally:
            self._durations.observe(time.monotonic() - started, name)
        if results is None:
            return None
        if len(results) != 1:
            raise OrthancError(name, code=ErrorCode.LUA_BAD_OUTPUT)
        if name in PREDICATES and not isinstance(results[0], bool):
            raise OrthancError(name, code=ErrorCode.NOT_LUA_PREDICATE)
        if results[0] is None:
            raise OrthancError(name, code=ErrorCode.LUA_BAD_OUTPUT)
        return results[0]

    def _tell(self, event: Event) -> None:
        name = event.name
        further = () if event.make is None else self._wait(event.make, *event.values)
        if further is None:
            return
        started = time.monotonic()
        try:
            operations = self._context.tell(name, _made([*event.values, *further]), is_followed=name in FOLLOWED)
        finally:
            self._durations.observe(time.monotonic() - started, name)
        if operations:
            self._wait(self._services.submit, operations)

    def _wait(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """What the reactor answers; filters are served meanwhile."""
        self._worker.enter(Frame(expires=math.inf))
        try:
            return self._worker.wait(self._bridge.begin(function, *arguments), self._options.wait)
        finally:
            self._worker.leave()

    # In the reactor's thread

    def _warn_of_many(self) -> None:
        waiting = self._worker.waiting
        if waiting >= self._warns_at:
            log.warn("Lua: {count} events wait: callbacks are slower than what they are told of", count=waiting)
            self._warns_at *= 2
        elif waiting < _MANY_EVENTS // 2:
            self._warns_at = _MANY_EVENTS

    def _give_up(self, task: Task, name: str, seconds: float) -> None:
        task.is_wanted = False
        if not task.done.called:
            log.error("Lua: {name} has not answered within {seconds:g} s", name=name, seconds=seconds)
            task.done.errback(ServiceUnavailable(TOO_LATE))


def _made(values: Sequence[Any]) -> list[Any]:
    return [value() if callable(value) else value for value in values]
