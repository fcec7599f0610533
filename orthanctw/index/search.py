"""Finding candidates by search tags: one constraint drives, the others are looked up for what it finds."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from orthanctw.errors import ParameterOutOfRange
from orthanctw.index.queries import list_resources
from orthanctw.index.rows import RESOURCE_COLUMNS, RESOURCE_JOINS, json_list, resource_from_row, tag_key
from orthanctw.model import Constraint, Resource, ResourceLevel

#: Rows that are counted, at most, to find out which constraint is the narrowest.
_PROBE: Final = 256
#: Above every character of a normalised value.
_LAST_CHARACTER: Final = "\U0010ffff"

#: A condition on the columns of the alias ``s`` of the table `search`, with its parameters.
_Condition = tuple[str, tuple[str, ...]]


def candidates(
    connection: sqlite3.Connection, level: ResourceLevel, constraints: Sequence[Constraint]
) -> list[Resource]:
    """Resources of `level`, in the order of their creation, that every constraint lets through.

    Raises ParameterOutOfRange for a constraint of a lower level.
    """
    used = [(constraint, _condition(constraint)) for constraint in constraints if _constrains(constraint)]
    if any(constraint.level > level for constraint, _ in used):
        raise ParameterOutOfRange("a constraint of a lower level")
    if any(constraint.equal == () for constraint, _ in used):
        return []
    if not used:
        return list_resources(connection, level, 0, 0)
    if len(used) > 1:
        used.sort(key=lambda item: _cost(connection, *item))
    statement, parameters = _statement(level, used)
    return [resource_from_row(row) for row in connection.execute(statement, parameters).fetchall()]


def lookup_identifier(
    connection: sqlite3.Connection, level: ResourceLevel, tag: int, normalized: str
) -> list[Resource]:
    return candidates(connection, level, [Constraint(tag=tag, level=level, equal=(normalized,))])


def _statement(
    level: ResourceLevel, used: Sequence[tuple[Constraint, _Condition]]
) -> tuple[str, tuple[str | int, ...]]:
    """From the rows of the first constraint up and down the hierarchy, testing the others on the way."""
    (driver, (condition, values)), *others = used
    start = driver.level
    rows = {start: "s0.resource"}
    # An indexed value that has several parts occurs several times for its resource.
    tables = [f"(SELECT DISTINCT s.resource FROM search s WHERE s.tag = ? AND {condition}) s0"]
    parameters: list[str | int] = [tag_key(start, driver.tag), *values]
    highest = min((constraint.level for constraint, _ in others), default=start)
    if highest < start:
        tables.append(f"resources r{start} ON r{start}.id = s0.resource")
    for upper in range(start - 1, highest - 1, -1):
        tables.append(f"resources r{upper} ON r{upper}.id = r{upper + 1}.parent")
        rows[ResourceLevel(upper)] = f"r{upper}.id"
    for lower in range(start + 1, level + 1):
        tables.append(f"resources r{lower} ON r{lower}.parent = {rows[ResourceLevel(lower - 1)]}")
        rows[ResourceLevel(lower)] = f"r{lower}.id"
    tests = []
    for constraint, (test, test_values) in others:
        resource = rows[constraint.level]
        tests.append(f"EXISTS (SELECT 1 FROM search s WHERE s.resource = {resource} AND s.tag = ? AND {test})")
        parameters += [tag_key(constraint.level, constraint.tag), *test_values]
    where = f" WHERE {' AND '.join(tests)}" if tests else ""
    statement = (
        f"SELECT {RESOURCE_COLUMNS} FROM {' CROSS JOIN '.join(tables)}"
        f" CROSS JOIN resources r ON r.id = {rows[level]} {RESOURCE_JOINS}{where} ORDER BY r.id"
    )
    return statement, tuple(parameters)


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
