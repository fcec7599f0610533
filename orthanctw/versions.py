"""Versions of metadata and attachments, and the values of what is written to them (level 0: values)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import attrs

from orthanctw.model import Attachment, Change, MetadataType, MetadataValue, NewResource, ResourceLevel

#: Metadata that the header of a file alone tells: what ``reconstruct`` writes anew.
OF_HEADER: Final = frozenset(
    (
        MetadataType.INDEX_IN_SERIES,
        MetadataType.EXPECTED_NUMBER_OF_INSTANCES,
        MetadataType.TRANSFER_SYNTAX,
        MetadataType.SOP_CLASS_UID,
        MetadataType.PIXEL_DATA_OFFSET,
        MetadataType.MAIN_DICOM_TAGS_SIGNATURE,
        MetadataType.MAIN_DICOM_SEQUENCES,
        MetadataType.PIXEL_DATA_VR,
    )
)


@attrs.frozen
class Version:
    """What a client must have seen to change something: its revision, and the MD5 of its content."""

    revision: int
    md5: str

    @property
    def etag(self) -> str:
        """``"revision-MD5"``, as clients send it back in If-Match."""
        return f'"{self.revision}-{self.md5}"'


def of_metadata(item: MetadataValue) -> Version:
    return Version(item.revision, hashlib.md5(item.value.encode("utf-8"), usedforsecurity=False).hexdigest())


def of_attachment(attachment: Attachment) -> Version:
    """The digest is empty without ``StoreMD5ForAttachments``."""
    return Version(attachment.revision, attachment.md5)


@attrs.frozen(kw_only=True)
class Edited:
    """What a write did: the version that is there now (None: nothing is), logged changes, files to remove."""

    version: Version | None = None
    changes: tuple[Change, ...] = ()
    removed_files: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Reconstructed:
    """What the file of an instance says, read anew.

    Parameters
    ----------
    uuid : str
        The file that was read; nothing is written when the instance has another one by now.
    resources : mapping
        Those to write anew, by level: main tags, search tags, and the metadata of `OF_HEADER`.
    header : bytes or None
        The stored header; None leaves it.
    attachment : Attachment or None
        A file that takes the place of the one that was read.
    """

    instance: str
    uuid: str
    resources: Mapping[ResourceLevel, NewResource]
    header: bytes | None = None
    attachment: Attachment | None = None
