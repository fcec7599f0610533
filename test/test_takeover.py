"""A folder of the real Orthanc that is taken over: every reading route answers as the real one on a copy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.compare import FORMATS, LEVELS, REASONS, SORTED_LISTS, Client, Comparison
from orthanctw.log import LogLevels
from orthanctw.server import Server
from orthanctw.settings import Settings
from test.orthanc_archives import Archive, filled_archive
from test.servers import ServerProcess, ct_image

#: What two servers can never have in common: ports, names and versions of the programs themselves.
_VOLATILE: Final = re.compile(r"^/system/|^/tools/(now|now-local|generate-uid)")
#: What differs between 1.10.1 and ours on two fresh servers, too; but other numbers of changes would be the import's.
_REASONS: Final = (
    *(reason for reason in REASONS if not reason[0].startswith(("^/changes", "^/system"))),
    (r"/attachments/[^/]+/compressed-data head$", "the type of the file, since 1.12"),
    (r"/attachments/[^/]+$", "the list of operations has no `uuid` since 1.12"),
    (r"^/series/\S*/module\S*/(SeriesDescription|0008,103e)$", "a tag that differs between instances"),
    (r"^/tools/accepted-transfer-syntaxes$", "syntaxes that came after 1.10.1"),
)
#: Lists of attachments are sorted by name since 1.12, by number before.
_UNORDERED: Final = re.compile(f"{SORTED_LISTS.pattern}|/attachments$")
#: Routes that are not compared, since they read nothing of what is taken over.
_NOT_COMPARED: Final = (
    # The page for people, and the folders.
    r"/$|/app\b|/favicon\.ico$|/webdav\b",
    # Jobs are not taken over; what other servers are asked is no part of an archive.
    r"/(jobs|queries|modalities|peers|plugins|storage-commitment)\b",
    # They are made of the files, which are compared, and their versions differ.
    r"/instances/<id>/(frames/|preview|rendered|image-|matlab|numpy|pdf)|/series/<id>/numpy$",
    r"/\w+/<id>/(archive|media)$|/tools/create-",
    # 1.10.1 has no labels.
    r"/\w+/<id>/labels|/tools/labels$",
    # It has other tools, and not this list.
    r"/tools$|/tools/(accepted-sop-classes|metrics|metrics-prometheus|dicom-conformance)$",
)
_ATTACHMENT_PARTS: Final = (
    *("", "/compressed-data", "/compressed-md5", "/compressed-size", "/data", "/is-compressed", "/md5", "/size"),
    "/info",
)


def declared_routes() -> list[str]:
    """The paths of ours that answer GET."""
    server = Server(
        reactor, Settings.parse({"StorageDirectory": "unused"}, "."), LogLevels(), lambda: None, lambda: None
    )
    return sorted(path for path, methods in server.api.routes.items() if "GET" in methods)


def pattern_of(route: str) -> re.Pattern[str]:
    """Paths that a route answers."""
    parts = re.split(r"(<[^>]+>)", route)
    return re.compile(
        "".join((".+" if "path:" in part else "[^/]+") if part.startswith("<") else re.escape(part) for part in parts)
        + r"(\?.*)?\Z"
    )


class ComparisonTests(SynchronousTestCase):
    """The real Orthanc on a copy, ours on what was taken over."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.archive = filled_archive(self.folder / "filled")
        self.theirs = self.archive.copy(self.folder / "copy")
        before = self.archive.digests()
        done = self.archive.take_over()
        self.assertEqual((done.returncode, "Traceback" in done.stderr), (0, False), done)
        self.assertIn("Nothing was left out.", done.stdout)
        self.assertEqual(self.archive.digests(), before)

    def start(self, server: ServerProcess) -> ServerProcess:
        self.addCleanup(server.kill)
        server.start()
        return server

    def test_every_route(self) -> None:
        """Each route that reads is the same on both, lists in the same order; then sequence numbers go on alike."""
        theirs = self.start(self.theirs.server)
        ours = self.start(self.archive.ours())
        comparison = Comparison(
            Client(theirs.port), Client(ours.port), 1, volatile=_VOLATILE, reasons=_REASONS, unordered=_UNORDERED
        )
        comparison.run()
        for path in self.further_paths(theirs):
            comparison.compare("GET", path)
        unexplained = {reason: count for reason, count in comparison.reasons.items() if "UNEXPLAINED" in reason}
        self.assertEqual(unexplained, {})
        asked = sorted(comparison.paths)
        for route in declared_routes():
            if not any(re.match(pattern, route) for pattern in _NOT_COMPARED):
                self.assertTrue(
                    any(map(pattern_of(route).match, asked)),
                    f"{route} is not compared: name it in further_paths, or in _NOT_COMPARED with the reason",
                )
        self.check_lists(theirs, ours)
        self.check_new_objects(theirs, ours)

    def further_paths(self, theirs: ServerProcess) -> list[str]:
        """What the comparison of two fresh servers has no use for."""
        paths = ["/changes", "/changes?limit=1000", "/changes?since=7&limit=5", "/exports?limit=10", "/exports?since=1"]
        paths += [f"/tools/{name}" for name in ("now", "now-local", "generate-uid?level=study", "log-level")]
        categories = ("dicom", "generic", "http", "jobs", "lua", "plugins", "sqlite")
        paths += [f"/tools/log-level-{name}" for name in categories]
        paths += ["/tools/accepted-transfer-syntaxes", "/tools/unknown-sop-class-accepted", "/exports?last"]
        paths += ["/tools/default-encoding"]
        for level in LEVELS:
            for public_id in theirs.get(f"/{level}"):
                base = f"/{level}/{public_id}"
                paths.append(f"{base}/metadata/1024")
                for name in theirs.get(f"{base}/attachments"):
                    paths += [f"{base}/attachments/{name}{part}" for part in _ATTACHMENT_PARTS]
                paths += [f"{base}/instances{form}" for form in FORMATS if level != "instances"]
        return paths

    def check_lists(self, theirs: ServerProcess, ours: ServerProcess) -> None:
        for level in LEVELS:
            self.assertEqual(theirs.get(f"/{level}"), ours.get(f"/{level}"))
            self.assertGreater(len(ours.get(f"/{level}")), 3)

    def check_new_objects(self, theirs: ServerProcess, ours: ServerProcess) -> None:
        before = ours.get("/changes?last")["Last"]
        for server in (theirs, ours):
            server.upload(ct_image(1, study=9, patient="P9"))
        entries = [server.get(f"/changes?since={before}")["Changes"][:4] for server in (theirs, ours)]
        added = [[self.change(entry) for entry in of_one] for of_one in entries]
        self.assertEqual(len(added[0]), 4)
        self.assertEqual(added[0], added[1])

    def change(self, entry: dict[str, Any]) -> tuple[int, str, str]:
        return entry["Seq"], entry["ChangeType"], entry["ID"]

    def test_deletion(self) -> None:
        """What is deleted through ours is gone with all its files, and the start afterwards removes nothing else."""
        ours = self.start(self.archive.ours())
        (patient,) = [item["ID"] for item in ours.get("/patients?expand") if item["MainDicomTags"]["PatientID"] == "P4"]
        instances = [item["ID"] for item in ours.get(f"/patients/{patient}/instances")]
        files = [
            self.archive.file(instance, number)
            for instance in instances
            for number in ours.get(f"/instances/{instance}/attachments?full").values()
        ]
        # Compressed files come with dicom-until-pixel-data.
        self.assertGreater(len(files), 4)
        self.assertTrue(all(path.exists() for path in files))
        before = set(self.archive.digests())
        self.assertEqual(ours.request("DELETE", f"/patients/{patient}").status, 200)
        gone = {str(path.relative_to(self.archive.storage)) for path in files}
        self.assertEqual(before - set(self.archive.digests()), gone)
        ours.stop()
        self.start(ours)
        self.assertEqual(before - set(self.archive.digests()), gone)
        self.assertEqual(ours.get("/statistics")["CountInstances"], len(ours.get("/instances")))

    def test_protection(self) -> None:
        """Protected patients stay when others are recycled, in the order of the old archive."""
        order = [
            public_id
            for (public_id,) in self.archive.rows(
                "SELECT r.publicId FROM PatientRecyclingOrder p JOIN Resources r ON r.internalId = p.patientId"
                " ORDER BY p.seq"
            )
        ]
        ours = self.start(self.archive.ours())
        protected = set(ours.get("/patients")) - set(order)
        self.assertEqual(len(protected), 1)
        ours.stop()
        ours.configure(MaximumPatientCount=4)
        self.start(ours)
        self.assertEqual(set(ours.get("/patients")), protected | set(order[-3:]))


