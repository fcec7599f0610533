"""Worklists: orthanctw and the real Orthanc with its worklist plugin on the same folder, in turn.

DCMTK's ``findscu`` asks for one station on one day among many worklists, then for all of a day by a range, again and
again on one association. Prints milliseconds a query (the first one, which reads the files, and the median of the
others) and the ratio. The answers must be equal.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.common import Server, median, running, table, temporary_folder

FINDSCU = "/usr/bin/findscu"
STATIONS, DAYS = 50, 20
STEP = "ScheduledProcedureStepSequence[0]."
QUERIES = {
    "station and day": ("ScheduledStationAETitle=STATION7", "ScheduledProcedureStepStartDate=20240108"),
    "range of days": ("ScheduledStationAETitle", "ScheduledProcedureStepStartDate=20240108-20240108"),
}


def write_worklists(folder: str, count: int) -> None:
    """Files of some 1.5 KB, all of them long ago."""
    for number in range(count):
        dataset = _worklist(number)
        dataset.save_as(f"{folder}/{number:06d}.wl", enforce_file_format=True)


def _worklist(number: int) -> Dataset:
    step = Dataset()
    step.Modality = "CT"
    step.ScheduledStationAETitle = f"STATION{number % STATIONS}"
    step.ScheduledProcedureStepStartDate = f"202401{number // STATIONS % DAYS + 1:02d}"
    step.ScheduledProcedureStepStartTime = "101500"
    step.ScheduledPerformingPhysicianName = "SMITH^JOHN"
    step.ScheduledProcedureStepDescription = "HEAD WITHOUT CONTRAST"
    step.ScheduledProcedureStepID = f"SPS{number}"
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = f"FAMILY{number}^GIVEN", f"ID{number}"
    dataset.PatientBirthDate, dataset.PatientSex, dataset.AccessionNumber = "19700101", "O", f"ACC{number}"
    dataset.ReferringPhysicianName, dataset.RequestedProcedureDescription = "JONES^MARY", "CT HEAD"
    dataset.RequestedProcedureID, dataset.StudyInstanceUID = f"RP{number}", f"1.2.826.0.1.3680043.9.7433.8.{number}"
    dataset.MedicalAlerts, dataset.Allergies, dataset.PatientWeight = "NONE", "NONE", "70"
    dataset.ScheduledProcedureStepSequence = [step]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.9.7433.8.1.{number}"
    return dataset


def ask(server: Server, keys: tuple[str, ...], *options: str) -> float:
    """Seconds of a run of ``findscu``."""
    wanted = ["PatientID", "PatientName", "AccessionNumber", *(STEP + key for key in keys)]
    arguments = [argument for key in wanted for argument in ("-k", key)]
    command = [FINDSCU, "-W", *options, "-aet", "BENCH", "-aec", "ORTHANC", *arguments, "127.0.0.1"]
    started = time.perf_counter()
    ran = subprocess.run([*command, str(server.dicom_port)], capture_output=True, text=True, check=False)
    if ran.returncode or "E:" in ran.stderr:
        raise SystemExit(f"findscu failed: {ran.stderr[-500:]}")
    return time.perf_counter() - started


def answers(server: Server, keys: tuple[str, ...]) -> list[str]:
    """What a query finds."""
    folder = temporary_folder("bench-answers-")
    ask(server, keys, "-X", "-od", folder)
    found = [pydicom.dcmread(path, force=True) for path in Path(folder).iterdir()]
    for dataset in found:
        # Each names the one it likes.
        dataset.pop("SpecificCharacterSet", None)
    return sorted(str(dataset.to_json_dict()) for dataset in found)


def measure(name: str, options: dict[str, Any], repeat: int) -> dict[str, tuple[float, float, list[str]]]:
    """Milliseconds of the first query and of each further one, and the answers, by query."""
    figures = {}
    with running(name, **options) as server:
        for query, keys in QUERIES.items():
            first = ask(server, keys)
            once = median([ask(server, keys) for _ in range(3)])
            many = ask(server, keys, "--repeat", str(repeat + 1))
            figures[query] = (first * 1000, (many - once) * 1000 / repeat, answers(server, keys))
    return figures


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worklists", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=20, help="queries on an association")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    folder = temporary_folder("bench-worklists-")
    write_worklists(folder, arguments.worklists)
    # Nothing in it is young any more.
    time.sleep(2)
    options = {
        "DicomServerEnabled": True,
        "DicomAlwaysAllowFindWorklist": True,
        "Worklists": {"Enable": True, "Database": folder},
    }
    plugin = {"Plugins": ["/usr/share/orthanc/plugins/libModalityWorklists.so"]}
    runs: dict[str, list[dict[str, tuple[float, float, list[str]]]]] = {"orthanctw": [], "Orthanc": []}
    for _ in range(arguments.runs):
        runs["orthanctw"].append(measure("orthanctw", options, arguments.repeat))
        runs["Orthanc"].append(measure("Orthanc", {**options, **plugin}, arguments.repeat))
    print(f"{arguments.worklists} worklists, {os.cpu_count()} cores, milliseconds")
    rows: list[tuple[object, ...]] = [("query", "answers", "first", "ours", "Orthanc first", "Orthanc", "ratio")]
    for query in QUERIES:
        ours, theirs = ([run[query] for run in runs[name]] for name in ("orthanctw", "Orthanc"))
        if any(run[2] != ours[0][2] for run in (*ours, *theirs)):
            raise SystemExit(f"{query}: the answers differ")
        figures = [median([run[column] for run in side]) for side in (ours, theirs) for column in (0, 1)]
        shown = [f"{figure:.1f}" for figure in figures]
        rows.append((query, len(ours[0][2]), *shown, f"{figures[3] / figures[1]:.0f}"))
    table(rows)


if __name__ == "__main__":
    main()
