"""Labels over HTTP."""

from __future__ import annotations

from orthanctw.model import ResourceLevel
from test.rest_samples import NOBODY, RestCase

LEVELS = tuple(level.plural for level in ResourceLevel)


class LabelTests(RestCase):
    """Labels of resources."""

    async def setUp(self) -> None:
        await super().setUp()
        upload = (await self.fill())[0]
        ids = upload["ParentPatient"], upload["ParentStudy"], upload["ParentSeries"], upload["ID"]
        self.paths = [f"/{level}/{public_id}" for level, public_id in zip(LEVELS, ids, strict=True)]

    async def test_life(self) -> None:
        """A label is added, seen and removed, as often as one likes."""
        for path in self.paths:
            self.assertEqual(await self.client.json(f"{path}/labels"), [])
            self.assertEmpty(await self.client.get(f"{path}/labels/one"), 404)
            for name in ("one", "Two_2", "one", "a-b"):
                answer = await self.client.ask("PUT", f"{path}/labels/{name}", "ignored")
                self.assertEmpty(answer, 200)
                self.assertEqual(answer.headers["content-type"], "text/plain")
            self.assertEqual(await self.client.json(f"{path}/labels"), ["Two_2", "a-b", "one"])
            self.assertEqual((await self.client.json(path))["Labels"], ["Two_2", "a-b", "one"])
            self.assertEmpty(await self.client.get(f"{path}/labels/one"), 200)
            self.assertEmpty(await self.client.get(f"{path}/labels/ONE"), 404)
            for _ in range(2):
                self.assertEmpty(await self.client.ask("DELETE", f"{path}/labels/one"), 200)
            self.assertEqual(await self.client.json(f"{path}/labels"), ["Two_2", "a-b"])

    async def test_all_labels(self) -> None:
        """Labels of whatever resource, each once, sorted, as long as somebody bears them."""
        self.assertEqual(await self.client.json("/tools/labels"), [])
        for path, name in zip([*self.paths, self.paths[0]], ("b", "a", "b", "C", "d"), strict=True):
            await self.client.ask("PUT", f"{path}/labels/{name}")
        self.assertEqual(await self.client.json("/tools/labels"), ["C", "a", "b", "d"])
        await self.client.ask("DELETE", f"{self.paths[1]}/labels/a")
        await self.client.ask("DELETE", self.paths[3])
        self.assertEqual(await self.client.json("/tools/labels"), ["b", "d"])

    async def test_bad_labels(self) -> None:
        """Letters, digits, hyphens and underscores, 64 of them at most."""
        path = f"{self.paths[1]}/labels"
        for name in ("%20", "a%20b", "a%0A", "a.b", "%C3%A4", "%00", "a%25", "x" * 65, "a;b", "a+b"):
            for method in ("PUT", "DELETE"):
                self.assertError(await self.client.ask(method, f"{path}/{name}"), 400, 3)
            self.assertEmpty(await self.client.get(f"{path}/{name}"), 404)
        self.assertEmpty(await self.client.ask("PUT", f"{path}/{'x' * 64}"), 200)
        self.assertError(await self.client.ask("PUT", f"{path}/a/b"), 404, 17)
        self.assertEqual(await self.client.json(path), ["x" * 64])

    async def test_unknown_resources(self) -> None:
        """A resource that is not there, or is of another level, has no labels."""
        for path in (f"/studies/{NOBODY}", "/studies/x", self.paths[2].replace("series", "studies")):
            self.assertError(await self.client.get(f"{path}/labels"), 404, 17)
            for method in ("GET", "PUT", "DELETE"):
                self.assertError(await self.client.ask(method, f"{path}/labels/a"), 404, 17)

    async def test_methods(self) -> None:
        """Other methods are refused, and told which there are."""
        for method, path, allowed in (
            ("PUT", f"{self.paths[0]}/labels", "GET"),
            ("POST", f"{self.paths[0]}/labels/a", "GET,PUT,DELETE"),
            ("DELETE", "/tools/labels", "GET"),
            ("GET", "/tools/count-resources", "POST"),
        ):
            answer = await self.client.ask(method, path)
            self.assertEmpty(answer, 405)
            self.assertEqual(answer.headers["allow"], allowed)

    async def test_no_changes(self) -> None:
        """A label changes nothing but itself, and outlasts a restart."""
        before = await self.client.json("/changes")
        resource = await self.client.json(self.paths[1])
        await self.client.ask("PUT", f"{self.paths[1]}/labels/a")
        self.assertEqual((await self.client.json("/changes"))["Last"], before["Last"])
        await self.restart()
        self.assertEqual(await self.client.json(f"{self.paths[1]}/labels"), ["a"])
        after = await self.client.json(self.paths[1])
        self.assertEqual({**after, "Labels": [], "IsStable": resource["IsStable"]}, resource)

    async def test_search(self) -> None:
        """Each level has its own labels, and searches find them together with all else."""
        for path in self.paths[1:3]:
            await self.client.ask("PUT", f"{path}/labels/a")
        await self.client.ask("PUT", f"{self.paths[1]}/labels/b")
        for level, labels, constraint, query, count in (
            ("Study", ["a"], "All", {}, 1),
            ("Study", ["a", "b", "a"], "All", {}, 1),
            ("Series", ["a", "b"], "All", {}, 0),
            ("Series", ["a", "b"], "Any", {}, 1),
            ("Series", ["a", "b"], "None", {}, 2),
            ("Series", [], "None", {"PatientID": "P1"}, 1),
            ("Series", ["a"], "Any", {"Modality": "MR"}, 0),
            ("Series", ["a"], "Any", {"SeriesInstanceUID": "1.2.1.1"}, 1),
            ("Instance", ["a"], "Any", {}, 0),
            ("Instance", ["a"], "None", {"PatientID": "P1"}, 3),
        ):
            found = await self.client.find(level, query, Labels=labels, LabelsConstraint=constraint)
            self.assertEqual(len(found), count, (level, labels, constraint, query))
            order = [{"Type": "DicomTag", "Key": "PatientID", "Direction": "DESC"}]
            ordered = await self.client.find(
                level, query, Labels=labels, LabelsConstraint=constraint, OrderBy=order, Limit=9
            )
            self.assertEqual(sorted(ordered), sorted(found))
