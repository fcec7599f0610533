"""Tags as JSON with all that plugins may ask for: which tags there are, and how binary values are written."""

from __future__ import annotations

import binascii
import enum
from functools import partial
from typing import Any, Final

from orthanctw.dicom.authoring import OCTETS
from orthanctw.dicom.content import ByteRange
from orthanctw.dicom.dictionary import UNKNOWN_NAME, Dictionary, creator_tag, is_private
from orthanctw.dicom.elements import NUMBER_SIZES, PIXEL_DATA, Element, Elements
from orthanctw.dicom.header import Header
from orthanctw.dicom.jsonforms import FormOptions, RangeReader, TagFormat, creators_of, form_of, leaf_type

_PRINTED: Final = bytes(range(32, 127)) + b"\n"
_NOT_PRINTED: Final = bytes(set(range(256)) - set(_PRINTED))


class TagFlags(enum.IntFlag):
    """Which tags are shown, and how (``DicomToJsonFlags``)."""

    BINARY = 1
    PRIVATE = 2
    UNKNOWN = 4
    PIXEL_DATA = 8
    BINARY_AS_ASCII = 16
    BINARY_AS_NULL = 32
    STOP_AFTER_PIXEL_DATA = 64
    SKIP_GROUP_LENGTHS = 128


def flagged_form(
    header: Header,
    form: TagFormat,
    flags: TagFlags,
    read: RangeReader,
    *,
    maximum_length: int,
    dictionary: Dictionary,
    default_encoding: str,
) -> dict[str, Any]:
    """The data set as JSON. Text of more than `maximum_length` bytes is left out, unless that is 0."""
    options = FormOptions(
        dictionary=dictionary,
        maximum_length=maximum_length,
        read=read,
        default_encoding=default_encoding,
        binary=None if flags & TagFlags.BINARY_AS_NULL else partial(_binary, header, flags, read),
    )
    return form_of(_chosen(header.elements, flags, dictionary), form, options, header)


def _binary(header: Header, flags: TagFlags, read: RangeReader, element: Element) -> str | None:
    """Text of a binary value, whose numbers are little endian; None for encapsulated pixel data."""
    tag, vr, offset, length = element
    if tag == PIXEL_DATA and header.pixels is not None and header.pixels.encapsulated:
        return None
    place = ByteRange(offset, length, NUMBER_SIZES.get(vr, 1) if header.order == ">" else 1)
    raw = place.little_endian(read(offset, length)) + bytes(length % 2)
    if flags & TagFlags.BINARY_AS_ASCII:
        return raw.translate(None, _NOT_PRINTED).decode("ascii")
    return f"data:{OCTETS};base64,{binascii.b2a_base64(raw, newline=False).decode('ascii')}"


def _chosen(elements: Elements, flags: TagFlags, dictionary: Dictionary) -> Elements:
    creators = creators_of(elements)
    chosen: Elements = []
    for element in elements:
        tag = element[0]
        if _is_wanted(element, creators.get(creator_tag(tag)), flags, dictionary):
            if element[1] == "SQ" and len(element) == 3:
                items = [_chosen(item, flags, dictionary) for item in element[2]]
                element = (tag, "SQ", items)
            chosen.append(element)
    return chosen


def _is_wanted(element: Element, creator: str | None, flags: TagFlags, dictionary: Dictionary) -> bool:
    tag = element[0]
    if is_private(tag) and not flags & TagFlags.PRIVATE:
        return False
    if not flags & TagFlags.UNKNOWN and dictionary.name(tag, creator) == UNKNOWN_NAME:
        return False
    if flags & TagFlags.STOP_AFTER_PIXEL_DATA and tag > PIXEL_DATA:
        return False
    if flags & TagFlags.SKIP_GROUP_LENGTHS and not tag & 0xFFFF:
        return False
    if len(element) != 4 or leaf_type(element) != "Null":
        return True
    return bool(flags & (TagFlags.PIXEL_DATA if tag == PIXEL_DATA else TagFlags.BINARY))
