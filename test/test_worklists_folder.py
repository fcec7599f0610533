"""The folder of worklists: what is read, when, and what is passed over."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.errors import CannotWriteFile, OrthancError, UnknownResource
from orthanctw.threads import at_once
from orthanctw.worklists import watch
from orthanctw.worklists.folder import FolderSource
from orthanctw.worklists.model import SIZE_LIMIT, Reading, Worklist
from test.worklist_case import POLISH, step, worklist


@attrs.frozen(kw_only=True)
class _NotingReading(Reading):
    """Notes what is read."""

    noted: list[str]

    def read(self, identifier: str, file: bytes, created: str = "") -> Worklist:
        self.noted.append(identifier)
        return super().read(identifier, file, created)


class FolderTests(TestCase):
    """A source without threads, whose waiting a test fills."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.read: list[str] = []
        self.waits: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.now = time.time
        self.source = self.make()

    def make(self, **options: Any) -> FolderSource:
        def wait(seconds: float) -> Deferred[None]:
            self.waits.append(seconds)
            self.meanwhile()
            return succeed(None)

        reading = _NotingReading(default_encoding=DefaultEncoding(), noted=self.read)
        return FolderSource(str(self.folder), reading, at_once, wait, lambda: self.now(), **options)

    def put(self, name: str, content: bytes | None = None) -> Path:
        path = self.folder / name
        path.write_bytes(worklist() if content is None else content)
        return path

    async def identifiers(self) -> list[str]:
        return [found.identifier for found in await self.source.select(lambda _: True)]

    async def test_only_what_changed_is_read(self) -> None:
        """Files are read once, those that change again, and those that are gone are forgotten."""
        for name in ("b.wl", "a.WL", "c.wl"):
            self.put(name)
        self.assertEqual(await self.identifiers(), ["a", "b", "c"])
        self.assertEqual(sorted(self.read), ["a", "b", "c"])
        self.read.clear()
        self.put("b.wl", worklist(step(), step()))
        os.unlink(self.folder / "a.WL")
        self.assertEqual(await self.identifiers(), ["b", "c"])
        self.assertEqual(self.read, ["b"])
        self.assertEqual(await self.identifiers(), ["b", "c"])
        self.assertEqual(self.read, ["b"])

    async def test_same_size_and_time(self) -> None:
        """A file is read again although somebody has given the new one the size and the time of the old one."""
        path = self.put("a.wl")
        before = path.stat()
        await self.identifiers()
        new = self.put("new", path.read_bytes().replace(b"STATION1", b"STATION2"))
        os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
        new.rename(path)
        (found,) = await self.source.select(lambda item: "STATION2" in item.common[0x00400001])
        self.assertEqual(found.identifier, "a")

    async def test_passed_over(self) -> None:
        """What is no worklist is told once in the log, without what it holds, and nothing else suffers from it."""
        self.put("good.wl")
        secret = worklist(PatientName="SECRET^NAME")
        self.put("empty.wl", b"")
        self.put("garbage.wl", b"SECRET^NAME" * 50)
        self.put("zeros.wl", bytes(400))
        self.put("cut.wl", secret[:-7])
        self.put("large.wl", secret + bytes(SIZE_LIMIT))
        self.put("other.dcm", secret)
        self.put("good.wl.part", secret)
        (self.folder / "below.wl").mkdir()
        (self.folder / "below").mkdir()
        self.put("below/deep.wl", secret)
        os.mkfifo(self.folder / "pipe.wl")
        outside = Path(self.mktemp()).absolute()
        outside.write_bytes(secret)
        (self.folder / "outside.wl").symlink_to(outside)
        (self.folder / "nothing.wl").symlink_to(self.folder / "nowhere")
        (self.folder / "inside.wl").symlink_to("good.wl")
        (self.folder / os.fsdecode(b"\xff\n.wl")).write_bytes(secret)
        with capturedLogs() as events:
            self.assertEqual(await self.identifiers(), ["good", "inside"])
            self.assertEqual(await self.identifiers(), ["good", "inside"])
        told = [formatEvent(event) for event in events]
        for name in ("below", "cut", "empty", "garbage", "large", "outside", "pipe", "zeros", r"\udcff\n"):
            self.assertEqual(sum(f"'{name}.wl'" in line for line in told), 1, (name, told))
        self.assertEqual(len(told), 9)
        self.assertNotIn("SECRET", "".join(told))

    async def test_half_written(self) -> None:
        """A new file that grows while it is waited for is not served, even where what there was made sense."""
        whole = worklist(PatientComments="all of it")
        end = whole.index(b"\x40\x00\x00\x01SQ")
        path = self.put("a.wl", whole[:end])
        self.meanwhile = lambda: path.write_bytes(whole[:-20])
        self.assertEqual(await self.identifiers(), [])
        self.meanwhile = lambda: path.write_bytes(whole)
        self.assertEqual(await self.identifiers(), [])
        self.meanwhile = lambda: None
        (found,) = await self.source.select(lambda _: True)
        self.assertIn(0x00400001, found.common)
        self.assertEqual(len(self.waits), 3)
        await self.identifiers()
        self.assertEqual(len(self.waits), 3)

    async def test_gone_meanwhile(self) -> None:
        """A new file that disappears while it is waited for is not served."""
        path = self.put("a.wl")
        self.meanwhile = path.unlink
        self.assertEqual(await self.identifiers(), [])

    async def test_old_files_are_not_waited_for(self) -> None:
        """What was changed long ago is complete."""
        self.put("a.wl")
        self.now = lambda: time.time() + 60
        self.assertEqual(await self.identifiers(), ["a"])
        self.assertEqual(self.waits, [])

    async def test_bound(self) -> None:
        """What is too much to be kept is read again each time, and found all the same."""
        self.source = self.make(kept=len(worklist()) * 2)
        for name in ("a.wl", "b.wl", "c.wl", "d.wl"):
            self.put(name)
        for _ in range(2):
            self.assertEqual(await self.identifiers(), ["a", "b", "c", "d"])
        self.assertEqual(len(self.read), 4 + 2 * 2)
        self.assertEqual(len(await self.source.select(lambda _: True, 3)), 3)

    async def test_writing(self) -> None:
        """What is written appears whole under its name; only what is there is replaced or removed."""
        await self.source.write("a", worklist(PatientName=POLISH), is_new=True)
        await self.source.write("a", worklist(PatientName="NEW"), is_new=False)
        self.assertEqual(os.listdir(self.folder), ["a.wl"])
        self.put("b.WL")
        await self.source.write("b", worklist(PatientName="NEW"), is_new=False)
        found = await self.source.select(lambda _: True)
        self.assertEqual([(item.identifier, item.text(0x00100010)) for item in found], [("a", "NEW"), ("b", "NEW")])
        for identifier in ("c", "../a", ".", "", "a.wl", "/etc/passwd"):
            with self.assertRaises(UnknownResource):
                await self.source.write(identifier, worklist(), is_new=False)
            self.assertFalse(await self.source.remove(identifier))
        self.assertTrue(await self.source.remove("b"))
        self.assertFalse(await self.source.remove("b"))
        self.assertEqual(os.listdir(self.folder), ["a.wl"])

    async def test_no_room(self) -> None:
        """A worklist that cannot be written leaves nothing behind."""
        (self.folder / "taken.wl").mkdir()
        with self.assertRaises(CannotWriteFile):
            await self.source.write("taken", worklist(), is_new=True)
        self.assertEqual(os.listdir(self.folder), ["taken.wl"])

    async def test_no_descriptors(self) -> None:
        """A file that cannot be opened at the moment is tried again, although nothing has changed."""
        self.put("a.wl")
        real, failures = os.open, [OSError(errno.EMFILE, "too many")]

        def refuse(path: Any, *arguments: Any, **options: Any) -> int:
            if failures and str(path).endswith(".wl"):
                raise failures.pop()
            return real(path, *arguments, **options)

        self.patch(os, "open", refuse)
        self.assertEqual(await self.identifiers(), [])
        self.assertEqual(await self.identifiers(), ["a"])

    async def test_linked(self) -> None:
        """A file that changes under another name is read again, too."""
        below = self.folder / "below"
        below.mkdir()
        target = self.put("below/target", worklist())
        (self.folder / "soft.wl").symlink_to(target)
        (self.folder / "hard.wl").hardlink_to(target)
        self.assertEqual(await self.identifiers(), ["hard", "soft"])
        target.write_bytes(worklist(step(ScheduledStationAETitle="CHANGED")))
        found = await self.source.select(lambda item: "CHANGED" in item.common[0x00400001])
        self.assertEqual([item.identifier for item in found], ["hard", "soft"])

    async def test_folder_is_exchanged(self) -> None:
        """Another folder in the place of the first one is read, and a first one that comes back."""
        self.put("a.wl")
        away = self.folder.with_suffix(".away")
        self.assertEqual(await self.identifiers(), ["a"])
        self.folder.rename(away)
        for _ in range(2):
            with self.assertRaises(OrthancError):
                await self.identifiers()
        self.folder.mkdir()
        self.put("b.wl")
        self.assertEqual(await self.identifiers(), ["b"])
        self.put("c.wl")
        self.assertEqual(await self.identifiers(), ["b", "c"])
        (self.folder / "b.wl").unlink()
        (self.folder / "c.wl").unlink()
        self.folder.rmdir()
        away.rename(self.folder)
        self.assertEqual(await self.identifiers(), ["a"])


