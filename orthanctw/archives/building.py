"""Archives as clients ask for them: what is in one, and a reader for its bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any, Final

import attrs
from isal import isal_zlib
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from orthanctw.archives.directory import DirectoryWriter, Filed
from orthanctw.archives.layout import Layout, LayoutReader, Member
from orthanctw.archives.names import Unique, file_names, folder
from orthanctw.archives.selection import Group, Instance, find, select
from orthanctw.archives.streaming import Source, Stream, StreamReader
from orthanctw.archives.zipformat import dos_stamp
from orthanctw.dicom.header import decode
from orthanctw.errors import InexistentFile, OrthancError
from orthanctw.interfaces import IBlockingReader, IIndex, IReader, IStorageArea, ITranscoder
from orthanctw.model import Attachment
from orthanctw.remote import Outgoing
from orthanctw.sending import outgoing_of, temporary_reader

log = Logger(namespace="orthanctw.http")
DICOMDIR: Final = "DICOMDIR"
_CHUNK: Final = 1024 * 1024
#: Files whose checksum is computed by one call of a thread, and headers that are in memory at a time.
_AT_ONCE: Final = 20
_HEADERS: Final = 200
_PATIENT: Final = (0x00100020, 0x00100010)
_STUDY: Final = (0x00080050, 0x00081030)
_SERIES: Final = (0x00200011, 0x00080060, 0x0008103E)
_MODALITY: Final = 0x00080060


@attrs.frozen(kw_only=True)
class ArchiveOptions:
    """How an archive is made.

    `transcode` is a transfer syntax, `lossy_quality` 1 to 100. `media` means a DICOM file-set with a DICOMDIR, which
    has more attributes when it is `extended`.
    """

    media: bool = False
    extended: bool = False
    utf8: bool = False
    transcode: str | None = None
    lossy_quality: int | None = None


@attrs.frozen(kw_only=True)
class Selected:
    """The content of an archive: groups, and the name of each of their instances in turn."""

    groups: Sequence[Group]
    names: Sequence[str]
    options: ArchiveOptions

    @property
    def instances(self) -> list[Instance]:
        return [instance for group in self.groups for instance in group.instances]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(instance.attachment.size for group in self.groups for instance in group.instances)


class Archives:
    """Makes archives of stored objects.

    Parameters
    ----------
    deflate : bool
        ``ArchiveDeflate``: members are deflated, which costs the length of the archive being known.
    """

    def __init__(
        self, index: IIndex, storage: IStorageArea, transcoder: ITranscoder, *, deflate: bool = False
    ) -> None:
        self._index = index
        self._storage = storage
        self._transcoder = transcoder
        self._deflate = deflate

    def is_stored(self, options: ArchiveOptions) -> bool:
        """Whether an archive's bytes are known before any is made, so that there is a `layout` of it."""
        return options.transcode is None and not self._deflate

    async def check(self, public_ids: Sequence[str]) -> None:
        """UnknownResource for one that is not there."""
        await find(self._index, public_ids)

    async def select(self, public_ids: Sequence[str], options: ArchiveOptions) -> Selected:
        """What an archive of resources of any level holds. UnknownResource for one that is not there."""
        groups = await select(self._index, public_ids)
        names: list[str] = await self._storage.call(_media_names if options.media else _names, groups, options)
        return Selected(groups=groups, names=names, options=options)

    async def layout(self, selected: Selected) -> Layout:
        """The archive without transcoding: its members are stored."""
        instances = selected.instances
        checksums = await self._checksums([instance.attachment for instance in instances])
        directory = await self._directory(selected, {}) if selected.options.media else None
        layout: Layout = await self._storage.call(_layout, selected, instances, checksums, directory)
        return layout

    def stream(self, selected: Selected) -> Stream:
        """The archive with transcoding, or deflated."""
        sources = partial(self._sources, selected)
        return Stream(sources, self._storage, utf8=selected.options.utf8, deflate=self._deflate)

    async def _sources(self, selected: Selected) -> AsyncGenerator[Source, None]:
        options = selected.options
        changed: dict[str, Outgoing] = {}
        instances = selected.instances
        for name, instance in zip(selected.names, instances, strict=True):
            yield Source(
                name=encode_name(name, options),
                stamp=dos_stamp(instance.received),
                open=partial(self._open, instance, options, changed),
            )
        if options.media:
            content = await self._directory(selected, changed)

            async def directory() -> tuple[bytes, None]:
                return content, None

            yield Source(name=DICOMDIR.encode("ascii"), stamp=_newest(instances), open=directory)

    async def _open(
        self, instance: Instance, options: ArchiveOptions, changed: dict[str, Outgoing]
    ) -> tuple[bytes | IBlockingReader, int | None]:
        """The bytes of an instance, in the transfer syntax that is asked for if that is possible."""
        if options.transcode is not None:
            transcoded = await self._transcoded(instance, options.transcode, options.lossy_quality)
            if transcoded is not None:
                changed[instance.public_id] = attrs.evolve(transcoded, content=b"")
                if transcoded.content:
                    return transcoded.content, None
                return await self._temporary(transcoded)
        attachment = instance.attachment
        crc32 = attachment.crc32
        if crc32 is None and not self._deflate:
            crc32 = (await self._checksums([attachment]))[attachment.uuid]
        reader: IBlockingReader = await self._storage.call(self._storage.reader_blocking, attachment)
        return reader, crc32

    async def _temporary(self, transcoded: Outgoing) -> tuple[IBlockingReader, int]:
        """A reader over a file of the transcoder, which goes with the reader, and its checksum."""
        try:
            opened: tuple[IBlockingReader, int] = await self._storage.call(
                _open_temporary, transcoded.path, self._storage.call
            )
            return opened
        finally:
            self._transcoder.release(transcoded)

    async def _transcoded(
        self, instance: Instance, transfer_syntax: str, quality: int | None
    ) -> Outgoing | None:
        """The object transcoded; None when it stays as it is."""
        sop_class, present = instance.sop_class_uid, instance.transfer_syntax
        if not (sop_class and present):
            stored = await self._index.header(instance.public_id)
            header = decode(stored or b"")
            sop_class, present = header.text(0x00080016) or "", header.transfer_syntax
        if present == transfer_syntax:
            return None
        stored_object = outgoing_of(
            self._storage,
            instance.attachment,
            sop_class_uid=sop_class,
            sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax=present,
        )
        try:
            async with stored_object as outgoing:
                transcoded: Outgoing | None = await self._transcoder.transcode(
                    outgoing, (transfer_syntax,), quality=quality, allows_new_uid=True, spools=True
                )
        except InexistentFile:
            raise
        except OrthancError as e:
            log.warn("{instance} stays as it is in an archive: {reason}", instance=instance.public_id, reason=str(e))
            return None
        if transcoded is None:
            log.info("{instance} cannot be transcoded, and stays as it is", instance=instance.public_id)
        return transcoded

    async def _directory(self, selected: Selected, changed: dict[str, Outgoing]) -> bytes:
        """The DICOMDIR of a file-set of which some objects are transcoded."""
        writer = DirectoryWriter(extended=selected.options.extended)
        number = 0
        for group in selected.groups:
            for start in range(0, len(group.instances), _HEADERS):
                files = []
                for instance in group.instances[start : start + _HEADERS]:
                    now = changed.get(instance.public_id, instance)
                    files.append(
                        Filed(
                            number=number,
                            instance=instance,
                            sop_instance_uid=now.sop_instance_uid,
                            transfer_syntax=now.transfer_syntax,
                        )
                    )
                    number += 1
                headers = await self._index.headers(tuple(file.instance.public_id for file in files))
                await self._storage.call(writer.add, group, files, headers)
        content: bytes = await self._storage.call(writer.finish)
        return content

    async def make(self, public_ids: Sequence[str], options: ArchiveOptions) -> tuple[Selected, Layout | Stream]:
        """An archive in the form that it can have."""
        selected = await self.select(public_ids, options)
        if self.is_stored(options):
            return selected, await self.layout(selected)
        return selected, self.stream(selected)

    def open(self, made: Layout | Stream, ended: Callable[[bool], None] | None = None) -> IReader:
        """A reader over a whole archive."""
        return self.reader(made, ended=ended) if isinstance(made, Layout) else StreamReader(made, ended)

    def reader(
        self,
        layout: Layout,
        offset: int = 0,
        length: int | None = None,
        ended: Callable[[bool], None] | None = None,
    ) -> IReader:
        """A reader over a range of an archive."""
        return LayoutReader(layout, self._storage, offset, length, ended)

    async def _checksums(self, attachments: Sequence[Attachment]) -> dict[str, int]:
        """Checksums of the files that the index has none of, by UUID; it has them afterwards."""
        unknown = [attachment for attachment in attachments if attachment.crc32 is None]
        found: dict[str, int] = {}
        for start in range(0, len(unknown), _AT_ONCE):
            batch: dict[str, int] = await self._storage.call(self._compute, unknown[start : start + _AT_ONCE])
            await self._index.note_checksums(batch)
            found |= batch
        return found

    def _compute(self, attachments: Sequence[Attachment]) -> dict[str, int]:
        return {attachment.uuid: checksum(self._storage.reader_blocking(attachment)) for attachment in attachments}


