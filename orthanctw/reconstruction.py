"""What the index says of objects, read anew from their files; and the files written anew (level 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs
from twisted.logger import Logger

from orthanctw.conversion import Conversion
from orthanctw.dicom.elements import Buffer
from orthanctw.dicom.header import encode
from orthanctw.dicom.maintags import MainTags, search_tags
from orthanctw.dicom.scanner import ScannedFile
from orthanctw.errors import CorruptedFile, InexistentFile, OrthancError, ServiceUnavailable, UnknownResource
from orthanctw.identifiers import hierarchy_ids
from orthanctw.interfaces import IIndex, ISpool, IStorageArea
from orthanctw.model import Attachment, AttachmentType, Compression, NewResource, ResourceLevel
from orthanctw.rewriting import Retirement, copied
from orthanctw.versions import Reconstructed

log = Logger(namespace="orthanctw.generic")
_LEVELS: Final = frozenset(ResourceLevel)
#: Instances that are read, and written into the index, together.
_BATCH: Final = 32


@attrs.frozen(kw_only=True)
class Extent:
    """How much is done anew: `levels` of the index, the stored `headers`, the `files`."""

    levels: frozenset[ResourceLevel] = _LEVELS
    headers: bool = True
    files: bool = False


#: What ``/tools/invalidate-tags`` is about.
HEADERS: Final = Extent(levels=frozenset())


class Reconstruction:
    """Reads files anew, a few at a time; others are served in between.

    What was written is durable, and complete for each instance: who is interrupted begins again and loses nothing.

    Parameters
    ----------
    scan : callable
        Reads the header of a file, as when it was received.
    compression : Compression
        Of files that are written anew.
    conversion : Conversion, optional
        Makes the form in which objects are stored.
    """

    def __init__(
        self,
        index: IIndex,
        storage: IStorageArea,
        main_tags: MainTags,
        scan: Callable[[Buffer], ScannedFile],
        retirement: Retirement,
        *,
        compression: Compression = Compression.NONE,
        conversion: Conversion | None = None,
    ) -> None:
        self._index = index
        self._storage = storage
        self._main_tags = main_tags
        self._scan = scan
        self._retirement = retirement
        self._compression = compression
        # Another instance cannot take the place of the one that is stored.
        self._conversion = conversion if conversion is not None and conversion.keeps_instance else None
        self._is_stopped = False

    def stop(self) -> None:
        """Have what is under way end soon, with ServiceUnavailable."""
        self._is_stopped = True

    async def resource(self, level: ResourceLevel, public_id: str, extent: Extent) -> None:
        """Read a resource anew, with what is below it and what is said of it above.

        Resources above instances say what their first instance within the resource says.

        Raises
        ------
        UnknownResource
            Nothing is there.
        InexistentFile, CorruptedFile, BadFileFormat
            A file cannot be read. The others are read nevertheless; the first failure is told.
        """
        ids = await self._instances(level, public_id, extent)
        if not ids:
            raise UnknownResource()
        await self._all(ids, extent)

    async def _all(self, ids: Sequence[str], extent: Extent) -> None:
        told: set[str] = set()
        failures: list[OrthancError] = []
        for start in range(0, len(ids), _BATCH):
            if self._is_stopped:
                raise ServiceUnavailable("The server is stopping")
            batch = ids[start : start + _BATCH]
            found = await (self._rewrite if extent.files else self._read)(batch, extent, told)
            # The first is enough: errors hold on to what was read.
            failures = failures or found[:1]
        if failures:
            raise failures[0]

    async def everything(self, extent: Extent) -> None:
        """All patients, one after the other; fails as `resource` does, at the end."""
        failures: list[OrthancError] = []
        for patient in await self._index.list_ids(ResourceLevel.PATIENT):
            try:
                # None when it has been deleted meanwhile.
                await self._all(await self._instances(ResourceLevel.PATIENT, patient, extent) or (), extent)
            except ServiceUnavailable:
                raise
            except OrthancError as e:
                log.error("A patient could not be reconstructed completely: {reason}", reason=str(e))
                failures = failures or [e]
        if failures:
            raise failures[0]

    async def _instances(self, level: ResourceLevel, public_id: str, extent: Extent) -> list[str] | None:
        if level is ResourceLevel.INSTANCE:
            return [public_id]
        if not extent.headers and not extent.files:
            # One that knows suffices.
            first: str | None = await self._index.first_instance(level, public_id)
            return None if first is None else [first]
        children: list[str] | None = await self._index.children(level, public_id, ResourceLevel.INSTANCE)
        return children

    async def _files(self, ids: Sequence[str]) -> dict[str, Attachment]:
        """The files of instances; UnknownResource when a single one has none."""
        found = await self._index.instance_attachments(ids)
        files = {
            public_id: found[public_id][AttachmentType.DICOM]
            for public_id in ids
            if AttachmentType.DICOM in found.get(public_id, {})
        }
        if not files and len(ids) == 1:
            raise UnknownResource()
        return files

    async def _read(self, ids: Sequence[str], extent: Extent, told: set[str]) -> list[OrthancError]:
        """Write anew what the index says of some instances; answers why some could not be read."""
        files = await self._files(ids)
        items, failures = await self._storage.call(self._read_blocking, files, extent, told)
        self._retirement.add(await self._index.reconstruct(items))
        return await self._without_replaced(files, failures)

    def _read_blocking(
        self, files: dict[str, Attachment], extent: Extent, told: set[str]
    ) -> tuple[list[Reconstructed], dict[str, OrthancError]]:
        items: list[Reconstructed] = []
        failures: dict[str, OrthancError] = {}
        for public_id, attachment in files.items():
            try:
                with self._storage.map(attachment) as data:
                    scanned = self._scan(data)
                items.append(self._item(public_id, attachment, scanned, extent, told))
            except OrthancError as e:
                failures[public_id] = e
        return items, failures

    async def _rewrite(self, ids: Sequence[str], extent: Extent, told: set[str]) -> list[OrthancError]:
        """Write files and index anew, object by object."""
        files = await self._files(ids)
        failures: dict[str, OrthancError] = {}
        for public_id, attachment in files.items():
            try:
                await self._rewrite_one(public_id, attachment, extent, told)
            except ServiceUnavailable:
                raise
            except OrthancError as e:
                failures[public_id] = e
        return await self._without_replaced(files, failures)

    async def _rewrite_one(self, public_id: str, old: Attachment, extent: Extent, told: set[str]) -> None:
        async with copied(self._storage, old) as spool:
            scanned: ScannedFile = await self._storage.call(lambda: self._scan(spool.map()))
            _check(public_id, scanned)
            conversion = self._conversion
            if conversion is None or not conversion.concerns(scanned.transfer_syntax):
                await self._store(public_id, old, (spool, scanned), extent, told)
                return
            converted = await conversion.convert(spool, scanned, self._scan)
            if converted is None:
                await self._store(public_id, old, (spool, scanned), extent, told)
                return
            try:
                await self._store(public_id, old, (converted.content, converted.scanned), extent, told)
            finally:
                await converted.discard()

    async def _store(
        self,
        public_id: str,
        old: Attachment,
        new: tuple[bytes | ISpool, ScannedFile],
        extent: Extent,
        told: set[str],
    ) -> None:
        content, scanned = new
        made: Attachment = await self._storage.create(content, AttachmentType.DICOM, self._compression)
        try:
            item = attrs.evolve(self._item(public_id, old, scanned, extent, told), attachment=made)
            removed = await self._index.reconstruct((item,))
        except BaseException:
            await self._storage.remove([made.uuid])
            raise
        if made.uuid in removed:
            await self._storage.remove([made.uuid])
        self._retirement.add(uuid for uuid in removed if uuid != made.uuid)

    def _item(
        self, public_id: str, attachment: Attachment, scanned: ScannedFile, extent: Extent, told: set[str]
    ) -> Reconstructed:
        """What to write of one instance; of resources above it only what is not in `told` yet."""
        ids = _check(public_id, scanned)
        resources = {
            level: self._resource(scanned, level, ids[level - 1])
            for level in sorted(extent.levels)
            if ids[level - 1] not in told
        }
        told.update(ids[:3])
        return Reconstructed(
            instance=public_id,
            uuid=attachment.uuid,
            resources=resources,
            header=encode(scanned) if extent.headers or extent.files else None,
        )

    def _resource(self, scanned: ScannedFile, level: ResourceLevel, public_id: str) -> NewResource:
        return NewResource(
            public_id=public_id,
            main_tags=self._main_tags.values(scanned, level),
            search_tags=search_tags(scanned, level),
            metadata=self._main_tags.metadata(scanned, level),
        )

    async def _without_replaced(
        self, files: dict[str, Attachment], failures: dict[str, OrthancError]
    ) -> list[OrthancError]:
        """Failures, but for those of files that have been replaced or deleted while they were looked for."""
        missing = [public_id for public_id, error in failures.items() if isinstance(error, InexistentFile)]
        found = await self._index.instance_attachments(missing) if missing else {}
        for public_id in missing:
            now = found.get(public_id, {}).get(AttachmentType.DICOM)
            if now is None or now.uuid != files[public_id].uuid:
                del failures[public_id]
        return list(failures.values())


def _check(public_id: str, scanned: ScannedFile) -> tuple[str, str, str, str]:
    """The identifiers of all levels. CorruptedFile when the file is one of another instance."""
    ids = hierarchy_ids(*scanned.identifiers())
    if ids[3] != public_id:
        raise CorruptedFile("The stored file is one of another instance")
    return ids
