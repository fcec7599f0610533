"""Objects that are modified or anonymised, as a child does it, and what is found in them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import orjson
import pydicom
from pydicom import Dataset

from orthanctw.dicom.dictionary import STANDARD
from orthanctw.dicom.editing.modification import Modification
from orthanctw.dicom.editing.operation import edit_operation
from orthanctw.dicom.editing.parsing import parse_anonymization, parse_modification
from orthanctw.model import ResourceLevel

KEY = bytes(range(32))


def edited(data: bytes, modification: Modification, **fields: Any) -> bytes:
    """An object, changed; `fields` of the request to the child."""
    described = orjson.dumps(modification.to_json())
    usual = {
        "Path": "",
        "StorageCompression": 1,
        "ModificationLength": len(described),
        "Key": KEY.hex(),
        "OldInstance": "",
        "Version": "1.2.3",
        "Dictionary": "",
        "DefaultEncoding": "Latin1",
        "Output": "",
        "Threshold": 0,
    }
    return edit_operation({**usual, **fields}, described + data)[1]


def modification(body: Mapping[str, Any], level: ResourceLevel = ResourceLevel.INSTANCE) -> Modification:
    """What the body of ``/modify`` asks for."""
    return parse_modification(body, level, STANDARD)


def anonymization(body: Mapping[str, Any]) -> Modification:
    """What the body of ``/anonymize`` asks for."""
    return parse_anonymization(body, ResourceLevel.STUDY, STANDARD)


def modified(data: bytes, body: Mapping[str, Any], level: ResourceLevel = ResourceLevel.INSTANCE) -> Dataset:
    """An object after ``/modify``, read by pydicom."""
    return read(edited(data, modification(body, level)))


def anonymized(data: bytes, body: Mapping[str, Any] | None = None, **fields: Any) -> Dataset:
    """An object after ``/anonymize``, read by pydicom."""
    return read(edited(data, anonymization(body or {}), **fields))


def read(data: bytes) -> Dataset:
    """An object, read by pydicom."""
    return pydicom.dcmread(io.BytesIO(data))
