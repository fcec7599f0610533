"""Changing the transfer syntax of objects: between those that are not compressed (PS3.5 annex A)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import attrs
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from orthanctw.dicom.elements import (
    DEFLATED_LITTLE_ENDIAN,
    EXPLICIT_BIG_ENDIAN,
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
)
from orthanctw.errors import BadFileFormat
from orthanctw.interfaces import ITranscoder
from orthanctw.remote import Outgoing
from orthanctw.threads import NamedPool

#: Pixels lie in all of these as they are, but for the order of bytes.
NATIVE: Final = frozenset(
    (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN, DEFLATED_LITTLE_ENDIAN)
)


@implementer(ITranscoder)
class NativeTranscoder:
    """Encodes data sets anew, on a thread of `pool`."""

    def __init__(self, pool: NamedPool) -> None:
        self._pool = pool

    def transcode(self, outgoing: Outgoing, accepted: Sequence[str]) -> Deferred[Outgoing | None]:
        if outgoing.transfer_syntax in accepted:
            return succeed(outgoing)
        wanted = next((uid for uid in accepted if uid in NATIVE), None)
        if wanted is None or outgoing.transfer_syntax not in NATIVE:
            return succeed(None)
        return self._pool.call(encode_anew, outgoing, wanted)


def encode_anew(outgoing: Outgoing, transfer_syntax: str) -> Outgoing:
    """The object in another native transfer syntax (blocking). Raises BadFileFormat when it cannot be read."""
    from pydicom import dcmread, dcmwrite
    from pydicom.uid import UID

    source = io.BytesIO(outgoing.content) if outgoing.content else outgoing.path
    target = io.BytesIO()
    uid = UID(transfer_syntax)
    try:
        dataset = dcmread(source, force=True)
        swaps = (outgoing.transfer_syntax == EXPLICIT_BIG_ENDIAN) != (transfer_syntax == EXPLICIT_BIG_ENDIAN)
        if swaps and "PixelData" in dataset and dataset.get("BitsAllocated", 8) > 8:
            size = dataset.BitsAllocated // 8
            dataset.PixelData = _swapped(dataset.PixelData, size)
        dataset.file_meta.TransferSyntaxUID = uid
        dcmwrite(
            target,
            dataset,
            implicit_vr=uid.is_implicit_VR,
            little_endian=uid.is_little_endian,
            enforce_file_format=True,
        )
    except Exception as e:
        raise BadFileFormat("The object cannot be encoded in another transfer syntax") from e
    return attrs.evolve(outgoing, transfer_syntax=transfer_syntax, content=target.getvalue(), path="")


def _swapped(data: bytes, size: int) -> bytes:
    result = bytearray(data)
    for offset in range(size):
        result[offset::size] = data[size - 1 - offset :: size]
    return bytes(result)
