"""Names of folders and files in an archive."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Final

_PATIENT_ID: Final = 0x00100020
_SEPARATOR: Final = " - "
#: What file systems refuse, and the caret between the parts of a name.
_REFUSED: Final = frozenset('\\/:*?"<>|^')
#: Categories of characters that are no text: controls, surrogates, line and paragraph separators.
_NO_TEXT: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))
#: Digits of a number in the name of a file, by the number of letters before it.
_DIGITS: Final = (8, 7, 6)


def clean(text: str, *, utf8: bool) -> str:
    """A text as a part of a name; empty when nothing of it is left, or only dots, which would lead elsewhere."""
    kept = (
        " " if char in _REFUSED or unicodedata.category(char) in _NO_TEXT else char
        for char in text
        if utf8 or char.isascii()
    )
    name = " ".join("".join(kept).split())
    return "" if not name.strip(". ") else name


def folder(parts: Iterable[str], unknown: str, *, utf8: bool) -> str:
    """The name of a folder: its parts that are there, else `unknown`."""
    return _SEPARATOR.join(part for part in (clean(text, utf8=utf8) for text in parts) if part) or unknown


class Unique:
    """Names that are taken in a folder; the next one of a name gets a number, from `first` on, put into `form`."""

    def __init__(self, form: str = "-{}", first: int = 2) -> None:
        self._form = form
        self._first = first
        self._counts: dict[str, int] = {}

    def take(self, name: str) -> str:
        """The name, or the same with a number that nobody has taken."""
        free = name
        while free in self._counts:
            free = name + self._form.format(self._counts[name])
            self._counts[name] += 1
        self._counts[free] = self._first
        return free

    def give_back(self, name: str) -> None:
        """A name that was taken is free."""
        del self._counts[name]


def file_names(modality: str, numbers: Sequence[int | None]) -> list[str]:
    """Names of the files of a series whose instances have these InstanceNumbers."""
    letters = "".join(char for char in modality if char.isascii() and char.isalpha())[:2].upper()
    digits = _DIGITS[len(letters)]
    return [f"{letters}{number:0{digits}d}.dcm" for number in _numbered(numbers)]


def _numbered(numbers: Sequence[int | None]) -> list[int]:
    """Each number that is unique; those that are not, or are none, in turn, and without meeting a unique one."""
    seen: set[int] = set()
    repeated: set[int] = set()
    for number in numbers:
        if number is not None:
            (repeated if number in seen else seen).add(number)
    unique: Collection[int] = {number for number in seen - repeated if number >= 0}
    result, running = [], 0
    for number in numbers:
        if number is not None and number in unique:
            result.append(number)
            continue
        while running in unique:
            running += 1
        result.append(running)
        running += 1
    return result
