"""Make test/data/routes.json from the folder of reference data: paths, methods, names of arguments, headers and fields.

Usage: python scripts/make_route_data.py REFERENCE_FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_TARGET = Path(__file__).resolve().parent.parent / "test" / "data" / "routes.json"
#: Names that the reference describes beside the routes: every route with the first name takes the second one, too.
_OLD_SPELLINGS = {"requested-tags": "requestedTags"}


def kind_of(described: str) -> str:
    """The kind that a description begins with; ``any`` when it is one of several."""
    first, *more = described.split()
    return "any" if more[:1] == ["or"] else first


def route_facts(method: dict[str, Any]) -> dict[str, Any]:
    """Names and kinds of what one method of a path takes."""
    query = {argument["name"]: kind_of(argument["type"]) for argument in method["query"]}
    query.update({old: query[name] for name, old in _OLD_SPELLINGS.items() if name in query})
    fields = {field["name"]: kind_of(field["type"]) for body in method["body"] for field in body.get("fields", [])}
    facts = {
        "query": query,
        "headers": sorted(header["name"] for header in method.get("request_headers", [])),
        "fields": fields,
    }
    return {name: value for name, value in facts.items() if value}


def main() -> None:
    """Write the data file."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    reference = json.loads((Path(sys.argv[1]) / "routes.json").read_text(encoding="utf-8"))
    routes = {
        path["path"]: {method["method"]: route_facts(method) for method in path["methods"]}
        for path in reference["groups"]["core"]
    }
    _TARGET.write_text(json.dumps(routes, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
