"""`/queries`, and the routes of `/modalities` that find: what is sent, what is kept, what is retrieved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import evt

from orthanctw.dicom.scp.negotiation import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from test.dicom_peers import EXPLICIT
from test.dicom_retrievals import RetrieveCase, sink
from test.rest_samples import NOBODY
from test.scu_case import pynetdicom_server


@contextlib.contextmanager
def archive(*answers: Dataset) -> Iterator[tuple[int, list[Dataset]]]:
    """A peer of pynetdicom that gives these answers to every query; its port, and the queries that it saw."""
    asked: list[Dataset] = []

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked.append(event.identifier)
        for answer in answers:
            yield 0xFF00, answer

    contexts = [(model, (EXPLICIT,)) for model in (PATIENT_ROOT_FIND, STUDY_ROOT_FIND)]
    with pynetdicom_server(contexts, [(evt.EVT_C_FIND, find)]) as (port, _):
        yield port, asked


def sent(asked: Dataset) -> dict[str, str]:
    """A query as keywords and texts, the level and the character set aside."""
    aside = ("QueryRetrieveLevel", "SpecificCharacterSet")
    return {item.keyword: str(item.value or "") for item in asked if item.keyword not in aside}


class QueryTest(RetrieveCase):
    """Queries of ourselves, as a modality."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.fill()
        await self.know(self.dicom_port, "ORTHANC")

    async def query(self, level: str, query: object, **fields: object) -> str:
        """A query; its path."""
        answer = await self.client.post("/modalities/orthanc/query", {"Level": level, "Query": query, **fields})
        self.assertEqual(answer.status, 200, answer.text)
        body = answer.json()
        self.assertEqual(body, {"ID": body["ID"], "Path": f"/queries/{body['ID']}"})
        path: str = body["Path"]
        return path

    async def test_life(self) -> None:
        """A query tells of itself and its answers until it is deleted."""
        path = await self.query("Study", {"PatientID": "P*", "PatientName": ""})
        self.assertEqual(await self.client.json("/queries"), [path.removeprefix("/queries/")])
        self.assertEqual(await self.client.json(path), ["answers", "level", "modality", "query", "retrieve"])
        texts = [(await self.client.get(f"{path}/{name}")) for name in ("level", "modality")]
        self.assertEqual([answer.text for answer in texts], ["Study", "orthanc"])
        self.assertEqual({answer.headers["content-type"] for answer in texts}, {"text/plain"})
        self.assertEqual(await self.client.json(f"{path}/query", simplify=""), {"PatientID": "P*", "PatientName": ""})
        full = (await self.client.json(f"{path}/query"))["0010,0020"]
        self.assertEqual(full, {"Name": "PatientID", "Type": "String", "Value": "P*"})
        self.assertEqual(await self.client.json(f"{path}/answers"), ["0", "1"])
        expanded = await self.client.json(f"{path}/answers", expand="", simplify="")
        self.assertEqual([answer["StudyInstanceUID"] for answer in expanded], ["1.2.1", "1.2.2"])
        self.assertEqual(
            expanded[0],
            {
                "AccessionNumber": "ACC-1",
                "PatientID": "P1",
                "PatientName": "DOE^JOHN",
                "QueryRetrieveLevel": "STUDY",
                "RetrieveAETitle": "ORTHANC",
                "SpecificCharacterSet": "ISO_IR 100",
                "StudyInstanceUID": "1.2.1",
            },
        )
        self.assertEqual(expanded[1]["PatientName"], "MÜLLER^ANNA")
        self.assertEqual(await self.client.json(f"{path}/answers/0/content", simplify=""), expanded[0])
        self.assertEqual((await self.client.json(f"{path}/answers/0/content", short=""))["0010,0020"], "P1")
        operations = ["content", "retrieve", "query-series", "query-instances"]
        self.assertEqual(await self.client.json(f"{path}/answers/0"), operations)
        for _ in range(2):
            self.assertEmpty(await self.client.ask("DELETE", path), 200)
        self.assertEqual(await self.client.json("/queries"), [])
        self.assertError(await self.client.get(f"{path}/level"), 404, 17)

    async def test_bad_requests(self) -> None:
        """What cannot be asked is 400, and no query comes of it; what is not there is 404."""
        for body, code in (
            ({}, 15),
            ({"Level": 5}, 15),
            ({"Level": "Ward"}, 3),
            ({"Level": "Study", "Query": 5}, 15),
            ({"Level": "Study", "Query": {"Foo": "a"}}, 15),
            ({"Level": "Study", "Query": {"PatientID": 5}}, 15),
            ({"Level": "Study", "Normalize": "no"}, 15),
            ({"Level": "Study", "Timeout": -1}, 3),
            ([], 15),
            ("x", 15),
        ):
            self.assertError(await self.client.post("/modalities/orthanc/query", body), 400, code)
        self.assertEqual(await self.client.json("/queries"), [])
        for route in ("level", "modality", "query", "answers", "answers/0", "answers/0/content"):
            self.assertError(await self.client.get(f"/queries/{NOBODY}/{route}"), 404, 17)
        for route in ("retrieve", "answers/0/retrieve", "answers/0/query-series"):
            self.assertError(await self.client.post(f"/queries/{NOBODY}/{route}"), 404, 17)
        path = await self.query("Study", {})
        for number, code in (("9", 3), ("x", 5), ("-1", 5)):
            self.assertError(await self.client.get(f"{path}/answers/{number}/content"), 400, code)
            self.assertError(await self.client.post(f"{path}/answers/{number}/retrieve", "ORTHANC"), 400, code)
        self.assertError(await self.client.post(f"{path}/answers/0/retrieve", {"TargetAet": 5}), 400, 15)
        self.assertError(await self.client.post(f"{path}/answers/0/retrieve", {"RetrieveMethod": "X"}), 400, 3)

    async def test_below(self) -> None:
        """What lies below an answer is asked for with its keys."""
        path = await self.query("Patient", {"PatientID": "P1"})
        operations = ["content", "retrieve", "query-study", "query-series", "query-instances"]
        self.assertEqual(await self.client.json(f"{path}/answers/0"), operations)
        for route, level, keyword, expected in (
            ("query-studies", "Study", "StudyInstanceUID", ["1.2.1"]),
            ("query-series", "Series", "SeriesInstanceUID", ["1.2.1.1", "1.2.1.2"]),
            ("query-instances", "Instance", "SOPInstanceUID", ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"]),
        ):
            answer = await self.client.post(f"{path}/answers/0/{route}", {"Query": {"Modality": ""}})
            below = answer.json()["Path"]
            found = await self.client.json(f"{below}/answers", expand="", simplify="")
            self.assertEqual(sorted(item[keyword] for item in found), expected)
            self.assertEqual((await self.client.get(f"{below}/level")).text, level)
        series = (await self.client.post(f"{path}/answers/0/query-series")).json()["Path"]
        for route in ("query-studies", "query-series"):
            self.assertError(await self.client.post(f"{series}/answers/0/{route}", {}), 404, 17)

    async def test_retrieve(self) -> None:
        """Answers are retrieved by C-MOVE to whom the body says: as text, in an object, or to us."""
        path = await self.query("Study", {"PatientID": "P1"})
        with sink() as target:
            await self.know(target.port)
            for body in ("SINK", '"SINK"', {"TargetAet": "SINK"}):
                target.stored.clear()
                content = (await self.client.post(f"{path}/answers/0/retrieve", body)).json()
                self.assertEqual(len(target.stored), 3)
                self.assertEqual(
                    (content["TargetAet"], content["RemoteAet"], content["LocalAet"], content["Description"]),
                    ("SINK", "ORTHANC", "ORTHANC", "REST API"),
                )
                query = {"0008,0050": "ACC-1", "0008,0052": "STUDY", "0010,0020": "P1", "0020,000d": "1.2.1"}
                self.assertEqual(content["Query"], [query])
            both = await self.query("Study", {"PatientID": "P*"})
            target.stored.clear()
            self.assertEqual((await self.client.post(f"{both}/retrieve", "SINK")).status, 200)
            self.assertEqual(len(target.stored), 4)
            answer = await self.client.post(
                f"{both}/retrieve", {"TargetAet": "SINK", "Asynchronous": True, "UserData": "u", "Priority": 2}
            )
            await self.until(lambda: len(target.stored) == 8)
            job = await self.client.json(answer.json()["Path"])
            self.assertEqual((job["Type"], job["UserData"], job["Priority"]), ("DicomMoveScu", "u", 2))
        self.assertEqual((await self.client.post(f"{path}/retrieve")).json()["TargetAet"], "ORTHANC")

    async def test_format_of_the_job(self) -> None:
        """``Simplify``, ``Short`` and ``Full`` say how the job shows what it has asked for."""
        path = await self.query("Series", {"PatientID": "P2"})
        for name, key in (("Simplify", "SeriesInstanceUID"), ("Short", "0020,000e"), ("Full", "0020,000e")):
            content = (await self.client.post(f"{path}/retrieve", {name: True})).json()
            (query,) = content["Query"]
            shown = query[key]["Value"] if name == "Full" else query[key]
            self.assertEqual((shown, content["Details"][0]["Query"]), ("1.2.2.1", query))
        self.assertError(await self.client.post(f"{path}/retrieve", {"Full": 1}), 400, 15)

    async def test_retrieve_by_get(self) -> None:
        """``RetrieveMethod`` of the request, of the modality, or the default says whether it is a C-GET."""
        await self.client.ask("PUT", "/modalities/orthanc", ["ORTHANC", "127.0.0.1", self.dicom_port])
        path = await self.query("Study", {"PatientID": "P1"})
        content = (await self.client.post(f"{path}/retrieve", {"RetrieveMethod": "C-GET"})).json()
        self.assertNotIn("TargetAet", content)
        self.assertEqual(len(content["Details"][0]["ReceivedInstancesIds"]), 3)
        await self.know(self.dicom_port, "ORTHANC", RetrieveMethod="C-GET")
        self.assertNotIn("TargetAet", (await self.client.post(f"{path}/retrieve")).json())
        moved = (await self.client.post(f"{path}/retrieve", {"RetrieveMethod": "C-MOVE"})).json()
        self.assertIn("TargetAet", moved)
        jobs = {job["Type"] for job in await self.client.json("/jobs", expand="")}
        self.assertEqual(jobs, {"DicomGetScu", "DicomMoveScu"})

    async def test_failed_retrieval(self) -> None:
        """A retrieval that fails tells of the peer's status for each query; a permissive one goes on."""
        path = await self.query("Study", {"PatientID": "P*"})
        answer = await self.client.post(f"{path}/retrieve", "NOBODY")
        payload = self.assertError(answer, 500, 9)["ErrorPayload"]
        self.assertEqual((payload["Type"], len(payload["Content"])), ("RetrieveJob", 1))
        self.assertEqual(payload["Content"][0]["DimseErrorStatus"], 0xA801)
        self.assertEqual(payload["Content"][0]["ReceivedInstancesIds"], [])
        answer = await self.client.post(f"{path}/retrieve", {"TargetAet": "NOBODY", "Permissive": True})
        self.assertEqual([item["DimseErrorStatus"] for item in answer.json()["Details"]], [0xA801] * 2)

    async def test_size(self) -> None:
        """``QueryRetrieveSize`` queries are kept, those that were used last."""
        await self.restart(QueryRetrieveSize=2)
        await self.know(self.dicom_port, "ORTHANC")
        first, second = await self.query("Study", {}), await self.query("Patient", {})
        await self.client.json(f"{first}/answers")
        third = await self.query("Series", {})
        kept = [f"/queries/{name}" for name in await self.client.json("/queries")]
        self.assertEqual(kept, sorted((first, third)))
        self.assertError(await self.client.get(f"{second}/level"), 404, 17)

    async def test_deprecated_routes(self) -> None:
        """The older routes answer the tags that are usual at a level, or nothing without the keys that they need."""
        found = (await self.client.post("/modalities/orthanc/find-patient", {"PatientID": "P1"})).json()
        self.assertEqual((found[0]["PatientName"], found[0]["PatientBirthDate"]), ("DOE^JOHN", "19700101"))
        study = {"PatientID": "P1"}
        for body in (study, {"AccessionNumber": "ACC-1"}):
            found = (await self.client.post("/modalities/orthanc/find-study", body)).json()
            self.assertEqual([item["StudyDescription"] for item in found], ["HEAD"])
        series = {**study, "StudyInstanceUID": "1.2.1"}
        found = (await self.client.post("/modalities/orthanc/find-series", series)).json()
        self.assertEqual(sorted(item["Modality"] for item in found), ["CT", "MR"])
        instance = {**series, "SeriesInstanceUID": "1.2.1.1"}
        found = (await self.client.post("/modalities/orthanc/find-instance", instance)).json()
        self.assertEqual(sorted(item["InstanceNumber"] for item in found), ["1", "2"])
        for route, body in (
            ("study", {}),
            ("study", {"PatientID": "P*"}),
            ("series", study),
            ("series", {**study, "StudyInstanceUID": "1.2.?"}),
            ("instance", series),
        ):
            self.assertEmpty(await self.client.post(f"/modalities/orthanc/find-{route}", body), 400)
        (patient,) = (await self.client.post("/modalities/orthanc/find", {"PatientID": "P1"})).json()
        self.assertEqual(patient["PatientName"], "DOE^JOHN")
        (inner,) = patient["Studies"]
        self.assertEqual(inner["StudyInstanceUID"], "1.2.1")
        self.assertEqual(sorted(item["SeriesInstanceUID"] for item in inner["Series"]), ["1.2.1.1", "1.2.1.2"])


class SentTest(RetrieveCase):
    """What goes over the wire."""

    async def ask(self, asked: list[Dataset], level: str, query: object, **fields: Any) -> dict[str, str]:
        asked.clear()
        answer = await self.client.post("/modalities/sink/query", {"Level": level, "Query": query, **fields})
        self.assertEqual(answer.status, 200, answer.text)
        (query,) = asked
        return sent(query)

    async def test_normalisation(self) -> None:
        """Tags of lower levels are left out unless ``Normalize`` is false; the unique keys are always asked for."""
        with archive() as (port, asked):
            await self.know(port)
            unique = {"PatientID": "", "AccessionNumber": "", "StudyInstanceUID": ""}
            query = {"StudyDate": "20240101-", "Modality": "CT", "QueryRetrieveLevel": "WARD"}
            self.assertEqual(await self.ask(asked, "Study", query), {**unique, "StudyDate": "20240101-"})
            self.assertEqual(asked[0].QueryRetrieveLevel, "STUDY")
            kept = await self.ask(asked, "Study", query, Normalize=False)
            self.assertEqual(kept, {**unique, "StudyDate": "20240101-", "Modality": "CT"})
            self.assertEqual(await self.ask(asked, "Patient", {}), {"PatientID": ""})
            instance = {**unique, "SeriesInstanceUID": "", "SOPInstanceUID": ""}
            self.assertEqual(await self.ask(asked, "Instance", {}), instance)
            self.assertEqual(asked[0].QueryRetrieveLevel, "IMAGE")

    async def test_manufacturers(self) -> None:
        """Manufacturers' dislikes are respected."""
        query = {"StudyDate": "*", "PatientName": "*", "AccessionNumber": "A*"}
        with archive() as (port, asked):
            for manufacturer, date, name, uid in (
                ("Generic", "*", "*", ""),
                ("GenericNoWildcardInDates", "", "*", ""),
                ("GenericNoUniversalWildcard", "", "", ""),
                ("GE", "*", "*", "*"),
            ):
                await self.know(port, Manufacturer=manufacturer)
                found = await self.ask(asked, "Study", query)
                got = (found["StudyDate"], found["PatientName"], found["StudyInstanceUID"])
                self.assertEqual(got, (date, name, uid), manufacturer)
                self.assertEqual(found["AccessionNumber"], "A*")

    async def test_sequences(self) -> None:
        """Items of sequences are sent, and shown in answers."""
        item = Dataset()
        item.CodeValue = "1"
        answer = Dataset()
        answer.StudyInstanceUID = "1.2.9"
        answer.ProcedureCodeSequence = pydicom.Sequence([item])
        with archive(answer) as (port, asked):
            await self.know(port)
            query = {"ProcedureCodeSequence": [{"CodeValue": "1", "CodeMeaning": ""}]}
            await self.ask(asked, "Study", query)
            self.assertEqual(sent(asked[0].ProcedureCodeSequence[0]), {"CodeValue": "1", "CodeMeaning": ""})
            (name,) = await self.client.json("/queries")
            (found,) = await self.client.json(f"/queries/{name}/answers", expand="", simplify="")
            self.assertEqual(found["ProcedureCodeSequence"], [{"CodeValue": "1"}])
            shown = await self.client.json(f"/queries/{name}/query", simplify="")
            self.assertEqual(shown, query)

    async def test_vitrea(self) -> None:
        """A tag that Vitrea sends and nobody has is ignored when it comes from there, else answered."""
        await self.fill()
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        query.StudyInstanceUID = ""
        query.add_new(0x56530010, "LO", "Vital Images SW 3.4")
        for manufacturer, calling, answered in (("Vitrea", "VITREA", False), ("Generic", "GENERIC", True)):
            await self.know(104, calling, Manufacturer=manufacturer)
            (found,) = await self.find(query, calling=calling)
            self.assertEqual((found.status, len(found.answers)), (0, 2))
            self.assertEqual([0x56530010 in answer for answer in found.answers], [answered] * 2)
