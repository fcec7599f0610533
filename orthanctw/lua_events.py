"""What Lua is told of: changes, with what is known of the resources when the turn of the event comes (level 4)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import attrs
from zope.interface import implementer

from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.header import decode
from orthanctw.dicom.jsonforms import FormOptions, TagFormat, tags
from orthanctw.dicom.maintags import MainTags
from orthanctw.ingest import origin_of
from orthanctw.interfaces import IChangeListener, IIndex, IJobListener
from orthanctw.lua import LuaEngine
from orthanctw.lua_ingest import origin_table
from orthanctw.model import Change, ChangeType, JobEvent, Resource, ResourceLevel
from orthanctw.names import Names

_UPDATES: Final = (ChangeType.UPDATED_ATTACHMENT, ChangeType.UPDATED_METADATA)
_STABLE: Final = (ChangeType.STABLE_PATIENT, ChangeType.STABLE_STUDY, ChangeType.STABLE_SERIES)


@attrs.frozen(kw_only=True)
class EventValues:
    """Makes the values of events from the index; None when the resource is gone."""

    index: IIndex
    names: Names
    main_tags: MainTags
    dictionary: Dictionary
    default_encoding: DefaultEncoding

    async def stored(self, public_id: str) -> list[Any] | None:
        """Of an instance: tags, metadata, origin."""
        resource = await self.index.resource(ResourceLevel.INSTANCE, public_id)
        header = await self.index.header(public_id)
        if resource is None or header is None:
            return None
        return [
            partial(self._simplified, header),
            self._metadata(resource),
            origin_table(origin_of(resource.metadata)),
        ]

    async def stable(self, level: ResourceLevel, public_id: str) -> list[Any] | None:
        """Of a patient, study or series: main tags of this level, metadata."""
        resource = await self.index.resource(level, public_id)
        return None if resource is None else [self._main(resource), self._metadata(resource)]

    def _simplified(self, header: bytes) -> dict[str, Any]:
        options = FormOptions(dictionary=self.dictionary, default_encoding=self.default_encoding.name)
        return tags(decode(header), TagFormat.SIMPLIFY, options)

    def _main(self, resource: Resource) -> dict[str, str]:
        # Studies keep the tags of their patient, too.
        others = self.main_tags.tags(ResourceLevel.PATIENT) if resource.level is ResourceLevel.STUDY else ()
        name = self.dictionary.name
        return {name(tag, None): value for tag, value in resource.main_tags.items() if tag not in others}

    def _metadata(self, resource: Resource) -> dict[str, str]:
        return {self.names.metadata_name(number): item.value for number, item in resource.metadata.items()}


@implementer(IChangeListener, IJobListener)
class LuaTelling:
    """Tells scripts of changes and jobs. What waits is no more than names and identifiers."""

    def __init__(self, engine: LuaEngine, reactor: Any, values: EventValues) -> None:
        self._engine = engine
        self._reactor = reactor
        self._stored = values.stored
        self._stable: Mapping[ResourceLevel, Any] = {
            level: partial(values.stable, level) for level in ResourceLevel if level is not ResourceLevel.INSTANCE
        }
        #: Deletions of this turn of the reactor.
        self._deleted: list[Change] = []

    def changed(self, change: Change) -> None:
        kind, level, public_id = change.change_type, change.level, change.public_id
        if kind is ChangeType.DELETED:
            if not self._deleted:
                self._reactor.callLater(0, self.flush)
            self._deleted.append(change)
            return
        self.flush()
        if kind is ChangeType.NEW_INSTANCE:
            self._engine.notify("OnStoredInstance", public_id, make=self._stored)
        elif kind in _STABLE:
            self._engine.notify(f"OnStable{level.title}", public_id, make=self._stable[level])
        elif kind in _UPDATES:
            self._engine.notify(f"OnUpdated{level.title}", public_id)

    def flush(self) -> None:
        """Tell of the deletions."""
        # What one deletion has removed comes children first; scripts are told of parents first.
        for change in sorted(self._deleted, key=lambda change: change.level):
            self._engine.notify(f"OnDeleted{change.level.title}", change.public_id)
        self._deleted.clear()

    def job_changed(self, event: JobEvent) -> None:
        self.flush()
        self._engine.notify(f"On{event.event_type.value}", event.job_id)
