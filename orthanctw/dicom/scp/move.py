"""C-MOVE SCP: objects go to a third application entity (PS3.4 section C.4.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from twisted.logger import Logger

from orthanctw.dicom import dimse
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.identifierlog import IdentifierLog
from orthanctw.dicom.scp.exchange import Cancelled, Carrier, Exchange, Outcome
from orthanctw.dicom.scp.retrieve import SubOperations
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.exports import ExportLog
from orthanctw.model import ResourceLevel
from orthanctw.remote import Originator, Remote
from orthanctw.retrieval import Retrieval, StoredObject
from orthanctw.sending import Sender, Senders, contexts_of
from orthanctw.storefilters import Undecided

log = Logger(namespace="orthanctw.dicom")
#: Objects of one kind in a row without an answer to the C-STORE, after which others of the kind are not tried: each may
#: cost a time limit. A destination that does not take one SOP class may take another.
_UNANSWERED: Final = 2
#: ``submit(objects, remote, originator)``: makes a job of a C-MOVE.
Submit = Callable[[Sequence[StoredObject], Remote, Originator], Awaitable[None]]


class Move(Protocol):
    """A C-MOVE in place of the server's: see `ScriptMove`."""

    size: int

    def begin(self) -> Coroutine[Any, Any, None]:
        """OrthancError."""

    def apply(self) -> Coroutine[Any, Any, None]:
        """OrthancError when a sub-operation has failed."""

    def end(self) -> None:
        """Nothing follows."""


class Scripted(Protocol):
    """A script that may carry out C-MOVE."""

    def move(self, identifier: Elements, asker: Carrier, target: str, message_id: int) -> Move | None:
        """One, if the script does."""


class MoveService:
    """Sends objects to where a peer wants them.

    Parameters
    ----------
    remotes : callable
        ``remotes(aet)``: the application entity of a title, or None.
    submit : callable, optional
        Without ``SynchronousCMove``: what to do in place of sending within the association.
    scripted : Scripted
        Carries out all of it, when there is a script for it.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        senders: Senders,
        exports: ExportLog,
        *,
        remotes: Callable[[str], Remote | None],
        default_encoding: DefaultEncoding,
        identifiers: IdentifierLog,
        scripted: Scripted,
        submit: Submit | None = None,
    ) -> None:
        self._retrieval = retrieval
        self._senders = senders
        self._exports = exports
        self._remotes = remotes
        self._default_encoding = default_encoding
        self._identifiers = identifiers
        self._scripted = scripted
        self._submit = submit

    async def __call__(self, exchange: Exchange) -> Outcome:
        """One C-MOVE: a pending response after each object."""
        identifier = exchange.identifier(self._default_encoding.name)
        self._identifiers.received("C-MOVE", exchange.carrier.calling_aet, exchange.carrier.address, identifier)
        target, message_id = exchange.command.text(dimse.MOVE_DESTINATION), exchange.command.number(dimse.MESSAGE_ID)
        scripted = self._scripted.move(identifier, exchange.carrier, target, message_id)
        if scripted is not None:
            return await _carry_out(scripted, exchange)
        remote = self._remotes(target)
        if remote is None:
            raise OrthancError("The move destination is unknown", dimse_status=dimse.MOVE_DESTINATION_UNKNOWN)
        objects = await self._retrieval.requested(identifier)
        await self._exports.add([(ResourceLevel.INSTANCE, item.public_id) for item in objects], remote.aet)
        originator = Originator(exchange.carrier.calling_aet, message_id)
        if self._submit is not None:
            await self._submit(objects, remote, originator)
            return Outcome(counters=SubOperations(0, completed=len(objects)).counters(is_final=True))
        async with self._senders.sender() as sender:
            return await self._move(exchange, objects, sender, remote, originator)

    async def _move(
        self,
        exchange: Exchange,
        objects: Sequence[StoredObject],
        sender: Sender,
        remote: Remote,
        originator: Originator,
    ) -> Outcome:
        operations = SubOperations(len(objects))
        contexts = contexts_of(objects)
        unanswered: Counter[tuple[str, str]] = Counter()
        for item in objects:
            if exchange.must_stop:
                break
            kind = (item.sop_class_uid, item.transfer_syntax)
            if unanswered[kind] == _UNANSWERED:
                operations.failed(item)
                continue
            try:
                status = await sender.send(remote, item, contexts, originator)
                # What a filter keeps here counts as sent.
                operations.succeeded(dimse.SUCCESS if status is None else status)
                unanswered[kind] = 0
            except Undecided as e:
                log.warn("C-MOVE: {id} is not sent: {reason}", id=item.public_id, reason=str(e))
                operations.failed(item)
            except OrthancError as e:
                log.info("C-MOVE: {id} could not be sent: {reason}", id=item.public_id, reason=str(e))
                operations.failed(item)
                unanswered[kind] = unanswered[kind] + 1 if e.payload is None else 0
            await exchange.respond(dimse.PENDING, counters=operations.counters())
        return operations.outcome(exchange, dimse.CANNOT_PROCESS)


async def _carry_out(move: Move, exchange: Exchange) -> Outcome:
    """A pending response after each sub-operation of a script."""
    try:
        await exchange.unless_cancelled(move.begin())
        operations = SubOperations(move.size)
        while operations.remaining and not exchange.must_stop:
            try:
                await exchange.unless_cancelled(move.apply())
                operations.succeeded(dimse.SUCCESS)
            except Cancelled:
                break
            except OrthancError as e:
                log.info("C-MOVE: a sub-operation of a script has failed: {reason}", reason=str(e))
                operations.failed()
                if e.code is ErrorCode.TIMEOUT:
                    # It may still run; so may the next ones.
                    counters = operations.counters(is_final=True)
                    return Outcome(status=dimse.CANNOT_PROCESS, comment=e.details, counters=counters)
            await exchange.respond(dimse.PENDING, counters=operations.counters())
    finally:
        move.end()
    return operations.outcome(exchange, dimse.SOME_SUB_OPERATIONS_FAILED)
