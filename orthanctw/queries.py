"""Queries of remote modalities that clients come back to (level 4)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import attrs
from twisted.logger import Logger

from orthanctw.dicom.dictionary import Dictionary, format_tag
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.scuqueries import normalized, query_for, sop_class_of
from orthanctw.errors import ParameterOutOfRange, UnknownResource
from orthanctw.interfaces import IDicomScu
from orthanctw.modalities import Modalities
from orthanctw.model import ResourceLevel
from orthanctw.queryfilters import QueryFilters
from orthanctw.remote import Remote

log = Logger(namespace="orthanctw.dicom")


@attrs.frozen(kw_only=True)
class RemoteQuery:
    """A C-FIND that was sent, and its answers. `level_text` is as the client gave it."""

    modality: str
    level: ResourceLevel
    level_text: str
    query: Elements
    remote: Remote
    answers: Sequence[Elements]

    def answer(self, index: int) -> Elements:
        """One answer. ParameterOutOfRange when there are fewer."""
        if not 0 <= index < len(self.answers):
            raise ParameterOutOfRange("The query has no such answer")
        return self.answers[index]

    def texts(self, index: int) -> Mapping[int, str]:
        """The values of one answer that are text."""
        return {element[0]: element[2] for element in self.answer(index) if isinstance(element[2], str)}


class QueryArchive:
    """Sends queries and keeps the last ones.

    Parameters
    ----------
    size : int
        ``QueryRetrieveSize``; 0 for no limit.
    filters : QueryFilters
        Change those that are kept, before they are sent.
    """

    def __init__(
        self, scu: IDicomScu, modalities: Modalities, dictionary: Dictionary, size: int, filters: QueryFilters
    ) -> None:
        self._scu = scu
        self._modalities = modalities
        self._dictionary = dictionary
        self._size = size
        self._filters = filters
        self._kept: dict[str, RemoteQuery] = {}

    async def find(self, remote: Remote, level: ResourceLevel, query: Elements) -> list[Elements]:
        """Ask a remote application entity, with the keys that a query of the level may have."""
        return await self._sent(remote, level, _normalized(level, query))

    async def _sent(self, remote: Remote, level: ResourceLevel, query: Elements) -> list[Elements]:
        sent = query_for(level, query, self._dictionary, remote.manufacturer)
        found: list[Elements] = await self._scu.find(remote, sop_class_of(level), sent)
        return found

    async def add(
        self,
        modality: str,
        level_text: str,
        query: Elements,
        *,
        local_aet: str = "",
        timeout: int | None = None,
        normalize: bool = True,
    ) -> str:
        """Ask a modality and keep its answers; the identifier of the query.

        Raises InexistentItem for an unknown modality, ParameterOutOfRange for an unknown level.
        """
        remote = self._modalities.remote(self._modalities.get(modality), local_aet=local_aet, timeout=timeout)
        level = ResourceLevel.parse(level_text)
        if level is None:
            raise ParameterOutOfRange("Unknown level")
        changed = await self._filters.outgoing_find(_normalized(level, query) if normalize else query, remote.aet)
        answers = await self._sent(remote, level, changed)
        identifier = str(uuid.uuid4())
        self._kept[identifier] = RemoteQuery(
            modality=modality, level=level, level_text=level_text, query=query, remote=remote, answers=answers
        )
        while self._size and len(self._kept) > self._size:
            del self._kept[next(iter(self._kept))]
        return identifier

    def ids(self) -> list[str]:
        """Identifiers of the queries that are kept."""
        return sorted(self._kept)

    def get(self, identifier: str) -> RemoteQuery:
        """One query. UnknownResource when it is not kept."""
        found = self._kept.get(identifier)
        if found is None:
            raise UnknownResource()
        # Used again, it is not the next one to go.
        self._kept[identifier] = self._kept.pop(identifier)
        return found

    def delete(self, identifier: str) -> None:
        """Forget a query; nothing happens when it is unknown."""
        self._kept.pop(identifier, None)


def _normalized(level: ResourceLevel, query: Elements) -> Elements:
    kept, dropped = normalized(level, query)
    if dropped:
        log.warn(
            "Tags that do not belong to a query of {kind} level are left out: {tags}",
            kind=level.title,
            tags=", ".join(map(format_tag, dropped)),
        )
    return kept
