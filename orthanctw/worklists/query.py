"""Which worklists a query means, and what of them is answered (PS3.4 sections K.2 and K.6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.elements import Element, Elements
from orthanctw.matching import Condition, items_of, matches_any
from orthanctw.querying import conditions_of, is_key
from orthanctw.worklists.model import COMMON, COMMON_OF_STEPS, PATIENT_NAME, STATION_AET, STEP_SEQUENCE, Worklist

_UNIVERSAL: Final = ("", "*")


@attrs.frozen
class Key:
    """A key to answer. Of a sequence: the conditions of its items, and their keys; no keys are all of the item."""

    tag: int
    conditions: tuple[Condition, ...] = ()
    keys: tuple[Key, ...] = ()


@attrs.frozen(kw_only=True)
class WorklistQuery:
    """A C-FIND.

    `common` are those of its conditions that some value in `Worklist.common` of a match fulfils, `exact` tags with the
    texts that one of these values is.
    """

    conditions: tuple[Condition, ...]
    keys: tuple[Key, ...]
    common: tuple[Condition, ...]
    exact: tuple[tuple[int, str], ...]

    def matches(self, worklist: Worklist) -> bool:
        """Whether a worklist fulfils all conditions."""
        # Most worklists go without their elements being looked at.
        common = worklist.common
        for tag, text in self.exact:
            if text not in common.get(tag, ()):
                return False
        for condition in self.common:
            if not any(map(condition.matches, common.get(condition.tag, ()))):
                return False
        return self.fulfilled_by(worklist.elements)

    def fulfilled_by(self, elements: Elements) -> bool:
        """Whether the elements of a data set fulfil all conditions."""
        return _fulfils_all(_by_tag(elements), self.conditions)

    def answer(self, worklist: Worklist) -> Elements:
        """What is told of a match: the keys that it has, of sequences the items that match."""
        return self.answer_of(worklist.elements)

    def answer_of(self, elements: Elements) -> Elements:
        """The same of the elements of a data set."""
        return _answer(elements, self.keys)


def parse_worklist_query(
    identifier: Elements, dictionary: Dictionary, *, case_sensitive_names: bool, station: str | None = None
) -> WorklistQuery:
    """The query of an identifier.

    Parameters
    ----------
    station : str, optional
        AE title for which steps must be scheduled, unless the identifier names one (``FilterIssuerAet``).

    Raises ParameterOutOfRange for a wildcard where none can stand.
    """
    filtered = identifier if station is None else _for_station(identifier, station)
    conditions = tuple(conditions_of(filtered, dictionary, case_sensitive_names))
    common = tuple(_common(conditions))
    # Of names the case may not matter.
    exact = {
        item.tag: item.equal[0]
        for item in common
        if item.equal is not None and len(item.equal) == 1 and item.tag != PATIENT_NAME
    }
    return WorklistQuery(
        conditions=conditions,
        keys=_keys(identifier, conditions),
        common=tuple(item for item in common if item.tag not in exact),
        exact=tuple(exact.items()),
    )


def _for_station(identifier: Elements, station: str) -> Elements:
    others = [element for element in identifier if element[0] != STEP_SEQUENCE]
    steps: Any = next((element[2] for element in identifier if element[0] == STEP_SEQUENCE), [])
    step = list(steps[0]) if isinstance(steps, list) and steps else []
    named = next((element[2] for element in step if element[0] == STATION_AET), "")
    if isinstance(named, str) and named.strip(" \0") in _UNIVERSAL:
        step = [element for element in step if element[0] != STATION_AET]
        step.append((STATION_AET, "AE", station))
    return [*others, (STEP_SEQUENCE, "SQ", [step])]


def _keys(elements: Elements, conditions: Sequence[Condition]) -> tuple[Key, ...]:
    nested = {condition.tag: condition.nested for condition in conditions if condition.nested}
    keys = []
    for element in elements:
        tag, value = element[0], element[2]
        if not is_key(tag):
            continue
        inner: tuple[Condition, ...] = nested.get(tag, ())
        # More than one item is not allowed in a query (PS3.4 section C.2.2.2.6).
        keys.append(Key(tag, inner, _keys(value[0], inner) if isinstance(value, list) and value else ()))
    return tuple(keys)


def _common(conditions: Sequence[Condition]) -> Iterator[Condition]:
    for condition in conditions:
        if condition.tag in COMMON:
            yield condition
        elif condition.tag == STEP_SEQUENCE:
            yield from (inner for inner in condition.nested if inner.tag in COMMON_OF_STEPS)


def _by_tag(elements: Sequence[Element]) -> dict[int, Element]:
    return {element[0]: element for element in elements}


def _fulfils_all(elements: Mapping[int, Element], conditions: Sequence[Condition]) -> bool:
    return all(_fulfils(elements.get(condition.tag), condition) for condition in conditions)


def _fulfils(element: Element | None, condition: Condition) -> bool:
    if condition.nested:
        return any(_fulfils_all(_by_tag(item), condition.nested) for item in items_of(element, condition.item))
    # A step may be scheduled at several stations.
    return element is not None and isinstance(element[2], str) and matches_any(condition, element[2].strip(" \0"))


def _answer(elements: Sequence[Element], keys: Sequence[Key]) -> Elements:
    found = _by_tag(elements)
    return [_told(found[key.tag], key) for key in keys if key.tag in found]


def _told(element: Element, key: Key) -> Element:
    if not isinstance(element[2], list):
        return element
    items: list[Any] = [item for item in element[2] if _fulfils_all(_by_tag(item), key.conditions)]
    return (element[0], element[1], [_answer(item, key.keys) for item in items] if key.keys else items)
