"""Folders that the real Orthanc has filled, for what takes them over."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydicom.data import get_testdata_file
from twisted.trial.unittest import SynchronousTestCase

from test.servers import ORTHANC, PATIENCE, ServerProcess, ct_image, wait_until

#: Files of pydicom's wheel that Orthanc 1.10.1 takes: character sets, compressed pixels, big endian, no pixels ...
PYDICOM_FILES: Final = (
    *("CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm"),
    *("JPEG2000.dcm", "rtplan.dcm", "rtdose.dcm", "rtstruct.dcm", "reportsi.dcm", "test-SR.dcm", "image_dfl.dcm"),
    *("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_small_odd.dcm", "liver_1frame.dcm", "nested_priv_SQ.dcm"),
)
COMMAND: Final = (sys.executable, "-m", "orthanctw.cli", "--import")


class Archive:
    """A real Orthanc and its folder.

    Parameters
    ----------
    options : mapping
        Options of the configuration beside the usual ones.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any] | None = None) -> None:
        self.server = ServerProcess(folder, ORTHANC, {"Plugins": [], "LogExportedResources": True, **(options or {})})
        self.storage = self.server.storage
        self.index = self.storage / "index"

    def run(self, fill: Any) -> None:
        """Run Orthanc for as long as `fill(server)` needs."""
        self.server.start()
        try:
            fill(self.server)
        finally:
            self.server.stop()

    def edit(self, *statements: str) -> None:
        """Change the index as a later Orthanc, or a mishap, would."""
        connection = sqlite3.connect(self.index)
        try:
            # The triggers of Orthanc call functions of its own.
            for name in ("SignalFileDeleted", "SignalResourceDeleted", "SignalRemainingAncestor"):
                connection.create_function(name, -1, lambda *_: None)
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        finally:
            connection.close()

    def rows(self, statement: str) -> list[Any]:
        """Rows of the old index."""
        connection = sqlite3.connect(f"file:{self.index}?mode=ro&immutable=1", uri=True)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def file(self, instance: str, content_type: int = 1) -> Path:
        """Where a file of an instance lies."""
        ((uuid,),) = self.rows(
            "SELECT uuid FROM AttachedFiles f JOIN Resources r ON r.internalId = f.id"
            f" WHERE r.publicId = '{instance}' AND fileType = {content_type}"
        )
        return self.storage / uuid[:2] / uuid[2:4] / uuid

    def digests(self) -> dict[str, str]:
        """Digests and times of all files that Orthanc has made."""
        return {
            str(name): f"{path.stat().st_mtime_ns} {hashlib.md5(path.read_bytes()).hexdigest()}"
            for path in sorted(self.storage.rglob("*"))
            if path.is_file() and not str(name := path.relative_to(self.storage)).startswith("orthanctw")
        }

    def ours(self, command: tuple[str, ...] | None = None, **options: Any) -> ServerProcess:
        """A server of ours on the same folder, not yet started."""
        folder = self.server.folder / "ours"
        server = ServerProcess(folder, options={"StorageDirectory": str(self.storage), **options})
        server.storage = self.storage
        server.configure()
        return server

    def take_over(self, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the import to its end."""
        return subprocess.run(
            [*COMMAND, *arguments, path or str(self.server.configuration)],
            capture_output=True,
            text=True,
            timeout=10 * PATIENCE,
            check=False,
        )

    def copy(self, folder: Path) -> Archive:
        """The same archive in another folder; Orthanc does not run."""
        own = ("StorageDirectory", "HttpPort")
        other = Archive(folder, {name: value for name, value in self.server.options.items() if name not in own})
        shutil.copytree(self.storage, other.storage)
        other.server.configure()
        return other


def copied(name: str, folder: Path, make: Callable[[Path], Archive]) -> Archive:
    """A copy of an archive that is made once in a run: Orthanc takes seconds to start and to stop."""
    original = _originals.get(name)
    if original is None:
        original = _originals[name] = make(Path("archives").absolute() / name)
    return original.copy(folder)


_originals: dict[str, Archive] = {}


def small_archive(folder: Path, objects: int = 3) -> Archive:
    """An archive of some images of one series."""

    def make(place: Path) -> Archive:
        archive = Archive(place)
        archive.run(lambda server: [server.upload(ct_image(number)) for number in range(1, objects + 1)])
        return archive

    return copied(f"small-{objects}", folder, make)


def post(server: ServerProcess, path: str, body: object) -> Any:
    """A POST of JSON that must succeed; its answer, parsed where it can be."""
    answer = server.request("POST", path, json.dumps(body))
    if answer.status != 200:
        raise AssertionError(f"POST {path}: {answer.status} {answer.body!r}")
    return answer


def put(server: ServerProcess, path: str, body: bytes | str) -> None:
    answer = server.request("PUT", path, body.encode() if isinstance(body, str) else body)
    if answer.status != 200:
        raise AssertionError(f"PUT {path}: {answer.status} {answer.body!r}")


def pydicom_objects() -> Iterator[bytes]:
    for name in PYDICOM_FILES:
        path = get_testdata_file(name, download=False)
        assert path is not None, name
        yield Path(str(path)).read_bytes()


def fill(server: ServerProcess) -> None:
    """Everything that the first life of an archive leaves in its index."""
    for data in pydicom_objects():
        server.request("POST", "/instances", data)
    images = [
        server.upload(ct_image(number, series=series, study=study, patient=f"P{study}", name=f"N{study}^G"))
        for study in (1, 2, 3)
        for series in (1, 2)
        for number in (1, 2, 3)
    ]
    # A duplicate changes nothing.
    server.request("POST", "/instances", ct_image(1, patient="P1", name="N1^G"))
    modified = post(server, f"/instances/{images[0]}/modify", {"Replace": {"SeriesDescription": "modified é"}})
    server.upload(modified.body)
    studies = {server.get(f"/instances/{image}/study")["ID"]: image for image in images}
    first, second, third = studies
    post(server, f"/studies/{first}/modify", {"Replace": {"StudyDescription": "Again"}, "Synchronous": True})
    post(server, f"/studies/{second}/anonymize", {"Synchronous": True})
    patient = server.get(f"/studies/{first}/patient")["ID"]
    put(server, f"/patients/{patient}/protected", "1")
    series = server.get(f"/instances/{images[0]}/series")["ID"]
    for path in (f"/patients/{patient}", f"/studies/{first}", f"/series/{series}", f"/instances/{images[0]}"):
        put(server, f"{path}/metadata/1024", f"of {path}, ü")
        put(server, f"{path}/attachments/1025", b"file of " + path.encode() * 20)
    post(server, "/peers/self/store", images[:2])
    wait_until(lambda: _is_stable(server, third), lambda: "stability")
    server.request("DELETE", f"/instances/{images[4]}")


def fill_again(server: ServerProcess) -> None:
    """A second life, with compression; in the end the newest object, change and patient are gone."""
    image = server.upload(ct_image(7, study=4, patient="P4", name="N4", side=64))
    server.upload(ct_image(8, study=4, patient="P4", name="N4", side=64))
    server.upload(ct_image(4, study=1, patient="P1", name="N1^G"))
    put(server, f"/instances/{image}/attachments/1026", b"compressed " * 100)
    last = server.upload(ct_image(9, study=5, patient="P5"))
    server.request("DELETE", f"/instances/{last}")


def filled_archive(folder: Path) -> Archive:
    """An archive with two lives."""
    return copied("filled", folder, _filled)


def _filled(folder: Path) -> Archive:
    archive = Archive(folder, {"StableAge": 1})
    archive.server.configure(OrthancPeers={"self": [f"http://127.0.0.1:{archive.server.port}/"]})
    archive.run(fill)
    archive.server.configure(StorageCompression=True)
    archive.run(fill_again)
    return archive


def _is_stable(server: ServerProcess, study: str) -> bool:
    return bool(server.get(f"/studies/{study}")["IsStable"])


def content(database: Path) -> dict[str, list[Any]]:
    """All rows of an index of ours, but for dates of the import."""
    connection = sqlite3.connect(database)
    try:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        rows = {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in tables}
    finally:
        connection.close()
    del rows["schema_history"]
    rows["properties"] = [row for row in rows["properties"] if row[0] != 1002]
    return rows


class TakeoverCase(SynchronousTestCase):
    """A test with a folder."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()

    def database(self, archive: Archive) -> Path:
        return archive.storage / "orthanctw.db"

    def check_refused(self, done: subprocess.CompletedProcess[str], archive: Archive, *fragments: str) -> None:
        """One line tells why, and there is no index."""
        self.assertEqual((done.returncode, done.stdout), (1, ""), done)
        self.assertNotIn("Traceback", done.stderr)
        last = done.stderr.splitlines()[-1]
        for fragment in fragments:
            self.assertIn(fragment, last)
        self.assertFalse(self.database(archive).exists())

    def check_taken(self, done: subprocess.CompletedProcess[str], archive: Archive) -> None:
        self.assertEqual((done.returncode, "Traceback" in done.stderr), (0, False), done)
        left = {path.name for path in archive.storage.glob("orthanctw*")}
        self.assertEqual(left, {"orthanctw.db", "orthanctw.lock", "orthanctw-spool"})

    def start(self, server: ServerProcess) -> ServerProcess:
        self.addCleanup(server.kill)
        server.start()
        return server
