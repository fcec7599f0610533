"""Talking to real servers about jobs."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from test.rest_samples import NOBODY
from test.servers import TWISTD, Answer, ServerProcess, ct_image, wait_until

SEQUENCE = "SequenceOfOperations"
NOTHING = [{"Type": "DeleteResource", "ID": NOBODY}]
FAILING = [{"Type": "SetMetadata", "ID": NOBODY, "Name": "1024", "Value": "x"}]
#: Operations of a job that nobody needs to hurry up with.
MANY = 10_000


def settings(instances: list[str], count: int) -> list[dict[str, str]]:
    """So many operations, each setting another metadata, with its number as value, of one of the instances."""
    return [
        {
            "Type": "SetMetadata",
            "ID": instances[number % len(instances)],
            "Name": str(1024 + number // len(instances)),
            "Value": str(number),
        }
        for number in range(count)
    ]


class JobsCase(SynchronousTestCase):
    """A test that talks to a server about jobs."""

    server: ServerProcess

    def own_server(self, **options: Any) -> ServerProcess:
        """A server of this test alone, running."""
        self.server = ServerProcess(Path(self.mktemp()))
        self.server.configure(**options)
        self.addCleanup(self.server.kill)
        self.server.start()
        return self.server

    def restart(self, command: tuple[str, ...] = TWISTD, **options: Any) -> None:
        """Go on after the process has ended."""
        self.server.command = command
        self.server.configure(**options)
        self.server.start()

    def end(self) -> None:
        """Have the process end by itself."""
        self.server.stop()
        self.assertTrue(self.server.printed().rstrip().endswith("The server has stopped"), self.server.printed())

    def post(self, operations: object, **fields: object) -> Answer:
        body = {"Type": SEQUENCE, "Operations": operations, **fields}
        return self.server.request("POST", "/jobs", json.dumps(body))

    def submit(self, operations: object, **fields: object) -> str:
        answer = self.post(operations, **fields)
        self.assertEqual(answer.status, 200, answer.body)
        job: str = answer.json()["ID"]
        self.assertEqual(answer.json(), {"ID": job, "Path": f"/jobs/{job}"})
        return job

    def job(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.get(f"/jobs/{job}")
        return found

    def wait_for(self, job: str, *states: str) -> dict[str, Any]:
        """The job, once it is in one of the states."""
        wait_until(lambda: self.job(job)["State"] in states, lambda: f"{states}: {self.job(job)}")
        return self.job(job)

    def wait_for_progress(self, job: str) -> dict[str, Any]:
        """The job, once it has begun; it must not have ended."""
        wait_until(lambda: self.job(job)["Progress"] >= 3, lambda: f"progress: {self.job(job)}")
        found = self.job(job)
        self.assertEqual(found["State"], "Running")
        return found

    def steer(self, job: str, action: str) -> Answer:
        return self.server.request("POST", f"/jobs/{job}/{action}", b"")

    def ended(self, operations: object = NOTHING, **fields: object) -> dict[str, Any]:
        """A job that has ended."""
        return self.wait_for(self.submit(operations, **fields), "Success", "Failure")

    def upload(self, count: int = 1) -> list[str]:
        return [self.server.upload(ct_image(number, patient=str(uuid.uuid4()))) for number in range(1, count + 1)]

    def assertBare(self, answer: Answer, status: int) -> None:
        self.assertEqual((answer.status, answer.body), (status, b""))

    def assertError(self, answer: Answer, status: int, code: int) -> None:
        self.assertEqual((answer.status, answer.json()["OrthancStatus"]), (status, code), answer.body)

    def assertSet(self, instances: list[str], count: int) -> None:
        """The operations of `settings` are done, all of them."""
        found = {}
        for place, instance in enumerate(instances):
            for name, value in self.server.get(f"/instances/{instance}/metadata?expand").items():
                if name.isdigit() and int(name) >= 1024:
                    found[(int(name) - 1024) * len(instances) + place] = value
        self.assertEqual(found, {number: str(number) for number in range(count)})
