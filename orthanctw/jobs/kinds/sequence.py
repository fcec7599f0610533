"""A sequence of operations, one after the other: what scripts ask for that shall happen later."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs
import orjson
from twisted.internet.defer import Deferred

from orthanctw.attaching import WRITABLE, Attaching
from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.editing.modification import Modification
from orthanctw.dicom.editing.parsing import implied_level, parse_anonymization, parse_modification
from orthanctw.editing import Editing, metadata_of
from orthanctw.errors import BadFileFormat, BadRequest, OrthancError, UnknownResource
from orthanctw.ingest import Ingest
from orthanctw.interfaces import IIndex
from orthanctw.jobs.contract import Job, JobKind, Output, Parameters, Position, Step, StepResult
from orthanctw.model import Origin, OriginKind, ResourceLevel
from orthanctw.names import Names
from orthanctw.removal import Removal
from orthanctw.retrieval import StoredObject

SEQUENCE: Final = "SequenceOfOperations"
#: Parameter of those that scripts have asked for: their operations, which are others than those that clients may give.
CHAIN: Final = "Chain"
#: Key of the output: what each operation has answered.
RESULTS: Final = "results"
#: Operations of one job at most.
_MAXIMUM: Final = 10_000

#: Bytes of the key of a job, from which new identifiers are derived.
_KEY: Final = 16

Operation = Mapping[str, Any]
Perform = Callable[[Operation, bytes], Awaitable[Mapping[str, Any]]]


@attrs.frozen
class OperationKind:
    """A type of operations: the names of its arguments that are texts, what does it, and what checks the others.

    `perform` is given a key of this very operation: random where it `needs_key`, and the same when the operation is
    done again.
    """

    arguments: tuple[str, ...]
    perform: Perform
    check: Callable[[Operation], object] | None = None
    needs_key: bool = False


class Operations:
    """What a sequence can do. Each may be done twice: a process can die before it has noted the first time.

    `call` runs blocking work on a thread.
    """

    def __init__(
        self,
        ingest: Ingest,
        removal: Removal,
        index: IIndex,
        names: Names,
        attaching: Attaching,
        editing: Editing,
        dictionary: Dictionary,
        call: Callable[..., Deferred[Any]],
    ) -> None:
        self._call = call
        self._editing = editing
        self._dictionary = dictionary
        self._ingest = ingest
        self._attaching = attaching
        self._removal = removal
        self._index = index
        self._names = names
        self.kinds: dict[str, OperationKind] = {
            "StoreInstance": OperationKind(("Content",), self._store),
            "DeleteResource": OperationKind(("ID",), self._delete),
            "SetMetadata": OperationKind(("ID", "Name", "Value"), self._set_metadata),
            "ModifyInstance": OperationKind(("ID",), self._modify, self._modification, needs_key=True),
        }

    async def _store(self, operation: Operation, key: bytes) -> Mapping[str, Any]:
        try:
            # As long as a body may be: too long for the reactor.
            content: bytes = await self._call(partial(base64.b64decode, operation["Content"], validate=True))
        except ValueError as e:
            raise BadFileFormat("Content is not base64") from e
        stored = await self._ingest.store(content, Origin(kind=OriginKind.REST_API))
        return {"ID": stored.instance, "Status": stored.status.value}

    async def _delete(self, operation: Operation, key: bytes) -> Mapping[str, Any]:
        level = await self._index.lookup_level(operation["ID"])
        deleted = None if level is None else await self._removal.delete(level, operation["ID"])
        return {"Deleted": deleted is not None}

    async def _set_metadata(self, operation: Operation, key: bytes) -> Mapping[str, Any]:
        number = self._names.metadata_number(operation["Name"])
        if number not in WRITABLE:
            raise BadRequest("Only metadata of users can be set")
        level: ResourceLevel | None = await self._index.lookup_level(operation["ID"])
        # An unknown resource is refused by the index.
        written = await self._attaching.set_metadata(
            level or ResourceLevel.INSTANCE, operation["ID"], number, operation["Value"], is_checked=False
        )
        return {"Revision": written.revision}

    def _modification(self, operation: Operation) -> Modification:
        """What the fields ask for: those of ``/modify``, or with ``Anonymize`` those of ``/anonymize``.

        Raises what `parse_modification` raises; BadRequest for ``KeepSource`` false, which could not be done again.
        """
        if operation.get("Anonymize") is True:
            modification = parse_anonymization(operation, ResourceLevel.PATIENT, self._dictionary)
        else:
            modification = parse_modification(
                operation, implied_level(operation, self._dictionary), self._dictionary
            )
        if not modification.keep_source:
            raise BadRequest("The source of ModifyInstance stays: DeleteResource can delete it")
        return modification

    async def _modify(self, operation: Operation, key: bytes) -> Mapping[str, Any]:
        item = (await self._editing.objects([operation["ID"]])).get(operation["ID"])
        if item is None:
            raise UnknownResource("There is no such instance")
        modification = self._modification(operation)
        return {"ID": await modified(self._editing, item, modification, key, Origin(kind=OriginKind.REST_API))}


async def modified(
    editing: Editing, item: StoredObject, modification: Modification, key: bytes, origin: Origin
) -> str:
    """The instance that becomes of another one: the same when it is done again. Raises what `Editing.change` raises."""
    metadata = metadata_of(modification)
    made = await editing.change(item, modification, key, origin, metadata)
    await editing.complete(made, modification, metadata)
    return made.ids[3]


def check_operations(value: Any, kinds: Mapping[str, OperationKind]) -> Sequence[Operation]:
    """The operations of a request. BadRequest, naming the place, for what cannot be carried out."""
    if not isinstance(value, list) or not 0 < len(value) <= _MAXIMUM:
        raise BadRequest(f"Operations must be an array of 1 to {_MAXIMUM} objects")
    for place, operation in enumerate(value):
        of_type = operation.get("Type") if isinstance(operation, dict) else None
        kind = kinds.get(of_type) if isinstance(of_type, str) else None
        if kind is None:
            raise BadRequest(f"Operations[{place}] has no known Type")
        for name in kind.arguments:
            if not isinstance(operation.get(name), str):
                raise BadRequest(f"Operations[{place}].{name} must be a string")
        if kind.check is not None:
            kind.check(operation)
    return value


class OperationSequence:
    """One job; each step is one operation. A `Job`."""

    def __init__(self, kinds: Mapping[str, OperationKind], parameters: Parameters, permissive: bool) -> None:
        self._kinds = kinds
        self._operations = check_operations(parameters.get("Operations"), kinds)
        self._needs_key = any(kinds[operation["Type"]].needs_key for operation in self._operations)
        self._description = str(parameters.get("Description", ""))
        self._permissive = permissive

    def content(self, position: Position) -> Mapping[str, Any]:
        return {"CountOperations": len(self._operations), "Description": self._description}

    async def step(self, position: Position) -> Step:
        if self._needs_key and "Key" not in position:
            return Step(position={"Key": secrets.token_hex(_KEY)}, progress=0.0, is_milestone=True)
        place: int = position.get("Next", 0)
        operation = self._operations[place]
        try:
            result = await self._kinds[operation["Type"]].perform(operation, key_of(position.get("Key", ""), place))
        except OrthancError as e:
            if not self._permissive:
                raise
            result = {"ErrorCode": int(e.code), "ErrorDetails": e.details}
        results = [*position.get("Results", ()), result]
        place += 1
        is_last = place == len(self._operations)
        return Step(
            position={**position, "Next": place, "Results": results},
            progress=place / len(self._operations),
            result=StepResult.SUCCESS if is_last else StepResult.CONTINUE,
        )

    async def end(self) -> None:
        """Nothing is held between steps."""

    async def output(self, position: Position, key: str) -> Output | None:
        if key != RESULTS or "Results" not in position:
            return None
        return Output(orjson.dumps(position["Results"]), "application/json; charset=utf-8", "results.json")

    async def delete_output(self, position: Position, key: str) -> Position | None:
        if key != RESULTS or "Results" not in position:
            return None
        return {name: value for name, value in position.items() if name != "Results"}


def key_of(key: str, place: int) -> bytes:
    """The key of the operation at a place, of a job with a key."""
    return hashlib.sha256(f"{key} {place}".encode("ascii")).digest()


def sequence_kind(operations: Operations, scripted: Callable[[Parameters], Job]) -> JobKind:
    """The kind of jobs that carries out `operations`, or what scripts have asked for."""

    def make(parameters: Parameters, permissive: bool) -> Job:
        if CHAIN in parameters:
            return scripted(parameters)
        return OperationSequence(operations.kinds, parameters, permissive)

    return JobKind(name=SEQUENCE, make=make, is_interruptible=lambda job: not isinstance(job, OperationSequence))
