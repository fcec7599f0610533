"""``POST /tools/create-dicom``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from twisted.internet.defer import Deferred, DeferredLock

from orthanctw.creation import Creation, CreationRequest
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadRequest, OrthancError, RequestTooLarge
from orthanctw.interfaces import ISpool, IStorageArea
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import Argument, Body, route
from orthanctw.rest.reply import Reply, json_reply
from orthanctw.rest.serialisers import ingested

#: Longest body: contents are within its text.
MAXIMUM_BODY: Final = 256 * 1024 * 1024
#: Values in a body at most, about: each of them takes far more memory than it has characters.
_MAXIMUM_VALUES: Final = 1_000_000
_PIECE: Final = 1 << 20
_PIXEL_DATA: Final = frozenset({"PixelData", "7fe0,0010", "7fe0-0010", "7fe00010"})
_BODY: Final = Body(
    fields=(
        Argument("Tags", "object", "Values by tag: text, null, or lists of objects for sequences", required=True),
        Argument("Content", "any", "Data URI of an image or document; or a list of them, which makes a series"),
        Argument("Parent", "string", "Patient, study or series that the new object belongs to"),
        Argument("PrivateCreator", "string", "Creator of the private tags"),
        Argument("InterpretBinaryTags", "boolean", "Whether data URIs in tags are decoded; true by default"),
        Argument("Force", "boolean", "Allow identifiers and inherited tags to be replaced"),
        Argument("Encapsulate", "boolean", "Keep a JPEG as it is"),
    )
)


class CreationRoutes:
    """Making objects."""

    def __init__(self, creation: Creation, storage: IStorageArea) -> None:
        self._creation = creation
        self._storage = storage
        # Bodies that do not stay in memory as they come are taken apart there, one after the other.
        self._large = DeferredLock()

    @route("POST", "/tools/create-dicom", body=_BODY)
    async def create(self, call: Call) -> Reply:
        """Make an instance, or a series, out of tags and an image or document."""
        if isinstance(call.body, bytes):
            return await self._create(call, _parse(call.body))
        if call.body.size > MAXIMUM_BODY:
            raise RequestTooLarge()
        await call.body.flush()
        reply: Reply = await self._large.run(Deferred.fromCoroutine, self._create_large(call, call.body))
        return reply

    async def _create_large(self, call: Call, body: ISpool) -> Reply:
        return await self._create(call, await self._storage.call(lambda: _parse_large(memoryview(body.map()))))

    async def _create(self, call: Call, body: Mapping[str, Any]) -> Reply:
        request = _request(body)
        made = await self._creation.create(request, call.origin)
        if request.contents:
            series = made[0].series
            return json_reply({"ID": series, "Path": f"/series/{series}", "Status": made[0].status.value})
        return json_reply(ingested(made[0]))


def _parse_large(raw: memoryview) -> dict[str, Any]:
    marks = 0
    for start in range(0, len(raw), _PIECE):
        piece = bytes(raw[start : start + _PIECE])
        marks += sum(piece.count(mark) for mark in (b",", b"[", b"{"))
    if marks > _MAXIMUM_VALUES:
        raise RequestTooLarge()
    return _parse(raw)


def _parse(raw: bytes | memoryview) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except (ValueError, RecursionError) as e:
        raise BadRequest("The body is not valid JSON") from e
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object")
    return body


def _request(body: Mapping[str, Any]) -> CreationRequest:
    if "Tags" not in body:
        return _plain_request(body)
    content = body.get("Content", "")
    if not isinstance(content, (str, list)):
        raise OrthancError("Content must be text or a list", code=ErrorCode.CREATE_DICOM_USE_DATA_URI_SCHEME)
    parent = body.get("Parent", "")
    if not isinstance(parent, str):
        raise OrthancError("Parent must be an identifier", code=ErrorCode.CREATE_DICOM_BAD_PARENT)
    return CreationRequest(
        tags=field(body, "Tags", dict, {}),
        contents=content if isinstance(content, list) else None,
        content=content if isinstance(content, str) and "Content" in body else None,
        parent=parent if "Parent" in body else None,
        private_creator=field(body, "PrivateCreator", str, None),
        interprets_binary=field(body, "InterpretBinaryTags", bool, True),
        force=field(body, "Force", bool, False),
        encapsulates=field(body, "Encapsulate", bool, False),
    )


def _plain_request(body: Mapping[str, Any]) -> CreationRequest:
    """The old form: the body is the tags, PixelData among them the content."""
    if not all(isinstance(value, str) for value in body.values()):
        raise OrthancError("All values must be text", code=ErrorCode.CREATE_DICOM_NOT_STRING)
    content = next((value for name, value in body.items() if name in _PIXEL_DATA), None)
    return CreationRequest(
        tags={name: value for name, value in body.items() if name not in _PIXEL_DATA},
        content=content,
        interprets_binary=False,
        is_plain=True,
    )
