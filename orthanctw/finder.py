"""Searching: the one matcher behind ``/tools/find``, C-FIND and worklists (level 4).

The index narrows down by its normalised search tags; what it lets through is compared here with the real values,
from the main tags, then from the stored header. Conditions on levels above are compared there, once for all that is
below. Paging and limits come after the comparison.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

import attrs

from orthanctw.catalog import Catalog
from orthanctw.dicom.maintags import COMPUTED_TAGS, IDENTIFIER_TAGS
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.identifiers import normalize_identifier
from orthanctw.lookups import LabelsConstraint, Lookup, OrderKey, Scope
from orthanctw.matching import Condition, Predicate, constraint_of, matches_any, sequence_matches
from orthanctw.model import Constraint, Resource, ResourceLevel
from orthanctw.ordering import SortKey, Value, in_order, order_value, value_at
from orthanctw.settings import StorageAccess

_LEVELS = tuple(ResourceLevel)
#: Resources that are read, and those whose headers are decoded, between two turns of the reactor.
_BATCH = 200
_HEADERS = 50

_IDENTIFIERS = (
    (ResourceLevel.PATIENT, 0x00100020),
    (ResourceLevel.STUDY, 0x0020000D),
    (ResourceLevel.SERIES, 0x0020000E),
    (ResourceLevel.INSTANCE, 0x00080018),
)


@attrs.frozen(kw_only=True)
class Find:
    """A search. `limit` 0 is no limit; `metadata` are numbers with what their values must match.

    `parents` are resources of which one must be below, or which it must be itself.
    """

    level: ResourceLevel
    conditions: tuple[Condition, ...] = ()
    metadata: tuple[tuple[int, Predicate], ...] = ()
    parents: tuple[tuple[ResourceLevel, str], ...] = ()
    labels: tuple[str, ...] = ()
    labels_constraint: LabelsConstraint = LabelsConstraint.ALL
    order: tuple[SortKey, ...] = ()
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
            self._known[level] = catalog.tags_at_or_above(level)
            below = frozenset[int]().union(*(catalog.stored_tags[item] for item in _LEVELS[level:]))
            self._below[level] = below - self._known[level]

    async def find(self, find: Find) -> list[str]:
        """Public ids of the matches, in a stable order.

        Raises OrthancError for an order by a tag of a lower level.
        """
        maximum = self._limits[find.level]
        return await self._find(find, min(find.limit or maximum, maximum or find.limit))

    async def find_up_to_limit(self, find: Find) -> tuple[list[str], bool]:
        """As `find`, and whether these are all of them."""
        maximum = self._limits[find.level]
        ids = await self._find(find, maximum and maximum + 1)
        return (ids[:maximum], len(ids) <= maximum) if maximum else (ids, True)

    async def count(self, find: Find) -> int:
        """How many resources match, whatever the page and the limits of the server."""
        lookup, rest = await self._plan(find)
        if not rest and not find.metadata:
            number: int = await self._index.count(lookup)
            return number
        number = 0
        async for batch in self._matches(lookup, rest, find.metadata):
            number += len(batch)
        return number

    async def _find(self, find: Find, limit: int) -> list[str]:
        order = self._order_of_index(find)
        lookup, rest = await self._plan(find)
        if order is None:
            ids = await self._find_in_order(find, lookup, rest)
            return ids[find.since : find.since + limit if limit else None]
        lookup = attrs.evolve(lookup, order=order)
        if not rest and not find.metadata:
            page: list[str] = await self._index.look_up_ids(attrs.evolve(lookup, since=find.since, limit=limit))
            return page
        ids = []
        wanted = find.since + limit if limit else None
        async for batch in self._matches(lookup, rest, find.metadata):
            ids += [resource.public_id for resource in batch]
            if wanted is not None and len(ids) >= wanted:
                break
        return ids[find.since : wanted]

    async def lookup(self, value: str) -> list[tuple[ResourceLevel, str]]:
        """Resources whose PatientID or UID is `value`, to the letter."""
        found: list[tuple[ResourceLevel, str]] = []
        for level, tag in _IDENTIFIERS:
            constraint = Constraint(tag=tag, level=level, equal=(normalize_identifier(value),))
            resources = await self._index.candidates(level, [constraint])
            found += [(level, item.public_id) for item in resources if item.main_tags.get(tag) == value]
        return found

    # What the index does

    async def _plan(self, find: Find) -> tuple[Lookup, list[Condition]]:
        """What the index looks up, and the conditions to compare."""
        scope, rest = Scope(level=find.level, rows=()), list(find.conditions)
        # A study has no modality of its own: it matches by ModalitiesInStudy.
        if not any(condition.tag in self._below[find.level] for condition in find.conditions):
            is_there, parent = await self._parent(find.parents)
            if is_there:
                return await self._narrow(find, find.level, find.conditions, parent)
        return Lookup(level=find.level, scope=scope), rest

    async def _parent(self, parents: Sequence[tuple[ResourceLevel, str]]) -> tuple[bool, Resource | None]:
        """The lowest of the parents, if all are there, one below the other."""
        if not parents:
            return True, None
        level, public_id = max(parents)
        resource: Resource | None = await self._index.resource(level, public_id)
        for upper_level, upper_id in parents:
            ancestor = await self._index.ancestor(level, public_id, upper_level) if upper_level <= level else None
            if ancestor is None or ancestor.public_id != upper_id:
                return False, None
        return resource is not None, resource

    async def _narrow(
        self, find: Find, level: ResourceLevel, conditions: Sequence[Condition], parent: Resource | None
    ) -> tuple[Lookup, list[Condition]]:
        """A look-up for `conditions` at `level`, those of levels above being decided, and what is left to compare.

        Labels are those of `find`, at its level only.
        """
        rest = list(conditions)
        scope = None if parent is None else Scope(level=parent.level, rows=(parent.internal_id,))
        homes = [self._home(condition, level) for condition in conditions]
        upper_level = max((home for home in homes if home < level), default=None)
        if upper_level is not None and not any(_is_exact(condition, level) for condition in conditions):
            upper = [condition for condition, home in zip(conditions, homes, strict=True) if home < level]
            rest = [condition for condition, home in zip(conditions, homes, strict=True) if home == level]
            scope = await self._scope_above(find, upper_level, upper, parent)
        labels: tuple[str, ...] = ()
        constraint = LabelsConstraint.ALL
        if level == find.level:
            labels, constraint = find.labels, find.labels_constraint
        lookup = Lookup(
            level=level,
            constraints=tuple(
                constraint_of(condition, search_level)
                for condition in rest
                if not condition.nested and (search_level := _search_level(condition.tag, level)) is not None
            ),
            scope=scope,
            labels=labels,
            labels_constraint=constraint,
        )
        known = self._known[level]
        self._warn(level, rest)
        return lookup, sorted(rest, key=lambda condition: condition.tag not in known)

    def _warn(self, level: ResourceLevel, conditions: Sequence[Condition]) -> None:
        indexed = self._known[level].union(COMPUTED_TAGS[level])
        read = [condition.tag for condition in conditions if condition.tag not in indexed]
        if read and self._catalog.access is StorageAccess.ALWAYS:
            self._catalog.warnings.tags_read(level.plural, read)

    async def _scope_above(
        self, find: Find, level: ResourceLevel, conditions: Sequence[Condition], parent: Resource | None
    ) -> Scope:
        """Resources of `level` that fulfil conditions; or `parent` below it, if what is above that fulfils them."""
        top = parent
        if parent is not None and parent.level > level:
            top = await self._index.ancestor(parent.level, parent.public_id, level)
        lookup, rest = await self._narrow(find, level, conditions, top)
        rows: list[int] = []
        async for batch in self._matches(lookup, rest, ()):
            rows += [resource.internal_id for resource in batch]
        if parent is not None and parent.level > level:
            return Scope(level=parent.level, rows=(parent.internal_id,) if rows else ())
        return Scope(level=level, rows=tuple(rows))

    def _home(self, condition: Condition, level: ResourceLevel) -> ResourceLevel:
        """The level that decides on a condition."""
        return (None if condition.nested else self._stored_level(condition.tag, level)) or level

    def _stored_level(self, tag: int, level: ResourceLevel) -> ResourceLevel | None:
        """The lowest level, at or above `level`, whose main tags a tag is one of."""
        return next((item for item in reversed(_LEVELS[:level]) if tag in self._catalog.stored_tags[item]), None)

    def _order_of_index(self, find: Find) -> tuple[OrderKey, ...] | None:
        """The order in terms of the index; None when some key is not in it."""
        if any(key.path and key.path[0][0] in self._below[find.level] for key in find.order):
            raise OrthancError(
                "OrderBy a tag of a lower level", code=ErrorCode.SQLITE_PREPARE_STATEMENT, http_status=400
            )
        keys = [self._order_key(key, find.level) for key in find.order]
        known = tuple(key for key in keys if key is not None)
        return known if len(known) == len(keys) else None

    def _order_key(self, key: SortKey, level: ResourceLevel) -> OrderKey | None:
        home: ResourceLevel | None = level
        if key.metadata is None:
            home = None if key.tag is None else self._stored_level(key.tag, level)
        if home is None:
            return None
        return OrderKey(
            level=home,
            tag=key.tag,
            metadata=key.metadata,
            form=key.form,
            descending=key.descending,
            is_identifier=key.tag in IDENTIFIER_TAGS[home],
        )

    # What is compared here

    async def _matches(
        self, lookup: Lookup, conditions: Sequence[Condition], metadata: Sequence[tuple[int, Predicate]]
    ) -> AsyncIterator[list[Resource]]:
        """The resources of a look-up that match, batch by batch."""
        looked_up = await self._index.look_up_rows(lookup, _BATCH)
        batch: list[Resource] = looked_up.first
        for start in range(0, len(looked_up.rows), _BATCH):
            if start:
                batch = await self._index.resources_of_rows(looked_up.rows[start : start + _BATCH])
            batch = [resource for resource in batch if _metadata_matches(resource, metadata)]
            for condition in conditions:
                if batch:
                    batch = await self._filter(condition, lookup.level, batch)
            yield batch

    async def _find_in_order(self, find: Find, lookup: Lookup, rest: Sequence[Condition]) -> list[str]:
        """All matches in an order of which some values are not in the index."""
        found: list[tuple[str, tuple[Value, ...]]] = []
        async for batch in self._matches(lookup, rest, find.metadata):
            columns = [await self._sort_values(key, find.level, batch) for key in find.order]
            found += [
                (resource.public_id, tuple(column.get(resource.public_id) for column in columns)) for resource in batch
            ]
        return [public_id for public_id, _ in in_order(found, find.order, lambda item: item[1])]

    async def _sort_values(
        self, key: SortKey, level: ResourceLevel, resources: Sequence[Resource]
    ) -> dict[str, Value]:
        values: Mapping[str, str | None]
        if key.metadata is not None:
            values = {
                item.public_id: item.metadata[key.metadata].value
                for item in resources
                if key.metadata in item.metadata
            }
        elif key.tag is None:
            values = {}
            for start in range(0, len(resources), _HEADERS):
                ids = [resource.public_id for resource in resources[start : start + _HEADERS]]
                headers = await self._catalog.compared_headers(level, ids)
                values |= {public_id: value_at(key.path, header) for public_id, header in headers.items()}
        elif key.tag in COMPUTED_TAGS[level]:
            values = {item.public_id: await self._catalog.computed(key.tag, item) for item in resources}
        else:
            values = await self._values(key.tag, level, resources)
        return {public_id: order_value(value, key.form) for public_id, value in values.items()}

    async def _filter(
        self, condition: Condition, level: ResourceLevel, resources: Sequence[Resource]
    ) -> list[Resource]:
        if condition.nested:
            matching: list[Resource] = []
            for start in range(0, len(resources), _HEADERS):
                part = resources[start : start + _HEADERS]
                headers = await self._catalog.compared_headers(level, [resource.public_id for resource in part])
                matching += [
                    resource
                    for resource in part
                    if (header := headers.get(resource.public_id)) is not None
                    and sequence_matches(condition, header.by_tag.get(condition.tag))
                ]
            return matching
        if condition.tag in COMPUTED_TAGS[level]:
            computed = [(await self._catalog.computed(condition.tag, resource), resource) for resource in resources]
            return [resource for value, resource in computed if matches_any(condition, value)]
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
        for start in range(0, len(unknown), _HEADERS):
            headers = await self._catalog.compared_headers(level, unknown[start : start + _HEADERS])
            values.update({public_id: header.text(tag) for public_id, header in headers.items()})
        return values


def _search_level(tag: int, level: ResourceLevel) -> ResourceLevel | None:
    """The lowest level, at or above `level`, that the index can search for a tag."""
    return next((item for item in reversed(_LEVELS[:level]) if tag in IDENTIFIER_TAGS[item]), None)


def _is_exact(condition: Condition, level: ResourceLevel) -> bool:
    """Whether the index finds the few resources of `level` that a condition means."""
    return not condition.nested and condition.equal is not None and condition.tag in IDENTIFIER_TAGS[level]


def _metadata_matches(resource: Resource, metadata: Sequence[tuple[int, Predicate]]) -> bool:
    return all(
        (item := resource.metadata.get(number)) is not None and matches(item.value) for number, matches in metadata
    )
