"""Steps that may take long: what clients ask for takes effect within them, and is not taken for a failure."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.dictionary import STANDARD
from orthanctw.errors import ServiceUnavailable
from orthanctw.jobs.kinds.parameters import remote_to_json
from orthanctw.jobs.kinds.retrieve import RetrieveJob
from orthanctw.jobs.kinds.store import StoreJob
from orthanctw.remote import Remote
from orthanctw.retrieval import StoredObject
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


class _Stopping:
    """Finds one object, and is about to end otherwise: a retrieval, a sender and an SCU."""

    async def below(self, resources: Any) -> list[StoredObject]:
        item: Any = StoredObject(
            public_id="a", series="s", number=1, sop_class_uid="1", sop_instance_uid="2", transfer_syntax="3",
            attachment=None,  # type: ignore[arg-type]
        )  # fmt: skip
        return [item]

    async def send(self, *arguments: Any) -> int:
        raise ServiceUnavailable("the server is stopping")

    def move(self, *arguments: Any) -> Deferred[Any]:
        return fail(ServiceUnavailable("the server is stopping"))


class PermissiveTest(SynchronousTestCase):
    """Jobs that go on after failures of their peers."""

    def test_our_own_end(self) -> None:
        """The end of the server is no failure of a peer: it is neither counted nor told, and the step is not done."""
        remote = remote_to_json(Remote(aet="A", host="h", port=1, local_aet="B", timeout=0))
        stopping: Any = _Stopping()
        store = StoreJob(stopping, stopping, stopping, {"Remote": remote, "Instances": ["a", "b"]}, True)
        queries = [{"0008,0052": "STUDY"}]
        move = RetrieveJob(stopping, STANDARD, {"Remote": remote, "Queries": queries, "TargetAet": "T"}, True)
        for job in (store, move):
            self.failureResultOf(Deferred.fromCoroutine(job.step({})), ServiceUnavailable)
