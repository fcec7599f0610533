"""Compare modified and anonymised objects with those of an installed Orthanc, for every file of pydicom's wheel.

Usage: python -m scripts.compare_modified [--orthanc PATH] [--show N] [FILE...]

New identifiers differ from one run to the next; so what is compared of them is which are equal among each other. The
profile that Orthanc 1.10.1 does not have is compared with the data file that it comes from.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
import pydicom.data

from orthanctw.dicom.dictionary import STANDARD, format_tag, is_private
from orthanctw.dicom.editing.identity import is_registered
from orthanctw.dicom.editing.modification import Modification
from orthanctw.dicom.editing.operation import edit_operation
from orthanctw.dicom.editing.parsing import parse_anonymization, parse_modification
from orthanctw.dicom.editing.profiles import PROFILES, Action, profile_of
from orthanctw.dicom.elements import DEFLATED_LITTLE_ENDIAN, TEXT_VRS, Buffer, Elements
from orthanctw.dicom.scanner import inflate, meta_end, scan
from orthanctw.errors import OrthancError
from orthanctw.model import ResourceLevel
from scripts.compare_tags import Server

#: What is asked for: kind and body.
REQUESTS: Final[tuple[tuple[str, Mapping[str, Any]], ...]] = (
    *(("anonymize", {"DicomVersion": version}) for version in PROFILES[:3]),
    ("anonymize", {"DicomVersion": "2021b", "KeepPrivateTags": True}),
    ("anonymize", {"DicomVersion": "2021b", "Keep": ["StudyDescription", "PatientAge", "StudyDate"]}),
    ("anonymize", {"DicomVersion": "2021b", "Replace": {"PatientName": "New^Name", "PatientBirthDate": "19700101"}}),
    ("modify", {"Replace": {"PatientName": "Nöw^Näme", "StudyDescription": "Description"}}),
    ("modify", {"Remove": ["PatientName", "StudyDate", "0008,1140[*].0008,1150"]}),
    ("modify", {"Replace": {"0008,1140[*].0008,1155": "1.2.3", "SourceImageSequence": [{"PatientName": "In^Item"}]}}),
    ("modify", {"RemovePrivateTags": True}),
    ("modify", {"Replace": {"StudyInstanceUID": "1.2.3.4", "PatientID": "NEW"}, "Force": True}),
)
KEY: Final = bytes(range(16))
_TEXTS: Final = {0x00100010, 0x00100020}
_METHOD: Final = 0x00120063
_REPLACED: Final = frozenset({"0010,0020", "0020,0052"})
#: The real Orthanc 1.10.1 ends on files with deep nesting.
_SKIPPED: Final = {"bad_sequence.dcm"}
ABSENT: Final = "<absent>"
Flat = dict[str, tuple[str, Any]]


def flat(data: bytes) -> Flat:
    """All elements by their paths: VR and value. The values of what stays in the file are its bytes."""
    scanned = scan(data)
    buffer: Buffer = data
    if scanned.transfer_syntax == DEFLATED_LITTLE_ENDIAN:
        buffer = inflate(data, meta_end(data))
    result: Flat = {"syntax": ("", scanned.transfer_syntax)}
    _add(result, "", scanned.elements, buffer)
    return result


def _add(result: Flat, prefix: str, elements: Elements, data: Buffer) -> None:
    for element in elements:
        tag, vr, value = element[:3]
        path = prefix + format_tag(tag)
        if tag & 0xFFFF == 0:
            continue
        if isinstance(value, list):
            result[path] = (vr, len(value))
            for number, item in enumerate(value):
                _add(result, f"{path}[{number}].", item, data)
        elif len(element) == 4:
            result[path] = (vr, bytes(data[value : value + element[3]]))
        else:
            result[path] = (vr, value)


class Names:
    """What became new, in the order of its appearance."""

    def __init__(self, source: Flat) -> None:
        self._known = {part for _, value in source.values() if isinstance(value, str) for part in value.split("\\")}
        self._new: dict[str, dict[str, str]] = {"UI": {}, "LO": {}, "PN": {}}

    def of(self, path: str, vr: str, value: Any) -> Any:
        """A value, with a number in the place of each new identifier."""
        tag = int(path.replace(",", "")[-8:], 16) if path != "syntax" else 0
        if not isinstance(value, str) or value == ABSENT or (vr != "UI" and tag not in {*_TEXTS, _METHOD}):
            return value
        if tag == _METHOD:
            return value.split(" - ")[-1] if " - " in value else "server"
        parts = value.split("\\")
        return "\\".join(
            part if not part or part in self._known else self._new[vr].setdefault(part, f"<{len(self._new[vr])}>")
            for part in parts
        )


def edit(data: bytes, modification: Modification) -> bytes:
    """An object as a child changes it."""
    described = orjson.dumps(modification.to_json())
    header = {
        "Path": "",
        "ModificationLength": len(described),
        "Key": KEY.hex(),
        "OldInstance": "",
        "Version": "1.10.1",
        "Dictionary": "",
        "DefaultEncoding": "Latin1",
        "Output": "",
        "Threshold": 0,
    }
    return edit_operation(header, described + data)[1]


def ours(data: bytes, kind: str, body: Mapping[str, Any]) -> bytes | int:
    """What we make of an object, or the code of the error."""
    try:
        if kind == "anonymize":
            return edit(data, parse_anonymization(body, ResourceLevel.INSTANCE, STANDARD))
        level = ResourceLevel.PATIENT if "Force" in body else ResourceLevel.INSTANCE
        return edit(data, parse_modification(body, level, STANDARD))
    except OrthancError as e:
        return int(e.code)


def theirs(server: Server, instance: str, kind: str, body: Mapping[str, Any]) -> bytes | int:
    """What Orthanc makes of it."""
    status, answer = server.request("POST", f"/instances/{instance}/{kind}", json.dumps(body).encode("utf-8"))
    return answer if status == 200 else int(json.loads(answer).get("OrthancStatus", -1))


Difference = tuple[str, Any, Any]


def differences(source: bytes, one: bytes | int, other: bytes | int) -> Iterator[Difference]:
    """Where our object, the first one, and Orthanc's differ."""
    if isinstance(one, int) or isinstance(other, int):
        if one != other:
            yield "error", one if isinstance(one, int) else "object", other if isinstance(other, int) else "object"
        return
    before, mine, other_flat = flat(source), flat(one), flat(other)
    my_names, other_names = Names(before), Names(before)
    absent = ("", ABSENT)
    for path in sorted({*mine, *other_flat}):
        vr, value = mine.get(path, absent)
        other_vr, other_value = other_flat.get(path, absent)
        a = my_names.of(path, vr, value), vr
        b = other_names.of(path, other_vr, other_value), other_vr
        if a != b:
            yield path, (vr, _short(a[0])), (other_vr, _short(b[0]))


