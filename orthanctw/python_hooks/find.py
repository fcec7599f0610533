"""C-FIND answered by a script (level 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.task import deferLater

from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.dictionary import Dictionary, creator_tag, reserves
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.plain import plain_elements
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.python_hooks.busy import Busy
from orthanctw.scripting import Host, Kind
from orthanctw.scripting.connection import Asker, DicomConnection
from orthanctw.scripting.queries import Answers, FindAnswers, FindQuery

#: Encodes an answer for who has asked.
Encode = Callable[[Elements], bytes]
#: Answers that are told at a time.
_BATCH: Final = 50


class Reading:
    """Reads what scripts give as DICOM, on their threads."""

    def __init__(self, dictionary: Dictionary, default_encoding: DefaultEncoding) -> None:
        self.dictionary = dictionary
        self._default_encoding = default_encoding

    def elements(self, file: bytes) -> Elements:
        """See `plain_elements`."""
        return plain_elements(file, default_encoding=self._default_encoding.name, dictionary=self.dictionary)


class ScriptAnswers:
    """What a script has answered, told batch by batch."""

    def __init__(self, reactor: Any, answers: Answers) -> None:
        self.is_complete = answers.is_complete
        self._reactor = reactor
        self._encoded = tuple(answers.encoded)
        self._next = 0

    async def next(self) -> Sequence[bytes]:
        """The next answers, encoded; empty at the end."""
        batch = self._encoded[self._next : self._next + _BATCH]
        self._next += len(batch)
        # A C-CANCEL must be read meanwhile.
        await deferLater(self._reactor, 0)
        return batch


async def ask_for_answers(
    host: Host, busy: Busy, kind: Kind, asker: Asker, answers: Answers, exposed: Any, query: Any
) -> ScriptAnswers:
    """Have the callback of a kind add to `answers`; `exposed` and `query` are its first arguments.

    OrthancError when it fails, or does not end in time.
    """
    busy.check()
    registration = host.registry.one(kind)
    if registration is None:
        raise OrthancError("The script is there no more", code=ErrorCode.PLUGIN)
    (callback,) = registration.callbacks
    connection = DicomConnection(asker)
    who = (asker.calling_aet, asker.called_aet) if registration.version == 1 else (connection,)
    try:
        await host.ask(kind.value, busy.run, callback, exposed, query, *who)
    except ServiceUnavailable as e:
        raise OrthancError(e.details, code=ErrorCode.TIMEOUT) from e
    finally:
        answers.end()
        query.end()
        connection.end()
    return ScriptAnswers(host.reactor, answers)


class PythonFind:
    """``RegisterFindCallback``, in place of the server's C-FIND SCP."""

    def __init__(self, host: Host, busy: Busy, reading: Reading) -> None:
        self._host = host
        self._busy = busy
        self._reading = reading

    def is_used(self) -> bool:
        """Whether a script answers."""
        return self._host.registry.has(Kind.FIND)

    async def answers(self, query: Elements, asker: Asker, encode: Encode) -> ScriptAnswers:
        """What the script answers. OrthancError."""
        answers = Answers()
        exposed = FindAnswers(answers, lambda file: encode(self._reading.elements(file)))
        shown = FindQuery(_tags(query, self._reading.dictionary))
        return await ask_for_answers(self._host, self._busy, Kind.FIND, asker, answers, exposed, shown)


def _tags(query: Elements, dictionary: Dictionary) -> list[tuple[int, str, str]]:
    creators = {element[0]: element[2] for element in query if reserves(element[0])}
    return [
        (
            element[0],
            dictionary.name(element[0], creators.get(creator_tag(element[0]))),
            element[2].strip(" \0") if len(element) == 3 and isinstance(element[2], str) else "",
        )
        for element in query
    ]
