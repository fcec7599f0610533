"""Sending stored instances to a modality (type ``DicomModalityStore``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from orthanctw.errors import BadFileFormat, OrthancError, ServiceUnavailable, UnknownResource
from orthanctw.jobs.contract import JobKind, Output, Parameters, Position, Step, StepResult
from orthanctw.jobs.kinds.parameters import originator_of, remote_from_json, remote_to_json
from orthanctw.model import ResourceLevel
from orthanctw.remote import Originator, Remote
from orthanctw.retrieval import Retrieval, StoredObject
from orthanctw.sending import Sender, contexts_of

STORE: Final = "DicomModalityStore"


class StoreJob:
    """One transfer; each step sends one instance. A `Job`.

    Parameters are ``Instances`` (identifiers in their order), ``Remote``, and what clients see of them.
    """

    def __init__(self, retrieval: Retrieval, sender: Sender, parameters: Parameters, permissive: bool) -> None:
        self._retrieval = retrieval
        self._sender = sender
        self._permissive = permissive
        self._parameters = parameters
        self._remote = remote_from_json(parameters["Remote"])
        self._originator = originator_of(parameters)
        self._instances: Sequence[str] = parameters["Instances"]
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
        return content

    async def step(self, position: Position) -> Step:
        place: int = position.get("Next", 0)
        failed: int = position.get("Failed", 0)
        if place < len(self._instances):
            try:
                await self._send(self._instances[place])
            except ServiceUnavailable:
                # It is not the peer's fault: the step is done again.
                raise
            except OrthancError:
                if not self._permissive:
                    raise
                failed += 1
            place += 1
        is_last = place >= len(self._instances)
        return Step(
            position={"Next": place, "Failed": failed},
            progress=place / max(1, len(self._instances)),
            result=StepResult.SUCCESS if is_last else StepResult.CONTINUE,
        )

    async def _send(self, public_id: str) -> None:
        if self._objects is None:
            found = await self._retrieval.below([(ResourceLevel.INSTANCE, public_id) for public_id in self._instances])
            self._objects = {item.public_id: item for item in found}
            self._contexts = contexts_of(found)
        item = self._objects.get(public_id)
        if item is None:
            raise UnknownResource("An instance was deleted meanwhile")
        await self._sender.send(self._remote, item, self._contexts, self._originator)

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


def store_kind(retrieval: Retrieval, sender: Sender) -> JobKind:
    """The kind of jobs that sends instances."""

    def make(parameters: Parameters, permissive: bool) -> StoreJob:
        try:
            return StoreJob(retrieval, sender, parameters, permissive)
        except (KeyError, TypeError, ValueError) as e:
            raise BadFileFormat("The parameters of the job cannot be read") from e

    return JobKind(name=STORE, make=make, is_interruptible=True)
