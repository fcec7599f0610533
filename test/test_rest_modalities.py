"""`/modalities` and `/tools/dicom-echo`: configuration, echo, sending, moving and getting, beside the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from orthanctw.dicom import dimse
from test.dicom_peers import CT, IMPLICIT, in_thread
from test.dicom_retrievals import RetrieveCase, sink
from test.job_servers import JobsCase
from test.rest_samples import NOBODY, dicom_object
from test.scu_case import Connection, Script
from test.servers import ORTHANC, ServerProcess, free_port, wait_until

_VERIFICATION = ("1.2.840.10008.1.1", (IMPLICIT,))
_SHOWN = {
    "AET": "A",
    "AllowEcho": True,
    "AllowEventReport": True,
    "AllowFind": True,
    "AllowFindWorklist": True,
    "AllowGet": True,
    "AllowMove": True,
    "AllowNAction": True,
    "AllowStore": True,
    "AllowTranscoding": True,
    "Host": "h",
    "LocalAet": "",
    "Manufacturer": "Generic",
    "Port": 104,
    "Timeout": 0,
    "UseDicomTls": False,
}


class ConfigurationTest(RetrieveCase):
    """Modalities that come and go."""

    async def put(self, name: str, value: object) -> Any:
        return await self.client.ask("PUT", f"/modalities/{name}", value)

    async def test_life(self) -> None:
        """A modality is put, shown, replaced and deleted."""
        self.assertEqual(await self.client.json("/modalities"), [])
        self.assertEmpty(await self.put("b", ["A", "h", 104]), 200)
        self.assertEmpty(await self.put("a", {**_SHOWN, "AllowEcho": False, "Timeout": 7, "Port": "105"}), 200)
        self.assertEqual(await self.client.json("/modalities"), ["a", "b"])
        shown = (await self.client.json("/modalities", expand=""))["b"]
        self.assertEqual({name: shown[name] for name in _SHOWN}, _SHOWN)
        self.assertEqual(await self.client.json("/modalities/b/configuration"), shown)
        operations = await self.client.json("/modalities/b")
        self.assertIn("query", operations)
        self.assertEqual(operations, sorted(operations))
        self.assertEmpty(await self.put("b", ["A", "h", 104, "GE"]), 200)
        self.assertEqual((await self.client.json("/modalities/b/configuration"))["Manufacturer"], "GE")
        self.assertEmpty(await self.client.ask("DELETE", "/modalities/b"), 200)
        self.assertError(await self.client.ask("DELETE", "/modalities/b"), 404, 7)
        self.assertEqual(await self.client.json("/modalities"), ["a"])

    async def test_bad_values(self) -> None:
        """What is no modality is 400, with the statuses of Orthanc, and changes nothing."""
        for name, value, code in (
            ("x", [1], 15),
            ("x", "{", 15),
            ("x", ["A", "h"], 15),
            ("x", {"AET": "A", "Host": "h"}, 15),
            ("x", {"AET": "A", "Host": "h", "Port": 70000}, 3),
            ("x", {"AET": "A", "Host": "h", "Port": 0}, 3),
            ("x", {"AET": "A", "Host": "h", "Port": 104, "Manufacturer": "Foo"}, 3),
            ("a.b", ["A", "h", 104], 15),
        ):
            self.assertError(await self.put(name, value), 400, code)
        self.assertEqual(await self.client.json("/modalities"), [])

    async def test_unknown(self) -> None:
        """An unknown modality is 404 everywhere."""
        self.assertEmpty(await self.client.get("/modalities/x"), 404)
        self.assertError(await self.client.get("/modalities/x/configuration"), 404, 7)
        for route in ("echo", "store", "store-straight", "query", "find", "find-patient", "move", "get"):
            body = {"Level": "Study", "Resources": []}
            self.assertError(await self.client.post(f"/modalities/x/{route}", body), 404, 7)

    async def test_restart(self) -> None:
        """What is put is forgotten by a restart, unless ``DicomModalitiesInDatabase``: then the configuration is."""
        configured = {"c": ["C", "h", 104]}
        await self.restart(DicomModalities=configured)
        await self.put("x", ["X", "h", 104])
        await self.restart(DicomModalities=configured)
        self.assertEqual(await self.client.json("/modalities"), ["c"])
        await self.restart(DicomModalities=configured, DicomModalitiesInDatabase=True)
        self.assertEqual(await self.client.json("/modalities"), [])
        await gatherResults([self._put(f"m{number}") for number in range(20)])
        await self.client.ask("DELETE", "/modalities/m7")
        await self.restart(DicomModalities=configured, DicomModalitiesInDatabase=True)
        self.assertEqual(len(await self.client.json("/modalities")), 19)

    def _put(self, name: str) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.put(name, ["X", "h", 104]))

    async def test_damaged_entry(self) -> None:
        """An entry in the database that cannot be used hides no other, and is not lost when another one is put."""
        await self.restart(DicomModalitiesInDatabase=True)
        bad = {"AET": "B", "Host": "h", "Port": 104, "Manufacturer": "New"}
        stored = {"a": ["A", "h", 104], "bad": bad, "c": ["C", "h", 1]}
        await self.server.index.set_global_property(20, json.dumps(stored))
        await self.restart(DicomModalitiesInDatabase=True)
        self.assertEqual(await self.client.json("/modalities"), ["a", "c"])
        await self.put("d", ["D", "h", 104])
        text = await self.server.index.global_property(20)
        assert text is not None
        self.assertEqual(json.loads(text)["bad"], bad)


class OperationTest(RetrieveCase):
    """What is asked of modalities."""

    async def test_echo(self) -> None:
        """Echo answers an empty object, with any body; who does not answer is an error of the network."""
        with sink((_VERIFICATION,)) as target:
            await self.know(target.port)
            for body in ("", {}, {"Timeout": 5}):
                answer = await self.client.post("/modalities/sink/echo", body)
                self.assertEqual((answer.status, answer.json()), (200, {}))
            anybody = {"AET": "SINK", "Host": "127.0.0.1", "Port": target.port}
            self.assertEqual((await self.client.post("/tools/dicom-echo", anybody)).json(), {})
            self.assertError(await self.client.post("/modalities/sink/echo", {"CheckFind": True}), 500, 9)
        self.assertError(await self.client.post("/modalities/sink/echo"), 500, 9)
        self.assertError(await self.client.post("/tools/dicom-echo", {**anybody, "Port": free_port()}), 500, 9)
        for bad in ({"Timeout": "x"}, {"CheckFind": 1}, {"LocalAet": 5}):
            self.assertError(await self.client.post("/modalities/sink/echo", bad), 400, 15)
        for bad in ({}, {"AET": "A"}, {"AET": "A", "Host": 5, "Port": 1}, []):
            self.assertError(await self.client.post("/tools/dicom-echo", bad), 400, 15)

    async def test_local_aet_and_timeout(self) -> None:
        """Our AE title is that of the request, else of the modality, else ``DicomAet``; time limits in the same way."""
        titles: list[str] = []

        def serve(connection: Connection) -> None:
            titles.append(connection.accept().calling_aet)
            connection.until_end()

        async with Script(serve) as target:
            await self.know(target.port, Timeout=1)
            self.assertError(await self.client.post("/modalities/sink/echo"), 500, 9)
            self.assertError(await self.client.post("/modalities/sink/echo", {"LocalAet": "OURS"}), 500, 9)
            await self.know(target.port, Timeout=60, LocalAet="THEIRS")
            self.assertError(await self.client.post("/modalities/sink/echo", {"Timeout": 1}), 500, 9)
            await self.stop()
        self.assertEqual(list(dict.fromkeys(titles)), ["ORTHANC", "OURS", "THEIRS"])

    async def test_store(self) -> None:
        """All three forms of the body send; the answer is the content of the job."""
        uploaded = await self.fill()
        study = uploaded[0]["ParentStudy"]
        with sink() as target:
            await self.know(target.port)
            for body in (study, json.dumps(study), [study], {"Resources": [study]}):
                target.stored.clear()
                answer = await self.client.post("/modalities/sink/store", body)
                self.assertEqual(answer.status, 200, answer.text)
                content = answer.json()
                self.assertEqual(
                    {name: content[name] for name in content if name != "Resources"},
                    {
                        "Description": "REST API",
                        "FailedInstancesCount": 0,
                        "InstancesCount": 3,
                        "LocalAet": "ORTHANC",
                        "ParentResources": [study],
                        "RemoteAet": "SINK",
                    },
                )
                self.assertEqual(sorted(target.sops), ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"])
            empty = (await self.client.post("/modalities/sink/store", [])).json()
            self.assertEqual(empty["InstancesCount"], 0)

    async def test_store_fields(self) -> None:
        """Fields of the request go before those of the modality."""
        uploaded = await self.client.store(dicom_object())
        with sink() as target:
            await self.know(free_port(), "OTHER")
            answer = await self.client.post(
                "/modalities/other/store",
                {
                    "Resources": [uploaded["ID"]],
                    "CalledAet": "SINK",
                    "Host": "127.0.0.1",
                    "Port": target.port,
                    "LocalAet": "OURS",
                    "MoveOriginatorAet": "ASKER",
                    "MoveOriginatorID": 99,
                    "UserData": {"a": [1]},
                    "Asynchronous": True,
                    "Priority": 5,
                },
            )
            self.assertEqual(set(answer.json()), {"ID", "Path"})
            await self.until(lambda: target.stored)
            self.assertEqual(target.originators, [("ASKER", 99)])
            job = await self.client.json(answer.json()["Path"])
            self.assertEqual((job["UserData"], job["Priority"], job["Type"]), ({"a": [1]}, 5, "DicomModalityStore"))
            self.assertEqual((job["Content"]["LocalAet"], job["Content"]["RemoteAet"]), ("OURS", "SINK"))

    async def test_bad_stores(self) -> None:
        """What cannot be sent is refused before a job is made."""
        await self.know(free_port())
        for body, status, code in (
            ({}, 400, 15),
            ("abc", 400, 15),
            (5, 400, 15),
            ({"Resources": 5}, 400, 15),
            ({"Resources": [5]}, 400, 15),
            (["abc"], 400, 15),
            ([NOBODY], 404, 17),
            ({"Resources": [], "Permissive": 1}, 400, 15),
            ({"Resources": [], "Priority": "x"}, 400, 15),
            ({"Resources": [], "Synchronous": "yes"}, 400, 15),
        ):
            self.assertError(await self.client.post("/modalities/sink/store", body), status, code)
        self.assertEqual(await self.client.json("/jobs"), [])

    async def test_failures(self) -> None:
        """A failure is told with the peer's status; permissive transfers go on; what failed can be submitted again."""
        uploaded = await self.fill()
        study = uploaded[0]["ParentStudy"]
        with sink() as target:
            await self.know(target.port)
            target.statuses = {"1.2.1.1.1": 0xA700}
            answer = await self.client.post("/modalities/sink/store", study)
            body = self.assertError(answer, 500, 9)
            self.assertEqual(body["ErrorPayload"], {"Type": "Dimse", "Content": {"DimseErrorStatus": 0xA700}})
            answer = await self.client.post("/modalities/sink/store", {"Resources": [study], "Permissive": True})
            self.assertEqual((answer.status, answer.json()["FailedInstancesCount"]), (200, 1))
            failed = [job for job in await self.client.json("/jobs", expand="") if job["State"] == "Failure"]
            self.assertEqual([job["ErrorCode"] for job in failed], [9])
            target.statuses = {}
            self.assertEqual((await self.client.post(f"/jobs/{failed[0]['ID']}/resubmit")).json(), {})
            await self.until(lambda: len(target.stored) >= 1 + 3 + 3)

    async def test_deleted_meanwhile(self) -> None:
        """An instance that was deleted since its transfer was submitted fails that, or is counted."""
        await self.restart(ConcurrentJobs=1)
        uploaded = await self.fill()
        first, may_go_on = threading.Event(), threading.Event()

        def serve(connection: Connection) -> None:
            connection.accept()
            while True:
                command = connection.command()
                connection.data_set()
                first.set()
                may_go_on.wait(30)
                connection.respond(dimse.C_STORE_RQ | dimse.RESPONSE, command.number(dimse.MESSAGE_ID), 0)

        async with Script(serve) as target:
            await self.know(target.port, Timeout=20)
            paths = []
            for permissive in (False, True):
                body = {"Resources": [uploaded[0]["ParentStudy"]], "Permissive": permissive, "Asynchronous": True}
                paths.append((await self.client.post("/modalities/sink/store", body)).json()["Path"])
            await in_thread(first.wait, 30)
            await self.client.ask("DELETE", f"/instances/{uploaded[1]['ID']}")
            may_go_on.set()
            while (await self.client.json(paths[1]))["State"] not in ("Success", "Failure"):
                pass
            jobs = [await self.client.json(path) for path in paths]
            # The first had looked at it already, but its file is gone.
            self.assertEqual([job["State"] for job in jobs], ["Failure", "Success"])
            self.assertEqual(jobs[1]["Content"]["FailedInstancesCount"], 1)
            await self.stop()

    async def test_store_straight(self) -> None:
        """A file is sent without being stored."""
        with sink() as target:
            await self.know(target.port)
            answer = await self.client.post("/modalities/sink/store-straight", dicom_object())
            self.assertEqual(answer.json(), {"SOPClassUID": CT, "SOPInstanceUID": "1.2.1.1.1"})
            self.assertEqual((target.sops, await self.instances()), (["1.2.1.1.1"], []))
            self.assertError(await self.client.post("/modalities/sink/store-straight", b"abc"), 400, 15)

    async def test_steering(self) -> None:
        """Transfers and retrievals that wait for their peer are paused and cancelled at once."""
        await self.restart(ConcurrentJobs=4)
        await self.fill()

        def serve(connection: Connection) -> None:
            connection.accept()
            connection.until_end()

        (study,) = await self.client.find("Study", {"StudyInstanceUID": "1.2.1"})
        asked = {"Level": "Study", "Resources": [{"StudyInstanceUID": "1.2.1"}], "Asynchronous": True}
        async with Script(serve) as target:
            await self.know(target.port, Timeout=90)
            for route, body in (
                ("store", {"Resources": [study], "Asynchronous": True, "Permissive": True}),
                ("move", {**asked, "TargetAet": "X", "Permissive": True}),
            ):
                before = target.connections
                path = (await self.client.post(f"/modalities/sink/{route}", body)).json()["Path"]
                await self.until(lambda before=before: target.connections > before)
                await self.client.post(f"{path}/pause")
                await self._reached(path, "Paused")
                await self.client.post(f"{path}/resume")
                await self.until(lambda before=before: target.connections > before + 1)
                await self.client.post(f"{path}/cancel")
                job = await self._reached(path, "Failure")
                self.assertEqual(job["ErrorCode"], 37)
            await self.stop()

    async def _reached(self, path: str, state: str) -> Any:
        while (job := await self.client.json(path))["State"] != state:
            self.assertNotIn(job["State"], ("Success", "Failure"))
        return job

    async def test_exports(self) -> None:
        """With ``LogExportedResources`` each resource of a request is logged, whether it arrives or not."""
        await self.restart(LogExportedResources=True)
        uploaded = await self.fill()
        await self.know(free_port())
        answer = await self.client.post(
            "/modalities/sink/store", [uploaded[0]["ParentStudy"], uploaded[3]["ID"]]
        )
        self.assertError(answer, 500, 9)
        exported = (await self.client.json("/exports"))["Exports"]
        self.assertEqual(
            [(entry["ResourceType"], entry["RemoteModality"], entry["StudyInstanceUID"]) for entry in exported],
            [("Study", "sink", "1.2.1"), ("Instance", "sink", "1.2.2")],
        )
        self.assertNotIn("SOPInstanceUID", exported[0])
        last = await self.client.json("/exports", last="")
        self.assertEqual((last["Exports"], last["First"]), (exported[1:], exported[1]["Seq"]))
        self.assertEmpty(await self.client.ask("DELETE", "/exports"), 200)
        self.assertEqual((await self.client.json("/exports"))["Exports"], [])


