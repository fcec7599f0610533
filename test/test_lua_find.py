"""Lua changes queries: those that come in, those for worklists, those that go out."""

from __future__ import annotations

from typing import ClassVar, Final

from twisted.internet.defer import Deferred, gatherResults

from test.dicom_files import element
from test.dicom_queries import FIND, QueryCase, identifier, keys, request
from test.lua_servers import LuaServerCase
from test.rest_samples import Answer
from test.servers import free_port
from test.worklist_case import WorklistCase, asked, step

#: What becomes of a query, by its PatientID.
_CHANGES: Final = """
function change(query)
  local id = query['0010,0020']
  if id == 'FAIL' then error('bang') end
  if id == 'NIL' then return nil end
  if id == 'NONE' then return end
  if id == 'TEXT' then return 'x' end
  if id == 'EVER' then while true do end end
  if id == 'EMPTY' then return {} end
  if id == 'ARRAY' then return {'a', 'b'} end
  if id == 'UNKNOWN' then query['zork'] = 'x' end
  if id == 'BOOLEAN' then query['0010,0010'] = true end
  if id == 'TABLE' then query['0010,0010'] = {1} end
  if id == 'NOLEVEL' then query['0008,0052'] = nil end
  if id == 'NUMBER' then query['0010,0020'] = '' query['0020,0011'] = 2 end
  if id == 'NAME' then query['0010,0020'] = '' query['PatientName'] = 'M*' end
  if id == 'SERIES' then query['0010,0020'] = '' query['0008,0052'] = 'SERIES' end
  if id == 'LESS' then query['0010,0020'] = nil end
  if id == 'MORE' then query['0010,0020'] = '' query['0008,0061'] = '' query['0011,0011'] = '' end
  if id == 'STEP' then query['0010,0020'] = '' query['0040,0100'][1]['0008,0060'] = 'CT' end
  if id == 'STEPS' then query['0010,0020'] = '' query['0040,0100'] = {{['0008,0060'] = 'CT'}} end
  if id == 'UTF' then query['0010,0020'] = '' query['0010,0010'] = 'MÜLLER*' query['0008,0005'] = 'ISO_IR 13' end
  return query
end
function IncomingFindRequestFilter(query, origin)
  note('find', query, origin) return change(query)
end
function IncomingWorklistRequestFilter(query, origin)
  note('worklist', query, origin)
  if origin.RemoteAet == 'CT99' then query['0040,0100'] = {{['0008,0060'] = 'CT'}} end
  return change(query)
end
function OutgoingFindRequestFilter(query, modality)
  note('outgoing', query, modality) return change(query)
end
"""
_REFUSED: Final = ("FAIL", "NIL", "NONE", "TEXT", "EMPTY", "ARRAY", "UNKNOWN", "BOOLEAN", "TABLE", "NOLEVEL")
_ORIGIN: Final = {
    "CalledAet": "ORTHANC",
    "Manufacturer": "Generic",
    "RemoteAet": "PYNETDICOM",
    "RemoteIp": "127.0.0.1",
}


class FindCase(LuaServerCase, QueryCase):
    """A server that changes queries, with the objects of `hierarchy`."""

    SETTINGS: ClassVar = {**QueryCase.SETTINGS, **LuaServerCase.SETTINGS}

    async def setUp(self) -> None:
        await super().setUp()
        await self.scripted(_CHANGES)


