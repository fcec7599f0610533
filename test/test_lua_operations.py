"""What callbacks of Lua ask for that happens after them: sending, changing, deleting, programs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
from twisted.logger import capturedLogs

from orthanctw.model import JobState, ResourceLevel
from test.certificates import certificates
from test.job_servers import SEQUENCE, JobsCase
from test.rest_samples import NOBODY, SPOOL, dicom_object
from test.scu_case import program
from test.servers import ct_image, free_port, wait_until
from test.test_peers_processes import HoldingPeer
from test.test_rest_peers import PeerCase

_OVER = (JobState.SUCCESS, JobState.FAILURE)
_KEY = 1024


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] not in "ZX"
    return False


class OperationsCase(PeerCase):
    """A server with a script, and a modality ``sink``; nobody listens for ``down``."""

    async def setUp(self) -> None:
        await super().setUp()
        self.sink_port = free_port()
        self.work = Path(self.mktemp()).absolute()
        self.received = self.work / "received"
        self.received.mkdir(parents=True)

    async def begin_script(self, script: str, **settings: object) -> None:
        """Go on with a script."""
        path = self.work / "script.lua"
        path.write_text(script)
        modalities = {"sink": ["SINK", "127.0.0.1", self.sink_port], "down": ["DOWN", "127.0.0.1", free_port()]}
        peers = {"peer": [f"http://127.0.0.1:{self.peer_port}/"]}
        options = {"DicomModalities": modalities, "OrthancPeers": peers, **settings}
        await self.restart(LuaScripts=[str(path)], ExecuteLuaEnabled=True, **options)

    @contextlib.contextmanager
    def sink(self) -> Iterator[None]:
        """The modality ``sink``."""
        command = ("/usr/bin/storescp", "-aet", "SINK", "-od", str(self.received), str(self.sink_port))
        with program(self.sink_port, *command, cwd=self.work):
            yield

    def files(self) -> list[Path]:
        return sorted(self.received.iterdir())

    async def update(self, instance: str, level: str = "instances") -> None:
        """Have scripts told that a resource is updated."""
        answer = await self.client.ask("PUT", f"/{level}/{instance}/metadata/{_KEY}", "x")
        self.assertEqual(answer.status, 200)

    async def over(self, count: int = 1) -> list[Any]:
        """The jobs, once so many are over."""
        await self.until(lambda: self.server.jobs.count(*_OVER) == count)
        found: list[Any] = await self.client.json("/jobs?expand")
        return found

    async def outcome(self, body: str, **settings: object) -> Any:
        """The job of a callback for an updated instance `id`."""
        await self.begin_script(f"function OnUpdatedInstance(id) {body} end", **settings)
        self.instance = (await self.client.store(dicom_object()))["ID"]
        await self.update(self.instance)
        (job,) = await self.over()
        return job

    async def instances(self) -> list[str]:
        found: list[str] = await self.client.json("/instances")
        return found

    def assertFailed(self, job: Any, code: int, details: str) -> None:
        """The job has failed for this reason."""
        self.assertEqual((job["State"], job["ErrorCode"]), ("Failure", code), job)
        self.assertIn(details, job["ErrorDetails"])


class RoutingTests(OperationsCase):
    """The classical scripts."""

    async def test_modality(self) -> None:
        """One line sends what is received on; the job looks as Orthanc's does."""
        await self.begin_script("function OnStoredInstance(id) SendToModality(id, 'sink') end")
        with self.sink():
            await self.client.store(dicom_object())
            (job,) = await self.over()
        self.assertEqual(job["Content"], {"CountOperations": 1, "Description": "Lua"})
        self.assertEqual((job["Type"], job["State"], job["Priority"]), (SEQUENCE, "Success", 0))
        (file,) = self.files()
        self.assertEqual(pydicom.dcmread(file).SOPInstanceUID, "1.2.1.1.1")
        self.assertEqual(len(await self.instances()), 1)

    async def test_condition(self) -> None:
        """Only what a script picks by a tag is sent."""
        await self.begin_script(
            "function OnStoredInstance(id, tags)"
            "  if string.find(tags.PatientName, 'DAVID') then Delete(SendToModality(id, 'sink')) end"
            " end"
        )
        with self.sink():
            await self.client.store(dicom_object())
            await self.client.store(dicom_object("P2", "1.2.2", "1.2.2.1", "1.2.2.1.1", PatientName="DAVID^A"))
            (job,) = await self.over()
        self.assertEqual(job["State"], "Success")
        self.assertEqual([str(pydicom.dcmread(file).PatientName) for file in self.files()], ["DAVID^A"])
        self.assertEqual(len(await self.instances()), 1)

    async def test_changed_copy(self) -> None:
        """A changed copy is sent and deleted; that it comes from Lua keeps the script from going on for ever."""
        await self.begin_script(
            "function OnStoredInstance(id, tags, metadata, origin)"
            "  if origin.RequestOrigin ~= 'Lua' then"
            "    local replace = {StationName = 'A', ['0009-0010'] = 'MAKER', ['0009-1001'] = 'secret'}"
            "    Delete(SendToModality(ModifyInstance(id, replace, {'StudyDescription'}), 'sink'))"
            "  end"
            " end",
            Dictionary={"0009,1001": ["LO", "Tag", 1, 1, "MAKER"]},
        )
        with self.sink():
            instance = (await self.client.store(dicom_object()))["ID"]
            (job,) = await self.over()
        self.assertEqual((job["State"], job["Content"]["CountOperations"]), ("Success", 3), job)
        (file,) = self.files()
        dataset = pydicom.dcmread(file)
        self.assertEqual((dataset.StationName, dataset[0x0009, 0x1001].value), ("A", "secret"))
        self.assertNotIn("StudyDescription", dataset)
        self.assertNotEqual(dataset.SOPInstanceUID, "1.2.1.1.1")
        self.assertEqual(await self.instances(), [instance])

    async def test_https(self) -> None:
        """Objects are sent to a peer over HTTPS."""
        known = certificates()
        other, _ = await self.other(SslEnabled=True, SslCertificate=known.server.combined)
        await self.begin_script(
            "function OnStoredInstance(id) SendToPeer(id, 'safe') end",
            OrthancPeers={"safe": [f"https://localhost:{other.http_port}/"]},
            HttpsCACertificates=known.trusted,
        )
        instance = (await self.client.store(dicom_object()))["ID"]
        (job,) = await self.over()
        self.assertEqual(job["State"], "Success", job)
        self.assertIsNotNone(await other.index.resource(ResourceLevel.INSTANCE, instance))


