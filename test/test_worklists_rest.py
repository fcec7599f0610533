"""Worklists over REST, in a folder and in the index, and how they end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final

import pydicom
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock
from zope.interface import implementer

from orthanctw.index.database import SqliteIndex
from orthanctw.interfaces import IChangeListener
from orthanctw.model import Change, ChangeType, ResourceLevel
from orthanctw.worklists.housekeeping import Housekeeping
from orthanctw.worklists.kept import STORE
from test.rest_samples import NOBODY, Answer, dicom_object
from test.worklist_case import JAPANESE, WorklistCase, asked

_STEP: Final = {"Modality": "CT", "ScheduledProcedureStepStartDate": "20250101", "ScheduledStationAETitle": "CT1"}
_TAGS: Final = {"PatientName": JAPANESE, "PatientID": "N1", "ScheduledProcedureStepSequence": [_STEP]}
_IDENTIFIER: Final = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z"


@implementer(IChangeListener)
class _Told:
    """Waits for a kind of change."""

    def __init__(self, kind: ChangeType) -> None:
        self._kind = kind
        self.waiter: Deferred[None] = Deferred()

    def changed(self, change: Change) -> None:
        if change.change_type is self._kind and not self.waiter.called:
            self.waiter.callback(None)


class RouteCase(WorklistCase):
    """A test of the routes."""

    async def create(self, tags: Mapping[str, Any] = _TAGS, **fields: Any) -> str:
        """Make a worklist; its identifier."""
        answer = await self.client.post("/worklists/create", {"Tags": tags, **fields})
        self.assertEqual(answer.status, 200, answer.text)
        made: dict[str, str] = answer.json()
        self.assertRegex(made["ID"], _IDENTIFIER)
        self.assertEqual(made, {"ID": made["ID"], "Path": f"/worklists/{made['ID']}"})
        return made["ID"]

    async def put_tags(self, identifier: str, tags: Mapping[str, Any], **fields: Any) -> Answer:
        return await self.client.ask("PUT", f"/worklists/{identifier}", {"Tags": tags, **fields})

    async def tags(self, identifier: str, **arguments: str) -> dict[str, Any]:
        shown: dict[str, Any] = await self.client.json(f"/worklists/{identifier}", **arguments)
        self.assertEqual((set(shown), shown["ID"]), ({"ID", "Tags"}, identifier))
        tags: dict[str, Any] = shown["Tags"]
        return tags


class FolderTests(RouteCase):
    """What clients do with worklists."""

    async def test_life(self) -> None:
        """A worklist is made, found by a modality, listed, changed and removed."""
        identifier = await self.create()
        query = asked({"ScheduledStationAETitle": "CT1"}, SpecificCharacterSet="ISO_IR 192", PatientName="")
        found = await self.ask(query)
        self.assertEqual(found.values("PatientName"), [JAPANESE])
        tags = await self.tags(identifier)
        study = tags.pop("StudyInstanceUID")
        self.assertRegex(study, r"1\.2\.[0-9.]{10,60}\Z")
        self.assertEqual(tags, {**_TAGS, "SpecificCharacterSet": "ISO_IR 192"})
        (listed,) = await self.client.json("/worklists")
        self.check_listed(listed, identifier)
        answer = await self.put_tags(identifier, {"PatientID": "N2"})
        self.assertEqual((answer.status, answer.json()["Path"]), (200, f"/worklists/{identifier}"))
        expected = {"PatientID": "N2", "SpecificCharacterSet": "ISO_IR 192", "StudyInstanceUID": study}
        self.assertEqual(await self.tags(identifier), expected)
        self.assertEqual(await self.patients(asked()), ["N2"])
        answer = await self.client.ask("DELETE", f"/worklists/{identifier}")
        self.assertEqual((answer.status, answer.json()), (200, {}))
        self.assertEqual(await self.client.json("/worklists"), [])
        self.assertEqual(await self.patients(asked()), [])

    def check_listed(self, listed: dict[str, Any], identifier: str) -> None:
        self.assertEqual((set(listed), listed["ID"]), ({"ID", "Tags"}, identifier))
        self.assertEqual(listed["Tags"]["PatientName"], JAPANESE)

    async def test_forms(self) -> None:
        """Tags are shown in three forms."""
        identifier = await self.create()
        self.assertEqual((await self.tags(identifier, format="Short"))["0010,0020"], "N1")
        full = (await self.tags(identifier, format="Full"))["0010,0020"]
        self.assertEqual(full, {"Name": "PatientID", "Type": "String", "Value": "N1"})
        self.assertEqual((await self.tags(identifier, format="Simplify"))["PatientID"], "N1")
        (listed,) = await self.client.json("/worklists", format="Short")
        self.assertEqual(listed["Tags"]["0040,0100"][0]["0008,0060"], "CT")
        for path in ("/worklists", f"/worklists/{identifier}"):
            self.assertError(await self.client.get(path, format="short"), 400, 3)

    async def test_unknown(self) -> None:
        """What is not there is neither shown nor changed nor removed; no name leads out of the folder."""
        await self.create()
        for name in (NOBODY, "create", "..%2Flists", "%2Fetc%2Fpasswd", "%00"):
            for method, body in (("GET", b""), ("PUT", {"Tags": _TAGS}), ("DELETE", b"")):
                answer = await self.client.ask(method, f"/worklists/{name}", body)
                self.assertIn(answer.status, (400, 404), (method, name, answer.text))
                self.assertEqual(answer.json()["OrthancStatus"], 17, (method, name))
        self.assertEqual(len(await self.client.json("/worklists")), 1)

    async def test_bad_bodies(self) -> None:
        """What cannot be a worklist is refused, and nothing is kept of it."""
        cases: tuple[tuple[object, int], ...] = (
            (b"{", 15),
            ([], 15),
            ({}, 15),
            ({"Tags": []}, 15),
            ({"Tags": _TAGS, "Force": "yes"}, 15),
            ({"Tags": {}}, 15),
            ({"Tags": {"PatientID": "X"}}, 15),
            ({"Tags": {"ScheduledProcedureStepSequence": []}}, 15),
            ({"Tags": {"ScheduledProcedureStepSequence": [{"Modality": "CT"}]}}, 15),
            ({"Tags": {"ScheduledProcedureStepSequence": [{"ScheduledProcedureStepStartDate": "20250101"}]}}, 15),
            ({"Tags": {**_TAGS, "NoSuchTag": ""}}, 27),
            ({"Tags": {**_TAGS, "PatientID": 5}}, 5),
            ({"Tags": {**_TAGS, "SpecificCharacterSet": "KLINGON"}}, 3),
            ({"Tags": {**_TAGS, "PatientComments": ["x"]}}, 5),
            ({"Tags": {**_TAGS, "TextValue": "x" * (1 << 20)}}, 3),
        )
        for body, code in cases:
            self.assertError(await self.client.post("/worklists/create", body), 400, code)
        self.assertEqual(await self.client.json("/worklists"), [])
        identifier = await self.create()
        before = await self.tags(identifier)
        self.assertError(await self.put_tags(identifier, {"PatientID": "X"}, Force=False), 400, 15)
        self.assertError(await self.put_tags(identifier, {"PatientID": 5}), 400, 5)
        self.assertEqual(await self.tags(identifier), before)

    async def test_force(self) -> None:
        """With Force anything is taken; the character set is the one that is named, if that can hold the text."""
        self.assertEqual((await self.tags(await self.create({}, Force=True)))["SpecificCharacterSet"], "ISO_IR 192")
        for name, expected in (("MÜLLER", "ISO_IR 100"), (JAPANESE, "ISO_IR 192")):
            tags = {"PatientName": name, "SpecificCharacterSet": "ISO_IR 100"}
            shown = await self.tags(await self.create(tags, Force=True))
            self.assertEqual((shown["PatientName"], shown["SpecificCharacterSet"]), (name, expected))

    async def test_study(self) -> None:
        """A StudyInstanceUID that is given stays; none is made when the option says so."""
        shown = await self.tags(await self.create({**_TAGS, "StudyInstanceUID": "1.2.3"}))
        self.assertEqual(shown["StudyInstanceUID"], "1.2.3")
        await self.restart(Worklists={"SetStudyInstanceUidIfMissing": False})
        identifier = await self.create()
        self.assertNotIn("StudyInstanceUID", await self.tags(identifier))
        await self.put_tags(identifier, _TAGS)
        self.assertNotIn("StudyInstanceUID", await self.tags(identifier))

    async def test_many_at_once(self) -> None:
        """Clients that come at once lose nothing."""
        made: list[str] = await gatherResults(
            [Deferred.fromCoroutine(self.create({**_TAGS, "PatientID": str(number)})) for number in range(20)]
        )
        shown = await self.client.json("/worklists")
        self.assertEqual({item["ID"] for item in shown}, set(made))
        await gatherResults([Deferred.fromCoroutine(self.put_tags(one, {"PatientID": "X"})) for one in made[:10]])
        await gatherResults(
            [Deferred.fromCoroutine(self.client.ask("DELETE", f"/worklists/{one}")) for one in made[5:]]
        )
        self.assertEqual(await self.patients(asked()), ["X"] * 5)

    async def test_restart(self) -> None:
        """What was answered is there after the next start."""
        identifier = await self.create()
        before = await self.client.json("/worklists")
        await self.restart()
        self.assertEqual(await self.client.json("/worklists"), before)
        self.assertEqual(before[0]["ID"], identifier)

    async def test_stable_study(self) -> None:
        """When a study becomes stable, its worklist goes and no other; none goes without the option."""
        for study in ("1.2.1", "1.2.2"):
            await self.create({**_TAGS, "StudyInstanceUID": study})
        stored = (await self.client.store(dicom_object(study="1.2.1")))["ParentStudy"]
        for options, left in (({"DeleteWorklistsOnStableStudy": False}, ["1.2.1", "1.2.2"]), ({}, ["1.2.2"])):
            await self.restart(Worklists=options)
            self.server.stability.set_stable(stored, False, ResourceLevel.STUDY)
            told = _Told(ChangeType.STABLE_STUDY)
            self.server.events.subscribe(told)
            self.server.stability.set_stable(stored, True, ResourceLevel.STUDY)
            await told.waiter
            assert self.server.housekeeping is not None
            await self.server.housekeeping.stop()
            shown = await self.client.json("/worklists")
            self.assertEqual(sorted(item["Tags"]["StudyInstanceUID"] for item in shown), left)


class FileTests(RouteCase):
    """What there is with files only."""

    async def test_file(self) -> None:
        """The file is one that others can read, named after the identifier."""
        identifier = await self.create()
        (path,) = self.lists.iterdir()
        self.assertEqual(path.name, f"{identifier}.wl")
        dataset = pydicom.dcmread(path)
        self.assertEqual(dataset.file_meta.MediaStorageSOPClassUID, "1.2.276.0.7230010.3.1.0.1")
        self.assertEqual(dataset.PatientName, JAPANESE)
        self.put("theirs")
        self.assertEqual((await self.tags("theirs"))["PatientID"], "theirs")
        self.assertEqual((await self.put_tags("theirs", {"PatientID": "ours"})).status, 200)
        self.assertEqual(pydicom.dcmread(self.lists / "theirs.wl").PatientID, "ours")

    async def test_no_folder(self) -> None:
        """A folder that is not there is a failure of the server, told without its path."""
        await self.restart(Worklists={"Directory": str(self.lists / "nowhere")})
        for method, path, body in (("GET", "/worklists", b""), ("POST", "/worklists/create", {"Tags": _TAGS})):
            answer = await self.client.ask(method, path, body)
            self.assertEqual(answer.status, 500)
            self.assertNotIn(str(self.lists), answer.text)
        self.flushLoggedErrors()


class IndexTests(FolderTests):
    """The same in the index."""

    WORKLISTS: ClassVar[Mapping[str, object]] = {"SaveInOrthancDatabase": True}

    def check_listed(self, listed: dict[str, Any], identifier: str) -> None:
        self.assertRegex(listed.pop("CreationDate"), r"\d{8}T\d{6}\Z")
        super().check_listed(listed, identifier)

    async def test_no_files(self) -> None:
        """The folder is not touched."""
        await self.create()
        self.assertEqual(list(self.lists.iterdir()), [])

    async def test_strange_values(self) -> None:
        """What another program has written into the store is passed over."""
        identifier = await self.create()
        for key, value in (("a", b"{}"), ("b", b""), ("c", b"20250101T000000" + b"\xff" * 50)):
            await self.server.index.store_value(STORE, key, value)
        await self.restart()
        self.assertEqual([item["ID"] for item in await self.client.json("/worklists")], [identifier])

    async def test_old_ones(self) -> None:
        """``DeleteWorklistsDelay`` hours after it was made a worklist goes; changing it makes it no younger."""
        identifier = await self.create()
        await self.put_tags(identifier, {"PatientID": "X"})
        await self.restart(Worklists={"DeleteWorklistsDelay": 24})
        index: SqliteIndex = self.server.index
        assert self.server.housekeeping is not None
        source, options = self.server.housekeeping._source, self.server.settings.worklists
        for hours, left in ((23, 1), (25, 0)):
            clock, now = Clock(), time.time() + hours * 3600
            housekeeping = Housekeeping(source, index, options, clock, partial(float, now))
            housekeeping.start()
            (timer,) = clock.getDelayedCalls()
            self.assertEqual(timer.getTime(), options.housekeeping_interval)
            await housekeeping.stop()
            self.assertEqual(clock.getDelayedCalls(), [])
            self.assertEqual(len(await self.client.json("/worklists")), left)
