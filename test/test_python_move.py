"""C-MOVE carried out by a script in Python."""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet.defer import Deferred

from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import Command
from test.dicom_files import element
from test.dicom_peers import in_thread, run
from test.dicom_queries import MOVE, AskingPeer, QueryCase, cancel, identifier, request
from test.dicom_retrievals import RetrieveCase, sink
from test.python_case import PythonCase, example
from test.rest_samples import dicom_object

_FIRST = """
import threading
gate = threading.Event()

def move(**keywords):
    note(keywords)
    wanted = keywords['PatientID']
    if wanted == 'FAIL':
        1 / 0
    if wanted == 'HANG':
        gate.wait(60)
    if wanted == 'SERVER':
        stored = json.loads(orthanc.RestApiPost('/instances', open(folder + '/object', 'rb').read()))
        note(stored['Status'], len(json.loads(orthanc.RestApiPost('/tools/find', '{"Level": "Study", "Query": {}}'))))

orthanc.RegisterMoveCallback(move)
"""
_DRIVER = """
import threading
gate, freed = threading.Event(), threading.Event()

def create({first}**keywords):
    note('create', keywords{shown})
    if keywords['PatientID'] == 'NO DRIVER':
        1 / 0
    return {{'wanted': keywords['PatientID'], 'done': 0}}

def size(driver):
    note('size')
    wanted = driver['wanted']
    return {{'NONE': 0, 'TEXT': 'x', 'NEGATIVE': -1, 'TRUTH': 1 / 0 if wanted == 'RAISE' else 3}}.get(wanted, 4)

def apply(driver):
    driver['done'] += 1
    note('apply', driver['done'])
    if driver['wanted'] == 'ALL FAIL' or driver['wanted'] == 'ONE FAILS' and driver['done'] == 2:
        raise ValueError('no')
    if driver['wanted'] == 'HANG' and driver['done'] == 2:
        gate.wait(60)

def free(driver):
    note('free', driver['done'])
    freed.set()

orthanc.{register}(create, size, apply, free)
"""
SECOND = _DRIVER.format(first="", shown="", register="RegisterMoveCallback2")
THIRD = _DRIVER.format(
    first="connection, ",
    shown=", connection.GetConnectionRemoteAet(), connection.GetConnectionCalledAet()",
    register="RegisterMoveCallback3",
)


class MoveCase(PythonCase, QueryCase):
    """A server whose C-MOVE SCP is a script."""

    def move(self, patient: str, level: str = "STUDY", **values: Any) -> Deferred[list[Command]]:
        """All responses to a C-MOVE to TARGET."""

        def ask() -> list[Command]:
            with AskingPeer(self.dicom_port, calling="ASKER") as peer:
                data = identifier(level, element(0x00100020, "LO", patient))
                peer.send(request(MOVE, data, 7, destination="TARGET", **values))
                found = [peer.message()[0]]
                while found[-1].number(dimse.STATUS) == dimse.PENDING:
                    found.append(peer.message()[0])
                peer.release()
                return found

        return in_thread(ask)

    async def outcome(self, patient: str, level: str = "STUDY") -> tuple[int, int, int]:
        """Status of the final response, sub-operations completed, and failed."""
        final = (await self.move(patient, level))[-1]
        return final.number(dimse.STATUS), final.number(dimse.COMPLETED), final.number(dimse.FAILED)

    def kinds(self) -> list[str]:
        """Which callbacks have run."""
        return [values[0] for values in self.noted()]

    async def freed(self) -> None:
        """Wait until the driver was let go."""
        await in_thread(sys.modules["script0"].freed.wait)


