"""Names of metadata and attachments: the server's own, and those of the configuration (level 4)."""

from __future__ import annotations

from collections.abc import Mapping

from orthanctw.errors import InexistentItem
from orthanctw.model import ATTACHMENT_NAMES, METADATA_NAMES

_MIME = {1: "application/dicom", 2: "application/json; charset=utf-8"}
BINARY = "application/octet-stream"


class Names:
    """Both ways between names and numbers; what has no name goes by its number.

    Parameters
    ----------
    metadata : mapping of str to int
        ``UserMetadata``.
    attachments : mapping of str to (int, str)
        ``UserContentType``: number and MIME type.
    """

    def __init__(self, metadata: Mapping[str, int], attachments: Mapping[str, tuple[int, str]]) -> None:
        self.user_metadata = dict(metadata)
        self._metadata = {**METADATA_NAMES, **{number: name for name, number in metadata.items()}}
        self._metadata_numbers = {name: number for number, name in self._metadata.items()}
        self._attachments = {**ATTACHMENT_NAMES, **{number: name for name, (number, _) in attachments.items()}}
        self._attachment_numbers = {name: number for number, name in self._attachments.items()}
        self._mime = {**_MIME, **dict(attachments.values())}

    def metadata_name(self, number: int) -> str:
        return self._metadata.get(number) or str(number)

    def metadata_number(self, name: str) -> int:
        """InexistentItem for an unknown name."""
        return _number(name, self._metadata_numbers)

    def attachment_name(self, number: int) -> str:
        return self._attachments.get(number) or str(number)

    def attachment_number(self, name: str) -> int:
        """InexistentItem for an unknown name."""
        return _number(name, self._attachment_numbers)

    def attachment_mime(self, number: int) -> str:
        return self._mime.get(number, BINARY)


def _number(name: str, known: Mapping[str, int]) -> int:
    if name in known:
        return known[name]
    # Longer numbers than any that could be in use are not even converted.
    if name.isascii() and name.isdigit() and len(name) < 10:
        return int(name)
    raise InexistentItem("Unknown name")
