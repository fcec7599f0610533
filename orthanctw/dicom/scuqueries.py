"""Queries that we send: their keys, and what a modality's manufacturer makes of them (PS3.4 section C.6)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.elements import SPECIFIC_CHARACTER_SET, Element, Elements
from orthanctw.dicom.maintags import DEFAULT_MAIN_TAGS
from orthanctw.dicom.modules import module_tags
from orthanctw.dicom.uids import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from orthanctw.errors import BadFileFormat, UnknownDicomTag
from orthanctw.model import ResourceLevel
from orthanctw.settings.structures import Manufacturer

QUERY_RETRIEVE_LEVEL: Final = 0x00080052
LEVEL_TEXTS: Final[Mapping[ResourceLevel, str]] = {
    ResourceLevel.PATIENT: "PATIENT",
    ResourceLevel.STUDY: "STUDY",
    ResourceLevel.SERIES: "SERIES",
    ResourceLevel.INSTANCE: "IMAGE",
}
PATIENT_ID: Final = 0x00100020
ACCESSION_NUMBER: Final = 0x00080050
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
SOP_INSTANCE_UID: Final = 0x00080018
#: Keys without which an answer could not be retrieved: they are asked for in any case.
UNIQUE_KEYS: Final[Mapping[ResourceLevel, tuple[int, ...]]] = {
    ResourceLevel.PATIENT: (PATIENT_ID,),
    ResourceLevel.STUDY: (PATIENT_ID, ACCESSION_NUMBER, STUDY_INSTANCE_UID),
    ResourceLevel.SERIES: (PATIENT_ID, ACCESSION_NUMBER, STUDY_INSTANCE_UID, SERIES_INSTANCE_UID),
    ResourceLevel.INSTANCE: (
        *(PATIENT_ID, ACCESSION_NUMBER, STUDY_INSTANCE_UID),
        *(SERIES_INSTANCE_UID, SOP_INSTANCE_UID),
    ),
}
_DEPTH: Final = 16


@functools.cache
def _allowed() -> Mapping[ResourceLevel, frozenset[int]]:
    """Tags that a normalised query may have: those of its level and of the levels above."""
    allowed: dict[ResourceLevel, frozenset[int]] = {}
    so_far = frozenset({SPECIFIC_CHARACTER_SET})
    for level in ResourceLevel:
        so_far |= module_tags()[level]
        allowed[level] = so_far
    return allowed


def parse_query(value: object, dictionary: Dictionary, depth: int = 0) -> Elements:
    """The elements of a JSON query: tags with texts, or with arrays of such objects for sequences. BadFileFormat."""
    if not isinstance(value, dict) or depth > _DEPTH:
        raise BadFileFormat("An object of DICOM tags and strings is needed")
    elements: dict[int, Element] = {}
    for name, item in value.items():
        try:
            tag = dictionary.parse(name)
        except UnknownDicomTag as e:
            raise BadFileFormat(f"Unknown DICOM tag: {name[:64]}") from e
        if isinstance(item, list):
            elements[tag] = (tag, "SQ", [parse_query(nested, dictionary, depth + 1) for nested in item])
        elif isinstance(item, str):
            elements[tag] = (tag, dictionary.vr(tag), item)
        else:
            raise BadFileFormat("An object of DICOM tags and strings is needed")
    return [elements[tag] for tag in sorted(elements)]


def normalized(level: ResourceLevel, elements: Elements) -> tuple[Elements, list[int]]:
    """The keys that a query of a level may have, and the tags of those that do not belong to it."""
    kept = [element for element in elements if element[0] in _allowed()[level]]
    others = [element[0] for element in elements if element[0] not in _allowed()[level]]
    return kept, [tag for tag in others if tag != QUERY_RETRIEVE_LEVEL]


def query_for(
    level: ResourceLevel, elements: Elements, dictionary: Dictionary, manufacturer: Manufacturer
) -> Elements:
    """What to send for a query of a level."""
    kept = {element[0]: element for element in elements}
    universal = "*" if manufacturer is Manufacturer.GE else ""
    for tag in UNIQUE_KEYS[level]:
        kept.setdefault(tag, (tag, dictionary.vr(tag), universal))
    kept[QUERY_RETRIEVE_LEVEL] = (QUERY_RETRIEVE_LEVEL, "CS", LEVEL_TEXTS[level])
    return [kept[tag] for tag in sorted(kept)]


def retrieve_query(level: ResourceLevel, answer: Mapping[int, str], dictionary: Dictionary) -> Elements:
    """The identifier that retrieves an answer: its unique keys."""
    keys = [(tag, dictionary.vr(tag), answer[tag]) for tag in sorted(UNIQUE_KEYS[level]) if tag in answer]
    return [(QUERY_RETRIEVE_LEVEL, "CS", LEVEL_TEXTS[level]), *keys]


def template(level: ResourceLevel, dictionary: Dictionary) -> Elements:
    """Empty keys for what is usual at a level, for routes that name none."""
    return [(tag, dictionary.vr(tag), "") for tag in sorted({*UNIQUE_KEYS[level], *_TEMPLATES[level]})]


def keys_below(elements: Elements, level: ResourceLevel) -> Elements:
    """Those keys of a query that do not belong to `level` or above."""
    return [element for element in elements if element[0] not in _allowed()[level]]


def sop_class_of(level: ResourceLevel) -> str:
    """The information model in which a level is queried."""
    return PATIENT_ROOT_FIND if level is ResourceLevel.PATIENT else STUDY_ROOT_FIND


#: Keys of the older routes, which name none.
_TEMPLATES: Final[Mapping[ResourceLevel, frozenset[int]]] = {
    ResourceLevel.PATIENT: frozenset({0x00100010, 0x00100030, 0x00100040, 0x00101000}),
    ResourceLevel.STUDY: frozenset({0x00080020, 0x00080030, 0x00080090, 0x00081030, 0x00200010}),
    ResourceLevel.SERIES: frozenset(
        {
            *(0x00080021, 0x00080031, 0x00080060, 0x0008103E, 0x00081070, 0x00180015, 0x00181030),
            *(0x00200011, 0x00400254),
        }
    ),
    ResourceLevel.INSTANCE: frozenset(DEFAULT_MAIN_TAGS[ResourceLevel.INSTANCE]),
}
