"""How fast jobs are with many of them, and how fast studies are anonymised.

``python -m benchmarks.jobs [--waiting N] [--finished N]``. With jobs that wait: the start of the server, and
submissions over one connection. With finished ones: the start, and the lists of jobs. The rows are written into the
index of a server that has run once.

``python -m benchmarks.jobs --anonymize N [--runs N]``: a study of so many CT objects, by orthanctw and the real Orthanc
in turn; what others wait for ``/system`` meanwhile; and memory, after it and after a study ten times as large.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from twisted.internet import reactor

from benchmarks.archives import fill
from benchmarks.common import Connection, ObjectSource, Server, median, running, table, temporary_folder
from orthanctw.index.database import SqliteIndex
from orthanctw.jobs.record import JobRecord
from orthanctw.model import JobState

#: File of the index.
_DATABASE = "orthanctw.db"
_NOTHING = {"Type": "DeleteResource", "ID": "00000000-11111111-22222222-33333333-44444444"}
#: Rows of one transaction.
_GROUP = 5000
_SUBMISSIONS = 500
_LISTS = 11
#: Objects in a second that Orthanc 1.13.0 anonymises, on the machine of the goals.
_REFERENCE = 83
_GOAL = 3
#: Seconds between two questions of somebody else.
_PAUSE = 0.02
#: Time that the jobs of the benchmark were made at, in seconds since 1970.
_CREATED = 1_700_000_000.0


def record(number: int, state: JobState) -> JobRecord:
    """A job of one operation."""
    is_finished = state is JobState.SUCCESS
    return JobRecord(
        number=number,
        job_id=str(uuid.uuid4()),
        kind="SequenceOfOperations",
        permissive=False,
        user_data={"Number": number},
        creation_time=_CREATED + number,
        priority=0,
        state=state,
        position={"Next": 1, "Results": [{"Deleted": False}]} if is_finished else {},
        content={"CountOperations": 1, "Description": "REST API"},
        progress=1.0 if is_finished else 0.0,
        completion_time=_CREATED + number + 1 if is_finished else None,
    )


def write_rows(folder: Path, records: Sequence[JobRecord]) -> None:
    """Put jobs into the index of a server that does not run."""
    index = SqliteIndex(reactor, str(folder / _DATABASE), synchronous=True)  # type: ignore[arg-type]
    index.open()
    parameters = json.dumps({"Operations": [_NOTHING], "Description": "REST API"}).encode()
    for place in range(0, len(records), _GROUP):
        index.add_jobs([item.saved(parameters) for item in records[place : place + _GROUP]])
    index.close()


def timed(connection: Connection, method: str, path: str, body: bytes = b"") -> tuple[float, bytes]:
    """Milliseconds of a request that must succeed, and its answer."""
    started = time.perf_counter()
    status, answer = connection.request(method, path, body)
    elapsed = (time.perf_counter() - started) * 1000
    if status != 200:
        raise SystemExit(f"{method} {path}: {status} {answer[:200]!r}")
    return elapsed, answer


def prepared(folder: Path, state: JobState, count: int) -> None:
    """Run a server once, so that its folder is there, and write the jobs."""
    with running("orthanctw", StorageDirectory=str(folder), IndexDirectory=str(folder)):
        pass
    write_rows(folder, [record(number, state) for number in range(1, count + 1)])


def submissions(connection: Connection) -> list[float]:
    """Milliseconds of each."""
    body = json.dumps({"Type": "SequenceOfOperations", "Operations": [_NOTHING]}).encode()
    return [timed(connection, "POST", "/jobs", body)[0] for _ in range(_SUBMISSIONS)]


def occupy(connection: Connection) -> None:
    """Give the one slot to a job that takes long."""
    body = {"Type": "SequenceOfOperations", "Operations": [_NOTHING] * 10_000, "Priority": 1}
    timed(connection, "POST", "/jobs", json.dumps(body).encode())


def waiting_jobs(folder: Path, count: int, state: JobState) -> list[list[object]]:
    """Start and submissions with so many jobs that wait."""
    prepared(folder, state, count)
    started = time.perf_counter()
    options = {"StorageDirectory": str(folder), "IndexDirectory": str(folder), "ConcurrentJobs": 1}
    with running("orthanctw", **options) as server:
        start = time.perf_counter() - started
        connection = Connection(server.port)
        if state is JobState.PAUSED:
            # What is submitted must wait too.
            occupy(connection)
        times = submissions(connection)
        identifiers, answer = timed(connection, "GET", "/jobs")
        have = len(json.loads(answer))
        name = f"{have} jobs, {state.value.lower()}"
        return [
            [name, "start", f"{start:.2f} s"],
            [name, "POST /jobs, median", f"{median(times):.2f} ms"],
            [name, "POST /jobs, slowest", f"{max(times):.2f} ms"],
            [name, "/jobs", f"{identifiers:.0f} ms"],
            [name, "memory", f"{server.memory():.0f} MB"],
        ]


def lists(server: Server, path: str, expected: int) -> float:
    """Median of the milliseconds of a list, which has so many jobs."""
    connection = Connection(server.port)
    found = []
    for _ in range(_LISTS):
        elapsed, answer = timed(connection, "GET", path)
        found.append(elapsed)
    if len(json.loads(answer)) != expected:
        raise SystemExit(f"{path} is not a list of {expected} jobs")
    return median(found)


def finished_jobs(folder: Path, count: int) -> list[list[object]]:
    """Start and lists with so many finished jobs."""
    prepared(folder, JobState.SUCCESS, count)
    started = time.perf_counter()
    options = {"StorageDirectory": str(folder), "IndexDirectory": str(folder), "JobsHistorySize": count}
    with running("orthanctw", **options) as server:
        start = time.perf_counter() - started
        name = f"{count} jobs, finished"
        return [
            [name, "start", f"{start:.2f} s"],
            [name, "/jobs?expand", f"{lists(server, '/jobs?expand', count):.0f} ms"],
            [name, "/jobs?expand&limit=100", f"{lists(server, '/jobs?expand&limit=100', 100):.1f} ms"],
            [name, "memory", f"{server.memory():.0f} MB"],
        ]


def empty() -> list[list[object]]:
    """The same without jobs, to compare with."""
    started = time.perf_counter()
    with running("orthanctw", ConcurrentJobs=1) as server:
        start = time.perf_counter() - started
        connection = Connection(server.port)
        occupy(connection)
        return [
            ["no jobs", "start", f"{start:.2f} s"],
            ["no jobs", "POST /jobs, median", f"{median(submissions(connection)):.2f} ms"],
            ["no jobs", "memory", f"{server.memory():.0f} MB"],
        ]


def anonymize(server: Server, study: str, count: int) -> float:
    """Objects in a second of a job that must make as many as there are."""
    elapsed, answer = timed(Connection(server.port), "POST", f"/studies/{study}/anonymize", b"{}")
    content = json.loads(answer)
    if (content["InstancesCount"], content["FailedInstancesCount"]) != (count, 0):
        raise SystemExit(f"{server.name}: {content}")
    _, answer = timed(Connection(server.port), "GET", f"/studies/{content['ID']}/statistics")
    if int(json.loads(answer)["CountInstances"]) != count:
        raise SystemExit(f"{server.name}: {answer!r}")
    return count / elapsed * 1000


def waits_meanwhile(server: Server, study: str, count: int) -> tuple[float, list[float]]:
    """As `anonymize`, and milliseconds of ``/system`` meanwhile, for somebody who asks again and again."""
    ended = threading.Event()
    times: list[float] = []

    def ask() -> None:
        connection = Connection(server.port)
        while not ended.wait(_PAUSE):
            times.append(timed(connection, "GET", "/system")[0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        rate = anonymize(server, study, count)
    finally:
        ended.set()
        asking.join()
    return rate, times


def anonymizations(count: int, runs: int) -> list[list[object]]:
    """Rates of both servers, waits and memory."""
    source = ObjectSource(512, 512)
    objects = [source.make(number) for number in range(count)]
    rates: dict[str, list[float]] = {"Orthanc": [], "orthanctw": []}
    waits: list[float] = []
    with running("Orthanc") as original, running("orthanctw") as ours:
        studies = {server.name: fill(server, objects) for server in (original, ours)}
        for _ in range(runs):
            for server in (original, ours):
                rate, times = waits_meanwhile(server, studies[server.name], count)
                rates[server.name].append(rate)
                if server is ours:
                    waits += times
        memory = ours.memory()
        more = [source.make(number) for number in range(count, 10 * count)]
        fill(ours, more)
        rate = anonymize(ours, studies["orthanctw"], 10 * count)
        larger = ours.memory()
    name = f"anonymising {count} CT objects"
    first, second = median(rates["Orthanc"]), median(rates["orthanctw"])
    return [
        [name, "Orthanc, the real one", f"{first:.0f}/s"],
        [name, "Orthanc, of the goals", f"{_REFERENCE}/s"],
        [name, "orthanctw", f"{second:.0f}/s"],
        [name, f"ratio, goal {_GOAL}", f"{second / first:.2f}"],
        [name, "/system meanwhile, p95", f"{statistics.quantiles(waits, n=20)[-1]:.1f} ms"],
        [name, "memory", f"{memory:.0f} MB"],
        [f"{10 * count} objects", "orthanctw", f"{rate:.0f}/s"],
        [f"{10 * count} objects", "memory", f"{larger:.0f} MB"],
    ]


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=100_000, help="jobs that wait")
    parser.add_argument("--finished", type=int, default=10_000, help="finished jobs")
    parser.add_argument("--anonymize", type=int, default=0, help="objects of a study that is anonymised; nothing else")
    parser.add_argument("--runs", type=int, default=5, help="how often it is")
    arguments = parser.parse_args()
    if arguments.anonymize:
        table(anonymizations(arguments.anonymize, arguments.runs))
        return
    rows = empty()
    for state in (JobState.PENDING, JobState.PAUSED):
        rows += waiting_jobs(Path(temporary_folder("bench-jobs-")), arguments.waiting, state)
    rows += finished_jobs(Path(temporary_folder("bench-jobs-")), arguments.finished)
    table(rows)


if __name__ == "__main__":
    main()