class ChainTests(OperationsCase):
    """What follows what."""

    async def test_failed_transfer(self) -> None:
        """What cannot be sent is not deleted; what does not depend on it is done all the same."""
        with self.sink():
            job = await self.outcome("Delete(SendToModality(id, 'down')) SendToModality(id, 'sink')")
        self.assertFailed(job, 9, "Operation 1 (StoreScu)")
        self.assertEqual(len(self.files()), 1)
        self.assertEqual(await self.instances(), [self.instance])

    async def test_failed_peer(self) -> None:
        """The same of a peer."""
        job = await self.outcome(
            "Delete(SendToPeer(id, 'none'))",
            OrthancPeers={"none": [f"http://127.0.0.1:{free_port()}/"]},
            Orthanctw={"PeerRetries": [0]},
        )
        self.assertFailed(job, 9, "Operation 1 (StorePeer)")
        self.assertEqual(await self.instances(), [self.instance])

    async def test_failed_modification(self) -> None:
        """Without a result there is nothing to send or to delete."""
        with self.sink():
            job = await self.outcome(f"Delete(SendToModality(ModifyInstance('{NOBODY}', {{}}), 'sink')) Delete(id)")
        self.assertFailed(job, 17, "Operation 1 (ModifyInstance)")
        self.assertEqual(self.files(), [])
        self.assertEqual(await self.instances(), [self.instance])

    async def test_one_result_sent_twice(self) -> None:
        """A result goes through transfers that follow, also those that fail."""
        with self.sink():
            job = await self.outcome(
                "local made = ModifyInstance(id, {PatientName = 'B'})"
                " SendToModality(made, 'down') SendToModality(made, 'sink')"
            )
        self.assertFailed(job, 9, "Operation 2 (StoreScu)")
        self.assertEqual([str(pydicom.dcmread(file).PatientName) for file in self.files()], ["B"])

    async def test_whole_study(self) -> None:
        """A study is sent and deleted as a whole."""
        script = "Delete(SendToModality(SendToPeer(id, 'peer'), 'sink'))"
        await self.begin_script(f"function OnUpdatedStudy(id) {script} end")
        uploaded = [await self.client.store(dicom_object(sop=f"1.2.1.1.{number}")) for number in (1, 2, 3)]
        with self.sink():
            await self.update(uploaded[0]["ParentStudy"], "studies")
            (job,) = await self.over()
        self.assertEqual((job["State"], job["Progress"]), ("Success", 100), job)
        self.assertEqual((len(self.files()), len(self.peer.asked)), (3, 3))
        self.assertEqual(await self.instances(), [])

    async def test_instances_only(self) -> None:
        """Only instances can be changed and given to programs."""
        await self.begin_script(
            "function OnUpdatedStudy(id) ModifyResource(id, {PatientName = 'B'}) end"
            " function OnUpdatedSeries(id) CallSystem(id, 'true') end"
        )
        uploaded = await self.client.store(dicom_object())
        await self.update(uploaded["ParentStudy"], "studies")
        await self.update(uploaded["ParentSeries"], "series")
        for job in await self.over(2):
            self.assertFailed(job, 8, "instance")

    async def test_unknown_resources(self) -> None:
        """What is not there cannot be sent; to delete it does no harm, and without a result there is nothing to do."""
        job = await self.outcome(f"Delete('{NOBODY}') SendToModality('', 'down') SendToModality('5', 'sink')")
        self.assertFailed(job, 17, "Operation 3 (StoreScu)")


