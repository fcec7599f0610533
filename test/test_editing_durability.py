"""Jobs that change objects on a real server: processes that die, and disks that are full."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

from test.job_servers import JobsCase
from test.servers import ServerProcess, ct_image, wait_until
from test.storage_checks import DATABASE, check_agreement, files_below
from test.test_disk_full import fill, small_disk

_COUNT: Final = 200
#: Share of a job, in percent, that is done between two deaths at least.
_STRIDE: Final = 30
#: Pixels of a side of what fills a small disk.
_SIDE: Final = 256


class EditingServerCase(JobsCase):
    """A server with one study."""

    def store(self, count: int, side: int = 16) -> str:
        """Store a study; its identifier."""
        self.sources = [self.server.upload(ct_image(number, series=number % 3, side=side)) for number in range(count)]
        (study,) = self.server.get("/studies")
        return str(study)

    def anonymize(self, study: str, **fields: object) -> str:
        """Submit a job; its identifier."""
        body = json.dumps({"Asynchronous": True, **fields})
        answer = self.server.request("POST", f"/studies/{study}/anonymize", body)
        self.assertEqual(answer.status, 200, answer.body)
        return str(answer.json()["ID"])

    def assertWhole(self, job: dict[str, Any]) -> None:
        """The job has made one result of each source."""
        self.assertEqual((job["State"], job["Content"]["FailedInstancesCount"]), ("Success", 0), job)
        found = self.server.get(f"/studies/{job['Content']['ID']}/instances")
        self.assertEqual(Counter(item["AnonymizedFrom"] for item in found), Counter(self.sources))


class KilledTests(EditingServerCase):
    """Processes that die while they anonymise."""

    def die_again_and_again(self, job: str) -> dict[str, Any]:
        """Kill the server whenever the job has come further; the job in the end. It must have died in the middle."""
        deaths = 0
        shown = self.further(job, 0)
        while shown["State"] != "Success":
            self.server.kill()
            self.server.start()
            deaths += 1
            shown = self.further(job, shown["Progress"])
        self.assertGreater(deaths, 0)
        return shown

    def further(self, job: str, done: int) -> dict[str, Any]:
        """The job, when it has come further than a process before, or has ended."""
        wait_until(
            lambda: self.job(job)["State"] == "Success" or self.job(job)["Progress"] >= done + _STRIDE,
            lambda: f"progress: {self.job(job)}",
        )
        return self.job(job)

    def test_killed(self) -> None:
        """The next process goes on with the same identifiers: nothing is missing, nothing is there twice."""
        self.own_server()
        study = self.store(_COUNT)
        job = self.die_again_and_again(self.anonymize(study))
        self.assertWhole(job)
        self.assertEqual(len(self.server.get("/patients")), 2)
        self.assertEqual(len(self.server.get("/instances")), 2 * _COUNT)
        check_agreement(self, self.server)

    def test_killed_without_source(self) -> None:
        """Sources are deleted by whichever process comes to it; results are not."""
        self.own_server()
        study = self.store(_COUNT)
        job = self.die_again_and_again(self.anonymize(study, KeepSource=False))
        self.assertWhole(job)
        self.assertEqual(len(self.server.get("/instances")), _COUNT)
        check_agreement(self, self.server)


class FullDiskTests(EditingServerCase):
    """Anonymisation when there is no room."""

    def test_storage(self) -> None:
        """The job fails and says what it has made; nothing else is left. With room again it makes the rest."""
        self.server = ServerProcess(Path(self.mktemp()))
        self.addCleanup(self.server.kill)
        index = self.server.folder / "index"
        self.server.configure(IndexDirectory=str(index), Orthanctw={"SpoolThresholdKB": 64})
        with small_disk(self.server.storage, "6m"):
            self.server.start()
            study = self.store(20, _SIDE)
            filler = fill(self.server.storage)
            with filler.open("r+b") as file:
                # Room for some of them.
                file.truncate(filler.stat().st_size - 8 * 2 * _SIDE * _SIDE)
            job = self.wait_for(self.anonymize(study, KeepSource=False), "Failure", "Success")
            self.assertEqual((job["State"], job["ErrorCode"]), ("Failure", 19))
            made = self.server.get(f"/studies/{job['Content']['ID']}/instances")
            self.assertGreater(len(made), 0)
            self.assertEqual(len(self.server.get("/instances")), len(self.sources) + len(made))
            self.assertEqual({path for path in files_below(self.server.storage) if "spool" in path}, set())
            answer = self.server.request("POST", f"/studies/{study}/anonymize", "{}")
            self.assertError(answer, 507, 19)
            filler.unlink()
            self.assertEqual(self.steer(job["ID"], "resubmit").status, 200)
            again = self.wait_for(job["ID"], "Failure", "Success")
            self.assertEqual(again["Content"]["ID"], job["Content"]["ID"])
            self.assertWhole(again)
            check_agreement(self, self.server, index / DATABASE)
            self.server.stop()
