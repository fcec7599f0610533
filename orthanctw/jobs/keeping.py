"""What is kept of jobs: rows in the index, written again when the disk has refused them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson
from twisted.logger import Logger

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import CorruptedFile, OrthancError
from orthanctw.jobs.contract import Job, JobKind, JobStore, Position
from orthanctw.jobs.record import JobRecord, load

log = Logger(namespace="orthanctw.jobs")
_NOTHING: Final[Iterable[JobRecord]] = ()


class Keeping:
    """Keeps records in the store, and makes the jobs that they stand for.

    Parameters
    ----------
    store : JobStore
    kinds : iterable of JobKind
    is_saving : bool
        ``SaveJobs``: jobs outlive the process.
    """

    def __init__(self, store: JobStore, kinds: Iterable[JobKind], *, is_saving: bool) -> None:
        self._store = store
        self._kinds = {kind.name: kind for kind in kinds}
        self._is_saving = is_saving
        self._last_number = 0
        #: What the store does not have yet: it is part of the next write, whoever asks for that.
        self._changed: dict[int, JobRecord] = {}
        self._gone: set[int] = set()

    def kind(self, name: str) -> JobKind | None:
        """A kind of jobs, or None."""
        return self._kinds.get(name)

    def saves(self, kind: JobKind) -> bool:
        """Whether jobs of a kind outlive the process."""
        return self._is_saving and kind.is_saved

    def next_number(self) -> int:
        """A number for a new job."""
        self._last_number += 1
        return self._last_number

    async def load(self) -> list[JobRecord]:
        """The jobs of the process before. Rows that cannot be read stay as they are."""
        records = []
        for saved in await self._store.jobs() if self._is_saving else ():
            self._last_number = max(self._last_number, saved.number)
            try:
                records.append(load(saved))
            except CorruptedFile as e:
                log.error("Saved job {number} stays as it is: {reason}", number=saved.number, reason=str(e))
        return records

    async def add(self, record: JobRecord, parameters: bytes) -> None:
        """Keep a new job; durable then, if it is saved at all. Raises what the store raises."""
        if not record.is_saved:
            record.parameters = parameters
            return
        await self._store.add_jobs([record.saved(parameters)])

    async def write(self, changed: Iterable[JobRecord], forgotten: Iterable[JobRecord] = _NOTHING) -> None:
        """Write states, drop what is forgotten; durable then.

        Raises what the store raises. What it has refused is tried again with the next write.
        """
        self._changed |= {record.number: record for record in changed if record.is_saved}
        self._gone |= {record.number for record in forgotten if record.is_saved}
        statuses: dict[int, bytes] = {}
        written = {number: record for number, record in self._changed.items() if number not in self._gone}
        for number, record in written.items():
            try:
                statuses[number] = record.status()
            except TypeError:
                log.failure("What job {job} tells is no JSON; it is not saved", job=record.job_id)
        gone, self._changed, self._gone = self._gone, {}, set()
        if not statuses and not gone:
            return
        try:
            await self._store.update_jobs(statuses, sorted(gone))
        except Exception:
            self._changed = written | self._changed
            self._gone |= gone
            raise

    async def save(self, changed: Iterable[JobRecord], forgotten: Iterable[JobRecord] = _NOTHING) -> None:
        """As `write`, where nobody waits for it: when the disk refuses, the job goes on all the same."""
        try:
            await self.write(changed, forgotten)
        except OrthancError as e:
            log.error("The state of jobs could not be saved: {reason}", reason=str(e))

    async def make(self, record: JobRecord) -> Job:
        """The job of a record. OrthancError when there is none, since kind or parameters are not understood."""
        if record.job is not None:
            return record.job
        kind = self._kinds.get(record.kind)
        if kind is None:
            raise OrthancError("This type of jobs is not known here", code=ErrorCode.UNKNOWN_RESOURCE)
        text = await self._store.job_parameters(record.number) if record.is_saved else record.parameters
        try:
            parameters: Any = orjson.loads(text or b"")
        except ValueError as e:
            raise CorruptedFile("The parameters of the job cannot be read") from e
        return kind.make(parameters, record.permissive)

    async def forget(self, record: JobRecord, position: Position) -> None:
        """Remove what a job has left at a position."""
        kind = self._kinds.get(record.kind)
        if kind is None or kind.forget is None:
            return
        try:
            await kind.forget(position)
        except Exception:  # noqa: BLE001 - what it has left stays; the storage area is cleaned at the next start
            log.failure("What job {job} has left could not be removed", job=record.job_id)
