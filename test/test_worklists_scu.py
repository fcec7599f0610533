"""Worklists between servers: ``/modalities/{id}/find-worklist`` asks DCMTK's and ours, the real Orthanc asks ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from test.dicom_peers import in_thread
from test.rest_samples import RestCase
from test.scu_case import program
from test.servers import ORTHANC, ServerProcess, free_port
from test.worklist_case import JAPANESE, JAPANESE_SETS, POLISH, WorklistCase, step, worklist

_STEP = {"Modality": "", "ScheduledStationAETitle": "STATION2"}
_QUERY = {"PatientName": "", "PatientID": "", "ScheduledProcedureStepSequence": [_STEP]}


class WlmscpfsTests(RestCase):
    """DCMTK's server of worklists is asked."""

    async def test_names(self) -> None:
        """Names in Latin-2 and Japanese arrive, steps with them."""
        lists = Path(self.mktemp()).absolute()
        (lists / "WLM").mkdir(parents=True)
        (lists / "WLM" / "lockfile").touch()
        for name, sets in ((POLISH, "ISO_IR 101"), (JAPANESE, JAPANESE_SETS)):
            file = worklist(step(ScheduledStationAETitle="STATION2"), PatientName=name, SpecificCharacterSet=sets)
            (lists / "WLM" / f"{len(name)}.wl").write_bytes(file)
        (lists / "WLM" / "other.wl").write_bytes(worklist())
        port = free_port()
        with program(port, "/usr/bin/wlmscpfs", "-dfr", "-csk", "-dfp", str(lists), str(port), cwd=lists):
            await self.client.ask("PUT", "/modalities/wlm", ["WLM", "127.0.0.1", port])
            answer = await self.client.post("/modalities/wlm/find-worklist", _QUERY)
            self.assertEqual(answer.status, 200, answer.text)
            found = {item["PatientName"]: item["ScheduledProcedureStepSequence"] for item in answer.json()}
            self.assertEqual(found, {name: [{**_STEP, "Modality": "MR"}] for name in (POLISH, JAPANESE)})


class OwnTests(WorklistCase):
    """The server asks itself."""

    async def setUp(self) -> None:
        await super().setUp()
        self.put("P1", step(ScheduledStationAETitle="STATION2"), PatientName=JAPANESE)
        self.put("P2")
        await self.client.ask("PUT", "/modalities/self", ["ORTHANC", "127.0.0.1", self.dicom_port])

    async def found(self, body: object) -> Any:
        answer = await self.client.post("/modalities/self/find-worklist", body)
        self.assertEqual((answer.status, answer.headers["content-type"].partition(";")[0]), (200, "application/json"))
        return answer.json()

    async def test_forms(self) -> None:
        """Answers are simplified, short or full; the query stands alone or in a field."""
        sequence = "ScheduledProcedureStepSequence"
        expected = {"PatientName": JAPANESE, "PatientID": "P1", sequence: [{**_STEP, "Modality": "MR"}]}
        for body in (_QUERY, {"Query": _QUERY}, {"Query": _QUERY, "Short": False, "Full": False}):
            (found,) = await self.found(body)
            self.assertEqual({key: value for key, value in found.items() if key != "SpecificCharacterSet"}, expected)
        (found,) = await self.found({"Query": _QUERY, "Short": True})
        self.assertEqual((found["0010,0020"], found["0040,0100"][0]["0008,0060"]), ("P1", "MR"))
        (found,) = await self.found({"Query": _QUERY, "Full": True})
        self.assertEqual(found["0010,0020"], {"Name": "PatientID", "Type": "String", "Value": "P1"})
        self.assertEqual(len(await self.found({"0010,0020": ""})), 2)
        self.assertEqual(len(await self.found({"PatientID": "P1\\P2", "ScheduledProcedureStepSequence": []})), 2)
        self.assertEqual(await self.found({"PatientID": "P3"}), [])

    async def test_bad_bodies(self) -> None:
        """What is no query is refused with the statuses of the original, but 400 where that has 500."""
        cases: tuple[tuple[object, int], ...] = (
            ("nonsense", 15),
            (b"", 15),
            ([], 15),
            ({"Query": []}, 5),
            ({"Query": {}, "Full": "yes"}, 15),
            ({"PatientID": 5}, 5),
            ({"ScheduledProcedureStepSequence": "x"}, 15),
            ({"ScheduledProcedureStepSequence": {"Modality": ""}}, 5),
            ({"NoSuchTag": ""}, 27),
            ({"Short": True}, 27),
        )
        for body, code in cases:
            self.assertError(await self.client.post("/modalities/self/find-worklist", body), 400, code)
        self.assertError(await self.client.post("/modalities/nobody/find-worklist", {}), 404, 7)

    async def test_failure(self) -> None:
        """What the other server refuses is told, with its status."""
        body = {"ScheduledProcedureStepSequence": [{"ScheduledProcedureStepStartDate": "2024*"}]}
        answer = await self.client.post("/modalities/self/find-worklist", body)
        self.assertEqual(answer.json()["OrthancStatus"], 9)
        self.assertIn("0xc000", answer.text.lower())

    async def test_orthanc(self) -> None:
        """The real Orthanc finds the same as we do."""
        theirs = ServerProcess(
            self.work / "orthanc",
            ORTHANC,
            {"DicomModalities": {"ours": ["ORTHANC", "127.0.0.1", self.dicom_port]}, "DefaultEncoding": "Utf8"},
        )
        theirs.start()
        try:
            for form in ({}, {"Short": True}, {"Full": True}):
                body = {"Query": {**_QUERY, "SpecificCharacterSet": "ISO_IR 192"}, **form}
                answer = await in_thread(theirs.request, "POST", "/modalities/ours/find-worklist", json.dumps(body))
                self.assertEqual(answer.status, 200, answer.body)
                self.assertIn(JAPANESE, str(answer.json()))
                await self.client.ask("PUT", "/tools/default-encoding", "Utf8")
                self.assertEqual(answer.json(), await self.found(body))
        finally:
            theirs.stop()
