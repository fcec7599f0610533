"""Retrieving from a modality by C-MOVE or C-GET (types ``DicomMoveScu`` and ``DicomGetScu``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.dimse import SOME_SUB_OPERATIONS_FAILED, SUCCESS
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.scuqueries import parse_query
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.interfaces import IDicomScu
from orthanctw.jobs.contract import JobKind, Output, Parameters, Position, Step, StepResult
from orthanctw.jobs.kinds.parameters import readable, remote_from_json
from orthanctw.remote import RetrieveResult

MOVE: Final = "DicomMoveScu"
GET: Final = "DicomGetScu"
_SOP_CLASSES_IN_STUDY: Final = 0x00080062
#: Told when a peer gave no status: it was not reached, or broke off.
_NO_STATUS: Final = 0xC000


class RetrieveJob:
    """One retrieval; each step is one query. A `Job`.

    Parameters are ``Queries`` (objects of tags and texts), ``Remote``, with C-MOVE ``TargetAet``, and ``Shown`` when
    the queries are to be shown in another form than they have.
    """

    def __init__(self, scu: IDicomScu, dictionary: Dictionary, parameters: Parameters, permissive: bool) -> None:
        self._scu = scu
        self._parameters = parameters
        self._permissive = permissive
        self._remote = remote_from_json(parameters["Remote"])
        self._target: str | None = parameters.get("TargetAet")
        self._queries = [parse_query(query, dictionary) for query in parameters["Queries"]]
        self._shown: Sequence[Mapping[str, Any]] = parameters.get("Shown", parameters["Queries"])

    def content(self, position: Position) -> Mapping[str, Any]:
        content: dict[str, Any] = {
            "Description": self._parameters.get("Description", "REST API"),
            "LocalAet": self._remote.local_aet,
            "RemoteAet": self._remote.aet,
            "Query": self._shown,
            "Details": position.get("Details", []),
        }
        if self._target is not None:
            content["TargetAet"] = self._target
        return content

    async def step(self, position: Position) -> Step:
        place: int = position.get("Next", 0)
        details: list[Any] = list(position.get("Details", ()))
        if place < len(self._queries):
            details.append(await self._retrieve(place, details))
            place += 1
        is_last = place >= len(self._queries)
        return Step(
            position={"Next": place, "Details": details},
            progress=place / max(1, len(self._queries)),
            result=StepResult.SUCCESS if is_last else StepResult.CONTINUE,
        )

    async def _retrieve(self, place: int, details: Sequence[Any]) -> Mapping[str, Any]:
        """Carry out one query; what became of it. Raises with all details, unless the job is permissive."""
        received: list[str] = []
        status = SUCCESS
        failure: OrthancError | None = None
        try:
            result, received = await self._operate(self._queries[place])
            status = result.status
            if status == SOME_SUB_OPERATIONS_FAILED:
                failure = OrthancError(f"{result.failed} objects could not be sent", code=ErrorCode.NETWORK_PROTOCOL)
        except ServiceUnavailable:
            # It is not the peer's fault: the step is done again.
            raise
        except OrthancError as e:
            failure, status = e, _status_of(e)
        told = {"DimseErrorStatus": status, "Query": self._shown[place], "ReceivedInstancesIds": received}
        if failure is not None and not self._permissive:
            raise OrthancError(
                failure.details,
                code=failure.code,
                http_status=failure.http_status,
                payload={"Type": "RetrieveJob", "Content": [*details, told]},
            )
        return told

    async def _operate(self, query: Elements) -> tuple[RetrieveResult, list[str]]:
        if self._target is not None:
            moved: RetrieveResult = await self._scu.move(self._remote, query, self._target, self._progressed)
            return moved, []
        classes = [
            uid
            for element in query
            if element[0] == _SOP_CLASSES_IN_STUDY
            for uid in element[2].split("\\")
            if uid
        ]
        asked = [element for element in query if element[0] != _SOP_CLASSES_IN_STUDY]
        got: tuple[RetrieveResult, list[str]] = await self._scu.get(self._remote, asked, classes, self._progressed)
        return got

    def _progressed(self, result: RetrieveResult) -> None:
        """Told of pending responses; they do not say how many remain."""

    async def end(self) -> None:
        """The pool keeps associations."""

    async def output(self, position: Position, key: str) -> Output | None:
        return None

    async def delete_output(self, position: Position, key: str) -> Position | None:
        return None


def _status_of(error: OrthancError) -> int:
    payload = error.payload
    if isinstance(payload, dict) and payload.get("Type") == "Dimse":
        return int(payload["Content"]["DimseErrorStatus"])
    return _NO_STATUS


def retrieve_kinds(scu: IDicomScu, dictionary: Dictionary) -> tuple[JobKind, JobKind]:
    """The kinds of jobs that retrieve: by C-MOVE, and by C-GET."""

    def make(parameters: Parameters, permissive: bool) -> RetrieveJob:
        with readable():
            return RetrieveJob(scu, dictionary, parameters, permissive)

    return (
        JobKind(name=MOVE, make=make, is_interruptible=True),
        JobKind(name=GET, make=make, is_interruptible=True),
    )
