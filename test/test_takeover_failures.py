"""What can go wrong when an Orthanc is taken over, and what is told then."""

from __future__ import annotations

import fcntl
import io
import json
import os
import resource
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from orthanctw.index import keyvalues
from orthanctw.takeover import access
from orthanctw.takeover.command import Progress
from test.orthanc_archives import COMMAND, Archive, TakeoverCase, content, post, put, small_archive
from test.servers import ServerProcess, ct_image


class RefusalTests(TakeoverCase):
    """What is no archive that can be taken over."""

    def test_running(self) -> None:
        """An index that an Orthanc uses is left alone, and the Orthanc notices nothing."""
        archive = small_archive(self.folder)
        self.start(archive.server)
        # At first it only reads.
        self.check_refused(archive.take_over(), archive, "running")
        archive.server.upload(ct_image(9))
        self.check_refused(archive.take_over(), archive, "running")
        archive.server.upload(ct_image(10))
        archive.server.stop()
        self.check_taken(archive.take_over(), archive)

    def test_orthanc_that_starts_meanwhile(self) -> None:
        """No Orthanc can use the index during the import; afterwards it can."""
        archive = small_archive(self.folder)
        with access.reserved(str(archive.index)):
            self.addCleanup(archive.server.kill)
            archive.server.launch()
            self.assertNotEqual(archive.server.wait(), 0)
        self.start(archive.server)

    def test_orthanctw_that_runs(self) -> None:
        """Nor can it happen beside another orthanctw."""
        archive = small_archive(self.folder)
        with (archive.storage / "orthanctw.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.check_refused(archive.take_over(), archive, "another process")

    def test_repeated(self) -> None:
        """What was taken over is not taken over again."""
        archive = small_archive(self.folder)
        self.check_taken(archive.take_over(), archive)
        before = self.database(archive).read_bytes()
        done = archive.take_over()
        self.assertEqual(done.returncode, 1)
        self.assertIn("orthanctw.db exists already", done.stderr)
        self.assertEqual(self.database(archive).read_bytes(), before)
        # A journal without its index would be taken for a part of the new one.
        self.database(archive).rename(archive.storage / "orthanctw.db-wal")
        self.check_refused(archive.take_over(), archive, "orthanctw.db-wal exists already")

    def test_older_schema(self) -> None:
        """An older version of the tables is named."""
        archive = small_archive(self.folder)
        archive.edit("UPDATE GlobalProperties SET value = '5' WHERE property = 1")
        before = archive.digests()
        self.check_refused(archive.take_over(), archive, "schema version 5")
        self.assertEqual(archive.digests(), before)

    def test_damaged(self) -> None:
        """A damaged index is refused, wherever the damage is."""
        archive = small_archive(self.folder, 40)
        whole = archive.index.read_bytes()
        pages = len(whole) // 4096
        for first, last in ((1, 3), (pages // 2, pages), (0, 1)):
            damaged = bytearray(whole)
            damaged[first * 4096 + 100 : last * 4096] = b"\xa5" * ((last - first) * 4096 - 100)
            archive.index.write_bytes(damaged)
            self.check_refused(archive.take_over(), archive, str(archive.index))
        archive.index.write_bytes(whole[: len(whole) // 2])
        self.check_refused(archive.take_over(), archive, str(archive.index))

    def test_not_an_index(self) -> None:
        """Neither other databases nor other files are taken for an index, nor is a folder without one."""
        archive = small_archive(self.folder)
        archive.index.unlink()
        self.check_refused(archive.take_over(), archive, "no such file")
        archive.index.write_text("no database")
        self.check_refused(archive.take_over(), archive, "not a SQLite database")
        archive.index.unlink()
        archive.edit("CREATE TABLE x (y)")
        self.check_refused(archive.take_over(), archive, "not the index of an Orthanc")
        archive.server.configure(StorageDirectory=str(self.folder / "none"))
        self.check_refused(archive.take_over(), archive, "StorageDirectory", "no such folder")
        self.assertFalse((self.folder / "none").exists())

    def test_own_index(self) -> None:
        """An index of ours is not the index of an Orthanc."""
        archive = small_archive(self.folder)
        self.check_taken(archive.take_over(), archive)
        self.database(archive).rename(self.folder / "other")
        done = archive.take_over(str(self.folder / "other"))
        self.check_refused(done, archive, "an index of orthanctw already")

    def test_full_disk(self) -> None:
        """Without room it ends with a clear message, and a repetition with room goes well."""
        archive = small_archive(self.folder, 40)
        done = subprocess.run(
            [*COMMAND, str(archive.server.configuration)],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
            capture_output=True,
            text=True,
            check=False,
        )
        self.check_refused(done, archive, "disk full")
        self.check_taken(archive.take_over(), archive)


class PartTests(TakeoverCase):
    """Archives that are not whole."""

    def check_left_out(self, archive: Archive, *expected: str) -> ServerProcess:
        """The report names every part, in this order, and nothing else; the rest is served."""
        done = archive.take_over()
        self.assertEqual((done.returncode, "Traceback" in done.stderr), (2, False), done)
        lines = done.stdout.splitlines()
        self.assertEqual(lines[1], f"Not taken over: {len(expected)}.")
        self.assertEqual(lines[2:], [f"  {line}" for line in expected])
        return self.start(archive.ours())

    def test_files(self) -> None:
        """Instances whose file is missing, cut off, another one or no file are named with the reason."""
        archive = Archive(self.folder)
        ids: list[str] = []
        images = [ct_image(number, study=number, patient=f"P{number}") for number in range(1, 6)]
        archive.run(lambda server: ids.extend(map(server.upload, images)))
        files = [archive.file(instance) for instance in ids]
        size = files[1].stat().st_size
        files[0].unlink()
        os.truncate(files[1], 700)
        files[2].write_bytes(b"x" * size)
        files[3].unlink()
        files[3].mkdir()
        server = self.check_left_out(
            archive,
            f"instance {ids[0]}: {files[0]}: no such file",
            f"instance {ids[1]}: {files[1]}: 700 bytes, where the old index says {size}",
            f"instance {ids[2]}: {files[2]}: an element passes the end",
            f"instance {ids[3]}: {files[3]}: not a file",
        )
        self.assertEqual(server.get("/instances"), ids[4:])
        self.assertEqual(len(server.get("/patients")), 1)
        self.assertEqual(server.get("/statistics")["TotalDiskSize"], str(size))
        self.assertEqual({item["ID"] for item in server.get("/changes")["Changes"]} & set(ids), {ids[4]})

    def test_attachments(self) -> None:
        """A user's attachment without its file is left out, its resource is not."""
        archive = Archive(self.folder)
        ids: list[str] = []

        def fill(server: ServerProcess) -> None:
            ids.append(server.upload(ct_image(1)))
            put(server, f"/instances/{ids[0]}/attachments/1025", b"one")
            put(server, f"/instances/{ids[0]}/attachments/1026", b"two")

        archive.run(fill)
        path = archive.file(ids[0], 1025)
        path.unlink()
        server = self.check_left_out(archive, f"attachment 1025 of instance {ids[0]}: {path}: no such file")
        self.assertEqual(server.get(f"/instances/{ids[0]}/attachments"), ["1026", "dicom"])
        self.assertEqual(server.request("GET", f"/instances/{ids[0]}/attachments/1026/data").body, b"two")

    def test_compressed(self) -> None:
        """A damaged compressed file is named, too."""
        archive = Archive(self.folder, {"StorageCompression": True})
        ids: list[str] = []
        archive.run(lambda server: ids.extend(server.upload(ct_image(number)) for number in (1, 2)))
        path = archive.file(ids[0])
        data = path.read_bytes()
        path.write_bytes(data[:20] + bytes(len(data) - 20))
        server = self.check_left_out(archive, f"instance {ids[0]}: {path}: The compressed file is damaged")
        self.assertEqual(server.request("GET", f"/instances/{ids[1]}/file").body, ct_image(2))

    def test_rows(self) -> None:
        """Rows that contradict each other, names that are none, unknown changes and saved jobs are named."""
        archive = small_archive(self.folder, 5)
        ids = [row[0] for row in archive.rows("SELECT publicId FROM Resources WHERE resourceType = 4 ORDER BY 1")]
        rows = dict(archive.rows("SELECT publicId, internalId FROM Resources"))
        ids.sort(key=lambda instance: int(rows[instance]))
        jobs = {"Jobs": {"done": {"State": "Success"}, "open": {"State": "Pending", "Job": {"Type": "Archive"}}}}
        archive.edit(
            f"UPDATE Resources SET publicId = '{ids[1]}' WHERE publicId = '{ids[0]}'",
            f"UPDATE Resources SET parentId = 999 WHERE publicId = '{ids[2]}'",
            f"UPDATE AttachedFiles SET uuid = '../../../etc/passwd' WHERE id = {rows[ids[3]]}",
            "INSERT INTO Changes VALUES (NULL, 77, 1, 4, '20200101T000000')",
            f"INSERT OR REPLACE INTO GlobalProperties VALUES (5, '{json.dumps(jobs)}')",
        )
        path = archive.file(ids[2])
        twice = archive.rows(f"SELECT uuid FROM AttachedFiles WHERE id = {rows[ids[1]]}")[0][0]
        server = self.check_left_out(
            archive,
            f"instance {ids[1]}: {archive.storage}/{twice[:2]}/{twice[2:4]}/{twice}:"
            " no identifier, or one that occurs twice",
            f"instance {ids[2]}: {path}: the old index has no series for it",
            f"instance {ids[3]}: ../../../etc/passwd: its name is no UUID",
            "1 changes of kinds that are not known",
            "job open: Archive, saved jobs are not taken",
        )
        self.assertEqual(server.get("/instances"), [ids[1], ids[4]])


class LaterRevisionTests(TakeoverCase):
    """Tables and columns that came after 1.10.1, within the same version of the schema."""

    def test_everything(self) -> None:
        """Labels, revisions, key-value stores and queues are taken; files that a plugin has stored are named."""
        archive = Archive(self.folder)
        ids: list[str] = []

        def fill(server: ServerProcess) -> None:
            ids.extend(server.upload(ct_image(number)) for number in (1, 2))
            put(server, f"/instances/{ids[0]}/metadata/1024", b"Latin-1: \xfc")

        archive.run(fill)
        rows = dict(archive.rows("SELECT publicId, internalId FROM Resources"))
        (series,) = [row[0] for row in archive.rows("SELECT publicId FROM Resources WHERE resourceType = 3")]
        archive.edit(
            "ALTER TABLE Metadata ADD COLUMN revision INTEGER",
            "ALTER TABLE AttachedFiles ADD COLUMN revision INTEGER",
            "ALTER TABLE AttachedFiles ADD COLUMN customData BLOB",
            f"UPDATE Metadata SET revision = 7 WHERE type = 1024 AND id = {rows[ids[0]]}",
            f"UPDATE AttachedFiles SET revision = 3, customData = '' WHERE id = {rows[ids[0]]}",
            f"UPDATE AttachedFiles SET customData = 'elsewhere' WHERE id = {rows[ids[1]]}",
            "CREATE TABLE Labels (id INTEGER, label TEXT, PRIMARY KEY (id, label))",
            f"INSERT INTO Labels VALUES ({rows[ids[0]]}, 'b'), ({rows[ids[0]]}, 'a'), ({rows[series]}, 'c')",
            f"INSERT INTO Labels VALUES ({rows[ids[1]]}, 'gone')",
            "CREATE TABLE KeyValueStores (storeId TEXT, key TEXT, value BLOB, PRIMARY KEY (storeId, key))",
            "INSERT INTO KeyValueStores VALUES ('s', 'k', X'00ff'), ('s', 'l', 'text')",
            "CREATE TABLE Queues (id INTEGER PRIMARY KEY AUTOINCREMENT, queueId TEXT, value BLOB)",
            "INSERT INTO Queues VALUES (5, 'q', X'01'), (6, 'q', X'02'), (9, 'r', X'03')",
            "DELETE FROM Queues WHERE id = 9",
            "INSERT INTO GlobalProperties VALUES (20, 'modalities'), (1001, 'not ours'), (4321, 'of a plugin')",
            "CREATE TABLE DeletedFiles (uuid TEXT, customData TEXT)",
        )
        done = archive.take_over()
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"instance {ids[1]}: ", done.stdout)
        self.assertIn(": stored by a plugin, in a place of its own", done.stdout)
        self.check_tables(self.database(archive))
        server = self.start(archive.ours())
        self.assertEqual(server.get("/instances"), ids[:1])
        self.assertEqual(server.get(f"/instances/{ids[0]}")["Labels"], ["a", "b"])
        self.assertEqual(server.get(f"/series/{series}")["Labels"], ["c"])
        answer = server.request("GET", f"/instances/{ids[0]}/metadata/1024")
        self.assertEqual(answer.body.decode(), "Latin-1: ü")
        self.assertTrue(answer.headers["ETag"].startswith('"7-'))
        self.assertTrue(
            server.request("GET", f"/instances/{ids[0]}/attachments/dicom/md5").headers["ETag"].startswith('"3-')
        )

    def check_tables(self, database: Path) -> None:
        connection = sqlite3.connect(database)
        self.addCleanup(connection.close)
        self.assertEqual(keyvalues.value(connection, "s", "k"), b"\x00\xff")
        self.assertEqual(keyvalues.value(connection, "s", "l"), b"text")
        self.assertEqual(connection.execute("SELECT id, value FROM queues").fetchall(), [(5, b"\1"), (6, b"\2")])
        (last,) = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'queues'").fetchone()
        self.assertEqual(last, 9)
        properties = dict(connection.execute("SELECT number, value FROM properties WHERE number <> 1002"))
        self.assertEqual(properties, {20: "modalities", 4321: "of a plugin"})
        checksums = connection.execute("SELECT DISTINCT crc32 FROM attachments").fetchall()
        self.assertEqual(checksums, [(-1,)])

    def test_unknown_columns(self) -> None:
        """A table whose columns are not known is named, and nothing else is lost."""
        archive = small_archive(self.folder)
        archive.edit("CREATE TABLE Queues (id INTEGER, other TEXT)")
        done = archive.take_over()
        self.assertEqual(done.returncode, 2)
        self.assertIn("  table Queues: its columns are not known\n", done.stdout)


class PlaceTests(TakeoverCase):
    """Where things lie."""

    def test_index_elsewhere(self) -> None:
        """The index may lie in a folder of its own, or be named by its file."""
        archive = small_archive(self.folder / "first")
        other = archive.copy(self.folder / "second")
        for one in (archive, other):
            (one.server.folder / "indices").mkdir()
            one.index.rename(one.server.folder / "indices" / "index")
            one.server.configure(IndexDirectory=str(one.server.folder / "indices"))
        self.assertEqual(archive.take_over().returncode, 0)
        self.assertTrue((archive.server.folder / "indices" / "orthanctw.db").exists())
        self.assertFalse(self.database(archive).exists())
        named = other.server.folder / "old index?#%"
        (other.server.folder / "indices" / "index").rename(named)
        self.assertEqual(other.take_over(str(named)).returncode, 0)
        ours = content(archive.server.folder / "indices" / "orthanctw.db")
        self.assertEqual(content(other.server.folder / "indices" / "orthanctw.db"), ours)

    def test_extra_main_tags(self) -> None:
        """Main tags that only ours keeps, by default or by the configuration, come from the files."""
        archive = small_archive(self.folder)
        archive.server.configure(ExtraMainDicomTags={"Instance": ["Rows"], "Series": ["PhotometricInterpretation"]})
        self.check_taken(archive.take_over(), archive)
        extra = archive.server.options["ExtraMainDicomTags"]
        server = self.start(archive.ours(ExtraMainDicomTags=extra))
        for instance in server.get("/instances?expand"):
            self.assertEqual(instance["MainDicomTags"]["Rows"], "16")
        (series,) = server.get("/series?expand")
        self.assertEqual(series["MainDicomTags"]["PhotometricInterpretation"], "MONOCHROME2")
        found = post(server, "/tools/find", {"Level": "Series", "Query": {"PatientID": "ID", "StudyDate": "20240131"}})
        self.assertEqual(found.json(), [series["ID"]])


class ProgressTests(SynchronousTestCase):
    """What is told meanwhile."""

    def test_once_a_second(self) -> None:
        """Numbers and rate are told at most once a second."""
        stream = io.StringIO()
        now = 0.0
        progress = Progress(stream, cast(Callable[[], float], lambda: now))
        for number in range(1, 101):
            now += 0.025
            progress(number, 100)
        lines = stream.getvalue().splitlines()
        self.assertEqual(len(lines), 2)
        self.assertEqual(lines[0], "orthanctw: 40 of 100 instances, 41/s")
