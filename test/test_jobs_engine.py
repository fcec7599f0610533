"""The jobs engine on a clock: order, steering, history, events, and what is told to whom when things fail."""

from __future__ import annotations

import gc
import weakref

from twisted.internet.defer import fail

from orthanctw.errors import BadRequest, FullStorage, OrthancError
from orthanctw.jobs.contract import Position, Step
from orthanctw.jobs.record import JobRecord
from orthanctw.jobs.waiting import WaitingJobs
from orthanctw.model import JobState
from test.job_samples import NOW, EngineCase


class OrderTests(EngineCase):
    """Which job runs when."""

    def test_first_come_first_served(self) -> None:
        """Jobs of one priority run in the order in which they came."""
        for name in "abcd":
            self.submit(name, "go", "go")
        self.turn()
        self.assertEqual("".join(self.workshop.steps), "aabbccdd")

    def test_priorities(self) -> None:
        """Jobs of higher priority run first, those of negative priority last."""
        for name, priority in (("a", 0), ("b", -1), ("c", 5), ("d", 0), ("e", 5), ("f", 2**31 - 1)):
            self.submit(name, priority=priority)
        self.turn()
        # The first one had its slot before the others came.
        self.assertEqual("".join(self.workshop.steps), "afcedb")

    def test_slots(self) -> None:
        """As many run at once as there are slots, and a slot that becomes free is used."""
        self.restart(slots=2)
        records = [self.submit(name, "hold") for name in "abc"]
        self.turn()
        self.assertEqual(self.workshop.steps, ["a", "b"])
        self.assertEqual([record.state.value for record in records], ["Running", "Running", "Pending"])
        self.workshop.release("b")
        self.turn()
        self.assertEqual(self.workshop.steps, ["a", "b", "c"])
        self.assertEqual(self.engine.count(JobState.RUNNING), 2)

    def test_answer_before_the_first_step(self) -> None:
        """Whoever submits a job hears of that before it begins."""
        self.submit("a")
        self.assertEqual(self.workshop.steps, [])

    def test_resumed_jobs_come_last(self) -> None:
        """A job that was paused and resumed waits behind those that waited meanwhile."""
        self.submit("a", "hold")
        later = [self.submit(name) for name in "bc"]
        self.do(self.engine.pause(later[0]))
        self.assertTrue(self.do(self.engine.resume(later[0])))
        self.turn()
        self.workshop.release("a")
        self.turn()
        self.assertEqual("".join(self.workshop.steps), "acb")

    def test_list(self) -> None:
        """Jobs are listed by their identifiers, whatever came and went."""
        records = [self.submit(str(number)) for number in range(20)]
        self.turn()
        for record in records[::3]:
            self.assertTrue(self.do(self.engine.delete(record)))
        left = sorted({record.job_id for record in records} - {record.job_id for record in records[::3]})
        self.assertEqual([record.job_id for record in self.engine.jobs()], left)
        self.restart()
        self.assertEqual([record.job_id for record in self.engine.jobs()], left)

    def test_stale_places_in_the_queue(self) -> None:
        """A job that leaves the queue and comes back again and again costs no memory."""
        waiting = WaitingJobs()
        records = [
            JobRecord(
                number=n, job_id=str(n), kind="", permissive=False, user_data=None, creation_time=0, priority=n % 3
            )
            for n in range(10)
        ]
        for record in records:
            waiting.add(record)
        for _ in range(1000):
            waiting.remove(records[5])
            waiting.add(records[5])
        self.assertLess(len(waiting._heap), 200)
        self.assertEqual(len(waiting), 10)
        taken = [waiting.take() for _ in range(10)]
        self.assertEqual([record.number for record in taken if record], [2, 8, 5, 1, 4, 7, 0, 3, 6, 9])
        self.assertIsNone(waiting.take())


