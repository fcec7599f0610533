"""Splitting and merging studies (types ``SplitStudy`` and ``MergeStudy``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orthanctw.editing import Editing
from orthanctw.jobs.contract import JobKind, Position
from orthanctw.jobs.kinds.modification import EditingJob, editing_kind

SPLIT: Final = "SplitStudy"
MERGE: Final = "MergeStudy"


class SplitJob(EditingJob):
    """Series that leave a study for a new one. Parameters are those of `EditingJob` and ``TargetStudyUID``."""

    def results(self, position: Position) -> Mapping[str, Any]:
        content = {"TargetStudyUID": self._parameters["TargetStudyUID"]}
        for item in self.made(position):
            content["TargetStudy"] = item.ids[1]
        return content


class MergeJob(EditingJob):
    """Series that come into a study. Parameters are those of `EditingJob` and ``TargetStudy``."""

    def results(self, position: Position) -> Mapping[str, Any]:
        return {"TargetStudy": self._parameters["TargetStudy"]}


def splitting_kinds(editing: Editing, at_once: int) -> tuple[JobKind, JobKind]:
    """The kinds of jobs that split and that merge; `at_once` objects of one job at the same time."""
    return (
        editing_kind(SPLIT, lambda parameters, permissive: SplitJob(editing, parameters, permissive, at_once)),
        editing_kind(MERGE, lambda parameters, permissive: MergeJob(editing, parameters, permissive, at_once)),
    )
