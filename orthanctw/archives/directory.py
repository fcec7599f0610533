"""DICOMDIR: the directory of a DICOM file-set (PS3.3 annex F, PS3.10), in explicit little endian."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from orthanctw.archives import records
from orthanctw.archives.selection import Group, Instance
from orthanctw.dicom.elements import EXPLICIT_LITTLE_ENDIAN, Elements
from orthanctw.dicom.encoding import encode_dataset, is_known
from orthanctw.dicom.header import Header, decode
from orthanctw.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

#: The name of the file-set, that of Orthanc's.
FILE_SET_ID: Final = "ORTHANC_MEDIA"
_DIRECTORY_CLASS: Final = "1.2.840.10008.1.3.10"
_IN_USE: Final = "65535"
_ITEM: Final = struct.Struct("<HHI")
_OFFSET: Final = struct.Struct("<I")
#: Where the offsets of the next record and of the first one below lie in an item: they are its first elements.
_NEXT: Final = 16
_BELOW: Final = 38
_PATIENT, _STUDY, _SERIES, _INSTANCE = range(4)


@attrs.frozen(kw_only=True)
class Filed:
    """A file of the file-set: what it is now, as transcoding may have changed that."""

    number: int
    instance: Instance
    sop_instance_uid: str
    transfer_syntax: str


class DirectoryWriter:
    """Gathers the records; those of a patient, a study and a series follow each other. Blocking.

    Parameters
    ----------
    extended : bool
        Records tell more than they must.
    """

    def __init__(self, *, extended: bool) -> None:
        self._extended = extended
        self._records = bytearray()
        #: The last record of each level, as offsets from the first one.
        self._last: list[int | None] = [None] * 4
        self._open: list[str] = [""] * 3
        self._place = len(_head(b""))

    def add(self, group: Group, files: Sequence[Filed], headers: Mapping[str, bytes]) -> None:
        """Add files of a series; those whose stored header is gone are left out."""
        for file in files:
            stored = headers.get(file.instance.public_id)
            if stored is not None:
                self._add(group, file, decode(stored))

    def _add(self, group: Group, file: Filed, header: Header) -> None:
        sets = (header.charset,) if header.charset and is_known(header.charset) else ()
        for level, public_id, name, keys, more in (
            (_PATIENT, group.patient.public_id, "PATIENT", records.PATIENT, records.PATIENT_EXTENDED),
            (_STUDY, group.study.public_id, "STUDY", records.STUDY, records.STUDY_EXTENDED),
            (_SERIES, group.series.public_id, "SERIES", records.SERIES, records.SERIES_EXTENDED),
        ):
            if self._open[level] != public_id:
                self._open[level:] = [public_id] + [""] * (_SERIES - level)
                wanted = (*keys, *more) if self._extended else keys
                self._record(level, name, records.values(header, wanted), sets)
        sop_class = file.instance.sop_class_uid or header.text(0x00080016) or ""
        kind = records.record_type(sop_class)
        keys = records.KEYS[kind]
        if self._extended and kind == "IMAGE":
            keys = (*keys, *records.INSTANCE_EXTENDED)
        reference: Elements = [
            (0x00041500, "CS", f"IMAGES\\IM{file.number}"),
            (0x00041510, "UI", sop_class),
            (0x00041511, "UI", file.sop_instance_uid or header.text(0x00080018) or ""),
            (0x00041512, "UI", file.transfer_syntax or header.transfer_syntax),
        ]
        self._record(_INSTANCE, kind, reference + records.values(header, keys), sets)

    def _record(self, level: int, name: str, elements: Elements, sets: tuple[str, ...]) -> None:
        start = len(self._records)
        head: Elements = [
            (0x00041400, "UL", "0"),
            (0x00041410, "US", _IN_USE),
            (0x00041420, "UL", "0"),
            (0x00041430, "CS", name),
        ]
        data = encode_dataset(head + elements, explicit=True, character_sets=sets)
        self._records += _ITEM.pack(0xFFFE, 0xE000, len(data)) + data
        before = self._last[level]
        if before is not None:
            _OFFSET.pack_into(self._records, before + _NEXT, self._place + start)
        elif level > _PATIENT:
            above = self._last[level - 1]
            assert above is not None
            _OFFSET.pack_into(self._records, above + _BELOW, self._place + start)
        self._last[level:] = [start] + [None] * (_INSTANCE - level)

    def finish(self) -> bytes:
        """The file."""
        last = self._last[_PATIENT]
        first = 0 if last is None else self._place
        return _head(bytes(self._records), first, 0 if last is None else self._place + last)


def _head(sequence: bytes, first: int = 0, last: int = 0) -> bytes:
    """The file with these records, which come last."""
    # The same content has the same name: an archive that is asked for again has the same bytes.
    digest = hashlib.md5(sequence, usedforsecurity=False).hexdigest()
    meta = encode_dataset(
        [
            (0x00020002, "UI", _DIRECTORY_CLASS),
            (0x00020003, "UI", f"2.25.{int(digest, 16):039d}".replace("2.25.0", "2.25.1")),
            (0x00020010, "UI", EXPLICIT_LITTLE_ENDIAN),
            (0x00020012, "UI", IMPLEMENTATION_CLASS_UID),
            (0x00020013, "SH", IMPLEMENTATION_VERSION_NAME),
        ],
        explicit=True,
    )
    version = struct.pack("<HH2sHI2s", 2, 1, b"OB", 0, 2, b"\0\1")
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(version) + len(meta))
    dataset = encode_dataset(
        [
            (0x00041130, "CS", FILE_SET_ID),
            (0x00041200, "UL", str(first)),
            (0x00041202, "UL", str(last)),
            (0x00041212, "US", "0"),
        ],
        explicit=True,
    )
    items = struct.pack("<HH2sHI", 4, 0x1220, b"SQ", 0, len(sequence)) + sequence
    return b"\0" * 128 + b"DICM" + length + version + meta + dataset + items
