"""The log of what was sent elsewhere (level 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import gatherResults

from orthanctw.interfaces import IIndex
from orthanctw.model import ExportedResource, Resource, ResourceLevel
from orthanctw.stability import timestamp

_UIDS = {
    ResourceLevel.PATIENT: 0x00100020,
    ResourceLevel.STUDY: 0x0020000D,
    ResourceLevel.SERIES: 0x0020000E,
    ResourceLevel.INSTANCE: 0x00080018,
}


class ExportLog:
    """Writes ``/exports``. `enabled` is the option ``LogExportedResources``."""

    def __init__(self, index: IIndex, wall_clock: Callable[[], float], *, enabled: bool) -> None:
        self._index = index
        self._wall_clock = wall_clock
        self._enabled = enabled

    async def add(self, resources: Sequence[tuple[ResourceLevel, str]], remote: str) -> None:
        """Note that resources are sent to a modality or peer; before they are, as failed attempts count too."""
        if not self._enabled:
            return
        known: dict[tuple[ResourceLevel, str], tuple[str, ...]] = {}
        entries = []
        for level, public_id in resources:
            uids = await self._identifiers(level, public_id, known)
            entries.append(
                ExportedResource(
                    level=level,
                    public_id=public_id,
                    remote_modality=remote,
                    date=timestamp(self._wall_clock),
                    patient_id=uids[0],
                    study_instance_uid=uids[1],
                    series_instance_uid=uids[2],
                    sop_instance_uid=uids[3],
                )
            )
        # Together: they share commits.
        await gatherResults([self._index.log_exported(entry) for entry in entries], consumeErrors=True)

    async def _identifiers(
        self, level: ResourceLevel, public_id: str, known: dict[tuple[ResourceLevel, str], tuple[str, ...]]
    ) -> tuple[str, ...]:
        """Identifiers of a resource and of those above it, which are `known` after the first time."""
        if (level, public_id) in known:
            return known[level, public_id]
        uids = ["", "", "", ""]
        resource: Resource | None = await self._index.resource(level, public_id)
        if resource is not None:
            if resource.parent_id is not None and level > ResourceLevel.PATIENT:
                uids = list(await self._identifiers(ResourceLevel(level - 1), resource.parent_id, known))
            uids[level - 1] = resource.main_tags.get(_UIDS[level], "")
        known[level, public_id] = tuple(uids)
        return known[level, public_id]
