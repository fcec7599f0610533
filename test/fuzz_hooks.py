"""What schemathesis does before and after each of its requests (see test_fuzz.py); it is loaded by its process.

The environment tells it of the server: ``FUZZ_RESOURCES``, JSON of known names by the first part of paths;
``FUZZ_PORT``, a DICOM port of this machine; ``FUZZ_FREE_PORT``, one where nobody listens; ``FUZZ_OBJECT``, a DICOM
file.
"""

from __future__ import annotations

import json
import os
import re
import uuid
import zlib
from pathlib import Path
from typing import Any, Final

import schemathesis

_RESOURCES: Final[dict[str, list[str]]] = json.loads(os.environ["FUZZ_RESOURCES"])
_PORT: Final = int(os.environ["FUZZ_PORT"])
#: A peer that is away.
_URL: Final = f"http://127.0.0.1:{os.environ['FUZZ_FREE_PORT']}/"
#: Statuses of 500 and above with their OrthancStatus that a good server gives: failures of the other side of a DICOM
#: association, and what is not built.
_ALLOWED: Final = ((500, 9), (501, 2))
#: Requests that copy resources, and which ones by number: those of the next level fall into none of these.
_COPYING: Final = re.compile("/(modify|anonymize|bulk-modify|bulk-anonymize|merge|split)$")
_COPIED: Final = {"series": 0, "studies": 1, "patients": 2}
_MERGED: Final = 3
#: Other parts of paths that mean something.
_PARTS: Final = {
    "name": ("dicom", "ReceptionDate", "1024"),
    "frame": (0,),
    "index": (0,),
    "key": ("archive",),
    "path": ("PatientName", "0008-0016"),
}
_OBJECT: Final = Path(os.environ["FUZZ_OBJECT"]).read_bytes()
_KEYS: Final = {"HttpError": str, "HttpStatus": int, "Message": str, "Method": str, "OrthancStatus": int, "Uri": str}


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Two of three requests are about something that is there; nobody but this machine is ever called."""
    number = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
    if number % 3:
        for name in case.path_parameters:
            known = _RESOURCES.get(case.path.split("/")[1], ()) if name == "id" else _PARTS.get(name, ())
            if known:
                case.path_parameters[name] = known[number // 3 % len(known)]
    case.body = _peer(case.body) if case.path.startswith("/peers") else _at_home(case.body, number)
    if _COPYING.search(case.path):
        _copy_little(case)


def _copy_little(case: schemathesis.Case) -> None:
    """Copies are made of resources that no copy falls into: else each request would double what the next one copies."""
    kind, operation = case.path.split("/")[1], case.path.rpartition("/")[2]
    number = _MERGED if operation in ("merge", "split") else _COPIED.get(kind)
    if number is not None and case.path_parameters.get("id") in _RESOURCES[kind]:
        case.path_parameters["id"] = _RESOURCES[kind][number]
    if isinstance(case.body, dict):
        # The originals stay for the other requests.
        case.body["KeepSource"] = True
        if case.path.endswith("/modify") and kind == "patients":
            # A modified patient with the same identifier is the same patient.
            case.body.update(Force=True, Replace={"PatientID": uuid.uuid5(uuid.NAMESPACE_OID, repr(case.body)).hex})
        if "Resources" in case.body:
            case.body["Resources"] = _RESOURCES["instances"][-1:]


def _peer(body: Any) -> Any:
    """A peer in either form, on this machine."""
    if isinstance(body, dict) and isinstance(body.get("Url"), str):
        return {**body, "Url": _URL}
    return [_URL, *body[1:]] if isinstance(body, list) else body


def _at_home(body: Any, number: int) -> Any:
    """A body that names no host but this one, and things that are there."""
    if isinstance(body, dict):
        return {name: _field(name, value, number) for name, value in body.items()}
    if isinstance(body, list):
        # A modality in its short form: name, host, port.
        return [body[0], "127.0.0.1", _PORT, *body[3:]] if len(body) > 2 else body
    return body


def _field(name: str, value: Any, number: int) -> Any:
    if name == "Host":
        return "127.0.0.1"
    if name == "Port":
        return _PORT
    if name == "Resources" and number % 3:
        studies = _RESOURCES["studies"]
        return [studies[number % len(studies)]]
    return _at_home(value, number)


@schemathesis.serializer("application/dicom")
def dicom(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """A DICOM file, or one in which some bytes are others."""
    content = bytearray(_OBJECT)
    noise = repr(value).encode()
    start = zlib.crc32(noise) % len(content)
    content[start : start + len(noise) // 3] = noise[: len(noise) // 3]
    return bytes(content)


@schemathesis.check
def answers_well(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """The client's mistakes are told as such, in Orthanc's error JSON, and nothing of our inside is."""
    status, body = response.status_code, response.content
    if status < 400:
        return
    assert b"Traceback" not in body and b".py" not in body, f"{status} tells of the inside: {body[:200]!r}"
    if not body:
        assert status < 500, f"{status} without a reason"
        return
    error = json.loads(body)
    wrong = [name for name, kind in _KEYS.items() if not isinstance(error.get(name), kind)]
    assert not wrong, f"{status} with an error that lacks {wrong}: {error}"
    assert error["HttpStatus"] == status, f"{status} is told as {error['HttpStatus']}"
    assert status < 500 or (status, error["OrthancStatus"]) in _ALLOWED, f"{status}: {error}"
