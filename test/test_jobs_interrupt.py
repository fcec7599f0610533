"""Steps that may take long: what clients ask for takes effect within them, and is not taken for a failure."""

from __future__ import annotations

from test.job_samples import CANCELED, EngineCase


class InterruptTest(EngineCase):
    """Jobs of a kind that is interruptible."""

    def setUp(self) -> None:
        super().setUp()
        self.kinds = [self.workshop.kind(is_interruptible=True)]
        self.restart()

    def test_cancel(self) -> None:
        """A job is cancelled within its step, which does not end by itself."""
        record = self.submit("a", "hold", "go")
        self.turn()
        self.do(self.engine.cancel(record))
        self.assertState(record, "Failure", CANCELED)
        self.assertEqual(self.workshop.ended, ["a"])

    def test_pause_and_resume(self) -> None:
        """A job is paused within its step, which is done again when the job goes on."""
        record = self.submit("a", "go", "hold", "go")
        self.turn()
        self.turn()
        self.do(self.engine.pause(record))
        self.assertState(record, "Paused")
        self.assertTrue(self.do(self.engine.resume(record)))
        self.turn()
        self.assertState(record, "Running")
        self.workshop.release("a")
        self.turn()
        self.turn()
        self.assertState(record, "Success")
        self.assertEqual(self.workshop.steps, ["a"] * 4)

    def test_stubborn_step(self) -> None:
        """A step that pays no heed to it ends by itself, and counts; then the job does what it was told."""
        record = self.submit("a", "stubborn", "go")
        self.turn()
        self.do(self.engine.pause(record))
        self.assertState(record, "Running")
        self.workshop.release("a")
        self.turn()
        self.assertState(record, "Paused")
        self.assertEqual(record.position["Next"], 1)

    def test_resumed_before_the_end(self) -> None:
        """A job that is resumed before its interrupted step has ended goes on with that step."""
        self.workshop.slow_ends.add("a")
        record = self.submit("a", "hold", "go")
        self.turn()
        self.do(self.engine.pause(record))
        self.assertTrue(self.do(self.engine.resume(record)))
        self.workshop.slow_ends.clear()
        self.workshop.release("a")
        self.turn()
        self.assertState(record, "Running")
        self.workshop.release("a")
        self.turn()
        self.turn()
        self.assertState(record, "Success")

    def test_other_failures(self) -> None:
        """A step that fails by itself has failed, also when it says that it was interrupted."""
        for word, code in (("refuse", 9), ("lost", -1)):
            record = self.submit("a", word)
            self.turn()
            self.assertState(record, "Failure", code)

    def test_other_kinds(self) -> None:
        """Steps of other kinds are not interrupted: they have effects that are done once."""
        self.kinds = [self.workshop.kind()]
        self.restart()
        record = self.submit("a", "hold", "go")
        self.turn()
        self.do(self.engine.cancel(record))
        self.assertState(record, "Running")
        self.workshop.release("a")
        self.turn()
        self.assertState(record, "Failure", CANCELED)
