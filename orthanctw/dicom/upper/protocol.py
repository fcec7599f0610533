"""The upper layer as a Twisted protocol, for both roles (PS3.8 sections 7 and 9).

Quick acknowledgements: a sender with Nagle's algorithm waits for our ACK before its next small segment, and Linux
delays ACKs by up to 40 ms unless it is told otherwise after every read.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet import protocol
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

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
from orthanctw.dicom.upper.states import NEXT, TABLE, Event, State

log = Logger(namespace="orthanctw.dicom")
#: Largest association PDU: 128 contexts with every transfer syntax that exists fit ten times.
_ASSOCIATE_LIMIT: Final = 1 << 20
_HEAD: Final = struct.Struct(">BxI")
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)
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
        """The connection is gone, or the association was aborted by the peer or for what it sent; told once."""


class UpperLayer(protocol.Protocol):
    """One connection.

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
        self._clock = clock
        self._artim = artim
        self._maximum_length = maximum_length
        self._request = request
        self._timer: IDelayedCall | None = None
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = _HEAD.size
        self._deaf = False
        self._told_end = False
        self._pdu: Any = None
        self._quick_ack: Callable[[], None] = _nothing

    # Transport

    def connectionMade(self) -> None:
        self.last_activity = self._clock.seconds()
        self.transport.setTcpNoDelay(True)
        self._quick_ack = _quick_ack_of(self.transport)
        self._quick_ack()
        if self._request is None:
            self._happen(Event.TRANSPORT_INDICATION)
        else:
            self.state = State.AWAIT_TRANSPORT
            self._happen(Event.TRANSPORT_CONFIRM)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self._deaf = True
        if self.state is not State.IDLE:
            self._happen(Event.TRANSPORT_CLOSED)
        self._stop_timer()
        self._tell_end(None)

    def dataReceived(self, data: bytes) -> None:
        self._quick_ack()
        self.last_activity = self._clock.seconds()
        if self._deaf:
            return
        self._chunks.append(data)
        self._have += len(data)
        # Joined only when a PDU is complete: a peer may send octet by octet.
        if self._have >= self._need:
            self._take_pdus()

    def _take_pdus(self) -> None:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
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
        if self._deaf:
            self._chunks.clear()
            self._have = 0
            return
        self._chunks[:] = [data[position:]] if position < size else []
        self._have = size - position

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
            if kind is PduType.DATA:
                self._pdu = tuple(pdus.decode_data(body))
            elif kind is PduType.ASSOCIATE_RQ:
                self._pdu = pdus.decode_associate_request(bytes(body))
            elif kind is PduType.ASSOCIATE_AC:
                self._pdu = pdus.decode_associate_accept(bytes(body))
            elif kind is PduType.ASSOCIATE_RJ:
                self._pdu = pdus.decode_reject(bytes(body))
            elif kind is PduType.ABORT:
                self._pdu = pdus.decode_abort(bytes(body))
            elif len(body) != 4:
                raise InvalidPdu("a release has another length")
        except InvalidPdu as e:
            self._invalid(e.reason, e.details)
            return
        except Exception:  # noqa: BLE001 - whatever a codec raises on what a peer sent, the peer is at fault
            self._invalid(6, "the PDU cannot be read")
            return
        self._happen(_PDU_EVENTS[kind])

    def _invalid(self, reason: int, details: str) -> None:
        log.info("Invalid PDU: {details}", details=details)
        # Where one PDU ends is not known any more.
        self._deaf = True
        self._pdu = Abort(_PROVIDER, reason)
        self._happen(Event.INVALID_PDU)

    # Requests of the user

    def accept(self, answer: AssociateAccept) -> None:
        """A-ASSOCIATE response, positive."""
        self._pdu = answer
        self._happen(Event.ASSOCIATE_ACCEPT)

    def reject(self, reject: AssociateReject) -> None:
        """A-ASSOCIATE response, negative."""
        self._pdu = reject
        self._happen(Event.ASSOCIATE_REJECT)

    def send(self, values: Sequence[Pdv]) -> None:
        """P-DATA request: one PDU. Ignored when the association has ended meanwhile."""
        self._pdu = values
        self._happen(Event.DATA_REQUEST)

    def release(self) -> None:
        """A-RELEASE request."""
        self._happen(Event.RELEASE_REQUEST)

    def answer_release(self) -> None:
        """A-RELEASE response."""
        self._happen(Event.RELEASE_RESPONSE)

    def abort(self) -> None:
        """A-ABORT request."""
        self._pdu = Abort(_USER, 0)
        self._happen(Event.ABORT_REQUEST)

    # The machine

    def _happen(self, event: Event) -> None:
        action = TABLE.get((event, self.state))
        if action is None:
            # A request of the user that came too late, as the peer acted in between.
            log.debug("Event {event} in state {state}", event=event.name, state=self.state.name)
            return
        self.state = NEXT[action]
        _ACTIONS[action](self)

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

    def _close(self) -> None:
        self._stop_timer()
        self._deaf = True
        self.transport.loseConnection()

    def _tell_end(self, abort: Abort | None) -> None:
        if not self._told_end:
            self._told_end = True
            self.user.ended(abort)

    def _send_request(self) -> None:
        assert self._request is not None
        self.transport.write(pdus.encode_associate_request(self._request))

    def _tell_accepted(self) -> None:
        self.user.associate_accepted(self._pdu)

    def _tell_rejected(self) -> None:
        self._told_end = True
        self.user.associate_rejected(self._pdu)
        self._close()

    def _tell_requested(self) -> None:
        self._stop_timer()
        if not self._pdu.protocol_version & 1:
            self.state = State.AWAIT_TRANSPORT_CLOSE
            self._pdu = AssociateReject(1, 2, 2)
            self._send_reject()
            return
        self.user.associate_requested(self._pdu)

    def _send_accept(self) -> None:
        self.transport.write(pdus.encode_associate_accept(self._pdu))

    def _send_reject(self) -> None:
        self.transport.write(pdus.encode_reject(self._pdu))
        self._start_timer()

    def _send_data(self) -> None:
        # Our own work is no silence of the peer.
        self.last_activity = self._clock.seconds()
        self.transport.write(pdus.encode_data(self._pdu))

    def _tell_data(self) -> None:
        for value in self._pdu:
            self.user.data_received(value)
            if self._deaf:
                return

    def _send_release(self) -> None:
        self.transport.write(pdus.RELEASE_RQ)

    def _tell_release(self) -> None:
        self.user.release_requested()

    def _tell_released(self) -> None:
        self._told_end = True
        self.user.release_confirmed()
        self._close()

    def _send_release_answer_and_wait(self) -> None:
        self._told_end = True
        self.transport.write(pdus.RELEASE_RP)
        self._start_timer()

    def _tell_collision(self) -> None:
        if self._request is None:
            self.state = State.COLLISION_ACCEPTOR_AWAIT_RP
        self.user.release_requested()

    def _send_release_answer(self) -> None:
        self.transport.write(pdus.RELEASE_RP)

    def _tell_released_first(self) -> None:
        self.user.release_confirmed()

    def _send_abort(self) -> None:
        abort = self._pdu if isinstance(self._pdu, Abort) else Abort(_PROVIDER, _UNEXPECTED_PDU)
        self.transport.write(pdus.encode_abort(abort))
        self._start_timer()

    def _send_abort_by_user(self) -> None:
        # AA-1 knows no reason: PS3.8 table 9-7 sends it with the source "service user".
        self.transport.write(pdus.encode_abort(Abort(_USER, 0)))
        self._start_timer()
        self._tell_end(None)

    def _send_abort_again(self) -> None:
        self.transport.write(pdus.encode_abort(Abort(_PROVIDER, _UNEXPECTED_PDU)))

    def _tell_abort(self) -> None:
        self._tell_end(self._pdu)
        self._close()

    def _tell_lost(self) -> None:
        self._tell_end(None)

    def _abort_by_provider(self) -> None:
        abort = self._pdu if isinstance(self._pdu, Abort) else Abort(_PROVIDER, _UNEXPECTED_PDU)
        self._deaf = True
        self.transport.write(pdus.encode_abort(abort))
        self._start_timer()
        self._tell_end(abort)

    def _ignore(self) -> None:
        """AA-6."""