class UnwatchedFolderTests(FolderTests):
    """The same where the kernel does not tell of changes."""

    def setUp(self) -> None:
        self.patch(watch, "_LOCAL", frozenset())
        super().setUp()


class WatchTests(SynchronousTestCase):
    """What the kernel tells of a folder."""

    def test_changes(self) -> None:
        """Whatever happens to a file of the folder is noticed, once; what happens elsewhere is not."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        if not watch._is_local(os.stat(folder).st_dev):
            raise SkipTest("the tests run on a file system that is not watched")
        watched = watch.FolderWatch(str(folder))
        self.assertFalse(watched.is_unchanged())
        self.assertTrue(watched.is_unchanged())
        path, other = folder / "a.wl", folder.with_suffix(".other")
        changes: tuple[Callable[[], object], ...] = (
            lambda: path.write_bytes(b"1"),
            lambda: path.write_bytes(b"2"),
            lambda: os.utime(path, (1, 1)),
            lambda: path.rename(other),
            lambda: other.rename(path),
            path.unlink,
        )
        for change in changes:
            change()
            self.assertFalse(watched.is_unchanged())
            self.assertTrue(watched.is_unchanged())
        other.write_bytes(b"3")
        self.assertTrue(watched.is_unchanged())
        folder.rename(folder.with_suffix(".away"))
        self.assertFalse(watched.is_unchanged())
