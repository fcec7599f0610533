"""What scripts ask for that happens after their callback: the other form of ``SequenceOfOperations``."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs
from twisted.internet.defer import Deferred

from orthanctw.dicom.editing.modification import Modification
from orthanctw.editing import Editing
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadRequest, OrthancError, ServiceUnavailable, UnknownResource
from orthanctw.interfaces import IIndex, IStorageArea
from orthanctw.jobs.contract import Job, JobKind, Output, Parameters, Position, Step, StepResult
from orthanctw.jobs.kinds.parameters import readable
from orthanctw.jobs.kinds.sequence import CHAIN, key_of, modified
from orthanctw.model import Origin, OriginKind, ResourceLevel
from orthanctw.programs import Programs
from orthanctw.removal import Removal
from orthanctw.retrieval import StoredObject
from orthanctw.sending import temporary_copy
from orthanctw.threads import shield

#: Types of operations.
STORE_SCU: Final = "StoreScu"
STORE_PEER: Final = "StorePeer"
MODIFY: Final = "ModifyInstance"
SYSTEM_CALL: Final = "SystemCall"
DELETE: Final = "DeleteResource"

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class ScriptServices:
    """What operations are carried out with. Transfers are jobs of two other kinds, step by step.

    `timeout` is how long a program may run, in seconds.
    """

    index: IIndex
    storage: IStorageArea
    editing: Editing
    removal: Removal
    programs: Programs
    timeout: float
    store: JobKind
    peer_store: JobKind


class ScriptSequence:
    """One job: operations in their order. A `Job`.

    Parameters are ``Chain``, the operations; ``Key``, by which a modification that is done again has the same result;
    and ``Description``. An operation has ``Type``, ``Resource`` (empty for the result of the one before) and what its
    type needs: ``Remote``, ``Peer``, ``Modification``, or ``Arguments`` of a program.

    One that fails does not keep others from being done, but for those that need its result, and for deletions: what
    comes after a failure deletes nothing. The job then fails at its end, with the first failure.

    A position has in ``Next`` the operation that is to be done, in ``Result`` the resource of the one before, in
    ``Failure`` the first failure; ``Instances`` and ``Inner`` are those of a transfer under way.
    """

    def __init__(self, services: ScriptServices, parameters: Parameters) -> None:
        with readable():
            self._operations: Sequence[Mapping[str, Any]] = parameters[CHAIN]
            self._key: str = parameters["Key"]
            self._description = str(parameters["Description"])
            if not self._operations or not all(item["Type"] and "Resource" in item for item in self._operations):
                raise ValueError(CHAIN)
        self._services = services
        self._transfer: Job | None = None
        #: What must not be interrupted.
        self._working: Deferred[Any] | None = None

    def content(self, position: Position) -> Mapping[str, Any]:
        return {"CountOperations": len(self._operations), "Description": self._description}

    async def step(self, position: Position) -> Step:
        place: int = position.get("Next", 0)
        if place == len(self._operations):
            raise _failure(position["Failure"])
        operation = self._operations[place]
        resource: str = operation["Resource"] or position.get("Result", "")
        if not resource or (operation["Type"] == DELETE and "Failure" in position):
            return self._advance(position, "")
        try:
            if operation["Type"] in (STORE_SCU, STORE_PEER):
                return await self._transfer_step(position, operation, resource)
            return self._advance(position, await self._perform(operation, place, resource))
        except ServiceUnavailable:
            # It is not the operation's fault: the step is done again.
            raise
        except OrthancError as e:
            await self._end_transfer()
            # What was to be sent is still there, for what follows; what was to be made is not.
            return self._advance(position, "" if operation["Type"] == MODIFY else resource, e)

    def _advance(self, position: Position, result: str, error: OrthancError | None = None) -> Step:
        """The operation is over; `result` is the resource that the next one can go on with."""
        place = position.get("Next", 0)
        changed: dict[str, Any] = {"Next": place + 1, "Result": result}
        if "Failure" in position:
            changed["Failure"] = position["Failure"]
        elif error is not None:
            changed["Failure"] = {
                "Code": int(error.code),
                "Details": f"Operation {place + 1} ({self._operations[place]['Type']}): {error.details or error}",
                "HttpStatus": error.http_status,
            }
        place += 1
        is_last = place == len(self._operations)
        return Step(
            position=changed,
            progress=self._progress(place),
            result=StepResult.SUCCESS if is_last and "Failure" not in changed else StepResult.CONTINUE,
            # What is deleted cannot be sent again.
            is_milestone=not is_last and self._operations[place]["Type"] == DELETE,
        )

    def _progress(self, done: float) -> float:
        return done / len(self._operations)

    # Transfers

    async def _transfer_step(self, position: Position, operation: Mapping[str, Any], resource: str) -> Step:
        if "Instances" not in position:
            # Once for all: what comes in meanwhile would change their order.
            instances = await self._instances(resource)
            return Step(
                position={**position, "Instances": instances}, progress=self._progress(position.get("Next", 0))
            )
        if self._transfer is None:
            self._transfer = self._transfer_of(operation, position["Instances"])
        step = await self._transfer.step(position.get("Inner", {}))
        if step.result is StepResult.SUCCESS:
            await self._end_transfer()
            return self._advance(position, resource)
        return attrs.evolve(
            step,
            position={**position, "Inner": step.position},
            progress=self._progress(position.get("Next", 0) + step.progress),
        )

    async def _instances(self, resource: str) -> list[str]:
        level = await self._services.editing.level_of(resource)
        if level is None:
            raise UnknownResource("There is no such resource")
        return await self._services.editing.instances([(level, resource)])

    def _transfer_of(self, operation: Mapping[str, Any], instances: Sequence[str]) -> Job:
        if operation["Type"] == STORE_SCU:
            return self._services.store.make({"Remote": operation["Remote"], "Instances": instances}, False)
        parameters = {"Peer": operation["Peer"], "Instances": instances, "Compress": False, "Transcode": ""}
        return self._services.peer_store.make(parameters, False)

    async def _end_transfer(self) -> None:
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            await transfer.end()

    # The others

    async def _perform(self, operation: Mapping[str, Any], place: int, resource: str) -> str:
        """Do an operation; the resource that it results in."""
        if operation["Type"] == DELETE:
            await self._uninterrupted(self._delete(resource))
            return ""
        if operation["Type"] == MODIFY:
            modification = Modification.from_json(operation["Modification"])
            item = await self._instance(resource)
            key = key_of(self._key, place)
            made = modified(self._services.editing, item, modification, key, Origin(kind=OriginKind.LUA))
            return await self._uninterrupted(made)
        item = await self._instance(resource)
        async with temporary_copy(self._services.storage, item.attachment) as path:
            await self._services.programs.run([*operation["Arguments"], path], self._services.timeout)
        return resource

    async def _instance(self, resource: str) -> StoredObject:
        item = (await self._services.editing.objects([resource])).get(resource)
        if item is not None:
            return item
        if await self._services.editing.level_of(resource) is None:
            raise UnknownResource("There is no such resource")
        raise BadRequest("This can only be done with an instance")

    async def _delete(self, resource: str) -> None:
        level: ResourceLevel | None = await self._services.index.lookup_level(resource)
        if level is not None:
            await self._services.removal.delete(level, resource)

    async def _uninterrupted(self, work: Coroutine[Deferred[Any], Any, _T]) -> _T:
        working: Deferred[_T] = Deferred.fromCoroutine(work)
        self._working = working
        return await shield(working)

    async def end(self) -> None:
        await self._end_transfer()
        if self._working is not None and not self._working.called:
            await shield(self._working)

    async def output(self, position: Position, key: str) -> Output | None:
        return None

    async def delete_output(self, position: Position, key: str) -> Position | None:
        return None


def _failure(noted: Mapping[str, Any]) -> OrthancError:
    return OrthancError(noted["Details"], code=ErrorCode.of(noted["Code"]), http_status=noted["HttpStatus"])
