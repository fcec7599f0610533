"""``POST /instances``."""

from __future__ import annotations

from orthanctw.rest.call import Call
from orthanctw.rest.declaration import route
from orthanctw.rest.reply import EMPTY, Reply, json_reply
from orthanctw.rest.serialisers import ingested
from orthanctw.uploads import Uploads


class UploadRoutes:
    """Receiving objects."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    @route("POST", "/instances")
    async def upload(self, call: Call) -> Reply:
        """One DICOM file, a ZIP archive of them, either within gzip, or a form."""
        content_type = call.headers.get("content-type", "")
        if content_type.lower().startswith("multipart/form-data"):
            await self._uploads.receive_form(call.body, content_type, call.origin)
            return EMPTY
        gzip = call.headers.get("content-encoding", "").strip().lower() == "gzip"
        result = await self._uploads.receive(call.body, call.origin, gzip=gzip)
        if isinstance(result, list):
            return json_reply([ingested(item) for item in result])
        return json_reply(ingested(result))
