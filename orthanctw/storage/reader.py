"""Reading a stored file: ranges of its uncompressed bytes, streamed from an open descriptor."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from orthanctw.errors import BadRange, CorruptedFile, InexistentFile
from orthanctw.interfaces import IBlockingReader
from orthanctw.model import Attachment, Compression
from orthanctw.storage.compression import Inflater


@implementer(IBlockingReader)
class FileReader:
    """See `IBlockingReader`."""

    def __init__(self, fd: int, source: Callable[[int], bytes], remaining: int, call: Callable[..., Deferred[Any]]):
        self._fd = fd
        self._source = source
        self._call = call
        self._busy = False
        self._closed = False
        self._lock = Lock()
        self.remaining = remaining

    def read(self, length: int) -> Deferred[bytes]:
        self._busy = True
        return self._call(self.read_blocking, length)

    def read_blocking(self, length: int) -> bytes:
        """As `read`, from a thread that may block."""
        try:
            data = self._source(min(length, self.remaining))
        finally:
            with self._lock:
                self._busy = False
                if self._closed:
                    self._release()
        if not data and self.remaining:
            raise CorruptedFile("The stored file is shorter than the index says")
        self.remaining -= len(data)
        return data

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if not self._busy:
                self._release()

    def __del__(self) -> None:
        # Who asked for it may have given up before a thread had opened it: nobody closes it then.
        self._release()

    def _release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@implementer(IBlockingReader)
class MemoryReader:
    """A reader over bytes that are in memory."""

    def __init__(self, content: bytes, offset: int, length: int | None) -> None:
        """Raises BadRange when `offset` lies beyond the end."""
        self._content = content
        self._position = offset
        self.remaining = length_of(len(content), offset, length)

    def read(self, length: int) -> Deferred[bytes]:
        return succeed(self.read_blocking(length))

    def read_blocking(self, length: int) -> bytes:
        """As `read`."""
        data = self._content[self._position : self._position + min(length, self.remaining)]
        self._position += len(data)
        self.remaining -= len(data)
        return data

    def close(self) -> None:
        self._content, self.remaining = b"", 0


def length_of(size: int, offset: int, length: int | None) -> int:
    """Number of bytes of a range of `size` bytes. Raises BadRange when it begins beyond their end."""
    if offset > size or offset < 0:
        raise BadRange("The range starts beyond the end")
    return size - offset if length is None else min(length, size - offset)


def open_reader(
    path: str,
    call: Callable[..., Deferred[Any]],
    attachment: Attachment,
    offset: int,
    length: int | None,
    raw: bool,
) -> FileReader:
    """Open a stored file for a range of its bytes (blocking).

    Raises
    ------
    InexistentFile
        When it is not there.
    BadRange
        When `offset` lies beyond its end.
    """
    size = attachment.compressed_size if raw else attachment.size
    remaining = length_of(size, offset, length)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as e:
        raise InexistentFile("The file is not in the storage area") from e
    if raw or attachment.compression is Compression.NONE:
        if offset:
            os.lseek(fd, offset, os.SEEK_SET)
        return FileReader(fd, lambda n: os.read(fd, n), remaining, call)
    try:
        inflater = Inflater(lambda n: os.read(fd, n))
        inflater.skip(offset)
    except BaseException:
        os.close(fd)
        raise
    return FileReader(fd, inflater.read, remaining, call)
