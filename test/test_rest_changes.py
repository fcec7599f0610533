"""The logs of changes and of exports over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from orthanctw.model import ExportedResource, ResourceLevel
from test.rest_samples import RestCase, dicom_object

#: Kinds of changes that the objects of `hierarchy` cause, in order.
FIRST = ["NewInstance", "NewSeries", "NewStudy", "NewPatient"]
ALL = [*FIRST, "NewInstance", "NewInstance", "NewSeries", *FIRST]


class ChangesTests(RestCase):
    """``/changes``."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"StableAge": 3600}

    async def setUp(self) -> None:
        await super().setUp()
        self.uploads = await self.fill()

    async def changes(self, **arguments: object) -> Any:
        return await self.client.json("/changes", **arguments)

    async def sequence(self, **arguments: object) -> list[int]:
        return [change["Seq"] for change in (await self.changes(**arguments))["Changes"]]

    async def test_all(self) -> None:
        """Each new resource is a change, in the order in which it came to be."""
        page = await self.changes()
        self.assertEqual([change["ChangeType"] for change in page["Changes"]], ALL)
        self.assertEqual([change["Seq"] for change in page["Changes"]], list(range(1, 12)))
        self.assertEqual((page["First"], page["Last"], page["Done"]), (1, 11, True))
        self.assertEqual(set(page), {"Changes", "First", "Last", "Done"})

    async def test_entry(self) -> None:
        """An entry names its resource and where it is found."""
        change = (await self.changes())["Changes"][2]
        self.assertRegex(change.pop("Date"), r"^\d{8}T\d{6}$")
        study = self.uploads[0]["ParentStudy"]
        self.assertEqual(
            change,
            {"ChangeType": "NewStudy", "ID": study, "Path": f"/studies/{study}", "ResourceType": "Study", "Seq": 3},
        )
        self.assertEqual((await self.client.get(change["Path"])).status, 200)

    async def test_pages(self) -> None:
        """``since`` is exclusive; a page tells whether it is the last."""
        for since, limit, expected, done in (
            (0, 4, [1, 2, 3, 4], False),
            (4, 4, [5, 6, 7, 8], False),
            (8, 4, [9, 10, 11], True),
            (8, 3, [9, 10, 11], True),
            (10, 100, [11], True),
        ):
            page = await self.changes(since=since, limit=limit)
            self.assertEqual(([change["Seq"] for change in page["Changes"]], page["Done"]), (expected, done), since)
            self.assertEqual((page["First"], page["Last"]), (expected[0], expected[-1]))

    async def test_beyond_the_end(self) -> None:
        """An empty page has no first, and the last number that was ever given."""
        for since in (11, 12, 2**31, 2**62):
            self.assertEqual(await self.changes(since=since), {"Changes": [], "Done": True, "Last": 11})

    async def test_to(self) -> None:
        """``to`` is inclusive; alone it walks back from there, and the answer still ascends."""
        self.assertEqual(await self.sequence(to=5), [1, 2, 3, 4, 5])
        page = await self.changes(to=7, limit=3)
        self.assertEqual(([change["Seq"] for change in page["Changes"]], page["Done"]), ([5, 6, 7], False))
        page = await self.changes(to=3, limit=3)
        self.assertEqual(([change["Seq"] for change in page["Changes"]], page["Done"]), ([1, 2, 3], True))
        self.assertEqual(await self.sequence(since=2, to=5), [3, 4, 5])
        self.assertEqual(await self.sequence(since=2, to=9, limit=2), [3, 4])
        self.assertEqual(await self.sequence(since=5, to=5), [])

    async def test_types(self) -> None:
        """``type`` lets several kinds through, on every page."""
        self.assertEqual(await self.sequence(type="NewPatient"), [4, 11])
        self.assertEqual(await self.sequence(type="NewPatient;NewStudy"), [3, 4, 10, 11])
        self.assertEqual(await self.sequence(type="NewInstance", since=1, limit=2), [5, 6])
        self.assertEqual(await self.sequence(type="NewInstance", to=7, limit=1), [6])
        self.assertEqual(await self.sequence(type="StableStudy"), [])

    async def test_last(self) -> None:
        """``last`` is the newest entry."""
        page = await self.client.json("/changes?last")
        self.assertEqual(([change["Seq"] for change in page["Changes"]], page["Last"]), ([11], 11))

    async def test_bad_arguments(self) -> None:
        """Unknown kinds and what is no number are refused."""
        for text in ("Nothing", "NewPatient;Nothing", "newpatient"):
            self.assertError(await self.client.get("/changes", type=text), 400, 3)
        for name in ("since", "to", "limit"):
            for text in ("x", "-1", "1.5", ""):
                self.assertError(await self.client.get("/changes", **{name: text}), 400, 5)

    async def test_huge_numbers(self) -> None:
        """Numbers beyond those of the database are answered, whatever with."""
        for name in ("since", "to", "limit"):
            for number in (2**63 - 1, 2**63, 10**19 - 1, 10**30):
                self.assertIn((await self.client.get("/changes", **{name: number})).status, (200, 400), number)

    async def test_cleared(self) -> None:
        """After clearing, sequence numbers go on."""
        answer = await self.client.ask("DELETE", "/changes")
        self.assertEmpty(answer, 200)
        self.assertEqual(answer.headers["content-type"], "text/plain")
        self.assertEqual(await self.changes(), {"Changes": [], "Done": True, "Last": 11})
        self.assertEqual(await self.client.json("/changes?last"), {"Changes": [], "Done": True, "Last": 11})
        await self.client.ask("DELETE", f"/patients/{self.uploads[3]['ParentPatient']}")
        await self.fill()
        self.assertEqual(await self.sequence(), [12, 13, 14, 15])

    async def test_default_limit(self) -> None:
        """Without a limit a page has 100 entries."""
        for number in range(100):
            await self.client.store(dicom_object("P9", "1.9", "1.9.1", f"1.9.1.{number + 1}"))
        page = await self.changes()
        self.assertEqual((len(page["Changes"]), page["Done"]), (100, False))


