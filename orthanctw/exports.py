"""The log of what was sent elsewhere (level 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orthanctw.interfaces import IIndex
from orthanctw.model import ExportedResource, Resource, ResourceLevel
from orthanctw.stability import timestamp

_UIDS = (
    (ResourceLevel.PATIENT, 0x00100020),
    (ResourceLevel.STUDY, 0x0020000D),
    (ResourceLevel.SERIES, 0x0020000E),
    (ResourceLevel.INSTANCE, 0x00080018),
)


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
        for level, public_id in resources:
            uids = await self._identifiers(level, public_id)
            await self._index.log_exported(
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

    async def _identifiers(self, level: ResourceLevel, public_id: str) -> list[str]:
        uids = ["", "", "", ""]
        for upper, tag in _UIDS[:level]:
            resource: Resource | None = (
                await self._index.resource(level, public_id)
                if upper is level
                else await self._index.ancestor(level, public_id, upper)
            )
            if resource is not None:
                uids[upper - 1] = resource.main_tags.get(tag, "")
        return uids
