"""``/jobs``: watching and steering jobs, and submitting sequences of operations."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadFileFormat, BadRequest, EmptyAnswer, InexistentItem, OrthancError, ParameterOutOfRange
from orthanctw.jobs.engine import JobsEngine
from orthanctw.jobs.kinds.archive import ZIP
from orthanctw.jobs.kinds.sequence import SEQUENCE
from orthanctw.jobs.record import JobRecord
from orthanctw.model import JobState
from orthanctw.rest.arguments import EXPAND, JOB, LIMIT, RANGE, SINCE
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import TEXT, Argument, Body, route
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.ranges import ranged_reply
from orthanctw.rest.reply import EMPTY, EMPTY_JSON, Reply, content_disposition, json_reply
from orthanctw.rest.submission import Submission

_STATES = {state.value: state for state in JobState}
_SELECTION = (
    SINCE,
    LIMIT,
    Argument("status", "string", "States, separated by commas"),
    Argument("type", "string", "Types of jobs, separated by commas"),
)
_SUBMITTED = (
    Argument("Type", "string", "What is to be done", required=True, values=(SEQUENCE,)),
    Argument("Operations", "objects", "The operations, each with its arguments"),
    Argument("Description", "string", "Shown with the job"),
    *JOB,
)


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%S.%f")


class JobRoutes:
    """Jobs by their identifiers.

    Parameters
    ----------
    clock : callable
        The clock of the engine, in seconds.
    wall_clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        engine: JobsEngine,
        submission: Submission,
        encoder: JsonEncoder,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._submission = submission
        self._encoder = encoder
        self._clock = clock
        self._wall_clock = wall_clock

    def _job(self, call: Call, error: OrthancError) -> JobRecord:
        record = self._engine.job(call["id"])
        if record is None:
            raise error
        return record

    @route("GET", "/jobs", query=(EXPAND, *_SELECTION))
    async def list(self, call: Call) -> Reply:
        """Identifiers or whole jobs, sorted by identifiers."""
        records = self._engine.jobs()
        states, types = _states(call.arguments.get("status")), _names(call.arguments.get("type"))
        if states is not None or types is not None:
            records = [
                record
                for record in records
                if (states is None or record.state in states) and (types is None or record.kind in types)
            ]
        since, limit = call.integer("since") or 0, call.integer("limit") or len(records)
        page = records[since : since + limit]
        if not call.boolean("expand"):
            return json_reply([record.job_id for record in page])
        now = self._wall_clock()
        return await self._encoder.reply([self._json(record, now) for record in page])

    @route("POST", "/jobs", body=Body(fields=_SUBMITTED))
    async def submit(self, call: Call) -> Reply:
        """Submit a sequence of operations."""
        body = await call.json_object()
        if field(body, "Type", str, "", BadFileFormat) != SEQUENCE:
            raise BadRequest(f"Type must be {SEQUENCE}")
        parameters = {
            "Operations": body.get("Operations"),
            "Description": field(body, "Description", str, "REST API", BadFileFormat),
        }
        return await self._submission.submit(SEQUENCE, parameters, body, synchronous=False)

    @route("GET", "/jobs/<id>")
    async def show(self, call: Call) -> Reply:
        """One job: its state, its progress, what it is about."""
        return json_reply(self._json(self._job(call, EmptyAnswer(404)), self._wall_clock()))

    @route("DELETE", "/jobs/<id>", answers=[TEXT])
    async def delete(self, call: Call) -> Reply:
        """Forget a finished job."""
        if not await self._engine.delete(self._job(call, InexistentItem())):
            raise _not_finished("Only a finished job can be deleted")
        return EMPTY

    @route("POST", "/jobs/<id>/pause")
    async def pause(self, call: Call) -> Reply:
        """Pause a job after its present step."""
        await self._engine.pause(self._job(call, EmptyAnswer(400)))
        return EMPTY_JSON

    @route("POST", "/jobs/<id>/cancel")
    async def cancel(self, call: Call) -> Reply:
        """Cancel a job: it ends as a failure."""
        await self._engine.cancel(self._job(call, EmptyAnswer(400)))
        return EMPTY_JSON

    @route("POST", "/jobs/<id>/resume")
    async def resume(self, call: Call) -> Reply:
        """Go on with a paused job."""
        if not await self._engine.resume(self._job(call, EmptyAnswer(400))):
            raise EmptyAnswer(400)
        return EMPTY_JSON

    @route("POST", "/jobs/<id>/resubmit")
    async def resubmit(self, call: Call) -> Reply:
        """Start a failed job anew."""
        if not await self._engine.resubmit(self._job(call, EmptyAnswer(400))):
            raise EmptyAnswer(400)
        return EMPTY_JSON

    @route("GET", "/jobs/<id>/<key>", headers=[RANGE], answers=[ZIP])
    async def output(self, call: Call) -> Reply:
        """What a job has made."""
        output = await self._engine.output(self._job(call, InexistentItem()), call["key"])
        if output is None:
            raise InexistentItem("The job has no such output")
        headers = (content_disposition(output.file_name),)
        if isinstance(output.content, bytes):
            return Reply(output.content, output.content_type, headers=headers)
        file = output.content
        return await ranged_reply(file.size, file.open, call, output.content_type, headers)

    @route("DELETE", "/jobs/<id>/<key>", answers=[TEXT])
    async def delete_output(self, call: Call) -> Reply:
        """Drop what a job has made."""
        is_deleted = await self._engine.delete_output(self._job(call, InexistentItem()), call["key"])
        if is_deleted is None:
            raise _not_finished("Only the outputs of a finished job can be deleted")
        if not is_deleted:
            raise InexistentItem("The job has no such output")
        return EMPTY

    def _json(self, record: JobRecord, now: float) -> dict[str, Any]:
        runtime = record.runtime + (0.0 if record.started is None else self._clock() - record.started)
        job: dict[str, Any] = {
            "ID": record.job_id,
            "Type": record.kind,
            "State": record.state.value,
            "Priority": record.priority,
            "Progress": int(record.progress * 100),
            "CreationTime": _text(record.creation_time),
            "Timestamp": _text(now),
            "EffectiveRuntime": round(runtime, 3),
            "ErrorCode": record.error_code,
            "ErrorDescription": ErrorCode.of(record.error_code).message,
            "ErrorDetails": record.error_details,
            "Content": self._engine.content(record),
        }
        if record.completion_time is not None:
            job["CompletionTime"] = _text(record.completion_time)
        if record.state is JobState.RUNNING and record.progress > 0.01:
            job["EstimatedTimeOfArrival"] = _text(now + runtime / record.progress * (1 - record.progress))
        if record.error_payload is not None:
            job["ErrorPayload"] = record.error_payload
        if record.user_data is not None:
            job["UserData"] = record.user_data
        return job


def _not_finished(details: str) -> OrthancError:
    return OrthancError(details, code=ErrorCode.BAD_SEQUENCE_OF_CALLS, http_status=400)


def _names(text: str | None) -> Collection[str] | None:
    return None if text is None else frozenset(name.strip() for name in text.split(","))


def _states(text: str | None) -> Collection[JobState] | None:
    names = _names(text)
    if names is None:
        return None
    unknown = [name for name in names if name not in _STATES]
    if unknown:
        raise ParameterOutOfRange("Unknown state of jobs in argument status")
    return frozenset(_STATES[name] for name in names)
