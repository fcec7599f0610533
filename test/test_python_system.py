"""What scripts ask about the server, files, stored resources and peers, and how they show themselves."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from orthanctw.configuration import load
from orthanctw.server import Server
from test.log_lines import log_lines
from test.python_case import PythonCase, example
from test.rest_samples import NOBODY, dicom_object

#: Notes what calls answer, or the code or the kind of what they raise.
_TRIED = """
def tried(function, *arguments):
    try:
        value = function(*arguments)
    except orthanc.OrthancException as e:
        note('code', e.args[0])
    except Exception as e:
        note(type(e).__name__)
    else:
        note(value.decode('latin-1') if isinstance(value, bytes) else value)

"""


class SystemCase(PythonCase):
    """Scripts that try functions."""

    async def tried(self, *calls: str, **options: object) -> list[object]:
        """What calls of `tried`, each by a tuple of Python, have noted while the script was loaded."""
        self.set_aside()
        await self.start_scripts(_TRIED + "\n".join(f"tried(*{call})" for call in calls), **options)
        return [value if len(value) > 1 else value[0] for value in self.noted()]


class ServerTests(SystemCase):
    """The server."""

    async def test_versions(self) -> None:
        """The version that clients see, and those before."""
        answers = await self.tried(
            "(orthanc.CheckVersion,)",
            "(orthanc.CheckVersionAdvanced, 1, 13, 0)",
            "(orthanc.CheckVersionAdvanced, 1, 9, 99)",
            "(orthanc.CheckVersionAdvanced, 1, 13, 1)",
            "(orthanc.CheckVersionAdvanced, 2, 0, 0)",
            "(orthanc.CheckVersionAdvanced, 1.0, 0, 0)",
            "(orthanc.GetExpectedDatabaseVersion,)",
        )
        self.assertEqual(answers, [1, 1, 1, 0, 0, "TypeError", 6])

    async def test_places(self) -> None:
        """The program and its arguments."""
        self.patch(sys, "argv", ["/opt/bin/orthanctw", "--verbose", "a.json"])
        answers = await self.tried(
            "(orthanc.GetOrthancPath,)",
            "(orthanc.GetOrthancDirectory,)",
            "(orthanc.GetCommandLineArgumentsCount,)",
            "(orthanc.GetCommandLineArgument, 0)",
            "(orthanc.GetCommandLineArgument, 1)",
            "(orthanc.GetCommandLineArgument, 2)",
            "(orthanc.GetCommandLineArgument, -1)",
            "(orthanc.GetConfigurationPath,)",
            "(orthanc.GetDatabaseServerIdentifier,)",
            DatabaseServerIdentifier="me",
        )
        self.assertEqual(answers[:5], ["/opt/bin/orthanctw", "/opt/bin", 2, "--verbose", "a.json"])
        self.assertEqual(answers[5:], [["code", -1]] * 3 + ["me"])

    async def test_configuration(self) -> None:
        """All that was read, with passwords and with what is not known; and where."""
        script = self.script("note(orthanc.GetConfigurationPath(), json.loads(orthanc.GetConfiguration()))")
        settings = {"PythonScript": script, "RegisteredUsers": {"a": "secret"}, "Unknown": [1]}
        document = {"StorageDirectory": str(self.folder), "HttpPort": 0, "DicomPort": 0, **settings}
        path = Path(self.mktemp()).absolute()
        path.write_text("// A comment\n" + json.dumps(document))
        await self.server.stop()
        self.server = Server(self.server._reactor, load([str(path)], {}), self.levels, lambda: None, lambda: None)
        await self.server.start()
        self.assertEqual(self.noted(), [[str(path), document]])

    async def test_errors(self) -> None:
        """Errors of scripts are answered with their status and text, by each kind of callback."""
        await self.start_scripts(example("Errors of one's own"))
        answer = await self.client.get("/busy")
        body = self.assertError(answer, 503, 1234)
        self.assertEqual((body["Message"], body["Details"]), ("The scanner is busy", "Try later"))
        self.assertTrue(self.flushLoggedErrors())

    async def test_unnamed_status(self) -> None:
        """A status that HTTP has no name for."""
        await self.start_scripts(
            """
            def fail(output, uri, **request):
                raise orthanc.OrthancException(7777, 'x', 5)
            orthanc.RegisterErrorCode(7777, 460, 'odd')
            orthanc.RegisterRestCallback('/fail', fail)
            """
        )
        self.assertEqual(self.assertError(await self.client.get("/fail"), 460, 7777)["Details"], "x 5")
        self.assertTrue(self.flushLoggedErrors())

    async def test_descriptions_of_errors(self) -> None:
        """Ours, those of scripts, unknown ones; what is no failure is refused."""
        answers = await self.tried(
            "(orthanc.GetErrorDescription, orthanc.ErrorCode.UNKNOWN_RESOURCE)",
            "(orthanc.RegisterErrorCode, 5000, 418, 'mine')",
            "(orthanc.GetErrorDescription, 5000)",
            "(orthanc.GetErrorDescription, 4999)",
            "(orthanc.RegisterErrorCode, 5001, 200, 'fine')",
            "(orthanc.RegisterErrorCode, 5001, 999, 'odd')",
            "(orthanc.RegisterErrorCode, '5001', 404, 'odd')",
        )
        self.assertEqual(answers[1:3], [None, "mine"])
        self.assertEqual(answers[4:], [["code", 3], ["code", 3], "TypeError"])
        self.assertNotEqual(answers[0], answers[3])

    async def test_names_of_threads(self) -> None:
        """A thread has the name that it is given."""
        await self.start_scripts(
            """
            import threading
            orthanc.SetCurrentThreadName('reading')
            note(threading.current_thread().name)
            orthanc.ClearCurrentThreadName()
            note(threading.current_thread().name)
            """
        )
        names = [name for (name,) in self.noted()]
        self.assertEqual(names[0], "reading")
        self.assertNotEqual(names[1], "reading")

    async def test_audit_log(self) -> None:
        """Who has done what stands in the log."""
        log = log_lines(self, self.levels)
        self.levels.set("plugins", "verbose")
        arguments = "'script', 'alice', orthanc.ResourceType.STUDY, 'the-study', 'opened', b'1234'"
        self.assertEqual(await self.tried(f"(orthanc.EmitAuditLog, {arguments})"), [None])
        for word in ("alice", "the-study", "opened"):
            self.assertIn(word, log.getvalue())


class LogTests(SystemCase):
    """The log."""

    async def test_levels(self) -> None:
        """What scripts log has the level and the category that they say, and no form of its own."""
        log = log_lines(self, self.levels)
        self.levels.set("plugins", "verbose")
        answers = await self.tried(
            "(orthanc.LogError, 'an {error} %s')",
            "(orthanc.LogWarning, 'a warning')",
            "(orthanc.LogInfo, 'an information')",
            "(orthanc.LogMessage, 'a message', 'mine', 'a.py', 7, orthanc.LogCategory.DICOM, orthanc.LogLevel.WARNING)",
            "(orthanc.LogMessage, 'a trace', 'mine', 'a.py', 7, orthanc.LogCategory.DICOM, orthanc.LogLevel.TRACE)",
            "(orthanc.LogWarning, 5)",
        )
        self.assertEqual(answers, [None] * 5 + ["TypeError"])
        levels = {line.split()[-1]: line[0] for line in log.getvalue().splitlines()}
        self.assertEqual([levels[word] for word in ("%s", "warning", "information", "message")], ["E", "W", "I", "W"])
        self.assertIn("an {error} %s", log.getvalue())
        self.assertIn("mine: a.py:7: a message", log.getvalue())
        self.assertNotIn("a trace", log.getvalue())


class FileTests(SystemCase):
    """Work on bytes and files."""

    async def test_content_types(self) -> None:
        """By the end of a name."""
        names = ("a.dcm", "/b/c.JPG", "a.tar.gz", ".js", "a.stl", "a.xyz", "png", "")
        answers = await self.tried(*(f"(orthanc.AutodetectMimeType, {name!r})" for name in names))
        known = ["application/dicom", "image/jpeg", "application/gzip", "application/javascript", "model/stl"]
        self.assertEqual(answers, known + ["application/octet-stream"] * 3)

    async def test_digests(self) -> None:
        """Known digests, of bytes, text and nothing."""
        answers = await self.tried(
            "(orthanc.ComputeMd5, b'abc')",
            "(orthanc.ComputeMd5, bytearray(b'abc'))",
            "(orthanc.ComputeMd5, 'abc')",
            "(orthanc.ComputeMd5, None)",
            "(orthanc.ComputeSha1, b'abc')",
            "(orthanc.ComputeMd5, 5)",
        )
        self.assertEqual(answers[:3], ["900150983cd24fb0d6963f7d28e17f72"] * 3)
        self.assertEqual(answers[3], "d41d8cd98f00b204e9800998ecf8427e")
        self.assertEqual(answers[4:], ["a9993e36-4706816a-ba3e2571-7850c26c-9cd0d89d", "TypeError"])

    async def test_compression(self) -> None:
        """There and back, in all forms."""
        await self.start_scripts(
            """
            import gzip, zlib
            forms = orthanc.CompressionType
            for form in (forms.ZLIB_WITH_SIZE, forms.GZIP, forms.GZIP_WITH_SIZE):
                for data in (b'', b'abc' * 1000000):
                    packed = orthanc.BufferCompression(data, form, 0)
                    assert len(packed) < 100000
                    assert orthanc.BufferCompression(packed, form, 1) == data
            assert zlib.decompress(orthanc.BufferCompression('abc', forms.ZLIB, 0)) == b'abc'
            assert orthanc.BufferCompression(gzip.compress(b'abc'), forms.GZIP, 1) == b'abc'
            assert orthanc.BufferCompression(b'abc', forms.ZLIB_WITH_SIZE, 0)[:8] == b'\\3' + bytes(7)
            note('done')
            """
        )
        self.assertEqual(self.noted(), [["done"]])

    async def test_damage(self) -> None:
        """What cannot be uncompressed: nothing is allocated for a size that is only told."""
        packed = gzip.compress(b"abc" * 100)
        size = (300).to_bytes(8, "little")
        cases = (
            (b"x", 4, 0),
            (b"x", -1, 1),
            (b"x" * 16, 0, 1),
            (b"x", 1, 1),
            (b"x" * 16, 1, 1),
            ((1 << 31).to_bytes(8, "little") + b"x", 1, 1),
            (size + packed[:-9], 3, 1),
            ((301).to_bytes(8, "little") + packed, 3, 1),
            ((299).to_bytes(8, "little") + packed, 3, 1),
            (b"x" * 16, 2, 1),
            (packed[:-12], 2, 1),
            (size + packed, 3, 1),
        )
        answers = await self.tried(*(f"(orthanc.BufferCompression, *{case!r})" for case in cases))
        codes = [["code", code] for code in (3, 3, -1, 20, 4, 20, 20, 20, 20, 15, 15)]
        self.assertEqual(answers, [*codes, "abc" * 100])

    async def test_files(self) -> None:
        """Written, read, written over; and what cannot be."""
        answers = await self.tried(
            "(orthanc.WriteFile, folder + '/file', b'abc')",
            "(orthanc.ReadFile, folder + '/file')",
            "(orthanc.WriteFile, folder + '/file', None)",
            "(orthanc.ReadFile, folder + '/file')",
            "(orthanc.WriteFile, folder + '/no/file', b'abc')",
            "(orthanc.ReadFile, folder + '/no/file')",
            "(orthanc.ReadFile, folder)",
            "(orthanc.ReadFile, folder + chr(0))",
            "(orthanc.ReadFile, 5)",
        )
        refused = [["code", 14], ["code", 2006], ["code", 2006], "TypeError", "TypeError"]
        self.assertEqual(answers, [None, "abc", None, "", *refused])

    async def test_uuids(self) -> None:
        """Two are not equal."""
        first, second = await self.tried("(orthanc.GenerateUuid,)", "(orthanc.GenerateUuid,)")
        self.assertRegex(str(first), r"\A[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
        self.assertNotEqual(first, second)


class LookupTests(SystemCase):
    """Stored resources by DICOM's identifiers."""

    async def test_lookups(self) -> None:
        """Exactly one is found; none, and one of several, is an error."""
        stored = await self.client.store(dicom_object(AccessionNumber="A1"))
        tags = await self.client.json(f"/instances/{stored['ID']}/simplified-tags")
        await self.client.store(dicom_object(study="1.7", series="1.7.1", sop="1.7.1.1", AccessionNumber="A2"))
        await self.client.store(dicom_object(study="1.6", series="1.6.1", sop="1.6.1.1", AccessionNumber="A2"))
        answers = await self.tried(
            f"(orthanc.LookupPatient, {tags['PatientID']!r})",
            f"(orthanc.LookupStudy, {tags['StudyInstanceUID']!r})",
            "(orthanc.LookupStudyWithAccessionNumber, 'A1')",
            f"(orthanc.LookupSeries, {tags['SeriesInstanceUID']!r})",
            f"(orthanc.LookupInstance, {tags['SOPInstanceUID']!r})",
            "(orthanc.LookupStudyWithAccessionNumber, 'A2')",
            "(orthanc.LookupInstance, 'A1')",
            "(orthanc.LookupSeries, '')",
            "(orthanc.LookupStudy, 1)",
        )
        ids = [stored[key] for key in ("ParentPatient", "ParentStudy")]
        self.assertEqual(answers[:3], [*ids, ids[1]])
        self.assertEqual(answers[3:5], [stored["ParentSeries"], stored["ID"]])
        self.assertEqual(answers[5:], [["code", -1]] * 3 + ["TypeError"])

    async def test_peers(self) -> None:
        """In the order of their names, as they were when they were asked for."""
        await self.start_scripts(
            """
            def peers(output, uri, **request):
                peers = orthanc.GetPeers()
                numbers = range(-1, peers.GetPeersCount() + 1)
                note([
                    [peers.GetPeerName(i), peers.GetPeerUrl(i), peers.GetPeerUserProperty(i, 'Room')]
                    for i in numbers
                ], peers.GetPeerUserProperty(1, 'Password'))
                output.AnswerBuffer('', 'text/plain')

            orthanc.RegisterRestCallback('/all', peers)
            """,
            OrthancPeers={
                "two": {"Url": "http://localhost:2", "Username": "u", "Password": "p", "Room": 5},
                "one": ["http://localhost:1/"],
            },
        )
        await self.client.get("/all")
        await self.client.ask("DELETE", "/peers/two")
        await self.client.get("/all")
        one, two, none = (["one", "http://localhost:1/", None], ["two", "http://localhost:2/", "5"], [None] * 3)
        self.assertEqual(self.noted(), [[[none, one, two, none], None], [[none, one, none], None]])

    async def test_told(self) -> None:
        """Scripts are told when peers and modalities change."""
        await self.start_scripts("orthanc.RegisterOnChangeCallback(lambda *change: note(*change))")
        for path, value in (("peers", ["http://localhost:1/"]), ("modalities", ["A", "localhost", 104])):
            await self.client.ask("PUT", f"/{path}/one", json.dumps(value).encode())
            await self.client.ask("DELETE", f"/{path}/one")
        await self.stop()
        told = [[14, 4, ""]] * 2 + [[15, 4, ""]] * 2
        self.assertEqual(self.noted(), [[10, 4, ""], *told, [11, 4, ""]])

    async def test_not_available(self) -> None:
        """Objects that nothing makes: they can be named, and say why they do nothing."""
        answers = await self.tried(
            "(orthanc.Job(0, 0).SubmitJob, 1)",
            "(orthanc.Job,)",
            "(orthanc.WebDavCollection,)",
            "(orthanc.DicomWebNode, 'a', 'b')",
            "(orthanc.ServerChunkedRequestReader, 0)",
            "(orthanc.Peers(0, 1).GetPeersCount,)",
        )
        self.assertEqual(answers, [["code", 2], *["ValueError"] * 4, ["code", 35]])