class MistakeTests(OperationsCase):
    """Scripts that ask for what cannot be."""

    async def errors(self, body: str) -> str:
        """What the log says of a callback; jobs are over then."""
        await self.begin_script(f"function OnUpdatedInstance(id) {body} end function OnUpdatedSeries() seen = 1 end")
        uploaded = await self.client.store(dicom_object())
        with capturedLogs() as logs:
            await self.update(uploaded["ID"])
            await self.update(uploaded["ParentSeries"], "series")
            # Told in its order: what was before is over.
            while (await self.client.post("/tools/execute-script", "print(seen)")).text != "1\n":
                pass
            await self.until(lambda: self.server.jobs.count(*_OVER) == len(self.server.jobs.jobs()))
        return "".join(str(event.get("reason", "")) for event in logs)

    async def test_mistakes(self) -> None:
        """They are logged, and what comes after them in the same callback is not done."""
        for body, reason in (
            ("SendToModality(id, 'nobody') Delete(id)", "No modality has the name 'nobody'"),
            ("SendToModality(id) Delete(id)", "No modality has the name ''"),
            ("SendToModality(id, {}) Delete(id)", "Modality must be a string"),
            ("SendToPeer(id, 'nobody') Delete(id)", "No peer has the name 'nobody'"),
            ("SendToModality(nil, 'sink') Delete(id)", "SendToModality(): there is no resource"),
            ("Delete(nil)", "Delete(): there is no resource"),
            ("Delete(ModifyInstance(id, {PatientID = '1'}))", "Force"),
            ("Delete(ModifyInstance(id, {NoTag = '1'}))", "NoTag"),
            ("Delete(ModifyInstance(id, 'x'))", "Replace must be an object"),
            ("Delete(CallSystem(id))", "this is no command"),
            ("Delete(CallSystem(id, 'true', {'a\\0b'}))", "this is no command"),
            ("Delete(CallSystem(id, 'true', {{}}))", "array of strings"),
        ):
            self.assertIn(reason, await self.errors(body), body)
            self.assertEqual(len(await self.instances()), 1, body)
            self.assertEqual(self.server.jobs.jobs(), [], body)

    async def test_before_a_mistake(self) -> None:
        """What was asked for before a mistake is done."""
        with self.sink():
            await self.errors("SendToModality(id, 'sink') SendToModality(id, 'nobody') Delete(id)")
        self.assertEqual(len(self.files()), 1)
        self.assertEqual(len(await self.instances()), 1)

    async def test_scripts_of_clients(self) -> None:
        """A callback that a client has defined runs no program; and clients submit no such operations as jobs."""
        await self.begin_script("")
        marker = self.work / "marker"
        define = f"function OnUpdatedInstance(id) seen = 1 CallSystem(id, 'touch', {{'{marker}'}}) Delete(id) end"
        self.assertEqual((await self.client.post("/tools/execute-script", define)).status, 200)
        await self.update((await self.client.store(dicom_object()))["ID"])
        while (await self.client.post("/tools/execute-script", "print(seen)")).text != "1\n":
            pass
        for operation in ({"Type": "SystemCall", "Arguments": ["touch", str(marker)], "Resource": NOBODY},):
            body = {"Type": SEQUENCE, "Operations": [operation], "Chain": [operation], "Key": "00"}
            self.assertError(await self.client.post("/jobs", body), 400, 8)
        self.assertEqual(self.server.jobs.jobs(), [])
        self.assertFalse(marker.exists())
        self.flushLoggedErrors()


