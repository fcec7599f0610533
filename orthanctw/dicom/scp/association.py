"""One incoming association: requests are carried out one after the other, each answered by a status."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Container, Coroutine, Mapping
from typing import Any, Final, Protocol

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.acceptance import Acceptance, Operation
from orthanctw.bodies import BodyLimits
from orthanctw.dicom import dimse
from orthanctw.dicom.commitment import STORAGE_COMMITMENT
from orthanctw.dicom.dimse import Assembler, Command, DataSink, InvalidMessage, Message
from orthanctw.dicom.encoding import IDENTIFIER_LIMIT
from orthanctw.dicom.scp.commitment import ReceivedAttributes
from orthanctw.dicom.scp.exchange import Exchange, Identifier, Outcome, Service
from orthanctw.dicom.scp.negotiation import QUERY_RETRIEVE, belongs, distinct_contexts, negotiate
from orthanctw.dicom.scp.outbound import Outbound
from orthanctw.dicom.scp.storage import ReceivedObject, Unwanted, is_uid
from orthanctw.dicom.uids import VERIFICATION, WORKLIST_FIND
from orthanctw.dicom.upper.pdus import (
    APPLICATION_CONTEXT,
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextResult,
    Pdv,
)
from orthanctw.dicom.upper.protocol import UpperLayer
from orthanctw.errors import DIMSE_CANNOT_UNDERSTAND, OrthancError
from orthanctw.ingest import Ingest
from orthanctw.metrics import Durations, Metrics
from orthanctw.model import Origin, OriginKind

log = Logger(namespace="orthanctw.dicom")
#: Requests that a peer may send ahead of our answers; then its connection is paused.
_AHEAD = 4
#: The same while we wait for the peer's own answers, and cannot pause: more is abuse.
_AHEAD_OF_GET = 64
_OPERATIONS: Final = {
    dimse.C_FIND_RQ: Operation.FIND,
    dimse.C_MOVE_RQ: Operation.MOVE,
    dimse.C_GET_RQ: Operation.GET,
    dimse.N_ACTION_RQ: Operation.N_ACTION,
    dimse.N_EVENT_REPORT_RQ: Operation.N_EVENT_REPORT,
}

#: Operations of which the duration is measured, by their names in metrics.
_DURATIONS: Final = {
    dimse.C_STORE_RQ: "store_dicom",
    dimse.C_FIND_RQ: "find_scp",
    dimse.C_MOVE_RQ: "move_scp",
    dimse.C_GET_RQ: "get_scp",
}

# Rejections (PS3.8 table 9-21): result, source, reason.
CALLED_AET_NOT_RECOGNIZED = AssociateReject(1, 1, 7)
CALLING_AET_NOT_RECOGNIZED = AssociateReject(1, 1, 3)
APPLICATION_CONTEXT_NOT_SUPPORTED = AssociateReject(1, 1, 2)
LOCAL_LIMIT_EXCEEDED = AssociateReject(2, 3, 2)


@attrs.frozen(kw_only=True)
class Services:
    """What associations work with.

    `operations` bounds how many run at once (``DicomThreadsCount``), `queries` how many C-FIND and `retrievals` how
    many C-MOVE and C-GET: those wait for peers, and one that sends to ourselves even for us, which must not keep us
    from receiving. `services` carry out queries and retrievals, by their SOP class; `offered` are those of the classes
    that are accepted at the moment.
    """

    acceptance: Acceptance
    ingest: Ingest
    limits: BodyLimits
    operations: DeferredSemaphore
    maximum_length: int
    metrics: Metrics
    durations: Durations
    queries: DeferredSemaphore
    retrievals: DeferredSemaphore
    offered: Callable[[], Container[str]]
    services: Mapping[str, Service] = attrs.field(factory=dict)


class AssociationOwner(Protocol):
    """Counts associations."""

    def admit(self, association: Association) -> bool:
        """Whether one more is accepted now."""

    def ended(self, association: Association) -> None:
        """It is over, its connection is not."""

    def left(self, association: Association) -> None:
        """It is over, its connection is gone, and nothing is being carried out for it."""


class Association:
    """The user of one connection's upper layer."""

    layer: UpperLayer
    _outbound: Outbound

    def __init__(self, services: Services, owner: AssociationOwner, address: str) -> None:
        self._services = services
        self._owner = owner
        self.address = address
        self._contexts: dict[int, tuple[str, str]] = {}
        self._assembler = Assembler(self._open_sink, self._received)
        self._waiting: deque[Message] = deque()
        self._busy = False
        self._paused = False
        self._over = False
        self._gone = False
        self._established = False
        self._stopping = False
        self._release_asked = False
        self._counts: dict[str, int] = {}
        self._current: Exchange | None = None
        self.calling_aet = ""
        self.called_aet = ""

    @property
    def is_busy(self) -> bool:
        return self._busy

    @property
    def is_over(self) -> bool:
        return self._over or self._gone

    @property
    def waits_for_peer(self) -> bool:
        """Whether it is the peer's turn: to ask for something, to respond, or to read what it was sent."""
        if self._busy:
            return self._outbound.awaits_response or self.layer.is_held_up
        return not self.layer.waits_for_us

    # The upper layer tells

    def associate_requested(self, request: AssociateRequest) -> None:
        reject = self._refusal(request)
        if reject is not None:
            log.info(
                "Association of {aet} at {address} rejected: {reject}",
                aet=request.calling_aet,
                address=self.address,
                reject=reject,
            )
            self.layer.reject(reject)
            return
        self.calling_aet, self.called_aet = request.calling_aet, request.called_aet
        services = self._services
        answer = negotiate(request, services.acceptance, services.maximum_length, services.offered())
        proposed = distinct_contexts(request)
        self._contexts = {
            context.context_id: (proposed[context.context_id].abstract_syntax, context.transfer_syntax)
            for context in answer.contexts
            if context.result is ContextResult.ACCEPTED
        }
        log.info(
            "Association of {aet} at {address}: {accepted} of {proposed} presentation contexts",
            aet=self.calling_aet,
            address=self.address,
            accepted=len(self._contexts),
            proposed=len(proposed),
        )
        self._outbound = Outbound(
            self.layer,
            self._contexts,
            answer.user.roles,
            request.user.maximum_length,
            regulate=self._regulate,
            give_up=self._abort,
        )
        self._established = True
        self.layer.accept(answer)

    def _refusal(self, request: AssociateRequest) -> AssociateReject | None:
        acceptance = self._services.acceptance
        if request.application_context != APPLICATION_CONTEXT:
            return APPLICATION_CONTEXT_NOT_SUPPORTED
        # Titles of blanks only are not allowed (PS3.8 section 9.3.2).
        if not request.called_aet or not acceptance.is_called(request.called_aet):
            return CALLED_AET_NOT_RECOGNIZED
        if not request.calling_aet or not acceptance.may_connect(request.calling_aet, self.address):
            return CALLING_AET_NOT_RECOGNIZED
        return None if self._owner.admit(self) else LOCAL_LIMIT_EXCEEDED

    def associate_accepted(self, answer: AssociateAccept) -> None:
        """Never: we asked for nothing."""

    def associate_rejected(self, reject: AssociateReject) -> None:
        """Never: we asked for nothing."""

    def data_received(self, value: Pdv) -> None:
        if value.context_id not in self._contexts:
            self._abort("a value in a context that was not accepted")
            return
        try:
            self._assembler.feed(value)
        except InvalidMessage as e:
            self._abort(e.details)

    def release_requested(self) -> None:
        if self._outbound.awaits_response:
            # After this the peer may not send what we wait for.
            self._abort("a release in the middle of a C-GET")
            return
        # What was asked before is answered before.
        self._release_asked = True
        self._next()

    def release_confirmed(self) -> None:
        """Never: we do not ask for a release."""

    def ended(self, abort: Abort | None) -> None:
        self._over = True
        self._assembler.abandon()
        for message in self._waiting:
            if message.sink is not None:
                message.sink.discard()
        self._waiting.clear()
        self._regulate()
        if self._current is not None:
            self._current.cancel()
        self._owner.ended(self)
        if self._established:
            self._outbound.end()
            log.info(
                "Association of {aet} at {address} ended: {counts}",
                aet=self.calling_aet,
                address=self.address,
                counts=", ".join(f"{count} {name}" for name, count in self._counts.items()) or "nothing was asked",
            )

    def disconnected(self) -> None:
        self._gone = True
        self._settle()

    def _abort(self, details: str) -> None:
        log.warn(
            "Association of {aet} at {address} aborted: {details}",
            aet=self.calling_aet,
            address=self.address,
            details=details,
        )
        self.layer.abort()

    # Messages

    def _open_sink(self, context_id: int, command: Command) -> DataSink:
        abstract_syntax, transfer_syntax = self._contexts[context_id]
        if abstract_syntax in QUERY_RETRIEVE:
            return self._identifier() if command.field == QUERY_RETRIEVE[abstract_syntax] else Unwanted()
        if abstract_syntax == STORAGE_COMMITMENT:
            return self._attributes(command.field)
        if command.field != dimse.C_STORE_RQ:
            return Unwanted(comment="The presentation context is of another service")
        sop_class = command.text(dimse.AFFECTED_SOP_CLASS)
        acceptance = self._services.acceptance
        if abstract_syntax == VERIFICATION or (
            # The context may be of another class: senders do that, and it is no way around the options.
            sop_class != abstract_syntax and is_uid(sop_class) and not acceptance.accepts_storage_of(sop_class)
        ):
            return Unwanted(dimse.SOP_CLASS_NOT_SUPPORTED, "The SOP class is not accepted")
        if not acceptance.is_allowed(Operation.STORE, self.calling_aet, self.address):
            return Unwanted(dimse.NOT_AUTHORIZED, "C-STORE is not allowed")
        return ReceivedObject(command, transfer_syntax, self._services.limits, self.layer)

    def _attributes(self, field: int) -> DataSink:
        if not belongs(STORAGE_COMMITMENT, field):
            return Unwanted()
        if not self._services.acceptance.is_allowed(_OPERATIONS[field], self.calling_aet, self.address):
            return Unwanted(dimse.NOT_AUTHORIZED, "Storage commitment is not allowed")
        return ReceivedAttributes(self._services.limits, self.layer)

    def _identifier(self) -> Identifier:
        """Takes what those of all requests that wait leave of the limit."""
        waiting = sum(len(message.sink) for message in self._waiting if isinstance(message.sink, Identifier))
        return Identifier(max(0, IDENTIFIER_LIMIT - waiting))

    def _received(self, message: Message) -> None:
        command = message.command
        if command.field & dimse.RESPONSE:
            self._outbound.responded(command)
            self._regulate()
            return
        if command.field == dimse.C_CANCEL_RQ:
            current = self._current
            if current is not None and command.number(dimse.RESPONDED_TO) == current.command.number(dimse.MESSAGE_ID):
                current.cancel()
            return
        self._waiting.append(message)
        if self._outbound.awaits_response and len(self._waiting) > _AHEAD_OF_GET:
            self._abort("too many requests at once")
            return
        self._regulate()
        self._next()

    def _regulate(self) -> None:
        """Take requests from the peer, unless too many wait; but its responses must get through."""
        crowded = len(self._waiting) > _AHEAD and not self._outbound.awaits_response
        if crowded and not self._paused:
            self._paused = True
            self.layer.pauseProducing()
        elif self._paused and not crowded:
            self._paused = False
            self.layer.resumeProducing()

    def _next(self) -> None:
        if self._busy:
            return
        if not self._waiting:
            self._settle()
            return
        self._busy = True
        done: Deferred[None] = Deferred.fromCoroutine(self._work())
        done.addErrback(self._unexpected)
        done.addCallback(self._idle)

    async def _work(self) -> None:
        while self._waiting:
            message = self._waiting.popleft()
            self._regulate()
            await self._serve(message)

    def _idle(self, _: object) -> None:
        self._busy = False
        self._settle()

    def _settle(self) -> None:
        """Nothing is left to do: end what is to end."""
        if self._busy:
            return
        if self._gone:
            self._owner.left(self)
        elif self._over:
            return
        elif self._release_asked:
            self.layer.answer_release()
            # The peer closes; or the timer does.
            self.ended(None)
        elif self._stopping:
            self.layer.abort()

    def _unexpected(self, failure: Failure) -> None:
        log.failure("A DICOM request failed in an unexpected way", failure)
        self.layer.abort()

    async def _serve(self, message: Message) -> None:
        command = message.command
        exchange = Exchange(self, message.context_id, self._contexts[message.context_id], command, message.sink)
        self._current = exchange
        started = time.monotonic()
        try:
            async with _Turn(self._semaphore(command.field)):
                outcome = await self._carry_out(message, exchange)
        except OrthancError as e:
            outcome = Outcome(status=e.dimse_status, comment=e.details or str(e))
        except Exception:  # noqa: BLE001 - any exception becomes a status
            log.failure("A DICOM request failed")
            outcome = Outcome(status=DIMSE_CANNOT_UNDERSTAND, comment="Internal error")
        finally:
            self._current = None
            if message.sink is not None:
                message.sink.discard()
            self._measure(command.field, time.monotonic() - started)
        if outcome.status:
            log.info(
                "Request answered by status {status:#06x}: {comment}", status=outcome.status, comment=outcome.comment
            )
        await exchange.respond(
            outcome.status, comment=outcome.comment, counters=outcome.counters, identifier=outcome.identifier
        )

    def _measure(self, field: int, seconds: float) -> None:
        name = _DURATIONS.get(field)
        if name is not None:
            self._services.metrics.peak(f"orthanc_{name}_duration_ms", seconds * 1000)
            self._services.durations.observe(seconds, name)

    def _semaphore(self, field: int) -> DeferredSemaphore:
        if field in (dimse.C_MOVE_RQ, dimse.C_GET_RQ):
            return self._services.retrievals
        return self._services.queries if field == dimse.C_FIND_RQ else self._services.operations

    async def _carry_out(self, message: Message, exchange: Exchange) -> Outcome:
        command = message.command
        service = self._services.services.get(exchange.abstract_syntax)
        if command.field == dimse.C_STORE_RQ:
            await self._store(message)
        elif command.field == dimse.C_ECHO_RQ:
            self._admit(Operation.ECHO, "C-ECHO")
        elif command.field in _OPERATIONS:
            if service is None or not belongs(exchange.abstract_syntax, command.field):
                raise OrthancError(
                    "The presentation context is of another service", dimse_status=dimse.UNRECOGNIZED_OPERATION
                )
            if isinstance(message.sink, Unwanted) and message.sink.status:
                raise OrthancError(message.sink.comment, dimse_status=message.sink.status)
            is_worklist = exchange.abstract_syntax == WORKLIST_FIND
            operation = Operation.FIND_WORKLIST if is_worklist else _OPERATIONS[command.field]
            self._admit(operation, operation.value)
            return await service(exchange)
        else:
            raise OrthancError("This operation is not offered", dimse_status=dimse.UNRECOGNIZED_OPERATION)
        return Outcome()

    def _admit(self, operation: Operation, name: str) -> None:
        self._count(name)
        if not self._services.acceptance.is_allowed(operation, self.calling_aet, self.address):
            raise OrthancError(f"{name} is not allowed", dimse_status=dimse.NOT_AUTHORIZED)

    async def _store(self, message: Message) -> None:
        self._count("C-STORE")
        if isinstance(message.sink, Unwanted):
            raise OrthancError(message.sink.comment, dimse_status=message.sink.status)
        if not isinstance(message.sink, ReceivedObject):
            raise OrthancError("The request has no data set")
        await message.sink.store(self._services.ingest, self._origin())
        self._services.metrics.add("orthanctw_dicom_stored_total")

    def _count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1

    def _origin(self) -> Origin:
        return Origin(
            kind=OriginKind.DICOM_PROTOCOL,
            remote_ip=self.address,
            remote_aet=self.calling_aet,
            called_aet=self.called_aet,
        )

    # What exchanges send

    def context_for(self, sop_class: str, transfer_syntax: str) -> tuple[int, str] | None:
        return self._outbound.context_for(sop_class, transfer_syntax)

    def send_response(self, context_id: int, command: bytes, data_set: bytes | None) -> Deferred[None]:
        return self._outbound.respond(context_id, command, data_set)

    def send_request(
        self, context_id: int, message_id: int, command: bytes, data: Callable[[], Awaitable[bytes]]
    ) -> Coroutine[Any, Any, Command]:
        return self._outbound.ask(context_id, message_id, command, data)

    async def ask_between(
        self, context_id: int, message_id: int, command: bytes, data: Callable[[], Awaitable[bytes]]
    ) -> Command:
        """As `send_request`, between the requests of the peer; fails when there is one, or the association ends."""
        if self._busy or self.is_over or self._release_asked or self._stopping:
            raise OrthancError("the association is busy, or over")
        self._busy = True
        try:
            return await self._outbound.ask(context_id, message_id, command, data)
        finally:
            self._busy = False
            self._next()

    def stop(self) -> None:
        """Abort, but let a running request end and be answered; a retrieval after its present object."""
        self._stopping = True
        if self._current is not None:
            self._current.cancel()
        self._next()


class _Turn:
    """A permit of a semaphore, for the length of a block."""

    def __init__(self, semaphore: DeferredSemaphore) -> None:
        self._semaphore = semaphore

    async def __aenter__(self) -> None:
        await self._semaphore.acquire()

    async def __aexit__(self, *_: Any) -> None:
        self._semaphore.release()
