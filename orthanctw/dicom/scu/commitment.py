"""Storage commitment with other application entities: asking, and reporting (PS3.4 annex J, PS3.7 section 10)."""

from __future__ import annotations

import io
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from twisted.internet.defer import Deferred

from orthanctw.dicom import dimse
from orthanctw.dicom.commitment import (
    ALL_COMMITTED,
    COMMITMENT_INSTANCE,
    COMMITMENT_LIMIT,
    REQUEST_COMMITMENT,
    SOME_FAILED,
    STORAGE_COMMITMENT,
    CommitmentRequest,
    check_event,
    decode_report,
    encode_report,
    encode_request,
)
from orthanctw.dicom.elements import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from orthanctw.dicom.encoding import is_explicit
from orthanctw.dicom.scu.failures import PeerFailure, StatusFailure
from orthanctw.dicom.scu.link import Answer, Link
from orthanctw.dicom.scu.operations import answer_to, checked, context_of
from orthanctw.dicom.scu.proposals import Proposal
from orthanctw.dicom.scu.scu import DicomScu
from orthanctw.dicom.scu.wire import Cancelled
from orthanctw.errors import BadFileFormat, OrthancError
from orthanctw.remote import CommitmentReport, Remote
from orthanctw.threads import Bridge

#: Takes a report, on the reactor; fails with an OrthancError that has the status of the answer.
Receive = Callable[[CommitmentReport], Awaitable[None]]
_UNCOMPRESSED: Final = (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN)
#: Seconds that the reactor has for taking a report.
_TAKING_TIME: Final = 10.0
#: Reports that a peer may send before it has answered.
_REPORTS: Final = 8


class CommitmentScu:
    """Asks for storage commitment, and reports on it.

    Parameters
    ----------
    linger : float
        Seconds for which an association stays open after a request, since some peers report on it.
    lingering : int
        How many do so at once: each keeps a thread of the SCU.
    """

    def __init__(self, scu: DicomScu, reactor: Any, *, linger: float, lingering: int) -> None:
        self._scu = scu
        self._reactor = reactor
        self._linger = linger
        self._slots = threading.BoundedSemaphore(lingering)
        self._bridge = Bridge(reactor)

    def ask(self, remote: Remote, request: CommitmentRequest, receive: Receive) -> Deferred[None]:
        """N-ACTION; fires when the peer has accepted the request, and fails when it has not.

        A report that comes on the same association goes to `receive`.
        """
        result: Deferred[None] = Deferred(lambda _: work.cancel())

        def settle(outcome: Any) -> None:
            if not result.called:
                result.callback(outcome)

        operation = Asking(
            request,
            accepted=lambda: self._reactor.callFromThread(settle, None),
            receive=lambda report: self._bridge.call(_TAKING_TIME, receive, report),
            linger=self._linger,
            slots=self._slots,
        )
        work = self._scu.run(remote, [Proposal(STORAGE_COMMITMENT, _UNCOMPRESSED)], operation, repeatable=False)
        work.addBoth(settle)
        return result

    def report(self, remote: Remote, report: CommitmentReport) -> Deferred[None]:
        """N-EVENT-REPORT on an association of its own, in which we are the SCP."""
        proposal = Proposal(STORAGE_COMMITMENT, _UNCOMPRESSED, is_scp=True)
        return self._scu.run(remote, [proposal], Reporting(report), repeatable=False)


def event_command(report: CommitmentReport, message_id: int) -> dict[int, int | str]:
    """An N-EVENT-REPORT-RQ."""
    return {
        dimse.AFFECTED_SOP_CLASS: STORAGE_COMMITMENT,
        dimse.COMMAND_FIELD: dimse.N_EVENT_REPORT_RQ,
        dimse.MESSAGE_ID: message_id,
        dimse.DATA_SET_TYPE: dimse.WITH_DATA_SET,
        dimse.AFFECTED_SOP_INSTANCE: COMMITMENT_INSTANCE,
        dimse.EVENT_TYPE: SOME_FAILED if report.failed else ALL_COMMITTED,
    }