class IncomingTests(FindCase):
    """``IncomingFindRequestFilter``."""

    async def test_arguments(self) -> None:
        """The filter is told all keys but sequences, text in Unicode, and who asks."""
        query = keys(
            "STUDY",
            SpecificCharacterSet="ISO_IR 100",
            PatientName="MÜLLER",
            PatientID="  A B ",
            Rows=512,
            NumberOfSlices=[3, 4],
            FrameIncrementPointer=0x00181063,
            PatientWeight="70.5",
            ICCProfile=b"\1\2",
            ReferencedStudySequence=[],
        )
        query.add_new(0x00090010, "LO", "ACME")
        await self.find(query)
        ((kind, told, origin),) = await self.told()
        self.assertEqual((kind, origin), ("find", _ORIGIN))
        self.assertEqual(
            told,
            {
                "0008,0005": "ISO_IR 100",
                "0008,0052": "STUDY",
                "0009,0010": "ACME",
                "0010,0010": "MÜLLER",
                "0010,0020": "  A B",
                "0010,1030": "70.5",
                "0028,0009": "0018,1063",
                "0028,0010": "512",
                "0028,2000": "",
                "0054,0081": "3\\4",
            },
        )

    async def test_manufacturer(self) -> None:
        """That of the modality is told."""
        modality = {"AET": "GE1", "Host": "127.0.0.1", "Port": 104, "Manufacturer": "GE"}
        await self.scripted(_CHANGES, DicomModalities={"scanner": modality})
        await self.find(keys("STUDY", PatientID=""), calling="GE1")
        ((_, _, origin),) = await self.told()
        self.assertEqual((origin["RemoteAet"], origin["Manufacturer"]), ("GE1", "GE"))

    async def test_changes(self) -> None:
        """What the filter returns is asked for, and answered, in place of what came."""
        await self.fill()
        for patient, level, found in (
            ("P1", "STUDY", ["P1"]),
            ("NAME", "STUDY", ["P2"]),
            ("NUMBER", "SERIES", ["P1"]),
            ("SERIES", "STUDY", ["P1", "P1", "P2"]),
            ("MORE", "STUDY", ["P1", "P2"]),
            ("UTF", "STUDY", ["P2"]),
        ):
            answers = await self.find_one(level, PatientID=patient, PatientName="")
            self.assertEqual(answers.values("PatientID"), found, patient)
        less = await self.find_one("STUDY", PatientID="LESS", PatientName="")
        had = [("PatientID" in answer, "PatientName" in answer) for answer in less.answers]
        self.assertEqual(had, [(False, True)] * 2)
        more = await self.find_one("STUDY", PatientID="MORE")
        self.assertEqual(more.values("ModalitiesInStudy"), ["CT", "['CT', 'MR']"])
        self.assertEqual([answer[0x00110011].value in (b"", "", None) for answer in more.answers], [True, True])

    async def test_character_set(self) -> None:
        """Answers are in the character set of who asks, whatever the filter makes of it."""
        await self.fill()
        (found,) = await self.find(keys("STUDY", SpecificCharacterSet="ISO_IR 144", PatientID="UTF", PatientName=""))
        self.assertEqual(found.values("SpecificCharacterSet"), ["ISO_IR 100"])
        (found,) = await self.find(keys("STUDY", SpecificCharacterSet="ISO_IR 192", PatientID="UTF", PatientName=""))
        self.assertEqual(found.values("SpecificCharacterSet"), ["ISO_IR 192"])

    async def test_sequences_stay(self) -> None:
        """Sequences, of which the filter knows nothing, are still answered."""
        await self.fill()
        found = await self.findscu(
            *("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=NAME", "-k", "ReferencedStudySequence")
        )
        self.assertEqual([answer.PatientID for answer in found], ["P2"])
        self.assertIn("ReferencedStudySequence", found[0])

    async def test_failures(self) -> None:
        """What is no query is answered by 0xC000, as is a script that fails."""
        await self.fill()
        found = await self.find(*(keys("STUDY", PatientID=patient) for patient in _REFUSED))
        self.assertEqual([(each.status, each.answers) for each in found], [(0xC000, [])] * len(_REFUSED))
        self.assertIn("bang", found[0].comment)

    async def test_no_answer(self) -> None:
        """A filter that never ends is answered by 0xC000; the next query as ever."""
        await self.fill()
        await self.scripted(_CHANGES, Orthanctw={"LuaFilterTimeout": 1})
        ever, next_one = await self.find(keys("STUDY", PatientID="EVER"), keys("STUDY", PatientID="P1"))
        self.assertEqual((ever.status, ever.answers, next_one.values("PatientID")), (0xC000, [], ["P1"]))

    async def test_hostile_identifier(self) -> None:
        """Elements that are no keys do no harm on their way through the filter."""
        odd = element(0x00090010, "UN", b"\x00\xff"), element(0x00100020, "LO", b"\xff\\\x00\x1b$B")
        ((status, _),) = await self.raw(request(FIND, identifier("STUDY", *odd)))
        self.assertEqual(status, 0)

    async def test_two_at_once(self) -> None:
        """Each of two who ask at once gets its own answers."""
        await self.fill()
        found = await gatherResults(
            [Deferred.fromCoroutine(self.find(keys("STUDY", PatientID=patient))) for patient in ("P1", "NAME", "FAIL")]
        )
        self.assertEqual([each.values("PatientID") for (each,) in found], [["P1"], ["P2"], []])


