"""Sending stored instances to a peer (type ``OrthancPeerStore``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred

from orthanctw.errors import OrthancError, ServiceUnavailable, UnknownResource
from orthanctw.httpclient import HttpFailure
from orthanctw.jobs.contract import JobKind, Output, Parameters, Position, Step, StepResult
from orthanctw.jobs.kinds.parameters import readable
from orthanctw.model import ResourceLevel
from orthanctw.peers import parse_peer, short_peer
from orthanctw.replication import Replication
from orthanctw.retrieval import Retrieval, StoredObject

PEER_STORE: Final = "OrthancPeerStore"
_MEGABYTE: Final = 1 << 20


@attrs.frozen(kw_only=True)
class PeerStoreOptions:
    """``PeerTransfers`` and ``PeerRetries``."""

    at_once: int
    retries: Sequence[int]


class PeerStoreJob:
    """One transfer; each step ends with one instance, while those that follow are on their way already. A `Job`.

    Parameters are ``Instances`` (identifiers in their order), ``Peer``, ``Compress``, ``Transcode``, and what clients
    see of them.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        replication: Replication,
        options: PeerStoreOptions,
        parameters: Parameters,
        permissive: bool,
    ) -> None:
        self._retrieval = retrieval
        self._replication = replication
        self._options = options
        self._parameters = parameters
        self._permissive = permissive
        self._peer = parse_peer(parameters["Peer"])
        self._instances: Sequence[str] = parameters["Instances"]
        self._compress: bool = parameters["Compress"]
        self._transcode: str = parameters["Transcode"]
        self._objects: dict[str, StoredObject] | None = None
        #: By the place of the instance; what a step that was interrupted has left is here, too.
        self._transfers: dict[int, Deferred[int]] = {}

    def content(self, position: Position) -> Mapping[str, Any]:
        size: int = position.get("Size", 0)
        content: dict[str, Any] = {
            "Description": self._parameters.get("Description", "REST API"),
            "InstancesCount": len(self._instances),
            "FailedInstancesCount": position.get("Failed", 0),
            "Peer": short_peer(self._peer),
            "Compress": self._compress,
            "Size": str(size),
            "SizeMB": size // _MEGABYTE,
        }
        if self._transcode:
            content["Transcode"] = self._transcode
        for name in ("ParentResources", "Resources"):
            if self._parameters.get(name):
                content[name] = self._parameters[name]
        return content

    async def step(self, position: Position) -> Step:
        place: int = position.get("Next", 0)
        failed: int = position.get("Failed", 0)
        size: int = position.get("Size", 0)
        attempts: int = position.get("Attempts", 0)
        if place < len(self._instances):
            try:
                size += await self._sent(place)
            except ServiceUnavailable:
                # It is not the peer's fault: the step is done again.
                raise
            except OrthancError as e:
                if isinstance(e, HttpFailure) and e.is_transient and attempts < len(self._options.retries):
                    return self._again(position, attempts)
                if not self._permissive:
                    raise
                failed += 1
            place += 1
        return Step(
            position={"Next": place, "Failed": failed, "Size": size},
            progress=self._progress(place),
            result=StepResult.SUCCESS if place >= len(self._instances) else StepResult.CONTINUE,
        )

    def _again(self, position: Position, attempts: int) -> Step:
        """The instance is sent again later."""
        return Step(
            position={**position, "Attempts": attempts + 1},
            progress=self._progress(position.get("Next", 0)),
            result=StepResult.RETRY,
            delay=float(self._options.retries[attempts]),
        )

    def _progress(self, place: int) -> float:
        return place / max(1, len(self._instances))

    async def _sent(self, place: int) -> int:
        """The bytes that were sent for an instance. Those that follow are begun."""
        if self._objects is None:
            found = await self._retrieval.below([(ResourceLevel.INSTANCE, public_id) for public_id in self._instances])
            self._objects = {item.public_id: item for item in found}
        for following in range(place, min(place + self._options.at_once, len(self._instances))):
            if following not in self._transfers:
                transfer = Deferred.fromCoroutine(self._send(self._instances[following], self._objects))
                self._transfers[following] = transfer
        try:
            return await self._transfers[place]
        finally:
            del self._transfers[place]

    async def _send(self, public_id: str, objects: Mapping[str, StoredObject]) -> int:
        item = objects.get(public_id)
        if item is None:
            raise UnknownResource("An instance was deleted meanwhile")
        return await self._replication.send(
            self._peer, item, compress=self._compress, transfer_syntax=self._transcode
        )

    async def end(self) -> None:
        transfers, self._transfers = self._transfers, {}
        for transfer in transfers.values():
            # Whatever became of it: nobody has waited for it yet, and it is done again.
            transfer.addErrback(lambda failure: 0)
            transfer.cancel()
        # What was deleted or changed meanwhile is looked up anew.
        self._objects = None

    async def output(self, position: Position, key: str) -> Output | None:
        return None

    async def delete_output(self, position: Position, key: str) -> Position | None:
        return None


def peer_store_kind(retrieval: Retrieval, replication: Replication, options: PeerStoreOptions) -> JobKind:
    """The kind of jobs that sends instances to peers."""

    def make(parameters: Parameters, permissive: bool) -> PeerStoreJob:
        with readable():
            return PeerStoreJob(retrieval, replication, options, parameters, permissive)

    return JobKind(name=PEER_STORE, make=make, is_interruptible=True)
