"""Pausing, resuming, cancelling and starting jobs anew, in every state, and by several clients."""

from __future__ import annotations

from orthanctw.errors import FullStorage
from orthanctw.model import JobState
from test.job_samples import CANCELED, SteeringCase


class StateTests(SteeringCase):
    """What clients do to jobs in each state."""

    def check(self, action: str, state: str, after: str, code: int = 0) -> None:
        """Fail unless `action` on a job in `state` makes it `after`, durably, and without another step."""
        self.fresh(slots=1 if state == "Pending" else 2)
        record = self.make(state)
        before = self.rows()[record.number]
        self.do(getattr(self.engine, action)(record))
        self.finish_step()
        self.assertState(record, after, code)
        self.assertEqual(self.workshop.steps, [])
        if state == after:
            self.assertEqual(self.rows()[record.number] | {"content": 0}, before | {"content": 0})
            self.assertEqual(self.events, [])
        self.turn(100)
        self.assertState(record, after, code)

    def test_cancel(self) -> None:
        """Cancelling ends what is not finished as a failure of its own code, and does nothing else."""
        for state in ("Pending", "Running", "Paused", "Retry"):
            self.check("cancel", state, "Failure", CANCELED)
            self.assertEqual([event for event, _ in self.events], ["JobFailure"])
        self.check("cancel", "Success", "Success")
        self.check("cancel", "Failure", "Failure", 9)

    def test_pause(self) -> None:
        """Pausing holds what is not finished, and does nothing else."""
        for state in ("Pending", "Running", "Paused", "Retry"):
            self.check("pause", state, "Paused")
            self.assertEqual(self.events, [])
        self.check("pause", "Success", "Success")
        self.check("pause", "Failure", "Failure", 9)

    def test_resume(self) -> None:
        """Only a paused job can be resumed; it goes on where it was."""
        for state in ("Pending", "Running", "Retry", "Success", "Failure"):
            self.fresh()
            self.assertFalse(self.do(self.engine.resume(self.make(state))), state)
        for state in ("Paused", "Retry", "Running"):
            self.fresh(slots=2)
            record = self.make(state)
            self.do(self.engine.pause(record))
            self.finish_step()
            self.assertState(record, "Paused")
            self.assertTrue(self.do(self.engine.resume(record)))
            self.turn()
            self.assertState(record, "Success")

    def test_resubmit(self) -> None:
        """Only a failed job can be submitted again; it starts anew, with nothing of its failure left."""
        for state in ("Pending", "Running", "Paused", "Retry", "Success"):
            self.fresh()
            self.assertFalse(self.do(self.engine.resubmit(self.make(state))), state)
        self.fresh(slots=2)
        record = self.make("Failure")
        self.store.is_slow = True
        again = self.begin(self.engine.resubmit(record))
        self.assertNoResult(again)
        shown = (record.position, record.progress, record.runtime, record.completion_time, record.error_payload)
        self.assertEqual(shown, ({}, 0, 0, None, None))
        self.store.flush()
        self.assertTrue(self.successResultOf(again))
        self.store.is_slow = False
        self.turn()
        self.assertState(record, "Failure", 9)
        self.assertEqual(self.workshop.steps, ["a", "a"])

    def test_resubmit_of_a_cancelled_job(self) -> None:
        """A job that was cancelled starts anew too, and has not failed then."""
        record = self.make("Pending")
        self.do(self.engine.cancel(record))
        self.assertTrue(self.do(self.engine.resubmit(record)))
        self.assertState(record, "Pending")
        self.workshop.release("other")
        self.turn()
        self.assertState(record, "Success")

    def test_kinds_that_run_once(self) -> None:
        """Jobs of some kinds cannot be submitted again."""
        self.kinds = [self.workshop.kind(is_resubmitted=False)]
        self.restart()
        record = self.make("Failure")
        self.assertFalse(self.do(self.engine.resubmit(record)))
        self.assertState(record, "Failure", 9)


