"""Make test/data/lua_api.json from the folder of reference data: callbacks and functions with their arguments.

Usage: python scripts/make_lua_data.py REFERENCE_FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_TARGET = Path(__file__).resolve().parent.parent / "test" / "data" / "lua_api.json"


def arguments(entries: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Names of arguments, by the name of what takes them."""
    return {entry["name"]: [argument["name"] for argument in entry["args"]] for entry in entries}


def main() -> None:
    """Write the data file."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    reference = json.loads((Path(sys.argv[1]) / "lua_api.json").read_text(encoding="utf-8"))
    facts = {
        "absent": sorted(reference["functions_that_do_not_exist"]),
        "callbacks": arguments(reference["callbacks"]),
        "functions": arguments(reference["functions"]),
    }
    _TARGET.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
