"""C-FIND SCP of modality worklists with real peers: what matches, what is answered, who may ask."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import ClassVar, Final

from pydicom.dataset import Dataset
from twisted.logger import capturedLogs, formatEvent

from orthanctw.dicom import dimse
from orthanctw.dicom.uids import WORKLIST_FIND
from orthanctw.dicom.upper.pdus import ProposedContext
from test.dicom_files import element
from test.dicom_peers import EXPLICIT, IMPLICIT, VERIFICATION, in_thread, run
from test.dicom_queries import AskingPeer, cancel, request
from test.rest_samples import item
from test.worklist_case import JAPANESE, JAPANESE_SETS, POLISH, WorklistCase, asked, step, worklist

_CONTEXT: Final = 3
_CONTEXTS: Final = (
    ProposedContext(1, VERIFICATION, (IMPLICIT,)),
    ProposedContext(_CONTEXT, WORKLIST_FIND, (EXPLICIT,)),
)
#: A worklist as people write it for DCMTK's programs.
_DUMP: Final = """\
(0008,0005) CS [ISO_IR 100]
(0010,0010) PN [VIVALDI^ANTONIO]
(0010,0020) LO [AV35674]
(0020,000d) UI [1.2.276.0.7230010.3.2.101]
(0040,0100) SQ
(fffe,e000) -
(0008,0060) CS [MR]
(0040,0001) AE [AA32\\AA33]
(0040,0002) DA [19951015]
(0040,0003) TM [085607]
(fffe,e00d) -
(fffe,e0dd) -
"""


class MatchingTests(WorklistCase):
    """What matches, and what is answered."""

    async def test_steps(self) -> None:
        """One step must fulfil all that is asked of steps; only such steps are told, with the keys that they have."""
        later = step(ScheduledStationAETitle="STATION2", ScheduledProcedureStepStartDate="20240201")
        self.put("P1", step(ScheduledProcedureStepDescription="HEAD"), later, AccessionNumber="A1")
        crossed = {"ScheduledStationAETitle": "STATION1", "ScheduledProcedureStepStartDate": "20240201"}
        self.assertEqual(await self.patients(asked(crossed)), [])
        of_step = {"ScheduledStationAETitle": "STATION1", "ScheduledProcedureStepDescription": "", "Modality": ""}
        identifier = asked({**of_step, "ScheduledProcedureStepLocation": ""}, AccessionNumber="", Allergies="")
        (answer,) = (await self.ask(identifier)).answers
        told_keys = ["AccessionNumber", "PatientID", "ScheduledProcedureStepSequence", "SpecificCharacterSet"]
        self.assertEqual(answer.dir(), told_keys)
        (told,) = answer.ScheduledProcedureStepSequence
        self.assertEqual(told.dir(), ["Modality", "ScheduledProcedureStepDescription", "ScheduledStationAETitle"])
        self.assertEqual(told.ScheduledProcedureStepDescription, "HEAD")

    async def test_whole_steps(self) -> None:
        """A sequence without keys is answered with all that its items have."""
        self.put("P1", step(), step(Modality="CT"))
        for sequence in ([], [Dataset()]):
            identifier = asked()
            identifier.ScheduledProcedureStepSequence = sequence
            (answer,) = (await self.ask(identifier)).answers
            self.assertEqual([told.Modality for told in answer.ScheduledProcedureStepSequence], ["MR", "CT"])
            self.assertIn("ScheduledStationAETitle", answer.ScheduledProcedureStepSequence[1])

    async def test_kinds_of_matching(self) -> None:
        """Single values, lists, wildcards, ranges, universal matching, nested sequences (PS3.4 section C.2.2.2)."""
        code = item(CodeValue="HEAD-CT", CodingSchemeDesignator="99X")
        self.put("P1", step(), StudyInstanceUID="1.2.1")
        second = step(ScheduledStationAETitle="STATION2", ScheduledProcedureStepStartDate="20240120", Modality="CT")
        self.put("P2", second)
        third = step(ScheduledStationAETitle="", ScheduledProtocolCodeSequence=[code])
        self.put("P3", third, PatientName="MÜLLER^ANNA")
        self.put("P4", step(ScheduledStationAETitle=["STATION8", "STATION9"], ScheduledProcedureStepStartTime="1015"))
        all_of_them = ["P1", "P2", "P3", "P4"]
        cases: list[tuple[list[str], Mapping[str, object] | None, Mapping[str, object]]] = [
            (all_of_them, None, {}),
            (all_of_them, {"ScheduledStationAETitle": "*"}, {"PatientName": "*"}),
            (all_of_them, None, {"QueryRetrieveLevel": "STUDY"}),
            (["P2"], None, {"PatientID": "P2"}),
            (["P1", "P2"], None, {"PatientID": ["P1", "P2"]}),
            (["P1"], None, {"StudyInstanceUID": ["1.2.1", "1.2.9"]}),
            (["P1", "P2", "P4"], None, {"PatientName": "doe^j?hn"}),
            (["P3"], None, {"PatientName": "müller^anna"}),
            (["P1", "P2"], {"ScheduledStationAETitle": "STATION?"}, {"PatientID": ["P1", "P2", "P3"]}),
            ([], {"ScheduledStationAETitle": "station1"}, {}),
            (["P4"], {"ScheduledStationAETitle": "STATION9"}, {}),
            (["P2"], {"ScheduledProcedureStepStartDate": "20240116-20240125", "Modality": "CT"}, {}),
            (["P1", "P3", "P4"], {"ScheduledProcedureStepStartDate": "-20240115"}, {}),
            (["P2"], {"ScheduledProcedureStepStartDate": "20240116-"}, {}),
            (["P4"], {"ScheduledProcedureStepStartTime": "1000-1100"}, {}),
            (["P3"], {"ScheduledProtocolCodeSequence": [item(CodeValue="HEAD*")]}, {}),
            ([], {"ScheduledProtocolCodeSequence": [item(CodeValue="HEAD", CodingSchemeDesignator="")]}, {}),
            ([], {"ScheduledProcedureStepDescription": "HEAD"}, {}),
        ]
        for expected, of_step, values in cases:
            self.assertEqual(await self.patients(asked(of_step, **values)), expected, (of_step, values))

    async def test_names_in_case(self) -> None:
        """With ``CaseSensitivePN`` the case of names matters, too."""
        self.put("P1")
        await self.restart(CaseSensitivePN=True)
        self.assertEqual(await self.patients(asked(PatientName="doe*")), [])
        self.assertEqual(await self.patients(asked(PatientName="DOE*")), ["P1"])

    async def test_character_sets(self) -> None:
        """Questions and files in different character sets meet; answers are in the asker's, else in one that can."""
        self.put("JP", PatientName=JAPANESE, SpecificCharacterSet=JAPANESE_SETS)
        self.put("PL", PatientName=POLISH, SpecificCharacterSet="ISO_IR 101")
        cases = (
            ("ISO_IR 101", "WAŁ*", POLISH, "ISO_IR 101"),
            ("ISO_IR 192", "WAŁ*", POLISH, "ISO_IR 192"),
            ("ISO_IR 100", "WA*", POLISH, "ISO_IR 192"),
            ("ISO_IR 192", "*山田*", JAPANESE, "ISO_IR 192"),
            (JAPANESE_SETS, "*山田*", JAPANESE, JAPANESE_SETS),
            ("ISO_IR 100", "Yamada*", JAPANESE, "ISO_IR 192"),
        )
        for character_set, name, expected, answered in cases:
            found = await self.ask(asked(SpecificCharacterSet=character_set, PatientName=name))
            self.assertEqual(found.values("PatientName"), [expected], character_set)
            self.assertEqual(found.answers[0].SpecificCharacterSet, answered)

    async def test_default_encoding(self) -> None:
        """A file that names no character set is read in ``DefaultEncoding``, also when that changes."""
        file = worklist(PatientName="X").replace(b"ISO_IR 192", b" " * 10).replace(b"X ", b"\xa3 ")
        (self.lists / "P1.wl").write_bytes(file)
        for encoding, name in (("Latin1", "£"), ("Latin2", "Ł")):
            await self.client.ask("PUT", "/tools/default-encoding", encoding)
            found = await self.ask(asked(SpecificCharacterSet="ISO_IR 192", PatientName=""))
            self.assertEqual(found.values("PatientName"), [name])

    async def test_dcmtk(self) -> None:
        """``findscu -W`` finds a file of ``dump2dcm``."""
        dump = self.work / "vivaldi.dump"
        dump.write_text(_DUMP)
        ran = await run("dump2dcm", str(dump), str(self.lists / "vivaldi.wl"))
        self.assertEqual(ran.status, 0, ran.output)
        path = "ScheduledProcedureStepSequence[0]."
        keys = ("-k", "PatientName=viv*", "-k", f"{path}ScheduledStationAETitle=AA33", "-k", f"{path}Modality")
        (answer,) = await self.findscu("-W", *keys)
        self.assertEqual(answer.PatientName, "VIVALDI^ANTONIO")
        self.assertEqual(answer.ScheduledProcedureStepSequence[0].Modality, "MR")
        self.assertEqual(await self.findscu("-W", "-k", "PatientName=bach*"), [])


