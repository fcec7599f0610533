"""The one way in: every object enters here, whatever protocol brought it (level 4).

What scripts make of it, scan, filters, transcoding where it is asked for, durable file, index, in this order; success
is told after the commit, never before. A failure at any step leaves neither a file nor a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.conversion import Conversion
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.elements import Buffer
from orthanctw.dicom.header import encode
from orthanctw.dicom.jsonforms import FormOptions, TagFormat, tags
from orthanctw.dicom.maintags import MainTags, search_tags
from orthanctw.dicom.scanner import ScannedFile, scan
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import DIMSE_DATA_SET_MISMATCH, BadFileFormat, OrthancError, ReadOnly
from orthanctw.events import EventBus
from orthanctw.identifiers import hierarchy_ids
from orthanctw.interfaces import IIndex, IIngestFilter, ISpool, IStorageArea, Received
from orthanctw.metrics import Metrics
from orthanctw.model import (
    Attachment,
    AttachmentType,
    Compression,
    LazyResource,
    MetadataType,
    MetadataValue,
    NewInstance,
    NewResource,
    Origin,
    OriginKind,
    OverwriteMode,
    ResourceLevel,
    Stored,
    StoreStatus,
)
from orthanctw.removal import Removal
from orthanctw.revision import Revision
from orthanctw.stability import StabilityMonitor, timestamp
from orthanctw.threads import Handover, shield

log = Logger(namespace="orthanctw.generic")
_SOP_CLASS_UID = 0x00080016
_SOP_INSTANCE_UID = 0x00080018
#: An instance for the index, from its file and the stored form of its header.
MakeInstance = Callable[[Attachment, bytes], NewInstance]
_PARENT_LEVELS = (ResourceLevel.PATIENT, ResourceLevel.STUDY, ResourceLevel.SERIES)
#: Fields of an origin that become metadata of the instance.
_ORIGIN_METADATA: Mapping[OriginKind, Sequence[tuple[MetadataType, str]]] = {
    OriginKind.REST_API: (
        (MetadataType.REMOTE_IP, "remote_ip"),
        (MetadataType.HTTP_USERNAME, "username"),
    ),
    OriginKind.DICOM_PROTOCOL: (
        (MetadataType.REMOTE_IP, "remote_ip"),
        (MetadataType.CALLED_AET, "called_aet"),
    ),
}
_ORIGINS: Final = frozenset(kind.value for kind in OriginKind)


@attrs.frozen(kw_only=True)
class IngestOptions:
    """How objects are stored."""

    compression: Compression = Compression.NONE
    overwrite: OverwriteMode = OverwriteMode.NEVER
    default_encoding: DefaultEncoding = attrs.Factory(DefaultEncoding)
    nesting: int = 64
    read_only: bool = False


@attrs.frozen(kw_only=True)
class Derivation:
    """What is to be known of an object that the server has made of others.

    Parameters
    ----------
    metadata : mapping
        By level and number: of the resources that the object makes.
    overwrites : bool
        Whether it takes the place of a stored instance, unless that has the same bytes, whatever
        ``OverwriteInstances`` says.
    is_final : bool
        Whether it stays in its transfer syntax, whatever ``IngestTranscoding`` says.
    """

    metadata: Mapping[ResourceLevel, Mapping[int, str]] = attrs.field(factory=dict)
    overwrites: bool = False
    is_final: bool = False


_RECEIVED: Final = Derivation()


@attrs.frozen
class _Source:
    """Where an object comes from."""

    origin: Origin
    derivation: Derivation

    def overwrite(self, default: OverwriteMode) -> OverwriteMode:
        return OverwriteMode.IF_CHANGED if self.derivation.overwrites else default


@attrs.frozen(kw_only=True)
class Ingested:
    """What became of an object, and the identifiers of its levels."""

    status: StoreStatus
    patient: str
    study: str
    series: str
    instance: str


class Ingest:
    """Stores objects.

    Parameters
    ----------
    filters : sequence of IIngestFilter
        Asked in turn, about the object as it was received; the first that says no filters the object out.
    conversion : Conversion, optional
        Makes the form in which objects are stored.
    wall_clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        index: IIndex,
        storage: IStorageArea,
        *,
        main_tags: MainTags,
        dictionary: Dictionary,
        events: EventBus,
        stability: StabilityMonitor,
        removal: Removal,
        metrics: Metrics,
        wall_clock: Callable[[], float],
        options: IngestOptions,
        filters: Sequence[IIngestFilter] = (),
        conversion: Conversion | None = None,
    ) -> None:
        self._index = index
        self._storage = storage
        self._main_tags = main_tags
        self._dictionary = dictionary
        self._events = events
        self._stability = stability
        self._removal = removal
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._options = options
        self._filters = list(filters)
        #: What is made of objects before all else.
        self.revision = Revision(storage)
        self._conversion = conversion
        self._active = 0
        self._removing: set[Deferred[None]] = set()

    def add_filter(self, added: IIngestFilter) -> None:
        """Have one more filter asked, after those that there are."""
        self._filters.append(added)

    async def store(
        self,
        content: bytes | ISpool,
        origin: Origin,
        *,
        announced: tuple[str, str] | None = None,
        derivation: Derivation = _RECEIVED,
    ) -> Ingested:
        """Store one object.

        `announced` are the SOP class and instance UID that the object must have.

        Raises
        ------
        BadFileFormat
            No DICOM, or truncated.
        InexistentTag
            A UID is missing.
        FullStorage
            A quota, or no space on the disk.
        ReadOnly
            Nothing is to be stored here.
        """
        if self._options.read_only:
            raise ReadOnly("ReadOnly is on")
        source = _Source(origin, derivation)
        if not self.revision.is_needed():
            scanned = await self._scan(content)
            _check_announced(scanned, announced)
            return await self._store(content, scanned, source)
        if announced is not None:
            # About what has come in, not about what becomes of it.
            _check_announced(await self._scan(content), announced)
        async with self.revision.revised(content, origin) as revised:
            if revised is None:
                ids = hierarchy_ids(*(await self._scan(content)).identifiers())
                return attrs.evolve(_ingested(StoreStatus.FILTERED_OUT, ids), instance="")
            return await self._store(revised, await self._scan(revised), source)

    async def _store(self, content: bytes | ISpool, scanned: ScannedFile, source: _Source) -> Ingested:
        """Store an object, unless filters say no."""
        ids = hierarchy_ids(*scanned.identifiers())
        if any(each.is_needed() for each in self._filters) and not await self._accepted(scanned, ids, content, source):
            return _ingested(StoreStatus.FILTERED_OUT, ids)
        conversion = None if source.derivation.is_final else self._conversion
        if conversion is not None and conversion.concerns(scanned.transfer_syntax):
            return await self._store_converted(conversion, content, scanned, ids, source)
        return await self._keep(content, scanned, ids, source)

    async def _store_converted(
        self,
        conversion: Conversion,
        content: bytes | ISpool,
        scanned: ScannedFile,
        ids: tuple[str, str, str, str],
        source: _Source,
    ) -> Ingested:
        """Store an object in another transfer syntax, or as it is when that is not possible."""
        if conversion.keeps_instance and await self._stays(ids[3], source):
            self._count(StoreStatus.ALREADY_STORED)
            return _ingested(StoreStatus.ALREADY_STORED, ids)
        converted = await conversion.convert(content, scanned, self.read)
        if converted is None:
            return await self._keep(content, scanned, ids, source)
        try:
            new_ids = hierarchy_ids(*converted.scanned.identifiers())
            return await self._keep(converted.content, converted.scanned, new_ids, source)
        finally:
            await converted.discard()

    async def _keep(
        self, content: bytes | ISpool, scanned: ScannedFile, ids: tuple[str, str, str, str], source: _Source
    ) -> Ingested:
        """File and index."""
        made: list[Attachment] = []
        self._active += 1
        try:
            stored = await self._commit(content, scanned, partial(self._prepare, scanned, ids, source), made)
        except BaseException:
            await self._storage.remove([attachment.uuid for attachment in made])
            raise
        finally:
            self._active -= 1
        if stored.status is not StoreStatus.SUCCESS:
            await self._removal.remove_files((*stored.removed_files, made[0].uuid))
        else:
            self._told(stored, ids)
        self._count(stored.status)
        return _ingested(stored.status, ids)

    def _count(self, status: StoreStatus) -> None:
        self._metrics.add(f"orthanctw_ingest_{status.name.lower()}_total")

    async def _commit(
        self,
        content: bytes | ISpool,
        scanned: ScannedFile,
        prepare: Callable[[], MakeInstance],
        made: list[Attachment],
    ) -> Stored:
        """Make the file, which is noted in `made`, and give the object to the index.

        Each thread that has to wake up costs as much as a sync of the disk. So an object that comes alone is all the
        writer's; of many, each file is made by a storage thread, which hands it to the writer without coming back here.
        """
        prepared: Handover[MakeInstance] = Handover()
        # Once: they may be loaded anew meanwhile, and the writer must never wait for one.
        asks_scripts: bool = self._storage.may_ask_scripts()

        def make() -> NewInstance:
            header = encode(scanned)
            kind, compression = AttachmentType.DICOM, self._options.compression
            attachment = self._storage.create_blocking(content, kind, compression, asks_scripts)
            made.append(attachment)
            return prepared.get()(attachment, header)

        if self._active == 1 and isinstance(content, bytes) and not asks_scripts:
            storing = self._index.store(make)
            prepared.run(prepare)
        else:
            handing = self._storage.call(lambda: (self._index.store(make()),))
            prepared.run(prepare)
            (storing,) = await handing
        stored: Stored = await storing
        return stored

    def read(self, data: Buffer) -> ScannedFile:
        """The header of a file, as objects are read that come in. Raises BadFileFormat."""
        options = self._options
        return scan(
            data,
            default_encoding=options.default_encoding.name,
            dictionary=self._dictionary,
            depth_limit=options.nesting,
        )

    async def _scan(self, content: bytes | ISpool) -> ScannedFile:
        if isinstance(content, bytes):
            if not content:
                raise BadFileFormat("The file is empty")
            return self.read(content)
        await content.flush()
        scanned: ScannedFile = await self._storage.call(lambda: self.read(content.map()))
        return scanned

    async def _accepted(
        self, scanned: ScannedFile, ids: tuple[str, str, str, str], content: bytes | ISpool, source: _Source
    ) -> bool:
        """Ask the filters, unless the object is stored already and will stay as it is."""
        if await self._stays(ids[3], source):
            return True
        received = Received(
            origin=source.origin,
            tags=partial(self._simplified, scanned),
            transfer_syntax=scanned.transfer_syntax,
            has_pixel_data=scanned.pixels is not None,
            size=len(content) if isinstance(content, bytes) else content.size,
            content=_Content(content, self._storage),
        )
        for each in self._filters:
            if each.is_needed() and not await each.accepts(received):
                return False
        if source.origin.kind is OriginKind.DICOM_PROTOCOL:
            for each in self._filters:
                if each.is_needed():
                    _check_status(await each.store_status(received))
        return True

    def _simplified(self, scanned: ScannedFile) -> Mapping[str, object]:
        options = FormOptions(dictionary=self._dictionary, default_encoding=self._options.default_encoding.name)
        return tags(scanned, TagFormat.SIMPLIFY, options)

    async def _stays(self, instance: str, source: _Source) -> bool:
        """Whether an instance is stored already, and will stay as it is."""
        if source.overwrite(self._options.overwrite) is not OverwriteMode.NEVER:
            return False
        return await self._index.resource(ResourceLevel.INSTANCE, instance) is not None

    def _told(self, stored: Stored, ids: tuple[str, str, str, str]) -> None:
        """After the commit: stability, listeners, files that were overwritten or recycled."""
        self._events.publish(stored.changes)
        # After that: an object may have taken the place of the only one of its series, which was deleted with it.
        self._stability.touch(ids[:3])
        if stored.removed_files:
            removed: Deferred[None] = Deferred.fromCoroutine(self._removal.remove_files(stored.removed_files))
            self._removing.add(removed)
            removed.addErrback(_removal_failed)
            removed.addCallback(lambda _: self._removing.discard(removed))

    async def settle(self) -> None:
        """Wait for the files that are being removed behind answers that were given."""
        while self._removing:
            await shield(next(iter(self._removing)))

    def _prepare(
        self, scanned: ScannedFile, ids: tuple[str, str, str, str], source: _Source
    ) -> MakeInstance:
        """All that the index must know, but for the file and the stored form of its header."""
        patient, study, series = (
            LazyResource(public_id, partial(self._new_resource, scanned, level, public_id, source))
            for level, public_id in zip(_PARENT_LEVELS, ids[:3], strict=True)
        )
        instance = self._new_resource(scanned, ResourceLevel.INSTANCE, ids[3], source)
        date = timestamp(self._wall_clock)
        return lambda attachment, header: NewInstance(
            patient=patient,
            study=study,
            series=series,
            instance=instance,
            header=header,
            attachments=(attachment,),
            date=date,
            overwrite=source.overwrite(self._options.overwrite),
        )

    def _new_resource(
        self, scanned: ScannedFile, level: ResourceLevel, public_id: str, source: _Source
    ) -> NewResource:
        metadata = self._main_tags.metadata(scanned, level)
        if level is ResourceLevel.INSTANCE:
            self._add_origin(metadata, source.origin)
        elif level is ResourceLevel.SERIES:
            metadata[MetadataType.REMOTE_AET] = source.origin.remote_aet
        metadata.update(source.derivation.metadata.get(level, {}))
        return NewResource(
            public_id=public_id,
            main_tags=self._main_tags.values(scanned, level),
            search_tags=search_tags(scanned, level),
            metadata=metadata,
        )

    def _add_origin(self, metadata: dict[int, str], origin: Origin) -> None:
        metadata[MetadataType.RECEPTION_DATE] = timestamp(self._wall_clock)
        metadata[MetadataType.ORIGIN] = origin.kind.value
        metadata[MetadataType.REMOTE_AET] = origin.remote_aet
        for kind, field in _ORIGIN_METADATA.get(origin.kind, ()):
            metadata[kind] = getattr(origin, field)


