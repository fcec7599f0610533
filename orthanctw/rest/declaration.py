"""How routes declare themselves: method, path, arguments, body and answers. The OpenAPI file is made from this."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred

from orthanctw.rest.call import Call
from orthanctw.rest.reply import Reply

Handler = Callable[[Call], Coroutine[Deferred[Any], Any, Reply | None]]
_Method = TypeVar("_Method", bound=Callable[..., Coroutine[Any, Any, Reply | None]])
_MARK = "_orthanctw_routes"

#: Media types, without parameters.
JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"
DICOM = "application/dicom"
PDF = "application/pdf"

#: JSON Schema of each kind of argument. A flag counts when it is there, whatever its value.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "flag": {"type": "string"},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "minimum": 0},
    "signed": {"type": "integer"},
    "quality": {"type": "integer", "minimum": 1, "maximum": 100},
    "number": {"type": "number"},
    "string": {"type": "string"},
    "strings": {"type": "array", "items": {"type": "string"}},
    "objects": {"type": "array", "items": {"type": "object"}},
    "object": {"type": "object"},
    "array": {"type": "array"},
    "any": {},
}


@attrs.frozen
class Argument:
    """An argument of the query string, a header, or a field of a JSON body.

    `kind` is a key of `KINDS`; `values` are those that are allowed, when they can be counted.
    """

    name: str
    kind: str
    summary: str
    required: bool = False
    values: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Body:
    """What a request carries: a JSON object with `fields`, or what `schema` says, or `content` of another type.

    Both `fields` and `schema`: either.
    """

    fields: tuple[Argument, ...] = ()
    content: tuple[str, ...] = (JSON,)
    schema: Mapping[str, Any] | None = None
    summary: str = ""
    required: bool = True


@attrs.frozen(kw_only=True)
class Route:
    """A method and a path in werkzeug's notation: ``/instances/<id>``. The handler's docstring is the description."""

    method: str
    path: str
    query: tuple[Argument, ...] = ()
    headers: tuple[Argument, ...] = ()
    body: Body | None = None
    answers: tuple[str, ...] = (JSON,)


def route(
    method: str,
    *paths: str,
    query: Sequence[Argument] = (),
    headers: Sequence[Argument] = (),
    body: Body | None = None,
    answers: Sequence[str] = (JSON,),
) -> Callable[[_Method], _Method]:
    """Declare that a method of a routes object answers `method` on each of `paths`.

    Parameters
    ----------
    query, headers : sequence of Argument
        What the handler reads of them.
    body : Body, optional
        What it reads of the body.
    answers : sequence of str
        Media types of a successful answer; none keeps the route out of the OpenAPI document.
    """

    def declare(function: _Method) -> _Method:
        marks: list[Route] = getattr(function, _MARK, [])
        marks.extend(
            Route(
                method=method,
                path=path,
                query=tuple(query),
                headers=tuple(headers),
                body=body,
                answers=tuple(answers),
            )
            for path in paths
        )
        setattr(function, _MARK, marks)
        return function

    return declare


def declared_routes(owner: object) -> Iterable[tuple[Route, Handler]]:
    """The routes that an object declares, with their bound handlers."""
    for name in dir(type(owner)):
        for mark in getattr(getattr(type(owner), name), _MARK, ()):
            yield mark, getattr(owner, name)
