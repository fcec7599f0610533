"""Paths to elements: a tag, maybe within items of sequences, as requests write them."""

from __future__ import annotations

import re
from typing import Final

import attrs

from orthanctw.dicom.dictionary import STANDARD, Dictionary, format_tag
from orthanctw.errors import ParameterOutOfRange

_STEP: Final = re.compile(r"([^\[\]]+)\[ *([0-9]{1,9}|\*) *\]\Z")


@attrs.frozen
class TagPath:
    """Sequences with the number of an item, or None for all of them, from the outermost on; and the tag in there."""

    steps: tuple[tuple[int, int | None], ...]
    tag: int

    def __str__(self) -> str:
        items = (f"{format_tag(tag)}[{'*' if item is None else item}]." for tag, item in self.steps)
        return "".join(items) + format_tag(self.tag)

    @classmethod
    def parse(cls, text: str, dictionary: Dictionary = STANDARD) -> TagPath:
        """Read ``Tag``, ``Sequence[0].Tag``, ``Sequence[*].Tag`` and so on; names or numbers.

        Raises UnknownDicomTag, and ParameterOutOfRange when the text is no path.
        """
        *steps, last = text.split(".")
        parsed = []
        for step in steps:
            match = _STEP.match(step)
            if match is None:
                raise ParameterOutOfRange("A path to a tag is not well-formed")
            parsed.append((dictionary.parse(match[1]), None if match[2] == "*" else int(match[2])))
        return cls(tuple(parsed), dictionary.parse(last))
