"""Order, parents, metadata and sequences in ``/tools/find``; ``/tools/count-resources``."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from test.rest_samples import NOBODY, RestCase, dicom_object
from test.test_rest_find import FindCase


def by(key: str, kind: str = "DicomTag", direction: str = "ASC") -> dict[str, str]:
    """An entry of OrderBy."""
    return {"Type": kind, "Key": key, "Direction": direction}


class OrderCase(RestCase):
    """A server with five studies of one series and object each, found by the last part of their UIDs."""

    async def setUp(self) -> None:
        await super().setUp()
        self.uploads = []
        for number, (name, series, instance, other, comments) in enumerate(
            (
                ("ROE^A", "2", "10", "1.5\\x", "beta"),
                ("DOE^B", "10", "9", "-3\\y", "alpha"),
                ("doe^c", "1", "0", "1e1\\z", "gamma"),
                ("POE^D", "2", "100", "0.25\\q", ""),
                ("DOE^B", None, None, "", ""),
            )
        ):
            uid = f"1.2.{number}"
            data = dicom_object(
                f"P{number}",
                uid,
                f"{uid}.1",
                f"{uid}.1.1",
                PatientName=name,
                SeriesNumber=series,
                InstanceNumber=instance,
                ImageComments=other,
                OtherPatientIDs=other,
                PatientComments=comments,
                StationName=f"S{number % 2}",
            )
            self.uploads.append(await self.client.store(data))
        self.order = {
            upload[key]: number
            for number, upload in enumerate(self.uploads)
            for key in ("ParentStudy", "ParentSeries", "ID")
        }

    async def ordered(self, level: str, *keys: dict[str, str], **fields: Any) -> list[int]:
        """Numbers of the objects in the order of an answer."""
        found = await self.client.find(level, fields.pop("Query", {}), OrderBy=keys, **fields)
        return [self.order[item] for item in found]


class OrderTests(OrderCase):
    """What comes first."""

    async def test_identifiers(self) -> None:
        """Identifier tags go by their normalised form; what is equal stays in the order of its creation."""
        for level in ("Study", "Series", "Instance"):
            for fields in ({}, {"Limit": 5}, {"Query": {"PatientID": "P*"}}, {"Query": {"Modality": "CT"}}):
                if level == "Study" and "Modality" in fields.get("Query", {}):
                    continue
                found = await self.ordered(level, by("PatientName"), **fields)
                self.assertEqual(found, [1, 4, 2, 3, 0], (level, fields))
                found = await self.ordered(level, by("PatientName", direction="DESC"), **fields)
                self.assertEqual(found, [0, 3, 2, 1, 4], (level, fields))

    async def test_numbers(self) -> None:
        """As text, as integers and as real numbers; what has no value comes last either way."""
        for level in ("Series", "Instance"):
            self.assertEqual(await self.ordered(level, by("SeriesNumber")), [2, 1, 0, 3, 4])
            self.assertEqual(await self.ordered(level, by("SeriesNumber", "DicomTagAsInt")), [2, 0, 3, 1, 4])
            self.assertEqual(await self.ordered(level, by("SeriesNumber", "DicomTagAsInt", "DESC")), [1, 0, 3, 2, 4])
        self.assertEqual(await self.ordered("Instance", by("InstanceNumber")), [2, 0, 3, 1, 4])
        self.assertEqual(await self.ordered("Instance", by("0020,0013", "DicomTagAsInt", "DESC")), [3, 0, 1, 2, 4])

    async def test_several_keys(self) -> None:
        """A key decides where those before it are equal, from whatever level it is."""
        for direction, expected in (("ASC", [1, 4, 2, 3, 0]), ("DESC", [4, 1, 2, 3, 0])):
            keys = by("PatientName"), by("StudyInstanceUID", direction=direction)
            for fields in ({}, {"Limit": 5}):
                self.assertEqual(await self.ordered("Instance", *keys, **fields), expected)
                self.assertEqual(await self.ordered("Study", *keys, **fields), expected)
        number, patient = by("SeriesNumber", "DicomTagAsInt"), by("PatientID", direction="DESC")
        keys = by("StationName", direction="DESC"), number, patient
        self.assertEqual(await self.ordered("Series", *keys), [3, 1, 2, 0, 4])
        self.assertEqual(await self.ordered("Instance", *keys), [3, 1, 2, 0, 4])
        self.assertEqual(await self.ordered("Instance", *keys, Query={"PatientID": "P*"}), [3, 1, 2, 0, 4])

    async def test_tags_of_headers(self) -> None:
        """Tags that are no main tags, by number or name."""
        self.assertEqual(await self.ordered("Study", by("PatientComments")), [3, 4, 1, 0, 2])
        self.assertEqual(await self.ordered("Study", by("PatientComments", direction="DESC")), [2, 0, 1, 3, 4])
        for level in ("Study", "Instance"):
            self.assertEqual(await self.ordered(level, by("OtherPatientIDs", "DicomTagAsFloat")), [1, 3, 0, 2, 4])
            self.assertEqual(await self.ordered(level, by("0010,1000", "DicomTagAsInt")), [1, 3, 0, 2, 4])
            self.assertEqual(
                await self.ordered(level, by("OtherPatientIDs", "DicomTagAsFloat"), Since=1, Limit=2), [3, 0]
            )

    async def test_metadata(self) -> None:
        """Metadata by name or number."""
        for number, value in ((0, "10"), (1, "9"), (3, "-1")):
            study = self.uploads[number]["ParentStudy"]
            answer = await self.client.ask("PUT", f"/studies/{study}/metadata/1024", value)
            self.assertEqual(answer.status, 200)
        self.assertEqual(await self.ordered("Study", by("1024", "Metadata")), [3, 0, 1, 2, 4])
        self.assertEqual(await self.ordered("Study", by("1024", "MetadataAsInt")), [3, 1, 0, 2, 4])
        self.assertEqual(await self.ordered("Study", by("1024", "MetadataAsFloat", "DESC")), [0, 1, 3, 2, 4])
        self.assertEqual(await self.ordered("Instance", by("IndexInSeries", "MetadataAsInt")), [2, 1, 0, 3, 4])
        keys = by("LastUpdate", "Metadata"), by("PatientID", direction="DESC")
        found = await self.client.find("Study", {}, OrderBy=keys, Expand=True)
        expected = sorted(found, key=lambda item: item["PatientMainDicomTags"]["PatientID"], reverse=True)
        self.assertEqual(found, sorted(expected, key=lambda item: item["LastUpdate"]))

    async def test_pages(self) -> None:
        """Pages of an order make up the whole, also beyond what has a value."""
        for key in (by("PatientName"), by("SeriesNumber"), by("StudyInstanceUID", direction="DESC"), by("Rows")):
            for query in ({}, {"PatientID": "P*"}, {"ImageComments": "*"}):
                whole = await self.ordered("Instance", key, Query=query)
                self.assertEqual(len(whole), 5)
                for size in (1, 2, 4):
                    pages = [
                        await self.ordered("Instance", key, Query=query, Since=start, Limit=size)
                        for start in range(0, 8, size)
                    ]
                    self.assertEqual([item for page in pages for item in page], whole, (key, query, size))

    async def test_absent_identifiers(self) -> None:
        """A page may reach from those with a value into those without."""
        await self.client.store(dicom_object("P9", "1.2.9", "1.2.9.1", "1.2.9.1.1", AccessionNumber=None))
        await self.client.store(dicom_object("P8", "1.2.8", "1.2.8.1", "1.2.8.1.1", AccessionNumber="A0"))
        pages = [
            await self.client.find("Study", {}, OrderBy=[by("AccessionNumber")], Expand=True, Since=start, Limit=2)
            for start in (0, 2, 4, 6, 8)
        ]
        found = [[item["PatientMainDicomTags"]["PatientID"] for item in page] for page in pages]
        self.assertEqual(found, [["P8", "P0"], ["P1", "P2"], ["P3", "P4"], ["P9"], []])

    async def test_several_values(self) -> None:
        """A value of several parts counts once, and as a whole."""
        await self.client.store(
            dicom_object("P9", "1.2.9", "1.2.9.1", "1.2.9.1.1", PatientName="ZOE", StudyDescription="A\\ZZ")
        )
        for direction, expected in (("ASC", [None, 0, 1, 2, 3, 4]), ("DESC", [0, 1, 2, 3, 4, None])):
            for limit in (0, 9):
                order = [by("StudyDescription", direction=direction)]
                found = await self.client.find("Study", {}, OrderBy=order, Limit=limit)
                self.assertEqual([self.order.get(item) for item in found], expected)

    async def test_lower_levels(self) -> None:
        """A tag of a level below has no value to order by."""
        for key in ("Modality", "InstanceNumber"):
            answer = await self.client.post("/tools/find", {"Level": "Study", "Query": {}, "OrderBy": [by(key)]})
            self.assertError(answer, 400, 1012)

    async def test_bad_orders(self) -> None:
        """What is no order is the caller's mistake."""
        bad: list[tuple[object, int, int]] = [
            *((value, 400, 8) for value in ("PatientID", 1, None, {}, by("PatientID"), ["PatientID"], [None], [[]])),
            *(([{**by("PatientID"), name: 1}], 400, 8) for name in ("Type", "Key", "Direction")),
            ([{"Type": "DicomTag", "Key": "PatientID"}], 400, 8),
            ([by("PatientID", "Tag")], 400, 8),
            ([by("PatientID", direction="asc")], 400, 8),
            ([by("Nothing")], 400, 27),
            ([by("Nothing", "Metadata")], 404, 7),
            ([by("PatientID")] * 1000, 400, 8),
        ]
        for order, status, code in bad:
            answer = await self.client.post("/tools/find", {"Level": "Study", "Query": {}, "OrderBy": order})
            self.assertError(answer, status, code)


