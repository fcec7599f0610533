"""Make the data files of `orthanctw.dicom` and of its tests.

Usage: python scripts/make_dicom_data.py REFERENCE_FOLDER [PRIVATE_DIC]

REFERENCE_FOLDER holds ``dicom_tags.json`` and ``enumerations.json``, the facts about Orthanc's tags and encodings.
PRIVATE_DIC is DCMTK's list of private tags, the one that Orthanc uses; without it the present file stays.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
PRIVATE_TAGS = ROOT / "orthanctw" / "dicom" / "private_tags.json"
QUERY_TAGS = ROOT / "orthanctw" / "dicom" / "query_tags.json"
MAIN_TAGS = ROOT / "test" / "data" / "dicom_main_tags.json"
ENCODINGS = ROOT / "test" / "data" / "dicom_encodings.json"
NOTICE = "Names and VRs of private tags as in the data dictionary of DCMTK, (C) OFFIS e.V., BSD 3-clause licence."
_LINE = re.compile(r'\(([0-9a-f]{4})(-o-[0-9a-f]{4})?,"([^"]*)",([0-9a-f]{2,4})(-u-[0-9a-f]{2,4})?\)\Z', re.IGNORECASE)
#: DCMTK's names for ambiguous VRs.
_VRS = {"xs": "US", "ox": "OW", "lt": "OW", "up": "UL", "px": "OW"}


def private_tags(path: pathlib.Path) -> dict[str, dict[str, list[str]]]:
    """``{creator: {"ggggee": [VR, name]}}``; the element is two digits, or four when it is fixed."""
    result: dict[str, dict[str, list[str]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = line.split("\t")
        match = _LINE.match(fields[0]) if len(fields) >= 3 else None
        if match is None or match[5]:
            continue
        first = int(match[1], 16)
        last = int(match[2][3:], 16) if match[2] else first
        for group in range(first, last + 1, 2):
            entry = [_VRS.get(fields[1], fields[1]), fields[2].replace(" ", "")]
            result.setdefault(match[3], {})[f"{group:04x}{match[4].lower()}"] = entry
    return result


def query_tags(rules: dict[str, Any]) -> dict[str, list[str]]:
    """Tags that a normalised query of each level may have, besides those of the levels above."""
    return {
        level: sorted({entry["tag"] for entry in tags} | set(rules["extra_allowed"].get(level, ())))
        for level, tags in rules["module_tags"].items()
    }


def write(path: pathlib.Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=0, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    reference = pathlib.Path(arguments[0])
    tags = json.loads((reference / "dicom_tags.json").read_text(encoding="utf-8"))
    kept = ("main_dicom_tags", "main_dicom_tags_signature", "identifier_tags", "computed_tags")
    write(MAIN_TAGS, {key: tags[key] for key in kept})
    write(QUERY_TAGS, query_tags(tags["c_find_scu_normalization"]))
    enumerations = json.loads((reference / "enumerations.json").read_text(encoding="utf-8"))
    write(ENCODINGS, enumerations["encodings"])
    if len(arguments) > 1:
        write(PRIVATE_TAGS, {"_about": NOTICE, "creators": private_tags(pathlib.Path(arguments[1]))})


if __name__ == "__main__":
    main(sys.argv[1:])
