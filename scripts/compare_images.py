"""Compare the images of orthanctw with those of the real Orthanc, for every file of pydicom's wheel.

Usage: python -m scripts.compare_images [NAME...]
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
from PIL import Image

from benchmarks.common import Connection, running

KINDS = ("preview", "rendered", "image-uint8", "image-uint16", "image-int16", "numpy", "matlab")
#: The real Orthanc 1.10.1 ends on files with deep nesting.
_SKIPPED = {"bad_sequence.dcm", "nested_priv_SQ.dcm"}


def files(names: list[str]) -> list[Path]:
    """The DICOM files of pydicom's wheel."""
    root = Path(pydicom.data.__file__).parent / "test_files"
    found = [path for path in sorted(root.rglob("*.dcm")) if path.name not in _SKIPPED]
    return [path for path in found if not names or path.name in names]


def picture(body: bytes, kind: str) -> Any:
    """An answer as an array."""
    if kind == "numpy":
        return np.load(io.BytesIO(body))
    if kind == "matlab":
        return np.array([float(v) for v in body.replace(b";", b" ").split(b"[", 1)[1].split(b"]")[0].split()])
    return np.asarray(Image.open(io.BytesIO(body)))


def compare(ours: tuple[int, bytes], theirs: tuple[int, bytes], kind: str) -> str:
    """What differs, or nothing."""
    if ours[0] != theirs[0]:
        return f"status {ours[0]}, Orthanc {theirs[0]}"
    if ours[0] != 200:
        return ""
    one, other = picture(ours[1], kind), picture(theirs[1], kind)
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{one.shape} {one.dtype}, Orthanc {other.shape} {other.dtype}"
    difference = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return "" if difference.max() <= 1 else f"maximum {difference.max():g}, mean {difference.mean():.3g}"


def main() -> None:
    with running("orthanctw") as ours, running("Orthanc") as theirs:
        mine, other = Connection(ours.port), Connection(theirs.port)
        compared = 0
        for path in files(sys.argv[1:]):
            status, answer = mine.request("POST", "/instances", path.read_bytes())
            their_status, _ = other.request("POST", "/instances", path.read_bytes())
            if status != 200 or their_status != 200:
                continue
            instance = json.loads(answer)["ID"]
            for kind in KINDS:
                compared += 1
                found = compare(
                    mine.request("GET", f"/instances/{instance}/{kind}"),
                    other.request("GET", f"/instances/{instance}/{kind}"),
                    kind,
                )
                if found:
                    print(f"{path.name}: {kind}: {found}")
            # Several files are the same object in another form.
            for connection in (mine, other):
                connection.request("DELETE", f"/instances/{instance}")
    print(f"{compared} answers compared")


if __name__ == "__main__":
    main()
