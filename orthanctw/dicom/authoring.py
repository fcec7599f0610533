"""Tags of requests, in Orthanc's JSON, as elements that `orthanctw.dicom.encoding.dataset_parts` writes."""

from __future__ import annotations

import binascii
import re
import struct
from collections.abc import Mapping
from typing import Any, Final

import attrs

from orthanctw.dicom.dictionary import STANDARD, Dictionary, creator_tag, format_tag, is_private, reserves
from orthanctw.dicom.elements import BINARY_VRS, LONG_VRS, NUMBER_SIZES, NUMBERS, Element, Elements
from orthanctw.dicom.encoding import CHARACTER_VRS, number_bytes
from orthanctw.errors import BadFileFormat, BadParameterType, ParameterOutOfRange

OCTETS: Final = "application/octet-stream"
_DATA_URI: Final = re.compile(r"data:([^;,]{1,127});base64,", re.ASCII)
#: Characters of base64 that are decoded at a time: other threads have their turn in between.
_PIECE: Final = 1 << 20
_LONGEST_SHORT: Final = 0xFFFE
_META_GROUP: Final = 0x0002
#: Groups that no data set has (PS3.5 sections 7.1 and 7.8): commands, items, padding.
_NO_GROUPS: Final = frozenset({0x0000, 0x0001, 0x0003, 0x0005, 0x0007, 0xFFFE, 0xFFFF})


def decode_data_uri(text: str) -> tuple[str, bytes] | None:
    """Media type in lower case and content of a data URI in base64; None when the text is no such thing.

    Raises BadFileFormat when the base64 is damaged.
    """
    match = _DATA_URI.match(text)
    if match is None:
        return None
    try:
        pieces = [
            binascii.a2b_base64(text[start : start + _PIECE], strict_mode=True)
            for start in range(match.end(), len(text), _PIECE)
        ]
    except ValueError:
        raise BadFileFormat("The base64 of a data URI is damaged") from None
    # Padding ends the text.
    if any(len(piece) != _PIECE // 4 * 3 for piece in pieces[:-1]):
        raise BadFileFormat("The base64 of a data URI is damaged")
    return match[1].lower(), pieces[0] if len(pieces) == 1 else b"".join(pieces)


@attrs.frozen(kw_only=True)
class ValueOptions:
    """How values of requests are read.

    Parameters
    ----------
    private_creator : str
        Of private tags whose creator is not given beside them.
    interprets_binary : bool
        Whether data URIs of type `OCTETS` are the bytes that they hold.
    depth : int
        How deeply sequences may be nested.
    """

    dictionary: Dictionary = STANDARD
    private_creator: str = ""
    interprets_binary: bool = True
    depth: int = 64


def elements_of(tags: Mapping[str, Any], options: ValueOptions) -> Elements:
    """The elements that a JSON object names, in its order; tags that it names twice are there twice.

    File meta information and group lengths, which follow from the rest, are left out.

    Raises
    ------
    UnknownDicomTag
        A name that the dictionary does not have.
    BadParameterType
        A value that is no text, null, or list of objects.
    ParameterOutOfRange, BadFileFormat
        A value that its VR cannot have.
    """
    return _Reader(options).elements(tags, 0)


class _Reader:
    def __init__(self, options: ValueOptions) -> None:
        self._options = options
        self._dictionary = options.dictionary

    def elements(self, tags: Mapping[str, Any], depth: int) -> Elements:
        if depth > self._options.depth:
            raise BadFileFormat("Sequences are nested too deeply")
        values = [(self._dictionary.parse(name), value) for name, value in tags.items()]
        creators = {tag: value for tag, value in values if reserves(tag) and isinstance(value, str)}
        return [
            self._element(tag, value, creators.get(creator_tag(tag)), depth)
            for tag, value in values
            if _is_written(tag)
        ]

    def _element(self, tag: int, value: Any, creator: str | None, depth: int) -> Element:
        vr = self._dictionary.vr(tag, creator or self._options.private_creator)
        if isinstance(value, list):
            return tag, "SQ", self._items(tag, vr, value, depth)
        if value is None:
            value = ""
        if not isinstance(value, str):
            raise _bad_type(tag)
        if vr == "SQ":
            if value:
                raise _out_of_range(tag)
            return tag, vr, []
        octets = self._octets(value)
        if vr in BINARY_VRS or (octets is not None and vr == "OF"):
            return tag, vr, _binary(tag, vr, value.encode("utf-8") if octets is None else octets)
        if octets is not None:
            try:
                value = octets.decode("ascii")
            except UnicodeDecodeError:
                if vr not in CHARACTER_VRS:
                    raise _out_of_range(tag) from None
                return tag, vr, _binary(tag, vr, octets, b" ")
        return tag, vr, self._text(tag, vr, value)

    def _octets(self, value: str) -> bytes | None:
        """The bytes of a data URI; None for plain text."""
        if not self._options.interprets_binary or not value.startswith(f"data:{OCTETS};base64,"):
            return None
        found = decode_data_uri(value)
        return None if found is None else found[1]

    def _text(self, tag: int, vr: str, value: str) -> str:
        if vr in NUMBERS or vr == "AT":
            if vr == "AT" and value:
                value = "\\".join(format_tag(self._dictionary.parse(part.strip())) for part in value.split("\\"))
            try:
                raw = number_bytes(vr, value)
            except (ValueError, OverflowError, struct.error):
                raise _out_of_range(tag) from None
            _check_length(tag, vr, len(raw))
            return value
        if vr not in CHARACTER_VRS and not value.isascii():
            raise _out_of_range(tag)
        _check_length(tag, vr, len(value.encode("utf-8")))
        return value

    def _items(self, tag: int, vr: str, value: list[Any], depth: int) -> list[Elements]:
        if vr != "SQ" and not (vr == "UN" and is_private(tag)):
            raise _bad_type(tag)
        items = []
        for item in value:
            if not isinstance(item, dict):
                raise _bad_type(tag)
            # Of a tag that an item names twice, the last one counts.
            elements = {element[0]: element for element in self.elements(item, depth + 1)}
            items.append(list(elements.values()))
        return items


def _is_written(tag: int) -> bool:
    group = tag >> 16
    if group in _NO_GROUPS:
        raise ParameterOutOfRange(f"No data set has the tag {format_tag(tag)}")
    return group != _META_GROUP and tag & 0xFFFF != 0


def _binary(tag: int, vr: str, raw: bytes, padding: bytes = b"\0") -> bytes:
    if len(raw) % NUMBER_SIZES.get(vr, 1):
        raise BadFileFormat(f"The value of {format_tag(tag)} has a length that its VR {vr} cannot have")
    raw += padding * (len(raw) % 2)
    _check_length(tag, vr, len(raw))
    return raw


def _check_length(tag: int, vr: str, length: int) -> None:
    if vr not in LONG_VRS and length > _LONGEST_SHORT:
        raise ParameterOutOfRange(f"The value of {format_tag(tag)} is too long for its VR {vr}")


def _bad_type(tag: int) -> BadParameterType:
    return BadParameterType(f"The value of {format_tag(tag)} has a wrong type")


def _out_of_range(tag: int) -> BadFileFormat:
    return BadFileFormat(f"The value of {format_tag(tag)} cannot be one of its VR")
