"""Reading the files that stay where they are: whether they are there, and the headers of DICOM files."""

from __future__ import annotations

import mmap
import os
import stat
from typing import Final

import attrs

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.scanner import ScannedFile, scan
from orthanctw.errors import OrthancError
from orthanctw.identifiers import is_uuid
from orthanctw.model import Attachment, Compression
from orthanctw.storage.filesystem import FilesystemStorage
from orthanctw.takeover.source import OldAttachment

#: Files up to this size are read as a whole, larger ones mapped, of which only the pages of the header are read.
_READ: Final = 64 * 1024


class CannotTake(Exception):
    """One file cannot be taken over; the text tells why."""


@attrs.frozen(kw_only=True)
class ScanOptions:
    """How headers are read: as at the ingest."""

    dictionary: Dictionary
    default_encoding: str
    nesting: int


class OldFiles:
    """The files of the old Orthanc.

    Parameters
    ----------
    storage : FilesystemStorage
        Knows where files lie; locked.
    """

    def __init__(self, storage: FilesystemStorage, options: ScanOptions) -> None:
        self._storage = storage
        self._options = options

    def path(self, old: OldAttachment) -> str:
        """Where the file lies, or the name that it has when it is not one of the storage area."""
        return self._storage.path(old.uuid) if is_uuid(old.uuid) else old.uuid

    def attachment(self, old: OldAttachment) -> Attachment:
        """What ours keeps of a file that is there as the old index says. Raises CannotTake."""
        if old.is_elsewhere:
            raise CannotTake("stored by a plugin, in a place of its own")
        if not is_uuid(old.uuid):
            raise CannotTake("its name is no UUID")
        if old.compression not in (Compression.NONE, Compression.ZLIB_WITH_SIZE):
            raise CannotTake(f"unknown compression {old.compression}")
        try:
            status = os.stat(self._storage.path(old.uuid))
        except FileNotFoundError:
            raise CannotTake("no such file") from None
        except OSError as error:
            raise CannotTake(error.strerror or "unreadable") from error
        if not stat.S_ISREG(status.st_mode):
            raise CannotTake("not a file")
        if status.st_size != old.compressed_size:
            raise CannotTake(f"{status.st_size} bytes, where the old index says {old.compressed_size}")
        return Attachment(
            content_type=old.content_type,
            uuid=old.uuid,
            size=old.size,
            md5=old.md5,
            compression=Compression(old.compression),
            compressed_size=old.compressed_size,
            compressed_md5=old.compressed_md5,
            revision=old.revision,
        )

    def header(self, attachment: Attachment) -> ScannedFile:
        """The header of a DICOM file. Raises CannotTake."""
        try:
            if attachment.compression is not Compression.NONE:
                with self._storage.map(attachment) as inflated:
                    return self._scan(inflated)
            return self._plain_header(self._storage.path(attachment.uuid), attachment.size)
        except OrthancError as error:
            raise CannotTake(error.details or str(error)) from error
        except OSError as error:
            raise CannotTake(error.strerror or "unreadable") from error

    def _plain_header(self, path: str, size: int) -> ScannedFile:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Read in any case: a bad sector is an error here, and would be the end of the process in a mapping.
            start = os.pread(fd, _READ, 0)
            if size <= _READ:
                return self._scan(start)
            with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as mapped:
                return self._scan(mapped)
        finally:
            os.close(fd)

    def _scan(self, data: bytes | mmap.mmap) -> ScannedFile:
        options = self._options
        return scan(
            data,
            default_encoding=options.default_encoding,
            dictionary=options.dictionary,
            depth_limit=options.nesting,
        )
