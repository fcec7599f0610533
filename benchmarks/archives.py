"""Archive and file-set of a study of CT objects, from orthanctw and the real Orthanc in turn.

Usage: python -m benchmarks.archives [--count 200] [--runs 5]
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import time
import zipfile
from collections.abc import Mapping
from typing import Any, Final

from benchmarks.common import Connection, ObjectSource, Server, in_parallel, median, running, table

#: Of Orthanc 1.13.0, in MB/s, on the machine of the goals.
REFERENCE: Final = 12
GOAL: Final = 4
_MEGABYTE: Final = 1e6


def _fill(server: Server, objects: list[bytes]) -> str:
    """Store objects; the identifier of their study."""

    def store(connection: Connection, data: bytes) -> None:
        status, body = connection.request("POST", "/instances", data)
        if status != 200:
            raise SystemExit(f"{server.name}: {status} {body!r}")

    in_parallel(2, objects, store, server.port)
    (study,) = json.loads(Connection(server.port).request("GET", "/studies")[1])
    return str(study)


def _download(port: int, path: str) -> tuple[float, bytes]:
    """Seconds and bytes of an answer whose end is the connection's, or that is chunked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    started = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status}")
    buffer = bytearray()
    while data := answer.read(1 << 20):
        buffer += data
    elapsed = time.perf_counter() - started
    connection.close()
    return elapsed, bytes(buffer)


def _check(data: bytes, objects: list[bytes]) -> None:
    """SystemExit unless an archive holds the objects, and only they."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = sorted(archive.read(name) for name in archive.namelist() if name != "DICOMDIR")
    if found != sorted(objects):
        raise SystemExit("The archive does not hold the objects")


def _options(name: str, deflate: bool) -> Mapping[str, Any]:
    return {"Orthanctw": {"ArchiveDeflate": True}} if deflate and name == "orthanctw" else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--deflate", action="store_true", help="with ArchiveDeflate")
    options = parser.parse_args()
    source = ObjectSource(512, 512)
    objects = [source.make(number) for number in range(options.count)]
    size = sum(map(len, objects))
    rates: dict[tuple[str, str], list[float]] = {}
    with (
        running("orthanctw", **_options("orthanctw", options.deflate)) as ours,
        running("Orthanc") as theirs,
    ):
        studies = [(server, _fill(server, objects)) for server in (ours, theirs)]
        for run in range(options.runs):
            for kind in ("archive", "media"):
                for server, study in studies:
                    elapsed, data = _download(server.port, f"/studies/{study}/{kind}")
                    if run == 0:
                        _check(data, objects)
                    rates.setdefault((kind, server.name), []).append(size / _MEGABYTE / elapsed)
        memory = ours.memory()
    rows: list[tuple[object, ...]] = [("", "orthanctw MB/s", "Orthanc MB/s", "ratio", "1.13.0 MB/s", "ratio")]
    for kind in ("archive", "media"):
        mine, other = median(rates[kind, "orthanctw"]), median(rates[kind, "Orthanc"])
        rows.append(
            (kind, f"{mine:.0f}", f"{other:.1f}", f"{mine / other:.1f}", REFERENCE, f"{mine / REFERENCE:.1f}")
        )
    table(rows)
    print(f"{options.count} objects, {size / _MEGABYTE:.0f} MB; goal: {GOAL} times; memory {memory:.0f} MB")


if __name__ == "__main__":
    main()