class RestartTest(JobsCase):
    """A server that dies."""

    def test_killed_transfer(self) -> None:
        """A transfer that was in the middle when the process was killed goes on, and every object arrives."""
        arrived: set[str] = set()
        held = threading.Event()

        def serve(connection: Connection) -> None:
            connection.accept()
            while True:
                command = connection.command()
                connection.data_set()
                if len(arrived) == 5 and not held.is_set():
                    # The server is killed now, and will never know.
                    held.set()
                    connection.until_end()
                    return
                arrived.add(command.text(dimse.AFFECTED_SOP_INSTANCE))
                connection.respond(dimse.C_STORE_RQ | dimse.RESPONSE, command.number(dimse.MESSAGE_ID), 0)

        target = Script(serve)
        target._accepting.start()
        self.addCleanup(target._join)
        server = self.own_server(DicomModalities={"slow": ["SLOW", "127.0.0.1", target.port]})
        self.addCleanup(server.kill)
        for number in range(1, 11):
            server.upload(dicom_object(sop=f"1.2.1.1.{number}"))
        (study,) = server.get("/studies")
        body = json.dumps({"Resources": [study], "Asynchronous": True})
        job = server.request("POST", "/modalities/slow/store", body).json()["ID"]
        wait_until(held.is_set, lambda: f"five objects: {arrived}")
        server.kill()
        server.start()
        self.wait_for(job, "Success")
        self.assertEqual(len(arrived), 10)


