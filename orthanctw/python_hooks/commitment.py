"""Storage commitment answered by a script (level 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.interfaces import IJobListener
from orthanctw.jobs.kinds.commitment import Requester
from orthanctw.model import JobEvent, JobEventType
from orthanctw.python_hooks.answers import described
from orthanctw.remote import FailureReason, Reference
from orthanctw.scripting import Host, Kind
from orthanctw.scripting.connection import DicomConnection

log = Logger(namespace="orthanctw.plugins")
_KIND: Final = Kind.COMMITMENT
#: By the numbers of ``StorageCommitmentFailureReason``.
_REASONS: Final = (
    FailureReason.SUCCESS,
    FailureReason.PROCESSING_FAILURE,
    FailureReason.NO_SUCH_OBJECT_INSTANCE,
    FailureReason.RESOURCE_LIMITATION,
    FailureReason.SOP_CLASS_NOT_SUPPORTED,
    FailureReason.CLASS_INSTANCE_CONFLICT,
    FailureReason.DUPLICATE_TRANSACTION_UID,
)


@attrs.frozen
class Lookups:
    """Asks a script about the objects of one request, by the driver that it has made for that."""

    host: Host
    lookup: Callable[..., Any]
    driver: Any

    async def reasons(self, references: Sequence[Reference]) -> list[FailureReason]:
        """For each of some objects, why it is not committed to. OrthancError when there is no answer in time."""
        return [await self._reason(reference) for reference in references]

    async def _reason(self, reference: Reference) -> FailureReason:
        try:
            answer = await _ask(self.host, self.lookup, *reference, self.driver)
        except OrthancError as e:
            if e.code is ErrorCode.TIMEOUT:
                raise
            # It is in the log.
            return FailureReason.PROCESSING_FAILURE
        if isinstance(answer, int) and 0 <= answer < len(_REASONS):
            return _REASONS[answer]
        log.error("A script must answer a reason of storage commitment, not {answer}", answer=described(answer))
        return FailureReason.PROCESSING_FAILURE


@implementer(IJobListener)
class PythonCommitment:
    """``RegisterStorageCommitmentScpCallback``, in place of the server's look at what is stored.

    A driver is kept as long as its job has not ended, however often that tries to report.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._kept: dict[str, Lookups] = {}

    async def begin(self, job_id: str, requester: Requester, references: Sequence[Reference]) -> Lookups | None:
        """What looks for the objects of a request; None without a script. OrthancError."""
        kept = self._kept.get(job_id)
        registration = self._host.registry.one(_KIND)
        if kept is not None or registration is None:
            return kept
        create, lookup = registration.callbacks
        connection = DicomConnection(requester)
        who = (requester.calling_aet, requester.called_aet) if registration.version == 1 else (connection,)

        def make() -> Any:
            classes, instances = ([reference[place] for reference in references] for place in (0, 1))
            return create(job_id, requester.transaction_uid, classes, instances, *who)

        try:
            driver = await _ask(self._host, make)
        finally:
            connection.end()
        self._kept[job_id] = found = Lookups(self._host, lookup, driver)
        return found

    def job_changed(self, event: JobEvent) -> None:
        if event.event_type is not JobEventType.SUBMITTED:
            self._kept.pop(event.job_id, None)


async def _ask(host: Host, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return await host.ask(_KIND.value, function, *arguments)
    except ServiceUnavailable as e:
        raise OrthancError(e.details, code=ErrorCode.TIMEOUT) from e
