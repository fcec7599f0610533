"""An upper layer on a transport in memory, and how each event of the standard's table happens to it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from orthanctw.dicom.uids import VERIFICATION
from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import (
    Abort,
    AcceptedContext,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextResult,
    Pdv,
    ProposedContext,
    UserInformation,
)
from orthanctw.dicom.upper.protocol import UpperLayer
from orthanctw.dicom.upper.states import Event

IMPLICIT: Final = "1.2.840.10008.1.2"
ARTIM: Final = 30.0
MAXIMUM: Final = 16384
REQUEST: Final = AssociateRequest(
    called_aet="CALLED",
    calling_aet="CALLING",
    contexts=(ProposedContext(1, VERIFICATION, (IMPLICIT,)),),
    user=UserInformation(maximum_length=MAXIMUM, implementation_class_uid="1.2.3"),
)
ANSWER: Final = AssociateAccept(
    called_aet="CALLED",
    calling_aet="CALLING",
    contexts=(AcceptedContext(1, ContextResult.ACCEPTED, IMPLICIT),),
    user=UserInformation(maximum_length=MAXIMUM, implementation_class_uid="1.2.3"),
)
REJECT: Final = AssociateReject(1, 1, 7)
VALUE: Final = Pdv(1, True, True, b"abcd")
RQ: Final = pdus.encode_associate_request(REQUEST)
AC: Final = pdus.encode_associate_accept(ANSWER)
RJ: Final = pdus.encode_reject(REJECT)
DATA: Final = pdus.encode_data([VALUE])
ABORT: Final = pdus.encode_abort(Abort(0, 0))
UNKNOWN: Final = b"\x99\0\0\0\0\0"


class Transport(StringTransport):
    """A transport that remembers how it was treated."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def unregisterProducer(self) -> None:
        # As that of TCP, which does not mind being told twice.
        self.producer = None


