"""The upper layer as a Twisted protocol, for both roles (PS3.8 sections 7 and 9)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IPushProducer, IReactorTime, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import (
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    InvalidPdu,
    PduType,
    Pdv,
)
from orthanctw.dicom.upper.sockets import Outflow, do_nothing, quick_ack_of
from orthanctw.dicom.upper.states import NEXT, TABLE, Event, State

log = Logger(namespace="orthanctw.dicom")
#: Largest association PDU: 128 contexts with every transfer syntax that exists fit ten times.
_ASSOCIATE_LIMIT: Final = 1 << 20
_HEAD: Final = struct.Struct(">BxI")
_PROVIDER: Final = 2
_USER: Final = 0
_UNRECOGNIZED_PDU: Final = 1
_UNEXPECTED_PDU: Final = 2

_PDU_EVENTS: Final = {
    PduType.ASSOCIATE_RQ: Event.ASSOCIATE_RQ_PDU,
    PduType.ASSOCIATE_AC: Event.ASSOCIATE_AC_PDU,
    PduType.ASSOCIATE_RJ: Event.ASSOCIATE_RJ_PDU,
    PduType.DATA: Event.DATA_PDU,
    PduType.RELEASE_RQ: Event.RELEASE_RQ_PDU,
    PduType.RELEASE_RP: Event.RELEASE_RP_PDU,
    PduType.ABORT: Event.ABORT_PDU,
}
_KINDS: Final[dict[int, PduType]] = {int(kind): kind for kind in PduType}
#: States in which values of the peer are still for the user.
_RECEIVING: Final = frozenset((State.ESTABLISHED, State.AWAIT_RELEASE_RP))


def _decode_release(body: memoryview) -> None:
    if len(body) != 4:
        raise InvalidPdu("a release has another length")


_DECODERS: Final[dict[PduType, Callable[[memoryview], Any]]] = {
    PduType.ASSOCIATE_RQ: lambda body: pdus.decode_associate_request(bytes(body)),
    PduType.ASSOCIATE_AC: lambda body: pdus.decode_associate_accept(bytes(body)),
    PduType.ASSOCIATE_RJ: lambda body: pdus.decode_reject(bytes(body)),
    PduType.DATA: lambda body: tuple(pdus.decode_data(body)),
    PduType.RELEASE_RQ: _decode_release,
    PduType.RELEASE_RP: _decode_release,
    PduType.ABORT: lambda body: pdus.decode_abort(bytes(body)),
}


class UpperLayerUser(Protocol):
    """Who uses an association: told of what the peer does (the indications and confirmations of PS3.8 section 7)."""

    def associate_requested(self, request: AssociateRequest) -> None:
        """Answer by `UpperLayer.accept` or `reject`."""

    def associate_accepted(self, answer: AssociateAccept) -> None:
        """The association that we asked for is there."""

    def associate_rejected(self, reject: AssociateReject) -> None:
        """It is not."""

    def data_received(self, value: Pdv) -> None:
        """A presentation data value; its data are valid during the call only."""

    def release_requested(self) -> None:
        """Answer by `UpperLayer.answer_release`."""

    def release_confirmed(self) -> None:
        """The release that we asked for is done."""

    def ended(self, abort: Abort | None) -> None:
        """The association was aborted, by either side, or its connection is lost; told once, not after a release."""

    def disconnected(self) -> None:
        """The connection is gone: the last call, always made."""


@implementer(IPushProducer, IHandshakeListener)
class UpperLayer(protocol.Protocol):
    """One connection.

    As a producer it counts: what was paused so many times must be resumed as often.

    Parameters
    ----------
    user : UpperLayerUser
    clock : IReactorTime
    artim : float
        Seconds of the association request/reject/release timer.
    maximum_length : int
        Longest P-DATA-TF PDU that we receive, in octets, as told to the peer.
    request : AssociateRequest, optional
        What to ask for; without it the connection is the acceptor's.
    """

    transport: Any

    def __init__(
        self,
        user: UpperLayerUser,
        clock: IReactorTime,
        *,
        artim: float,
        maximum_length: int,
        request: AssociateRequest | None = None,
    ) -> None:
        self.user = user
        self.state = State.IDLE
        self.last_activity = 0.0
        #: Whether the end of the connection has been asked for.
        self.closing = False
        self._clock = clock
        self._artim = artim
        self._maximum_length = maximum_length
        self._request = request
        self._timer: IDelayedCall | None = None
        self._buffer = bytearray()
        self._need = _HEAD.size
        self._deaf = False
        self._told_end = False
        self._pauses = 0
        self._outflow = Outflow(self)
        self._quick_ack: Callable[[], None] = do_nothing

    # Transport

    def connectionMade(self) -> None:
        self.last_activity = self._clock.seconds()
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self._outflow, True)
        self._quick_ack = quick_ack_of(self.transport)
        self._quick_ack()
        if self._request is None:
            self._happen(Event.TRANSPORT_INDICATION)
        else:
            self.state = State.AWAIT_TRANSPORT
            if not ISSLTransport.providedBy(self.transport):
                self._happen(Event.TRANSPORT_CONFIRM)

    def handshakeCompleted(self) -> None:
        """TLS: from now on data may be written."""
        self._happen(Event.TRANSPORT_CONFIRM)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._deaf = True
        try:
            self._happen(Event.TRANSPORT_CLOSED)
        finally:
            self._stop_timer()
            self._buffer.clear()
            self.user.disconnected()
            self._outflow.release()

    def dataReceived(self, data: bytes) -> None:
        self._quick_ack()
        if self._deaf:
            return
        self.last_activity = self._clock.seconds()
        if self._buffer:
            # A peer may send octet by octet: nothing is looked at before the PDU is complete.
            self._buffer += data
            if len(self._buffer) < self._need:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        position = self._take_pdus(data)
        if not self._deaf:
            self._buffer += data[position:]

    @property
    def waits_for_us(self) -> bool:
        """Whether the user has paused the peer, so that its silence says nothing about it."""
        return self._pauses > int(self._outflow.is_paused)

    @property
    def is_held_up(self) -> bool:
        """Whether the peer does not read what it was sent."""
        return self._outflow.is_paused

    def pauseProducing(self) -> None:
        """Take nothing more from the peer."""
        self._pauses += 1
        if self._pauses == 1:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Undo one `pauseProducing`."""
        self._pauses -= 1
        if self._pauses == 0:
            # Time that we needed is no silence of the peer.
            self.last_activity = self._clock.seconds()
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """End the connection."""
        self.close()

    def _take_pdus(self, data: bytes) -> int:
        """Act on the PDUs that are complete; where the first incomplete one begins."""
        position, size = 0, len(data)
        while not self._deaf:
            if size - position < _HEAD.size:
                self._need = _HEAD.size
                break
            kind, length = _HEAD.unpack_from(data, position)
            try:
                self._check_head(kind, length)
            except InvalidPdu as e:
                self._invalid(e.reason, e.details)
                break
            end = position + _HEAD.size + length
            if end > size:
                self._need = end - position
                break
            self._receive(_KINDS[kind], memoryview(data)[position + _HEAD.size : end])
            position = end
        return position

    def _check_head(self, kind: int, length: int) -> None:
        if kind not in _KINDS:
            raise InvalidPdu(f"unknown type of PDU: {kind:#04x}", _UNRECOGNIZED_PDU)
        if kind == PduType.DATA:
            limit = self._maximum_length
        else:
            limit = _ASSOCIATE_LIMIT if kind <= PduType.ASSOCIATE_AC else 4
        if length > limit:
            raise InvalidPdu(f"a PDU announces {length} octets")

    def _receive(self, kind: PduType, body: memoryview) -> None:
        try:
            subject = _DECODERS[kind](body)
        except InvalidPdu as e:
            self._invalid(e.reason, e.details)
            return
        except Exception:  # noqa: BLE001 - whatever a codec raises on what a peer sent, the peer is at fault
            self._invalid(6, "the PDU cannot be read")
            return
        try:
            self._happen(_PDU_EVENTS[kind], subject)
        except Exception:  # noqa: BLE001 - a defect of ours must not leave the peer waiting
            log.failure("A DICOM connection failed in an unexpected way")
            self._deaf = True
            self.abort()

    def _invalid(self, reason: int, details: str) -> None:
        log.info("Invalid PDU: {details}", details=details)
        # Where one PDU ends is not known any more.
        self._deaf = True
        self._happen(Event.INVALID_PDU, Abort(_PROVIDER, reason))

    # Requests of the user; those that come too late, as the peer acted in between, are ignored

    def accept(self, answer: AssociateAccept) -> None:
        """A-ASSOCIATE response, positive."""
        self._happen(Event.ASSOCIATE_ACCEPT, answer)

    def reject(self, reject: AssociateReject) -> None:
        """A-ASSOCIATE response, negative."""
        self._happen(Event.ASSOCIATE_REJECT, reject)

    def send(self, values: Sequence[Pdv]) -> None:
        """P-DATA request: one PDU."""
        self._happen(Event.DATA_REQUEST, values)

    def drained(self) -> Deferred[None]:
        """Fires when the peer takes more of what `send` has written, or the association is over."""
        return self._outflow.drained()

    def release(self) -> None:
        """A-RELEASE request."""
        self._happen(Event.RELEASE_REQUEST)

    def answer_release(self) -> None:
        """A-RELEASE response."""
        self._happen(Event.RELEASE_RESPONSE)

    def abort(self) -> None:
        """A-ABORT request."""
        self._happen(Event.ABORT_REQUEST)

    def close(self) -> None:
        """End the connection whatever its state, once what was written has left; without mercy after the timer."""
        self._deaf = self.closing = True
        self._stop_timer()
        self._timer = self._clock.callLater(self._artim, self._cut)
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def cut(self) -> None:
        """End the connection now; what was not sent is lost."""
        self._deaf = self.closing = True
        self.transport.abortConnection()

    # The machine

    def _happen(self, event: Event, subject: Any = None) -> None:
        action = TABLE.get((event, self.state))
        if action is None:
            log.debug("Event {event} in state {state}", event=event.name, state=self.state.name)
            return
        self.state = NEXT[action]
        _ACTIONS[action](self, subject)

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self._clock.callLater(self._artim, self._expire)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _expire(self) -> None:
        self._timer = None
        self._happen(Event.ARTIM_EXPIRED)

    def _cut(self) -> None:
        self._timer = None
        self.cut()

    def _tell_end(self, abort: Abort | None) -> None:
        if not self._told_end:
            self._told_end = True
            self.user.ended(abort)
            self._outflow.release()

    # Actions (PS3.8 tables 9-6 to 9-9), each with what its event is about

    def _send_request(self, _: Any) -> None:
        assert self._request is not None
        self.transport.write(pdus.encode_associate_request(self._request))

    def _tell_accepted(self, answer: AssociateAccept) -> None:
        self.user.associate_accepted(answer)

    def _tell_rejected(self, reject: AssociateReject) -> None:
        self._told_end = True
        self.close()
        self.user.associate_rejected(reject)

    def _await_request(self, _: Any) -> None:
        self._start_timer()

    def _tell_requested(self, request: AssociateRequest) -> None:
        self._stop_timer()
        if not request.protocol_version & 1:
            self.state = State.AWAIT_TRANSPORT_CLOSE
            self._send_reject(AssociateReject(1, _PROVIDER, 2))
            return
        self.user.associate_requested(request)

    def _send_accept(self, answer: AssociateAccept) -> None:
        self.transport.write(pdus.encode_associate_accept(answer))

    def _send_reject(self, reject: AssociateReject) -> None:
        self.transport.write(pdus.encode_reject(reject))
        self._start_timer()

    def _send_data(self, values: Sequence[Pdv]) -> None:
        # Our own work is no silence of the peer.
        self.last_activity = self._clock.seconds()
        self.transport.write(pdus.encode_data(values))

    def _tell_data(self, values: Sequence[Pdv]) -> None:
        for value in values:
            self.user.data_received(value)
            if self.state not in _RECEIVING:
                # The user has aborted over this value.
                return

    def _send_release(self, _: Any) -> None:
        self.transport.write(pdus.RELEASE_RQ)

    def _tell_release(self, _: Any) -> None:
        self.user.release_requested()

    def _tell_released(self, _: Any) -> None:
        self._told_end = True
        self.close()
        self.user.release_confirmed()

    def _send_release_answer_and_wait(self, _: Any) -> None:
        self._told_end = True
        self.transport.write(pdus.RELEASE_RP)
        self._start_timer()

    def _tell_collision(self, _: Any) -> None:
        if self._request is None:
            self.state = State.COLLISION_ACCEPTOR_AWAIT_RP
        self.user.release_requested()

    def _send_release_answer(self, _: Any) -> None:
        self.transport.write(pdus.RELEASE_RP)

    def _tell_released_first(self, _: Any) -> None:
        self.user.release_confirmed()

    def _send_abort(self, _: Any) -> None:
        # AA-1 knows no reason: PS3.8 table 9-9 sends it with the source "service user".
        self.transport.write(pdus.encode_abort(Abort(_USER, 0)))
        self._start_timer()
        self._tell_end(None)

    def _close(self, _: Any) -> None:
        self.close()

    def _send_abort_again(self, _: Any) -> None:
        self.transport.write(pdus.encode_abort(Abort(_PROVIDER, _UNEXPECTED_PDU)))

    def _tell_abort(self, abort: Abort) -> None:
        self.close()
        self._tell_end(abort)

    def _tell_lost(self, _: Any) -> None:
        self._tell_end(None)

    def _forget_timer(self, _: Any) -> None:
        self._stop_timer()

    def _abort_by_provider(self, subject: Any) -> None:
        abort = subject if isinstance(subject, Abort) else Abort(_PROVIDER, _UNEXPECTED_PDU)
        self._deaf = True
        self.transport.write(pdus.encode_abort(abort))
        self._start_timer()
        self._tell_end(abort)

    def _ignore(self, _: Any) -> None:
        """AA-6."""


