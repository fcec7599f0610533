"""Patients, studies, series and instances over HTTP: lists, objects, families, deletion, protection."""

from __future__ import annotations

from typing import Any, ClassVar

from test.rest_samples import IMAGE_CLASS, NOBODY, RestCase, dicom_object

LEVELS = ("patients", "studies", "series", "instances")
PARENTS = ("patient", "study", "series")
COUNTS = {"patients": 2, "studies": 2, "series": 3, "instances": 4}
COMMON = {"ID", "Type", "MainDicomTags", "Labels"}
ABOVE = {"LastUpdate", "IsStable"}
KEYS = {
    "patients": COMMON | ABOVE | {"IsProtected", "Studies"},
    "studies": COMMON | ABOVE | {"PatientMainDicomTags", "ParentPatient", "Series"},
    "series": COMMON | ABOVE | {"ParentStudy", "Instances", "ExpectedNumberOfInstances", "Status"},
    "instances": COMMON | {"ParentSeries", "IndexInSeries", "FileSize", "FileUuid"},
}
#: Part of an upload's answer that names the resource of a level.
PLACES = {"patients": "ParentPatient", "studies": "ParentStudy", "series": "ParentSeries", "instances": "ID"}


class FilledCase(RestCase):
    """A server that holds two patients."""

    async def setUp(self) -> None:
        await super().setUp()
        self.uploads = await self.fill()

    def id_of(self, level: str, upload: int = 0) -> str:
        """The resource of a level that an upload belongs to."""
        return self.uploads[upload][PLACES[level]]

    def path_of(self, level: str, upload: int = 0) -> str:
        return f"/{level}/{self.id_of(level, upload)}"


