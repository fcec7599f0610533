"""JSON as configuration files write it: comments, trailing commas, a byte order mark, variables of the environment."""

from __future__ import annotations

import bisect
import json
import math
import re
from collections.abc import Mapping
from typing import Final

import attrs

from orthanctw.errors import ConfigurationError

#: Deepest nesting of objects and arrays; no option needs more than a handful.
MAXIMUM_DEPTH: Final = 100
#: Longest literal of a number in characters; Python refuses to convert very long ones.
_MAXIMUM_NUMBER: Final = 400

_VARIABLE = re.compile(r"""\$\{([^{}:\s"']+)(?::-("[^"]*"|'[^']*'|[^}]*))?\}""")
_SPACE = re.compile(r"(?:[ \t\r\n\f\v]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z]+")
_WORDS: Final[Mapping[str, object]] = {"true": True, "false": False, "null": None}


@attrs.frozen
class Substituted:
    """A text whose variables were replaced, and where its parts stood before."""

    text: str
    #: Pairs of ascending offsets, in `text` and in the original, where a part begins that was not replaced.
    starts: tuple[tuple[int, int], ...] = ((0, 0),)

    def original(self, offset: int) -> int:
        """The offset in the original text, in characters."""
        replaced, before = self.starts[bisect.bisect_right(self.starts, (offset, math.inf)) - 1]
        return before + offset - replaced


@attrs.frozen
class Document:
    """A parsed file: its value and what is suspicious about it."""

    value: object
    warnings: tuple[str, ...] = ()


def substitute(text: str, environ: Mapping[str, str]) -> Substituted:
    """Replace ``${NAME}`` and ``${NAME:-default}`` anywhere in `text`; quotes around the default are dropped.

    A variable that is not set and has no default becomes nothing.
    """
    parts: list[str] = []
    starts = [(0, 0)]
    length = position = 0
    for match in _VARIABLE.finditer(text):
        default = match[2] or ""
        if len(default) > 1 and default[0] == default[-1] and default[0] in "\"'":
            default = default[1:-1]
        parts += [text[position : match.start()], environ.get(match[1], default)]
        length += len(parts[-2]) + len(parts[-1])
        position = match.end()
        starts.append((length, position))
    parts.append(text[position:])
    return Substituted("".join(parts), tuple(starts))


def decode(data: bytes, name: str) -> str:
    """The text of a file in UTF-8 with or without a byte order mark; raises ConfigurationError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise ConfigurationError([f"{name}:{line}:{column}: not UTF-8"]) from None


def parse(text: str, name: str, environ: Mapping[str, str] | None = None) -> Document:
    """Parse the text of the file `name`, after replacing its variables when there is an `environ`.

    Raises ConfigurationError with ``name:line:column`` (both from 1, of the text before the replacements).
    """
    substituted = Substituted(text) if environ is None else substitute(text, environ)
    parser = _Parser(substituted.text)
    try:
        return Document(parser.document(), tuple(f"{name}: {warning}" for warning in parser.warnings))
    except _SyntaxError as error:
        offset = substituted.original(error.offset)
        line = text.count("\n", 0, offset) + 1
        column = offset - text.rfind("\n", 0, offset)
        raise ConfigurationError([f"{name}:{line}:{column}: {error.text}"]) from None


class _SyntaxError(Exception):
    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.text = text
        self.offset = offset


class _Parser:
    """Recursive descent; `depth` bounds the recursion."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._offset = 0
        self.warnings: list[str] = []

    def document(self) -> object:
        value = self._value("", 0)
        if self._peek():
            # Configurations with such a tail have always been accepted.
            self.warnings.append("text after the end of the configuration is ignored")
        return value

    def _peek(self) -> str:
        """The next significant character, or nothing at the end."""
        skipped = _SPACE.match(self._text, self._offset)
        self._offset = skipped.end() if skipped else self._offset
        if self._text.startswith("/*", self._offset):
            raise _SyntaxError("comment without an end", self._offset)
        return self._text[self._offset : self._offset + 1]

    def _value(self, path: str, depth: int) -> object:
        first = self._peek()
        if depth > MAXIMUM_DEPTH:
            raise _SyntaxError(f"nested deeper than {MAXIMUM_DEPTH}", self._offset)
        if first == "{":
            return self._object(path, depth)
        if first == "[":
            return self._array(path, depth)
        if first == '"':
            return self._string()
        if first == "-" or first.isdigit():
            return self._number()
        word = _WORD.match(self._text, self._offset)
        if word is None or word[0] not in _WORDS:
            raise _SyntaxError("value expected" if first else "value expected at the end of the file", self._offset)
        self._offset = word.end()
        return _WORDS[word[0]]

    def _object(self, path: str, depth: int) -> dict[str, object]:
        members: dict[str, object] = {}
        self._offset += 1
        while self._peek() != "}":
            if self._peek() != '"':
                raise _SyntaxError('key in double quotes or "}" expected', self._offset)
            key = self._string()
            if self._peek() != ":":
                raise _SyntaxError('":" expected after the key', self._offset)
            self._offset += 1
            inner = f"{path}.{key}" if path else key
            if key in members:
                self.warnings.append(f"{inner}: given twice, the last one counts")
            members[key] = self._value(inner, depth + 1)
            self._comma("}")
        self._offset += 1
        return members

    def _array(self, path: str, depth: int) -> list[object]:
        elements: list[object] = []
        self._offset += 1
        while self._peek() != "]":
            elements.append(self._value(f"{path}[{len(elements)}]", depth + 1))
            self._comma("]")
        self._offset += 1
        return elements

    def _comma(self, end: str) -> None:
        following = self._peek()
        if following == ",":
            self._offset += 1
        elif following != end:
            raise _SyntaxError(f'"," or "{end}" expected', self._offset)

    def _string(self) -> str:
        match = _STRING.match(self._text, self._offset)
        if match is None:
            raise _SyntaxError("string without an end", self._offset)
        try:
            value = str(json.loads(match[0], strict=False))
            value.encode("utf-8")
        except json.JSONDecodeError as error:
            raise _SyntaxError("unknown escape in a string", self._offset + error.pos) from None
        except UnicodeEncodeError:
            raise _SyntaxError("half of a surrogate pair in a string", self._offset) from None
        self._offset = match.end()
        return value

    def _number(self) -> int | float:
        match = _NUMBER.match(self._text, self._offset)
        if match is None or match.end() - match.start() > _MAXIMUM_NUMBER:
            raise _SyntaxError("malformed number", self._offset)
        value = float(match[0]) if match[1] or match[2] else int(match[0])
        if math.isinf(value):
            raise _SyntaxError("number out of range", self._offset)
        self._offset = match.end()
        return value
