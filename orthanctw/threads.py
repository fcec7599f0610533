"""Threads with a name and a purpose, and the ways between them and the reactor (level 2).

The reactor is an argument everywhere, no thread starts before `start`, and every class has a synchronous mode in
which work is done at once by the caller, so that tests need no threads.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Final, Generic, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python import threadable
from twisted.python.failure import Failure

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable

_P = ParamSpec("_P")
_T = TypeVar("_T")
_log = Logger()
_UNSET: Final = object()


def shield(work: Deferred[_T] | Coroutine[Deferred[Any], Any, _T]) -> Deferred[_T]:
    """A Deferred for the result of `work` whose cancellation leaves the work alone.

    A failure that comes after the cancellation is logged, since nobody else can see it.
    """
    inner: Deferred[_T] = Deferred.fromCoroutine(work) if isinstance(work, Coroutine) else work
    outer: Deferred[_T] = Deferred()

    def deliver(result: _T | Failure) -> None:
        if not outer.called:
            outer.callback(result)
        elif isinstance(result, Failure):
            _log.failure("Work that its caller gave up has failed", result)

    inner.addBoth(deliver)
    return outer


class Handover(Generic[_T]):
    """A value that one thread makes and another one waits for; made once, taken once."""

    def __init__(self) -> None:
        self._made = threading.Lock()
        self._made.acquire()
        self._value: Any = _UNSET

    def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Make the value; an exception is the taker's."""
        try:
            self._value = function(*args, **kwargs)
        except Exception:  # noqa: BLE001 - it is raised where the value is taken
            self._value = Failure()
        finally:
            self._made.release()

    def get(self) -> _T:
        """Wait for the value (blocking). Raises what the maker raised."""
        self._made.acquire()
        if isinstance(self._value, Failure):
            self._value.raiseException()
        value: _T = self._value
        return value


