"""C-FIND SCP of modality worklists (PS3.4 section K.4.1)."""

from __future__ import annotations

from orthanctw.dicom import dimse
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.identifierlog import IdentifierLog
from orthanctw.dicom.scp.exchange import Exchange, Outcome
from orthanctw.dicom.scp.find import Scripted, character_sets_of, tell, tell_scripted
from orthanctw.errors import OrthancError
from orthanctw.queryfilters import QueryFilters
from orthanctw.worklists.service import Worklists


class WorklistService:
    """Answers queries for worklists.

    `default_encoding` is that of queries that name none, and of answers; `worklists` is None where only a script has
    some.
    """

    def __init__(
        self,
        worklists: Worklists | None,
        default_encoding: DefaultEncoding,
        identifiers: IdentifierLog,
        filters: QueryFilters,
        scripted: Scripted,
    ) -> None:
        self._worklists = worklists
        self._identifiers = identifiers
        self._default_encoding = default_encoding
        self._filters = filters
        self._scripted = scripted

    def is_offered(self) -> bool:
        """Whether there is anybody to answer at the moment."""
        return self._worklists is not None or self._scripted.is_used()

    async def __call__(self, exchange: Exchange) -> Outcome:
        """One C-FIND: a pending response for each match."""
        identifier = exchange.identifier(self._default_encoding.name)
        character_sets = character_sets_of(identifier, self._default_encoding)
        aet = exchange.carrier.calling_aet
        self._identifiers.received("C-FIND of worklists", aet, exchange.carrier.address, identifier)
        identifier = await self._filters.incoming_worklist(identifier, exchange.carrier)
        if self._scripted.is_used():
            return await tell_scripted(exchange, self._scripted, identifier, character_sets)
        if self._worklists is None:
            raise OrthancError("There are no worklists", dimse_status=dimse.UNRECOGNIZED_OPERATION)
        matches = await self._worklists.find(identifier, aet)
        return await tell(exchange, matches, character_sets)
