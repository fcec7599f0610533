"""Changing the transfer syntax of objects by the codecs of child processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from orthanctw.dicom.pixels.syntaxes import DECODABLE, ENCODABLE, LOSSY, NATIVE
from orthanctw.dicom.transcode import NativeTranscoder
from orthanctw.errors import CorruptedFile, InexistentFile
from orthanctw.interfaces import ITranscoder
from orthanctw.model import Compression
from orthanctw.processes import ProcessPool
from orthanctw.remote import Outgoing
from orthanctw.threads import NamedPool

#: Objects up to so many bytes are encoded anew in memory, when their pixels stay as they are.
_SMALL: Final = 16 << 20


@implementer(ITranscoder)
class CodecTranscoder:
    """See `ITranscoder`.

    Parameters
    ----------
    processes : ProcessPool
    pool : NamedPool
        Threads that may block.
    native : NativeTranscoder
        For small objects that need no codec. Children use its dictionary too.
    spool_path : callable
        Makes the path of a temporary file.
    quality : int
        ``DicomLossyTranscodingQuality``.
    threshold : int
        Larger results, in bytes, go to a file.
    """

    def __init__(
        self,
        processes: ProcessPool,
        pool: NamedPool,
        native: NativeTranscoder,
        spool_path: Callable[[], str],
        *,
        quality: int,
        threshold: int,
    ) -> None:
        self._processes = processes
        self._pool = pool
        self._native = native
        self._spool_path = spool_path
        self._quality = quality
        self._threshold = threshold

    def transcode(
        self,
        outgoing: Outgoing,
        accepted: Sequence[str],
        *,
        quality: int | None = None,
        allows_new_uid: bool = False,
        spools: bool = False,
    ) -> Deferred[Outgoing | None]:
        if outgoing.transfer_syntax in accepted:
            return succeed(outgoing)
        known = NATIVE | ENCODABLE if allows_new_uid else NATIVE | ENCODABLE - LOSSY
        targets = [uid for uid in accepted if uid in known]
        if not targets or outgoing.transfer_syntax not in NATIVE | DECODABLE:
            return succeed(None)
        used = self._quality if quality is None else quality
        return Deferred.fromCoroutine(self._transcode(outgoing, targets, used, allows_new_uid, spools))

    async def _transcode(
        self, outgoing: Outgoing, targets: list[str], quality: int, allows_new_uid: bool, spools: bool
    ) -> Outgoing | None:
        if outgoing.transfer_syntax in NATIVE and targets[0] in NATIVE and await self._is_small(outgoing):
            return await self._native.transcode(outgoing, targets[:1])
        output = self._spool_path() if spools else ""
        try:
            header, content = await self._processes.call(
                "transcode",
                {
                    "Path": outgoing.path,
                    "StorageCompression": int(Compression.NONE),
                    "Targets": targets,
                    "Quality": quality,
                    "AllowsNewUid": allows_new_uid,
                    "Dictionary": self._native.dictionary.description,
                    "Output": output,
                    "Threshold": self._threshold,
                },
                b"" if outgoing.path else outgoing.content,
                unclaimed=lambda: self._remove(output),
            )
        except Exception:
            # A child that was killed leaves its file behind.
            self._remove(output)
            raise
        transfer_syntax, instance = header.get("TransferSyntax"), header.get("SOPInstanceUID")
        if transfer_syntax is None:
            return None
        if transfer_syntax not in targets or not isinstance(instance, str) or not (content or output):
            raise CorruptedFile("An object could not be transcoded")
        return attrs.evolve(
            outgoing,
            transfer_syntax=transfer_syntax,
            sop_instance_uid=instance,
            path="" if content else output,
            content=content,
            is_temporary=not content,
        )

    async def _is_small(self, outgoing: Outgoing) -> bool:
        if not outgoing.path:
            return len(outgoing.content) <= _SMALL
        try:
            size: int = await self._pool.call(os.path.getsize, outgoing.path)
        except OSError as e:
            raise InexistentFile("The file of the object cannot be read") from e
        return size <= _SMALL

    def release(self, outgoing: Outgoing) -> None:
        if outgoing.is_temporary:
            self._remove(outgoing.path)

    def _remove(self, path: str) -> None:
        if path:
            self._pool.call(_unlink, path).addErrback(lambda failure: None)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
