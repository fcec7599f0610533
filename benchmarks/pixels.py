"""Images: orthanctw and the real Orthanc on the same objects, in turn.

Previews and rendered frames of CT objects as PNG, and files in another transfer syntax, on 4 connections, each object
asked for once; and the numbers of a series. Prints medians, their ratio, and that to Orthanc 1.13.0 on a like machine
(`reference`). Ours does without its caches; `warm` is one with caches that have seen it all. Orthanc 1.10.1 has no
route for a file in another transfer syntax: there the instance is modified to have it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from PIL import Image
from pydicom import dcmread

from benchmarks.common import Connection, ObjectSource, Server, in_parallel, median, running, table
from benchmarks.ingest import post

REFERENCE = {"preview": 26, "series numpy": 2.9}
SYNTAXES = {"JPEG-LS": "1.2.840.10008.1.2.4.80", "JPEG Lossless": "1.2.840.10008.1.2.4.70"}
WARM = "orthanctw warm"
WITHOUT_CACHES = {"DicomParserCacheSize": 0, "TranscoderCacheSize": 0, "MaximumStorageCacheSize": 0}

#: Method, path and body for an instance of a server.
Request = Callable[[Server, str], tuple[str, str, bytes]]


def ct_pixels() -> bytes:
    """12 bits that look like a CT: something round and smooth, with noise."""
    rows, columns = np.mgrid[0:512, 0:512]
    distance = np.hypot(rows - 256, columns - 256)
    smooth = np.where(distance < 220, 1000 + 200 * np.cos(distance / 20), 24)
    noise = np.random.default_rng(1).integers(-20, 20, (512, 512))
    pixels: bytes = np.clip(smooth + noise, 0, 4095).astype("<u2").tobytes()
    return pixels


def picture(kind: str) -> Request:
    """A request for an image of each instance."""
    return lambda server, identifier: ("GET", f"/instances/{identifier}/{kind}", b"")


def transcoded(syntax: str) -> Request:
    """A request for each instance in another transfer syntax; what comes nearest to it in Orthanc 1.10.1."""

    def request(server: Server, identifier: str) -> tuple[str, str, bytes]:
        if server.name != "Orthanc":
            return "GET", f"/instances/{identifier}/file?transcode={syntax}", b""
        what = {"Transcode": syntax, "Keep": ["SOPInstanceUID"], "Force": True}
        return "POST", f"/instances/{identifier}/modify", json.dumps(what).encode("ascii")

    return request


def each(server: Server, ids: list[str], request: Request) -> float:
    """Answers a second, each object once, on 4 connections."""

    def get(connection: Connection, identifier: str) -> None:
        method, path, content = request(server, identifier)
        status, body = connection.request(method, path, content)
        if status != 200 or not body:
            raise SystemExit(f"{server.name}: {path}: {status} {body[:200]!r}")

    return len(ids) / in_parallel(4, ids, get, server.port)


def series_numpy(server: Server, series: str, count: int) -> float:
    """Arrays of a whole series a second."""
    started = time.perf_counter()
    status, body = Connection(server.port).request("GET", f"/series/{series}/numpy")
    elapsed = time.perf_counter() - started
    if status != 200 or np.load(io.BytesIO(body)).shape != (count, 512, 512, 1):
        raise SystemExit(f"{server.name}: series numpy: {status}")
    return 1 / elapsed


def check_equal(servers: list[Server], identifier: str) -> None:
    """All must show the same, and transcode to the same pixels."""

    def answers(request: Request) -> Iterator[io.BytesIO]:
        for server in servers:
            status, body = Connection(server.port).request(*request(server, identifier))
            if status != 200:
                raise SystemExit(f"{server.name}: {status} {body[:200]!r}")
            yield io.BytesIO(body)

    for kind in ("preview", "rendered"):
        pictures = [np.asarray(Image.open(file)).astype(int) for file in answers(picture(kind))]
        if any(np.abs(pictures[0] - other).max() > 1 for other in pictures):
            raise SystemExit(f"{kind}: the pictures differ")
    for name, syntax in SYNTAXES.items():
        files = [dcmread(file) for file in answers(transcoded(syntax))]
        if any(file.file_meta.TransferSyntaxUID != syntax or file.PixelData == b"" for file in files):
            raise SystemExit(f"{name}: not in this transfer syntax")
        if any(not np.array_equal(files[0].pixel_array, file.pixel_array) for file in files):
            raise SystemExit(f"{name}: the pixels differ")


def measures(ids: list[str], series: str) -> dict[str, Callable[[Server], float]]:
    """What is measured, in answers a second."""

    def rate(request: Request) -> Callable[[Server], float]:
        return lambda server: each(server, ids, request)

    return {
        "preview": rate(picture("preview")),
        "rendered": rate(picture("rendered")),
        "series numpy": lambda server: series_numpy(server, series, len(ids)),
        **{f"file in {name}": rate(transcoded(syntax)) for name, syntax in SYNTAXES.items()},
    }


def report(rates: Mapping[tuple[str, str], list[float]], names: list[str]) -> None:
    """Print medians, and the ratio of the first two."""
    rows: list[list[object]] = [["what", *names, "ratio", "reference", "ratio"]]
    for what in dict.fromkeys(what for what, _ in rates):
        values = [median(rates[what, name]) for name in names]
        known = REFERENCE.get(what)
        ratio = f"{values[0] / values[1]:.1f}" if "Orthanc" in names[1:2] else "-"
        to_known = ["-", "-"] if known is None else [f"{known}/s", f"{values[0] / known:.1f}"]
        rows.append([what, *(f"{value:.1f}/s" for value in values), ratio, *to_known])
    table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--only", choices=["orthanctw", "Orthanc"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    source = ObjectSource(512, 512, PixelData=ct_pixels())
    bodies = [source.make(number) for number in range(arguments.objects)]
    rates: dict[tuple[str, str], list[float]] = {}
    with contextlib.ExitStack() as stack:
        servers = []
        for name, options in (("orthanctw", WITHOUT_CACHES), ("Orthanc", {}), ("orthanctw", {})):
            if arguments.only in (None, name):
                servers.append(stack.enter_context(running(name, **options)))
        if len(servers) > 1 and arguments.only != "Orthanc":
            servers[-1].name = WARM
        for server in servers:
            answers = [post(Connection(server.port), body) for body in bodies]
        ids, series = [answer["ID"] for answer in answers], answers[0]["ParentSeries"]
        check_equal(servers, ids[0])
        for what, measure in measures(ids, series).items():
            for server in servers:
                if server.name == WARM:
                    measure(server)
            for _ in range(arguments.runs):
                for server in servers:
                    rates.setdefault((what, server.name), []).append(measure(server))
    report(rates, [server.name for server in servers])


if __name__ == "__main__":
    main()
