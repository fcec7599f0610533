"""Stored objects on their way to other application entities (level 4)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from orthanctw.interfaces import IDicomScu, IStorageArea
from orthanctw.model import Attachment, Compression
from orthanctw.remote import Originator, Outgoing, Remote
from orthanctw.retrieval import StoredObject


def contexts_of(objects: Sequence[StoredObject]) -> tuple[tuple[str, str], ...]:
    """SOP classes and transfer syntaxes of objects, each pair once: what an association for them must offer."""
    return tuple(dict.fromkeys((item.sop_class_uid, item.transfer_syntax) for item in objects))


async def outgoing_of(
    storage: IStorageArea,
    attachment: Attachment,
    *,
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax: str,
) -> Outgoing:
    """A stored object as it is sent or transcoded: by its file, or its bytes where the file is compressed."""
    is_plain = attachment.compression is Compression.NONE
    return Outgoing(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        transfer_syntax=transfer_syntax,
        path=storage.path(attachment.uuid) if is_plain else "",
        content=b"" if is_plain else await storage.read(attachment),
    )


class Sender:
    """Sends objects by C-STORE."""

    def __init__(self, scu: IDicomScu, storage: IStorageArea) -> None:
        self._scu = scu
        self._storage = storage

    async def send(
        self,
        remote: Remote,
        item: StoredObject,
        contexts: Sequence[tuple[str, str]],
        originator: Originator | None = None,
    ) -> int:
        """Send one object; the status, which is success or a warning. `contexts` are those of all that follow."""
        outgoing = await outgoing_of(
            self._storage,
            item.attachment,
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            transfer_syntax=item.transfer_syntax,
        )
        status: int = await self._scu.store(remote, outgoing, contexts, originator)
        return status


class Senders:
    """Makes senders that keep their associations to themselves and end them with their work.

    The requester of a C-MOVE that is its own destination (as DCMTK's ``movescu``) waits for that end.
    """

    def __init__(self, make_scu: Callable[[], IDicomScu], storage: IStorageArea) -> None:
        self._make_scu = make_scu
        self._storage = storage
        self._used: set[IDicomScu] = set()

    @asynccontextmanager
    async def sender(self) -> AsyncIterator[Sender]:
        """A sender for the length of a block."""
        scu = self._make_scu()
        self._used.add(scu)
        try:
            yield Sender(scu, self._storage)
        finally:
            self._used.discard(scu)
            await scu.close()

    async def close(self) -> None:
        """End what is under way."""
        for scu in list(self._used):
            await scu.close()
