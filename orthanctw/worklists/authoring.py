"""Worklists that are made from tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orthanctw.dicom.authoring import ValueOptions, elements_of
from orthanctw.dicom.elements import EXPLICIT_LITTLE_ENDIAN, SPECIFIC_CHARACTER_SET, Element
from orthanctw.dicom.encoding import encode_dataset, is_known
from orthanctw.dicom.filemeta import file_head
from orthanctw.errors import BadFileFormat, ParameterOutOfRange
from orthanctw.identifiers import generate_uid
from orthanctw.model import ResourceLevel
from orthanctw.worklists.model import MODALITY, SIZE_LIMIT, STEP_DATE, STEP_SEQUENCE, STUDY_INSTANCE_UID

#: What Orthanc gives files of worklists, which have no SOP class.
_SOP_CLASS: Final = "1.2.276.0.7230010.3.1.0.1"
_UTF8: Final = "ISO_IR 192"


def worklist_file(
    tags: Mapping[str, Any], options: ValueOptions, *, force: bool, study_instance_uid: str = ""
) -> bytes:
    """The DICOM file of a worklist.

    Parameters
    ----------
    force : bool
        The tags are not looked at.
    study_instance_uid : str, optional
        For a worklist that has none.

    Raises
    ------
    BadFileFormat
        There is no step, or one without modality or start date.
    ParameterOutOfRange
        The character set is unknown, or all of it is too large.
    OrthancError
        What `elements_of` raises.
    """
    elements = {element[0]: element for element in elements_of(tags, options)}
    if not force:
        _check(elements.get(STEP_SEQUENCE))
    character_set = _text(elements, SPECIFIC_CHARACTER_SET) or _UTF8
    if not is_known(character_set):
        raise ParameterOutOfRange("Unknown SpecificCharacterSet")
    if study_instance_uid and not _text(elements, STUDY_INSTANCE_UID):
        elements[STUDY_INSTANCE_UID] = (STUDY_INSTANCE_UID, "UI", study_instance_uid)
    file = file_head(_SOP_CLASS, generate_uid(ResourceLevel.INSTANCE), EXPLICIT_LITTLE_ENDIAN) + encode_dataset(
        list(elements.values()), explicit=True, character_sets=(character_set,)
    )
    if len(file) > SIZE_LIMIT:
        raise ParameterOutOfRange("Too large for a worklist")
    return file


def _check(steps: Element | None) -> None:
    if steps is None or not isinstance(steps[2], list) or not steps[2]:
        raise BadFileFormat("ScheduledProcedureStepSequence is missing")
    for step in steps[2]:
        named = {element[0] for element in step}
        if not {MODALITY, STEP_DATE} <= named:
            raise BadFileFormat("A step needs Modality and ScheduledProcedureStepStartDate")


def _text(elements: Mapping[int, Element], tag: int) -> str:
    element = elements.get(tag)
    return element[2].strip() if element is not None and isinstance(element[2], str) else ""
