"""Reading, searching and deleting: orthanctw and the real Orthanc on the same objects, in turn.

`wrk` on 4 connections for objects of resources, tags and files; single requests for searches and deletions at the
given number of instances. Each answer is compared first: a 404 is fast.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import time
from typing import Any

from benchmarks.common import Connection, ObjectSource, Server, in_parallel, median, running, table
from benchmarks.ingest import post

STUDIES = 200
SERIES_OF_STUDY = 2
_REFERENCE = {
    "/instances/{id}": "3990/s",
    "simplified-tags": "1170/s",
    "file": "1.4 GB/s",
    "find by id": "0.8 ms",
    "find accession, expanded": "1.0 ms",
    "find wildcard": "1.0 ms",
    "studies by date, 100": "13 ms",
    "instances by number, 100": "13 ms",
    "instances of a patient": "21 ms",
    "delete 200": "386 ms",
}


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


def timed(connection: Connection, method: str, path: str, body: bytes, repeat: int) -> tuple[list[float], Any]:
    """Milliseconds of a request, again and again, and its answer."""
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        status, answer = connection.request(method, path, body)
        times.append((time.perf_counter() - started) * 1000)
        if status != 200:
            raise SystemExit(f"{method} {path}: {status} {answer[:300]!r}")
    return times, json.loads(answer)


def searches() -> dict[str, dict[str, Any]]:
    """Bodies of ``/tools/find`` by name."""
    return {
        "find by id": {"Level": "Study", "Query": {"StudyInstanceUID": "1.2.826.0.1.3680043.9.7433.1.77"}},
        "find accession, expanded": {"Level": "Study", "Query": {"AccessionNumber": "ACC00077"}, "Expand": True},
        "find wildcard": {"Level": "Study", "Query": {"PatientName": "NAME00*"}},
        "find date range": {"Level": "Study", "Query": {"StudyDate": "20240301-20240415"}},
        "find instance": {"Level": "Instance", "Query": {"SOPInstanceUID": "1.2.826.0.1.3680043.9.7433.5.0000000077"}},
        "instances of a patient": {"Level": "Instance", "Query": {"PatientID": "P0007"}},
        "instances of all patients": {"Level": "Instance", "Query": {"PatientID": "P0*"}},
    }


def new_searches(patient: str) -> dict[str, dict[str, Any]]:
    """Those that 1.10.1 does not know, for the identifier of a patient."""

    def ordered(level: str, key: str, kind: str = "DicomTag", direction: str = "ASC") -> dict[str, Any]:
        order = [{"Type": kind, "Key": key, "Direction": direction}]
        return {"Level": level, "Query": {}, "OrderBy": order, "Limit": 100}

    return {
        "ParentPatient": {"Level": "Instance", "Query": {}, "ParentPatient": patient},
        "studies by date, 100": ordered("Study", "StudyDate", direction="DESC"),
        "studies by LastUpdate, 100": ordered("Study", "LastUpdate", "Metadata", "DESC"),
        "instances by UID, 100": ordered("Instance", "SOPInstanceUID", direction="DESC"),
        "instances by number, 100": ordered("Instance", "InstanceNumber", "DicomTagAsInt"),
        "instances by study date, 100": ordered("Instance", "StudyDate"),
        "instances by position, 100": ordered("Instance", "ImagePositionPatient"),
    }


def measure_reading(server: Server, seconds: int) -> dict[str, str]:
    """Figures of reading one object."""
    figures: dict[str, str] = {}
    connection = Connection(server.port)
    ct = post(connection, ObjectSource(512, 512).make(4_000_000_000))["ID"]
    connection.close()
    for name, path in (
        ("/instances/{id}", f"/instances/{ct}"),
        ("simplified-tags", f"/instances/{ct}/simplified-tags"),
        ("file", f"/instances/{ct}/file"),
    ):
        rate, megabytes = wrk(server.port, path, seconds)
        figures[name] = f"{megabytes:.0f} MB/s" if name == "file" else f"{rate:.0f}/s"
    return figures


def measure_searches(servers: list[Server]) -> dict[str, dict[str, str]]:
    """Median milliseconds of each search by server, which get a few requests in turn; their answers must be equal."""
    patient = find(servers[0], {"Level": "Patient", "Query": {"PatientID": "P0007"}})[1][0]
    bodies = [(*item, False) for item in searches().items()] + [(*item, True) for item in new_searches(patient).items()]
    figures: dict[str, dict[str, str]] = {server.name: {} for server in servers}
    for name, body, is_new in bodies:
        times: dict[str, list[float]] = {}
        answers: dict[str, list[str]] = {}
        asked = [server for server in servers if not is_new or server.name == "orthanctw"]
        for _ in range(5):
            for server in asked:
                some, answer = find(server, body)
                times.setdefault(server.name, []).extend(some)
                answers[server.name] = sorted(item["ID"] if isinstance(item, dict) else item for item in answer)
        if asked and (not all(answers.values()) or len(set(map(tuple, answers.values()))) > 1):
            raise SystemExit(f"{name}: the answers are empty or differ")
        for server in servers:
            found = times.get(server.name)
            figures[server.name][name] = "-" if found is None else f"{median(found):.2f} ms"
    return figures


def find(server: Server, body: dict[str, Any]) -> tuple[list[float], Any]:
    """Milliseconds of a few searches on one connection, which is there already, and their answer."""
    connection = Connection(server.port)
    content = json.dumps(body).encode()
    timed(connection, "POST", "/tools/find", content, 1)
    result = timed(connection, "POST", "/tools/find", content, 4)
    connection.close()
    return result


def measure_deletions(server: Server) -> dict[str, str]:
    """Memory, and milliseconds to delete studies."""
    figures = {"memory": f"{server.memory():.0f} MB"}
    for count in (200, 2000):
        figures[f"delete {count}"] = f"{delete_study(server, count):.0f} ms"
    return figures


def delete_study(server: Server, count: int) -> float:
    """Milliseconds to delete a study of `count` objects, which is uploaded first."""
    source = ObjectSource(
        4,
        4,
        PatientID=f"DEL{count}",
        StudyInstanceUID=f"1.2.826.0.1.3680043.9.7433.9.{count}",
        SeriesInstanceUID=f"1.2.826.0.1.3680043.9.7433.9.{count}.1",
    )
    connection = Connection(server.port)
    study = post(connection, source.make(0))["ParentStudy"]
    connection.close()
    in_parallel(4, range(1, count), lambda c, n: post(c, source.make(n)), server.port)
    elapsed = timed(connection, "DELETE", f"/studies/{study}", b"", 1)[0][0]
    connection.close()
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=20000)
    parser.add_argument("--seconds", type=int, default=4, help="length of a run of wrk")
    parser.add_argument("--only", choices=["orthanctw", "Orthanc"])
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else ["orthanctw", "Orthanc"]
    results: dict[str, dict[str, str]] = {name: {} for name in names}
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(name)) for name in names]
        for server in servers:
            results[server.name] |= measure_reading(server, arguments.seconds)
        for server in servers:
            load(server, arguments.instances)
        for name, figures in measure_searches(servers).items():
            results[name] |= figures
        for server in servers:
            results[server.name] |= measure_deletions(server)
    rows: list[list[object]] = [["what", *names, "reference"]]
    rows += [
        [what, *(results[name][what] for name in names), _REFERENCE.get(what, "-")] for what in results[names[0]]
    ]
    table(rows)


if __name__ == "__main__":
    main()
