"""The upper layer as a machine: its state table against an independent copy of the standard's, streams, connections."""

from __future__ import annotations

import socket
import struct
from typing import Any, Final

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.fsm import ACTIONS, TRANSITION_TABLE
from twisted.internet import protocol, reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import Abort, AssociateReject, PduType, Pdv
from orthanctw.dicom.upper.protocol import UpperLayer
from orthanctw.dicom.upper.states import Event, State
from test.upper_bench import (
    ABORT,
    AC,
    ANSWER,
    ARTIM,
    DATA,
    EVENTS,
    MAXIMUM,
    PATHS,
    RJ,
    RQ,
    UNKNOWN,
    VALUE,
    Bench,
    User,
    in_state,
)


@attrs.frozen
class Effect:
    """What an action does (PS3.8 tables 9-6 to 9-9): the PDU sent, what the user is told, the timer, the connection."""

    sends: PduType | None = None
    tells: str | None = None
    #: Whether the timer runs afterwards: None when the action leaves it as it was.
    timer: bool | None = None
    closes: bool = False


EFFECTS: Final = {
    "AE-3": Effect(tells="accepted"),
    "AE-4": Effect(tells="rejected", closes=True),
    "AE-6": Effect(tells="requested", timer=False),
    "AE-7": Effect(sends=PduType.ASSOCIATE_AC),
    "AE-8": Effect(sends=PduType.ASSOCIATE_RJ, timer=True),
    "DT-1": Effect(sends=PduType.DATA),
    "DT-2": Effect(tells="data"),
    "AR-1": Effect(sends=PduType.RELEASE_RQ),
    "AR-2": Effect(tells="release"),
    "AR-3": Effect(tells="released", closes=True),
    "AR-4": Effect(sends=PduType.RELEASE_RP, timer=True),
    "AR-5": Effect(timer=False),
    "AR-6": Effect(tells="data"),
    "AR-7": Effect(sends=PduType.DATA),
    "AR-8": Effect(tells="release"),
    "AR-9": Effect(sends=PduType.RELEASE_RP),
    "AR-10": Effect(tells="released"),
    "AA-1": Effect(sends=PduType.ABORT, tells="ended", timer=True),
    "AA-2": Effect(closes=True),
    "AA-3": Effect(tells="ended", closes=True),
    "AA-4": Effect(tells="ended"),
    "AA-5": Effect(timer=False),
    "AA-6": Effect(),
    "AA-7": Effect(sends=PduType.ABORT),
    "AA-8": Effect(sends=PduType.ABORT, tells="ended", timer=True),
}


def expected_state(action: str, state: int, requestor: bool) -> int:
    """The state after an action, from the independent copy of the table."""
    if action == "AR-8":
        return 9 if requestor else 10
    following = ACTIONS[action][2]
    return int((following if isinstance(following, str) else following[0])[3:])


