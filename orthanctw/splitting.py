"""What splitting and merging studies changes in objects (level 4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from orthanctw.dicom.editing.modification import PATIENT_ID, STUDY_INSTANCE_UID, Modification
from orthanctw.dicom.editing.paths import TagPath
from orthanctw.dicom.elements import Element
from orthanctw.dicom.maintags import COMPUTED_TAGS
from orthanctw.dicom.modules import module_tags
from orthanctw.errors import ParameterOutOfRange
from orthanctw.model import ResourceLevel

_DESCRIBED: Final = (ResourceLevel.PATIENT, ResourceLevel.STUDY)
#: Binary in objects: as text they would be something else.
_TEXTLESS: Final = frozenset(("SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN"))


def study_tags() -> frozenset[int]:
    """Tags that describe a patient or a study, but for what identifies the study."""
    modules = module_tags()
    tags = frozenset().union(*(modules[level].difference(COMPUTED_TAGS[level]) for level in _DESCRIBED))
    return tags - {STUDY_INSTANCE_UID}


def split_modification(
    study_uid: str,
    replacements: Mapping[int, str],
    removals: Iterable[int],
    *,
    keep_source: bool,
    keep_labels: bool,
) -> Modification:
    """Objects of a new study. ParameterOutOfRange for tags that describe no patient and no study."""
    removed = tuple(removals)
    allowed = study_tags()
    for tag in (*replacements, *removed):
        if tag not in allowed:
            raise ParameterOutOfRange("Splitting a study changes tags of the modules of patient and study only")
    if PATIENT_ID in removed:
        # As an empty one, which is how objects without it are identified.
        replacements = {**replacements, PATIENT_ID: ""}
    return _modification(
        {**replacements, STUDY_INSTANCE_UID: study_uid},
        (tag for tag in removed if tag != PATIENT_ID),
        keep_source=keep_source,
        keep_labels=keep_labels,
    )


def merge_modification(target: Mapping[int, Element], *, keep_source: bool) -> Modification:
    """Objects that say of patient and study what an object of the `target` study says, by its elements."""
    texts = {
        tag: target[tag][2] for tag in (*study_tags(), STUDY_INSTANCE_UID) if tag in target and _is_text(target[tag])
    }
    return _modification(texts, study_tags() - texts.keys(), keep_source=keep_source)


def _is_text(element: Element) -> bool:
    return element[1] not in _TEXTLESS and element[2].__class__ is str


def _modification(
    replacements: Mapping[int, str], removals: Iterable[int], *, keep_source: bool, keep_labels: bool = False
) -> Modification:
    return Modification(
        level=ResourceLevel.STUDY,
        replacements=tuple((TagPath((), tag), text) for tag, text in sorted(replacements.items())),
        removals=tuple(TagPath((), tag) for tag in sorted(removals)),
        keep_source=keep_source,
        keep_labels=keep_labels,
    )