class OptionTests(WorklistCase):
    """Options of the section, and who may ask."""

    SETTINGS: ClassVar[Mapping[str, object]] = {**WorklistCase.SETTINGS, "DicomAlwaysAllowFind": True}

    async def test_limit(self) -> None:
        """``LimitAnswers`` cuts the answers, and the last response tells it; as many as that are all."""
        for name in ("P1", "P2", "P3"):
            self.put(name)
        await self.restart(Worklists={"LimitAnswers": 2})
        found = await self.ask(asked())
        self.assertEqual(found.values("PatientID"), ["P1", "P2"])
        self.assertEqual((found.status, found.comment), (dimse.CANCELLED, "Not all matches are told"))
        self.assertEqual(await self.patients(asked(PatientID=["P1", "P3"])), ["P1", "P3"])

    async def test_filter_issuer(self) -> None:
        """With ``FilterIssuerAet`` who names no station finds its own steps, and others only by their names."""
        self.put("P1", step(), step(ScheduledStationAETitle="STATION2"))
        self.put("P2", step(ScheduledStationAETitle="STATION2"))
        self.assertEqual(await self.patients(asked({"Modality": ""}), "STATION1"), ["P1", "P2"])
        await self.restart(Worklists={"FilterIssuerAet": True})
        empty = asked()
        empty.ScheduledProcedureStepSequence = []
        mine = (asked(), empty, asked({}), asked({"Modality": ""}))
        for identifier in (*mine, asked({"ScheduledStationAETitle": ""}), asked({"ScheduledStationAETitle": "*"})):
            self.assertEqual(await self.patients(identifier, "STATION1"), ["P1"], identifier)
        self.assertEqual(await self.patients(asked({"ScheduledStationAETitle": "STATION2"}), "STATION1"), ["P1", "P2"])
        (answer,) = (await self.ask(asked({"Modality": ""}), "STATION1")).answers
        self.assertEqual([told.dir() for told in answer.ScheduledProcedureStepSequence], [["Modality"]])

    async def test_log(self) -> None:
        """``LogMatchedWorklistIds`` names what a query has found, and nothing of what it holds."""
        for name in ("one", "two"):
            self.put(name, PatientID="SECRET")
        for options, expected in (({}, []), ({"LogMatchedWorklistIds": True}, ["Worklists for CT1: one, two"])):
            await self.restart(Worklists=options)
            with capturedLogs() as events:
                await self.ask(asked(), "CT1")
            told = [formatEvent(event) for event in events]
            self.assertEqual([line for line in told if line.startswith("Worklists for")], expected)
            self.assertNotIn("SECRET", "".join(told))

    async def test_switched_off(self) -> None:
        """Without ``Enable`` the SOP class is not accepted, and there are no routes."""
        await self.restart(Worklists={"Enable": False})
        with self.assertRaises(AssertionError):
            await self.ask(asked())
        self.assertEqual((await self.client.get("/worklists")).status, 404)

    async def test_permissions(self) -> None:
        """Who is not known, or may not, is told that it may not; queries of studies are another matter."""
        self.put("P1")
        refused = (dimse.NOT_AUTHORIZED, "FindWorklist is not allowed")
        known = {"AET": "KNOWN", "Host": "127.0.0.1", "Port": 104}
        options = {
            "known": known,
            "refused": {**known, "AET": "REFUSED", "AllowFindWorklist": False},
            "elsewhere": {**known, "AET": "ELSEWHERE", "Host": "192.0.2.1"},
        }
        await self.restart(DicomAlwaysAllowFindWorklist=False, DicomModalities=options)
        for title in ("KNOWN", "ELSEWHERE"):
            self.assertEqual(await self.patients(asked(), title), ["P1"])
        for title in ("REFUSED", "UNKNOWN"):
            found = await self.ask(asked(), title)
            self.assertEqual((found.status, found.comment, found.answers), (*refused, []))
        await self.restart(DicomAlwaysAllowFindWorklist=False, DicomModalities=options, DicomCheckModalityHost=True)
        self.assertEqual(await self.patients(asked(), "KNOWN"), ["P1"])
        self.assertEqual((await self.ask(asked(), "ELSEWHERE")).comment, refused[1])
        await self.restart(DicomAlwaysAllowFindWorklist=True, DicomModalities=options)
        for title in ("REFUSED", "UNKNOWN"):
            self.assertEqual(await self.patients(asked(), title), ["P1"])


