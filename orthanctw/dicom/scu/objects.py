"""Objects to send: where their data set lies, and which presentation contexts they need."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final

from orthanctw.dicom.elements import EXPLICIT_BIG_ENDIAN, EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN
from orthanctw.dicom.scanner import meta_end
from orthanctw.dicom.scu.proposals import Proposal
from orthanctw.errors import CorruptedFile, InexistentFile
from orthanctw.remote import Outgoing

#: Presentation contexts that an association can have: odd identifiers of one octet (PS3.8 section 9.3.2.2).
CONTEXT_LIMIT: Final = 128
#: Meta headers are read whole; real ones have some 500 octets.
_META_LIMIT: Final = 64 * 1024
_LITTLE_ENDIAN: Final = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)
_UNCOMPRESSED: Final = frozenset((*_LITTLE_ENDIAN, EXPLICIT_BIG_ENDIAN))


@contextmanager
def data_set(outgoing: Outgoing) -> Iterator[tuple[BinaryIO, int]]:
    """The object opened at its data set, and the length of it. Raises InexistentFile, CorruptedFile."""
    try:
        file: BinaryIO = open(outgoing.path, "rb") if outgoing.path else io.BytesIO(outgoing.content)  # noqa: SIM115
    except OSError:
        raise InexistentFile("a file to send cannot be opened") from None
    with file:
        head = file.read(_META_LIMIT)
        size = file.seek(0, io.SEEK_END)
        try:
            start = meta_end(head)
        except Exception as e:
            raise CorruptedFile("a file to send has no meta header that can be read") from e
        if not 0 < start < size:
            raise CorruptedFile("a file to send has no data set")
        file.seek(start)
        yield file, size - start


def storage_proposals(
    first: tuple[str, str], pairs: Sequence[tuple[str, str]], preferred: str, *, transcoding: bool
) -> list[Proposal]:
    """Presentation contexts for objects of these SOP classes and transfer syntaxes, `first` being sent first.

    Each syntax of an object has a context of its own, so that the peer cannot choose another one. What objects can be
    converted to comes after all of these, when there is room: the preferred syntax, then the usual ones.
    """
    found: dict[tuple[str, tuple[str, ...]], None] = {}
    wanted = dict.fromkeys((first, *pairs))
    for sop_class, syntax in wanted:
        found[sop_class, (syntax,)] = None
    for sop_class in dict.fromkeys(sop_class for sop_class, _ in wanted):
        stored = {syntax for other, syntax in wanted if other == sop_class}
        if not transcoding and not stored & _UNCOMPRESSED:
            continue
        if transcoding or preferred in _LITTLE_ENDIAN:
            found[sop_class, (preferred,)] = None
        others = tuple(uid for uid in _LITTLE_ENDIAN if uid != preferred and uid not in stored)
        if others:
            found[sop_class, others] = None
    return [Proposal(*item) for item in list(found)[:CONTEXT_LIMIT]]
