"""Uploads in their wrappings: plain, gzip, ZIP, multipart; each object enters through the one ingest (level 4).

Inflating happens on storage threads, into memory while small and into spool files beyond, and stops at caps:
never by what a header announces.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, TypeAlias

import attrs
from isal import igzip, isal_zlib
from multipart import MultipartError, MultipartSegment, PushMultipartParser
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from orthanctw.errors import BadFileFormat, InexistentTag, OrthancError
from orthanctw.ingest import Ingest, Ingested
from orthanctw.interfaces import ISpool, IStorageArea
from orthanctw.model import Origin

CHUNK = 256 * 1024
#: Objects of one archive that are stored at the same time, so that they share commits.
_IN_FLIGHT = 8
#: Inflated bytes below which the ratio does not matter.
_RATIO_FLOOR = 64 * 1024 * 1024
_DAMAGED: Any = isal_zlib.error
#: What `zipfile` raises for a damaged member; NotImplementedError is a RuntimeError.
_DAMAGED_MEMBER = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OSError, ValueError)
_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
#: Starts the entry of a member in the directory of a ZIP archive, which is as long as `_ENTRY_SIZE` at least.
_ENTRY_SIGNATURE = b"PK\x01\x02"
_ENTRY_SIZE = 46
#: Starts a member, without its name.
_MEMBER_SIZE = 30
_ENCRYPTED = 0x1
#: LZMA takes memory by a number in the archive.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FormEvent: TypeAlias = MultipartSegment | bytes | bytearray | None


@attrs.frozen(kw_only=True)
class UploadLimits:
    """Caps on what wrappings may hold; sizes in bytes, 0 for none."""

    maximum_member: int
    ratio: int
    members: int
    threshold: int


def _too_large() -> OrthancError:
    return BadFileFormat("The content inflates beyond what is allowed", http_status=413)


class Uploads:
    """Takes an upload apart and stores its objects."""

    def __init__(self, ingest: Ingest, storage: IStorageArea, limits: UploadLimits) -> None:
        self._ingest = ingest
        self._storage = storage
        self._limits = limits

    async def receive(
        self, body: bytes | ISpool, origin: Origin, *, gzip: bool = False
    ) -> Ingested | list[Ingested]:
        """Store one object, or the objects of a ZIP archive.

        Raises
        ------
        BadFileFormat
            No DICOM, a damaged wrapping, or one that inflates beyond its limits (then HTTP 413).
        """
        if gzip:
            inflated = await self._inflate(body)
            try:
                return await self.receive(inflated, origin)
            finally:
                await _discard(inflated)
        if await self._first_bytes(body, 4) in _ZIP_SIGNATURES:
            return await self._receive_zip(body, origin)
        return await self._ingest.store(body, origin)

    async def receive_form(self, body: bytes | ISpool, content_type: str, origin: Origin) -> list[Ingested]:
        """Store every part of a ``multipart/form-data`` body (RFC 7578)."""
        boundary = _boundary(content_type)
        if not isinstance(body, bytes):
            await body.flush()
        parts: list[bytes | ISpool] = await self._storage.call(self._split_form, body, boundary)
        results: list[Ingested] = []
        try:
            for part in parts:
                result = await self.receive(part, origin)
                results += result if isinstance(result, list) else [result]
        finally:
            for part in parts:
                await _discard(part)
        return results

    async def _first_bytes(self, body: bytes | ISpool, count: int) -> bytes:
        if isinstance(body, bytes):
            return body[:count]
        await body.flush()
        head: bytes = await self._storage.call(body.read_at, 0, count)
        return head

    # gzip

    async def _inflate(self, body: bytes | ISpool) -> bytes | ISpool:
        if not isinstance(body, bytes):
            await body.flush()
        inflated: bytes | ISpool = await self._storage.call(self._inflate_blocking, body)
        return inflated

    def _inflate_blocking(self, body: bytes | ISpool) -> bytes | ISpool:
        with _file(body) as compressed, igzip.IGzipFile(fileobj=compressed) as stream:
            return self._gather(_read_chunks(stream.read), self._cap(_size(body)))

    def _cap(self, compressed: int) -> int:
        """Bytes that `compressed` ones may become."""
        by_ratio = max(_RATIO_FLOOR, compressed * self._limits.ratio)
        return min(by_ratio, self._limits.maximum_member or by_ratio)

    def _gather(self, chunks: Iterator[bytes], cap: int) -> bytes | ISpool:
        """Collect chunks in memory or, beyond the threshold, in a spool file (blocking)."""
        gathered: list[bytes] = []
        size = 0
        spool: ISpool | None = None
        try:
            for chunk in chunks:
                size += len(chunk)
                if size > cap:
                    raise _too_large()
                gathered.append(chunk)
                if size > self._limits.threshold:
                    spool = spool or self._storage.spool()
                    spool.append_blocking(gathered)
                    spool.size = size
                    gathered.clear()
        except BaseException as e:
            if spool is not None:
                spool.discard()
            if isinstance(e, (OSError, EOFError, zlib.error, _DAMAGED, zipfile.BadZipFile)):
                raise BadFileFormat("The compressed content is damaged") from e
            raise
        return spool if spool is not None else b"".join(gathered)

    # ZIP

    async def _receive_zip(self, body: bytes | ISpool, origin: Origin) -> list[Ingested]:
        archive: zipfile.ZipFile = await self._storage.call(self._open_zip, body)
        semaphore = DeferredSemaphore(_IN_FLIGHT)
        pending: list[Deferred[Ingested | None]] = []
        failures: list[Failure] = []
        try:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                await semaphore.acquire()
                if failures:
                    break
                stored = Deferred.fromCoroutine(self._store_member(archive, member, origin))
                stored.addErrback(failures.append)
                stored.addBoth(_release, semaphore)
                pending.append(stored)
        finally:
            # What already runs must end before the archive is closed under it.
            results = [await stored for stored in pending]
            source = archive.fp
            archive.close()
            if source is not None:
                source.close()
        if failures:
            failures[0].raiseException()
        return [result for result in results if result is not None]

    def _open_zip(self, body: bytes | ISpool) -> zipfile.ZipFile:
        self._check_directory(body)
        try:
            archive = zipfile.ZipFile(_file(body))
            members = archive.infolist()
        except (zipfile.BadZipFile, struct.error, ValueError, OSError, NotImplementedError) as e:
            raise BadFileFormat("The ZIP archive is damaged") from e
        _check_members(members, archive.start_dir)
        # Judged before the first object is stored, so that a bomb leaves nothing behind.
        largest = max((member.file_size for member in members), default=0)
        total = sum(member.file_size for member in members)
        if 0 < self._limits.maximum_member < largest or total > max(_RATIO_FLOOR, _size(body) * self._limits.ratio):
            raise _too_large()
        return archive

    def _check_directory(self, body: bytes | ISpool) -> None:
        """Refuse an archive of too many members before they are listed: each of them costs memory."""
        if _size(body) <= self._limits.members * _ENTRY_SIZE:
            return
        buffer = body if isinstance(body, bytes) else body.map()
        place, count = buffer.find(_ENTRY_SIGNATURE), 0
        while place >= 0:
            count += 1
            if count > self._limits.members:
                raise BadFileFormat("The ZIP archive has too many members", http_status=413)
            place = buffer.find(_ENTRY_SIGNATURE, place + 1)

    async def _store_member(
        self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, origin: Origin
    ) -> Ingested | None:
        """None for a member that is no DICOM object; a damaged one fails the whole archive."""
        content = await self._storage.call(self._extract, archive, member)
        try:
            return await self._ingest.store(content, origin)
        except (BadFileFormat, InexistentTag):
            return None
        finally:
            await _discard(content)

    def _extract(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | ISpool:
        try:
            with archive.open(member) as stream:
                return self._gather(_read_chunks(stream.read), member.file_size)
        except _DAMAGED_MEMBER as e:
            raise BadFileFormat("A member of the ZIP archive is damaged") from e

    # multipart

    def _split_form(self, body: bytes | ISpool, boundary: str) -> list[bytes | ISpool]:
        parts: list[bytes | ISpool] = []
        try:
            for chunks in _form_parts(body, boundary):
                if len(parts) >= self._limits.members:
                    raise BadFileFormat("The form has too many parts", http_status=413)
                parts.append(self._gather(chunks, _size(body)))
        except BaseException as e:
            for part in parts:
                if not isinstance(part, bytes):
                    part.discard()
            if isinstance(e, MultipartError):
                raise BadFileFormat("The form is damaged") from e
            raise
        return parts


def _check_members(members: Sequence[zipfile.ZipInfo], directory: int) -> None:
    """BadFileFormat for an archive that cannot be read to its end: nothing of it is stored then.

    `directory` is where its directory starts, in bytes.
    """
    end = 0
    for member in sorted(members, key=lambda item: item.header_offset):
        if member.flag_bits & _ENCRYPTED:
            raise BadFileFormat("The ZIP archive is encrypted")
        if member.compress_type not in _METHODS:
            raise BadFileFormat("The ZIP archive is compressed by an unknown method")
        if member.header_offset < end:
            # A few bytes that stand for many members: no program but an attacker's writes such.
            raise BadFileFormat("Members of the ZIP archive overlap")
        end = member.header_offset + _MEMBER_SIZE + member.compress_size
    if end > directory:
        raise BadFileFormat("A member of the ZIP archive passes its end")


def _size(body: bytes | ISpool) -> int:
    return len(body) if isinstance(body, bytes) else int(body.size)


def _file(body: bytes | ISpool) -> BinaryIO:
    return io.BytesIO(body) if isinstance(body, bytes) else body.open()


async def _discard(content: bytes | ISpool) -> None:
    if not isinstance(content, bytes):
        await content.discard()


def _release(result: object, semaphore: DeferredSemaphore) -> object:
    semaphore.release()
    return result


def _read_chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(CHUNK):
        yield chunk


def _boundary(content_type: str) -> str:
    for item in content_type.split(";")[1:]:
        name, _, value = item.strip().partition("=")
        if name.lower() == "boundary":
            return value.strip('"')
    raise BadFileFormat("The form has no boundary")


def _form_parts(body: bytes | ISpool, boundary: str) -> Iterator[Iterator[bytes]]:
    """An iterator of chunks for every part; each must be used up before the next."""
    source = memoryview(body if isinstance(body, bytes) else body.map())
    with PushMultipartParser(boundary) as parser:
        events: Iterator[_FormEvent] = (
            event
            for start in range(0, len(source), CHUNK)
            for event in parser.parse(bytes(source[start : start + CHUNK]))
        )
        for event in events:
            if isinstance(event, MultipartSegment):
                yield _part_chunks(events)


def _part_chunks(events: Iterator[_FormEvent]) -> Iterator[bytes]:
    for event in events:
        if event is None or isinstance(event, MultipartSegment):
            return
        yield bytes(event)
