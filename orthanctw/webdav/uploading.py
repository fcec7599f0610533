"""The folder of uploads: what is put into it is stored, and not shown (level 4)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from twisted.logger import Logger

from orthanctw.errors import BadFileFormat, InexistentTag
from orthanctw.interfaces import ISpool
from orthanctw.model import Origin
from orthanctw.uploads import Uploads

log = Logger(namespace="orthanctw.http")
UPLOADS: Final = "uploads"
#: Folders that clients may have made at a time, each within so many others.
_MAXIMUM_FOLDERS: Final = 10_000
_MAXIMUM_DEPTH: Final = 32


class UploadFolder:
    """Paths are those below it. The folders that clients make in it last as long as the process."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._folders: dict[tuple[str, ...], None] = {(): None}

    def __contains__(self, path: tuple[str, ...]) -> bool:
        """Whether there is such a folder."""
        return path in self._folders

    def folders_in(self, path: tuple[str, ...]) -> list[str]:
        """Names of the folders in a folder."""
        return [folder[-1] for folder in self._folders if folder and folder[:-1] == path]

    def make(self, path: tuple[str, ...]) -> bool:
        """Make a folder; False when it is there, its parent is not, or there are too many."""
        if path in self or path[:-1] not in self:
            return False
        if len(self._folders) >= _MAXIMUM_FOLDERS or len(path) > _MAXIMUM_DEPTH:
            return False
        self._folders[path] = None
        return True

    def remove(self, path: tuple[str, ...]) -> bool:
        """Remove a folder with those in it; False when there is none, or it is the folder of uploads itself."""
        if not path or path not in self:
            return False
        for folder in [folder for folder in self._folders if folder[: len(path)] == path]:
            del self._folders[folder]
        return True

    async def store(self, content: bytes | ISpool, origin: Origin, *, gzip: bool) -> None:
        """Store an object, or those of an archive.

        Anything else is thrown away: file managers put files of their own beside those that they copy. Fails as
        `Uploads.receive` for archives beyond the limits, and when nothing can be stored.
        """
        try:
            await self._uploads.receive(content, origin, gzip=gzip)
        except (BadFileFormat, InexistentTag) as e:
            if e.http_status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise
            log.warn("What was put into the folder of uploads is no DICOM: {reason}", reason=str(e))
