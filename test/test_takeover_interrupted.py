"""Imports that end early, and the next one that goes on."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from typing import Any, Final

from test.orthanc_archives import Archive, TakeoverCase, content, small_archive
from test.servers import ct_image

#: Runs the import and sends itself a signal when a function is called the n-th time.
_DYING: Final = """
import importlib, os, sys
module, owner, name, when, number, path = sys.argv[1:]
from orthanctw import cli
from orthanctw.takeover import importer
importer.BATCH = 2
importer._CHANGES = 3
owner = getattr(importlib.import_module(module), owner)
function = getattr(owner, name)
calls = 0
def dying(*arguments, **named):
    global calls
    calls += 1
    if calls == int(when):
        os.kill(os.getpid(), int(number))
    return function(*arguments, **named)
setattr(owner, name, dying)
sys.exit(cli.main(["--import", path]))
"""


class InterruptionTests(TakeoverCase):
    """Imports that end early."""

    def interrupted(self, archive: Archive, function: str, when: int, number: int) -> subprocess.CompletedProcess[str]:
        """Run the import; it gets the signal when the function is called the n-th time."""
        arguments = [*function.split(":"), str(when), str(number), str(archive.server.configuration)]
        return subprocess.run(
            [sys.executable, "-c", _DYING, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    def archive_and_content(self) -> tuple[Archive, dict[str, list[Any]]]:
        archive = small_archive(self.folder / "first", 7)
        whole = archive.copy(self.folder / "whole")
        self.check_taken(whole.take_over(), whole)
        return archive, content(self.database(whole))

    def again(self, archive: Archive) -> None:
        """Begin anew with nothing of ours."""
        for path in archive.storage.glob("orthanctw*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def test_signals(self) -> None:
        """SIGTERM and Ctrl-C end it soon, and a repetition goes on where it was."""
        archive, expected = self.archive_and_content()
        before = archive.digests()
        for number in (signal.SIGTERM, signal.SIGINT):
            done = self.interrupted(archive, "orthanctw.takeover.importer:Importer:_take_instance", 4, number)
            self.assertEqual((done.returncode, done.stdout), (128 + number, ""), done)
            self.assertIn("goes on from here", done.stderr)
            self.assertFalse(self.database(archive).exists())
            connection = sqlite3.connect(archive.storage / "orthanctw.db.import")
            taken = connection.execute("SELECT COUNT(*) FROM resources WHERE level = 4").fetchone()
            connection.close()
            self.assertEqual(taken, (4,))
            done = archive.take_over()
            self.assertIn("is gone on with", done.stderr)
            self.check_taken(done, archive)
            self.assertEqual(content(self.database(archive)), expected)
            self.again(archive)
        self.assertEqual(archive.digests(), before)

    def test_death(self) -> None:
        """A process that dies at any step leaves what the next one completes."""
        archive, expected = self.archive_and_content()
        steps = [("orthanctw.takeover.importer:Importer:_take_instance", when) for when in (1, 2, 3, 6)]
        steps += [("orthanctw.index.bulk:BulkIndex:add_changes", when) for when in (1, 2)]
        steps += [
            ("orthanctw.index.bulk:BulkIndex:commit", 1),
            ("orthanctw.takeover.importer:Importer:_take_rest", 1),
            ("orthanctw.index.bulk:BulkIndex:finish", 1),
            ("orthanctw.index.bulk:os:fsync", 1),
            ("orthanctw.index.bulk:os:rename", 1),
        ]
        for function, when in steps:
            done = self.interrupted(archive, function, when, signal.SIGKILL)
            self.assertEqual(done.returncode, -signal.SIGKILL, (function, done))
            self.assertFalse(self.database(archive).exists())
            self.check_taken(archive.take_over(), archive)
            self.assertEqual(content(self.database(archive)), expected, function)
            self.again(archive)

    def test_notes_survive(self) -> None:
        """What the first part could not take is in the report of the second."""
        archive = small_archive(self.folder, 5)
        instance = archive.rows("SELECT publicId FROM Resources WHERE resourceType = 4 ORDER BY internalId")[0][0]
        archive.file(instance).unlink()
        self.interrupted(archive, "orthanctw.takeover.importer:Importer:_take_instance", 4, signal.SIGKILL)
        done = archive.take_over()
        self.assertIn("is gone on with", done.stderr)
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"instance {instance}: ", done.stdout)

    def test_changed_meanwhile(self) -> None:
        """When the Orthanc has run since, the import begins anew."""
        archive = small_archive(self.folder, 5)
        self.interrupted(archive, "orthanctw.takeover.importer:Importer:_take_instance", 4, signal.SIGKILL)
        archive.run(lambda server: server.request("DELETE", f"/instances/{server.get('/instances')[0]}"))
        archive.run(lambda server: server.upload(ct_image(8)))
        done = archive.take_over()
        self.check_taken(done, archive)
        self.assertIn("begins anew", done.stderr)
        left = archive.rows("SELECT publicId FROM Resources WHERE resourceType = 4 ORDER BY internalId")
        self.assertEqual(self.start(archive.ours()).get("/instances"), [row[0] for row in left])

    def test_damaged_part(self) -> None:
        """A part that a power cut has damaged is begun anew."""
        archive = small_archive(self.folder)
        (archive.storage / "orthanctw.db.import").write_bytes(b"x" * 10_000)
        self.check_taken(archive.take_over(), archive)

    def test_journal(self) -> None:
        """The journal that a dead Orthanc has left is read, and neither it nor the index is changed."""
        archive = Archive(self.folder)
        self.start(archive.server)
        instance = archive.server.upload(ct_image(1))
        archive.server.kill()
        before = archive.digests()
        self.assertIn("index-wal", before)
        self.check_taken(archive.take_over(), archive)
        self.assertEqual(archive.digests(), before)
        self.assertEqual(self.start(archive.ours()).get("/instances"), [instance])