class NewServerTests(RestCase):
    """Logs without entries."""

    async def test_empty(self) -> None:
        """Nothing has happened yet."""
        self.assertEqual(await self.client.json("/changes"), {"Changes": [], "Done": True, "Last": 0})
        self.assertEqual(await self.client.json("/exports"), {"Exports": [], "Done": True, "Last": 0})

    async def test_stable(self) -> None:
        """What has not grown for its time becomes stable, and the log says so."""
        await self.restart(StableAge=1)
        (upload, *_) = await self.fill()
        stable: list[str] = []
        while upload["ParentPatient"] not in stable:
            page = await self.client.json("/changes?type=StablePatient;StableStudy;StableSeries")
            stable = [change["ID"] for change in page["Changes"]]
        self.assertTrue((await self.client.json(f"/patients/{upload['ParentPatient']}"))["IsStable"])

    async def test_exports(self) -> None:
        """An entry of the exports has the DICOM identifiers of its level; pages as for changes."""
        for level in ResourceLevel:
            await self.server.index.log_exported(
                ExportedResource(
                    level=level,
                    public_id=f"id{level}",
                    remote_modality="PACS",
                    date="20240102T030405",
                    patient_id="P",
                    study_instance_uid="1.2",
                    series_instance_uid="1.2.3",
                    sop_instance_uid="1.2.3.4",
                )
            )
        page = await self.client.json("/exports")
        self.assertEqual((page["Done"], page["First"], page["Last"]), (True, 1, 4))
        self.assertEqual(
            page["Exports"][1],
            {
                "Date": "20240102T030405",
                "ID": "id2",
                "Path": "/studies/id2",
                "PatientID": "P",
                "RemoteModality": "PACS",
                "ResourceType": "Study",
                "Seq": 2,
                "StudyInstanceUID": "1.2",
            },
        )
        self.assertEqual(page["Exports"][3]["SOPInstanceUID"], "1.2.3.4")
        page = await self.client.json("/exports?since=1&limit=2")
        self.assertEqual(([item["Seq"] for item in page["Exports"]], page["Done"]), ([2, 3], False))
        self.assertEqual([item["Seq"] for item in (await self.client.json("/exports?last"))["Exports"]], [4])
        self.assertError(await self.client.get("/exports?limit=x"), 400, 5)
        self.assertEmpty(await self.client.ask("DELETE", "/exports"), 200)
        self.assertEqual(await self.client.json("/exports"), {"Exports": [], "Done": True, "Last": 4})
