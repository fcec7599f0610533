"""Reading, searching and deleting: orthanctw and the real Orthanc on the same objects, in turn.

`wrk` on 4 connections for objects of resources, tags and files; single requests for searches and deletions at the
given number of instances. Each answer is compared first: a 404 is fast.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import time
from typing import Any

from benchmarks.common import Connection, ObjectSource, Server, in_parallel, median, running, table
from benchmarks.ingest import post

STUDIES = 200
SERIES_OF_STUDY = 2
_REFERENCE = {"/instances/{id}": "3990/s", "simplified-tags": "1170/s", "file": "1.4 GB/s", "delete 200": "386 ms"}


def wrk(port: int, path: str, seconds: int) -> tuple[float, float]:
    """Answers and megabytes per second."""
    command = ["wrk", "-c4", "-t1", f"-d{seconds}", f"http://127.0.0.1:{port}{path}"]
    output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    if "Non-2xx" in output:
        raise SystemExit(f"{path}: {output}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])  # type: ignore[index]
    size, unit = re.search(r"Transfer/sec:\s+([\d.]+)(\w+)", output).groups()  # type: ignore[union-attr]
    return rate, float(size) * {"B": 1e-6, "KB": 1e-3, "MB": 1, "GB": 1e3}[unit]


def load(server: Server, instances: int) -> None:
    """Small objects of 100 patients, 200 studies and 400 series."""
    sources = {
        (study, series): ObjectSource(
            4,
            4,
            PatientID=f"P{study // 2:04d}",
            PatientName=f"NAME{study // 2:04d}^BENCH",
            StudyInstanceUID=f"1.2.826.0.1.3680043.9.7433.1.{study}",
            SeriesInstanceUID=f"1.2.826.0.1.3680043.9.7433.2.{study}.{series}",
            StudyDate=f"2024{study % 12 + 1:02d}{study % 28 + 1:02d}",
            AccessionNumber=f"ACC{study:05d}",
            Modality="CT" if series else "MR",
        )
        for study in range(STUDIES)
        for series in range(SERIES_OF_STUDY)
    }
    keys = list(sources)
    in_parallel(4, range(instances), lambda c, n: post(c, sources[keys[n % len(keys)]].make(n)), server.port)


def timed(connection: Connection, method: str, path: str, body: bytes, repeat: int) -> tuple[float, Any]:
    """Median milliseconds of a request, and its answer."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        status, answer = connection.request(method, path, body)
        times.append((time.perf_counter() - started) * 1000)
        if status != 200:
            raise SystemExit(f"{method} {path}: {status} {answer[:300]!r}")
    return median(times), json.loads(answer)


def searches() -> dict[str, dict[str, Any]]:
    """Bodies of ``/tools/find`` by name."""
    return {
        "find by id": {"Level": "Study", "Query": {"StudyInstanceUID": "1.2.826.0.1.3680043.9.7433.1.77"}},
        "find accession, expanded": {"Level": "Study", "Query": {"AccessionNumber": "ACC00077"}, "Expand": True},
        "find wildcard": {"Level": "Study", "Query": {"PatientName": "NAME00*"}},
        "find date range": {"Level": "Study", "Query": {"StudyDate": "20240301-20240415"}},
        "find instance": {"Level": "Instance", "Query": {"SOPInstanceUID": "1.2.826.0.1.3680043.9.7433.5.0000000077"}},
    }


def measure(server: Server, instances: int, seconds: int) -> tuple[dict[str, str], dict[str, Any]]:
    """Figures by name, and the answers to compare."""
    figures: dict[str, str] = {}
    answers: dict[str, Any] = {}
    connection = Connection(server.port)
    ct = post(connection, ObjectSource(512, 512).make(4_000_000_000))["ID"]
    for name, path in (
        ("/instances/{id}", f"/instances/{ct}"),
        ("simplified-tags", f"/instances/{ct}/simplified-tags"),
        ("file", f"/instances/{ct}/file"),
    ):
        rate, megabytes = wrk(server.port, path, seconds)
        figures[name] = f"{megabytes:.0f} MB/s" if name == "file" else f"{rate:.0f}/s"
    load(server, instances)
    connection.close()
    for name, body in searches().items():
        elapsed, answer = timed(connection, "POST", "/tools/find", json.dumps(body).encode(), 20)
        figures[name] = f"{elapsed:.2f} ms"
        answers[name] = sorted(item["ID"] if isinstance(item, dict) else item for item in answer)
    figures["memory"] = f"{server.memory():.0f} MB"
    for count in (200, 2000):
        figures[f"delete {count}"] = f"{delete_study(connection, server, count):.0f} ms"
    return figures, answers


def delete_study(connection: Connection, server: Server, count: int) -> float:
    """Milliseconds to delete a study of `count` objects, which is uploaded first."""
    source = ObjectSource(
        4,
        4,
        PatientID=f"DEL{count}",
        StudyInstanceUID=f"1.2.826.0.1.3680043.9.7433.9.{count}",
        SeriesInstanceUID=f"1.2.826.0.1.3680043.9.7433.9.{count}.1",
    )
    study = post(connection, source.make(0))["ParentStudy"]
    connection.close()
    in_parallel(4, range(1, count), lambda c, n: post(c, source.make(n)), server.port)
    return timed(connection, "DELETE", f"/studies/{study}", b"", 1)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=20000)
    parser.add_argument("--seconds", type=int, default=4, help="length of a run of wrk")
    parser.add_argument("--only", choices=["orthanctw", "Orthanc"])
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else ["orthanctw", "Orthanc"]
    results: dict[str, dict[str, str]] = {}
    answers = []
    for name in names:
        with running(name) as server:
            results[name], found = measure(server, arguments.instances, arguments.seconds)
            answers.append(found)
    if any(found != answers[0] for found in answers):
        raise SystemExit("the answers differ")
    rows: list[list[object]] = [["what", *names, "reference"]]
    rows += [
        [what, *(results[name][what] for name in names), _REFERENCE.get(what, "-")] for what in results[names[0]]
    ]
    table(rows)


if __name__ == "__main__":
    main()
