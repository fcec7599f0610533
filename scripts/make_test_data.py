"""Make test/data/options.json and test/data/jobs.json from the folder of reference data.

Usage: python scripts/make_test_data.py REFERENCE_FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_TARGET = Path(__file__).resolve().parent.parent / "test" / "data"
_KEPT = ("name", "group", "type", "default", "values", "file")


def options(reference: Path) -> dict[str, Any]:
    """Names, groups, types, defaults and allowed values of the options; members of structures; plugin sections."""
    config = json.loads((reference / "config.json").read_text(encoding="utf-8"))
    structures = config["structures"]
    return {
        "options": [{key: entry[key] for key in _KEPT if key in entry} for entry in config["options"]],
        "aliases": {
            alias["name"]: entry["name"] for entry in config["options"] for alias in entry.get("aliases", [])
        },
        "modality": [
            {key: entry[key] for key in ("name", "default", "required") if key in entry}
            for entry in structures["DicomModalities"]["object_form"]
        ],
        "peer": [
            {key: entry[key] for key in ("name", "default", "required") if key in entry}
            for entry in structures["OrthancPeers"]["object_form"]
            if not entry["name"].startswith("(")
        ],
        "manufacturers": _manufacturers(reference),
        "encodings": [entry["name"] for entry in _enumerations(reference)["encodings"]],
        "log_categories": _enumerations(reference)["log_categories"],
        "plugin_sections": sorted(config["plugin_sections"]),
        "command_line": [entry["option"] for entry in config["command_line"]],
    }


def jobs(reference: Path) -> dict[str, Any]:
    """States of jobs, what clients can do in which of them, and the fields that clients see."""
    enumerations = _enumerations(reference)
    return {
        "states": [entry["name"] for entry in enumerations["job_states"]],
        "transitions": {
            action: {"effect_in": entry["effect_in"], "result": entry["result"].split()[0]}
            for action, entry in enumerations["job_transitions"].items()
            if isinstance(entry, dict)
        },
        "fields": [
            {key: entry[key] for key in ("name", "type", "optional") if key in entry}
            for entry in enumerations["job_object_fields"]
        ],
        "content": {
            entry["type"]: [field["name"] for field in entry["content"]]
            for entry in enumerations["job_types"]
            if entry["type"] == "SequenceOfOperations"
        },
    }


def _enumerations(reference: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((reference / "enumerations.json").read_text(encoding="utf-8"))
    return found


def _manufacturers(reference: Path) -> dict[str, str]:
    """Every accepted name of a manufacturer and what it stands for."""
    enumerations = _enumerations(reference)
    current = {entry["name"]: entry["name"] for entry in enumerations["modality_manufacturers"]}
    return {**current, **enumerations["modality_manufacturers_obsolete"]}


def main() -> None:
    """Write the data files."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    reference = Path(sys.argv[1])
    for name, value in (("options", options(reference)), ("jobs", jobs(reference))):
        text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        (_TARGET / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
