"""Peers."""

from __future__ import annotations

from orthanctw.scripting.exposure import exposed
from orthanctw.scripting.host import Host
from orthanctw.scripting.peers import Peers


class PeerArea:
    """``orthanc.GetPeers``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def GetPeers(self, /) -> Peers:
        """The peers as they are known now."""
        return Peers.of(self._host.services.facts.peers())
