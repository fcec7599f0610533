"""Splitting and merging studies over REST."""

from __future__ import annotations

from typing import Any

from test.rest_samples import NOBODY, dicom_object
from test.test_rest_editing import EditingCase


class SplitTests(EditingCase):
    """``/studies/{id}/split``."""

    def path(self, number: int = 0) -> str:
        return f"/studies/{self.ids(number)['studies']}/split"

    async def test_series(self) -> None:
        """A series leaves the study for a new one, with new texts and identifiers; nothing names the source."""
        ids = self.ids()
        body = {"Series": [ids["series"]], "Replace": {"StudyDescription": "NEW"}, "Remove": ["PatientBirthDate"]}
        content = await self.made(self.path(), body)
        study = await self.client.json(f"/studies/{content['TargetStudy']}")
        self.assertEqual(
            content,
            {
                "Description": "REST API",
                "FailedInstancesCount": 0,
                "InstancesCount": 2,
                "ParentResources": [ids["series"]],
                "Resources": [{"ID": ids["series"], "Type": "Series"}],
                "TargetStudy": study["ID"],
                "TargetStudyUID": study["MainDicomTags"]["StudyInstanceUID"],
            },
        )
        self.assertEqual(study["MainDicomTags"]["StudyDescription"], "NEW")
        self.assertEqual(study["ParentPatient"], ids["patients"])
        self.assertNotIn("PatientBirthDate", study["PatientMainDicomTags"])
        self.assertEqual(len(study["Series"]), 1)
        self.assertNotIn("ModifiedFrom", await self.client.json(f"/series/{study['Series'][0]}"))
        self.assertEqual(len(await self.instances("studies", study["ID"])), 2)
        self.assertEqual((await self.client.get(f"/series/{ids['series']}")).status, 404)
        self.assertEqual(len(await self.client.json("/instances")), 4)

    async def test_instances(self) -> None:
        """Single instances leave, to another patient; with KeepSource and KeepLabels sources and labels stay."""
        ids = self.ids()
        await self.client.ask("PUT", f"/instances/{ids['instances']}/labels/kept")
        body = {
            "Instances": [ids["instances"]],
            "Replace": {"PatientID": "P9"},
            "KeepSource": True,
            "KeepLabels": True,
        }
        content = await self.made(self.path(), body)
        study = await self.client.json(f"/studies/{content['TargetStudy']}")
        self.assertEqual(study["PatientMainDicomTags"]["PatientID"], "P9")
        (instance,) = await self.instances("studies", study["ID"])
        self.assertEqual(instance["Labels"], ["kept"])
        self.assertEqual(len(await self.client.json("/instances")), 5)

    async def test_refusals(self) -> None:
        """Bad bodies, unknown studies, series of other studies, tags of other modules."""
        ids = self.ids()
        series, stranger = ids["series"], self.ids(3)
        refused: list[tuple[Any, int, int]] = [(raw, 400, 15) for raw in (b"", b"x", b"[]")]
        refused += [({}, 400, 8), ({"Series": []}, 400, 8), ({"Series": 5}, 400, 15), ({"Series": [5]}, 400, 15)]
        refused += [({"Series": [item]}, 404, 17) for item in (NOBODY, stranger["series"], ids["studies"])]
        refused += [({"Instances": [item]}, 404, 17) for item in (stranger["instances"], series)]
        for fields, code in (
            ({"Replace": 5}, 15),
            ({"Replace": {"Nonsense": "x"}}, 27),
            ({"Replace": {"PatientName": 5}}, 15),
            *(({"Replace": {tag: "1.2"}}, 3) for tag in ("SeriesDescription", "StudyInstanceUID", "PatientAge")),
            ({"Remove": 5}, 15),
            ({"Remove": ["SeriesDescription"]}, 3),
            ({"Remove": ["NumberOfStudyRelatedSeries"]}, 3),
            ({"KeepSource": 5}, 15),
            ({"KeepLabels": 5}, 15),
        ):
            refused.append(({"Series": [series], **fields}, 400, code))
        for body, status, code in refused:
            self.assertError(await self.client.post(self.path(), body), status, code)
        for study in (NOBODY, series):
            self.assertError(await self.client.post(f"/studies/{study}/split", {"Series": [series]}), 404, 17)
        self.assertEqual(await self.client.json("/jobs"), [])


