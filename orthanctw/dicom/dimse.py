"""DIMSE messages: command sets, and their assembly from presentation data values (PS3.7 section 9, annex E)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import attrs

from orthanctw.dicom.upper.pdus import Pdv
from orthanctw.errors import OrthancError

#: Octets of the largest command set; real ones have a few hundred.
COMMAND_LIMIT: Final = 64 * 1024
NO_DATA_SET: Final = 0x0101
WITH_DATA_SET: Final = 0x0001
#: One more than a UID may have (PS3.5 section 9.1), so that a longer one is not taken for one.
_LONGEST_TEXT: Final = 65
_HEAD: Final = struct.Struct("<HHI")
#: Octets of a P-DATA-TF PDU besides the data of its only value.
_PDV_OVERHEAD: Final = 6

# Command fields (PS3.7 annex E.1).
C_STORE_RQ: Final = 0x0001
C_GET_RQ: Final = 0x0010
C_FIND_RQ: Final = 0x0020
C_MOVE_RQ: Final = 0x0021
C_ECHO_RQ: Final = 0x0030
N_EVENT_REPORT_RQ: Final = 0x0100
N_ACTION_RQ: Final = 0x0130
C_CANCEL_RQ: Final = 0x0FFF
RESPONSE: Final = 0x8000

# Statuses (PS3.7 annex C).
SUCCESS: Final = 0x0000
NO_SUCH_OBJECT_INSTANCE: Final = 0x0112
NO_SUCH_EVENT_TYPE: Final = 0x0113
INVALID_ARGUMENT_VALUE: Final = 0x0115
INVALID_OBJECT_INSTANCE: Final = 0x0117
NO_SUCH_SOP_CLASS: Final = 0x0118
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NO_SUCH_ACTION: Final = 0x0123
NOT_AUTHORIZED: Final = 0x0124
DUPLICATE_TRANSACTION_UID: Final = 0x0131
UNRECOGNIZED_OPERATION: Final = 0x0211
RESOURCE_LIMITATION: Final = 0x0213

# More statuses: pending and warnings of queries and retrieval (PS3.4 sections C.4.1 to C.4.3).
CANCELLED: Final = 0xFE00
PENDING: Final = 0xFF00
SUB_OPERATIONS_FAILED: Final = 0xA702
MOVE_DESTINATION_UNKNOWN: Final = 0xA801
SOME_SUB_OPERATIONS_FAILED: Final = 0xB000
CANNOT_PROCESS: Final = 0xC000

AFFECTED_SOP_CLASS: Final = 0x0002
REQUESTED_SOP_CLASS: Final = 0x0003
COMMAND_FIELD: Final = 0x0100
MESSAGE_ID: Final = 0x0110
RESPONDED_TO: Final = 0x0120
MOVE_DESTINATION: Final = 0x0600
PRIORITY: Final = 0x0700
DATA_SET_TYPE: Final = 0x0800
STATUS: Final = 0x0900
ERROR_COMMENT: Final = 0x0902
AFFECTED_SOP_INSTANCE: Final = 0x1000
REQUESTED_SOP_INSTANCE: Final = 0x1001
EVENT_TYPE: Final = 0x1002
ACTION_TYPE: Final = 0x1008
REMAINING: Final = 0x1020
COMPLETED: Final = 0x1021
FAILED: Final = 0x1022
WARNING: Final = 0x1023
#: Elements of VR US that we read.
_NUMBERS: Final = (COMMAND_FIELD, MESSAGE_ID, DATA_SET_TYPE, EVENT_TYPE, ACTION_TYPE)
#: What a response says of the object that its request was about, and where that has it.
_ECHOED_TEXTS: Final = (
    (AFFECTED_SOP_CLASS, AFFECTED_SOP_CLASS),
    (AFFECTED_SOP_INSTANCE, AFFECTED_SOP_INSTANCE),
    (AFFECTED_SOP_CLASS, REQUESTED_SOP_CLASS),
    (AFFECTED_SOP_INSTANCE, REQUESTED_SOP_INSTANCE),
)


#: Warnings of a C-STORE, and its answer to an object that is there already: the object is stored.
_STORED: Final = frozenset((SUCCESS, 0x0111, 0xB000, 0xB006, 0xB007))


def is_stored(status: int) -> bool:
    """Whether the status of a C-STORE response means that the peer has the object."""
    return status in _STORED


class InvalidMessage(OrthancError):
    """What came is no DIMSE message: the association is aborted."""


@attrs.frozen
class Command:
    """A command set; values by the element number of group 0000, as encoded."""

    values: Mapping[int, bytes]

    def number(self, element: int, default: int = 0) -> int:
        """A value of VR US."""
        value = self.values.get(element)
        return default if value is None else int.from_bytes(value, "little")

    def text(self, element: int) -> str:
        """A UID or AE title, without padding, cut when it is longer than any is; empty when absent."""
        return self.values.get(element, b"")[:_LONGEST_TEXT].decode("ascii", "replace").strip(" \0")

    @property
    def field(self) -> int:
        return self.number(COMMAND_FIELD, -1)

    @property
    def has_data_set(self) -> bool:
        return self.number(DATA_SET_TYPE, NO_DATA_SET) != NO_DATA_SET


def decode_command(data: bytes) -> Command:
    """A command set, in implicit VR little endian (PS3.7 section 6.3.1). InvalidMessage when it is none."""
    values: dict[int, bytes] = {}
    position, end = 0, len(data)
    while position < end:
        if end - position < _HEAD.size:
            raise InvalidMessage("a command ends within an element")
        group, element, length = _HEAD.unpack_from(data, position)
        start = position + _HEAD.size
        if group != 0 or start + length > end:
            raise InvalidMessage("a command has an element that does not fit")
        values[element] = data[start : start + length]
        position = start + length
    if any(len(values.get(element, b"\0\0")) != 2 for element in _NUMBERS):
        raise InvalidMessage("a command has a number of another length")
    command = Command(values)
    if command.field < 0:
        raise InvalidMessage("a command has no CommandField")
    return command


def _encoded(value: int | str) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(2, "little")
    raw = value.encode("ascii", "replace")
    return raw if len(raw) % 2 == 0 else raw + b"\0"


def encode_command(values: Mapping[int, int | str]) -> bytes:
    """A command set: numbers as US, text padded; the group length is added."""
    body = b""
    for element, value in sorted(values.items()):
        raw = _encoded(value)
        body += _HEAD.pack(0, element, len(raw)) + raw
    return _HEAD.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body


def response(
    command: Command,
    status: int,
    comment: str = "",
    *,
    counters: Mapping[int, int] | None = None,
    has_data_set: bool = False,
) -> bytes:
    """The response to a request; a comment is cut to the 64 characters of its VR (LO).

    `counters` are the numbers of sub-operations, by element (PS3.7 section 9.3.3.2).
    """
    values: dict[int, int | str] = {
        COMMAND_FIELD: command.field | RESPONSE,
        RESPONDED_TO: command.number(MESSAGE_ID),
        DATA_SET_TYPE: WITH_DATA_SET if has_data_set else NO_DATA_SET,
        STATUS: status,
        **{element: min(number, 0xFFFF) for element, number in (counters or {}).items()},
    }
    for element, requested in _ECHOED_TEXTS:
        if requested in command.values:
            values[element] = command.text(requested)
    for element in (EVENT_TYPE, ACTION_TYPE):
        if element in command.values:
            values[element] = command.number(element)
    if comment:
        values[ERROR_COMMENT] = comment.encode("ascii", "replace").decode("ascii").replace("\\", "/")[:64]
    return encode_command(values)


def fragments(
    context_id: int, data: bytes, *, is_command: bool, maximum_length: int, is_last: bool = True
) -> Iterator[Sequence[Pdv]]:
    """The P-DATA PDUs of a command or data set for a peer that takes `maximum_length` octets (0: any number).

    `is_last` is False when more of the data set follows.
    """
    size = max(maximum_length - _PDV_OVERHEAD, 1) if maximum_length else max(len(data), 1)
    view = memoryview(data)
    for start in range(0, max(len(data), 1), size):
        ends = is_last and start + size >= len(data)
        yield (Pdv(context_id, is_command, ends, view[start : start + size]),)


class DataSink(Protocol):
    """Takes a data set as it arrives."""

    def write(self, data: bytes) -> None:
        """The next octets."""

    def discard(self) -> None:
        """The rest will not come."""


@attrs.frozen
class Message:
    """A whole message; its data set is in the sink that was opened for it."""

    context_id: int
    command: Command
    sink: DataSink | None


class Assembler:
    """Puts messages together.

    Parameters
    ----------
    open_sink : callable
        ``open_sink(context_id, command)``, asked when a command with a data set has come.
    received : callable
        ``received(message)``, told of each whole message.
    """

    def __init__(
        self, open_sink: Callable[[int, Command], DataSink], received: Callable[[Message], None]
    ) -> None:
        self._open_sink = open_sink
        self._received = received
        self._context_id: int | None = None
        self._encoded = bytearray()
        self._command: Command | None = None
        self._sink: DataSink | None = None

    def feed(self, value: Pdv) -> None:
        """The next presentation data value. InvalidMessage when it does not belong here."""
        if self._context_id is None:
            self._context_id = value.context_id
        elif value.context_id != self._context_id:
            raise InvalidMessage("the context changes within a message")
        if value.is_command:
            self._feed_command(value)
        else:
            self._feed_data(value)

    def _feed_command(self, value: Pdv) -> None:
        if self._command is not None:
            raise InvalidMessage("a command in place of a data set")
        if len(self._encoded) + len(value.data) > COMMAND_LIMIT:
            raise InvalidMessage("a command is too long")
        self._encoded += value.data
        if not value.is_last:
            return
        self._command = decode_command(bytes(self._encoded))
        self._encoded.clear()
        if self._command.has_data_set:
            assert self._context_id is not None
            self._sink = self._open_sink(self._context_id, self._command)
        else:
            self._complete()

    def _feed_data(self, value: Pdv) -> None:
        if self._sink is None:
            raise InvalidMessage("a data set without a command")
        self._sink.write(bytes(value.data))
        if value.is_last:
            self._complete()

    def _complete(self) -> None:
        assert self._context_id is not None and self._command is not None
        message = Message(self._context_id, self._command, self._sink)
        self._context_id, self._command, self._sink = None, None, None
        self._received(message)

    def abandon(self) -> None:
        """The association has ended: what came of a data set is dropped."""
        sink, self._sink = self._sink, None
        self._encoded.clear()
        if sink is not None:
            sink.discard()