class ListTests(FilledCase):
    """Lists of resources."""

    async def test_identifiers(self) -> None:
        """A list holds the identifier of each resource once."""
        for level, count in COUNTS.items():
            ids = await self.client.json(f"/{level}")
            self.assertEqual(len(ids), count)
            self.assertEqual(set(ids), {upload[PLACES[level]] for upload in self.uploads})

    async def test_expand(self) -> None:
        """With ``expand`` a list holds what each resource shows of itself, in the same order."""
        for level in LEVELS:
            objects = await self.client.json(f"/{level}?expand")
            self.assertEqual([item["ID"] for item in objects], await self.client.json(f"/{level}"))
            for item in objects:
                self.assertEqual(item, await self.client.json(f"/{level}/{item['ID']}"))

    async def test_spellings_of_expand(self) -> None:
        """The key alone, 1 and true expand; 0 and false do not; other texts are refused."""
        for query, kind in (("", str), ("=", dict), ("=1", dict), ("=true", dict), ("=0", str), ("=false", str)):
            items = await self.client.json(f"/patients?expand{query}" if query else "/patients")
            self.assertIsInstance(items[0], kind, query)
        for text in ("yes", "True", "2", "nothing"):
            self.assertError(await self.client.get("/patients", expand=text), 400, 3)

    async def test_pages(self) -> None:
        """``since`` and ``limit`` cut pages that make up the whole list; 0 is no limit."""
        for suffix in ("", "&expand"):
            whole = await self.client.json(f"/instances?since=0&limit=0{suffix}")
            self.assertEqual(len(whole), 4)
            pages = [await self.client.json(f"/instances?since={start}&limit=3{suffix}") for start in (0, 3, 6)]
            self.assertEqual([len(page) for page in pages], [3, 1, 0])
            self.assertEqual(pages[0] + pages[1], whole)

    async def test_bad_pages(self) -> None:
        """``since`` and ``limit`` go together and are numbers that are not negative."""
        for query in ("since=1", "limit=1", "limit=x", "since="):
            self.assertError(await self.client.get(f"/studies?{query}"), 400, 8)
        for query in ("since=x&limit=1", "since=0&limit=-1", "since=-1&limit=1", "since=0&limit=", "since=0&limit=1e3"):
            self.assertError(await self.client.get(f"/studies?{query}"), 400, 5)
        answer = await self.client.get(f"/studies?since={'9' * 400}&limit=1")
        self.assertError(answer, 400, 5)

    async def test_huge_pages(self) -> None:
        """A number beyond every list gives an empty page, one that no database could take too."""
        for number in (10**6, 2**31, 2**32, 2**63 - 1, 2**63, 10**19 - 1):
            answer = await self.client.get("/studies", since=number, limit=1)
            self.assertIn(answer.status, (200, 400), number)
            if answer.status == 200:
                self.assertEqual(answer.json(), [])
            self.assertEqual(len(await self.client.json("/studies", since=0, limit=min(number, 2**63 - 1))), 2)

    async def test_response_content(self) -> None:
        """``response-content`` chooses groups of fields; ID and Type are always there."""
        groups = {
            "MainDicomTags": {"MainDicomTags", "PatientMainDicomTags"},
            "Metadata": {"Metadata"},
            "Children": {"Series"},
            "Parent": {"ParentPatient"},
            "Labels": {"Labels"},
            "IsStable": {"IsStable"},
            "Attachments": {"Attachments"},
            "Status": set(),
            "IsProtected": set(),
        }
        for name, keys in groups.items():
            for item in await self.client.json("/studies", **{"response-content": name}):
                self.assertEqual(set(item), {"ID", "Type"} | keys, name)
        (first, _) = await self.client.json("/studies?expand=false&response-content=Labels;Children")
        self.assertEqual(set(first), {"ID", "Type", "Labels", "Series"})

    async def test_response_content_of_other_levels(self) -> None:
        """Groups that only one level has."""
        (series, *_) = await self.client.json("/series?response-content=Status")
        self.assertEqual(set(series), {"ID", "Type", "Status", "ExpectedNumberOfInstances"})
        (patient, _) = await self.client.json("/patients?response-content=IsProtected")
        self.assertEqual(patient["IsProtected"], False)
        (instance, *_) = await self.client.json("/instances?response-content=Attachments;Metadata")
        self.assertEqual(
            set(instance["Attachments"][0]),
            {"CompressedMD5", "CompressedSize", "ContentType", "UncompressedMD5", "UncompressedSize", "Uuid"},
        )
        self.assertEqual(instance["Metadata"]["Origin"], "RestApi")

    async def test_unknown_response_content(self) -> None:
        """A group that does not exist is refused."""
        for text in ("Nothing", "MainDicomTags;Nothing", "maindicomtags"):
            answer = await self.client.get("/studies", **{"response-content": text})
            self.assertEqual(answer.status, 400)

    async def test_formats(self) -> None:
        """Tags are shown by keyword, by number, or in full; simplify goes before short before full."""
        full = {"Name": "PatientID", "Type": "String", "Value": "P1"}
        for query, key, value in (
            ("", "PatientID", "P1"),
            ("&simplify", "PatientID", "P1"),
            ("&short", "0010,0020", "P1"),
            ("&full", "0010,0020", full),
            ("&full&short", "0010,0020", "P1"),
            ("&full&short&simplify", "PatientID", "P1"),
            ("&full=0", "0010,0020", full),
        ):
            patients = await self.client.json(f"/patients?expand{query}")
            self.assertIn(value, [patient["MainDicomTags"][key] for patient in patients], query)


