"""Child processes for work that uses the processor much, or that hostile data may harm (level 2).

A child reads requests from its standard input and writes answers to its standard output, both in frames
(`orthanctw.framing`). The header of a request has the fields ``Operation`` and ``Header``, that of an answer
``Header``, or ``Code`` and ``Details`` of an error. `orthanctw.dicom.pixels.child` is the other end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import orjson
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import FullStorage, OrthancError, ParameterOutOfRange, ServiceUnavailable
from orthanctw.framing import HEADER_LIMIT, PAYLOAD_LIMIT, FrameReader, frame
from orthanctw.threads import shield

log = Logger(namespace="orthanctw.generic")

#: Seconds that children have to end once their input is closed.
_END_DELAY: Final = 2.0
_COMPLAINT_LIMIT: Final = 4096
#: What the pipe of answers holds, and how much of it is read at a time, in bytes.
_PIPE_SIZE: Final = 1 << 20
#: The root of the import path, so that children find this very package.
_ROOT: Final = str(Path(__file__).resolve().parent.parent)

Answer = tuple[Mapping[str, Any], bytes]
#: As it came from the pipe: to put the pieces of a large answer together would be another copy.
Pieces = tuple[Mapping[str, Any], list[bytes]]


@attrs.define(eq=False)
class _Request:
    """What is asked of a child (header and payload), and who waits for the answer.

    `unclaimed` is called when there is an end that nobody waits for.
    """

    key: tuple[bytes, bytes]
    unclaimed: Callable[[], None] | None = None
    callers: list[Deferred[Pieces]] = attrs.field(factory=list)

    def finish(self, result: Pieces | Failure) -> None:
        callers, self.callers = self.callers, []
        if not callers and self.unclaimed is not None:
            self.unclaimed()
        for caller in callers:
            caller.callback(result)


def _read_all(reader: Any) -> Any:
    """What a pipe holds, at once; in the place of the reader's own way."""
    try:
        data = os.read(reader.fileno(), _PIPE_SIZE)
    except BlockingIOError:
        return None
    except OSError:
        return CONNECTION_LOST
    if not data:
        return CONNECTION_DONE
    reader.dataReceived(data)
    return None


