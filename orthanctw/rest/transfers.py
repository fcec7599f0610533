"""What requests to send resources elsewhere have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orthanctw.errors import BadFileFormat, UnknownResource
from orthanctw.identifiers import ORTHANC_ID_LENGTH
from orthanctw.interfaces import IIndex
from orthanctw.model import ResourceLevel
from orthanctw.rest.call import Call, field


async def store_body(call: Call) -> dict[str, Any]:
    """The three forms of the body: an object, an array of identifiers, and one identifier as text."""
    text = await call.text()
    if len(text) == ORTHANC_ID_LENGTH and not text.startswith(("{", "[", '"')):
        return {"Resources": [text]}
    value = await call.json()
    if isinstance(value, str):
        return {"Resources": [value]}
    if isinstance(value, list):
        return {"Resources": value}
    if not isinstance(value, dict):
        raise BadFileFormat("An object, an array or an identifier is needed")
    return value


async def resources_of(index: IIndex, body: Mapping[str, Any]) -> Sequence[tuple[ResourceLevel, str]]:
    """Field ``Resources``, with the levels. BadFileFormat for what is none, UnknownResource for what is not there."""
    if "Resources" not in body:
        raise BadFileFormat("Field Resources is missing")
    found = []
    for public_id in field(body, "Resources", list, [], BadFileFormat):
        if not isinstance(public_id, str):
            raise BadFileFormat("Resources must be an array of strings")
        level: ResourceLevel | None = await index.lookup_level(public_id)
        if level is None and len(public_id) != ORTHANC_ID_LENGTH:
            raise BadFileFormat("Not an identifier of a resource")
        if level is None:
            raise UnknownResource("A resource is unknown")
        found.append((level, public_id))
    return found


def shown_resources(resources: Sequence[tuple[ResourceLevel, str]]) -> dict[str, Any]:
    """Parameters of a job by which clients see what it sends."""
    return {
        "ParentResources": [public_id for _, public_id in resources],
        "Resources": [{"ID": public_id, "Type": level.title} for level, public_id in resources],
    }
