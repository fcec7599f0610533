"""Compare the images of orthanctw with those of the real Orthanc, for every file of pydicom and pydicom-data.

Told is what breaks the rule: the same status, shape and type; grey levels within 1, or, when the file has lost
something, less than 1 apart on average and less than 3 % of the range (of 255, or of the values of Orthanc) anywhere.
Nothing is fetched.

Usage: python -m scripts.compare_images [NAME...]
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import data_store
import numpy as np
import pydicom.data
from PIL import Image

from benchmarks.common import Connection, running
from orthanctw.dicom.pixels.syntaxes import LOSSY

KINDS = ("preview", "rendered", "image-uint8", "image-uint16", "image-int16", "numpy", "matlab")
#: The real Orthanc 1.10.1 ends on files with deep nesting.
_SKIPPED = {"bad_sequence.dcm", "nested_priv_SQ.dcm"}


_FOLDERS = (Path(pydicom.data.__file__).parent / "test_files", Path(data_store.__file__).parent / "data")

Answer = tuple[int, bytes | bytearray]


def files(names: list[str]) -> list[Path]:
    """The DICOM files of the two packages."""
    found = [path for root in _FOLDERS for path in sorted(root.rglob("*.dcm")) if path.name not in _SKIPPED]
    return [path for path in found if not names or path.name in names]


def picture(body: bytes | bytearray, kind: str) -> Any:
    """An answer as an array."""
    if kind == "numpy":
        return np.load(io.BytesIO(body))
    if kind == "matlab":
        return np.array([float(v) for v in body.replace(b";", b" ").split(b"[", 1)[1].split(b"]")[0].split()])
    return np.asarray(Image.open(io.BytesIO(body)))


def compare(ours: Answer, theirs: Answer, kind: str, lossy: bool) -> str:
    """What differs, or nothing."""
    if ours[0] != theirs[0]:
        return f"status {ours[0]}, Orthanc {theirs[0]}"
    if ours[0] != 200:
        return ""
    one, other = picture(ours[1], kind), picture(theirs[1], kind)
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{one.shape} {one.dtype}, Orthanc {other.shape} {other.dtype}"
    difference = np.abs(one.astype(np.float64) - other.astype(np.float64))
    pixels = kind in ("numpy", "matlab") or other.dtype != np.uint8
    extent = max(float(np.ptp(other)), 1.0) if pixels else 255.0
    if difference.max() <= 1 or (lossy and difference.mean() < 1 and difference.max() < 0.03 * extent):
        return ""
    return f"maximum {difference.max():g}, mean {difference.mean():.3g}, of {extent:g}"


def ask(port: int, method: str, path: str, content: bytes = b"") -> Answer:
    """An answer on a connection of its own: while one server works, the other one closes those that are idle."""
    connection = Connection(port)
    try:
        return connection.request(method, path, content)
    finally:
        connection.close()


def differences(ports: tuple[int, int], instance: str) -> dict[str, list[str]]:
    """What breaks the rule, with the kinds of images of which it does; the first port is ours."""
    lossy = ask(ports[0], "GET", f"/instances/{instance}/metadata/TransferSyntax")[1].decode("ascii") in LOSSY
    found: dict[str, list[str]] = {}
    for kind in KINDS:
        ours, theirs = (ask(port, "GET", f"/instances/{instance}/{kind}") for port in ports)
        if told := compare(ours, theirs, kind, lossy):
            found.setdefault(told, []).append(kind)
    return found


def main() -> None:
    with running("orthanctw") as ours, running("Orthanc") as theirs:
        ports, compared = (ours.port, theirs.port), 0
        for path in files(sys.argv[1:]):
            answers = [ask(port, "POST", "/instances", path.read_bytes()) for port in ports]
            if any(status != 200 for status, _ in answers):
                continue
            instance = json.loads(answers[0][1])["ID"]
            compared += len(KINDS)
            for told, kinds in differences(ports, instance).items():
                print(f"{path.name}: {told}: {', '.join(kinds)}", flush=True)
            # Several files are the same object in another form.
            for port in ports:
                ask(port, "DELETE", f"/instances/{instance}")
    print(f"{compared} answers compared")


if __name__ == "__main__":
    main()
