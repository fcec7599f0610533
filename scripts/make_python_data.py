"""Make test/data/python_api.json from the folder of reference data: all that the module ``orthanc`` has.

Functions and methods have the names of their arguments, in order; enumerations have their values.

Usage: python scripts/make_python_data.py REFERENCE_FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_TARGET = Path(__file__).resolve().parent.parent / "test" / "data" / "python_api.json"


def arguments_of(functions: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Names of arguments, by the function."""
    return {function["name"]: [argument["name"] for argument in function["args"]] for function in functions}


def main() -> None:
    """Write the data file."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    reference = json.loads((Path(sys.argv[1]) / "python_api.json").read_text(encoding="utf-8"))
    facts = {
        "functions": arguments_of([*reference["functions"], *reference["custom_functions"]]),
        "classes": {owner["name"]: arguments_of(owner["methods"]) for owner in reference["classes"]},
        "enumerations": {
            enumeration["name"]: {value["key"]: value["value"] for value in enumeration["values"]}
            for enumeration in reference["enumerations"]
        },
        "exception": reference["module"]["exception"]["name"].split(".")[-1],
        "not_offered": [name.removeprefix("OrthancPlugin") for name in reference["sdk_functions_not_wrapped"]],
    }
    _TARGET.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