class Asking:
    """N-ACTION, and what the peer reports on the same association. Both callables are called in the thread."""

    def __init__(
        self,
        request: CommitmentRequest,
        *,
        accepted: Callable[[], None],
        receive: Callable[[CommitmentReport], None],
        linger: float,
        slots: threading.BoundedSemaphore,
    ) -> None:
        self._request = request
        self._accepted = accepted
        self._receive = receive
        self._linger = linger
        self._slots = slots

    def __call__(self, link: Link) -> None:
        context_id = context_of(link, STORAGE_COMMITMENT)
        data = encode_request(self._request, explicit=is_explicit(link.contexts[context_id][1]))
        command: dict[int, int | str] = {
            dimse.REQUESTED_SOP_CLASS: STORAGE_COMMITMENT,
            dimse.COMMAND_FIELD: dimse.N_ACTION_RQ,
            dimse.MESSAGE_ID: link.next_message_id(),
            dimse.DATA_SET_TYPE: dimse.WITH_DATA_SET,
            dimse.REQUESTED_SOP_INSTANCE: COMMITMENT_INSTANCE,
            dimse.ACTION_TYPE: REQUEST_COMMITMENT,
        }
        link.data_limit = COMMITMENT_LIMIT
        link.send_object(context_id, command, io.BytesIO(data), len(data))
        answer, count = link.receive(), 0
        while answer.command.field == dimse.N_EVENT_REPORT_RQ and count < _REPORTS:
            self._take(link, answer)
            answer, count = link.receive(), count + 1
        status = checked(answer, command).status
        if status != dimse.SUCCESS:
            link.release()
            raise StatusFailure("N-ACTION", status)
        self._accepted()
        with suppress(PeerFailure, Cancelled):
            if not count:
                self._await_report(link)
        link.release()

    def _await_report(self, link: Link) -> None:
        if not self._linger or not self._slots.acquire(blocking=False):
            return
        try:
            link.timeout = self._linger
            answer = link.receive()
            if answer.command.field == dimse.N_EVENT_REPORT_RQ:
                self._take(link, answer)
        finally:
            self._slots.release()

    def _take(self, link: Link, event: Answer) -> None:
        """Have a report taken, and answer it."""
        status = dimse.SUCCESS
        try:
            check_event(event.command)
            explicit = is_explicit(link.contexts[event.context_id][1])
            self._receive(decode_report(event.data or b"", explicit=explicit))
        except BadFileFormat:
            status = dimse.INVALID_ARGUMENT_VALUE
        except OrthancError as e:
            status = e.dimse_status
        link.send(
            event.context_id,
            {
                dimse.AFFECTED_SOP_CLASS: STORAGE_COMMITMENT,
                dimse.COMMAND_FIELD: dimse.N_EVENT_REPORT_RQ | dimse.RESPONSE,
                dimse.RESPONDED_TO: event.command.number(dimse.MESSAGE_ID),
                dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
                dimse.STATUS: status,
                dimse.AFFECTED_SOP_INSTANCE: COMMITMENT_INSTANCE,
                dimse.EVENT_TYPE: event.command.number(dimse.EVENT_TYPE),
            },
        )


class Reporting:
    """N-EVENT-REPORT; the association ends with it."""

    def __init__(self, report: CommitmentReport) -> None:
        self._report = report

    def __call__(self, link: Link) -> None:
        context_id = context_of(link, STORAGE_COMMITMENT)
        data = encode_report(self._report, explicit=is_explicit(link.contexts[context_id][1]))
        command = event_command(self._report, link.next_message_id())
        link.send_object(context_id, command, io.BytesIO(data), len(data))
        status = answer_to(link, command).status
        link.release()
        if status != dimse.SUCCESS:
            raise StatusFailure("N-EVENT-REPORT", status)