class BackAndForthTests(SynchronousTestCase):
    """The way back to the Orthanc of before, and here again."""

    def test_nothing_is_lost(self) -> None:
        """What each of them has received stays, however often they take turns."""
        archive = Archive(Path(self.mktemp()).absolute())
        archive.run(lambda server: server.upload(ct_image(1)))
        self.assertEqual(archive.take_over().returncode, 0)
        ours = archive.ours()
        self.addCleanup(ours.kill)
        ours.start()
        mine = ours.upload(ct_image(2, study=2))
        ours.stop()
        theirs: list[str] = []
        for number in (3, 4):
            archive.run(lambda server, number=number: theirs.append(server.upload(ct_image(number, study=number))))
            # Twice: the second start must not take for strays what was there before the first.
            for _ in range(2):
                ours.start()
                self.assertEqual(ours.request("GET", f"/instances/{mine}/file").body, ct_image(2, study=2))
                ours.stop()
        for instance in theirs:
            self.assertTrue(archive.file(instance).exists())
        archive.server.start()
        self.addCleanup(archive.server.kill)
        for number, instance in zip((3, 4), theirs, strict=True):
            answer = archive.server.request("GET", f"/instances/{instance}/file")
            self.assertEqual(answer.body, ct_image(number, study=number))
        archive.server.stop()
        # Begun anew: files of ours that the new index does not know stay, too.
        uuid = next(path.name for path in archive.storage.glob("??/??/*") if path.read_bytes() == ct_image(2, study=2))
        for path in archive.storage.glob("orthanctw.db*"):
            path.unlink()
        self.assertEqual(archive.take_over().returncode, 0)
        for _ in range(3):
            ours.start()
            ours.stop()
        self.assertTrue((archive.storage / uuid[:2] / uuid[2:4] / uuid).exists())