class FailureTests(WorklistCase):
    """Queries that fail, and peers that behave badly."""

    async def test_failures(self) -> None:
        """What cannot be done is told by a status and a comment; the next query finds all."""
        self.put("P1")
        found = await self.ask(asked({"ScheduledProcedureStepStartDate": "2024*"}))
        self.assertEqual((found.status, found.comment), (0xC000, "Wildcards are not possible in this tag"))
        shutil.move(self.lists, self.work / "away")
        found = await self.ask(asked())
        self.assertEqual((found.status, found.comment), (0xC000, "The folder of worklists cannot be read"))
        shutil.move(self.work / "away", self.lists)
        self.assertEqual(await self.patients(asked()), ["P1"])

    async def test_nonsense(self) -> None:
        """An identifier that is none, none at all, and another request in this context are answered."""

        def ask() -> list[int]:
            with AskingPeer(self.dicom_port, contexts=_CONTEXTS) as peer:
                found = []
                for data, field in ((b"\xff" * 40, dimse.C_FIND_RQ), (None, dimse.C_FIND_RQ), (b"", dimse.C_MOVE_RQ)):
                    peer.send(request(_CONTEXT, data, sop_class=WORKLIST_FIND, field=field))
                    found.append(peer.final().number(dimse.STATUS))
                peer.release()
                return found

        self.assertEqual(await in_thread(ask), [0xA900, 0xA900, dimse.UNRECOGNIZED_OPERATION])

    async def test_cancel(self) -> None:
        """A C-CANCEL ends the answers before all are told; the association goes on."""
        for number in range(400):
            self.put(f"{number:03}", PatientComments="x" * 30_000)
        identifier = element(0x00100020, "LO", "") + element(0x00104000, "LT", "")

        def ask() -> tuple[list[int], int]:
            with AskingPeer(self.dicom_port, contexts=_CONTEXTS, reads_little=True) as peer:
                peer.send(request(_CONTEXT, identifier, 7, sop_class=WORKLIST_FIND))
                first, _ = peer.message()
                peer.send(cancel(_CONTEXT, 7))
                statuses = [status for status, _ in peer.answers()]
                echo = peer.echo()
                peer.release()
                return [first.number(dimse.STATUS), *statuses], echo

        statuses, echo = await in_thread(ask)
        self.assertEqual((set(statuses[:-1]), statuses[-1], echo), ({dimse.PENDING}, dimse.CANCELLED, 0))
        self.assertLess(len(statuses), 400)
