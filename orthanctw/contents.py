"""Raw access to the elements of a stored object (level 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from orthanctw.catalog import Catalog
from orthanctw.dicom.content import ByteRange, Children, InlineValue, resolve
from orthanctw.dicom.elements import DEFLATED_LITTLE_ENDIAN
from orthanctw.dicom.header import Header
from orthanctw.dicom.jsonforms import RangeReader
from orthanctw.dicom.scanner import inflate, meta_end
from orthanctw.errors import UnknownResource
from orthanctw.interfaces import IReader, IStorageArea
from orthanctw.model import Attachment, AttachmentType, ResourceLevel

T = TypeVar("T")
#: Bytes of an element that are read at once; more are streamed.
_AT_ONCE = 1024 * 1024


class Contents:
    """Reads elements from the files themselves; the only reading, with the file and its pixels, that opens them."""

    def __init__(self, catalog: Catalog, storage: IStorageArea) -> None:
        self._catalog = catalog
        self.storage = storage

    async def attachment(self, public_id: str) -> Attachment:
        """The DICOM file of an instance. UnknownResource when there is none."""
        attachments = await self._catalog.index.attachments(ResourceLevel.INSTANCE, public_id)
        if attachments is None or AttachmentType.DICOM not in attachments:
            raise UnknownResource()
        attachment: Attachment = attachments[AttachmentType.DICOM]
        return attachment

    async def with_file(self, public_id: str, header: Header, work: Callable[[RangeReader], T]) -> T:
        """Run `work` on a storage thread with a function that reads values of the instance's file."""
        attachment = await self.attachment(public_id)

        def run() -> T:
            with self.values(attachment, header) as read:
                return work(read)

        result: T = await self.storage.call(run)
        return result

    @contextmanager
    def values(self, attachment: Attachment, header: Header) -> Iterator[RangeReader]:
        """A function that reads the values that `header` leaves in its file (blocking)."""
        with self.storage.map(attachment) as buffer:
            data = buffer
            if header.transfer_syntax == DEFLATED_LITTLE_ENDIAN:
                data = inflate(buffer, meta_end(buffer))
            yield lambda offset, length: bytes(data[offset : offset + length])

    async def element(self, public_id: str, path: Sequence[str]) -> Children | bytes | IReader:
        """What lies at a path of tags and item numbers: names of children, or bytes, many of them as a reader.

        Raises
        ------
        UnknownResource
            No such instance.
        EmptyAnswer
            404, nothing lies there.
        """
        attachment = await self.attachment(public_id)
        header = await self._catalog.header(public_id)
        found: Children | bytes | ByteRange = await self.storage.call(
            self._element, attachment, header.transfer_syntax, path
        )
        if isinstance(found, ByteRange):
            reader: IReader = await self.storage.reader(attachment, found.offset, found.length)
            return reader
        return found

    def _element(
        self, attachment: Attachment, transfer_syntax: str, path: Sequence[str]
    ) -> Children | bytes | ByteRange:
        """A range that is too long for the memory comes back as it is."""
        with self.storage.map(attachment) as buffer:
            found = resolve(buffer, transfer_syntax, path, dictionary=self._catalog.dictionary)
            if isinstance(found, Children):
                return found
            if isinstance(found, InlineValue):
                return found.value
            if found.length > _AT_ONCE and found.swap == 1:
                return found
            return found.little_endian(bytes(buffer[found.offset : found.offset + found.length]))
