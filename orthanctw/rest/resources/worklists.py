"""``/worklists``: modality worklists that are kept here."""

from __future__ import annotations

from typing import Any, Final

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.jsonforms import FormOptions, TagFormat, form_of
from orthanctw.errors import BadFileFormat
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import Argument, Body, route
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.reply import EMPTY_JSON, Reply, json_reply
from orthanctw.worklists.model import Worklist
from orthanctw.worklists.service import Worklists

_FORMAT: Final = Argument(
    "format", "string", "How tags are written, Simplify unless given", values=tuple(form.value for form in TagFormat)
)
_BODY: Final = Body(
    fields=(
        Argument("Tags", "object", "Values by tags; of sequences, arrays of such objects", required=True),
        Argument("Force", "boolean", "Whether steps without modality or start date are taken, too"),
    )
)


class WorklistRoutes:
    """Reading, making, changing and removing worklists."""

    def __init__(self, worklists: Worklists, dictionary: Dictionary, encoder: JsonEncoder) -> None:
        self._worklists = worklists
        self._options = FormOptions(dictionary=dictionary, maximum_length=0)
        self._encoder = encoder

    @route("GET", "/worklists", query=[_FORMAT])
    async def list(self, call: Call) -> Reply:
        """List all worklists."""
        form = _form(call)
        found = await self._worklists.all()
        return await self._encoder.reply_of(len(found), lambda: [self._listed(worklist, form) for worklist in found])

    def _listed(self, worklist: Worklist, form: TagFormat) -> dict[str, Any]:
        dates = {"CreationDate": worklist.created} if self._worklists.dates else {}
        return {**self._shown(worklist, form), **dates}

    def _shown(self, worklist: Worklist, form: TagFormat) -> dict[str, Any]:
        return {"ID": worklist.identifier, "Tags": form_of(worklist.elements, form, self._options)}

    @route("POST", "/worklists/create", body=_BODY)
    async def create(self, call: Call) -> Reply:
        """Make a worklist."""
        tags, force = await _parsed(call, default_force=False)
        return _made(await self._worklists.create(tags, force=force))

    @route("GET", "/worklists/<id>", query=[_FORMAT])
    async def get(self, call: Call) -> Reply:
        """Show one worklist."""
        form = _form(call)
        return json_reply(self._shown(await self._worklists.get(call["id"]), form))

    @route("PUT", "/worklists/<id>", body=_BODY)
    async def update(self, call: Call) -> Reply:
        """Replace a worklist."""
        tags, force = await _parsed(call, default_force=True)
        await self._worklists.update(call["id"], tags, force=force)
        return _made(call["id"])

    @route("DELETE", "/worklists/<id>")
    async def delete(self, call: Call) -> Reply:
        """Remove a worklist."""
        await self._worklists.delete(call["id"])
        return EMPTY_JSON


def _form(call: Call) -> TagFormat:
    return TagFormat.parse(call.arguments.get("format", TagFormat.SIMPLIFY.value))


async def _parsed(call: Call, *, default_force: bool) -> tuple[dict[str, Any], bool]:
    """Fields ``Tags`` and ``Force`` of the body."""
    body = await call.json()
    if not isinstance(body, dict) or "Tags" not in body:
        raise BadFileFormat("An object with Tags is needed")
    return field(body, "Tags", dict, {}, BadFileFormat), field(body, "Force", bool, default_force, BadFileFormat)


def _made(identifier: str) -> Reply:
    return json_reply({"ID": identifier, "Path": f"/worklists/{identifier}"})
