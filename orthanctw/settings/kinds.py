"""Kinds of values of options: how a JSON value becomes a typed one, and what documentation calls it."""

from __future__ import annotations

import difflib
import enum
import os.path
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Generic, TypeVar

import attrs

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)

_WORDS: Final[Mapping[type, str]] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_UNSIGNED_MAXIMUM: Final = 2**32 - 1


class Refused(Exception):
    """A value cannot be used; the text says why, and is empty when `Place.problems` has the reasons already."""


@attrs.frozen
class Place:
    """Where a value stands, and where what is wrong with it goes.

    `path` leads to the key (``DicomModalities.sample.Port``), `base` is the folder of relative paths.
    """

    path: str = ""
    base: str = ""
    problems: list[str] = attrs.field(factory=list)
    warnings: list[str] = attrs.field(factory=list)

    def key(self, name: str) -> Place:
        """The place of a member of this object."""
        return attrs.evolve(self, path=f"{self.path}.{name}" if self.path else name)

    def index(self, number: int) -> Place:
        """The place of an element of this array."""
        return attrs.evolve(self, path=f"{self.path}[{number}]")

    def problem(self, text: str) -> None:
        """Report what makes the configuration unusable."""
        self.problems.append(f"{self.path}: {text}" if self.path else text)

    def warn(self, text: str) -> None:
        """Report what is suspicious only."""
        self.warnings.append(f"{self.path}: {text}" if self.path else text)


@attrs.frozen
class Kind(Generic[T]):
    """A kind of values: `parse` raises Refused, `example` is JSON for a sample, `values` are all that exist."""

    label: str
    parse: Callable[[object, Place], T]
    example: str = '""'
    values: tuple[str, ...] = ()


def read(kind: Kind[T], value: object, place: Place) -> T | None:
    """The typed value, or None after its problems were reported."""
    try:
        return kind.parse(value, place)
    except Refused as refused:
        if refused.args:
            place.problem(str(refused))
        return None


