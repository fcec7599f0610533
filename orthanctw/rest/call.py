"""A call of the REST API, from a socket or from a script: the value that a route works on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs
import orjson

from orthanctw.errors import (
    BadFileFormat,
    BadParameterType,
    BadRequest,
    OrthancError,
    ParameterOutOfRange,
    RequestTooLarge,
)
from orthanctw.interfaces import ISpool
from orthanctw.model import Origin

#: Longest JSON or text body; what is longer is an upload of objects, never parsed as a whole.
MAXIMUM_TEXT = 64 * 1024 * 1024
_TRUE = frozenset(("", "1", "true"))
_FALSE = frozenset(("0", "false"))


@attrs.frozen(kw_only=True)
class Call:
    """One request. `arguments` are those of the query string (GET only), `headers` have lower-case names.

    `parameters` come from the path of the route. HEAD is a GET with `is_head`: what its answer has in it, nobody reads.
    """

    method: str
    path: str
    arguments: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | ISpool
    origin: Origin
    parameters: Mapping[str, str] = attrs.field(factory=dict)
    is_head: bool = False

    def __getitem__(self, name: str) -> str:
        """A part of the path."""
        return self.parameters[name]

    def flag(self, name: str) -> bool:
        """Whether the argument is present, whatever its value."""
        return name in self.arguments

    def boolean(self, name: str, default: bool = False) -> bool:
        """A boolean argument: the key alone, 1 and true; 0 and false. ParameterOutOfRange for other text."""
        value = self.arguments.get(name)
        if value is None:
            return default
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise ParameterOutOfRange(f"Not a boolean in argument {name}")

    def integer(self, name: str) -> int | None:
        """A number of 0 or more; BadParameterType for other text."""
        value = self.arguments.get(name)
        return None if value is None else parse_integer(value, name)

    async def content(self) -> bytes:
        """The whole body. RequestTooLarge when it is longer than any text."""
        if isinstance(self.body, bytes):
            return self.body
        if self.body.size > MAXIMUM_TEXT:
            raise RequestTooLarge()
        await self.body.flush()
        return bytes(self.body.map())

    async def json(self) -> Any:
        """The body as JSON. BadFileFormat when it is not."""
        try:
            return orjson.loads(await self.content())
        except (ValueError, RecursionError) as e:
            raise BadFileFormat("The body is not valid JSON") from e

    async def json_object(self) -> dict[str, Any]:
        """The body as a JSON object."""
        value = await self.json()
        if not isinstance(value, dict):
            raise BadRequest("The body must be a JSON object")
        return value

    async def text(self) -> str:
        """The body as text, without surrounding white space."""
        return (await self.content()).decode("utf-8", "replace").strip()


def parse_integer(text: str, name: str) -> int:
    """A decimal number of 0 or more; BadParameterType naming the argument otherwise."""
    stripped = text.strip()
    if not (stripped.isascii() and stripped.isdigit() and len(stripped) <= 19):
        raise BadParameterType(f"Not an unsigned number in {name}")
    return int(stripped)


def field(
    body: Mapping[str, Any], name: str, kind: type, default: Any, error: type[OrthancError] = BadRequest
) -> Any:
    """A field of a JSON body, or `default` when absent. An `error` when it has another type."""
    if name not in body:
        return default
    value = body[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise error(f"Field {name} must be {_KINDS[kind]}")
    return value


_KINDS = {bool: "a boolean", str: "a string", int: "an integer", list: "an array", dict: "an object"}


def strings(body: Mapping[str, Any], name: str) -> list[str]:
    """A field that is an array of strings; empty when absent."""
    value = field(body, name, list, [])
    if not all(isinstance(item, str) for item in value):
        raise BadRequest(f"Field {name} must be an array of strings")
    return cast(list[str], value)



