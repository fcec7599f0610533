"""The contracts of what is kept in files: readers, spools and the storage area."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from orthanctw.model import (
    Attachment,
    Compression,
)


class IReader(Interface):
    """Uncompressed bytes of a stored file, forwards. The file stays readable when it is deleted meanwhile."""

    remaining = Attribute("Bytes that are still to come (int); -1 when nobody knows, until the end.")

    def read(length: int) -> Deferred[bytes]:
        """The next bytes, at most `length`; empty at the end. One call at a time. CorruptedFile when damaged."""

    def close() -> None:
        """Let the file go; a read that is under way ends first."""


class IBlockingReader(IReader):
    """A reader that storage threads can use."""

    def read_blocking(length: int) -> bytes:
        """As `read`, for work on a storage thread."""


class ISpool(Interface):
    """A file being received inside the storage area, not yet part of it.

    One call at a time: the next write, flush, create or discard waits for the Deferred of the one before.
    """

    size = Attribute("Bytes written so far (int).")
    path = Attribute("Where the file lies (str).")
    md5 = Attribute("Digest of what was flushed (str); empty when none is computed.")

    def write(data: bytes) -> Deferred[None]:
        """Append; fires when the bytes have left memory."""

    def flush() -> Deferred[None]:
        """Write what was gathered in memory."""

    def append_blocking(batch: list[bytes]) -> None:
        """Append at once, from a thread that may block; the caller adds to `size`."""

    def read_at(offset: int, length: int) -> bytes:
        """Blocking read of a flushed file."""

    def open() -> BinaryIO:
        """The flushed file, opened anew for reading (blocking)."""

    def reader_blocking() -> IBlockingReader:
        """A reader over the flushed file, which stays readable when it is discarded (blocking)."""

    def map() -> mmap.mmap | bytes:
        """The flushed file as a read-only buffer."""

    def discard() -> Deferred[None]:
        """Remove the file; nothing happens once `IStorageArea.create` took it."""


class IScriptedFiles(Interface):
    """What a script keeps in place of files. All but the first two are blocking, for storage threads."""

    def is_active() -> bool:
        """Whether new files are for the script."""

    def reads_ranges() -> bool:
        """Whether the script reads less than a whole file at a time."""

    def create(uuid: str, content_type: int, compression: Compression, stored: bytes, content: bytes) -> bytes:
        """Have `stored` kept, which is `content` or its compressed form; answers what the script notes of it."""

    def read(attachment: Attachment, offset: int, length: int) -> bytes:
        """Exactly `length` bytes of what is stored. CorruptedFile when the script has others."""

    def remove(uuids: Sequence[str]) -> Mapping[str, bool]:
        """Remove those that a script keeps; whether they are gone now. Others are left out."""


class IStorageArea(Interface):
    """Files named by UUIDs of ours in ``ab/cd`` folders."""

    def open() -> Deferred[None]:
        """Make the folders, take the lock, remove what an earlier process left in the spool folder."""

    def close() -> Deferred[None]:
        """Give the lock back."""

    def holds_objects() -> Deferred[bool]:
        """Whether any object lies in the storage area."""

    def mark() -> Deferred[str]:
        """What `set_mark` wrote last: tells whether index and storage area belong together."""

    def set_mark(mark: str) -> Deferred[None]:
        """Write a text, durably."""

    def spool(*, is_object: bool = True) -> ISpool:
        """A new file to receive into; its MD5 is computed only if it may become part of the storage area."""

    def spool_path() -> str:
        """A path for a file that somebody else makes and removes; the next start removes what is left."""

    def adopt_blocking(path: str) -> ISpool:
        """A file of the spool folder that somebody else has made, as if it was received (blocking).

        The file is removed when it cannot be read.
        """

    def create(data: bytes | ISpool, content_type: int, compression: Compression) -> Deferred[Attachment]:
        """Make content durable under a new UUID, its folder included.

        Raises FullStorage when the disk is full; then nothing is left behind.
        """

    def may_ask_scripts() -> bool:
        """Whether new files are given to a script, which may ask the server, also to write."""

    def create_blocking(
        data: bytes | ISpool, content_type: int, compression: Compression, asks_scripts: bool = True
    ) -> Attachment:
        """As `create`, for work on a storage thread; with `asks_scripts` off on one that scripts may wait for."""

    def reader(
        attachment: Attachment, offset: int = 0, length: int | None = None, *, raw: bool = False
    ) -> Deferred[IReader]:
        """A reader over a range of the uncompressed bytes (`raw`: of the file as it lies on the disk, never of memory).

        Raises InexistentFile, BadRange, CorruptedFile.
        """

    def reader_blocking(attachment: Attachment, offset: int = 0, length: int | None = None) -> IBlockingReader:
        """As `reader`, for work on a storage thread."""

    def read(attachment: Attachment, offset: int = 0, length: int | None = None) -> Deferred[bytes]:
        """The bytes of a range at once, for small ones."""

    def map(attachment: Attachment) -> AbstractContextManager[mmap.mmap | bytes]:
        """The uncompressed bytes as a read-only buffer, for blocking work on a storage thread."""

    def call(function: Callable[..., object], *arguments: object) -> Deferred[Any]:
        """Run blocking work on a storage thread."""

    def path(uuid: str) -> str:
        """Where the file lies, when a script does not keep it."""

    def remove(uuids: Iterable[str]) -> Deferred[tuple[str, ...]]:
        """Remove files; answers those that are gone now (absent ones count as gone)."""

    def remove_blocking(uuids: Iterable[str]) -> tuple[str, ...]:
        """As `remove`, for work on a storage thread."""

    def tail(newer_than: float) -> Deferred[list[str]]:
        """UUIDs of files modified after a time stamp: those that a crash may have left without a row."""
