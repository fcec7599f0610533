"""Jobs of a real server that outlive clients, processes and full disks."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sqlite3
import threading
from pathlib import Path

from test.job_servers import MANY, NOTHING, SEQUENCE, JobsCase, settings
from test.servers import TWISTD, Answer, ServerProcess, wait_until
from test.storage_checks import DATABASE, check_agreement
from test.test_disk_full import fill, small_disk

TIME = re.compile(r"\d{8}T\d{6}\.\d{6}")
NO_JOBS = (*TWISTD[:-1], "--no-jobs", TWISTD[-1])


class LongJobTests(JobsCase):
    """Jobs that take a while."""

    def test_running(self) -> None:
        """A running job tells when it will end; it can be paused, resumed and cancelled, and takes no output away."""
        self.own_server()
        instances = self.upload(10)
        job = self.submit(settings(instances, MANY))
        running = self.wait_for_progress(job)
        self.assertRegex(running["EstimatedTimeOfArrival"], TIME)
        self.assertGreater(running["EstimatedTimeOfArrival"], running["Timestamp"])
        self.assertNotIn("CompletionTime", running)
        for path in (f"/jobs/{job}", f"/jobs/{job}/results"):
            self.assertError(self.server.request("DELETE", path), 400, 6)
        self.assertBare(self.steer(job, "resume"), 400)
        self.assertBare(self.steer(job, "resubmit"), 400)
        self.assertEqual(self.steer(job, "pause").json(), {})
        paused = self.wait_for(job, "Paused")
        done = len(self.server.get(f"/jobs/{job}/results"))
        self.assertEqual(paused["Progress"], int(done / MANY * 100))
        self.assertGreater(paused["EffectiveRuntime"], 0)
        self.assertNotIn("EstimatedTimeOfArrival", paused)
        self.assertError(self.server.request("DELETE", f"/jobs/{job}"), 400, 6)
        self.assertEqual(self.job(job)["EffectiveRuntime"], paused["EffectiveRuntime"])
        self.assertEqual(self.steer(job, "resume").json(), {})
        wait_until(lambda: self.job(job)["Progress"] > paused["Progress"], lambda: f"progress: {self.job(job)}")
        self.assertEqual(self.steer(job, "cancel").json(), {})
        cancelled = self.wait_for(job, "Failure")
        self.assertEqual(cancelled["ErrorCode"], 37)
        self.assertLess(cancelled["Progress"], 100)
        self.assertGreater(len(self.server.get(f"/jobs/{job}/results")), done)

    def test_client_that_leaves(self) -> None:
        """A job goes on when the client of a synchronous call leaves."""
        self.own_server()
        instances = self.upload(10)
        body = json.dumps({"Type": SEQUENCE, "Operations": settings(instances, 3000), "Synchronous": True}).encode()
        with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
            head = f"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            wait_until(lambda: self.server.get("/jobs"), lambda: "the job")
            job = self.server.get("/jobs")[0]
            self.wait_for_progress(job)
        self.wait_for(job, "Success")
        self.assertSet(instances, 3000)
        self.assertNotIn("Traceback", self.server.printed())

    def saved_progress(self) -> float:
        """The share of the work that is done, as the index has it: the most of all jobs."""
        with contextlib.closing(sqlite3.connect(self.server.storage / DATABASE)) as index:
            statuses = index.execute("SELECT status FROM job_status").fetchall()
        return max((json.loads(status)["progress"] for (status,) in statuses), default=0.0)

    def test_sudden_death(self) -> None:
        """A job goes on after kill -9; in the end everything is done, what waited and what was paused included."""
        self.own_server(ConcurrentJobs=1)
        instances = self.upload(10)
        job = self.submit(settings(instances, 3000), Priority=1, UserData="kept")
        waiting, paused = self.submit(NOTHING), self.submit(NOTHING)
        self.assertEqual(self.steer(paused, "pause").status, 200)
        self.wait_for_progress(job)
        # How far it came is written now and then only.
        wait_until(lambda: self.saved_progress() >= 0.01, lambda: f"progress: {self.job(job)}")
        self.server.kill()
        self.restart()
        self.assertGreater(self.job(job)["Progress"], 0)
        self.assertEqual(self.wait_for(job, "Success")["UserData"], "kept")
        self.assertSet(instances, 3000)
        results = self.server.get(f"/jobs/{job}/results")
        self.assertEqual(len(results), 3000)
        self.wait_for(waiting, "Success")
        self.assertEqual(self.job(paused)["State"], "Paused")
        check_agreement(self, self.server)

    def test_end_of_the_process(self) -> None:
        """SIGTERM does not wait for a job, nor for who waits for one; the job goes on where it was."""
        # Had anybody to wait until the time is over, the test would give up first.
        self.own_server(Orthanctw={"ShutdownTimeout": 120})
        instances = self.upload(10)
        answers: list[Answer] = []
        operations = settings(instances, 3000)
        client = threading.Thread(target=lambda: answers.append(self.post(operations, Synchronous=True)))
        client.start()
        wait_until(lambda: self.server.get("/jobs"), lambda: "the job")
        job = self.server.get("/jobs")[0]
        progress = self.wait_for_progress(job)["Progress"]
        self.end()
        client.join()
        self.assertError(answers[0], 503, answers[0].json()["OrthancStatus"])
        self.assertNotIn("Traceback", self.server.printed())
        self.restart()
        self.assertGreaterEqual(self.job(job)["Progress"], progress)
        self.wait_for(job, "Success")
        self.assertSet(instances, 3000)
        # Nothing was done twice.
        self.assertEqual({item["Revision"] for item in self.server.get(f"/jobs/{job}/results")}, {0})

    def test_cancel_and_sudden_death(self) -> None:
        """A job whose cancellation was answered does not go on, even when the process dies at once."""
        self.own_server()
        job = self.submit(settings(self.upload(10), MANY))
        self.wait_for_progress(job)
        self.assertEqual(self.steer(job, "cancel").status, 200)
        self.server.kill()
        self.restart()
        found = self.job(job)
        self.assertEqual((found["State"], found["ErrorCode"]), ("Failure", 37))

    def test_no_jobs(self) -> None:
        """With --no-jobs what was left is paused, also for later starts, and can be resumed."""
        self.own_server(ConcurrentJobs=1)
        instances = self.upload(10)
        job = self.submit(settings(instances, 3000))
        waiting = self.submit(NOTHING)
        self.wait_for_progress(job)
        self.server.signal(signal.SIGKILL)
        self.server.wait()
        for command in (NO_JOBS, TWISTD):
            self.restart(command)
            self.assertEqual([self.job(item)["State"] for item in (job, waiting)], ["Paused"] * 2)
            self.ended()
            self.assertEqual([self.job(item)["State"] for item in (job, waiting)], ["Paused"] * 2)
            self.server.kill()
        self.restart(NO_JOBS)
        for item in (job, waiting):
            self.assertEqual(self.steer(item, "resume").status, 200)
            self.wait_for(item, "Success")
        self.assertSet(instances, 3000)

    def test_saving_switched_off(self) -> None:
        """Without SaveJobs jobs run, and are gone after the end of the process."""
        self.own_server(SaveJobs=False)
        job = self.submit(settings(self.upload(10), MANY))
        self.ended()
        self.wait_for_progress(job)
        self.end()
        self.restart()
        self.assertEqual(self.server.get("/jobs"), [])

    def test_history(self) -> None:
        """As many finished jobs are remembered as JobsHistorySize says; with 0 synchronous calls are answered."""
        self.own_server(JobsHistorySize=2)
        jobs = [self.ended()["ID"] for _ in range(4)]
        self.assertEqual(set(self.server.get("/jobs")), set(jobs[2:]))
        self.server.stop()
        self.restart(JobsHistorySize=0)
        self.assertEqual(self.server.get("/jobs"), [])
        self.assertEqual(self.post(NOTHING, Synchronous=True).status, 200)
        self.assertEqual(self.server.get("/jobs"), [])

    def test_full_disk(self) -> None:
        """Without room jobs are refused, those that were accepted end; all that was accepted is there afterwards."""
        self.server = server = ServerProcess(Path(self.mktemp()))
        self.addCleanup(server.kill)
        index = server.folder / "index"
        server.configure(IndexDirectory=str(index), JobsHistorySize=10_000)
        with small_disk(index, "2m"):
            server.start()
            accepted = [self.submit(NOTHING)]
            filler = fill(index)
            refused = 0
            while refused < 3 and len(accepted) < 5000:
                answer = self.post(NOTHING, UserData="x" * 1000)
                if answer.status == 200:
                    accepted.append(answer.json()["ID"])
                else:
                    self.assertError(answer, 507, 19)
                    refused += 1
            self.assertEqual(refused, 3)
            self.assertEqual(set(server.get("/jobs")), set(accepted))
            for job in accepted:
                self.wait_for(job, "Success")
            filler.unlink()
            accepted.append(self.ended()["ID"])
            server.kill()
            server.start()
            jobs = {job["ID"]: job["State"] for job in server.get("/jobs?expand")}
            self.assertEqual(jobs, dict.fromkeys(accepted, "Success"))
            server.stop()
