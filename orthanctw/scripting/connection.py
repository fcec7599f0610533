"""Who has asked for something over DICOM."""

from __future__ import annotations

from typing import Protocol

from orthanctw.error_codes import ErrorCode
from orthanctw.scripting.exposure import exposed, exposed_class, failure


class Asker(Protocol):
    """An association, as far as scripts are told of it."""

    calling_aet: str
    called_aet: str
    address: str


class DicomConnection:
    """An association of a peer with the server."""

    def __init__(self, asker: Asker) -> None:
        self._asker: Asker | None = asker

    def end(self) -> None:
        """The callback that has borrowed it is over: whatever a script asks of it now fails."""
        self._asker = None

    def _open(self) -> Asker:
        if self._asker is None:
            raise failure(ErrorCode.NULL_POINTER, "This connection is there during its callback only")
        return self._asker

    @exposed
    def GetConnectionRemoteAet(self) -> str:
        """The AE title of the peer."""
        return self._open().calling_aet

    @exposed
    def GetConnectionRemoteIp(self) -> str:
        """The address of the peer."""
        return self._open().address

    @exposed
    def GetConnectionCalledAet(self) -> str:
        """The AE title that the peer has called."""
        return self._open().called_aet


exposed_class(DicomConnection)
