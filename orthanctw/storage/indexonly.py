"""A storage area that keeps no objects, only what is attached to them: ``StoreDicom`` is false."""

from __future__ import annotations

import contextlib
import mmap
import uuid as uuid_module
from collections.abc import Iterator

from isal import isal_zlib

from orthanctw.errors import InexistentFile, UnknownResource
from orthanctw.interfaces import IBlockingReader, ISpool
from orthanctw.model import Attachment, AttachmentType, Compression
from orthanctw.storage.filesystem import FilesystemStorage
from orthanctw.storage.spool import Spool


class IndexOnlyStorage(FilesystemStorage):
    """The index is told of files as if they were there. Objects that were stored earlier can be read."""

    def create_blocking(
        self, data: bytes | ISpool, content_type: int, compression: Compression, asks_scripts: bool = True
    ) -> Attachment:
        if content_type != AttachmentType.DICOM:
            return super().create_blocking(data, content_type, compression, asks_scripts)
        if isinstance(data, bytes):
            size, md5, crc32 = len(data), self._digest(data), isal_zlib.crc32(data)
        else:
            assert isinstance(data, Spool)
            size, md5, crc32 = data.size, data.md5, data.crc32
        return Attachment(
            content_type=content_type,
            uuid=str(uuid_module.uuid4()),
            size=size,
            md5=md5,
            crc32=crc32,
            compressed_size=size,
            compressed_md5=md5,
        )

    def reader_blocking(
        self, attachment: Attachment, offset: int = 0, length: int | None = None, raw: bool = False
    ) -> IBlockingReader:
        with _absent(attachment):
            return super().reader_blocking(attachment, offset, length, raw)

    @contextlib.contextmanager
    def map(self, attachment: Attachment) -> Iterator[mmap.mmap | bytes]:
        with _absent(attachment), super().map(attachment) as mapped:
            yield mapped


@contextlib.contextmanager
def _absent(attachment: Attachment) -> Iterator[None]:
    """UnknownResource for an object that was not kept: nothing is wrong with the storage area."""
    try:
        yield
    except InexistentFile:
        if attachment.content_type == AttachmentType.DICOM:
            raise UnknownResource("Objects are not kept, since StoreDicom is false") from None
        raise