def _open_temporary(path: str, call: Callable[..., Deferred[Any]]) -> tuple[IBlockingReader, int]:
    crc32 = checksum(temporary_reader(path, call))
    return temporary_reader(path, call), crc32


def checksum(reader: IBlockingReader) -> int:
    """The CRC-32 of what a reader has, which is closed then (blocking)."""
    crc32 = 0
    try:
        while reader.remaining:
            crc32 = isal_zlib.crc32(reader.read_blocking(_CHUNK), crc32)
    finally:
        reader.close()
    return crc32


def _names(groups: Sequence[Group], options: ArchiveOptions) -> list[str]:
    """Names of the files in folders of patients, studies and series."""
    utf8 = options.utf8
    names: list[str] = []
    folders: dict[str, str] = {}
    taken: dict[str, Unique] = {}
    for group in groups:
        path = ""
        for resource, tags, unknown in (
            (group.patient, _PATIENT, "Unknown Patient"),
            (group.study, _STUDY, "Unknown Study"),
            (group.series, _SERIES, "Unknown Series"),
        ):
            known = folders.get(resource.public_id)
            if known is None:
                name = folder((resource.main_tags.get(tag, "") for tag in tags), unknown, utf8=utf8)
                known = path + taken.setdefault(path, Unique()).take(name) + "/"
                folders[resource.public_id] = known
            path = known
        modality = group.series.main_tags.get(_MODALITY, "")
        names += [path + name for name in file_names(modality, [item.number for item in group.instances])]
    return names