class ObjectTests(FilledCase):
    """One resource."""

    async def test_keys(self) -> None:
        """Each level shows its keys and no others."""
        for level in LEVELS:
            item = await self.client.json(self.path_of(level))
            self.assertEqual(set(item), KEYS[level])
            self.assertEqual(item["ID"], self.id_of(level))

    async def test_values(self) -> None:
        """Main tags, parents and children of a study and its patient."""
        study = await self.client.json(self.path_of("studies"))
        self.assertEqual(
            study["MainDicomTags"],
            {
                "AccessionNumber": "ACC-1",
                "StudyDate": "20240102",
                "StudyDescription": "HEAD",
                "StudyID": "1",
                "StudyInstanceUID": "1.2.1",
                "StudyTime": "101112",
            },
        )
        patient = {
            "PatientBirthDate": "19700101",
            "PatientID": "P1",
            "PatientName": "DOE^JOHN",
            "PatientSex": "M",
        }
        self.assertEqual(study["PatientMainDicomTags"], patient)
        self.assertEqual(study["Type"], "Study")
        self.assertEqual(set(study["Series"]), {self.id_of("series", 0), self.id_of("series", 2)})
        self.assertIs(study["IsStable"], False)
        parent = await self.client.json(f"/patients/{study['ParentPatient']}")
        self.assertEqual((parent["MainDicomTags"], parent["Studies"]), (patient, [study["ID"]]))

    async def test_instance(self) -> None:
        """An instance tells the size and name of its file, and its place in the series."""
        item = await self.client.json(self.path_of("instances", 1))
        self.assertEqual(item["IndexInSeries"], 2)
        self.assertEqual(item["FileSize"], len((await self.client.get(f"{self.path_of('instances', 1)}/file")).body))
        self.assertIn(item["FileUuid"], [path.rpartition("/")[2] for path in self.files()])

    async def test_text_beyond_ascii(self) -> None:
        """Text in any character set is shown."""
        patient = await self.client.json(self.path_of("patients", 3))
        self.assertEqual(patient["MainDicomTags"]["PatientName"], "MÜLLER^ANNA")

    async def test_unknown(self) -> None:
        """An identifier that nothing has, or that nothing could have."""
        for level in LEVELS:
            for public_id in (NOBODY, "x", "1", "%00", "a%20b", "%c3%a9", "%ff%fe", "é".encode().hex(), "..%2f.."):
                for method in ("GET", "DELETE"):
                    answer = await self.client.ask(method, f"/{level}/{public_id}")
                    if public_id == "..%2f..":
                        self.assertEqual(answer.status, 307 if method == "GET" else 405)
                        continue
                    self.assertEmpty(answer, 404)

    async def test_level_matters(self) -> None:
        """A patient is no study."""
        self.assertEmpty(await self.client.get(f"/studies/{self.id_of('patients')}"), 404)

    async def test_requested_tags(self) -> None:
        """Tags beyond the main ones: counted, of a file, or null; those of the meta header are left out."""
        tags = "PatientID;0008,0060;00080061;0020-1206;NumberOfStudyRelatedInstances;ImageComments;0002,0010"
        item = await self.client.json(self.path_of("studies"), **{"requested-tags": tags})
        self.assertEqual(
            item["RequestedTags"],
            {
                "PatientID": "P1",
                "Modality": "CT",
                "ModalitiesInStudy": "CT\\MR",
                "NumberOfStudyRelatedSeries": "2",
                "NumberOfStudyRelatedInstances": "3",
                "ImageComments": None,
            },
        )

    async def test_requested_tags_of_lists(self) -> None:
        """Lists and families show requested tags too; the old spelling is known."""
        (study, _) = await self.client.json("/studies?expand&requestedTags=SOPClassesInStudy&short")
        self.assertEqual(study["RequestedTags"], {"0008,0062": IMAGE_CLASS})
        for item in await self.client.json(f"{self.path_of('patients')}/instances?requested-tags=SOPClassUID"):
            self.assertEqual(item["RequestedTags"], {"SOPClassUID": IMAGE_CLASS})

    async def test_computed_tags(self) -> None:
        """Counts of each level; a computed tag of another level is left out."""
        for level, tags in {
            "patients": {
                "NumberOfPatientRelatedStudies": "1",
                "NumberOfPatientRelatedSeries": "2",
                "NumberOfPatientRelatedInstances": "3",
            },
            "series": {"NumberOfSeriesRelatedInstances": "2"},
            "instances": {"InstanceAvailability": "ONLINE"},
        }.items():
            item = await self.client.json(
                self.path_of(level), **{"requested-tags": ";".join([*tags, "ModalitiesInStudy"])}
            )
            self.assertEqual(item["RequestedTags"], tags)

    async def test_unknown_requested_tags(self) -> None:
        """A tag that does not exist is refused."""
        for text in ("Nothing", "PatientID;Nothing", "0010", "zzzz,zzzz", "0010,00200"):
            answer = await self.client.get(self.path_of("studies"), **{"requested-tags": text})
            self.assertError(answer, 400, 8)

    async def test_series_status(self) -> None:
        """A series that tells how many instances it has is complete, lacks some, or contradicts itself."""
        path = f"/series/{(await self.client.store(self._slice(1)))['ParentSeries']}"
        item = await self.client.json(path)
        self.assertEqual((item["Status"], item["ExpectedNumberOfInstances"]), ("Missing", 2))
        await self.client.store(self._slice(2))
        self.assertEqual((await self.client.json(path))["Status"], "Complete")
        await self.client.store(self._slice(3))
        self.assertEqual((await self.client.json(path))["Status"], "Inconsistent")
        other = await self.client.json(self.path_of("series"))
        self.assertEqual((other["Status"], other["ExpectedNumberOfInstances"]), ("Unknown", None))

    def _slice(self, number: int) -> bytes:
        return dicom_object("P3", "1.2.3", "1.2.3.1", f"1.2.3.1.{number}", CardiacNumberOfImages="2")


