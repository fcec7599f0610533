"""Frames while the client reads: many as one array, decoded one after the other; one as it is stored."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence

import attrs
from isal import isal_zlib
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from orthanctw.errors import BadFileFormat, BadRequest
from orthanctw.interfaces import IReader
from orthanctw.pictures import Image, Numbers, Pictures
from orthanctw.rest.call import Call
from orthanctw.rest.reply import BINARY, Reply

GZIP = "application/gzip"

#: Bytes that the reactor compresses at a time.
_CHUNK = 256 * 1024
#: Frames that are decoded ahead of the client.
_AHEAD = 4
#: Bytes of an array that is compressed: it lies in memory then.
_COMPRESSED_LIMIT = 1 << 29


@attrs.frozen
class FrameSource:
    """One frame of an image."""

    image: Image
    frame: int


def npy_head(kind: str, shape: Sequence[int], frames: int | None) -> bytes:
    """The head of a ``.npy`` file, version 1.0: of one frame, or of a stack."""
    inner = ",".join(map(str, shape))
    outer = inner if frames is None else f"{frames}, {inner}"
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({outer}), }}"
    padding = -(10 + len(text) + 1) % 64
    body = (text + " " * padding + "\n").encode("ascii")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body


async def numpy_reply(pictures: Pictures, sources: Sequence[FrameSource], call: Call, *, is_stack: bool) -> Reply:
    """The frames as ``.npy``, or with ``compress`` as ``.npz``. BadRequest when there are none."""
    if not sources:
        raise BadRequest("There are no frames")
    rescale = call.boolean("rescale", True)
    first = await pictures.numbers(sources[0].image, sources[0].frame, rescale=rescale)
    head = npy_head(first.kind, first.shape, len(sources) if is_stack else None)
    reader = ArrayReader(pictures, sources, head, first, rescale=rescale)
    if call.boolean("compress"):
        if reader.remaining > _COMPRESSED_LIMIT:
            raise BadRequest("The array is too large to be compressed")
        return Reply(await pictures.npz(await reader.all()), BINARY)
    return Reply(content_type=BINARY, reader=reader)


@implementer(IReader)
class ArrayReader:
    """The head of an array, then frame after frame; those that follow are decoded ahead.

    A frame of another size than the first breaks the array: the client's connection is cut.
    """

    def __init__(
        self, pictures: Pictures, sources: Sequence[FrameSource], head: bytes, first: Numbers, *, rescale: bool
    ) -> None:
        self.remaining = len(head) + first.size * len(sources)
        self._pictures = pictures
        self._sources = sources
        self._rescale = rescale
        self._size = first.size
        self._kind = first.kind
        self._next = 1
        self._ahead: list[Deferred[Numbers]] = []
        self._pending: deque[bytes] = deque((head, *first.pieces))

    def read(self, length: int) -> Deferred[bytes]:
        if self.remaining == 0:
            return succeed(b"")
        if self._pending:
            return succeed(self._take(length))
        return Deferred.fromCoroutine(self._read(length))

    def _take(self, length: int) -> bytes:
        data = self._pending.popleft()
        if len(data) > length:
            self._pending.appendleft(data[length:])
            data = data[:length]
        self.remaining -= len(data)
        return data

    async def _read(self, length: int) -> bytes:
        self._look_ahead()
        found = await self._ahead.pop(0)
        if found.size != self._size or found.kind != self._kind:
            raise BadFileFormat("The frames are of different sizes")
        self._pending.extend(found.pieces)
        self._look_ahead()
        return self._take(length)

    def _look_ahead(self) -> None:
        while len(self._ahead) < _AHEAD and self._next < len(self._sources):
            source = self._sources[self._next]
            self._next += 1
            numbers = self._pictures.numbers(source.image, source.frame, rescale=self._rescale)
            self._ahead.append(Deferred.fromCoroutine(numbers))

    async def all(self) -> bytes:
        """The whole array."""
        chunks = []
        while self.remaining:
            chunks.append(await self.read(self.remaining))
        return b"".join(chunks)

    def close(self) -> None:
        """Nobody waits for the frames ahead any more."""
        self._pending.clear()
        ahead, self._ahead = self._ahead, []
        for waiting in ahead:
            waiting.addErrback(lambda _: None)
            waiting.cancel()


@implementer(IReader)
class FragmentReader:
    """The pieces of a frame, out of a reader over the place of all of them; see `Pictures.raw`."""

    def __init__(self, source: IReader, pieces: Sequence[tuple[int, int]]) -> None:
        self._source = source
        self._pieces = deque(pieces)
        self._position = 0
        self.remaining = sum(length for _, length in pieces)

    def read(self, length: int) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._read(length))

    async def _read(self, length: int) -> bytes:
        found = b""
        while self.remaining and not found:
            found = self._frame_of(await self._source.read(length))
            self.remaining -= len(found)
        return found

    def _frame_of(self, data: bytes) -> bytes:
        """What of the next bytes of the file belongs to the frame."""
        start, self._position = self._position, self._position + len(data)
        found = []
        while self._pieces and self._pieces[0][0] < self._position:
            offset, length = self._pieces[0]
            found.append(data[max(offset - start, 0) : offset + length - start])
            if offset + length > self._position:
                break
            self._pieces.popleft()
        return found[0] if len(found) == 1 else b"".join(found)

    def close(self) -> None:
        self._source.close()


@implementer(IReader)
class GzipReader:
    """What another reader has, within gzip."""

    def __init__(self, source: IReader) -> None:
        self.remaining = -1
        self._source = source
        self._compressor = isal_zlib.compressobj(1, wbits=31)
        self._pending = b""
        self._is_flushed = False

    def read(self, length: int) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._read(length))

    async def _read(self, length: int) -> bytes:
        while not self._pending and not self._is_flushed:
            if self._source.remaining:
                self._pending = self._compressor.compress(await self._source.read(_CHUNK))
            else:
                self._pending, self._is_flushed = self._compressor.flush(), True
        data, self._pending = self._pending[:length], self._pending[length:]
        if self._is_flushed and not self._pending:
            self.remaining = 0
        return data

    def close(self) -> None:
        self._source.close()


async def raw_reply(pictures: Pictures, image: Image, frame: int) -> Reply:
    """The bytes of a frame as they are stored."""
    return Reply(content_type=BINARY, reader=FragmentReader(*await pictures.raw(image, frame)))


async def gzip_reply(pictures: Pictures, image: Image, frame: int) -> Reply:
    """The bytes of a frame as they are stored, within gzip."""
    return Reply(content_type=GZIP, reader=GzipReader(FragmentReader(*await pictures.raw(image, frame))))