class _Child(ProcessProtocol):
    """One child: idle, or with one request."""

    def __init__(self, pool: ProcessPool) -> None:
        self._pool = pool
        self._reader = FrameReader()
        self._timer: Any = None
        self._complaint = b""
        self.request: _Request | None = None
        self.is_over = False

    @property
    def pid(self) -> int | None:
        """The process; None when it has ended."""
        pid: int | None = self.transport.pid if self.transport is not None else None
        return pid

    def connectionMade(self) -> None:
        # Twisted reads 8 KB of a pipe at a time, and a pipe holds 64 KB: a frame of 1 MB would be 128 turns.
        assert self.transport is not None
        reader: Any = self.transport.pipes[1]  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            fcntl.fcntl(reader.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        reader.doRead = partial(_read_all, reader)

    def begin(self, request: _Request) -> None:
        """Send a request; the pool is told of its end."""
        self.request = request
        self._timer = self._pool.clock.callLater(self._pool.timeout, self._timed_out)
        assert self.transport is not None
        self.transport.writeSequence(frame(*request.key))

    def outReceived(self, data: bytes) -> None:
        if self.is_over:
            return
        try:
            found = self._reader.feed(data)
            if found is None:
                return
            if self.request is None:
                raise ValueError("an answer without a request")
            answer = _parse(*found)
        except ValueError as e:
            self.kill(OrthancError(f"A process that works on images has given a wrong answer: {e}"))
            return
        request = self._take_request()
        # Before the answer is told: whoever asks for more then finds this child.
        self._pool.became_idle(self)
        self._pool.answered(request, answer)

    def errReceived(self, data: bytes) -> None:
        # Codecs write there, and Python when it ends badly: only of use to whoever looks for a defect.
        self._complaint = (self._complaint + data)[-_COMPLAINT_LIMIT:]

    def processEnded(self, reason: Failure) -> None:
        if self._complaint:
            text = self._complaint.decode("utf-8", "replace")
            log.debug("A process that worked on images has written: {text}", text=text)
        self._lost(
            OrthancError(
                "A process that worked on images has ended unexpectedly: it may have run out of memory",
                code=ErrorCode.NOT_ENOUGH_MEMORY,
            )
        )
        self._pool.ended(self)

    def close(self) -> None:
        """Have an idle child end."""
        if self.transport is not None:
            self.transport.loseConnection()

    def kill(self, error: OrthancError) -> None:
        """End the child at once; its request fails with `error`."""
        if self.transport is not None:
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")
        self._lost(error)

    def _timed_out(self) -> None:
        self._timer = None
        self.kill(
            OrthancError(f"Work on an image has taken more than {self._pool.timeout:g} s", code=ErrorCode.TIMEOUT)
        )

    def _lost(self, error: OrthancError) -> None:
        self.is_over = True
        request = self._take_request()
        self._pool.lost(self)
        self._pool.answered(request, Failure(error))

    def _take_request(self) -> _Request | None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        request, self.request = self.request, None
        return request


def _joined(answer: Pieces) -> Answer:
    header, pieces = answer
    return header, pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _parse(raw: bytes, payload: list[bytes]) -> Pieces | Failure:
    """The answer of a frame. Raises ValueError."""
    content = orjson.loads(raw)
    if not isinstance(content, dict):
        raise ValueError("no object")
    if "Code" in content:
        code, details = content["Code"], content.get("Details", "")
        if not isinstance(code, int) or not isinstance(details, str):
            raise ValueError("no error")
        if code == ErrorCode.FULL_STORAGE:
            return Failure(FullStorage(details))
        return Failure(OrthancError(details, code=ErrorCode.of(code)))
    header = content.get("Header")
    if not isinstance(header, dict):
        raise ValueError("no header")
    return header, payload


class ProcessPool:
    """Children that carry out one request at a time each. None is started before there is work for it.

    Parameters
    ----------
    reactor : IReactorProcess
    program : sequence of str
        Arguments of the Python interpreter.
    size : int
        Children at once.
    memory : int
        Bytes of address space that each may use.
    timeout : float
        Seconds that a request may take.
    clock : IReactorTime, optional
        For the time limit.
    """

    def __init__(
        self,
        reactor: Any,
        program: Sequence[str],
        *,
        size: int,
        memory: int,
        timeout: float,
        clock: Any = None,
    ) -> None:
        self.timeout = timeout
        self.clock = reactor if clock is None else clock
        self._reactor = reactor
        # Beyond the time limit of ours: it is for children whose server is gone.
        self._arguments = [sys.executable, "-P", *program, str(memory), str(int(timeout) + 10)]
        self.size = size
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        #: Killed or told to end, not yet gone.
        self._ending: set[_Child] = set()
        self._waiting: dict[_Request, None] = {}
        self._shared: dict[tuple[bytes, bytes], _Request] = {}
        self._closed: Deferred[None] | None = None

    @property
    def waiting(self) -> int:
        """Number of requests that no child has taken yet."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Number of requests that children are at."""
        return len(self._busy)

    @property
    def pids(self) -> list[int]:
        """Processes of the children that take requests."""
        return [child.pid for child in (*self._idle, *self._busy) if child.pid is not None]

    def call(
        self,
        operation: str,
        header: Mapping[str, Any],
        payload: bytes = b"",
        *,
        unclaimed: Callable[[], None] | None = None,
    ) -> Deferred[Answer]:
        """As `call_for_pieces`, the payload of the answer as one."""
        return self.call_for_pieces(operation, header, payload, unclaimed=unclaimed).addCallback(_joined)

    def call_for_pieces(
        self,
        operation: str,
        header: Mapping[str, Any],
        payload: bytes = b"",
        *,
        unclaimed: Callable[[], None] | None = None,
    ) -> Deferred[Pieces]:
        """Have a child carry out an operation; its answer. Callers that ask for the same share the work.

        Fails with the OrthancError of the child, with one of code TIMEOUT after the time limit, NOT_ENOUGH_MEMORY when
        the child dies, ServiceUnavailable when the pool is closed. Cancelled by all of its callers, a request that
        waits is dropped; one that runs goes on, and `unclaimed` is called at its end, to remove what it has made.
        """
        if self._closed is not None:
            return fail(ServiceUnavailable("The server is stopping"))
        raw = orjson.dumps({"Operation": operation, "Header": dict(header)}, option=orjson.OPT_SORT_KEYS)
        if len(raw) > HEADER_LIMIT or len(payload) > PAYLOAD_LIMIT:
            return fail(ParameterOutOfRange("An image is too large to be worked on"))
        key = (raw, payload)
        request = self._shared.get(key)
        if request is None:
            request = self._shared[key] = _Request(key, unclaimed)
            self._waiting[request] = None
        caller: Deferred[Pieces] = Deferred(lambda cancelled: self._leave(request, cancelled))
        request.callers.append(caller)
        self._pump()
        return caller

    def close(self) -> Deferred[None]:
        """End all children, those at work too: waiting and running requests fail with ServiceUnavailable."""
        if self._closed is not None:
            return shield(self._closed)
        self._closed = Deferred()
        for request in list(self._waiting):
            self.answered(request, Failure(ServiceUnavailable("The server is stopping")))
        self._waiting.clear()
        for child in list(self._busy):
            child.kill(ServiceUnavailable("The server is stopping"))
        for child in self._idle:
            child.close()
        self._ending.update(self._idle)
        self._idle.clear()
        if not self._ending:
            self._closed.callback(None)
            return succeed(None)
        timer = self._reactor.callLater(_END_DELAY, self._kill_rest)
        self._closed.addBoth(lambda result: timer.cancel() if timer.active() else result)
        return shield(self._closed)

    def _kill_rest(self) -> None:
        for child in list(self._ending):
            child.kill(ServiceUnavailable("The server is stopping"))
        # What survives that is the kernel's: nobody waits for it.
        if self._closed is not None and not self._closed.called:
            self._closed.callback(None)

    def _leave(self, request: _Request, caller: Deferred[Pieces]) -> None:
        request.callers.remove(caller)
        if not request.callers and request in self._waiting:
            del self._waiting[request]
            self._shared.pop(request.key, None)

    def _pump(self) -> None:
        """Give requests to children, as many as there may be."""
        while self._waiting and (self._idle or len(self._busy) < self.size):
            request = next(iter(self._waiting))
            del self._waiting[request]
            try:
                child = self._idle.pop() if self._idle else self._start()
            except OSError as e:
                reason = f"A process to work on images cannot be started: {e.strerror}"
                self.answered(request, Failure(OrthancError(reason, code=ErrorCode.NOT_ENOUGH_MEMORY)))
                continue
            self._busy.add(child)
            child.begin(request)

    def _start(self) -> _Child:
        child = _Child(self)
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), _ROOT)))
        # Each child has one core: libraries that start threads of their own only get into each other's way.
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        self._reactor.spawnProcess(
            child, sys.executable, self._arguments, env={**os.environ, **threads, "PYTHONPATH": path}
        )
        return child

    # What children tell

    def answered(self, request: _Request | None, result: Pieces | Failure) -> None:
        """A request has its end; None for a child that had none."""
        if request is None:
            return
        self._shared.pop(request.key, None)
        request.finish(result)

    def became_idle(self, child: _Child) -> None:
        """A child can take another request."""
        if child in self._busy:
            self._busy.discard(child)
            self._idle.append(child)
        self._pump()

    def lost(self, child: _Child) -> None:
        """A child takes no more requests; another one is started when there is work."""
        self._busy.discard(child)
        if child in self._idle:
            self._idle.remove(child)
        self._ending.add(child)
        if self._closed is None:
            self._pump()

    def ended(self, child: _Child) -> None:
        """The process of a child is gone."""
        self._ending.discard(child)
        if self._closed is not None and not self._closed.called and not self._ending:
            self._closed.callback(None)
