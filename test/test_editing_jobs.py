"""Jobs that change objects: stopped in the middle, by whoever may do so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from orthanctw.jobs.record import JobRecord
from test.rest_samples import SPOOL, RestCase, dicom_object, wire

COUNT = 30
#: Objects that a job works on at the same time.
AT_ONCE = 4


class Gate:
    """Stands before the changing of objects: lets some through, then holds all until it is opened."""

    def __init__(self, case: EditingJobCase, let_through: int, held: int = AT_ONCE) -> None:
        self._change = case.server.editing.change
        self._left = let_through
        self._most = held
        self._held: list[Deferred[None]] = []
        self._is_open = False
        self.names: list[str] = []
        #: Fires when nothing goes on any more.
        self.closed: Deferred[None] = Deferred()
        case.patch(case.server.editing, "change", self.change)

    async def change(self, item: Any, *arguments: Any) -> Any:
        self.names.append(item.public_id)
        if self._left == 0 and not self._is_open:
            held: Deferred[None] = Deferred()
            self._held.append(held)
            if len(self._held) == self._most:
                self.closed.callback(None)
            await held
        else:
            self._left -= 1
        return await self._change(item, *arguments)

    def open(self) -> None:
        self._is_open = True
        held, self._held = self._held, []
        for each in held:
            each.callback(None)


class EditingJobCase(RestCase):
    """A server with one study of some objects in two series."""

    async def setUp(self) -> None:
        await super().setUp()
        self.sources = []
        for number in range(1, COUNT + 1):
            series = f"1.2.1.{number % 2 + 1}"
            stored = await self.client.store(dicom_object("P1", "1.2.1", series, f"{series}.{number}"))
            self.sources.append(stored["ID"])
        self.study = stored["ParentStudy"]

    async def submit(self, **fields: object) -> JobRecord:
        """A job that anonymises the study."""
        body = {"Asynchronous": True, **fields}
        answer = (await self.client.post(f"/studies/{self.study}/anonymize", body)).json()
        return self.record(answer["ID"])

    def record(self, job_id: str) -> JobRecord:
        record = self.server.jobs.job(job_id)
        assert record is not None
        return record

    async def end_of(self, record: JobRecord, state: str) -> dict[str, Any]:
        """The job, which must end like that."""
        await self.server.jobs.wait(record)
        return await self.shown(record, state)

    async def shown(self, record: JobRecord, state: str) -> dict[str, Any]:
        job: dict[str, Any] = await self.client.json(f"/jobs/{record.job_id}")
        self.assertEqual(job["State"], state, job)
        return job

    async def steer(self, record: JobRecord, action: str) -> None:
        self.assertEqual((await self.client.post(f"/jobs/{record.job_id}/{action}")).status, 200)

    async def results(self, study: str) -> Counter[str]:
        """How many results in a study each source has."""
        found = await self.client.json(f"/studies/{study}/instances")
        return Counter([item["AnonymizedFrom"] for item in found])

    async def assertWhole(self, job: dict[str, Any], count: int = COUNT) -> None:
        """The job has made one result of each source, and nothing else."""
        self.assertEqual(job["Content"]["FailedInstancesCount"], 0)
        self.assertEqual(await self.results(job["Content"]["ID"]), Counter(self.sources))
        self.assertEqual(len(await self.client.json("/instances")), COUNT + count)
        self.assertEqual([path for path in self.files() if path.startswith(SPOOL)], [])
        # A file for each instance.
        self.assertEqual(len(self.files()), COUNT + count)


class SteeringTests(EditingJobCase):
    """What clients do to jobs."""

    async def test_at_once(self) -> None:
        """So many objects are worked on at the same time as the option says."""
        gate = Gate(self, 0)
        record = await self.submit()
        await gate.closed
        self.assertEqual(len(gate.names), AT_ONCE)
        gate.open()
        await self.assertWhole(await self.end_of(record, "Success"))
        self.assertEqual(Counter(gate.names), Counter(self.sources))

    async def test_pause(self) -> None:
        """A paused job ends what it has begun, and goes on with the same identifiers."""
        gate = Gate(self, 10)
        record = await self.submit()
        await gate.closed
        await self.steer(record, "pause")
        gate.open()
        await self.settled(record)
        paused = await self.shown(record, "Paused")
        self.assertLess(len(gate.names), COUNT)
        self.assertEqual(await self.results(paused["Content"]["ID"]), Counter(gate.names))
        await self.steer(record, "resume")
        job = await self.end_of(record, "Success")
        self.assertEqual(job["Content"]["ID"], paused["Content"]["ID"])
        await self.assertWhole(job)

    async def settled(self, record: JobRecord) -> None:
        """Wait for the run of a job that does not finish."""
        running = self.server.jobs._running.get(record)
        if running is not None:
            over: Deferred[None] = Deferred()
            running.addBoth(lambda _: over.callback(None))
            await over

    async def test_cancel(self) -> None:
        """A cancelled job says what it has made; submitted again, it makes the rest of it."""
        gate = Gate(self, 10)
        record = await self.submit()
        await gate.closed
        await self.steer(record, "cancel")
        gate.open()
        cancelled = await self.end_of(record, "Failure")
        self.assertEqual(cancelled["ErrorCode"], 37)
        study = cancelled["Content"]["ID"]
        self.assertLess(len(gate.names), COUNT)
        self.assertEqual(await self.results(study), Counter(gate.names))
        await self.steer(record, "resubmit")
        job = await self.end_of(record, "Success")
        self.assertEqual(job["Content"]["ID"], study)
        await self.assertWhole(job)

    async def test_cancel_keeps_sources(self) -> None:
        """Nothing is deleted unless all results are there."""
        gate = Gate(self, 10)
        record = await self.submit(KeepSource=False)
        await gate.closed
        await self.steer(record, "cancel")
        gate.open()
        await self.end_of(record, "Failure")
        self.assertLessEqual(set(self.sources), set(await self.client.json("/instances")))

    async def test_milestone(self) -> None:
        """Before the first source goes it is on the disk that all results are there."""
        positions = []
        delete = self.server.editing.delete

        async def look(instances: Sequence[str]) -> None:
            (saved,) = await self.server.index.jobs()
            positions.append(json.loads(saved.status)["position"])
            await delete(instances)

        self.patch(self.server.editing, "delete", look)
        await self.end_of(await self.submit(KeepSource=False), "Success")
        self.assertEqual([(item["Next"], item["Stage"]) for item in positions], [(COUNT, "Deleting")])

    async def test_two_jobs(self) -> None:
        """Two jobs about one study make two results."""
        records = [await self.submit() for _ in range(2)]
        studies = {(await self.end_of(record, "Success"))["Content"]["ID"] for record in records}
        self.assertEqual(len(studies), 2)
        for study in studies:
            self.assertEqual(await self.results(study), Counter(self.sources))

    async def test_client_leaves(self) -> None:
        """A job goes on when the client of a synchronous call leaves."""
        gate = Gate(self, 3)
        connection = await wire(self.port)
        head = f"POST /studies/{self.study}/anonymize HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}"
        connection.write(head.encode())
        await gate.closed
        connection.abort()
        await connection.lost
        (job_id,) = await self.client.json("/jobs")
        gate.open()
        await self.assertWhole(await self.end_of(self.record(job_id), "Success"))

    async def test_stop(self) -> None:
        """A server that stops ends what has begun; the next one goes on with the same identifiers."""
        gate = Gate(self, 10)
        record = await self.submit()
        await gate.closed
        study = (await self.shown(record, "Running"))["Content"]["ID"]
        stopping = Deferred.fromCoroutine(self.restart())
        gate.open()
        await stopping
        self.assertLess(len(gate.names), COUNT)
        job = await self.end_of(self.record(record.job_id), "Success")
        self.assertEqual(job["Content"]["ID"], study)
        await self.assertWhole(job)


class DeletedSourceTests(EditingJobCase):
    """Sources that are deleted while the job runs."""

    async def delete_last(self, gate: Gate) -> str:
        """Delete an instance whose turn has not come."""
        await gate.closed
        (deleted, *_) = set(self.sources) - set(gate.names)
        self.assertEqual((await self.client.ask("DELETE", f"/instances/{deleted}")).status, 200)
        gate.open()
        return deleted

    async def test_failure(self) -> None:
        """The job fails, names the instance, and says what it has made."""
        record = await self.submit()
        await self.end_of(record, "Success")
        gate = Gate(self, 3)
        record = await self.submit(KeepSource=False)
        deleted = await self.delete_last(gate)
        job = await self.end_of(record, "Failure")
        self.assertEqual(job["ErrorCode"], 17)
        self.assertIn(deleted, job["ErrorDetails"])
        self.assertEqual(set(self.sources) - set(await self.client.json("/instances")), {deleted})

    async def test_what_was_made(self) -> None:
        """A failed job about many resources tells every one that it has made."""
        gate = Gate(self, 3)
        body = {"Asynchronous": True, "Resources": [self.study]}
        record = self.record((await self.client.post("/tools/bulk-anonymize", body)).json()["ID"])
        await self.delete_last(gate)
        job = await self.end_of(record, "Failure")
        told = [item["ID"] for item in job["Content"]["Resources"] if item["Type"] == "Instance"]
        left = set(await self.client.json("/instances")) - set(self.sources)
        self.assertEqual((len(told), set(told)), (len(left), left))
        self.assertGreaterEqual(len(told), 3)

    async def test_permissive(self) -> None:
        """A permissive job goes on without it, and tells so."""
        gate = Gate(self, 3)
        record = await self.submit(Permissive=True, KeepSource=False)
        deleted = await self.delete_last(gate)
        job = await self.end_of(record, "Success")
        self.assertEqual((job["Content"]["FailedInstancesCount"], job["Content"]["FailedInstances"]), (1, [deleted]))
        self.assertEqual(await self.results(job["Content"]["ID"]), Counter(self.sources) - Counter([deleted]))
        self.assertEqual(len(await self.client.json("/instances")), COUNT - 1)

    async def test_synchronous(self) -> None:
        """The client of a synchronous call is told of the failure."""
        gate = Gate(self, 3)
        asking = Deferred.fromCoroutine(self.client.post(f"/studies/{self.study}/anonymize", {}))
        await self.delete_last(gate)
        self.assertError(await asking, 404, 17)

    async def test_whole_study(self) -> None:
        """When the study is deleted, results stay; nothing is left of what was under way."""
        gate = Gate(self, 3)
        record = await self.submit(Permissive=True)
        await gate.closed
        self.assertEqual((await self.client.ask("DELETE", f"/studies/{self.study}")).status, 200)
        gate.open()
        job = await self.end_of(record, "Success")
        left = await self.client.json("/instances")
        self.assertEqual(len(left) + job["Content"]["FailedInstancesCount"], COUNT)
        self.assertEqual(len(self.files()), len(left))
        self.assertGreaterEqual(len(left), 3)


class OptionTests(EditingJobCase):
    """``JobsEngineThreadsCount``."""

    async def test_more(self) -> None:
        """It makes more of a job be done at the same time."""
        await self.restart(JobsEngineThreadsCount={"ResourceModification": 3})
        gate = Gate(self, 0, 3 * AT_ONCE)
        record = await self.submit()
        await gate.closed
        self.assertEqual(len(gate.names), 3 * AT_ONCE)
        gate.open()
        await self.assertWhole(await self.end_of(record, "Success"))
