"""``POST /instances``."""

from __future__ import annotations

from orthanctw.rest.call import Call
from orthanctw.rest.declaration import BINARY, JSON, TEXT, Argument, Body, route
from orthanctw.rest.reply import DICOM, EMPTY, Reply, json_reply
from orthanctw.rest.serialisers import ingested
from orthanctw.uploads import Uploads

_ENCODING = Argument("Content-Encoding", "string", "How the body is compressed", values=("gzip",))
_OBJECTS = Body(content=(DICOM, "application/zip", "application/gzip", BINARY, "multipart/form-data"))


class UploadRoutes:
    """Receiving objects."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    @route("POST", "/instances", headers=[_ENCODING], body=_OBJECTS, answers=[JSON, TEXT])
    async def upload(self, call: Call) -> Reply:
        """Store a DICOM file, a ZIP archive of them, either within gzip, or a form."""
        content_type = call.headers.get("content-type", "")
        if content_type.lower().startswith("multipart/form-data"):
            await self._uploads.receive_form(call.body, content_type, call.origin)
            return EMPTY
        gzip = call.headers.get("content-encoding", "").strip().lower() == "gzip"
        result = await self._uploads.receive(call.body, call.origin, gzip=gzip)
        if isinstance(result, list):
            return json_reply([ingested(item) for item in result])
        return json_reply(ingested(result))
