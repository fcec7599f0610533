"""One request that is being carried out, and what its service needs: answers, cancellation, sub-operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred

from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import Command
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.encoding import IDENTIFIER_LIMIT, decode_dataset, encode_dataset, is_explicit
from orthanctw.dicom.scp.storage import Unwanted
from orthanctw.errors import OrthancError

#: "Identifier does not match SOP Class" (PS3.4 tables C.4-1 to C.4-3).
IDENTIFIER_MISMATCH: Final = 0xA900
_T = TypeVar("_T")


class Cancelled(OrthancError):
    """Nobody waits for the answer any more."""

    dimse_status = dimse.CANCELLED


class Identifier:
    """Gathers the identifier of a query or retrieval, of at most `limit` octets; a `DataSink`."""

    def __init__(self, limit: int = IDENTIFIER_LIMIT) -> None:
        self._limit = limit
        self._data = bytearray()
        self._too_long = False

    def __len__(self) -> int:
        return len(self._data)

    def write(self, data: bytes) -> None:
        if len(self._data) + len(data) > self._limit:
            self._too_long = True
            self._data.clear()
        if not self._too_long:
            self._data += data

    def discard(self) -> None:
        self._data.clear()

    def elements(self, transfer_syntax: str, default_encoding: str) -> Elements:
        """The identifier. Raises an OrthancError of status `IDENTIFIER_MISMATCH` when it cannot be read."""
        if self._too_long:
            raise OrthancError("The identifier is too long", dimse_status=IDENTIFIER_MISMATCH)
        try:
            return decode_dataset(
                bytes(self._data), explicit=is_explicit(transfer_syntax), default_encoding=default_encoding
            )
        except OrthancError as e:
            raise OrthancError(
                f"The identifier cannot be read: {e.details}", dimse_status=IDENTIFIER_MISMATCH
            ) from e


@attrs.frozen(kw_only=True)
class Outcome:
    """The final response. `counters` by element of the command set, `identifier` its data set."""

    status: int = dimse.SUCCESS
    comment: str = ""
    counters: Mapping[int, int] = attrs.field(factory=dict)
    identifier: Elements | None = None


class Carrier(Protocol):
    """The association, as a request sees it."""

    calling_aet: str
    called_aet: str
    address: str

    @property
    def is_over(self) -> bool:
        """Nothing can be sent any more."""

    def context_for(self, sop_class: str, transfer_syntax: str) -> tuple[int, str] | None:
        """The context in which we may send an object, and its transfer syntax; one of the given syntax if there is."""

    def send_response(self, context_id: int, command: bytes, data_set: bytes | None) -> Deferred[None]:
        """Send a message; fires when the peer takes more."""

    def send_request(
        self, context_id: int, message_id: int, command: bytes, data: Callable[[], Awaitable[bytes]]
    ) -> Coroutine[Any, Any, Command]:
        """Send a request whose data set comes from `data` piece by piece until one is empty; its response.

        Fails with an OrthancError when the association ends before.
        """

    def ask_between(
        self, context_id: int, message_id: int, command: bytes, data: Callable[[], Awaitable[bytes]]
    ) -> Coroutine[Any, Any, Command]:
        """The same when no request is being carried out; fails at once when one is."""


class Exchange:
    """One request. `abstract_syntax` and `transfer_syntax` are those of its presentation context."""

    def __init__(
        self, carrier: Carrier, context_id: int, syntaxes: tuple[str, str], command: Command, sink: Any
    ) -> None:
        self.carrier = carrier
        self.command = command
        self.abstract_syntax, self.transfer_syntax = syntaxes
        self.sink = sink
        self.is_cancelled = False
        self.context_id = context_id
        self._last_message_id = 0
        self._work: Deferred[Any] | None = None

    @property
    def must_stop(self) -> bool:
        """Whether nobody waits for more: the peer has cancelled, or is gone."""
        return self.is_cancelled or self.carrier.is_over

    def identifier(self, default_encoding: str) -> Elements:
        """The identifier of the request."""
        if not isinstance(self.sink, Identifier):
            comment = self.sink.comment if isinstance(self.sink, Unwanted) else "The request has no identifier"
            raise OrthancError(comment, dimse_status=IDENTIFIER_MISMATCH)
        return self.sink.elements(self.transfer_syntax, default_encoding)

    def cancel(self) -> None:
        """The peer has sent a C-CANCEL, or is gone, or we stop."""
        self.is_cancelled = True
        if self._work is not None:
            self._work.cancel()

    async def unless_cancelled(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of work, which is cancelled when nobody waits for it any more. Cancelled."""
        self._work = Deferred.fromCoroutine(work)
        if self.must_stop:
            self._work.cancel()
        try:
            result: _T = await self._work
        except CancelledError:
            raise Cancelled from None
        finally:
            self._work = None
        return result

    def encoder(self, character_sets: tuple[str, ...]) -> Callable[[Elements], bytes]:
        """What encodes data sets for the peer; on any thread."""
        return partial(encode_dataset, explicit=is_explicit(self.transfer_syntax), character_sets=character_sets)

    def respond(
        self,
        status: int,
        *,
        comment: str = "",
        counters: Mapping[int, int] | None = None,
        identifier: Elements | bytes | None = None,
        character_sets: tuple[str, ...] = (),
    ) -> Deferred[None]:
        """Send a response; fires when the peer takes more. An identifier may be encoded already."""
        data_set = self.encoder(character_sets)(identifier) if isinstance(identifier, list) else identifier
        command = dimse.response(
            self.command, status, comment, counters=counters, has_data_set=data_set is not None
        )
        return self.carrier.send_response(self.context_id, command, data_set)

    def next_message_id(self) -> int:
        """A number for a sub-operation that its association does not use at the moment."""
        self._last_message_id = self._last_message_id % 0xFFFF + 1
        return self._last_message_id


#: Carries out requests of one kind.
Service = Callable[[Exchange], Awaitable[Outcome]]
