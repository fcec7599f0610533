"""Composition of modification and anonymisation (level 6)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from orthanctw.dicom.editing.editor import Editor, EditorOptions
from orthanctw.editing import Editing
from orthanctw.jobs.contract import JobKind
from orthanctw.jobs.kinds.modification import modification_kind
from orthanctw.jobs.kinds.splitting import splitting_kinds
from orthanctw.model import OverwriteMode
from orthanctw.rest.resources.editing import EditingRoutes
from orthanctw.rest.resources.splitting import SplittingRoutes
from orthanctw.rest.submission import Submission
from orthanctw.system import ORTHANC_VERSION

if TYPE_CHECKING:
    from orthanctw.parts import Parts

#: While one object is edited, others are written and committed.
_PER_THREAD: Final = 4
#: Results of more bytes are written by the children, not copied through pipes first.
_PIPED: Final = 65536


def build_editing(parts: Parts) -> Editing:
    """What changes stored objects into new ones."""
    settings = parts.settings
    editor = Editor(
        parts.processes,
        parts.storage,
        parts.transcoder,
        EditorOptions(
            version=ORTHANC_VERSION,
            deidentification_key=settings.orthanctw.deidentification_key,
            default_encoding=parts.default_encoding,
            threshold=min(_PIPED, settings.orthanctw.spool_threshold_kb * 1024),
        ),
        parts.dictionary,
    )
    return Editing(
        parts.index,
        parts.storage,
        parts.retrieval,
        editor,
        parts.ingest,
        parts.removal,
        parts.reconstruction,
        parts.main_tags,
        overwrites=settings.storage.overwrite_instances is not OverwriteMode.NEVER,
        has_patients=settings.database.patient_level_enabled,
    )


def editing_kinds(parts: Parts) -> tuple[JobKind, ...]:
    """The kinds of jobs that change objects."""
    threads = parts.settings.jobs.jobs_engine_threads_count.resource_modification
    at_once = _PER_THREAD * (threads or os.cpu_count() or 1)
    return modification_kind(parts.editing, at_once), *splitting_kinds(parts.editing, at_once)


def editing_routes(parts: Parts, submission: Submission) -> tuple[object, ...]:
    """The routes of modification, anonymisation, splitting and merging."""
    return (
        EditingRoutes(
            parts.editing,
            parts.storage,
            submission,
            parts.dictionary,
            private_creator=parts.settings.dicom.default_private_creator,
        ),
        SplittingRoutes(parts.editing, parts.catalog, submission),
    )
