"""Archive, transcoded archive and file-set of a study of CT objects, from orthanctw and the real Orthanc in turn.

Rates are of the bytes that lie in the server. Pixels of the transcoded study look like a CT; the others are noise, that
nothing makes smaller. Ours does without its caches.

Usage: python -m benchmarks.archives [--count 200] [--runs 5]
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import time
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any, Final

from pydicom import dcmread

from benchmarks.common import Connection, ObjectSource, Server, in_parallel, median, running, table
from benchmarks.pixels import WITHOUT_CACHES, ct_pixels

#: Of Orthanc 1.13.0, in MB/s, on the machine of the goals.
REFERENCE: Final = 12
GOAL: Final = 4
SYNTAX: Final = "1.2.840.10008.1.2.4.80"
KINDS: Final = {"archive": "archive", "media": "media", "in JPEG-LS": f"archive?transcode={SYNTAX}"}
_MEGABYTE: Final = 1e6


def fill(server: Server, objects: list[bytes]) -> str:
    """Store objects; the identifier of their study."""
    studies = set()

    def store(connection: Connection, data: bytes) -> None:
        status, body = connection.request("POST", "/instances", data)
        if status != 200:
            raise SystemExit(f"{server.name}: {status} {body!r}")
        studies.add(str(json.loads(body)["ParentStudy"]))

    in_parallel(2, objects, store, server.port)
    (study,) = studies
    return study


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


def _pixels(data: bytes) -> tuple[str, bytes]:
    """The instance of a file, and its pixels."""
    dataset = dcmread(io.BytesIO(data))
    return str(dataset.SOPInstanceUID), dataset.pixel_array.tobytes()


def _check_transcoded(data: bytes, objects: list[bytes]) -> None:
    """SystemExit unless an archive holds the objects in the other transfer syntax, with the same pixels."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = [archive.read(name) for name in archive.namelist()]
    if any(dcmread(io.BytesIO(file)).file_meta.TransferSyntaxUID != SYNTAX for file in files):
        raise SystemExit("The archive is not transcoded")
    if dict(map(_pixels, files)) != dict(map(_pixels, objects)):
        raise SystemExit("The archive does not hold the pixels")


def _options(deflate: bool) -> Mapping[str, Any]:
    return {**WITHOUT_CACHES, **({"Orthanctw": {"ArchiveDeflate": True}} if deflate else {})}


def _report(rates: Mapping[tuple[str, str], list[float]]) -> None:
    rows: list[tuple[object, ...]] = [("", "orthanctw MB/s", "Orthanc MB/s", "ratio", "1.13.0 MB/s", "ratio")]
    for kind in KINDS:
        mine, other = median(rates[kind, "orthanctw"]), median(rates[kind, "Orthanc"])
        # The archive is what was measured.
        known = (REFERENCE, f"{mine / REFERENCE:.1f}") if kind == "archive" else ("-", "-")
        rows.append((kind, f"{mine:.0f}", f"{other:.1f}", f"{mine / other:.1f}", *known))
    table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--deflate", action="store_true", help="with ArchiveDeflate")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    sources = (ObjectSource(512, 512), ObjectSource(512, 512, PixelData=ct_pixels(), StudyInstanceUID="1.2.3"))
    noise, smooth = ([source.make(number) for number in range(options.count)] for source in sources)
    rates: dict[tuple[str, str], list[float]] = {}
    with running("orthanctw", **_options(options.deflate)) as ours, running("Orthanc") as theirs:
        studies = [(server, fill(server, noise), fill(server, smooth)) for server in (ours, theirs)]
        for run in range(options.runs):
            for kind, path in KINDS.items():
                objects, check = (smooth, _check_transcoded) if "transcode" in path else (noise, _check)
                for server, *found in studies:
                    elapsed, data = _download(server.port, f"/studies/{found[objects is smooth]}/{path}")
                    if run == 0:
                        check(data, objects)
                    rates.setdefault((kind, server.name), []).append(sum(map(len, objects)) / _MEGABYTE / elapsed)
        memory = ours.memory()
    _report(rates)
    size = sum(map(len, noise)) / _MEGABYTE
    print(f"{options.count} objects, {size:.0f} MB; goal: {GOAL} times; memory {memory:.0f} MB")


if __name__ == "__main__":
    main()
