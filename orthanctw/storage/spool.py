"""A file being received: written by the storage threads, in the storage area's own spool folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

from isal import isal_zlib
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from orthanctw.errors import CannotWriteFile, FullStorage, OrthancError
from orthanctw.interfaces import ISpool
from orthanctw.storage.compression import CHUNK
from orthanctw.storage.reader import FileReader

#: Bytes gathered before a thread is asked to write them.
_BATCH = 1024 * 1024

Call = Callable[..., Deferred[Any]]


def write_error(error: OSError) -> OrthancError:
    """The failure that a client is told when the disk refuses `error`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return FullStorage("No space left in the storage area")
    return CannotWriteFile("The storage area cannot be written")


@implementer(ISpool)
class Spool:
    """See `ISpool`. MD5 and CRC-32 are computed while the bytes pass, so that nobody reads them again.

    Parameters
    ----------
    path : str
        The file; made by the first write.
    call : callable
        Runs blocking work on a storage thread, one after the other for this file.
    md5 : bool
        ``StoreMD5ForAttachments``.
    """

    def __init__(self, path: str, call: Call, md5: bool) -> None:
        self.path = path
        self.size = 0
        self.crc32 = 0
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._call = call
        self._fd = -1
        self._batch: list[bytes] = []
        self._batched = 0
        self._taken = False

    @property
    def md5(self) -> str:
        return self._md5.hexdigest() if self._md5 is not None else ""

    def write(self, data: bytes) -> Deferred[None]:
        self._batch.append(data)
        self._batched += len(data)
        self.size += len(data)
        if self._batched < _BATCH:
            return succeed(None)
        return self.flush()

    def flush(self) -> Deferred[None]:
        """Write what was gathered."""
        batch, self._batch, self._batched = self._batch, [], 0
        return self._call(self.append_blocking, batch)

    def append_blocking(self, batch: list[bytes]) -> None:
        """As `write`, from a thread that may block, and not gathered; does not count into `size`."""
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            for data in batch:
                self._digest(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(self._fd, view) :]
        except OSError as e:
            raise write_error(e) from e

    def adopt_blocking(self) -> None:
        """Take the file at `path`, which somebody else has made, for what was written; it is removed on failure."""
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fchmod(self._fd, os.fstat(self._fd).st_mode & 0o640)
                for data in self.chunks():
                    self.size += len(data)
                    self._digest(data)
            except BaseException:
                self._taken = True
                self._discard_blocking()
                raise
        except OSError as e:
            raise write_error(e) from e

    def _digest(self, data: bytes) -> None:
        self.crc32 = isal_zlib.crc32(data, self.crc32)
        if self._md5 is not None:
            self._md5.update(data)

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def open(self) -> BinaryIO:
        return open(self.path, "rb")

    def reader_blocking(self) -> FileReader:
        """See `ISpool`."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return FileReader(fd, partial(os.read, fd), self.size, self._call)

    def map(self) -> mmap.mmap | bytes:
        """The whole file as a read-only buffer, without reading it. Flushed before."""
        return mmap.mmap(self._fd, self.size, prot=mmap.PROT_READ) if self.size else b""

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the start (blocking)."""
        offset = 0
        while data := self.read_at(offset, CHUNK):
            yield data
            offset += len(data)

    def take(self) -> int:
        """Hand the open file over: `discard` does nothing to it any more."""
        self._taken = True
        fd, self._fd = self._fd, -1
        return fd

    def discard(self) -> Deferred[None]:
        self._batch.clear()
        if self._taken or self._fd < 0:
            return succeed(None)
        self._taken = True
        return self._call(self._discard_blocking)

    def _discard_blocking(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)
        # A program that was given it may have moved it.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
