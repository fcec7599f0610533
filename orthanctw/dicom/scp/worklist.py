"""C-FIND SCP of modality worklists (PS3.4 section K.4.1)."""

from __future__ import annotations

from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.identifierlog import IdentifierLog
from orthanctw.dicom.scp.exchange import Exchange, Outcome
from orthanctw.dicom.scp.find import character_sets_of, tell
from orthanctw.queryfilters import QueryFilters
from orthanctw.worklists.service import Worklists


class WorklistService:
    """Answers queries for worklists. `default_encoding` is that of queries that name none, and of answers."""

    def __init__(
        self,
        worklists: Worklists,
        default_encoding: DefaultEncoding,
        identifiers: IdentifierLog,
        filters: QueryFilters,
    ) -> None:
        self._worklists = worklists
        self._identifiers = identifiers
        self._default_encoding = default_encoding
        self._filters = filters

    async def __call__(self, exchange: Exchange) -> Outcome:
        """One C-FIND: a pending response for each match."""
        identifier = exchange.identifier(self._default_encoding.name)
        character_sets = character_sets_of(identifier, self._default_encoding)
        aet = exchange.carrier.calling_aet
        self._identifiers.received("C-FIND of worklists", aet, exchange.carrier.address, identifier)
        identifier = await self._filters.incoming_worklist(identifier, exchange.carrier)
        matches = await self._worklists.find(identifier, aet)
        return await tell(exchange, matches, character_sets)
