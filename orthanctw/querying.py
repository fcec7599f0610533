"""C-FIND of the patient and study root: from an identifier to a search, and from resources to answers (level 4).

PS3.4 section C.4.1. Nothing is read but the index: values that lie in files only are answered empty.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import attrs

from orthanctw.catalog import Catalog, Content, View, Wanted
from orthanctw.dicom.dictionary import Dictionary, reserves
from orthanctw.dicom.elements import SPECIFIC_CHARACTER_SET, Element, Elements
from orthanctw.dicom.scuqueries import QUERY_RETRIEVE_LEVEL
from orthanctw.errors import BadRequest, ParameterOutOfRange
from orthanctw.finder import Find, Finder
from orthanctw.matching import Condition, parse_condition, sequence_condition
from orthanctw.model import ResourceLevel

RETRIEVE_AE_TITLE: Final = 0x00080054
_TIMEZONE_OFFSET: Final = 0x00080201
#: Keys that say how to answer, not what to find.
_NO_CONDITIONS: Final = frozenset(
    {QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE, SPECIFIC_CHARACTER_SET, _TIMEZONE_OFFSET}
)
LEVELS: Final = {
    "PATIENT": ResourceLevel.PATIENT,
    "STUDY": ResourceLevel.STUDY,
    "SERIES": ResourceLevel.SERIES,
    "IMAGE": ResourceLevel.INSTANCE,
    "INSTANCE": ResourceLevel.INSTANCE,
}
#: Answers that are read from the index at a time, and the values of those answers together.
_BATCH: Final = 50
_VALUES: Final = 5000


def text_of(elements: Elements, tag: int) -> str:
    """Text of an element of an identifier, without spaces around it; empty when absent."""
    for element in elements:
        if element[0] == tag and isinstance(element[2], str):
            return element[2].strip(" \0")
    return ""


@attrs.frozen(kw_only=True)
class Query:
    """A C-FIND: what to find, and the keys to answer, with the VR of each."""

    find: Find
    level_text: str
    keys: tuple[tuple[int, str], ...]


def parse_query(
    elements: Elements, dictionary: Dictionary, *, case_sensitive_names: bool, ignored: Collection[int] = ()
) -> Query:
    """The search that an identifier asks for.

    Raises
    ------
    BadRequest
        It has no level.
    ParameterOutOfRange
        The level is unknown, or a wildcard stands where none can.
    """
    level_text = text_of(elements, QUERY_RETRIEVE_LEVEL)
    if not level_text:
        raise BadRequest("QueryRetrieveLevel is missing")
    level = LEVELS.get(level_text.upper())
    if level is None:
        raise ParameterOutOfRange("QueryRetrieveLevel is unknown")
    wanted = [element for element in elements if is_key(element[0]) and element[0] not in ignored]
    conditions = conditions_of(wanted, dictionary, case_sensitive_names)
    keys = tuple((element[0], element[1]) for element in wanted)
    return Query(find=Find(level=level, conditions=tuple(conditions)), level_text=level_text, keys=keys)


def is_key(tag: int) -> bool:
    """Whether an element of an identifier is a key: something to match and to answer."""
    return tag not in _NO_CONDITIONS and tag & 0xFFFF != 0


def conditions_of(elements: Elements, dictionary: Dictionary, case_sensitive_names: bool) -> list[Condition]:
    """What the keys of an identifier ask for. ParameterOutOfRange for a wildcard where none can stand."""
    conditions: list[Condition] = []
    for element in elements:
        tag, vr, value = element[:3]
        if reserves(tag) or not is_key(tag):
            continue
        if vr == "SQ" and isinstance(value, list):
            # More than one item is not allowed in a query (PS3.4 section C.2.2.2.6).
            nested = conditions_of(value[0], dictionary, case_sensitive_names) if value else []
            if nested:
                conditions.append(sequence_condition(tag, nested))
        elif isinstance(value, str) and (text := value.strip(" \0")) not in ("", "*"):
            is_name = "PN" in (vr, dictionary.vr(tag))
            condition = parse_condition(
                dictionary, tag, text, case_sensitive=case_sensitive_names or not is_name, told_vr=vr
            )
            if condition is not None:
                conditions.append(condition)
    return conditions


class Querying:
    """Answers C-FIND.

    Parameters
    ----------
    aet : str
        ``DicomAet``, told as RetrieveAETitle.
    """

    def __init__(self, finder: Finder, catalog: Catalog, *, aet: str, case_sensitive_names: bool) -> None:
        self._finder = finder
        self._catalog = catalog
        self._aet = aet
        self._case_sensitive_names = case_sensitive_names

    async def begin(self, identifier: Elements, ignored: Collection[int] = ()) -> Answers:
        """Find the matches. Raises as `parse_query`."""
        query = parse_query(
            identifier,
            self._catalog.dictionary,
            case_sensitive_names=self._case_sensitive_names,
            ignored=ignored,
        )
        ids, is_complete = await self._finder.find_up_to_limit(query.find)
        return Answers(self._catalog, query, self._aet, ids, is_complete)


class Answers:
    """The matches of one query, read batch by batch. `is_complete`: no limit has cut them."""

    def __init__(self, catalog: Catalog, query: Query, aet: str, ids: Sequence[str], is_complete: bool) -> None:
        self.is_complete = is_complete
        self._catalog = catalog
        self._query = query
        self._aet = aet
        self._ids = ids
        self._next = 0
        self._wanted = Wanted(content=Content.MAIN_DICOM_TAGS, requested_tags=tuple(tag for tag, _ in query.keys))

    async def next(self) -> list[Elements]:
        """The next answers; empty at the end."""
        size = max(1, min(_BATCH, _VALUES // (len(self._query.keys) + 1)))
        while batch := self._ids[self._next : self._next + size]:
            self._next += len(batch)
            views = await self._catalog.views(self._query.find.level, batch, self._wanted)
            # All of a batch may have been deleted meanwhile.
            if views:
                return [self._answer(view) for view in views]
        return []

    def _answer(self, view: View) -> Elements:
        answer: Elements = [
            (QUERY_RETRIEVE_LEVEL, "CS", self._query.level_text),
            (RETRIEVE_AE_TITLE, "AE", self._aet),
        ]
        for tag, vr in self._query.keys:
            element = view.requested.get(tag)
            answer.append(element if element is not None and _is_known(element) else (tag, vr, ""))
        return answer


def _is_known(element: Element) -> bool:
    """Whether the value is in the index: long and binary ones are not."""
    return len(element) == 3 and element[2] is not None
