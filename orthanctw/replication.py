"""Stored objects on their way to peers: as they are, transcoded, compressed (level 4)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from isal import igzip, isal_zlib
from twisted.internet.defer import Deferred

from orthanctw.httpclient.values import OpenBody
from orthanctw.interfaces import IBlockingReader, IReader, ISpool, IStorageArea, ITranscoder
from orthanctw.peers import PeerClient
from orthanctw.retrieval import StoredObject
from orthanctw.sending import outgoing_object, temporary_reader
from orthanctw.settings import Peer
from orthanctw.threads import shield

#: Bodies up to so many bytes are compressed in memory.
_SMALL: Final = 16 << 20
_CHUNK: Final = 1 << 20
_GZIP_LEVEL: Final = 1
#: What would grow more than so many times is sent as it is: peers take it for a bomb (``InflateRatioLimit``).
_LARGEST_RATIO: Final = 100
#: Of zlib: a window of 32 KB in gzip's format.
_GZIP_WINDOW: Final = 31


class Replication:
    """Sends stored objects to peers."""

    def __init__(self, client: PeerClient, storage: IStorageArea, transcoder: ITranscoder) -> None:
        self._client = client
        self._storage = storage
        self._transcoder = transcoder

    async def send(self, peer: Peer, item: StoredObject, *, compress: bool, transfer_syntax: str = "") -> int:
        """Send one object, transcoded where that is wanted and possible; the bytes of its body."""
        async with self._source(item, transfer_syntax) as (size, body):
            if compress:
                async with self._compressed(size, body) as (compressed_size, compressed):
                    if compressed_size * _LARGEST_RATIO >= size:
                        await self._client.store(peer, compressed, is_gzip=True)
                        return compressed_size
            await self._client.store(peer, body, is_gzip=False)
            return size

    @asynccontextmanager
    async def _source(self, item: StoredObject, transfer_syntax: str) -> AsyncIterator[tuple[int, bytes | OpenBody]]:
        """The file of an object, for the length of a block."""

        def stored() -> Deferred[IReader]:
            reader: Deferred[IReader] = self._storage.reader(item.attachment)
            return reader

        if transfer_syntax in ("", item.transfer_syntax):
            yield item.attachment.size, stored
            return
        async with outgoing_object(self._storage, item) as outgoing:
            made = await self._transcoder.transcode(outgoing, (transfer_syntax,), allows_new_uid=True, spools=True)
            if made is None:
                yield item.attachment.size, stored
                return
            try:
                if made.content:
                    yield len(made.content), made.content
                else:
                    yield await self._storage.call(os.path.getsize, made.path), self._of_file(made.path)
            finally:
                self._transcoder.release(made)

    def _of_file(self, path: str) -> OpenBody:
        def open_body() -> Deferred[IBlockingReader]:
            reader: Deferred[IBlockingReader] = self._storage.call(temporary_reader, path, self._storage.call)
            return reader

        return open_body

    @asynccontextmanager
    async def _compressed(self, size: int, body: bytes | OpenBody) -> AsyncIterator[tuple[int, bytes | OpenBody]]:
        """A body as gzip, in memory when it is small, for the length of a block."""
        if isinstance(body, bytes):
            compressed: bytes = await self._storage.call(igzip.compress, body, _GZIP_LEVEL)
            yield len(compressed), compressed
            return
        reader: IBlockingReader = await body()  # type: ignore[assignment]
        if size <= _SMALL:
            compressed = await self._storage.call(_compress, reader)
            yield len(compressed), compressed
            return
        spool = self._storage.spool(is_object=False)
        compressing: Deferred[int] = self._storage.call(_compress_to, reader, spool)
        try:
            written = await shield(compressing)
            yield written, self._of_file(spool.path)
        finally:
            # Who gives up does not end the thread that writes: the file goes when that is done.
            compressing.addCallback(lambda _: spool.discard())


def _compress(reader: IBlockingReader) -> bytes:
    """All that a reader has, as gzip (blocking)."""
    try:
        data = bytearray()
        while chunk := reader.read_blocking(_CHUNK):
            data += chunk
    finally:
        reader.close()
    compressed: bytes = igzip.compress(data, _GZIP_LEVEL)
    return compressed


def _compress_to(reader: IBlockingReader, spool: ISpool) -> int:
    """The same to a file; its size (blocking)."""
    compressor = isal_zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW)
    written = 0
    try:
        while chunk := reader.read_blocking(_CHUNK):
            data = compressor.compress(chunk)
            spool.append_blocking([data])
            written += len(data)
        data = compressor.flush()
        spool.append_blocking([data])
        return written + len(data)
    finally:
        reader.close()
