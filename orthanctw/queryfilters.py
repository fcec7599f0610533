"""Queries as scripts see and change them: tags as ``gggg,eeee`` with texts, and back (level 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from orthanctw.dicom.dictionary import Dictionary, format_tag
from orthanctw.dicom.elements import Element, Elements
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable, UnknownDicomTag
from orthanctw.interfaces import FindPeer, IFindFilter

#: Items within items at most, as in a query over the network.
_DEPTH: Final = 16
Table = Mapping[str, Any]
Ask = Callable[[IFindFilter, Table], Awaitable[Table]]


class Asker(Protocol):
    """An association, as far as filters are told of it."""

    calling_aet: str
    called_aet: str
    address: str


class QueryFilters:
    """Asks filters about queries, one after the other: each is given what the one before has made.

    Whatever a filter does wrong, or does not in time, is an OrthancError that is answered with 500 or 0xC000.

    Parameters
    ----------
    manufacturer : callable
        That of the modality of an AE title.
    """

    def __init__(
        self, filters: Sequence[IFindFilter], dictionary: Dictionary, manufacturer: Callable[[str], str]
    ) -> None:
        self._filters = filters
        self._dictionary = dictionary
        self._manufacturer = manufacturer

    async def incoming_find(self, query: Elements, asker: Asker) -> Elements:
        """A query in place of one that came in."""
        return await self._flat("find", query, lambda each, table: each.incoming_find(table, self._peer(asker)))

    async def incoming_worklist(self, query: Elements, asker: Asker) -> Elements:
        """A query in place of one for worklists that came in."""
        changed = await self._asked(
            "worklist", query, lambda each, table: each.incoming_worklist(table, self._peer(asker))
        )
        if query and not changed:
            # It would find all worklists, and tell nothing of them.
            raise _bad("A query for worklists needs keys")
        return changed

    async def outgoing_find(self, query: Elements, modality: str) -> Elements:
        """A query in place of one that goes out; `modality` is the AE title asked."""
        return await self._flat("outgoing", query, lambda each, table: each.outgoing_find(table, modality))

    def _peer(self, asker: Asker) -> FindPeer:
        return FindPeer(
            remote_ip=asker.address,
            remote_aet=asker.calling_aet,
            called_aet=asker.called_aet,
            manufacturer=self._manufacturer(asker.calling_aet),
        )

    async def _flat(self, kind: str, query: Elements, ask: Ask) -> Elements:
        """`_asked` about all but sequences, which stay: scripts expect texts."""
        sequences = {element[0]: element for element in query if element[1] == "SQ"}
        shown = [element for element in query if element[1] != "SQ"]
        changed = {element[0]: element for element in await self._asked(kind, shown, ask, depth=_DEPTH)}
        changed.update(sequences)
        return [changed[tag] for tag in sorted(changed)]

    async def _asked(self, kind: str, query: Elements, ask: Ask, depth: int = 0) -> Elements:
        for each in self._filters:
            if each.is_needed(kind):
                try:
                    answer = await ask(each, _table(query))
                except ServiceUnavailable as e:
                    raise OrthancError(e.details, code=ErrorCode.TIMEOUT) from e
                query = self._elements(answer, query, depth)
        return query

    def _elements(self, table: object, before: Elements, depth: int) -> Elements:
        """What a filter has answered. What it has not changed stays as it was, whatever its VR. OrthancError."""
        if table == []:
            # In Lua, what is empty may be an array as well.
            table = {}
        if not isinstance(table, Mapping):
            raise _bad("A query maps DICOM tags to strings")
        known = {element[0]: element for element in before}
        elements: dict[int, Element] = {}
        # In an order that does not change from one time to the next: a tag may have two names.
        for name, value in sorted(table.items()):
            try:
                tag = self._dictionary.parse(name)
            except UnknownDicomTag as e:
                raise OrthancError(e.details, code=ErrorCode.UNKNOWN_DICOM_TAG) from e
            elements[tag] = self._element(tag, value, known.get(tag), depth)
        return [elements[tag] for tag in sorted(elements)]

    def _element(self, tag: int, value: object, before: Element | None, depth: int) -> Element:
        if before is not None and value == _value(before):
            return before
        vr = self._dictionary.vr(tag) if before is None else before[1]
        if isinstance(value, str) and vr != "SQ":
            return (tag, vr, value)
        if isinstance(value, list) and vr in ("SQ", "UN") and depth < _DEPTH:
            items = before[2] if before is not None and isinstance(before[2], list) else []
            inner = [
                self._elements(item, items[place] if place < len(items) else [], depth + 1)
                for place, item in enumerate(value)
            ]
            return (tag, "SQ", inner)
        raise _bad(f"A query maps DICOM tags to strings ({format_tag(tag)})")


def _table(query: Elements) -> dict[str, Any]:
    return {format_tag(element[0]): _value(element) for element in query}


def _value(element: Element) -> Any:
    """Text, or tables for the items of a sequence; empty for what is binary."""
    value = element[2]
    if isinstance(value, list):
        return [_table(item) for item in value]
    return value if isinstance(value, str) and len(element) == 3 else ""


def _bad(details: str) -> OrthancError:
    return OrthancError(details, code=ErrorCode.LUA_BAD_OUTPUT)
