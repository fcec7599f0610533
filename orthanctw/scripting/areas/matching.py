"""Comparing DICOM files with queries."""

from __future__ import annotations

from orthanctw.scripting.exposure import Data, exposed, gives_object
from orthanctw.scripting.host import Host
from orthanctw.scripting.queries import FindMatcher


class MatchingArea:
    """``orthanc.CreateFindMatcher``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    @gives_object
    def CreateFindMatcher(self, query: Data, /) -> FindMatcher:
        """What compares DICOM files with the keys of a DICOM file or data set."""
        return FindMatcher(self._host.services.matcher(query))
