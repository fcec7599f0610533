"""An archive that is made while it is read, of a length that is not known: objects transcoded, or deflated."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

import attrs
from isal import isal_zlib

from orthanctw.archives.zipformat import DEFLATED, MAXIMUM_32, STORED, Entry, end_records
from orthanctw.errors import CorruptedFile
from orthanctw.interfaces import IReader, IStorageArea
from orthanctw.streams import PieceReader

_CHUNK: Final = 1024 * 1024
#: ISA-L's best; nobody waits for it where the disk or the network is slower.
_LEVEL: Final = 2
_RAW: Final = -15
#: Files from this size on may have 4 GB when they are deflated, which adds a little to what does not shrink.
_LARGE: Final = MAXIMUM_32 - (16 << 20)


@attrs.frozen(kw_only=True)
class Source:
    """A member to be: `open` answers its bytes, or a reader for them, with their CRC-32 where that is known."""

    name: bytes
    stamp: int
    open: Callable[[], Awaitable[tuple[bytes | IReader, int | None]]]


@attrs.define
class _Progress:
    """How far a member came."""

    crc32: int = 0
    size: int = 0
    compressed_size: int = 0


class _Packer:
    """Bytes of a member on their way into the archive (blocking)."""

    def __init__(self, *, deflate: bool) -> None:
        self._compressor: Any = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW) if deflate else None
        self.progress = _Progress()

    def pack(self, data: bytes, is_last: bool) -> bytes:
        """What comes out for some bytes."""
        progress = self.progress
        progress.crc32 = isal_zlib.crc32(data, progress.crc32)
        progress.size += len(data)
        if self._compressor is not None:
            data = self._compressor.compress(data) + (self._compressor.flush() if is_last else b"")
        progress.compressed_size += len(data)
        return data


class Stream:
    """The bytes of an archive, piece by piece.

    Parameters
    ----------
    sources : callable
        Answers the members; they are asked for one after the other.
    """

    def __init__(
        self,
        sources: Callable[[], AsyncGenerator[Source, None]],
        storage: IStorageArea,
        *,
        utf8: bool,
        deflate: bool,
    ) -> None:
        self._sources = sources
        self._storage = storage
        self._utf8 = utf8
        self._deflate = deflate
        #: Bytes made, and members that are complete.
        self.size = 0
        self.members = 0

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Everything, in pieces of any length."""
        directory: list[bytes] = []
        async with aclosing(self._sources()) as sources:
            async for source in sources:
                start = self.size
                content, crc32 = await source.open()
                async with aclosing(self._member(source, content, crc32, directory, start)) as pieces:
                    async for piece in pieces:
                        self.size += len(piece)
                        yield piece
                self.members += 1
        start, size = self.size, sum(map(len, directory))
        end = end_records(len(directory), start, size)
        self.size += size + len(end)
        for place in range(0, len(directory), 1000):
            yield b"".join(directory[place : place + 1000])
        yield end

    async def _member(
        self, source: Source, content: bytes | IReader, crc32: int | None, directory: list[bytes], start: int
    ) -> AsyncGenerator[bytes, None]:
        size = len(content) if isinstance(content, bytes) else content.remaining
        if isinstance(content, bytes) and not self._deflate:
            crc32 = await self._storage.call(isal_zlib.crc32, content)
        entry = Entry(
            name=source.name,
            utf8=self._utf8,
            stamp=source.stamp,
            crc32=crc32 or 0,
            size=size,
            compressed_size=size,
            method=DEFLATED if self._deflate else STORED,
            # What a program that reads along can only know when it is told before the data.
            streamed=self._deflate or crc32 is None,
            large=size >= _LARGE,
        )
        yield entry.local()
        packer = _Packer(deflate=self._deflate)
        if isinstance(content, bytes):
            for place in range(0, max(1, size), _CHUNK):
                part = content[place : place + _CHUNK]
                yield await self._storage.call(packer.pack, part, place + _CHUNK >= size)
        else:
            try:
                is_last = False
                while not is_last:
                    # By the reader's own call: it knows then that it must not close a file that a thread is at.
                    data = await content.read(_CHUNK)
                    # Also an empty file has a last piece.
                    is_last = content.remaining == 0
                    yield await self._storage.call(packer.pack, data, is_last)
            finally:
                content.close()
        progress = packer.progress
        if crc32 is not None and progress.crc32 != crc32:
            raise CorruptedFile("The stored file is not the one that the index knows")
        entry = attrs.evolve(
            entry, crc32=progress.crc32, size=progress.size, compressed_size=progress.compressed_size
        )
        if entry.streamed:
            yield entry.descriptor()
        directory.append(entry.central(start))


class StreamReader(PieceReader):
    """Reads a stream; `remaining` is -1 until its end.

    Parameters
    ----------
    ended : callable, optional
        Called when the reader is closed after it was used, with whether everything was read.
    """

    def __init__(self, stream: Stream, ended: Callable[[bool], None] | None = None) -> None:
        super().__init__(stream.pieces())
        self._stream = stream
        self._ended = ended

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        if self._ended is not None and self._stream.size:
            self._ended(self.remaining == 0)
