"""C-FIND answered by a script in Python."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from twisted.internet.defer import Deferred

from orthanctw.dicom import dimse
from orthanctw.scripting import queries
from orthanctw.scripting.exposure import OrthancException
from test.dicom_files import element
from test.dicom_peers import EXPLICIT, IMPLICIT, in_thread
from test.dicom_queries import FIND, AskingPeer, QueryCase, cancel, identifier, keys, request
from test.python_case import PythonCase, example
from test.rest_samples import dicom_object, item, pixels

#: What becomes of a query, by its PatientID.
_SCRIPT = """
def value(query, name):
    for i in range(query.GetFindQuerySize()):
        if query.GetFindQueryTagName(i) == name:
            return query.GetFindQueryValue(i)

def find(answers, query, issuer, called):
    note([
        ('%04x,%04x' % (query.GetFindQueryTagGroup(i), query.GetFindQueryTagElement(i)),
         query.GetFindQueryTagName(i), query.GetFindQueryValue(i)) for i in range(query.GetFindQuerySize())
    ], issuer, called)
    wanted = value(query, 'PatientID')
    kept[:] = [answers, query]
    if wanted == 'FAIL':
        answers.FindAddAnswer(raw('1'))
        1 / 0
    if wanted == 'MANY':
        for number in range(300):
            answers.FindAddAnswer(raw(str(number)))
    elif wanted == 'INCOMPLETE':
        answers.FindAddAnswer(raw('1'))
        answers.FindMarkIncomplete()
    elif wanted == 'HANG':
        gate.wait(60)
        note('woken')
        try:
            answers.FindAddAnswer(raw('1'))
        except orthanc.OrthancException as e:
            note('late', *e.args)
        released.set()
    elif wanted == 'SERVER':
        stored = json.loads(orthanc.RestApiPost('/instances', open(folder + '/object', 'rb').read()))
        for found in json.loads(orthanc.RestApiPost('/tools/find', json.dumps({'Level': 'Instance', 'Query': {}}))):
            answers.FindAddAnswer(orthanc.RestApiGet('/instances/' + found + '/file'))
    elif wanted == 'WRONG':
        for call in (
            lambda: query.GetFindQueryTagGroup(99), lambda: query.GetFindQueryTagElement(-1),
            lambda: query.GetFindQueryTagName(99), lambda: query.GetFindQueryValue(-1),
            lambda: query.GetFindQueryValue('x'), lambda: answers.FindAddAnswer(5),
            lambda: answers.FindAddAnswer(b''), lambda: answers.FindAddAnswer(b'x' * 200),
        ):
            try:
                note('wrong', call())
            except Exception as e:
                note('wrong', type(e).__name__, *e.args[:1])
    else:
        answers.FindAddAnswer(raw(wanted or 'ANY'))

def raw(text):
    data = text.encode() + b' ' * (len(text) % 2)
    return bytes.fromhex('10002000') + b'LO' + len(data).to_bytes(2, 'little') + data

import threading
kept, gate, released = [], threading.Event(), threading.Event()

def after():
    errors = []
    answers, query = kept
    for call in (
        query.GetFindQuerySize, lambda: query.GetFindQueryValue(0), answers.FindMarkIncomplete,
        lambda: answers.FindAddAnswer(raw('1')),
    ):
        try:
            errors.append(call())
        except orthanc.OrthancException as e:
            errors.append(e.args[0])
    return errors

orthanc.RegisterFindCallback(find)
"""
_VERSION_2 = """
def find(answers, query, connection):
    kept.append(connection)
    note(connection.GetConnectionRemoteAet(), connection.GetConnectionRemoteIp(), connection.GetConnectionCalledAet())