class RunningTests(SteeringCase):
    """Steering a job while it runs."""

    def test_effect_after_the_step(self) -> None:
        """The step that runs ends first; the job counts as running until then."""
        for action, state, code in (("pause", "Paused", 0), ("cancel", "Failure", CANCELED)):
            self.fresh()
            record = self.make("Running")
            self.do(getattr(self.engine, action)(record))
            self.turn(1)
            self.assertIs(record.state, JobState.RUNNING)
            self.finish_step()
            self.assertState(record, state, code)
            self.assertEqual(record.position["Next"], 1)
            self.assertEqual(self.workshop.ended.pop(), "a")

    def test_last_step(self) -> None:
        """A job whose last step succeeds has succeeded, whatever was asked for; one whose step fails has failed."""
        for action in ("pause", "cancel"):
            self.fresh(slots=2)
            good, bad = self.submit("a", "hold"), self.submit("b", "hold")
            self.turn()
            for record in (good, bad):
                self.do(getattr(self.engine, action)(record))
            self.workshop.release("a")
            self.workshop.held.pop("b").errback(FullStorage("full"))
            self.turn()
            self.assertState(good, "Success")
            self.assertState(bad, "Failure", 19)

    def test_cancel_beats_pause(self) -> None:
        """A job that was told both is cancelled, in whatever order, and cannot be resumed."""
        for first, second in (("pause", "cancel"), ("cancel", "pause")):
            self.fresh()
            record = self.make("Running")
            self.do(getattr(self.engine, first)(record))
            self.do(getattr(self.engine, second)(record))
            self.assertFalse(self.do(self.engine.resume(record)))
            self.finish_step()
            self.assertState(record, "Failure", CANCELED)

    def test_pause_taken_back(self) -> None:
        """Resuming a job that is about to be paused lets it go on."""
        record = self.make("Running")
        self.do(self.engine.pause(record))
        self.assertTrue(self.do(self.engine.resume(record)))
        self.finish_step()
        self.assertState(record, "Success")

    def test_before_the_first_step(self) -> None:
        """A job that has its slot but not begun yet does not begin."""
        for action, state, code in (("pause", "Paused", 0), ("cancel", "Failure", CANCELED)):
            self.fresh()
            record = self.submit("a")
            self.assertIs(record.state, JobState.RUNNING)
            self.do(getattr(self.engine, action)(record))
            self.turn()
            self.assertState(record, state, code)
        self.assertEqual(self.workshop.steps, [])

    def test_while_it_lets_go(self) -> None:
        """What is asked of a job that lets go what it holds is done, and does not come up again later."""
        self.workshop.slow_ends.add("a")
        record = self.make("Running")
        self.do(self.engine.pause(record))
        self.finish_step()
        self.do(self.engine.cancel(record))
        self.workshop.release("a")
        self.assertState(record, "Failure", CANCELED)
        self.assertTrue(self.do(self.engine.resubmit(record)))
        self.turn()
        self.finish_step()
        self.workshop.release("a")
        self.assertState(record, "Success")

    def test_resumed_while_it_lets_go(self) -> None:
        """A pause can be taken back until it has taken effect: the job goes on where it was."""
        self.workshop.slow_ends.add("a")
        record = self.make("Running")
        self.do(self.engine.pause(record))
        self.finish_step()
        self.assertTrue(self.do(self.engine.resume(record)))
        self.workshop.slow_ends.clear()
        self.workshop.release("a")
        self.turn()
        self.assertState(record, "Success")
        self.assertEqual(self.workshop.steps, ["a"])

    def test_attempt_that_is_cancelled(self) -> None:
        """A step that asks for another attempt gets none when the job was told to stop."""
        for action, state, code in (("pause", "Paused", 0), ("cancel", "Failure", CANCELED)):
            self.fresh()
            record = self.submit("a", "hold", "retry")
            self.turn()
            self.workshop.slow_ends.add("a")
            self.workshop.release("a")
            self.turn()
            self.do(getattr(self.engine, action)(record))
            self.workshop.slow_ends.clear()
            self.workshop.release("a")
            self.turn(100)
            self.assertState(record, state, code)


