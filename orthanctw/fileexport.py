"""Writing objects to files of the server outside the storage area (level 4)."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from typing import Final

from orthanctw.errors import CannotWriteFile, ForbiddenAccess, FullStorage, OrthancError, UnknownResource
from orthanctw.interfaces import IIndex, IReader, IStorageArea
from orthanctw.model import Attachment, AttachmentType, ResourceLevel
from orthanctw.rewriting import PIECE
from orthanctw.storage.spool import write_error

#: Bytes of the longest path that Linux knows.
_MAXIMUM_PATH: Final = 4096
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class FileExport:
    """Writes files where clients say: for servers whose clients may do all (``RestApiWriteToFileSystemEnabled``).

    Parameters
    ----------
    own : sequence of str
        Folders of the server's own, below which nothing is written.
    """

    def __init__(self, index: IIndex, storage: IStorageArea, own: Sequence[str]) -> None:
        self._index = index
        self._storage = storage
        self._own = tuple(os.fsencode(os.path.realpath(folder)) for folder in own)

    async def write(self, public_id: str, path: bytes) -> None:
        """Write the file of an instance; what lies there is replaced once all of it is written.

        Raises
        ------
        UnknownResource
            There is no such instance.
        CannotWriteFile
            With status 400: the path is not absolute, or cannot be written.
        ForbiddenAccess
            The path lies in a folder of the server's own.
        FullStorage
            The disk has no room.
        """
        found: dict[int, Attachment] | None = await self._index.attachments(ResourceLevel.INSTANCE, public_id)
        if not found or AttachmentType.DICOM not in found:
            raise UnknownResource()
        if not path.startswith(b"/") or len(path) > _MAXIMUM_PATH or b"\0" in path:
            raise CannotWriteFile("The body must be an absolute path", http_status=400)
        reader: IReader = await self._storage.reader(found[AttachmentType.DICOM])
        try:
            await self._write(reader, path)
        finally:
            reader.close()

    async def _write(self, reader: IReader, path: bytes) -> None:
        # Another name until all is there: nobody finds half a file.
        temporary = path + f".{secrets.token_hex(8)}.part".encode("ascii")
        fd: int = await self._storage.call(self._open, path, temporary)
        try:
            try:
                while data := await reader.read(PIECE):
                    await self._storage.call(_append, fd, data)
                await self._storage.call(_sync, fd)
            finally:
                await self._storage.call(os.close, fd)
            await self._storage.call(_rename, temporary, path)
        except BaseException:
            await self._storage.call(_remove, temporary)
            raise

    def _open(self, path: bytes, temporary: bytes) -> int:
        folder = os.path.realpath(os.path.dirname(path))
        if any(folder == own or folder.startswith(own + b"/") for own in self._own):
            raise ForbiddenAccess("The folder is one of the server's own")
        if os.path.isdir(path) or not os.path.basename(path):
            raise CannotWriteFile("The path is that of a folder", http_status=400)
        try:
            return os.open(temporary, _FLAGS, 0o644)
        except OSError as e:
            raise _refused(e) from e


def _append(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as e:
        raise _refused(e) from e


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as e:
        raise _refused(e) from e


def _rename(temporary: bytes, path: bytes) -> None:
    try:
        os.replace(temporary, path)
    except OSError as e:
        raise _refused(e) from e


def _remove(path: bytes) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _refused(error: OSError) -> OrthancError:
    told = write_error(error)
    return told if isinstance(told, FullStorage) else CannotWriteFile("The path cannot be written", http_status=400)
