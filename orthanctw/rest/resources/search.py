"""``/tools/find``, ``/tools/count-resources`` and ``/tools/lookup``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orthanctw.catalog import CONTENT_NAMES, EXPANDED, Catalog, Wanted
from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.jsonforms import TagFormat
from orthanctw.errors import BadFileFormat, BadRequest, ParameterOutOfRange
from orthanctw.finder import Find, Finder
from orthanctw.lookups import LabelsConstraint, OrderForm
from orthanctw.matching import metadata_predicate, parse_path, query_conditions
from orthanctw.model import ResourceLevel
from orthanctw.names import Names
from orthanctw.ordering import SortKey
from orthanctw.rest.call import Call, field, strings
from orthanctw.rest.declaration import TEXT, Argument, Body, route
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.reply import Reply, json_reply
from orthanctw.rest.resources.browsing import parse_content, parse_tags
from orthanctw.rest.serialisers import ResourceSerialiser, reference

_PARENTS: Final = {
    f"Parent{level.title}": level for level in (ResourceLevel.PATIENT, ResourceLevel.STUDY, ResourceLevel.SERIES)
}
_ORDER_TYPES: Final = {
    f"{kind}{form.value}": (kind, form) for kind in ("DicomTag", "Metadata") for form in OrderForm
}
_CONSTRAINTS: Final = {constraint.value: constraint for constraint in LabelsConstraint}
_DIRECTIONS: Final = {"ASC": False, "DESC": True}
_FORMATS: Final = {"Full": TagFormat.FULL, "Short": TagFormat.SHORT, "Simplify": TagFormat.SIMPLIFY}
#: Keys of an order; the database counts terms, and one of the first decides.
_MAXIMUM_KEYS: Final = 64

_CRITERIA: Final = (
    Argument(
        "Level", "string", "What is looked for", required=True, values=tuple(level.title for level in ResourceLevel)
    ),
    Argument("Query", "object", "Values by tag: exact, with wildcards, lists or ranges", required=True),
    Argument("MetadataQuery", "object", "Values by name or number of metadata, with wildcards or lists"),
    Argument("Labels", "strings", "Labels that count"),
    Argument(
        "LabelsConstraint",
        "string",
        "Which of the labels a resource must bear; None without labels: no label at all",
        values=tuple(_CONSTRAINTS),
    ),
    *(Argument(name, "string", "Identifier of a resource to stay below") for name in _PARENTS),
    Argument("CaseSensitive", "boolean", "Whether upper and lower case differ"),
    Argument("Full", "boolean", "Tags with their numbers, names and types"),
    Argument("Short", "boolean", "Tags by their numbers only"),
)
_FIND: Final = Body(
    fields=(
        *_CRITERIA,
        Argument("Simplify", "boolean", "Tags by their names only, as without it"),
        Argument("Expand", "boolean", "Objects instead of their identifiers"),
        Argument("ResponseContent", "strings", "Groups of fields of each object", values=tuple(CONTENT_NAMES)),
        Argument("RequestedTags", "strings", "Further tags of each object"),
        Argument("OrderBy", "objects", "Objects with Type, Key and Direction, the first one goes before the others"),
        Argument("Since", "integer", "How many are skipped"),
        Argument("Limit", "integer", "How many are answered at most; 0: all"),
    )
)
_TEXT: Final = Body(content=(TEXT,), schema={"type": "string"}, summary="A PatientID or UID")


class SearchRoutes:
    """Finding resources by the values of their tags."""

    def __init__(
        self, catalog: Catalog, finder: Finder, names: Names, serialiser: ResourceSerialiser, encoder: JsonEncoder
    ) -> None:
        self._catalog = catalog
        self._finder = finder
        self._names = names
        self._serialiser = serialiser
        self._encoder = encoder

    @route("POST", "/tools/find", body=_FIND)
    async def find(self, call: Call) -> Reply:
        """Find resources."""
        body = await _body(call)
        find, wanted = self._find(body), _wanted(body, self._catalog.dictionary)
        ids = await self._finder.find(find)
        if wanted is None:
            return await self._encoder.reply(ids)
        return await self._encoder.reply(await self._serialiser.resources(self._catalog, find.level, ids, wanted))

    @route("POST", "/tools/count-resources", body=Body(fields=_CRITERIA))
    async def count(self, call: Call) -> Reply:
        """Count what a search would find."""
        body = await _body(call)
        if field(body, "CaseSensitive", bool, False):
            raise ParameterOutOfRange("Counting does not mind the case")
        find = self._find(body)
        _format(body)
        return json_reply({"Count": await self._finder.count(find)})

    @route("POST", "/tools/lookup", body=_TEXT)
    async def lookup(self, call: Call) -> Reply:
        """Find the resources of which a text is the DICOM identifier."""
        found = await self._finder.lookup(await call.text())
        return json_reply([reference(level, public_id) for level, public_id in found])

    def _find(self, body: Mapping[str, Any]) -> Find:
        dictionary = self._catalog.dictionary
        if "Level" not in body or "Query" not in body:
            raise BadRequest("Level and Query are needed")
        level = ResourceLevel.parse(field(body, "Level", str, ""))
        if level is None:
            raise ParameterOutOfRange("Unknown level")
        case_sensitive = field(body, "CaseSensitive", bool, False)
        since, limit = field(body, "Since", int, 0), field(body, "Limit", int, 0)
        if since < 0 or limit < 0:
            raise ParameterOutOfRange("Since and Limit cannot be negative")
        constraint = _CONSTRAINTS.get(field(body, "LabelsConstraint", str, LabelsConstraint.ALL.value))
        if constraint is None:
            raise BadRequest("Unknown LabelsConstraint")
        metadata = field(body, "MetadataQuery", dict, {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise BadRequest("Values of MetadataQuery must be strings")
        return Find(
            level=level,
            conditions=query_conditions(dictionary, field(body, "Query", dict, {}), case_sensitive=case_sensitive),
            metadata=tuple(
                (number, metadata_predicate(value))
                for number, value in ((self._names.metadata_number(name), value) for name, value in metadata.items())
                if value
            ),
            parents=tuple((level, field(body, name, str, "")) for name, level in _PARENTS.items() if name in body),
            labels=tuple(strings(body, "Labels")),
            labels_constraint=constraint,
            order=tuple(self._sort_key(item) for item in _order(body)),
            since=since,
            limit=limit,
        )

    def _sort_key(self, item: Any) -> SortKey:
        """A key of the order. BadRequest, UnknownDicomTag; InexistentItem for unknown metadata."""
        if not isinstance(item, dict) or not all(name in item for name in ("Type", "Key", "Direction")):
            raise BadRequest("Items of OrderBy must be objects with Type, Key and Direction")
        name, direction = field(item, "Key", str, ""), field(item, "Direction", str, "")
        kind, form = _ORDER_TYPES.get(field(item, "Type", str, ""), ("", OrderForm.TEXT))
        if not kind or direction not in _DIRECTIONS:
            raise BadRequest("Unknown Type or Direction in OrderBy")
        if kind == "Metadata":
            number = self._names.metadata_number(name)
            return SortKey(metadata=number, form=form, descending=_DIRECTIONS[direction])
        path = parse_path(self._catalog.dictionary, name)
        return SortKey(path=path, form=form, descending=_DIRECTIONS[direction])


async def _body(call: Call) -> dict[str, Any]:
    """The JSON object of a request; BadRequest for whatever else it is."""
    try:
        return await call.json_object()
    except BadFileFormat as e:
        raise BadRequest(e.details) from e


def _order(body: Mapping[str, Any]) -> list[Any]:
    order: list[Any] = field(body, "OrderBy", list, [])
    if len(order) > _MAXIMUM_KEYS:
        raise BadRequest("Too many keys in OrderBy")
    return order


def _format(body: Mapping[str, Any]) -> TagFormat:
    wanted = TagFormat.SIMPLIFY
    for name, candidate in _FORMATS.items():
        if field(body, name, bool, False, BadFileFormat):
            wanted = candidate
    return wanted


def _wanted(body: Mapping[str, Any], dictionary: Dictionary) -> Wanted | None:
    """What is to be shown of each match; None for its identifier only."""
    names = strings(body, "ResponseContent")
    is_expanded = field(body, "Expand", bool, False)
    wanted = Wanted(
        content=parse_content(names) if names else EXPANDED,
        requested_tags=parse_tags(dictionary, strings(body, "RequestedTags")),
        format=_format(body),
    )
    return wanted if names or is_expanded else None
