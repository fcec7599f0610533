"""``/peers``: configuring other servers with this REST API, and sending objects to them."""

from __future__ import annotations

from typing import Final

from orthanctw.dicom.uids import TRANSFER_SYNTAXES
from orthanctw.errors import BadFileFormat, EmptyAnswer, InexistentItem, UnknownResource
from orthanctw.exports import ExportLog
from orthanctw.interfaces import IIndex, IStorageArea
from orthanctw.jobs.kinds.peers import PEER_STORE
from orthanctw.peers import PeerClient, Peers, parse_peer, shown_peer
from orthanctw.rest.arguments import EXPAND, JOB, RESOURCES
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import JSON, KINDS, TEXT, Argument, Body, route
from orthanctw.rest.reply import DICOM, EMPTY, PLAIN_JSON, Reply, json_reply
from orthanctw.rest.submission import Submission
from orthanctw.rest.transfers import resources_of, shown_resources, store_body
from orthanctw.retrieval import Retrieval
from orthanctw.settings import Peer
from orthanctw.settings.options import options_of
from orthanctw.settings.structures import peer_json

_OPERATIONS: Final = ("configuration", "store", "store-straight", "system")
#: Kinds of arguments by the word that the label of an option begins with.
_KINDS: Final = {
    "boolean": "boolean",
    "object": "object",
    "path": "string",
    "string": "string",
    "unsigned": "integer",
}
_PEER: Final = Body(
    fields=tuple(
        Argument(name, _KINDS[declared.kind.label.split()[0]], declared.meaning)
        for _, declared in options_of(Peer)
        for name in declared.names
    ),
    schema=KINDS["array"],
    summary="An object, or Url, or Url, Username, Password; other fields are kept as texts",
)
_STORE: Final = Body(
    fields=(
        RESOURCES,
        Argument("Compress", "boolean", "Whether bodies are sent as gzip"),
        Argument("Transcode", "string", "UID of the transfer syntax that objects are sent in, where it is possible"),
        *JOB,
    ),
    schema=KINDS["strings"],
    content=(JSON, TEXT),
)


class PeerRoutes:
    """Other servers over HTTP."""

    def __init__(
        self,
        peers: Peers,
        client: PeerClient,
        retrieval: Retrieval,
        submission: Submission,
        exports: ExportLog,
        index: IIndex,
        storage: IStorageArea,
    ) -> None:
        self._peers = peers
        self._client = client
        self._retrieval = retrieval
        self._submission = submission
        self._exports = exports
        self._index = index
        self._storage = storage

    def _peer(self, call: Call) -> Peer:
        try:
            return self._peers.get(call["id"])
        except InexistentItem as e:
            raise UnknownResource("No peer of this name") from e

    @route("GET", "/peers", query=[EXPAND])
    async def list(self, call: Call) -> Reply:
        """Names, or names with configurations."""
        known = dict(sorted(self._peers.all().items()))
        if call.boolean("expand"):
            return json_reply({name: shown_peer(peer) for name, peer in known.items()})
        return json_reply(list(known))

    @route("GET", "/peers/<id>")
    async def operations(self, call: Call) -> Reply:
        """What can be done with a peer."""
        if call["id"] not in self._peers.all():
            raise EmptyAnswer(404)
        return json_reply(_OPERATIONS)

    @route("GET", "/peers/<id>/configuration")
    async def configuration(self, call: Call) -> Reply:
        """How a peer is reached, without passwords."""
        return json_reply(shown_peer(self._peer(call)))

    @route("PUT", "/peers/<id>", body=_PEER, answers=[TEXT])
    async def put(self, call: Call) -> Reply:
        """Add or replace a peer."""
        try:
            value = await call.json()
        except BadFileFormat as e:
            # So does Orthanc.
            raise EmptyAnswer(404) from e
        await self._peers.put(call["id"], parse_peer(value))
        return EMPTY

    @route("DELETE", "/peers/<id>", answers=[TEXT])
    async def delete(self, call: Call) -> Reply:
        """Remove a peer."""
        await self._peers.delete(call["id"])
        return EMPTY

    @route("GET", "/peers/<id>/system", answers=[PLAIN_JSON])
    async def system(self, call: Call) -> Reply:
        """What the peer says of itself."""
        return Reply(await self._client.system(self._peer(call)), PLAIN_JSON)

    @route("POST", "/peers/<id>/store", body=_STORE)
    async def store(self, call: Call) -> Reply:
        """Send resources to a peer, as a job."""
        peer = self._peer(call)
        body = await store_body(call)
        transcode = field(body, "Transcode", str, "", BadFileFormat)
        if transcode and transcode not in TRANSFER_SYNTAXES:
            raise BadFileFormat("Unknown transfer syntax")
        compress = field(body, "Compress", bool, False, BadFileFormat)
        resources = await resources_of(self._index, body)
        objects = await self._retrieval.below(resources)
        await self._exports.add(resources, call["id"])
        parameters = {
            "Peer": peer_json(peer),
            "Instances": [item.public_id for item in objects],
            "Compress": compress,
            "Transcode": transcode,
            **shown_resources(resources),
        }
        return await self._submission.submit(PEER_STORE, parameters, body, synchronous=True)

    @route("POST", "/peers/<id>/store-straight", body=Body(content=(DICOM,)))
    async def store_straight(self, call: Call) -> Reply:
        """Send the DICOM file of the body to a peer, without storing it; the peer's answer."""
        peer, body = self._peer(call), call.body
        if isinstance(body, bytes):
            return json_reply(await self._client.upload(peer, body))
        await body.flush()
        return json_reply(await self._client.upload(peer, lambda: self._storage.call(body.reader_blocking)))