class ShownTests(SystemCase):
    """``/plugins`` and metrics."""

    async def test_metrics(self) -> None:
        """Shown with those of the server; names that would break the text are not."""
        answers = await self.tried(
            "(orthanc.SetMetricsValue, 'my_rate', 1.5, orthanc.MetricsType.DEFAULT)",
            "(orthanc.SetMetricsIntegerValue, 'my_count', 7, orthanc.MetricsType.DEFAULT)",
            "(orthanc.SetMetricsIntegerValue, 'my_peak', 9, orthanc.MetricsType.TIMER)",
            "(orthanc.SetMetricsIntegerValue, 'my_peak', 4, orthanc.MetricsType.TIMER)",
            "(orthanc.SetMetricsValue, 'my rate\\n', 1, 0)",
            "(orthanc.SetMetricsValue, 'my_other', 1, 7)",
            "(orthanc.SetMetricsIntegerValue, 'my_other', 1.5, 0)",
        )
        self.assertEqual(answers, [None] * 6 + ["TypeError"])
        lines = (await self.client.get("/tools/metrics-prometheus")).text.splitlines()
        shown = sorted(" ".join(line.split()[:2]) for line in lines if line.startswith("my"))
        self.assertEqual(shown, ["my_count 7", "my_peak 9", "my_rate 1.5"])

    async def test_nothing_said(self) -> None:
        """Scripts are a plugin, even if they say nothing about themselves."""
        self.assertFalse((await self.client.json("/system"))["PluginsEnabled"])
        await self.start_scripts("")
        self.assertTrue((await self.client.json("/system"))["PluginsEnabled"])
        self.assertEqual(await self.client.json("/plugins"), ["explorer.js", "python"])
        shown = await self.client.json("/plugins/python")
        self.assertEqual((shown["ID"], shown["Version"], shown["ExtendsOrthancExplorer"]), ("python", "7.1", False))
        self.assertNotIn("RootUri", shown)
        self.assertEmpty(await self.client.get(f"/plugins/{NOBODY}"), 404)

    async def test_example(self) -> None:
        """That of the documentation."""
        await self.start_scripts(example("Explorer pages"))
        shown = await self.client.json("/plugins/python")
        self.assertTrue(shown["ExtendsOrthancExplorer"])
        self.assertEqual((shown["Description"], shown["RootUri"]), ("Worklist of the day", "../today"))
        answer = await self.client.get("/plugins/explorer.js")
        self.assertEqual(answer.headers["content-type"], "application/javascript")
        self.assertIn("pagebeforecreate", answer.text)
        self.assertEqual((await self.client.get("/today")).status, 200)

    async def test_report(self) -> None:
        """A spreadsheet, made by a package, of what is stored."""
        await self.start_scripts(example("A report"))
        await self.client.store(dicom_object(patient="Patient-of-the-report"))
        answer = await self.client.get("/report.xls")
        self.assertEqual(answer.headers["content-type"], "application/vnd.ms-excel")
        # A compound file, as spreadsheets of that time are.
        self.assertEqual(answer.body[:8].hex(), "d0cf11e0a1b11ae1")
        self.assertIn(b"Patient-of-the-report", answer.body)
        self.assertEmpty(await self.client.ask("DELETE", "/report.xls"), 405)

    async def test_several(self) -> None:
        """Each script has its code on the page, by plugin; a second call takes the place of the first."""
        await self.start_scripts(
            """
            orthanc.ExtendOrthancExplorer('first()')
            orthanc.ExtendOrthancExplorer('second("\u00e9")')
            orthanc.ExtendOrthancExplorer2('mine', 'third()')
            orthanc.SetDescription2('python', 'About')
            orthanc.SetDescription2('mine', 'Not shown')
            orthanc.SetRootUri2('python', 'root')
            """,
            "orthanc.ExtendOrthancExplorer('fourth()')",
        )
        text = (await self.client.get("/plugins/explorer.js")).text
        self.assertNotIn("first()", text)
        for call in ('second("\u00e9")', "third()", "fourth()"):
            self.assertIn(call, text)
        shown = await self.client.json("/plugins/python")
        self.assertEqual((shown["Description"], shown["RootUri"]), ("About", "root"))
