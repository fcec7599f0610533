"""What a kind of jobs must offer to the engine."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import attrs

from orthanctw.interfaces import IReader

#: JSON values: what a job is made of, and how far it came.
Parameters = Mapping[str, Any]
Position = Mapping[str, Any]


class StepResult(enum.Enum):
    """What comes after a step."""

    CONTINUE = enum.auto()
    SUCCESS = enum.auto()
    RETRY = enum.auto()


@attrs.frozen(kw_only=True)
class Step:
    """What a step has done: where the next one goes on, and the share of the whole that is done, 0 to 1.

    What a `is_milestone` follows cannot be done again: the next step begins when the position is durable, and the job
    fails when it cannot be made so.
    """

    position: Position
    progress: float
    result: StepResult = StepResult.CONTINUE
    is_milestone: bool = False
    #: Seconds until the next attempt, with `StepResult.RETRY`.
    delay: float = 0.0


@attrs.frozen
class OutputFile:
    """A file of `size` bytes; `open` takes an offset and a length, and raises InexistentItem when it has gone."""

    size: int
    open: Callable[[int, int], Awaitable[IReader]]


@attrs.frozen
class Output:
    """Something that a job has made and clients may fetch."""

    content: bytes | OutputFile
    content_type: str
    file_name: str


class Job(Protocol):
    """The work of one job. It holds nothing that its position does not say, but for what `end` lets go.

    A position is JSON, and never changed: each step makes a new one.
    """

    def content(self, position: Position) -> Mapping[str, Any]:
        """``Content``, as clients see it: JSON."""

    async def step(self, position: Position) -> Step:
        """Do a piece of the work that takes well under a second, unless its kind is interruptible.

        A step that was interrupted by the death of the process is done again. Raises OrthancError when the job fails.
        """

    async def end(self) -> None:
        """No step follows for now: let connections and the like go, and what is under way come to an end.

        The content is asked for once more afterwards.
        """

    async def output(self, position: Position, key: str) -> Output | None:
        """An output, or None."""

    async def delete_output(self, position: Position, key: str) -> Position | None:
        """Drop an output of a job that does not run; the position without it, or None when there is none."""


@attrs.frozen(kw_only=True)
class JobKind:
    """A type of jobs.

    `make` takes parameters and whether the job is permissive, and raises OrthancError for parameters that it cannot
    read. Steps of kinds that are `is_interruptible` are cancelled when a client pauses or cancels the job: they may
    wait for others; a function says it of each job, where not all are alike. Kinds that are not `is_saved` end with the
    process; those that are not `is_resubmitted` do not run twice.
    `forget` removes what jobs leave outside their position, which alone tells what that is: it is called when a job is
    forgotten, starts anew, or ends with the process.
    """

    name: str
    make: Callable[[Parameters, bool], Job]
    is_saved: bool = True
    is_resubmitted: bool = True
    is_interruptible: bool | Callable[[Job], bool] = False
    forget: Callable[[Position], Awaitable[None]] | None = None

    def interrupts(self, job: Job) -> bool:
        """Whether steps of a job are cancelled."""
        return self.is_interruptible(job) if callable(self.is_interruptible) else self.is_interruptible


@attrs.frozen(kw_only=True)
class JobRequest:
    """A job to submit."""

    kind: str
    parameters: Parameters
    priority: int = 0
    permissive: bool = False
    user_data: Any = None


class JobStore(Protocol):
    """The part of the index that the engine needs."""

    def add_jobs(self, jobs: Any) -> Awaitable[None]: ...
    def update_jobs(self, statuses: Any, forgotten: Any) -> Awaitable[None]: ...
    def jobs(self) -> Awaitable[Any]: ...
    def job_parameters(self, number: int) -> Awaitable[bytes | None]: ...
