"""What the index is asked to look up (level 0: values)."""

from __future__ import annotations

import enum

import attrs

from orthanctw.model import Constraint, Resource, ResourceLevel


class LabelsConstraint(enum.Enum):
    """How many of some labels a resource must bear; the value is the text of ``LabelsConstraint``."""

    ALL = "All"
    ANY = "Any"
    NONE = "None"


class OrderForm(enum.Enum):
    """As what values are ordered. What is no number counts as absent where numbers are ordered."""

    TEXT = ""
    INTEGER = "AsInt"
    FLOAT = "AsFloat"


@attrs.frozen(kw_only=True)
class OrderKey:
    """One key of an order: a main tag of `level`, or metadata. Resources without the value come last."""

    level: ResourceLevel
    tag: int | None = None
    metadata: int | None = None
    form: OrderForm = OrderForm.TEXT
    descending: bool = False
    #: The tag is looked up, and as text ordered, in its normalised form.
    is_identifier: bool = False


@attrs.frozen(kw_only=True)
class Scope:
    """Resources of a level by their row numbers: these, or what is below them, are looked at."""

    level: ResourceLevel
    rows: tuple[int, ...]


@attrs.frozen(kw_only=True)
class Lookup:
    """A search that the index can answer by itself.

    Equal keys, and no keys at all, leave resources in the order of their creation. `limit` 0 is no limit.
    """

    level: ResourceLevel
    constraints: tuple[Constraint, ...] = ()
    scope: Scope | None = None
    labels: tuple[str, ...] = ()
    labels_constraint: LabelsConstraint = LabelsConstraint.ALL
    order: tuple[OrderKey, ...] = ()
    since: int = 0
    limit: int = 0

    @property
    def is_labelled(self) -> bool:
        """Whether labels matter."""
        return bool(self.labels) or self.labels_constraint is LabelsConstraint.NONE


@attrs.frozen
class LookedUp:
    """Row numbers in order, and the resources of the first of them."""

    rows: list[int]
    first: list[Resource]
