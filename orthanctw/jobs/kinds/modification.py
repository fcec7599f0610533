"""Modifying and anonymising objects (type ``ResourceModification``), and what all jobs do that change objects."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from orthanctw.dicom.editing.modification import Modification
from orthanctw.editing import Editing, Made, metadata_of
from orthanctw.errors import OrthancError, ServiceUnavailable, UnknownResource
from orthanctw.jobs.contract import JobKind, Output, Parameters, Position, Step, StepResult
from orthanctw.jobs.kinds.parameters import origin_from_json, origin_to_json, readable
from orthanctw.model import MetadataType, Origin, ResourceLevel
from orthanctw.retrieval import StoredObject
from orthanctw.threads import shield

MODIFICATION: Final = "ResourceModification"
#: Objects that may be done before the one that the position waits for, for each that is worked on at the same time.
_AHEAD: Final = 4
#: Objects that are looked up together.
_BATCH: Final = 64
#: New series that are completed in one step.
_SERIES: Final = 8
#: Sources that are deleted in one step.
_DELETED: Final = 100
#: Identifiers of instances in one part of a position: what has not changed is shared by one position with the next.
_PART: Final = 256
#: Bytes of the key of a job.
KEY_LENGTH: Final = 16
#: Levels above instances, in the order in which results are told.
_ABOVE: Final = (ResourceLevel.SERIES, ResourceLevel.STUDY, ResourceLevel.PATIENT)
_COMPLETING: Final = "Completing"
_DELETING: Final = "Deleting"


class EditingJob:
    """One job: objects are changed, several at the same time, then series are completed, then sources deleted. A `Job`.

    Parameters are ``Instances``, ``Modification``, ``Key`` (by which identifiers always become the same new ones),
    ``Origin``, and what clients see. A position has in ``Next`` the number of instances that are done, all that were
    before them included; what was done after them is done again when the job goes on, and changes nothing. Of results
    it has ``Made``: by new series the identifiers above it, and all those of the sources. Lists of instances are in
    parts: ``Failed``, ``Overwritten``, and where `lists_instances`, ``MadeInstances``.

    `at_once` is how many objects are worked on at the same time.
    """

    lists_instances = False
    #: What names the sources of results.
    metadata: MetadataType | None = None

    def __init__(self, editing: Editing, parameters: Parameters, permissive: bool, at_once: int) -> None:
        self._editing = editing
        self._parameters = parameters
        self._permissive = permissive
        self._at_once = at_once
        self._instances: Sequence[str] = parameters["Instances"]
        self._sources = frozenset(self._instances)
        self._modification = Modification.from_json(parameters["Modification"])
        self._key = bytes.fromhex(parameters["Key"])
        self._origin = origin_from_json(parameters["Origin"])
        self._objects: dict[str, StoredObject] = {}
        #: Instances up to here are looked up, and are begun; -1 before the first step.
        self._known = self._begun = -1
        self._place = 0
        self._is_ending = False
        self._running: dict[int, Deferred[None]] = {}
        #: Of instances from the position on.
        self._outcomes: dict[int, Made | Failure] = {}

    # What clients see

    def content(self, position: Position) -> Mapping[str, Any]:
        position = self._with_outcomes(position)
        failed = _listed(position, "Failed")
        content: dict[str, Any] = {
            "Description": self._parameters.get("Description", "REST API"),
            "InstancesCount": len(self._instances),
            "FailedInstancesCount": len(failed),
        }
        for name in ("ParentResources", "Resources"):
            if name in self._parameters:
                content[name] = self._parameters[name]
        if failed:
            content["FailedInstances"] = failed
        content.update(self.results(position))
        return content

    def results(self, position: Position) -> Mapping[str, Any]:
        """What is special to a kind of jobs."""
        raise NotImplementedError

    def _with_outcomes(self, position: Position) -> Position:
        """What there is already, although the position waits for something before it."""
        place = position.get("Next", 0)
        for number, outcome in self._outcomes.items():
            if isinstance(outcome, Made) and number >= place:
                position = self._noted(position, number, outcome)
        return position

    # Steps

    async def step(self, position: Position) -> Step:
        stage = position.get("Stage")
        if stage == _COMPLETING:
            return await self._complete(position)
        if stage == _DELETING:
            return await self._delete(position)
        self._place = position.get("Next", 0)
        if self._place < len(self._instances):
            await self._prepare()
            self._begin()
            await self._wait(self._place)
            position = await self._advance(position)
        if self._place < len(self._instances):
            return Step(position=position, progress=self._progress(self._place))
        return Step(position={**position, "Stage": _COMPLETING, "Place": 0}, progress=self._progress(self._place))

    async def _prepare(self) -> None:
        """Look up the objects that will be begun next."""
        if self._known < 0:
            self._known = self._begun = self._place
        while self._known < min(len(self._instances), self._place + _AHEAD * self._at_once):
            batch = self._instances[self._known : self._known + _BATCH]
            self._objects |= await self._editing.objects(batch)
            self._known += len(batch)

    def _begin(self) -> None:
        """Work on as many objects as may be."""
        limit = min(self._known, self._place + _AHEAD * self._at_once)
        while not self._is_ending and self._begun < limit and len(self._running) < self._at_once:
            number, self._begun = self._begun, self._begun + 1
            changing: Deferred[Any] = Deferred.fromCoroutine(self._change(number))
            self._running[number] = changing
            changing.addBoth(self._changed, number)

    async def _change(self, number: int) -> Made:
        item = self._objects.pop(self._instances[number], None)
        if item is None:
            raise UnknownResource("An instance was deleted meanwhile")
        return await self._editing.change(item, self._modification, self._key, self._origin, self.metadata)

    def _changed(self, result: Made | Failure, number: int) -> None:
        self._outcomes[number] = result
        del self._running[number]
        self._begin()

    async def _wait(self, number: int) -> None:
        running = self._running.get(number)
        if running is not None:
            # Who interrupts a step does not interrupt what is being written.
            await shield(running)

    async def _advance(self, position: Position) -> Position:
        """The position after all that is done without a gap. Raises a failure that ends the job, if it comes first."""
        first = self._place
        while self._place in self._outcomes:
            outcome = self._outcomes[self._place]
            if isinstance(outcome, Failure) and not self._may_fail(outcome):
                if self._place > first:
                    break
                # What else has been begun is told by the content of the job.
                await self.end()
                raise _naming(outcome, self._instances[self._place])
            position = self._noted(position, self._place, outcome)
            del self._outcomes[self._place]
            self._place += 1
        return position

    def _may_fail(self, failure: Failure) -> bool:
        # When the server stops, it is not the object's fault.
        return self._permissive and failure.check(OrthancError) and not failure.check(ServiceUnavailable)

    def _noted(self, position: Position, number: int, outcome: Made | Failure) -> Position:
        """The position with what became of one instance."""
        source = self._instances[number]
        changed: dict[str, Any] = {**position, "Next": number + 1}
        if isinstance(outcome, Failure):
            changed["Failed"] = _appended(position.get("Failed", ()), source)
            return changed
        *parents, instance = outcome.ids
        made: Mapping[str, Sequence[str]] = position.get("Made", {})
        if parents[-1] not in made:
            changed["Made"] = {**made, parents[-1]: [*parents[:-1], *outcome.sources[:-1]]}
        if instance in self._sources:
            # It has taken the place of a source, which must not be deleted.
            changed["Overwritten"] = _appended(position.get("Overwritten", ()), instance)
        if self.lists_instances:
            changed["MadeInstances"] = _appended(position.get("MadeInstances", ()), instance)
        return changed

    async def _complete(self, position: Position) -> Step:
        place: int = position["Place"]
        made = list(self.made(position))
        for item in made[place : place + _SERIES]:
            await self._editing.complete(item, self._modification, self.metadata)
        place += _SERIES
        progress = self._progress(len(self._instances))
        if place < len(made):
            return Step(position={**position, "Place": place}, progress=progress)
        if self._modification.keep_source:
            return Step(position=position, progress=1.0, result=StepResult.SUCCESS)
        # From here on sources are gone: none of the steps before can be done again.
        return Step(position={**position, "Stage": _DELETING, "Place": 0}, progress=progress, is_milestone=True)

    async def _delete(self, position: Position) -> Step:
        place: int = position["Place"]
        kept = {*_listed(position, "Failed"), *_listed(position, "Overwritten")}
        doomed = self._instances[place : place + _DELETED]
        await self._editing.delete([public_id for public_id in doomed if public_id not in kept])
        place += _DELETED
        return Step(
            position={**position, "Place": place},
            progress=self._progress(len(self._instances), place),
            result=StepResult.CONTINUE if place < len(self._instances) else StepResult.SUCCESS,
        )

    def _progress(self, done: int, deleted: int = 0) -> float:
        count = len(self._instances)
        return (done + deleted) / max(1, count if self._modification.keep_source else 2 * count)

    def made(self, position: Position) -> Iterable[Made]:
        """What has been made so far: one result of each new series, without identifiers of instances."""
        for series, (patient, study, *sources) in position.get("Made", {}).items():
            yield Made((patient, study, series), tuple(sources))

    async def end(self) -> None:
        self._is_ending = True
        while self._running:
            await shield(next(iter(self._running.values())))

    async def output(self, position: Position, key: str) -> Output | None:
        return None

    async def delete_output(self, position: Position, key: str) -> Position | None:
        return None


def _naming(failure: Failure, instance: str) -> BaseException:
    """A failure that says which instance has failed."""
    error = failure.value
    assert error is not None
    if not isinstance(error, OrthancError) or isinstance(error, ServiceUnavailable):
        return error
    details = f"{error.details} ({instance})" if error.details else f"Instance {instance}"
    return OrthancError(details, code=error.code, http_status=error.http_status, payload=error.payload)


def _listed(position: Position, name: str) -> list[str]:
    """A list of instances that a position has in parts."""
    return [instance for part in position.get(name, ()) for instance in part]


def _appended(parts: Sequence[Sequence[str]], instance: str) -> list[Sequence[str]]:
    if parts and len(parts[-1]) < _PART:
        return [*parts[:-1], [*parts[-1], instance]]
    return [*parts, [instance]]


class ModificationJob(EditingJob):
    """Modification or anonymisation.

    Parameters are those of `EditingJob` and ``Level``, that of the resource whose result is told; None for many
    resources, of which all results are told.
    """

    def __init__(self, editing: Editing, parameters: Parameters, permissive: bool, at_once: int) -> None:
        super().__init__(editing, parameters, permissive, at_once)
        level = parameters["Level"]
        self._level = None if level is None else ResourceLevel(level)
        self.lists_instances = level is None
        self.metadata = metadata_of(self._modification)

    def results(self, position: Position) -> Mapping[str, Any]:
        content: dict[str, Any] = {"IsAnonymization": self._modification.is_anonymization}
        if self._modification.transfer_syntax:
            content["Transcode"] = self._modification.transfer_syntax
        made = list(self.made(position))
        if self._level is None:
            instances = _listed(position, "MadeInstances")
            above = [(level, {item.ids[level - 1] for item in made}) for level in _ABOVE]
            content["Resources"] = [
                _described(level, public_id)
                for level, ids in ((ResourceLevel.INSTANCE, instances), *above)
                for public_id in sorted(ids)
            ]
        elif made:
            content |= _described(self._level, made[0].ids[self._level - 1])
            content["PatientID"] = made[0].ids[0]
        return content


def _described(level: ResourceLevel, public_id: str) -> dict[str, str]:
    return {"ID": public_id, "Path": f"/{level.plural}/{public_id}", "Type": level.title}


def editing_parameters(
    instances: Sequence[str],
    modification: Modification,
    resources: Iterable[tuple[ResourceLevel, str]],
    origin: Origin,
) -> dict[str, Any]:
    """Parameters that all jobs have which change objects, those of clients' own included."""
    given = list(resources)
    return {
        "Instances": list(instances),
        "Modification": modification.to_json(),
        "Key": secrets.token_hex(KEY_LENGTH),
        "Origin": origin_to_json(origin),
        "ParentResources": [public_id for _, public_id in given],
        "Resources": [{"ID": public_id, "Type": level.title} for level, public_id in given],
    }


def editing_kind(name: str, make: Callable[[Parameters, bool], EditingJob]) -> JobKind:
    """A kind of jobs that change objects."""

    def checked(parameters: Parameters, permissive: bool) -> EditingJob:
        with readable():
            return make(parameters, permissive)

    return JobKind(name=name, make=checked)


def modification_kind(editing: Editing, at_once: int) -> JobKind:
    """The kind of jobs that modifies and anonymises; `at_once` objects of one job at the same time."""
    return editing_kind(
        MODIFICATION, lambda parameters, permissive: ModificationJob(editing, parameters, permissive, at_once)
    )
