"""``/tools/bulk-content`` and ``/tools/bulk-delete``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from test.rest_samples import NOBODY, RestCase, dicom_object

CONTENT, DELETE = "/tools/bulk-content", "/tools/bulk-delete"
_PARENTS = ("ParentPatient", "ParentStudy", "ParentSeries")


class BulkCase(RestCase):
    """A server with the objects of `hierarchy`."""

    async def setUp(self) -> None:
        await super().setUp()
        self.stored = await self.fill()

    def chain(self, number: int = 0) -> list[str]:
        """The identifiers of an instance and what is above it, from the patient down."""
        return [*(self.stored[number][parent] for parent in _PARENTS), self.stored[number]["ID"]]


class ContentTests(BulkCase):
    """What is told of many resources."""

    async def content(self, resources: Sequence[object], **fields: object) -> Any:
        answer = await self.client.post(CONTENT, {"Resources": resources, **fields})
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json()

    async def test_as_each_alone(self) -> None:
        """Each resource is told as by its own route, with metadata; in the order asked, unknown ones skipped."""
        chain = self.chain()
        asked = [chain[3], NOBODY, chain[0], chain[2], "x", chain[1], chain[0]]
        answer = await self.content(asked)
        self.assertEqual([item["ID"] for item in answer], [chain[3], chain[0], chain[2], chain[1], chain[0]])
        paths = dict(zip(chain, ("patients", "studies", "series", "instances"), strict=True))
        for item in answer:
            alone = await self.client.json(f"/{paths[item['ID']]}/{item['ID']}")
            metadata = await self.client.json(f"/{paths[item['ID']]}/{item['ID']}/metadata", expand="")
            self.assertEqual(item, {**alone, "Metadata": metadata})
        self.assertEqual(await self.content([]), [])

    async def test_without_metadata(self) -> None:
        """Metadata is left out when it is not wanted."""
        for item in await self.content(self.chain(), Metadata=False):
            self.assertNotIn("Metadata", item)

    async def test_formats(self) -> None:
        """Short and full tags; short when both are asked for."""
        patient = self.chain()[:1]
        (short,) = await self.content(patient, Short=True, Full=True)
        self.assertEqual(short["MainDicomTags"]["0010,0020"], "P1")
        (full,) = await self.content(patient, Full=True)
        self.assertEqual(
            full["MainDicomTags"]["0010,0020"], {"Name": "PatientID", "Type": "String", "Value": "P1"}
        )

    async def test_level(self) -> None:
        """Resources of one level that are below, above, or the same; each once."""
        chain, other = self.chain(), self.chain(3)
        for asked, level, expected in (
            (chain[:1], "Instance", {item["ID"] for item in self.stored[:3]}),
            (chain, "Series", {item["ParentSeries"] for item in self.stored[:3]}),
            ([chain[3], chain[3], other[2], NOBODY], "studies", {chain[1], other[1]}),
            ([chain[3]], "patient", {chain[0]}),
        ):
            found = [item["ID"] for item in await self.content(asked, Level=level)]
            self.assertEqual(sorted(found), sorted(expected))

    async def test_refused(self) -> None:
        """Fields of a wrong type, and levels that do not exist."""
        self.assertError(await self.client.post(CONTENT, []), 400, 8)
        resources = self.chain()
        for body in (
            {},
            {"Resources": "x"},
            {"Resources": [1]},
            {"Resources": [{"Level": "Patient", "ID": resources[0]}]},
            {"Resources": resources, "Level": None},
            {"Resources": resources, "Metadata": "x"},
            {"Resources": resources, "Short": 1},
        ):
            self.assertError(await self.client.post(CONTENT, body), 400, 15)
        self.assertError(await self.client.post(CONTENT, {"Resources": resources, "Level": "Nope"}), 400, 3)


class DeletionTests(BulkCase):
    """Deleting many resources."""

    async def delete(self, *resources: object) -> None:
        answer = await self.client.post(DELETE, {"Resources": resources})
        self.assertEqual((answer.status, answer.body), (200, b""), answer.text)
        self.assertEqual(answer.headers["content-type"], "text/plain")

    async def count(self) -> int:
        statistics = await self.client.json("/statistics")
        instances: int = statistics["CountInstances"]
        self.assertEqual(len(self.files()), instances)
        return instances

    async def test_levels(self) -> None:
        """Resources of all levels, nested ones, unknown ones, and one twice."""
        series, instance = self.stored[2]["ParentSeries"], self.stored[0]["ID"]
        await self.delete(series, instance, NOBODY, "x", self.stored[2]["ID"], series)
        self.assertEqual(await self.client.json("/instances"), [self.stored[1]["ID"], self.stored[3]["ID"]])
        self.assertEqual(await self.count(), 2)
        await self.delete()
        await self.delete(*self.chain(3), self.stored[1]["ParentPatient"])
        self.assertEqual(await self.count(), 0)
        self.assertEqual(await self.client.json("/patients"), [])

    async def test_named_levels(self) -> None:
        """An object with another level than that of its identifier is unknown."""
        patient, study = self.chain()[:2]
        await self.delete({"Level": "Patient", "ID": study}, {"Level": "Instance", "ID": patient})
        self.assertEqual(await self.count(), 4)
        await self.delete({"Level": "Study", "ID": study}, self.stored[3]["ID"])
        self.assertEqual(await self.count(), 0)

    async def test_many(self) -> None:
        """More than are deleted in one transaction, each study beside its series."""
        resources = []
        for number in range(130):
            stored = await self.client.store(
                dicom_object(f"M{number}", f"1.3.{number}", f"1.3.{number}.1", f"1.3.{number}.1.1")
            )
            resources += [stored["ParentStudy"], stored["ParentSeries"]]
        await self.delete(*resources)
        self.assertEqual(await self.count(), 4)
        changes = await self.client.json("/changes", limit=1000)
        self.assertEqual({item["ChangeType"] for item in changes["Changes"] if item["ID"] in resources}, set())

    async def test_refused(self) -> None:
        """Nothing is deleted when one item is none."""
        self.assertError(await self.client.post(DELETE, b"[]"), 400, 8)
        first = self.stored[0]["ID"]
        for item in (1, None, [], {}, {"Level": "Patient"}, {"Level": 1, "ID": "x"}):
            self.assertError(await self.client.post(DELETE, {"Resources": [first, item]}), 400, 15)
        self.assertError(await self.client.post(DELETE, {"Resources": "x"}), 400, 15)
        self.assertError(await self.client.post(DELETE, {}), 400, 15)
        wrong = [first, {"Level": "Nope", "ID": first}]
        self.assertError(await self.client.post(DELETE, {"Resources": wrong}), 400, 3)
        self.assertEqual(await self.count(), 4)
