"""C-GET: the reactor asks for the association, and the objects come in over it (PS3.4 section C.4.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.bodies import BodyLimits
from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import Assembler, Command, DataSink, InvalidMessage, Message
from orthanctw.dicom.elements import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, Elements
from orthanctw.dicom.encoding import encode_dataset, is_explicit
from orthanctw.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from orthanctw.dicom.received import Receive, ReceivedObject, Unwanted, is_uid
from orthanctw.dicom.scu.failures import PeerFailure, StatusFailure, TlsMissing
from orthanctw.dicom.scu.operations import get_command, is_pending, is_retrieved, progress_of
from orthanctw.dicom.uids import STORAGE_SOP_CLASSES
from orthanctw.dicom.upper.pdus import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextResult,
    Pdv,
    ProposedContext,
    UserInformation,
)
from orthanctw.dicom.upper.protocol import UpperLayer
from orthanctw.dicom.upper.sockets import quick_ack_of
from orthanctw.errors import DIMSE_CANNOT_UNDERSTAND, OrthancError, ServiceUnavailable
from orthanctw.model import Origin, OriginKind
from orthanctw.remote import Remote, RetrieveResult
from orthanctw.settings.structures import Manufacturer
from orthanctw.tls import Tls, TlsFactory, failure_of

log = Logger(namespace="orthanctw.dicom")
#: Storage classes that a C-GET proposes; with its own an association can have no more contexts.
CLASS_LIMIT: Final = 126
#: Seconds that a peer has to close after an abort or to answer a release.
_END_TIME: Final = 2.0
#: A time limit of an endpoint that is none, in seconds.
_UNLIMITED: Final = 7 * 86400.0
_GET_CONTEXT: Final = 1
_MESSAGE_ID: Final = 1
#: Objects that a peer may send ahead of our answers; then its connection is paused.
_AHEAD: Final = 4
_IMAGES: Final = "1.2.840.10008.5.1.4.1.1."
#: Rarely met: they are the first to be left out when all classes do not fit.
_RARE: Final = ("1.2.840.10008.5.1.4.1.1.9.", "1.2.840.10008.5.1.4.1.1.78.", "1.2.840.10008.5.1.4.1.1.11.")


def usual_classes() -> list[str]:
    """The storage classes to propose when nobody tells which ones are needed."""
    ranked = sorted(STORAGE_SOP_CLASSES, key=lambda uid: (not uid.startswith(_IMAGES), uid.startswith(_RARE), uid))
    return ranked[:CLASS_LIMIT]


@attrs.frozen(kw_only=True)
class RetrievalServices:
    """What C-GETs work with.

    `receive` lets an object in and answers its Orthanc id; `transfer_syntaxes` tells in which ones objects may come,
    `character_sets` in which ones queries may go.
    """

    reactor: Any
    receive: Receive[str | None]
    limits: BodyLimits
    maximum_length: int
    character_sets: Callable[[], tuple[str, ...]]
    transfer_syntaxes: Callable[[], Sequence[str]]
    tls: Tls | None = None


class _Factory(protocol.ClientFactory):
    noisy = False

    def __init__(self, layer: UpperLayer) -> None:
        self._layer = layer

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._layer


class Retrieval:
    """One C-GET; the user of its connection's upper layer.

    Parameters
    ----------
    sop_class_uids : sequence of str
        Storage classes of what will come; empty when that is not known.
    left : callable
        ``left(retrieval)``, told when its connection is gone and nothing is being stored.
    """

    def __init__(
        self,
        services: RetrievalServices,
        remote: Remote,
        model: str,
        query: Elements,
        sop_class_uids: Sequence[str],
        progress: Callable[[RetrieveResult], None],
        left: Callable[[Retrieval], None],
    ) -> None:
        self._services = services
        self._remote = remote
        self._model = model
        self._query = query
        self._progress = progress
        self._left = left
        self._classes = frozenset(list(sop_class_uids)[:CLASS_LIMIT] or usual_classes())
        self._request = self._associate_request()
        self._contexts: dict[int, tuple[str, str]] = {}
        self._assembler = Assembler(self._open_sink, self._received)
        self._waiting: deque[Message] = deque()
        self._stored: list[str] = []
        self._count = 0
        self._peer_maximum = 0
        self._busy = self._paused = self._asked = self._final = self._settled = self._over = self._gone = False
        self._timer: IDelayedCall | None = None
        self._result: Deferred[tuple[RetrieveResult, list[str]]] = Deferred(lambda _: self.cancel())
        self._layer = UpperLayer(
            self,
            services.reactor,
            artim=_END_TIME,
            maximum_length=services.maximum_length,
            request=self._request,
        )

    def _associate_request(self) -> AssociateRequest:
        syntaxes = tuple(self._services.transfer_syntaxes()) or (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)
        classes = sorted(self._classes)
        storage = [ProposedContext(3 + 2 * number, uid, syntaxes) for number, uid in enumerate(classes)]
        # We receive, so we are the SCP of storage; some SCPs send only to those that would also send.
        role = (self._remote.manufacturer is Manufacturer.SIEMENS_SYNGO_CT, True)
        get = ProposedContext(_GET_CONTEXT, self._model, (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN))
        return AssociateRequest(
            called_aet=self._remote.aet,
            calling_aet=self._remote.local_aet,
            contexts=(get, *storage),
            user=UserInformation(
                maximum_length=self._services.maximum_length,
                implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                implementation_version_name=IMPLEMENTATION_VERSION_NAME,
                roles=dict.fromkeys(classes, role),
            ),
        )

    def start(self) -> Deferred[tuple[RetrieveResult, list[str]]]:
        """The last answer, and the Orthanc ids of what was received. Cancelling it ends the operation."""
        remote, reactor = self._remote, self._services.reactor
        endpoint = HostnameEndpoint(reactor, remote.host, remote.port, timeout=remote.timeout or _UNLIMITED)
        factory: IProtocolFactory = _Factory(self._layer)
        if remote.use_dicom_tls:
            if self._services.tls is None:
                self._gone = True
                self._fail(TlsMissing(remote.aet))
                return self._result
            factory = TlsFactory(self._services.tls, factory, reactor, after_read=quick_ack_of)
        self._watch()
        self._connecting: Deferred[Any] = endpoint.connect(factory)
        self._connecting.addErrback(self._not_connected)
        return self._result

    def _not_connected(self, failure: Failure) -> None:
        self._gone = True
        remote = self._remote
        reason = type(failure.value).__name__
        self._fail(PeerFailure(f"cannot connect to {remote.aet} at {remote.host}:{remote.port}: {reason}"))

    def cancel(self) -> None:
        """C-CANCEL, then an abort."""
        self._settled = True
        if self._asked and not self._final and not self._over:
            self._send(
                _GET_CONTEXT,
                dimse.encode_command(
                    {
                        dimse.COMMAND_FIELD: dimse.C_CANCEL_RQ,
                        dimse.RESPONDED_TO: _MESSAGE_ID,
                        dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
                    }
                ),
            )
        self._end()

    def stop(self) -> None:
        """The server ends."""
        self._fail(ServiceUnavailable("the server is stopping"))
        if not self._gone:
            # The abort is sent before.
            self._layer.close()

    # Ends

    def _settle(self, outcome: tuple[RetrieveResult, list[str]] | Failure) -> None:
        if not self._settled:
            self._settled = True
            self._result.callback(outcome)

    def _fail(self, error: OrthancError) -> None:
        self._settle(Failure(error))
        self._end()

    def _end(self) -> None:
        """Abort whatever there is."""
        if self._layer.transport is None and not self._gone:
            self._connecting.cancel()
        elif not self._over and not self._gone:
            self._layer.abort()
        self._rest()

    def _rest(self) -> None:
        """Nothing more is taken from the peer."""
        self._over = True
        self._assembler.abandon()
        for message in self._waiting:
            if message.sink is not None:
                message.sink.discard()
        self._waiting.clear()
        self._regulate()
        self._leave()

    def _leave(self) -> None:
        if self._gone and not self._busy:
            self._unwatch()
            self._left(self)

    # Silence

    def _watch(self) -> None:
        """The peer has its time from now on."""
        self._unwatch()
        seconds = _END_TIME if self._final else float(self._remote.timeout)
        if seconds and not self._over:
            self._timer = self._services.reactor.callLater(seconds, self._silent)

    def _unwatch(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _silent(self) -> None:
        self._timer = None
        if self._busy or self._paused or self._layer.waits_for_us:
            self._watch()
            return
        self._fail(PeerFailure(f"{self._remote.aet}: no answer within the time limit"))

    # The upper layer tells

    def associate_requested(self, request: AssociateRequest) -> None:
        """Never: we are the requestor."""

    def associate_accepted(self, answer: AssociateAccept) -> None:
        proposed = {context.context_id: context for context in self._request.contexts}
        for context in answer.contexts:
            wanted = proposed.get(context.context_id)
            if (
                wanted is not None
                and context.result is ContextResult.ACCEPTED
                and context.transfer_syntax in wanted.transfer_syntaxes
            ):
                self._contexts[context.context_id] = (wanted.abstract_syntax, context.transfer_syntax)
        if _GET_CONTEXT not in self._contexts:
            self._fail(PeerFailure(f"{self._remote.aet} does not offer C-GET"))
            return
        log.info(
            "Association with {aet} made for C-GET: {count} contexts", aet=self._remote.aet, count=len(self._contexts)
        )
        self._peer_maximum = answer.user.maximum_length
        explicit = is_explicit(self._contexts[_GET_CONTEXT][1])
        query = encode_dataset(self._query, explicit=explicit, character_sets=self._services.character_sets())
        self._asked = True
        self._send(_GET_CONTEXT, dimse.encode_command(get_command(self._model, _MESSAGE_ID)))
        self._send(_GET_CONTEXT, query, is_command=False)
        self._watch()

    def associate_rejected(self, reject: AssociateReject) -> None:
        self._over = True
        self._fail(
            PeerFailure(
                f"{self._remote.aet} has rejected the association: result {reject.result}, source {reject.source}, "
                f"reason {reject.reason}"
            )
        )

    def data_received(self, value: Pdv) -> None:
        if self._over:
            return
        if self._final:
            # Nothing was asked any more.
            self._end()
            return
        if value.context_id not in self._contexts:
            self._fail(PeerFailure(f"{self._remote.aet} has used a context that was not accepted"))
            return
        if not value.is_command:
            self._watch()
        try:
            self._assembler.feed(value)
        except InvalidMessage as e:
            self._fail(PeerFailure(f"{self._remote.aet} has sent what is no message: {e.details}"))

    def release_requested(self) -> None:
        self._layer.answer_release()
        self._over = True
        self._fail(PeerFailure(f"{self._remote.aet} has released the association"))

    def release_confirmed(self) -> None:
        self._rest()

    def ended(self, abort: Abort | None) -> None:
        self._over = True
        self._fail(PeerFailure(f"{self._remote.aet} has broken off the association{self._why()}"))

    def disconnected(self) -> None:
        self._gone = True
        self._over = True
        self._fail(PeerFailure(f"{self._remote.aet} has closed the connection{self._why()}"))

    def _why(self) -> str:
        reason = failure_of(self._layer.transport)
        return f": TLS: {reason}" if reason else ""

    # Messages

    def _open_sink(self, context_id: int, command: Command) -> DataSink:
        if command.field != dimse.C_STORE_RQ:
            return Unwanted()
        abstract_syntax, transfer_syntax = self._contexts[context_id]
        sop_class = command.text(dimse.AFFECTED_SOP_CLASS)
        # What is no UID at all is answered as such.
        if abstract_syntax == self._model or (is_uid(sop_class) and sop_class not in self._classes):
            return Unwanted(dimse.SOP_CLASS_NOT_SUPPORTED, "The SOP class was not asked for")
        return ReceivedObject(command, transfer_syntax, self._services.limits, self._layer)

    def _received(self, message: Message) -> None:
        self._watch()
        self._waiting.append(message)
        self._regulate()
        if not self._busy:
            self._busy = True
            done: Deferred[None] = Deferred.fromCoroutine(self._work())
            done.addErrback(self._unexpected)
            done.addCallback(self._idle)

    def _regulate(self) -> None:
        """Take messages from the peer, unless too many wait."""
        crowded = len(self._waiting) > _AHEAD
        if crowded and not self._paused:
            self._paused = True
            self._layer.pauseProducing()
        elif self._paused and not crowded:
            self._paused = False
            self._layer.resumeProducing()

    async def _work(self) -> None:
        while self._waiting:
            message = self._waiting.popleft()
            self._regulate()
            field = message.command.field
            if self._final:
                if message.sink is not None:
                    message.sink.discard()
                self._end()
            elif field == dimse.C_STORE_RQ:
                await self._store(message)
            elif field == dimse.C_GET_RQ | dimse.RESPONSE:
                self._responded(message.command)
            else:
                self._fail(PeerFailure(f"{self._remote.aet} has sent something else than a response"))

    def _idle(self, _: object) -> None:
        self._busy = False
        if not self._over:
            self._watch()
        self._leave()

    def _unexpected(self, failure: Failure) -> None:
        log.failure("A C-GET failed in an unexpected way", failure)
        self._fail(OrthancError("C-GET failed in an unexpected way"))

    async def _store(self, message: Message) -> None:
        status, comment = dimse.SUCCESS, ""
        try:
            await self._take_in(message)
        except OrthancError as e:
            status, comment = e.dimse_status, e.details or str(e)
        except Exception:  # noqa: BLE001 - any exception becomes a status
            log.failure("An object of a C-GET could not be stored")
            status, comment = DIMSE_CANNOT_UNDERSTAND, "Internal error"
        if status:
            log.info("Object of a C-GET answered by {status:#06x}: {comment}", status=status, comment=comment)
        if not self._over:
            self._send(message.context_id, dimse.response(message.command, status, comment))

    async def _take_in(self, message: Message) -> None:
        sink = message.sink
        if isinstance(sink, Unwanted):
            raise OrthancError(sink.comment, dimse_status=sink.status)
        if not isinstance(sink, ReceivedObject):
            raise OrthancError("The request has no data set")
        origin = Origin(
            kind=OriginKind.DICOM_PROTOCOL,
            remote_ip=self._layer.transport.getPeer().host,
            remote_aet=self._remote.aet,
            called_aet=self._remote.local_aet,
        )
        public_id = await sink.deliver(self._services.receive, origin)
        self._count += 1
        if public_id is not None:
            self._stored.append(public_id)

    def _responded(self, command: Command) -> None:
        status = command.number(dimse.STATUS, -1)
        if command.number(dimse.RESPONDED_TO, -1) != _MESSAGE_ID or status < 0:
            self._fail(PeerFailure(f"{self._remote.aet} has answered what was not asked"))
        elif is_pending(status):
            if not self._settled:
                self._progress(progress_of(command))
        else:
            self._final = True
            result = progress_of(command, completed=self._count)
            good = is_retrieved(status)
            self._settle((result, self._stored) if good else Failure(StatusFailure("C-GET", status)))
            self._layer.release()

    def _send(self, context_id: int, data: bytes, *, is_command: bool = True) -> None:
        for values in dimse.fragments(
            context_id, data, is_command=is_command, maximum_length=self._peer_maximum
        ):
            self._layer.send(values)
