"""Submitting jobs: the fields that every request for one has, and both kinds of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from orthanctw.errors import BadFileFormat, ParameterOutOfRange
from orthanctw.jobs.contract import JobRequest, Parameters
from orthanctw.jobs.engine import JobsEngine
from orthanctw.jobs.record import JobRecord
from orthanctw.model import JobState
from orthanctw.rest.call import field
from orthanctw.rest.reply import Reply, json_reply

#: Range of a priority in Orthanc.
_PRIORITIES = range(-(2**31), 2**31)
#: Longest JSON of ``UserData``, which stays in memory as long as the job is known.
_MAXIMUM_USER_DATA = 1024 * 1024


def is_synchronous(body: Mapping[str, Any], default: bool) -> bool:
    """What ``Synchronous``, else ``Asynchronous`` says. BadFileFormat when it is no boolean."""
    if "Synchronous" in body:
        return bool(field(body, "Synchronous", bool, default, BadFileFormat))
    return not field(body, "Asynchronous", bool, not default, BadFileFormat)


def priority_of(body: Mapping[str, Any]) -> int:
    """``Priority``. BadFileFormat when it is no integer, ParameterOutOfRange when none that Orthanc takes."""
    priority: int = field(body, "Priority", int, 0, BadFileFormat)
    if priority not in _PRIORITIES:
        raise ParameterOutOfRange("Priority is out of range")
    return priority


def user_data(body: Mapping[str, Any]) -> Any:
    """``UserData``, or None. BadFileFormat when it is too much to be told again in every answer."""
    value = body.get("UserData")
    try:
        # JSON can be written less deep than it can be read, and a list of jobs lies around it.
        text = orjson.dumps([[value]])
    except TypeError as e:
        raise BadFileFormat("Field UserData is nested too deeply") from e
    if len(text) > _MAXIMUM_USER_DATA:
        raise BadFileFormat("Field UserData is too long")
    return value


class Submission:
    """Takes jobs from requests."""

    def __init__(self, engine: JobsEngine) -> None:
        self._engine = engine

    async def submit(
        self, kind: str, parameters: Parameters, body: Mapping[str, Any], *, synchronous: bool
    ) -> Reply:
        """Submit a job; with `body` as the request, and how it is answered when that says nothing.

        A synchronous call answers with the job's content when it has ended, or fails as the job did.
        """
        priority = priority_of(body)
        waits = is_synchronous(body, synchronous)
        record = await self._engine.submit(
            JobRequest(
                kind=kind,
                parameters=parameters,
                priority=priority,
                permissive=field(body, "Permissive", bool, False, BadFileFormat),
                user_data=user_data(body),
            ),
            for_later=not waits,
        )
        if not waits:
            return json_reply({"ID": record.job_id, "Path": f"/jobs/{record.job_id}"})
        await self._engine.wait(record)
        return _outcome(record)


    async def note(self, kind: str, parameters: Parameters) -> None:
        """Show something that is over as a job."""
        await self._engine.submit(JobRequest(kind=kind, parameters=parameters))


def _outcome(record: JobRecord) -> Reply:
    if record.state is not JobState.SUCCESS:
        raise record.error()
    return json_reply(record.content)
