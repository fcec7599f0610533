"""The section ``Worklists``: options of modality worklists."""

from __future__ import annotations

from typing import Final

import attrs

from orthanctw.settings.kinds import boolean, path, unsigned
from orthanctw.settings.options import WORKS, option, unset

_HOURS: Final = unsigned("hours 0..1000000", 0, 1000000)


@attrs.frozen(kw_only=True)
class Worklists:
    """Modality worklists (PS3.4 annex K)."""

    enable: bool = option("Enable", boolean, False, WORKS, "Answer queries for worklists, and offer `/worklists`")
    directory: str = unset(
        "Directory", path, "", WORKS, "Folder of the worklists, files `*.wl`", note="none", aliases=("Database",)
    )
    save_in_orthanc_database: bool = option(
        "SaveInOrthancDatabase", boolean, False, WORKS, "Keep worklists in the index, not in a folder"
    )
    filter_issuer_aet: bool = option(
        "FilterIssuerAet",
        boolean,
        False,
        WORKS,
        "A query that names no ScheduledStationAETitle finds what is scheduled for the AE title that asks",
    )
    limit_answers: int = option("LimitAnswers", unsigned(), 0, WORKS, "Answers to a query; 0: no limit")
    set_study_instance_uid_if_missing: bool = option(
        "SetStudyInstanceUidIfMissing", boolean, True, WORKS, "Worklists made over REST get a StudyInstanceUID"
    )
    delete_worklists_on_stable_study: bool = option(
        "DeleteWorklistsOnStableStudy",
        boolean,
        True,
        WORKS,
        "Delete worklists when the study of their StudyInstanceUID is stable",
    )
    housekeeping_interval: int = option(
        "HousekeepingInterval",
        unsigned("seconds 1..86400", 1, 86400),
        60,
        WORKS,
        "How often worklists older than `DeleteWorklistsDelay` are looked for, in s",
    )
    delete_worklists_delay: int = option(
        "DeleteWorklistsDelay",
        _HOURS,
        0,
        WORKS,
        "Age at which worklists that are kept in the index are deleted, in hours; 0: never",
    )
    log_matched_worklist_ids: bool = option(
        "LogMatchedWorklistIds", boolean, False, WORKS, "Log the identifiers of the worklists that a query finds"
    )
