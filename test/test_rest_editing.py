"""Modification and anonymisation over REST: what the routes make of resources of each level."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, ClassVar

from pydicom import dcmread

from orthanctw.interfaces import Received
from test.rest_samples import NOBODY, SPOOL, RestCase, dicom_object, pixels

TITLES = {"patients": "Patient", "studies": "Study", "series": "Series", "instances": "Instance"}
PARENTS = ("patients", "studies", "series")
#: Routes from an instance to these.
UPWARDS = ("patient", "study", "series")
COUNTS = {"patients": 3, "studies": 3, "series": 2}
_EXPLICIT_BIG = "1.2.840.10008.1.2.2"


class EditingCase(RestCase):
    """A server with the objects of `hierarchy`."""

    async def setUp(self) -> None:
        await super().setUp()
        self.stored = await self.fill()

    def ids(self, number: int = 0) -> dict[str, str]:
        """Identifiers of an object and of what it belongs to, by level."""
        item = self.stored[number]
        parents = (item["ParentPatient"], item["ParentStudy"], item["ParentSeries"])
        return {**dict(zip(PARENTS, parents, strict=True)), "instances": item["ID"]}

    async def made(self, path: str, body: object) -> dict[str, Any]:
        """The content of a job that must succeed."""
        answer = await self.client.post(path, body)
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(answer.headers["content-type"], "application/json; charset=utf-8")
        content: dict[str, Any] = answer.json()
        return content

    async def tags(self, level: str, public_id: str) -> Mapping[str, str]:
        """Main tags of a resource, and its sources."""
        resource = await self.client.json(f"/{level}/{public_id}")
        sources = {name: resource[name] for name in ("ModifiedFrom", "AnonymizedFrom") if name in resource}
        return {**resource["MainDicomTags"], **sources}

    async def instances(self, level: str, public_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.client.json(f"/{level}/{public_id}/instances")
        return found

    async def listed(self, level: str) -> set[str]:
        return set(await self.client.json(f"/{level}"))


class JobRouteTests(EditingCase):
    """``/modify`` and ``/anonymize`` above instances."""

    async def test_anonymize(self) -> None:
        """A copy is made whose every level names its source; the answer tells of the result."""
        ids = self.ids()
        for number, level in enumerate(PARENTS, 1):
            content = await self.made(f"/{level}/{ids[level]}/anonymize", {})
            result, patient = content.pop("ID"), content.pop("PatientID")
            self.assertEqual(
                content,
                {
                    "Description": "REST API",
                    "FailedInstancesCount": 0,
                    "InstancesCount": COUNTS[level],
                    "IsAnonymization": True,
                    "ParentResources": [ids[level]],
                    "Path": f"/{level}/{result}",
                    "Resources": [{"ID": ids[level], "Type": TITLES[level]}],
                    "Type": TITLES[level],
                },
            )
            tags = await self.tags("patients", patient)
            self.assertEqual((tags["PatientName"], tags["AnonymizedFrom"]), (f"Anonymized{number}", ids["patients"]))
            for instance in await self.instances(level, result):
                source = (await self.tags("instances", instance["ID"]))["AnonymizedFrom"]
                for parent, title in zip(PARENTS, UPWARDS, strict=True):
                    new = await self.client.json(f"/instances/{instance['ID']}/{title}")
                    old = await self.client.json(f"/instances/{source}/{title}")
                    self.assertNotEqual(new["ID"], old["ID"])
                    self.assertEqual((await self.tags(parent, new["ID"]))["AnonymizedFrom"], old["ID"])
                file = await self.client.get(f"/instances/{instance['ID']}/file")
                self.assertNotIn(b"DOE^JOHN", file.body)
        self.assertEqual([path for path in self.files() if path.startswith(SPOOL)], [])

    async def test_modify(self) -> None:
        """Identifiers of the level and below become new ones, those above stay, and so does the source."""
        ids = self.ids()
        for place, level in enumerate(PARENTS):
            before = await self.listed("instances")
            content = await self.made(f"/{level}/{ids[level]}/modify", {"Replace": {"SeriesDescription": "NEW"}})
            self.assertEqual((content["Type"], content["IsAnonymization"]), (TITLES[level], False))
            new = await self.listed("instances") - before
            self.assertEqual(len(new), COUNTS[level])
            for instance in new:
                parents = [await self.client.json(f"/instances/{instance}/{title}") for title in UPWARDS]
                # Whose PatientID stays, is the same patient.
                kept = [parent["ID"] == ids[other] for parent, other in zip(parents, PARENTS, strict=True)]
                self.assertEqual(kept, [True, place > 1, False], level)
                self.assertEqual(parents[2]["MainDicomTags"]["SeriesDescription"], "NEW")
                self.assertIn("ModifiedFrom", parents[2])
        self.assertEqual((await self.tags("series", ids["series"]))["SeriesDescription"], "AXIAL")

    async def test_metadata(self) -> None:
        """Results are the client's uploads, and a patient that was there before names the last source."""
        first, second = self.ids()["patients"], self.ids(3)["patients"]
        body = {"Replace": {"PatientID": "P2"}, "Force": True}
        content = await self.made(f"/patients/{first}/modify", body)
        self.assertEqual(content["ID"], second)
        self.assertEqual((await self.tags("patients", second))["ModifiedFrom"], first)
        for instance in await self.instances("patients", second):
            metadata = await self.client.json(f"/instances/{instance['ID']}/metadata?expand")
            self.assertEqual((metadata["Origin"], metadata["RemoteIP"]), ("RestApi", "127.0.0.1"))

    async def test_asynchronous(self) -> None:
        """A job can be watched; it says what it was asked for, and what it has made."""
        body = {"Asynchronous": True, "Priority": 3, "UserData": ["x"], "Permissive": True}
        answer = (await self.client.post(f"/studies/{self.ids()['studies']}/anonymize", body)).json()
        self.assertEqual(answer["Path"], f"/jobs/{answer['ID']}")
        record = self.server.jobs.job(answer["ID"])
        assert record is not None
        await self.server.jobs.wait(record)
        job = await self.client.json(answer["Path"])
        facts = {name: job[name] for name in ("Type", "State", "Priority", "UserData", "Progress")}
        expected = {"Type": "ResourceModification", "State": "Success", "Priority": 3, "Progress": 100}
        self.assertEqual(facts, {**expected, "UserData": ["x"]})
        self.assertEqual(len(await self.instances("studies", job["Content"]["ID"])), 3)

    async def test_source_goes(self) -> None:
        """Without KeepSource the source is gone afterwards, with all that is left empty."""
        ids = self.ids()
        before = await self.listed("instances")
        content = await self.made(f"/studies/{ids['studies']}/anonymize", {"KeepSource": False})
        self.assertEqual(len(await self.instances("studies", content["ID"])), 3)
        self.assertEqual((await self.client.get(f"/patients/{ids['patients']}")).status, 404)
        self.assertEqual(before & await self.listed("instances"), {self.ids(3)["instances"]})

    async def test_labels(self) -> None:
        """Labels of every level are taken over with KeepLabels only."""
        ids = self.ids()
        for level, public_id in ids.items():
            await self.client.ask("PUT", f"/{level}/{public_id}/labels/{TITLES[level]}")
        for keeps in (False, True):
            content = await self.made(f"/patients/{ids['patients']}/anonymize", {"KeepLabels": keeps})
            for level, count in (("patients", 1), ("studies", 1), ("series", 1), ("instances", 1)):
                found = await self.client.find(TITLES[level], {}, Labels=[TITLES[level]])
                self.assertEqual(len(found), count + keeps, (level, keeps))
        self.assertEqual((await self.client.json(f"/patients/{content['ID']}/labels")), ["Patient"])

    async def test_transcode(self) -> None:
        """Results are in another transfer syntax where that is asked for."""
        sent = await self.client.store(dicom_object("P9", "1.2.9", "1.2.9.1", "1.2.9.1.1", **pixels(4, 4)))
        body = {"Transcode": _EXPLICIT_BIG}
        content = await self.made(f"/series/{sent['ParentSeries']}/modify", body)
        self.assertEqual(content["Transcode"], _EXPLICIT_BIG)
        (instance,) = await self.instances("series", content["ID"])
        metadata = await self.client.json(f"/instances/{instance['ID']}/metadata?expand")
        self.assertEqual(metadata["TransferSyntax"], _EXPLICIT_BIG)


