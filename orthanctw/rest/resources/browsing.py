"""Patients, studies, series and instances: lists, objects, parents, children, statistics, protection, deletion."""

from __future__ import annotations

from collections.abc import Sequence

from orthanctw.catalog import CONTENT_NAMES, EXPANDED, Catalog, Wanted
from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.jsonforms import TagFormat
from orthanctw.errors import (
    BadFileFormat,
    BadRequest,
    OrthancError,
    ParameterOutOfRange,
    UnknownResource,
)
from orthanctw.model import ResourceLevel
from orthanctw.removal import Removal
from orthanctw.rest.arguments import EXPAND, FULL, LIMIT, SHORT, SIMPLIFY, SINCE
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import TEXT, Argument, Body, route
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.reply import EMPTY, Reply, json_reply, text_reply
from orthanctw.rest.serialisers import ResourceSerialiser, reference, resource_statistics

LEVELS = tuple(ResourceLevel)
_SHOWN = (
    FULL,
    SHORT,
    SIMPLIFY,
    Argument("requested-tags", "string", "Tags to show besides, separated by semicolons, from the objects if need be"),
    Argument("requestedTags", "string", "The old name of requested-tags"),
    Argument("response-content", "string", "Groups of fields to show, separated by semicolons; objects in any case"),
)
_FORMAT_FLAGS = (("simplify", TagFormat.SIMPLIFY), ("short", TagFormat.SHORT), ("full", TagFormat.FULL))
_LISTS = tuple(f"/{level.plural}" for level in LEVELS)
_ONE = tuple(f"/{level.plural}/<id>" for level in LEVELS)
_CHILDREN = tuple(
    f"/{level.plural}/<id>/{child.plural}" for level in LEVELS for child in LEVELS if child > level
)
_PARENTS = tuple(
    f"/{level.plural}/<id>/{parent.title.lower()}" for level in LEVELS for parent in LEVELS if parent < level
)
_STATISTICS = tuple(f"{path}/statistics" for path in _ONE)


def level_of(call: Call) -> ResourceLevel:
    """The level that a path begins with: ``/studies/...``."""
    level = ResourceLevel.parse(call.path.split("/", 2)[1])
    assert level is not None
    return level


def format_of(call: Call, default: TagFormat = TagFormat.SIMPLIFY) -> TagFormat:
    """The format of tags that the flags ask for; simplify before short before full."""
    for name, form in _FORMAT_FLAGS:
        if call.flag(name):
            return form
    return default


def parse_tags(dictionary: Dictionary, texts: Sequence[str]) -> tuple[int, ...]:
    """Tags by name or number; BadRequest for an unknown one."""
    try:
        return tuple(dictionary.parse(text) for text in texts)
    except OrthancError as e:
        raise BadRequest(f"Unknown tag: {e.details}") from e


def parse_content(names: Sequence[str]) -> int:
    """Groups of fields by name; ParameterOutOfRange for an unknown one."""
    content = 0
    for name in names:
        if name != "RequestedTags":
            if name not in CONTENT_NAMES:
                raise ParameterOutOfRange("Unknown value of response-content")
            content |= CONTENT_NAMES[name]
    return content


_PLAIN = Wanted()


def wanted_of(call: Call, dictionary: Dictionary) -> Wanted:
    """What the query string asks to be shown of each resource."""
    if not call.arguments:
        return _PLAIN
    requested = call.arguments.get("requested-tags", call.arguments.get("requestedTags", ""))
    tags = parse_tags(dictionary, [text for text in requested.split(";") if text])
    names = [name for name in call.arguments.get("response-content", "").split(";") if name]
    return Wanted(
        content=parse_content(names) if names else EXPANDED, requested_tags=tags, format=format_of(call)
    )


