"""Stored objects on their way to other application entities (level 4)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred

from orthanctw.interfaces import IBlockingReader, IDicomScu, ISpool, IStorageArea
from orthanctw.model import Attachment, Compression
from orthanctw.remote import Originator, Outgoing, Remote
from orthanctw.retrieval import StoredObject
from orthanctw.storage.reader import FileReader
from orthanctw.storefilters import StoreFilters
from orthanctw.threads import shield

#: Files up to so many bytes are inflated in memory.
_SMALL: Final = 16 << 20
_CHUNK: Final = 1 << 20


def contexts_of(objects: Sequence[StoredObject]) -> tuple[tuple[str, str], ...]:
    """SOP classes and transfer syntaxes of objects, each pair once: what an association for them must offer."""
    return tuple(dict.fromkeys((item.sop_class_uid, item.transfer_syntax) for item in objects))


@asynccontextmanager
async def outgoing_of(
    storage: IStorageArea,
    attachment: Attachment,
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax: str,
) -> AsyncIterator[Outgoing]:
    """A stored object as it is sent or transcoded, for the length of a block.

    It is given by its file; where that is compressed, or there is none, by its bytes, or by a temporary file once it is
    large.
    """
    path, content = "", b""
    async with AsyncExitStack() as stack:
        if attachment.is_plain_file:
            path = storage.path(attachment.uuid)
        elif attachment.size <= _SMALL:
            content = await storage.read(attachment)
        else:
            path = await stack.enter_async_context(temporary_copy(storage, attachment))
        yield Outgoing(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax=transfer_syntax,
            path=path,
            content=content,
            uuid=attachment.uuid,
        )


@asynccontextmanager
async def temporary_copy(storage: IStorageArea, attachment: Attachment) -> AsyncIterator[str]:
    """The path of a temporary file with what an attachment holds, inflated, for the length of a block."""
    spool = storage.spool(is_object=False)
    copying: Deferred[None] = storage.call(_inflate, storage, attachment, spool)
    try:
        await shield(copying)
        yield spool.path
    finally:
        # Who gives up does not end the thread that writes: the file goes when that is done.
        copying.addCallback(lambda _: spool.discard())


@asynccontextmanager
async def file_of(storage: IStorageArea, attachment: Attachment) -> AsyncIterator[tuple[Attachment, str]]:
    """The file of an attachment, and how it lies there, for the length of a block; a temporary one if there is none."""
    if not attachment.is_scripted:
        yield attachment, storage.path(attachment.uuid)
        return
    async with temporary_copy(storage, attachment) as path:
        yield attrs.evolve(attachment, compression=Compression.NONE, compressed_size=attachment.size), path


def outgoing_object(storage: IStorageArea, item: StoredObject) -> AbstractAsyncContextManager[Outgoing]:
    """`outgoing_of` an object."""
    return outgoing_of(
        storage,
        item.attachment,
        sop_class_uid=item.sop_class_uid,
        sop_instance_uid=item.sop_instance_uid,
        transfer_syntax=item.transfer_syntax,
    )


def _inflate(storage: IStorageArea, attachment: Attachment, spool: ISpool) -> None:
    reader = storage.reader_blocking(attachment)
    try:
        while chunk := reader.read_blocking(_CHUNK):
            spool.append_blocking([chunk])
    finally:
        reader.close()


def temporary_reader(
    path: str, call: Callable[..., Deferred[Any]], offset: int = 0, length: int | None = None
) -> IBlockingReader:
    """A reader over a range of a temporary file, which stays readable when the file is removed (blocking).

    `call` runs blocking work on a storage thread.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if offset:
        os.lseek(fd, offset, os.SEEK_SET)
    return FileReader(fd, partial(os.read, fd), os.fstat(fd).st_size - offset if length is None else length, call)


class Sender:
    """Sends objects by C-STORE, if no filter keeps them here."""

    def __init__(self, scu: IDicomScu, storage: IStorageArea, filters: StoreFilters) -> None:
        self._scu = scu
        self._storage = storage
        self._filters = filters

    async def send(
        self,
        remote: Remote,
        item: StoredObject,
        contexts: Sequence[tuple[str, str]],
        originator: Originator | None = None,
    ) -> int | None:
        """Send one object; the status, which is success or a warning, or None when it is kept here.

        `contexts` are those of all that follow.
        """
        if not await self._filters.sends(item.public_id, remote.host, remote.aet):
            return None
        async with outgoing_object(self._storage, item) as outgoing:
            status: int = await self._scu.store(remote, outgoing, contexts, originator)
            return status


class Senders:
    """Makes senders that keep their associations to themselves and end them with their work.

    The requester of a C-MOVE that is its own destination (as DCMTK's ``movescu``) waits for that end.
    """

    def __init__(
        self, make_scu: Callable[[], IDicomScu], storage: IStorageArea, filters: StoreFilters
    ) -> None:
        self._make_scu = make_scu
        self._storage = storage
        self._filters = filters
        self._used: set[IDicomScu] = set()

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        """A sender for the length of a block."""
        scu = self._make_scu()
        self._used.add(scu)
        try:
            yield Sender(scu, self._storage, self._filters)
        finally:
            self._used.discard(scu)
            await scu.close()

    async def close(self) -> None:
        """End what is under way."""
        for scu in list(self._used):
            await scu.close()
