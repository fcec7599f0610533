"""``/jobs`` of a real server over real HTTP: every route and field."""

from __future__ import annotations

import base64
import gc
import json
import re
import threading
import uuid
from pathlib import Path
from types import CoroutineType
from typing import Any

from test.job_servers import FAILING, MANY, NOTHING, SEQUENCE, JobsCase
from test.rest_samples import RestCase
from test.servers import Answer, ct_image, shared_server
from test.storage_checks import check_agreement

DATA = json.loads((Path(__file__).parent / "data" / "jobs.json").read_text(encoding="utf-8"))
TIME = re.compile(r"\d{8}T\d{6}\.\d{6}")


class RouteTests(JobsCase):
    """Routes and fields, on a server that the tests share."""

    def setUp(self) -> None:
        self.server = shared_server(RouteTests, {"JobsHistorySize": 1000, "UserMetadata": {"Mine": 2000}})

    def check_fields(self, job: dict[str, Any], optional: set[str]) -> None:
        """Fail unless a job has Orthanc's fields, of their types, and those of the optional ones that are named."""
        types = {"string": str, "integer": int, "number": (int, float), "object": dict, "any": object}
        names = {field["name"] for field in DATA["fields"] if not field.get("optional")}
        self.assertEqual(set(job), names | optional)
        for field in DATA["fields"]:
            if field["name"] in job:
                value = job[field["name"]]
                self.assertIsInstance(value, types[field["type"].split()[0].rstrip(",")], field)
                if field["name"].endswith(("nTime", "Timestamp", "Arrival")):
                    self.assertRegex(value, TIME)
        self.assertEqual(set(job["Content"]), set(DATA["content"][SEQUENCE]))

    def test_success(self) -> None:
        """A job that succeeds has all the fields, and tells what it has done as an output."""
        instance = self.upload()[0]
        job = self.ended(
            [
                {"Type": "SetMetadata", "ID": instance, "Name": "Mine", "Value": "a"},
                {"Type": "SetMetadata", "ID": instance, "Name": "1025", "Value": "b"},
                *NOTHING,
            ],
            Description="test",
            Priority=-5,
            UserData={"x": [1, None, "ü"]},
        )
        self.check_fields(job, {"CompletionTime", "UserData"})
        self.assertEqual((job["Type"], job["State"], job["Progress"], job["Priority"]), (SEQUENCE, "Success", 100, -5))
        self.assertEqual((job["ErrorCode"], job["ErrorDescription"], job["ErrorDetails"]), (0, "Success", ""))
        self.assertEqual(job["Content"], {"CountOperations": 3, "Description": "test"})
        self.assertEqual(job["UserData"], {"x": [1, None, "ü"]})
        self.assertLessEqual(job["CreationTime"], job["CompletionTime"])
        self.assertLessEqual(job["CompletionTime"], job["Timestamp"])
        self.assertEqual(self.server.request("GET", f"/instances/{instance}/metadata/Mine").body, b"a")
        output = self.server.request("GET", f"/jobs/{job['ID']}/results")
        self.assertEqual(output.json(), [{"Revision": 0}, {"Revision": 0}, {"Deleted": False}])
        self.assertEqual(output.headers["Content-Disposition"], 'filename="results.json"')

    def test_failure(self) -> None:
        """A job that fails says why, and where it was; with Permissive it goes on."""
        instance = self.upload()[0]
        operations = [*NOTHING, *FAILING, {"Type": "DeleteResource", "ID": instance}]
        job = self.ended(operations)
        self.check_fields(job, {"CompletionTime"})
        self.assertEqual((job["State"], job["ErrorCode"], job["Progress"]), ("Failure", 17, 33))
        self.assertTrue(job["ErrorDescription"])
        self.assertEqual(self.server.request("GET", f"/instances/{instance}").status, 200)
        job = self.ended(operations, Permissive=True)
        self.assertEqual((job["State"], job["ErrorCode"], job["Progress"]), ("Success", 0, 100))
        results = self.server.get(f"/jobs/{job['ID']}/results")
        self.assertEqual((results[1]["ErrorCode"], results[2]), (17, {"Deleted": True}))
        self.assertEqual(self.server.request("GET", f"/instances/{instance}").status, 404)

    def test_operations(self) -> None:
        """Objects can be stored, at any level deleted, and what cannot be done fails with its own error."""
        data = ct_image(1, patient=str(uuid.uuid4()))
        content = base64.b64encode(data).decode("ascii")
        job = self.ended([{"Type": "StoreInstance", "Content": content}] * 2)
        first, second = self.server.get(f"/jobs/{job['ID']}/results")
        self.assertEqual((first["Status"], second["Status"]), ("Success", "AlreadyStored"))
        self.assertEqual(self.server.request("GET", f"/instances/{first['ID']}/file").body, data)
        study = self.server.get(f"/instances/{first['ID']}/study")["ID"]
        self.ended([{"Type": "DeleteResource", "ID": study}])
        self.assertEqual(self.server.request("GET", f"/studies/{study}").status, 404)
        instance = self.upload()[0]
        for operation, code in (
            ({"Type": "StoreInstance", "Content": "!"}, 15),
            ({"Type": "StoreInstance", "Content": "ü"}, 15),
            ({"Type": "StoreInstance", "Content": "AAAA"}, 15),
            ({"Type": "SetMetadata", "ID": instance, "Name": "ReceptionDate", "Value": "x"}, 8),
            ({"Type": "SetMetadata", "ID": instance, "Name": "65536", "Value": "x"}, 8),
            ({"Type": "SetMetadata", "ID": instance, "Name": "Nobodys", "Value": "x"}, 7),
        ):
            job = self.ended([operation])
            self.assertEqual((job["State"], job["ErrorCode"]), ("Failure", code), operation)
        check_agreement(self, self.server)

    def test_synchronous(self) -> None:
        """A synchronous call answers with the content of the job, or fails as the job did."""
        for fields in ({"Synchronous": True}, {"Asynchronous": False}, {"Synchronous": True, "Asynchronous": True}):
            answer = self.post(NOTHING, Description="now", **fields)
            self.assertEqual((answer.status, answer.json()), (200, {"CountOperations": 1, "Description": "now"}))
            self.assertError(self.post(FAILING, **fields), 404, 17)
        for fields in ({}, {"Synchronous": False}, {"Asynchronous": True}):
            self.ended(**fields)

    def test_wrong_types(self) -> None:
        """Fields of wrong types are refused by their own code, and leave no job."""
        before = self.server.get("/jobs")
        deep: Any = 1
        for _ in range(253):
            deep = [deep]
        for fields, code in (
            ({"Permissive": 1}, 15),
            ({"Permissive": None}, 15),
            ({"Priority": "1"}, 15),
            ({"Priority": 1.5}, 15),
            ({"Priority": True}, 15),
            ({"Priority": 2**31}, 3),
            ({"Synchronous": "yes"}, 15),
            ({"Asynchronous": 0}, 15),
            ({"Description": 5}, 15),
            ({"Type": []}, 15),
            ({"Type": "Archive"}, 8),
            ({"UserData": deep}, 15),
            ({"UserData": "x" * 1024 * 1024}, 15),
            ({"Operations": "x"}, 8),
            ({"Operations": []}, 8),
            ({"Operations": None}, 8),
            ({"Operations": NOTHING * (MANY + 1)}, 8),
            ({"Operations": [1]}, 8),
            ({"Operations": [{"Type": []}]}, 8),
            ({"Operations": [{"Type": {}}]}, 8),
            ({"Operations": [{"Type": "StoreScu"}]}, 8),
            ({"Operations": [{"Type": "DeleteResource"}]}, 8),
            ({"Operations": [{"Type": "DeleteResource", "ID": 5}]}, 8),
            ({"Operations": [{**NOTHING[0], "More": deep}]}, 8),
        ):
            answer = self.server.request(
                "POST", "/jobs", json.dumps({"Type": SEQUENCE, "Operations": NOTHING, **fields})
            )
            self.assertError(answer, 400, code)
        for body, code in (("[]", 8), ("", 15), ("{", 15), ('{"Type":"\\ud800"}', 15)):
            self.assertError(self.server.request("POST", "/jobs", body), 400, code)
        self.assertEqual(self.server.get("/jobs"), before)

    def test_deep_user_data(self) -> None:
        """User data as deep as is accepted can be shown, alone and in the list."""
        deep: Any = 1
        for _ in range(252):
            deep = [deep]
        job = self.ended(UserData=deep)
        self.assertEqual(job["UserData"], deep)
        self.assertIn(job["ID"], [item["ID"] for item in self.server.get("/jobs?expand")])
        self.assertEqual(self.server.request("DELETE", f"/jobs/{job['ID']}").status, 200)

    def test_unknown(self) -> None:
        """Unknown jobs are answered as by Orthanc, whatever their identifiers look like."""
        for job in (str(uuid.uuid4()), "x", "%00", "x" * 3000):
            self.assertBare(self.server.request("GET", f"/jobs/{job}"), 404)
            for action in ("cancel", "pause", "resume", "resubmit"):
                self.assertBare(self.steer(job, action), 400)
            for method, path in (("DELETE", ""), ("GET", "/results"), ("DELETE", "/results")):
                self.assertError(self.server.request(method, f"/jobs/{job}{path}"), 404, 7)

    def test_unknown_routes(self) -> None:
        """Methods that a path does not have are refused, with those that it has."""
        job = self.ended()["ID"]
        for method, path, allowed in (
            ("POST", f"/jobs/{job}/other", "GET,DELETE"),
            ("PUT", f"/jobs/{job}/results", "GET,DELETE"),
            ("POST", f"/jobs/{job}", "GET,DELETE"),
            ("DELETE", "/jobs", "GET,POST"),
            ("PUT", "/jobs", "GET,POST"),
        ):
            answer = self.server.request(method, path, b"")
            self.assertEqual((answer.status, answer.headers.get("Allow")), (405, allowed), path)
        self.assertEqual(self.server.request("GET", f"/jobs/{job}/results/more").status, 404)

    def test_finished(self) -> None:
        """A finished job pays no heed to pause and cancel; resume, and resubmit of a success, are refused."""
        for operations, state in ((NOTHING, "Success"), (FAILING, "Failure")):
            job = self.ended(operations)
            for action in ("cancel", "pause"):
                answer = self.steer(job["ID"], action)
                self.assertEqual((answer.status, answer.body), (200, b"{}"))
            self.assertBare(self.steer(job["ID"], "resume"), 400)
            if state == "Success":
                self.assertBare(self.steer(job["ID"], "resubmit"), 400)
            self.assertEqual(self.job(job["ID"]) | {"Timestamp": 0}, job | {"Timestamp": 0})

    def test_resubmit(self) -> None:
        """A job that has failed starts anew, and may succeed."""
        data = ct_image(1, patient=str(uuid.uuid4()))
        instance = self.server.upload(data)
        self.server.request("DELETE", f"/instances/{instance}")
        job = self.ended([{"Type": "SetMetadata", "ID": instance, "Name": "Mine", "Value": "a"}], UserData=1)
        self.assertEqual((job["State"], job["ErrorCode"]), ("Failure", 17))
        self.server.upload(data)
        answer = self.steer(job["ID"], "resubmit")
        self.assertEqual((answer.status, answer.body), (200, b"{}"))
        again = self.wait_for(job["ID"], "Success")
        self.check_fields(again, {"CompletionTime", "UserData"})
        self.assertEqual((again["ErrorCode"], again["ErrorDetails"]), (0, ""))
        self.assertEqual(again["CreationTime"], job["CreationTime"])

    def test_delete(self) -> None:
        """A finished job and its outputs can be deleted, once."""
        job = self.ended()["ID"]
        for path in (f"/jobs/{job}/results", f"/jobs/{job}"):
            self.assertBare(self.server.request("DELETE", path), 200)
            self.assertError(self.server.request("DELETE", path), 404, 7)
        self.assertNotIn(job, self.server.get("/jobs"))
        self.assertError(self.server.request("GET", f"/jobs/{job}/results"), 404, 7)

    def test_lists(self) -> None:
        """Jobs are listed sorted, by pages, by states and by types."""
        good = {self.ended()["ID"] for _ in range(4)}
        bad = {self.ended(FAILING)["ID"] for _ in range(2)}
        everything = self.server.get("/jobs")
        self.assertEqual(everything, sorted(everything))
        self.assertLessEqual(good | bad, set(everything))
        self.assertEqual([job["ID"] for job in self.server.get("/jobs?expand")], everything)
        self.assertEqual([job["ID"] for job in self.server.get("/jobs?expand&since=1&limit=3")], everything[1:4])
        self.assertEqual(self.server.get("/jobs?since=2"), everything[2:])
        self.assertEqual(self.server.get("/jobs?limit=2"), everything[:2])
        self.assertEqual(self.server.get("/jobs?limit=0"), everything)
        self.assertEqual(self.server.get("/jobs?since=99999999&limit=1"), [])
        failed = self.server.get("/jobs?status=Failure")
        self.assertLessEqual(bad, set(failed))
        self.assertFalse(good & set(failed))
        self.assertEqual(self.server.get("/jobs?status=Failure,Success"), everything)
        self.assertEqual({job["State"] for job in self.server.get("/jobs?status=Failure&expand")}, {"Failure"})
        self.assertEqual(self.server.get("/jobs?status=Running,Retry"), [])
        self.assertEqual(self.server.get(f"/jobs?type={SEQUENCE}"), everything)
        self.assertEqual(self.server.get("/jobs?type=Archive"), [])
        self.assertEqual(self.server.get(f"/jobs?type=Archive,{SEQUENCE}&status=Failure"), failed)
        for query, code in (("status=failure", 3), ("status=", 3), ("since=-1", 5), ("limit=x", 5), ("expand=2", 3)):
            self.assertError(self.server.request("GET", f"/jobs?{query}"), 400, code)

    def test_two_clients(self) -> None:
        """Clients that submit at the same time, synchronously or not, each get their own jobs."""
        answers: list[Answer] = []

        def client(name: str) -> None:
            answers.extend(
                self.post(NOTHING, Description=f"{name}{number}", Synchronous=number % 2 == 0) for number in range(20)
            )

        threads = [threading.Thread(target=client, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([answer.status for answer in answers], [200] * 80)
        jobs = {answer.json()["ID"] for answer in answers if "ID" in answer.json()}
        told = {answer.json()["Description"] for answer in answers if "Description" in answer.json()}
        self.assertEqual(told, {f"{name}{number}" for name in "abcd" for number in range(0, 20, 2)})
        told |= {self.wait_for(job, "Success")["Content"]["Description"] for job in jobs}
        self.assertEqual(len(jobs), 40)
        self.assertEqual(len(told), 80)


class MemoryTests(RestCase):
    """What failed calls leave in memory."""

    async def test_failed_call(self) -> None:
        """Nothing of a call that has failed stays, its body above all, until the collector of circles comes."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        body = {"Type": SEQUENCE, "Operations": FAILING, "Synchronous": True}
        self.assertError(await self.client.post("/jobs", body), 404, 17)
        left = [item for item in gc.get_objects() if isinstance(item, CoroutineType)]
        self.assertNotIn("JobRoutes.submit", [item.__qualname__ for item in left])
