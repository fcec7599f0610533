"""Each block of ``docs/lua.md`` does what the page says, in a server with clients."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import pydicom
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.model import JobState, ResourceLevel
from orthanctw.settings import Settings
from test.certificates import certificates
from test.dicom_peers import run
from test.http_servers import Asked, Say
from test.lua_servers import LuaServerCase
from test.rest_samples import Client, dicom_object, pixels
from test.scu_case import program
from test.servers import free_port
from test.test_lua_http import credentials
from test.test_rest_peers import PeerCase
from test.worklist_case import WorklistCase, step

_HERE: Final = Path(__file__).parent
_API: Final = json.loads((_HERE / "data" / "lua_api.json").read_text("utf-8"))
_OVER: Final = (JobState.SUCCESS, JobState.FAILURE)
#: Notes what is called, and what is printed, in a file.
_WRAP: Final = """
local function noted(name, f)
  return function(...)
    local texts = {}
    for index, value in ipairs({...}) do texts[index] = tostring(value) end
    local file = io.open('%s', 'a')
    file:write(name, '\\t', name == 'print' and table.concat(texts, ', ') or '', '\\n')
    file:close()
    return f(...)
  end
end
for _, name in ipairs(%s) do
  if _G[name] then _G[name] = noted(name, _G[name]) end