class RealOrthancTest(RetrieveCase):
    """The real Orthanc and ours, both ways."""

    async def setUp(self) -> None:
        await super().setUp()
        self.orthanc_port = free_port()
        self.orthanc = ServerProcess(
            self.folder.parent / f"{self.folder.name}-orthanc",
            ORTHANC,
            {
                "DicomServerEnabled": True,
                "DicomPort": self.orthanc_port,
                "DicomAet": "REAL",
                "AuthenticationEnabled": False,
                "DicomAlwaysAllowFind": True,
                "DicomAlwaysAllowGet": True,
                "DicomAlwaysAllowMove": True,
                "DicomModalities": {"ours": ["ORTHANC", "127.0.0.1", self.dicom_port]},
            },
        )
        await in_thread(self.orthanc.start)
        # Not within the reactor: it releases its associations with ours.
        self.addCleanup(in_thread, self.orthanc.stop)
        await self.know(self.orthanc_port, "REAL")

    async def _both(self, method: str, path: str, body: object = "") -> tuple[Any, Any]:
        """The answers of ours and of the real one."""
        text = body if isinstance(body, str) else json.dumps(body)
        ours = await self.client.ask(method, path, text)
        return ours, await in_thread(self.orthanc.request, method, path, text)

    async def test_there_and_back(self) -> None:
        """Echo, store, find, move and get work from ours to the real Orthanc, and from there to ours."""
        await self.fill()
        self.assertEqual((await self.client.post("/modalities/real/echo", {"CheckFind": True})).json(), {})
        answer = await in_thread(self.orthanc.request, "POST", "/modalities/ours/echo", "{}")
        self.assertEqual(answer.status, 200)
        (study,) = await self.client.find("Study", {"StudyInstanceUID": "1.2.1"})
        self.assertEqual((await self.client.post("/modalities/real/store", study)).status, 200)
        self.assertEqual(len(await in_thread(self.orthanc.get, "/instances")), 3)
        # Back by C-MOVE, for which each is the other's modality.
        await self.client.ask("DELETE", f"/studies/{study}")
        asked = {"Level": "Study", "Resources": [{"StudyInstanceUID": "1.2.1"}]}
        answer = await self.client.post("/modalities/real/move", {**asked, "TargetAet": "ORTHANC"})
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(answer.json()["Query"], [{"0008,0052": "STUDY", "0020,000d": "1.2.1"}])
        self.assertEqual(len(await self.client.json(f"/studies/{study}/instances")), 3)
        # By C-GET.
        await self.client.ask("DELETE", f"/studies/{study}")
        answer = await self.client.post("/modalities/real/get", asked)
        self.assertEqual(answer.status, 200, answer.text)
        self.assertNotIn("TargetAet", answer.json())
        self.assertEqual(len(answer.json()["Details"][0]["ReceivedInstancesIds"]), 3)
        self.assertEqual(len(await self.client.json(f"/studies/{study}/instances")), 3)
        # The real one moves from ours to itself.
        await self.know(self.orthanc_port, "REAL")
        await in_thread(self.orthanc.request, "DELETE", f"/studies/{study}")
        body = json.dumps({**asked, "TargetAet": "REAL"})
        answer = await in_thread(self.orthanc.request, "POST", "/modalities/ours/move", body)
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(len(await in_thread(self.orthanc.get, "/instances")), 3)
        # And what is said of a query is the same, either way.
        query = json.dumps({"Level": "Study", "Query": {"PatientID": "P*", "StudyDate": "20240101-20240131"}})
        path = (await self.client.post("/modalities/real/query", query)).json()["Path"]
        ours = await self.client.json(f"{path}/answers", expand="", simplify="")
        path = (await in_thread(self.orthanc.request, "POST", "/modalities/ours/query", query)).json()["Path"]
        theirs = await in_thread(self.orthanc.get, f"{path}/answers?expand&simplify")
        for answers in (ours, theirs):
            self.assertEqual(len(answers), 1)
            answers[0].pop("RetrieveAETitle")
        self.assertEqual(ours, theirs)

    async def test_statuses(self) -> None:
        """Ours answers with the statuses of the real one, but for mistakes of clients, which are 400."""
        for name, port in (("self", self.dicom_port), ("gone", free_port())):
            await self.client.ask("PUT", f"/modalities/{name}", ["ORTHANC", "127.0.0.1", port])
            await in_thread(
                self.orthanc.request, "PUT", f"/modalities/{name}", json.dumps(["ORTHANC", "127.0.0.1", port])
            )
        for method, path, body in _requests():
            ours, theirs = await self._both(method, path, body)
            self.assertEqual(ours.status, theirs.status, (path, body, ours.text, theirs.body))
            if ours.status >= 400 and theirs.body:
                self.assertEqual(ours.json()["OrthancStatus"], theirs.json()["OrthancStatus"], (path, body))


