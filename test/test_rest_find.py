"""``/tools/find`` and ``/tools/lookup`` over HTTP."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from orthanctw.model import ResourceLevel
from test.rest_samples import RestCase, dicom_object


class FindCase(RestCase):
    """A server with a few patients, and searches that answer with what the studies are called."""

    async def setUp(self) -> None:
        await super().setUp()
        self.uploads = await self.fill()

    async def names(self, level: str, query: object, **fields: object) -> list[str]:
        """The SOP instance UIDs, series UIDs, study UIDs or patient ids of what is found, sorted."""
        key = {
            "Patient": "PatientID",
            "Study": "StudyInstanceUID",
            "Series": "SeriesInstanceUID",
            "Instance": "SOPInstanceUID",
        }[level]
        found = await self.client.find(level, query, Expand=True, **fields)
        return sorted(item["MainDicomTags"][key] for item in found)

    async def patients(self, query: object, **fields: object) -> list[str]:
        return await self.names("Patient", query, **fields)

    async def studies(self, query: object, **fields: object) -> list[str]:
        return await self.names("Study", query, **fields)


class MatchingTests(FindCase):
    """What matches."""

    async def test_everything(self) -> None:
        """No key, and keys without a value, match everything of a level."""
        for level, count in (("Patient", 2), ("Study", 2), ("Series", 3), ("Instance", 4)):
            for query in ({}, {"PatientID": ""}, {"PatientComments": "", "StudyDate": ""}):
                self.assertEqual(len(await self.client.find(level, query)), count)
        for level in ("patients", "STUDIES", "Image", "instance"):
            self.assertTrue(await self.client.find(level, {}))

    async def test_exact(self) -> None:
        """A whole value, however the tag is written, on each level and on those above."""
        for tag in ("PatientID", "0010,0020", "0010-0020", "00100020"):
            self.assertEqual(await self.studies({tag: "P1"}), ["1.2.1"])
            self.assertEqual(len(await self.client.find("Instance", {tag: "P1"})), 3)
        self.assertEqual(await self.studies({"PatientID": "P"}), [])
        self.assertEqual(await self.names("Series", {"Modality": "MR"}), ["1.2.1.2"])
        self.assertEqual(await self.names("Instance", {"Modality": "MR"}), ["1.2.1.2.1"])
        self.assertEqual(await self.names("Instance", {"SOPInstanceUID": "1.2.1.1.2"}), ["1.2.1.1.2"])

    async def test_several_keys(self) -> None:
        """Every key must match."""
        self.assertEqual(await self.studies({"PatientID": "P1", "StudyDescription": "HEAD"}), ["1.2.1"])
        self.assertEqual(await self.studies({"PatientID": "P1", "StudyDescription": "KNEE"}), [])
        self.assertEqual(await self.names("Series", {"PatientID": "P1", "Modality": "CT"}), ["1.2.1.1"])

    async def test_lists(self) -> None:
        """Any of several values."""
        self.assertEqual(await self.patients({"PatientID": "P1\\P2\\P3"}), ["P1", "P2"])
        self.assertEqual(await self.names("Series", {"Modality": "MR\\US"}), ["1.2.1.2"])
        uids = "\\".join(f"1.2.1.1.{number}" for number in range(2000))
        self.assertEqual(await self.names("Instance", {"SOPInstanceUID": uids}), ["1.2.1.1.1", "1.2.1.1.2"])

    async def test_wildcards(self) -> None:
        """``*`` is any text, ``?`` one character, and nothing else is special."""
        for pattern, expected in (
            ("*", ["P1", "P2"]),
            ("DOE*", ["P1"]),
            ("*^*", ["P1", "P2"]),
            ("*anna", ["P2"]),
            ("D?E^J*N", ["P1"]),
            ("M?LLER^????", ["P2"]),
            ("m?ller*", ["P2"]),
            ("?OE", []),
            ("[D]OE*", []),
            ("DOE%", []),
            ("D_E*", []),
        ):
            self.assertEqual(await self.patients({"PatientName": pattern}), expected, pattern)

    async def test_special_characters(self) -> None:
        """Characters that patterns of the database know stand for themselves."""
        names = ["A_B", "A%B", "A[B]", "A'B", 'A"B', "A^B C", "A.B", "A(B", "A\u00dfB", "日本^語"]
        for number, name in enumerate(names):
            study = f"1.9.{number}"
            await self.client.store(dicom_object(f"X{number}", study, f"{study}.1", f"{study}.1.1", PatientName=name))
        for number, name in enumerate(names):
            self.assertEqual(await self.patients({"PatientName": name}), [f"X{number}"], name)
            self.assertEqual(await self.patients({"PatientName": f"{name}*"}), [f"X{number}"], name)
            self.assertEqual(await self.patients({"PatientName": f"*{name[1:]}"}), [f"X{number}"], name)
        self.assertEqual(len(await self.patients({"PatientName": "A?B"})), 6)
        self.assertEqual(await self.patients({"PatientName": "日*"}), ["X9"])
        self.assertEqual(await self.patients({"PatientName": "??^?"}), ["X9"])

    async def test_case(self) -> None:
        """Case does not matter unless it is told to."""
        self.assertEqual(await self.studies({"AccessionNumber": "acc-1"}), ["1.2.1"])
        self.assertEqual(await self.studies({"AccessionNumber": "ACC-*"}), ["1.2.1", "1.2.2"])
        self.assertEqual(await self.studies({"AccessionNumber": "ACC-*"}, CaseSensitive=True), ["1.2.1"])
        self.assertEqual(await self.studies({"AccessionNumber": "acc-1"}, CaseSensitive=True), [])
        self.assertEqual(await self.studies({"AccessionNumber": "acc-1\\ACC-2"}, CaseSensitive=True), [])
        self.assertEqual(await self.patients({"PatientName": "müller^anna"}), ["P2"])
        self.assertEqual(await self.patients({"PatientName": "muller^anna"}), [])
        self.assertEqual(await self.patients({"PatientSex": "f"}), ["P2"])

    async def test_ranges(self) -> None:
        """Dates and times between bounds that count, either of which may be open."""
        for text, expected in (
            ("20240102-20240102", ["1.2.1"]),
            ("20240101-20250607", ["1.2.1", "1.2.2"]),
            ("20240103-", ["1.2.2"]),
            ("-20241231", ["1.2.1"]),
            ("-", ["1.2.1", "1.2.2"]),
            ("20260101-", []),
            ("20250607-20240102", []),
        ):
            self.assertEqual(await self.studies({"StudyDate": text}), expected, text)
        self.assertEqual(len(await self.studies({"StudyTime": "10-11"})), 2)
        self.assertEqual(await self.studies({"StudyTime": "11-"}), [])

    async def test_dates_that_are_empty(self) -> None:
        """An empty date lies before every upper bound, and in no range with a lower one."""
        await self.client.store(dicom_object("P3", "1.2.3", "1.2.3.1", "1.2.3.1.1", StudyDate=""))
        await self.client.store(dicom_object("P4", "1.2.4", "1.2.4.1", "1.2.4.1.1", StudyDate=None))
        self.assertEqual(await self.studies({"StudyDate": "-20241231"}), ["1.2.1", "1.2.3"])
        self.assertEqual(await self.studies({"StudyDate": "19000101-20241231"}), ["1.2.1"])

    async def test_absent_values(self) -> None:
        """What an object lacks matches nothing but the empty key."""
        await self.client.store(dicom_object("P3", "1.2.3", "1.2.3.1", "1.2.3.1.1", StudyDescription=None))
        self.assertNotIn("1.2.3", await self.studies({"StudyDescription": "*"}))
        self.assertIn("1.2.3", await self.studies({"StudyDescription": ""}))
        self.assertEqual(await self.studies({"PatientComments": "*"}), [])

    async def test_tags_of_files(self) -> None:
        """Tags that the database does not keep are compared with those of a file."""
        await self.client.store(
            dicom_object("P3", "1.2.3", "1.2.3.1", "1.2.3.1.1", PatientComments="Some text", Rows=128)
        )
        for query in (
            {"PatientComments": "some*"},
            {"PatientComments": "SOME TEXT"},
            {"Rows": "128"},
            {"0028,0010": "128", "PatientID": "P3"},
        ):
            for level, expected in (("Patient", "P3"), ("Study", "1.2.3"), ("Instance", "1.2.3.1.1")):
                self.assertEqual(await self.names(level, query), [expected], query)
        self.assertEqual(await self.patients({"PatientComments": "Some"}), [])

    async def test_computed_tags(self) -> None:
        """Gathered tags match by any of their values; a study has no modality of its own."""
        self.assertEqual(await self.studies({"ModalitiesInStudy": "MR"}), ["1.2.1"])
        self.assertEqual(await self.studies({"ModalitiesInStudy": "CT"}), ["1.2.1", "1.2.2"])
        self.assertEqual(await self.studies({"ModalitiesInStudy": "MR\\US"}), ["1.2.1"])
        self.assertEqual(await self.studies({"ModalitiesInStudy": "C*"}), ["1.2.1", "1.2.2"])
        self.assertEqual(await self.studies({"NumberOfStudyRelatedSeries": "2"}), ["1.2.1"])
        self.assertEqual(await self.studies({"Modality": "CT"}), [])
        self.assertEqual(await self.patients({"StudyDate": "20240102"}), [])

    async def test_several_values_in_one(self) -> None:
        """A list matches any of the values that an object has."""
        await self.client.store(
            dicom_object("P3", "1.2.3", "1.2.3.1", "1.2.3.1.1", OtherPatientIDs=["one", "two"], ImageType=["A", "B"])
        )
        self.assertEqual(await self.patients({"OtherPatientIDs": "two\\three"}), ["P3"])
        self.assertEqual(await self.patients({"OtherPatientIDs": "*two"}), ["P3"])
        self.assertEqual(await self.names("Instance", {"ImageType": "B\\C"}), ["1.2.3.1.1"])

    async def test_sequences(self) -> None:
        """A key that is a sequence is no reason to fail."""
        code = Dataset()
        code.CodeValue = "X"
        await self.client.store(
            dicom_object("P3", "1.2.3", "1.2.3.1", "1.2.3.1.1", RequestAttributesSequence=Sequence([code]))
        )
        self.assertEqual(len(await self.studies({"RequestAttributesSequence": ""})), 3)
        self.assertIn((await self._post({"RequestAttributesSequence": "X"})).status, (200, 400))

    async def _post(self, query: object) -> Any:
        return await self.client.post("/tools/find", {"Level": "Study", "Query": query})

    async def test_wildcards_out_of_place(self) -> None:
        """Numbers, dates and identifiers have no wildcards."""
        for tag in ("StudyInstanceUID", "StudyDate", "SeriesNumber", "Rows", "StudyTime"):
            for value in ("*", "1?", "1.2.*"):
                self.assertError(await self._post({tag: value}), 400, 3)

    async def test_unknown_tags(self) -> None:
        """A key that is no tag is the caller's mistake."""
        for tag in ("Nothing", "", "0010", "patientid ", "0010,00200", "\u0000", "x" * 10000):
            answer = await self._post({tag: "x"})
            self.assertEqual((answer.status, answer.json()["OrthancStatus"]), (400, 27), tag[:20])