class User:
    """Notes what it is told; answers nothing by itself."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.values: list[tuple[int, bool, bool, bytes]] = []
        self.aborts: list[Abort | None] = []
        self.acts: Callable[[], None] = lambda: None

    def associate_requested(self, request: AssociateRequest) -> None:
        self.told.append("requested")
        self.acts()

    def associate_accepted(self, answer: AssociateAccept) -> None:
        self.told.append("accepted")

    def associate_rejected(self, reject: AssociateReject) -> None:
        self.told.append("rejected")

    def data_received(self, value: Pdv) -> None:
        self.told.append("data")
        self.values.append((value.context_id, value.is_command, value.is_last, bytes(value.data)))
        self.acts()

    def release_requested(self) -> None:
        self.told.append("release")

    def release_confirmed(self) -> None:
        self.told.append("released")

    def ended(self, abort: Abort | None) -> None:
        self.told.append("ended")
        self.aborts.append(abort)

    def disconnected(self) -> None:
        self.told.append("disconnected")


class Bench:
    """One upper layer on a transport in memory."""

    def __init__(self, requestor: bool = False) -> None:
        self.clock = Clock()
        self.user = User()
        self.transport = Transport()
        self.layer = UpperLayer(
            self.user, self.clock, artim=ARTIM, maximum_length=MAXIMUM, request=REQUEST if requestor else None
        )

    def connect(self) -> None:
        self.layer.makeConnection(self.transport)  # type: ignore[no-untyped-call]

    def receive(self, data: bytes) -> None:
        self.layer.dataReceived(data)

    def sent(self) -> list[int]:
        """Types of the PDUs sent since the last call."""
        data, kinds = self.transport.value(), []
        self.transport.clear()
        while data:
            kind, length = struct.unpack_from(">BxI", data)
            kinds.append(kind)
            data = data[6 + length :]
        return kinds

    def forget(self) -> None:
        self.transport.clear()
        self.user.told.clear()

    @property
    def timers(self) -> int:
        return len(self.clock.getDelayedCalls())


def _lose(bench: Bench) -> None:
    bench.layer.connectionLost()


#: How each event of the standard's table happens to a layer. The first is made by whoever connects.
EVENTS: Final[dict[Event, Callable[[Bench], None]]] = {
    Event.ASSOCIATE_AC_PDU: lambda bench: bench.receive(AC),
    Event.ASSOCIATE_RJ_PDU: lambda bench: bench.receive(RJ),
    Event.ASSOCIATE_RQ_PDU: lambda bench: bench.receive(RQ),
    Event.ASSOCIATE_ACCEPT: lambda bench: bench.layer.accept(ANSWER),
    Event.ASSOCIATE_REJECT: lambda bench: bench.layer.reject(REJECT),
    Event.DATA_REQUEST: lambda bench: bench.layer.send([VALUE]),
    Event.DATA_PDU: lambda bench: bench.receive(DATA),
    Event.RELEASE_REQUEST: lambda bench: bench.layer.release(),
    Event.RELEASE_RQ_PDU: lambda bench: bench.receive(pdus.RELEASE_RQ),
    Event.RELEASE_RP_PDU: lambda bench: bench.receive(pdus.RELEASE_RP),
    Event.RELEASE_RESPONSE: lambda bench: bench.layer.answer_release(),
    Event.ABORT_REQUEST: lambda bench: bench.layer.abort(),
    Event.ABORT_PDU: lambda bench: bench.receive(ABORT),
    Event.TRANSPORT_CLOSED: _lose,
    Event.ARTIM_EXPIRED: lambda bench: bench.clock.advance(ARTIM),
    Event.INVALID_PDU: lambda bench: bench.receive(UNKNOWN),
}
#: Events that lead from a new connection to each state, by role (acceptor, requestor). State 4 lasts no time.
PATHS: Final[dict[bool, dict[int, tuple[Event, ...]]]] = {
    False: {
        2: (),
        3: (Event.ASSOCIATE_RQ_PDU,),
        6: (Event.ASSOCIATE_RQ_PDU, Event.ASSOCIATE_ACCEPT),
        7: (Event.ASSOCIATE_RQ_PDU, Event.ASSOCIATE_ACCEPT, Event.RELEASE_REQUEST),
        8: (Event.ASSOCIATE_RQ_PDU, Event.ASSOCIATE_ACCEPT, Event.RELEASE_RQ_PDU),
        10: (Event.ASSOCIATE_RQ_PDU, Event.ASSOCIATE_ACCEPT, Event.RELEASE_REQUEST, Event.RELEASE_RQ_PDU),
        12: (
            Event.ASSOCIATE_RQ_PDU,
            Event.ASSOCIATE_ACCEPT,
            Event.RELEASE_REQUEST,
            Event.RELEASE_RQ_PDU,
            Event.RELEASE_RP_PDU,
        ),
        13: (Event.ASSOCIATE_RQ_PDU, Event.ASSOCIATE_REJECT),
    },
    True: {
        5: (),
        6: (Event.ASSOCIATE_AC_PDU,),
        7: (Event.ASSOCIATE_AC_PDU, Event.RELEASE_REQUEST),
        8: (Event.ASSOCIATE_AC_PDU, Event.RELEASE_RQ_PDU),
        9: (Event.ASSOCIATE_AC_PDU, Event.RELEASE_REQUEST, Event.RELEASE_RQ_PDU),
        11: (Event.ASSOCIATE_AC_PDU, Event.RELEASE_REQUEST, Event.RELEASE_RQ_PDU, Event.RELEASE_RESPONSE),
        13: (Event.ASSOCIATE_AC_PDU, Event.ABORT_REQUEST),
    },
}


def in_state(state: int, requestor: bool) -> Bench:
    """A layer that was led to a state, with nothing noted yet."""
    bench = Bench(requestor)
    bench.connect()
    for event in PATHS[requestor][state]:
        EVENTS[event](bench)
    bench.forget()
    return bench
