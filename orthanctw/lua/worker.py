"""The one thread of Lua: work in its order, and filters in between while other work waits or computes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.lua.values import forget_frames

log = Logger(namespace="orthanctw.lua")
#: Makes further values of an event of those that it has, in the reactor's thread; None drops the event.
Values = Callable[..., Awaitable[Sequence[Any] | None]]
#: Work within work: more would need more of the stack than Lua has.
MAXIMUM_DEPTH: Final = 12


@attrs.define(kw_only=True, eq=False)
class Frame:
    """A callback or script under way.

    `expires` is when it is killed (monotonic seconds); unless it has a `deadline`, waiting puts it off. What is printed
    goes to `output`, and operations for later to `operations`, if there are any.
    """

    expires: float
    deadline: float | None = None
    output: list[bytes] | None = None
    operations: list[Any] | None = None
    printed: int = 0
    is_killed: bool = False


@attrs.define(eq=False)
class Task:
    """Work for the thread. `is_wanted` ends when nobody waits for the result any more."""

    work: Callable[[], Any]
    done: Deferred[Any] = attrs.field(factory=Deferred)
    is_wanted: bool = True


@attrs.frozen(eq=False)
class Event:
    """What is to be told, while nobody waits for it. Many may have to wait: so it is small."""

    name: str
    values: tuple[Any, ...]
    make: Values | None = None


class LuaWorker:
    """Does tasks and tells events, one after the other.

    Parameters
    ----------
    tell : callable
        Tells an event, in the thread.
    between : callable
        Called in the thread after all that is not within something else.
    """

    def __init__(
        self, reactor: IReactorFromThreads, tell: Callable[[Event], None], between: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._tell = tell
        self._between = between
        self._condition = threading.Condition()
        self._tasks: deque[Task | Event] = deque()
        self._filters: deque[Task] = deque()
        self._frames: list[Frame] = []
        self._depth = 0
        self._ended = False
        self._aborts = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Tasks and events whose turn has not come, filters aside."""
        return len(self._tasks)

    @property
    def is_deepest(self) -> bool:
        """Whether nothing more is done within what is being done."""
        return self._depth >= MAXIMUM_DEPTH

    # For the reactor

    def start(self) -> None:
        """Start the thread; tasks that were given before have waited."""
        # Daemon: a call into the system that never ends must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="lua", daemon=True)
        self._thread.start()

    def post(self, task: Task, *, overtakes: bool = False, is_next: bool = False) -> Task:
        """Give work to the thread, at the end of what waits, or where it `is_next`.

        What `overtakes` is done as soon as possible, even within other work.
        """
        with self._condition:
            if self._ended:
                task.done.errback(ServiceUnavailable("Lua has stopped"))
            elif is_next:
                self._tasks.appendleft(task)
            else:
                (self._filters if overtakes else self._tasks).append(task)
            self._condition.notify()
        return task

    def note(self, event: Event) -> None:
        """Have an event told after all that waits."""
        with self._condition:
            self._tasks.append(event)
            self._condition.notify()

    def abort(self) -> None:
        """Kill what runs, now and from now on; what waits is dropped, and the log tells how much."""
        with self._condition:
            self._aborts = True
            dropped = [*self._filters, *self._tasks]
            self._filters.clear()
            self._tasks.clear()
            self._condition.notify()
        tasks = [item for item in dropped if isinstance(item, Task)]
        if len(tasks) < len(dropped):
            log.error("Lua: {count} events were not told, since the server stops", count=len(dropped) - len(tasks))
        for task in tasks:
            if not task.done.called:
                task.done.errback(ServiceUnavailable("Lua is stopping"))

    def end(self) -> None:
        """End the thread after what it is at."""
        with self._condition:
            self._ended = True
            self._condition.notify()

    # For the thread

    @property
    def frame(self) -> Frame:
        return self._frames[-1]

    @property
    def is_nested(self) -> bool:
        return self._depth > 1

    def enter(self, frame: Frame) -> None:
        self._frames.append(frame)

    def leave(self) -> None:
        self._frames.pop()

    def is_due(self) -> bool:
        """Whether what runs is to be killed; serves filters first. Called again and again while Lua computes."""
        frame = self.frame
        if self._filters and frame.deadline is None and not self.is_deepest:
            started = time.monotonic()
            self._serve()
            frame.expires += time.monotonic() - started
        if not frame.is_killed and (self._aborts or time.monotonic() > frame.expires):
            frame.is_killed = True
        return frame.is_killed

    def wait(self, future: Future[Any], limit: float) -> Any:
        """The result of a future, or what it raises; filters are served meanwhile.

        TimeoutError after `limit` seconds. What waits is killed when its deadline comes first.
        """
        future.add_done_callback(self._wake)
        frame, started = self.frame, time.monotonic()
        until = started + limit if frame.deadline is None else frame.deadline
        while not future.done():
            if not self.is_deepest:
                self._serve()
            with self._condition:
                remaining = until - time.monotonic()
                if self._aborts or remaining <= 0:
                    break
                if not future.done() and not (self._filters and not self.is_deepest):
                    self._condition.wait(remaining)
        if frame.deadline is None:
            frame.expires += time.monotonic() - started
        if not future.done():
            frame.is_killed = frame.is_killed or self._aborts or frame.deadline is not None
            raise FutureTimeout
        try:
            return future.result()
        finally:
            # What it raises knows this frame.
            del future

    def _wake(self, future: Future[Any]) -> None:
        with self._condition:
            self._condition.notify()

    def _serve(self) -> None:
        while self._filters:
            self._do(self._filters.popleft())

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._filters or self._tasks or self._ended):
                    self._condition.wait()
                if self._ended and not (self._filters or self._tasks):
                    return
                item: Task | Event = self._filters.popleft() if self._filters else self._tasks.popleft()
            self._do(item)

    def _do(self, item: Task | Event) -> None:
        if isinstance(item, Task) and not item.is_wanted:
            return
        self._depth += 1
        try:
            result = item.work() if isinstance(item, Task) else self._tell(item)
            if self._depth == 1:
                self._between()
        except Exception:  # noqa: BLE001 - it is raised where the result is taken
            result = Failure()
            # What the frames hold is Lua's, which only this thread may touch.
            result.cleanFailure()
            forget_frames(result.value)
        finally:
            self._depth -= 1
        if isinstance(item, Task):
            self._reactor.callFromThread(_fire, item, result)
        elif isinstance(result, Failure):
            log_failure(result, item.name)


def _fire(task: Task, result: Any) -> None:
    if not task.done.called:
        task.done.callback(result)


def log_failure(failure: Failure, name: str) -> None:
    """Tell the log why a callback could not be told."""
    if failure.check(OrthancError) is None:
        log.failure("Lua: {name} could not be called", failure, name=name)
    else:
        log.error("Lua: {name}: {reason}", name=name, reason=str(failure.value))
