"""JSON to Lua and back, as scripts know it.

Both ways are loops, bounded in what they make: a table may hold itself, and a text may grow many times over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from twisted.logger import Logger

log = Logger(namespace="orthanctw.lua")
#: Values after which the limits are looked at.
_BETWEEN: Final = 1000
#: Depth of tables and values in all of one conversion at most.
MAXIMUM_DEPTH: Final = 200
MAXIMUM_VALUES: Final = 5_000_000
_LOWEST, _HIGHEST, _HIGHEST_UNSIGNED = -(2**31), 2**31 - 1, 2**32 - 1
#: What may be a number; Lua itself decides.
_NUMBER_LIKE: Final = re.compile(rb"\s*[-+]?\.?[0-9]")


class ConversionError(Exception):
    """A value cannot be converted; the text is for the script."""


@attrs.frozen
class Converter:
    """Conversions for one Lua runtime.

    Parameters
    ----------
    table : callable
        Makes an empty table.
    type_of : callable
        Lua's name of the type of a value that is no number, string or boolean.
    to_number : callable
        Lua's ``tonumber``.
    to_string : callable
        Lua's ``tostring``.
    check : callable
        Raises ConversionError when the time or memory of the script is used up; its argument are bytes made so far.
    """

    table: Callable[[], Any]
    type_of: Callable[[Any], str | None]
    to_number: Callable[[bytes], Any]
    to_string: Callable[[Any], bytes]
    check: Callable[[int], None]

    def to_lua(self, value: Any) -> Any:
        """A JSON value as Lua has it; ``bytes`` are strings as they are. ConversionError."""
        if not isinstance(value, Mapping | list | tuple):
            return _scalar(value)
        root = self.table()
        open_tables = [(root, value)]
        count = 0
        while open_tables:
            target, source = open_tables.pop()
            items = source.items() if isinstance(source, Mapping) else enumerate(source, 1)
            for key, member in items:
                count += 1
                if count % _BETWEEN == 0:
                    self.check(0)
                if isinstance(member, Mapping | list | tuple):
                    inner = self.table()
                    open_tables.append((inner, member))
                    target[_scalar(key)] = inner
                elif member is not None:
                    target[_scalar(key)] = _scalar(member)
        return root

    def to_json(self, value: Any, *, keep_strings: bool) -> Any:
        """A Lua value as JSON has it. ConversionError when it is too deep or too large.

        With `keep_strings` numbers become strings; without it, strings that are numbers become numbers.
        """
        return _ToJson(self, keep_strings).convert(value, 0)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bool | bytes) or value is None:
        return value
    if isinstance(value, int | float):
        if _LOWEST <= value <= _HIGHEST_UNSIGNED and value == int(value):
            return int(value)
        return float(value)
    raise ConversionError(f"no value for Lua: {type(value).__name__}")


class _ToJson:
    def __init__(self, converter: Converter, keep_strings: bool) -> None:
        self._converter = converter
        self._keeps = keep_strings
        self._count = 0
        self._bytes = 0

    def convert(self, value: Any, depth: int) -> Any:
        self._count += 1
        if self._count % _BETWEEN == 0:
            self._converter.check(self._bytes)
        if self._count > MAXIMUM_VALUES:
            raise ConversionError("too many values for JSON")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return self._text(self._converter.to_string(value)) if self._keeps else _number(value)
        if isinstance(value, bytes):
            return self._string(value)
        kind = self._converter.type_of(value)
        if kind != "table":
            log.warn("Lua: a {kind} has no form in JSON", kind=kind or "value of the host")
            return None
        if depth >= MAXIMUM_DEPTH:
            raise ConversionError("the table is nested too deeply for JSON")
        return self._table(value, depth)

    def _table(self, table: Any, depth: int) -> Any:
        items = [(key, self.convert(member, depth + 1)) for key, member in table.items()]
        if all(key == place and type(key) is int for place, (key, _) in enumerate(items, 1)):
            return [member for _, member in items]
        return {self._key(key): member for key, member in items}

    def _key(self, key: Any) -> str:
        if isinstance(key, bytes):
            return self._text(key)
        if isinstance(key, bool | int | float):
            return self._text(self._converter.to_string(key))
        # Not by ``tostring``, which may be code of the script.
        return self._converter.type_of(key) or "userdata"

    def _string(self, value: bytes) -> Any:
        self._bytes += len(value)
        if not self._keeps and _NUMBER_LIKE.match(value):
            number = self._converter.to_number(value)
            if number is not None:
                return _number(number)
        return self._text(value)

    def _text(self, value: bytes) -> str:
        return value.decode("utf-8", "replace")


def _number(value: int | float) -> int | float:
    if _LOWEST <= value <= _HIGHEST and value == int(value):
        return int(value)
    return float(value)
