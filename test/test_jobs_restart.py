"""What goes on after a restart, what does not, and what jobs leave behind."""

from __future__ import annotations

import json

from orthanctw.model import JobState
from test.job_samples import CANCELED, NOW, SteeringCase


class RestartTests(SteeringCase):
    """What a process that died at once has left."""

    def test_every_state(self) -> None:
        """What waited or ran goes on at its last step, what was paused or finished stays so."""
        for state in ("Pending", "Running", "Paused", "Retry", "Success", "Failure"):
            self.fresh(slots=1 if state == "Pending" else 2)
            record = self.make(state)
            row = self.rows()[record.number]
            self.restart(slots=10)
            expected = state if state in ("Paused", "Success", "Failure") else "Running"
            self.assertEqual(self.again(record).state.value, expected)
            self.assertEqual(self.rows()[record.number], row)
            self.assertEqual(self.events, [])
            again = self.again(record)
            self.assertEqual((again.job_id, again.kind, again.creation_time), (record.job_id, "Work", NOW))

    def test_order(self) -> None:
        """Jobs go on in the order of their priorities, and of their submission."""
        for name, priority in (("a", 0), ("b", 0), ("c", 7), ("d", 0)):
            self.submit(name, priority=priority)
        self.restart()
        self.turn()
        self.assertEqual("".join(self.workshop.steps), "cabd")

    def test_fields(self) -> None:
        """All that clients see of a job is the same after a restart."""
        record = self.submit("a", "go", "refuse", permissive=True, user_data=["ü", None, 1.5], priority=-4)
        self.turn(3)
        self.restart()
        again = self.again(record)
        self.assertIsNot(again, record)
        for name in (
            *("number", "job_id", "kind", "permissive", "user_data", "creation_time", "priority", "state", "position"),
            *("content", "progress", "completion_time", "runtime", "error_code", "error_details", "http_status"),
            "error_payload",
        ):
            self.assertEqual(getattr(again, name), getattr(record, name), name)

    def test_last_known_position(self) -> None:
        """How far a running job came is written now and then, its runtime included."""
        record = self.submit("a", "go", "hold", "go", "hold", "go")
        self.turn()
        self.turn(3)
        self.workshop.release("a")
        self.turn()
        row = self.rows()[record.number]
        self.assertEqual((row["position"]["Next"], row["runtime"], row["progress"]), (2, 3, 0.4))
        self.assertEqual(row["content"]["Done"], 2)
        self.restart()
        self.turn()
        self.workshop.release("a")
        self.turn()
        self.assertState(record, "Success")
        self.assertEqual(self.again(record).runtime, 3)
        # The third one again: how far it came afterwards was not written yet.
        self.assertEqual(len(self.workshop.steps), 4 + 3)

    def test_wishes(self) -> None:
        """A running job that was told to stop stops with the process, and does not go on in the next."""
        for action, state, code in (("pause", "Paused", 0), ("cancel", "Failure", CANCELED)):
            self.fresh()
            record = self.make("Running")
            self.do(getattr(self.engine, action)(record))
            self.restart()
            self.turn()
            self.assertState(record, state, code)
            self.assertEqual(self.workshop.steps, [])
        self.assertEqual(self.events, [("JobFailure", record.job_id)])
        self.assertEqual(self.again(record).completion_time, NOW)
        self.assertIsNone(self.again(record).wish)

    def test_not_going_on(self) -> None:
        """With --no-jobs what would go on is paused, for good, until somebody resumes it."""
        records = {state: self.make(state) for state in ("Success", "Failure", "Running")}
        records |= {name: self.submit(name) for name in "bc"}
        self.do(self.engine.pause(records["c"]))
        self.workshop.steps.clear()
        for goes_on in (False, True):
            self.restart(goes_on=goes_on)
            self.turn()
            states = {name: self.again(record).state.value for name, record in records.items()}
            paused = dict.fromkeys(("Running", "b", "c"), "Paused")
            self.assertEqual(states, {"Success": "Success", "Failure": "Failure"} | paused)
            for name in paused:
                self.assertState(records[name], "Paused")
        self.assertEqual(self.workshop.steps, [])
        self.assertTrue(self.do(self.engine.resume(self.again(records["b"]))))
        self.turn()
        self.assertState(records["b"], "Success")
        new = self.submit("d")
        self.turn()
        self.assertState(new, "Success")

    def test_unknown_kind(self) -> None:
        """A job whose kind is gone after an upgrade fails and says why; the others go on."""
        lost, other = self.submit("a", kind="Work"), self.submit("b")
        definition = json.dumps(json.loads(lost.definition()) | {"kind": "Gone"}).encode()
        self.change("UPDATE jobs SET definition = ? WHERE number = ?", definition, lost.number)
        self.restart()
        self.turn()
        self.assertState(lost, "Failure", 17)
        self.assertIn("not known", self.again(lost).error_details)
        self.assertState(other, "Success")

    def test_unreadable_parameters(self) -> None:
        """So does one whose parameters are not understood any more."""
        for text, code in ((b"{", 20), (b'{"Name":1}', 8), (b"", 20)):
            lost, other = self.submit("a"), self.submit("b")
            self.change("UPDATE jobs SET parameters = ? WHERE number = ?", text, lost.number)
            self.restart()
            self.turn()
            self.assertState(lost, "Failure", code)
            self.assertTrue(self.again(lost).error_details)
            self.assertState(other, "Success")

    def test_unreadable_rows(self) -> None:
        """A row that cannot be read stays as it is, whatever is wrong with it; the others load, new ones are added."""
        damage = [b"", b"{}", b"[]", b'"x"', b"\xff"]
        record = self.submit("a")
        damage.extend(
            json.dumps(json.loads(record.status()) | changes).encode()
            for changes in ({"priority": "high"}, {"state": "Sleeping"}, {"state": []}, {"position": 3}, {"wish": "?"})
        )
        broken = [self.submit(str(number)) for number in range(len(damage) + 1)]
        for other, text in zip(broken, damage, strict=False):
            self.change("UPDATE job_status SET status = ? WHERE number = ?", text, other.number)
        definition = json.dumps(json.loads(record.definition()) | {"job_id": 5}).encode()
        self.change("UPDATE jobs SET definition = ? WHERE number = ?", definition, broken[-1].number)
        saved = {row.number: row for row in self.successResultOf(self.store.index.jobs())}
        self.restart(history=0)
        self.assertEqual([job.job_id for job in self.engine.jobs()], [record.job_id])
        new = self.submit("b", "hold")
        self.turn()
        self.assertGreater(new.number, broken[-1].number)
        left = {row.number: row for row in self.successResultOf(self.store.index.jobs())}
        self.assertEqual(set(left), {other.number for other in broken} | {new.number})
        for other in broken:
            self.assertEqual(left[other.number], saved[other.number])

    def test_saving_switched_off(self) -> None:
        """Without SaveJobs nothing is written or taken up, and what lies there stays for later."""
        old = self.submit("a")
        rows = self.rows()
        self.restart(is_saving=False)
        self.assertEqual(self.engine.jobs(), [])
        record = self.submit("b")
        self.turn()
        self.assertIs(record.state, JobState.SUCCESS)
        self.assertEqual(self.rows(), rows)
        self.restart()
        self.turn()
        self.assertState(old, "Success")
        self.assertIsNone(self.engine.job(record.job_id))


