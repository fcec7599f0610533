"""Metadata and attachments of resources: writing."""

from __future__ import annotations

import re
from collections.abc import Callable

from orthanctw.attaching import WRITABLE, Attaching
from orthanctw.errors import BadFileFormat, EmptyAnswer, ParameterOutOfRange, RequestTooLarge
from orthanctw.model import Compression
from orthanctw.names import Names
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import BINARY, TEXT, Argument, Body, route
from orthanctw.rest.reply import EMPTY, EMPTY_JSON, PLAIN_JSON, Reply
from orthanctw.rest.reply import TEXT as TEXT_TYPE
from orthanctw.rest.resources.attached import ATTACHMENTS, METADATA, below
from orthanctw.rest.resources.browsing import level_of
from orthanctw.versions import Version

_IF_MATCH = Argument("If-Match", "string", "ETag of the version that the client has, which CheckRevisions demands")
_ETAG = re.compile(r'\s*"?([0-9]{1,18})-([^"]*)"?\s*\Z')
#: Numbers far out of the range of those that may be written.
_FAR_NUMBER = re.compile(r"(-[0-9]+|[0-9]{6,})\Z")
#: Bytes of the longest metadata: all that a resource has lie in its row, and are read together.
_MAXIMUM_METADATA = 16 * 1024 * 1024


def expected_version(call: Call) -> Version | None:
    """What If-Match says. ParameterOutOfRange when it is no ETag of ours."""
    text = call.headers.get("if-match")
    if text is None:
        return None
    match = _ETAG.match(text)
    if match is None:
        raise ParameterOutOfRange("If-Match must be an ETag: a revision and an MD5")
    return Version(int(match[1]), match[2].strip())


def _writable(name: str, number_of: Callable[[str], int]) -> int:
    """The number of a name; 403, empty, for what users may not write."""
    if _FAR_NUMBER.match(name):
        raise EmptyAnswer(403)
    number = number_of(name)
    if number not in WRITABLE:
        raise EmptyAnswer(403)
    return number


class AttachingRoutes:
    """Writing what is attached to resources."""

    def __init__(self, attaching: Attaching, names: Names) -> None:
        self._attaching = attaching
        self._names = names

    # Metadata

    @route(
        "PUT",
        *below(METADATA, "<name>"),
        headers=(_IF_MATCH,),
        body=Body(content=(TEXT,), summary="The value", required=False),
        answers=[TEXT],
    )
    async def set_metadata(self, call: Call) -> Reply:
        """Write metadata of the user's own."""
        number = _writable(call["name"], self._names.metadata_number)
        expected = expected_version(call)
        content = await call.content()
        if len(content) > _MAXIMUM_METADATA:
            raise RequestTooLarge()
        try:
            value = content.decode("utf-8")
        except UnicodeDecodeError as e:
            raise BadFileFormat("Metadata must be text in UTF-8") from e
        version = await self._attaching.set_metadata(level_of(call), call["id"], number, value, expected)
        return Reply(content_type=TEXT_TYPE, headers=(("ETag", version.etag),))

    @route("DELETE", *below(METADATA, "<name>"), headers=(_IF_MATCH,), answers=[TEXT])
    async def delete_metadata(self, call: Call) -> Reply:
        """Remove metadata of the user's own."""
        number = _writable(call["name"], self._names.metadata_number)
        await self._attaching.delete_metadata(level_of(call), call["id"], number, expected_version(call))
        return EMPTY

    # Attachments

    @route(
        "PUT",
        *below(ATTACHMENTS, "<name>"),
        headers=(_IF_MATCH,),
        body=Body(content=(BINARY,), summary="The file", required=False),
    )
    async def attach(self, call: Call) -> Reply:
        """Add an attachment of the user's own, or replace it."""
        number = _writable(call["name"], self._names.attachment_number)
        version = await self._attaching.attach(level_of(call), call["id"], number, call.body, expected_version(call))
        return Reply(EMPTY_JSON.body, PLAIN_JSON, headers=(("ETag", version.etag),))

    @route("DELETE", *below(ATTACHMENTS, "<name>"), headers=(_IF_MATCH,), answers=[TEXT])
    async def detach(self, call: Call) -> Reply:
        """Remove an attachment of the user's own."""
        number = _writable(call["name"], self._names.attachment_number)
        await self._attaching.detach(level_of(call), call["id"], number, expected_version(call))
        return EMPTY

    @route("POST", *below(ATTACHMENTS, "<name>/compress"))
    async def compress(self, call: Call) -> Reply:
        """Compress the file on the disk."""
        return await self._change_compression(call, Compression.ZLIB_WITH_SIZE)

    @route("POST", *below(ATTACHMENTS, "<name>/uncompress"))
    async def uncompress(self, call: Call) -> Reply:
        """Have the file uncompressed on the disk."""
        return await self._change_compression(call, Compression.NONE)

    async def _change_compression(self, call: Call, compression: Compression) -> Reply:
        number = self._names.attachment_number(call["name"])
        await self._attaching.change_compression(level_of(call), call["id"], number, compression)
        return EMPTY_JSON

    @route("POST", *below(ATTACHMENTS, "<name>/verify-md5"))
    async def verify(self, call: Call) -> Reply | None:
        """Read the file and compare its MD5 with the one that was computed when it came."""
        number = self._names.attachment_number(call["name"])
        is_whole = await self._attaching.verify(level_of(call), call["id"], number)
        return EMPTY_JSON if is_whole else None