class TableTest(SynchronousTestCase):
    """Every event in every state, driven from outside."""

    def check(self, event: Event, state: int, requestor: bool) -> None:
        bench = in_state(state, requestor)
        case = f"{event.name} in state {state}, {'requestor' if requestor else 'acceptor'}"
        self.assertEqual(bench.layer.state, state, case)
        timers = bench.timers
        EVENTS[event](bench)
        action = TRANSITION_TABLE.get((f"Evt{event.value}", f"Sta{state}"))
        if action is None:
            self.assertEqual((bench.layer.state, bench.sent(), bench.user.told), (state, [], []), case)
            return
        effect = EFFECTS[action]
        self.assertEqual(bench.layer.state, expected_state(action, state, requestor), case)
        self.assertEqual(bench.sent(), [] if effect.sends is None else [effect.sends], case)
        told = [] if effect.tells is None else [effect.tells]
        if event is Event.TRANSPORT_CLOSED:
            told.append("disconnected")
        self.assertEqual(bench.user.told, told, case)
        self.assertEqual(bench.transport.disconnecting, effect.closes, case)
        if effect.closes:
            # What runs then only sees to it that the connection does end.
            bench.layer.connectionLost()
            self.assertEqual(bench.timers, 0, case)
        else:
            self.assertEqual(bench.timers, timers if effect.timer is None else int(effect.timer), case)

    def test_table(self) -> None:
        """Each event in each state has the next state, the PDU and the indication of the standard's table."""
        for requestor, states in PATHS.items():
            for state in states:
                for event in EVENTS:
                    if event is Event.ARTIM_EXPIRED and (f"Evt{event.value}", f"Sta{state}") not in TRANSITION_TABLE:
                        continue
                    self.check(event, state, requestor)

    def test_every_state_is_reached(self) -> None:
        """The paths above leave out no state but the two without a connection."""
        self.assertEqual(set(PATHS[False]) | set(PATHS[True]), set(range(1, 14)) - {1, 4})

    def test_timer_of_states_without_one(self) -> None:
        """In states for which the standard has no timer none runs, whoever has connected."""
        for requestor, states in PATHS.items():
            for state in states:
                self.assertEqual(in_state(state, requestor).timers, int(state in (2, 13)), (state, requestor))

    def test_requestor_asks(self) -> None:
        """The requestor sends its request as soon as it is connected."""
        bench = Bench(requestor=True)
        bench.connect()
        self.assertEqual((bench.sent(), bench.layer.state), ([PduType.ASSOCIATE_RQ], 5))

    def test_nothing_is_heard_after_the_end(self) -> None:
        """What a peer sends after the connection was closed has no effect."""
        for last in (ABORT, pdus.RELEASE_RP):
            bench = in_state(7, True)
            bench.receive(last)
            bench.forget()
            for data in (RQ, DATA, pdus.RELEASE_RQ, UNKNOWN):
                bench.receive(data)
            self.assertEqual((bench.layer.state, bench.sent(), bench.user.told), (1, [], []))

    def test_disconnected_is_the_last_word(self) -> None:
        """In every state the loss of the connection is told once, as the last thing, and no timer is left."""
        for requestor, states in PATHS.items():
            for state in states:
                bench = in_state(state, requestor)
                bench.layer.connectionLost()
                self.assertEqual(bench.user.told[-1:], ["disconnected"])
                self.assertEqual((bench.timers, bench.user.told.count("ended") <= 1), (0, True))

    def test_end_is_told_once(self) -> None:
        """An abort of the user, then one of the peer, then the loss of the connection make one end."""
        bench = in_state(6, False)
        bench.layer.abort()
        bench.receive(ABORT)
        bench.layer.connectionLost()
        self.assertEqual(bench.user.told, ["ended", "disconnected"])

    def test_source_of_the_peers_abort(self) -> None:
        """The user learns who aborted and why."""
        bench = in_state(6, False)
        bench.receive(pdus.encode_abort(Abort(2, 6)))
        self.assertEqual(bench.user.aborts, [Abort(2, 6)])

    def test_other_protocol_version(self) -> None:
        """A request without version 1 is rejected by the provider, and the user is not asked (PS3.8 section 9.3.4)."""
        bench = in_state(2, False)
        bench.receive(RQ[:6] + b"\0\2" + RQ[8:])
        self.assertEqual(bench.transport.value(), pdus.encode_reject(AssociateReject(1, 2, 2)))
        self.assertEqual((bench.layer.state, bench.user.told, bench.timers), (13, [], 1))

    def test_further_versions(self) -> None:
        """A request for version 1 among others is served."""
        bench = in_state(2, False)
        bench.receive(RQ[:6] + b"\0\3" + RQ[8:])
        self.assertEqual(bench.user.told, ["requested"])


