"""The OpenAPI document (version 3.1) of the routes, from their declarations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from orthanctw.rest.declaration import JSON, KINDS, TEXT, Argument, Body, Handler, Route

_VARIABLE: Final = re.compile(r"<(?:path:)?(\w+)>")
#: Parts of paths that are numbers; all others are text.
_NUMBERS: Final = frozenset(("frame", "index"))
_ERROR: Final = "#/components/schemas/Error"
_SCHEMAS: Final[Mapping[str, Any]] = {
    "Error": {
        "type": "object",
        "description": "A failure. The body is empty where HttpDescribeErrors is off, and for some unknown resources.",
        "required": ["HttpError", "HttpStatus", "Message", "Method", "OrthancError", "OrthancStatus", "Uri"],
        "properties": {
            "HttpError": {"type": "string", "description": "What the status means"},
            "HttpStatus": {"type": "integer"},
            "Message": {"type": "string", "description": "What OrthancStatus means"},
            "Method": {"type": "string"},
            "OrthancError": {"type": "string", "description": "As Message"},
            "OrthancStatus": {"type": "integer", "description": "Code of the error"},
            "Uri": {"type": "string", "description": "The path, without arguments"},
            "Details": {"type": "string", "description": "What this very failure is about"},
            "ErrorPayload": {"description": "More about the failure"},
        },
    }
}
#: The type of error bodies is that of plain text, though they are JSON: clients of Orthanc expect it.
_FAILURES: Final[Mapping[str, Any]] = {
    status: {"description": text, "content": {TEXT: {"schema": {"$ref": _ERROR}}}}
    for status, text in (
        ("400", "A mistake in the request"),
        ("404", "There is no such resource"),
        ("default", "Any other failure"),
    )
}


def document(routes: Iterable[tuple[Route, Handler]], version: str) -> dict[str, Any]:
    """The document as JSON.

    Parameters
    ----------
    version : str
        That of the server.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route, handler in sorted(routes, key=lambda item: item[0].path):
        if route.answers:
            paths.setdefault(_path(route), {})[route.method.lower()] = _operation(route, handler)
    tags = sorted({operation["tags"][0] for methods in paths.values() for operation in methods.values()})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "orthanctw",
            "version": version,
            "description": "The REST API of a DICOM server that is compatible with Orthanc.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in tags],
        # Without authentication, if the server is so configured.
        "security": [{"basic": []}, {}],
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
        },
    }


def _path(route: Route) -> str:
    return _VARIABLE.sub(r"{\1}", route.path)


def _operation(route: Route, handler: Handler) -> dict[str, Any]:
    path = _path(route)
    operation: dict[str, Any] = {
        "tags": [path.split("/")[1] or "app"],
        "summary": (inspect.getdoc(handler) or "").partition("\n")[0].rstrip("."),
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{path}").rstrip("_"),
        "responses": {
            "200": {
                "description": "Success",
                "content": {media: {"schema": _answer_schema(media)} for media in route.answers},
            },
            **_FAILURES,
        },
    }
    parameters = [
        *(_path_parameter(name) for name in _VARIABLE.findall(route.path)),
        *(_parameter(argument, "query") for argument in route.query),
        # OpenAPI ignores what it has other means for.
        *(_parameter(argument, "header") for argument in route.headers if argument.name != "Accept"),
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = _request_body(route.body)
    return operation


def _path_parameter(name: str) -> dict[str, Any]:
    schema = KINDS["integer" if name in _NUMBERS else "string"]
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _schema(argument: Argument) -> dict[str, Any]:
    schema = dict(KINDS[argument.kind])
    if argument.values:
        schema["enum"] = list(argument.values)
    return schema


def _parameter(argument: Argument, place: str) -> dict[str, Any]:
    parameter: dict[str, Any] = {
        "name": argument.name,
        "in": place,
        "description": argument.summary,
        "required": argument.required,
        "schema": _schema(argument),
    }
    if argument.kind in ("flag", "boolean"):
        parameter["allowEmptyValue"] = True
    return parameter


def _request_body(body: Body) -> dict[str, Any]:
    content = {media: {"schema": _body_schema(body, media)} for media in body.content}
    described = {"description": body.summary} if body.summary else {}
    return {**described, "required": body.required, "content": content}


def _body_schema(body: Body, media: str) -> Mapping[str, Any]:
    if not body.fields:
        return body.schema if body.schema is not None else _answer_schema(media)
    if media != JSON:
        return _answer_schema(media)
    fields: dict[str, Any] = {
        "type": "object",
        "properties": {field.name: {**_schema(field), "description": field.summary} for field in body.fields},
    }
    required = [field.name for field in body.fields if field.required]
    if required:
        fields["required"] = required
    return fields if body.schema is None else {"anyOf": [fields, body.schema]}


def _answer_schema(media: str) -> dict[str, Any]:
    """What nothing more is known about: JSON, text or bytes."""
    if media == JSON:
        return {}
    return {"type": "string"} if media.startswith("text/") else {"type": "string", "format": "binary"}