_ACTIONS: Final[dict[str, Callable[[UpperLayer, Any], None]]] = {
    "AE-2": UpperLayer._send_request,
    "AE-3": UpperLayer._tell_accepted,
    "AE-4": UpperLayer._tell_rejected,
    "AE-5": UpperLayer._await_request,
    "AE-6": UpperLayer._tell_requested,
    "AE-7": UpperLayer._send_accept,
    "AE-8": UpperLayer._send_reject,
    "DT-1": UpperLayer._send_data,
    "DT-2": UpperLayer._tell_data,
    "AR-1": UpperLayer._send_release,
    "AR-2": UpperLayer._tell_release,
    "AR-3": UpperLayer._tell_released,
    "AR-4": UpperLayer._send_release_answer_and_wait,
    "AR-5": UpperLayer._forget_timer,
    "AR-6": UpperLayer._tell_data,
    "AR-7": UpperLayer._send_data,
    "AR-8": UpperLayer._tell_collision,
    "AR-9": UpperLayer._send_release_answer,
    "AR-10": UpperLayer._tell_released_first,
    "AA-1": UpperLayer._send_abort,
    "AA-2": UpperLayer._close,
    "AA-3": UpperLayer._tell_abort,
    "AA-4": UpperLayer._tell_lost,
    "AA-5": UpperLayer._forget_timer,
    "AA-6": UpperLayer._ignore,
    "AA-7": UpperLayer._send_abort_again,
    "AA-8": UpperLayer._abort_by_provider,
}
