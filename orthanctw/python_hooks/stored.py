"""Python scripts are told of new instances (level 4)."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.errors import OrthancError
from orthanctw.ingest import origin_of
from orthanctw.interfaces import IChangeListener, IIndex, IStorageArea
from orthanctw.model import Attachment, AttachmentType, Change, ChangeType, Resource, ResourceLevel
from orthanctw.names import Names
from orthanctw.scripting import Host, Kind
from orthanctw.scripting.instances import DicomInstance
from orthanctw.threads import SerialWorker

log = Logger(namespace="orthanctw.plugins")


@implementer(IChangeListener)
class StoredTelling:
    """Calls the callbacks of ``RegisterOnStoredInstanceCallback`` on one thread, in the order of the commits.

    What waits is no more than identifiers. An instance that is deleted before its turn is left out.
    """

    def __init__(self, host: Host, reactor: Any, index: IIndex, storage: IStorageArea, names: Names) -> None:
        self._host = host
        self._index = index
        self._storage = storage
        self._names = names
        self._worker = SerialWorker(reactor, "python-stored")
        self._waiting: deque[str] = deque()
        self._is_telling = False

    def start(self) -> None:
        """Begin with what has waited until now."""
        self._worker.start()

    def stop(self) -> Deferred[None]:
        """Tell what waits, then end."""
        return self._worker.stop()

    def changed(self, change: Change) -> None:
        if change.change_type is ChangeType.NEW_INSTANCE and self._host.registry.has(Kind.STORED_INSTANCE):
            self._waiting.append(change.public_id)
            self._go_on()

    def _go_on(self) -> None:
        if not self._is_telling and self._waiting:
            self._is_telling = True
            self._worker.call(self._tell_all).addBoth(self._told)

    def _told(self, _: object) -> None:
        self._is_telling = False
        self._go_on()

    # On the thread

    def _tell_all(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._tell(self._waiting.popleft())

    def _tell(self, public_id: str) -> None:
        try:
            found: tuple[Resource, Attachment] | None = self._host.wait(self._look_up, public_id)
        except OrthancError as e:
            log.error("Scripts are not told of the new instance {public_id}: {reason}", public_id=public_id, reason=e)
            return
        if found is None:
            return
        resource, attachment = found
        instance = DicomInstance(
            self._host,
            lambda: self._host.wait(self._storage.read, attachment),
            origin=origin_of(resource.metadata),
            metadata={self._names.metadata_name(number): item.value for number, item in resource.metadata.items()},
            public_id=public_id,
        )
        for registration in self._host.registry.all(Kind.STORED_INSTANCE):
            # What they raise is in the log.
            with contextlib.suppress(OrthancError):
                self._host.run("stored instance", registration.callbacks[0], instance, public_id)
        instance.end()

    async def _look_up(self, public_id: str) -> tuple[Resource, Attachment] | None:
        """None when the instance is gone."""
        resource: Resource | None = await self._index.resource(ResourceLevel.INSTANCE, public_id)
        attachments: Mapping[int, Attachment] | None
        attachments = await self._index.attachments(ResourceLevel.INSTANCE, public_id)
        if resource is None or not attachments or AttachmentType.DICOM not in attachments:
            return None
        return resource, attachments[AttachmentType.DICOM]
