"""A worklist as a value, and the contract of what keeps worklists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import attrs

from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.dictionary import STANDARD, Dictionary
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.scanner import DEPTH_LIMIT, scan
from orthanctw.errors import BadFileFormat

STEP_SEQUENCE: Final = 0x00400100
STATION_AET: Final = 0x00400001
STEP_DATE: Final = 0x00400002
STUDY_INSTANCE_UID: Final = 0x0020000D
MODALITY: Final = 0x00080060
#: What queries usually name, in the worklist itself and in its steps; no tag is in both.
COMMON: Final = frozenset({0x00100020, 0x00080050, STUDY_INSTANCE_UID})
COMMON_OF_STEPS: Final = frozenset({STATION_AET, STEP_DATE, MODALITY})
#: Octets of the largest worklist.
SIZE_LIMIT: Final = 1 << 20
_ELEMENT_LIMIT: Final = 50_000
_FIRST_GROUP: Final = 0x0008


@attrs.frozen(kw_only=True)
class Worklist:
    """A worklist. `created` is ``yyyymmddThhmmss`` in UTC, where that is kept; `size` is that of its file.

    `common` are tags with each of their values, for `COMMON` and `COMMON_OF_STEPS`.
    """

    identifier: str
    elements: Elements
    size: int
    common: frozenset[tuple[int, str]]
    created: str = ""

    def text(self, tag: int) -> str:
        """Text of an element of the top level; empty when there is none."""
        return next((e[2].strip(" \0") for e in self.elements if e[0] == tag and isinstance(e[2], str)), "")


#: Chooses worklists, in a thread.
Wanted = Callable[[Worklist], bool]


class Source(Protocol):
    """Keeps worklists. What is written is durable before the Deferred or coroutine ends."""

    #: Whether it knows when worklists were made.
    dates: bool

    async def select(self, wanted: Wanted, limit: int = 0) -> list[Worklist]:
        """Worklists that are wanted, in the order of their identifiers; `limit` 0 is no limit."""

    async def write(self, identifier: str, file: bytes, *, is_new: bool) -> None:
        """Keep a new worklist, or one instead of that of the identifier. UnknownResource when that is gone."""

    async def remove(self, identifier: str) -> bool:
        """Forget a worklist; whether it was there."""


@attrs.frozen(kw_only=True)
class Reading:
    """How worklists are read."""

    default_encoding: DefaultEncoding
    dictionary: Dictionary = STANDARD
    nesting: int = DEPTH_LIMIT

    def read(self, identifier: str, file: bytes, created: str = "") -> Worklist:
        """The worklist of a DICOM file. Raises BadFileFormat."""
        if len(file) > SIZE_LIMIT:
            raise BadFileFormat("too large for a worklist")
        scanned = scan(
            file,
            default_encoding=self.default_encoding.name,
            dictionary=self.dictionary,
            depth_limit=self.nesting,
            element_limit=_ELEMENT_LIMIT,
        )
        elements = _with_values(scanned.elements)
        if not elements or elements[0][0] >> 16 < _FIRST_GROUP:
            # Almost anything is elements of some groups.
            raise BadFileFormat("no DICOM data set")
        return Worklist(
            identifier=identifier,
            elements=elements,
            size=len(file),
            common=frozenset(_common(elements)),
            created=created,
        )


def _with_values(elements: Elements) -> Elements:
    """The elements without those of which the value would have to be read from the file: binary and very long ones."""
    return [
        (element[0], element[1], [_with_values(item) for item in element[2]])
        if isinstance(element[2], list)
        else element
        for element in elements
        if len(element) == 3
    ]


def _common(elements: Elements) -> Iterator[tuple[int, str]]:
    for tag, _, value in elements:
        if tag in COMMON:
            yield from _values(tag, value)
        elif tag == STEP_SEQUENCE and isinstance(value, list):
            for item in value:
                for inner, _, inner_value in item:
                    if inner in COMMON_OF_STEPS:
                        yield from _values(inner, inner_value)


def _values(tag: int, value: Any) -> Iterator[tuple[int, str]]:
    if isinstance(value, str):
        text = value.strip(" \0")
        yield tag, text
        if "\\" in text:
            yield from ((tag, part) for part in text.split("\\"))
