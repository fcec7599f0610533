"""Changing the transfer syntax of objects: between those that are not compressed (PS3.5 annex A)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from orthanctw.dicom.dictionary import STANDARD, Dictionary
from orthanctw.dicom.elements import DEFLATED_LITTLE_ENDIAN
from orthanctw.dicom.filemeta import file_head
from orthanctw.dicom.pixels.syntaxes import NATIVE
from orthanctw.dicom.reencode import reencode
from orthanctw.dicom.scanner import encoding_of, inflate, meta_end
from orthanctw.errors import InexistentFile
from orthanctw.interfaces import ITranscoder
from orthanctw.remote import Outgoing
from orthanctw.threads import NamedPool


@implementer(ITranscoder)
class NativeTranscoder:
    """Encodes data sets anew, on a thread of `pool`; `dictionary` tells the VRs of those that do not.

    Nothing is lost, and results are in memory, whatever is asked for.
    """

    def __init__(self, pool: NamedPool, dictionary: Dictionary = STANDARD) -> None:
        self._pool = pool
        self.dictionary = dictionary

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
        wanted = next((uid for uid in accepted if uid in NATIVE), None)
        if wanted is None or outgoing.transfer_syntax not in NATIVE:
            return succeed(None)
        return self._pool.call(encode_anew, outgoing, wanted, self.dictionary)

    def release(self, outgoing: Outgoing) -> None:
        """There is nothing to remove."""


@implementer(ITranscoder)
class NoTranscoder:
    """Changes nothing: ``BuiltinDecoderTranscoderOrder`` is ``Disabled``."""

    def transcode(
        self,
        outgoing: Outgoing,
        accepted: Sequence[str],
        *,
        quality: int | None = None,
        allows_new_uid: bool = False,
        spools: bool = False,
    ) -> Deferred[Outgoing | None]:
        return succeed(outgoing if outgoing.transfer_syntax in accepted else None)

    def release(self, outgoing: Outgoing) -> None:
        """There is nothing to remove."""


def encode_anew(outgoing: Outgoing, transfer_syntax: str, dictionary: Dictionary = STANDARD) -> Outgoing:
    """The object in another native transfer syntax, with file meta information of ours (blocking).

    Raises BadFileFormat when it cannot be read, InexistentFile when it is gone.
    """
    data: bytes = outgoing.content or _read(outgoing.path)
    start = meta_end(data)
    if outgoing.transfer_syntax == DEFLATED_LITTLE_ENDIAN:
        data, start = inflate(data, start), 0
    source, target = encoding_of(outgoing.transfer_syntax), encoding_of(transfer_syntax)
    encoded = reencode(data, start, len(data), source, target, dictionary)
    if transfer_syntax == DEFLATED_LITTLE_ENDIAN:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        encoded = deflater.compress(encoded) + deflater.flush()
        encoded += bytes(len(encoded) % 2)
    head = file_head(outgoing.sop_class_uid, outgoing.sop_instance_uid, transfer_syntax)
    return attrs.evolve(outgoing, transfer_syntax=transfer_syntax, content=head + encoded, path="")


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise InexistentFile("the file of the object cannot be read") from e
