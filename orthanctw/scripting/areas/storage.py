"""The storage area, and what scripts note of files."""

from __future__ import annotations

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import UnknownResource
from orthanctw.scripting.exposure import Data, OrthancException, exposed, exposed_class, failure
from orthanctw.scripting.host import Host


class StorageValues:
    """``orthanc.GetAttachmentCustomData`` and the like."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._index = host.services.index

    @exposed
    def GetAttachmentCustomData(self, attachment_uuid: str, /) -> bytes:
        """What was noted of a file."""
        value: bytes | None = self._host.wait(self._index.custom_data, attachment_uuid)
        if value is None:
            raise UnknownResource("No attachment has this UUID")
        return value

    @exposed
    def SetAttachmentCustomData(self, attachment_uuid: str, custom_data: Data, /) -> None:
        """Note something of a file, in place of what was noted."""
        if not self._host.wait(self._index.set_custom_data, attachment_uuid, custom_data):
            raise UnknownResource("No attachment has this UUID")


class StorageArea:
    """No function gives one."""

    @exposed
    def Create(self, uuid: str, content: Data, size: int, type: int, /) -> None:
        """Not there."""
        raise _nowhere()

    @exposed
    def Read(self, uuid: str, type: int, /) -> bytes:
        """Not there."""
        raise _nowhere()

    @exposed
    def Remove(self, uuid: str, type: int, /) -> None:
        """Not there."""
        raise _nowhere()

    @exposed
    def ReconstructMainDicomTags(self, level: int, /) -> None:
        """Not there."""
        raise _nowhere()


def _nowhere() -> OrthancException:
    return failure(ErrorCode.NOT_IMPLEMENTED, "Files are written and read by the server alone; use its REST API")


exposed_class(StorageArea)