def suggestion(name: str, known: Iterable[str]) -> str:
    """``, did you mean X?`` when a known name is like `name`, else nothing."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold()[:100], by_folded, n=1, cutoff=0.75)
    return f", did you mean {by_folded[close[0]]}?" if close else ""


def described(value: object) -> str:
    """The JSON type of a value in words; never the value, which may be a secret."""
    return _WORDS.get(type(value), "something else")


def expect(value: object, wanted: type[T]) -> T:
    """`value` when it is of the type, else Refused. A boolean is no integer."""
    if type(value) is not wanted:
        raise Refused(f"{_WORDS[wanted]} is needed, not {described(value)}")
    return value  # type: ignore[return-value, unused-ignore]


def _parse_boolean(value: object, place: Place) -> bool:
    return expect(value, bool)


def _parse_text(value: object, place: Place) -> str:
    return expect(value, str)


def _parse_path(value: object, place: Place) -> str:
    text = expect(value, str)
    if "\0" in text:
        raise Refused("a path without null characters is needed")
    return os.path.join(place.base, text) if text else ""


boolean: Final = Kind("boolean", _parse_boolean, "true")
text: Final = Kind("string", _parse_text)
#: An absolute path once `Place.base` is absolute; empty stays empty.
path: Final = Kind("path", _parse_path)


def unsigned(label: str = "unsigned", low: int = 0, high: int = _UNSIGNED_MAXIMUM) -> Kind[int]:
    """Integers in a range, both ends included."""

    def parse(value: object, place: Place) -> int:
        number = expect(value, int)
        if not low <= number <= high:
            raise Refused(f"a number from {low} to {high} is needed")
        return number

    return Kind(label, parse, str(max(low, 1)))


seconds: Final = unsigned("unsigned (s)")
megabytes: Final = unsigned("unsigned (MB)")
#: Zero asks the operating system for a free port.
port: Final = unsigned("port", 0, 65535)


def matching(label: str, pattern: str, wanted: str) -> Kind[str]:
    """Strings that a regular expression matches as a whole; `wanted` describes them."""
    compiled = re.compile(pattern)

    def parse(value: object, place: Place) -> str:
        found = expect(value, str)
        if compiled.fullmatch(found) is None:
            raise Refused(f"{wanted} is needed")
        return found

    return Kind(label, parse)


#: AE titles (PS3.5 section 6.2): 1 to 16 characters, no backslash, no control characters.
ae_title: Final = matching(
    "string (1..16 characters)", r"[^\x00-\x1f\x7f\\]{1,16}", "an AE title of 1 to 16 characters"
)
#: UIDs (PS3.5 section 9).
uid: Final = matching("UID", r"(?=.{1,64}\Z)[0-9]+(?:\.[0-9]+)*", "a UID")
uid_pattern: Final = matching("UID pattern", r"[0-9.*?]{1,128}", "a UID, in which * and ? stand for any characters,")


def choice(*values: str, label: str = "string", ignore_case: bool = False) -> Kind[str]:
    """One of some strings, in the spelling of `values`."""
    spelled = {value.casefold() if ignore_case else value: value for value in values}

    def parse(value: object, place: Place) -> str:
        given = expect(value, str)
        found = spelled.get(given.casefold() if ignore_case else given)
        if found is None:
            raise Refused(f"one of {', '.join(values)} is needed{suggestion(given, values)}")
        return found

    return Kind(label, parse, f'"{values[0]}"', values)


def member(
    enumeration: type[E],
    label: str = "string",
    aliases: Mapping[object, E] | None = None,
    only: Iterable[E] | None = None,
) -> Kind[E]:
    """A member of an enumeration (or of `only` some) by its value, or by one of its other spellings."""
    names = choice(*(str(entry.value) for entry in (enumeration if only is None else only)))

    def parse(value: object, place: Place) -> E:
        for spelling, entry in (aliases or {}).items():
            if type(spelling) is type(value) and spelling == value:
                return entry
        return enumeration(names.parse(value, place))

    return Kind(label, parse, names.example, names.values)


def list_of(kind: Kind[T], label: str, *, single: bool = False) -> Kind[tuple[T, ...]]:
    """Arrays; with `single`, one element may stand alone."""

    def parse(value: object, place: Place) -> tuple[T, ...]:
        elements = [value] if single and isinstance(value, str) else expect(value, list)
        before = len(place.problems)
        result = tuple(read(kind, element, place.index(number)) for number, element in enumerate(elements))
        if len(place.problems) > before:
            raise Refused
        return result  # type: ignore[return-value]

    return Kind(label, parse, "[]")


def object_of(
    kind: Kind[T],
    label: str,
    *,
    name: Callable[[str], None] | None = None,
    whole: Callable[[Mapping[str, T]], None] | None = None,
) -> Kind[Mapping[str, T]]:
    """Objects with any keys; `name` looks at each key, `whole` at the result, and both may raise Refused."""

    def named(key: str) -> Kind[T]:
        def parse_entry(value: object, place: Place) -> T:
            if name is not None:
                name(key)
            return kind.parse(value, place)

        return Kind(kind.label, parse_entry)

    def parse(value: object, place: Place) -> Mapping[str, T]:
        entries = expect(value, dict)
        before = len(place.problems)
        result: dict[str, T] = {}
        for key, entry in entries.items():
            found = read(named(key), entry, place.key(key))
            if found is not None:
                result[key] = found
        if len(place.problems) > before:
            raise Refused
        frozen = MappingProxyType(result)
        if whole is not None:
            whole(frozen)
        return frozen

    return Kind(label, parse, "{}")


_HOST: Final = r"(?:\[[0-9A-Fa-f:]+\]|[^\s/@:#?\[\]]+)"
_PORT: Final = r"(?:[1-5]?[0-9]{1,4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
#: ``[user:password@]host:port``, maybe behind ``http://``; strange characters of credentials as in URLs.
proxy: Final = matching(
    "string", rf"|(?:http://)?(?:[^\s/@#?\[\]]*@)?{_HOST}:{_PORT}/?", "[user:password@]host:port"
)
paths: Final = list_of(path, "array of paths")
texts: Final = list_of(text, "array of strings")
uid_patterns: Final = list_of(uid_pattern, "array of UID patterns")