class PagingTests(FindCase):
    """Since, limit and labels."""

    async def test_pages(self) -> None:
        """Pages are cut after the comparison, and make up the whole."""
        for query in ({}, {"PatientID": "P*"}, {"PatientSex": "*"}, {"SpecificCharacterSet": "*"}):
            whole = await self.client.find("Instance", query)
            self.assertEqual(len(whole), 4)
            pages = [await self.client.find("Instance", query, Since=start, Limit=3) for start in (0, 3, 6)]
            self.assertEqual(pages, [whole[:3], whole[3:], []])
            self.assertEqual(await self.client.find("Instance", query, Since=1), whole[1:])
            self.assertEqual(await self.client.find("Instance", query, Limit=0), whole)

    async def test_limit_after_comparison(self) -> None:
        """A limit counts matches, not what was looked at."""
        self.assertEqual(await self.studies({"PatientSex": "F"}, Limit=1), ["1.2.2"])
        self.assertEqual(await self.names("Instance", {"SOPClassUID": "1.2"}, Limit=1), [])

    async def test_server_limits(self) -> None:
        """The configuration bounds every answer."""
        await self.restart(LimitFindResults=1, LimitFindInstances=2)
        self.assertEqual(len(await self.client.find("Study", {})), 1)
        self.assertEqual(len(await self.client.find("Study", {"PatientID": "P*"}, Limit=5)), 1)
        self.assertEqual(len(await self.client.find("Instance", {})), 2)
        self.assertEqual(len(await self.client.find("Instance", {}, Limit=1)), 1)

    async def test_bad_numbers(self) -> None:
        """Negative numbers and what is none."""
        for name in ("Since", "Limit"):
            self.assertError(await self._post(**{name: -1}), 400, 3)
            for value in ("1", 1.5, True, None, [], {}):
                self.assertError(await self._post(**{name: value}), 400, 8)
            for number in (2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**300):
                self.assertIn((await self._post(**{name: number})).status, (200, 400), number)

    async def _post(self, **fields: object) -> Any:
        return await self.client.post("/tools/find", {"Level": "Study", "Query": {}, **fields})

    async def test_labels(self) -> None:
        """All, any or none of some labels."""
        first, second = self.uploads[0]["ParentStudy"], self.uploads[3]["ParentStudy"]
        index, study = self.server.index, ResourceLevel.STUDY
        await index.add_label(study, first, "a")
        await index.add_label(study, first, "b")
        await index.add_label(study, second, "b")
        for labels, constraint, expected in (
            (["a"], "All", ["1.2.1"]),
            (["a", "b"], "All", ["1.2.1"]),
            (["b"], "All", ["1.2.1", "1.2.2"]),
            (["a", "b"], "Any", ["1.2.1", "1.2.2"]),
            (["a"], "None", ["1.2.2"]),
            (["a", "b"], "None", []),
            (["c"], "Any", []),
            (["no way!"], "All", []),
            ([], "Any", ["1.2.1", "1.2.2"]),
            ([], "None", []),
        ):
            for query in ({}, {"PatientID": "*"}):
                found = await self.studies(query, Labels=labels, LabelsConstraint=constraint)
                self.assertEqual(found, expected, (labels, constraint))
        self.assertEqual(await self.studies({}, Labels=["a"]), ["1.2.1"])
        self.assertEqual(await self.patients({}, Labels=[], LabelsConstraint="None"), ["P1", "P2"])


