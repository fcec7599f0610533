"""Operations on an association, in a thread that may block (PS3.7 section 9, PS3.4 annexes A to C)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final

from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import (
    AFFECTED_SOP_CLASS,
    AFFECTED_SOP_INSTANCE,
    COMMAND_FIELD,
    DATA_SET_TYPE,
    MESSAGE_ID,
    NO_DATA_SET,
    RESPONDED_TO,
    RESPONSE,
    SUCCESS,
)
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.encoding import decode_dataset, encode_dataset, is_explicit
from orthanctw.dicom.scu.failures import PeerFailure, StatusFailure
from orthanctw.dicom.scu.link import Answer, Link
from orthanctw.dicom.scu.objects import data_set
from orthanctw.dicom.scu.wire import Cancelled
from orthanctw.dicom.uids import VERIFICATION
from orthanctw.errors import BadFileFormat
from orthanctw.remote import Originator, Outgoing, RetrieveResult

#: C-STORE statuses that mean that the object is there: success, warnings, and that it was there before.
STORED: Final = frozenset((SUCCESS, 0xB000, 0xB006, 0xB007, 0x0111))
_ORIGINATOR_AET: Final = 0x1030
_ORIGINATOR_ID: Final = 0x1031
_MEDIUM: Final = 0
#: The second one is for matches of which some keys were not compared.
_PENDING: Final = frozenset((dimse.PENDING, 0xFF01))
#: Octets of all identifiers of an answer together.
_ANSWERS_SIZE: Final = 128 << 20


def _request(link: Link, field: int, sop_class_uid: str, *, has_data_set: bool) -> dict[int, int | str]:
    command: dict[int, int | str] = {
        AFFECTED_SOP_CLASS: sop_class_uid,
        COMMAND_FIELD: field,
        MESSAGE_ID: link.next_message_id(),
        DATA_SET_TYPE: dimse.WITH_DATA_SET if has_data_set else NO_DATA_SET,
    }
    if has_data_set:
        command[dimse.PRIORITY] = _MEDIUM
    return command


def context_of(link: Link, sop_class_uid: str) -> int:
    """The context of a SOP class. PeerFailure when there is none."""
    context_id = link.context_for(sop_class_uid)
    if context_id is None:
        raise PeerFailure("the peer does not offer this service")
    return context_id


def answer_to(link: Link, command: dict[int, int | str]) -> Answer:
    """The next response to a request."""
    return checked(link.receive(), command)


def checked(answer: Answer, command: dict[int, int | str]) -> Answer:
    """What a peer has sent, which must be a response to a request."""
    field, responded = answer.command.field, answer.command.number(RESPONDED_TO, -1)
    if field != int(command[COMMAND_FIELD]) | RESPONSE or responded != command[MESSAGE_ID] or answer.status < 0:
        raise PeerFailure("the peer has sent something else than the response")
    return answer


def echo(link: Link) -> None:
    """C-ECHO."""
    command = _request(link, dimse.C_ECHO_RQ, VERIFICATION, has_data_set=False)
    link.send(context_of(link, VERIFICATION), command)
    status = answer_to(link, command).status
    if status != SUCCESS:
        raise StatusFailure("C-ECHO", status)


class Finding:
    """C-FIND.

    Parameters
    ----------
    character_sets : tuple of str
        SpecificCharacterSet of the query.
    default_encoding : str
        Orthanc's name of the encoding of answers that name none.
    limit : int
        Answers after which it fails.
    """

    def __init__(
        self, sop_class_uid: str, query: Elements, *, character_sets: tuple[str, ...], default_encoding: str, limit: int
    ) -> None:
        self._sop_class_uid = sop_class_uid
        self._query = query
        self._character_sets = character_sets
        self._default_encoding = default_encoding
        self._limit = limit

    def __call__(self, link: Link) -> list[Elements]:
        context_id = context_of(link, self._sop_class_uid)
        explicit = is_explicit(link.contexts[context_id][1])
        data = encode_dataset(self._query, explicit=explicit, character_sets=self._character_sets)
        command = _request(link, dimse.C_FIND_RQ, self._sop_class_uid, has_data_set=True)
        link.send(context_id, command, data)
        found: list[Elements] = []
        size = 0
        with _cancelling(link, context_id, command):
            while (answer := answer_to(link, command)).status in _PENDING:
                size += len(answer.data or b"")
                if len(found) >= self._limit or size > _ANSWERS_SIZE:
                    _cancel(link, context_id, command)
                    raise PeerFailure("the peer has too many answers")
                found.append(self._decoded(answer.data, explicit))
        # A peer that has more than it may tell ends this way.
        if answer.status not in (SUCCESS, dimse.CANCELLED):
            raise StatusFailure("C-FIND", answer.status)
        return found

    def _decoded(self, data: bytes | None, explicit: bool) -> Elements:
        if data is None:
            raise PeerFailure("an answer to C-FIND has no identifier")
        try:
            return decode_dataset(data, explicit=explicit, default_encoding=self._default_encoding)
        except BadFileFormat:
            raise PeerFailure("an answer to C-FIND cannot be read") from None


class _cancelling:  # noqa: N801 - used as a function
    """Sends a C-CANCEL when the operation is cancelled within the block."""

    def __init__(self, link: Link, context_id: int, command: dict[int, int | str]) -> None:
        self._arguments = link, context_id, command

    def __enter__(self) -> None:
        """Nothing is to be done."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, Cancelled):
            _cancel(*self._arguments)


