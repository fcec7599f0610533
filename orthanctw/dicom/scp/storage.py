"""C-STORE (PS3.4 annex B): the data set streams into a body, and from there into the one ingest."""

from __future__ import annotations

from orthanctw.dicom import received
from orthanctw.dicom.received import Unwanted, is_uid
from orthanctw.ingest import Ingest
from orthanctw.model import Origin

__all__ = ["ReceivedObject", "Unwanted", "is_uid"]


class ReceivedObject(received.ReceivedObject):
    """The data set of one C-STORE-RQ; a `DataSink`."""

    async def store(self, ingest: Ingest, origin: Origin) -> None:
        """Let the object in. Fails with an OrthancError whose `dimse_status` is the answer."""
        await self.deliver(ingest.store, origin)