class AnswerTests(FindCase):
    """What is shown of the matches."""

    async def test_identifiers(self) -> None:
        """Without Expand, identifiers."""
        self.assertEqual(await self.client.find("Study", {"PatientID": "P1"}), [self.uploads[0]["ParentStudy"]])
        self.assertEqual(
            await self.client.find("Study", {"PatientID": "P1"}, Expand=False), [self.uploads[0]["ParentStudy"]]
        )

    async def test_expand(self) -> None:
        """With Expand, what the resource shows of itself, in the format that is asked."""
        for level in ResourceLevel:
            for field, query in (("Expand", ""), ("Full", "?full"), ("Short", "?short"), ("Simplify", "?simplify")):
                for item in await self.client.find(level.title, {}, **{"Expand": True, field: True}):
                    self.assertEqual(item, await self.client.json(f"/{level.plural}/{item['ID']}{query}"))

    async def test_response_content(self) -> None:
        """ResponseContent chooses groups of fields and goes before Expand."""
        for expand in (True, False):
            (item,) = await self.client.find(
                "Study", {"PatientID": "P1"}, Expand=expand, ResponseContent=["Labels", "Children"]
            )
            self.assertEqual(set(item), {"ID", "Type", "Labels", "Series"})
        answer = await self.client.post(
            "/tools/find", {"Level": "Study", "Query": {}, "ResponseContent": ["Nothing"]}
        )
        self.assertEqual(answer.status, 400)

    async def test_requested_tags(self) -> None:
        """RequestedTags adds tags of the database, of files and computed ones."""
        tags = ["PatientID", "0008,0016", "ModalitiesInStudy", "PatientComments"]
        (item,) = await self.client.find("Study", {"PatientID": "P1"}, Expand=True, RequestedTags=tags)
        self.assertEqual(
            item["RequestedTags"],
            {
                "PatientID": "P1",
                "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
                "ModalitiesInStudy": "CT\\MR",
                "PatientComments": None,
            },
        )
        (item,) = await self.client.find(
            "Study", {"PatientID": "P1"}, RequestedTags=tags[:1], ResponseContent=["Labels"]
        )
        self.assertEqual(set(item), {"ID", "Type", "Labels", "RequestedTags"})

    async def test_bad_fields(self) -> None:
        """Every field has one type."""
        wrong: dict[str, list[object]] = {
            "Level": [1, None, [], {}, True],
            "Query": [[], "PatientID", 1, None, True, [{"PatientID": "x"}]],
            "Expand": ["true", 1, None, [], {}],
            "CaseSensitive": ["true", 1, None, [], {}],
            "Full": ["true", 1, None, []],
            "Short": ["true", 1, None, []],
            "Simplify": ["true", 1, None, []],
            "Labels": ["a", 1, None, {}, [1], [None], [["a"]]],
            "LabelsConstraint": [1, None, [], "all", "Some", ""],
            "RequestedTags": ["PatientID", 1, None, {}, [1], [None]],
            "ResponseContent": ["Labels", 1, None, {}, [1]],
        }
        forms = ("Full", "Short", "Simplify")
        for name, values in wrong.items():
            for value in values:
                body = {"Level": "Study", "Query": {}, "Expand": True, name: value}
                answer = await self.client.post("/tools/find", body)
                self.assertEqual(answer.status, 400, (name, value))
                self.assertEqual(answer.json()["OrthancStatus"], 15 if name in forms else 8, (name, value))
        for value in (1, None, True, [], {}, ["x"], {"a": "b"}):
            answer = await self.client.post("/tools/find", {"Level": "Study", "Query": {"PatientID": value}})
            self.assertError(answer, 400, 8)

    async def test_missing_fields(self) -> None:
        """Level and Query are needed; the level must exist."""
        for body in ({}, {"Level": "Study"}, {"Query": {}}, {"level": "Study", "query": {}}):
            self.assertError(await self.client.post("/tools/find", body), 400, 8)
        for level in ("Nothing", "", "study ", "*"):
            self.assertError(await self.client.post("/tools/find", {"Level": level, "Query": {}}), 400, 3)

    async def test_no_object(self) -> None:
        """A body that is no JSON object."""
        deep = (b"[" * 100000, b'{"a":' * 100000, b"[" * 5000 + b"]" * 5000)
        for text in (b"", b"{", b"nothing", b"\xff\xfe", b"{}x", b"\x00", b"NaN", *deep):
            answer = await self.client.post("/tools/find", text)
            self.assertError(answer, 400, 8)
        for text in (b"[]", b"1", b"null", b'"x"', b"true"):
            self.assertError(await self.client.post("/tools/find", text), 400, 8)


