"""The life of a job as a table: what may happen in which state, and the state after it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from orthanctw.model import JobState


class JobAction(enum.Enum):
    """What happens to a job."""

    #: A slot is free.
    START = enum.auto()
    SUCCEED = enum.auto()
    FAIL = enum.auto()
    #: A step asks to be tried again later.
    DELAY = enum.auto()
    #: The time of the next attempt has come.
    DUE = enum.auto()
    PAUSE = enum.auto()
    RESUME = enum.auto()
    CANCEL = enum.auto()
    RESUBMIT = enum.auto()
    #: The process that ran it has ended.
    RESTART = enum.auto()


_WAITING: Final = {
    JobAction.PAUSE: JobState.PAUSED,
    JobAction.CANCEL: JobState.FAILURE,
}
TABLE: Final[Mapping[JobState, Mapping[JobAction, JobState]]] = {
    JobState.PENDING: {
        **_WAITING,
        JobAction.START: JobState.RUNNING,
        JobAction.RESTART: JobState.PENDING,
    },
    JobState.RUNNING: {
        **_WAITING,
        JobAction.SUCCEED: JobState.SUCCESS,
        JobAction.FAIL: JobState.FAILURE,
        JobAction.DELAY: JobState.RETRY,
        JobAction.RESTART: JobState.PENDING,
    },
    JobState.RETRY: {
        **_WAITING,
        JobAction.DUE: JobState.PENDING,
        JobAction.RESTART: JobState.PENDING,
    },
    JobState.PAUSED: {
        JobAction.RESUME: JobState.PENDING,
        JobAction.CANCEL: JobState.FAILURE,
        JobAction.RESTART: JobState.PAUSED,
    },
    JobState.SUCCESS: {
        JobAction.RESTART: JobState.SUCCESS,
    },
    JobState.FAILURE: {
        JobAction.RESUBMIT: JobState.PENDING,
        JobAction.RESTART: JobState.FAILURE,
    },
}
FINISHED: Final = frozenset((JobState.SUCCESS, JobState.FAILURE))


def after(state: JobState, action: JobAction) -> JobState | None:
    """The state that `action` leads to, or None when it cannot happen in `state`."""
    return TABLE[state].get(action)
