"""Searching: the one matcher behind ``/tools/find``, C-FIND and worklists (level 4).

The index narrows down by its normalised search tags; what it lets through is compared here with the real values,
from the main tags, then from the stored header. Paging and limits come after the comparison.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence

import attrs

from orthanctw.catalog import Catalog
from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.elements import Element
from orthanctw.dicom.maintags import COMPUTED_TAGS, IDENTIFIER_TAGS
from orthanctw.errors import ParameterOutOfRange
from orthanctw.identifiers import normalize_identifier
from orthanctw.model import Constraint, Resource, ResourceLevel

_RANGE_VRS = frozenset(("DA", "TM", "DT"))
_WILDCARD_VRS = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
_LEVELS = tuple(ResourceLevel)
#: Resources whose headers are decoded between two turns of the reactor.
_BATCH = 50

_IDENTIFIERS = (
    (ResourceLevel.PATIENT, 0x00100020),
    (ResourceLevel.STUDY, 0x0020000D),
    (ResourceLevel.SERIES, 0x0020000E),
    (ResourceLevel.INSTANCE, 0x00080018),
)

Predicate = Callable[[str], bool]


@attrs.frozen(kw_only=True)
class Condition:
    """One key of a query. `matches` compares a whole value as Orthanc shows it.

    With `nested` the tag is a sequence, of which one item must fulfil all of these (PS3.4 section C.2.2.2.6).
    """

    tag: int
    matches: Predicate
    equal: tuple[str, ...] | None = None
    wildcard: str | None = None
    lower: str | None = None
    upper: str | None = None
    nested: tuple[Condition, ...] = ()


def sequence_condition(tag: int, nested: Sequence[Condition]) -> Condition:
    """The condition that an item of a sequence fulfils all of `nested`."""
    return Condition(tag=tag, matches=lambda _: False, nested=tuple(nested))


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
    fold: Callable[[str], str] = (lambda text: text) if case_sensitive else str.upper
    if vr in _RANGE_VRS and "-" in value:
        lower, _, upper = value.partition("-")
        return Condition(tag=tag, matches=_in_range(lower, upper), lower=lower or None, upper=upper or None)
    if "\\" in value:
        items = tuple(value.split("\\"))
        wanted = frozenset(map(fold, items))
        return Condition(
            tag=tag, equal=items, matches=lambda text: any(fold(item) in wanted for item in text.split("\\"))
        )
    if "*" in value or "?" in value:
        if vr not in _WILDCARD_VRS:
            raise ParameterOutOfRange("Wildcards are not possible in this tag")
        pattern = _compile(fold(value))
        return Condition(tag=tag, wildcard=value, matches=lambda text: pattern(fold(text)) is not None)
    expected = fold(value)
    return Condition(tag=tag, equal=(value,), matches=lambda text: fold(text) == expected)


def _compile(pattern: str) -> Callable[[str], re.Match[str] | None]:
    # fnmatch knows brackets, DICOM does not.
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match


def _in_range(lower: str, upper: str) -> Predicate:
    # An empty value lies before every upper bound.
    return lambda text: lower <= text and (not upper or text <= upper)


@attrs.frozen(kw_only=True)
class Find:
    """A search. `limit` 0 is no limit."""

    level: ResourceLevel
    conditions: tuple[Condition, ...] = ()
    labels: tuple[str, ...] = ()
    labels_constraint: str = "All"
    since: int = 0
    limit: int = 0


class Finder:
    """Finds resources.

    Parameters
    ----------
    limit_results, limit_instances : int
        ``LimitFindResults`` above the instances, and ``LimitFindInstances``; 0 for none.
    """

    def __init__(self, catalog: Catalog, *, limit_results: int = 0, limit_instances: int = 0) -> None:
        self._catalog = catalog
        self._index = catalog.index
        self._limits = dict.fromkeys(_LEVELS, limit_results)
        self._limits[ResourceLevel.INSTANCE] = limit_instances
        self._known: dict[ResourceLevel, frozenset[int]] = {}
        self._below: dict[ResourceLevel, frozenset[int]] = {}
        for level in _LEVELS:
            self._known[level] = frozenset().union(*(catalog.stored_tags[item] for item in _LEVELS[:level]))
            below = frozenset[int]().union(*(catalog.stored_tags[item] for item in _LEVELS[level:]))
            self._below[level] = below - self._known[level]

    async def find(self, find: Find) -> list[str]:
        """Public ids of the matches, in a stable order."""
        maximum = self._limits[find.level]
        return await self._find(find, min(find.limit or maximum, maximum or find.limit))

    async def find_up_to_limit(self, find: Find) -> tuple[list[str], bool]:
        """As `find`, and whether these are all of them."""
        maximum = self._limits[find.level]
        ids = await self._find(find, maximum and maximum + 1)
        return (ids[:maximum], len(ids) <= maximum) if maximum else (ids, True)

    async def _find(self, find: Find, limit: int) -> list[str]:
        if any(condition.tag in self._below[find.level] for condition in find.conditions):
            # A study has no modality of its own: it matches by ModalitiesInStudy.
            return []
        constraints, rest = self._plan(find)
        if not constraints and not rest and not find.labels and find.labels_constraint != "None":
            ids: list[str] = await self._index.list_ids(find.level, find.since, limit)
            return ids
        candidates: Sequence[Resource] = await self._index.candidates(find.level, constraints)
        candidates = [resource for resource in candidates if _labels_match(resource, find)]
        matches: list[str] = []
        wanted = find.since + limit if limit else None
        for start in range(0, len(candidates), _BATCH):
            batch = candidates[start : start + _BATCH]
            for condition in rest:
                if batch:
                    batch = await self._filter(condition, find.level, batch)
            matches += [resource.public_id for resource in batch]
            if wanted is not None and len(matches) >= wanted:
                break
        return matches[find.since : wanted]

    async def lookup(self, value: str) -> list[tuple[ResourceLevel, str]]:
        """Resources whose PatientID or UID is `value`, to the letter."""
        found: list[tuple[ResourceLevel, str]] = []
        normalized = normalize_identifier(value)
        for level, tag in _IDENTIFIERS:
            resources = await self._index.lookup_identifier(level, tag, normalized)
            found += [(level, item.public_id) for item in resources if item.main_tags.get(tag) == value]
        return found

    def _plan(self, find: Find) -> tuple[list[Constraint], list[Condition]]:
        """What the index narrows down, and the conditions to compare; ordered from cheap to dear."""
        constraints = []
        for condition in find.conditions:
            level = None if condition.nested else self._search_level(condition.tag, find.level)
            if level is not None:
                constraints.append(_constraint(condition, level))
        known = self._known[find.level]
        rest = sorted(find.conditions, key=lambda condition: condition.tag not in known)
        return constraints, rest

    @staticmethod
    def _search_level(tag: int, level: ResourceLevel) -> ResourceLevel | None:
        """The lowest level, at or above `level`, that the index can search for a tag."""
        for candidate in reversed(_LEVELS[:level]):
            if tag in IDENTIFIER_TAGS[candidate]:
                return candidate
        return None

    async def _filter(
        self, condition: Condition, level: ResourceLevel, resources: Sequence[Resource]
    ) -> list[Resource]:
        if condition.nested:
            headers = await self._catalog.any_headers(level, [resource.public_id for resource in resources])
            return [
                resource
                for resource in resources
                if (header := headers.get(resource.public_id)) is not None
                and _sequence_matches(condition, header.by_tag.get(condition.tag))
            ]
        if condition.tag in COMPUTED_TAGS[level]:
            computed = [(await self._catalog.computed(condition.tag, resource), resource) for resource in resources]
            return [resource for value, resource in computed if _matches_any(condition, value)]
        values = await self._values(condition.tag, level, resources)
        return [
            resource
            for resource in resources
            if (value := values.get(resource.public_id)) is not None and condition.matches(value)
        ]

    async def _values(
        self, tag: int, level: ResourceLevel, resources: Sequence[Resource]
    ) -> Mapping[str, str | None]:
        """The value of a tag of each resource, from the nearest place that knows it."""
        values: dict[str, str | None] = {}
        for resource in resources:
            value = resource.main_tags.get(tag)
            if value is not None or self._catalog.knows(resource, tag):
                values[resource.public_id] = value
        unknown = [resource.public_id for resource in resources if resource.public_id not in values]
        for ancestor_level in reversed(_LEVELS[: level - 1]):
            if unknown and tag in self._catalog.stored_tags[ancestor_level]:
                ancestors: Mapping[str, Resource] = await self._index.ancestors(level, unknown, ancestor_level)
                for public_id, ancestor in ancestors.items():
                    if self._catalog.knows(ancestor, tag):
                        values[public_id] = ancestor.main_tags.get(tag)
                unknown = [public_id for public_id in unknown if public_id not in values]
        headers = await self._catalog.any_headers(level, unknown)
        values.update({public_id: header.text(tag) for public_id, header in headers.items()})
        return values


def _sequence_matches(condition: Condition, element: Element | None) -> bool:
    if element is None or element[1] != "SQ" or len(element) != 3:
        return False
    return any(
        all(_element_matches(nested, found.get(nested.tag)) for nested in condition.nested)
        for found in ({inner[0]: inner for inner in item} for item in element[2])
    )


def _element_matches(condition: Condition, element: Element | None) -> bool:
    if condition.nested:
        return _sequence_matches(condition, element)
    return element is not None and isinstance(element[2], str) and condition.matches(element[2])


def _matches_any(condition: Condition, value: str) -> bool:
    """Gathered tags match by any of their values."""
    return condition.matches(value) or any(condition.matches(item) for item in value.split("\\"))


def _labels_match(resource: Resource, find: Find) -> bool:
    labels = set(resource.labels)
    if find.labels_constraint == "None":
        return not labels.intersection(find.labels) if find.labels else not labels
    if not find.labels:
        return True
    if find.labels_constraint == "Any":
        return bool(labels.intersection(find.labels))
    return labels.issuperset(find.labels)


def _constraint(condition: Condition, level: ResourceLevel) -> Constraint:
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


def query_conditions(
    dictionary: Dictionary, query: Mapping[str, str], *, case_sensitive: bool
) -> tuple[Condition, ...]:
    """The conditions of a query; those that match everything are left out. UnknownDicomTag, ParameterOutOfRange."""
    parsed = (
        parse_condition(dictionary, dictionary.parse(name), value, case_sensitive=case_sensitive)
        for name, value in query.items()
    )
    return tuple(condition for condition in parsed if condition is not None)
