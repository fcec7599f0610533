"""Storage commitment that others ask for (type ``StorageCommitmentScp``): objects are checked, then reported on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from orthanctw.commitment import BATCH
from orthanctw.dicom.commitment import CommitmentRequest
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import InexistentItem, OrthancError
from orthanctw.jobs.contract import JobKind, Output, Parameters, Position, Step, StepResult
from orthanctw.jobs.kinds.parameters import readable
from orthanctw.remote import CommitmentReport, FailureReason, Reference, Remote

log = Logger(namespace="orthanctw.dicom")
COMMITMENT: Final = "StorageCommitmentScp"
#: Objects of one step.
_STEP: Final = BATCH // 4
#: Seconds before each further attempt to report; everything is checked anew then.
DELAYS: Final = (10.0, 60.0, 300.0)


@attrs.define(kw_only=True)
class Requester:
    """Who has asked for a transaction."""

    transaction_uid: str
    calling_aet: str
    address: str
    called_aet: str


class Inspection(Protocol):
    """Tells whether we commit to objects."""

    async def reasons(self, references: Sequence[Reference]) -> list[FailureReason]:
        """For each of some references, of which there should be no more than `BATCH`, why not. OrthancError."""


async def _nobody(job: CommitmentJob, requester: Requester, references: Sequence[Reference]) -> Inspection | None:
    return None


@attrs.frozen(kw_only=True)
class CommitmentServices:
    """What these jobs work with.

    Parameters
    ----------
    remote_of : callable
        ``remote_of(aet, local_aet)``: how a modality is addressed now, or None.
    report : callable
        ``report(remote, report, aet)``: tell it, or whoever has asked as `aet`.
    call : callable
        Runs work on a thread.
    scripted : callable
        ``scripted(job, requester, references)``: what inspects the objects of a job in place of `inspection`, or None.
    """

    inspection: Inspection
    remote_of: Callable[[str, str], Remote | None]
    report: Callable[[Remote, CommitmentReport, str], Awaitable[None]]
    call: Callable[..., Deferred[Any]]
    delays: Sequence[float] = DELAYS
    scripted: Callable[[CommitmentJob, Requester, Sequence[Reference]], Awaitable[Inspection | None]] = _nobody


class CommitmentJob:
    """One request: steps check objects, the last one reports. A `Job`.

    What was found is not part of the position: a job that goes on later checks all objects again, since what it tells
    must be so when it tells it.
    """

    def __init__(self, services: CommitmentServices, parameters: Parameters) -> None:
        self._services = services
        self._transaction_uid: str = parameters["TransactionUid"]
        self._text: str = parameters["References"]
        self._shown = {name: str(parameters[name]) for name in ("TransactionUid", "RemoteAet", "RemoteIp", "CalledAet")}
        self._references: Sequence[Reference] | None = None
        self._reasons: list[FailureReason] = []
        self._inspection: Inspection | None = None

    def content(self, position: Position) -> Mapping[str, Any]:
        return {"Description": "", **self._shown}

    async def step(self, position: Position) -> Step:
        if self._references is None:
            self._references = await self._services.call(_references, self._text)
        if position.get("Checked", 0) != len(self._reasons):
            self._reasons = []
        place = len(self._reasons)
        if place < len(self._references):
            batch = self._references[place : place + _STEP]
            self._reasons += await (await self._inspecting(self._references)).reasons(batch)
            return Step(
                position={**position, "Checked": len(self._reasons)},
                progress=len(self._reasons) / (len(self._references) + 1),
            )
        return await self._report(position, self._references)

    async def _inspecting(self, references: Sequence[Reference]) -> Inspection:
        if self._inspection is None:
            shown = self._shown
            requester = Requester(
                transaction_uid=self._transaction_uid,
                calling_aet=shown["RemoteAet"],
                address=shown["RemoteIp"],
                called_aet=shown["CalledAet"],
            )
            scripted = await self._services.scripted(self, requester, references)
            self._inspection = scripted or self._services.inspection
        return self._inspection

    async def _report(self, position: Position, references: Sequence[Reference]) -> Step:
        remote = self._services.remote_of(self._shown["RemoteAet"], self._shown["CalledAet"])
        if remote is None:
            raise InexistentItem(f"No modality has the AE title {self._shown['RemoteAet']} any more")
        try:
            report = await self._services.call(_report, self._transaction_uid, references, self._reasons)
            await self._services.report(remote, report, self._shown["RemoteAet"])
        except OrthancError as e:
            attempts = position.get("Attempts", 0)
            if e.code is not ErrorCode.NETWORK_PROTOCOL or attempts >= len(self._services.delays):
                raise
            delay = self._services.delays[attempts]
            log.warn(
                "{aet} does not take the report of its storage commitment, another attempt follows in {delay} s: {why}",
                aet=remote.aet,
                delay=delay,
                why=e.details,
            )
            return Step(position={"Attempts": attempts + 1}, progress=0.0, result=StepResult.RETRY, delay=delay)
        return Step(position=position, progress=1.0, result=StepResult.SUCCESS)

    async def end(self) -> None:
        self._reasons = []

    async def output(self, position: Position, key: str) -> Output | None:
        return None

    async def delete_output(self, position: Position, key: str) -> Position | None:
        return None


def _references(text: str) -> list[Reference]:
    pairs = (line.partition(" ") for line in text.split("\n") if line)
    return [(sop_class_uid, sop_instance_uid) for sop_class_uid, _, sop_instance_uid in pairs]


def _report(
    transaction_uid: str, references: Sequence[Reference], reasons: Sequence[FailureReason]
) -> CommitmentReport:
    judged = list(zip(references, reasons, strict=True))
    return CommitmentReport(
        transaction_uid=transaction_uid,
        committed=[reference for reference, reason in judged if reason is FailureReason.SUCCESS],
        failed=[(reference, int(reason)) for reference, reason in judged if reason is not FailureReason.SUCCESS],
    )


def commitment_parameters(
    request: CommitmentRequest, *, remote_aet: str, remote_ip: str, called_aet: str
) -> Parameters:
    """Parameters of a job. The objects are one text, which is quickly read and written; making it takes a while."""
    return {
        "TransactionUid": request.transaction_uid,
        "RemoteAet": remote_aet,
        "RemoteIp": remote_ip,
        "CalledAet": called_aet,
        "References": "\n".join(map(" ".join, request.references)),
    }


def commitment_kind(services: CommitmentServices) -> JobKind:
    """The kind of jobs that checks objects and reports on them."""

    def make(parameters: Parameters, permissive: bool) -> CommitmentJob:
        with readable():
            return CommitmentJob(services, parameters)

    return JobKind(name=COMMITMENT, make=make, is_interruptible=True)
