"""Connections to the SQLite file, and what its errors mean to a client."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import (
    BadFileFormat,
    CannotWriteFile,
    DatabaseError,
    FullStorage,
    OrthancError,
    ParameterOutOfRange,
)

_T = TypeVar("_T")
#: Seconds that a statement waits for a lock of another process.
BUSY_TIMEOUT: Final = 5.0
_CACHE_KIB: Final = 32768
_MMAP_BYTES: Final = 1 << 28
_JOURNAL_BYTES: Final = 64 << 20
#: Free room on the disk, in sizes of the journal, below which it is not extended.
_ROOM_FACTOR: Final = 16
#: What the journal has from the start: to write over a file costs two thirds of what it costs to let it grow.
_JOURNAL_START: Final = 16 << 20
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


def connect(path: str, *, busy_timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """A connection in autocommit mode that any thread may use, one at a time."""
    connection = sqlite3.connect(
        path, timeout=busy_timeout, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA mmap_size = {_MMAP_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_writer(path: str, synchronous: str = "FULL", *, busy_timeout: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """The connection of the writer: journal in WAL mode, checkpoints only when the writer asks for them."""
    connection = connect(path, busy_timeout=busy_timeout)
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise DatabaseError("the folder of the index does not allow a write-ahead log")
        connection.execute(f"PRAGMA synchronous = {'FULL' if synchronous == 'FULL' else 'NORMAL'}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def extend_journal(connection: sqlite3.Connection) -> None:
    """Let the journal of a connection have its usual size, when the disk has plenty of room.

    Raises OSError and sqlite3.Error; then the journal is as before.
    """
    path = connection.execute("PRAGMA database_list").fetchone()[2] + "-wal"
    room = os.statvfs(os.path.dirname(path))
    if room.f_bavail * room.f_frsize < _ROOM_FACTOR * _JOURNAL_START:
        return
    # Appended: whatever another program may write meanwhile, this is behind it, and zeros are no frame of a journal.
    with open(path, "ab", buffering=0) as journal:
        size = journal.tell()
        try:
            for _ in range((_JOURNAL_START - size) >> 20):
                journal.write(bytes(1 << 20))
            os.fsync(journal.fileno())
        except OSError:
            journal.truncate(size)
            raise


def translate(error: Exception) -> OrthancError:
    """What a client is told of `error`, which an operation of the index has raised."""
    if isinstance(error, OrthancError):
        return error
    if isinstance(error, sqlite3.Error):
        return _translate_sqlite(error)
    if isinstance(error, OSError):
        if error.errno in _NO_ROOM:
            return FullStorage("the disk is full")
        return CannotWriteFile(os.strerror(error.errno) if error.errno else "")
    if isinstance(error, UnicodeError):
        return BadFileFormat("a text is not valid Unicode")
    if isinstance(error, OverflowError):
        return ParameterOutOfRange("a number does not fit into 64 bits")
    return OrthancError("the index failed", code=ErrorCode.INTERNAL_ERROR)


def _translate_sqlite(error: sqlite3.Error) -> OrthancError:
    primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return FullStorage("the index cannot be written: disk full or damaged")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseError("the index is locked by another program")
    if primary == sqlite3.SQLITE_NOTADB:
        return DatabaseError("the file of the index is not a database")
    if primary == sqlite3.SQLITE_CORRUPT:
        return DatabaseError("the file of the index is damaged")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return DatabaseError("the file of the index cannot be opened")
    if primary == sqlite3.SQLITE_TOOBIG:
        return DatabaseError("a value is too large for the index")
    return DatabaseError(type(error).__name__)


class Readers:
    """One read connection for each thread that asks.

    Parameters
    ----------
    path : str
        The SQLite file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[sqlite3.Connection] = []

    def run(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call ``function(connection, *args)``; raises only OrthancError."""
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._connect()
            return function(connection, *args)
        except OrthancError:
            raise
        except (sqlite3.Error, OSError, UnicodeError, OverflowError) as error:
            raise translate(error) from error

    def run_snapshot(self, function: Callable[..., _T], *args: Any) -> _T:
        """As `run`; every statement of `function` sees the same state of the index."""
        result: _T = self.run(_in_snapshot, function, *args)
        return result

    def close(self) -> None:
        """Close the connections; no thread may be using one."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
        self._local = threading.local()

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self._path)
        connection.execute("PRAGMA query_only = ON")
        with self._lock:
            self._connections.append(connection)
        self._local.connection = connection
        return connection


def _in_snapshot(connection: sqlite3.Connection, function: Callable[..., _T], *args: Any) -> _T:
    connection.execute("BEGIN")
    try:
        return function(connection, *args)
    finally:
        connection.execute("ROLLBACK")