_ACTIONS: Final[dict[str, Callable[[UpperLayer], None]]] = {
    "AE-2": UpperLayer._send_request,
    "AE-3": UpperLayer._tell_accepted,
    "AE-4": UpperLayer._tell_rejected,
    "AE-5": UpperLayer._start_timer,
    "AE-6": UpperLayer._tell_requested,
    "AE-7": UpperLayer._send_accept,
    "AE-8": UpperLayer._send_reject,
    "DT-1": UpperLayer._send_data,
    "DT-2": UpperLayer._tell_data,
    "AR-1": UpperLayer._send_release,
    "AR-2": UpperLayer._tell_release,
    "AR-3": UpperLayer._tell_released,
    "AR-4": UpperLayer._send_release_answer_and_wait,
    "AR-5": UpperLayer._stop_timer,
    "AR-6": UpperLayer._tell_data,
    "AR-7": UpperLayer._send_data,
    "AR-8": UpperLayer._tell_collision,
    "AR-9": UpperLayer._send_release_answer,
    "AR-10": UpperLayer._tell_released_first,
    "AA-1": UpperLayer._send_abort_by_user,
    "AA-2": UpperLayer._close,
    "AA-3": UpperLayer._tell_abort,
    "AA-4": UpperLayer._tell_lost,
    "AA-5": UpperLayer._stop_timer,
    "AA-6": UpperLayer._ignore,
    "AA-7": UpperLayer._send_abort_again,
    "AA-8": UpperLayer._abort_by_provider,
}


def _nothing() -> None:
    """Where there are no quick acknowledgements."""


def _quick_ack_of(transport: Any) -> Callable[[], None]:
    handle = getattr(transport, "socket", None)
    if _QUICKACK is None or not isinstance(handle, socket.socket):
        return _nothing
    option = _QUICKACK

    def acknowledge() -> None:
        # The kernel forgets the option after a while, so it is set after every read.
        handle.setsockopt(socket.IPPROTO_TCP, option, 1)

    return acknowledge
