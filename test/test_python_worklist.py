"""Queries for worklists answered by a script in Python."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import pydicom

from orthanctw.dicom.uids import WORKLIST_FIND
from test.dicom_peers import EXPLICIT, IMPLICIT, in_thread
from test.dicom_queries import Found, QueryCase, keys
from test.python_case import PythonCase, example
from test.rest_samples import dicom_object
from test.worklist_case import JAPANESE, asked, step, worklist

_SCRIPT = """
import threading
kept, gate, released = [], threading.Event(), threading.Event()
read = lambda name: open(folder + '/' + name, 'rb').read()

def worklists(answers, query, issuer, called):
    kept[:] = [answers, query]
    open(folder + '/query', 'wb').write(query.WorklistGetDicomQuery())
    item = read('item')
    note(issuer, called, query.WorklistIsMatch(item), query.WorklistIsMatch(b''), query.WorklistIsMatch(b'x' * 300))
    if b'FAIL' in query.WorklistGetDicomQuery():
        1 / 0
    if b'HANG' in query.WorklistGetDicomQuery():
        gate.wait(60)
        released.set()
        return
    for bad in ((query, b''), (query, b'x' * 300), (None, item), ('x', item), (query, 5)):
        try:
            answers.WorklistAddAnswer(*bad)
        except Exception as e:
            note(type(e).__name__)
    if b'SERVER' in query.WorklistGetDicomQuery():
        note(json.loads(orthanc.RestApiPost('/instances', read('object')))['Status'])
        note(len(json.loads(orthanc.RestApiPost('/tools/find', '{"Level": "Study", "Query": {}}'))))
    answers.WorklistAddAnswer(query, item)
    if b'MORE' in query.WorklistGetDicomQuery():
        answers.WorklistMarkIncomplete()

def after():
    answers, query = kept
    codes = []
    for call in (
        query.WorklistGetDicomQuery, lambda: query.WorklistIsMatch(read('item')), answers.WorklistMarkIncomplete,
        lambda: answers.WorklistAddAnswer(query, read('item')),
    ):
        try:
            call()
        except orthanc.OrthancException as e:
            codes.append(e.args[0])
    return codes

orthanc.RegisterWorklistCallback(worklists)
"""
_VERSION_2 = """
def worklists(answers, query, connection):
    note(connection.GetConnectionRemoteAet(), connection.GetConnectionRemoteIp(), connection.GetConnectionCalledAet())

