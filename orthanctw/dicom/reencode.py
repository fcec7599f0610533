"""Data sets in another native encoding: VRs explicit or not, another order of bytes (PS3.5 section 7, annex A).

Values are not interpreted, so that what is invalid in an object stays as it is, and text keeps its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from orthanctw.dicom.dictionary import MAY_BE_SIGNED, STANDARD, Dictionary, creator_tag, is_private, reserves
from orthanctw.dicom.elements import (
    ITEM,
    ITEM_END,
    NUMBER_SIZES,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    VR_NAMES,
    Buffer,
    Encoding,
    Head,
    encoded_head,
    read_head,
)
from orthanctw.errors import BadFileFormat

#: Deeper ones are not stored.
_DEPTH: Final = 64
_BITS_ALLOCATED: Final = 0x00280100
_PIXEL_REPRESENTATION: Final = 0x00280103
_KNOWN_VRS: Final = frozenset(VR_NAMES.values())


#: Elements of the top level to put in the places of those that are there: VR and value as in the target, or None for
#: those to leave out.
Changes = Mapping[int, tuple[str, bytes] | None]


def reencode(
    data: Buffer,
    position: int,
    end: int,
    source: Encoding,
    target: Encoding,
    dictionary: Dictionary = STANDARD,
    changes: Changes | None = None,
) -> bytes:
    """The data set that lies between two positions, anew; group lengths are left out.

    Raises BadFileFormat when it cannot be read.
    """
    try:
        dataset = _Dataset(data, source, target, dictionary)
        if changes is None:
            parts, _ = dataset.elements(position, end, 0, False)
        else:
            parts, _ = dataset.changed(position, end, changes)
    except struct.error:
        raise BadFileFormat("the data set ends within an element") from None
    return b"".join(parts)


class _Dataset:
    """One data set, or one item; what it knows of itself decides on VRs and on the size of its pixels."""

    def __init__(
        self,
        data: Buffer,
        source: Encoding,
        target: Encoding,
        dictionary: Dictionary,
        outer: _Dataset | None = None,
    ) -> None:
        self._data = memoryview(data)
        self._source = source
        self._target = target
        self._dictionary = dictionary
        self._creators: dict[int, str] = {}
        self._bits: int = 0 if outer is None else outer._bits
        self._is_signed: bool = outer is not None and outer._is_signed

    def elements(self, position: int, end: int, depth: int, delimited: bool) -> tuple[list[bytes | memoryview], int]:
        """The encoded elements, and where what follows them begins; until a delimiter if they are `delimited`."""
        if depth > _DEPTH:
            raise BadFileFormat("sequences are nested too deeply")
        parts: list[bytes | memoryview] = []
        while position < end:
            head = read_head(self._data, position, self._source)
            # With a length, the scanner may have read on.
            if head.tag == ITEM_END and not head.length and (delimited or depth == 0):
                return parts, head.offset
            if head.tag >> 16 == ITEM >> 16:
                raise BadFileFormat("a stray item or delimiter")
            position = self._element(head, end, depth, parts)
        if delimited:
            raise BadFileFormat("the data set ends within an item")
        return parts, position

    def changed(self, position: int, end: int, changes: Changes) -> tuple[list[bytes | memoryview], int]:
        """As `elements`, of the top level, with changes."""
        parts: list[bytes | memoryview] = []
        new = [(tag, *change) for tag, change in sorted(changes.items(), reverse=True) if change is not None]
        while position < end:
            head = read_head(self._data, position, self._source)
            if head.tag == ITEM_END and not head.length:
                break
            if head.tag >> 16 == ITEM >> 16:
                raise BadFileFormat("a stray item or delimiter")
            while new and new[-1][0] <= head.tag:
                parts += self._new(*new.pop())
            position = self._element(head, end, 0, [] if head.tag in changes else parts)
        while new:
            parts += self._new(*new.pop())
        return parts, position

    def _new(self, tag: int, vr: str, value: bytes) -> tuple[bytes, bytes]:
        return self._head(tag, vr, len(value)), value

    def _element(self, head: Head, end: int, depth: int, parts: list[bytes | memoryview]) -> int:
        vr = self._vr(head)
        if vr == "SQ" or head.length == UNDEFINED:
            if vr in ("OB", "OW"):
                raise BadFileFormat("pixel data is encapsulated")
            content, position = self._sequence(head, end, depth, is_unknown=vr != "SQ")
            length = UNDEFINED if head.length == UNDEFINED else sum(map(len, content))
            parts += (self._head(head.tag, "SQ", length), *content)
            return position
        position = head.offset + head.length
        if position > end:
            raise BadFileFormat("an element passes the end")
        value: bytes | memoryview = self._data[head.offset : position]
        self._learn(head.tag, value)
        if head.tag & 0xFFFF:
            if self._source.order != self._target.order:
                value = self._swapped(head.tag, vr, value)
            parts += (self._head(head.tag, vr, len(value)), value)
        return position

    def _vr(self, head: Head) -> str:
        if self._source.explicit:
            return head.vr if head.vr in _KNOWN_VRS else "UN"
        creator = self._creators.get(creator_tag(head.tag)) if is_private(head.tag) else None
        vr = self._dictionary.vr(head.tag, creator)
        if vr == "US" and self._is_signed and head.tag in MAY_BE_SIGNED:
            return "SS"
        return vr

    def _learn(self, tag: int, value: bytes | memoryview) -> None:
        if reserves(tag):
            self._creators[tag] = bytes(value).decode("latin-1").strip(" \0")
        elif tag in (_BITS_ALLOCATED, _PIXEL_REPRESENTATION) and len(value) == 2:
            (number,) = struct.unpack(self._source.order + "H", value)
            if tag == _BITS_ALLOCATED:
                self._bits = number
            else:
                self._is_signed = number == 1

    def _swapped(self, tag: int, vr: str, value: bytes | memoryview) -> bytes | memoryview:
        size = NUMBER_SIZES.get(vr, 1)
        if tag == PIXEL_DATA and vr == "OW" and self._bits in (32, 64):
            # As everybody reads it: whole pixels, not the 16-bit words that the VR speaks of.
            size = self._bits // 8
        if size == 1 or len(value) % size:
            return value
        result = bytearray(value)
        for offset in range(size):
            result[offset::size] = value[size - 1 - offset :: size]
        return bytes(result)

    def _head(self, tag: int, vr: str, length: int) -> bytes:
        return encoded_head(tag, vr, length, self._target)

    def _sequence(
        self, head: Head, limit: int, depth: int, *, is_unknown: bool
    ) -> tuple[Sequence[bytes | memoryview], int]:
        """The items of a sequence; those of an undefined UN are implicit little endian (PS3.5 section 6.2.2)."""
        source = Encoding(False) if is_unknown else self._source
        position = head.offset
        end = limit if head.length == UNDEFINED else position + head.length
        if end > limit:
            raise BadFileFormat("a sequence passes the end")
        order = self._target.order
        parts: list[bytes | memoryview] = []
        while position < end:
            item = read_head(self._data, position, source)
            position = item.offset
            if item.tag == SEQUENCE_END and head.length == UNDEFINED:
                parts.append(struct.pack(f"{order}HHI", SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0))
                return parts, position
            if item.tag != ITEM:
                raise BadFileFormat("a sequence holds something else than items")
            delimited = item.length == UNDEFINED
            stop = end if delimited else position + item.length
            if stop > end:
                raise BadFileFormat("an item passes the end")
            inner = _Dataset(self._data, source, self._target, self._dictionary, self)
            content, position = inner.elements(position, stop, depth + 1, delimited)
            length = UNDEFINED if delimited else sum(map(len, content))
            parts += (struct.pack(f"{order}HHI", ITEM >> 16, ITEM & 0xFFFF, length), *content)
            if delimited:
                parts.append(struct.pack(f"{order}HHI", ITEM_END >> 16, ITEM_END & 0xFFFF, 0))
        if head.length == UNDEFINED:
            raise BadFileFormat("the data set ends within a sequence")
        return parts, position
