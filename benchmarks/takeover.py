"""``orthanctw --import`` of a folder that the real Orthanc has filled with small objects: instances a second.

The objects are of many series, each of a hundred, as an archive has them. Every run imports the same folder; the index
of the run before is removed. Prints the rate of each run, of the whole command, and the median.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import ObjectSource, in_parallel, median, running, table
from benchmarks.ingest import post

#: Objects of a series.
_SERIES = 100


def bodies(count: int) -> list[bytes]:
    """Objects of 12 KB."""
    made = []
    for first in range(0, count, _SERIES):
        series = first // _SERIES
        source = ObjectSource(
            50,
            50,
            PatientID=f"BENCH{series // 4}",
            StudyInstanceUID=f"1.2.826.0.1.3680043.9.7433.1.{series // 2}",
            SeriesInstanceUID=f"1.2.826.0.1.3680043.9.7433.2.{series}",
        )
        made += [source.make(number) for number in range(first, min(first + _SERIES, count))]
    return made


def import_folder(folder: str) -> float:
    """Seconds that the command takes."""
    storage = Path(folder, "storage")
    for path in storage.glob("orthanctw.db*"):
        path.unlink()
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "orthanctw.cli", "--import", f"{folder}/orthanc.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    elapsed = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(done.stderr + done.stdout)
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--objects", type=int, default=3000)
    parser.add_argument("--compressed", action="store_true", help="let Orthanc compress the files")
    arguments = parser.parse_args()
    objects = bodies(arguments.objects)
    with running("Orthanc", StorageCompression=arguments.compressed) as server:
        in_parallel(4, objects, post, server.port)
        folder = server.folder
    rows: list[list[object]] = [["run", "seconds", "instances/s"]]
    rates = []
    for run in range(arguments.runs):
        elapsed = import_folder(folder)
        rates.append(len(objects) / elapsed)
        rows.append([run + 1, f"{elapsed:.2f}", f"{rates[-1]:.0f}"])
    table(rows)
    print(json.dumps({"objects": len(objects), "median": round(median(rates))}))


if __name__ == "__main__":
    main()
