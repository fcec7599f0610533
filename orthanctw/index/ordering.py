"""Orders of resources as SQL expressions."""

from __future__ import annotations

from typing import Final

from orthanctw.index.rows import tag_key
from orthanctw.lookups import OrderForm, OrderKey
from orthanctw.model import MetadataType, ResourceLevel

_INSTANCE_NUMBER: Final = 0x00200013
#: Metadata with a column of its own in the table `resources`.
_COLUMNS: Final = {
    (ResourceLevel.INSTANCE, int(MetadataType.INDEX_IN_SERIES)): "in_series",
    (ResourceLevel.SERIES, int(MetadataType.EXPECTED_NUMBER_OF_INSTANCES)): "in_series",
}
#: What of the table `resources` orders need.
COLUMNS: Final = "id, in_series, last_update"
#: Bytes of a value that are looked at for a number.
_NUMBER_BYTES: Final = 32


def order_value(key: OrderKey, row: str, columns: str = "") -> str:
    """The expression of what `key` orders by, of the resource whose row number is the expression `row`; or NULL.

    `columns` is a table that has `COLUMNS` of that resource.
    """
    column = _column(key)
    if column is not None:
        value = f"{columns}.{column}" if columns else f"(SELECT o.{column} FROM resources o WHERE o.id = {row})"
        return _number(value, key.form)
    if key.is_identifier and key.tag is not None:
        # A value of several parts is there as a whole, and by each part.
        whole = (
            f"(SELECT o.value FROM search o WHERE o.resource = {row} AND o.tag = {tag_key(key.level, key.tag)}"
            " ORDER BY length(o.value) DESC LIMIT 1)"
        )
        return _number(whole, key.form)
    if key.metadata is not None:
        return _from_details("metadata", f'[{int(key.metadata)},"', '",', row, key.form)
    assert key.tag is not None
    return _from_details("main_tags", f'[{int(key.tag)},"', '"]', row, key.form)


def order_terms(keys: tuple[OrderKey, ...], values: list[str]) -> str:
    """The terms of an ORDER BY whose expressions are `values`, each with a comma behind it."""
    return "".join(
        f"{value} {'DESC' if key.descending else 'ASC'} NULLS LAST, " for key, value in zip(keys, values, strict=True)
    )


def _column(key: OrderKey) -> str | None:
    """The column of `resources` that has the value."""
    if key.metadata == MetadataType.LAST_UPDATE:
        return "last_update"
    if key.metadata is not None:
        return _COLUMNS.get((key.level, key.metadata))
    # IndexInSeries is the InstanceNumber, or an ImageIndex that stands in for it.
    return "in_series" if key.tag == _INSTANCE_NUMBER and key.level is ResourceLevel.INSTANCE else None


def _from_details(column: str, start: str, end: str, row: str, form: OrderForm) -> str:
    """A value out of the JSON of a resource, cut out as bytes: to parse it would take ten times as long.

    It is compared as it is written there, which differs for quotation marks only.
    """
    # NULL where it is not there, and so is all that is made of it.
    begin = f"nullif(instr(o.{column}, {_blob(start)}), 0) + {len(start)}"
    if form is OrderForm.TEXT:
        behind = f"substr(o.{column}, {begin})"
        value = f"substr({behind}, 1, instr({behind}, {_blob(end)}) - 1)"
    else:
        value = _number(f"(CAST(substr(o.{column}, {begin}, {_NUMBER_BYTES}) AS TEXT))", form)
    return f"(SELECT {value} FROM details o WHERE o.id = {row})"


def _blob(text: str) -> str:
    return f"x'{text.encode('utf-8').hex()}'"


def _number(value: str, form: OrderForm) -> str:
    if form is OrderForm.TEXT:
        return value
    kind = "INTEGER" if form is OrderForm.INTEGER else "REAL"
    if not value.startswith("("):
        return f"CASE WHEN {value} GLOB '[-+.0-9]*' THEN CAST({value} AS {kind}) END"
    return f"(SELECT CASE WHEN n GLOB '[-+.0-9]*' THEN CAST(n AS {kind}) END FROM (SELECT {value} AS n))"