class UnsavedKindTests(SteeringCase):
    """Kinds whose jobs end with the process, and leave something behind."""

    def setUp(self) -> None:
        super().setUp()
        self.kinds = [
            self.workshop.kind("Files", is_saved=False, forget=self.workshop.forget),
            self.workshop.kind("Kept", forget=self.workshop.forget),
        ]
        self.restart()

    def test_no_rows(self) -> None:
        """They leave no rows, and are unknown after a restart."""
        record = self.submit("a", kind="Files")
        self.turn()
        self.assertIs(record.state, JobState.SUCCESS)
        self.assertEqual(self.rows(), {})
        self.restart()
        self.assertEqual(self.engine.jobs(), [])

    def test_forgotten_with_the_process(self) -> None:
        """What they have left goes when the server stops, wherever they are; what is saved keeps its own."""
        for kind in ("Files", "Kept"):
            self.submit("a", kind=kind)
            self.turn()
        self.submit("b", "go", "hold", kind="Files")
        self.turn()
        stopped = self.begin(self.engine.stop(10))
        self.turn(10)
        self.successResultOf(stopped)
        self.assertEqual(self.workshop.forgotten, [{"Next": 1, "Out": 1}] * 2)

    def test_forgotten_one_by_one(self) -> None:
        """What a job has left goes when it leaves the history, is deleted, or starts anew."""
        for kind in ("Files", "Kept"):
            self.fresh(history=1)
            for name in "abc":
                self.submit(name, kind=kind)
            record = self.submit("d", "go", "refuse", kind=kind)
            self.turn()
            self.assertEqual(self.workshop.forgotten, [{"Next": 1, "Out": 1}] * 3)
            self.workshop.forgotten.clear()
            self.do(self.engine.resubmit(record))
            self.assertEqual(self.workshop.forgotten, [{"Next": 1, "Out": 1}])
            self.turn()
            self.do(self.engine.delete(record))
            self.assertEqual(len(self.workshop.forgotten), 2)
            self.workshop.forgotten.clear()

    def test_rows_go_first(self) -> None:
        """What a job has left goes after its row: a row never promises what is not there."""
        record = self.submit("a", kind="Kept")
        self.turn()
        self.store.is_slow = True
        deleted = self.begin(self.engine.delete(record))
        self.assertEqual(self.workshop.forgotten, [])
        self.store.flush()
        self.assertTrue(self.successResultOf(deleted))
        self.assertEqual(len(self.workshop.forgotten), 1)

    def test_failing(self) -> None:
        """What cannot be removed is logged, and the job is forgotten all the same."""

        async def fail(position: object) -> None:
            raise OSError("busy")

        self.kinds = [self.workshop.kind("Files", is_saved=False, forget=fail)]
        self.restart(history=0)
        self.submit("a", kind="Files")
        self.turn()
        self.assertEqual(self.engine.jobs(), [])
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
