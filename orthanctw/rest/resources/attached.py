"""Metadata and attachments of resources: reading."""

from __future__ import annotations

from orthanctw import versions
from orthanctw.errors import EmptyAnswer, InexistentFile, InexistentItem, UnknownResource
from orthanctw.interfaces import IIndex, IStorageArea
from orthanctw.model import Attachment, Compression, MetadataValue, ResourceLevel
from orthanctw.names import Names
from orthanctw.rest.arguments import EXPAND, FILENAME, IF_NONE_MATCH, RANGE
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import BINARY, TEXT, Argument, route
from orthanctw.rest.ranges import file_reply
from orthanctw.rest.reply import DICOM, Headers, Reply, content_disposition, json_reply, text_reply
from orthanctw.rest.resources.browsing import level_of
from orthanctw.rest.serialisers import attachment as attachment_json

_NUMERIC = Argument("numeric", "flag", "Numbers instead of names")
_FULL = Argument("full", "flag", "Names with their numbers")
_LEVELS = tuple(level.plural for level in ResourceLevel)
METADATA = tuple(f"/{level}/<id>/metadata" for level in _LEVELS)
ATTACHMENTS = tuple(f"/{level}/<id>/attachments" for level in _LEVELS)
_OPERATIONS = (
    "compress",
    "compressed-data",
    "compressed-md5",
    "compressed-size",
    "data",
    "info",
    "is-compressed",
    "md5",
    "size",
    "uncompress",
    "verify-md5",
)


def below(paths: tuple[str, ...], rest: str) -> tuple[str, ...]:
    """Paths that go on from each of `paths`."""
    return tuple(f"{path}/{rest}" for path in paths)


def tagged(call: Call, tag: str) -> Headers:
    """The ETag header; an EmptyAnswer 304 when the client has this version (RFC 9110 section 13.1.2)."""
    headers = (("ETag", tag),)
    known = {item.strip().removeprefix("W/") for item in call.headers.get("if-none-match", "").split(",")}
    if known & {tag, "*"}:
        raise EmptyAnswer(304, headers)
    return headers