class InstanceRouteTests(EditingCase):
    """``/instances/{id}/modify`` and ``/anonymize``."""

    async def test_files(self) -> None:
        """The answer is a file; nothing is stored, and no file is left behind."""
        before = self.files(), await self.client.json("/changes")
        path = f"/instances/{self.ids()['instances']}"
        for verb, body, name in (
            ("modify", {"Replace": {"PatientName": "NEW^NAME"}}, "NEW^NAME"),
            ("anonymize", {}, "Anonymized1"),
            ("anonymize", {"Replace": {"PatientName": "X"}}, "X"),
            ("anonymize", {}, "Anonymized2"),
        ):
            answer = await self.client.post(f"{path}/{verb}", body)
            self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/dicom"))
            dataset = dcmread(io.BytesIO(answer.body))
            self.assertEqual(str(dataset.PatientName), name)
            self.assertNotEqual(dataset.SOPInstanceUID, "1.2.1.1.1")
            self.assertEqual(dataset.file_meta.MediaStorageSOPInstanceUID, dataset.SOPInstanceUID)
            self.assertEqual(dataset.StudyInstanceUID == "1.2.1", verb == "modify")
        self.assertEqual((self.files(), await self.client.json("/changes")), before)

    async def test_large_file(self) -> None:
        """A result that does not stay in memory is read from a file, which goes."""
        await self.restart(Orthanctw={"SpoolThresholdKB": 64})
        image = pixels(512, 512)
        sent = await self.client.store(dicom_object("P9", "1.2.9", "1.2.9.1", "1.2.9.1.1", **image))
        body = {"Replace": {"PatientID": "n"}, "Force": True}
        answer = await self.client.post(f"/instances/{sent['ID']}/modify", body)
        dataset = dcmread(io.BytesIO(answer.body))
        self.assertEqual((dataset.PatientID, dataset.PixelData), ("n", image["PixelData"]))
        self.assertNotEqual(dataset.StudyInstanceUID, "1.2.9")
        self.assertEqual([path for path in self.files() if path.startswith(SPOOL)], [])