def _cancel(link: Link, context_id: int, command: dict[int, int | str]) -> None:
    """C-CANCEL; nobody waits for what comes of it, as the association is aborted."""
    # The connection must not refuse to send because of the cancellation.
    link.wire.cancelled = threading.Event()
    link.timeout = min(link.timeout or 1.0, 1.0)
    with contextlib.suppress(PeerFailure):
        link.send(
            context_id,
            {
                COMMAND_FIELD: dimse.C_CANCEL_RQ,
                RESPONDED_TO: int(command[MESSAGE_ID]),
                DATA_SET_TYPE: NO_DATA_SET,
            },
        )


def get_command(model: str, message_id: int) -> dict[int, int | str]:
    """A C-GET-RQ."""
    return {
        AFFECTED_SOP_CLASS: model,
        COMMAND_FIELD: dimse.C_GET_RQ,
        MESSAGE_ID: message_id,
        dimse.PRIORITY: _MEDIUM,
        DATA_SET_TYPE: dimse.WITH_DATA_SET,
    }


def progress_of(answer: dimse.Command, completed: int = 0) -> RetrieveResult:
    """What a response to C-MOVE or C-GET tells; `completed` counts when it does not."""
    return RetrieveResult(
        status=answer.number(dimse.STATUS),
        completed=answer.number(dimse.COMPLETED, completed),
        failed=answer.number(dimse.FAILED),
        warnings=answer.number(dimse.WARNING),
        comment=answer.text(dimse.ERROR_COMMENT),
    )


def is_retrieved(status: int) -> bool:
    """Whether a C-MOVE or C-GET has come to its end, with or without sub-operations that failed."""
    return status in (SUCCESS, dimse.SOME_SUB_OPERATIONS_FAILED)


def is_pending(status: int) -> bool:
    """Whether more responses follow."""
    return status in _PENDING


class Moving:
    """C-MOVE; `progress` is called in the thread."""

    def __init__(
        self,
        sop_class_uid: str,
        query: Elements,
        target_aet: str,
        character_sets: tuple[str, ...],
        progress: Callable[[RetrieveResult], None],
    ) -> None:
        self._sop_class_uid = sop_class_uid
        self._query = query
        self._target_aet = target_aet
        self._character_sets = character_sets
        self._progress = progress

    def __call__(self, link: Link) -> RetrieveResult:
        context_id = context_of(link, self._sop_class_uid)
        explicit = is_explicit(link.contexts[context_id][1])
        command = _request(link, dimse.C_MOVE_RQ, self._sop_class_uid, has_data_set=True)
        # An AE title is padded with a space, not with NUL.
        command[dimse.MOVE_DESTINATION] = _title(self._target_aet)
        link.send(
            context_id,
            command,
            encode_dataset(self._query, explicit=explicit, character_sets=self._character_sets),
        )
        with _cancelling(link, context_id, command):
            while (answer := answer_to(link, command)).status in _PENDING:
                self._progress(progress_of(answer.command))
        if not is_retrieved(answer.status):
            raise StatusFailure("C-MOVE", answer.status)
        return progress_of(answer.command)


def _title(aet: str) -> str:
    return aet if len(aet) % 2 == 0 else aet + " "


class NotAccepted(Exception):
    """The peer takes the SOP class of an object, in other transfer syntaxes only."""

    def __init__(self, transfer_syntaxes: tuple[str, ...]) -> None:
        super().__init__()
        self.transfer_syntaxes = transfer_syntaxes


class Storing:
    """C-STORE of one object as it is. Raises NotAccepted before anything is sent."""

    def __init__(self, outgoing: Outgoing, originator: Originator | None) -> None:
        self._outgoing = outgoing
        self._originator = originator

    def __call__(self, link: Link) -> int:
        outgoing = self._outgoing
        context_id = link.context_for(outgoing.sop_class_uid, outgoing.transfer_syntax)
        if context_id is None:
            syntaxes = [syntax for sop_class, syntax in link.contexts.values() if sop_class == outgoing.sop_class_uid]
            raise NotAccepted(tuple(dict.fromkeys(syntaxes)))
        with data_set(outgoing) as (file, size):
            command = _request(link, dimse.C_STORE_RQ, outgoing.sop_class_uid, has_data_set=True)
            command[AFFECTED_SOP_INSTANCE] = outgoing.sop_instance_uid
            if self._originator is not None:
                command[_ORIGINATOR_AET] = _title(self._originator.aet)
                command[_ORIGINATOR_ID] = self._originator.message_id
            link.send_object(context_id, command, file, size)
        status = answer_to(link, command).status
        if status not in STORED:
            raise StatusFailure("C-STORE", status)
        return status