class MergeTests(EditingCase):
    """``/studies/{id}/merge``."""

    def path(self) -> str:
        return f"/studies/{self.ids()['studies']}/merge"

    async def test_studies(self) -> None:
        """Another study comes in, says of patient and study what the target says, and is gone where it was."""
        ids, other = self.ids(), self.ids(3)
        content = await self.made(self.path(), {"Resources": [other["studies"]]})
        self.assertEqual(
            content,
            {
                "Description": "REST API",
                "FailedInstancesCount": 0,
                "InstancesCount": 1,
                "ParentResources": [other["studies"]],
                "Resources": [{"ID": other["studies"], "Type": "Study"}],
                "TargetStudy": ids["studies"],
            },
        )
        self.assertEqual(await self.client.json("/patients"), [ids["patients"]])
        self.assertEqual(len(await self.instances("studies", ids["studies"])), 4)
        (series,) = await self.listed("series") - {self.ids(number)["series"] for number in range(3)}
        (instance,) = await self.instances("series", series)
        tags = await self.client.json(f"/instances/{instance['ID']}/simplified-tags")
        expected = {"PatientName": "DOE^JOHN", "AccessionNumber": "ACC-1", "StudyDescription": "HEAD"}
        self.assertEqual({name: tags[name] for name in expected}, expected)
        self.assertNotEqual(tags["SeriesInstanceUID"], "1.2.2.1")

    async def test_absent_tags(self) -> None:
        """What the target does not say of patient and study, what comes in does not say either."""
        target = await self.client.store(dicom_object("P9", "1.2.9", "1.2.9.1", "1.2.9.1.1", PatientSex=None))
        path = f"/studies/{target['ParentStudy']}/merge"
        content = await self.made(path, {"Resources": [self.ids()["series"]], "KeepSource": True})
        self.assertEqual((content["InstancesCount"], len(await self.client.json("/instances"))), (2, 7))
        for instance in await self.instances("studies", target["ParentStudy"]):
            tags = await self.client.json(f"/instances/{instance['ID']}/simplified-tags")
            self.assertNotIn("PatientSex", tags)

    async def test_doubles(self) -> None:
        """Two objects with the same UIDs, of two patients, do not become one in a study."""
        twins = [await self.client.store(dicom_object(patient, "1.2.9", "1.2.9.1", "1.2.9.1.1")) for patient in "AB"]
        body = {"Resources": [twin["ParentStudy"] for twin in twins]}
        self.assertError(await self.client.post(self.path(), body), 400, 8)
        many = {"Resources": [twin["ID"] for twin in twins], "Replace": {"PatientID": "C"}, "Force": True}
        self.assertError(await self.client.post("/tools/bulk-modify", many), 400, 8)
        self.assertEqual(await self.client.json("/jobs"), [])
        self.assertEqual((await self.made("/tools/bulk-anonymize", {**body}))["InstancesCount"], 2)
        self.assertEqual(len(await self.client.json("/instances")), 8)
        for twin in twins:
            await self.made(self.path(), {"Resources": [twin["ParentStudy"]]})
        self.assertEqual(len(await self.instances("studies", self.ids()["studies"])), 5)

    async def test_refusals(self) -> None:
        """Bad bodies, unknown resources, patients, and what is in the study already."""
        ids, other = self.ids(), self.ids(3)
        for raw in (b"", b"x", b"[]", b"{}", b'{"Resources":5}', b'{"Resources":[5]}'):
            self.assertError(await self.client.post(self.path(), raw), 400, 15)
        for resource in (NOBODY, *ids.values(), other["patients"]):
            self.assertError(await self.client.post(self.path(), {"Resources": [resource]}), 404, 17)
        body = {"Resources": [other["studies"]], "KeepSource": 5}
        self.assertError(await self.client.post(self.path(), body), 400, 15)
        for study in (NOBODY, ids["series"]):
            answer = await self.client.post(f"/studies/{study}/merge", {"Resources": [other["studies"]]})
            self.assertError(answer, 404, 17)
        self.assertEqual(await self.client.json("/jobs"), [])
        self.assertEqual((await self.made(self.path(), {"Resources": []}))["InstancesCount"], 0)