class LookupTests(FindCase):
    """``/tools/lookup``."""

    async def lookup(self, text: str | bytes) -> Any:
        answer = await self.client.post("/tools/lookup", text)
        self.assertEqual(answer.status, 200)
        return answer.json()

    async def test_levels(self) -> None:
        """The identifier of any level, to the letter."""
        upload = self.uploads[0]
        for text, kind, path, public_id in (
            ("P1", "Patient", "patients", upload["ParentPatient"]),
            ("1.2.1", "Study", "studies", upload["ParentStudy"]),
            ("1.2.1.1", "Series", "series", upload["ParentSeries"]),
            ("1.2.1.1.1", "Instance", "instances", upload["ID"]),
        ):
            for spelling in (text, f" {text}\n"):
                self.assertEqual(
                    await self.lookup(spelling), [{"ID": public_id, "Path": f"/{path}/{public_id}", "Type": kind}]
                )

    async def test_several(self) -> None:
        """One text may be the identifier of several resources."""
        await self.client.store(dicom_object("1.2.1", "1.2.9", "1.2.9.1", "1.2.9.1.1"))
        self.assertEqual([item["Type"] for item in await self.lookup("1.2.1")], ["Patient", "Study"])

    async def test_nothing(self) -> None:
        """Case, parts, wildcards and other text find nothing."""
        for text in ("", "p1", "P", "P*", "*", "DOE^JOHN", "_1", "P1\\P2", b"\xff", "x" * 100000, "P1\0"):
            self.assertEqual(await self.lookup(text), [])
