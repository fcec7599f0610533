"""Sending stored instances to a modality (type ``DicomModalityStore``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from orthanctw.commitment import Commitments, new_transaction_uid
from orthanctw.errors import OrthancError, ServiceUnavailable, UnknownResource
from orthanctw.jobs.contract import JobKind, Output, Parameters, Position, Step, StepResult
from orthanctw.jobs.kinds.parameters import originator_of, readable, remote_from_json, remote_to_json
from orthanctw.model import ResourceLevel
from orthanctw.remote import Originator, Remote
from orthanctw.retrieval import Retrieval, StoredObject
from orthanctw.sending import Sender, contexts_of

STORE: Final = "DicomModalityStore"


class StoreJob:
    """One transfer; each step sends one instance. A `Job`.

    Parameters are ``Instances`` (identifiers in their order), ``Remote``, and what clients see of them. With
    ``StorageCommitment`` the last step asks the other side to commit to what was sent.
    """

    def __init__(
        self,
        retrieval: Retrieval,
        sender: Sender,
        commitments: Commitments,
        parameters: Parameters,
        permissive: bool,
    ) -> None:
        self._commitments = commitments
        self._retrieval = retrieval
        self._sender = sender
        self._permissive = permissive
        self._parameters = parameters
        self._remote = remote_from_json(parameters["Remote"])
        self._originator = originator_of(parameters)
        self._instances: Sequence[str] = parameters["Instances"]
        self._is_committed: bool = parameters.get("StorageCommitment", False)
        self._objects: dict[str, StoredObject] | None = None
        self._contexts: Sequence[tuple[str, str]] = ()

    def content(self, position: Position) -> Mapping[str, Any]:
        content: dict[str, Any] = {
            "Description": self._parameters.get("Description", "REST API"),
            "InstancesCount": len(self._instances),
            "FailedInstancesCount": position.get("Failed", 0),
            "LocalAet": self._remote.local_aet,
            "RemoteAet": self._remote.aet,
        }
        for name in ("ParentResources", "Resources"):
            if name in self._parameters:
                content[name] = self._parameters[name]
        if self._originator is not None:
            content["MoveOriginatorAET"] = self._originator.aet
            content["MoveOriginatorID"] = self._originator.message_id
        if "Transaction" in position:
            content["StorageCommitmentTransactionUID"] = position["Transaction"]
        return content

    async def step(self, position: Position) -> Step:
        if self._is_committed and "Transaction" not in position:
            # A job that is submitted again asks anew.
            return Step(position={**position, "Transaction": new_transaction_uid()}, progress=0.0)
        place: int = position.get("Next", 0)
        if place == len(self._instances) and self._is_committed:
            await self._ask(position)
            return Step(position=position, progress=1.0, result=StepResult.SUCCESS)
        failed: int = position.get("Failed", 0)
        omitted: Sequence[int] = position.get("Omitted", ())
        if place < len(self._instances):
            try:
                if not await self._send(self._instances[place]):
                    omitted = [*omitted, place]
            except ServiceUnavailable:
                # It is not the peer's fault: the step is done again.
                raise
            except OrthancError:
                if not self._permissive:
                    raise
                failed += 1
                omitted = [*omitted, place]
            place += 1
        is_last = place >= len(self._instances) and not self._is_committed
        sent = {"Next": place, "Failed": failed}
        return Step(
            position={**position, **sent, "Omitted": omitted} if self._is_committed else sent,
            progress=place / max(1, len(self._instances)),
            result=StepResult.SUCCESS if is_last else StepResult.CONTINUE,
        )

    async def _known(self) -> Mapping[str, StoredObject]:
        if self._objects is None:
            found = await self._retrieval.below([(ResourceLevel.INSTANCE, public_id) for public_id in self._instances])
            self._objects = {item.public_id: item for item in found}
            self._contexts = contexts_of(found)
        return self._objects

    async def _ask(self, position: Position) -> None:
        known, omitted = await self._known(), frozenset(position.get("Omitted", ()))
        sent = [known.get(public_id) for place, public_id in enumerate(self._instances) if place not in omitted]
        references = [(item.sop_class_uid, item.sop_instance_uid) for item in sent if item is not None]
        if references:
            await self._commitments.ask(self._remote, references, position["Transaction"])

    async def _send(self, public_id: str) -> bool:
        """Whether an instance was sent, and not kept here by a filter, which counts as sent."""
        item = (await self._known()).get(public_id)
        if item is None:
            raise UnknownResource("An instance was deleted meanwhile")
        return await self._sender.send(self._remote, item, self._contexts, self._originator) is not None

    async def end(self) -> None:
        # What was deleted or changed meanwhile is looked up anew.
        self._objects = None

    async def output(self, position: Position, key: str) -> Output | None:
        return None

    async def delete_output(self, position: Position, key: str) -> Position | None:
        return None


def store_parameters(objects: Sequence[StoredObject], remote: Remote, originator: Originator) -> Parameters:
    """Parameters of a transfer that a C-MOVE asks for."""
    return {
        "Description": "C-MOVE",
        "Remote": remote_to_json(remote),
        "Instances": [item.public_id for item in objects],
        "MoveOriginatorAET": originator.aet,
        "MoveOriginatorID": originator.message_id,
    }


def store_kind(retrieval: Retrieval, sender: Sender, commitments: Commitments) -> JobKind:
    """The kind of jobs that sends instances."""

    def make(parameters: Parameters, permissive: bool) -> StoreJob:
        with readable():
            return StoreJob(retrieval, sender, commitments, parameters, permissive)

    return JobKind(name=STORE, make=make, is_interruptible=True)
