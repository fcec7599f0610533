"""An established association that a thread uses: messages out and in (PS3.7, PS3.8)."""

from __future__ import annotations

import contextlib
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final

import attrs

from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import Assembler, Command, InvalidMessage, Message
from orthanctw.dicom.encoding import IDENTIFIER_LIMIT
from orthanctw.dicom.scu.failures import PeerFailure, telling
from orthanctw.dicom.scu.wire import Wire, deadline_after
from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import InvalidPdu, PduType

_HEAD: Final = struct.Struct(">BxI")
#: Octets of an object that are read and sent at a time, and of the longest PDU that we send.
_BLOCK: Final = 256 * 1024
_PDV_OVERHEAD: Final = 6
_SHORT_PDU: Final = 4
#: Message identifiers are of 16 bits; a new association is made long before they are used up.
_LAST_MESSAGE_ID: Final = 0xFFFF
_USER: Final = pdus.Abort(0, 0)


@attrs.define
class _Identifier:
    """A data set of a response, within its limit; a `DataSink`."""

    limit: int
    pieces: list[bytes] = attrs.field(factory=list)
    size: int = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.limit:
            raise InvalidMessage("an identifier is too long")
        self.pieces.append(data)

    def discard(self) -> None:
        self.pieces.clear()


@attrs.frozen
class Answer:
    """A message of the peer."""

    context_id: int
    command: Command
    data: bytes | None

    @property
    def status(self) -> int:
        return self.command.number(dimse.STATUS, -1)


