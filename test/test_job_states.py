"""The states of jobs against tables of others: Orthanc's, and one written down here."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from orthanctw.jobs.states import FINISHED, JobAction, after
from orthanctw.model import JobState

DATA = json.loads((Path(__file__).parent / "data" / "jobs.json").read_text(encoding="utf-8"))
#: What the engine itself does to jobs: action, state before, state after.
ENGINE = """
START Pending Running
SUCCEED Running Success
FAIL Running Failure
DELAY Running Retry
DUE Retry Pending
RESTART Pending Pending
RESTART Running Pending
RESTART Retry Pending
RESTART Paused Paused
RESTART Success Success
RESTART Failure Failure
"""


class StateTests(SynchronousTestCase):
    """The table of `orthanctw.jobs.states`."""

    def check(self, action: JobAction, expected: dict[str, str]) -> None:
        """Fail unless `action` leads from the names of `expected` to their values, and nowhere from other states."""
        found = {state.value: after(state, action) for state in JobState}
        self.assertEqual(found, {state.value: None for state in JobState} | {
            before: JobState(name) for before, name in expected.items()
        })

    def test_names(self) -> None:
        """The states have Orthanc's names."""
        self.assertEqual([state.value for state in JobState], DATA["states"])

    def test_clients(self) -> None:
        """What clients can do has its effect in the states that it has one in with Orthanc, and the same one."""
        self.assertEqual(sorted(DATA["transitions"]), ["cancel", "pause", "resubmit", "resume"])
        for name, transition in DATA["transitions"].items():
            self.check(JobAction[name.upper()], dict.fromkeys(transition["effect_in"], transition["result"]))

    def test_engine(self) -> None:
        """What the engine does has its effect in the states of the table above, and in no other."""
        rows = [line.split() for line in ENGINE.split("\n") if line]
        actions = {JobAction[name.upper()] for name in DATA["transitions"]} | {JobAction[row[0]] for row in rows}
        self.assertEqual(actions, set(JobAction))
        for action in {row[0] for row in rows}:
            self.check(JobAction[action], {before: name for row, before, name in rows if row == action})

    def test_finished(self) -> None:
        """Success and failure are ends: nothing but a restart of the process, and another attempt, is for them."""
        self.assertEqual({state.value for state in FINISHED}, {"Success", "Failure"})
        for state in FINISHED:
            possible = {action for action in JobAction if after(state, action) is not None}
            self.assertLessEqual(possible, {JobAction.RESTART, JobAction.RESUBMIT})
