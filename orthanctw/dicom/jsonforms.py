"""Tags as JSON in Orthanc's three formats: full, short and simplify."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection
from typing import Any, Final

import attrs

from orthanctw.dicom.charset import decoder
from orthanctw.dicom.dictionary import STANDARD, Dictionary, creator_tag, format_tag, reserves
from orthanctw.dicom.elements import NUMBERS, PIXEL_DATA, TEXT_VRS, Element, Elements, number_text, strip_text
from orthanctw.dicom.header import Header
from orthanctw.errors import ParameterOutOfRange

#: Text of more bytes than this is shown as ``TooLong``.
MAXIMUM_LENGTH: Final = 256

#: Reads the file of a header: offset and length to bytes.
RangeReader = Callable[[int, int], bytes]


class TagFormat(enum.Enum):
    """Orthanc's formats of tags; the value is the name in requests."""

    FULL = "Full"
    SHORT = "Short"
    SIMPLIFY = "Simplify"

    @classmethod
    def parse(cls, text: str) -> TagFormat:
        """The format of a request (``Full``, ``Short``, ``Simplify``). Raises ParameterOutOfRange."""
        for one in cls:
            if one.value == text:
                return one
        raise ParameterOutOfRange("unknown format of tags")


@attrs.frozen(kw_only=True)
class FormOptions:
    """How tags are shown.

    Parameters
    ----------
    dictionary : Dictionary
        Names of tags.
    ignore_length : collection of int
        Tags that are shown however long they are.
    maximum_length : int
        In bytes of UTF-8; 0 is no limit.
    read : callable, optional
        Reads values that lie in the file, when `ignore_length` or no limit asks for them.
    default_encoding : str
        Orthanc's name of the encoding of files without SpecificCharacterSet.
    binary : callable, optional
        Text of elements whose values are binary, or None; without it, they are null.
    """

    dictionary: Dictionary = STANDARD
    ignore_length: Collection[int] = ()
    maximum_length: int = MAXIMUM_LENGTH
    read: RangeReader | None = None
    default_encoding: str = "Latin1"
    binary: Callable[[Element], str | None] | None = None


_DEFAULTS: Final = FormOptions()


def until_pixel_data(elements: Elements) -> Elements:
    """The elements up to PixelData, with it: what ``/tags`` shows without ``whole``."""
    if elements and elements[-1][0] <= PIXEL_DATA:
        return elements
    return [element for element in elements if element[0] <= PIXEL_DATA]


def tags(header: Header, form: TagFormat, options: FormOptions = _DEFAULTS, *, whole: bool = False) -> dict[str, Any]:
    """The data set in a format; up to PixelData unless `whole`."""
    elements = header.elements if whole else until_pixel_data(header.elements)
    return form_of(elements, form, options, header)


def meta_tags(header: Header, form: TagFormat, options: FormOptions = _DEFAULTS) -> dict[str, Any]:
    """Group 0002 in a format, without its binary values (route ``/header``; PS3.10 section 7.1)."""
    return form_of([element for element in header.meta if leaf_type(element) != "Null"], form, options, header)


def some_tags(
    header: Header, wanted: Collection[int], form: TagFormat, options: FormOptions = _DEFAULTS
) -> dict[str, Any]:
    """Those of the tags `wanted` that the top level of the data set has."""
    return form_of([element for element in header.elements if element[0] in wanted], form, options, header)


def form_of(
    elements: Elements, form: TagFormat, options: FormOptions = _DEFAULTS, header: Header | None = None
) -> dict[str, Any]:
    """Elements in a format; `header` tells how values are read from its file."""
    writer = _Writer(options, header)
    if form is TagFormat.FULL:
        return writer.full(elements)
    return writer.short(elements) if form is TagFormat.SHORT else writer.simplified(elements)