class BulkTests(EditingCase):
    """``/tools/bulk-modify`` and ``/tools/bulk-anonymize``."""

    async def test_anonymize(self) -> None:
        """Resources of any level, each instance once; all results are told, from the instances upwards."""
        ids, other = self.ids(), self.ids(3)
        before = {level: await self.listed(level) for level in ids}
        resources = [ids["studies"], ids["instances"], other["patients"], ids["instances"]]
        content = await self.made("/tools/bulk-anonymize", {"Resources": resources})
        self.assertEqual((content["InstancesCount"], content["IsAnonymization"]), (4, True))
        self.assertEqual(content["ParentResources"], resources[:3])
        self.assertFalse({"ID", "Path", "PatientID", "Type"} & content.keys())
        expected = []
        for level in reversed(ids):
            new = sorted(await self.listed(level) - before[level])
            expected += [{"ID": item, "Path": f"/{level}/{item}", "Type": TITLES[level]} for item in new]
        self.assertEqual(content["Resources"], expected)
        self.assertEqual(len(expected), 4 + 3 + 2 + 2)

    async def test_levels(self) -> None:
        """What becomes new is told by Level, else by the identifiers that are replaced."""
        ids = self.ids()
        for fields, kept in (
            ({}, ("patients", "studies", "series")),
            ({"Level": "Series"}, ("patients", "studies")),
            ({"Level": "Study"}, ("patients",)),
            ({"Replace": {"SeriesInstanceUID": "1.2.77"}, "Force": True}, ("patients", "studies")),
            ({"Replace": {"PatientID": "P77"}, "Force": True}, ()),
        ):
            content = await self.made("/tools/bulk-modify", {"Resources": [ids["instances"]], **fields})
            found = {item["Type"]: item["ID"] for item in content["Resources"]}
            self.assertEqual(tuple(level for level in PARENTS if found[TITLES[level]] == ids[level]), kept, fields)

    async def test_nothing(self) -> None:
        """No resources make an empty result."""
        content = await self.made("/tools/bulk-modify", {"Resources": []})
        self.assertEqual((content["InstancesCount"], content["Resources"]), (0, []))


class _Refusing:
    """A filter that takes nothing that is anonymised."""

    def is_needed(self) -> bool:
        return True

    async def accepts(self, received: Received) -> bool:
        return not str(received.tags()["PatientName"]).startswith("Anonymized")