class FamilyTests(FilledCase):
    """Children, parents and what lies below."""

    async def test_children(self) -> None:
        """Descendants of each lower level, as objects or identifiers."""
        expected = {
            "patients": {"studies": 1, "series": 2, "instances": 3},
            "studies": {"series": 2, "instances": 3},
            "series": {"instances": 2},
        }
        for level, below in expected.items():
            for child, count in below.items():
                path = f"{self.path_of(level)}/{child}"
                objects = await self.client.json(path)
                self.assertEqual(len(objects), count)
                for item in objects:
                    self.assertEqual(item, await self.client.json(f"/{child}/{item['ID']}"))
                self.assertEqual(await self.client.json(f"{path}?expand=false"), [item["ID"] for item in objects])
                self.assertEqual(await self.client.json(f"{path}?expand"), objects)

    async def test_no_upward_children(self) -> None:
        """There is no list of ancestors, nor of a resource's own level."""
        for path in ("series/{}/studies", "series/{}/series/", "instances/{}/patients", "patients/{}/patients"):
            level = path.partition("/")[0]
            answer = await self.client.get("/" + path.format(self.id_of(level)))
            self.assertIn(answer.status, (200, 404))
            if answer.status == 200:
                self.assertNotIsInstance(answer.json(), list)

    async def test_parents(self) -> None:
        """Each ancestor, in the format that is asked."""
        for level in LEVELS[1:]:
            for parent in PARENTS[: LEVELS.index(level)]:
                plural = {"patient": "patients", "study": "studies", "series": "series"}[parent]
                found = await self.client.json(f"{self.path_of(level, 2)}/{parent}")
                self.assertEqual(found, await self.client.json(self.path_of(plural, 2)))
        short = await self.client.json(f"{self.path_of('instances')}/patient?short")
        self.assertEqual(short["MainDicomTags"]["0010,0020"], "P1")

    async def test_family_of_nobody(self) -> None:
        """Children of an unknown resource are an error with a body, parents have an empty one."""
        for level in LEVELS[:-1]:
            for child in LEVELS[LEVELS.index(level) + 1 :]:
                self.assertError(await self.client.get(f"/{level}/{NOBODY}/{child}"), 404, 17)
        for level in LEVELS[1:]:
            for parent in PARENTS[: LEVELS.index(level)]:
                self.assertEmpty(await self.client.get(f"/{level}/{NOBODY}/{parent}"), 404)

    async def test_statistics(self) -> None:
        """Counts of the levels below, and sizes as text beside whole megabytes."""
        counts = {
            "patients": {"CountStudies": 1, "CountSeries": 2, "CountInstances": 3},
            "studies": {"CountSeries": 2, "CountInstances": 3},
            "series": {"CountInstances": 2},
            "instances": {},
        }
        for level, numbers in counts.items():
            found = await self.client.json(f"{self.path_of(level)}/statistics")
            below = await self._below(level)
            instances = await self.client.json("/instances?expand")
            size = sum(item["FileSize"] for item in instances if item["ID"] in below)
            sizes: dict[str, Any] = {}
            for name in ("DicomDiskSize", "DicomUncompressedSize", "DiskSize", "UncompressedSize"):
                sizes |= {name: str(size), f"{name}MB": 0}
            self.assertEqual(found, {**numbers, **sizes})
            self.assertError(await self.client.get(f"/{level}/{NOBODY}/statistics"), 404, 17)

    async def _below(self, level: str) -> list[str]:
        if level == "instances":
            return [self.id_of(level)]
        found: list[str] = await self.client.json(f"{self.path_of(level)}/instances?expand=false")
        return found