class Call(Generic[_T]):
    """Work for a thread, and what became of it."""

    __slots__ = ("args", "deferred", "function", "kwargs", "outcome")

    def __init__(self, function: Callable[..., _T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.deferred: Deferred[_T] = Deferred()
        self.outcome: Any = _UNSET

    def run(self) -> None:
        """Do the work and keep its result or failure."""
        try:
            self.outcome = self.function(*self.args, **self.kwargs)
        except BaseException:  # noqa: BLE001 - it travels to the caller, who would wait for ever
            self.outcome = Failure()

    def fire(self) -> None:
        """Hand over the outcome; in the reactor's thread."""
        outcome = self.outcome
        if isinstance(outcome, Failure):
            self.deferred.errback(outcome)
        else:
            self.deferred.callback(outcome)


class NamedPool:
    """Threads for one kind of blocking work.

    Parameters
    ----------
    reactor : IReactorFromThreads
    name : str
        Names the threads, and the gauges of whoever publishes them.
    size : int
        Number of threads.
    synchronous : bool
        Work is done by `call` itself; there are no threads.
    """

    #: Calls that a thread takes at once.
    bound: int = 1

    def __init__(
        self, reactor: IReactorFromThreads, name: str, size: int, *, synchronous: bool = False
    ) -> None:
        self.name = name
        self.size = size
        self._reactor = reactor
        self._synchronous = synchronous
        self._waiting: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()
        self._busy: dict[int, int] = {}
        self._numbers = itertools.count()
        self._threads: list[threading.Thread] = []
        self._alive = 0
        self._lock = threading.Lock()
        self._stopped: Deferred[None] | None = None
        self._done: deque[Call[Any]] = deque()
        self._wake_pending = False

    @property
    def waiting(self) -> int:
        """Number of calls that no thread has taken yet."""
        return self._waiting.qsize()

    @property
    def running(self) -> int:
        """Number of calls that threads are at."""
        return sum(tuple(self._busy.values()))

    def start(self) -> None:
        """Start the threads; calls made before have waited."""
        if self._synchronous or self._threads:
            return
        self._alive = self.size
        for number in itertools.islice(self._numbers, self.size):
            # Daemon: a thread must not hold up the end of a process whose reactor has stopped.
            thread = threading.Thread(
                target=self._work, args=(number,), name=f"{self.name}-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def stop(self) -> Deferred[None]:
        """Finish the calls that wait, then end the threads; later calls fail with ServiceUnavailable."""
        if self._stopped is not None:
            return shield(self._stopped)
        self._stopped = Deferred()
        for _ in self._threads:
            self._waiting.put(None)
        if not self._threads:
            self._abandon()
        return shield(self._stopped)

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        """Run `function` in a thread; its result, or its exception, comes in the reactor's thread."""
        if self._stopped is not None:
            return fail(ServiceUnavailable(f"{self.name} has stopped"))
        call = Call(function, args, kwargs)
        if self._synchronous:
            self.process([call])
            call.fire()
            self.delivered()
        else:
            self._waiting.put(call)
        return call.deferred

    @contextlib.contextmanager
    def relieved(self) -> Iterator[None]:
        """One thread more, while the present one waits for what may need others."""
        with self._lock:
            is_relieved = self._alive > 0
            self._alive += is_relieved
        if is_relieved:
            number = next(self._numbers)
            threading.Thread(target=self._work, args=(number,), name=f"{self.name}-{number}", daemon=True).start()
        try:
            yield
        finally:
            if is_relieved:
                # Whichever of them takes it ends.
                self._waiting.put(None)

    def process(self, calls: Sequence[Call[Any]]) -> None:
        """Give every call its outcome; in a thread of the pool."""
        for call in calls:
            call.run()

    def delivered(self) -> None:
        """Called in a thread whose calls are on their way to the callers."""

    def finished(self) -> None:
        """Called in the last thread, after the last call."""

    def idle_delay(self) -> float | None:
        """Seconds without work after which `idle` is called, or None."""
        return None

    def idle(self) -> None:
        """Called in a thread that had no work for `idle_delay`."""

    def _abandon(self) -> None:
        stopped = self._stopped
        assert stopped is not None
        while not self._waiting.empty():
            call = self._waiting.get()
            if call is not None:
                call.deferred.errback(ServiceUnavailable(f"{self.name} never started"))
        self.finished()
        stopped.callback(None)

    def _work(self, number: int) -> None:
        while True:
            calls, go_on = self._take()
            if calls:
                self._busy[number] = len(calls)
                self._process_safely(calls)
                self._busy.pop(number)
                self._deliver(calls)
                _logging_failure(self.delivered)
                # What they have read may be large, and the next call far off.
                calls.clear()
            if not go_on:
                break
        with self._lock:
            self._alive -= 1
            is_last = self._alive == 0
        if is_last:
            ended = Call(self.finished, (), {})
            ended.run()
            self._reactor.callFromThread(self._ended, ended)

    def _process_safely(self, calls: Sequence[Call[Any]]) -> None:
        try:
            self.process(calls)
        except Exception:  # noqa: BLE001 - a defect of `process` must not leave callers waiting for ever
            failure = Failure()
            for call in calls:
                if call.outcome is _UNSET:
                    call.outcome = failure

    def _take(self) -> tuple[list[Call[Any]], bool]:
        try:
            first = self._waiting.get(timeout=self.idle_delay())
        except queue.Empty:
            _logging_failure(self.idle)
            return [], True
        if first is None:
            return [], False
        calls = [first]
        while len(calls) < self.bound:
            try:
                call = self._waiting.get_nowait()
            except queue.Empty:
                break
            if call is None:
                return calls, False
            calls.append(call)
        return calls, True

    def _deliver(self, calls: list[Call[Any]]) -> None:
        # One wake-up of the reactor serves everything that finishes before it looks.
        self._done.extend(calls)
        if not self._wake_pending:
            self._wake_pending = True
            self._reactor.callFromThread(self._fire)

    def _fire(self) -> None:
        self._wake_pending = False
        while self._done:
            self._done.popleft().fire()

    def _ended(self, ended: Call[None]) -> None:
        for thread in self._threads:
            thread.join()
        self._fire()
        assert self._stopped is not None
        ended.deferred.chainDeferred(self._stopped)
        ended.fire()


def _logging_failure(hook: Callable[[], None]) -> None:
    """Call a hook of a thread that must go on whatever happens."""
    try:
        hook()
    except Exception:  # noqa: BLE001 - see above
        _log.failure("A thread could not do its housekeeping")


class SerialWorker(NamedPool):
    """One thread that does its calls in their order, `bound` of them at a time."""

    def __init__(self, reactor: IReactorFromThreads, name: str, *, bound: int = 1, synchronous: bool = False) -> None:
        super().__init__(reactor, name, 1, synchronous=synchronous)
        self.bound = bound


class Bridge:
    """Calls from foreign threads into the reactor, with a time limit and an end.

    Parameters
    ----------
    reactor : IReactorFromThreads
    """

    def __init__(self, reactor: IReactorFromThreads) -> None:
        self._reactor = reactor
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self._stopped = False

    def begin(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have the reactor call `function`, which may answer a value, a Deferred or a coroutine.

        A future that is cancelled before the reactor comes to it is never started.
        """
        future: Future[Any] = Future()
        with self._lock:
            if self._stopped:
                raise ServiceUnavailable("the server is stopping")
            self._open.add(future)
        future.add_done_callback(self._open.discard)
        self._reactor.callFromThread(self._run, future, function, args)
        return future

    def call(self, timeout: float, function: Callable[..., Any], *args: Any) -> Any:
        """As `begin`, and wait for the result, for at most `timeout` seconds.

        Raises an OrthancError of code TIMEOUT after that time (what has begun goes on), ServiceUnavailable when
        the bridge stops, and otherwise whatever `function` raises.
        """
        if threadable.isInIOThread():
            raise OrthancError("the reactor cannot wait for itself", code=ErrorCode.BAD_SEQUENCE_OF_CALLS)
        future = self.begin(function, *args)
        try:
            return future.result(timeout)
        except FutureTimeout:
            if future.done():
                raise
            if not future.cancel():
                future.add_done_callback(_log_late_failure)
            raise OrthancError(f"no answer within {timeout:g} s", code=ErrorCode.TIMEOUT) from None
        except FutureCancelled:
            raise ServiceUnavailable("the server is stopping") from None

    def stop(self) -> None:
        """Fail every call that waits, and every later one, with ServiceUnavailable."""
        with self._lock:
            self._stopped = True
            waiting = list(self._open)
        for future in waiting:
            _settle(future, ServiceUnavailable("the server is stopping"))

    def _run(self, future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if future.done() or not future.set_running_or_notify_cancel():
            return
        work: Deferred[Any] = maybeDeferred(function, *args)
        work.addBoth(lambda result: _settle(future, result))


def _settle(future: Future[Any], result: Any) -> None:
    """Give `future` its end, unless it has one: a time-out or a stop may have come first."""
    error = result.value if isinstance(result, Failure) else result
    try:
        if isinstance(error, BaseException):
            future.set_exception(error)
        else:
            future.set_result(result)
    except Exception:  # noqa: BLE001 - InvalidStateError has no public base; see the docstring
        if isinstance(result, Failure):
            _log.failure("Work that its thread gave up has failed", result)


def _log_late_failure(future: Future[Any]) -> None:
    error = future.exception()
    if error is not None:
        _log.failure("Work that its thread gave up has failed", Failure(error))


def at_once(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
    """`function` called here and now, as a Deferred: the synchronous stand-in of a pool's `call`."""
    try:
        return succeed(function(*args, **kwargs))
    except Exception:  # noqa: BLE001 - it becomes the Deferred's failure
        return fail()
