"""An archive whose members are stored as they are: every byte has its place before any is read.

That makes its length known, and lets a download go on in the middle without reading what lies before.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Final

import attrs
from isal import isal_zlib
from twisted.internet.defer import Deferred
from zope.interface import implementer

from orthanctw.archives.zipformat import MAXIMUM_32, Entry, central_size, end_records, end_size, local_size
from orthanctw.errors import BadRange, CorruptedFile
from orthanctw.interfaces import IBlockingReader, IStorageArea
from orthanctw.model import Attachment

#: Bytes of the central directory that are made at a time.
_RECORDS: Final = 64 * 1024


@attrs.frozen(kw_only=True)
class Member:
    """A file in an archive: one of the storage area, or `content`."""

    name: bytes
    stamp: int
    size: int
    crc32: int
    attachment: Attachment | None = None
    content: bytes = b""


class Layout:
    """Where everything lies; made on a storage thread.

    Its segments are header and data of each member, then the records of the central directory one by one, then what
    ends it. Their starts are kept, their bytes are made when they are read.

    Parameters
    ----------
    members : sequence of Member
    utf8 : bool
        Names are UTF-8.
    """

    def __init__(self, members: Sequence[Member], *, utf8: bool) -> None:
        self.members = members
        self._utf8 = utf8
        starts, position = array("Q"), 0
        for member in members:
            starts.append(position)
            position += local_size(member.name, member.size >= MAXIMUM_32)
            starts.append(position)
            position += member.size
        self._directory = position
        for place, member in enumerate(members):
            starts.append(position)
            position += central_size(member.name, member.size, starts[2 * place])
        self._end = position
        starts.append(position)
        position += end_size(len(members), self._directory, self._end - self._directory)
        starts.append(position)
        self._starts = starts
        self.size: int = position
        #: Of all that the archive's bytes depend on.
        self.digest = self._digest()

    def _digest(self) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        for place, member in enumerate(self.members):
            digest.update(self._entry(member).central(self._starts[2 * place]))
        return digest.hexdigest()

    def borders(self) -> Sequence[int]:
        """Where segments start, and the end of the archive."""
        return self._starts

    def segment_at(self, position: int) -> tuple[int, int]:
        """The number of the segment that the byte at `position` is in, and its offset there."""
        number = bisect_right(self._starts, position) - 1
        return number, position - self._starts[number]

    def data_of(self, number: int) -> Member | None:
        """The member whose data a segment is, or None."""
        return self.members[number // 2] if number < 2 * len(self.members) and number % 2 else None

    def record(self, number: int) -> bytes:
        """The bytes of a segment that is no data."""
        count = len(self.members)
        if number < 2 * count:
            return self._entry(self.members[number // 2]).local()
        if number < 3 * count:
            place = number - 2 * count
            return self._entry(self.members[place]).central(self._starts[2 * place])
        return end_records(count, self._directory, self._end - self._directory)

    def _entry(self, member: Member) -> Entry:
        return Entry(
            name=member.name,
            utf8=self._utf8,
            stamp=member.stamp,
            crc32=member.crc32,
            size=member.size,
            compressed_size=member.size,
            large=member.size >= MAXIMUM_32,
        )


@implementer(IBlockingReader)
class LayoutReader:
    """Reads a range of an archive. The checksum of a member that is read as a whole is compared.

    Parameters
    ----------
    ended : callable, optional
        Called when the reader is closed after it was used, with whether everything was read.
    """

    def __init__(
        self,
        layout: Layout,
        storage: IStorageArea,
        offset: int = 0,
        length: int | None = None,
        ended: Callable[[bool], None] | None = None,
    ) -> None:
        if not 0 <= offset <= layout.size:
            raise BadRange("The range starts beyond the end")
        self.remaining = layout.size - offset if length is None else min(length, layout.size - offset)
        self._layout = layout
        self._storage = storage
        self._position = self._start = offset
        self._ended = ended
        self._file: IBlockingReader | None = None
        self._member: Member | None = None
        self._crc32: int | None = None
        self._busy = False
        self._closed = False
        self._lock = Lock()

    def read(self, length: int) -> Deferred[bytes]:
        self._busy = True
        return self._storage.call(self.read_blocking, length)

    def read_blocking(self, length: int) -> bytes:
        parts: list[bytes] = []
        left = min(length, self.remaining)
        try:
            while left:
                piece = self._piece(left)
                parts.append(piece)
                left -= len(piece)
                self._position += len(piece)
                self.remaining -= len(piece)
        finally:
            with self._lock:
                self._busy = False
                if self._closed:
                    self._release()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _piece(self, length: int) -> bytes:
        """The next bytes, at least one and at most `length`."""
        if self._file is not None:
            return self._data(length)
        number, offset = self._layout.segment_at(self._position)
        member = self._layout.data_of(number)
        if member is None:
            return self._records(number, offset, length)
        if member.attachment is None:
            return member.content[offset : offset + length]
        self._file = self._storage.reader_blocking(member.attachment, offset)
        self._member, self._crc32 = member, None if offset else 0
        return self._data(length)

    def _records(self, number: int, offset: int, length: int) -> bytes:
        data = self._layout.record(number)[offset:]
        if number < 2 * len(self._layout.members):
            return data[:length]
        # The central directory may have many: one step each would take longer than making them.
        parts = [data]
        size, last = len(data), 3 * len(self._layout.members)
        while size < min(length, _RECORDS) and number < last:
            number += 1
            parts.append(self._layout.record(number))
            size += len(parts[-1])
        return b"".join(parts)[:length]

    def _data(self, length: int) -> bytes:
        assert self._file is not None and self._member is not None
        data: bytes = self._file.read_blocking(length)
        if self._crc32 is not None:
            self._crc32 = isal_zlib.crc32(data, self._crc32)
        if self._file.remaining == 0:
            self._release()
            if self._crc32 is not None and self._crc32 != self._member.crc32:
                raise CorruptedFile("The stored file is not the one that the index knows")
        return data

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self._busy:
                self._release()
        if self._ended is not None and self._position != self._start:
            self._ended(self.remaining == 0)

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
