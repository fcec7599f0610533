"""Reads the elements of one data set (PS3.5 section 7): the loop that every received object goes through."""

from __future__ import annotations

import struct
from typing import Any, Final

from orthanctw.dicom.charset import Decoder, decoder
from orthanctw.dicom.dictionary import Dictionary, creator_tag, reserves
from orthanctw.dicom.elements import (
    ITEM,
    ITEM_END,
    LONG_VRS,
    NUMBER_FORMATS,
    NUMBERS,
    PIXEL_DATA,
    SEQUENCE_END,
    SPECIFIC_CHARACTER_SET,
    TEXT_VRS,
    UNDEFINED,
    VR_NAMES,
    Buffer,
    Elements,
    Encoding,
    number_text,
    strip_text,
)
from orthanctw.dicom.frames import read_fragments
from orthanctw.errors import BadFileFormat

#: Text up to this many bytes is kept in the header; longer text stays in the file.
TEXT_LIMIT: Final = 65536
#: The same for numbers of binary VRs.
NUMBER_LIMIT: Final = 4096
_WINDOW: Final = 16384
#: Unpack the head of an element with explicit VR, and one with implicit VR, by byte order.
_EXPLICIT_HEAD: Final = {order: struct.Struct(order + "HH2sH").unpack_from for order in "<>"}
_IMPLICIT_HEAD: Final = {order: struct.Struct(order + "HHI").unpack_from for order in "<>"}
#: A single number by VR: name, size, how it is unpacked and shown.
_SINGLES: Final[dict[str, dict[bytes, tuple[str, int, Any, Any]]]] = {
    order: {
        vr.encode(): (vr, size, struct.Struct(order + code).unpack_from, NUMBER_FORMATS.get(code, str))
        for vr, (code, size) in NUMBERS.items()
        if vr not in LONG_VRS
    }
    for order in "<>"
}
_PADDING: Final = 0xFFFCFFFC
_SHORT_TEXT: Final = {vr.encode(): vr for vr in TEXT_VRS - LONG_VRS - {"UI"}}
_NUMERIC: Final = frozenset({*NUMBERS, "AT"})


