"""A storage area whose files a script keeps, if there is one that wants to."""

from __future__ import annotations

import uuid as uuid_module
from collections.abc import Callable, Iterable
from typing import Final

import attrs
from isal import isal_zlib

from orthanctw.interfaces import IScriptedFiles, ISpool
from orthanctw.model import Attachment, Compression
from orthanctw.storage.compression import Inflater, compress
from orthanctw.storage.filesystem import FilesystemStorage, attachment_of
from orthanctw.storage.indexonly import IndexOnlyStorage
from orthanctw.storage.reader import FileReader, length_of
from orthanctw.storage.spool import Spool

#: Bytes that are asked for at a time, if the script reads ranges.
_PIECE: Final = 4 << 20


class ScriptedStorage(FilesystemStorage):
    """Files of before stay where they are, and what is received lies in the storage directory until it is stored.

    Attributes
    ----------
    files : IScriptedFiles
    """

    files: IScriptedFiles

    def may_ask_scripts(self) -> bool:
        active: bool = self.files.is_active()
        return active

    def create_blocking(
        self, data: bytes | ISpool, content_type: int, compression: Compression, asks_scripts: bool = True
    ) -> Attachment:
        if not asks_scripts or not self.files.is_active():
            return super().create_blocking(data, content_type, compression)
        with self._metrics.timed("orthanc_storage_create_duration_ms"):
            attachment = self._give(data, content_type, compression)
        self._metrics.add("orthanc_storage_written_bytes", attachment.compressed_size)
        return attachment

    def _give(self, data: bytes | ISpool, content_type: int, compression: Compression) -> Attachment:
        """Have the script keep something."""
        if isinstance(data, bytes):
            content, md5, crc32 = data, self._digest(data), isal_zlib.crc32(data)
        else:
            assert isinstance(data, Spool)
            content, md5, crc32 = b"".join(data.chunks()), data.md5, data.crc32
        stored, stored_md5 = content, md5
        if compression is not Compression.NONE:
            stored = b"".join(compress(iter((content,)), len(content)))
            stored_md5 = self._digest(stored)
        uuid = str(uuid_module.uuid4())
        with self._pool.relieved():
            custom_data = self.files.create(uuid, content_type, compression, stored, content)
        made = attachment_of(content_type, uuid, (len(content), md5), crc32, compression, (len(stored), stored_md5))
        return attrs.evolve(made, is_scripted=True, custom_data=custom_data)

    def _open(self, attachment: Attachment, offset: int, length: int | None, raw: bool) -> FileReader:
        if not attachment.is_scripted:
            return super()._open(attachment, offset, length, raw)
        remaining = length_of(attachment.compressed_size if raw else attachment.size, offset, length)
        if raw or attachment.compression is Compression.NONE:
            kept = _Kept(self._fetch, attachment, offset, offset + remaining, self.files.reads_ranges())
            return FileReader(-1, kept.read, remaining, self._pool.call)
        kept = _Kept(self._fetch, attachment, 0, attachment.compressed_size, self.files.reads_ranges())
        inflater = Inflater(kept.read)
        inflater.skip(offset)
        return FileReader(-1, inflater.read, remaining, self._pool.call)

    def _fetch(self, attachment: Attachment, offset: int, length: int) -> bytes:
        with self._pool.relieved():
            content: bytes = self.files.read(attachment, offset, length)
        return content

    def remove_blocking(self, uuids: Iterable[str]) -> tuple[str, ...]:
        wanted = tuple(uuids)
        with self._pool.relieved():
            scripted = self.files.remove(wanted)
        gone = tuple(uuid for uuid, is_gone in scripted.items() if is_gone)
        return gone + super().remove_blocking(uuid for uuid in wanted if uuid not in scripted)


class ScriptedIndexOnlyStorage(IndexOnlyStorage, ScriptedStorage):
    """The same where objects are not kept: what is attached to them is the script's."""


class _Kept:
    """What a script keeps from `position` to `end`, read forwards."""

    def __init__(
        self,
        fetch: Callable[[Attachment, int, int], bytes],
        attachment: Attachment,
        position: int,
        end: int,
        in_pieces: bool,
    ) -> None:
        self._fetch = fetch
        self._attachment = attachment
        self._position = position
        self._end = end
        self._in_pieces = in_pieces
        # At once: what goes wrong is told before an answer has begun.
        self._piece = self._next(_PIECE)

    def read(self, length: int) -> bytes:
        """The next bytes, `length` at most; empty at the end."""
        if not self._piece:
            self._piece = self._next(max(length, _PIECE))
        data = bytes(self._piece[:length])
        self._piece = self._piece[length:]
        return data

    def _next(self, length: int) -> memoryview:
        left = self._end - self._position
        if not left:
            return memoryview(b"")
        wanted = min(length, left) if self._in_pieces else left
        piece = self._fetch(self._attachment, self._position, wanted)
        self._position += wanted
        return memoryview(piece)
