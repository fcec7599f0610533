"""Composition of storage commitment over the parts of a server (level 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from orthanctw.bulk import Bulk
from orthanctw.commitment import Commitments, Inspection, Transactions
from orthanctw.dicom import dimse
from orthanctw.dicom.scp.commitment import Asked, CommitmentService, Reporter
from orthanctw.dicom.scu.commitment import CommitmentScu
from orthanctw.jobs.contract import JobKind, JobRequest
from orthanctw.jobs.kinds.commitment import (
    COMMITMENT,
    CommitmentJob,
    CommitmentServices,
    Requester,
    commitment_kind,
    commitment_parameters,
)
from orthanctw.python_hooks.commitment import Lookups
from orthanctw.remote import Reference, Remote

if TYPE_CHECKING:
    from orthanctw.parts import Parts

#: Requests of others that may wait to be carried out or reported on.
_WAITING: Final = 1000


class CommitmentParts:
    """Both sides of storage commitment."""

    def __init__(self, parts: Parts, reactor: Any) -> None:
        self._parts = parts
        settings, self._call = parts.settings, parts.storage_pool.call
        strict = settings.dicom.strict_aet_comparison
        scu = CommitmentScu(
            parts.scu,
            reactor,
            linger=settings.lua.dicom_association_close_delay,
            lingering=settings.orthanctw.scu_threads // 2,
        )
        self._reporter = Reporter(scu, self._call)
        self._inspection = Inspection(parts.index, parts.retrieval, parts.attaching, parts.storage)
        self._transactions = Transactions(
            settings.dicom.storage_commitment_reports_size,
            lambda one, other: one == other or (not strict and one.upper() == other.upper()),
            self._call,
        )
        self.commitments = Commitments(
            scu, self._transactions, self._inspection, Bulk(parts.catalog, parts.removal)
        )

    def kind(self) -> JobKind:
        """The kind of jobs that answers requests."""
        return commitment_kind(
            CommitmentServices(
                inspection=self._inspection,
                remote_of=self._remote_of,
                report=self._reporter.report,
                call=self._call,
                scripted=self._scripted,
            )
        )

    def service(self) -> CommitmentService:
        """What takes requests, and reports on our own."""
        return CommitmentService(self._submit, self._refusal, self._transactions, self._call)

    async def _scripted(
        self, job: CommitmentJob, requester: Requester, references: Sequence[Reference]
    ) -> Lookups | None:
        parts = self._parts
        job_id = next((record.job_id for record in parts.jobs.jobs() if record.job is job), "")
        return await parts.python.dicom.commitment.begin(job_id, requester, references)

    def _remote_of(self, aet: str, local_aet: str) -> Remote | None:
        found = self._parts.modalities.of_aet(aet)
        return None if found is None else self._parts.modalities.remote(found, local_aet=local_aet)

    async def _submit(self, asked: Asked) -> None:
        carrier = asked.exchange.carrier
        parameters = await self._call(
            commitment_parameters,
            asked.request,
            remote_aet=carrier.calling_aet,
            remote_ip=carrier.address,
            called_aet=carrier.called_aet,
        )
        # Before the job: it may be quick.
        self._reporter.remember(asked)
        await self._parts.jobs.submit(JobRequest(kind=COMMITMENT, parameters=parameters))

    def _refusal(self, calling_aet: str, transaction_uid: str) -> int:
        waiting = [
            record.content
            for record in self._parts.jobs.jobs()
            if record.kind == COMMITMENT and not record.is_finished
        ]
        wanted = {"RemoteAet": calling_aet, "TransactionUid": transaction_uid}
        if any(wanted.items() <= content.items() for content in waiting):
            return dimse.DUPLICATE_TRANSACTION_UID
        return dimse.RESOURCE_LIMITATION if len(waiting) >= _WAITING else dimse.SUCCESS