class DeletionTests(FilledCase):
    """Deleting at each level."""

    async def _delete(self, level: str, upload: int) -> Any:
        answer = await self.client.ask("DELETE", self.path_of(level, upload))
        self.assertEqual(answer.status, 200)
        return answer.json()["RemainingAncestor"]

    async def _counts(self) -> tuple[int, ...]:
        statistics = await self.client.json("/statistics")
        return tuple(statistics[f"Count{name}"] for name in ("Patients", "Studies", "Series", "Instances"))

    async def test_instance(self) -> None:
        """What remains of an instance's family is named, from the nearest ancestor on."""
        series, study = self.id_of("series"), self.id_of("studies")
        self.assertEqual(
            await self._delete("instances", 0), {"ID": series, "Path": f"/series/{series}", "Type": "Series"}
        )
        self.assertEqual(
            await self._delete("instances", 1), {"ID": study, "Path": f"/studies/{study}", "Type": "Study"}
        )
        self.assertIsNone(await self._delete("instances", 2))
        self.assertEqual(await self._counts(), (1, 1, 1, 1))

    async def test_series(self) -> None:
        """A series goes with its instances."""
        self.assertEqual((await self._delete("series", 0))["Type"], "Study")
        self.assertEqual(await self._counts(), (2, 2, 2, 2))
        self.assertIsNone(await self._delete("series", 2))
        self.assertEqual(await self._counts(), (1, 1, 1, 1))

    async def test_study(self) -> None:
        """A study whose patient has another leaves the patient."""
        await self.client.store(dicom_object("P1", "1.2.9", "1.2.9.1", "1.2.9.1.1"))
        patient = self.id_of("patients")
        self.assertEqual(
            await self._delete("studies", 0), {"ID": patient, "Path": f"/patients/{patient}", "Type": "Patient"}
        )
        self.assertEqual(await self._counts(), (2, 2, 2, 2))

    async def test_patient(self) -> None:
        """A patient goes with everything, files included, and a second time there is nothing to delete."""
        before = len(self.files())
        self.assertIsNone(await self._delete("patients", 0))
        self.assertEqual(await self._counts(), (1, 1, 1, 1))
        self.assertEqual(len(self.files()), before - 3)
        self.assertEmpty(await self.client.ask("DELETE", self.path_of("patients", 0)), 404)
        for level in LEVELS:
            self.assertEmpty(await self.client.get(self.path_of(level, 0)), 404)

    async def test_changes_go_too(self) -> None:
        """The changes of a deleted resource are removed with it."""
        await self._delete("patients", 0)
        changes = (await self.client.json("/changes"))["Changes"]
        self.assertEqual({change["ID"] for change in changes}, {self.uploads[3][key] for key in PLACES.values()})

    async def test_stored_again(self) -> None:
        """What was deleted can be stored as if it had never been there."""
        await self._delete("instances", 3)
        again = await self.client.store(dicom_object("P2", "1.2.2", "1.2.2.1", "1.2.2.1.1"))
        self.assertEqual((again["Status"], again["ID"]), ("Success", self.id_of("instances", 3)))


