"""The data dictionary: tags, keywords and VRs with the names that Orthanc prints (PS3.6).

Names are pydicom's keywords, which are DCMTK's but for the prefix that DCMTK gives to retired elements. Private tags
are those of DCMTK's private dictionary, in a data file of ours.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from typing import Final

import attrs

from orthanctw.dicom.dictionaryfiles import FileEntry, read_files
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, UnknownDicomTag

UNKNOWN_NAME: Final = "Unknown Tag & Data"
PRIVATE_CREATOR: Final = "PrivateCreator"
_RETIRED: Final = "RETIRED_"
#: pydicom calls these retired, DCMTK does not yet.
_NOT_RETIRED: Final = frozenset(
    {0x00380004, 0x00701807, 0x00701808, 0x30040010, 0x30040012, 0x30060085, 0x30060088, 0x3008002B, 0x30100090}
)
#: Main tags keep their plain name, retired or not.
_MAIN_NAMES: Final = frozenset({0x00101000})
_FROM_AMBIGUOUS: Final = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW", "NONE": "UN"}
_TAG_TEXT: Final = re.compile(r"([0-9a-fA-F]{4})[,-]?([0-9a-fA-F]{4})\Z")

#: VR and name of the private tags of one creator, by ``group << 16 | element``; an element is one byte, the position
#: within the reserved block (PS3.5 section 7.8.1), or whole when it is fixed.
PrivateTags = Mapping[int, tuple[str, str]]


def _standard_tables() -> tuple[Mapping[int, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """pydicom's tables of elements and of repeating groups.

    Their module is loaded by its file: importing the package pydicom brings numpy with it and would double the time
    that a start takes.
    """
    package = importlib.util.find_spec("pydicom")
    assert package is not None and package.submodule_search_locations
    path = os.path.join(package.submodule_search_locations[0], "_dicom_dict.py")
    spec = importlib.util.spec_from_file_location("orthanctw.dicom._standard_tables", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DicomDictionary, module.RepeatersDictionary


_ELEMENTS, _REPEATING = _standard_tables()
#: Tags of VR US that are SS where PixelRepresentation is 1 (PS3.5 annex A.2).
MAY_BE_SIGNED: Final = frozenset(tag for tag, (vr, *_) in _ELEMENTS.items() if vr == "US or SS")


def _printed(tag: int, keyword: str, status: str) -> str:
    retired = status == "Retired" and tag not in _NOT_RETIRED and tag not in _MAIN_NAMES
    return _RETIRED + keyword if retired else keyword


_STANDARD: Final[dict[int, tuple[str, str]]] = {
    tag: (_FROM_AMBIGUOUS.get(vr, vr), _printed(tag, keyword, status))
    for tag, (vr, _vm, _name, status, keyword) in _ELEMENTS.items()
    if keyword
}


def _repeating(mask: str) -> Callable[[int], bool]:
    """Whether a tag is one of those that pydicom writes with ``x`` for any digit."""
    base = int(mask.replace("x", "0"), 16)
    fixed = int(re.sub("[^x]", "0", mask).replace("x", "f"), 16) ^ 0xFFFFFFFF
    return lambda tag: tag & fixed == base


_REPEATERS: Final = [
    (_repeating(mask), (_FROM_AMBIGUOUS.get(vr, vr), _printed(0, keyword, status)))
    for mask, (vr, _vm, _name, status, keyword) in _REPEATING.items()
]


def _repeater_multiplicity(tag: int) -> str:
    return next((vm for mask, (_vr, vm, *_) in _REPEATING.items() if _repeating(mask)(tag)), "1-n")


#: Tags of their names; the first one of a name counts.
_REPEATER_NAMES: Final = {
    _printed(0, keyword, status): int(mask.replace("x", "0"), 16)
    for mask, (_vr, _vm, _name, status, keyword) in reversed(list(_REPEATING.items()))
}


def format_tag(tag: int) -> str:
    """``gggg,eeee`` in lower-case hexadecimal."""
    return f"{tag >> 16:04x},{tag & 0xFFFF:04x}"


def is_private(tag: int) -> bool:
    """Whether the group is odd (PS3.5 section 7.8)."""
    return tag >> 16 & 1 == 1


def creator_tag(tag: int) -> int:
    """The element that would reserve the block of a private tag (PS3.5 section 7.8.1): see `reserves`."""
    return tag & 0xFFFF0000 | tag >> 8 & 0xFF


def reserves(tag: int) -> bool:
    """Whether a tag reserves a block of private tags, its value being the creator (PS3.5 section 7.8.1)."""
    return is_private(tag) and 0x10 <= tag & 0xFFFF <= 0xFF


@functools.cache
def _private_dictionary() -> dict[str, PrivateTags]:
    text = resources.files("orthanctw.dicom").joinpath("private_tags.json").read_text(encoding="utf-8")
    return {
        creator: {int(key[:4], 16) << 16 | int(key[4:], 16): (entry[0], entry[1]) for key, entry in tags.items()}
        for creator, tags in json.loads(text)["creators"].items()
    }


@attrs.frozen(kw_only=True)
class DictionaryEntry:
    """A tag of the option ``Dictionary``; the element of a private one may be given by its low byte.

    It has from `least` to `most` values, 0 being any number.
    """

    tag: int
    vr: str
    name: str
    private_creator: str = ""
    least: int = 1
    most: int = 1


class Dictionary:
    """Names and VRs of tags.

    Parameters
    ----------
    entries : iterable of DictionaryEntry
        Tags to add (option ``Dictionary``).
    private : bool
        Whether private tags are known (option ``LoadPrivateDictionary``).
    files : sequence of str
        Paths of files that are known in place of all that is built in (option ``ExternalDictionaries``). Raises
        ConfigurationError for one that cannot be read.
    """

    def __init__(
        self, entries: Iterable[DictionaryEntry] = (), *, private: bool = True, files: Sequence[str] = ()
    ) -> None:
        entries = tuple(entries)
        self._options = private, entries, list(files)
        #: What `dictionary_of` makes the same dictionary from, in another process; empty without options.
        self.description = self._described() if entries or files or not private else ""
        self._entries: dict[int, tuple[str, str]] = {} if files else dict(_STANDARD)
        self._private: dict[str, PrivateTags] = dict(_private_dictionary()) if private and not files else {}
        self._repeaters: list[tuple[Callable[[int], bool], tuple[str, str]]] = [] if files else _REPEATERS
        self._ranges: dict[str, list[FileEntry]] = {}
        self._tags: dict[str, int] = {} if files else dict(_REPEATER_NAMES)
        self._add_files(read_files(files))
        self._multiplicities: dict[int, tuple[int, int]] = {}
        for entry in entries:
            self._add(entry)
        #: Hot path of the scanner: VR and name of every tag that is no repeater and not private.
        self.vrs: dict[int, str] = {tag: vr for tag, (vr, _name) in self._entries.items()}
        self.names: dict[int, str] = {tag: name for tag, (_vr, name) in self._entries.items()}
        named: dict[str, int] = {}
        for tag, name in self.names.items():
            named.setdefault(name, tag)
            if name.startswith(_RETIRED):
                named.setdefault(name.removeprefix(_RETIRED), tag)
        self._tags = {**self._tags, **named}
        self._lookup: Callable[[int, str | None], tuple[str, str] | None]
        #: The name that Orthanc prints for a tag of a private creator (or None); ``Unknown Tag & Data`` when unknown.
        self.name: Callable[[int, str | None], str]
        self._forget()

    def _described(self) -> str:
        private, entries, files = self._options
        return json.dumps([private, [attrs.asdict(entry) for entry in entries], files])

    def _forget(self) -> None:
        """Begin with empty caches: what threads are about to put into those before does not matter."""
        # Bounded: tags and creators come from files.
        self._lookup = functools.lru_cache(maxsize=16384)(self._find)
        self.name = functools.lru_cache(maxsize=16384)(self._name)

    def _add(self, entry: DictionaryEntry) -> None:
        if entry.private_creator:
            low = entry.tag & 0xFF
            mine = {entry.tag & 0xFFFF0000 | low: (entry.vr, entry.name)}
            self._private[entry.private_creator] = {**self._private.get(entry.private_creator, {}), **mine}
        else:
            self._entries[entry.tag] = (entry.vr, entry.name)
            self._multiplicities[entry.tag] = (entry.least, entry.most)

    def register(self, entry: DictionaryEntry) -> None:
        """Know a tag from now on, here and in other processes. To be called in one thread only.

        OrthancError ALREADY_EXISTING_TAG when it is known.
        """
        creator = entry.private_creator
        known = self._private_entry(entry.tag, creator) if creator else self._lookup(entry.tag, None)
        if known is not None:
            raise OrthancError("The dictionary has this tag already", code=ErrorCode.ALREADY_EXISTING_TAG)
        self._add(entry)
        if not creator:
            self.vrs[entry.tag] = entry.vr
            self.names[entry.tag] = entry.name
            self._tags.setdefault(entry.name, entry.tag)
        private, entries, files = self._options
        self._options = private, (*entries, entry), files
        self.description = self._described()
        self._forget()

    def multiplicity(self, tag: int) -> tuple[int, int]:
        """Number of values of a tag of the standard or of the options: at least, and at most, 0 being any number."""
        found = self._multiplicities.get(tag)
        if found is not None:
            return found
        text = _ELEMENTS[tag][1] if tag in _ELEMENTS else _repeater_multiplicity(tag)
        least, _, most = text.partition("-")
        return int(least), int(least) if not most else int(most) if most.isdigit() else 0

    def _add_files(self, entries: Iterable[FileEntry]) -> None:
        for entry in entries:
            known, tag = (entry.vr, entry.name), entry.tag
            if entry.creator is not None:
                if tag is None:
                    self._ranges.setdefault(entry.creator, []).append(entry)
                else:
                    self._private[entry.creator] = {**self._private.get(entry.creator, {}), tag: known}
            elif tag is not None:
                self._entries[tag] = known
            else:
                self._repeaters.append((entry.means, known))
                self._tags.setdefault(entry.name, entry.groups.first << 16 | entry.elements.first)

    def _private_entry(self, tag: int, creator: str) -> tuple[str, str] | None:
        tags, low = self._private.get(creator, {}), tag & 0xFFFF00FF
        found = tags.get(tag) or tags.get(low)
        if found is None:
            ranges = self._ranges.get(creator, ())
            found = next(((item.vr, item.name) for item in ranges if item.means(tag) or item.means(low)), None)
        return found

    def _find(self, tag: int, creator: str | None) -> tuple[str, str] | None:
        entry = self._entries.get(tag)
        if entry is not None:
            return entry
        group, element = tag >> 16, tag & 0xFFFF
        private = group & 1
        if element == 0:
            kind = ("Illegal" if group < 8 else "Private") if private else "Generic"
            return "UL", f"{kind}GroupLength"
        if not private:
            return next((found for means, found in self._repeaters if means(tag)), None)
        if 0x10 <= element <= 0xFF:
            return "LO", "IllegalPrivateCreator" if group < 8 else PRIVATE_CREATOR
        return self._private_entry(tag, creator) if creator else None

    def vr(self, tag: int, creator: str | None = None) -> str:
        """The VR of a tag (PS3.6), ``UN`` when it is unknown; an ambiguous one is US or OW."""
        entry = self._lookup(tag, creator)
        return "UN" if entry is None else entry[0]

    def _name(self, tag: int, creator: str | None) -> str:
        entry = self._lookup(tag, creator)
        return UNKNOWN_NAME if entry is None else entry[1]

    def parse(self, text: str) -> int:
        """The tag that `text` names: ``gggg,eeee``, ``gggg-eeee``, ``ggggeeee`` or a keyword.

        Raises UnknownDicomTag.
        """
        match = _TAG_TEXT.match(text)
        if match is not None:
            return int(match[1] + match[2], 16)
        tag = self._tags.get(text)
        if tag is None:
            raise UnknownDicomTag(text[:64])
        return tag


#: The dictionary without options.
STANDARD: Final = Dictionary()


@functools.lru_cache(maxsize=2)
def dictionary_of(description: str) -> Dictionary:
    """The dictionary of a `Dictionary.description`."""
    if not description:
        return STANDARD
    private, entries, files = json.loads(description)
    return Dictionary((DictionaryEntry(**entry) for entry in entries), private=private, files=files)
