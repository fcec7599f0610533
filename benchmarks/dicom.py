"""Query and retrieve: orthanctw and the real Orthanc on the same objects, in turn.

C-FIND of one study among many by ``findscu``; C-GET by ``getscu``, C-MOVE by ``movescu`` and C-STORE through the REST
API of a study of CT objects, the last two to DCMTK's ``storescp``. Prints medians and ratios; `reference` is the figure
of Orthanc 1.13.0 on a like machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.common import (
    Connection,
    ObjectSource,
    Server,
    free_port,
    in_parallel,
    median,
    running,
    table,
    temporary_folder,
)
from benchmarks.ingest import post

DCMTK = "/usr/bin/"
AET = "ORTHANC"
STUDY = "1.2.826.0.1.3680043.9.7433.1"
REFERENCE = {"C-GET": "20/s", "C-STORE SCU": "16/s"}
#: Figures of orthanctw and Orthanc by what was done.
Figures = dict[str, list[float]]


def dcmtk(tool: str, port: int, *arguments: str) -> str:
    """Run one of DCMTK's tools to its success; what it prints."""
    command = [DCMTK + tool, *arguments, "-aec", AET, "127.0.0.1", str(port)]
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    output = ran.stdout + ran.stderr
    if ran.returncode or "Failed" in output:
        raise SystemExit(f"{tool} failed: {output[-500:]}")
    return output


@contextlib.contextmanager
def storescp(folder: str, port: int) -> Iterator[None]:
    """DCMTK's receiver, which keeps what it receives."""
    command = [DCMTK + "storescp", "-od", folder, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def check_received(folder: str, objects: int) -> None:
    """Everything must have arrived, whole."""
    sizes = [entry.stat().st_size for entry in os.scandir(folder)]
    if len(sizes) != objects or min(sizes) < 512 * 512 * 2:
        raise SystemExit(f"{len(sizes)} objects have arrived in place of {objects}")


def load(server: Server, studies: int, objects: int) -> str:
    """One study of CT objects, and many small ones; the identifier of the first."""
    source = ObjectSource(512, 512)
    study: str = post(Connection(server.port), source.make(0))["ParentStudy"]
    in_parallel(4, range(1, objects), lambda c, n: post(c, source.make(n)), server.port)
    small = [
        ObjectSource(
            4,
            4,
            PatientID=f"P{number:05d}",
            PatientName=f"NAME{number:05d}^BENCH",
            StudyInstanceUID=f"{STUDY}.{number}",
            SeriesInstanceUID=f"{STUDY}.{number}.1",
            AccessionNumber=f"ACC{number:05d}",
        ).make(10_000 + number)
        for number in range(studies)
    ]
    in_parallel(4, small, post, server.port)
    return study


def finding(server: Server, studies: int) -> tuple[float, str]:
    """Seconds of one C-FIND by a raw association, and its answer."""
    from pydicom.dataset import Dataset
    from pynetdicom import AE

    entity = AE(ae_title="BENCH")
    model = "1.2.840.10008.5.1.4.1.2.2.1"
    entity.add_requested_context(model)
    association = entity.associate("127.0.0.1", server.dicom_port, ae_title=AET)
    times = []
    found = ""
    for number in range(1, studies, max(1, studies // 50)):
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", f"{STUDY}.{number}"
        query.PatientName = query.ModalitiesInStudy = query.AccessionNumber = ""
        started = time.perf_counter()
        answers = [answer for status, answer in association.send_c_find(query, model) if status.Status == 0xFF00]
        times.append(time.perf_counter() - started)
        if len(answers) != 1:
            raise SystemExit(f"{server.name}: {len(answers)} answers to a C-FIND")
        found += str(answers[0].PatientName) + str(answers[0].ModalitiesInStudy)
    association.release()
    return median(times), found


def measure(server: Server, studies: int, objects: int, runs: int, figures: dict[str, float], target: int) -> str:
    """Fill in the figures of one server; what its C-FINDs found."""
    study = load(server, studies, objects)
    figures["C-FIND"], found = finding(server, studies)
    keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}")
    rates: Figures = {"C-GET": [], "C-MOVE": [], "C-STORE SCU": []}
    for _ in range(runs):
        folder = temporary_folder("bench-get-")
        started = time.perf_counter()
        dcmtk("getscu", server.dicom_port, *keys, "-od", folder)
        rates["C-GET"].append(objects / (time.perf_counter() - started))
        check_received(folder, objects)
        received = temporary_folder("bench-move-")
        with storescp(received, target):
            started = time.perf_counter()
            output = dcmtk("movescu", server.dicom_port, "-v", "-aem", "TARGET", *keys)
            rates["C-MOVE"].append(objects / (time.perf_counter() - started))
            if "Final Move Response (Success)" not in output:
                raise SystemExit(f"{server.name}: {output[-300:]}")
        check_received(received, objects)
        received = temporary_folder("bench-store-")
        with storescp(received, target):
            started = time.perf_counter()
            status, answer = Connection(server.port).request("POST", "/modalities/target/store", study.encode())
            rates["C-STORE SCU"].append(objects / (time.perf_counter() - started))
            if status != 200 or json.loads(answer)["InstancesCount"] != objects:
                raise SystemExit(f"{server.name}: {answer[:300]!r}")
        check_received(received, objects)
    figures.update({name: median(values) for name, values in rates.items()})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--studies", type=int, default=10000)
    parser.add_argument("--objects", type=int, default=200, help="CT objects of the study that is retrieved")
    parser.add_argument("--only", choices=["orthanctw", "Orthanc"])
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else ["orthanctw", "Orthanc"]
    figures: dict[str, dict[str, float]] = {name: {} for name in names}
    found = set()
    for name in names:
        target = free_port()
        options: dict[str, Any] = {
            "DicomServerEnabled": True,
            "DicomAet": AET,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {"target": ["TARGET", "127.0.0.1", target]},
        }
        with running(name, **options) as server:
            found.add(
                measure(server, arguments.studies, arguments.objects, arguments.runs, figures[name], target)
            )
    if len(found) != 1:
        raise SystemExit("the answers to C-FIND differ")
    rows: list[list[object]] = [["what", *names, "ratio", "reference"]]
    for what in figures[names[0]]:
        ours, theirs = figures[names[0]][what], figures[names[-1]][what]
        is_time = what == "C-FIND"
        shown = [f"{value * 1000:.1f} ms" if is_time else f"{value:.0f}/s" for value in (ours, theirs)][: len(names)]
        rows.append([what, *shown, f"{theirs / ours if is_time else ours / theirs:.1f}", REFERENCE.get(what, "-")])
    table(rows)


if __name__ == "__main__":
    main()
