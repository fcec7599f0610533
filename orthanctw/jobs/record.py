"""One job as the engine knows it, and its saved form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
import orjson

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import CorruptedFile, OrthancError
from orthanctw.jobs.contract import Job, Position
from orthanctw.jobs.states import FINISHED
from orthanctw.model import JobState, SavedJob

#: Fields of the two saved texts. `state` is apart, since it is an enumeration.
_DEFINITION: Final = ("job_id", "kind", "parameters", "permissive", "user_data", "creation_time")
_STATUS: Final = (
    *("priority", "position", "content", "progress", "completion_time", "runtime"),
    *("error_code", "error_details", "http_status", "error_payload"),
)


@attrs.define(kw_only=True, eq=False)
class JobRecord:
    """State and history of a job; changed by the engine alone. Times are seconds since 1970, `runtime` is seconds.

    `progress` is the share that is done, 0 to 1. `parameters` is JSON text.
    """

    number: int
    job_id: str
    kind: str
    parameters: str
    permissive: bool
    user_data: Any
    creation_time: float
    priority: int
    state: JobState = JobState.PENDING
    position: Position = attrs.field(factory=dict)
    content: Mapping[str, Any] = attrs.field(factory=dict)
    progress: float = 0.0
    completion_time: float | None = None
    runtime: float = 0.0
    error_code: int = 0
    error_details: str = ""
    http_status: int = 0
    error_payload: Any = None
    #: What the engine works with while it lives.
    job: Job | None = None
    is_saved: bool = True
    started: float | None = None

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    def definition(self) -> bytes:
        """What never changes, as JSON."""
        return orjson.dumps({name: getattr(self, name) for name in _DEFINITION})

    def status(self) -> bytes:
        """What changes, as JSON."""
        return orjson.dumps({name: getattr(self, name) for name in _STATUS} | {"state": self.state.value})

    def saved(self) -> SavedJob:
        return SavedJob(self.number, self.definition(), self.status())

    def fail(self, error: OrthancError) -> None:
        """Note why the job has failed."""
        self.error_code, self.error_details = int(error.code), error.details
        self.http_status = error.http_status
        self.error_payload = error.payload

    def forget_failure(self) -> None:
        self.error_code, self.error_details, self.http_status, self.error_payload = 0, "", 0, None

    def error(self) -> OrthancError:
        """The failure, to be told to who waits."""
        return OrthancError(
            self.error_details,
            code=ErrorCode.of(self.error_code),
            http_status=self.http_status,
            payload=self.error_payload,
        )


def load(saved: SavedJob) -> JobRecord:
    """The record of a saved job. CorruptedFile when its text cannot be read."""
    try:
        definition, status = orjson.loads(saved.definition), orjson.loads(saved.status)
        return JobRecord(
            number=saved.number,
            state=JobState(status["state"]),
            **{name: definition[name] for name in _DEFINITION},
            **{name: status[name] for name in _STATUS},
        )
    except (ValueError, KeyError, TypeError) as e:
        raise CorruptedFile("a saved job cannot be read") from e
