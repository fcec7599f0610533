"""Make the data file of the profiles of anonymisation, `orthanctw.dicom.editing.profiles`.

Usage: python scripts/make_profile_data.py REFERENCE_FOLDER

REFERENCE_FOLDER holds ``anonymization.json``, the facts about what Orthanc does with which tag.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROFILES = ROOT / "orthanctw" / "dicom" / "profiles.json"
#: What stands for an action, and for none.
LETTERS = {"remove": "r", "clear": "c", "replace_uid": "u"}
NO_ACTION = "-"
#: Of what stands before it in DeidentificationMethod, the version of the server is another one.
SEPARATOR = " - "


def tag_actions(profiles: dict[str, Any], versions: list[str]) -> dict[str, str]:
    """A letter for each version, by tag."""
    result: dict[str, list[str]] = {}
    for place, version in enumerate(versions):
        for entry in profiles[version]["tags"]:
            letters = result.setdefault(entry["tag"].replace(",", ""), [NO_ACTION] * len(versions))
            letters[place] = LETTERS[entry["action"]]
    return {tag: "".join(letters) for tag, letters in sorted(result.items())}


def removed_ranges(profile: dict[str, Any]) -> list[list[str]]:
    """First and last group, first and last element; both ends belong to it."""
    keys = ("group_from", "group_to", "element_from", "element_to")
    return [[entry[key] for key in keys] for entry in profile["removed_ranges"]]


def main(arguments: list[str]) -> None:
    facts = json.loads((pathlib.Path(arguments[0]) / "anonymization.json").read_text(encoding="utf-8"))
    versions, profiles = facts["versions"], facts["profiles"]
    content = {
        "default": facts["default_version"],
        "methods": {v: profiles[v]["deidentification_method"].split(SEPARATOR, 1)[1] for v in versions},
        "ranges": {version: removed_ranges(profiles[version]) for version in versions},
        "tags": tag_actions(profiles, versions),
        "versions": versions,
    }
    PROFILES.write_text(json.dumps(content, indent=0, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
