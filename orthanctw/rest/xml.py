"""JSON answers as XML, for clients that ask for nothing else: keys are elements, items of arrays ``<item>``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

import orjson

XML: Final = "application/xml"
CONTENT_TYPE: Final = f"{XML}; charset=utf-8"
_HEAD: Final = '<?xml version="1.0" encoding="utf-8"?>\n'
#: Names of elements, without those that only few parsers would take.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*\Z")
#: Characters that XML 1.0 has no way to write.
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def render(value: Any) -> bytes:
    """The XML of a JSON value."""
    lines: list[str] = []
    _write(lines.append, "root", "", value, "")
    return (_HEAD + "".join(lines)).encode("utf-8")


def _write(add: Callable[[str], None], name: str, attributes: str, value: Any, indentation: str) -> None:
    items: Iterable[tuple[str, str, Any]]
    if isinstance(value, dict):
        items = [(*_element(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [("item", "", item) for item in value]
    else:
        add(f"{indentation}<{name}{attributes}>{_text(value)}</{name}>\n")
        return
    if not items:
        add(f"{indentation}<{name}{attributes} />\n")
        return
    add(f"{indentation}<{name}{attributes}>\n")
    for child, its_attributes, item in items:
        _write(add, child, its_attributes, item, indentation + "  ")
    add(f"{indentation}</{name}>\n")


def _element(key: str) -> tuple[str, str]:
    """Name and attributes of the element of a key; a key that cannot be a name is an attribute."""
    if _NAME.match(key):
        return key, ""
    return "item", f" key={quoteattr(_FORBIDDEN.sub(' ', key))}"


def escaped(text: str) -> str:
    """Text as the content of an element."""
    # A carriage return would be read back as a line feed (XML 1.0 section 2.11).
    return escape(_FORBIDDEN.sub(" ", text), {"\r": "&#13;"})


def _text(value: Any) -> str:
    if isinstance(value, str):
        return escaped(value)
    return "null" if value is None else orjson.dumps(value).decode("ascii")
