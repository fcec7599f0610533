"""``POST /instances``: orthanctw and the real Orthanc on the same objects, in turn.

Objects of 12 KB and 525 KB on 1, 4 and 16 connections. Prints the median rate of each, and the ratio; `reference`
is the rate of Orthanc 1.13.0 on a like machine.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.common import Connection, ObjectSource, in_parallel, median, running, table

SIZES = {"small": (50, 50), "CT": (512, 512)}
CONNECTIONS = (1, 4, 16)
REFERENCE = {("small", 1): 257, ("small", 4): 489, ("CT", 1): 133, ("CT", 4): 256}
#: Fields of the answer that both servers give alike.
_ANSWER = ("ID", "ParentPatient", "ParentSeries", "ParentStudy", "Path", "Status")


def post(connection: Connection, body: bytes) -> dict[str, Any]:
    """Upload one object; its answer."""
    status, answer = connection.request("POST", "/instances", body)
    if status != 200:
        raise SystemExit(f"upload answered {status}: {answer[:300]!r}")
    parsed: dict[str, Any] = json.loads(answer)
    if parsed["Status"] != "Success":
        raise SystemExit(f"upload answered {parsed['Status']}")
    return parsed


def check_equal(ports: list[int], body: bytes) -> None:
    """Both servers must answer the same to the same object."""
    answers = [post(Connection(port), body) for port in ports]
    if any(answers[0][field] != other[field] for other in answers for field in _ANSWER):
        raise SystemExit(f"the answers differ: {answers}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", type=int, default=600, help="objects of 12 KB in a run")
    parser.add_argument("--large", type=int, default=200, help="objects of 525 KB in a run")
    parser.add_argument("--only", choices=["orthanctw", "Orthanc"])
    arguments = parser.parse_args()
    counts = {"small": arguments.small, "CT": arguments.large}
    names = [arguments.only] if arguments.only else ["orthanctw", "Orthanc"]
    rows: list[list[object]] = [["objects", "connections", *names, "ratio", "reference"]]
    for size, (height, width) in SIZES.items():
        source = ObjectSource(height, width)
        for connections in CONNECTIONS:
            rates: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(arguments.runs):
                for name in names:
                    bodies = [source.make(number) for number in range(counts[size] + 1)]
                    with running(name) as server:
                        post(Connection(server.port), bodies.pop())
                        elapsed = in_parallel(connections, bodies, post, server.port)
                        rates[name].append(len(bodies) / elapsed)
            medians = {name: median(values) for name, values in rates.items()}
            ratio = medians["orthanctw"] / medians["Orthanc"] if len(names) == 2 else 1.0
            row = [size, connections, *(f"{medians[name]:.0f}/s" for name in names), f"{ratio:.2f}"]
            rows.append([*row, REFERENCE.get((size, connections), "-")])
            table(rows[-1:])
    with running("orthanctw") as ours, running("Orthanc") as theirs:
        check_equal([ours.port, theirs.port], ObjectSource(50, 50).make(1))
    print()
    table(rows)


if __name__ == "__main__":
    main()
