"""``/tools``: search, identifiers, time, logs, and the life of the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from orthanctw.catalog import EXPANDED, Catalog, Wanted
from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.jsonforms import TagFormat
from orthanctw.errors import BadRequest, EmptyAnswer, ParameterOutOfRange
from orthanctw.finder import Find, Finder, query_conditions
from orthanctw.identifiers import generate_uid
from orthanctw.log import CATEGORIES, LEVELS, LogLevels
from orthanctw.model import ResourceLevel
from orthanctw.rest.call import Call, field, strings
from orthanctw.rest.declaration import TEXT, Argument, Body, route
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.reply import EMPTY, Reply, json_reply, text_reply
from orthanctw.rest.resources.browsing import parse_content, parse_tags
from orthanctw.rest.serialisers import ResourceSerialiser, reference

_LOG_PATHS = ("/tools/log-level", *(f"/tools/log-level-{category}" for category in CATEGORIES))
_GENERATED = {level.title.lower(): level for level in ResourceLevel}
_LEVEL = Argument("level", "string", "What the identifier is for", required=True, values=tuple(_GENERATED))
_LOG_LEVEL = Body(content=(TEXT,), schema={"type": "string", "enum": list(LEVELS)})
_LABEL_CONSTRAINTS = ("All", "Any", "None")


class SearchRoutes:
    """Finding resources by the values of their tags."""

    def __init__(
        self, catalog: Catalog, finder: Finder, serialiser: ResourceSerialiser, encoder: JsonEncoder
    ) -> None:
        self._catalog = catalog
        self._finder = finder
        self._serialiser = serialiser
        self._encoder = encoder

    @route("POST", "/tools/find")
    async def find(self, call: Call) -> Reply:
        """Resources that match every key of ``Query``."""
        body = await call.json_object()
        find = _find(body, self._catalog.dictionary)
        ids = await self._finder.find(find)
        wanted = _wanted(body, self._catalog.dictionary)
        if wanted is None:
            return await self._encoder.reply(ids)
        views = await self._catalog.views(find.level, ids, wanted)
        return await self._encoder.reply([self._serialiser.resource(view) for view in views])

    @route("POST", "/tools/lookup")
    async def lookup(self, call: Call) -> Reply:
        """Resources of which the body is the DICOM identifier."""
        found = await self._finder.lookup(await call.text())
        return json_reply([reference(level, public_id) for level, public_id in found])


def _find(body: Mapping[str, Any], dictionary: Dictionary) -> Find:
    if "Level" not in body or "Query" not in body:
        raise BadRequest("Level and Query are needed")
    level = ResourceLevel.parse(field(body, "Level", str, ""))
    if level is None:
        raise ParameterOutOfRange("Unknown level")
    query = field(body, "Query", dict, {})
    if not all(isinstance(value, str) for value in query.values()):
        raise BadRequest("Values of Query must be strings")
    since, limit = field(body, "Since", int, 0), field(body, "Limit", int, 0)
    if since < 0 or limit < 0:
        raise ParameterOutOfRange("Since and Limit cannot be negative")
    constraint = field(body, "LabelsConstraint", str, "All")
    if constraint not in _LABEL_CONSTRAINTS:
        raise BadRequest("Unknown LabelsConstraint")
    conditions = query_conditions(
        dictionary, query, case_sensitive=field(body, "CaseSensitive", bool, False)
    )
    return Find(
        level=level,
        conditions=conditions,
        labels=tuple(strings(body, "Labels")),
        labels_constraint=constraint,
        since=since,
        limit=limit,
    )


def _wanted(body: Mapping[str, Any], dictionary: Dictionary) -> Wanted | None:
    """What is to be shown of each match; None for its identifier only."""
    names = strings(body, "ResponseContent")
    if not names and not field(body, "Expand", bool, False):
        return None
    form = TagFormat.SIMPLIFY
    for name, candidate in (("Full", TagFormat.FULL), ("Short", TagFormat.SHORT), ("Simplify", TagFormat.SIMPLIFY)):
        if field(body, name, bool, False):
            form = candidate
    return Wanted(
        content=parse_content(names) if names else EXPANDED,
        requested_tags=parse_tags(dictionary, strings(body, "RequestedTags")),
        format=form,
    )


class ToolRoutes:
    """Small services.

    Parameters
    ----------
    shut_down, reset : callable
        Stop the process, and start it anew, after the answer.
    """

    def __init__(
        self,
        levels: LogLevels,
        wall_clock: Callable[[], float],
        shut_down: Callable[[], None],
        reset: Callable[[], None],
    ) -> None:
        self._levels = levels
        self._wall_clock = wall_clock
        self._shut_down = shut_down
        self._reset = reset

    @route("GET", "/tools/generate-uid", query=[_LEVEL], answers=[TEXT])
    async def generate_uid(self, call: Call) -> Reply:
        """A new identifier for a level."""
        level = _GENERATED.get(call.arguments.get("level", ""))
        if level is None:
            raise EmptyAnswer(404)
        return text_reply(generate_uid(level))

    @route("GET", "/tools/now", answers=[TEXT])
    async def now(self, call: Call) -> Reply:
        """The time in UTC."""
        return text_reply(time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._wall_clock())))

    @route("GET", "/tools/now-local", answers=[TEXT])
    async def now_local(self, call: Call) -> Reply:
        """The time of the server's zone."""
        return text_reply(time.strftime("%Y%m%dT%H%M%S", time.localtime(self._wall_clock())))

    @route("POST", "/tools/shutdown", answers=[TEXT])
    async def shutdown(self, call: Call) -> Reply:
        """Stop the server."""
        self._shut_down()
        return EMPTY

    @route("POST", "/tools/reset", answers=[TEXT])
    async def reset(self, call: Call) -> Reply:
        """Restart the server with its configuration read anew."""
        self._reset()
        return EMPTY

    @route("GET", *_LOG_PATHS, answers=[TEXT])
    async def log_level(self, call: Call) -> Reply:
        """What is logged of a category, or in general."""
        category = _category(call)
        return text_reply(self._levels.get(category) if category else self._levels.overall())

    @route("PUT", *_LOG_PATHS, body=_LOG_LEVEL, answers=[TEXT])
    async def set_log_level(self, call: Call) -> Reply:
        """Change what is logged."""
        level = await call.text()
        if level not in LEVELS:
            raise ParameterOutOfRange("Unknown level of logs")
        category = _category(call)
        if category:
            self._levels.set(category, level)
        else:
            self._levels.set_all(level)
        return EMPTY


def _category(call: Call) -> str:
    return call.path.removeprefix("/tools/log-level").removeprefix("-")


