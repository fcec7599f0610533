"""Scripts in Python: how they are loaded, and what they are told of."""

from __future__ import annotations

import sys
from pathlib import Path

from orthanctw.errors import ConfigurationError
from test.log_lines import log_lines
from test.python_case import PythonCase, example
from test.rest_samples import NOBODY, dicom_object

CHANGES = """
    def changed(change, level, resource):
        note(change, level, resource)

    orthanc.RegisterOnChangeCallback(changed)
"""


class LoadingTests(PythonCase):
    """From files to modules."""

    async def fails(self, text: str, name: str = "script.py") -> str:
        """What a start with a script says that fails."""
        path = self.script(text, name)
        await self.stop()
        with self.assertRaises(ConfigurationError) as caught:
            await self._start({"PythonScript": path})
        self.running = False
        self.flushLoggedErrors()
        return str(caught.exception)

    async def test_rest(self) -> None:
        """A script calls the server while it is loaded; failures are exceptions with code and text."""
        (self.scripts / "object").write_bytes(dicom_object())
        await self.start_scripts(
            f"""
            system = json.loads(orthanc.RestApiGet('/system'))
            stored = json.loads(orthanc.RestApiPost('/instances', open(folder + '/object', 'rb').read()))
            origin = orthanc.RestApiGet('/instances/' + stored['ID'] + '/metadata/Origin').decode()
            note(system['Name'], stored['Status'], origin)
            for uri in ('/nowhere', '/instances/{NOBODY}', '/tools/find'):
                try:
                    orthanc.RestApiGet(uri)
                except orthanc.OrthancException as e:
                    note(*e.args)
            """,
            Name="T",
        )
        noted = self.noted()
        self.assertEqual(noted[0], ["T", "Success", "Plugins"])
        self.assertEqual([code for code, _ in noted[1:]], [17, 17, 17])
        self.assertEqual(len(await self.client.json("/instances")), 1)

    async def test_arguments(self) -> None:
        """Wrong arguments are a TypeError, wrong callbacks a ValueError, a second one a RuntimeError."""
        await self.start_scripts(
            """
            nothing = lambda *_: None
            for function, *arguments in (
                (orthanc.RestApiGet,), (orthanc.RestApiGet, 5), (orthanc.RestApiGet, 'a', 'b'),
                (orthanc.RestApiPost, '/instances', 5), (orthanc.RegisterOnChangeCallback, 5),
                (orthanc.RegisterRestCallback, '(', print),
                (orthanc.RegisterOnChangeCallback, nothing), (orthanc.RegisterOnChangeCallback, nothing),
            ):
                try:
                    function(*arguments)
                    note(None)
                except Exception as e:
                    note(type(e).__name__)
            """
        )
        self.assertEqual(
            [name for (name,) in self.noted()],
            ["TypeError"] * 4 + ["ValueError", "ValueError", None, "RuntimeError"],
        )

    async def test_errors(self) -> None:
        """The start is refused with file and line; nothing of the script stays."""
        self.assertIn("script.py:3: ZeroDivisionError", await self.fails("\n1 / 0"))
        self.assertIn("script.py:2: SyntaxError", await self.fails("a = = b"))
        self.assertIn("orthanc.py", await self.fails("", "orthanc.py"))
        self.assertIn("ends in .py", await self.fails("", "script.txt"))
        self.assertIn("another module", await self.fails("", "json.py"))
        self.assertIn("SystemExit", await self.fails("import sys; sys.exit(1)"))
        self.assertNotIn("script", sys.modules)
        self.assertNotIn("orthanc", sys.modules)
        self.assertNotIn(str(self.scripts), sys.path)

    async def test_no_file(self) -> None:
        """A script that is not there."""
        await self.stop()
        with self.assertRaises(ConfigurationError) as caught:
            await self._start({"PythonScript": "/nowhere/script.py"})
        self.running = False
        self.assertIn("no such file", str(caught.exception))

    async def test_verbose(self) -> None:
        """What scripts import is logged, when it is asked for."""
        (self.scripts / "beside.py").write_text("")
        for verbose in (False, True):
            log = log_lines(self, self.levels)
            await self.restart(PythonScript=self.script("import beside"), PythonVerbose=verbose)
            self.assertEqual("has imported beside" in log.getvalue(), verbose)

    async def test_several(self) -> None:
        """Scripts come in the order of the files; each may register, but there is one SCP of a kind."""
        text = "import sys; note(__name__); orthanc.RegisterOnChangeCallback(lambda *change: note(__name__, change[0]))"
        await self.start_scripts(text, text)
        await self.client.store(dicom_object())
        await self.stop()
        noted = self.noted()
        self.assertEqual(noted[:4], [["script0"], ["script1"], ["script0", 10], ["script1", 10]])
        self.assertEqual(noted[-2:], [["script0", 11], ["script1", 11]])
        find = "orthanc.RegisterFindCallback(print)"
        paths = [self.script(find, f"script{number}.py") for number in (0, 1)]
        with self.assertRaises(ConfigurationError) as caught:
            await self._start({"Orthanctw": {"PythonScripts": paths}})
        self.running = False
        self.flushLoggedErrors()
        self.assertIn("script0.py", str(caught.exception))
        self.assertIn("script1.py:2", str(caught.exception))

    async def test_section(self) -> None:
        """The script of the section; modules beside it can be imported, and are gone afterwards."""
        (self.scripts / "beside.py").write_text("value = 5\n")
        await self.restart(Python={"Path": self.script("import beside; note(beside.value)")})
        self.assertEqual(self.noted(), [[5]])
        await self.stop()
        self.assertNotIn("beside", sys.modules)

    async def test_virtual_environment(self) -> None:
        """Packages of a virtual environment can be imported; one of another Python is refused."""
        environment = Path(self.mktemp()).absolute()
        packages = environment / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        packages.mkdir(parents=True)
        (packages / "packaged_there.py").write_text("value = 7\n")
        own = {"PythonVirtualEnvironment": str(environment)}
        await self.start_scripts("import packaged_there; note(packaged_there.value)", Orthanctw=own)
        self.assertEqual(self.noted(), [[7]])
        await self.stop()
        with self.assertRaises(ConfigurationError):
            await self._start({"PythonScript": self.script(""), "Orthanctw": {"PythonVirtualEnvironment": "/nowhere"}})
        self.running = False


