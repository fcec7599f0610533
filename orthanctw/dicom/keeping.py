"""Transcoded objects that are kept for the next who asks for the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from orthanctw.caches import Cache
from orthanctw.dicom.pixels.syntaxes import LOSSY
from orthanctw.errors import InexistentFile
from orthanctw.interfaces import ITranscoder
from orthanctw.remote import Outgoing
from orthanctw.threads import NamedPool


@implementer(ITranscoder)
class KeepingTranscoder:
    """Asks another transcoder, once for each stored object, transfer syntax and quality, while the cache has room.

    What is lossy is kept as well: whoever asks twice gets one new instance, not two that differ in their UIDs only.

    Parameters
    ----------
    transcoder : ITranscoder
    cache : Cache of Outgoing
    pool : NamedPool
        Threads that may block.
    """

    def __init__(self, transcoder: ITranscoder, cache: Cache[Outgoing], pool: NamedPool) -> None:
        self._transcoder = transcoder
        self._cache = cache
        self._pool = pool

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

        def transcode() -> Deferred[Outgoing | None]:
            transcoded: Deferred[Outgoing | None] = self._transcoder.transcode(
                outgoing, accepted, quality=quality, allows_new_uid=allows_new_uid, spools=spools
            )
            return transcoded

        if not outgoing.uuid or not self._cache.limit:
            return transcode()
        targets = tuple(uid for uid in accepted if allows_new_uid or uid not in LOSSY)
        detail = (targets, quality if LOSSY.intersection(targets) else None)
        return Deferred.fromCoroutine(self._kept(outgoing.uuid, detail, transcode))

    async def _kept(
        self, uuid: str, detail: Hashable, transcode: Callable[[], Deferred[Outgoing | None]]
    ) -> Outgoing | None:
        with self._cache.entry(uuid, detail) as entry:
            if entry.value is not None:
                return entry.value
            made = await transcode()
            if made is None:
                return None
            made = attrs.evolve(made, uuid="")
            if made.is_temporary:
                made = await self._loaded(made)
            if made.content:
                entry.keep(made, len(made.content))
            return made

    async def _loaded(self, made: Outgoing) -> Outgoing:
        """In memory rather than in a temporary file, when it is small enough to be kept there."""
        try:
            content: bytes = await self._pool.call(_content, made.path, self._cache.largest)
        except BaseException:
            self.release(made)
            raise
        if not content:
            return made
        self.release(made)
        return attrs.evolve(made, path="", content=content, is_temporary=False)

    def release(self, outgoing: Outgoing) -> None:
        self._transcoder.release(outgoing)


def _content(path: str, largest: int) -> bytes:
    """The bytes of a file; none when there are more than `largest`."""
    try:
        with open(path, "rb") as file:
            return file.read() if os.fstat(file.fileno()).st_size <= largest else b""
    except OSError as e:
        raise InexistentFile("A transcoded object is gone") from e