def explain(where: str, mine: Any, other: Any, source: Flat) -> str:
    """The known reason of a difference, or an empty text."""
    tag = where[-9:]
    if tag == "7fe0,0010" and mine[0] == "OW" and other[0] == "OB":
        return "what is not changed is copied, a wrong VR of encapsulated pixels too"
    if where == "0012,0063" and ABSENT in other[1]:
        return "DeidentificationMethod is told by 1.12.7 and later even if the request changes the profile"
    if where == "0010,0020" and where not in source:
        return "who has no PatientID gets one"
    if where == "0008,0005":
        return "new text is not lost, and what it is encoded in is told"
    if tag.startswith("60") and tag.endswith("3000"):
        return "overlays are removed by 1.13.0"
    value = source.get(where, ("", ""))
    if value[0] == "UN" or (where in _REPLACED and other[1] == _short(value[1])):
        return "what is encoded as UN is anonymised too"
    if where == "0020,0052" and value[1] == source["0020,000d"][1]:
        return "what had the same UID has the same new one"
    return ""


def _short(value: Any) -> str:
    return repr(value)[:60]


def unlike_profile(source: bytes, version: str) -> Iterator[Difference]:
    """Where an anonymised object is not what the data of its profile ask for."""
    made = ours(source, "anonymize", {"DicomVersion": version})
    if isinstance(made, int):
        yield "error", made, ""
        return
    profile, before, after = profile_of(version), flat(source), flat(made)
    gone: list[str] = []
    for path, (vr, value) in before.items():
        if path == "syntax" or any(path.startswith(prefix) for prefix in gone):
            continue
        tags = [int(step[:4] + step[5:9], 16) for step in path.split(".")]
        action = Action.REMOVE if is_private(tags[-1]) else profile.action(tags[-1])
        text = after.get(path, ("", None))[1]
        if action is Action.REMOVE or (action is Action.CLEAR and len(tags) > 1 and vr not in TEXT_VRS):
            gone.append(path)
            if path in after:
                yield path, "present", "removed"
        elif action is Action.CLEAR:
            gone.append(path + "[")
            if text not in ("", b"", None, 0) or path not in after:
                yield path, _short(text), "cleared"
        elif tags[-1] in _NEW or action is Action.REPLACE_UID:
            if not value or (isinstance(value, str) and is_registered(value)):
                continue
            if text == value or not text:
                yield path, _short(text), "new"
        elif vr == "UN" and STANDARD.vr(tags[-1]) == "SQ":
            # What is in there has been anonymised.
            continue
        elif text != value and tags != [_METHOD] and tags != [0x00120062]:
            yield path, _short(text), _short(value)


_NEW: Final = _TEXTS | {0x0020000D, 0x0020000E, 0x00080018}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orthanc", default="/usr/sbin/Orthanc")
    parser.add_argument("--show", type=int, default=5)
    parser.add_argument("files", nargs="*")
    arguments = parser.parse_args()
    folder = pathlib.Path(pydicom.data.__file__).parent / "test_files"
    paths = [pathlib.Path(name) for name in arguments.files] or sorted(folder.rglob("*.dcm"))
    found: collections.defaultdict[str, list[str]] = collections.defaultdict(list)
    explained: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
    compared = 0
    server = Server(arguments.orthanc)
    try:
        for path in paths:
            if path.name in _SKIPPED:
                continue
            data = path.read_bytes()
            for version in PROFILES:
                for where, is_so, should in unlike_profile(data, version) if _is_readable(data) else ():
                    found[f"profile {version} {where}: {is_so}, not {should}"].append(path.name)
            status, body = server.request("POST", "/instances", data)
            if status != 200 or "ID" not in (answer := json.loads(body)):
                continue
            for kind, request in REQUESTS:
                result = theirs(server, answer["ID"], kind, request)
                compared += 1
                for where, mine, other in differences(data, ours(data, kind, request), result):
                    reason = explain(where, mine, other, flat(data))
                    if reason:
                        explained[reason].add(path.name)
                    else:
                        found[f"{kind} {json.dumps(request)[:70]} {where}: {mine}, Orthanc {other}"].append(path.name)
            server.request("DELETE", f"/instances/{answer['ID']}")
    finally:
        server.stop()
    for text, names in sorted(found.items()):
        print(f"{text}  ({len(names)}: {', '.join(names[: arguments.show])})")
    for reason, files in sorted(explained.items()):
        print(f"{len(files)} files: {reason}")
    print(f"{compared} objects compared, {len(found)} kinds of differences without explanation")


def _is_readable(data: bytes) -> bool:
    try:
        scan(data).identifiers()
    except OrthancError:
        return False
    return True


if __name__ == "__main__":
    main()
