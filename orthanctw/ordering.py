"""Orders of what is found: keys as a request names them, and the order of values that only headers have (level 4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import attrs

from orthanctw.dicom.elements import Element
from orthanctw.dicom.header import Header
from orthanctw.lookups import OrderForm
from orthanctw.matching import items_of

_T = TypeVar("_T")
#: What the database takes for a number: how the text begins.
_INTEGER = re.compile(r"[-+]?\d{1,18}")
_FLOAT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
#: Longer texts are cut before a number is looked for.
_NUMBER_LENGTH = 32

#: One value by which resources are ordered; None comes last.
Value = str | float | None


@attrs.frozen(kw_only=True)
class SortKey:
    """One entry of ``OrderBy``: metadata, or the way to a tag (see `orthanctw.matching.parse_path`)."""

    path: tuple[tuple[int, int | None], ...] = ()
    metadata: int | None = None
    form: OrderForm = OrderForm.TEXT
    descending: bool = False

    @property
    def tag(self) -> int | None:
        """The tag, if it lies in no sequence."""
        return self.path[0][0] if len(self.path) == 1 else None


def value_at(path: Sequence[tuple[int, int | None]], header: Header) -> str | None:
    """The first value that a path leads to."""
    elements: Iterable[Element] = header.elements
    return _value_in(path, elements)


def _value_in(path: Sequence[tuple[int, int | None]], elements: Iterable[Element]) -> str | None:
    (tag, number), *rest = path
    element = next((element for element in elements if element[0] == tag), None)
    if not rest:
        return element[2].strip(" \0") if element is not None and isinstance(element[2], str) else None
    found = (_value_in(rest, item) for item in items_of(element, number))
    return next((value for value in found if value is not None), None)


def order_value(text: str | None, form: OrderForm) -> Value:
    """What is compared of a value."""
    if text is None or form is OrderForm.TEXT:
        return text
    pattern, kind = (_INTEGER, int) if form is OrderForm.INTEGER else (_FLOAT, float)
    match = pattern.match(text[:_NUMBER_LENGTH].strip())
    number: float | None = None if match is None else kind(match[0])
    return number


def in_order(items: Iterable[_T], keys: Sequence[SortKey], values: Callable[[_T], Sequence[Value]]) -> list[_T]:
    """The items by their values of each key, those without one last; equal ones stay as they were."""
    ordered = list(items)
    for number, key in reversed(tuple(enumerate(keys))):
        have = [item for item in ordered if values(item)[number] is not None]
        without = [item for item in ordered if values(item)[number] is None]
        have.sort(key=lambda item: values(item)[number], reverse=key.descending)  # type: ignore[arg-type,return-value]
        ordered = have + without
    return ordered
