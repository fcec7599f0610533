"""Records of a ZIP file (PKWARE APPNOTE 6.3), as bytes: local headers, the central directory and its end."""

from __future__ import annotations

import struct
import time
from calendar import timegm
from functools import lru_cache
from typing import Final

import attrs

STORED: Final = 0
DEFLATED: Final = 8
#: Sizes follow the data; names are UTF-8 (APPNOTE section 4.4.4).
_DESCRIPTOR: Final = 1 << 3
_UTF8: Final = 1 << 11
#: Fields that hold these values refer to their ZIP64 counterparts.
MAXIMUM_32: Final = 0xFFFFFFFF
MAXIMUM_16: Final = 0xFFFF
#: Version needed to extract: with folders and deflate, with ZIP64.
_VERSION: Final = 20
_VERSION_64: Final = 45
_EXTRA_64: Final = 1

_LOCAL: Final = struct.Struct("<4sHHHIIIIHH")
_CENTRAL: Final = struct.Struct("<4sHHHHIIIIHHHHHII")
_LOCAL_64: Final = struct.Struct("<HHQQ")
_DATA: Final = struct.Struct("<4sIII")
_DATA_64: Final = struct.Struct("<4sIQQ")
_END_64: Final = struct.Struct("<4sQHHIIQQQQ4sIQI")
_END: Final = struct.Struct("<4sHHHHIIH")
#: Earliest time that a ZIP can tell, in its own form: 1 January 1980.
_NO_TIME: Final = 1 << 5 | 1


@attrs.frozen(kw_only=True)
class Entry:
    """A member as the records tell it. `stamp` is MS-DOS date and time, `streamed` that sizes follow the data.

    `large` says that sizes have 64 bits in the local header; it is decided before they are known.
    """

    name: bytes
    utf8: bool
    stamp: int
    crc32: int
    size: int
    compressed_size: int
    method: int = STORED
    streamed: bool = False
    large: bool = False

    @property
    def _flags(self) -> int:
        return (_UTF8 if self.utf8 else 0) | (_DESCRIPTOR if self.streamed else 0)

    def local(self) -> bytes:
        """The header before the data."""
        sizes = (self.crc32, self.compressed_size, self.size)
        extra = b""
        if self.streamed:
            sizes = (0, 0, 0)
        if self.large:
            extra = _LOCAL_64.pack(_EXTRA_64, 16, sizes[2], sizes[1])
            sizes = (sizes[0], MAXIMUM_32, MAXIMUM_32)
        version = _VERSION_64 if self.large else _VERSION
        head = _LOCAL.pack(
            b"PK\3\4", version, self._flags, self.method, self.stamp, *sizes, len(self.name), len(extra)
        )
        return head + self.name + extra

    def descriptor(self) -> bytes:
        """The record after the data, of a member that is streamed."""
        layout = _DATA_64 if self.large else _DATA
        return layout.pack(b"PK\7\10", self.crc32, self.compressed_size, self.size)

    def central(self, offset: int) -> bytes:
        """The record in the central directory of a member whose local header lies at `offset`."""
        numbers = [self.size, self.compressed_size, offset]
        # In this order, and only those that do not fit (APPNOTE section 4.5.3).
        wide = [number for number in numbers if number >= MAXIMUM_32]
        extra = struct.pack(f"<HH{len(wide)}Q", _EXTRA_64, 8 * len(wide), *wide) if wide else b""
        size, compressed_size, place = (min(number, MAXIMUM_32) for number in numbers)
        version = _VERSION_64 if wide or self.large else _VERSION
        head = _CENTRAL.pack(
            *(b"PK\1\2", version, version, self._flags, self.method, self.stamp, self.crc32),
            *(compressed_size, size, len(self.name), len(extra), 0, 0, 0, 0, place),
        )
        return head + self.name + extra


def local_size(name: bytes, large: bool) -> int:
    """Length of `Entry.local`."""
    return _LOCAL.size + len(name) + (_LOCAL_64.size if large else 0)


def central_size(name: bytes, size: int, offset: int) -> int:
    """Length of `Entry.central` of a member that is stored."""
    wide = 2 * (size >= MAXIMUM_32) + (offset >= MAXIMUM_32)
    return _CENTRAL.size + len(name) + (4 + 8 * wide if wide else 0)


def end_records(count: int, start: int, size: int) -> bytes:
    """What ends an archive of `count` members whose central directory lies at `start`."""
    records = b""
    if count >= MAXIMUM_16 or start >= MAXIMUM_32 or size >= MAXIMUM_32:
        records = _END_64.pack(
            *(b"PK\6\6", _END_64.size - 12 - 20, _VERSION_64, _VERSION_64, 0, 0, count, count, size, start),
            *(b"PK\6\7", 0, start + size, 1),
        )
    few = min(count, MAXIMUM_16)
    return records + _END.pack(b"PK\5\6", 0, 0, few, few, min(size, MAXIMUM_32), min(start, MAXIMUM_32), 0)


def end_size(count: int, start: int, size: int) -> int:
    """Length of `end_records`."""
    return len(end_records(count, start, size))


@lru_cache(1024)
def dos_stamp(date: str) -> int:
    """MS-DOS date and time, in local time as they are meant, of ``yyyymmddThhmmss`` in UTC."""
    try:
        moment = time.localtime(timegm(time.strptime(date[:15], "%Y%m%dT%H%M%S")))
    except ValueError:
        return _NO_TIME << 16
    if not 1980 <= moment.tm_year < 2108:
        return _NO_TIME << 16
    day = (moment.tm_year - 1980) << 9 | moment.tm_mon << 5 | moment.tm_mday
    return day << 16 | moment.tm_hour << 11 | moment.tm_min << 5 | min(moment.tm_sec, 59) // 2