class WorklistTests(LuaServerCase, WorklistCase):
    """``IncomingWorklistRequestFilter``."""

    SETTINGS: ClassVar = {**WorklistCase.SETTINGS, **LuaServerCase.SETTINGS}

    async def setUp(self) -> None:
        await super().setUp()
        await self.scripted(_CHANGES)
        self.put("MR1")
        self.put("CT1", step(Modality="CT"))

    async def test_arguments(self) -> None:
        """Sequences are told as tables."""
        query = asked({"Modality": "MR", "ScheduledStationAETitle": ""}, Rows=512, ReferencedStudySequence=[])
        await self.ask(query)
        told = {
            "0008,1110": [],
            "0010,0020": "",
            "0028,0010": "512",
            "0040,0100": [{"0008,0060": "MR", "0040,0001": ""}],
        }
        self.assertEqual(await self.told(), [["worklist", told, _ORIGIN]])

    async def test_changes(self) -> None:
        """A query is changed by who asks, and by what it asks for; in its items, too."""
        for calling, patient, found in (
            ("MR1", "", ["MR1"]),
            ("CT99", "", ["CT1"]),
            ("MR1", "STEP", ["CT1"]),
            ("MR1", "STEPS", ["CT1"]),
            ("MR1", "CT*", []),
        ):
            self.assertEqual(await self.patients(asked({"Modality": "MR"}, PatientID=patient), calling), found)

    async def test_findscu(self) -> None:
        """DCMTK's ``findscu -W`` is answered what the filter asks for."""
        arguments = ("-W", "-aet", "CT99", "-k", "PatientID", "-k", "(0040,0100)[0].Modality=MR")
        (answer,) = await self.findscu(*arguments)
        self.assertEqual((answer.PatientID, answer.ScheduledProcedureStepSequence[0].Modality), ("CT1", "CT"))

    async def test_failures(self) -> None:
        """What is no query is answered by 0xC000, as is a script that fails."""
        for patient in ("FAIL", "EMPTY", "TEXT", "TABLE", "UNKNOWN"):
            found = await self.ask(asked({"Modality": "MR"}, PatientID=patient))
            self.assertEqual((found.status, found.answers), (0xC000, []), patient)

    async def test_no_answer(self) -> None:
        """A filter that never ends is answered by 0xC000."""
        await self.scripted(_CHANGES, Orthanctw={"LuaFilterTimeout": 1})
        self.assertEqual((await self.ask(asked(PatientID="EVER"))).status, 0xC000)


class OutgoingTests(FindCase):
    """``OutgoingFindRequestFilter``: the server asks itself."""

    async def scripted(self, source: str, **settings: object) -> None:
        port = free_port()
        modalities = {"self": ["ORTHANC", "127.0.0.1", port]}
        await super().scripted(source, DicomPort=port, DicomModalities=modalities, **settings)

    async def query(self, patient: str, **fields: object) -> Answer:
        body = {"Level": "Study", "Query": {"PatientID": patient, "PatientName": "*"}, **fields}
        return await self.client.post("/modalities/self/query", body)

    async def test_arguments(self) -> None:
        """The filter is told what is asked for after normalisation, before what is needed is added."""
        await self.fill()
        query = {"PatientID": "P1", "PatientName": "*", "SliceThickness": "1", "ReferencedStudySequence": []}
        answer = await self.query("", Query=query)
        kept = await self.client.json(f"/queries/{answer.json()['ID']}/query", short="")
        self.assertEqual(kept["0018,0050"], "1")
        below = await self.client.post(f"/queries/{answer.json()['ID']}/answers/0/query-series", {})
        self.assertEqual(below.status, 200, below.text)
        told = [line for line in await self.told() if line[0] == "outgoing"]
        self.assertEqual(told[0], ["outgoing", {"0010,0010": "*", "0010,0020": "P1"}, "ORTHANC"])
        self.assertEqual(told[1][1]["0020,000d"], "1.2.1")

    async def test_changes(self) -> None:
        """What the filter returns is sent, with the keys that are needed, at the level that was asked for."""
        await self.scripted(_CHANGES.replace("IncomingFind", "No"))
        await self.fill()
        for patient, count in (("P1", 1), ("NAME", 1), ("EMPTY", 2), ("SERIES", 2), ("P3", 0)):
            answer = await self.query(patient)
            self.assertEqual(answer.status, 200, answer.text)
            found = await self.client.json(f"/queries/{answer.json()['ID']}/answers")
            self.assertEqual(len(found), count, patient)
        # The older routes are not asked about.
        answer = await self.client.post("/modalities/self/find-patient", {"PatientID": "P1"})
        self.assertEqual([line[1]["0010,0020"] for line in await self.told()], ["P1", "NAME", "EMPTY", "SERIES", "P3"])

    async def test_failures(self) -> None:
        """A script that fails, or is too slow, is an error of the server; nothing is asked."""
        await self.scripted(_CHANGES, Orthanctw={"LuaFilterTimeout": 1})
        for patient, code in (
            ("FAIL", 2031),
            ("NIL", 2033),
            ("TEXT", 2033),
            ("TABLE", 2033),
            ("UNKNOWN", 27),
            ("EVER", 16),
        ):
            self.assertError(await self.query(patient), 500, code)
        self.assertEqual({line[0] for line in await self.told()}, {"outgoing"})
        self.flushLoggedErrors()