class StreamTest(SynchronousTestCase):
    """PDUs in a stream of octets."""

    def test_octet_by_octet(self) -> None:
        """The cut of the stream into segments has no influence."""
        stream = DATA + DATA + pdus.RELEASE_RQ
        for size in (1, 2, 5, 6, 7, len(DATA), len(DATA) + 1, len(stream)):
            bench = in_state(6, False)
            for start in range(0, len(stream), size):
                bench.receive(stream[start : start + size])
            self.assertEqual(bench.user.told, ["data", "data", "release"], size)

    def test_whole_association_in_one_segment(self) -> None:
        """A peer that does not wait for our answers is understood all the same."""
        bench = Bench()
        bench.user.acts = lambda: bench.layer.accept(ANSWER)
        bench.connect()
        bench.receive(RQ + DATA + pdus.RELEASE_RQ)
        self.assertEqual(bench.user.told, ["requested", "data", "release"])

    def test_several_values_in_a_pdu(self) -> None:
        """Values arrive in order, with their context and flags."""
        values = [Pdv(1, True, False, b"a"), Pdv(1, True, True, b""), Pdv(3, False, True, b"bcd")]
        bench = in_state(6, False)
        bench.receive(pdus.encode_data(values))
        self.assertEqual(
            bench.user.values, [(1, True, False, b"a"), (1, True, True, b""), (3, False, True, b"bcd")]
        )

    def test_abort_between_values(self) -> None:
        """After the user has aborted over a value it is told of none that follows in the same PDU."""
        bench = in_state(6, False)
        bench.user.acts = bench.layer.abort
        bench.receive(pdus.encode_data([VALUE, VALUE, VALUE]) + DATA)
        self.assertEqual(bench.user.told, ["data", "ended"])
        self.assertEqual(bench.sent(), [PduType.ABORT])

    def test_announced_length(self) -> None:
        """A PDU longer than agreed is refused by its head, before anything of it has come."""
        for kind, length in ((4, MAXIMUM + 1), (4, 0xFFFFFFFF), (1, 0xFFFFFFFF), (5, 5), (7, 0xFFFFFF)):
            bench = in_state(6, False)
            bench.receive(struct.pack(">BxI", kind, length))
            self.assertEqual((bench.sent(), bench.layer.state), ([PduType.ABORT], 13), (kind, length))
            self.assertEqual(bench.user.aborts, [Abort(2, 6)])

    def test_longest_pdu(self) -> None:
        """A PDU of exactly the agreed length is taken."""
        bench = in_state(6, False)
        bench.receive(pdus.encode_data([Pdv(1, False, True, bytes(MAXIMUM - 6))]))
        self.assertEqual(bench.user.told, ["data"])

    def test_unknown_type(self) -> None:
        """An unknown type of PDU is aborted with the reason "unrecognized PDU"."""
        bench = in_state(6, False)
        bench.receive(UNKNOWN)
        self.assertEqual(bench.transport.value(), pdus.encode_abort(Abort(2, 1)))

    def test_unexpected_type(self) -> None:
        """A known type at the wrong time is aborted with the reason "unexpected PDU"."""
        bench = in_state(6, False)
        bench.receive(pdus.RELEASE_RP)
        self.assertEqual(bench.transport.value(), pdus.encode_abort(Abort(2, 2)))

    def test_bad_values(self) -> None:
        """Values that do not fit into their PDU are an abort, and nobody is told of those before them."""
        good = struct.pack(">IBB", 6, 1, 3) + b"abcd"
        for body in (
            struct.pack(">IBB", 0xFFFFFFFF, 1, 3),
            struct.pack(">IBB", 1, 1, 3),
            struct.pack(">IBB", 0, 1, 3),
            good + b"\0\0",
            good + struct.pack(">IBB", 7, 1, 3) + b"abcd",
        ):
            bench = in_state(6, False)
            bench.receive(pdus.pdu(PduType.DATA, body))
            self.assertEqual((bench.sent(), bench.user.told), ([PduType.ABORT], ["ended"]), body)

    def test_user_that_fails(self) -> None:
        """An exception of the user is logged, and the peer gets an abort rather than silence."""
        bench = in_state(6, False)

        def fail() -> None:
            raise RuntimeError("a defect")

        bench.user.acts = fail
        bench.receive(DATA + DATA)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((bench.sent(), bench.layer.state, bench.user.told), ([PduType.ABORT], 13, ["data", "ended"]))


