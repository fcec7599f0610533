"""Dictionary files in DCMTK's format (``ExternalDictionaries``).

A line has the tag, the VR, the keyword, and maybe more that does not matter here, with tabs between them::

    (gggg,eeee)            a tag
    (gggg-gggg,eeee)       even groups of a range; ``-o-`` means odd ones, ``-u-`` even and odd ones; elements alike
    (gggg,"creator",ee)    a private tag: the low byte of its element, or the whole one

Empty lines and what follows ``#`` are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import attrs

from orthanctw.errors import ConfigurationError

_RANGE: Final = r"([0-9a-fA-F]{2,4})(?:-(?:([eou])-)?([0-9a-fA-F]{2,4}))?"
_TAG: Final = re.compile(rf'\({_RANGE},(?:"([^"]*)",)?{_RANGE}\)\Z')
#: DCMTK's own names of ambiguous VRs.
_VRS: Final = {"xs": "US", "ox": "OW", "lt": "OW", "up": "UL", "px": "OW", "na": "UN", "ux": "UN"}
_VR: Final = re.compile(r"[A-Z]{2}\Z")


@attrs.frozen
class Range:
    """Numbers from `first` to `last`, every `step`-th."""

    first: int
    last: int
    step: int

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last and (number - self.first) % self.step == 0


@attrs.frozen
class FileEntry:
    """One line of a file; `creator` is None for a tag that is not private."""

    groups: Range
    elements: Range
    creator: str | None
    vr: str
    name: str

    @property
    def tag(self) -> int | None:
        """The only tag that is meant, or None."""
        if self.groups.first != self.groups.last or self.elements.first != self.elements.last:
            return None
        return self.groups.first << 16 | self.elements.first

    def means(self, tag: int) -> bool:
        """Whether a tag is one of those that are meant, private ones as they are numbered here."""
        return tag >> 16 in self.groups and tag & 0xFFFF in self.elements


def read_files(paths: Iterable[str]) -> list[FileEntry]:
    """The entries of files, in order. Raises ConfigurationError for one that cannot be read."""
    entries: list[FileEntry] = []
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError as e:
            raise ConfigurationError([f"ExternalDictionaries: {path}: {e.strerror}"]) from e
        for number, line in enumerate(text.splitlines(), 1):
            entry = _entry(line)
            if entry is None:
                continue
            if isinstance(entry, str):
                raise ConfigurationError([f"ExternalDictionaries: {path}:{number}: {entry}"])
            entries.append(entry)
    return entries


def _entry(line: str) -> FileEntry | str | None:
    """A line, or what is wrong with it; None when it says nothing."""
    line = line.partition("#")[0].rstrip()
    if not line.strip():
        return None
    fields = line.split("\t")
    if len(fields) < 3:
        return "needs a tag, a VR and a keyword, with tabs between them"
    match = _TAG.match(fields[0].strip())
    if match is None:
        return "the tag cannot be read"
    vr = _VRS.get(fields[1].strip(), fields[1].strip())
    if _VR.match(vr) is None:
        return "the VR cannot be read"
    return FileEntry(_range(*match.group(1, 2, 3)), _range(*match.group(5, 6, 7)), match[4], vr, fields[2].strip())


def _range(first: str, kind: str | None, last: str | None) -> Range:
    return Range(int(first, 16), int(last or first, 16), 1 if kind == "u" else 2)
