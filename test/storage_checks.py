"""Whether the storage folder of a server and its index agree."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from test.servers import ServerProcess

DATABASE = "orthanctw.db"
SPOOL = "orthanctw-spool"
_OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_OTHERS = {"orthanctw.lock", DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"}


@attrs.frozen
class StoredFile:
    """What the index says about a file."""

    size: int
    compressed_size: int
    compressed_md5: str


def indexed_files(database: Path) -> dict[str, StoredFile]:
    """The files of the index by their name below the storage folder."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT uuid, size, compressed_size, compressed_md5 FROM attachments").fetchall()
    return {f"{uuid[:2]}/{uuid[2:4]}/{uuid}": StoredFile(*rest) for uuid, *rest in rows}


def pending_removals(database: Path) -> int:
    """How many files the index still wants to be removed."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM removals").fetchone()[0])


def files_below(folder: Path) -> set[str]:
    """All files of a folder and its subfolders."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def check_agreement(case: SynchronousTestCase, server: ServerProcess, database: Path | None = None) -> None:
    """Fail when a file has no row or a row no file, when their bytes differ, or when the counters are wrong."""
    database = database or server.storage / DATABASE
    indexed = indexed_files(database)
    found = files_below(server.storage)
    case.assertEqual({name for name in found if _OBJECT.fullmatch(name)}, set(indexed))
    case.assertLessEqual(found - set(indexed), _OTHERS)
    case.assertEqual(pending_removals(database), 0)
    for name, expected in indexed.items():
        data = (server.storage / name).read_bytes()
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        case.assertEqual((len(data), digest), (expected.compressed_size, expected.compressed_md5), name)
    statistics = server.get("/statistics")
    case.assertEqual(statistics["TotalDiskSize"], str(sum(item.compressed_size for item in indexed.values())))
    case.assertEqual(statistics["TotalUncompressedSize"], str(sum(item.size for item in indexed.values())))
    for level in ("Patients", "Studies", "Series", "Instances"):
        case.assertEqual(statistics[f"Count{level}"], len(server.get(f"/{level.lower()}")), level)
