"""What we send on an association: responses, and requests of our own, whose responses we wait for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from twisted.internet.defer import Deferred, succeed

from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import Command
from orthanctw.dicom.upper.protocol import UpperLayer
from orthanctw.errors import OrthancError

#: PDUs that are made at a time: a peer may take them a few octets long only.
_PDUS: Final = 64
#: Transfer syntaxes into which any object that is not compressed can be brought.
_NATIVE: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")


class Outbound:
    """The sending half of an association that is established.

    Parameters
    ----------
    contexts : mapping
        Abstract syntax and transfer syntax of the accepted presentation contexts, by identifier.
    roles : mapping
        By SOP class whether the peer is SCU, and SCP.
    maximum_length : int
        Octets of a PDU that the peer takes; 0 for any number.
    regulate : callable
        Called when the waiting for a response begins and ends.
    give_up : callable
        Called with a reason when the association cannot go on.
    """

    def __init__(
        self,
        layer: UpperLayer,
        contexts: Mapping[int, tuple[str, str]],
        roles: Mapping[str, tuple[bool, bool]],
        maximum_length: int,
        *,
        regulate: Callable[[], None],
        give_up: Callable[[str], None],
    ) -> None:
        self._layer = layer
        self._contexts = contexts
        self._roles = roles
        self._maximum_length = maximum_length
        self._regulate = regulate
        self._give_up = give_up
        self._over = False
        #: Our own request that waits for the peer's response: its message identifier, and who waits.
        self._asked: tuple[int, Deferred[Command]] | None = None

    @property
    def awaits_response(self) -> bool:
        """Whether it is the peer's turn."""
        return self._asked is not None

    def context_for(self, sop_class: str, transfer_syntax: str) -> tuple[int, str] | None:
        """See `Carrier`."""
        if not self._roles.get(sop_class, (True, False))[1]:
            return None
        found: dict[str, int] = {}
        for context_id, (abstract, syntax) in self._contexts.items():
            if abstract == sop_class:
                found.setdefault(syntax, context_id)
        wanted = (transfer_syntax, *_NATIVE, *found)
        return next(((found[syntax], syntax) for syntax in wanted if syntax in found), None)

    def respond(self, context_id: int, command: bytes, data_set: bytes | None) -> Deferred[None]:
        """See `Carrier.send_response`."""
        if self._over:
            return succeed(None)
        self._send(context_id, command, is_command=True)
        if data_set is not None:
            self._send(context_id, data_set, is_command=False)
        return self._drained()

    async def ask(
        self, context_id: int, message_id: int, command: bytes, data: Callable[[], Awaitable[bytes]]
    ) -> Command:
        """See `Carrier.send_request`."""
        # Before the command: what cannot be read at all costs its own sub-operation only.
        first = await data()
        if self._over:
            raise OrthancError("the association has ended")
        response: Deferred[Command] = Deferred()
        self._asked = (message_id, response)
        self._regulate()
        is_whole = False
        try:
            self._send(context_id, command, is_command=True)
            await self._send_data_set(context_id, first, data)
            is_whole = True
            return await response
        finally:
            self._asked = None
            # Without an effect when it was received; else nobody waits for it any more.
            response.addErrback(lambda _: None)
            if not is_whole and not self._over:
                # A message that is cut short cannot be mended.
                self._give_up("an object could not be sent to its end")
            self._regulate()

    async def _send_data_set(self, context_id: int, piece: bytes, data: Callable[[], Awaitable[bytes]]) -> None:
        step = max(self._maximum_length, 1) * _PDUS if self._maximum_length else len(piece)
        while True:
            following = await data() if piece else b""
            for start in range(0, max(len(piece), 1), max(step, 1)):
                is_last = not following and start + step >= len(piece)
                self._send(context_id, piece[start : start + step], is_command=False, is_last=is_last)
                await self._drained()
            if not following or self._over:
                return
            piece = following

    def _drained(self) -> Deferred[None]:
        return succeed(None) if self._over else self._layer.drained()

    def _send(self, context_id: int, data: bytes, *, is_command: bool, is_last: bool = True) -> None:
        for values in dimse.fragments(
            context_id, data, is_command=is_command, maximum_length=self._maximum_length, is_last=is_last
        ):
            self._layer.send(values)

    def responded(self, command: Command) -> None:
        """The peer has sent a response; what nobody has asked for is nobody's."""
        asked = self._asked
        if asked is not None and command.number(dimse.RESPONDED_TO) == asked[0] and not asked[1].called:
            asked[1].callback(command)

    def end(self) -> None:
        """The association is over."""
        self._over = True
        if self._asked is not None and not self._asked[1].called:
            self._asked[1].errback(OrthancError("the association has ended"))