class EndTests(EngineCase):
    """How jobs end."""

    def test_success(self) -> None:
        """A job that has done all its steps is a success, with its content, its runtime and its time of completion."""
        record = self.submit("a", "go", "hold", permissive=True, user_data={"x": [1]}, priority=3)
        self.turn()
        self.turn(2.5)
        self.workshop.release("a")
        self.assertState(record, "Success")
        self.assertEqual((record.progress, record.runtime, record.priority), (1.0, 2.5, 3))
        self.assertEqual((record.creation_time, record.completion_time), (NOW, NOW + 2.5))
        self.assertEqual(record.content, {"Done": 2, "Permissive": True})
        self.assertEqual(self.workshop.ended, ["a"])

    def test_refusal(self) -> None:
        """A job fails with the error that a step raises, and the next one begins."""
        record, other = self.submit("a", "go", "refuse", "go"), self.submit("b")
        self.turn()
        self.assertState(record, "Failure", 9)
        told = (record.error_details, record.http_status, record.error_payload)
        self.assertEqual(told, ("no luck", 502, {"Why": [1]}))
        error = record.error()
        self.assertEqual((int(error.code), error.details, error.http_status), (9, "no luck", 502))
        self.assertEqual((record.progress, record.position["Next"]), (1 / 3, 1))
        self.assertState(other, "Success")
        self.assertEqual(self.workshop.ended, ["a", "b"])

    def test_defect(self) -> None:
        """A step that raises anything else fails its job with an internal error, and nobody else."""
        record, other = self.submit("a", "break"), self.submit("b")
        self.turn()
        self.assertState(record, "Failure", -1)
        self.assertState(other, "Success")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_lost_step(self) -> None:
        """A step that somebody has cancelled fails its job: it does not wait for ever."""
        record = self.submit("a", "lost")
        self.turn()
        self.assertState(record, "Failure", -1)
        self.assertEqual(record.error_details, "The job was interrupted")

    def test_busy(self) -> None:
        """A step that finds something unavailable fails its job, while the server does not stop."""
        record = self.submit("a", "busy")
        self.turn()
        self.assertIs(record.state, JobState.FAILURE)
        self.assertEqual(record.http_status, 503)

    def test_retry(self) -> None:
        """A step that asks for another attempt gets it after its delay; others run meanwhile."""
        record, other = self.submit("a", "go", "retry"), self.submit("b")
        self.turn()
        self.assertState(record, "Retry")
        self.assertState(other, "Success")
        self.turn(4.9)
        self.assertState(record, "Retry")
        self.turn(0.1)
        self.assertState(record, "Success")
        self.assertEqual("".join(self.workshop.steps), "aaba")

    def test_hostile_kind(self) -> None:
        """A job that cannot tell of itself, or fails to let go, ends all the same."""
        record = self.submit("a", "hold", "go")
        self.turn()
        job = record.job
        assert job is not None
        job.content = lambda position: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        job.end = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        self.assertEqual(self.engine.content(record), {"Done": 0, "Permissive": False})
        self.workshop.release("a")
        self.turn()
        self.assertState(record, "Success")
        self.assertGreater(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_strange_progress(self) -> None:
        """No job has done more than everything, or less than nothing, whatever it claims."""
        for claimed, shown in ((7.0, 1.0), (-1.0, 0.0), (float("nan"), 0.0)):

            async def step(position: Position, claimed: float = claimed) -> Step:
                await self.workshop.hold("a")
                return Step(position={"Next": 1}, progress=claimed)

            record = self.submit("a", "hold", "go", "go")
            self.turn()
            assert record.job is not None
            record.job.step = step  # type: ignore[method-assign]
            self.workshop.release("a")
            self.turn()
            self.do(self.engine.cancel(record))
            self.workshop.release("a")
            self.turn()
            self.assertState(record, "Failure", 37)
            self.assertEqual(record.progress, shown)

    def test_memory_of_failed_steps(self) -> None:
        """What a step held that has failed is gone at once, without the collector of circles."""

        class Large:
            pass

        held: list[weakref.ref[Large]] = []

        async def step(position: Position) -> Step:
            large = Large()
            held.append(weakref.ref(large))
            await fail(FullStorage("full"))
            raise AssertionError

        gc.disable()
        self.addCleanup(gc.enable)
        record = self.submit("a", "hold", "go")
        self.turn()
        assert record.job is not None
        record.job.step = step  # type: ignore[method-assign]
        self.workshop.release("a")
        self.turn()
        self.assertState(record, "Failure", 19)
        self.assertEqual([reference() for reference in held], [None])

    def test_memory_of_parameters(self) -> None:
        """Parameters of jobs that are saved do not stay in memory, before, after, and at the next start."""
        waiting, done = self.submit("a", "hold"), self.submit("b")
        self.do(self.engine.pause(waiting))
        self.turn()
        self.assertState(done, "Success")
        self.restart()
        for record in (waiting, done, *self.engine.jobs()):
            self.assertEqual((record.parameters, record.job), (b"", None))

    def test_waiters(self) -> None:
        """Everybody who waits for a job hears of its end, however it ends, also who comes late."""
        for words, state in ((("hold", "go"), "Success"), (("hold", "refuse"), "Failure")):
            record = self.submit("a", *words)
            waiters = [self.engine.wait(record) for _ in range(3)]
            self.turn()
            for waiter in waiters:
                self.assertNoResult(waiter)
            self.workshop.release("a")
            self.turn()
            for waiter in (*waiters, self.engine.wait(record)):
                self.successResultOf(waiter)
            self.assertEqual(record.state.value, state)

    def test_waiters_of_cancelled_jobs(self) -> None:
        """So do those who wait for a job that is cancelled before it begins; a waiter that gave up is no trouble."""
        self.submit("a", "hold")
        record = self.submit("b")
        given_up, waiter = self.engine.wait(record), self.engine.wait(record)
        given_up.cancel()
        self.failureResultOf(given_up)
        self.do(self.engine.cancel(record))
        self.successResultOf(waiter)


class HistoryTests(EngineCase):
    """Finished jobs."""

    def test_trimming(self) -> None:
        """As many are remembered as the history is long, those that ended last; the others leave no row."""
        self.restart(history=3)
        records = [self.submit(name, "refuse" if name == "d" else "go") for name in "abcde"]
        self.turn()
        self.assertEqual({record.number for record in self.engine.jobs()}, {record.number for record in records[2:]})
        self.assertEqual(set(self.rows()), {record.number for record in records[2:]})

    def test_no_history(self) -> None:
        """Without a history a job is forgotten as soon as it has ended; who waits for it hears of that."""
        self.restart(history=0)
        record = self.submit("a")
        waiter = self.engine.wait(record)
        self.turn()
        self.successResultOf(waiter)
        self.assertIs(record.state, JobState.SUCCESS)
        self.assertEqual((self.engine.jobs(), self.rows()), ([], {}))
        self.assertEqual([event for event, _ in self.events], ["JobSubmitted", "JobSuccess"])

    def test_unfinished_jobs_stay(self) -> None:
        """A history is of finished jobs only."""
        self.restart(history=1)
        records = [self.submit(name, "hold") for name in "abcd"]
        self.turn()
        for record in records[1:]:
            self.do(self.engine.pause(record))
        self.workshop.release("a")
        self.turn()
        self.assertEqual([self.again(record).state.value for record in records], ["Success"] + ["Paused"] * 3)

    def test_shorter_after_a_restart(self) -> None:
        """When the history has become shorter, the oldest go at the start."""
        records = [self.submit(name) for name in "abcd"]
        self.turn()
        self.restart(history=2)
        self.assertEqual(set(self.rows()), {record.number for record in records[2:]})
        self.assertEqual(len(self.engine.jobs()), 2)

    def test_resubmitted(self) -> None:
        """A job that starts anew leaves the history, and comes back to its end."""
        self.restart(history=2)
        first, second = self.submit("a", "refuse"), self.submit("b")
        self.turn()
        self.do(self.engine.resubmit(first))
        self.turn()
        self.submit("c")
        self.turn()
        self.assertIsNone(self.engine.job(second.job_id))
        self.assertState(first, "Failure", 9)

    def test_delete(self) -> None:
        """Only a finished job can be deleted; then nothing is left of it."""
        record = self.submit("a", "hold")
        self.assertFalse(self.do(self.engine.delete(record)))
        self.turn()
        self.assertFalse(self.do(self.engine.delete(record)))
        self.workshop.release("a")
        self.assertTrue(self.do(self.engine.delete(record)))
        self.assertEqual((self.engine.jobs(), self.rows()), ([], {}))
        self.assertFalse(self.do(self.engine.delete(record)))


class SubmissionTests(EngineCase):
    """What is accepted."""

    def test_unknown_kind(self) -> None:
        """A kind that there is not is refused."""
        self.failureResultOf(self.begin(self.engine.submit(self.request("a", kind="Other"))), BadRequest)

    def test_unreadable_parameters(self) -> None:
        """What the kind cannot read, and what cannot be kept, is refused, and leaves nothing."""
        deep: list[object] = []
        for _ in range(300):
            deep = [deep]
        for request in (self.request(1), self.request("a", deep)):  # type: ignore[arg-type]
            self.failureResultOf(self.begin(self.engine.submit(request)), BadRequest)
        self.assertEqual((self.engine.jobs(), self.rows(), self.events), ([], {}, []))

    def test_full_disk(self) -> None:
        """A job that cannot be kept is refused, and leaves nothing; the next one is accepted."""
        self.store.error = FullStorage("full")
        self.failureResultOf(self.begin(self.engine.submit(self.request("a"))), FullStorage)
        self.turn()
        self.assertEqual((self.engine.jobs(), self.rows(), self.events), ([], {}, []))
        self.assertEqual(self.workshop.steps, [])
        self.store.error = None
        record = self.submit("b")
        self.turn()
        self.assertState(record, "Success")

    def test_durable_before_anybody_hears_of_it(self) -> None:
        """A job is on the disk before its submission is answered, told, listed or begun."""
        self.store.is_slow = True
        submission = self.begin(self.engine.submit(self.request("a")))
        self.turn(10)
        self.assertNoResult(submission)
        self.assertEqual((self.engine.jobs(), self.events, self.workshop.steps), ([], [], []))
        self.store.flush()
        self.assertIs(self.successResultOf(submission).state, JobState.RUNNING)
        self.assertEqual(self.store.journal, ["add", "JobSubmitted"])


class EventTests(EngineCase):
    """What listeners are told."""

    def test_order(self) -> None:
        """Each event is told once, in order, and after it is on the disk."""
        good, bad = self.submit("a"), self.submit("b", "refuse")
        self.turn()
        self.assertEqual(
            self.events,
            [
                ("JobSubmitted", good.job_id),
                ("JobSubmitted", bad.job_id),
                ("JobSuccess", good.job_id),
                ("JobFailure", bad.job_id),
            ],
        )
        self.assertEqual(
            self.store.journal,
            ["add", "JobSubmitted", "add", "JobSubmitted", "update", "JobSuccess", "update", "JobFailure"],
        )

    def test_cancelled(self) -> None:
        """A job that is cancelled has failed, once, however often it is cancelled."""
        self.submit("a", "hold")
        record = self.submit("b")
        for _ in range(3):
            self.do(self.engine.cancel(record))
        self.assertEqual(self.events[2:], [("JobFailure", record.job_id)])

    def test_slow_disk(self) -> None:
        """The end of a job is told, and who waits for it answered, when it is on the disk."""
        record = self.submit("a")
        waiter = self.engine.wait(record)
        self.store.is_slow = True
        self.turn()
        self.assertEqual((self.workshop.steps, len(self.events)), (["a"], 1))
        late = self.engine.wait(record)
        self.assertNoResult(waiter)
        self.assertNoResult(late)
        self.store.flush()
        self.successResultOf(waiter)
        self.successResultOf(late)
        self.assertEqual(self.events[1:], [("JobSuccess", record.job_id)])


class FailingDiskTests(EngineCase):
    """Jobs while the disk refuses to write how far they came."""

    def test_running_job(self) -> None:
        """A job goes on and ends; its end is written with the next write that succeeds."""
        record = self.submit("a", "hold", "go", "hold", "go")
        self.turn()
        self.store.error = FullStorage("full")
        for _ in range(2):
            self.turn(1)
            self.workshop.release("a")
            self.turn()
        self.assertIs(record.state, JobState.SUCCESS)
        self.assertEqual(self.rows()[record.number]["state"], "Pending")
        self.assertEqual(self.events[-1], ("JobSuccess", record.job_id))
        self.store.error = None
        other = self.submit("b")
        self.turn()
        self.assertState(record, "Success")
        self.assertState(other, "Success")

    def test_written_at_the_end(self) -> None:
        """At the latest it is written when the server stops."""
        record = self.submit("a")
        self.store.error = FullStorage("full")
        self.turn()
        self.store.error = None
        self.do(self.engine.stop(0))
        self.assertState(record, "Success")

    def test_clients_are_told(self) -> None:
        """Who steers a job is told that it is not durable; asking again when there is room makes it so."""
        self.submit("a", "hold")
        cases = ((self.engine.cancel, "Failure", 37), (self.engine.pause, "Paused", 0))
        for action, state, code in cases:
            record = self.submit("b")
            self.store.error = FullStorage("full")
            self.failureResultOf(self.begin(action(record)), FullStorage)
            self.assertEqual(self.rows()[record.number]["state"], "Pending")
            self.store.error = None
            self.do(action(record))
            self.assertState(record, state, code)

    def test_deleted(self) -> None:
        """The row of a job that was deleted in vain goes with the next write."""
        record = self.submit("a")
        self.turn()
        self.store.error = FullStorage("full")
        self.failureResultOf(self.begin(self.engine.delete(record)), FullStorage)
        self.assertIn(record.number, self.rows())
        self.store.error = None
        other = self.submit("b")
        self.turn()
        self.assertEqual(set(self.rows()), {other.number})

    def test_no_json(self) -> None:
        """What a kind tells that cannot be written is its own loss: other jobs are written."""
        record = self.submit("a", "hold")
        self.turn()
        assert record.job is not None
        record.job.content = lambda position: {"No": object()}  # type: ignore[method-assign]
        self.workshop.release("a")
        other = self.submit("b")
        self.turn()
        self.assertIs(record.state, JobState.SUCCESS)
        self.assertState(other, "Success")
        self.assertGreater(len(self.flushLoggedErrors(TypeError)), 0)


class OutputTests(EngineCase):
    """What jobs have made."""

    def test_output(self) -> None:
        """An output can be fetched, also after a restart, and deleted once the job has ended."""
        record = self.submit("a", "go", "hold")
        self.turn()
        self.assertIsNone(self.do(self.engine.delete_output(record, "out")))
        self.workshop.release("a")
        self.restart()
        record = self.again(record)
        output = self.do(self.engine.output(record, "out"))
        assert output is not None
        self.assertEqual((output.content, output.content_type, output.file_name), (b"2", "text/plain", "out.txt"))
        self.assertIsNone(self.do(self.engine.output(record, "other")))
        self.assertIs(self.do(self.engine.delete_output(record, "other")), False)
        self.assertIs(self.do(self.engine.delete_output(record, "out")), True)
        self.assertIs(self.do(self.engine.delete_output(record, "out")), False)
        self.assertIsNone(self.do(self.engine.output(record, "out")))
        self.restart()
        self.assertIsNone(self.do(self.engine.output(self.again(record), "out")))

    def test_unknown_kind(self) -> None:
        """Jobs of a kind that is gone have no outputs, which is an error that clients are told of."""
        record = self.submit("a")
        self.turn()
        self.kinds = []
        self.restart()
        self.failureResultOf(self.begin(self.engine.output(self.again(record), "out")), OrthancError)
