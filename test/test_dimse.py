"""DIMSE messages: command sets against pynetdicom's, and their assembly from values however they were cut."""

from __future__ import annotations

import io
import struct
import tracemalloc
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_ECHO_RSP, C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import Assembler, Command, InvalidMessage, Message, decode_command, encode_command
from orthanctw.dicom.upper.pdus import Pdv

CT = "1.2.840.10008.5.1.4.1.1.2"
STORE: dict[int, int | str] = {
    dimse.AFFECTED_SOP_CLASS: CT,
    dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
    dimse.MESSAGE_ID: 7,
    0x0700: 0,
    dimse.DATA_SET_TYPE: 1,
    dimse.AFFECTED_SOP_INSTANCE: "1.2.3.4",
}
ECHO: dict[int, int | str] = {
    dimse.COMMAND_FIELD: dimse.C_ECHO_RQ,
    dimse.MESSAGE_ID: 8,
    dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
}
_bounded = settings(max_examples=150, deadline=None, derandomize=True, database=None)


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.data = b""
        self.discarded = False

    def write(self, data: bytes) -> None:
        self.data += data

    def discard(self) -> None:
        self.discarded = True


class Taker:
    """An assembler, what came out of it, and the sinks that it opened."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.sinks: list[Sink] = []
        self.assembler = Assembler(self._open, self.messages.append)

    def _open(self, context_id: int, command: Command) -> Sink:
        self.sinks.append(Sink())
        return self.sinks[-1]

    def feed(self, data: bytes, is_command: bool, size: int, context_id: int = 1, last: bool = True) -> None:
        """Feed a command or data set in values of `size` octets."""
        pieces = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
        for number, piece in enumerate(pieces, 1):
            self.assembler.feed(Pdv(context_id, is_command, last and number == len(pieces), memoryview(piece)))


class CommandTest(SynchronousTestCase):
    """Command sets."""

    def _theirs(self, response: bytes, message: Any) -> Any:
        """A response as pynetdicom reads it."""
        from pynetdicom.dsutils import decode

        message.command_set = decode(io.BytesIO(response), True, True)
        message.data_set = io.BytesIO()
        return message.message_to_primitive()

    def test_pynetdicom_reads_our_responses(self) -> None:
        """Status, message identifier, UIDs and comment of a response are what pynetdicom reads."""
        command = decode_command(encode_command(STORE))
        answer = self._theirs(dimse.response(command, 0xA700, "No space left"), C_STORE_RSP())
        self.assertEqual(
            (answer.Status, answer.MessageIDBeingRespondedTo, answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID,
             answer.ErrorComment),
            (0xA700, 7, CT, "1.2.3.4", "No space left"),
        )
        echo = self._theirs(dimse.response(decode_command(encode_command(ECHO)), 0), C_ECHO_RSP())
        self.assertIsInstance(echo, C_ECHO)
        self.assertEqual((echo.Status, echo.MessageIDBeingRespondedTo), (0, 8))

    def test_we_read_pynetdicoms_requests(self) -> None:
        """A request of pynetdicom has the fields that it was given."""
        primitive = C_STORE()
        primitive.MessageID = 9
        primitive.AffectedSOPClassUID = CT
        primitive.AffectedSOPInstanceUID = "1.2.3.4.5"
        primitive.Priority = 2
        primitive.DataSet = io.BytesIO(b"ab")
        message = C_STORE_RQ()
        message.primitive_to_message(primitive)
        taker = Taker()
        for pdata in message.encode_msg(5, 64):
            for context_id, value in pdata.presentation_data_value_list:
                taker.assembler.feed(Pdv(context_id, bool(value[0] & 1), bool(value[0] & 2), value[1:]))
        (received,) = taker.messages
        command = received.command
        self.assertEqual((received.context_id, command.field, command.number(dimse.MESSAGE_ID)), (5, 1, 9))
        self.assertEqual(command.text(dimse.AFFECTED_SOP_INSTANCE), "1.2.3.4.5")
        self.assertEqual(taker.sinks[0].data, b"ab")

    def test_round_trip(self) -> None:
        """What was encoded is read back, and the group length is that of the rest."""
        encoded = encode_command(STORE)
        command = decode_command(encoded)
        self.assertEqual(command.values[0], struct.pack("<I", len(encoded) - 12))
        self.assertEqual(command.text(dimse.AFFECTED_SOP_CLASS), CT)
        self.assertTrue(command.has_data_set)
        self.assertFalse(decode_command(encode_command(ECHO)).has_data_set)

    def test_wrong_lengths(self) -> None:
        """Numbers that are not two octets long, elements that do not fit, another group: no command."""
        head = struct.Struct("<HHI").pack
        field = head(0, 0x100, 2) + b"\1\0"
        for data in (
            b"",
            head(0, 0x100, 4) + b"\1\0\1\0",
            head(0, 0x100, 1) + b"\1",
            head(0, 0x100, 0),
            field + head(0, 0x110, 4) + b"\1\0\0\0",
            field + head(0, 0x800, 0),
            field + head(0, 0x800, 3) + b"\1\1\1",
            field + head(0, 0x800, 0xFFFFFFFF),
            field + head(8, 0x16, 0),
            field + b"\0\0\0",
            field[:-1],
        ):
            self.assertRaises(InvalidMessage, decode_command, data)

    def test_long_uid(self) -> None:
        """A UID of any length makes no long response."""
        command = decode_command(encode_command({**STORE, dimse.AFFECTED_SOP_INSTANCE: "1." * 20000}))
        self.assertLess(len(dimse.response(command, 0)), 300)

    def test_comment(self) -> None:
        """An error comment is cut to its VR, and has no backslash and nothing outside of ASCII."""
        response = dimse.response(decode_command(encode_command(STORE)), 0xC000, "a\\b\xe4" + "x" * 100)
        comment = decode_command(response).values[dimse.ERROR_COMMENT]
        self.assertEqual(comment, b"a/b?" + b"x" * 60)

    @_bounded
    @given(st.binary(max_size=60) | st.just(encode_command(STORE)), st.data())
    def test_any_octets(self, data: bytes, draw: st.DataObject) -> None:
        """Whatever octets come, a command is read or InvalidMessage is raised; a command can be answered."""
        raw = bytearray(data)
        if raw:
            raw[draw.draw(st.integers(0, len(raw) - 1))] = draw.draw(st.integers(0, 255))
        try:
            command = decode_command(bytes(raw))
        except InvalidMessage:
            return
        decode_command(dimse.response(command, 0xC000, "no"))


class FragmentTest(SynchronousTestCase):
    """Cutting messages for a peer."""

    def test_sizes(self) -> None:
        """No PDU is longer than the peer takes; together they are the message, and only the last says so."""
        data = bytes(range(256)) * 3
        for maximum in (0, 7, 8, 100, 774, 775, 16384):
            values = [value for (value,) in dimse.fragments(3, data, is_command=True, maximum_length=maximum)]
            self.assertEqual(b"".join(value.data for value in values), data)
            self.assertEqual([value.is_last for value in values], [False] * (len(values) - 1) + [True])
            if maximum:
                self.assertLessEqual(max(len(value.data) + 6 for value in values), maximum)

    def test_absurd_maximum(self) -> None:
        """A peer that takes less than a value with one octet gets values with one octet."""
        self.assertEqual(len(list(dimse.fragments(1, b"abc", is_command=True, maximum_length=1))), 3)

    def test_nothing(self) -> None:
        """An empty data set is one empty value."""
        ((value,),) = dimse.fragments(1, b"", is_command=False, maximum_length=16384)
        self.assertEqual((len(value.data), value.is_last), (0, True))


class AssemblyTest(SynchronousTestCase):
    """Messages from values."""

    @_bounded
    @given(st.lists(st.tuples(st.booleans(), st.integers(1, 90), st.integers(1, 40)), min_size=1, max_size=4))
    def test_all_cuts(self, cuts: list[tuple[bool, int, int]]) -> None:
        """Messages come out as they were meant, however commands and data sets were cut."""
        taker = Taker()
        content = bytes(range(100))
        for with_data, command_size, data_size in cuts:
            taker.feed(encode_command(STORE if with_data else ECHO), True, command_size)
            if with_data:
                taker.feed(content, False, data_size)
        self.assertEqual([message.sink is not None for message in taker.messages], [cut[0] for cut in cuts])
        self.assertEqual([sink.data for sink in taker.sinks], [content for cut in cuts if cut[0]])
        self.assertFalse(any(sink.discarded for sink in taker.sinks))

    def test_empty_values(self) -> None:
        """Empty values in between do not matter; an empty last one ends a message."""
        taker = Taker()
        encoded = encode_command(STORE)
        taker.feed(encoded[:20], True, 20, last=False)
        taker.feed(b"", True, 1, last=False)
        taker.feed(encoded[20:], True, 1000, last=False)
        taker.feed(b"", True, 1)
        taker.feed(b"ab", False, 1, last=False)
        taker.feed(b"", False, 1)
        self.assertEqual(([len(taker.messages)], taker.sinks[0].data), ([1], b"ab"))

    def test_misplaced_values(self) -> None:
        """Data without a command, a command instead of data, another context within a message: no message."""
        taker = Taker()
        self.assertRaises(InvalidMessage, taker.feed, b"ab", False, 10)
        taker = Taker()
        taker.feed(encode_command(STORE), True, 1000)
        self.assertRaises(InvalidMessage, taker.feed, encode_command(ECHO), True, 1000)
        for is_command in (True, False):
            taker = Taker()
            taker.feed(encode_command(STORE)[:40], True, 1000, last=False)
            self.assertRaises(InvalidMessage, taker.feed, b"ab", is_command, 10, 3)
        taker = Taker()
        taker.feed(encode_command(STORE)[:40], True, 1000, last=False)
        self.assertRaises(InvalidMessage, taker.feed, b"ab", False, 10)

    def test_endless_command(self) -> None:
        """A command that does not end is refused at its limit."""
        taker = Taker()
        taker.feed(bytes(dimse.COMMAND_LIMIT), True, 5000, last=False)
        self.assertRaises(InvalidMessage, taker.feed, b"x", True, 1)

    def test_many_tiny_values(self) -> None:
        """A command in a great many empty or tiny values takes no more memory than its octets and a constant."""
        taker = Taker()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        empty, tiny = Pdv(1, True, False, b""), Pdv(1, True, False, memoryview(b"ab"))
        for _ in range(20000):
            taker.assembler.feed(empty)
            taker.assembler.feed(tiny)
        self.assertLess(tracemalloc.get_traced_memory()[0], 100_000)

    def test_abandoned(self) -> None:
        """What came of a data set is discarded at the end of the association, a whole message is not."""
        taker = Taker()
        for data_set in (True, False):
            taker.feed(encode_command(STORE), True, 1000)
            taker.feed(b"abc", False, 2, last=data_set)
        taker.assembler.abandon()
        taker.assembler.abandon()
        self.assertEqual([sink.discarded for sink in taker.sinks], [False, True])
        self.assertEqual(len(taker.messages), 1)
