"""New identifiers that depend on a key and on the old ones alone.

So all objects of one job agree on them without knowing of each other, and do so again when the job is repeated.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Mapping
from typing import Final

import attrs

from orthanctw.dicom.editing.modification import (
    IDENTIFIERS,
    PATIENT_ID,
    PATIENT_NAME,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Modification,
)
from orthanctw.dicom.editing.plan import Plan
from orthanctw.dicom.elements import Element
from orthanctw.dicom.scanner import ScannedFile
from orthanctw.model import ResourceLevel

#: UIDs that the standard registers: SOP classes, transfer syntaxes, well-known frames of reference (PS3.6 annex A).
_REGISTERED: Final = "1.2.840.10008."
_NAME_DIGITS: Final = 8
_FRAME_OF_REFERENCE_UID: Final = 0x00200052
_REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
#: Tags of references, by the tag of what they refer to.
_REFERENCES: Final[Mapping[int, tuple[int, ...]]] = {
    STUDY_INSTANCE_UID: (),
    SERIES_INSTANCE_UID: (),
    SOP_INSTANCE_UID: (_REFERENCED_SOP_INSTANCE_UID, 0x00041511, 0x00080058, 0x00081167, 0x00200242, 0x00280304),
    _FRAME_OF_REFERENCE_UID: (0x0018991E, 0x00209312, 0x00209313, 0x30060024, 0x300600C2, 0x300A0675),
}
_REFERRED: Final = {tag: referred for referred, tags in _REFERENCES.items() for tag in (referred, *tags)}
#: ReferencedStudySequence, RTReferencedStudySequence: ReferencedSOPInstanceUID is a StudyInstanceUID there.
_STUDY_SEQUENCES: Final = frozenset({0x00081110, 0x30060012})


def is_registered(uid: str) -> bool:
    """Whether the standard gives a UID its meaning: it names nothing of a patient."""
    return uid.startswith(_REGISTERED)


class Pseudonyms:
    """New identifiers.

    Parameters
    ----------
    key : bytes
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def uid(self, old: str) -> str:
        """A UID (PS3.5 section B.2). Whatever an old one names, it becomes the same: references need not tell."""
        return f"2.25.{self._uuid('uid', old.strip()).int}"

    def patient(self, old: str) -> str:
        """A PatientID, or the name of somebody else, in the form of a UUID."""
        return str(self._uuid("patient", old.strip()))

    def name(self, patient_id: str) -> str:
        """The PatientName of who had this PatientID."""
        return "Anonymized" + self._digest("name", patient_id.strip()).hex()[:_NAME_DIGITS]

    def _uuid(self, kind: str, old: str) -> uuid.UUID:
        return uuid.UUID(bytes=self._digest(kind, old)[:16], version=4)

    def _digest(self, kind: str, old: str) -> bytes:
        return hmac.digest(self._key, f"{kind}|{old}".encode("utf-8", "surrogateescape"), "sha256")