orthanc.RegisterWorklistCallback2(worklists)
"""


class WorklistTests(PythonCase, QueryCase):
    """``RegisterWorklistCallback``, where worklists are not switched on otherwise."""

    SETTINGS: ClassVar = {**QueryCase.SETTINGS, "DicomAlwaysAllowFindWorklist": True}

    async def setUp(self) -> None:
        await super().setUp()
        self.put()

    def put(self, *steps: pydicom.Dataset, **values: object) -> None:
        """The worklist that the script has."""
        (self.scripts / "item").write_bytes(worklist(*steps, **values))

    async def ask(self, identifier: pydicom.Dataset, syntaxes: Sequence[str] = (EXPLICIT,)) -> Found:
        """A query of pynetdicom."""
        (found,) = await self.find(identifier, model=WORKLIST_FIND, syntaxes=syntaxes)
        return found

    async def test_answers(self) -> None:
        """Answers have what the query asks for; the query is a DICOM file."""
        self.put(step(Modality="CT"), step(Modality="MR"), PatientWeight="70", AccessionNumber="A1")
        await self.start_scripts(_SCRIPT)
        for syntax in (IMPLICIT, EXPLICIT):
            found = await self.ask(asked({"Modality": "CT"}, PatientName="DOE*", AccessionNumber=""), (syntax,))
            (answer,) = found.answers
            self.assertEqual((found.status, answer.PatientID, str(answer.PatientName)), (0, "P1", "DOE^JOHN"))
            self.assertEqual([one.Modality for one in answer.ScheduledProcedureStepSequence], ["CT"])
            self.assertNotIn("PatientWeight", answer)
            self.assertNotIn("StudyInstanceUID", answer)
        self.assertEqual(self.noted()[0], ["PYNETDICOM", "ORTHANC", 1, 0, 0])
        self.assertEqual([name for (name,) in self.noted()[1:6]], ["OrthancException"] * 3 + ["TypeError"] * 2)
        query = pydicom.dcmread(self.scripts / "query")
        self.assertEqual((str(query.PatientName), query.AccessionNumber), ("DOE*", ""))
        self.assertEqual(query.ScheduledProcedureStepSequence[0].Modality, "CT")

    async def test_matching(self) -> None:
        """The script is told whether a worklist matches, and may answer with one that does not."""
        await self.start_scripts(_SCRIPT)
        for query, matches in (
            (asked({"Modality": "MR"}), 1),
            (asked({"Modality": "CT"}), 0),
            (asked({"ScheduledProcedureStepStartDate": "20240101-20240131"}), 1),
            (asked({}, PatientName="doe*"), 1),
            (asked({}, PatientName="X*"), 0),
        ):
            self.set_aside()
            self.assertEqual(len((await self.ask(query)).answers), 1)
            self.assertEqual(self.noted()[0][2], matches, query)

    async def test_text(self) -> None:
        """Text comes in a character set that the peer has named."""
        self.put(PatientName=JAPANESE)
        await self.start_scripts(_SCRIPT)
        query = asked(PatientName=JAPANESE, SpecificCharacterSet="ISO_IR 192")
        (answer,) = (await self.ask(query)).answers
        self.assertEqual((str(answer.PatientName), answer.SpecificCharacterSet), (JAPANESE, "ISO_IR 192"))
        self.assertEqual(self.noted()[0][2], 1)

    async def test_statuses(self) -> None:
        """Incomplete answers, a script that fails, a wildcard where none can be."""
        await self.start_scripts(_SCRIPT)
        found = await self.ask(asked(AccessionNumber="MORE"))
        self.assertEqual((found.status, len(found.answers)), (0xFE00, 1))
        found = await self.ask(asked(AccessionNumber="FAIL"))
        self.assertEqual((found.status, found.answers), (0xC000, []))
        self.set_aside()
        self.assertEqual((await self.ask(asked(StudyInstanceUID="1.2*"))).status, 0xC000)
        self.assertEqual(self.noted(), [])
        self.flushLoggedErrors(ZeroDivisionError)

    async def test_deadline(self) -> None:
        """A script that takes too long has failed."""
        await self.start_scripts(_SCRIPT, Orthanctw={"PythonFilterTimeout": 1})
        self.assertEqual((await self.ask(asked(AccessionNumber="HANG"))).status, 0xC000)
        self.assertEqual((await self.ask(asked())).status, 0)
        sys.modules["script0"].gate.set()
        await in_thread(sys.modules["script0"].released.wait)

    async def test_borrowed(self) -> None:
        """What a callback was given is of no use afterwards."""
        await self.start_scripts(_SCRIPT)
        await self.ask(asked())
        self.assertEqual(await in_thread(sys.modules["script0"].after), [35] * 4)

    async def test_server(self) -> None:
        """A script stores and finds within its callback."""
        (self.scripts / "object").write_bytes(dicom_object())
        await self.start_scripts(_SCRIPT)
        self.assertEqual((await self.ask(asked(AccessionNumber="SERVER"))).status, 0)
        self.assertEqual(self.noted()[-2:], [["Success"], [1]])

    async def test_connection(self) -> None:
        """The second form is given a connection."""
        await self.start_scripts(_VERSION_2)
        self.assertEqual((await self.ask(asked())).answers, [])
        self.assertEqual(self.noted(), [["PYNETDICOM", "127.0.0.1", "ORTHANC"]])

    async def test_dcmtk(self) -> None:
        """The example of the documentation serves a folder of files to DCMTK."""
        text = example("Worklists").replace("/var/lib/worklists", str(self.scripts))
        for name, modality in (("a", "CT"), ("b", "MR"), ("c", "CT")):
            (self.scripts / f"{name}.wl").write_bytes(worklist(step(Modality=modality), PatientID=name))
        (self.scripts / "d.txt").write_bytes(b"")
        await self.start_scripts(text)
        query = ("-W", "-k", "PatientID", "-k", "(0040,0100)[0].Modality=CT")
        self.assertEqual([one.PatientID for one in await self.findscu(*query)], ["a", "c"])

    async def test_lua(self) -> None:
        """Lua's filter comes first."""
        path = self.work / "script.lua"
        path.write_text("function IncomingWorklistRequestFilter(query) query['0010,0020'] = 'LUA' return query end")
        await self.start_scripts(_SCRIPT, LuaScripts=[str(path)])
        await self.ask(asked())
        query = pydicom.dcmread(io.BytesIO((self.scripts / "query").read_bytes()))
        self.assertEqual(query.PatientID, "LUA")

    async def test_in_place_of_the_server(self) -> None:
        """The script comes before the server's own worklists; without one these are there, or nothing is offered."""
        lists = self.work / "lists"
        lists.mkdir()
        (lists / "own.wl").write_bytes(worklist(PatientID="OWN"))
        section: dict[str, Any] = {"Worklists": {"Enable": True, "Directory": str(lists)}}
        await self.start_scripts(_SCRIPT, **section)
        self.assertEqual((await self.ask(asked())).values("PatientID"), ["P1"])
        self.script("", "script0.py")
        await self.server.python.reload()
        self.assertEqual((await self.ask(asked())).values("PatientID"), ["OWN"])
        await self.start_scripts("")
        with self.assertRaises(AssertionError):
            await self.ask(keys(""))
        self.assertEqual(await self.told_of(), 1)
        self.script(_SCRIPT, "script0.py")
        await self.server.python.reload()
        self.assertEqual((await self.ask(asked())).values("PatientID"), ["P1"])
        self.assertEqual(await self.told_of(), 2)

    async def told_of(self) -> int:
        """How often the conformance statement names worklists: as what we ask for, and as what we offer."""
        return (await self.client.get("/tools/dicom-conformance")).text.count(f"| {WORKLIST_FIND}\n")
