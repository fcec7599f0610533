"""Whole objects as JSON (PS3.18 annex F) and XML (PS3.19 annex A.1), piece by piece, with their binary values."""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

import orjson

from orthanctw.dicom.charset import Decoder, decoder
from orthanctw.dicom.content import ByteRange
from orthanctw.dicom.dictionary import UNKNOWN_NAME, Dictionary
from orthanctw.dicom.elements import (
    NUMBER_SIZES,
    NUMBERS,
    PIXEL_DATA,
    Element,
    Elements,
    is_encapsulated,
    number_text,
    strip_text,
)
from orthanctw.dicom.header import Header
from orthanctw.dicom.jsonforms import RangeReader

JSON: Final = "application/dicom+json"
XML: Final = "application/dicom+xml"
#: Bytes of a binary value that are encoded at once: whole numbers, and no padding of Base64 between two pieces.
_CHUNK: Final = 24 * 16384
#: Bytes that come out at a time, at least.
_BLOCK: Final = 256 * 1024
#: VRs with one value, in which a backslash is a character (PS3.5 section 6.2).
_SINGLE: Final = frozenset({"LT", "ST", "UR", "UT"})
_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_DECIMAL: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?\d{1,18}\Z", re.ASCII)
_FRAGMENT: Final = b"\xfe\xff\x00\xe0"
_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_NAME_PARTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
#: Characters that XML 1.0 cannot hold (section 2.2).
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Values:
    """The values of an object: those of its header, and those that the header leaves in the file."""

    def __init__(self, header: Header, read: RangeReader, default_encoding: str) -> None:
        self._header = header
        self._read = read
        self._decode: Decoder = decoder(header.charset, default_encoding)[0]

    def shown(self, elements: Elements) -> Iterator[Element]:
        """Elements without group lengths, which may not be there, and compressed pixels, which nothing can hold."""
        compressed = is_encapsulated(self._header.transfer_syntax)
        for element in elements:
            if compressed and element[0] == PIXEL_DATA and len(element) == 4:
                if self._read(element[2], 4) in (_FRAGMENT, b""):
                    continue
            elif element[0] & 0xFFFF == 0:
                continue
            yield element

    def texts(self, element: Element) -> list[str]:
        """The values of text or numbers; none when the element is empty."""
        vr, value = element[1], element[2]
        if len(element) == 4:
            value = self._from_file(vr, self._read(value, element[3]))
        if not value:
            return []
        if vr in _SINGLE:
            return [value]
        return [item.strip(" ") for item in value.split("\\")]

    def _from_file(self, vr: str, raw: bytes) -> str | None:
        if vr in NUMBERS or vr == "AT":
            return number_text(vr, raw, self._header.order)
        return self._decode(strip_text(vr, raw.decode("latin-1")).encode("latin-1"), vr)

    def base64(self, element: Element) -> Iterator[bytes]:
        """A binary value, little endian; nothing when it is empty."""
        vr, value = element[1], element[2]
        if len(element) == 3:
            if value:
                # Of these VRs only OF is kept as numbers.
                floats = [float(item) for item in value.split("\\")]
                yield base64.b64encode(struct.pack(f"<{len(floats)}f", *floats))
            return
        swap = NUMBER_SIZES.get(vr, 1) if self._header.order == ">" else 1
        for start in range(0, element[3], _CHUNK):
            raw = self._read(value + start, min(_CHUNK, element[3] - start))
            yield base64.b64encode(ByteRange(0, len(raw), swap).little_endian(raw))


