"""Declarations of options: one per option is its type, default, documentation, and a field of its section."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import attrs

from orthanctw.settings.kinds import Kind, Place, Refused, expect, read, suggestion

T = TypeVar("T")
U = TypeVar("U")

_KEY: Final = "option"


class State(enum.Enum):
    """What an option does in this version."""

    WORKS = "works"
    ACCEPTED = "accepted"
    LATER = "later"


class Sample(enum.Enum):
    """Which sample configuration shows an option."""

    MAIN = "main"
    ADVANCED = "advanced"
    NONE = "compatibility only"


WORKS, ACCEPTED, LATER = State.WORKS, State.ACCEPTED, State.LATER
MAIN, ADVANCED, NONE = Sample.MAIN, Sample.ADVANCED, Sample.NONE


@attrs.frozen(kw_only=True)
class Option:
    """An option as declared.

    `default` is JSON, None when the option is unset, which `note` explains. `reason` says why an accepted option
    has no effect. `aliases` are obsolete spellings that are still read.
    """

    name: str
    kind: Kind[Any]
    default: object = None
    state: State
    meaning: str
    reason: str = ""
    note: str = ""
    sample: Sample = MAIN
    aliases: tuple[str, ...] = ()
    required: bool = False
    secret: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its obsolete spellings."""
        return (self.name, *self.aliases)


def option(
    name: str,
    kind: Kind[T],
    default: object,
    state: State,
    meaning: str,
    *,
    reason: str = "",
    sample: Sample = MAIN,
    secret: bool = False,
) -> T:
    """A field with a JSON default."""
    declared = Option(
        name=name, kind=kind, default=default, state=state, meaning=meaning, reason=reason, sample=sample, secret=secret
    )
    field: T = _field(declared, default=kind.parse(default, Place(name)))
    return field


def unset(
    name: str,
    kind: Kind[T],
    value: U,
    state: State,
    meaning: str,
    *,
    note: str,
    reason: str = "",
    sample: Sample = MAIN,
    aliases: tuple[str, ...] = (),
    secret: bool = False,
) -> T | U:
    """A field that is `value` when the option is absent; `note` says what that means."""
    declared = Option(
        name=name,
        kind=kind,
        state=state,
        meaning=meaning,
        reason=reason,
        note=note,
        sample=sample,
        aliases=aliases,
        secret=secret,
    )
    field: T | U = _field(declared, default=value)
    return field


def derived(
    name: str,
    kind: Kind[T],
    compute: Callable[[Any], T],
    state: State,
    meaning: str,
    *,
    note: str,
    reason: str = "",
    sample: Sample = MAIN,
) -> T:
    """A field that an absent option takes from earlier fields of its section; `note` names them."""
    declared = Option(name=name, kind=kind, state=state, meaning=meaning, note=note, reason=reason, sample=sample)
    field: T = _field(declared, default=attrs.Factory(compute, takes_self=True))
    return field


def required(name: str, kind: Kind[T], meaning: str) -> T:
    """A field without which its object cannot be used."""
    declared = Option(name=name, kind=kind, state=WORKS, meaning=meaning, required=True)
    field: T = _field(declared, default=attrs.NOTHING)
    return field


def _field(declared: Option, default: object) -> Any:
    return attrs.field(default=default, metadata={_KEY: declared}, repr=not declared.secret)


def options_of(section: type) -> tuple[tuple[str, Option], ...]:
    """Names of fields of a section class with their options, in order."""
    return tuple((field.name, field.metadata[_KEY]) for field in attrs.fields(section) if _KEY in field.metadata)


def names_of(sections: Iterable[type]) -> tuple[str, ...]:
    """Every spelling that the options of some sections accept."""
    return tuple(name for section in sections for _, declared in options_of(section) for name in declared.names)


def read_section(section: type[T], document: Mapping[str, object], place: Callable[[str], Place]) -> T | None:
    """A section from the members of an object, None when a required one is missing or wrong.

    `place` gives the place of a member by its name. Other members with problems are reported and left at their
    defaults, so that the options that depend on them can be looked at. Unknown members are not looked at.
    """
    values: dict[str, object] = {}
    usable = True
    for field, declared in options_of(section):
        given = [name for name in declared.names if name in document]
        for alias in given[1:]:
            place(alias).warn(f"ignored, because {given[0]} is given")
        if given:
            raw, name = document[given[0]], given[0]
        elif declared.default is not None:
            raw, name = declared.default, declared.name
        else:
            if declared.required:
                place(declared.name).problem("missing")
                usable = False
            continue
        value = read(declared.kind, raw, place(name))
        if value is not None:
            values[field] = value
        usable = usable and not (declared.required and value is None)
    return section(**values) if usable else None


def warn_unknown(document: Iterable[str], known: Iterable[str], place: Callable[[str], Place]) -> None:
    """Warn of each member of an object that nobody reads."""
    names = tuple(known)
    for name in document:
        if name not in names:
            place(name).warn(f"unknown option{suggestion(name, names)}")


def object_kind(section: type[T], label: str = "object") -> Kind[T]:
    """Objects whose members are declared by a section class."""

    def parse(value: object, place: Place) -> T:
        document: Mapping[str, object] = expect(value, dict)
        warn_unknown(document, names_of([section]), place.key)
        before = len(place.problems)
        result = read_section(section, document, place.key)
        if result is None or len(place.problems) > before:
            raise Refused
        return result

    return Kind(label, parse, "{}")