class NumberTests(OperationsCase):
    """Strings that look like numbers."""

    async def replaced(self, **settings: object) -> str:
        job = await self.outcome("ModifyInstance(id, {StudyID = '007', PatientWeight = '70.50'})", **settings)
        self.assertEqual(job["State"], "Success", job)
        (made,) = set(await self.instances()) - {self.instance}
        tags = await self.client.json(f"/instances/{made}/simplified-tags")
        return f"{tags['StudyID']} {tags['PatientWeight']}"

    async def test_numbers(self) -> None:
        """In replacements they become numbers."""
        self.assertEqual(await self.replaced(), "7 70.5")

    async def test_strings(self) -> None:
        """They stay strings when that is wanted."""
        self.assertEqual(await self.replaced(Orthanctw={"LuaKeepStrings": True}), "007 70.50")


class ProgramTests(OperationsCase):
    """``CallSystem``."""

    def spooled(self) -> list[str]:
        return os.listdir(self.folder / SPOOL)

    async def test_program(self) -> None:
        """A program is given its arguments as they are, then a file with the object, which goes afterwards."""
        copy, arguments = self.work / "copy", self.work / "arguments"
        command = f'cp "$3" {copy}; echo "$@" > {arguments}'
        job = await self.outcome(f"CallSystem(id, 'sh', {{'-c', [[{command}]], 'sh', '007', '$(x) y'}})")
        self.assertEqual(job["State"], "Success", job)
        self.assertEqual(copy.read_bytes(), dicom_object())
        self.assertTrue(arguments.read_text().startswith("007 $(x) y /"))
        await self.until(lambda: not self.spooled())

    async def test_compressed_object(self) -> None:
        """The file is that of the object, however it is stored; the program may take it away."""
        moved = self.work / "moved"
        job = await self.outcome(f"CallSystem(id, 'sh', {{'-c', 'mv $0 {moved}'}})", StorageCompression=True)
        self.assertEqual(job["State"], "Success", job)
        self.assertEqual(moved.read_bytes(), dicom_object())
        self.assertEqual(await self.instances(), [self.instance])

    async def test_failures(self) -> None:
        """A program that fails, or that is not there, is a failure; nothing is deleted then."""
        job = await self.outcome("Delete(CallSystem(id, 'sh', {'-c', 'exit 3'}))")
        self.assertFailed(job, 10, "Operation 1 (SystemCall): the program has ended with status 3")
        await self.update(self.instance)
        await self.begin_script("function OnUpdatedInstance(id) Delete(CallSystem(id, '/nowhere')) end")
        await self.update(self.instance)
        await self.until(lambda: self.server.jobs.count(*_OVER) == len(self.server.jobs.jobs()) > 1)
        details = {job["ErrorDetails"].rpartition(": ")[2] for job in await self.client.json("/jobs?expand")}
        self.assertIn("the program cannot be found or run", details)
        self.assertEqual(await self.instances(), [self.instance])

    def endless(self) -> str:
        """A call of a program that starts another one, whose number is in a file, and never ends."""
        command = f"cd {self.work}; sleep 1000 & echo $! > new; mv new pid; wait"
        return f"CallSystem(id, 'sh', {{'-c', '{command}'}})"

    async def started(self) -> int:
        """The number of that other program."""
        await self.until((self.work / "pid").exists)
        return int((self.work / "pid").read_text())

    async def test_too_long(self) -> None:
        """A program that lasts too long is ended with all that it has started."""
        job = await self.outcome(f"Delete({self.endless()})", Orthanctw={"LuaWaitTimeout": 1})
        pid = await self.started()
        self.assertFailed(job, 10, "the program has not ended within 1 s")
        await self.until(lambda: not is_alive(pid))
        self.assertEqual(await self.instances(), [self.instance])

    async def test_cancelled(self) -> None:
        """A job that is cancelled ends its program, and deletes nothing."""
        await self.begin_script(f"function OnUpdatedInstance(id) Delete({self.endless()}) end")
        instance = (await self.client.store(dicom_object()))["ID"]
        await self.update(instance)
        pid = await self.started()
        (job,) = await self.client.json("/jobs")
        await self.client.post(f"/jobs/{job}/cancel")
        (ended,) = await self.over()
        self.assertFailed(ended, 37, "")
        await self.until(lambda: not is_alive(pid))
        self.assertEqual(await self.instances(), [instance])
        await self.until(lambda: not self.spooled())

    async def test_stop(self) -> None:
        """A server that stops ends its programs; the next one runs them again."""
        await self.begin_script(
            f"function OnUpdatedInstance(id) Delete({self.endless()}) end", Orthanctw={"ShutdownTimeout": 0}
        )
        await self.update((await self.client.store(dicom_object()))["ID"])
        pid = await self.started()
        (self.work / "pid").unlink()
        await self.restart()
        again = await self.started()
        self.assertTrue(is_alive(again))
        self.assertEqual(len(await self.instances()), 1)
        await self.until(lambda: not is_alive(pid))
        (job,) = await self.client.json("/jobs")
        await self.client.post(f"/jobs/{job}/cancel")
        await self.until(lambda: not is_alive(again))


