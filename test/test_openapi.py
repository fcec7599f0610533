"""The OpenAPI document: valid, complete, and written by the command line."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from openapi_spec_validator import validate
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.cli import main

#: Paths and methods of the original, with the names and kinds of what they take (scripts/make_route_data.py).
ROUTES: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = json.loads(
    (Path(__file__).parent / "data" / "routes.json").read_text("utf-8")
)


def printed(*arguments: str) -> str:
    """What the command line prints to the standard output; it must succeed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = main(arguments)
    if status != 0:
        raise AssertionError(f"{arguments} ended with {status}")
    return output.getvalue()


def fields_of(operation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Fields of the JSON object that an operation takes, with their schemas."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for alternative in (schema, *schema.get("anyOf", ())):
        yield from alternative.get("properties", {}).items()


def kind_of(parameter: Mapping[str, Any]) -> str:
    """The kind of an argument of the query string, as the original has them."""
    kind = str(parameter["schema"].get("type", "any"))
    return "flag" if kind == "string" and parameter.get("allowEmptyValue") else kind


class DocumentTests(SynchronousTestCase):
    """The document of the default configuration."""

    def setUp(self) -> None:
        self.document = json.loads(printed("--openapi=-"))

    def test_valid(self) -> None:
        """The document is as the OpenAPI specification demands."""
        validate(self.document)

    def operations(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for path, methods in self.document["paths"].items():
            for method, operation in methods.items():
                yield method.upper(), path, operation

    def test_described(self) -> None:
        """Every operation has a name of its own, a summary that stands alone, answers and the shape of failures."""
        names = [operation["operationId"] for _, _, operation in self.operations()]
        self.assertEqual(len(names), len(set(names)))
        for method, path, operation in self.operations():
            self.assertRegex(operation["summary"], r"\A[A-Z0-9].{5,}[^.]\Z", (method, path))
            self.assertNotRegex(operation["summary"], r"\AThe same", (method, path))
            self.assertTrue(operation["responses"]["200"]["content"], (method, path))
            for status in ("400", "404"):
                (media,) = operation["responses"][status]["content"].values()
                self.assertEqual(media["schema"], {"$ref": "#/components/schemas/Error"})

    def test_security(self) -> None:
        """HTTP Basic, where it is configured."""
        self.assertEqual(self.document["security"], [{"basic": []}, {}])
        self.assertEqual(
            self.document["components"]["securitySchemes"], {"basic": {"type": "http", "scheme": "basic"}}
        )

    def test_complete(self) -> None:
        """Every method, argument, header and field of the original is there."""
        lacking = [
            f"{method} {path}: {item}"
            for path, methods in ROUTES.items()
            for method, facts in methods.items()
            for item in self.lacking(method, path, facts)
        ]
        self.assertEqual(lacking, [])

    def lacking(self, method: str, path: str, facts: Mapping[str, Any]) -> Iterator[str]:
        operation = self.document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            yield "the method"
            return
        parameters = operation.get("parameters", ())
        arguments = {item["name"]: kind_of(item) for item in parameters if item["in"] == "query"}
        for name, kind in facts.get("query", {}).items():
            if arguments.get(name) != kind:
                yield f"argument {name} of kind {kind}"
        headers = {item["name"] for item in parameters if item["in"] == "header"}
        # Accept is no parameter in OpenAPI: the types of the answers say it.
        for name in set(facts.get("headers", ())) - headers - {"Accept"}:
            yield f"header {name}"
        fields = dict(fields_of(operation))
        for name, kind in facts.get("fields", {}).items():
            if name not in fields or fields[name].get("type", "any") != kind:
                yield f"field {name} of kind {kind}"

    def test_file(self) -> None:
        """The document goes to a file, for the routes of a configuration."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "orthanc.json").write_text('{"OrthancExplorerEnabled": false, "StorageDirectory": "none"}')
        self.assertEqual(printed(f"--openapi={folder}/api.json", str(folder / "orthanc.json")), "")
        written = json.loads((folder / "api.json").read_text("utf-8"))
        self.assertIn("/app", self.document["paths"])
        self.assertEqual(set(self.document["paths"]) - set(written["paths"]), {"/app", "/app/{name}"})
        self.assertFalse((folder / "none").exists())
