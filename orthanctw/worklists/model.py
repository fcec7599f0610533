"""A worklist as a value, and the contract of what keeps worklists."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, Protocol

import attrs
import orjson

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
PATIENT_NAME: Final = 0x00100010
#: What queries usually name, in the worklist itself and in its steps; no tag is in both.
COMMON: Final = frozenset({PATIENT_NAME, 0x00100020, 0x00080050, STUDY_INSTANCE_UID})
COMMON_OF_STEPS: Final = frozenset({STATION_AET, STEP_DATE, MODALITY})
#: Octets of the largest worklist.
SIZE_LIMIT: Final = 1 << 20
_ELEMENT_LIMIT: Final = 50_000
_FIRST_GROUP: Final = 0x0008


@attrs.frozen(kw_only=True)
class Worklist:
    """A worklist. `created` is ``yyyymmddThhmmss`` in UTC, where that is kept.

    `common` are all values of those of the tags in `COMMON` and `COMMON_OF_STEPS` that it has. Its elements are kept
    encoded: thousands of worklists as objects would hold up everything whenever garbage is collected.
    """

    identifier: str
    encoded: bytes
    common: Mapping[int, Collection[str]]
    created: str = ""

    @property
    def elements(self) -> Elements:
        """All elements but binary and very long ones."""
        elements: Elements = orjson.loads(self.encoded)
        return elements

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
            encoded=orjson.dumps(elements),
            common=_common(elements),
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


def _common(elements: Elements) -> dict[int, tuple[str, ...]]:
    values: dict[int, tuple[str, ...]] = {}
    for tag, value in _common_elements(elements):
        text = value.strip(" \0")
        # The whole text counts, too, as in comparisons.
        values[tag] = (*values.get(tag, ()), text, *(text.split("\\") if "\\" in text else ()))
    return values


def _common_elements(elements: Elements) -> Iterator[tuple[int, str]]:
    for tag, _, value in elements:
        if tag in COMMON and isinstance(value, str):
            yield tag, value
        elif tag == STEP_SEQUENCE and isinstance(value, list):
            yield from (
                (inner, text)
                for item in value
                for inner, _, text in item
                if inner in COMMON_OF_STEPS and isinstance(text, str)
            )