def _media_names(groups: Sequence[Group], _: ArchiveOptions) -> list[str]:
    return [f"IMAGES/IM{number}" for number in range(sum(len(group.instances) for group in groups))]


def _newest(instances: Sequence[Instance]) -> int:
    return dos_stamp(max((instance.received for instance in instances), default=""))


def _layout(
    selected: Selected, instances: Sequence[Instance], checksums: dict[str, int], directory: bytes | None
) -> Layout:
    members = []
    for name, instance in zip(selected.names, instances, strict=True):
        attachment = instance.attachment
        members.append(
            Member(
                name=encode_name(name, selected.options),
                stamp=dos_stamp(instance.received),
                size=attachment.size,
                crc32=checksums[attachment.uuid] if attachment.crc32 is None else attachment.crc32,
                attachment=attachment,
            )
        )
    if directory is not None:
        members.append(
            Member(
                name=DICOMDIR.encode("ascii"),
                stamp=_newest(instances),
                size=len(directory),
                crc32=isal_zlib.crc32(directory),
                content=directory,
            )
        )
    return Layout(members, utf8=selected.options.utf8)


def encode_name(name: str, options: ArchiveOptions) -> bytes:
    """A name as it stands in the archive."""
    return name.encode("utf-8" if options.utf8 else "ascii", "replace")
