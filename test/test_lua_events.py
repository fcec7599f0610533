"""What Lua is told of."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from orthanctw.model import JobState
from test.lua_servers import LuaServerCase
from test.rest_samples import dicom_object

_STORED = "function OnStoredInstance(id, tags, metadata, origin) note(id, tags, metadata, origin) end "


class StoredTests(LuaServerCase):
    """``OnStoredInstance``."""

    async def test_values(self) -> None:
        """It is told of tags, metadata and origin of each new instance, and of nothing that is stored already."""
        await self.scripted(_STORED)
        data = dicom_object(ImageComments="x" * 300)
        first = (await self.client.store(data))["ID"]
        self.assertEqual((await self.client.store(data))["Status"], "AlreadyStored")
        await self.storescu(self.file(dicom_object(sop="1.2.1.1.2")))
        told = await self.told()
        self.assertEqual(len(told), 2)
        public_id, tags, metadata, origin = told[0]
        self.assertEqual(public_id, first)
        shown = await self.client.json(f"/instances/{first}/simplified-tags")
        self.assertIsNone(shown.pop("ImageComments"))
        self.assertEqual(tags, shown)
        self.assertEqual(metadata, await self.client.json(f"/instances/{first}/metadata", expand=""))
        self.assertEqual(origin, {"RequestOrigin": "RestApi", "RemoteIp": "127.0.0.1", "Username": ""})
        dicom = {"RemoteIp": "127.0.0.1", "RemoteAet": "STORESCU", "CalledAet": "ORTHANC"}
        self.assertEqual(told[1][3], {"RequestOrigin": "DicomProtocol", **dicom})
        self.assertEqual(told[1][2]["CalledAET"], "ORTHANC")

    async def test_overwritten(self) -> None:
        """What takes the place of another object is new; the other one has been deleted before."""
        await self.scripted(
            "function OnStoredInstance(id, tags) note('stored') end "
            "function OnDeletedSeries(id) note('deleted') end",
            OverwriteInstances=True,
            StableAge=60,
        )
        stored = await self.client.store(dicom_object())
        await self.client.store(dicom_object(ImageComments="x"))
        self.assertEqual(await self.told(), [["stored"], ["deleted"], ["stored"]])
        # The series of both has become another one, which will be stable as any other.
        self.assertFalse((await self.client.json(f"/series/{stored['ParentSeries']}"))["IsStable"])

    async def test_each_once(self) -> None:
        """Each of many objects is told of once, however they come."""
        await self.scripted(
            "seen, n = {}, 0 function OnStoredInstance(id, tags) "
            "  assert(not seen[id] and tags.PatientID == 'P1') seen[id], n = true, n + 1 end"
        )
        await self.zipped(dicom_object(sop=f"1.2.1.1.{number}") for number in range(300))
        path = self.work / "files"
        path.mkdir()
        for number in range(300, 400):
            (path / str(number)).write_bytes(dicom_object(sop=f"1.2.1.1.{number}"))
        await self.storescu("+sd", str(path))
        self.assertEqual(len(await self.instances()), 400)
        self.assertEqual(await self.run_script("print(n)"), "400\n")
        metrics = self.server.metrics.snapshot()
        self.assertEqual((metrics["orthanctw_lua_events_total"][0], metrics["orthanctw_lua_waiting"][0]), (400, 0))

    async def test_deleted_meanwhile(self) -> None:
        """What is gone when its turn comes is not told of."""
        gate = self.gate()
        await self.scripted(
            f"function OnStoredInstance(id, tags) note('stored', tags.StudyID) "
            f"  if tags.StudyID == 'first' then {gate.code} end end "
            "function OnDeletedInstance(id) note('deleted') end"
        )
        await self.client.store(dicom_object(StudyID="first"))
        await self.until(gate.is_reached)
        second = await self.client.store(dicom_object(sop="1.2.1.1.2", StudyID="second"))
        await self.client.ask("DELETE", f"/instances/{second['ID']}")
        await self.client.store(dicom_object(sop="1.2.1.1.3", StudyID="third"))
        self.assertEqual(self.server.metrics.snapshot()["orthanctw_lua_waiting"][0], 3)
        gate.open()
        self.assertEqual(await self.told(), [["stored", "first"], ["deleted"], ["stored", "third"]])

    async def test_failures(self) -> None:
        """A callback that fails is logged with its script and line; the next one is called."""
        await self.scripted("function OnStoredInstance(id, tags)\n note(id)\n error('broken')\nend")
        await self.client.store(dicom_object())
        with capturedLogs() as logs:
            await self.client.store(dicom_object(sop="1.2.1.1.2"))
            self.assertEqual(len(await self.told()), 2)
        self.assertIn("Lua runtime error: script.lua:6: broken", [event.get("reason") for event in logs])

    async def test_jobs_of_the_end(self) -> None:
        """What a callback asks for while the server stops is done after the next start."""
        gate = self.gate()
        await self.scripted(f"function OnStoredInstance(id) {gate.code} Delete(id) end", ShutdownTimeout=60)
        await self.client.store(dicom_object())
        await self.until(gate.is_reached)
        restarting = Deferred.fromCoroutine(self.restart())
        await self.until(lambda: self.server.jobs._stopping)
        gate.open()
        await restarting
        await self.until(lambda: self.server.jobs.count(JobState.SUCCESS))
        self.assertEqual(await self.instances(), [])

    async def test_too_slow_at_the_end(self) -> None:
        """A callback that does not end when the server stops is killed, and the log tells what was not told."""
        await self.scripted(
            "function OnStoredInstance() RestApiGet('/begun') while true do end end", ShutdownTimeout=1
        )
        for number in range(3):
            await self.client.store(dicom_object(sop=f"1.2.1.1.{number}"))
        with capturedLogs() as logs:
            await self.stop()
        told = [event["count"] for event in logs if "were not told" in (event.get("log_format") or "")]
        self.assertEqual(told, [2])
        self.flushLoggedErrors()


class StableTests(LuaServerCase):
    """``OnStable...``."""

    async def test_values(self) -> None:
        """It is told of the main tags of the level, and of the metadata."""
        levels = {"Patient": "patients", "Study": "studies", "Series": "series"}
        await self.scripted(
            "".join(f"function OnStable{level}(id, tags, metadata) note(id, tags, metadata) end " for level in levels)
        )
        stored = await self.client.store(dicom_object())
        for count, (level, plural) in enumerate(levels.items(), 1):
            public_id = stored[f"Parent{level}"]
            await self.run_script(f"told = {{}} assert(SetStableStatus('{public_id}', true))")
            await self.until_events(count)
            ((told, tags, metadata),) = await self.told()
            resource = await self.client.json(f"/{plural}/{public_id}")
            self.assertEqual((told, tags), (public_id, resource["MainDicomTags"]))
            self.assertEqual(metadata, await self.client.json(f"/{plural}/{public_id}/metadata", expand=""))

    async def until_events(self, count: int) -> None:
        """Wait until so many have happened since the start."""
        await self.until(lambda: self.server.metrics.snapshot().get("orthanctw_lua_events_total", (0,))[0] == count)

    async def test_job(self) -> None:
        """A stable study can be handed to a job."""
        await self.scripted(
            "function OnStableStudy(id) if done then return end done = true "
            "  note(RestApiPost('/studies/' .. id .. '/modify', "
            "    DumpJson({Replace = {StudyDescription = 'NEW'}, Asynchronous = true})) ~= nil) end "
            "function OnJobSuccess(id) note(ParseJson(RestApiGet('/jobs/' .. id)).Type) end",
        )
        stored = await self.client.store(dicom_object())
        await self.run_script(f"SetStableStatus('{stored['ParentStudy']}', true)")
        # The job has succeeded before Lua is told of it.
        while len(await self.told()) < 2:
            pass
        self.assertEqual(await self.told(), [[True], ["ResourceModification"]])
        studies = await self.client.json("/studies", expand="")
        descriptions = sorted(study["MainDicomTags"]["StudyDescription"] for study in studies)
        self.assertEqual(descriptions, ["HEAD", "NEW"])


class HeartBeatTests(LuaServerCase):
    """``OnHeartBeat``."""

    async def test_heart_beat(self) -> None:
        """It is called again and again, whoever defines it."""
        await self.restart(LuaHeartBeatPeriod=1)
        await self.run_script("n = 0 function OnHeartBeat() n = n + 1 if n == 2 then RestApiGet('/second') end end")
        with capturedLogs() as logs:
            await self.until(lambda: any(event.get("function") == "RestApiGet" for event in logs))
        self.assertEqual(await self.run_script("print(n)"), "2\n")
        self.flushLoggedErrors()

    async def test_off(self) -> None:
        """Without a period there is none."""
        await self.scripted("function OnHeartBeat() end")
        self.assertFalse(self.server.lua._heart.running)
