"""Data sets of queries and answers as bytes (PS3.5 section 7): little endian, text in a character set of choice."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from orthanctw.dicom.charset import decoder, term_codec
from orthanctw.dicom.datasets import DatasetReader
from orthanctw.dicom.dictionary import STANDARD, Dictionary
from orthanctw.dicom.elements import (
    IMPLICIT_LITTLE_ENDIAN,
    ITEM,
    LONG_VRS,
    NUMBERS,
    SEQUENCE_END,
    SPECIFIC_CHARACTER_SET,
    TEXT_VRS,
    UNDEFINED,
    Element,
    Elements,
    Encoding,
    strip_text,
)

#: Identifiers are small: what is larger is refused before it is gathered.
IDENTIFIER_LIMIT: Final = 1 << 20
_DEPTH: Final = 16
#: More than any dictionary has: each of them may be looked for in thousands of objects.
_ELEMENTS: Final = 10_000
#: VRs whose text depends on the character set (PS3.5 section 6.2).
CHARACTER_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_UTF8: Final = "ISO_IR 192"
_LONGEST_SHORT: Final = 0xFFFE
_SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<HH2sHI")
_IMPLICIT: Final = struct.Struct("<HHI")

Encode = Callable[[str, str], bytes]


@attrs.frozen
class Pieces:
    """A binary value in pieces, of even length together; encapsulated, it is a frame (PS3.5 section A.4)."""

    parts: Sequence[bytes]
    is_encapsulated: bool = False


def decode_dataset(
    data: bytes, *, explicit: bool, default_encoding: str = "Latin1", dictionary: Dictionary = STANDARD
) -> Elements:
    """The elements of a data set in little endian, sorted by tag, text in Unicode. Raises BadFileFormat.

    Printable values of unknown VR are taken for text, as most private ones are.
    """
    reader = DatasetReader(data, default_encoding, dictionary, _DEPTH, _ELEMENTS)
    elements = reader.dataset(0, len(data), Encoding(explicit))
    return _with_texts(elements, data, default_encoding)


def _with_texts(elements: Elements, data: bytes, default_encoding: str, charset: str | None = None) -> Elements:
    """The elements, with the text of those that the reader leaves where they are: long ones, unknown ones."""
    named = next((element[2] for element in elements if element[0] == SPECIFIC_CHARACTER_SET), charset)
    result: Elements = []
    for element in elements:
        tag, vr, value = element[:3]
        if vr == "SQ" and isinstance(value, list):
            items = [_with_texts(item, data, default_encoding, named) for item in value]
            result.append((tag, vr, items))
        elif len(element) == 4 and (vr == "UN" or vr in TEXT_VRS):
            raw = bytes(data[value : value + element[3]])
            text = strip_text(vr, decoder(named, default_encoding)[0](raw, vr))
            result.append((tag, vr, text) if vr != "UN" or text.isprintable() else element)
        else:
            result.append(element)
    return result


def is_explicit(transfer_syntax: str) -> bool:
    """Whether a transfer syntax that we accept for queries has explicit VRs."""
    return transfer_syntax != IMPLICIT_LITTLE_ENDIAN


def encode_dataset(elements: Elements, *, explicit: bool, character_sets: tuple[str, ...] = ()) -> bytes:
    """As `dataset_parts`, in one."""
    return b"".join(dataset_parts(elements, explicit=explicit, character_sets=character_sets))


def dataset_parts(
    elements: Elements, *, explicit: bool, character_sets: tuple[str, ...] = ()
) -> list[bytes]:
    """Elements as bytes in pieces, sorted by tag.

    Parameters
    ----------
    elements : list of Element
        Their values may be bytes of even length, or `Pieces`, too; neither is copied.
    character_sets : tuple of str
        Values of SpecificCharacterSet to try in turn; the first that can hold all text is used, and UTF-8 when none
        can. The first is named even where all text is ASCII.
    """
    term, encode = _choose(elements, character_sets)
    kept = [element for element in elements if element[0] != SPECIFIC_CHARACTER_SET]
    if term:
        kept.append((SPECIFIC_CHARACTER_SET, "CS", term))
    return _encode(kept, explicit, encode)


def _choose(elements: Elements, character_sets: tuple[str, ...]) -> tuple[str, Encode]:
    texts = list(_texts(elements))
    if all(text.isascii() for text, _ in texts):
        return character_sets[0] if character_sets else "", _ascii
    for term in character_sets:
        encode = _encoder(term)
        if encode is not None and all(_fits(encode, term, text, vr) for text, vr in texts):
            return term, encode
    return _UTF8, lambda text, vr: text.encode("utf-8")


def _texts(elements: Elements) -> Any:
    for element in elements:
        value = element[2]
        if element[1] == "SQ" and isinstance(value, list):
            for item in value:
                yield from _texts(item)
        elif isinstance(value, str) and element[1] in CHARACTER_VRS:
            yield value, element[1]


def _fits(encode: Encode, term: str, text: str, vr: str) -> bool:
    if text.isascii():
        return True
    try:
        # What cannot be read again is not the same text.
        return decoder(term)[0](encode(text, vr), vr) == text
    except (UnicodeError, ValueError):
        return False


def _ascii(text: str, vr: str) -> bytes:
    return text.encode("ascii", "replace")


def _encoder(term: str) -> Encode | None:
    terms = [item.strip() for item in term.split("\\")]
    codec = term_codec(terms[0])
    if not is_known(term):
        return None
    if len(terms) == 1 and codec is not None and codec not in ("iso2022_jp_2", "euc_kr", "gb2312"):
        return lambda text, vr: text.encode(codec)
    return _extended(terms)


def text_bytes(text: str, vr: str, character_set: str) -> bytes:
    """Text of a VR in a SpecificCharacterSet, of even length. Raises ValueError when this cannot hold it."""
    encode = _ascii if text.isascii() else _encoder(character_set)
    if encode is None or not _fits(encode, character_set, text, vr):
        raise ValueError(character_set)
    raw = encode(text, vr)
    return raw + b" " * (len(raw) % 2)


def is_known(character_set: str) -> bool:
    """Whether all terms of a SpecificCharacterSet are known; of several the first may be empty."""
    terms = [item.strip() for item in character_set.split("\\")]
    if len(terms) > 1 and not terms[0]:
        del terms[0]
    return all(term_codec(term) is not None for term in terms)


def _extended(terms: list[str]) -> Encode:
    """Code extensions (PS3.5 section 6.1.2.5), which pydicom knows how to write."""
    from pydicom.charset import convert_encodings, encode_string

    # These extend another set, ASCII when none is named; alone, pydicom leaves them without their end.
    encodings = convert_encodings(["", *terms] if len(terms) == 1 else terms)

    def encode(text: str, vr: str) -> bytes:
        separators = "\\^=" if vr == "PN" else "\\"
        pieces, start = [], 0
        for place, character in enumerate(text + "\\"):
            # The initial character set is active again after each of these.
            if character in separators:
                with warnings.catch_warnings():
                    # What does not fit is seen by reading it again.
                    warnings.simplefilter("ignore")
                    pieces.append(encode_string(text[start:place], encodings))
                pieces.append(character.encode("ascii"))
                start = place + 1
        return b"".join(pieces[:-1])

    return encode


def _encode(elements: Elements, explicit: bool, encode: Encode) -> list[bytes]:
    parts: list[bytes] = []
    for element in sorted(elements, key=lambda item: item[0]):
        parts += _element(element, explicit, encode)
    return parts


def _element(element: Element, explicit: bool, encode: Encode) -> list[bytes]:
    tag, vr, value = element[:3]
    if isinstance(value, Pieces):
        content = list(value.parts)
        if value.is_encapsulated:
            items = [*_item([]), *_item(content), _head(SEQUENCE_END, "", 0, False)]
            return [_head(tag, vr, UNDEFINED, explicit), *items]
    elif vr == "SQ" and isinstance(value, list):
        content = [part for item in value for part in _item(_encode(item, explicit, encode))]
    elif len(element) == 3 and isinstance(value, (str, bytes)):
        content = [value if isinstance(value, bytes) else _value(vr, value, encode)]
    else:
        content = []
    length = sum(map(len, content))
    if explicit and vr not in LONG_VRS and length > _LONGEST_SHORT:
        # Longer values do not exist in these VRs.
        content, length = [b"".join(content)[:_LONGEST_SHORT]], _LONGEST_SHORT
    return [_head(tag, vr, length, explicit), *content]


def _head(tag: int, vr: str, length: int, explicit: bool) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if not explicit:
        return _IMPLICIT.pack(group, number, length)
    if vr in LONG_VRS:
        return _LONG.pack(group, number, vr.encode("ascii"), 0, length)
    return _SHORT.pack(group, number, vr.encode("ascii"), length)


def _item(parts: list[bytes]) -> list[bytes]:
    return [_head(ITEM, "", sum(map(len, parts)), False), *parts]


def _value(vr: str, text: str, encode: Encode) -> bytes:
    if vr in NUMBERS or vr == "AT":
        try:
            return number_bytes(vr, text)
        except (ValueError, OverflowError, struct.error):
            return b""
    if vr not in TEXT_VRS:
        raw = text.encode("latin-1", "replace")
    else:
        raw = encode(text, vr) if vr in CHARACTER_VRS else _ascii(text, vr)
    if len(raw) % 2:
        raw += b"\0" if vr == "UI" or vr not in TEXT_VRS else b" "
    return raw


def number_bytes(vr: str, text: str) -> bytes:
    """Numbers of a binary VR, or tags of VR AT, joined by backslashes, in little endian.

    Raises ValueError, OverflowError or struct.error when the text is none.
    """
    if "_" in text or not text.isascii():
        # Numbers in Python alone.
        raise ValueError
    items = [item.strip() for item in text.split("\\")] if text else []
    if vr == "AT":
        pairs = [(int(item[:4], 16), int(item[-4:], 16)) for item in items]
        return b"".join(struct.pack("<HH", *pair) for pair in pairs)
    code = NUMBERS[vr][0]
    convert: Callable[[str], Any] = float if code in "fd" else int
    return struct.pack(f"<{len(items)}{code}", *map(convert, items))
