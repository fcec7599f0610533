"""Threads on which scripts run."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from orthanctw.errors import ServiceUnavailable
from orthanctw.threads import Call

#: Threads at most, those included whose scripts gave no answer in time.
MAXIMUM: Final = 512
#: Seconds after which a thread without work ends.
_IDLE: Final = 10.0


class ScriptThreads:
    """Threads that are started when there is work and end when there is none.

    What is not `urgent` waits while `size` such calls run. What is urgent begins at once, since somebody waits for it
    who may hold one of the other threads: a call of a script to the server may ask scripts in turn.
    """

    def __init__(self, reactor: IReactorFromThreads, name: str, size: int) -> None:
        self._reactor = reactor
        self._name = name
        self._size = size
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Call[Any]] = queue.SimpleQueue()
        self._waiting: deque[Call[Any]] = deque()
        self._running = 0
        #: Ends of the calls that are limited.
        self._limited: set[Callable[[Any], None]] = set()
        self._free = 0
        self._count = 0
        self._started = 0
        self._stopped = False
        self._pid = os.getpid()

    @property
    def waiting(self) -> int:
        """Calls that have not begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Calls that threads are at."""
        return self._count - self._free

    def call(self, function: Callable[..., Any], *args: Any, urgent: bool = False) -> Deferred[Any]:
        """Run a function in a thread; in the reactor's thread. ServiceUnavailable when there are no threads left."""
        call: Call[Any] = Call(function, args, {})
        if self._stopped or (urgent and self._count >= MAXIMUM and not self._free):
            return fail(ServiceUnavailable("Scripts have stopped" if self._stopped else "Scripts take all the threads"))
        if urgent:
            self._begin(call)
        elif self._running >= self._size:
            self._waiting.append(call)
        else:
            self._begin_ordinary(call)
        return call.deferred

    def call_limited(
        self, seconds: float, function: Callable[..., Any], *args: Any
    ) -> Deferred[Any]:
        """As `call`, urgent; fails with ServiceUnavailable when there is no answer within `seconds`."""
        done = self.call(function, *args, urgent=True)
        outer: Deferred[Any] = Deferred(lambda _: timer.cancel())

        def late() -> None:
            outer.errback(ServiceUnavailable(f"The script gave no answer within {seconds:g} s"))

        timer = self._reactor.callLater(seconds, late)  # type: ignore[attr-defined]

        def answered(result: Any) -> None:
            if not outer.called:
                timer.cancel()
                outer.callback(result)

        def ended(result: Any) -> Any:
            self._limited.discard(answered)
            return result

        self._limited.add(answered)
        outer.addBoth(ended)
        done.addBoth(answered)
        return outer

    def stop(self) -> None:
        """Begin nothing any more; what waits fails with ServiceUnavailable, what runs goes on.

        Nobody waits any longer for what runs and is limited.
        """
        self._stopped = True
        for answered in tuple(self._limited):
            answered(Failure(ServiceUnavailable("Scripts have stopped")))
        while self._waiting:
            self._waiting.popleft().deferred.errback(ServiceUnavailable("Scripts have stopped"))

    def _begin_ordinary(self, call: Call[Any]) -> None:
        self._running += 1

        def ended(result: Any) -> Any:
            self._running -= 1
            if self._waiting:
                self._begin_ordinary(self._waiting.popleft())
            return result

        call.deferred.addBoth(ended)
        self._begin(call)

    def _begin(self, call: Call[Any]) -> None:
        with self._lock:
            self._queue.put(call)
            if self._free > 0:
                self._free -= 1
                return
            self._count += 1
            self._started += 1
            number = self._started
        # Daemon: a script that never ends must not hold up the end of the process.
        threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()

    def _work(self) -> None:
        while True:
            call = self._take()
            if call is None:
                return
            call.run()
            if isinstance(call.outcome, Failure):
                # What the frames hold is the script's.
                call.outcome.cleanFailure()
            with self._lock:
                self._free += 1
            self._reactor.callFromThread(call.fire)
            del call

    def _take(self) -> Call[Any] | None:
        """The next call; None after a time without any."""
        while True:
            try:
                return self._queue.get(timeout=_IDLE)
            except queue.Empty:
                with self._lock:
                    if self._free > 0:
                        self._free -= 1
                        self._count -= 1
                        return None
