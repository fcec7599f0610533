"""Raw access to the elements of a file (route ``/instances/{id}/content``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from orthanctw.dicom.dictionary import STANDARD, Dictionary
from orthanctw.dicom.elements import (
    DEFLATED_LITTLE_ENDIAN,
    ITEM,
    ITEM_END,
    NUMBER_SIZES,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    Buffer,
    Encoding,
    Head,
    read_head,
)
from orthanctw.dicom.frames import read_fragments
from orthanctw.dicom.scanner import DEPTH_LIMIT, ELEMENT_LIMIT, encoding_of, inflate, meta_end
from orthanctw.errors import BadFileFormat, EmptyAnswer


@attrs.frozen
class Children:
    """What can follow a path: tags as ``gggg-eeee``, indexes of items or of blocks of pixel data."""

    names: tuple[str, ...]


@attrs.frozen
class ByteRange:
    """A value: so many bytes from an offset of the file. In a big endian file `swap` is the bytes of its numbers."""

    offset: int
    length: int
    swap: int = 1

    def little_endian(self, raw: bytes) -> bytes:
        """The bytes of the range as they are shown."""
        if self.swap == 1 or len(raw) % self.swap:
            return raw
        result = bytearray(len(raw))
        for place in range(self.swap):
            result[place :: self.swap] = raw[self.swap - 1 - place :: self.swap]
        return bytes(result)


@attrs.frozen
class InlineValue:
    """A value that does not lie in the file as it is: that of a deflated data set."""

    value: bytes


Content = Children | ByteRange | InlineValue


def resolve(
    data: Buffer, transfer_syntax: str, path: Sequence[str], *, dictionary: Dictionary = STANDARD
) -> Content:
    """What lies at a path of tags (``gggg-eeee``, ``gggg,eeee`` or keyword) and indexes.

    Parameters
    ----------
    data : bytes, memoryview or mmap
        The whole file.
    transfer_syntax : str
        As the scan of the file tells.
    path : sequence of str
        Without empty parts; empty for the data set itself.

    Raises EmptyAnswer with 404 when nothing is there, UnknownDicomTag for an unknown keyword, BadFileFormat.
    """
    start = meta_end(data)
    inflated = transfer_syntax == DEFLATED_LITTLE_ENDIAN
    if inflated:
        data, start = inflate(data, start), 0
    walk = _Walk(data, dictionary)
    found = walk.dataset(path, start, len(data), encoding_of(transfer_syntax), 0)
    if inflated and isinstance(found, ByteRange):
        return InlineValue(bytes(data[found.offset : found.offset + found.length]))
    return found


class _Walk:
    """Walks along one path; what is beside it is passed over."""

    def __init__(self, data: Buffer, dictionary: Dictionary) -> None:
        self.data = data
        self.dictionary = dictionary
        self.budget = ELEMENT_LIMIT

    def dataset(
        self, path: Sequence[str], position: int, end: int, encoding: Encoding, depth: int
    ) -> Content:
        heads = self._heads(position, end, encoding, depth)
        if not path:
            tags = sorted({head.tag for head, _ in heads})
            return Children(tuple(f"{tag >> 16:04x}-{tag & 0xFFFF:04x}" for tag in tags))
        tag = self.dictionary.parse(path[0])
        for head, stop in heads:
            if head.tag == tag:
                return self._element(path[1:], head, stop, end, encoding, depth)
        raise EmptyAnswer(404)

    def _element(
        self, path: Sequence[str], head: Head, stop: int, end: int, encoding: Encoding, depth: int
    ) -> Content:
        if head.tag == PIXEL_DATA and depth == 0:
            return _block(self._blocks(head, end, encoding), path, _swap(head, encoding))
        if not self._is_sequence(head, encoding):
            if path:
                raise EmptyAnswer(404)
            return ByteRange(head.offset, stop - head.offset, _swap(head, encoding))
        inner = _inner(head, encoding)
        items, _ = self._items(head, end, inner, depth + 1)
        if not path:
            return Children(tuple(map(str, range(len(items)))))
        position, item_end = items[_index(path[0], len(items))]
        return self.dataset(path[1:], position, item_end, inner, depth + 1)

    def _blocks(self, head: Head, end: int, encoding: Encoding) -> list[tuple[int, int]]:
        if head.length != UNDEFINED:
            return [(head.offset, head.length)]
        lengths, _ = read_fragments(self.data, head.offset, end, encoding.order, self.budget)
        result, position = [], head.offset + 8
        for length in lengths:
            result.append((position, length))
            position += length + 8
        return result

    def _is_sequence(self, head: Head, encoding: Encoding) -> bool:
        if head.length == UNDEFINED:
            return head.vr not in ("OB", "OW")
        return (head.vr or self.dictionary.vr(head.tag)) == "SQ"

    def _heads(
        self, position: int, end: int, encoding: Encoding, depth: int
    ) -> Iterator[tuple[Head, int]]:
        """The elements of a data set or item, with where each ends."""
        while position < end:
            self._spend()
            head = read_head(self.data, position, encoding)
            if head.tag == ITEM_END:
                return
            position = self._end(head, end, encoding, depth)
            yield head, position

    def _spend(self) -> None:
        self.budget -= 1
        if self.budget < 0:
            raise BadFileFormat("too many elements")

    def _end(self, head: Head, end: int, encoding: Encoding, depth: int) -> int:
        if head.length == UNDEFINED:
            if head.vr in ("OB", "OW") or head.tag == PIXEL_DATA:
                return read_fragments(self.data, head.offset, end, encoding.order, self.budget)[1]
            return self._items(head, end, _inner(head, encoding), depth + 1)[1]
        stop = head.offset + head.length
        if stop > end:
            raise BadFileFormat("an element passes the end")
        return stop

    def _items(
        self, head: Head, end: int, inner: Encoding, depth: int
    ) -> tuple[list[tuple[int, int]], int]:
        """Start and end of each item; and where the sequence ends."""
        if depth > DEPTH_LIMIT:
            raise BadFileFormat("sequences are nested too deeply")
        position = head.offset
        stop = end if head.length == UNDEFINED else position + head.length
        items: list[tuple[int, int]] = []
        while position < min(stop, end):
            self._spend()
            item = read_head(self.data, position, Encoding(False, inner.order))
            position = item.offset
            if item.tag == SEQUENCE_END:
                break
            if item.tag != ITEM:
                raise BadFileFormat("a sequence holds something else than items")
            if item.length == UNDEFINED:
                item_end = self._item_end(position, end, inner, depth)
                items.append((position, item_end))
                position = item_end + 8
            else:
                items.append((position, min(position + item.length, end)))
                position += item.length
        return items, position

    def _item_end(self, position: int, end: int, inner: Encoding, depth: int) -> int:
        """Where the delimiter of an item of undefined length lies."""
        for _, stop in self._heads(position, end, inner, depth):
            position = stop
        return position


def _inner(head: Head, encoding: Encoding) -> Encoding:
    """Items of a UN of undefined length have implicit VRs (PS3.5 section 6.2.2)."""
    return Encoding(False) if encoding.explicit and head.vr != "SQ" else encoding


def _index(text: str, count: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < count):
        raise EmptyAnswer(404)
    return int(text)


def _swap(head: Head, encoding: Encoding) -> int:
    """Bytes that change places; fragments of encapsulated data stay as they are."""
    return 1 if encoding.order == "<" or head.length == UNDEFINED else NUMBER_SIZES.get(head.vr, 1)


def _block(blocks: list[tuple[int, int]], path: Sequence[str], swap: int) -> Content:
    if not path:
        return Children(tuple(map(str, range(len(blocks)))))
    if len(path) > 1:
        raise EmptyAnswer(404)
    return ByteRange(*blocks[_index(path[0], len(blocks))], swap)