end
"""


def sections() -> dict[str, str]:
    """Text below each heading of the page."""
    page = (_HERE.parent / "docs" / "lua.md").read_text("utf-8")
    _, *parts = re.split(r"^#+ (.*)\n", page, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def blocks(section: str, language: str = "lua") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


class PageTests(SynchronousTestCase):
    def test_all_are_shown(self) -> None:
        """Each callback and function is in a block, and in a table; each block is run by a test."""
        found = sections()
        shown = "\n".join(text for section in found.values() for text in blocks(section))
        for name in (*_API["callbacks"], *_API["functions"]):
            self.assertRegex(shown, rf"\b{name}\(", name)
        for heading, names in (("Callbacks", "callbacks"), ("Filters", "callbacks"), ("Functions", "functions")):
            listed = set(re.findall(r"`(\w+)", found[heading]))
            missing = set(_API[names]) - listed
            if names == "callbacks":
                missing = {name for name in missing if name.endswith("Filter") == (heading == "Filters")}
            self.assertEqual(missing, set(), heading)
        tests = Path(__file__).read_text("utf-8")
        for heading, section in found.items():
            self.assertLessEqual(len(blocks(section)), 1, heading)
            if blocks(section):
                self.assertIn(f'self.example("{heading}"', tests)

    def test_configuration(self) -> None:
        """The options that are shown are there."""
        (text,) = blocks(sections()["Loading"], "json")
        settings = Settings.parse(json.loads(text), "/")
        self.assertEqual((len(settings.lua.lua_scripts), settings.lua.lua_heart_beat_period), (2, 60))


class ExampleCase(LuaServerCase, PeerCase):
    """A test that runs blocks of the page, in which all must be called that stands there."""

    SETTINGS: ClassVar = LuaServerCase.SETTINGS

    async def setUp(self) -> None:
        await super().setUp()
        self.archive_port = free_port()
        self.received = self.work / "received"
        self.received.mkdir()
        self.block = ""

    async def tearDown(self) -> None:
        await super().tearDown()
        names = {name for kind in ("callbacks", "functions") for name in _API[kind]}
        in_block = names & set(re.findall(r"\w+", self.block))
        self.assertEqual({line[0] for line in self.notes()}, in_block)

    def notes(self) -> list[list[str]]:
        """What has been called, with what was printed."""
        path = self.work / "notes"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [line.split("\t", 1) for line in lines]

    async def example(self, heading: str, **settings: object) -> None:
        """Go on with a server that runs the block below a heading."""
        (self.block,) = blocks(sections()[heading])
        paths = []
        own = [name for name in _API["functions"] if re.search(rf"\b{name}\b", self.block)]
        for name, text in (
            ("before", self.wrap(own)),
            ("example", self.block),
            ("after", self.wrap(_API["callbacks"])),
        ):
            paths.append(self.work / f"{name}.lua")
            paths[-1].write_text(text)
        modalities = {"archive": ["ARCHIVE", "127.0.0.1", self.archive_port]}
        scripts = [str(path) for path in paths]
        await self.restart(**{"LuaScripts": scripts, "DicomModalities": modalities, **settings})

    def wrap(self, names: Any) -> str:
        listed = "{" + ", ".join(f"'{name}'" for name in names) + "}"
        return _WRAP % (self.work / "notes", listed)

    async def called(self, name: str) -> None:
        """Wait until the end of what was called."""
        await self.until(lambda: any(noted == name for noted, _ in self.notes()))
        await self.run_script("")

    async def printed(self) -> list[str]:
        """What the block has printed about all that has happened."""
        await self.run_script("")
        return [text for name, text in self.notes() if name == "print"]

    @contextlib.contextmanager
    def archive(self) -> Iterator[None]:
        """The modality ``archive``."""
        command = ("/usr/bin/storescp", "-aet", "ARCHIVE", "-od", str(self.received), str(self.archive_port))
        with program(self.archive_port, *command, cwd=self.work):
            yield

    async def send(self, **values: Any) -> None:
        """Store an object by ``storescu``."""
        await self.storescu("-aet", "STATION", self.file(dicom_object(**values)))

    async def jobs_are_over(self, count: int = 1) -> None:
        await self.until(lambda: self.server.jobs.count(*_OVER) == count)
        self.assertEqual(self.server.jobs.count(JobState.SUCCESS), count, await self.client.json("/jobs?expand"))

    def sent(self) -> list[Any]:
        """What the archive has received."""
        return [pydicom.dcmread(path) for path in sorted(self.received.iterdir())]


class EventTests(ExampleCase):
    """Callbacks."""

    async def test_start_and_end(self) -> None:
        """What is kept at the end is there at the next start."""
        await self.example("Start and end")
        await self.example("Start and end")
        self.assertRegex("\n".join(await self.printed()), r"^In use for 0 s\nIn use for \d+ s$")

    async def test_stored(self) -> None:
        await self.example("What is stored")
        await self.send()
        first, *_ = await self.printed()
        self.assertRegex(first, r"^DOE\^JOHN, STATION, \d{8}T\d{6}$")

    async def test_stable(self) -> None:
        await self.example("What is stable")
        stored = await self.client.store(dicom_object())
        for level in ("Series", "Patient"):
            await self.run_script(f"SetStableStatus('{stored[f'Parent{level}']}', true)")
        await self.called("OnStablePatient")
        (line,) = await self.printed()
        self.assertRegex(line, r"^P1, \d{8}T\d{6}$")
        value = await self.client.get(f"/series/{stored['ParentSeries']}/metadata/1024")
        self.assertEqual(value.text, "CT 1")

    async def test_updated_and_deleted(self) -> None:
        await self.example("What is updated or deleted")
        stored = await self.client.store(dicom_object())
        levels = (("patients", "ParentPatient"), ("studies", "ParentStudy"), ("series", "ParentSeries"))
        ids = [(level, stored[field]) for level, field in (*levels, ("instances", "ID"))]
        for level, public_id in ids:
            await self.client.ask("PUT", f"/{level}/{public_id}/metadata/1024", "x")
        await self.client.ask("DELETE", f"/patients/{stored['ParentPatient']}")
        told = [f"{what}, {public_id}" for what in ("updated", "deleted") for _, public_id in ids]
        self.assertEqual(await self.printed(), told)

    async def test_jobs(self) -> None:
        """What cannot be sent stays; what is sent is deleted."""
        await self.example("Jobs")
        await self.send()
        (study,) = await self.client.json("/studies")
        await self.run_script(f"SetStableStatus('{study}', true)")
        await self.called("OnJobFailure")
        self.assertEqual(len(await self.printed()), 2)
        self.assertEqual(await self.client.json("/studies"), [study])
        with self.archive():
            await self.run_script(f"SetStableStatus('{study}', false) SetStableStatus('{study}', true)")
            await self.called("OnJobSuccess")
        self.assertEqual(len(self.sent()), 1)
        self.assertEqual(await self.client.json("/studies"), [])

    async def test_complete(self) -> None:
        """A study is stable with its second image."""
        await self.example("Complete studies")
        await self.send()
        self.assertEqual(await self.printed(), [])
        await self.send(sop="1.2.1.1.2")
        await self.called("OnStableStudy")
        self.assertEqual(await self.printed(), ["complete, HEAD"])

    async def test_heart_beat(self) -> None:
        await self.example("Heart beat", LuaHeartBeatPeriod=1)
        await self.called("OnHeartBeat")
        self.assertEqual((await self.printed())[0], "0 instances, 0 MB")


class RoutingTests(ExampleCase):
    """What is done after callbacks."""

    async def test_modality(self) -> None:
        await self.example("To a modality")
        with self.archive():
            await self.send()
            await self.jobs_are_over()
        self.assertEqual([dataset.SOPInstanceUID for dataset in self.sent()], ["1.2.1.1.1"])

    async def test_name(self) -> None:
        """One of two goes, and is not kept."""
        await self.example("By the name of the patient")
        with self.archive():
            await self.send()
            await self.send(patient="P2", study="1.2.2", series="1.2.2.1", sop="1.2.2.1.1", PatientName="RESEARCH^A")
            await self.jobs_are_over()
        self.assertEqual([str(dataset.PatientName) for dataset in self.sent()], ["RESEARCH^A"])
        self.assertEqual(len(await self.instances()), 1)

    async def test_peer(self) -> None:
        """The peer is another server, over HTTPS."""
        known = certificates()
        other, _ = await self.other(SslEnabled=True, SslCertificate=known.server.combined)
        peers = {"clinic": [f"https://localhost:{other.http_port}/"]}
        await self.example("To a peer", OrthancPeers=peers, HttpsCACertificates=known.trusted)
        await self.send()
        await self.jobs_are_over()
        (instance,) = await self.instances()
        self.assertIsNotNone(await other.index.resource(ResourceLevel.INSTANCE, instance))

    async def test_changed_copy(self) -> None:
        """The copy is sent and gone, and has had no copies itself."""
        await self.example("Changed copies", Dictionary={"0009,1001": ["LO", "Route", 1, 1, "ACME"]})
        with self.archive():
            await self.send(OperatorsName="OP^A")
            (before,) = await self.instances()
            await self.jobs_are_over()
        (dataset,) = self.sent()
        self.assertEqual(dataset[0x0009, 0x1001].value, "routed by ORTHANC")
        self.assertNotIn("OperatorsName", dataset)
        self.assertNotEqual(dataset.SOPInstanceUID, "1.2.1.1.1")
        await self.run_script("")
        self.assertEqual(await self.instances(), [before])
        self.assertEqual(self.server.jobs.count(*_OVER), 1)

    async def test_without_private_tags(self) -> None:
        other, client = await self.other()
        await self.example("Without private tags", OrthancPeers={"clinic": [f"http://127.0.0.1:{other.http_port}/"]})
        await self.send()
        (instance,) = await self.instances()
        await self.client.ask("PUT", f"/instances/{instance}/metadata/1024", "x")
        await self.jobs_are_over()
        (copy,) = await client.json("/instances")
        tags = await client.json(f"/instances/{copy}/simplified-tags")
        self.assertEqual((tags["PatientName"], tags.get("PatientBirthDate")), ("ANONYMOUS", None))
        self.assertEqual(await self.instances(), [instance])

    async def test_program(self) -> None:
        await self.example("Through a program", ExportFolder=str(self.received))
        await self.send()
        await self.jobs_are_over()
        self.assertEqual([dataset.SOPInstanceUID for dataset in self.sent()], ["1.2.1.1.1"])


class ServiceTests(ExampleCase):
    """Web services: a server that notes what it is asked."""

    async def test_preview(self) -> None:
        """The service gets a picture; what has none is passed over."""
        await self.example("A preview", PreviewService=f"http://127.0.0.1:{self.peer_port}/pictures")
        await self.send()
        await self.send(sop="1.2.1.1.2", **pixels(4, 4))
        await self.peer.until(1)
        await self.run_script("")
        (asked,) = self.peer.asked
        self.assertEqual((asked.method, asked.path, asked.body[:3]), ("POST", "/pictures", b"\xff\xd8\xff"))
        self.assertEqual((asked.headers["content-type"], asked.headers["x-patient"]), ("image/jpeg", "P1"))
        self.flushLoggedErrors()

    async def test_registry(self) -> None:
        """What is not registered is; what is deleted is no longer."""
        self.peer.answer = self.registry
        await self.example("A registry", RegistryService=f"http://127.0.0.1:{self.peer_port}/studies/")
        await self.send()
        (study,) = await self.client.json("/studies")
        await self.run_script(f"SetStableStatus('{study}', true)")
        await self.peer.until(2)
        await self.client.ask("DELETE", f"/studies/{study}")
        await self.peer.until(3)
        await self.run_script("")
        self.assertEqual([asked.method for asked in self.peer.asked], ["GET", "PUT", "DELETE"])
        self.assertEqual({asked.path for asked in self.peer.asked}, {f"/studies/{study}"})
        self.assertEqual(json.loads(self.peer.asked[1].body)["StudyDescription"], "HEAD")
        self.assertTrue(all(asked.headers["authorization"].startswith("Basic ") for asked in self.peer.asked))
        self.flushLoggedErrors()

    def registry(self, asked: Asked) -> Say:
        return Say(404 if asked.method == "GET" else 200)


class FilterTests(ExampleCase):
    """Filters."""

    async def test_received(self) -> None:
        """An object is stored, one left out, one refused."""
        await self.example("Received objects")
        await self.send(**pixels(4, 4))
        await self.send(sop="1.2.1.1.2", Modality="US", **pixels(4, 4))
        await self.send(sop="1.2.1.1.3")
        path = self.file(dicom_object(patient="", sop="1.2.1.1.4", **pixels(4, 4)))
        ran = await run("storescu", "-v", "-aec", "ORTHANC", "127.0.0.1", str(self.dicom_port), path)
        # storescu's words for 0xA900.
        self.assertIn("(Error: DataSetDoesNotMatchSOPClass)", ran.output)
        self.assertEqual(len(await self.instances()), 1)
        self.assertEqual(await self.printed(), ["No patient, STORESCU, 1.2.840.10008.1.2.1"])

    async def test_http(self) -> None:
        """Others than ``admin`` read only."""
        users = {"admin": "a", "guest": "g"}
        await self.example("Requests over HTTP", AuthenticationEnabled=True, RegisteredUsers=users)
        wanted = (
            ("guest", "GET", "/modalities", 200),
            ("guest", "PUT", "/modalities/x", 403),
            ("guest", "DELETE", "/modalities/archive", 403),
            ("admin", "PUT", "/modalities/x", 200),
            ("admin", "DELETE", "/modalities/x", 200),
        )
        for user, method, path, status in wanted:
            body = ["X", "127.0.0.1", 104] if method == "PUT" else b""
            answer = await Client(self.port).ask(method, path, body, headers=credentials(user))
            self.assertEqual(answer.status, status, (user, method, path))

    async def test_find(self) -> None:
        """A query to ourselves goes out and comes in: both filters have a part in what is found."""
        await self.example("Queries", DicomAlwaysAllowFind=True)
        me = ["ORTHANC", "127.0.0.1", self.dicom_port]
        self.assertEqual((await self.client.ask("PUT", "/modalities/me", me)).status, 200)
        await self.send()
        query = {"Level": "Study", "Query": {"PatientName": "DOE*", "PatientID": "", "ModalitiesInStudy": "US"}}
        answer = (await self.client.post("/modalities/me/query", query)).json()
        self.assertEqual(await self.client.json(f"{answer['Path']}/answers"), ["0"])
        content = await self.client.json(f"{answer['Path']}/answers/0/content", simplify="")
        self.assertNotIn("ModalitiesInStudy", content)
        ran = await run(
            "findscu", "-S", "-aet", "STATION", "-aec", "ORTHANC", "127.0.0.1", str(self.dicom_port),
            "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=p1", "-k", "0009,0010=ACME",
        )
        self.assertIn("Find Response: 1", ran.output)

    async def test_outgoing(self) -> None:
        """A report stays here, but counts as sent."""
        modalities = {"other": ["OTHER", "127.0.0.1", self.archive_port]}
        await self.example("Objects that are sent", DicomModalities=modalities)
        for number, modality in enumerate(("SR", "CT"), 1):
            await self.send(sop=f"1.2.1.1.{number}", Modality=modality)
        with self.archive():
            answer = await self.client.post("/modalities/other/store", await self.instances())
        self.assertEqual((answer.status, answer.json()["FailedInstancesCount"]), (200, 0))
        self.assertEqual([dataset.Modality for dataset in self.sent()], ["CT"])


class WorklistTests(ExampleCase, WorklistCase):
    """``IncomingWorklistRequestFilter``."""

    SETTINGS: ClassVar = {**WorklistCase.SETTINGS, **LuaServerCase.SETTINGS}

    async def test_worklists(self) -> None:
        """``findscu -W`` of two scanners finds what is for each."""
        await self.example("Worklists")
        for name in ("CT1", "MR1"):
            self.put(f"for {name}", step(ScheduledStationAETitle=name))
        for name in ("CT1", "MR1"):
            found = await self.findscu("-W", "-aet", name, "-k", "PatientID")
            self.assertEqual([dataset.PatientID for dataset in found], [f"for {name}"])