class SequenceTests(RestCase):
    """Queries and orders of tags that lie in sequences, and of private ones."""

    async def setUp(self) -> None:
        await super().setUp()
        for number, codes in enumerate((["A", "B"], ["C"], [], ["B", "D"])):
            items = []
            for code in codes:
                inner, outer = Dataset(), Dataset()
                inner.CodeValue = code
                outer.ScheduledProcedureStepID = f"S{code}"
                outer.ScheduledProtocolCodeSequence = Sequence([inner])
                items.append(outer)
            uid = f"1.2.{number}"
            data = dicom_object("P", "1.2", f"{uid}.1", f"{uid}.1.1", RequestAttributesSequence=Sequence(items))
            await self.client.store(data)

    async def found(self, query: object, **fields: object) -> list[str]:
        found = await self.client.find("Instance", query, Expand=True, **fields)
        return [item["MainDicomTags"]["SOPInstanceUID"].split(".")[2] for item in found]

    async def test_paths(self) -> None:
        """The way to a tag, with the number of an item, or any."""
        for query, expected in (
            ({"RequestAttributesSequence[0].ScheduledProcedureStepID": "SB"}, ["3"]),
            ({"0040,0275[1].0040,0009": "SB"}, ["0"]),
            ({"0040,0275[*].0040,0009": "SB"}, ["0", "3"]),
            ({"0040,0275.0040,0009": "s?"}, ["0", "1", "3"]),
            ({"0040,0275[7].0040,0009": "*"}, []),
            ({"0040,0275.0040,0008[0].0008,0100": "B"}, ["0", "3"]),
            ({"0040,0275.0040,0008.0008,0100": "B\\C"}, ["0", "1", "3"]),
            ({"PatientID.CodeValue": "B"}, []),
        ):
            self.assertEqual(await self.found(query), expected, query)

    async def test_nested(self) -> None:
        """One item must fulfil all keys, as in C-FIND."""
        for value, expected in (
            ({"ScheduledProcedureStepID": "SB"}, ["0", "3"]),
            ([{"ScheduledProcedureStepID": "SB"}], ["0", "3"]),
            ([{"ScheduledProcedureStepID": "SB", "ScheduledProtocolCodeSequence": [{"CodeValue": "A"}]}], []),
            ([{"ScheduledProcedureStepID": "SB", "ScheduledProtocolCodeSequence": [{"CodeValue": "B"}]}], ["0", "3"]),
            ([], ["0", "1", "2", "3"]),
            ([{}], ["0", "1", "2", "3"]),
        ):
            self.assertEqual(await self.found({"RequestAttributesSequence": value}), expected, value)

    async def test_order(self) -> None:
        """An order by the first value that a path leads to."""
        order = [by("0040,0275[*].0040,0008.0008,0100")]
        self.assertEqual(await self.found({}, OrderBy=order), ["0", "3", "1", "2"])
        order = [by("0040,0275[1].0040,0009", direction="DESC")]
        self.assertEqual(await self.found({}, OrderBy=order), ["3", "0", "1", "2"])

    async def test_private_tags(self) -> None:
        """Private tags are compared and ordered by as others."""
        dataset = Dataset()
        block = dataset.private_block(0x0029, "TEST", create=True)
        block.add_new(1, "LO", "Something")
        data = dicom_object("P9", "1.9", "1.2.9.1", "1.2.9.1.1")
        stored = dcmread(BytesIO(data))
        stored.update(dataset)
        buffer = BytesIO()
        stored.save_as(buffer)
        await self.client.store(buffer.getvalue())
        self.assertEqual(await self.found({"0029,1001": "some*"}), ["9"])
        self.assertEqual(await self.found({}, OrderBy=[by("0029,1001")]), ["9", "0", "1", "2", "3"])

    async def test_bad_values(self) -> None:
        """Values of the wrong type, and paths that are none."""
        cases: list[tuple[object, int]] = [
            ({"RequestAttributesSequence": [{"PatientID": 1}]}, 8),
            ({"RequestAttributesSequence": [{}, {}]}, 8),
            ({"RequestAttributesSequence": 1}, 8),
            ({"PatientID": {"CodeValue": "B"}}, 8),
            ({"0040,0275[0]": "x"}, 3),
            ({"0040,0275[0].": "x"}, 3),
            ({"0040,0275[-1].0040,0009": "x"}, 3),
            ({"0040,0275[0].Nothing": "x"}, 27),
            ({".".join(["0040,0275"] * 1000): "x"}, 3),
        ]
        deep: object = "x"
        for _ in range(100):
            deep = [{"RequestAttributesSequence": deep}]
        cases.append(({"RequestAttributesSequence": deep}, 3))
        for query, code in cases:
            answer = await self.client.post("/tools/find", {"Level": "Instance", "Query": query})
            self.assertEqual(answer.status, 400, query)
            self.assertIn(answer.json()["OrthancStatus"], (code, 27), query)