class FirstTests(MoveCase):
    """``RegisterMoveCallback``."""

    async def test_keywords(self) -> None:
        """One sub-operation; all keywords are there, those without a value empty."""
        await self.start_scripts(_FIRST)
        (pending, final) = await self.move("A", "IMAGE")
        self.assertEqual(pending.number(dimse.STATUS), dimse.PENDING)
        self.assertEqual([final.number(each) for each in (dimse.STATUS, dimse.COMPLETED, dimse.FAILED)], [0, 1, 0])
        ((keywords,),) = self.noted()
        self.assertEqual(
            keywords,
            {
                "Level": "INSTANCE",
                "PatientID": "A",
                "AccessionNumber": "",
                "StudyInstanceUID": "",
                "SeriesInstanceUID": "",
                "SOPInstanceUID": "",
                "OriginatorAET": "ASKER",
                "SourceAET": "ORTHANC",
                "TargetAET": "TARGET",
                "OriginatorID": 7,
            },
        )

    async def test_levels(self) -> None:
        """Levels have the names of scripts; without one that is known nobody is asked."""
        await self.start_scripts(_FIRST)
        for level in ("PATIENT", "STUDY", "SERIES", "INSTANCE"):
            self.assertEqual(await self.outcome("A", level), (0, 1, 0))
        self.assertEqual([values[0]["Level"] for values in self.noted()], ["PATIENT", "STUDY", "SERIES", "INSTANCE"])
        for level in ("", "FRAME"):
            self.assertEqual(await self.outcome("A", level), (0xC000, 0, 0))

    async def test_failure(self) -> None:
        """An exception is a sub-operation that has failed."""
        await self.start_scripts(_FIRST)
        self.assertEqual(await self.outcome("FAIL"), (0xB000, 0, 1))
        self.flushLoggedErrors(ZeroDivisionError)

    async def test_server(self) -> None:
        """A script stores and finds within its callback."""
        (self.scripts / "object").write_bytes(dicom_object())
        await self.start_scripts(_FIRST)
        self.assertEqual(await self.outcome("SERVER"), (0, 1, 0))
        self.assertEqual(self.noted()[1], ["Success", 1])

    async def test_no_deadline(self) -> None:
        """All of a C-MOVE may take longer than a decision; others are served meanwhile."""
        await self.start_scripts(_FIRST, Orthanctw={"PythonFilterTimeout": 1})
        waiting = self.move("HANG")
        await self.until(self.noted)
        self.assertEqual(await self.outcome("A"), (0, 1, 0))
        sys.modules["script0"].gate.set()
        self.assertEqual((await waiting)[-1].number(dimse.STATUS), 0)

    async def test_dcmtk(self) -> None:
        """DCMTK's ``movescu``."""
        await self.start_scripts(_FIRST)
        query = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.1")
        port = str(self.dicom_port)
        ran = await run("movescu", "-v", "-S", "-aec", "ORTHANC", "-aem", "OTHER", "127.0.0.1", port, *query)
        self.assertIn("Received Final Move Response (Success)", ran.output)
        ((keywords,),) = self.noted()
        self.assertEqual((keywords["StudyInstanceUID"], keywords["TargetAET"]), ("1.2.1", "OTHER"))


