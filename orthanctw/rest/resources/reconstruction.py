"""Reading objects anew from their files, and writing files of the server."""

from __future__ import annotations

from typing import Final

from orthanctw.errors import BadFileFormat, EmptyAnswer
from orthanctw.fileexport import FileExport
from orthanctw.model import ResourceLevel
from orthanctw.reconstruction import HEADERS, Extent, Reconstruction
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import TEXT, Argument, Body, route
from orthanctw.rest.reply import EMPTY, Reply
from orthanctw.rest.resources.browsing import level_of

_FILES = Argument(
    "ReconstructFiles", "boolean", "Write the files anew too, by the options StorageCompression and IngestTranscoding"
)
_LIMIT = Argument(
    "LimitToThisLevelMainDicomTags", "boolean", "Only the main tags of this very resource, from one of its instances"
)
#: Bytes of the longest path that a Linux knows.
_MAXIMUM_PATH: Final = 4096


async def _extent(call: Call, level: ResourceLevel | None) -> Extent:
    """What a body asks for, which may be empty. BadFileFormat for what is no boolean."""
    body = await call.json_object() if await call.content() else {}
    files = field(body, _FILES.name, bool, False, BadFileFormat)
    if level is not None and field(body, _LIMIT.name, bool, False, BadFileFormat):
        return Extent(levels=frozenset((level,)), headers=False, files=files)
    return Extent(files=files)


class ReconstructionRoutes:
    """Reading objects anew."""

    def __init__(self, reconstruction: Reconstruction) -> None:
        self._reconstruction = reconstruction

    @route(
        "POST",
        *(f"/{level.plural}/<id>/reconstruct" for level in ResourceLevel),
        body=Body(fields=(_FILES, _LIMIT), required=False),
        answers=[TEXT],
    )
    async def reconstruct(self, call: Call) -> Reply:
        """Read main tags and metadata of a resource, and of what is above and below it, anew from the files."""
        level = level_of(call)
        await self._reconstruction.resource(level, call["id"], await _extent(call, level))
        return EMPTY

    @route("POST", "/tools/reconstruct", body=Body(fields=(_FILES,), required=False), answers=[TEXT])
    async def reconstruct_all(self, call: Call) -> Reply:
        """Read main tags and metadata of everything anew from the files; this may take hours."""
        await self._reconstruction.everything(await _extent(call, None))
        return EMPTY

    @route("POST", "/tools/invalidate-tags", answers=[TEXT])
    async def invalidate_tags(self, call: Call) -> Reply:
        """Read the tags that are kept of each instance anew from the files."""
        await self._reconstruction.everything(HEADERS)
        return EMPTY


class ExportRoutes:
    """Writing objects to files of the server.

    Parameters
    ----------
    export : FileExport or None
        None unless ``RestApiWriteToFileSystemEnabled``.
    """

    def __init__(self, export: FileExport | None) -> None:
        self._export = export

    @route(
        "POST",
        "/instances/<id>/export",
        body=Body(content=(TEXT,), summary="Absolute path of the file to write"),
        answers=[TEXT],
    )
    async def export(self, call: Call) -> Reply:
        """Write the file of an instance to a path on the server, which the configuration must allow."""
        if self._export is None:
            raise EmptyAnswer(403)
        content = await call.content()
        await self._export.write(call["id"], content[: _MAXIMUM_PATH + 1])
        return EMPTY
