"""What is inside an instance: tags in all formats, raw elements, the file itself."""

from __future__ import annotations

import attrs

from orthanctw.catalog import Catalog
from orthanctw.contents import Contents
from orthanctw.dicom.content import Children
from orthanctw.dicom.header import Header
from orthanctw.dicom.jsonforms import FormOptions, TagFormat, meta_tags, tags
from orthanctw.dicom.uids import TRANSFER_SYNTAXES
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ParameterOutOfRange
from orthanctw.interfaces import ITranscoder
from orthanctw.model import Attachment
from orthanctw.remote import Outgoing
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import route
from orthanctw.rest.ranges import file_reply
from orthanctw.rest.reply import BINARY, DICOM, JSON, Headers, Reply, content_disposition, encode, json_reply
from orthanctw.rest.resources.browsing import format_of
from orthanctw.sending import outgoing_of, temporary_reader


def _tags_reply(header: Header, form: TagFormat, options: FormOptions, whole: bool) -> Reply:
    return Reply(encode(tags(header, form, options, whole=whole)), JSON, compressible=True)


class ContentRoutes:
    """Reading instances."""

    def __init__(self, catalog: Catalog, contents: Contents, transcoder: ITranscoder) -> None:
        self._catalog = catalog
        self._contents = contents
        self._transcoder = transcoder
        self._options = FormOptions(dictionary=catalog.dictionary)

    @route("GET", "/instances/<id>/tags")
    async def tags(self, call: Call) -> Reply:
        """All tags."""
        return await self._tags(call, format_of(call, TagFormat.FULL))

    @route("GET", "/instances/<id>/simplified-tags")
    async def simplified_tags(self, call: Call) -> Reply:
        """All tags by keyword."""
        return await self._tags(call, TagFormat.SIMPLIFY)

    async def _tags(self, call: Call, form: TagFormat) -> Reply:
        whole = call.boolean("whole")
        ignored = call.arguments.get("ignore-length", "")
        options = self._options
        header = await self._catalog.header(call["id"])
        if ignored:
            parse = self._catalog.dictionary.parse
            wanted = frozenset(parse(text.strip()) for text in ignored.split(",") if text.strip())
            return await self._contents.with_file(
                call["id"],
                lambda read: _tags_reply(
                    header, form, attrs.evolve(options, ignore_length=wanted, read=read), whole
                ),
            )
        return _tags_reply(header, form, options, whole)

    @route("GET", "/instances/<id>/header")
    async def header(self, call: Call) -> Reply:
        """Group 0002."""
        header = await self._catalog.header(call["id"])
        return json_reply(meta_tags(header, format_of(call, TagFormat.FULL), self._options))

    @route("GET", "/instances/<id>/frames")
    async def frames(self, call: Call) -> Reply:
        """Numbers of the frames, from 0."""
        header = await self._catalog.header(call["id"])
        return json_reply(list(range(1 if header.pixels is None else header.pixels.frames)))

    @route("GET", "/instances/<id>/content", "/instances/<id>/content/<path:path>")
    async def content(self, call: Call) -> Reply:
        """An element of the data set, however deep: its children, or its bytes."""
        path = call.parameters.get("path", "")
        found = await self._contents.element(call["id"], [part for part in path.split("/") if part])
        if isinstance(found, Children):
            return json_reply(found.names)
        if isinstance(found, bytes):
            return Reply(found, BINARY)
        return Reply(content_type=BINARY, reader=found)

    @route("GET", "/instances/<id>/file")
    async def file(self, call: Call) -> Reply:
        """The DICOM file, as received."""
        public_id = call["id"]
        attachment = await self._contents.attachment(public_id)
        headers = (content_disposition(call.arguments.get("filename", f"{public_id}.dcm")),)
        if "transcode" in call.arguments:
            return await self._transcoded(call, attachment, headers)
        return await file_reply(self._contents.storage, attachment, call, DICOM, headers)

    async def _transcoded(self, call: Call, attachment: Attachment, headers: Headers) -> Reply:
        """The file in the transfer syntax that the client names."""
        wanted = call.arguments["transcode"]
        if wanted not in TRANSFER_SYNTAXES:
            raise ParameterOutOfRange("Unknown transfer syntax in argument transcode")
        quality = call.integer("lossy-quality")
        if quality is not None and not 1 <= quality <= 100:
            raise ParameterOutOfRange("lossy-quality is 1 to 100")
        header = await self._catalog.header(call["id"])
        storage = self._contents.storage
        if header.transfer_syntax == wanted:
            return await file_reply(storage, attachment, call, DICOM, headers)
        async with outgoing_of(
            storage,
            attachment,
            sop_class_uid=header.text(0x00080016) or "",
            sop_instance_uid=header.text(0x00080018) or "",
            transfer_syntax=header.transfer_syntax,
        ) as outgoing:
            found: Outgoing | None = await self._transcoder.transcode(
                outgoing, (wanted,), quality=quality, allows_new_uid=True, spools=True
            )
        if found is None:
            raise OrthancError(
                "The object cannot be had in this transfer syntax", code=ErrorCode.NOT_IMPLEMENTED, http_status=400
            )
        if found.content:
            return Reply(found.content, DICOM, headers=headers)
        try:
            reader = await storage.call(temporary_reader, found.path, storage.call)
        finally:
            self._transcoder.release(found)
        return Reply(content_type=DICOM, headers=headers, reader=reader)