kept = []
orthanc.RegisterFindCallback2(find)
"""


class FindTests(PythonCase, QueryCase):
    """``RegisterFindCallback``."""

    def scripts_module(self, name: str = "script0") -> Any:
        """A script, as it is loaded."""
        return sys.modules[name]

    async def test_query(self) -> None:
        """The script sees all tags in ascending order, text in Unicode, and who asks; its answer is told whole."""
        await self.start_scripts(_SCRIPT)
        query = keys(
            "STUDY", SpecificCharacterSet="ISO_IR 100", PatientName="MÜLLER", PatientID=" A B ", Rows=512,
            ReferencedStudySequence=[item(ReferencedSOPInstanceUID="1.2")],
        )
        query.add_new(0x00090010, "LO", "ACME")
        query.add_new(0x00091001, "LO", "X")
        (found,) = await self.find(query, calling="ASKER")
        self.assertEqual(found.status, 0)
        self.assertEqual([str(one.PatientID) for one in found.answers], ["A B"])
        ((tags, issuer, called),) = self.noted()
        self.assertEqual((issuer, called), ("ASKER", "ORTHANC"))
        self.assertEqual(
            tags,
            [
                ["0008,0005", "SpecificCharacterSet", "ISO_IR 100"],
                ["0008,0052", "QueryRetrieveLevel", "STUDY"],
                ["0008,1110", "ReferencedStudySequence", ""],
                ["0009,0010", "PrivateCreator", "ACME"],
                ["0009,1001", "Unknown Tag & Data", "X"],
                ["0010,0010", "PatientName", "MÜLLER"],
                ["0010,0020", "PatientID", "A B"],
                ["0028,0010", "Rows", "512"],
            ],
        )

    async def test_dcmtk(self) -> None:
        """DCMTK gets what the example of the documentation answers."""
        await self.start_scripts(example("C-FIND"))
        query = ("-k", "QueryRetrieveLevel=STUDY", "-k")
        (answer,) = await self.findscu("-S", *query, "PatientID=P-1")
        self.assertEqual((str(answer.PatientName), answer.PatientID), ("Doe^Jane", "P-1"))
        self.assertEqual(answer.QueryRetrieveLevel, "STUDY")
        self.assertEqual(len(await self.findscu("-P", *query, "PatientID=")), 1)
        self.assertEqual(await self.findscu("-S", *query, "PatientID=P-2"), [])

    async def test_files(self) -> None:
        """A script stores and finds within its callback; answers are stored files, without pixels and group 0002."""
        (self.scripts / "object").write_bytes(
            dicom_object(PatientName="WAŁĘSA", ICCProfile=b"\1\2\3\4", **pixels(16, 16))
        )
        await self.start_scripts(_SCRIPT)
        for syntax in (IMPLICIT, EXPLICIT):
            (found,) = await self.find(
                keys("STUDY", PatientID="SERVER", SpecificCharacterSet="ISO_IR 101"), syntaxes=(syntax,)
            )
            (answer,) = found.answers
            self.assertEqual((found.status, str(answer.PatientName)), (0, "WAŁĘSA"))
            self.assertEqual((answer.SpecificCharacterSet, answer.ICCProfile), ("ISO_IR 101", b"\1\2\3\4"))
            self.assertEqual((answer.Rows, answer.SOPInstanceUID), (16, "1.2.1.1.1"))
            self.assertNotIn("PixelData", answer)

    async def test_statuses(self) -> None:
        """Incomplete answers end with 0xFE00; those of a script that fails are not told."""
        await self.start_scripts(_SCRIPT)
        incomplete, failed, many = await self.find(
            *(keys("STUDY", PatientID=name) for name in ("INCOMPLETE", "FAIL", "MANY"))
        )
        self.assertEqual((incomplete.status, len(incomplete.answers)), (0xFE00, 1))
        self.assertEqual((failed.status, failed.answers), (0xC000, []))
        self.assertNotIn("ZeroDivision", failed.comment)
        self.assertEqual((many.status, len(many.answers)), (0, 300))
        self.flushLoggedErrors(ZeroDivisionError)

    async def test_mistakes(self) -> None:
        """What a script asks for wrongly is an exception of its own."""
        await self.start_scripts(_SCRIPT)
        await self.find(keys("STUDY", PatientID="WRONG"))
        self.assertEqual(
            [values[1:2] + values[2:3] * (values[1] == "OrthancException") for values in self.noted()[1:]],
            [["ValueError"]] * 2
            + [["OrthancException", -1]] * 2
            + [["TypeError"]] * 2
            + [["OrthancException", 15]] * 2,
        )

    async def test_borrowed(self) -> None:
        """What a callback was given is of no use afterwards."""
        await self.start_scripts(_SCRIPT)
        await self.find(keys("STUDY", PatientID="1"))
        self.assertEqual(await in_thread(self.scripts_module().after), [35] * 4)

    async def test_deadline(self) -> None:
        """A script that takes too long has failed; what it adds afterwards is refused."""
        await self.start_scripts(_SCRIPT, Orthanctw={"PythonFilterTimeout": 1})
        (late,) = await self.find(keys("STUDY", PatientID="HANG"))
        self.assertEqual((late.status, late.answers), (0xC000, []))
        await self.release()
        self.assertEqual(self.noted()[-1][:2], ["late", 35])

    async def release(self) -> None:
        """Let a script go on, and wait for its end."""
        self.scripts_module().gate.set()
        await in_thread(self.scripts_module().released.wait)

    async def test_cancel(self) -> None:
        """A C-CANCEL is answered while the script runs; the association goes on."""
        await self.start_scripts(_SCRIPT)

        def ask() -> list[tuple[int, bytes]]:
            with AskingPeer(self.dicom_port) as peer:
                peer.send(request(FIND, identifier("STUDY", element(0x00100020, "LO", "HANG")), 7))
                while not self.noted():
                    time.sleep(0.005)
                peer.send(cancel(FIND, 7))
                found = peer.answers()
                peer.send(request(FIND, identifier("STUDY", element(0x00100020, "LO", "1")), 8))
                found += peer.answers()
                peer.release()
                return found

        found = await in_thread(ask)
        self.assertEqual([status for status, _ in found], [0xFE00, 0xFF00, 0])
        await self.release()
        self.assertEqual(self.noted()[-1][:2], ["late", 35])

    async def test_cancelled_again_and_again(self) -> None:
        """Who cancels what it asks for does not have more and more callbacks run."""
        await self.start_scripts(_SCRIPT, Orthanctw={"PythonThreads": 2})

        def ask() -> list[int]:
            found = []
            with AskingPeer(self.dicom_port) as peer:
                for number in range(1, 5):
                    peer.send(request(FIND, identifier("STUDY", element(0x00100020, "LO", "HANG")), number))
                    while number <= 2 and len(self.noted()) < number:
                        time.sleep(0.005)
                    peer.send(cancel(FIND, number))
                    found.append(peer.final().number(dimse.STATUS))
                peer.release()
            return found

        self.assertEqual(await in_thread(ask), [0xFE00, 0xFE00, 0xC000, 0xC000])
        self.assertEqual(len(self.noted()), 2)
        await self.release()

    async def test_peer_gone(self) -> None:
        """A peer that leaves frees its place at once."""
        await self.start_scripts(_SCRIPT, DicomThreadsCount=1)

        def leave() -> None:
            with AskingPeer(self.dicom_port) as peer:
                peer.send(request(FIND, identifier("STUDY", element(0x00100020, "LO", "HANG"))))
                while not self.noted():
                    time.sleep(0.005)

        await in_thread(leave)
        self.assertEqual((await self.find_one("STUDY", PatientID="1")).values("PatientID"), ["1"])
        await self.release()

    async def test_two_at_once(self) -> None:
        """One that waits keeps no other one from being answered."""
        await self.start_scripts(_SCRIPT)
        waiting = Deferred.fromCoroutine(self.find(keys("STUDY", PatientID="HANG")))
        await self.until(self.noted)
        self.assertEqual((await self.find_one("STUDY", PatientID="1")).values("PatientID"), ["1"])
        await self.release()
        (found,) = await waiting
        self.assertEqual((found.status, len(found.answers)), (0, 1))

    async def test_too_many(self) -> None:
        """Answers are bounded."""
        self.patch(queries, "LIMIT", 1000)
        await self.start_scripts(_SCRIPT)
        (found,) = await self.find(keys("STUDY", PatientID="MANY"))
        self.assertEqual(found.status, 0xC000)
        self.flushLoggedErrors()

    async def test_connection(self) -> None:
        """The second form is given a connection, for as long as it runs."""
        await self.start_scripts(_VERSION_2)
        await self.find(keys("STUDY"), calling="ASKER")
        self.assertEqual(self.noted(), [["ASKER", "127.0.0.1", "ORTHANC"]])
        (connection,) = self.scripts_module().kept
        for method in ("RemoteAet", "RemoteIp", "CalledAet"):
            with self.assertRaises(OrthancException) as caught:
                getattr(connection, f"GetConnection{method}")()
            self.assertEqual(caught.exception.args[0], 35)

    async def test_lua(self) -> None:
        """Lua's filter comes first."""
        path = self.work / "script.lua"
        path.write_text("function IncomingFindRequestFilter(query) query['0010,0020'] = 'LUA' return query end")
        await self.start_scripts(_SCRIPT, LuaScripts=[str(path)])
        self.assertEqual((await self.find_one("STUDY", PatientID="1")).values("PatientID"), ["LUA"])

    async def test_reload(self) -> None:
        """Without a script that answers, the server does."""
        await self.start_scripts(_SCRIPT)
        await self.client.store(dicom_object())
        self.assertEqual((await self.find_one("STUDY", PatientID="1")).values("PatientID"), ["1"])
        self.script("", "script0.py")
        await self.server.python.reload()
        self.assertEqual((await self.find_one("STUDY", PatientID="")).values("PatientID"), ["P1"])


