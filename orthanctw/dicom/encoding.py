"""Data sets of queries and answers as bytes (PS3.5 section 7): little endian, text in a character set of choice."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from typing import Any, Final

from orthanctw.dicom.charset import ENCODINGS, decoder, term_codec
from orthanctw.dicom.datasets import DatasetReader
from orthanctw.dicom.dictionary import STANDARD, Dictionary
from orthanctw.dicom.elements import (
    IMPLICIT_LITTLE_ENDIAN,
    ITEM,
    LONG_VRS,
    NUMBERS,
    SPECIFIC_CHARACTER_SET,
    TEXT_VRS,
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
_CHARACTER_VRS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_UTF8: Final = "ISO_IR 192"
_SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<HH2sHI")
_IMPLICIT: Final = struct.Struct("<HHI")

Encode = Callable[[str, str], bytes]


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
    """Elements as bytes, sorted by tag.

    Parameters
    ----------
    character_sets : tuple of str
        Values of SpecificCharacterSet to try in turn; the first that can hold all text is used, and UTF-8 when none
        can. The first is named even where all text is ASCII.
    """
    term, encode = _choose(elements, character_sets)
    kept = [element for element in elements if element[0] != SPECIFIC_CHARACTER_SET]
    if term:
        kept.append((SPECIFIC_CHARACTER_SET, "CS", term))
    return _encode(kept, explicit, encode)


def term_of(encoding: str) -> str:
    """SpecificCharacterSet of one of Orthanc's encodings; UTF-8 for one that has none."""
    return ENCODINGS[encoding][1] or _UTF8


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
        elif isinstance(value, str) and element[1] in _CHARACTER_VRS:
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


def _encode(elements: Elements, explicit: bool, encode: Encode) -> bytes:
    return b"".join(_element(element, explicit, encode) for element in sorted(elements, key=lambda item: item[0]))


def _element(element: Element, explicit: bool, encode: Encode) -> bytes:
    tag, vr, value = element[:3]
    if vr == "SQ" and isinstance(value, list):
        raw = b"".join(_item(item, explicit, encode) for item in value)
    elif len(element) == 3 and isinstance(value, str):
        raw = _value(vr, value, encode)
    else:
        raw = b""
    group, number = tag >> 16, tag & 0xFFFF
    if not explicit:
        return _IMPLICIT.pack(group, number, len(raw)) + raw
    if vr in LONG_VRS:
        return _LONG.pack(group, number, vr.encode("ascii"), 0, len(raw)) + raw
    # Longer values do not exist in these VRs.
    raw = raw[:0xFFFE]
    return _SHORT.pack(group, number, vr.encode("ascii"), len(raw)) + raw


def _item(elements: Elements, explicit: bool, encode: Encode) -> bytes:
    raw = _encode(elements, explicit, encode)
    return _IMPLICIT.pack(ITEM >> 16, ITEM & 0xFFFF, len(raw)) + raw


def _value(vr: str, text: str, encode: Encode) -> bytes:
    if vr in NUMBERS or vr == "AT":
        return _numbers(vr, text)
    if vr not in TEXT_VRS:
        raw = text.encode("latin-1", "replace")
    else:
        raw = encode(text, vr) if vr in _CHARACTER_VRS else _ascii(text, vr)
    if len(raw) % 2:
        raw += b"\0" if vr == "UI" or vr not in TEXT_VRS else b" "
    return raw


def _numbers(vr: str, text: str) -> bytes:
    """Numbers of a binary VR; nothing when the text is none."""
    items = [item.strip() for item in text.split("\\")] if text else []
    try:
        if vr == "AT":
            pairs = [(int(item[:4], 16), int(item[-4:], 16)) for item in items]
            return b"".join(struct.pack("<HH", *pair) for pair in pairs)
        code = NUMBERS[vr][0]
        convert: Callable[[str], Any] = float if code in "fd" else int
        return struct.pack(f"<{len(items)}{code}", *map(convert, items))
    except (ValueError, OverflowError, struct.error):
        return b""
