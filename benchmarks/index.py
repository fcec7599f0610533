"""How fast the index is at 20,000 instances: ``python benchmarks/index.py [--instances N] [--folder PATH]``."""

from __future__ import annotations

import argparse
import os
import resource as usage
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.defer import Deferred

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from orthanctw.index.database import SqliteIndex
from orthanctw.model import Constraint, NewInstance, ResourceLevel
from test import index_samples
from test.index_samples import ids, new_instance

PATIENTS, STUDIES, SERIES = 100, 2, 2


def objects(number: int) -> list[NewInstance]:
    """As a modality sends them: series after series."""
    per_series = number // (PATIENTS * STUDIES * SERIES)
    return [
        new_instance(
            f"PAT{patient:04}",
            f"{patient}.{study}",
            str(series),
            str(instance + 1),
            name=f"NAME{patient:04}^FIRST",
            study_date=f"20{patient % 20:02}0{study + 1}15",
        )
        for patient in range(PATIENTS)
        for study in range(STUDIES)
        for series in range(SERIES)
        for instance in range(per_series)
    ]


async def lanes(work: Callable[[Any], Deferred[Any]], items: Sequence[Any], flight: int) -> tuple[float, float]:
    """Items per second with so many in flight, and microseconds of CPU of the process for each."""
    waiting = iter(items)

    async def lane() -> None:
        for item in waiting:
            await work(item)

    started, cpu = time.perf_counter(), cpu_seconds()
    await defer.gatherResults([Deferred.fromCoroutine(lane()) for _ in range(flight)])
    return len(items) / (time.perf_counter() - started), (cpu_seconds() - cpu) / len(items) * 1e6


def cpu_seconds() -> float:
    spent = usage.getrusage(usage.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


async def stores(index: SqliteIndex, number: int) -> list[NewInstance]:
    everything = objects(number)
    parts = [(1, everything[: number // 20]), (4, everything[number // 20 : number // 4])]
    parts.append((16, everything[number // 4 :]))
    for flight, part in parts:
        rate, cpu = await lanes(index.store, part, flight)
        print(f"store, {flight:2} in flight   {rate:8.0f}/s   {cpu:6.0f} us CPU each")
    return everything


async def reads(index: SqliteIndex, everything: list[NewInstance]) -> None:
    sample = [ids(item)[3] for item in everything[:: max(1, len(everything) // 4000)]]

    def expand(public_id: str) -> Deferred[Any]:
        return index.expand(
            ResourceLevel.INSTANCE, [public_id], children=False, attachments=True, indices=False
        )

    for flight in (1, 4, 16):
        rate, cpu = await lanes(lambda item: index.resource(ResourceLevel.INSTANCE, item), sample, flight)
        print(f"resource, {flight:2} in flight   {rate:8.0f}/s   {cpu:6.0f} us CPU each")
        rate, cpu = await lanes(expand, sample, flight)
        print(f"expand, {flight:2} in flight   {rate:8.0f}/s   {cpu:6.0f} us CPU each")


async def timed(text: str, call: Callable[[], Deferred[Any]], repeats: int = 20) -> None:
    spent = []
    for _ in range(repeats):
        started = time.perf_counter()
        answer = await call()
        spent.append(time.perf_counter() - started)
    size = len(answer) if isinstance(answer, list) else 1
    print(f"{text:42} {sorted(spent)[repeats // 2] * 1e3:8.2f} ms   {size} answers")


async def searches(index: SqliteIndex) -> None:
    study, instance = ResourceLevel.STUDY, ResourceLevel.INSTANCE
    name = Constraint(tag=index_samples.PATIENT_NAME, level=study, wildcard="NAME001*")
    inner = Constraint(tag=index_samples.PATIENT_NAME, level=study, wildcard="*0042*")
    exact = Constraint(tag=index_samples.ACCESSION, level=study, equal=("A42.1",))
    date = Constraint(tag=index_samples.STUDY_DATE, level=study, lower="20050101", upper="20051231")
    patient = Constraint(tag=index_samples.PATIENT_ID, level=ResourceLevel.PATIENT, equal=("PAT0042",))
    await timed("study, exact accession number", lambda: index.candidates(study, [exact]))
    await timed("study, wildcard name, literal start", lambda: index.candidates(study, [name]))
    await timed("study, wildcard name, inner", lambda: index.candidates(study, [inner]))
    await timed("study, date range", lambda: index.candidates(study, [date]))
    await timed("study, date range and name", lambda: index.candidates(study, [date, name]))
    await timed("instances of a patient", lambda: index.candidates(instance, [patient]))
    await timed("all studies", lambda: index.candidates(study, []))
    await timed("ids of all instances", lambda: index.list_ids(instance))
    await timed("statistics", index.statistics)
    await timed("last change", index.last_change)
    await timed("100 changes", lambda: index.changes(10000, 100, None, frozenset()))


async def deletions(index: SqliteIndex) -> None:
    for number in (200, 2000):
        study = [new_instance("DELETED", str(number), str(i % 4), str(i)) for i in range(number)]
        await lanes(index.store, study, 16)
        started = time.perf_counter()
        deleted = await index.delete(ResourceLevel.STUDY, ids(study[0])[1])
        assert deleted is not None
        spent = time.perf_counter() - started
        print(f"delete a study of {number:5} objects   {spent * 1e3:8.1f} ms   {len(deleted.removed_files)} files")


async def main(number: int, folder: str) -> None:
    index = SqliteIndex(reactor, os.path.join(folder, "index.db"))  # type: ignore[arg-type]
    await index.open()
    try:
        everything = await stores(index, number)
        await reads(index, everything)
        await searches(index)
        await deletions(index)
    finally:
        await index.close()


def start() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=20000)
    parser.add_argument("--folder", default=None, help="on the disk to be measured")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        done = Deferred.fromCoroutine(main(arguments.instances, folder))
        done.addErrback(lambda failure: failure.printTraceback())
        done.addBoth(lambda _: reactor.stop())  # type: ignore[attr-defined]
        reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    start()