def leaf_type(element: Element) -> str:
    """``Sequence``, ``String``, ``Null`` or, for long text that stayed in the file, ``TooLong``."""
    value = element[2]
    if value.__class__ is str:
        return "String"
    if len(element) == 4:
        vr = element[1]
        return "TooLong" if vr in TEXT_VRS or (vr in NUMBERS and element[0] >> 16 != PIXEL_DATA >> 16) else "Null"
    return "Null" if value is None else "Sequence"


class _Writer:
    """Writes one header; the three formats differ in their keys and leaves."""

    def __init__(self, options: FormOptions, header: Header | None) -> None:
        self.options = options
        self.header = header
        self.names, self.name = options.dictionary.names, options.dictionary.name
        self.limit = options.maximum_length or (1 << 62)
        # A character takes at most four bytes in UTF-8.
        self.safe = self.limit // 4

    def _shown(self, element: Element) -> tuple[str, str | None]:
        """Type and value of a leaf."""
        tag, vr, value = element[0], element[1], element[2]
        kind = leaf_type(element)
        if kind == "Null" and len(element) == 4 and self.options.binary is not None:
            text = self.options.binary(element)
            return ("Null" if text is None else "Binary"), text
        free = tag in self.options.ignore_length
        if kind == "TooLong":
            if self.options.read is None or not (free or not self.options.maximum_length):
                return kind, None
            value = self._from_file(vr, self.options.read(value, element[3]))
            return ("Null", None) if value is None else ("String", value)
        if kind == "String" and len(value) > self.safe and not free:
            size = len(value) if value.isascii() else len(value.encode("utf-8"))
            if size > self.limit:
                return "TooLong", None
        return kind, value if kind == "String" else None

    def _from_file(self, vr: str, raw: bytes) -> str | None:
        header = self.header
        if vr in NUMBERS:
            return number_text(vr, raw, header.order if header else "<")
        decode, _ = decoder(header.charset if header else None, self.options.default_encoding)
        return decode(strip_text(vr, raw.decode("latin-1")).encode("latin-1"), vr)

    def full(self, elements: Elements) -> dict[str, Any]:
        result: dict[str, Any] = {}
        creators: dict[int, str] | None = None
        entry: dict[str, Any]
        for element in elements:
            tag = element[0]
            name = self.names.get(tag)
            if element[1] == "SQ" and len(element) == 3:
                # Orthanc does not know the creators of sequences.
                items = [self.full(item) for item in element[2]]
                entry = {"Name": name or self.name(tag, None), "Type": "Sequence", "Value": items}
            else:
                kind, value = self._shown(element)
                entry = {"Name": name, "Type": kind, "Value": value}
                if name is None:
                    creators = creators_of(elements) if creators is None else creators
                    creator = creators.get(creator_tag(tag))
                    entry["Name"] = self.name(tag, creator)
                    if creator is not None:
                        entry["PrivateCreator"] = creator
            result[f"{tag >> 16:04x},{tag & 0xFFFF:04x}"] = entry
        return result

    def short(self, elements: Elements) -> dict[str, Any]:
        return {
            format_tag(element[0]): [self.short(item) for item in element[2]]
            if element[1] == "SQ" and len(element) == 3
            else self._shown(element)[1]
            for element in elements
        }

    def simplified(self, elements: Elements) -> dict[str, Any]:
        result: dict[str, Any] = {}
        names, safe = self.names, self.safe
        creators: dict[int, str] | None = None
        for element in elements:
            tag, vr, value = element[:3]
            name = names.get(tag)
            if vr == "SQ" and len(element) == 3:
                result[name or self.name(tag, None)] = [self.simplified(item) for item in value]
                continue
            if value.__class__ is not str or len(value) > safe:
                value = self._shown(element)[1]
            if name is None:
                creators = creators_of(elements) if creators is None else creators
                name = self.name(tag, creators.get(creator_tag(tag)))
            result[name] = value
        return result


def creators_of(elements: Elements) -> dict[int, str]:
    """Private creators by the tag that reserves their block (PS3.5 section 7.8.1)."""
    return {element[0]: element[2] for element in elements if reserves(element[0]) and element[2].__class__ is str}
