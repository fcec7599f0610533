"""Jobs whose steps tests control, a store that fails and waits when it is told to, and engines on a clock."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadRequest, OrthancError, ServiceUnavailable
from orthanctw.index.database import SqliteIndex
from orthanctw.jobs.contract import JobKind, JobRequest, Output, Parameters, Position, Step, StepResult
from orthanctw.jobs.engine import JobsEngine
from orthanctw.jobs.record import JobRecord
from orthanctw.model import JobEvent, SavedJob

_T = TypeVar("_T")
#: Seconds since 1970 when a test begins.
NOW = 1_000_000.0
#: Code of the failure of jobs that were cancelled.
CANCELED = 37


class Workshop:
    """Where the jobs of a test work, and what they have done.

    A job does the words of its parameter ``Do``, one at a step:

    ========  =============================================================
    go        nothing
    hold      wait until the test calls `release`
    stubborn  the same, and pay no heed to being interrupted
    retry     ask to be tried again after 5 seconds, the first time
    later     wait as with hold, then ask for the same
    refuse    raise an OrthancError
    busy      raise ServiceUnavailable
    break     raise KeyError
    lost      raise CancelledError
    ========  =============================================================
    """

    def __init__(self) -> None:
        #: Names of the jobs whose steps have begun.
        self.steps: list[str] = []
        self.ended: list[str] = []
        self.forgotten: list[Position] = []
        self.tried: set[str] = set()
        self.held: dict[str, Deferred[None]] = {}
        #: Jobs that wait for `release` before they let go what they hold.
        self.slow_ends: set[str] = set()

    def kind(self, name: str = "Work", **options: Any) -> JobKind:
        return JobKind(name=name, make=lambda parameters, permissive: _Work(self, parameters, permissive), **options)

    async def forget(self, position: Position) -> None:
        self.forgotten.append(position)

    def hold(self, name: str) -> Deferred[None]:
        self.held[name] = Deferred()
        return self.held[name]

    def release(self, name: str) -> None:
        self.held.pop(name).callback(None)


class _Work:
    def __init__(self, workshop: Workshop, parameters: Parameters, permissive: bool) -> None:
        if not isinstance(parameters.get("Name"), str):
            raise BadRequest("Name must be a string")
        self._workshop = workshop
        self._name: str = parameters["Name"]
        self._words: Sequence[str] = parameters.get("Do", ["go"])
        self._permissive = permissive

    def content(self, position: Position) -> Mapping[str, Any]:
        return {"Done": position.get("Next", 0), "Permissive": self._permissive}

    async def step(self, position: Position) -> Step:
        place = position.get("Next", 0)
        self._workshop.steps.append(self._name)
        result = await self._do(self._words[place])
        if result is StepResult.RETRY:
            return Step(position=position, progress=place / len(self._words), result=result, delay=5)
        place += 1
        is_last = place == len(self._words)
        return Step(
            position={"Next": place, "Out": place},
            progress=place / len(self._words),
            result=StepResult.SUCCESS if is_last else StepResult.CONTINUE,
        )

    async def _do(self, word: str) -> StepResult:
        if word in ("hold", "stubborn", "later"):
            try:
                await self._workshop.hold(self._name)
            except CancelledError:
                if word != "stubborn":
                    raise
                await self._workshop.hold(self._name)
            if word == "later":
                return StepResult.RETRY
        elif word == "retry" and self._name not in self._workshop.tried:
            self._workshop.tried.add(self._name)
            return StepResult.RETRY
        elif word == "refuse":
            raise OrthancError("no luck", code=ErrorCode.NETWORK_PROTOCOL, http_status=502, payload={"Why": [1]})
        elif word == "busy":
            raise ServiceUnavailable("closed")
        elif word == "break":
            raise KeyError("a defect")
        elif word == "lost":
            raise CancelledError
        return StepResult.CONTINUE

    async def end(self) -> None:
        if self._name in self._workshop.slow_ends:
            await self._workshop.hold(self._name)
        self._workshop.ended.append(self._name)

    async def output(self, position: Position, key: str) -> Output | None:
        if key != "out" or "Out" not in position:
            return None
        return Output(str(position["Out"]).encode(), "text/plain", "out.txt")

    async def delete_output(self, position: Position, key: str) -> Position | None:
        if key != "out" or "Out" not in position:
            return None
        return {"Next": position["Next"]}


class Store:
    """The jobs of an index, with the failures of a disk.

    With `error`, every write is refused; with `is_slow`, each waits until `flush`. `journal` is what was written.
    """

    def __init__(self, index: SqliteIndex) -> None:
        self.index = index
        self.error: Exception | None = None
        self.is_slow = False
        self.journal: list[str] = []
        self._waiting: list[Deferred[None]] = []

    async def _disk(self, what: str) -> None:
        if self.is_slow:
            turn: Deferred[None] = Deferred()
            self._waiting.append(turn)
            await turn
        if self.error is not None:
            raise self.error
        self.journal.append(what)

    async def add_jobs(self, jobs: Sequence[SavedJob]) -> None:
        await self._disk("add")
        await self.index.add_jobs(jobs)

    async def update_jobs(self, statuses: Mapping[int, bytes], forgotten: Sequence[int]) -> None:
        await self._disk("update")
        await self.index.update_jobs(statuses, forgotten)

    def jobs(self) -> Deferred[list[SavedJob]]:
        return self.index.jobs()

    def job_parameters(self, number: int) -> Deferred[bytes | None]:
        return self.index.job_parameters(number)

    def flush(self) -> None:
        """Let the disk do what it was asked for so far, in order."""
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            turn.callback(None)


class EngineCase(SynchronousTestCase):
    """A test with an engine; `restart` gives another one on the same index, as after a sudden death."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        index = SqliteIndex(reactor, self.path, synchronous=True)  # type: ignore[arg-type]
        self.successResultOf(index.open())
        self.addCleanup(index.close)
        self.store = Store(index)
        self.workshop = Workshop()
        self.kinds = [self.workshop.kind()]
        self.events: list[tuple[str, str]] = []
        self.restart()

    def build(self, *, slots: int = 1, history: int = 100, is_saving: bool = True) -> None:
        """A new engine, which is not started; nothing calls the old one any more."""
        self.clock = Clock()
        self.engine = JobsEngine(
            self.store,
            self.kinds,
            clock=self.clock,
            wall_clock=lambda: NOW + self.clock.seconds(),
            slots=slots,
            history=history,
            is_saving=is_saving,
            notify=self.note,
        )

    def note(self, event: JobEvent) -> None:
        self.events.append((event.event_type.value, event.job_id))
        self.store.journal.append(event.event_type.value)

    def restart(self, *, goes_on: bool = True, **options: Any) -> None:
        self.build(**options)
        self.do(self.engine.start(goes_on=goes_on))

    def fresh(self, **options: Any) -> None:
        """An engine that knows nothing of what was before."""
        connection = sqlite3.connect(self.path)
        with connection:
            for table in ("jobs", "job_status"):
                connection.execute(f"DELETE FROM {table}")
        connection.close()
        self.workshop.__init__()  # type: ignore[misc]
        self.events.clear()
        self.restart(**options)

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of something that waits for nothing."""
        return self.successResultOf(Deferred.fromCoroutine(work))

    def begin(self, work: Coroutine[Any, Any, _T]) -> Deferred[_T]:
        """Something that waits."""
        return Deferred.fromCoroutine(work)

    def turn(self, seconds: float = 0) -> None:
        """Let jobs do what they can do."""
        self.clock.advance(seconds)

    def request(self, name: str, *words: str, priority: int = 0, kind: str = "Work", **fields: Any) -> JobRequest:
        parameters = {"Name": name, "Do": list(words) or ["go"]}
        return JobRequest(kind=kind, parameters=parameters, priority=priority, **fields)

    def submit(self, name: str, *words: str, **fields: Any) -> JobRecord:
        """Submit a job; it does not begin before the next turn."""
        return self.do(self.engine.submit(self.request(name, *words, **fields)))

    def again(self, record: JobRecord) -> JobRecord:
        """The job in the present engine."""
        found = self.engine.job(record.job_id)
        assert found is not None
        return found

    def rows(self) -> dict[int, dict[str, Any]]:
        """What lies in the database: the status of each job."""
        connection = sqlite3.connect(self.path)
        try:
            rows = connection.execute("SELECT number, status FROM jobs JOIN job_status USING (number)").fetchall()
        finally:
            connection.close()
        return {number: json.loads(status) for number, status in rows}

    def change(self, statement: str, *values: object) -> None:
        """Change the database behind everybody's back."""
        connection = sqlite3.connect(self.path)
        with connection:
            self.assertEqual(connection.execute(statement, values).rowcount, 1)
        connection.close()

    def assertState(self, record: JobRecord, state: str, code: int = 0) -> None:
        """The job is in a state, with an error code, in memory and, when it does not run, in the database."""
        found = self.again(record)
        self.assertEqual((found.state.value, found.error_code), (state, code))
        row = self.rows().get(record.number)
        if row is not None and state not in ("Running", "Retry"):
            self.assertEqual((row["state"], row["error_code"]), (state, code))


class SteeringCase(EngineCase):
    """Jobs brought into each state."""

    def make(self, state: str) -> JobRecord:
        """A job in a state, of two steps where it has begun."""
        if state == "Pending":
            self.submit("other", "hold")
            record = self.submit("a", "go", "go")
        elif state == "Running":
            record = self.submit("a", "hold", "go")
        elif state == "Retry":
            record = self.submit("a", "go", "retry")
        elif state == "Failure":
            record = self.submit("a", "go", "refuse")
        else:
            record = self.submit("a", "go", "go")
        if state == "Paused":
            self.do(self.engine.pause(record))
        self.turn()
        self.assertEqual(record.state.value, state)
        self.events.clear()
        self.workshop.steps.clear()
        return record

    def finish_step(self) -> None:
        """Let the step end that runs, and what can follow follow."""
        if "a" in self.workshop.held:
            self.workshop.release("a")
        self.turn()
