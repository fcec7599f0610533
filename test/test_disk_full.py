"""A disk without room, for the storage area and for the index; compressed files."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.pixels.sink import Sink
from orthanctw.errors import FullStorage
from test.servers import Answer, ServerProcess, ct_image, shared_server
from test.storage_checks import DATABASE, check_agreement, files_below
from test.system_calls import Trace

_OPTIONS = {"Orthanctw": {"SpoolThresholdKB": 64}}
#: Sides of images whose uploads stay in memory, and go to a file.
_SIDES = (128, 512)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of a few megabytes at `folder`. SkipTest where mounting is not permitted."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SkipTest(f"Mounting a small disk needs root: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left; the file that takes it."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


class SinkTests(SynchronousTestCase):
    """The result of a child process when there is no room."""

    def test_buffered(self) -> None:
        """Bytes that were still in a buffer are told of as the others, and leave no file."""
        folder = Path(self.mktemp())
        with small_disk(folder, "64k"):
            fill(folder)
            path = folder / "result"
            with self.assertRaises(FullStorage), Sink(str(path), 0) as sink:
                sink.write(b"some")
                sink.content()
            self.assertFalse(path.exists())


class FullDiskTests(SynchronousTestCase):
    """Uploads when there is no room."""

    def check_refused(self, answer: Answer) -> None:
        self.assertEqual((answer.status, answer.json()["OrthancStatus"]), (507, 19))

    def run_full(self, server: ServerProcess, small: Path, database: Path) -> None:
        """Fill the disk `small`, upload until there is no room, make room, upload."""
        self.addCleanup(server.kill)
        server.start()
        kept = {1: server.upload(ct_image(1))}
        filler = fill(small)
        refused = 0
        # The journal of the index has some room of its own: so the first ones may succeed.
        for number in range(2, 200):
            side = _SIDES[number % len(_SIDES)]
            files, statistics = files_below(server.storage), server.get("/statistics")
            answer = server.request("POST", "/instances", ct_image(number, side=side))
            if answer.status == 200:
                kept[number] = answer.json()["ID"]
                continue
            self.check_refused(answer)
            self.assertEqual(server.get("/statistics"), statistics)
            self.assertEqual(files_below(server.storage), files)
            refused += 1
            if refused == len(_SIDES) * 2:
                break
        self.assertEqual(refused, len(_SIDES) * 2)
        filler.unlink()
        for number, side in enumerate(_SIDES, 200):
            kept[number] = server.upload(ct_image(number, side=side))
        for number, instance in kept.items():
            side = _SIDES[number - 200] if number >= 200 else _SIDES[number % len(_SIDES)] if number > 1 else None
            expected = ct_image(number) if side is None else ct_image(number, side=side)
            self.assertEqual(server.request("GET", f"/instances/{instance}/file").body, expected)
        check_agreement(self, server, database)

    def test_storage(self) -> None:
        """A full storage area refuses uploads and keeps nothing of them, until there is room again."""
        server = ServerProcess(Path(self.mktemp()))
        index = server.folder / "index"
        server.configure(IndexDirectory=str(index), **_OPTIONS)
        with small_disk(server.storage, "2m"):
            self.run_full(server, server.storage, index / DATABASE)
            server.stop()

    def test_index(self) -> None:
        """A full disk of the index refuses uploads and keeps no file of them, until there is room again."""
        server = ServerProcess(Path(self.mktemp()))
        index = server.folder / "index"
        server.configure(IndexDirectory=str(index), **_OPTIONS)
        with small_disk(index, "2m"):
            self.run_full(server, index, index / DATABASE)
            server.stop()

    def refuse_call(self, name: str, path: Path | None = None, *, cold: bool = False) -> None:
        """Let one system call of an upload find the disk full; the upload after it succeeds."""
        server = shared_server(type(self), _OPTIONS)
        if cold:
            server.stop()
            server.start()
        elif not server.get("/instances"):
            server.upload(ct_image(1, study=2))
        files, statistics = files_below(server.storage), server.get("/statistics")
        data = ct_image(1, side=512)
        trace = Trace(server.pid, server.folder, (name,), path=path, inject=f"{name}:error=ENOSPC:when=1")
        try:
            self.check_refused(server.request("POST", "/instances", data))
        finally:
            trace.stop()
        self.assertEqual(server.get("/statistics"), statistics)
        self.assertEqual(files_below(server.storage), files)
        instance = server.upload(data)
        self.assertEqual(server.request("GET", f"/instances/{instance}/file").body, data)
        check_agreement(self, server)
        server.request("DELETE", f"/instances/{instance}")
        check_agreement(self, server)

    def test_new_folder(self) -> None:
        """A folder that cannot be made fails one upload, not all those that would have used it."""
        self.refuse_call("mkdir", cold=True)

    def test_sync_of_the_file(self) -> None:
        """A file that cannot be made durable is not stored."""
        self.refuse_call("fsync")

    def test_rename(self) -> None:
        """A file that cannot get its name is not stored."""
        self.refuse_call("rename")

    def test_journal(self) -> None:
        """A journal that cannot be written leaves no file behind."""
        server = shared_server(type(self), _OPTIONS)
        self.refuse_call("pwrite64", server.storage / f"{DATABASE}-wal")

    def test_sync_of_the_journal(self) -> None:
        """A journal that cannot be made durable leaves no file behind."""
        server = shared_server(type(self), _OPTIONS)
        self.refuse_call("fdatasync", server.storage / f"{DATABASE}-wal")

    def test_death_after_a_failed_sync(self) -> None:
        """An object that was refused since the journal could not be made durable is not back after a sudden death."""
        server = ServerProcess(Path(self.mktemp()))
        self.addCleanup(server.kill)
        server.start()
        server.upload(ct_image(1))
        journal = server.storage / f"{DATABASE}-wal"
        trace = Trace(server.pid, server.folder, ("fdatasync",), path=journal, inject="fdatasync:error=ENOSPC:when=1+")
        try:
            self.check_refused(server.request("POST", "/instances", ct_image(2)))
            server.kill()
        finally:
            trace.abandon()
        server.start()
        check_agreement(self, server)
        self.assertEqual(len(server.get("/instances")), 1)


class NewFolderTests(SynchronousTestCase):
    """Uploads that need a new folder at the same time."""

    def test_slow_folder(self) -> None:
        """Uploads that come while a folder is made wait for it."""
        server = ServerProcess(Path(self.mktemp()))
        self.addCleanup(server.kill)
        server.start()
        trace = Trace(server.pid, server.folder, ("mkdir",), inject="mkdir:delay_enter=300000")
        answers: list[Answer] = []

        def send(number: int) -> None:
            answers.append(server.request("POST", "/instances", ct_image(number)))

        senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        try:
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
        finally:
            trace.stop()
        self.assertEqual([answer.status for answer in answers], [200] * 4)
        check_agreement(self, server)


class CompressionTests(SynchronousTestCase):
    """``StorageCompression``."""

    def test_layout(self) -> None:
        """A compressed file is its size in 8 bytes and a zlib stream; it is read whatever the option says later."""
        server = ServerProcess(Path(self.mktemp()), options={"StorageCompression": True, **_OPTIONS})
        self.addCleanup(server.kill)
        server.start()
        contents = {server.upload(data): data for data in (ct_image(n, side=side) for n, side in enumerate(_SIDES))}
        for instance, data in contents.items():
            self.check_file(server, instance, data)
        check_agreement(self, server)
        server.stop()
        server.configure(StorageCompression=False)
        server.start()
        for instance, data in contents.items():
            self.assertEqual(server.request("GET", f"/instances/{instance}/file").body, data)
        plain = server.upload(ct_image(9))
        info = server.get(f"/instances/{plain}/attachments/dicom/info")
        self.assertEqual(info["CompressedSize"], info["UncompressedSize"])
        self.assertEqual(server.request("GET", f"/instances/{plain}/file").body, ct_image(9))
        check_agreement(self, server)

    def check_file(self, server: ServerProcess, instance: str, data: bytes) -> None:
        """Compare a file with what was uploaded, and with what the server says about it."""
        info = server.get(f"/instances/{instance}/attachments/dicom/info")
        uuid = info["Uuid"]
        stored = (server.storage / uuid[:2] / uuid[2:4] / uuid).read_bytes()
        self.assertEqual(struct.unpack("<Q", stored[:8]), (len(data),))
        self.assertEqual(zlib.decompress(stored[8:]), data)
        self.assertLess(len(stored), len(data))
        self.assertEqual((info["UncompressedSize"], info["CompressedSize"]), (len(data), len(stored)))
        self.assertEqual(info["UncompressedMD5"], md5(data, usedforsecurity=False).hexdigest())
        self.assertEqual(info["CompressedMD5"], md5(stored, usedforsecurity=False).hexdigest())
        self.assertEqual(server.request("GET", f"/instances/{instance}/file").body, data)
        ranged = server.request("GET", f"/instances/{instance}/attachments/dicom/data", headers={"Range": "bytes=5-99"})
        self.assertEqual((ranged.status, ranged.body), (206, data[5:100]))
