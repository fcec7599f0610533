"""Who decides whether objects go out by C-STORE (level 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orthanctw.dicom.jsonforms import TagFormat
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.interfaces import IStoreFilter
from orthanctw.tagviews import TagView, TagViews

_VIEW = TagView(format=TagFormat.SIMPLIFY)


class Undecided(OrthancError):
    """A filter has failed, or given no answer: the object is not sent, through no fault of the destination."""


class StoreFilters:
    """Asks filters in turn; the first that says no keeps the object here."""

    def __init__(self, views: TagViews) -> None:
        self._views = views
        self._filters: list[IStoreFilter] = []

    def add(self, store_filter: IStoreFilter) -> None:
        """Ask one more, after the others."""
        self._filters.append(store_filter)

    async def sends(self, public_id: str, host: str, aet: str) -> bool:
        """Whether a stored instance goes to a destination. Undecided, UnknownResource."""
        return await self.sends_what(
            lambda: self._views.instance(public_id, _VIEW, lambda shown: shown), host, aet
        )

    async def sends_what(
        self, make_tags: Callable[[], Awaitable[Mapping[str, Any]]], host: str, aet: str
    ) -> bool:
        """Whether an object of these simplified tags, which are made when somebody asks, goes to a destination."""
        tags: Mapping[str, Any] | None = None
        for each in self._filters:
            if not each.is_needed():
                continue
            if tags is None:
                tags = await make_tags()
            try:
                if not await each.sends(tags, host, aet):
                    return False
            except ServiceUnavailable as e:
                raise Undecided(e.details, code=ErrorCode.TIMEOUT) from e
            except OrthancError as e:
                raise Undecided(e.details, code=e.code) from e
        return True
