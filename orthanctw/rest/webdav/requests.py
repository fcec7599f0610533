"""XML that clients send (RFC 4918 section 14): what they ask for. Bounded, and without document types and entities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.parsers import expat

import attrs

from orthanctw.errors import BadRequest
from orthanctw.rest.call import Call

DAV: Final = "DAV:"
#: Bytes of a body, elements within each other, and properties that can be asked for.
_MAXIMUM_SIZE: Final = 64 * 1024
_MAXIMUM_DEPTH: Final = 32
_MAXIMUM_PROPERTIES: Final = 100
_SEPARATOR: Final = "\n"

#: Namespace and local name.
Name = tuple[str, str]


@attrs.frozen(kw_only=True)
class Wanted:
    """The properties that a PROPFIND asks for; None for all that there are. `names_only`: not their values."""

    properties: tuple[Name, ...] | None = None
    names_only: bool = False


async def parse_body(call: Call, *roots: str) -> list[tuple[Name, ...]]:
    """The elements of a body in their order, each with those around it; none when there is no body.

    Raises BadRequest for what is no XML, or has another root than `roots` (of the namespace ``DAV:``).
    """
    size = len(call.body) if isinstance(call.body, bytes) else call.body.size
    if size > _MAXIMUM_SIZE:
        raise BadRequest("The XML is too long", http_status=413)
    body = await call.content()
    if not body:
        return []
    elements = _elements(body)
    if elements[0][0] not in [(DAV, root) for root in roots]:
        raise BadRequest("The XML is about something else")
    return elements


def wanted_of(elements: list[tuple[Name, ...]]) -> Wanted:
    """What a ``propfind`` asks for. BadRequest for too many properties."""
    children = [path[1] for path in elements if len(path) == 2]
    if (DAV, "propname") in children:
        return Wanted(names_only=True)
    if (DAV, "prop") not in children:
        return Wanted()
    named = dict.fromkeys(path[2] for path in elements if len(path) == 3 and path[1] == (DAV, "prop"))
    if len(named) > _MAXIMUM_PROPERTIES:
        raise BadRequest("Too many properties are asked for")
    return Wanted(properties=tuple(named))


def _elements(body: bytes) -> list[tuple[Name, ...]]:
    found: list[tuple[Name, ...]] = []
    path: list[Name] = []

    def start(name: str, _: Mapping[str, str]) -> None:
        namespace, _separator, local = name.rpartition(_SEPARATOR)
        path.append((namespace, local))
        if len(path) > _MAXIMUM_DEPTH:
            raise BadRequest("The XML is nested too deeply")
        found.append(tuple(path))

    def end(_: str) -> None:
        path.pop()

    def refuse(*_: object) -> None:
        raise BadRequest("The XML has a document type")

    parser = expat.ParserCreate(namespace_separator=_SEPARATOR)
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    # Without a document type there are no entities to be expanded, here or elsewhere.
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as e:
        raise BadRequest("The body is no XML") from e
    return found