class KilledTests(JobsCase):
    """A process that dies in the middle."""

    def test_killed(self) -> None:
        """The chain goes on where it was: what was not sent is sent, and deleted only then; no copy is left."""
        peer = HoldingPeer(free=0)
        self.addCleanup(peer.close)
        script = Path(self.mktemp()).absolute()
        script.write_text(
            "function OnUpdatedInstance(id)"
            "  Delete(SendToPeer(ModifyInstance(id, {PatientName = 'B'}), 'peer')) Delete(id)"
            " end"
        )
        options = {
            "LuaScripts": [str(script)],
            "OrthancPeers": {"peer": [f"http://127.0.0.1:{peer.server_address[1]}/"]},
        }
        server = self.own_server(**options)
        instance = server.upload(ct_image(1))
        server.request("PUT", f"/instances/{instance}/metadata/{_KEY}", "x")
        wait_until(lambda: peer.held, lambda: f"a transfer: {server.printed()}")
        server.kill()
        peer.release()
        self.restart()
        (job,) = server.get("/jobs")
        ended = self.wait_for(job, "Success", "Failure")
        self.assertEqual(ended["State"], "Success", json.dumps(ended))
        self.assertEqual(server.get("/instances"), [])
        self.assertIn(b"PN\x02\x00B ", peer.taken[-1])
