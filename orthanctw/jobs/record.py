"""One job as the engine knows it, and its saved form."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, Final

import attrs
import orjson

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import CorruptedFile, OrthancError
from orthanctw.jobs.contract import Job, Position
from orthanctw.jobs.states import FINISHED, JobAction
from orthanctw.model import JobState, SavedJob

#: Fields of the two saved texts, and the types of their values. Enumerations are apart.
_DEFINITION: Final[Mapping[str, tuple[type, ...]]] = {
    "job_id": (str,),
    "kind": (str,),
    "permissive": (bool,),
    "user_data": (object,),
    "creation_time": (int, float),
}
_STATUS: Final[Mapping[str, tuple[type, ...]]] = {
    "priority": (int,),
    "position": (dict,),
    "content": (dict,),
    "progress": (int, float),
    "completion_time": (int, float, NoneType),
    "runtime": (int, float),
    "error_code": (int,),
    "error_details": (str,),
    "http_status": (int,),
    "error_payload": (object,),
}


@attrs.define(kw_only=True, eq=False)
class JobRecord:
    """State and history of a job; changed by the engine alone. Times are seconds since 1970, `runtime` is seconds.

    `progress` is the share that is done, 0 to 1. `wish` is what clients asked of a running job, to be done after its
    step: it is saved with the rest, since they were told that it will be.
    """

    number: int
    job_id: str
    kind: str
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
    wish: JobAction | None = None
    #: What the engine works with while it lives. Parameters, as JSON, only of a job that is not saved.
    job: Job | None = None
    is_saved: bool = True
    parameters: bytes = b""
    started: float | None = None

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    def definition(self) -> bytes:
        """What never changes, as JSON."""
        return orjson.dumps({name: getattr(self, name) for name in _DEFINITION})

    def status(self) -> bytes:
        """What changes, as JSON."""
        return orjson.dumps(
            {name: getattr(self, name) for name in _STATUS}
            | {"state": self.state.value, "wish": None if self.wish is None else self.wish.name}
        )

    def saved(self, parameters: bytes) -> SavedJob:
        return SavedJob(self.number, self.definition(), self.status(), parameters)

    def lap(self, now: float) -> None:
        """Count the time that the job runs until `now`, of the clock that `started` is of."""
        if self.started is not None:
            self.runtime += now - self.started
            self.started = now

    def fail(self, error: OrthancError) -> None:
        """Note why the job has failed."""
        self.error_code, self.error_details = int(error.code), error.details
        self.http_status = error.http_status
        self.error_payload = error.payload

    def start_anew(self) -> None:
        """Nothing is done, and nothing has failed."""
        self.position, self.progress, self.runtime, self.completion_time = {}, 0.0, 0.0, None
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
        wish = status["wish"]
        return JobRecord(
            number=saved.number,
            state=JobState(status["state"]),
            wish=None if wish is None else JobAction[wish],
            **_fields(definition, _DEFINITION),
            **_fields(status, _STATUS),
        )
    except (ValueError, KeyError, TypeError) as e:
        raise CorruptedFile("a saved job cannot be read") from e


def _fields(values: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    for name, allowed in types.items():
        if not isinstance(values[name], allowed):
            raise TypeError(name)
    return {name: values[name] for name in types}