class OverwritingTests(EditingCase):
    """Results that have the identifier of something that is stored."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"OverwriteInstances": True}
    KEEP: ClassVar[list[str]] = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]

    async def test_in_place(self) -> None:
        """A study whose identifiers are kept is changed where it is, and says so at every level."""
        ids = self.ids(3)
        body = {
            "Keep": self.KEEP,
            "Force": True,
            "Replace": {"StudyDescription": "NEW", "SeriesDescription": "TOO", "PatientSex": "O"},
        }
        content = await self.made(f"/studies/{ids['studies']}/modify", body)
        self.assertEqual((content["ID"], len(await self.client.json("/instances"))), (ids["studies"], 4))
        self.assertEqual((await self.tags("studies", ids["studies"]))["StudyDescription"], "NEW")
        self.assertEqual((await self.tags("series", ids["series"]))["SeriesDescription"], "TOO")
        self.assertEqual((await self.tags("patients", ids["patients"]))["PatientSex"], "O")
        simplified = await self.client.json(f"/instances/{ids['instances']}/simplified-tags")
        self.assertEqual(simplified["StudyDescription"], "NEW")
        self.assertEqual(await self.client.find("Study", {"StudyDescription": "NEW"}), [ids["studies"]])
        self.assertNotIn("ModifiedFrom", await self.tags("studies", ids["studies"]))

    async def test_kept_study(self) -> None:
        """A study that stays while its instances give way to new ones says what these say."""
        ids = self.ids(3)
        body = {
            "Keep": ["StudyInstanceUID"],
            "Force": True,
            "KeepSource": False,
            "Replace": {"StudyDescription": "NEW"},
        }
        content = await self.made(f"/studies/{ids['studies']}/modify", body)
        self.assertEqual(content["ID"], ids["studies"])
        self.assertEqual((await self.tags("studies", ids["studies"]))["StudyDescription"], "NEW")
        (instance,) = await self.instances("studies", ids["studies"])
        self.assertNotEqual(instance["ID"], ids["instances"])

    async def test_source_is_result(self) -> None:
        """A result that has taken the place of a source is not deleted as one."""
        ids = self.ids()
        body = {"Keep": ["SeriesInstanceUID", "SOPInstanceUID"], "Force": True, "KeepSource": False}
        content = await self.made(f"/series/{ids['series']}/modify", {**body, "Replace": {"SeriesDescription": "NEW"}})
        self.assertEqual(content["ID"], ids["series"])
        self.assertEqual(len(await self.instances("series", ids["series"])), 2)
        self.assertEqual((await self.tags("series", ids["series"]))["SeriesDescription"], "NEW")

    async def test_would_be_lost(self) -> None:
        """Requests that would lose objects are refused."""
        path = f"/studies/{self.ids()['studies']}/modify"
        body = {"Keep": self.KEEP, "Force": True, "KeepSource": False}
        self.assertError(await self.client.post(path, body), 400, 8)
        one = {"Replace": {"SOPInstanceUID": "1.2.3"}, "Force": True}
        self.assertError(await self.client.post(path, one), 400, 8)
        await self.restart(OverwriteInstances=False)
        self.assertError(await self.client.post(path, {**body, "KeepSource": True}), 400, 8)
        self.assertEqual(len(await self.client.json("/instances")), 4)

    async def test_filter(self) -> None:
        """A filter that refuses a result fails the job; nothing is made."""
        self.server.ingest._filters.append(_Refusing())
        answer = await self.client.post(f"/studies/{self.ids()['studies']}/anonymize", {})
        self.assertError(answer, 500, 2018)
        self.assertEqual(len(await self.client.json("/instances")), 4)


class RefusalTests(EditingCase):
    """Requests that are refused: nothing is made, and no job."""

    async def tearDown(self) -> None:
        self.assertEqual(await self.client.json("/jobs"), [])
        self.assertEqual(len(await self.client.json("/instances")), 4)
        await super().tearDown()

    async def test_bodies(self) -> None:
        """Fields of wrong kinds, unknown tags, and identifiers without Force."""
        for level, public_id in self.ids().items():
            for verb in ("modify", "anonymize"):
                path = f"/{level}/{public_id}/{verb}"
                for body, code in (
                    *((raw, 15) for raw in (b"", b"x", b"[]", b'"a"')),
                    ({"Replace": []}, 8),
                    ({"Replace": {"Nonsense": "x"}}, 27),
                    ({"Replace": {"PatientName": 5}}, 5),
                    ({"Remove": {}}, 8),
                    ({"Remove": [5]}, 8),
                    ({"Keep": "x"}, 8),
                    ({"Keep": ["Nonsense"]}, 27),
                    *(({"Replace": {tag: "1.2"}}, 8) for tag in ("PatientID", *OverwritingTests.KEEP)),
                    ({"Keep": ["SOPInstanceUID"]}, 8),
                    ({"Remove": ["PatientID"], "Force": True}, 8),
                    ({"Force": "x"}, 15),
                    ({"PrivateCreator": 5}, 15),
                    ({"KeepSource": "x"}, 15),
                    ({"Transcode": 5}, 15),
                    ({"Transcode": "1.2.3"}, 3),
                    ({"LossyQuality": 0}, 3),
                ):
                    self.assertError(await self.client.post(path, body), 400, code)
        answer = await self.client.post(f"/studies/{self.ids()['studies']}/anonymize", {"DicomVersion": "1"})
        self.assertError(answer, 400, 3)

    async def test_jobs(self) -> None:
        """What every job may be told must be of the right kind."""
        path = f"/studies/{self.ids()['studies']}/modify"
        for body in ({"Priority": "x"}, {"Synchronous": 1}, {"Permissive": 3}, {"Priority": 2**40}):
            self.assertError(await self.client.post(path, body), 400, 3 if body == {"Priority": 2**40} else 15)

    async def test_unknown(self) -> None:
        """Resources that are not there, or are of another level."""
        for level in TITLES:
            for verb in ("modify", "anonymize"):
                for public_id in (NOBODY, self.ids()["series" if level == "patients" else "patients"]):
                    self.assertError(await self.client.post(f"/{level}/{public_id}/{verb}", {}), 400, 3)

    async def test_bulk(self) -> None:
        """Lists of resources that are none, or have unknown ones."""
        instance = self.ids()["instances"]
        for verb in ("bulk-modify", "bulk-anonymize"):
            for body in ({}, {"Resources": 5}, {"Resources": [5]}, {"Resources": [{"ID": instance}]}):
                self.assertError(await self.client.post(f"/tools/{verb}", body), 400, 15)
            self.assertError(await self.client.post(f"/tools/{verb}", {"Resources": [instance, NOBODY]}), 404, 17)
        for level, code in (("Nonsense", 3), (5, 15)):
            body = {"Resources": [instance], "Level": level}
            self.assertError(await self.client.post("/tools/bulk-modify", body), 400, code)

    async def test_contradictions(self) -> None:
        """A study does not change what other studies of its patient say of the patient."""
        ids, other = self.ids(), self.ids(3)
        for replace in ({"PatientID": "P2"}, {"PatientID": "P2", "PatientName": "DOE^JOHN"}):
            path = f"/studies/{ids['studies']}/modify"
            self.assertError(await self.client.post(path, {"Replace": replace, "Force": True}), 400, 8)
        known = {name: value for name, value in (await self.tags("patients", other["patients"])).items() if value}
        self.assertEqual(set(known), {"PatientID", "PatientName", "PatientBirthDate", "PatientSex"})


class PatientTests(EditingCase):
    """Studies that come to another patient."""

    async def test_agreement(self) -> None:
        """A study may say of the patient what the patient's other studies say."""
        ids, other = self.ids(), self.ids(3)
        replace = dict(await self.tags("patients", other["patients"]))
        content = await self.made(f"/studies/{ids['studies']}/modify", {"Replace": replace, "Force": True})
        self.assertEqual(content["PatientID"], other["patients"])

    async def test_only_study(self) -> None:
        """The only study of a patient may say anything of the patient."""
        ids = self.ids(3)
        await self.made(f"/studies/{ids['studies']}/modify", {"Replace": {"PatientName": "NEW"}, "KeepSource": False})
        self.assertEqual((await self.tags("patients", ids["patients"]))["PatientName"], "NEW")