class Link:
    """An association. One thread at a time; whoever sees a PeerFailure or an OSError calls `abort`.

    Parameters
    ----------
    contexts : mapping
        SOP class and transfer syntax of the accepted contexts, by their identifiers.
    proposed : frozenset
        SOP classes and transfer syntaxes that were proposed.
    peer_maximum : int
        Longest PDU that the peer takes; 0 for any.
    maximum_length : int
        Longest PDU that we take.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        contexts: Mapping[int, tuple[str, str]],
        proposed: frozenset[tuple[str, str]],
        peer_maximum: int,
        maximum_length: int,
    ) -> None:
        self.wire = wire
        self.contexts = contexts
        self.proposed = proposed
        #: Seconds to wait for the peer; 0 for ever.
        self.timeout = 0.0
        #: Octets of a data set of the peer.
        self.data_limit = IDENTIFIER_LIMIT
        self._fragment = min(peer_maximum or _BLOCK, _BLOCK) - _PDV_OVERHEAD
        if self._fragment < 1:
            raise PeerFailure("the peer takes no data")
        self._maximum_length = maximum_length
        self._assembler = Assembler(self._open_sink, self._received)
        self._messages: deque[Message] = deque()
        self._message_id = 0
        self._over = False

    def context_for(self, sop_class_uid: str, transfer_syntax: str = "") -> int | None:
        """The accepted context of a SOP class, in a transfer syntax if one is given."""
        for context_id, (abstract_syntax, syntax) in self.contexts.items():
            if abstract_syntax == sop_class_uid and transfer_syntax in ("", syntax):
                return context_id
        return None

    def next_message_id(self) -> int:
        """An identifier that no message of this association had."""
        self._message_id += 1
        return self._message_id

    @property
    def is_usable(self) -> bool:
        """Whether another operation may be started: the peer keeps silent, as it must, and identifiers are left."""
        return not self._over and self._message_id < _LAST_MESSAGE_ID and not self.wire.is_readable

    # Out

    def send(self, context_id: int, command: Mapping[int, int | str], data: bytes | None = None) -> None:
        """A message with a small data set or none."""
        pieces = list(self._pdus(context_id, dimse.encode_command(command), is_command=True))
        if data is not None:
            pieces += self._pdus(context_id, data, is_command=False)
        self._write(b"".join(pieces))

    def send_object(
        self, context_id: int, command: Mapping[int, int | str], file: BinaryIO, size: int
    ) -> None:
        """A message whose data set is the next `size` octets of a file, read as they are sent."""
        pieces = list(self._pdus(context_id, dimse.encode_command(command), is_command=True))
        fragments = max(_BLOCK // self._fragment, 1)
        while True:
            block = file.read(min(size, fragments * self._fragment))
            size -= len(block)
            if not block and size:
                raise PeerFailure("the file ends before its end")
            pieces += self._pdus(context_id, block, is_command=False, is_end=not size)
            self._write(b"".join(pieces))
            pieces.clear()
            if not size:
                return

    def _pdus(self, context_id: int, data: bytes, *, is_command: bool, is_end: bool = True) -> Iterator[bytes]:
        view = memoryview(data)
        for start in range(0, max(len(data), 1), self._fragment):
            end = start + self._fragment
            yield pdus.encode_data([pdus.Pdv(context_id, is_command, is_end and end >= len(data), view[start:end])])

    def _write(self, data: bytes) -> None:
        with telling("the peer does not take data"):
            self.wire.write(data, self.timeout)

    # In

    def receive(self) -> Answer:
        """The next message, which must be complete within the time limit."""
        deadline = deadline_after(self.timeout)
        try:
            with telling("the peer has broken off"):
                while not self._messages:
                    self._take_pdu(deadline)
        except (InvalidPdu, InvalidMessage) as e:
            raise PeerFailure(f"the peer has sent what is no answer: {e.details}") from None
        message = self._messages.popleft()
        sink = message.sink
        return Answer(
            message.context_id, message.command, b"".join(sink.pieces) if isinstance(sink, _Identifier) else None
        )

    def _take_pdu(self, deadline: float) -> None:
        kind, length = _HEAD.unpack(self.wire.read(_HEAD.size, deadline))
        limit = self._maximum_length if kind == PduType.DATA else _SHORT_PDU
        if length > limit:
            raise InvalidPdu("a PDU that does not belong here, or is too long")
        body = self.wire.read(length, deadline)
        if kind == PduType.DATA:
            for value in pdus.decode_data(memoryview(body)):
                if value.context_id not in self.contexts:
                    raise InvalidMessage("a context that was not accepted")
                self._assembler.feed(value)
        elif kind == PduType.ABORT:
            self._over = True
            abort = pdus.decode_abort(body)
            raise PeerFailure(f"the peer has aborted the association: source {abort.source}, reason {abort.reason}")
        elif kind == PduType.RELEASE_RQ:
            self.wire.write(pdus.RELEASE_RP, self.timeout)
            self._over = True
            raise PeerFailure("the peer has released the association")
        else:
            raise InvalidPdu("a PDU that does not belong here")

    def _open_sink(self, context_id: int, command: Command) -> _Identifier:
        return _Identifier(self.data_limit)

    def _received(self, message: Message) -> None:
        self._messages.append(message)

    # End

    def release(self) -> None:
        """Release the association; what the peer does wrong at it is of no interest."""
        if not self._over:
            with contextlib.suppress(OSError, PeerFailure, InvalidPdu):
                self.wire.write(pdus.RELEASE_RQ, self.timeout)
                self._await_release(deadline_after(self.timeout))
        self._over = True
        self.wire.close()

    def _await_release(self, deadline: float) -> None:
        kind = 0
        while kind not in (PduType.RELEASE_RP, PduType.ABORT):
            kind, length = _HEAD.unpack(self.wire.read(_HEAD.size, deadline))
            if length > self._maximum_length:
                return
            self.wire.read(length, deadline)
            if kind == PduType.RELEASE_RQ:
                # A collision (PS3.8 section 7.2.2.7): the requestor answers first.
                self.wire.write(pdus.RELEASE_RP, self.timeout)

    def abort(self) -> None:
        """Abort the association."""
        if not self._over:
            self._over = True
            with contextlib.suppress(OSError):
                # Only what the kernel takes at once.
                self.wire.write(pdus.encode_abort(_USER), 0.001)
        self.wire.close()
