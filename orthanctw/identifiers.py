"""Orthanc identifiers, generated UIDs and the normalisation of searched values (level 0: values)."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
import uuid

from orthanctw.model import ResourceLevel

_UID_PREFIXES = {
    ResourceLevel.STUDY: "1.2.276.0.7230010.3.1.2",
    ResourceLevel.SERIES: "1.2.276.0.7230010.3.1.3",
    ResourceLevel.INSTANCE: "1.2.276.0.7230010.3.1.4",
}
#: Characters of an identifier of ours: five groups of eight, and four hyphens.
ORTHANC_ID_LENGTH = 44
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
#: Everything that a searched identifier loses: control and non-ASCII characters.
_DROPPED = dict.fromkeys((*range(32), 127)) | {ord("%"): " ", ord("_"): " "}


def orthanc_id(*values: str) -> str:
    """Identifier of the resource whose DICOM identifiers, from the patient downwards, are `values`."""
    digest = hashlib.sha1("|".join(values).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{digest[:8]}-{digest[8:16]}-{digest[16:24]}-{digest[24:32]}-{digest[32:]}"


def hierarchy_ids(patient_id: str, study_uid: str, series_uid: str, sop_uid: str) -> tuple[str, str, str, str]:
    """The identifiers of patient, study, series and instance of one object."""
    return (
        orthanc_id(patient_id),
        orthanc_id(patient_id, study_uid),
        orthanc_id(patient_id, study_uid, series_uid),
        orthanc_id(patient_id, study_uid, series_uid, sop_uid),
    )


def is_uuid(text: str) -> bool:
    return _UUID.match(text) is not None


def is_label(text: str) -> bool:
    """Whether a resource may bear `text` as a label."""
    return _LABEL.match(text) is not None


def normalize_identifier(value: str) -> str:
    """The form in which identifier tags are indexed and searched; wildcards stay."""
    if value.isascii() and value.isprintable() and "%" not in value and "_" not in value:
        return value.upper().strip(" ")
    return value.encode("ascii", "ignore").decode("ascii").translate(_DROPPED).upper().strip(" ")


def generate_uid(level: ResourceLevel) -> str:
    """A new UID for `level` (PS3.5 section 9, at most 64 characters), a UUID for a patient."""
    if level is ResourceLevel.PATIENT:
        return str(uuid.uuid4())
    return f"{_UID_PREFIXES[level]}.{secrets.randbits(32)}.{int(time.time())}.{secrets.randbits(32)}"
