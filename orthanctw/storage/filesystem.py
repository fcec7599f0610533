"""The storage area on a file system: ``StorageDirectory/ab/cd/UUID``, as Orthanc lays it out."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import secrets
import stat
import time
import uuid as uuid_module
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import Any, TypeVar

from isal import isal_zlib
from twisted.internet.defer import Deferred, execute
from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.caches import Cache
from orthanctw.errors import ConfigurationError, InexistentFile
from orthanctw.identifiers import is_uuid
from orthanctw.interfaces import IBlockingReader, IReader, ISpool, IStorageArea
from orthanctw.metrics import Metrics
from orthanctw.model import Attachment, Compression
from orthanctw.storage.compression import CHUNK, compress
from orthanctw.storage.folders import FolderSyncs, make_folders
from orthanctw.storage.reader import FileReader, MemoryReader, length_of, open_reader
from orthanctw.storage.spool import Spool, write_error
from orthanctw.storage.temporary import TemporaryFolder
from orthanctw.threads import NamedPool

#: Files of one ``ab/cd`` folder before the next folder is used: a new folder costs more than a file.
FILES_PER_FOLDER = 1000
#: Folder of files being received; not a pair of hexadecimal digits, so no object lies there.
SPOOL_FOLDER = "orthanctw-spool"
LOCK_FILE = "orthanctw.lock"
#: Of plain files up to so many bytes, opening and reading by a thread costs more than all else.
_SMALL = 64 * 1024

T = TypeVar("T")
log = Logger(namespace="orthanctw.generic")


class _Names:
    """Makes UUIDs whose first four digits stay the same for a thousand files. Any thread may ask.

    Parameters
    ----------
    make_folder : callable
        ``make_folder(digits)``, called before the first UUID with these four digits is given out.
    """

    def __init__(self, make_folder: Callable[[str], None]) -> None:
        self._make_folder = make_folder
        # Held while a folder is made: nobody may get a name in it before it is there.
        self._lock = Lock()
        self._left = 0
        self._prefix = ""

    def next(self) -> str:
        """A new UUID (version 4), whose folder exists."""
        with self._lock:
            if self._left == 0:
                prefix = secrets.token_hex(2)
                self._make_folder(prefix)
                self._prefix, self._left = prefix, FILES_PER_FOLDER
            self._left -= 1
            prefix = self._prefix
        return prefix + str(uuid_module.uuid4())[4:]


@implementer(IStorageArea)
class FilesystemStorage:
    """See `IStorageArea`.

    Parameters
    ----------
    root : str
        ``StorageDirectory``; made when it is missing.
    pool : NamedPool
        The storage threads.
    sync : bool
        ``SyncStorageArea``; False gives durability up.
    md5 : bool
        ``StoreMD5ForAttachments``.
    cache : Cache of bytes, optional
        For the content of files that are small, or compressed on the disk.
    metrics : Metrics, optional
        Are told what is read and written.
    temporary : str
        ``TemporaryDirectory``: for large files that never become stored ones; empty to have them here, too.
    """

    def __init__(
        self,
        root: str,
        pool: NamedPool,
        *,
        sync: bool = True,
        md5: bool = True,
        cache: Cache[bytes] | None = None,
        metrics: Metrics | None = None,
        temporary: str = "",
    ) -> None:
        self.root = root
        self._temporary = TemporaryFolder(temporary, root) if temporary else None
        self._pool = pool
        self._sync = sync
        self._folders = FolderSyncs(enabled=sync)
        self._md5 = md5
        self._cache: Cache[bytes] = Cache(0) if cache is None else cache
        self._metrics = Metrics(time.time, enabled=False) if metrics is None else metrics
        self._names = _Names(self._make_folder)
        self._lock_fd = -1
        self._spool = os.path.join(root, SPOOL_FOLDER)

    def may_ask_scripts(self) -> bool:
        return False

    def call(self, function: Callable[..., object], *arguments: object) -> Deferred[Any]:
        return self._pool.call(function, *arguments)

    def path(self, uuid: str) -> str:
        return os.path.join(self.root, uuid[:2], uuid[2:4], uuid)

    # Life cycle

    def lock(self) -> None:
        """Make the folders and take the lock (blocking). ConfigurationError when another process has it."""
        try:
            os.makedirs(self._spool, mode=0o750, exist_ok=True)
            fd = os.open(os.path.join(self.root, LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as e:
            raise ConfigurationError([f"StorageDirectory: cannot be used: {self.root}: {e.strerror}"]) from e
        try:
            _lock(fd, self.root)
        except BaseException:
            os.close(fd)
            raise
        self._lock_fd = fd
        try:
            for name in os.listdir(self._spool):
                os.unlink(os.path.join(self._spool, name))
        except OSError as e:
            raise ConfigurationError([f"StorageDirectory: cannot be cleaned: {self._spool}: {e.strerror}"]) from e
        if self._temporary is not None:
            self._temporary.prepare()

    @staticmethod
    def check_free(root: str) -> None:
        """ConfigurationError when another process uses the storage directory; holds nothing."""
        try:
            fd = os.open(os.path.join(root, LOCK_FILE), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            # Not used yet, or unreadable: taking the lock will tell.
            return
        try:
            _lock(fd, root)
        finally:
            os.close(fd)

    def open(self) -> Deferred[None]:
        return self._pool.call(self.lock)

    def holds_objects(self) -> Deferred[bool]:
        return self._pool.call(self._holds_objects)

    def _holds_objects(self) -> bool:
        for outer in _hexadecimal_folders(self.root):
            for inner in _hexadecimal_folders(outer):
                with os.scandir(inner) as entries:
                    if any(is_uuid(entry.name) for entry in entries):
                        return True
        return False

    def mark(self) -> Deferred[str]:
        return self._pool.call(lambda: os.pread(self._lock_fd, 1024, 0).decode("ascii", "replace"))

    def set_mark(self, mark: str) -> Deferred[None]:
        return self._pool.call(self._set_mark, mark)

    def _set_mark(self, mark: str) -> None:
        try:
            os.ftruncate(self._lock_fd, 0)
            os.pwrite(self._lock_fd, mark.encode("ascii"), 0)
            os.fsync(self._lock_fd)
        except OSError as e:
            raise write_error(e) from e

    def close(self) -> Deferred[None]:
        return self._pool.call(self._unlock)

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # Writing

    def spool(self, *, is_object: bool = True) -> ISpool:
        path = self._new_spool_path() if is_object or self._temporary is None else self._temporary.new_path()
        return Spool(path, self._pool.call, self._md5 and is_object)

    def adopt_blocking(self, path: str) -> ISpool:
        spool = Spool(path, self._pool.call, self._md5)
        spool.adopt_blocking()
        return spool

    def spool_path(self) -> str:
        """A path for a file that somebody else makes and removes; the next start removes what is left."""
        return self._new_spool_path()

    def _new_spool_path(self) -> str:
        return os.path.join(self._spool, secrets.token_hex(16))

    def create(self, data: bytes | ISpool, content_type: int, compression: Compression) -> Deferred[Attachment]:
        return self._pool.call(self.create_blocking, data, content_type, compression)

    def create_blocking(
        self, data: bytes | ISpool, content_type: int, compression: Compression, asks_scripts: bool = True
    ) -> Attachment:
        with self._metrics.timed("orthanc_storage_create_duration_ms"):
            attachment = self._create(data, content_type, compression)
        self._metrics.add("orthanc_storage_written_bytes", attachment.compressed_size)
        return attachment

    def _create(self, data: bytes | ISpool, content_type: int, compression: Compression) -> Attachment:
        try:
            uuid = self._names.next()
            if not isinstance(data, bytes):
                assert isinstance(data, Spool)
                return self._create_from_spool(data, uuid, content_type, compression)
            if compression is Compression.NONE:
                md5, crc32 = self._write(iter((data,)), uuid, lambda: (self._digest(data), isal_zlib.crc32(data)))
                stored: tuple[int, str] = (len(data), md5)
            else:
                md5, crc32 = self._digest(data), isal_zlib.crc32(data)
                stored = self._write_measured(compress(iter((data,)), len(data)), uuid)
            size = len(data)
        except OSError as e:
            raise write_error(e) from e
        return attachment_of(content_type, uuid, (size, md5), crc32, compression, stored)

    def _create_from_spool(
        self, spool: Spool, uuid: str, content_type: int, compression: Compression
    ) -> Attachment:
        plain = (spool.size, spool.md5)
        if compression is Compression.NONE:
            path = spool.path
            fd = spool.take()
            self._finish(fd, path, uuid)
            return attachment_of(content_type, uuid, plain, spool.crc32, compression, plain)
        stored = self._write_measured(compress(spool.chunks(), spool.size), uuid)
        return attachment_of(content_type, uuid, plain, spool.crc32, compression, stored)

    def _make_folder(self, digits: str) -> None:
        make_folders(self.root, (digits[:2], digits[2:]), sync=self._sync)

    def _digest(self, data: bytes) -> str:
        return hashlib.md5(data, usedforsecurity=False).hexdigest() if self._md5 else ""

    def _write_measured(self, chunks: Iterator[bytes], uuid: str) -> tuple[int, str]:
        digest = hashlib.md5(usedforsecurity=False)
        size = 0

        def measured() -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        return self._write(measured(), uuid, lambda: (size, digest.hexdigest() if self._md5 else ""))

    def _write(self, chunks: Iterator[bytes], uuid: str, meanwhile: Callable[[], T]) -> T:
        """Write a file and make it durable; what `meanwhile` answers, which runs while the disk writes."""
        path = self._new_spool_path()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(fd, view) :]
            if self._sync:
                # Linux begins to write what it is told is not needed; fsync then finds less to wait for.
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            result = meanwhile()
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise
        self._finish(fd, path, uuid)
        return result

    def _finish(self, fd: int, path: str, uuid: str) -> None:
        """fsync, close, rename to the final name, sync of its folder; nothing is left behind when one fails."""
        try:
            try:
                if self._sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(path, self.path(uuid))
        except BaseException:
            os.unlink(path)
            raise
        try:
            self._folders.sync(os.path.dirname(self.path(uuid)))
        except BaseException:
            os.unlink(self.path(uuid))
            raise

    # Reading

    def reader(
        self, attachment: Attachment, offset: int = 0, length: int | None = None, *, raw: bool = False
    ) -> Deferred[IReader]:
        if not raw and self._is_cacheable(attachment):
            content = self._cache.find(attachment.uuid)
            if content is not None:
                # On the reactor: no thread has anything to do.
                return execute(MemoryReader, content, offset, length)
        return self._pool.call(self.reader_blocking, attachment, offset, length, raw)

    def reader_blocking(
        self, attachment: Attachment, offset: int = 0, length: int | None = None, raw: bool = False
    ) -> IBlockingReader:
        if not raw and self._is_cacheable(attachment):
            # What is before a range has to be inflated anyway: up to as much again is inflated for others.
            is_most = 2 * (offset + length_of(attachment.size, offset, length)) >= attachment.size
            content = self._content(attachment) if is_most else self._cache.find(attachment.uuid)
            if content is not None:
                return MemoryReader(content, offset, length)
        return self._file(attachment, offset, length, raw)

    def _file(
        self, attachment: Attachment, offset: int = 0, length: int | None = None, raw: bool = False
    ) -> FileReader:
        with self._metrics.timed("orthanc_storage_read_duration_ms"):
            reader = self._open(attachment, offset, length, raw)
        self._metrics.add("orthanc_storage_read_bytes", reader.remaining)
        return reader

    def _open(self, attachment: Attachment, offset: int, length: int | None, raw: bool) -> FileReader:
        return open_reader(self.path(attachment.uuid), self._pool.call, attachment, offset, length, raw)

    def _is_cacheable(self, attachment: Attachment) -> bool:
        """Not large plain files: the kernel keeps them in memory, and nothing is won by a second copy."""
        is_slow = not attachment.is_plain_file or attachment.size <= _SMALL
        return is_slow and self._cache.takes(attachment.size)

    def _content(self, attachment: Attachment) -> bytes:
        """A whole file, from memory or for the next who reads it."""
        with self._cache.entry(attachment.uuid) as entry:
            if entry.value is not None:
                return entry.value
            content = _rest_of(self._file(attachment))
            entry.keep(content, len(content))
            return content

    def read(self, attachment: Attachment, offset: int = 0, length: int | None = None) -> Deferred[bytes]:
        return self._pool.call(self._read, attachment, offset, length)

    def _read(self, attachment: Attachment, offset: int, length: int | None) -> bytes:
        return _rest_of(self.reader_blocking(attachment, offset, length))

    @contextlib.contextmanager
    def map(self, attachment: Attachment) -> Iterator[mmap.mmap | bytes]:
        if attachment.size == 0:
            yield b""
            return
        if self._is_cacheable(attachment):
            yield self._content(attachment)
            return
        if not attachment.is_plain_file:
            # Into a file of its own: an object of several GB must not lie in memory.
            path = self._new_spool_path()
            reader = self._file(attachment)
            try:
                with open(path, "x+b") as file:
                    os.unlink(path)
                    while chunk := reader.read_blocking(CHUNK):
                        file.write(chunk)
                    file.flush()
                    with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                        yield mapped
            except OSError as e:
                raise write_error(e) from e
            finally:
                reader.close()
            return
        try:
            with open(self.path(attachment.uuid), "rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (FileNotFoundError, ValueError) as e:
            raise InexistentFile("The file is not in the storage area") from e
        with mapped:
            yield mapped

    # Removal and repair

    def remove(self, uuids: Iterable[str]) -> Deferred[tuple[str, ...]]:
        return self._pool.call(self.remove_blocking, tuple(uuids))

    def remove_blocking(self, uuids: Iterable[str]) -> tuple[str, ...]:
        gone = []
        for uuid in uuids:
            try:
                with self._metrics.timed("orthanc_storage_remove_duration_ms"):
                    os.unlink(self.path(uuid))
            except FileNotFoundError:
                pass
            except OSError as e:
                log.error("File {uuid} cannot be removed now: {reason}", uuid=uuid, reason=e.strerror)
                continue
            gone.append(uuid)
        return tuple(gone)

    def tail(self, newer_than: float) -> Deferred[list[str]]:
        return self._pool.call(self._tail, newer_than)

    def _tail(self, newer_than: float) -> list[str]:
        # A rename changes its folder's time stamp, so older folders cannot hold a newer file.
        found = []
        for outer in _hexadecimal_folders(self.root):
            for inner in _hexadecimal_folders(outer):
                if os.stat(inner).st_mtime < newer_than:
                    continue
                with os.scandir(inner) as entries:
                    found += [
                        entry.name
                        for entry in entries
                        if is_uuid(entry.name) and entry.stat(follow_symlinks=False).st_mtime >= newer_than
                    ]
        return found


def _rest_of(reader: IBlockingReader) -> bytes:
    """What a reader has, which is closed then."""
    try:
        chunks: list[bytes] = []
        while chunk := reader.read_blocking(max(CHUNK, reader.remaining)):
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    finally:
        reader.close()


def _lock(fd: int, root: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        raise ConfigurationError([f"StorageDirectory: another process is using {root}"]) from e


def _hexadecimal_folders(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [
            entry.path
            for entry in entries
            if len(entry.name) == 2
            and all(c in "0123456789abcdef" for c in entry.name)
            and stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode)
        ]


def attachment_of(
    content_type: int,
    uuid: str,
    plain: tuple[int, str],
    crc32: int,
    compression: Compression,
    stored: tuple[int, str],
) -> Attachment:
    return Attachment(
        content_type=content_type,
        uuid=uuid,
        size=plain[0],
        md5=plain[1],
        crc32=crc32,
        compression=compression,
        compressed_size=stored[0],
        compressed_md5=stored[1],
    )

