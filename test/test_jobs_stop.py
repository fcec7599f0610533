"""How the jobs engine comes to its end."""

from __future__ import annotations

from orthanctw.errors import ServiceUnavailable
from test.job_samples import EngineCase


class StopTests(EngineCase):
    """The end of the process."""

    def test_idle(self) -> None:
        """Without jobs that run it takes no time; jobs that wait stay, and nothing begins any more."""
        records = [self.submit("a", "retry", "go"), self.submit("b")]
        self.do(self.engine.pause(records[1]))
        self.turn()
        self.do(self.engine.stop(100))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.failureResultOf(self.begin(self.engine.submit(self.request("c"))), ServiceUnavailable)
        later = self.successResultOf(self.begin(self.engine.submit(self.request("d"), for_later=True)))
        self.do(self.engine.resume(records[1]))
        self.turn(100)
        self.assertEqual(self.workshop.steps, ["a"])
        self.restart()
        self.turn()
        self.assertState(records[0], "Success")
        self.assertState(later, "Success")
        self.assertState(records[1], "Success")

    def test_step_that_runs(self) -> None:
        """A step that runs is waited for, and the next process goes on after it."""
        record = self.submit("a", "go", "hold", "go")
        self.turn()
        stopped = self.begin(self.engine.stop(10))
        self.turn(9)
        self.assertNoResult(stopped)
        self.workshop.release("a")
        self.turn()
        self.successResultOf(stopped)
        self.assertState(record, "Pending")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.restart()
        self.turn()
        self.assertState(record, "Success")
        self.assertEqual(len(self.workshop.steps), 3)

    def test_last_step(self) -> None:
        """A job whose last step ends meanwhile has ended."""
        record = self.submit("a", "hold")
        self.turn()
        stopped = self.begin(self.engine.stop(10))
        self.workshop.release("a")
        self.successResultOf(stopped)
        self.assertState(record, "Success")

    def test_step_that_asks_for_another_attempt(self) -> None:
        """It gets that in the next process: nothing of this one waits for it."""
        record = self.submit("a", "later")
        self.turn()
        stopped = self.begin(self.engine.stop(10))
        self.workshop.release("a")
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.restart()
        self.turn()
        self.assertState(record, "Running")

    def test_step_that_hangs(self) -> None:
        """A step that does not end in time is interrupted, and done again by the next process."""
        record = self.submit("a", "go", "hold", "go")
        self.turn()
        stopped = self.begin(self.engine.stop(10))
        self.turn(10)
        self.successResultOf(stopped)
        self.assertState(record, "Pending")
        self.assertEqual(self.workshop.ended, ["a"])
        self.restart()
        self.turn()
        self.assertState(record, "Running")
        self.workshop.release("a")
        self.turn()
        self.assertState(record, "Success")
        self.assertEqual(len(self.workshop.steps), 4)

    def test_step_that_cannot_be_interrupted(self) -> None:
        """One that pays no heed is left alone a second later, and done again by the next process."""
        record = self.submit("a", "stubborn")
        self.turn()
        stopped = self.begin(self.engine.stop(10))
        self.turn(10)
        self.assertNoResult(stopped)
        self.turn(1)
        self.successResultOf(stopped)
        self.restart()
        self.turn()
        self.assertState(record, "Running")

    def test_step_that_finds_all_closed(self) -> None:
        """A job does not fail because the server stops around it."""
        record, other = self.submit("a", "hold"), self.submit("b")
        self.turn()
        stopped = self.begin(self.engine.stop(10))
        self.workshop.held["a"].errback(ServiceUnavailable("closed"))
        self.successResultOf(stopped)
        self.assertState(record, "Pending")
        self.assertState(other, "Pending")

    def test_not_begun(self) -> None:
        """A job that has its slot and not begun yet does not begin any more."""
        record = self.submit("a")
        stopped = self.begin(self.engine.stop(10))
        self.turn()
        self.successResultOf(stopped)
        self.assertEqual(self.workshop.steps, [])
        self.assertState(record, "Pending")

    def test_waiters(self) -> None:
        """Who waits for a job is told at once that the server stops, and so is who comes then."""
        records = [self.submit("a", "hold"), self.submit("b")]
        self.turn()
        waiters = [self.engine.wait(record) for record in records]
        stopped = self.begin(self.engine.stop(10))
        waiters.append(self.engine.wait(records[1]))
        for waiter in waiters:
            self.failureResultOf(waiter, ServiceUnavailable)
        self.assertNoResult(stopped)
        self.workshop.release("a")
        self.successResultOf(stopped)

    def test_hanging_disk(self) -> None:
        """A disk that answers nothing does not hold up the end for ever."""
        self.submit("a", "hold")
        self.turn()
        self.store.is_slow = True
        self.workshop.release("a")
        stopped = self.begin(self.engine.stop(10))
        self.turn(11)
        self.successResultOf(stopped)