class BrowsingRoutes:
    """Reading and deleting resources."""

    def __init__(
        self, catalog: Catalog, removal: Removal, serialiser: ResourceSerialiser, encoder: JsonEncoder
    ) -> None:
        self._catalog = catalog
        self._index = catalog.index
        self._removal = removal
        self._serialiser = serialiser
        self._encoder = encoder

    def _wanted(self, call: Call) -> Wanted:
        return wanted_of(call, self._catalog.dictionary)

    async def _reply(self, level: ResourceLevel, ids: Sequence[str], wanted: Wanted) -> Reply:
        return await self._encoder.reply(await self._serialiser.resources(self._catalog, level, ids, wanted))

    @route("GET", *_LISTS, query=(EXPAND, SINCE, LIMIT, *_SHOWN))
    async def list(self, call: Call) -> Reply:
        """Identifiers, or whole objects with ``expand``."""
        if call.flag("since") != call.flag("limit"):
            raise BadRequest("since and limit must be given together")
        since, limit = call.integer("since"), call.integer("limit")
        level = level_of(call)
        wanted = self._wanted(call)
        expand = call.boolean("expand") or call.flag("response-content")
        ids: list[str] = await self._index.list_ids(level, since or 0, limit or 0)
        if not expand:
            return await self._encoder.reply(ids)
        return await self._reply(level, ids, wanted)

    @route("GET", *_ONE, query=_SHOWN)
    async def one(self, call: Call) -> Reply | None:
        """One object."""
        view = await self._catalog.view(level_of(call), call["id"], self._wanted(call))
        return None if view is None else json_reply(self._serialiser.resource(view))

    @route("DELETE", *_ONE)
    async def delete(self, call: Call) -> Reply | None:
        """Delete a resource and what is below it."""
        deleted = await self._removal.delete(level_of(call), call["id"])
        if deleted is None:
            return None
        remaining = None if deleted.remaining is None else reference(*deleted.remaining)
        return json_reply({"RemainingAncestor": remaining})

    @route("GET", *_CHILDREN, query=(EXPAND, *_SHOWN))
    async def children(self, call: Call) -> Reply:
        """Descendants of a level: objects, or identifiers with ``expand=false``."""
        child_level = ResourceLevel.parse(call.path.rpartition("/")[2])
        assert child_level is not None
        wanted = self._wanted(call)
        ids = await self._index.children(level_of(call), call["id"], child_level)
        if ids is None:
            raise UnknownResource()
        if not call.boolean("expand", True) and not call.flag("response-content"):
            return await self._encoder.reply(ids)
        return await self._reply(child_level, ids, wanted)

    @route("GET", *_PARENTS, query=_SHOWN)
    async def parent(self, call: Call) -> Reply | None:
        """The ancestor of a level."""
        parent_level = ResourceLevel.parse(call.path.rpartition("/")[2])
        assert parent_level is not None
        ancestor = await self._index.ancestor(level_of(call), call["id"], parent_level)
        if ancestor is None:
            return None
        view = await self._catalog.view(parent_level, ancestor.public_id, self._wanted(call))
        return None if view is None else json_reply(self._serialiser.resource(view))

    @route("GET", *_STATISTICS)
    async def statistics(self, call: Call) -> Reply:
        """Counts and sizes below a resource."""
        level = level_of(call)
        statistics = await self._index.resource_statistics(level, call["id"])
        if statistics is None:
            raise UnknownResource()
        return json_reply(resource_statistics(level, statistics))

    @route("GET", "/patients/<id>/protected", answers=(TEXT,))
    async def protected(self, call: Call) -> Reply:
        """Whether a patient is protected from recycling: 0 or 1."""
        resource = await self._index.resource(ResourceLevel.PATIENT, call["id"])
        if resource is None:
            raise ParameterOutOfRange("Unknown patient")
        return text_reply("1" if resource.is_protected else "0")

    @route(
        "PUT",
        "/patients/<id>/protected",
        body=Body(content=(TEXT,), schema={"type": "string", "enum": ["0", "1"]}),
        answers=(TEXT,),
    )
    async def protect(self, call: Call) -> Reply:
        """Protect a patient (1), or not (0)."""
        text = await call.text()
        if text not in ("0", "1"):
            raise BadFileFormat("The body must be 0 or 1")
        await self._index.set_protected(call["id"], text == "1")
        return EMPTY