class SequenceTests(EditingCase):
    """The operation ``ModifyInstance`` of sequences."""

    async def sequence(self, *operations: Mapping[str, Any]) -> Any:
        body = {"Type": "SequenceOfOperations", "Synchronous": True, "Operations": operations}
        return await self.client.post("/jobs", body)

    async def test_operation(self) -> None:
        """A changed instance is stored; it says what it was made of. Each operation makes identifiers of its own."""
        ids = self.ids()
        operation = {"Type": "ModifyInstance", "ID": ids["instances"], "Replace": {"SeriesDescription": "NEW"}}
        before = await self.listed("instances")
        answer = await self.sequence(operation, operation, {**operation, "Anonymize": True})
        self.assertEqual(answer.status, 200, answer.text)
        new = await self.listed("instances") - before
        (job,) = await self.client.json("/jobs")
        self.assertEqual({item["ID"] for item in await self.client.json(f"/jobs/{job}/results")}, new)
        sources = [await self.tags("instances", instance) for instance in new]
        found = sorted(name for tags in sources for name in tags if tags[name] == ids["instances"])
        self.assertEqual(found, ["AnonymizedFrom", "ModifiedFrom", "ModifiedFrom"])

    async def test_refusals(self) -> None:
        """What cannot be carried out is refused before anything is done."""
        operation = {"Type": "ModifyInstance", "ID": self.ids()["instances"]}
        for fields, code in (
            ({"Replace": []}, 8),
            ({"Replace": {"PatientID": "x"}}, 8),
            ({"Remove": ["Nonsense"]}, 27),
            ({"KeepSource": False}, 8),
            ({"ID": 5}, 8),
            ({"Anonymize": True, "DicomVersion": "1"}, 3),
        ):
            self.assertError(await self.sequence({**operation, **fields}), 400, code)
        self.assertError(await self.sequence({**operation, "ID": NOBODY}), 404, 17)
