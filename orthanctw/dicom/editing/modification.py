"""What is to be changed in objects, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from orthanctw.dicom.editing.paths import TagPath
from orthanctw.errors import BadRequest
from orthanctw.model import ResourceLevel

PATIENT_ID: Final = 0x00100020
PATIENT_NAME: Final = 0x00100010
STUDY_INSTANCE_UID: Final = 0x0020000D
SERIES_INSTANCE_UID: Final = 0x0020000E
SOP_INSTANCE_UID: Final = 0x00080018
#: By level, from the patient downwards.
IDENTIFIERS: Final = {
    ResourceLevel.PATIENT: PATIENT_ID,
    ResourceLevel.STUDY: STUDY_INSTANCE_UID,
    ResourceLevel.SERIES: SERIES_INSTANCE_UID,
    ResourceLevel.INSTANCE: SOP_INSTANCE_UID,
}


@attrs.frozen(kw_only=True)
class Modification:
    """What is to be changed in objects. Immutable; JSON both ways, as a job's parameter.

    Parameters
    ----------
    level : ResourceLevel
        What is modified: identifiers of this level and below become new ones.
    is_anonymization : bool
        Whether `profile` is applied, and all identifiers become new ones.
    profile : str
        ``DicomVersion`` of an anonymisation; empty otherwise.
    replacements : tuple of (TagPath, JSON value)
        In the order of the request; the last one counts.
    removals, keeps : tuple of TagPath
    removes_private : bool
        Whether private tags go that are not in `keeps`.
    private_creator : str
        Of private tags in `replacements`.
    keep_source, keep_labels : bool
        For the job: whether the source stays, and whether the result bears its labels.
    transfer_syntax : str
        ``Transcode``; empty to keep that of the object.
    lossy_quality : int, optional
        ``LossyQuality``; None for the server's.
    patient_name : str
        New name of an anonymised patient; empty for one that is derived from the PatientID.
    """

    level: ResourceLevel
    is_anonymization: bool = False
    profile: str = ""
    replacements: tuple[tuple[TagPath, Any], ...] = ()
    removals: tuple[TagPath, ...] = ()
    keeps: tuple[TagPath, ...] = ()
    removes_private: bool = False
    private_creator: str = ""
    keep_source: bool = True
    keep_labels: bool = False
    transfer_syntax: str = ""
    lossy_quality: int | None = None
    patient_name: str = ""

    def replaces(self, tag: int) -> bool:
        """Whether the request gives a value for a tag of the top level."""
        return any(not path.steps and path.tag == tag for path, _ in self.replacements)

    def keeps_tag(self, tag: int) -> bool:
        """Whether the request keeps a tag of the top level."""
        return any(not path.steps and path.tag == tag for path in self.keeps)

    def removes_tag(self, tag: int) -> bool:
        """Whether the request removes a tag of the top level."""
        return any(not path.steps and path.tag == tag for path in self.removals)

    @property
    def needs_patient_name(self) -> bool:
        """Whether it is an anonymisation whose request does not say what becomes of PatientName."""
        return self.is_anonymization and not (
            self.replaces(PATIENT_NAME) or self.keeps_tag(PATIENT_NAME) or self.removes_tag(PATIENT_NAME)
        )

    def named(self, patient_name: str) -> Modification:
        """The same with a `patient_name`, as ``Anonymized1``."""
        return attrs.evolve(self, patient_name=patient_name)

    @property
    def keeps_instances(self) -> bool:
        """Whether results are the same instances as their sources, so that they would overwrite them."""
        kept = all(
            self.keeps_tag(tag) for level, tag in IDENTIFIERS.items() if level is not ResourceLevel.PATIENT
        )
        return kept and not self.replaces(PATIENT_ID) and (not self.is_anonymization or self.keeps_tag(PATIENT_ID))

    def check_overwriting(self, *, overwrites: bool) -> None:
        """Raise BadRequest when results would be the same instances as their sources, and these would be lost.

        `overwrites` is whether the server lets instances be overwritten.
        """
        if self.keeps_instances and not (self.keep_source and overwrites):
            raise BadRequest("To keep all identifiers, KeepSource and OverwriteInstances must be true")

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "Level": self.level.title,
            "IsAnonymization": self.is_anonymization,
            "DicomVersion": self.profile,
            "Replace": [[str(path), value] for path, value in self.replacements],
            "Remove": [str(path) for path in self.removals],
            "Keep": [str(path) for path in self.keeps],
            "RemovePrivateTags": self.removes_private,
            "PrivateCreator": self.private_creator,
            "KeepSource": self.keep_source,
            "KeepLabels": self.keep_labels,
            "Transcode": self.transfer_syntax,
            "LossyQuality": self.lossy_quality,
            "PatientName": self.patient_name,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Modification:
        """Raises KeyError, TypeError, ValueError or an OrthancError when it is not what `to_json` has made."""
        level = ResourceLevel.parse(value["Level"])
        if level is None:
            raise ValueError("level")
        return cls(
            level=level,
            is_anonymization=bool(value["IsAnonymization"]),
            profile=value["DicomVersion"],
            replacements=tuple((TagPath.parse(path), given) for path, given in value["Replace"]),
            removals=tuple(map(TagPath.parse, value["Remove"])),
            keeps=tuple(map(TagPath.parse, value["Keep"])),
            removes_private=bool(value["RemovePrivateTags"]),
            private_creator=value["PrivateCreator"],
            keep_source=bool(value["KeepSource"]),
            keep_labels=bool(value["KeepLabels"]),
            transfer_syntax=value["Transcode"],
            lossy_quality=value["LossyQuality"],
            patient_name=value["PatientName"],
        )
