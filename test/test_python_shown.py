"""Scripts as users have them, the examples of ``docs/python.md``, and scripts that cannot be loaded."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.dicom_commitments import CommitmentCase, peer, wanted
from test.dicom_peers import CT
from test.dicom_queries import QueryCase
from test.dicom_retrievals import RetrieveCase, sink
from test.log_lines import log_lines
from test.python_case import PythonCase, example
from test.rest_samples import dicom_object, pixels
from test.script_case import opened
from test.servers import ORTHANCTW, TWISTD
from test.test_lifecycle import run_to_end
from test.test_python_lifecycle import ProcessCase
from test.test_python_module import reference
from test.worklist_case import worklist

_FOLDER = Path(__file__).parent


class DocumentationTests(SynchronousTestCase):
    """``docs/python.md``."""

    def setUp(self) -> None:
        self.page = (_FOLDER.parent / "docs" / "python.md").read_text(encoding="utf-8")

    def test_registrations(self) -> None:
        """Each registration has an example."""
        blocks = "\n".join(re.findall(r"^```python\n(.*?)^```$", self.page, re.MULTILINE | re.DOTALL))
        wanted = {name for name in reference()["functions"] if name.startswith("Register")}
        self.assertEqual(wanted - set(re.findall(r"\bRegister\w+", blocks)), set())

    def test_run(self) -> None:
        """A test runs each example."""
        tests = "\n".join(path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("test_python_*.py")))
        for section in re.split(r"^#+ ", self.page, flags=re.MULTILINE):
            heading = section.partition("\n")[0]
            for number in range(section.count("```python\n")):
                place = f", {number}" if number else ""
                self.assertIn(f'example("{heading}"{place})', tests)


class ExampleTests(PythonCase, CommitmentCase):
    """Second forms of registrations, as the documentation shows them."""

    async def test_find(self) -> None:
        """The script tells who asks, and answers what its matcher lets through."""
        log = log_lines(self, self.levels)
        await self.start_scripts(example("C-FIND", 1))
        await self.fill()
        query = ("-aet", "ASKER", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID")
        for name, patients in (("doe^*", ["P1"]), ("*", ["P1", "P2"]), ("X*", [])):
            answers = await self.findscu(*query, "-k", f"PatientName={name}")
            self.assertEqual(sorted(answer.PatientID for answer in answers), patients)
        self.assertIn("ASKER asks from 127.0.0.1", log.getvalue())

    async def test_move(self) -> None:
        """The whole study in one sub-operation, or a series in each: the peer gets it all."""
        log = log_lines(self, self.levels)
        for script, completed in ((example("C-MOVE", 1), 1), (example("C-MOVE", 2), 2)):
            await self.start_scripts(script)
            await self.fill()
            with sink() as target:
                await self.know(target.port)
                ended = await self.move()
                self.assertEqual((ended.status, ended.numbers), (0, (completed, 0, 0)))
                self.assertEqual(sorted(target.sops), ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"])
        await self.until(lambda: "The retrieval by MOVER has ended" in log.getvalue())

    async def test_worklists(self) -> None:
        """Each modality has its own folder; others have none."""
        for room in ("ct", "mr"):
            (self.scripts / room).mkdir()
            (self.scripts / room / "a.wl").write_bytes(worklist(PatientID=room))
        text = example("Worklists", 1).replace("/var/lib/worklists", str(self.scripts))
        await self.start_scripts(text, DicomAlwaysAllowFindWorklist=True)
        for title, patients in (("CT-ROOM", ["ct"]), ("MR-ROOM", ["mr"]), ("OTHER", [])):
            answers = await self.findscu("-W", "-aet", title, "-k", "PatientID")
            self.assertEqual([answer.PatientID for answer in answers], patients)

    async def test_commitment(self) -> None:
        """Only who has sent an object is told that it is kept."""
        await self.start_scripts(example("Storage commitment", 1))
        path = self.file(dicom_object())
        await self.storescu("-aet", "PEER", path)
        await self.storescu("-aet", "OTHER", self.file(dicom_object(sop="1.2.1.1.2")))
        with peer() as asker:
            await self.know(asker.port, "PEER")
            pairs = [(CT, f"1.2.1.1.{number}") for number in (1, 2, 3)]
            self.assertEqual(await self.ask(wanted("1.2.3", pairs)), 0)
            await self.job("Success")
            (told,) = asker.told
        self.assertEqual(told.committed, pairs[:1])
        self.assertEqual(told.failed, {pairs[1]: 0x0110, pairs[2]: 0x0112})

    async def test_storage(self) -> None:
        """Whole files are kept by the script, also after a restart."""
        folder = self.scripts / "kept"
        folder.mkdir()
        script = example("Storage area", 1).replace("/var/lib/orthanctw-scripted", str(folder))
        await self.start_scripts(script)
        data = dicom_object(**pixels(16, 16))
        stored = await self.client.store(data)
        self.assertEqual([path.read_bytes() for path in folder.iterdir()], [data])
        await self.start_scripts(script)
        self.assertEqual((await self.client.get(f"/instances/{stored['ID']}/file")).body, data)
        await self.client.ask("DELETE", f"/instances/{stored['ID']}")
        self.assertEqual(list(folder.iterdir()), [])


class UsualTests(PythonCase, RetrieveCase):
    """What users have written for Orthanc's plugin."""

    async def test_start(self) -> None:
        """A script uploads a file when the server has started, and is told what becomes of it."""
        (self.scripts / "object").write_bytes(dicom_object())
        await self.start_scripts(
            """
            def OnChange(changeType, level, resource):
                if changeType == orthanc.ChangeType.ORTHANC_STARTED:
                    with open(folder + '/object', 'rb') as f:
                        orthanc.RestApiPost('/instances', f.read())
                elif changeType == orthanc.ChangeType.NEW_INSTANCE:
                    note(resource, level)

            orthanc.RegisterOnChangeCallback(OnChange)
            """
        )
        await self.until(self.noted)
        (public_id,) = await self.client.json("/instances")
        self.assertEqual(self.noted(), [[public_id, 3]])

    async def test_new_instance(self) -> None:
        """A script looks at tags and metadata of each new instance, whoever has sent it."""
        await self.start_scripts(
            """
            def OnChange(changeType, level, resource):
                if changeType == orthanc.ChangeType.NEW_INSTANCE:
                    tags = json.loads(orthanc.RestApiGet('/instances/%s/simplified-tags' % resource))
                    metadata = json.loads(orthanc.RestApiGet('/instances/%s/metadata?expand' % resource))
                    note(tags['SOPInstanceUID'], metadata['Origin'], metadata['RemoteAET'])

            orthanc.RegisterOnChangeCallback(OnChange)
            """
        )
        await self.storescu("-aet", "SENDER", self.file(dicom_object()))
        await self.client.store(dicom_object(sop="1.2.1.1.2"))
        await self.until(lambda: len(self.noted()) == 2)
        self.assertEqual(self.noted(), [["1.2.1.1.1", "DicomProtocol", "SENDER"], ["1.2.1.1.2", "RestApi", ""]])

    async def test_routing(self) -> None:
        """Studies that are stable are sent to a modality, and then removed."""
        with sink() as target:
            await self.start_scripts(
                """
                def OnChange(changeType, level, resourceId):
                    if changeType == orthanc.ChangeType.STABLE_STUDY:
                        orthanc.RestApiPost('/modalities/sink/store', resourceId)
                        orthanc.RestApiDelete('/studies/%s' % resourceId)
                        note('sent')

                orthanc.RegisterOnChangeCallback(OnChange)
                """,
                StableAge=1,
                DicomModalities={"sink": ["SINK", "127.0.0.1", target.port]},
            )
            await self.client.store(dicom_object())
            await self.client.store(dicom_object(sop="1.2.1.1.2"))
            await self.until(lambda: ["sent"] in self.noted())
            self.assertEqual(sorted(target.sops), ["1.2.1.1.1", "1.2.1.1.2"])
        self.assertEqual(await self.client.json("/studies"), [])

    async def test_thumbnail(self) -> None:
        """A preview, made small by Pillow."""
        await self.start_scripts(
            """
            import io
            from PIL import Image

            def DecodeInstance(output, uri, **request):
                if request['method'] != 'GET':
                    output.SendMethodNotAllowed('GET')
                    return
                png = orthanc.RestApiGet('/instances/%s/preview' % request['groups'][0])
                image = Image.open(io.BytesIO(png))
                image.thumbnail((8, 8), Image.LANCZOS)
                content = io.BytesIO()
                image.save(content, format='PNG')
                output.AnswerBuffer(content.getvalue(), 'image/png')

            orthanc.RegisterRestCallback('/thumbnail/(.*)', DecodeInstance)
            """
        )
        halves = {"PixelData": bytes([50] * 8 + [150] * 8) * 32}
        stored = await self.client.store(dicom_object(**pixels(32, 16) | halves))
        answer = await self.client.get(f"/thumbnail/{stored['ID']}")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "image/png"))
        small = opened(answer.body)
        self.assertEqual(small.shape, (8, 4))
        self.assertLess(small[:, 0].max(), small[:, -1].min())
        self.assertEqual((await self.client.post(f"/thumbnail/{stored['ID']}")).headers["allow"], "GET")

    async def test_pages(self) -> None:
        """Studies sorted by a tag, a page at a time."""
        await self.start_scripts(
            """
            def GetStudyDate(study):
                return study['MainDicomTags'].get('StudyDate', '')

            def SortStudies(output, uri, **request):
                limit = int(request['get'].get('limit', 0))
                since = int(request['get'].get('since', 0))
                studies = json.loads(orthanc.RestApiGet('/studies?expand'))
                dates = sorted(map(GetStudyDate, studies), reverse='reverse' in request['get'])
                page = dates[since:since + limit] if limit else dates[since:]
                output.AnswerBuffer(json.dumps(page, indent=3), 'application/json')

            orthanc.RegisterRestCallback('/studies-by-date', SortStudies)
            """
        )
        for number in (3, 1, 2):
            uids = (f"1.{number}", f"1.{number}.1", f"1.{number}.1.1")
            await self.client.store(dicom_object("P1", *uids, StudyDate=f"2024010{number}"))
        dates = [f"2024010{number}" for number in (1, 2, 3)]
        self.assertEqual(await self.client.json("/studies-by-date"), dates)
        self.assertEqual(await self.client.json("/studies-by-date", limit=1, since=1), dates[1:2])
        self.assertEqual(await self.client.json("/studies-by-date", reverse="", limit=2), [dates[2], dates[1]])


