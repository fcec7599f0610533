"""Many frames as one array: decoded one after the other, while the client reads."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from orthanctw.errors import BadFileFormat, BadRequest
from orthanctw.interfaces import IReader
from orthanctw.pictures import Image, Numbers, Pictures
from orthanctw.rest.call import Call
from orthanctw.rest.reply import BINARY, Reply

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
