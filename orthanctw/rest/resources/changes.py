"""``/changes`` and ``/exports``."""

from __future__ import annotations

from orthanctw.errors import ParameterOutOfRange
from orthanctw.interfaces import IIndex
from orthanctw.model import ChangeType
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import TEXT, Argument, route
from orthanctw.rest.reply import EMPTY, Reply, json_reply
from orthanctw.rest.serialisers import change, exported, log_entries

DEFAULT_LIMIT = 100
_PAGE = (
    Argument("since", "integer", "Sequence number behind which the page begins"),
    Argument("limit", "integer", f"Longest page, {DEFAULT_LIMIT} if nothing is said"),
    Argument("last", "flag", "The last entry alone"),
)
_FURTHER = (
    Argument("to", "integer", "Sequence number with which the page ends; without since, it holds those right before"),
    Argument("type", "string", "Types of changes, separated by semicolons"),
)


class ChangeRoutes:
    """What happened to resources, and what was sent."""

    def __init__(self, index: IIndex) -> None:
        self._index = index

    @route("GET", "/changes", query=(*_PAGE, *_FURTHER))
    async def changes(self, call: Call) -> Reply:
        """A page of the log of changes."""
        newest, last = await self._index.last_change()
        if call.flag("last"):
            entries = [] if newest is None else [change(newest)]
            return json_reply(log_entries("Changes", entries, True, last))
        limit = call.integer("limit")
        since, to = call.integer("since"), call.integer("to")
        if limit is None:
            limit = DEFAULT_LIMIT
        found, done = await self._index.changes(since, limit, to, _types(call.arguments.get("type", "")))
        return json_reply(log_entries("Changes", map(change, found), done, last))

    @route("DELETE", "/changes", answers=[TEXT])
    async def clear_changes(self, call: Call) -> Reply:
        """Forget the log of changes."""
        await self._index.clear_changes()
        return EMPTY

    @route("GET", "/exports", query=_PAGE)
    async def exports(self, call: Call) -> Reply:
        """A page of the log of exports."""
        newest, last = await self._index.last_export()
        if call.flag("last"):
            entries = [] if newest is None else [exported(newest)]
            return json_reply(log_entries("Exports", entries, True, last))
        limit = call.integer("limit")
        found, done = await self._index.exports(
            call.integer("since") or 0, DEFAULT_LIMIT if limit is None else limit
        )
        return json_reply(log_entries("Exports", map(exported, found), done, last))

    @route("DELETE", "/exports", answers=[TEXT])
    async def clear_exports(self, call: Call) -> Reply:
        """Forget the log of exports."""
        await self._index.clear_exports()
        return EMPTY


def _types(text: str) -> frozenset[ChangeType]:
    types = set()
    for title in filter(None, text.split(";")):
        kind = ChangeType.parse(title)
        if kind is None:
            raise ParameterOutOfRange("Unknown type of change")
        types.add(kind)
    return frozenset(types)