class MatcherTests(PythonCase):
    """``CreateFindMatcher``."""

    async def test_matcher(self) -> None:
        """A query as DICOM is compared with files: wildcards, ranges, lists, sequences."""
        (self.scripts / "object").write_bytes(
            dicom_object(ReferencedStudySequence=[item(ReferencedSOPInstanceUID="1.2.9")], **pixels(16, 16))
        )
        queries = (
            (keys("", PatientID="P*", PatientName="doe^*"), 1),
            (keys("STUDY", StudyDate="20240101-20240131", SpecificCharacterSet="ISO_IR 100"), 1),
            (keys("", StudyDate="20250101-"), 0),
            (keys("", StudyInstanceUID=["1.2.3", "1.2.1"], Rows=16), 1),
            (keys("", Rows=17), 0),
            (keys("", ReferencedStudySequence=[item(ReferencedSOPInstanceUID="1.2.9")]), 1),
            (keys("", ReferencedStudySequence=[item(ReferencedSOPInstanceUID="1.2.8")]), 0),
        )
        for number, (query, _) in enumerate(queries):
            (self.scripts / f"query{number}").write_bytes(file_of(query))
        await self.start_scripts(
            f"""
            read = lambda name: open(folder + '/' + name, 'rb').read()
            for number in range({len(queries)}):
                note(orthanc.CreateFindMatcher(read('query%d' % number)).IsMatch(read('object')))
            matcher = orthanc.CreateFindMatcher(read('query0'))
            note(matcher.IsMatch(b''), matcher.IsMatch(b'x' * 300))
            for bad in (b'', b'x' * 300, None):
                try:
                    note(orthanc.CreateFindMatcher(bad))
                except orthanc.OrthancException as e:
                    note(e.args[0])
            """
        )
        self.assertEqual(self.noted(), [[wanted] for _, wanted in queries] + [[0, 0]] + [[-1]] * 3)


def file_of(query: Dataset) -> bytes:
    """A query as a DICOM data set, explicit little endian."""
    buffer = io.BytesIO()
    dcmwrite(buffer, query, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()
