"""Modality worklists: asked for by C-FIND, and written over REST."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from orthanctw.dicom.authoring import ValueOptions
from orthanctw.dicom.elements import Elements
from orthanctw.errors import UnknownResource
from orthanctw.identifiers import generate_uid
from orthanctw.model import ResourceLevel
from orthanctw.settings import Worklists as WorklistOptions
from orthanctw.worklists.authoring import worklist_file
from orthanctw.worklists.model import STUDY_INSTANCE_UID, Source, Worklist
from orthanctw.worklists.query import WorklistQuery, parse_worklist_query

log = Logger(namespace="orthanctw.dicom")
#: Answers that are made at a time.
_BATCH: Final = 20


class Matches:
    """The worklists that a query has found, told batch by batch. `is_complete`: no limit has cut them."""

    def __init__(
        self,
        query: WorklistQuery,
        worklists: Sequence[Worklist],
        is_complete: bool,
        call: Callable[..., Deferred[Any]],
    ) -> None:
        self.is_complete = is_complete
        self._query = query
        self._worklists = worklists
        self._call = call
        self._next = 0

    async def next(self) -> list[Elements]:
        """The next answers; empty at the end."""
        batch = self._worklists[self._next : self._next + _BATCH]
        self._next += len(batch)
        answers: list[Elements] = await self._call(lambda: list(map(self._query.answer, batch))) if batch else []
        return answers


class Worklists:
    """Finds, makes, changes and removes worklists.

    Parameters
    ----------
    call : callable
        Runs a function in a thread.
    values : ValueOptions
        How values of requests are read.
    """

    def __init__(
        self,
        source: Source,
        options: WorklistOptions,
        values: ValueOptions,
        call: Callable[..., Deferred[Any]],
        *,
        case_sensitive_names: bool,
    ) -> None:
        self._source = source
        self._options = options
        self._values = values
        self._call = call
        self._case_sensitive_names = case_sensitive_names

    @property
    def dates(self) -> bool:
        """Whether it is known when worklists were made."""
        return self._source.dates

    async def find(self, identifier: Elements, calling_aet: str) -> Matches:
        """What an identifier asks for.

        Raises ParameterOutOfRange for a wildcard where none can stand, OrthancError when worklists cannot be read.
        """
        query = parse_worklist_query(
            identifier,
            self._values.dictionary,
            case_sensitive_names=self._case_sensitive_names,
            station=calling_aet if self._options.filter_issuer_aet else None,
        )
        limit = self._options.limit_answers
        found = await self._source.select(query.matches, limit and limit + 1)
        told = found[:limit] if limit else found
        if self._options.log_matched_worklist_ids:
            # Who has asked for it gets it without further levels of the log.
            log.warn(
                "Worklists for {aet}: {identifiers}",
                aet=calling_aet,
                identifiers=", ".join(worklist.identifier for worklist in told) or "none",
            )
        return Matches(query, told, len(told) == len(found), self._call)

    async def all(self) -> list[Worklist]:
        """Every worklist, in the order of their identifiers."""
        return await self._source.select(lambda _: True)

    async def get(self, identifier: str) -> Worklist:
        """A worklist. UnknownResource when there is none."""
        found = await self._source.select(lambda worklist: worklist.identifier == identifier, 1)
        if not found:
            raise UnknownResource()
        return found[0]

    async def create(self, tags: Mapping[str, Any], *, force: bool) -> str:
        """Make a worklist; its identifier. Raises as `worklist_file`."""
        identifier = str(uuid.uuid4())
        study = generate_uid(ResourceLevel.STUDY) if self._options.set_study_instance_uid_if_missing else ""
        await self._source.write(identifier, await self._file(tags, force, study), is_new=True)
        return identifier

    async def update(self, identifier: str, tags: Mapping[str, Any], *, force: bool) -> None:
        """Replace a worklist; its study stays the same if the tags name none. Raises UnknownResource, too."""
        study = (await self.get(identifier)).text(STUDY_INSTANCE_UID)
        if not study and self._options.set_study_instance_uid_if_missing:
            study = generate_uid(ResourceLevel.STUDY)
        await self._source.write(identifier, await self._file(tags, force, study), is_new=False)

    async def delete(self, identifier: str) -> None:
        """Remove a worklist. UnknownResource when there is none."""
        if not await self._source.remove(identifier):
            raise UnknownResource()

    async def _file(self, tags: Mapping[str, Any], force: bool, study: str) -> bytes:
        file: bytes = await self._call(worklist_file, tags, self._values, force=force, study_instance_uid=study)
        return file
