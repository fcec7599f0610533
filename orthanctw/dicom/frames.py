"""Where the frames of pixel data lie (PS3.5 section 8 and annex A.4, PS3.3 section C.7.6.3.1.8)."""

from __future__ import annotations

import itertools
import struct
from functools import cached_property
from typing import Any, Final

import attrs

from orthanctw.dicom.elements import ITEM, SEQUENCE_END, Buffer, Elements
from orthanctw.dicom.pixels.model import SUBSAMPLED
from orthanctw.errors import BadFileFormat

#: SamplesPerPixel, PhotometricInterpretation, NumberOfFrames, Rows, Columns, BitsAllocated.
_FACTS: Final = frozenset({0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280100})
_JPEG_END: Final = b"\xff\xd9"
#: How far before the end of a fragment the end marker of a JPEG stream is looked for: padding may follow it.
_JPEG_TAIL: Final = 10


@attrs.frozen(slots=False)
class PixelFacts:
    """Pixel data of the top level of a data set.

    Parameters
    ----------
    start : int
        Offset of the element, its tag (metadata ``PixelDataOffset``).
    vr : str
        ``OB``, ``OW`` or ``UN``.
    offset, length : int
        The value; of encapsulated pixel data everything from the offset table to the delimiter.
    frames : int
        NumberOfFrames, at least 1; 1 of a video.
    frame_bits : int
        Bits of a frame when it is not encapsulated; 0 when the header does not tell.
    lengths : list of int, or None
        Encapsulated: length of the basic offset table, then of each fragment. Fragments follow each other with 8
        bytes between them.
    starts : list of int, or None
        Index of the first fragment of each frame; None when each frame is one fragment, or all are one frame.
    """

    start: int
    vr: str
    offset: int
    length: int
    frames: int
    frame_bits: int
    lengths: list[int] | None = None
    starts: list[int] | None = None

    @property
    def encapsulated(self) -> bool:
        return self.lengths is not None

    @cached_property
    def _offsets(self) -> list[int]:
        lengths = self.lengths or []
        return list(itertools.accumulate((length + 8 for length in lengths), initial=self.offset + 8))

    def blocks(self) -> list[tuple[int, int]]:
        """Offset and length of the blocks that ``/content`` shows: the offset table and fragments, or all as one."""
        if self.lengths is None:
            return [(self.offset, self.length)]
        return list(zip(self._offsets, self.lengths, strict=False))

    def frame(self, number: int) -> list[tuple[int, int]]:
        """Offsets and lengths of the pieces that make up frame `number`, from 0; empty when there is no such frame.

        Of a native frame whose bits do not fill bytes the covering bytes are given.
        """
        if not 0 <= number < self.frames:
            return []
        if self.lengths is None:
            return self._native_frame(number)
        first, last = self._fragment_range(number)
        return list(zip(self._offsets[first:last], self.lengths[first:last], strict=False))

    def _native_frame(self, number: int) -> list[tuple[int, int]]:
        if not self.frame_bits:
            return [(self.offset, self.length)] if self.frames == 1 else []
        first = number * self.frame_bits // 8
        last = min(((number + 1) * self.frame_bits + 7) // 8, self.length)
        return [(self.offset + first, last - first)] if first < last else []

    def _fragment_range(self, number: int) -> tuple[int, int]:
        count = len(self.lengths or ())
        if self.starts is not None:
            if number >= len(self.starts):
                return 0, 0
            return self.starts[number], self.starts[number + 1] if number + 1 < len(self.starts) else count
        return (1, count) if self.frames == 1 else (number + 1, number + 2)


def read_fragments(data: Buffer, position: int, end: int, order: str, limit: int) -> tuple[list[int], int]:
    """Lengths of the items of encapsulated data that start at `position`, and where it ends.

    Raises BadFileFormat when they pass `end`, the delimiter is missing or there are more than `limit`.
    """
    unpack = struct.Struct(order + "HHI").unpack_from
    lengths: list[int] = []
    while position + 8 <= end:
        group, element, length = unpack(data, position)
        tag = group << 16 | element
        position += 8
        if tag == SEQUENCE_END:
            return lengths, position
        if tag != ITEM or len(lengths) >= limit:
            raise BadFileFormat("encapsulated pixel data holds something else than items, or too many")
        lengths.append(length)
        position += length
    raise BadFileFormat("the file ends within encapsulated pixel data")


def _integer(values: dict[int, Any], tag: int, default: int) -> int:
    text = values.get(tag)
    try:
        return max(0, min(int(text.split("\\")[0]), 0xFFFFFFFF)) if isinstance(text, str) else default
    except ValueError:
        return default


def pixel_facts(
    place: tuple[int, str, int, int],
    fragments: tuple[list[int], int] | None,
    elements: Elements,
    data: Buffer,
    *,
    is_video: bool,
) -> PixelFacts:
    """The facts about pixel data whose element lies at `place` (start, VR, offset of the value, length).

    A video is one frame.
    """
    values = {element[0]: element[2] for element in elements if element[0] in _FACTS}
    frames = 1 if is_video else max(1, _integer(values, 0x00280008, 1))
    if fragments is None:
        bits = _integer(values, 0x00280100, 0) * max(1, _integer(values, 0x00280002, 1))
        bits *= _integer(values, 0x00280010, 0) * _integer(values, 0x00280011, 0)
        # Some writers name it so and subsample nothing.
        if values.get(0x00280004) in SUBSAMPLED and place[3] * 8 < bits * frames:
            bits = bits * 2 // 3
        return PixelFacts(*place, frames, bits)
    lengths, first = fragments
    starts = None
    if frames > 1 and len(lengths) - 1 != frames:
        starts = _frame_starts(lengths, first, frames, elements, data)
    return PixelFacts(*place, frames, 0, lengths, starts)


def _frame_starts(
    lengths: list[int], first: int, frames: int, elements: Elements, data: Buffer
) -> list[int] | None:
    """Index of the first fragment of each frame: by the offset tables, else by the ends of JPEG streams."""
    table = _extended_offsets(elements, frames, data) or _basic_offsets(lengths, first, frames, data)
    if table and len(lengths) > 1:
        # An offset counts from the first byte after the basic offset table.
        begins = itertools.accumulate((length + 8 for length in lengths[1:]), initial=0)
        index_of = {begin: index + 1 for index, begin in enumerate(begins)}
        found = [index_of.get(offset, 0) for offset in table]
        if found[0] == 1 and all(a < b for a, b in itertools.pairwise(found)) and found[-1] < len(lengths):
            return found
    starts, position, begin = [], first + lengths[0] + 8 if lengths else first, True
    for index, length in enumerate(lengths[1:], 1):
        if begin:
            starts.append(index)
        position += length
        begin = _JPEG_END in bytes(data[max(position - length, position - _JPEG_TAIL) : position])
        position += 8
    return starts if len(starts) == frames else list(range(1, len(lengths)))[:frames]


def _basic_offsets(lengths: list[int], first: int, frames: int, data: Buffer) -> tuple[int, ...]:
    return struct.unpack_from(f"<{frames}I", data, first) if lengths and lengths[0] == 4 * frames else ()


def _extended_offsets(elements: Elements, frames: int, data: Buffer) -> tuple[int, ...]:
    for element in elements:
        if element[0] == 0x7FE00001 and len(element) == 4 and element[3] == 8 * frames:
            return struct.unpack_from(f"<{frames}Q", data, element[2])
    return ()
