"""Queries over DICOM, as scripts answer them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadFileFormat
from orthanctw.scripting.exposure import Data, exposed, exposed_class, failure

#: Bytes of all answers to a query, encoded.
LIMIT: Final = 64 << 20
#: Bytes that an answer takes besides.
_OVERHEAD: Final = 64


class Answers:
    """Answers to one query, encoded as they are sent. `is_complete`: the script does not know of others."""

    def __init__(self) -> None:
        self.encoded: list[bytes] = []
        self.is_complete = True
        self._left = LIMIT
        self._is_open = True

    def end(self) -> None:
        """The callback is over, or nobody waits for it any more: what is added now fails."""
        self._is_open = False

    def check(self) -> None:
        """OrthancException after the end."""
        if not self._is_open:
            _ended()

    def add(self, answer: bytes) -> None:
        """OrthancException after the end, and when there are too many."""
        self.check()
        self._left -= len(answer) + _OVERHEAD
        if self._left < 0:
            raise failure(ErrorCode.NOT_ENOUGH_MEMORY, f"The answers to a query have more than {LIMIT >> 20} MB")
        self.encoded.append(answer)

    def mark_incomplete(self) -> None:
        """There are more than are told."""
        self.check()
        self.is_complete = False


class FindQuery:
    """A C-FIND: its tags in ascending order, each with a name and a value; sequences are empty."""

    def __init__(self, tags: Sequence[tuple[int, str, str]]) -> None:
        self._tags: Sequence[tuple[int, str, str]] | None = tags

    def end(self) -> None:
        """The callback is over."""
        self._tags = None

    def _at(self, index: int) -> tuple[int, str, str] | None:
        tags = self._open()
        return tags[index] if 0 <= index < len(tags) else None

    def _open(self) -> Sequence[tuple[int, str, str]]:
        if self._tags is None:
            _ended()
        return self._tags

    def _tag(self, index: int) -> int:
        found = self._at(index)
        if found is None:
            raise ValueError("There is no such tag in the query")
        return found[0]

    def _text(self, index: int, place: int) -> str:
        found = self._at(index)
        if found is None:
            raise failure(ErrorCode.INTERNAL_ERROR, "There is no such tag in the query")
        return str(found[place])

    @exposed
    def GetFindQuerySize(self) -> int:
        """Number of tags."""
        return len(self._open())

    @exposed
    def GetFindQueryTagGroup(self, index: int, /) -> int:
        """Group of a tag. ValueError when there is no such index."""
        return self._tag(index) >> 16

    @exposed
    def GetFindQueryTagElement(self, index: int, /) -> int:
        """Element of a tag. ValueError when there is no such index."""
        return self._tag(index) & 0xFFFF

    @exposed
    def GetFindQueryTagName(self, index: int, /) -> str:
        """Name of a tag."""
        return self._text(index, 1)

    @exposed
    def GetFindQueryValue(self, index: int, /) -> str:
        """What is asked for."""
        return self._text(index, 2)


class FindAnswers:
    """Answers to a C-FIND. `encode` makes one of a DICOM file or data set; BadFileFormat."""

    def __init__(self, answers: Answers, encode: Callable[[bytes], bytes]) -> None:
        self._answers = answers
        self._encode = encode

    @exposed
    def FindAddAnswer(self, dicom: Data, /) -> None:
        """Answer with all of a DICOM file or data set but its pixels."""
        self._answers.check()
        self._answers.add(self._encode(dicom))

    @exposed
    def FindMarkIncomplete(self) -> None:
        """Tell that there are more matches."""
        self._answers.mark_incomplete()


class FindMatcher:
    """A query against which DICOM files are compared. `matches` raises BadFileFormat."""

    def __init__(self, matches: Callable[[bytes], bool]) -> None:
        self._matches = matches

    @exposed
    def IsMatch(self, dicom: Data, /) -> int:
        """1 if a DICOM file or data set matches; 0 if not, or if it is none."""
        return _is_match(self._matches, dicom)


class WorklistWork(Protocol):
    """A query for worklists, for threads of scripts. BadFileFormat for what is no DICOM."""

    def file(self) -> bytes:
        """The query as a DICOM file."""

    def matches(self, dicom: bytes) -> bool:
        """Whether a worklist matches."""

    def answer(self, dicom: bytes) -> bytes:
        """What the query asks for of a worklist, encoded."""


class WorklistQuery:
    """A query for worklists."""

    def __init__(self, work: WorklistWork) -> None:
        self._work: WorklistWork | None = work

    def end(self) -> None:
        """The callback is over."""
        self._work = None

    def work(self) -> WorklistWork:
        """OrthancException after the end."""
        if self._work is None:
            _ended()
        return self._work

    @exposed
    def WorklistGetDicomQuery(self) -> bytes:
        """The query as a DICOM file."""
        return self.work().file()

    @exposed
    def WorklistIsMatch(self, dicom: Data, /) -> int:
        """1 if a worklist matches; 0 if not, or if it is no DICOM."""
        return _is_match(self.work().matches, dicom)


class WorklistAnswers:
    """Answers to a query for worklists."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    @exposed
    def WorklistAddAnswer(self, query: WorklistQuery | None, dicom: Data, /) -> None:
        """Answer with what a query asks for of a worklist, whether that matches or not."""
        self._answers.check()
        if query is None:
            raise failure(ErrorCode.NULL_POINTER, "A query is needed")
        self._answers.add(query.work().answer(dicom))

    @exposed
    def WorklistMarkIncomplete(self) -> None:
        """Tell that there are more matches."""
        self._answers.mark_incomplete()


def _is_match(matches: Callable[[bytes], bool], dicom: bytes) -> int:
    try:
        return int(matches(dicom))
    except BadFileFormat:
        return 0


def _ended() -> NoReturn:
    raise failure(ErrorCode.NULL_POINTER, "This object is there during its callback only")


exposed_class(FindQuery)
exposed_class(FindAnswers)
exposed_class(FindMatcher)
exposed_class(WorklistQuery)
exposed_class(WorklistAnswers)
