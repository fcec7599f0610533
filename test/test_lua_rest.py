"""Lua in a server."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from orthanctw.errors import ConfigurationError
from orthanctw.model import JobState
from test.rest_samples import NOBODY, RestCase, dicom_object

SCRIPTS = "/tools/execute-script"


class ExecuteTests(RestCase):
    """``/tools/execute-script``."""

    SETTINGS: ClassVar = {"ExecuteLuaEnabled": True, "Name": "T"}

    async def run_script(self, source: str) -> str:
        answer = await self.client.post(SCRIPTS, source)
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/plain"), answer.text)
        return answer.text

    async def test_disabled(self) -> None:
        """Nobody may run scripts unless it is configured."""
        await self.restart(ExecuteLuaEnabled=False)
        self.assertEmpty(await self.client.post(SCRIPTS, "print(1)"), 403)

    async def test_output(self) -> None:
        """The answer is what was printed; globals stay."""
        self.assertEqual(await self.run_script("x = 5 print('a', 1) return 7"), "a, 1\n")
        self.assertEqual(await self.run_script("print(x)"), "5\n")
        self.assertEqual(await self.run_script(""), "")

    async def test_errors(self) -> None:
        """Errors have line and reason."""
        for source, details in (
            ("x = 1\nerror('no')", '[string "line"]:2: no'),
            ("x = = 1", "[string \"line\"]:1: unexpected symbol near '='"),
        ):
            error = self.assertError(await self.client.post(SCRIPTS, source), 500, 2031)
            self.assertEqual(error["Details"], details)
        self.flushLoggedErrors()

    async def test_rest_api(self) -> None:
        """Scripts use the API that clients use; even this very route."""
        stored = await self.client.store(dicom_object())
        printed = await self.run_script(
            f"print(ParseJson(RestApiGet('/instances/{stored['ID']}/simplified-tags')).PatientID)"
            f"print(#RestApiGet('/instances/{stored['ID']}/file'),"
            " ParseJson(RestApiGet('/instances?limit=1&since=0'))[1])"
            f"print(RestApiGet('/instances/{NOBODY}'), RestApiGet('/nowhere'), RestApiPost('{SCRIPTS}', 'print(5)'))"
            f"print(SetStableStatus('{stored['ParentSeries']}', true), GetOrthancConfiguration().Name)"
            f"print(RestApiDelete('/instances/{stored['ID']}'), DumpJson(ParseJson(RestApiGet('/instances'))))"
        )
        self.assertEqual(
            printed, f"P1\n{len(dicom_object())}, {stored['ID']}\nnil, nil, 5\n\ntrue, T\ntrue, []\n"
        )
        self.flushLoggedErrors()

    async def test_upload(self) -> None:
        """Objects that scripts store are told to come from Lua; bytes are not touched."""
        await self.client.store(dicom_object())
        data = dicom_object(sop="1.2.1.1.9", PatientComments="\0\xff")
        self.server.lua.engine.notify("x")
        printed = await self.run_script(
            "local id = ParseJson(RestApiGet('/instances'))[1] local file = RestApiGet('/instances/' .. id .. '/file')"
            "RestApiDelete('/instances/' .. id)"
            "print(ParseJson(RestApiPost('/instances', file)).Status, #file)"
            "print(RestApiGet('/instances/' .. id .. '/metadata/Origin'))"
        )
        self.assertEqual(printed, f"Success, {len(dicom_object())}\nLua\n")
        self.assertNotEqual(data, dicom_object())

    async def test_http(self) -> None:
        """Scripts ask other servers, and this one by HTTP, as it goes on meanwhile."""
        printed = await self.run_script(
            f"print(ParseJson(HttpGet('http://127.0.0.1:{self.port}/system')).Name,"
            f" HttpGet('http://127.0.0.1:{self.port}/nowhere'),"
            f" HttpPost('http://127.0.0.1:{self.port}/tools/lookup', 'P1'))"
        )
        self.assertEqual(printed, "T, nil, []\n")
        self.flushLoggedErrors()

    async def test_key_values(self) -> None:
        """Values outlive the server."""
        await self.run_script("StoreKeyValue('s', 'k', 'a\\0b')")
        await self.restart()
        self.assertEqual(await self.run_script("print(#GetKeyValue('s', 'k'), GetKeyValue('s', 'l'))"), "3, nil\n")


class EventTests(RestCase):
    """What scripts are told."""

    async def test_events(self) -> None:
        """Scripts are told of the start, of jobs, of changed metadata and of what is deleted, from the top."""
        names = [f"OnDeleted{level}" for level in ("Patient", "Study", "Series", "Instance")]
        names += ["OnUpdatedInstance", "OnJobSubmitted", "OnJobSuccess", "Initialize"]
        script = Path(self.mktemp()).absolute()
        define = "function {0}(id) told[#told + 1] = '{0} ' .. tostring(id) end\n"
        script.write_text("told = {}\n" + "".join(define.format(name) for name in names))
        await self.restart(LuaScripts=[str(script)], ExecuteLuaEnabled=True)
        stored = await self.client.store(dicom_object())
        instance = stored["ID"]
        await self.client.ask("PUT", f"/instances/{instance}/metadata/1024", "x")
        job = await self.client.post(f"/studies/{stored['ParentStudy']}/archive", {"Asynchronous": True})
        await self.until(lambda: self.server.jobs.count(JobState.SUCCESS))
        await self.client.ask("DELETE", f"/instances/{instance}")
        told = (await self.client.post(SCRIPTS, "for _, line in ipairs(told) do print(line) end")).text.split("\n")
        self.assertEqual(
            told,
            [
                "Initialize nil",
                f"OnUpdatedInstance {instance}",
                f"OnJobSubmitted {job.json()['ID']}",
                f"OnJobSuccess {job.json()['ID']}",
                f"OnDeletedPatient {stored['ParentPatient']}",
                f"OnDeletedStudy {stored['ParentStudy']}",
                f"OnDeletedSeries {stored['ParentSeries']}",
                f"OnDeletedInstance {instance}",
                "",
            ],
        )

    async def test_deletion_asked_for(self) -> None:
        """`Delete` in a callback deletes after it."""
        script = Path(self.mktemp()).absolute()
        script.write_text("function OnUpdatedInstance(id) Delete(id) end")
        await self.restart(LuaScripts=[str(script)])
        instance = (await self.client.store(dicom_object()))["ID"]
        await self.client.ask("PUT", f"/instances/{instance}/metadata/1024", "x")
        await self.until(lambda: self.server.jobs.count(JobState.SUCCESS))
        self.assertEqual(await self.client.json("/instances"), [])


class StartTests(RestCase):
    """Configured scripts."""

    async def test_scripts(self) -> None:
        """They are run before anybody is served; one that fails stops the start."""
        script = Path(self.mktemp()).absolute()
        script.write_text("x = RestApiGet('/system') ~= nil")
        await self.restart(LuaScripts=[str(script)], ExecuteLuaEnabled=True)
        self.assertEqual((await self.client.post(SCRIPTS, "print(x)")).text, "true\n")
        script.write_text("\nerror('no')")
        with self.assertRaisesRegex(ConfigurationError, f"{script.name}:2: no"):
            await self.restart(LuaScripts=[str(script)])
        self.running = False
