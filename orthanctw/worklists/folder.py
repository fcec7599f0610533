"""Worklists in a folder, one for each file ``*.wl``, which other programs write, too."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadFileFormat, CannotWriteFile, FullStorage, OrthancError, UnknownResource
from orthanctw.storage.folders import sync_folder
from orthanctw.storage.spool import write_error
from orthanctw.worklists.model import SIZE_LIMIT, Reading, Wanted, Worklist
from orthanctw.worklists.watch import FolderWatch

log = Logger(namespace="orthanctw.dicom")
SUFFIX: Final = ".wl"
_SUFFIXES: Final = (".wl", ".WL", ".Wl", ".wL")
#: Octets of the files whose worklists are kept in memory.
KEPT: Final = 64 << 20
#: A file that was changed less than so many seconds ago may still be written: it is looked at again after a while.
_YOUNG: Final = 2.0
SETTLING: Final = 0.05
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class _Changing(Exception):
    """The file is not as it was a moment ago."""


#: What tells whether a file is the one that was read: times of modification and change in ns, and size.
_State = tuple[int, int, int]


@attrs.define
class _Entry:
    """What is known of a file. `worklist` is None when it is none, or when it `is_dropped` from memory.

    `is_link` tells whether it may change under another name; `seen` is the number of the round in which it was last
    looked at.
    """

    state: _State
    worklist: Worklist | None = None
    is_dropped: bool = False
    is_link: bool = False
    seen: int = 0


class FolderSource:
    """The files of one folder, not of those below it. What was read is kept, up to a bound, until the file changes.

    Parameters
    ----------
    call : callable
        Runs a function in a thread.
    wait : callable
        ``wait(seconds)``: a Deferred that fires then.
    wall_clock : callable
        Seconds since 1970.
    kept : int
        Octets of the files whose worklists stay in memory.
    """

    dates = False

    def __init__(
        self,
        folder: str,
        reading: Reading,
        call: Callable[..., Deferred[Any]],
        wait: Callable[[float], Deferred[Any]],
        wall_clock: Callable[[], float],
        kept: int = KEPT,
    ) -> None:
        self._folder = folder
        self._reading = reading
        self._call = call
        self._wait = wait
        self._wall_clock = wall_clock
        self._maximum = kept
        # Used by one thread at a time, for as long as the lock is held.
        self._lock = DeferredLock()
        self._entries: dict[str, _Entry] = {}
        self._encoding = ""
        self._round = 0
        self._watch = FolderWatch(folder)
        #: Whether `_entries` are all that there was when the folder was last looked at.
        self._is_current = False
        self._has_links = False

    async def select(self, wanted: Wanted, limit: int = 0) -> list[Worklist]:
        """See `Source`. Raises OrthancError when the folder cannot be read."""
        async with self._lock:
            await self._refresh()
            found: list[Worklist] = await self._call(self._select, wanted, limit)
        return found

    async def write(self, identifier: str, file: bytes, *, is_new: bool) -> None:
        """See `Source`. Raises OrthancError when the file cannot be written."""
        async with self._lock:
            name = identifier + SUFFIX
            if not is_new:
                await self._refresh()
                name = self._name_of(identifier)
            await self._call(self._write, name, file)

    async def remove(self, identifier: str) -> bool:
        """See `Source`. Raises OrthancError when the file cannot be removed."""
        async with self._lock:
            await self._refresh()
            try:
                name = self._name_of(identifier)
            except UnknownResource:
                return False
            removed: bool = await self._call(self._remove, name)
        return removed

    def _name_of(self, identifier: str) -> str:
        """A name that the folder has; never one that was made of what a client sends."""
        for name, entry in self._entries.items():
            if (entry.worklist is not None or entry.is_dropped) and _identifier(name) == identifier:
                return name
        raise UnknownResource()

    async def _refresh(self) -> None:
        """Bring what is known up to date."""
        young: list[str] = await self._call(self._look)
        if young:
            await self._wait(SETTLING)
            await self._call(self._look_again, young)

    # In a thread

    def _look(self) -> list[str]:
        """Read what is new or has changed; names of those files that may not be complete yet."""
        # Before anything is looked at: what happens meanwhile is seen the next time.
        is_unchanged = self._watch.is_unchanged()
        encoding = self._reading.default_encoding.name
        if encoding != self._encoding:
            self._encoding, self._entries = encoding, {}
        elif is_unchanged and self._is_current:
            return []
        self._is_current = False
        entries = self._entries
        self._round = this_round = self._round + 1
        new: list[tuple[os.DirEntry[str], os.stat_result]] = []
        same = lost = 0
        # Thousands of times at each query: nothing is done here that can be done for changed files only.
        for file in self._files():
            try:
                status = file.stat()
            except OSError:
                # It is gone, or a link to nothing.
                lost += 1
                continue
            state = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
            known = entries.get(file.name)
            if known is not None and known.state == state:
                known.seen = this_round
                same += 1
            else:
                new.append((file, status))
        young: list[str] = []
        if new or same < len(entries):
            young, failed = self._take(new)
            lost += failed
        # What links lead to changes without the folder being told.
        self._is_current = not lost and not self._has_links
        return young

    def _files(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._folder) as files:
                return [file for file in files if file.name.endswith(_SUFFIXES)]
        except OSError as e:
            log.error("The folder of worklists cannot be read: {reason}", reason=e.strerror)
            raise OrthancError(
                "The folder of worklists cannot be read", code=ErrorCode.DIRECTORY_EXPECTED, http_status=500
            ) from e

    def _take(self, new: list[tuple[os.DirEntry[str], os.stat_result]]) -> tuple[list[str], int]:
        """Read files, forget those that are gone.

        Names of those that may not be complete yet, and how many have to be tried again.
        """
        now = self._wall_clock()
        entries = {name: entry for name, entry in self._entries.items() if entry.seen == self._round}
        kept = sum(entry.state[2] for entry in entries.values() if entry.worklist is not None)
        young: list[str] = []
        failed = 0
        for file, status in new:
            state = _state(status)
            entry = self._read(file, state)
            if entry is None:
                failed += 1
                continue
            entry.is_link = file.is_symlink() or status.st_nlink > 1
            if abs(now - state[1] / 1e9) < _YOUNG:
                young.append(file.name)
            if entry.worklist is not None:
                kept += state[2]
                if kept > self._maximum:
                    kept -= state[2]
                    entry.worklist, entry.is_dropped = None, True
            entries[file.name] = entry
        self._entries = dict(sorted(entries.items()))
        self._has_links = any(entry.is_link for entry in entries.values())
        return young, failed

    def _read(self, file: os.DirEntry[str], state: _State) -> _Entry | None:
        """What is known of a file now; None when it changes while it is read, or cannot be read at the moment."""
        name = file.name
        try:
            if not name.isprintable():
                raise BadFileFormat("its name is no text")
            path = file.path
            if file.is_symlink():
                path = os.path.realpath(path)
                if not path.startswith(os.path.realpath(self._folder) + os.sep):
                    raise BadFileFormat("a link out of the folder")
            return _Entry(state, self._reading.read(_identifier(name), self._content(path, state)), seen=self._round)
        except _Changing:
            log.info("Worklist file {name} is passed over: it is being written", name=name)
            return None
        except BadFileFormat as e:
            reason = e.details
        except PermissionError:
            reason = "it may not be read"
        except OSError as e:
            log.error("Worklist file {name} cannot be read: {reason}", name=ascii(name), reason=e.strerror)
            return None
        log.warn("Worklist file {name} is passed over: {reason}", name=ascii(name), reason=reason)
        return _Entry(state, seen=self._round)

    def _content(self, path: str, state: _State) -> bytes:
        fd = os.open(path, _READ)
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                raise BadFileFormat("no regular file")
            if before.st_size > SIZE_LIMIT:
                raise BadFileFormat("too large for a worklist")
            content = b""
            while len(content) <= SIZE_LIMIT and (piece := os.read(fd, SIZE_LIMIT)):
                content += piece
            if len(content) != before.st_size or not state == _state(before) == _state(os.fstat(fd)):
                raise _Changing
            return content
        finally:
            os.close(fd)

    def _look_again(self, names: list[str]) -> None:
        """Forget those files that have changed since `_look`: they are read the next time."""
        for name in names:
            try:
                is_same = _state(os.stat(os.path.join(self._folder, name))) == self._entries[name].state
            except OSError:
                is_same = False
            if not is_same:
                log.info("Worklist file {name} is passed over: it is being written", name=name)
                del self._entries[name]
                self._is_current = False

    def _select(self, wanted: Wanted, limit: int) -> list[Worklist]:
        found: list[Worklist] = []
        for name, entry in self._entries.items():
            worklist = self._again(name, entry) if entry.is_dropped else entry.worklist
            if worklist is not None and wanted(worklist):
                found.append(worklist)
                if len(found) == limit:
                    break
        return found

    def _again(self, name: str, entry: _Entry) -> Worklist | None:
        """A worklist that is not in memory; None when its file has changed."""
        path = os.path.realpath(os.path.join(self._folder, name))
        try:
            return self._reading.read(_identifier(name), self._content(path, entry.state))
        except (_Changing, BadFileFormat, OSError):
            return None

    def _write(self, name: str, file: bytes) -> None:
        path = os.path.join(self._folder, name)
        # Another name until all is there: nobody finds half a file.
        temporary = os.path.join(self._folder, f".{uuid.uuid4()}.part")
        try:
            fd = os.open(temporary, _WRITE, 0o640)
            try:
                with open(fd, "wb") as stream:
                    stream.write(file)
                    stream.flush()
                    os.fsync(fd)
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            sync_folder(self._folder)
        except OSError as e:
            told = write_error(e)
            raise told if isinstance(told, FullStorage) else CannotWriteFile("The worklist cannot be written") from e

    def _remove(self, name: str) -> bool:
        try:
            os.unlink(os.path.join(self._folder, name))
            sync_folder(self._folder)
        except FileNotFoundError:
            return False
        except OSError as e:
            raise CannotWriteFile("The file of the worklist cannot be removed") from e
        finally:
            self._entries.pop(name, None)
        return True


def _state(status: os.stat_result) -> _State:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _identifier(name: str) -> str:
    return name[: -len(SUFFIX)]
