"""Peers as scripts see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orthanctw.error_codes import ErrorCode
from orthanctw.scripting.exposure import exposed, exposed_class, failure
from orthanctw.scripting.hidden import check_constructor
from orthanctw.settings import Peer


class Peers:
    """The peers as they were known at a time, numbered from 0 in the order of their names."""

    def __init__(self, *arguments: Any) -> None:
        check_constructor(arguments)
        self._peers: list[tuple[str, Peer]] | None = None

    @classmethod
    def of(cls, known: Mapping[str, Peer]) -> Peers:
        """The object for peers by name."""
        peers = cls(0, False)
        peers._peers = sorted(known.items())
        return peers

    @exposed
    def GetPeersCount(self, /) -> int:
        """How many there are."""
        return len(self._known())

    @exposed
    def GetPeerName(self, peer_index: int, /) -> str | None:
        """The name of a peer; None when there is no such number."""
        peers = self._known()
        return peers[peer_index][0] if 0 <= peer_index < len(peers) else None

    @exposed
    def GetPeerUrl(self, peer_index: int, /) -> str | None:
        """Where a peer is, with a slash at the end."""
        peer = self._peer(peer_index)
        return None if peer is None else peer.url

    @exposed
    def GetPeerUserProperty(self, peer_index: int, user_property: str, /) -> str | None:
        """A further entry of a peer's configuration; None without it."""
        peer = self._peer(peer_index)
        return None if peer is None else peer.properties.get(user_property)

    def _known(self) -> list[tuple[str, Peer]]:
        if self._peers is None:
            raise failure(ErrorCode.NULL_POINTER)
        return self._peers

    def _peer(self, number: int) -> Peer | None:
        peers = self._known()
        return peers[number][1] if 0 <= number < len(peers) else None


exposed_class(Peers)
