"""The jobs engine: slots, priorities, history, and what goes on after a restart."""

from __future__ import annotations

import uuid
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping
from traceback import clear_frames
from typing import Any, Final

import orjson
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadRequest, OrthancError, ServiceUnavailable
from orthanctw.jobs.contract import Job, JobKind, JobRequest, JobStore, Output, Step, StepResult
from orthanctw.jobs.keeping import Keeping
from orthanctw.jobs.record import JobRecord
from orthanctw.jobs.states import JobAction, after
from orthanctw.jobs.waiting import WaitingJobs
from orthanctw.model import JobEvent, JobEventType, JobState
from orthanctw.threads import shield

log = Logger(namespace="orthanctw.jobs")
#: Seconds between two savings of how far a running job came.
_SAVE_INTERVAL: Final = 0.2
#: Saving takes one part in so many of the time of a job, however long its position has become.
_SAVE_SHARE: Final = 20
#: Seconds that interrupted steps have for coming to an end.
_GRACE: Final = 1.0
_RESULTS: Final = {
    # It may go on: in this process, or, when that ends, in the next one.
    StepResult.CONTINUE: JobAction.RESTART,
    StepResult.SUCCESS: JobAction.SUCCEED,
    StepResult.RETRY: JobAction.DELAY,
}
#: Ends of a run that what clients have asked for takes the place of.
_OPEN_ENDS: Final = (JobAction.RESTART, JobAction.DELAY)


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
        self._keeping = Keeping(store, kinds, is_saving=is_saving)
        self._clock = clock
        self._wall_clock = wall_clock
        self._slots = slots
        self._history = history
        self._notify = notify
        self._records: dict[str, JobRecord] = {}
        #: Sorted, since that is how clients see them.
        self._ids: list[str] = []
        self._waiting = WaitingJobs()
        #: In the order of their ends.
        self._finished: dict[JobRecord, None] = {}
        self._running: dict[JobRecord, Deferred[None]] = {}
        #: Steps that may take long, of kinds that say so.
        self._stepping: dict[JobRecord, Deferred[Step]] = {}
        self._timers: dict[JobRecord, IDelayedCall] = {}
        self._waiters: dict[JobRecord, list[Deferred[None]]] = {}
        self._stopping = False

    # Life

    async def start(self, *, goes_on: bool = True, waits: bool = False) -> None:
        """Take up what was left: now, or by `go_on` when it `waits`; paused when it shall not go on (``--no-jobs``)."""
        changed, canceled = [], []
        for record in await self._keeping.load():
            self._records[record.job_id] = record
            before, wish = record.state, record.wish
            self._take_up(record, goes_on, waits)
            if wish is not None or (record.state is JobState.PAUSED and before is not JobState.PAUSED):
                changed.append(record)
            if wish is JobAction.CANCEL:
                canceled.append(record)
        self._ids = sorted(self._records)
        finished = [record for record in self._records.values() if record.is_finished]
        self._finished = dict.fromkeys(sorted(finished, key=lambda record: record.completion_time or 0.0))
        forgotten = self._trim()
        await self._keeping.save(changed, forgotten)
        for record in canceled:
            self._notify(JobEvent(JobEventType.FAILURE, record.job_id))
        await self._forget(forgotten)
        self._fill()

    def go_on(self) -> None:
        """See `start`."""
        self._waiting.bring_back()
        self._fill()

    def _take_up(self, record: JobRecord, goes_on: bool, waits: bool) -> None:
        """Bring a record that the process before has left into a state of this one."""
        wish, record.wish = record.wish, None
        if wish is None or not self._go(record, wish):
            self._go(record, JobAction.RESTART)
        elif wish is JobAction.CANCEL:
            self._cancelled(record)
        if record.state is not JobState.PENDING:
            return
        if goes_on:
            (self._waiting.put_aside if waits else self._waiting.add)(record)
        else:
            self._go(record, JobAction.PAUSE)

    async def stop(self, deadline: float) -> None:
        """Let the steps that run end until `deadline`; what is not finished goes on after the next start.

        Steps that go on after it are interrupted, and when that does not help, left alone.
        """
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        waiters, self._waiters = self._waiters, {}
        for waiter in (waiter for waiting in waiters.values() for waiter in waiting):
            waiter.errback(ServiceUnavailable("The server is stopping"))
        left = max(0.0, deadline - self._clock.seconds())
        overdue = self._clock.callLater(left, self._interrupt)
        try:
            await shield(self._settle()).addTimeout(left + _GRACE, self._clock)
        except TimeoutError:
            log.error("{count} jobs do not end and are left alone", count=len(self._running))
        finally:
            if overdue.active():
                overdue.cancel()

    async def _settle(self) -> None:
        for running in list(self._running.values()):
            await running
        await self._keeping.save(())
        # What is not saved is gone: so is what it has left.
        await self._forget(record for record in self._records.values() if not record.is_saved)

    def _interrupt(self) -> None:
        for running in list(self._running.values()):
            running.cancel()

    # Asking

    def job(self, job_id: str) -> JobRecord | None:
        """A job, or None."""
        return self._records.get(job_id)

    def jobs(self) -> list[JobRecord]:
        """All jobs, sorted by their identifiers."""
        return [self._records[job_id] for job_id in self._ids]

    def count(self, *states: JobState) -> int:
        """Number of jobs in one of the states."""
        return sum(record.state in states for record in self._records.values())

    def content(self, record: JobRecord) -> Mapping[str, Any]:
        """What a job tells of itself, now."""
        if record.job is not None:
            try:
                record.content = record.job.content(record.position)
            except Exception:  # noqa: BLE001 - whatever it is, the job and the list of all jobs go on
                log.failure("Job {job} cannot tell of itself", job=record.job_id)
        return record.content

    async def output(self, record: JobRecord, key: str) -> Output | None:
        """What a job has made, or None."""
        job = await self._keeping.make(record)
        return await job.output(record.position, key)

    # Acting: all of it is durable when it is answered, and raises what the store raises

    async def submit(self, request: JobRequest, *, for_later: bool = False) -> JobRecord:
        """Accept a job. Raises BadRequest for an unknown kind, and what the kind raises.

        ServiceUnavailable while the server stops, unless it is `for_later`, too, and saved for the next start.
        """
        kind = self._keeping.kind(request.kind)
        if kind is None:
            raise BadRequest("Unknown type of jobs")
        if self._stopping and not (for_later and self._keeping.saves(kind)):
            raise ServiceUnavailable("The server is stopping")
        job = kind.make(request.parameters, request.permissive)
        try:
            parameters = orjson.dumps(request.parameters)
        except TypeError as e:
            raise BadRequest("The request is nested too deeply") from e
        record = JobRecord(
            number=self._keeping.next_number(),
            job_id=str(uuid.uuid4()),
            kind=request.kind,
            permissive=request.permissive,
            user_data=request.user_data,
            creation_time=self._wall_clock(),
            priority=request.priority,
            content=job.content({}),
            is_saved=self._keeping.saves(kind),
        )
        await self._keeping.add(record, parameters)
        self._records[record.job_id] = record
        insort(self._ids, record.job_id)
        self._notify(JobEvent(JobEventType.SUBMITTED, record.job_id))
        self._waiting.add(record)
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
        """Stop after the step that runs, or within it; no effect on what is paused or finished."""
        await self._hold(record, JobAction.PAUSE)

    async def cancel(self, record: JobRecord) -> None:
        """End as a failure, after the step that runs, or within it; no effect on what is finished."""
        await self._hold(record, JobAction.CANCEL)

    async def _hold(self, record: JobRecord, action: JobAction) -> None:
        if record.state is JobState.RUNNING:
            if record.wish is not JobAction.CANCEL:
                record.wish = action
            stepping = self._stepping.pop(record, None)
            if stepping is not None:
                stepping.cancel()
        elif after(record.state, action) is not None:
            self._waiting.remove(record)
            self._stop_timer(record)
            await self._conclude(record, action)
            return
        # Also when it has no effect: what somebody else has asked for just now may be on its way to the disk.
        await self._keeping.write([record])

    async def resume(self, record: JobRecord) -> bool:
        """Whether the job was paused, or about to be, and goes on now."""
        if record.wish is JobAction.PAUSE:
            record.wish = None
        elif self._go(record, JobAction.RESUME):
            self._enqueue(record)
        else:
            return False
        await self._keeping.write([record])
        return True

    async def resubmit(self, record: JobRecord) -> bool:
        """Whether the job had failed, and starts anew now."""
        kind = self._keeping.kind(record.kind)
        if (kind is not None and not kind.is_resubmitted) or not self._go(record, JobAction.RESUBMIT):
            return False
        self._finished.pop(record, None)
        left = record.position
        record.start_anew()
        self._enqueue(record)
        await self._keeping.write([record])
        await self._keeping.forget(record, left)
        return True

    async def delete(self, record: JobRecord) -> bool:
        """Forget a finished job; False for one that is not finished."""
        if record not in self._finished:
            return False
        del self._finished[record]
        self._drop(record)
        await self._keeping.write([], [record])
        await self._forget([record])
        return True

    async def delete_output(self, record: JobRecord, key: str) -> bool | None:
        """Whether there was such an output, which is gone now; None for a job that is not finished."""
        job = await self._keeping.make(record)
        if not record.is_finished:
            return None
        position = await job.delete_output(record.position, key)
        if position is None:
            return False
        # It may have started anew meanwhile; then there is nothing left of the old position.
        if record.is_finished:
            record.position = position
            await self._keeping.write([record])
        return True

    # Running

    def _enqueue(self, record: JobRecord) -> None:
        """Let a job wait for a slot, unless its last run is not quite over: it does so after that."""
        if record not in self._running:
            self._waiting.add(record)
            self._fill()

    def _fill(self) -> None:
        while not self._stopping and len(self._running) < self._slots:
            record = self._waiting.take()
            if record is None:
                return
            self._go(record, JobAction.START)
            # Not at once: whoever has submitted a job is answered before.
            running: Deferred[Any] = deferLater(self._clock, 0, self._begin, record)
            self._running[record] = running
            running.addErrback(self._broken, record)
            running.addCallback(self._left, record)

    def _begin(self, record: JobRecord) -> Deferred[None]:
        return Deferred.fromCoroutine(self._run(record))

    def _broken(self, failure: Failure, record: JobRecord) -> None:
        if not failure.check(CancelledError):
            log.failure("Job {job} is left in an unexpected way", failure, job=record.job_id)

    def _left(self, _: object, record: JobRecord) -> None:
        """The run of a job is over."""
        del self._running[record]
        if record.is_finished:
            self._wake(record)
        elif record.state is JobState.PENDING:
            self._waiting.add(record)
        self._fill()

    def _wake(self, record: JobRecord) -> None:
        for waiter in self._waiters.pop(record, ()):
            waiter.callback(None)

    async def _run(self, record: JobRecord) -> None:
        action, delay = JobAction.FAIL, 0.0
        record.started = self._clock.seconds()
        try:
            record.job = await self._keeping.make(record)
            step = await self._steps(record, record.job)
            if step is None:
                action = JobAction.RESTART
            else:
                action, delay = _RESULTS[step.result], step.delay
        except (CancelledError, ServiceUnavailable) as e:
            if self._stopping:
                # The server does not wait any longer for this step, or what it needs has ended: it is done again.
                action = JobAction.RESTART
            else:
                record.fail(e if isinstance(e, OrthancError) else OrthancError("The job was interrupted"))
        except OrthancError as e:
            record.fail(e)
            # It is part of a circle: what the step held would stay in memory until the collector comes.
            clear_frames(e.__traceback__)
        except Exception:  # noqa: BLE001 - whatever a job raises, it fails and nobody else
            log.failure("Job {job} failed in an unexpected way", job=record.job_id)
            record.fail(OrthancError())
        record.lap(self._clock.seconds())
        record.started = None
        await self._end(record)
        # Not before: a job may be told to stop while it lets go what it holds.
        wish, record.wish = record.wish, None
        if wish is not None and action in _OPEN_ENDS:
            action = wish
        try:
            await self._conclude(record, action, delay)
        except OrthancError as e:
            log.error("The end of job {job} could not be saved: {reason}", job=record.job_id, reason=str(e))

    async def _steps(self, record: JobRecord, job: Job) -> Step | None:
        """Step after step; the last one, or None when there are more but the job is to stop."""
        due = self._clock.seconds() + _SAVE_INTERVAL
        while record.wish is None and not self._stopping:
            step = await self._step(record, job)
            if step is None:
                return None
            record.position, record.progress = step.position, min(max(0.0, step.progress), 1.0)
            if step.result is not StepResult.CONTINUE:
                return step
            if step.is_milestone:
                await self._keeping.write([record])
            now = self._clock.seconds()
            if now >= due:
                record.lap(now)
                self.content(record)
                await self._keeping.save([record])
                saved = self._clock.seconds()
                due = saved + max(_SAVE_INTERVAL, _SAVE_SHARE * (saved - now))
            # Steps that wait for nothing must not keep the reactor from others.
            await deferLater(self._clock, 0)
        return None

    async def _step(self, record: JobRecord, job: Job) -> Step | None:
        """One step; None when a client has interrupted it: it is done again when the job goes on."""
        kind = self._keeping.kind(record.kind)
        if kind is None or not kind.interrupts(job):
            return await job.step(record.position)
        stepping = self._stepping[record] = Deferred.fromCoroutine(job.step(record.position))
        try:
            return await stepping
        except Exception:
            if record in self._stepping:
                raise
            return None
        finally:
            self._stepping.pop(record, None)

    async def _end(self, record: JobRecord) -> None:
        if record.job is None:
            return
        try:
            await record.job.end()
        except Exception:  # noqa: BLE001 - the job has ended all the same
            log.failure("Job {job} could not let go what it held", job=record.job_id)
        self.content(record)
        record.job = None

    async def _conclude(self, record: JobRecord, action: JobAction, delay: float = 0.0) -> None:
        """What an action or an end leads to. Raises what the store raises, when everything else is done."""
        self._go(record, action)
        if action is JobAction.CANCEL:
            self._cancelled(record)
        if action is JobAction.DELAY and not self._stopping:
            self._timers[record] = self._clock.callLater(delay, self._due, record)
        if not record.is_finished:
            await self._keeping.write([record])
            return
        record.completion_time = self._wall_clock()
        if record.state is JobState.SUCCESS:
            record.progress = 1.0
        event = JobEventType.SUCCESS if record.state is JobState.SUCCESS else JobEventType.FAILURE
        self._finished[record] = None
        forgotten = self._trim()
        try:
            await self._keeping.write([record], forgotten)
        finally:
            self._notify(JobEvent(event, record.job_id))
            if record not in self._running and record.is_finished:
                self._wake(record)
        await self._forget(forgotten)

    def _cancelled(self, record: JobRecord) -> None:
        record.fail(OrthancError(code=ErrorCode.CANCELED_JOB))
        record.completion_time = self._wall_clock()

    def _due(self, record: JobRecord) -> None:
        del self._timers[record]
        self._go(record, JobAction.DUE)
        self._enqueue(record)

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

    # Forgetting

    def _trim(self) -> list[JobRecord]:
        """The finished jobs that are too many, unknown already."""
        forgotten = []
        while len(self._finished) > self._history:
            record = next(iter(self._finished))
            del self._finished[record]
            self._drop(record)
            forgotten.append(record)
        return forgotten

    def _drop(self, record: JobRecord) -> None:
        del self._records[record.job_id]
        del self._ids[bisect_left(self._ids, record.job_id)]

    async def _forget(self, records: Iterable[JobRecord]) -> None:
        for record in list(records):
            await self._keeping.forget(record, record.position)
