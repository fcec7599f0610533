"""What is inside an instance: tags in all formats, raw elements, the file itself."""

from __future__ import annotations

from typing import Final

from orthanctw.catalog import Catalog
from orthanctw.contents import Contents
from orthanctw.dicom import webforms
from orthanctw.dicom.content import Children
from orthanctw.dicom.jsonforms import TagFormat
from orthanctw.dicom.uids import TRANSFER_SYNTAXES
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ParameterOutOfRange
from orthanctw.interfaces import ITranscoder
from orthanctw.model import Attachment
from orthanctw.remote import Outgoing
from orthanctw.rest.arguments import FILENAME, LOSSY_QUALITY, RANGE, TRANSCODE
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import JSON, Argument, route
from orthanctw.rest.encoding import streamed
from orthanctw.rest.ranges import file_reply
from orthanctw.rest.reply import BINARY, DICOM, Headers, Reply, content_disposition, json_reply
from orthanctw.rest.resources.browsing import format_of
from orthanctw.rest.resources.views import FORMATS, IGNORE_LENGTH, ignored_lengths
from orthanctw.sending import outgoing_of, temporary_reader
from orthanctw.slices import frame_count
from orthanctw.tagviews import TagView, TagViews

_WHOLE: Final = Argument("whole", "boolean", "What follows the pixel data, too")
_FORMS: Final = {webforms.JSON: webforms.json_pieces, webforms.XML: webforms.xml_pieces}


class ContentRoutes:
    """Reading instances."""

    def __init__(self, catalog: Catalog, contents: Contents, views: TagViews, transcoder: ITranscoder) -> None:
        self._catalog = catalog
        self._contents = contents
        self._views = views
        self._transcoder = transcoder

    @route("GET", "/instances/<id>/tags", query=(*FORMATS, IGNORE_LENGTH, _WHOLE))
    async def tags(self, call: Call) -> Reply:
        """All tags."""
        return await self._tags(call, format_of(call, TagFormat.FULL))

    @route("GET", "/instances/<id>/simplified-tags", query=(IGNORE_LENGTH, _WHOLE))
    async def simplified_tags(self, call: Call) -> Reply:
        """All tags by keyword."""
        return await self._tags(call, TagFormat.SIMPLIFY)

    async def _tags(self, call: Call, form: TagFormat) -> Reply:
        ignored = ignored_lengths(call, self._catalog.dictionary)
        view = TagView(format=form, ignore_length=ignored, is_whole=call.boolean("whole"))
        return await self._views.instance(call["id"], view, json_reply)

    @route("GET", "/instances/<id>/header", query=FORMATS)
    async def header(self, call: Call) -> Reply:
        """Group 0002."""
        view = TagView(format=format_of(call, TagFormat.FULL), is_meta=True)
        return await self._views.instance(call["id"], view, json_reply)

    @route("GET", "/instances/<id>/frames")
    async def frames(self, call: Call) -> Reply:
        """Numbers of the frames, from 0."""
        header = await self._catalog.header(call["id"])
        return json_reply(list(range(frame_count(header.pixels))))

    @route("GET", "/instances/<id>/content", "/instances/<id>/content/<path:path>", answers=(JSON, BINARY))
    async def content(self, call: Call) -> Reply:
        """An element of the data set, however deep: its children, or its bytes."""
        path = call.parameters.get("path", "")
        found = await self._contents.element(call["id"], [part for part in path.split("/") if part])
        if isinstance(found, Children):
            return json_reply(found.names)
        if isinstance(found, bytes):
            return Reply(found, BINARY)
        return Reply(content_type=BINARY, reader=found)

    @route(
        "GET",
        "/instances/<id>/file",
        query=(FILENAME, TRANSCODE, LOSSY_QUALITY),
        headers=(RANGE, Argument("Accept", "string", "The form of the object", values=(DICOM, *_FORMS))),
        answers=(DICOM, *_FORMS),
    )
    async def file(self, call: Call) -> Reply:
        """The DICOM file: as received, transcoded, or as JSON or XML with its binary values."""
        public_id = call["id"]
        attachment = await self._contents.attachment(public_id)
        accepted = call.headers.get("accept", "")
        if accepted in _FORMS:
            pieces = self._views.whole(public_id, attachment, _FORMS[accepted])
            return await streamed(pieces, accepted)
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