def origin_of(metadata: Mapping[int, MetadataValue]) -> Origin:
    """Where an instance came from, as its metadata tells."""

    def value(kind: MetadataType) -> str:
        return metadata[kind].value if kind in metadata else ""

    name = value(MetadataType.ORIGIN)
    return Origin(
        kind=OriginKind(name) if name in _ORIGINS else OriginKind.UNKNOWN,
        remote_ip=value(MetadataType.REMOTE_IP),
        remote_aet=value(MetadataType.REMOTE_AET),
        called_aet=value(MetadataType.CALLED_AET),
        username=value(MetadataType.HTTP_USERNAME),
    )


def _check_announced(scanned: ScannedFile, announced: tuple[str, str] | None) -> None:
    """BadFileFormat unless an object has the SOP class and instance UID that its sender has announced.

    What lacks identifiers is told as that.
    """
    if announced is None:
        return
    scanned.identifiers()
    if announced != (scanned.text(_SOP_CLASS_UID), scanned.text(_SOP_INSTANCE_UID)):
        raise BadFileFormat(
            "The SOP class or instance differs from that of the request", dimse_status=DIMSE_DATA_SET_MISMATCH
        )


def _check_status(status: int) -> None:
    """Raises OrthancError with a DIMSE status that is none of success."""
    if status:
        raise OrthancError("A script has refused the object", code=ErrorCode.FORBIDDEN_ACCESS, dimse_status=status)


@attrs.frozen
class _Content:
    """What has come in, for those who want to see all of it."""

    content: bytes | ISpool
    storage: IStorageArea

    async def read(self) -> bytes:
        content = self.content
        if isinstance(content, bytes):
            return content
        data: bytes = await self.storage.call(lambda: bytes(content.map()))
        return data


def _ingested(status: StoreStatus, ids: tuple[str, str, str, str]) -> Ingested:
    return Ingested(status=status, patient=ids[0], study=ids[1], series=ids[2], instance=ids[3])


def _removal_failed(failure: Failure) -> None:
    log.failure("Files could not be removed; the next start tries again", failure)