class DriverTests(MoveCase):
    """``RegisterMoveCallback2`` and 3."""

    async def test_order(self) -> None:
        """The driver is made, asked, used and let go; each sub-operation is told."""
        await self.start_scripts(SECOND)
        responses = await self.move("A")
        self.assertEqual([one.number(dimse.STATUS) for one in responses], [dimse.PENDING] * 4 + [0])
        self.assertEqual([one.number(dimse.REMAINING) for one in responses[:4]], [3, 2, 1, 0])
        self.assertEqual(responses[-1].number(dimse.COMPLETED), 4)
        await self.freed()
        self.assertEqual(self.kinds(), ["create", "size", *["apply"] * 4, "free"])
        self.assertEqual(self.noted()[0][1]["OriginatorAET"], "ASKER")

    async def test_connection(self) -> None:
        """The third form has a connection, and two keywords less."""
        await self.start_scripts(THIRD)
        self.assertEqual(await self.outcome("A"), (0, 4, 0))
        _, keywords, *titles = self.noted()[0]
        self.assertEqual(titles, ["ASKER", "ORTHANC"])
        names = "Level PatientID AccessionNumber StudyInstanceUID SeriesInstanceUID SOPInstanceUID "
        self.assertEqual(list(keywords), [*names.split(), "TargetAET", "OriginatorID"])
        await self.freed()

    async def test_failures(self) -> None:
        """Sub-operations that raise have failed; whatever happens, a driver that was made is let go."""
        for patient, outcome, kinds in (
            ("ONE FAILS", (0xB000, 3, 1), ["create", "size", *["apply"] * 4, "free"]),
            ("ALL FAIL", (0xB000, 0, 4), ["create", "size", *["apply"] * 4, "free"]),
            ("NONE", (0, 0, 0), ["create", "size", "free"]),
            ("RAISE", (0xC000, 0, 0), ["create", "size", "free"]),
            ("TEXT", (0xC000, 0, 0), ["create", "size", "free"]),
            ("NEGATIVE", (0xC000, 0, 0), ["create", "size", "free"]),
        ):
            self.set_aside()
            await self.start_scripts(SECOND)
            self.assertEqual(await self.outcome(patient), outcome, patient)
            await self.freed()
            self.assertEqual(self.kinds(), kinds)
        self.set_aside()
        self.assertEqual(await self.outcome("NO DRIVER"), (0xC000, 0, 0))
        await self.stop()
        self.assertEqual(self.kinds(), ["create"])
        self.flushLoggedErrors(ZeroDivisionError, ValueError)

    async def test_deadline(self) -> None:
        """A sub-operation that takes too long ends the C-MOVE; the driver is let go when it has ended."""
        await self.start_scripts(SECOND, Orthanctw={"PythonFilterTimeout": 1})
        self.assertEqual(await self.outcome("HANG"), (0xC000, 1, 1))
        self.assertNotIn("free", self.kinds())
        sys.modules["script0"].gate.set()
        await self.freed()

    async def test_cancel(self) -> None:
        """A C-CANCEL is answered while a sub-operation runs; the driver is let go when it has ended."""
        await self.start_scripts(SECOND)

        def ask() -> Command:
            with AskingPeer(self.dicom_port) as peer:
                data = identifier("STUDY", element(0x00100020, "LO", "HANG"))
                peer.send(request(MOVE, data, 7, destination="TARGET"))
                peer.message()
                while self.kinds().count("apply") < 2:
                    time.sleep(0.005)
                peer.send(cancel(MOVE, 7))
                final = peer.final()
                peer.release()
                return final

        final = await in_thread(ask)
        numbers = [final.number(each) for each in (dimse.STATUS, dimse.REMAINING, dimse.COMPLETED)]
        self.assertEqual(numbers, [dimse.CANCELLED, 3, 1])
        self.assertNotIn("free", self.kinds())
        sys.modules["script0"].gate.set()
        await self.freed()
        self.assertEqual(self.kinds()[-1], "free")

    async def test_peer_gone(self) -> None:
        """A peer that leaves frees its place, and the driver is let go."""
        await self.start_scripts(SECOND, DicomThreadsCount=1)

        def leave() -> None:
            with AskingPeer(self.dicom_port) as peer:
                data = identifier("STUDY", element(0x00100020, "LO", "HANG"))
                peer.send(request(MOVE, data, destination="TARGET"))
                while self.kinds().count("apply") < 2:
                    time.sleep(0.005)

        await in_thread(leave)
        self.assertEqual(await self.outcome("A"), (0, 4, 0))
        sys.modules["script0"].gate.set()
        await self.until(lambda: self.kinds().count("free") == 2)


class ExampleTests(PythonCase, RetrieveCase):
    """The script of the documentation."""

    async def test_example(self) -> None:
        """It sends what the server has, one instance after the other."""
        await self.start_scripts(example("C-MOVE"))
        await self.fill()
        with sink() as target:
            await self.know(target.port)
            ended = await self.move()
            self.assertEqual((ended.status, ended.numbers), (0, (3, 0, 0)))
            self.assertEqual(sorted(target.sops), ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"])
            self.assertEqual(target.originators, [("MOVER", 7)] * 3)
