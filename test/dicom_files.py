"""Builds DICOM byte strings for tests: elements, sequences and files (PS3.5, PS3.10)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
UNDEFINED = 0xFFFFFFFF

_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})


def head(tag: int, vr: str, length: int, explicit: bool = True) -> bytes:
    """Tag, VR and length of an element in little endian."""
    group, element = tag >> 16, tag & 0xFFFF
    if not explicit:
        return struct.pack("<HHI", group, element, length)
    if vr in _LONG:
        return struct.pack("<HH2sHI", group, element, vr.encode(), 0, length)
    return struct.pack("<HH2sH", group, element, vr.encode(), length)


def element(tag: int, vr: str, value: str | bytes, explicit: bool = True) -> bytes:
    """An element, padded to an even length."""
    raw = value.encode("utf-8") if isinstance(value, str) else value
    if len(raw) % 2:
        raw += b"\0" if vr in {"UI", "OB", "UN"} else b" "
    return head(tag, vr, len(raw), explicit) + raw


def item(content: bytes, defined: bool = True) -> bytes:
    """An item of a sequence (PS3.5 section 7.5)."""
    if defined:
        return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    return struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED) + content + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)


def sequence(
    tag: int,
    items: Iterable[bytes],
    explicit: bool = True,
    defined: bool = True,
    vr: str = "SQ",
    items_defined: bool = True,
) -> bytes:
    """A sequence of items, of defined or undefined length."""
    content = b"".join(item(one, items_defined) for one in items)
    if defined:
        return head(tag, vr, len(content), explicit) + content
    return head(tag, vr, UNDEFINED, explicit) + content + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def encapsulated(fragments: Iterable[bytes], offsets: bytes = b"", tag: int = 0x7FE00010) -> bytes:
    """Encapsulated pixel data (PS3.5 annex A.4): the basic offset table, then the fragments."""
    content = item(offsets) + b"".join(item(fragment) for fragment in fragments)
    return head(tag, "OB", UNDEFINED) + content + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def meta(transfer_syntax: str = EXPLICIT, sop_class: str = "1.2.840.10008.5.1.4.1.1.7", sop: str = "1.2.3.4") -> bytes:
    """Preamble, prefix and file meta information (PS3.10 section 7.1)."""
    group = (
        element(0x00020001, "OB", b"\0\1")
        + element(0x00020002, "UI", sop_class)
        + element(0x00020003, "UI", sop)
        + element(0x00020010, "UI", transfer_syntax)
        + element(0x00020012, "UI", "1.2.3")
    )
    return b"\0" * 128 + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(group))) + group


def identifiers(explicit: bool = True, patient: str = "ID", charset: str | None = None) -> bytes:
    """The elements that every stored object has, in groups 0008 to 0010 (add the UIDs of group 0020 after them)."""
    return (
        (element(0x00080005, "CS", charset, explicit) if charset is not None else b"")
        + element(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.7", explicit)
        + element(0x00080018, "UI", "1.2.3.4", explicit)
        + element(0x00100020, "LO", patient, explicit)
    )


def uids(explicit: bool = True) -> bytes:
    """StudyInstanceUID and SeriesInstanceUID."""
    return element(0x0020000D, "UI", "1.2.3.1", explicit) + element(0x0020000E, "UI", "1.2.3.2", explicit)


def dicom_file(
    *parts: bytes, transfer_syntax: str = EXPLICIT, patient: str = "ID", charset: str | None = None
) -> bytes:
    """A whole file that can be stored; `parts` follow group 0020."""
    explicit = transfer_syntax != IMPLICIT
    return meta(transfer_syntax) + identifiers(explicit, patient, charset) + uids(explicit) + b"".join(parts)