class DatasetReader:
    """Reads the elements of one data set. Not shared, not used twice."""

    def __init__(
        self,
        data: Buffer,
        default_encoding: str,
        dictionary: Dictionary,
        depth_limit: int,
        element_limit: int,
    ) -> None:
        self.data = data
        self.order = "<"
        self.explicit = True
        self.default_encoding = default_encoding
        self.dictionary = dictionary
        self.depth_limit = depth_limit
        self.budget = element_limit
        self.charset: str | None = None
        self.decode: Decoder
        self.decode, self.escapes = decoder(None, default_encoding)
        self.pixels: tuple[int, str, int, int] | None = None
        self.fragments: tuple[list[int], int] | None = None
        # Latin-1 maps each byte to one character: slices of this text are values, and offsets stay the same.
        self.window = str(data[:_WINDOW], "latin-1")

    def dataset(self, position: int, end: int, encoding: Encoding) -> Elements:
        """The elements from `position` to `end`, sorted by tag."""
        self.explicit, self.order = encoding.explicit, encoding.order
        read = self._read_explicit if self.explicit else self._read_implicit
        try:
            return read(position, end, 0, False)[0]
        except struct.error:
            raise BadFileFormat("the file ends within an element") from None

    def _slice(self, position: int, end: int) -> str:
        """Bytes as Latin-1 text."""
        if end <= len(self.window):
            return self.window[position:end]
        return str(self.data[position:end], "latin-1")

    def _read_explicit(self, position: int, end: int, depth: int, delimited: bool) -> tuple[Elements, int]:
        data, window, short_text, unpack = self.data, self.window, _SHORT_TEXT, _EXPLICIT_HEAD[self.order]
        window_end = min(len(window), end)
        decode, escapes = self.decode, self.escapes
        elements: Elements = []
        append = elements.append
        previous, sort, unknown = -1, False, False
        for _ in range(self.budget):
            if position >= end:
                break
            group, element, vr_bytes, length = unpack(data, position)
            tag = group << 16 | element
            if tag <= previous:
                sort = True
            previous = tag
            position += 8
            vr = short_text.get(vr_bytes)
            if vr is None:
                if group == 0xFFFE:
                    delimited = self._delimiter(tag, depth, delimited)
                    break
                value, position = self._other(tag, vr_bytes, length, position, end, depth)
                if value is not None:
                    append(value)
                    unknown = unknown or value[1] == "UN"
                continue
            stop = position + length
            if stop <= window_end:
                text = window[position:stop].rstrip(" ")
            elif stop <= end:
                text = str(data[position:stop], "latin-1").rstrip(" ")
            else:
                raise BadFileFormat("an element passes the end")
            position = stop
            if "\0" in text:
                text = text[: text.index("\0")]
            if tag == SPECIFIC_CHARACTER_SET:
                self._set_charset(text, depth)
                decode, escapes = self.decode, self.escapes
            if not text.isascii() or (escapes and "\x1b" in text):
                text = decode(text.encode("latin-1"), vr)
            append((tag, vr, text))
        else:
            raise BadFileFormat("too many elements")
        elements = self._finished(elements, sort, delimited)
        if unknown:
            self._resolve_unknown(elements)
        return elements, position

    def _delimiter(self, tag: int, depth: int, delimited: bool) -> bool:
        """An item delimiter ends an item of undefined length, and as in DCMTK the data set; else it is an error."""
        if tag != ITEM_END or not (delimited or depth == 0):
            raise BadFileFormat("a stray item or delimiter")
        return False

    def _finished(self, elements: Elements, sort: bool, delimited: bool) -> Elements:
        if delimited:
            raise BadFileFormat("the file ends within an item")
        self.budget -= len(elements)
        if not sort:
            return elements
        first: dict[int, Any] = {}
        for element in elements:
            # Of elements with the same tag the first one stays.
            first.setdefault(element[0], element)
        return [first[tag] for tag in sorted(first)]

    def _read_implicit(self, position: int, end: int, depth: int, delimited: bool) -> tuple[Elements, int]:
        data, vrs = self.data, self.dictionary.vrs
        unpack = _IMPLICIT_HEAD[self.order]
        elements: Elements = []
        creators: dict[int, str] = {}
        previous, sort = -1, False
        for _ in range(self.budget):
            if position >= end:
                break
            group, element, length = unpack(data, position)
            tag = group << 16 | element
            if tag <= previous:
                sort = True
            previous = tag
            position += 8
            if group == 0xFFFE:
                delimited = self._delimiter(tag, depth, delimited)
                break
            vr = vrs.get(tag)
            if vr is None:
                vr = self.dictionary.vr(tag, creators.get(creator_tag(tag)))
            value, position = self._value(tag, vr, length, position, end, depth)
            if value is not None:
                elements.append(value)
                if reserves(tag) and isinstance(value[2], str):
                    creators[tag] = value[2]
        else:
            raise BadFileFormat("too many elements")
        return self._finished(elements, sort, delimited), position

    def _set_charset(self, text: str, depth: int) -> None:
        if depth == 0:
            self.charset = text
        self.decode, self.escapes = decoder(text, self.default_encoding)

    def _other(self, tag: int, raw: bytes, length: int, position: int, end: int, depth: int) -> tuple[Any, int]:
        """An element of explicit VR other than short text; `length` is its 16-bit length field."""
        single = _SINGLES[self.order].get(raw)
        stop = position + length
        if single is not None and single[1] == length and stop <= end:
            return (tag, single[0], single[3](single[2](self.data, position)[0])), stop
        vr = VR_NAMES.get(raw)
        if vr is None:
            # As DCMTK: unknown VRs have a long head when they look like a VR.
            vr, known = "UN", raw.isalpha() and raw.isupper()
        else:
            known = vr in LONG_VRS
        if known:
            (length,) = struct.unpack_from(self.order + "I", self.data, position)
            position += 4
        return self._value(tag, vr, length, position, end, depth)

    def _value(self, tag: int, vr: str, length: int, position: int, end: int, depth: int) -> tuple[Any, int]:
        """The element whose value starts at `position`, and where the next one starts; None for padding."""
        if vr == "SQ" or length == UNDEFINED:
            if vr in ("OB", "OW") or tag == PIXEL_DATA:
                return self._encapsulated(tag, vr, position, end, depth)
            items, stop = self._sequence(position, length, end, depth + 1, vr != "SQ")
            return (tag, "SQ", items), stop
        stop = position + length
        if stop > end:
            raise BadFileFormat("an element passes the end")
        if vr in TEXT_VRS:
            if length > TEXT_LIMIT:
                return (tag, vr, position, length), stop
            return (tag, vr, self._text(tag, vr, self._slice(position, stop), depth)), stop
        if vr in _NUMERIC and length <= NUMBER_LIMIT and (vr != "OF" or tag >> 16 != PIXEL_DATA >> 16):
            return (tag, vr, number_text(vr, bytes(self.data[position:stop]), self.order)), stop
        if tag == PIXEL_DATA and depth == 0:
            start = position - (12 if self.explicit and vr in LONG_VRS else 8)
            self.pixels = self.pixels or (start, vr, position, length)
        return (None if tag == _PADDING else (tag, vr, position, length)), stop

    def _text(self, tag: int, vr: str, text: str, depth: int) -> str:
        text = strip_text(vr, text)
        if tag == SPECIFIC_CHARACTER_SET:
            self._set_charset(text, depth)
        if not text.isascii() or (self.escapes and "\x1b" in text):
            return self.decode(text.encode("latin-1"), vr)
        return text

    def _encapsulated(self, tag: int, vr: str, position: int, end: int, depth: int) -> tuple[Any, int]:
        lengths, stop = read_fragments(self.data, position, end, self.order, self.budget)
        self.budget -= len(lengths)
        if tag == PIXEL_DATA and depth == 0 and self.pixels is None:
            self.pixels = (position - (12 if self.explicit else 8), vr, position, stop - position)
            self.fragments = (lengths, position + 8)
        return (tag, vr, position, stop - position), stop

    def _sequence(
        self, position: int, length: int, limit: int, depth: int, implicit: bool
    ) -> tuple[list[Elements], int]:
        """The items of a sequence (PS3.5 section 7.5); those of an undefined UN have implicit VRs (section 6.2.2)."""
        if depth > self.depth_limit:
            raise BadFileFormat("sequences are nested too deeply")
        outer = self.explicit, self.decode, self.escapes, self.order
        if implicit:
            self.explicit, self.order = False, "<"
        unpack = _IMPLICIT_HEAD[self.order]
        stop = limit if length == UNDEFINED else position + length
        if stop > limit:
            raise BadFileFormat("a sequence passes the end")
        read = self._read_explicit if self.explicit else self._read_implicit
        items: list[Elements] = []
        ended = length != UNDEFINED
        while position < stop:
            group, element, size = unpack(self.data, position)
            tag, position = group << 16 | element, position + 8
            if tag == SEQUENCE_END:
                ended = True
                break
            if tag != ITEM:
                raise BadFileFormat("a sequence holds something else than items")
            end = limit if size == UNDEFINED else position + size
            if end > limit or self.budget <= 0:
                raise BadFileFormat("an item passes the end, or too many items")
            self.budget -= 1
            elements, position = read(position, end, depth, size == UNDEFINED)
            items.append(elements)
            self.decode, self.escapes = outer[1], outer[2]
        if not ended:
            raise BadFileFormat("the file ends within a sequence")
        self.explicit, self.order = outer[0], outer[3]
        return items, position

    def _resolve_unknown(self, elements: Elements) -> None:
        """Values of VR UN whose tag is known to be text become text (PS3.5 section 6.2.2)."""
        creators = {e[0]: e[2] for e in elements if reserves(e[0]) and e[2].__class__ is str}
        for index, element in enumerate(elements):
            if element[1] != "UN" or len(element) != 4:
                continue
            tag, _, position, length = element
            vr = self.dictionary.vr(tag, creators.get(creator_tag(tag)))
            if vr in TEXT_VRS and length <= TEXT_LIMIT:
                text = self._text(0, vr, self._slice(position, position + length), 1)
                elements[index] = (tag, vr, text)
