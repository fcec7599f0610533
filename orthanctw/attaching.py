"""Writing metadata and attachments: durable file, index, changes, and only then what was replaced goes (level 4)."""

from __future__ import annotations

import hashlib
import os
from typing import Final

from orthanctw.errors import CorruptedFile, InexistentFile, RevisionMismatch, UnknownResource
from orthanctw.events import EventBus
from orthanctw.interfaces import IIndex, IReader, ISpool, IStorageArea
from orthanctw.model import USER_DEFINED, Attachment, Compression, ResourceLevel
from orthanctw.removal import Removal
from orthanctw.rewriting import PIECE, Retirement, copied
from orthanctw.versions import Edited, Version

_FIRST, _LAST = USER_DEFINED
#: Numbers of metadata and attachments that users may write.
WRITABLE: Final = range(_FIRST, _LAST + 1)


class Attaching:
    """Writes metadata and attachments of resources that exist; UnknownResource for others.

    `expected` is the version that a client has seen: another one that is there by now is a RevisionMismatch.

    Parameters
    ----------
    compression : Compression
        Of files that are attached from now on.
    check_revisions : bool
        ``CheckRevisions``: who changes something must have seen it.
    """

    def __init__(
        self,
        index: IIndex,
        storage: IStorageArea,
        events: EventBus,
        removal: Removal,
        retirement: Retirement,
        *,
        compression: Compression = Compression.NONE,
        check_revisions: bool = False,
    ) -> None:
        self._index = index
        self._storage = storage
        self._events = events
        self._removal = removal
        self._retirement = retirement
        self._compression = compression
        self._check = check_revisions

    async def set_metadata(
        self,
        level: ResourceLevel,
        public_id: str,
        number: int,
        value: str,
        expected: Version | None = None,
        *,
        is_checked: bool = True,
    ) -> Version:
        """Write metadata; answers its version. Unless `is_checked`, ``CheckRevisions`` does not matter."""
        check = self._check and is_checked
        return await self._finish(await self._index.set_metadata(level, public_id, number, value, expected, check))

    async def delete_metadata(
        self, level: ResourceLevel, public_id: str, number: int, expected: Version | None
    ) -> None:
        """Remove metadata; UnknownResource when it is not set."""
        self._demand(expected)
        await self._publish(await self._index.delete_metadata(level, public_id, number, expected, self._check))

    async def attach(
        self, level: ResourceLevel, public_id: str, number: int, content: bytes | ISpool, expected: Version | None
    ) -> Version:
        """Add or replace an attachment; answers its version. FullStorage when there is no room."""
        if not isinstance(content, bytes):
            await content.flush()
        made: Attachment = await self._storage.create(content, number, self._compression)
        try:
            edited = await self._index.add_attachment(level, public_id, made, expected, self._check)
        except BaseException:
            await self._storage.remove([made.uuid])
            raise
        return await self._finish(edited)

    async def detach(self, level: ResourceLevel, public_id: str, number: int, expected: Version | None) -> None:
        """Remove an attachment; UnknownResource when there is none."""
        self._demand(expected)
        await self._publish(await self._index.delete_attachment(level, public_id, number, expected, self._check))

    def _demand(self, expected: Version | None) -> None:
        if self._check and expected is None:
            raise RevisionMismatch("CheckRevisions demands the header If-Match")

    async def _finish(self, edited: Edited) -> Version:
        await self._publish(edited)
        assert edited.version is not None
        return edited.version

    async def _publish(self, edited: Edited) -> None:
        self._events.publish(edited.changes)
        await self._removal.remove_files(edited.removed_files)

    # Compression and digests of what is there

    async def _attachments(self, level: ResourceLevel, public_id: str) -> dict[int, Attachment]:
        found: dict[int, Attachment] | None = await self._index.attachments(level, public_id)
        if found is None:
            raise UnknownResource()
        return found

    async def change_compression(
        self, level: ResourceLevel, public_id: str, number: int, compression: Compression
    ) -> None:
        """Write the file of an attachment anew, unless it is compressed like that already.

        Raises UnknownResource without an attachment, InexistentFile or CorruptedFile when its file is not as it was.
        """
        missing = ""
        while True:
            attachment = (await self._attachments(level, public_id)).get(number)
            if attachment is None:
                raise UnknownResource()
            if attachment.compression is compression:
                return
            try:
                if await self._rewrite(level, public_id, attachment, compression):
                    return
            except InexistentFile:
                # As in `verify`.
                if missing == attachment.uuid:
                    raise
                missing = attachment.uuid

    async def _rewrite(
        self, level: ResourceLevel, public_id: str, attachment: Attachment, compression: Compression
    ) -> bool:
        """False when somebody else has replaced the file meanwhile."""
        async with copied(self._storage, attachment) as spool:
            made: Attachment = await self._storage.create(spool, attachment.content_type, compression)
        try:
            edited = await self._index.replace_attachment(level, public_id, made, attachment.uuid)
        except BaseException:
            await self._storage.remove([made.uuid])
            raise
        if edited is None:
            await self._storage.remove([made.uuid])
            return False
        self._events.publish(edited.changes)
        if attachment.content_type in WRITABLE:
            await self._removal.remove_files(edited.removed_files)
        else:
            self._retirement.add(edited.removed_files)
        return True

    async def verify(self, level: ResourceLevel, public_id: str, number: int) -> bool:
        """Whether the file of an attachment is there and has the digests that the index tells.

        Without ``StoreMD5ForAttachments`` nothing can be said for it.
        """
        seen = ""
        while True:
            attachment = (await self._attachments(level, public_id)).get(number)
            if attachment is None or attachment.uuid == seen:
                return False
            try:
                return await self._is_whole(attachment)
            except CorruptedFile:
                return False
            except InexistentFile:
                # Its file may have been replaced before it was opened.
                seen = attachment.uuid

    async def _is_whole(self, attachment: Attachment) -> bool:
        raw = await self._storage.reader(attachment, raw=True)
        if await self._md5(raw) != attachment.compressed_md5:
            return False
        if not attachment.is_scripted:
            size: int = await self._storage.call(os.path.getsize, self._storage.path(attachment.uuid))
            if size != attachment.compressed_size:
                return False
        if attachment.compression is Compression.NONE:
            return attachment.md5 == attachment.compressed_md5
        return await self._md5(await self._storage.reader(attachment)) == attachment.md5

    async def _md5(self, reader: IReader) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        try:
            while data := await reader.read(PIECE):
                await self._storage.call(digest.update, data)
        finally:
            reader.close()
        return digest.hexdigest()
