"""C-GET SCP: objects go back on the association that asks for them (PS3.4 section C.4.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import BinaryIO, Final

import attrs
from twisted.logger import Logger

from orthanctw.dicom import dimse
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.identifierlog import IdentifierLog
from orthanctw.dicom.scanner import meta_end
from orthanctw.dicom.scp.exchange import Exchange, Outcome
from orthanctw.dicom.scp.retrieve import SubOperations
from orthanctw.errors import InexistentFile, OrthancError
from orthanctw.exports import ExportLog
from orthanctw.interfaces import IStorageArea, ITranscoder
from orthanctw.model import ResourceLevel
from orthanctw.remote import Outgoing
from orthanctw.retrieval import Retrieval, StoredObject
from orthanctw.sending import outgoing_object

log = Logger(namespace="orthanctw.dicom")
#: Bytes of a file that are read at a time.
_CHUNK: Final = 512 * 1024
_MEDIUM: Final = 0


class GetService:
    """Sends objects to who asks.

    Parameters
    ----------
    transcoder : ITranscoder
        For objects whose transfer syntax the peer has not accepted.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        storage: IStorageArea,
        transcoder: ITranscoder,
        exports: ExportLog,
        *,
        default_encoding: DefaultEncoding,
        identifiers: IdentifierLog,
    ) -> None:
        self._identifiers = identifiers
        self._retrieval = retrieval
        self._storage = storage
        self._transcoder = transcoder
        self._exports = exports
        self._default_encoding = default_encoding

    async def __call__(self, exchange: Exchange) -> Outcome:
        """One C-GET: a C-STORE for each object, and a pending response after it."""
        identifier = exchange.identifier(self._default_encoding.name)
        self._identifiers.received("C-GET", exchange.carrier.calling_aet, exchange.carrier.address, identifier)
        objects = await self._retrieval.requested(identifier)
        await self._exports.add(
            [(ResourceLevel.INSTANCE, item.public_id) for item in objects], exchange.carrier.calling_aet
        )
        operations = SubOperations(len(objects))
        for item in objects:
            if exchange.must_stop:
                break
            try:
                operations.succeeded(await self._send(exchange, item))
            except OrthancError as e:
                if exchange.carrier.is_over:
                    raise
                log.info("C-GET: {id} could not be sent: {reason}", id=item.public_id, reason=str(e))
                operations.failed(item)
            await exchange.respond(dimse.PENDING, counters=operations.counters())
        # Without its list of failures: DCMTK's getscu does not expect a data set here, and loses the association.
        return attrs.evolve(operations.outcome(exchange, dimse.SUB_OPERATIONS_FAILED), identifier=None)

    async def _send(self, exchange: Exchange, item: StoredObject) -> int:
        """One sub-operation; its status, which is no failure."""
        context = exchange.carrier.context_for(item.sop_class_uid, item.transfer_syntax)
        if context is None:
            raise OrthancError("the peer does not take this SOP class")
        context_id, transfer_syntax = context
        if transfer_syntax == item.transfer_syntax:
            reader = await self._storage.reader(item.attachment)
            try:
                return await self._store(exchange, item, context_id, _FileData(reader.read).next)
            finally:
                reader.close()
        async with outgoing_object(self._storage, item) as outgoing:
            transcoded: Outgoing | None = await self._transcoder.transcode(outgoing, (transfer_syntax,), spools=True)
        if transcoded is None:
            raise OrthancError("the peer does not take this transfer syntax")
        try:
            return await self._send_transcoded(exchange, item, context_id, transcoded)
        finally:
            self._transcoder.release(transcoded)

    async def _send_transcoded(
        self, exchange: Exchange, item: StoredObject, context_id: int, transcoded: Outgoing
    ) -> int:
        if not transcoded.path:
            return await self._store(exchange, item, context_id, _bytes_of(transcoded.content))
        file = await self._storage.call(_opened, transcoded.path)
        try:
            read = partial(self._storage.call, file.read)
            return await self._store(exchange, item, context_id, _FileData(read).next)
        finally:
            await self._storage.call(file.close)

    async def _store(
        self, exchange: Exchange, item: StoredObject, context_id: int, data: Callable[[], Awaitable[bytes]]
    ) -> int:
        message_id = exchange.next_message_id()
        command = dimse.encode_command(
            {
                dimse.AFFECTED_SOP_CLASS: item.sop_class_uid,
                dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
                dimse.MESSAGE_ID: message_id,
                dimse.PRIORITY: _MEDIUM,
                dimse.DATA_SET_TYPE: dimse.WITH_DATA_SET,
                dimse.AFFECTED_SOP_INSTANCE: item.sop_instance_uid,
            }
        )
        response = await exchange.carrier.send_request(context_id, message_id, command, data)
        status = response.number(dimse.STATUS)
        if not dimse.is_stored(status):
            raise OrthancError(f"the peer has answered {status:#06x}")
        return status


class _FileData:
    """The data set of a file, piece by piece."""

    def __init__(self, read: Callable[[int], Awaitable[bytes]]) -> None:
        self._read = read
        self._started = False

    async def next(self) -> bytes:
        """The next piece; empty at the end."""
        data: bytes = await self._read(_CHUNK)
        if not self._started:
            self._started = True
            return data[meta_end(data) :]
        return data


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError:
        raise InexistentFile("a transcoded object is gone") from None


def _bytes_of(content: bytes) -> Callable[[], Awaitable[bytes]]:
    parts = [content[meta_end(content) :], b""]

    async def next_part() -> bytes:
        return parts.pop(0)

    return next_part
