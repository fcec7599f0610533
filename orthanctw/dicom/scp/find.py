"""C-FIND SCP of the patient and study root (PS3.4 section C.4.1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Protocol

from orthanctw.dicom import dimse
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.elements import SPECIFIC_CHARACTER_SET, Elements
from orthanctw.dicom.encoding import is_known
from orthanctw.dicom.identifierlog import IdentifierLog
from orthanctw.dicom.scp.exchange import Carrier, Exchange, Outcome
from orthanctw.queryfilters import QueryFilters
from orthanctw.querying import Querying, text_of

#: Keys of a query that a modality sends and that mean nothing, by its AE title and address.
Ignored = Callable[[str, str], Collection[int]]


class FindService:
    """Answers queries.

    Parameters
    ----------
    default_encoding : DefaultEncoding
        Of queries that name no character set, and of answers.
    ignored : callable
        ``ignored(calling_aet, address)``: tags of a query to leave out.
    filters : QueryFilters
        Change queries; the character set of answers is that of the query as it came.
    scripted : Scripted
        Answers in place of the index, when there is a script for it.
    """

    def __init__(
        self,
        querying: Querying,
        *,
        default_encoding: DefaultEncoding,
        ignored: Ignored,
        identifiers: IdentifierLog,
        filters: QueryFilters,
        scripted: Scripted,
    ) -> None:
        self._querying = querying
        self._identifiers = identifiers
        self._default_encoding = default_encoding
        self._ignored = ignored
        self._filters = filters
        self._scripted = scripted

    async def __call__(self, exchange: Exchange) -> Outcome:
        """One C-FIND: a pending response for each match."""
        identifier = exchange.identifier(self._default_encoding.name)
        character_sets = character_sets_of(identifier, self._default_encoding)
        aet, address = exchange.carrier.calling_aet, exchange.carrier.address
        self._identifiers.received("C-FIND", aet, address, identifier)
        identifier = await self._filters.incoming_find(identifier, exchange.carrier)
        if self._scripted.is_used():
            return await tell_scripted(exchange, self._scripted, identifier, character_sets)
        ignored = self._ignored(aet, address)
        answers = await self._querying.begin(identifier, ignored)
        return await tell(exchange, answers, character_sets)


class Told(Protocol):
    """Answers, batch by batch. `is_complete`: no limit has cut them."""

    is_complete: bool

    async def next(self) -> Sequence[Elements | bytes]:
        """The next ones; empty at the end. The reactor has its turn meanwhile: else no C-CANCEL is read."""


class Scripted(Protocol):
    """A script that may answer in place of the server."""

    def is_used(self) -> bool:
        """Whether it does."""

    def answers(
        self, query: Elements, asker: Carrier, encode: Callable[[Elements], bytes]
    ) -> Coroutine[Any, Any, Told]:
        """What it answers, encoded by `encode`. OrthancError."""


async def tell_scripted(
    exchange: Exchange, scripted: Scripted, identifier: Elements, character_sets: tuple[str, ...]
) -> Outcome:
    """A pending response for each answer of a script. Cancelled when nobody waits for the script."""
    asking = scripted.answers(identifier, exchange.carrier, exchange.encoder(character_sets))
    return await tell(exchange, await exchange.unless_cancelled(asking), character_sets)


async def tell(exchange: Exchange, answers: Told, character_sets: tuple[str, ...]) -> Outcome:
    """A pending response for each answer, until there is no more or nobody waits for them."""
    while batch := await answers.next():
        for answer in batch:
            if exchange.must_stop:
                return Outcome(status=dimse.CANCELLED)
            await exchange.respond(dimse.PENDING, identifier=answer, character_sets=character_sets)
    if exchange.is_cancelled or not answers.is_complete:
        return Outcome(status=dimse.CANCELLED, comment="" if answers.is_complete else "Not all matches are told")
    return Outcome()


def character_sets_of(identifier: Elements, default_encoding: DefaultEncoding) -> tuple[str, ...]:
    """Those of answers: the asker's own, which it can read, and the server's."""
    own = text_of(identifier, SPECIFIC_CHARACTER_SET)
    default = default_encoding.term
    return (own, default) if is_known(own) else (default,)
