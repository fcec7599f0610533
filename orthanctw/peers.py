"""Peers, servers with the same REST API: what is known of them, and what they are asked for (level 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orthanctw.errors import BadFileFormat
from orthanctw.httpclient import ClientCertificate, HttpAnswer, HttpClient, HttpFailure, HttpRequest
from orthanctw.httpclient.values import OpenBody
from orthanctw.interfaces import IIndex
from orthanctw.known import Kept, Known
from orthanctw.settings import Peer
from orthanctw.settings.kinds import Place, read
from orthanctw.settings.services import Network
from orthanctw.settings.structures import peer as peer_kind
from orthanctw.settings.structures import peer_json

#: Global property of Orthanc that holds the peers when ``OrthancPeersInDatabase`` is true.
PEERS_PROPERTY: Final = 21
#: Statuses of answers that may be others later: too many requests, and those of servers and proxies in trouble.
_TRANSIENT: Final = frozenset((408, 425, 429, 500, 502, 503, 504))
#: What a peer says of an object that it has now, or does not want.
_TAKEN: Final = frozenset(("Success", "AlreadyStored", "FilteredOut"))


def parse_peer(value: object) -> Peer:
    """A peer of a request. BadFileFormat, with every problem, when it cannot be used."""
    place = Place()
    parsed = read(peer_kind, value, place)
    if parsed is None or place.problems:
        raise BadFileFormat("; ".join(place.problems) or "Not a peer")
    return parsed


class Peers(Known[Peer]):
    """Peers by name."""

    def __init__(self, index: IIndex, network: Network) -> None:
        kept = Kept(title="Peers", number=PEERS_PROPERTY, parse=parse_peer, write=peer_json)
        super().__init__(index, kept if network.orthanc_peers_in_database else None, network.orthanc_peers)


def shown_peer(value: Peer) -> dict[str, Any]:
    """A peer as the API shows it: no passwords, no values of headers."""
    shown: dict[str, Any] = {
        **value.properties,
        "HttpHeaders": sorted(value.http_headers),
        "Pkcs11": value.pkcs11,
        "Timeout": value.timeout,
        "Url": value.url,
    }
    if value.username:
        shown |= {"Username": value.username, "Password": None}
    return shown


def short_peer(value: Peer) -> list[str] | dict[str, Any]:
    """A peer as jobs show it: an array when that says all."""
    if not (value.http_headers or value.properties or value.timeout or value.certificate_file):
        return [value.url, value.username, ""] if value.username else [value.url]
    shown = shown_peer(value)
    shown.pop("Password", None)
    shown["HttpHeaders"] = dict.fromkeys(shown["HttpHeaders"], "")
    return shown


class PeerClient:
    """Asks peers. What a peer refuses, or does not answer, fails with HttpFailure."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def system(self, peer: Peer) -> bytes:
        """JSON of its ``/system``."""
        answer = await self._ask(peer, "GET", "system")
        answer.json()
        return answer.body

    async def upload(self, peer: Peer, body: bytes | OpenBody, *, is_gzip: bool = False) -> Any:
        """Have it store an object; its answer."""
        headers = {"Content-Type": "application/dicom"}
        if is_gzip:
            headers["Content-Encoding"] = "gzip"
        return (await self._ask(peer, "POST", "instances", body, headers)).json()

    async def store(self, peer: Peer, body: bytes | OpenBody, *, is_gzip: bool) -> None:
        """The same for an object that it must take. HttpFailure when it does not say so."""
        answer = await self.upload(peer, body, is_gzip=is_gzip)
        status = answer.get("Status") if isinstance(answer, dict) else None
        if status not in _TAKEN:
            raise HttpFailure("The peer has not stored the object")

    async def _ask(
        self,
        peer: Peer,
        method: str,
        path: str,
        body: bytes | OpenBody = b"",
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        certificate = None
        if peer.certificate_file:
            certificate = ClientCertificate(
                certificate=peer.certificate_file,
                key=peer.certificate_key_file,
                password=peer.certificate_key_password,
            )
        answer = await self._client.request(
            HttpRequest(
                method=method,
                url=peer.url + path,
                headers={**(headers or {}), **peer.http_headers},
                body=body,
                username=peer.username,
                password=peer.password,
                certificate=certificate,
                timeout=peer.timeout or None,
            )
        )
        if not answer.is_success:
            raise HttpFailure(_refusal(answer), is_transient=answer.status in _TRANSIENT)
        return answer


def _refusal(answer: HttpAnswer) -> str:
    """What an answer that is no success says."""
    if 300 <= answer.status < 400:
        return f"The peer has answered {answer.status}: it is elsewhere, and nothing is sent there"
    text = f"The peer has answered {answer.status} {answer.reason}"
    try:
        details = answer.json().get("Details")
    except (HttpFailure, AttributeError):
        return text
    return f"{text}: {details[:200]}" if isinstance(details, str) and details else text
