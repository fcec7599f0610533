"""C-STORE by DCMTK's unmodified ``storescu``: orthanctw and the real Orthanc on the same objects, in turn.

Objects of 12 KB and 525 KB, 1, 4 and 16 associations. Prints the median rate of each and the ratio; `reference` is
the rate of Orthanc 1.13.0 on a like machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

from benchmarks.common import Connection, ObjectSource, Server, median, running, table, temporary_folder
from benchmarks.ingest import SIZES

ASSOCIATIONS = (1, 4, 16)
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


def send(server: Server, folders: list[Path]) -> float:
    """Seconds until every sender has ended with success."""
    command = [STORESCU, "--scan-directories", "127.0.0.1", str(server.dicom_port)]
    started = time.perf_counter()
    senders = [
        subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for folder in folders
    ]
    for sender in senders:
        _, errors = sender.communicate()
        if sender.returncode or errors.strip():
            raise SystemExit(f"storescu failed: {errors[:500]!r}")
    return time.perf_counter() - started


def check(server: Server, expected: int) -> None:
    """Everything that was sent must be there."""
    _, body = Connection(server.port).request("GET", "/statistics")
    if json.loads(body)["CountInstances"] != expected:
        raise SystemExit(f"{server.name} has {body!r} in place of {expected} instances")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", type=int, default=320, help="objects of 12 KB in a run")
    parser.add_argument("--large", type=int, default=160, help="objects of 525 KB in a run")
    parser.add_argument("--only", choices=["orthanctw", "Orthanc"])
    arguments = parser.parse_args()
    counts = {"small": arguments.small, "CT": arguments.large}
    names = [arguments.only] if arguments.only else ["orthanctw", "Orthanc"]
    rows: list[list[object]] = [["objects", "associations", *names, "ratio", "reference", "to it"]]
    for size, (height, width) in SIZES.items():
        source = ObjectSource(height, width)
        for associations in ASSOCIATIONS:
            rates: dict[str, list[float]] = {name: [] for name in names}
            folders = write_objects(Path(temporary_folder("bench-objects-")), source, associations, counts[size])
            for _ in range(arguments.runs):
                for name in names:
                    with running(name, DicomServerEnabled=True) as server:
                        elapsed = send(server, folders)
                        check(server, counts[size])
                        rates[name].append(counts[size] / elapsed)
            medians = {name: median(values) for name, values in rates.items()}
            ratio = medians[names[0]] / medians[names[-1]]
            reference = REFERENCE.get((size, associations))
            to_it = f"{medians[names[0]] / reference:.1f}" if reference else "-"
            rates_text = [f"{medians[name]:.0f}/s" for name in names]
            rows.append([size, associations, *rates_text, f"{ratio:.1f}", reference or "-", to_it])
            table(rows[-1:])
    print()
    table(rows)


if __name__ == "__main__":
    main()