class BrokenTests(ProcessCase):
    """Scripts with errors: the process ends with 1, and tells file and line."""

    def check_refused(self, name: str, text: str, fragment: str) -> None:
        """Fail unless both commands refuse a script, and do not touch their storage."""
        for command in (TWISTD, ORTHANCTW):
            server = self.server("", command, PythonScript=name)
            (server.folder / name).write_text(text)
            server.configure()
            done = run_to_end(command, server.configuration)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(fragment.format(server.folder), done.stderr)

    def test_syntax(self) -> None:
        """What is no Python."""
        self.check_refused("a.py", "import orthanc\n\ndef f(:\n    pass\n", "PythonScript: {}/a.py:3: SyntaxError")

    def test_exception(self) -> None:
        """What fails while it is run; the traceback is told, too."""
        text = "def f():\n    return 1 / 0\n\nf()\n"
        self.check_refused("a.py", text, "PythonScript: {}/a.py:2: ZeroDivisionError: division by zero")
        self.check_refused("a.py", text, 'File "{}/a.py", line 4, in <module>')

    def test_name(self) -> None:
        """A script that would hide the module."""
        self.check_refused("orthanc.py", "", "a script named orthanc.py would hide the module that it imports: {}")


class PrintTests(ProcessCase):
    """``print`` and ``logging``."""

    def test_shown(self) -> None:
        """What scripts print is seen with both commands, while they are loaded and later."""
        text = """
            import logging, sys, orthanc
            print('one')
            logging.warning('two')

            def answer(output, uri, **request):
                print('three', uri)
                sys.stderr.write('four\\n')
                sys.stdout.flush()
                output.AnswerBuffer('', 'text/plain')

            orthanc.RegisterRestCallback('/say', answer)
        """
        for command in (TWISTD, ORTHANCTW):
            server = self.server("if True:" + text, command)
            server.start()
            server.request("GET", "/say")
            server.stop()
            for line in ("one", "WARNING:root:two", "three /say", "four"):
                self.assertRegex(server.printed(), rf"(?m)(^|\) ){line}$")