class ProtectionTests(RestCase):
    """Protected patients and quotas."""

    SETTINGS: ClassVar = {"MaximumPatientCount": 2}

    async def _store(self, number: int) -> Any:
        study = f"1.{number}"
        return await self.client.post("/instances", dicom_object(f"P{number}", study, f"{study}.1", f"{study}.1.1"))

    async def _patients(self) -> set[str]:
        return {item["MainDicomTags"]["PatientID"] for item in await self.client.json("/patients?expand")}

    async def test_flag(self) -> None:
        """Protection is read and written as text, and shows in the object."""
        path = f"/patients/{(await self._store(1)).json()['ParentPatient']}"
        self.assertEqual((await self.client.get(f"{path}/protected")).text, "0")
        for text, shown in (("1", True), ("0", False), (" 1 \n", True)):
            self.assertEmpty(await self.client.ask("PUT", f"{path}/protected", text), 200)
            self.assertEqual((await self.client.get(f"{path}/protected")).text, str(int(shown)))
            self.assertIs((await self.client.json(path))["IsProtected"], shown)

    async def test_bad_flags(self) -> None:
        """Other texts are refused, and an unknown patient."""
        path = f"/patients/{(await self._store(1)).json()['ParentPatient']}"
        for text in ("", "2", "true", "01", '"1"', b"\xff", "1" * 100000):
            self.assertError(await self.client.ask("PUT", f"{path}/protected", text), 400, 15)
        self.assertEqual((await self.client.get(f"{path}/protected")).text, "0")
        self.assertError(await self.client.get(f"/patients/{NOBODY}/protected"), 400, 3)
        self.assertIn((await self.client.ask("PUT", f"/patients/{NOBODY}/protected", "1")).status, (400, 404))

    async def test_recycling(self) -> None:
        """The patient that was stored first makes room for a third one."""
        for number in (1, 2, 3):
            self.assertEqual((await self._store(number)).status, 200)
        self.assertEqual(await self._patients(), {"P2", "P3"})
        self.assertEqual(len([path for path in self.files() if "spool" not in path]), 2)

    async def test_protected_patient_survives(self) -> None:
        """A protected patient is never recycled; unprotected again, it is the youngest."""
        path = f"/patients/{(await self._store(1)).json()['ParentPatient']}"
        await self.client.ask("PUT", f"{path}/protected", "1")
        for number in (2, 3, 4):
            await self._store(number)
        self.assertEqual(await self._patients(), {"P1", "P4"})
        await self.client.ask("PUT", f"{path}/protected", "0")
        await self._store(5)
        self.assertEqual(await self._patients(), {"P1", "P5"})

    async def test_all_protected(self) -> None:
        """When nobody can be recycled, the new object is refused and leaves nothing behind."""
        for number in (1, 2):
            path = f"/patients/{(await self._store(number)).json()['ParentPatient']}"
            await self.client.ask("PUT", f"{path}/protected", "1")
        files = self.files()
        answer = await self._store(3)
        self.assertEqual((answer.status, answer.json()["OrthancStatus"]), (507, 19))
        self.assertEqual((await self._patients(), self.files()), ({"P1", "P2"}, files))

    async def test_reject(self) -> None:
        """In mode Reject an object over the quota is refused; one of a known patient is taken."""
        await self.restart(MaximumStorageMode="Reject")
        for number in (1, 2):
            await self._store(number)
        files, statistics = self.files(), await self.client.json("/statistics")
        self.assertError(await self._store(3), 507, 19)
        self.assertEqual((self.files(), await self.client.json("/statistics")), (files, statistics))
        more = await self.client.post("/instances", dicom_object("P1", "1.1", "1.1.1", "1.1.1.2"))
        self.assertEqual(more.json()["Status"], "Success")

    async def test_reject_by_size(self) -> None:
        """The size of all files is a quota too."""
        await self.restart(MaximumStorageMode="Reject", MaximumPatientCount=0, MaximumStorageSize=1)
        small = dicom_object("P1", "1.1", "1.1.1", "1.1.1.1")
        self.assertEqual((await self.client.post("/instances", small)).status, 200)
        large = dicom_object("P2", "1.2", "1.2.1", "1.2.1.1", EncapsulatedDocument=b"\0" * 1100000)
        self.assertError(await self.client.post("/instances", large), 507, 19)
        self.assertEqual(await self._patients(), {"P1"})