def _requests() -> Iterator[tuple[str, str, object]]:
    yield "GET", "/modalities/nope", ""
    yield "GET", "/modalities/nope/configuration", ""
    yield "DELETE", "/modalities/nope", ""
    for body in ([1], {"AET": "A"}, {"AET": "A", "Host": "h", "Port": 70000}, "x"):
        yield "PUT", "/modalities/x", body
    yield "PUT", "/modalities/a.b", ["A", "h", 104]
    yield "POST", "/modalities/nope/echo", {}
    yield "POST", "/modalities/gone/echo", {}
    yield "POST", "/modalities/self/echo", ""
    yield "POST", "/modalities/self/echo", {"Timeout": "a"}
    yield "POST", "/tools/dicom-echo", {}
    for body in ({}, {"Level": "Foo"}, {"Level": "Study", "Query": 5}, {"Level": "Study", "Query": {"Foo": "a"}}, "x"):
        yield "POST", "/modalities/self/query", body
    yield "POST", "/modalities/self/query", {"Level": "Study", "Query": {"PatientID": 5}}
    yield "POST", "/modalities/self/query", []
    yield "POST", "/modalities/gone/query", {"Level": "Study"}
    for body in ({"Level": "Study"}, {"Level": "X", "Resources": []}, {"Level": "Study", "Resources": {}}, []):
        yield "POST", "/modalities/self/move", body
    yield "POST", "/modalities/self/move", {"Level": "Study", "Resources": []}
    for body in ({}, [], "abc", [NOBODY], {"Resources": 5}, {"Resources": [5]}, ["abc"], 5):
        yield "POST", "/modalities/self/store", body
    yield "POST", "/modalities/self/store-straight", "abc"
    for route in ("find-study", "find-series", "find-instance"):
        yield "POST", f"/modalities/self/{route}", {}
    yield "GET", f"/queries/{NOBODY}/level", ""