class ConnectionTest(SynchronousTestCase):
    """The end of connections, and back-pressure."""

    def test_peer_that_does_not_close(self) -> None:
        """A peer that keeps the connection after our abort is cut off by the timer."""
        bench = in_state(6, False)
        bench.layer.abort()
        bench.clock.advance(ARTIM)
        self.assertTrue(bench.transport.disconnecting)

    def test_peer_that_never_reads(self) -> None:
        """When what was written cannot leave, the connection is cut without it."""
        bench = in_state(6, False)
        bench.receive(ABORT)
        self.assertEqual((bench.transport.disconnecting, bench.transport.aborted), (True, False))
        bench.clock.advance(ARTIM)
        self.assertTrue(bench.transport.aborted)
        bench.layer.connectionLost()
        self.assertEqual(bench.timers, 0)

    def test_silent_peer(self) -> None:
        """A connection on which nothing is asked for ends after the timer."""
        bench = in_state(2, False)
        bench.clock.advance(ARTIM - 1)
        self.assertFalse(bench.transport.disconnecting)
        bench.clock.advance(1)
        self.assertEqual((bench.transport.disconnecting, bench.sent()), (True, []))

    def test_pauses_are_counted(self) -> None:
        """A connection that two have paused goes on when both have resumed it."""
        bench = in_state(6, False)
        bench.layer.pauseProducing()
        bench.layer.pauseProducing()
        bench.layer.resumeProducing()
        self.assertEqual((bench.transport.producerState, bench.layer.waits_for_us), ("paused", True))
        bench.layer.resumeProducing()
        self.assertEqual((bench.transport.producerState, bench.layer.waits_for_us), ("producing", False))

    def test_peer_that_does_not_read(self) -> None:
        """While our answers pile up nothing more is taken from the peer, and that does not excuse its silence."""
        bench = in_state(6, False)
        bench.transport.producer.pauseProducing()
        bench.transport.producer.pauseProducing()
        self.assertEqual((bench.transport.producerState, bench.layer.waits_for_us), ("paused", False))
        bench.transport.producer.resumeProducing()
        self.assertEqual(bench.transport.producerState, "producing")

    def test_no_nagle(self) -> None:
        """Small answers leave at once."""
        self.assertTrue(in_state(2, False).transport.no_delay)


class QuickAckTest(TestCase):
    """Quick acknowledgements on a real socket."""

    async def test_after_every_read(self) -> None:
        """The kernel is told to acknowledge at once when a connection begins and after each read."""
        options: list[int] = []

        class Server(UpperLayer):
            def dataReceived(self, data: bytes) -> None:
                # The kernel drops the option by itself; here it is certain.
                handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
                super().dataReceived(data)
                options.append(handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))

            def connectionMade(self) -> None:
                nonlocal handle
                super().connectionMade()
                handle = self.transport.socket

        class Factory(protocol.ServerFactory):
            def buildProtocol(self, addr: object) -> Any:
                return Server(user, reactor, artim=ARTIM, maximum_length=MAXIMUM)  # type: ignore[arg-type]

        handle: socket.socket = None  # type: ignore[assignment]
        user = User()
        gone: Deferred[None] = Deferred()
        user.disconnected = lambda: gone.callback(None)  # type: ignore[method-assign]
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")  # type: ignore[attr-defined]
        client = await connectProtocol(
            TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), protocol.Protocol()
        )
        client.transport.write(ABORT)
        await gone
        await port.stopListening()
        self.assertEqual(options, [1])


_SEGMENTS: Final = st.lists(
    st.sampled_from((RQ, AC, RJ, DATA, pdus.RELEASE_RQ, pdus.RELEASE_RP, ABORT, UNKNOWN)) | st.binary(max_size=20),
    max_size=6,
)


class FuzzTest(SynchronousTestCase):
    """Any stream of octets."""

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(_SEGMENTS, st.integers(1, 40), st.booleans())
    def test_streams(self, segments: list[bytes], size: int, requestor: bool) -> None:
        """Whatever comes, in whatever pieces, nothing is raised, one end is told, and no timer is left."""
        bench = Bench(requestor)
        bench.user.acts = lambda: bench.layer.accept(ANSWER)
        bench.connect()
        stream = b"".join(segments)
        for start in range(0, len(stream), size):
            bench.receive(stream[start : start + size])
        self.assertIn(bench.layer.state, State)
        bench.layer.connectionLost()
        self.assertEqual((bench.timers, bench.layer.state), (0, State.IDLE))
        self.assertLessEqual(bench.user.told.count("ended"), 1)
        self.assertEqual(bench.user.told.count("disconnected"), 1)