class RaceTests(SteeringCase):
    """Several clients, and a disk that takes its time."""

    def test_resubmitted_while_the_end_is_written(self) -> None:
        """A job that starts anew while its failure is on its way to the disk does not run twice at once."""
        self.restart(slots=2)
        record = self.submit("a", "hold", "refuse")
        self.turn()
        self.store.is_slow = True
        self.workshop.release("a")
        self.turn()
        self.assertIs(record.state, JobState.FAILURE)
        answers = [self.begin(self.engine.resubmit(record)) for _ in range(2)]
        self.turn()
        self.assertEqual(self.workshop.steps, ["a", "a"])
        self.store.is_slow = False
        self.store.flush()
        self.assertEqual([self.successResultOf(answer) for answer in answers], [True, False])
        self.turn()
        self.assertEqual(self.workshop.steps, ["a"] * 3)
        for name in "bc":
            self.submit(name, "hold")
        self.turn()
        self.assertEqual(self.workshop.steps, ["a"] * 3 + ["b"])
        self.workshop.release("a")
        self.turn()
        self.assertState(record, "Failure", 9)
        self.assertEqual(self.workshop.steps, ["a"] * 3 + ["b", "a", "c"])

    def test_resumed_while_the_pause_is_written(self) -> None:
        """The same for a job that is resumed while its pause is written."""
        self.restart(slots=2)
        record = self.make("Running")
        self.do(self.engine.pause(record))
        self.store.is_slow = True
        self.finish_step()
        answers = [self.begin(self.engine.resume(record)) for _ in range(2)]
        self.turn()
        self.assertEqual(self.workshop.steps, [])
        self.store.is_slow = False
        self.store.flush()
        self.assertEqual([self.successResultOf(answer) for answer in answers], [True, False])
        self.turn()
        self.assertEqual(self.workshop.steps, ["a"])
        self.assertState(record, "Success")

    def test_cancelled_while_it_starts_anew(self) -> None:
        """A job that is cancelled while its new start is written is cancelled, and does not run."""
        self.submit("other", "hold")
        self.turn()
        record = self.submit("a")
        self.do(self.engine.cancel(record))
        self.store.is_slow = True
        again, cancelled = self.begin(self.engine.resubmit(record)), self.begin(self.engine.cancel(record))
        self.store.flush()
        self.successResultOf(again)
        self.successResultOf(cancelled)
        self.store.is_slow = False
        self.workshop.release("other")
        self.turn()
        self.assertState(record, "Failure", CANCELED)
        self.assertEqual(self.workshop.steps, ["other"])

    def test_durable_when_answered(self) -> None:
        """Nobody is answered before what was asked for is on the disk, nor who asks for the same a moment later."""
        for state in ("Pending", "Running"):
            for action in ("pause", "cancel"):
                self.fresh()
                record = self.make(state)
                self.store.is_slow = True
                answers = [self.begin(getattr(self.engine, action)(record)) for _ in range(2)]
                for answer in answers:
                    self.assertNoResult(answer)
                self.store.flush()
                for answer in answers:
                    self.successResultOf(answer)
                self.store.is_slow = False

    def test_many_cancelled(self) -> None:
        """Thousands of jobs that wait can be cancelled at once."""
        self.submit("other", "hold")
        records = [self.submit(str(number)) for number in range(2000)]
        self.restart(history=10_000)
        self.store.is_slow = True
        answers = [self.begin(self.engine.cancel(self.again(record))) for record in records]
        self.store.flush()
        for answer in answers:
            self.successResultOf(answer)
        self.assertEqual(self.engine.count(JobState.FAILURE), 2000)