@attrs.frozen(kw_only=True)
class Identity:
    """New identifiers of one object and of what it refers to.

    Parameters
    ----------
    old, new : tuple of str
        PatientID and the UIDs of study, series and instance.
    written_instance : str
        The SOPInstanceUID that is in the file: another one than the old one if transcoding has made a new instance.
    patient_name : str, optional
        The new one; None when it stays, or is no matter of identity.
    own : mapping of str to str
        New UIDs that the request gives, or keeps, by the old ones.
    own_patient : mapping of (int, str) to str
        The same of PatientID and PatientName, by tag and old value.
    kept : frozenset of int
        Tags of identifiers, PatientName and FrameOfReferenceUID that stay, in references too.
    """

    old: tuple[str, str, str, str]
    new: tuple[str, str, str, str]
    written_instance: str
    patient_name: str | None
    own: Mapping[str, str]
    own_patient: Mapping[tuple[int, str], str]
    kept: frozenset[int]
    pseudonyms: Pseudonyms

    def uids(self, tag: int, text: str, sequence: int) -> str:
        """The new values of an element within items of a sequence (or 0), joined by backslashes as the old ones."""
        referred = _REFERRED.get(tag, 0)
        if tag == _REFERENCED_SOP_INSTANCE_UID and sequence in _STUDY_SEQUENCES:
            referred = STUDY_INSTANCE_UID
        if referred in self.kept:
            return text
        return "\\".join(self._uid(uid.strip(" \0")) for uid in text.split("\\"))

    def _uid(self, old: str) -> str:
        if not old or is_registered(old):
            return old
        new = self.own.get(old)
        return self.pseudonyms.uid(old) if new is None else new

    def patient_value(self, tag: int, old: str) -> str:
        """The new PatientID or PatientName where a nested one is `old`."""
        if not old or tag in self.kept:
            return old
        new = self.own_patient.get((tag, old))
        return self.pseudonyms.patient(old) if new is None else new

    def elements(self) -> list[Element]:
        """Elements of the top level to be written."""
        written = (*self.old[:3], self.written_instance)
        changed = [
            (tag, "LO" if tag == PATIENT_ID else "UI", new)
            for tag, old, new in zip(IDENTIFIERS.values(), written, self.new, strict=True)
            if new != old
        ]
        if self.patient_name is not None:
            changed.append((PATIENT_NAME, "PN", self.patient_name))
        return changed


def identity_of(scanned: ScannedFile, plan: Plan, key: bytes, old_instance: str = "") -> Identity:
    """What becomes of the identifiers of an object.

    `old_instance` is its SOPInstanceUID if it had another one before it was transcoded.

    Raises InexistentTag and BadFileFormat when it lacks one.
    """
    pseudonyms = Pseudonyms(key)
    patient, study, series, written_instance = scanned.identifiers()
    instance = old_instance or written_instance
    new = (
        _identifier(ResourceLevel.PATIENT, patient, plan, pseudonyms),
        _identifier(ResourceLevel.STUDY, study, plan, pseudonyms),
        _identifier(ResourceLevel.SERIES, series, plan, pseudonyms),
        _identifier(ResourceLevel.INSTANCE, instance, plan, pseudonyms),
    )
    kept = frozenset(tag for tag in (*_REFERENCES, PATIENT_ID, PATIENT_NAME) if tag in plan.rules.kept)
    own = {
        text: given
        for tag in _REFERENCES
        if (text := scanned.text(tag)) and (given := _given(plan, tag)) is not None
    }
    name = _patient_name(plan.modification, pseudonyms, patient)
    own_patient = {(PATIENT_ID, patient.strip()): new[0]}
    given_name = _given(plan, PATIENT_NAME) if name is None else name
    if given_name is not None:
        own_patient[PATIENT_NAME, scanned.text(PATIENT_NAME) or ""] = given_name
    return Identity(
        old=(patient, study, series, instance),
        new=new,
        written_instance=written_instance,
        patient_name=name,
        own={**own, instance: new[3]},
        own_patient=own_patient,
        kept=kept,
        pseudonyms=pseudonyms,
    )


def _identifier(level: ResourceLevel, old: str, plan: Plan, pseudonyms: Pseudonyms) -> str:
    tag = IDENTIFIERS[level]
    given = _given(plan, tag)
    if given is not None:
        return given
    if tag in plan.rules.kept:
        return old
    modification = plan.modification
    if level is ResourceLevel.PATIENT:
        return pseudonyms.patient(old) if modification.is_anonymization else old
    if modification.is_anonymization or level >= modification.level:
        return pseudonyms.uid(old)
    return old


def _given(plan: Plan, tag: int) -> str | None:
    """The value that the request gives for a tag of the top level."""
    element = plan.rules.replaced.get(tag)
    if element is None:
        return None
    value = element[2]
    return value.strip(" ") if isinstance(value, str) else bytes(value).decode("latin-1").strip(" \0")


def _patient_name(modification: Modification, pseudonyms: Pseudonyms, patient_id: str) -> str | None:
    if not modification.needs_patient_name:
        return None
    return modification.patient_name or pseudonyms.name(patient_id)
