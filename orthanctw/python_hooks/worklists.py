"""Queries for worklists answered by a script, and queries with which scripts compare files (level 4)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Final

from orthanctw.dicom.elements import EXPLICIT_LITTLE_ENDIAN, Elements
from orthanctw.dicom.encoding import encode_dataset
from orthanctw.dicom.filemeta import file_head
from orthanctw.dicom.uids import WORKLIST_FIND
from orthanctw.identifiers import generate_uid
from orthanctw.model import ResourceLevel
from orthanctw.python_hooks.busy import Busy
from orthanctw.python_hooks.find import Encode, Reading, ScriptAnswers, ask_for_answers
from orthanctw.scripting import Host, Kind
from orthanctw.scripting.connection import Asker
from orthanctw.scripting.queries import Answers, WorklistAnswers, WorklistQuery
from orthanctw.worklists.query import parse_worklist_query

_UTF8: Final = ("ISO_IR 192",)


class Work:
    """A query for worklists. A `WorklistWork`.

    Raises ParameterOutOfRange for a wildcard where none can stand.
    """

    def __init__(self, query: Elements, reading: Reading, encode: Encode, *, case_sensitive_names: bool) -> None:
        self._elements = query
        self._reading = reading
        self._encode = encode
        self._query = parse_worklist_query(query, reading.dictionary, case_sensitive_names=case_sensitive_names)

    @cached_property
    def _file(self) -> bytes:
        head = file_head(WORKLIST_FIND, generate_uid(ResourceLevel.INSTANCE), EXPLICIT_LITTLE_ENDIAN)
        return head + encode_dataset(self._elements, explicit=True, character_sets=_UTF8)

    def file(self) -> bytes:
        return self._file

    def matches(self, dicom: bytes) -> bool:
        return self._query.fulfilled_by(self._reading.elements(dicom))

    def answer(self, dicom: bytes) -> bytes:
        return self._encode(self._query.answer_of(self._reading.elements(dicom)))


class PythonWorklists:
    """``RegisterWorklistCallback``, in place of the server's worklists."""

    def __init__(self, host: Host, busy: Busy, reading: Reading, *, case_sensitive_names: bool) -> None:
        self._host = host
        self._busy = busy
        self._reading = reading
        self._case_sensitive_names = case_sensitive_names

    def is_used(self) -> bool:
        """Whether a script answers."""
        return self._host.registry.has(Kind.WORKLIST)

    async def answers(self, query: Elements, asker: Asker, encode: Encode) -> ScriptAnswers:
        """What the script answers. OrthancError."""
        work = Work(query, self._reading, encode, case_sensitive_names=self._case_sensitive_names)
        answers = Answers()
        return await ask_for_answers(
            self._host, self._busy, Kind.WORKLIST, asker, answers, WorklistAnswers(answers), WorklistQuery(work)
        )


def matcher_of(reading: Reading, *, case_sensitive_names: bool) -> Callable[[bytes], Callable[[bytes], bool]]:
    """What makes, of a query as DICOM, what compares other DICOM with it. BadFileFormat, ParameterOutOfRange."""

    def matcher(query: bytes) -> Callable[[bytes], bool]:
        parsed = parse_worklist_query(
            reading.elements(query), reading.dictionary, case_sensitive_names=case_sensitive_names
        )
        return lambda file: parsed.fulfilled_by(reading.elements(file))

    return matcher
