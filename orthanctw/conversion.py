"""Received objects in the transfer syntax in which they are to be stored (level 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from twisted.internet.defer import CancelledError, DeferredSemaphore
from twisted.logger import Logger

from orthanctw.dicom.elements import EXPLICIT_BIG_ENDIAN, EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, Buffer
from orthanctw.dicom.pixels.syntaxes import LOSSY
from orthanctw.dicom.scanner import ScannedFile
from orthanctw.errors import CorruptedFile
from orthanctw.interfaces import ISpool, IStorageArea, ITranscoder
from orthanctw.remote import Outgoing

log = Logger(namespace="orthanctw.generic")
_SOP_CLASS_UID: Final = 0x00080016
#: A deflated data set counts as compressed.
_UNCOMPRESSED: Final = frozenset((IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN))
_Scan = Callable[[Buffer], ScannedFile]


@attrs.frozen(kw_only=True)
class ConversionOptions:
    """``IngestTranscoding``, and what it concerns."""

    transfer_syntax: str
    of_uncompressed: bool = True
    of_compressed: bool = True


@attrs.frozen
class Converted:
    """An object in its new form; whoever has it discards it."""

    content: bytes | ISpool
    scanned: ScannedFile

    async def discard(self) -> None:
        """Remove a file that has not become part of the storage area."""
        if not isinstance(self.content, bytes):
            await self.content.discard()


class Conversion:
    """Transcodes received objects.

    Parameters
    ----------
    at_once : int
        Objects that are transcoded at the same time; others wait, so that memory is bounded.
    threshold : int
        Larger results, in bytes, go to a file.
    """

    def __init__(
        self,
        transcoder: ITranscoder,
        storage: IStorageArea,
        options: ConversionOptions,
        *,
        at_once: int,
        threshold: int,
    ) -> None:
        self._transcoder = transcoder
        self._storage = storage
        self._options = options
        self._turns = DeferredSemaphore(at_once)
        self._threshold = threshold
        #: Whether the new form is the same instance as the one that was received.
        self.keeps_instance = options.transfer_syntax not in LOSSY

    def concerns(self, transfer_syntax: str) -> bool:
        """Whether objects in this transfer syntax are to be transcoded."""
        options = self._options
        if transfer_syntax == options.transfer_syntax:
            return False
        return options.of_uncompressed if transfer_syntax in _UNCOMPRESSED else options.of_compressed

    async def convert(self, content: bytes | ISpool, scanned: ScannedFile, scan: _Scan) -> Converted | None:
        """The object in its new form, as `scan` reads it; None when it has to stay as it is, which is logged."""
        try:
            await self._turns.acquire()
            try:
                return await self._converted(content, scanned, scan)
            finally:
                self._turns.release()
        except CancelledError:
            raise
        except Exception as e:  # noqa: BLE001 - whatever it is, the object must not be lost
            log.warn("An object is stored as received, since it could not be transcoded: {error}", error=e)
            return None

    async def _converted(self, content: bytes | ISpool, scanned: ScannedFile, scan: _Scan) -> Converted | None:
        source = Outgoing(
            sop_class_uid=scanned.text(_SOP_CLASS_UID) or "",
            sop_instance_uid=scanned.identifiers()[3],
            transfer_syntax=scanned.transfer_syntax,
            path="" if isinstance(content, bytes) else content.path,
            content=content if isinstance(content, bytes) else b"",
        )
        target = self._options.transfer_syntax
        made: Outgoing | None = await self._transcoder.transcode(source, (target,), allows_new_uid=True, spools=True)
        if made is None:
            log.info(
                "An object is stored as received: from {source} it cannot be transcoded to {target}",
                source=scanned.transfer_syntax,
                target=target,
            )
            return None
        try:
            converted: Converted = await self._storage.call(self._load, made, scanned, scan)
        except BaseException:
            self._transcoder.release(made)
            raise
        return converted

    def _load(self, made: Outgoing, received: ScannedFile, scan: _Scan) -> Converted:
        """Read what was made (blocking)."""
        content: bytes | ISpool = made.content
        if made.path:
            content = self._storage.adopt_blocking(made.path)
        elif len(made.content) > self._threshold:
            content = self._storage.spool()
        try:
            if not isinstance(content, bytes) and not made.path:
                content.append_blocking([made.content])
                content.size = len(made.content)
            scanned = scan(content if isinstance(content, bytes) else content.map())
            self._check(scanned, received)
        except BaseException:
            if not isinstance(content, bytes):
                content.discard()
            raise
        return Converted(content, scanned)

    def _check(self, scanned: ScannedFile, received: ScannedFile) -> None:
        """CorruptedFile when the object has become another one, or is in another transfer syntax."""
        known = 4 if self.keeps_instance else 3
        if (
            scanned.identifiers()[:known] != received.identifiers()[:known]
            or scanned.transfer_syntax != self._options.transfer_syntax
        ):
            raise CorruptedFile("An object was not transcoded correctly")
