"""What the keys of a query mean, and which values they match (level 4): PS3.4 section C.2.2.2, with Orthanc's rules."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.elements import Element
from orthanctw.errors import BadRequest, ParameterOutOfRange
from orthanctw.identifiers import normalize_identifier
from orthanctw.model import Constraint, ResourceLevel

_RANGE_VRS = frozenset(("DA", "TM", "DT"))
_WILDCARD_VRS = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
#: Deepest path and nesting of sequences in a query.
_MAXIMUM_DEPTH = 32
_STEP = re.compile(r"(?P<tag>[^\[\].]+)(?:\[(?P<item>\d{1,6}|\*)\])?\Z")

Predicate = Callable[[str], bool]


@attrs.frozen(kw_only=True)
class Condition:
    """One key of a query. `matches` compares a whole value as Orthanc shows it.

    With `nested` the tag is a sequence, of which one item (the one of the number `item`, counted from 0, if that is
    given) must fulfil all of these (PS3.4 section C.2.2.2.6).
    """

    tag: int
    matches: Predicate
    equal: tuple[str, ...] | None = None
    wildcard: str | None = None
    lower: str | None = None
    upper: str | None = None
    nested: tuple[Condition, ...] = ()
    item: int | None = None


def sequence_condition(tag: int, nested: Sequence[Condition], item: int | None = None) -> Condition:
    """The condition that an item of a sequence fulfils all of `nested`."""
    return Condition(tag=tag, matches=lambda _: False, nested=tuple(nested), item=item)


def parse_condition(
    dictionary: Dictionary, tag: int, value: str, *, case_sensitive: bool, told_vr: str = "UN"
) -> Condition | None:
    """The condition that a query's value means; None for the empty value, which matches everything.

    PS3.4 section C.2.2.2, with Orthanc's rules for when a value is a range, a list or a wildcard. `told_vr` counts for
    tags that the dictionary does not know.

    Raises
    ------
    ParameterOutOfRange
        A wildcard in a tag that cannot have one.
    """
    if value == "":
        return None
    vr = dictionary.vr(tag)
    if vr == "UN":
        vr = told_vr if told_vr != "UN" else "LO"
    fold = _fold(case_sensitive)
    if vr in _RANGE_VRS and "-" in value:
        lower, _, upper = value.partition("-")
        return Condition(tag=tag, matches=_in_range(lower, upper), lower=lower or None, upper=upper or None)
    if "\\" in value:
        return Condition(tag=tag, equal=tuple(value.split("\\")), matches=_in_list(value, fold))
    if "*" in value or "?" in value:
        if vr not in _WILDCARD_VRS:
            raise ParameterOutOfRange("Wildcards are not possible in this tag")
        return Condition(tag=tag, wildcard=value, matches=_like(value, fold))
    expected = fold(value)
    return Condition(tag=tag, equal=(value,), matches=lambda text: fold(text) == expected)


def metadata_predicate(value: str) -> Predicate:
    """What the value of a query says of metadata: text with wildcards, or a list; the case does not matter."""
    fold = _fold(case_sensitive=False)
    if "\\" in value:
        return _in_list(value, fold)
    return _like(value, fold)


def _fold(case_sensitive: bool) -> Callable[[str], str]:
    return (lambda text: text) if case_sensitive else str.upper


def _in_list(value: str, fold: Callable[[str], str]) -> Predicate:
    wanted = frozenset(map(fold, value.split("\\")))
    return lambda text: any(fold(item) in wanted for item in text.split("\\"))


def _like(pattern: str, fold: Callable[[str], str]) -> Predicate:
    # fnmatch knows brackets, DICOM does not.
    matches = re.compile(fnmatch.translate(fold(pattern).replace("[", "[[]"))).match
    return lambda text: matches(fold(text)) is not None


def _in_range(lower: str, upper: str) -> Predicate:
    # An empty value lies before every upper bound.
    return lambda text: lower <= text and (not upper or text <= upper)


def sequence_matches(condition: Condition, element: Element | None) -> bool:
    """Whether an element is a sequence with an item that fulfils the nested conditions."""
    return any(
        all(_element_matches(nested, found.get(nested.tag)) for nested in condition.nested)
        for found in ({inner[0]: inner for inner in item} for item in items_of(element, condition.item))
    )


def items_of(element: Element | None, number: int | None) -> Sequence[Sequence[Element]]:
    """The items of a sequence, or the one of a number; none of what is no sequence."""
    if element is None or element[1] != "SQ" or len(element) != 3:
        return ()
    items: Sequence[Sequence[Element]] = element[2]
    return items if number is None else items[number : number + 1]


def _element_matches(condition: Condition, element: Element | None) -> bool:
    if condition.nested:
        return sequence_matches(condition, element)
    return element is not None and isinstance(element[2], str) and condition.matches(element[2].strip(" \0"))


def matches_any(condition: Condition, value: str) -> bool:
    """Gathered tags match by any of their values."""
    return condition.matches(value) or any(condition.matches(item) for item in value.split("\\"))


def constraint_of(condition: Condition, level: ResourceLevel) -> Constraint:
    """What the index can narrow down by, in normalised form."""
    wildcard = condition.wildcard
    if wildcard is not None:
        # Normalising drops characters that a question mark stands for, and spaces that such a loss lays bare.
        wildcard = re.sub(r" *[*?]+ *", "*", wildcard)

    def normalize(text: str | None) -> str | None:
        return None if text is None else normalize_identifier(text)

    return Constraint(
        tag=condition.tag,
        level=level,
        equal=None if condition.equal is None else tuple(map(normalize_identifier, condition.equal)),
        wildcard=normalize(wildcard),
        lower=normalize(condition.lower),
        upper=normalize(condition.upper),
    )



def parse_path(dictionary: Dictionary, text: str) -> tuple[tuple[int, int | None], ...]:
    """A tag, or the way to one that lies in sequences: tags, each but the last with the number of an item or None.

    ``0040,0275[0].0040,0007`` is in the first item, ``0040,0275[*].0040,0007`` and ``0040,0275.0040,0007`` in any.
    Raises UnknownDicomTag, and ParameterOutOfRange for another syntax.
    """
    if "." not in text and "[" not in text:
        return ((dictionary.parse(text), None),)
    steps = [_STEP.match(step) for step in text.split(".", _MAXIMUM_DEPTH)]
    path: list[tuple[int, int | None]] = []
    for step in steps:
        if step is None:
            raise ParameterOutOfRange("Bad path to a tag")
        item = step["item"]
        path.append((dictionary.parse(step["tag"]), None if item in (None, "*") else int(item)))
    if steps[-1] is not None and steps[-1]["item"] is not None:
        raise ParameterOutOfRange("A path ends with a tag, not with an item")
    return tuple(path)


def query_conditions(
    dictionary: Dictionary, query: Mapping[str, Any], *, case_sensitive: bool, depth: int = 0
) -> tuple[Condition, ...]:
    """The conditions of a query; those that match everything are left out.

    The value of a sequence is an object, or an array of one, with keys of its own.

    Raises
    ------
    UnknownDicomTag, ParameterOutOfRange
    BadRequest
        A value is of another type.
    """
    if depth >= _MAXIMUM_DEPTH:
        raise ParameterOutOfRange("Sequences are nested too deeply")
    parsed = (
        _condition_at(dictionary, parse_path(dictionary, name), value, case_sensitive, depth)
        for name, value in query.items()
    )
    return tuple(condition for condition in parsed if condition is not None)


def _condition_at(
    dictionary: Dictionary, path: Sequence[tuple[int, int | None]], value: Any, case_sensitive: bool, depth: int
) -> Condition | None:
    (tag, item), *rest = path
    if rest:
        inner = _condition_at(dictionary, rest, value, case_sensitive, depth)
        return None if inner is None else sequence_condition(tag, (inner,), item)
    if isinstance(value, str):
        return parse_condition(dictionary, tag, value, case_sensitive=case_sensitive)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if dictionary.vr(tag) != "SQ" or not (isinstance(value, dict) or value == []):
        raise BadRequest("Values of Query must be strings")
    nested = query_conditions(dictionary, value or {}, case_sensitive=case_sensitive, depth=depth + 1)
    return sequence_condition(tag, nested) if nested else None