def blocks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces."""
    parts: list[bytes] = []
    size = 0
    for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


# JSON


def json_pieces(header: Header, read: RangeReader, dictionary: Dictionary, default_encoding: str) -> Iterator[bytes]:
    """An object in the DICOM JSON Model. Binary values are within it, compressed pixels are left out."""
    yield from _json_dataset(header.elements, _Values(header, read, default_encoding), b"\n")
    yield b"\n"


def _json_dataset(elements: Elements, values: _Values, between: bytes) -> Iterator[bytes]:
    separator = b"{" + between
    for element in values.shown(elements):
        yield separator
        yield from _json_element(element, values)
        separator = b"," + between
    yield (b"{" if separator.startswith(b"{") else between) + b"}"


def _json_element(element: Element, values: _Values) -> Iterator[bytes]:
    vr = element[1]
    yield f'"{element[0]:08X}":{{"vr":"{vr}"'.encode("ascii")
    if vr == "SQ" and len(element) == 3:
        separator = b',"Value":['
        for item in element[2]:
            yield separator
            yield from _json_dataset(item, values, b"")
            separator = b","
        yield b"]}" if element[2] else b"}"
    elif vr in _BINARY:
        separator = b',"InlineBinary":"'
        for piece in values.base64(element):
            yield separator + piece
            separator = b""
        yield b"}" if separator else b'"}'
    else:
        convert = _JSON_VALUES.get(vr, _json_text)
        found = [convert(text) for text in values.texts(element)]
        yield b',"Value":' + orjson.dumps(found) + b"}" if found else b"}"


def _json_text(text: str) -> Any:
    return text or None


def _json_name(text: str) -> Any:
    groups = [group.rstrip(" ") for group in text.split("=", 2)]
    return {name: group for name, group in zip(_NAME_GROUPS, groups, strict=False) if group} or None


def _json_number(text: str) -> Any:
    """A number, or its text when JSON has no such number (PS3.18 section F.2.3.1)."""
    if _WHOLE.match(text):
        return int(text)
    value = float(text) if _DECIMAL.match(text) else math.nan
    return value if math.isfinite(value) else text or None


def _json_double(text: str) -> Any:
    value = float(text)
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else text


def _json_single(text: str) -> Any:
    """The number of 32 bits that was shown with 9 digits."""
    value = _json_double(text)
    return struct.unpack("f", struct.pack("f", value))[0] if isinstance(value, float) else value


def _json_tag(text: str) -> Any:
    return text.replace(",", "").upper()


_JSON_VALUES: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("SS", "SL", "SV", "US", "UL", "UV"), int),
    **dict.fromkeys(("DS", "IS"), _json_number),
    "FD": _json_double,
    "FL": _json_single,
    "AT": _json_tag,
    "PN": _json_name,
}


# XML


def xml_pieces(header: Header, read: RangeReader, dictionary: Dictionary, default_encoding: str) -> Iterator[bytes]:
    """An object in the Native DICOM Model. Binary values are within it, compressed pixels are left out."""
    values = _Values(header, read, default_encoding)
    yield b'<?xml version="1.0" encoding="utf-8"?>\n'
    yield b'<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"'
    yield b' xsi:schemaLocation="http://dicom.nema.org/PS3.19/models/NativeDICOM"'
    yield b' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
    yield from _xml_dataset(header.elements, values, dictionary, "  ")
    yield b"</NativeDicomModel>\n"


def _xml_dataset(elements: Elements, values: _Values, dictionary: Dictionary, indent: str) -> Iterator[bytes]:
    for element in values.shown(elements):
        tag, vr = element[0], element[1]
        name = dictionary.name(tag, None)
        keyword = "" if name == UNKNOWN_NAME else f" keyword={quoteattr(name)}"
        yield f'{indent}<DicomAttribute tag="{tag:08X}" vr="{vr}"{keyword}>\n'.encode()
        if vr == "SQ" and len(element) == 3:
            for number, item in enumerate(element[2], 1):
                yield f'{indent}  <Item number="{number}">\n'.encode("ascii")
                yield from _xml_dataset(item, values, dictionary, indent + "    ")
                yield f"{indent}  </Item>\n".encode("ascii")
        elif vr in _BINARY:
            opening = f"{indent}  <InlineBinary>".encode("ascii")
            for piece in values.base64(element):
                yield opening + piece
                opening = b""
            yield b"" if opening else b"</InlineBinary>\n"
        else:
            yield _xml_values(vr, values.texts(element), indent + "  ").encode("utf-8")
        yield f"{indent}</DicomAttribute>\n".encode("ascii")


def _xml_values(vr: str, texts: Sequence[str], indent: str) -> str:
    lines = []
    for number, text in enumerate(texts, 1):
        if vr == "PN":
            lines.append(_xml_name(number, text, indent))
        elif text:
            shown = _json_tag(text) if vr == "AT" else text
            lines.append(f'{indent}<Value number="{number}">{_xml_text(shown)}</Value>\n')
    return "".join(lines)


def _xml_name(number: int, text: str, indent: str) -> str:
    lines = [f'{indent}<PersonName number="{number}">\n']
    for group, value in zip(_NAME_GROUPS, text.split("=", 2), strict=False):
        parts = zip(_NAME_PARTS, value.split("^", 4), strict=False)
        shown = [f"{indent}    <{part}>{_xml_text(name)}</{part}>\n" for part, name in parts if name.strip(" ")]
        if shown:
            lines += [f"{indent}  <{group}>\n", *shown, f"{indent}  </{group}>\n"]
    lines.append(f"{indent}</PersonName>\n")
    return "".join(lines)


def _xml_text(text: str) -> str:
    # A carriage return would be read back as a line feed (XML 1.0 section 2.11).
    return escape(_FORBIDDEN.sub("", text), {"\r": "&#13;"})
