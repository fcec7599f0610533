"""Finding resources by search tags, labels and what they are below: the narrowest condition drives, the others are
looked up for what it finds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import attrs
import orjson

from orthanctw.errors import ParameterOutOfRange
from orthanctw.index.ordering import COLUMNS, order_terms, order_value
from orthanctw.index.queries import list_ids, list_resources, resources_of_rows
from orthanctw.index.rows import RESOURCE_COLUMNS, RESOURCE_JOINS, json_list, resource_from_row, tag_key
from orthanctw.lookups import LabelsConstraint, LookedUp, Lookup, OrderForm, OrderKey
from orthanctw.model import Constraint, Resource, ResourceLevel

#: Rows that are counted, at most, to find out which constraint is the narrowest.
_PROBE: Final = 256
#: Above every character of a normalised value.
_LAST_CHARACTER: Final = "\U0010ffff"

#: A condition on the columns of the alias ``s`` of the table `search`, with its parameters.
_Condition = tuple[str, tuple[str, ...]]
_Used = tuple[Constraint, _Condition]


class _Tables:
    """Joins that lead from the rows of one level to those of others, their tests, and the parameters of all.

    Parameters
    ----------
    source : str
        A table whose alias is ``s0`` and whose column ``id`` has row numbers of `start`.
    """

    def __init__(self, start: ResourceLevel, source: str, parameters: Sequence[object] = ()) -> None:
        #: What goes before the statement.
        self.prefix = ""
        #: Whether `source` has `COLUMNS`.
        self.has_columns = False
        #: Expressions of keys of an order that `source` has already.
        self.order_values: dict[OrderKey, str] = {}
        self._tables = [source]
        self._tests: list[str] = []
        self._parameters = list(parameters)
        self._start = start
        self._rows = {start: "s0.id"}
        self._test_parameters: list[object] = []

    def row(self, level: ResourceLevel) -> str:
        """The expression of the row number at a level."""
        for upper in range(min(self._rows) - 1, level - 1, -1):
            if upper + 1 == self._start:
                self._tables.append(f"resources r{upper + 1} ON r{upper + 1}.id = s0.id")
            self._tables.append(f"resources r{upper} ON r{upper}.id = r{upper + 1}.parent")
            self._rows[ResourceLevel(upper)] = f"r{upper}.id"
        for lower in range(max(self._rows) + 1, level + 1):
            self._tables.append(f"resources r{lower} ON r{lower}.parent = {self._rows[ResourceLevel(lower - 1)]}")
            self._rows[ResourceLevel(lower)] = f"r{lower}.id"
        return self._rows[level]

    def order_value(self, key: OrderKey) -> str:
        """The expression of what a key orders by."""
        return order_value(key, self.row(key.level), "s0" if self.has_columns and key.level == self._start else "")

    def test(self, test: str, *parameters: object) -> None:
        self._tests.append(test)
        self._test_parameters += parameters

    def select(self, columns: str, joins: str = "", rest: str = "") -> str:
        where = f" WHERE {' AND '.join(self._tests)}" if self._tests else ""
        return f"SELECT {columns} FROM {' CROSS JOIN '.join(self._tables)}{joins}{where}{rest}"

    @property
    def parameters(self) -> tuple[Any, ...]:
        return (*self._parameters, *self._test_parameters)


def candidates(
    connection: sqlite3.Connection, level: ResourceLevel, constraints: Sequence[Constraint]
) -> list[Resource]:
    """Resources of `level`, in the order of their creation, that every constraint lets through.

    Raises ParameterOutOfRange for a constraint of a lower level.
    """
    used = _used(level, constraints)
    if any(constraint.equal == () for constraint, _ in used):
        return []
    if not used:
        return list_resources(connection, level, 0, 0)
    tables = _by_constraints(connection, used)
    joins = f" CROSS JOIN resources r ON r.id = {tables.row(level)} {RESOURCE_JOINS}"
    statement = tables.select(RESOURCE_COLUMNS, joins, " ORDER BY r.id")
    return [resource_from_row(row) for row in connection.execute(statement, tables.parameters).fetchall()]


def look_up_ids(connection: sqlite3.Connection, lookup: Lookup) -> list[str]:
    """Public ids of a page of what is found."""
    if not lookup.order and not _is_narrowed(lookup):
        return list_ids(connection, lookup.level, lookup.since, lookup.limit)
    found: list[str] = _page(connection, lookup, "public_id")
    return found


def look_up_rows(connection: sqlite3.Connection, lookup: Lookup, first: int) -> LookedUp:
    """Row numbers of a page of what is found, and whole resources of the first ones."""
    rows: list[int] = _page(connection, lookup, "id")
    return LookedUp(rows, resources_of_rows(connection, rows[:first]))


def count(connection: sqlite3.Connection, lookup: Lookup) -> int:
    """The number of resources that are found, whatever the page."""
    if not _is_narrowed(lookup):
        counter = f"level_{int(lookup.level)}"
        return int(connection.execute(f"SELECT {counter} FROM counters").fetchone()[0])
    tables = _tables(connection, attrs.evolve(lookup, order=()))
    if tables is None:
        return 0
    tables.row(lookup.level)
    return int(connection.execute(tables.select("COUNT(*)"), tables.parameters).fetchone()[0])


def _is_narrowed(lookup: Lookup) -> bool:
    return lookup.scope is not None or lookup.is_labelled or any(map(_constrains, lookup.constraints))


def _page(connection: sqlite3.Connection, lookup: Lookup, column: str) -> list[Any]:
    """One column of the table `resources`, of a page of what is found."""
    first = lookup.order[0] if lookup.order else None
    is_walk = (
        first is not None
        and (first.is_identifier and first.level == lookup.level and first.form is OrderForm.TEXT)
        and lookup.limit > 0
        and lookup.scope is None
        and not any(map(_constrains, lookup.constraints))
    )
    if is_walk:
        return _walk(connection, lookup, column)
    tables = _tables(connection, lookup)
    return [] if tables is None else _rows_of(connection, tables, lookup, column, lookup.since, lookup.limit)


def _rows_of(
    connection: sqlite3.Connection, tables: _Tables, lookup: Lookup, column: str, since: int, limit: int, walk: str = ""
) -> list[Any]:
    """A page of the rows of `tables`, in the order of the `lookup`; `walk` is a term that goes before it."""
    keys = lookup.order[1:] if walk else lookup.order
    known = tables.order_values
    values = [known[key] if key in known else tables.order_value(key) for key in keys]
    row = tables.row(lookup.level)
    inner = tables.select(
        f"{row} AS id", rest=f" ORDER BY {walk}{order_terms(keys, values)}{row} LIMIT ? OFFSET ?"
    )
    # Not read for what is ordered and then left out.
    shown = "page.id" if column == "id" else f"(SELECT r.{column} FROM resources r WHERE r.id = page.id)"
    statement = f"{tables.prefix}SELECT json_group_array({shown}) FROM ({inner}) page"
    (found,) = connection.execute(statement, (*tables.parameters, limit or -1, since)).fetchone()
    page: list[Any] = orjson.loads(found)
    return page


def _walk(connection: sqlite3.Connection, lookup: Lookup, column: str) -> list[Any]:
    """A page in the order of the index of values, then of the resources that have no value."""
    key = lookup.order[0]
    assert key.tag is not None
    number = tag_key(key.level, key.tag)
    source = "(SELECT resource AS id, tag, value FROM search) s0"
    # A value of several parts is there as a whole, and by each part.
    whole = (
        "NOT EXISTS (SELECT 1 FROM search w WHERE w.resource = s0.id AND w.tag = s0.tag"
        " AND length(w.value) > length(s0.value))"
    )

    def tables_of_walk() -> _Tables:
        tables = _Tables(lookup.level, source)
        tables.test("s0.tag = ?", number)
        tables.test(whole)
        _test_labels(tables, lookup, tables.row(lookup.level))
        return tables

    direction = "DESC" if key.descending else "ASC"
    page = _rows_of(
        connection, tables_of_walk(), lookup, column, lookup.since, lookup.limit, f"s0.value {direction}, "
    )
    missing = lookup.limit - len(page)
    if missing:
        have = lookup.since + len(page)
        if not page and lookup.since:
            tables = tables_of_walk()
            (have,) = connection.execute(tables.select("COUNT(*)"), tables.parameters).fetchone()
        rest = _everything(lookup.level)
        rest.test("NOT EXISTS (SELECT 1 FROM search w WHERE w.resource = s0.id AND w.tag = ?)", number)
        _test_labels(rest, lookup, rest.row(lookup.level))
        without = attrs.evolve(lookup, order=lookup.order[1:])
        page += _rows_of(connection, rest, without, column, max(0, lookup.since - have), missing)
    return page


def _tables(connection: sqlite3.Connection, lookup: Lookup) -> _Tables | None:
    """Tables and tests of a lookup; None when nothing can be found."""
    used = _used(lookup.level, lookup.constraints)
    if any(constraint.equal == () for constraint, _ in used) or (lookup.scope is not None and not lookup.scope.rows):
        return None
    if lookup.scope is not None and lookup.scope.level > lookup.level:
        return None
    if used and (lookup.scope is None or min(_cost(connection, *item) for item in used)[0] < _PROBE):
        tables = _by_constraints(connection, used)
        if lookup.scope is not None:
            rows = json_list(lookup.scope.rows)
            tables.test(f"{tables.row(lookup.scope.level)} IN (SELECT value FROM json_each(?))", rows)
    elif lookup.scope is None and lookup.labels and lookup.labels_constraint is not LabelsConstraint.NONE:
        tables = _by_labels(lookup)
    else:
        tables = _by_scope(lookup)
        for constraint, condition in used:
            _test_constraint(tables, constraint, condition)
    _test_labels(tables, lookup, tables.row(lookup.level))
    return tables


def _by_constraints(connection: sqlite3.Connection, used: Sequence[_Used]) -> _Tables:
    """From the rows of the narrowest constraint, testing the others on the way up and down the hierarchy."""
    if len(used) > 1:
        used = sorted(used, key=lambda item: _cost(connection, *item))
    (driver, (condition, values)), *others = used
    # An indexed value that has several parts occurs several times for its resource.
    source = f"(SELECT DISTINCT s.resource AS id FROM search s WHERE s.tag = ? AND {condition}) s0"
    tables = _Tables(driver.level, source, (tag_key(driver.level, driver.tag), *values))
    tables.row(min((constraint.level for constraint, _ in others), default=driver.level))
    for constraint, test in others:
        _test_constraint(tables, constraint, test)
    return tables


def _by_labels(lookup: Lookup) -> _Tables:
    source = (
        "(SELECT DISTINCT h.resource AS id FROM labels h WHERE h.label IN (SELECT value FROM json_each(?))) s0"
        " CROSS JOIN resources b ON b.id = s0.id"
    )
    tables = _Tables(lookup.level, source, (json_list(lookup.labels),))
    tables.test("b.level = ?", int(lookup.level))
    return tables


def _everything(level: ResourceLevel) -> _Tables:
    # The index of levels leaves out instances, which are most of the rows.
    narrowing = " AND level < 4" if level < 4 else ""
    tables = _Tables(level, f"(SELECT {COLUMNS} FROM resources WHERE level = {int(level)}{narrowing}) s0")
    tables.has_columns = True
    return tables


def _by_scope(lookup: Lookup) -> _Tables:
    """From the rows of the scope, or of all, down.

    What an order needs of higher levels is read once for each of their resources, not for all that is below.
    """
    scope = lookup.scope
    upper = [key for key in lookup.order if key.level < lookup.level]
    start = max((key.level for key in upper), default=lookup.level if scope is None else scope.level)
    if scope is None:
        top = _everything(start)
    else:
        start = max(start, scope.level)
        top = _Tables(scope.level, "(SELECT value AS id FROM json_each(?)) s0", (json_list(scope.rows),))
    if not upper or start == lookup.level:
        return top
    names = {key: f"s0.v{number}" for number, key in enumerate(upper)}
    row = top.row(start)
    columns = "".join(f", {top.order_value(key)} AS v{number}" for number, key in enumerate(upper))
    tables = _Tables(start, "k s0", top.parameters)
    tables.prefix = f"WITH k AS MATERIALIZED ({top.select(f'{row} AS id{columns}')}) "
    tables.order_values = names
    return tables


def _used(level: ResourceLevel, constraints: Sequence[Constraint]) -> list[_Used]:
    """The constraints that exclude anything, with their conditions. ParameterOutOfRange for one of a lower level."""
    used = [(constraint, _condition(constraint)) for constraint in constraints if _constrains(constraint)]
    if any(constraint.level > level for constraint, _ in used):
        raise ParameterOutOfRange("a constraint of a lower level")
    return used


def _test_constraint(tables: _Tables, constraint: Constraint, condition: _Condition) -> None:
    test, values = condition
    row = tables.row(constraint.level)
    tables.test(
        f"EXISTS (SELECT 1 FROM search s WHERE s.resource = {row} AND s.tag = ? AND {test})",
        tag_key(constraint.level, constraint.tag),
        *values,
    )


def _test_labels(tables: _Tables, lookup: Lookup, row: str) -> None:
    if not lookup.is_labelled:
        return
    labels = frozenset(lookup.labels)
    borne = f"FROM labels h WHERE h.resource = {row}"
    if not labels:
        tables.test(f"NOT EXISTS (SELECT 1 {borne})")
        return
    borne += " AND h.label IN (SELECT value FROM json_each(?))"
    if lookup.labels_constraint is LabelsConstraint.ALL:
        tables.test(f"(SELECT COUNT(*) {borne}) = ?", json_list(labels), len(labels))
    else:
        negation = "NOT " if lookup.labels_constraint is LabelsConstraint.NONE else ""
        tables.test(f"{negation}EXISTS (SELECT 1 {borne})", json_list(labels))


def _constrains(constraint: Constraint) -> bool:
    return (
        constraint.equal is not None
        or constraint.wildcard is not None
        or bool(constraint.lower)
        or bool(constraint.upper)
    )


def _condition(constraint: Constraint) -> _Condition:
    if constraint.equal is not None:
        if len(constraint.equal) == 1:
            return "s.value = ?", constraint.equal
        return "s.value IN (SELECT value FROM json_each(?))", (json_list(constraint.equal),)
    if constraint.wildcard is not None:
        return _wildcard(constraint.wildcard)
    tests, values = [], []
    if constraint.lower:
        tests.append("s.value >= ?")
        values.append(constraint.lower)
    if constraint.upper:
        tests.append("s.value <= ?")
        values.append(constraint.upper)
    return " AND ".join(tests) or "1", tuple(values)


def _wildcard(pattern: str) -> _Condition:
    """``*`` and ``?`` mean the same to GLOB, a bracket does not; the literal start narrows the index."""
    while "**" in pattern:
        pattern = pattern.replace("**", "*")
    stars = [position for position in (pattern.find("*"), pattern.find("?")) if position >= 0]
    start = pattern[: min(stars)] if stars else pattern
    glob = pattern.replace("[", "[[]")
    if pattern == "*":
        return "1", ()
    if start:
        return "s.value >= ? AND s.value <= ? AND s.value GLOB ?", (start, start + _LAST_CHARACTER, glob)
    return "s.value GLOB ?", (glob,)


def _cost(connection: sqlite3.Connection, constraint: Constraint, condition: _Condition) -> tuple[int, int]:
    """How many rows a constraint finds, up to a bound, then how early its level narrows."""
    test, values = condition
    if test in ("1", "s.value GLOB ?"):
        return _PROBE + 1, 0
    (number,) = connection.execute(
        f"SELECT COUNT(*) FROM (SELECT 1 FROM search s WHERE s.tag = ? AND {test} LIMIT {_PROBE})",
        (tag_key(constraint.level, constraint.tag), *values),
    ).fetchone()
    return number, -constraint.level
