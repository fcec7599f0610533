"""What becomes of each element of an object: a modification made ready for many objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs

from orthanctw.dicom.authoring import ValueOptions, elements_of
from orthanctw.dicom.dictionary import Dictionary, creator_tag, format_tag, is_private
from orthanctw.dicom.editing.modification import Modification
from orthanctw.dicom.editing.profiles import Profile, profile_of
from orthanctw.dicom.elements import SPECIFIC_CHARACTER_SET, Element, Elements
from orthanctw.dicom.encoding import CHARACTER_VRS, is_known
from orthanctw.errors import ParameterOutOfRange

_PATIENT_IDENTITY_REMOVED: Final = 0x00120062
_DEIDENTIFICATION_METHOD: Final = 0x00120063
_Item = int | None


@attrs.define(eq=False)
class Rules:
    """What the request says of one data set or item, and of items within it.

    Parameters
    ----------
    kept, removed : sets of tags
    replaced : dict
        New elements by their tag.
    items : dict
        Rules for the items of a sequence, by its tag and the number of the item; None for all of them.
    """

    kept: set[int] = attrs.Factory(set)
    removed: set[int] = attrs.Factory(set)
    replaced: dict[int, Element] = attrs.Factory(dict)
    items: dict[int, dict[_Item, Rules]] = attrs.Factory(dict)

    def at(self, steps: Iterable[tuple[int, _Item]]) -> Rules:
        """The rules at the end of a path, made if there are none yet."""
        rules = self
        for tag, item in steps:
            rules = rules.items.setdefault(tag, {}).setdefault(item, Rules())
        return rules

    def reserve(self) -> None:
        """Keep the creators of what is kept: without them nobody knows what a private tag means."""
        self.kept |= {creator_tag(tag) for tag in self.kept if is_private(tag)}
        for items in self.items.values():
            for rules in items.values():
                rules.reserve()


@attrs.frozen(kw_only=True)
class Plan:
    """A modification, made ready.

    Parameters
    ----------
    rules : Rules
        Of the top level: what is kept is neither in `replaced` nor in `removed` there, and what is replaced is not
        in `removed`.
    profile : Profile, optional
        Of an anonymisation.
    character_set : str
        The SpecificCharacterSet that the request asks for; empty for that of each object.
    texts : tuple of (str, str)
        New text that needs more than ASCII, and its VR.
    """

    modification: Modification
    rules: Rules
    profile: Profile | None
    character_set: str
    texts: tuple[tuple[str, str], ...]


def plan_of(modification: Modification, dictionary: Dictionary, version: str) -> Plan:
    """Make a modification ready. `version` is that of the server, for DeidentificationMethod.

    Raises what `elements_of` raises, and ParameterOutOfRange for an unknown SpecificCharacterSet.
    """
    rules = Rules()
    for path in modification.keeps:
        rules.at(path.steps).kept.add(path.tag)
    for path in modification.removals:
        rules.at(path.steps).removed.add(path.tag)
    profile = profile_of(modification.profile) if modification.is_anonymization else None
    if profile is not None:
        _describe(rules, modification, profile, version)
    for steps, elements in _replacements(modification, dictionary).items():
        rules.at(steps).replaced.update({element[0]: element for element in elements})
    character_set = rules.replaced.pop(SPECIFIC_CHARACTER_SET, None)
    term = "" if character_set is None or SPECIFIC_CHARACTER_SET in rules.kept else character_set[2]
    if not is_known(term) and term:
        raise ParameterOutOfRange("Unknown SpecificCharacterSet")
    for tag in rules.kept:
        rules.replaced.pop(tag, None)
    rules.removed -= rules.kept | rules.replaced.keys()
    rules.reserve()
    return Plan(
        modification=modification,
        rules=rules,
        profile=profile,
        character_set=term,
        texts=tuple(_texts(rules)),
    )


def _describe(rules: Rules, modification: Modification, profile: Profile, version: str) -> None:
    """Say that the patient's identity has been removed, and how (PS3.3 section C.7.1.1)."""
    is_strict = not (modification.keeps or modification.removals or modification.replacements)
    method = f"Orthanc {version}"
    if is_strict and modification.removes_private:
        method += f" - {profile.method}"
    for tag, vr, value in (
        (_PATIENT_IDENTITY_REMOVED, "CS", "YES"),
        (_DEIDENTIFICATION_METHOD, "LO", method),
    ):
        if tag not in rules.removed:
            rules.replaced[tag] = (tag, vr, value)


def _replacements(
    modification: Modification, dictionary: Dictionary
) -> Mapping[tuple[tuple[int, _Item], ...], Elements]:
    """New elements by where they go. Those of one item are read together, as one may be the creator of others."""
    values: dict[tuple[tuple[int, _Item], ...], dict[str, object]] = {}
    for path, value in modification.replacements:
        values.setdefault(path.steps, {})[format_tag(path.tag)] = value
    options = ValueOptions(dictionary=dictionary, private_creator=modification.private_creator)
    return {steps: elements_of(tags, options) for steps, tags in values.items()}


def _texts(rules: Rules) -> Iterator[tuple[str, str]]:
    yield from _foreign(rules.replaced.values())
    for items in rules.items.values():
        for inner in items.values():
            yield from _texts(inner)


def _foreign(elements: Iterable[Element]) -> Iterator[tuple[str, str]]:
    for element in elements:
        vr, value = element[1:3]
        if isinstance(value, list):
            for item in value:
                yield from _foreign(item)
        elif vr in CHARACTER_VRS and isinstance(value, str) and not value.isascii():
            yield value, vr