class ParentTests(FindCase):
    """Parents and metadata."""

    async def test_parents(self) -> None:
        """What is below a resource, or the resource itself."""
        upload = self.uploads[0]
        patient, study, series = upload["ParentPatient"], upload["ParentStudy"], upload["ParentSeries"]
        for fields, expected in (
            ({"ParentPatient": patient}, ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"]),
            ({"ParentStudy": study}, ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"]),
            ({"ParentSeries": series}, ["1.2.1.1.1", "1.2.1.1.2"]),
            ({"ParentSeries": series, "ParentPatient": patient}, ["1.2.1.1.1", "1.2.1.1.2"]),
            ({"ParentSeries": series, "ParentStudy": self.uploads[3]["ParentStudy"]}, []),
            *(({name: NOBODY}, []) for name in ("ParentPatient", "ParentStudy", "ParentSeries")),
            ({"ParentStudy": series}, []),
            ({"ParentStudy": ""}, []),
        ):
            for query in ({}, {"PatientID": "P?"}, {"PatientSex": "*"}, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}):
                self.assertEqual(await self.names("Instance", query, **fields), expected, (fields, query))
        for query, expected in (({"Modality": "MR"}, ["1.2.1.2.1"]), ({"SOPInstanceUID": "1.2.1.1.2"}, ["1.2.1.1.2"])):
            self.assertEqual(await self.names("Instance", query, ParentStudy=study), expected)
        self.assertEqual(await self.names("Instance", {"SOPInstanceUID": "1.2.2.1.1"}, ParentStudy=study), [])
        self.assertEqual(await self.names("Instance", {"PatientID": "P2"}, ParentSeries=series), [])
        self.assertEqual(await self.names("Study", {}, ParentStudy=study), ["1.2.1"])
        self.assertEqual(await self.names("Series", {"StudyDescription": "HEAD"}, ParentSeries=series), ["1.2.1.1"])
        self.assertEqual(await self.patients({}, ParentStudy=study), [])

    async def test_levels_above(self) -> None:
        """Conditions of several levels, each compared where its tag is kept."""
        for query, expected in (
            ({"PatientID": "P1", "Modality": "CT", "InstanceNumber": "2"}, ["1.2.1.1.2"]),
            ({"StudyDate": "20240101-20241231", "SeriesDescription": "sag"}, ["1.2.1.2.1"]),
            ({"StudyDate": "20250101-", "SOPInstanceUID": "1.2.1.1.1"}, []),
            ({"PatientSex": "F", "SpecificCharacterSet": "ISO_IR 192"}, ["1.2.2.1.1"]),
        ):
            self.assertEqual(await self.names("Instance", query), expected, query)

    async def test_metadata(self) -> None:
        """Metadata with wildcards and lists, whatever the case."""
        study = self.uploads[0]["ParentStudy"]
        await self.client.ask("PUT", f"/studies/{study}/metadata/1024", "Reviewed [twice]")
        for query, expected in (
            ({"1024": "reviewed [twice]"}, ["1.2.1"]),
            ({"1024": "REV*"}, ["1.2.1"]),
            ({"1024": "?eviewed*"}, ["1.2.1"]),
            ({"1024": "Reviewed"}, []),
            ({"1024": "no\\Reviewed [twice]"}, ["1.2.1"]),
            ({"1025": "*"}, []),
            ({"1025": ""}, ["1.2.1", "1.2.2"]),
            ({"LastUpdate": "2*", "1024": "*"}, ["1.2.1"]),
        ):
            self.assertEqual(await self.studies({}, MetadataQuery=query), expected, query)
        self.assertEqual(await self.studies({"PatientID": "P2"}, MetadataQuery={"1024": "*"}), [])
        self.assertEqual(len(await self.names("Instance", {}, MetadataQuery={"SopClassUid": "1.2.840.*"}, Limit=3)), 3)

    async def test_bad_fields(self) -> None:
        """Wrong types, and metadata that nobody knows."""
        cases: list[tuple[dict[str, object], int, int]] = [
            *(({"MetadataQuery": value}, 400, 8) for value in ("x", 1, None, [], ["1024"], {"1024": 1})),
            ({"MetadataQuery": {"Nothing": "x"}}, 404, 7),
            *(({name: 1}, 400, 8) for name in ("ParentPatient", "ParentStudy", "ParentSeries")),
        ]
        for fields, status, code in cases:
            for path in ("/tools/find", "/tools/count-resources"):
                answer = await self.client.post(path, {"Level": "Study", "Query": {}, **fields})
                self.assertError(answer, status, code)


class CountTests(FindCase):
    """``/tools/count-resources``."""

    async def test_counts(self) -> None:
        """As many as a search finds, whatever narrows it down."""
        study = self.uploads[0]["ParentStudy"]
        await self.client.ask("PUT", f"/studies/{study}/labels/a")
        for fields in (
            {},
            {"Query": {"PatientID": "P1"}},
            {"Query": {"Modality": "CT"}},
            {"Query": {"PatientName": "*o*"}},
            {"Query": {"SpecificCharacterSet": "*"}},
            {"Query": {"PatientID": "nobody"}},
            {"ParentStudy": study},
            {"ParentStudy": NOBODY},
            {"Labels": ["a"]},
            {"Labels": ["a"], "LabelsConstraint": "None"},
            {"MetadataQuery": {"LastUpdate": "*"}},
        ):
            for level in ("Patient", "Study", "Series", "Instance"):
                body = {"Level": level, "Query": {}, "Full": True, "Short": False, **fields}
                answer = await self.client.post("/tools/count-resources", body)
                found = await self.client.post("/tools/find", body)
                self.assertEqual(answer.json(), {"Count": len(found.json())}, body)

    async def test_limits(self) -> None:
        """Limits of the server are no limits of a count."""
        await self.restart(LimitFindResults=1, LimitFindInstances=1)
        answer = await self.client.post("/tools/count-resources", {"Level": "Instance", "Query": {}})
        self.assertEqual(answer.json(), {"Count": 4})

    async def test_bad_fields(self) -> None:
        """As of a search; the case cannot matter."""
        for body, code in (
            ({"Level": "Study", "Query": {}, "CaseSensitive": True}, 3),
            ({"Level": "Study", "Query": {}, "CaseSensitive": 1}, 8),
            ({"Level": "Study"}, 8),
            ({"Query": {}}, 8),
            ({"Level": "x", "Query": {}}, 3),
            ({"Level": "Study", "Query": {}, "Full": 1}, 15),
            ({"Level": "Study", "Query": {}, "LabelsConstraint": "x"}, 8),
            ({"Level": "Study", "Query": {"StudyInstanceUID": "*"}}, 3),
            ([], 8),
        ):
            self.assertError(await self.client.post("/tools/count-resources", body), 400, code)