class WrongAnswerTests(PythonCase, QueryCase):
    """Answers of the wrong type, and callbacks that raise."""

    async def test_rest(self) -> None:
        """Error 1 and 500, the traceback in the log and not with the client."""
        log = log_lines(self, self.levels)
        await self.start_scripts(
            """
            def answer(output, uri, **request):
                {'dict': lambda: output.AnswerBuffer({'secret': 1}, 'text/plain'),
                 'none': lambda: output.AnswerBuffer('x', None),
                 'status': lambda: output.SendHttpStatus('404', 'x'),
                 'missing': lambda: output.AnswerBuffer('x')}[request['groups'][0]]()

            def wrong():
                pass

            orthanc.RegisterRestCallback('/(dict|none|status|missing)', answer)
            orthanc.RegisterRestCallback('/wrong', wrong)
            """
        )
        for name in ("dict", "none", "status", "missing", "wrong"):
            answer = await self.client.get(f"/{name}")
            self.assertError(answer, 500, 1)
            self.assertNotIn("secret", answer.text)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 5)
        self.assertIn("script0.py", log.getvalue())

    async def test_stored(self) -> None:
        """Nothing is half-stored by a modification of the wrong type."""
        for text in ("(orthanc.ReceivedInstanceAction.MODIFY, None)", "(orthanc.ReceivedInstanceAction.MODIFY, b'x')"):
            await self.start_scripts(f"orthanc.RegisterReceivedInstanceCallback(lambda dicom, origin: {text})")
            answer = await self.client.post("/instances", dicom_object())
            self.assertGreaterEqual(answer.status, 400)
            self.assertEqual((await self.client.json("/instances"), self.files()), ([], []))
        self.flushLoggedErrors()