class AttachedRoutes:
    """Reading what is attached to resources."""

    def __init__(self, index: IIndex, storage: IStorageArea, names: Names) -> None:
        self._index = index
        self._storage = storage
        self._names = names

    # Metadata

    @route("GET", *METADATA, query=(EXPAND, _NUMERIC))
    async def metadata(self, call: Call) -> Reply:
        """Names of the metadata that are set, or name and value of each."""
        resource = await self._index.resource(level_of(call), call["id"])
        if resource is None:
            raise UnknownResource()
        numeric = call.flag("numeric")
        items = [
            (str(number) if numeric else self._names.metadata_name(number), number, item.value)
            for number, item in sorted(resource.metadata.items())
        ]
        if call.boolean("expand"):
            return json_reply({name: value for name, _, value in items})
        return json_reply([number if numeric else name for name, number, _ in items])

    @route("GET", *below(METADATA, "<name>"), headers=(IF_NONE_MATCH,), answers=[TEXT])
    async def metadata_value(self, call: Call) -> Reply:
        """One value, as text."""
        number = self._names.metadata_number(call["name"])
        resource = await self._index.resource(level_of(call), call["id"])
        if resource is None:
            raise UnknownResource()
        item: MetadataValue | None = resource.metadata.get(number)
        if item is None:
            raise EmptyAnswer(404)
        return text_reply(item.value, tagged(call, versions.of_metadata(item).etag))

    # Attachments

    @route("GET", *ATTACHMENTS, query=(_FULL,))
    async def attachments(self, call: Call) -> Reply:
        """Names of the attachments, or name and number of each."""
        attachments = await self._index.attachments(level_of(call), call["id"])
        if attachments is None:
            raise UnknownResource()
        names = {self._names.attachment_name(number): number for number in attachments}
        return json_reply(names if call.flag("full") else sorted(names))

    async def _attachment(self, call: Call) -> tuple[Attachment, Headers]:
        number = self._names.attachment_number(call["name"])
        attachments = await self._index.attachments(level_of(call), call["id"])
        if attachments is None:
            raise UnknownResource()
        if number not in attachments:
            raise UnknownResource()
        attachment: Attachment = attachments[number]
        return attachment, tagged(call, versions.of_attachment(attachment).etag)

    @route("GET", *below(ATTACHMENTS, "<name>"), headers=(IF_NONE_MATCH,))
    async def operations(self, call: Call) -> Reply:
        """What can be done with an attachment."""
        _, headers = await self._attachment(call)
        return json_reply(_OPERATIONS, headers=headers)

    @route(
        "GET",
        *below(ATTACHMENTS, "<name>/data"),
        query=(FILENAME,),
        headers=(IF_NONE_MATCH, RANGE),
        answers=[BINARY, DICOM],
    )
    async def data(self, call: Call) -> Reply:
        """The bytes, uncompressed."""
        return await self._file(call, raw=False)

    @route(
        "GET",
        *below(ATTACHMENTS, "<name>/compressed-data"),
        query=(FILENAME,),
        headers=(IF_NONE_MATCH, RANGE),
        answers=[BINARY, DICOM],
    )
    async def compressed_data(self, call: Call) -> Reply:
        """The bytes as they lie on the disk."""
        return await self._file(call, raw=True)

    async def _file(self, call: Call, *, raw: bool) -> Reply:
        attachment, headers = await self._attachment(call)
        try:
            return await self._file_of(call, attachment, headers, raw=raw)
        except InexistentFile:
            # It may have been replaced after it was looked up.
            now, headers = await self._attachment(call)
            if now.uuid == attachment.uuid:
                raise
            return await self._file_of(call, now, headers, raw=raw)

    async def _file_of(self, call: Call, attachment: Attachment, headers: Headers, *, raw: bool) -> Reply:
        if raw and attachment.compression is not Compression.NONE:
            return await file_reply(self._storage, attachment, call, BINARY, headers, raw=True)
        content_type = self._names.attachment_mime(attachment.content_type)
        disposition = content_disposition(call.arguments.get("filename", attachment.uuid))
        return await file_reply(
            self._storage, attachment, call, content_type, (*headers, disposition), raw=raw
        )

    @route("GET", *below(ATTACHMENTS, "<name>/info"), headers=(IF_NONE_MATCH,))
    async def info(self, call: Call) -> Reply:
        """Sizes, digests and the name of the file."""
        attachment, headers = await self._attachment(call)
        return json_reply(attachment_json(attachment), headers=headers)

    @route("GET", *below(ATTACHMENTS, "<name>/size"), headers=(IF_NONE_MATCH,), answers=[TEXT])
    async def size(self, call: Call) -> Reply:
        """Uncompressed size in bytes."""
        attachment, headers = await self._attachment(call)
        return text_reply(str(attachment.size), headers)

    @route("GET", *below(ATTACHMENTS, "<name>/compressed-size"), headers=(IF_NONE_MATCH,), answers=[TEXT])
    async def compressed_size(self, call: Call) -> Reply:
        """Size on the disk in bytes."""
        attachment, headers = await self._attachment(call)
        return text_reply(str(attachment.compressed_size), headers)

    @route("GET", *below(ATTACHMENTS, "<name>/md5"), headers=(IF_NONE_MATCH,), answers=[TEXT])
    async def md5(self, call: Call) -> Reply:
        """MD5 of the uncompressed bytes."""
        attachment, headers = await self._attachment(call)
        return self._digest(attachment.md5, headers)

    @route("GET", *below(ATTACHMENTS, "<name>/compressed-md5"), headers=(IF_NONE_MATCH,), answers=[TEXT])
    async def compressed_md5(self, call: Call) -> Reply:
        """MD5 of the bytes on the disk."""
        attachment, headers = await self._attachment(call)
        return self._digest(attachment.compressed_md5, headers)

    def _digest(self, digest: str, headers: Headers) -> Reply:
        if not digest:
            raise InexistentItem("StoreMD5ForAttachments is off")
        return text_reply(digest, headers)

    @route("GET", *below(ATTACHMENTS, "<name>/is-compressed"), headers=(IF_NONE_MATCH,), answers=[TEXT])
    async def is_compressed(self, call: Call) -> Reply:
        """1 when the file is compressed on the disk, else 0."""
        attachment, headers = await self._attachment(call)
        return text_reply("0" if attachment.compression is Compression.NONE else "1", headers)