class ChangeTests(PythonCase):
    """``RegisterOnChangeCallback``."""

    async def test_example(self) -> None:
        """That of the documentation."""
        log = log_lines(self, self.levels)
        await self.start_scripts(example("Changes"), StableAge=1)
        stored = await self.client.store(dicom_object())
        await self.until(lambda: f"Study {stored['ParentStudy']} is stable" in log.getvalue())

    async def test_changes(self) -> None:
        """All changes from the start to the end, in order."""
        await self.start_scripts(CHANGES)
        stored = await self.client.store(dicom_object())
        await self.client.ask("DELETE", f"/instances/{stored['ID']}")
        await self.stop()
        noted = self.noted()
        self.assertEqual((noted[0], noted[-1]), ([10, 4, ""], [11, 4, ""]))
        self.assertIn([3, 3, stored["ID"]], noted)
        self.assertIn([6, 1, stored["ParentStudy"]], noted)
        self.assertIn([1, 3, stored["ID"]], noted)
        self.assertLess(noted.index([3, 3, stored["ID"]]), noted.index([1, 3, stored["ID"]]))

    async def test_nested(self) -> None:
        """A callback calls the server; its errors are logged and stop nobody."""
        await self.start_scripts(
            """
            def changed(change, level, resource):
                if change == orthanc.ChangeType.NEW_INSTANCE:
                    note(json.loads(orthanc.RestApiGet('/instances/' + resource + '/simplified-tags'))['PatientID'])
                    raise ValueError('no')
                if change == orthanc.ChangeType.JOB_SUCCESS:
                    note('job', json.loads(orthanc.RestApiGet('/jobs/' + resource))['State'])

            orthanc.RegisterOnChangeCallback(changed)
            """
        )
        stored = await self.client.store(dicom_object())
        await self.client.post(f"/studies/{stored['ParentStudy']}/anonymize", {})
        await self.until(lambda: ["job", "Success"] in self.noted())
        self.assertEqual(self.noted()[0], ["P1"])
        self.assertTrue(self.flushLoggedErrors(ValueError))
