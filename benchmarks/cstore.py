"""C-STORE by DCMTK's unmodified ``storescu``: orthanctw and the real Orthanc on the same objects, in turn.

Objects of 12 KB and 525 KB, 1, 4 and 16 associations. Prints the median rate of each and the ratio; `reference` is
the rate of Orthanc 1.13.0 on a like machine. The more associations, the more objects: else the start of the senders,
which needs the same two cores, is what is measured. At the end a crowd of senders starts at once, and the times of the
first and the last to be done are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import threading
import time
from pathlib import Path

from benchmarks.common import Connection, ObjectSource, Server, median, running, table, temporary_folder
from benchmarks.ingest import SIZES

#: Objects in a run by size and number of associations.
COUNTS = {
    "small": {1: 320, 4: 960, 16: 2400},
    "CT": {1: 160, 4: 640, 16: 1600},
}
#: Senders of the crowd, and what each sends.
CROWD = (50, 20)
REFERENCE = {("small", 1): 11, ("CT", 1): 18, ("CT", 4): 58}
STORESCU = "/usr/bin/storescu"


def write_objects(folder: Path, source: ObjectSource, associations: int, total: int) -> list[Path]:
    """A folder of objects for each association."""
    folders = []
    for number in range(associations):
        own = folder / str(number)
        own.mkdir(parents=True)
        for item in range(number, total, associations):
            (own / f"{item}.dcm").write_bytes(source.make(item))
        folders.append(own)
    return folders


def send(server: Server, folders: list[Path]) -> list[float]:
    """Seconds until each sender has ended with success, in the order of their ends."""
    command = [STORESCU, "--scan-directories", "127.0.0.1", str(server.dicom_port)]
    ends: list[float] = []
    failures: list[str] = []
    started = time.perf_counter()

    def run(folder: Path) -> None:
        done = subprocess.run([*command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        ends.append(time.perf_counter() - started)
        if done.returncode or done.stderr.strip():
            failures.append(repr(done.stderr[:500]))

    threads = [threading.Thread(target=run, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"{len(failures)} storescu failed: {failures[0]}")
    return ends


def check(server: Server, expected: int) -> None:
    """Everything that was sent must be there."""
    _, body = Connection(server.port).request("GET", "/statistics")
    if json.loads(body)["CountInstances"] != expected:
        raise SystemExit(f"{server.name} has {body!r} in place of {expected} instances")


def crowd(names: list[str]) -> None:
    """Many senders at once."""
    senders, objects = CROWD
    folders = write_objects(
        Path(temporary_folder("bench-objects-")), ObjectSource(*SIZES["small"]), senders, senders * objects
    )
    for name in names:
        with running(name, DicomServerEnabled=True) as server:
            ends = send(server, folders)
            check(server, senders * objects)
        print(f"{name}: {senders} senders of {objects} objects; first {ends[0]:.2f} s, last {ends[-1]:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["orthanctw", "Orthanc"])
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else ["orthanctw", "Orthanc"]
    rows: list[list[object]] = [["objects", "associations", *names, "ratio", "reference", "to it"]]
    for size, (height, width) in SIZES.items():
        source = ObjectSource(height, width)
        for associations, count in COUNTS[size].items():
            rates: dict[str, list[float]] = {name: [] for name in names}
            folders = write_objects(Path(temporary_folder("bench-objects-")), source, associations, count)
            for _ in range(arguments.runs):
                for name in names:
                    with running(name, DicomServerEnabled=True) as server:
                        elapsed = send(server, folders)[-1]
                        check(server, count)
                        rates[name].append(count / elapsed)
            medians = {name: median(values) for name, values in rates.items()}
            ratio = medians[names[0]] / medians[names[-1]]
            reference = REFERENCE.get((size, associations))
            to_it = f"{medians[names[0]] / reference:.1f}" if reference else "-"
            rates_text = [f"{medians[name]:.0f}/s" for name in names]
            rows.append([size, associations, *rates_text, f"{ratio:.1f}", reference or "-", to_it])
            table(rows[-1:])
    print()
    table(rows)
    crowd(names)


if __name__ == "__main__":
    main()
