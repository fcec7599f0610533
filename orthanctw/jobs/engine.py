"""The jobs engine: slots, priorities, history, and what is kept over a restart."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadRequest, OrthancError, ServiceUnavailable
from orthanctw.jobs.contract import Job, JobKind, JobRequest, JobStore, Output, Step, StepResult
from orthanctw.jobs.record import JobRecord, load
from orthanctw.jobs.states import JobAction, after
from orthanctw.model import JobEvent, JobEventType, JobState

log = Logger(namespace="orthanctw.jobs")
#: Seconds between two savings of how far a running job came.
_SAVE_INTERVAL: Final = 0.2
_RESULTS: Final = {StepResult.SUCCESS: JobAction.SUCCEED, StepResult.RETRY: JobAction.DELAY}


class JobsEngine:
    """Runs jobs, at most `slots` at once, those of higher priority first. All on the reactor.

    Parameters
    ----------
    store : JobStore
    kinds : iterable of JobKind
    slots : int
        ``ConcurrentJobs``.
    history : int
        ``JobsHistorySize``: finished jobs that are remembered.
    is_saving : bool
        ``SaveJobs``: jobs outlive the process.
    notify : callable
        Told of each `JobEvent`, after it is durable.
    """

    def __init__(
        self,
        store: JobStore,
        kinds: Iterable[JobKind],
        *,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        slots: int,
        history: int,
        is_saving: bool,
        notify: Callable[[JobEvent], None],
    ) -> None:
        self._store = store
        self._kinds = {kind.name: kind for kind in kinds}
        self._clock = clock
        self._wall_clock = wall_clock
        self._slots = slots
        self._history = history
        self._is_saving = is_saving
        self._notify = notify
        self._records: dict[str, JobRecord] = {}
        self._queue: list[tuple[int, int, JobRecord]] = []
        #: The place in the queue of each job that waits; entries of the queue with another number are stale.
        self._tickets: dict[JobRecord, int] = {}
        self._last_ticket = 0
        self._last_number = 0
        self._finished: dict[JobRecord, None] = {}
        self._running: dict[JobRecord, Deferred[None]] = {}
        #: What clients asked of running jobs, to be done after the step.
        self._wishes: dict[JobRecord, JobAction] = {}
        self._timers: dict[JobRecord, IDelayedCall] = {}
        self._waiters: dict[JobRecord, list[Deferred[None]]] = {}
        self._stopping = False

    # Life

    async def start(self, *, goes_on: bool = True) -> None:
        """Take up what the process before has left; paused, when it shall not go on (``--no-jobs``)."""
        for saved in await self._store.jobs() if self._is_saving else ():
            self._last_number = max(self._last_number, saved.number)
            try:
                record = load(saved)
            except OrthancError:
                log.failure("Saved job {number} cannot be read and stays as it is", number=saved.number)
                continue
            state = after(record.state, JobAction.RESTART)
            assert state is not None
            record.state = state
            self._records[record.job_id] = record
            if state is JobState.PENDING and not goes_on:
                record.state = JobState.PAUSED
            elif state is JobState.PENDING:
                self._enqueue(record)
        for record in sorted(self._records.values(), key=lambda record: record.completion_time or 0.0):
            if record.is_finished:
                self._finished[record] = None
        await self._save([], self._trim())
        self._fill()

    async def stop(self, deadline: float) -> None:
        """Let the steps that run end until `deadline`; what is not finished goes on after the next start."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.errback(ServiceUnavailable("The server is stopping"))
        self._waiters.clear()
        overdue = self._clock.callLater(max(0.0, deadline - self._clock.seconds()), self._interrupt)
        for running in list(self._running.values()):
            await running
        if overdue.active():
            overdue.cancel()
        # What is not saved is gone: so is what it has left.
        for record in self._records.values():
            if not record.is_saved:
                await self._forget(record)

    def _interrupt(self) -> None:
        for running in list(self._running.values()):
            running.cancel()

    # Asking

    def job(self, job_id: str) -> JobRecord | None:
        """A job, or None."""
        return self._records.get(job_id)

    def jobs(self) -> list[JobRecord]:
        """All jobs, sorted by their identifiers."""
        return [record for _, record in sorted(self._records.items())]

    def count(self, *states: JobState) -> int:
        """Number of jobs in one of the states."""
        return sum(record.state in states for record in self._records.values())

    async def output(self, record: JobRecord, key: str) -> Output | None:
        """What a job has made, or None."""
        return await self._make(record).output(record.position, key)

    # Acting

    async def submit(self, request: JobRequest) -> JobRecord:
        """Accept a job; it is durable then. Raises BadRequest for an unknown kind, and what the kind raises."""
        if self._stopping:
            raise ServiceUnavailable("The server is stopping")
        kind = self._kinds.get(request.kind)
        if kind is None:
            raise BadRequest("Unknown type of jobs")
        job = kind.make(request.parameters, request.permissive)
        self._last_number += 1
        record = JobRecord(
            number=self._last_number,
            job_id=str(uuid.uuid4()),
            kind=request.kind,
            parameters=orjson.dumps(request.parameters).decode("utf-8"),
            permissive=request.permissive,
            user_data=request.user_data,
            creation_time=self._wall_clock(),
            priority=request.priority,
            content=job.content({}),
            is_saved=self._is_saving and kind.is_saved,
        )
        if record.is_saved:
            await self._store.add_jobs([record.saved()])
        self._records[record.job_id] = record
        self._notify(JobEvent(JobEventType.SUBMITTED, record.job_id))
        self._enqueue(record)
        self._fill()
        return record

    def wait(self, record: JobRecord) -> Deferred[None]:
        """Fires when the job has finished, however; fails with ServiceUnavailable when the server stops before."""
        waiter: Deferred[None] = Deferred()
        if record.is_finished and record not in self._running:
            waiter.callback(None)
        elif self._stopping:
            waiter.errback(ServiceUnavailable("The server is stopping"))
        else:
            self._waiters.setdefault(record, []).append(waiter)
        return waiter

    async def pause(self, record: JobRecord) -> None:
        """Stop after the step that runs; no effect on what is paused or finished."""
        await self._hold(record, JobAction.PAUSE)

    async def cancel(self, record: JobRecord) -> None:
        """End as a failure; no effect on what is finished."""
        await self._hold(record, JobAction.CANCEL)

    async def _hold(self, record: JobRecord, action: JobAction) -> None:
        if after(record.state, action) is None:
            return
        if record.state is JobState.RUNNING:
            if self._wishes.get(record) is not JobAction.CANCEL:
                self._wishes[record] = action
            return
        self._tickets.pop(record, None)
        self._stop_timer(record)
        await self._conclude(record, action)

    async def resume(self, record: JobRecord) -> bool:
        """Whether the job was paused, and goes on now."""
        if self._wishes.get(record) is JobAction.PAUSE:
            del self._wishes[record]
            return True
        if not self._go(record, JobAction.RESUME):
            return False
        self._enqueue(record)
        await self._save([record])
        self._fill()
        return True

    async def resubmit(self, record: JobRecord) -> bool:
        """Whether the job had failed, and starts anew now."""
        kind = self._kinds.get(record.kind)
        if (kind is not None and not kind.is_resubmitted) or not self._go(record, JobAction.RESUBMIT):
            return False
        self._finished.pop(record, None)
        await self._forget(record)
        record.position, record.progress, record.runtime, record.completion_time = {}, 0.0, 0.0, None
        record.forget_failure()
        self._enqueue(record)
        await self._save([record])
        self._fill()
        return True

    async def delete(self, record: JobRecord) -> bool:
        """Forget a finished job; False for one that is not finished."""
        if record not in self._finished:
            return False
        del self._finished[record], self._records[record.job_id]
        await self._forget(record)
        await self._save([], [record])
        return True

    async def delete_output(self, record: JobRecord, key: str) -> bool:
        """Whether there was such an output, which is gone now."""
        job = self._make(record)
        position = await job.delete_output(record.position, key)
        if position is None:
            return False
        record.position = position
        await self._save([record])
        return True

    # Running

    def _enqueue(self, record: JobRecord) -> None:
        self._last_ticket += 1
        self._tickets[record] = self._last_ticket
        heapq.heappush(self._queue, (-record.priority, self._last_ticket, record))

    def _next(self) -> JobRecord | None:
        while self._queue:
            _, ticket, record = heapq.heappop(self._queue)
            if self._tickets.get(record) == ticket:
                del self._tickets[record]
                return record
        return None

    def _fill(self) -> None:
        while not self._stopping and len(self._running) < self._slots:
            record = self._next()
            if record is None:
                return
            self._go(record, JobAction.START)
            # Not at once: whoever has submitted a job is answered before.
            turn: Deferred[None] = deferLater(self._clock, 0)
            running = turn.addCallback(self._begin, record)
            self._running[record] = running
            running.addErrback(self._broken, record)
            running.addCallback(self._left, record)

    def _begin(self, _: None, record: JobRecord) -> Deferred[None]:
        return Deferred.fromCoroutine(self._run(record))

    def _broken(self, failure: Failure, record: JobRecord) -> None:
        if not failure.check(CancelledError):
            log.failure("Job {job} is left in an unexpected way", failure, job=record.job_id)

    def _left(self, _: None, record: JobRecord) -> None:
        self._running.pop(record, None)
        if record.is_finished:
            for waiter in self._waiters.pop(record, ()):
                waiter.callback(None)
        self._fill()

    async def _run(self, record: JobRecord) -> None:
        record.started = self._clock.seconds()
        action = JobAction.FAIL
        delay = 0.0
        try:
            record.job = self._make(record)
            step = await self._steps(record, record.job)
            delay = step.delay
            action = _RESULTS.get(step.result) or self._wishes.get(record, JobAction.RESTART)
            if action is JobAction.DELAY:
                action = self._wishes.get(record, action)
        except CancelledError:
            # The server does not wait any longer for this step; it is repeated after the next start.
            action = JobAction.RESTART
        except OrthancError as e:
            record.fail(e)
        except Exception:  # noqa: BLE001 - whatever a job raises, it fails and nobody else
            log.failure("Job {job} failed in an unexpected way", job=record.job_id)
            record.fail(OrthancError())
        self._wishes.pop(record, None)
        record.runtime += self._clock.seconds() - record.started
        record.started = None
        await self._end(record)
        await self._conclude(record, action, delay)

    async def _steps(self, record: JobRecord, job: Job) -> Step:
        """Step after step, until the last one, or one that the job is stopped at."""
        saved = self._clock.seconds()
        while True:
            step = await job.step(record.position)
            record.position, record.progress = step.position, step.progress
            if step.result is not StepResult.CONTINUE or record in self._wishes or self._stopping:
                return step
            if self._clock.seconds() - saved >= _SAVE_INTERVAL:
                await self._save([record])
                saved = self._clock.seconds()
            # Steps that wait for nothing must not keep the reactor from others.
            await deferLater(self._clock, 0)

    async def _end(self, record: JobRecord) -> None:
        job, record.job = record.job, None
        if job is None:
            return
        record.content = job.content(record.position)
        try:
            await job.end()
        except Exception:  # noqa: BLE001 - see above
            log.failure("Job {job} could not let go what it held", job=record.job_id)

    async def _conclude(self, record: JobRecord, action: JobAction, delay: float = 0.0) -> None:
        """What an action of an end leads to."""
        self._go(record, action)
        if action is JobAction.CANCEL:
            record.fail(OrthancError(code=ErrorCode.CANCELED_JOB))
        if action is JobAction.DELAY and not self._stopping:
            self._timers[record] = self._clock.callLater(delay, self._due, record)
        if not record.is_finished:
            await self._save([record])
            return
        record.completion_time = self._wall_clock()
        if record.state is JobState.SUCCESS:
            record.progress = 1.0
        self._finished[record] = None
        await self._save([record], self._trim())
        event = JobEventType.SUCCESS if record.state is JobState.SUCCESS else JobEventType.FAILURE
        self._notify(JobEvent(event, record.job_id))
        if record not in self._running:
            self._left(None, record)

    def _due(self, record: JobRecord) -> None:
        del self._timers[record]
        self._go(record, JobAction.DUE)
        self._enqueue(record)
        self._fill()

    def _stop_timer(self, record: JobRecord) -> None:
        timer = self._timers.pop(record, None)
        if timer is not None:
            timer.cancel()

    def _go(self, record: JobRecord, action: JobAction) -> bool:
        state = after(record.state, action)
        if state is None:
            return False
        record.state = state
        return True

    # Keeping

    def _make(self, record: JobRecord) -> Job:
        if record.job is not None:
            return record.job
        kind = self._kinds.get(record.kind)
        if kind is None:
            raise OrthancError("This type of jobs is not known here", code=ErrorCode.UNKNOWN_RESOURCE)
        return kind.make(orjson.loads(record.parameters), record.permissive)

    def _trim(self) -> list[JobRecord]:
        """The finished jobs that are too many, forgotten already."""
        forgotten = []
        while len(self._finished) > self._history:
            record = next(iter(self._finished))
            del self._finished[record]
            self._records.pop(record.job_id, None)
            forgotten.append(record)
        return forgotten

    async def _save(self, changed: Iterable[JobRecord], forgotten: Iterable[JobRecord] = ()) -> None:
        """Write states down. When the disk refuses, the job goes on, and after a restart repeats what it has done."""
        statuses: dict[int, Any] = {record.number: record.status() for record in changed if record.is_saved}
        gone = []
        for record in forgotten:
            statuses.pop(record.number, None)
            await self._forget(record)
            if record.is_saved:
                gone.append(record.number)
        if not statuses and not gone:
            return
        try:
            await self._store.update_jobs(statuses, gone)
        except OrthancError:
            log.failure("The state of a job could not be saved")

    async def _forget(self, record: JobRecord) -> None:
        kind = self._kinds.get(record.kind)
        if kind is None or not kind.leaves_files:
            return
        try:
            await self._make(record).forget(record.position)
        except Exception:  # noqa: BLE001 - what it has left stays; the storage area is cleaned at the next start
            log.failure("What job {job} has left could not be removed", job=record.job_id)
