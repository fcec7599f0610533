"""Opening the index of an Orthanc so that nothing of it changes and no Orthanc can use it meanwhile."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.takeover.coexistence import JOURNAL_SUFFIXES

_MAGIC: Final = b"SQLite format 3\0"
#: Bytes of the file that SQLite locks: PENDING, RESERVED and the range of SHARED. They need not exist.
_LOCK_BYTES: Final = (0x40000000, 512)
#: ``struct flock`` of 64-bit Linux.
_FLOCK: Final = struct.Struct("hhqqi4x")
_CACHE_KIB: Final = 65536
#: Steps of SQLite's machine between two looks at whether to stop.
_STEPS: Final = 200_000


class CannotTakeOver(OrthancError):
    """The import cannot begin, or not go on; `details` is one line for the person in front of it."""

    code = ErrorCode.DATABASE


class Interrupted(Exception):
    """Told to stop; everything so far is kept."""


def is_database(path: str) -> bool:
    """Whether a file is a SQLite database, by its first bytes."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC
    return False


@contextlib.contextmanager
def reserved(path: str) -> Iterator[None]:
    """Keep every Orthanc from using the index. Raises CannotTakeOver when one uses it, or the file is no database."""
    fd, is_writable = _open(path)
    try:
        _lock(fd, is_writable, path)
        if not is_database(path):
            raise CannotTakeOver(f"{path}: not a SQLite database")
        yield
    finally:
        os.close(fd)


def _open(path: str) -> tuple[int, bool]:
    """A descriptor for locks, and whether it allows those of a writer."""
    try:
        with contextlib.suppress(PermissionError, IsADirectoryError):
            return os.open(path, os.O_RDWR | os.O_CLOEXEC), True
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC), False
    except FileNotFoundError as error:
        raise CannotTakeOver(f"{path}: no such file; the index of an Orthanc is expected there") from error
    except OSError as error:
        if error.errno == errno.EROFS:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC), False
        raise CannotTakeOver(f"{path}: {error.strerror}") from error


def _lock(fd: int, is_writable: bool, path: str) -> None:
    """Lock as a writer would: an Orthanc that has not written yet holds the lock of a reader only."""
    # Locks of the open file, not of the process: SQLite gives away those of the process when it closes the file.
    try:
        if not is_writable:
            found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK))
            if _FLOCK.unpack(found)[0] != fcntl.F_UNLCK:
                raise BlockingIOError
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK if is_writable else fcntl.F_RDLCK))
    except (BlockingIOError, PermissionError) as error:
        raise CannotTakeOver(f"{path}: an Orthanc is running on this index; stop it first") from error
    except OSError as error:
        raise CannotTakeOver(f"{path}: cannot be locked: {error.strerror}") from error


def _flock(kind: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, *_LOCK_BYTES, 0)


def needs_copy(path: str) -> bool:
    """Whether a journal holds a part of the index, which only a writer could bring into it."""
    return any(_size(path + suffix) > 0 for suffix in JOURNAL_SUFFIXES)


def fingerprint(path: str) -> str:
    """Tells whether the index has changed since."""
    facts = [os.path.realpath(path)]
    for suffix in ("", *JOURNAL_SUFFIXES):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path + suffix)
            facts.append(f"{suffix}:{status.st_size}:{status.st_mtime_ns}")
    return " ".join(facts)


@contextlib.contextmanager
def opened(path: str, copy_folder: str, is_stopped: Callable[[], bool]) -> Iterator[sqlite3.Connection]:
    """A connection that reads the index; with a journal, a copy of both in `copy_folder`, which is removed afterwards.

    Raises CannotTakeOver and sqlite3.Error. What runs when `is_stopped` becomes true ends with an error.
    """
    shutil.rmtree(copy_folder, ignore_errors=True)
    parameters = "mode=ro&immutable=1"
    try:
        if needs_copy(path):
            path, parameters = _copy(path, copy_folder), "mode=rw"
        address = f"file:{quote(os.path.abspath(path))}?{parameters}"
        connection = sqlite3.connect(address, uri=True, isolation_level=None)
        try:
            connection.text_factory = decoded
            connection.set_progress_handler(is_stopped, _STEPS)
            try:
                connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                connection.execute("PRAGMA query_only = ON")
            except sqlite3.Error as error:
                raise unreadable(path, error) from error
            yield connection
        finally:
            connection.close()
    finally:
        shutil.rmtree(copy_folder, ignore_errors=True)


def decoded(text: bytes) -> str:
    """A text of the old index, which takes from its clients whatever bytes they send; what is no UTF-8 is Latin-1."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def unreadable(path: str, error: sqlite3.Error) -> Exception:
    """What to raise for an error of a connection that `opened` gave."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
        return Interrupted()
    return CannotTakeOver(f"{path}: the old index cannot be read: {error}")


def _copy(path: str, folder: str) -> str:
    try:
        os.mkdir(folder, 0o700)
        for suffix in ("", *JOURNAL_SUFFIXES):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(path + suffix, os.path.join(folder, "index" + suffix))
    except OSError as error:
        raise CannotTakeOver(f"{path}: cannot be copied to {folder}: {error.strerror}") from error
    return os.path.join(folder, "index")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
