"""The head of DICOM files that we make (PS3.10 section 7.1)."""

from __future__ import annotations

import struct
from typing import Final

from orthanctw.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_PREAMBLE: Final = bytes(128) + b"DICM"


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr == b"OB":
        return head + struct.pack("<HI", 0, len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def file_head(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Preamble and file meta information of a data set (PS3.10 section 7.1)."""
    meta = b"".join(
        (
            _element(0x00020001, b"OB", b"\0\1"),
            _element(0x00020002, b"UI", sop_class.encode("ascii")),
            _element(0x00020003, b"UI", sop_instance.encode("ascii")),
            _element(0x00020010, b"UI", transfer_syntax.encode("ascii")),
            _element(0x00020012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
            _element(0x00020013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
        )
    )
    return _PREAMBLE + _element(0x00020000, b"UL", struct.pack("<I", len(meta))) + meta
