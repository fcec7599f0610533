"""Large answers are encoded off the reactor: as JSON, or as XML for clients that accept nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import attrs
import orjson

from orthanctw.rest import xml
from orthanctw.rest.call import Call
from orthanctw.rest.reply import JSON, Reply, encode, json_reply
from orthanctw.streams import PieceReader
from orthanctw.threads import NamedPool

#: Items of a list from which a thread encodes it; below, the hop would cost more.
THRESHOLD = 200
#: The same for items that have to be made first.
_MADE_THRESHOLD: Final = 20
#: Bytes of JSON from which a thread makes XML of it.
_XML_THRESHOLD: Final = 4096


def wants_xml(call: Call) -> bool:
    """Whether JSON is to become XML. Orthanc looks for this very text: lists and preferences count as JSON."""
    return call.headers.get("accept") == xml.XML


class JsonEncoder:
    """Encodes lists, the long ones on a thread."""

    def __init__(self, pool: NamedPool) -> None:
        self._pool = pool

    async def reply(self, items: Sequence[Any]) -> Reply:
        """A JSON answer that is an array."""
        if len(items) < THRESHOLD:
            return json_reply(items)
        return Reply(await self._pool.call(encode, items), JSON, compressible=True)

    async def reply_of(self, count: int, make: Callable[[], Any]) -> Reply:
        """A JSON answer of some `count` items, which are made where they are encoded."""
        if count < _MADE_THRESHOLD:
            return json_reply(make())
        return Reply(await self._pool.call(lambda: encode(make())), JSON, compressible=True)

    async def as_xml(self, reply: Reply) -> Reply:
        """The same answer in XML, if it is JSON that is not streamed."""
        if reply.content_type != JSON or reply.reader is not None:
            return reply
        if len(reply.body) < _XML_THRESHOLD:
            body = _as_xml(reply.body)
        else:
            body = await self._pool.call(_as_xml, reply.body)
        return attrs.evolve(reply, body=body, content_type=xml.CONTENT_TYPE)


class Members:
    """An object whose members are encoded a few at a time, in the notation that a call asks for."""

    def __init__(self, call: Call) -> None:
        self.content_type = JSON
        self.opening, self.separator, self.closing = b"{\n", b",\n", b"\n}"
        self._encode = encode
        if wants_xml(call):
            self.content_type = xml.CONTENT_TYPE
            # Around the members of any object.
            self.opening, _, self.closing = xml.render({"_": 0}).partition(b"  <_>0</_>\n")
            self.separator = b""
            self._encode = xml.render

    def encode(self, members: Mapping[str, Any]) -> bytes:
        """Some members, at least one."""
        return self._encode(members)[len(self.opening) : -len(self.closing)]

    async def pieces(self, encoded: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The whole object, of what `encode` made."""
        before = self.opening
        async with aclosing(encoded):
            async for members in encoded:
                yield before + members
                before = self.separator
        yield self.closing if before == self.separator else before + self.closing


async def streamed(pieces: AsyncGenerator[bytes, None], content_type: str) -> Reply:
    """An answer of what a generator makes; of one piece or two, it has a length. Fails when the first one does."""
    made = b""
    try:
        for _ in range(2):
            made += await anext(pieces)
        following = await anext(pieces)
    except StopAsyncIteration:
        return Reply(made, content_type, compressible=True)
    except BaseException:
        await pieces.aclose()
        raise
    return Reply(content_type=content_type, reader=PieceReader(pieces, made + following))


def _as_xml(body: bytes) -> bytes:
    return xml.render(orjson.loads(body))
