"""The two ways in which a file lies on the disk: plain, or Orthanc's size-prefixed zlib (streaming both ways)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from isal import isal_zlib

from orthanctw.errors import CorruptedFile

#: Bytes that pass at a time between disk, compressor and network.
CHUNK = 256 * 1024
_PREFIX = struct.Struct("<Q")
#: What the decompressor raises; not zlib's own error.
DAMAGED: Any = isal_zlib.error
#: ISA-L's best; about zlib's own level 3 in size, five times as fast.
_LEVEL = 2


def compress(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The stored form of `size` uncompressed bytes: their number as 8 bytes, little endian, then a zlib stream."""
    yield _PREFIX.pack(size)
    if size == 0:
        return
    compressor = isal_zlib.compressobj(_LEVEL)
    for chunk in chunks:
        out = compressor.compress(chunk)
        if out:
            yield out
    yield compressor.flush()


class Inflater:
    """Uncompressed bytes of a stored file, read forwards.

    Parameters
    ----------
    read : callable
        ``read(n)``, the next `n` bytes of the stored file; fewer at its end.

    Raises
    ------
    CorruptedFile
        From `read`, when the stream is damaged or shorter than its prefix says.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        prefix = read(_PREFIX.size)
        if len(prefix) != _PREFIX.size:
            raise CorruptedFile("The compressed file has no size")
        (self.size,) = _PREFIX.unpack(prefix)
        self._left = self.size
        self._decompressor = isal_zlib.decompressobj()
        self._pending = b""

    def read(self, length: int) -> bytes:
        """The next bytes, `length` at most; empty at the end."""
        length = min(length, self._left)
        out: list[bytes] = []
        while length > 0:
            if not self._pending and not self._decompressor.eof:
                self._pending = self._read(CHUNK)
            try:
                data = self._decompressor.decompress(self._pending, length)
            except DAMAGED as e:
                raise CorruptedFile("The compressed file is damaged") from e
            self._pending = self._decompressor.unconsumed_tail
            if not data and not self._pending and (self._decompressor.eof or self._at_end()):
                raise CorruptedFile("The compressed file is truncated")
            out.append(data)
            length -= len(data)
            self._left -= len(data)
        return b"".join(out)

    def _at_end(self) -> bool:
        self._pending = self._read(CHUNK)
        return not self._pending

    def skip(self, length: int) -> None:
        """Read and forget."""
        while length > 0:
            data = self.read(min(length, CHUNK))
            if not data:
                return
            length -= len(data)
