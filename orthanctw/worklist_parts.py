"""Composition of modality worklists (level 6)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.task import deferLater

from orthanctw.dicom.authoring import ValueOptions
from orthanctw.worklists.folder import FolderSource
from orthanctw.worklists.housekeeping import Housekeeping
from orthanctw.worklists.kept import IndexSource
from orthanctw.worklists.model import Reading, Source
from orthanctw.worklists.service import Worklists

if TYPE_CHECKING:
    from orthanctw.parts import Parts


def build_worklists(parts: Parts, reactor: Any) -> tuple[Worklists | None, Housekeeping | None]:
    """Worklists and what removes them; None where they are switched off."""
    options, own = parts.settings.worklists, parts.settings.orthanctw
    if not options.enable:
        return None, None
    reading = Reading(
        default_encoding=parts.default_encoding, dictionary=parts.dictionary, nesting=own.maximum_nesting
    )
    call = parts.storage_pool.call
    source: Source
    if options.save_in_orthanc_database:
        source = IndexSource(parts.index, reading, call, parts.wall_clock)
    else:
        source = FolderSource(options.directory, reading, call, partial(deferLater, reactor), parts.wall_clock)
    values = ValueOptions(
        dictionary=parts.dictionary,
        private_creator=parts.settings.dicom.default_private_creator,
        depth=own.maximum_nesting,
    )
    worklists = Worklists(
        source, options, values, call, case_sensitive_names=parts.settings.dicom.case_sensitive_pn
    )
    housekeeping = Housekeeping(source, parts.index, options, reactor, parts.wall_clock)
    parts.events.subscribe(housekeeping)
    return worklists, housekeeping
