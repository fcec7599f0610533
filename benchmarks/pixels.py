"""Images: orthanctw and the real Orthanc on the same objects, in turn.

Previews and rendered frames of CT objects as PNG on 4 connections, each object asked for once, and the numbers of a
series. Prints medians and ratios; `reference` is the rate of Orthanc 1.13.0 on a like machine.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from benchmarks.common import Connection, ObjectSource, Server, in_parallel, median, running, table
from benchmarks.ingest import post

REFERENCE = {"preview": "26/s", "series numpy": "2.9/s"}


def ct_pixels() -> bytes:
    """12 bits that look like a CT: something round and smooth, with noise."""
    rows, columns = np.mgrid[0:512, 0:512]
    distance = np.hypot(rows - 256, columns - 256)
    smooth = np.where(distance < 220, 1000 + 200 * np.cos(distance / 20), 24)
    noise = np.random.default_rng(1).integers(-20, 20, (512, 512))
    pixels: bytes = np.clip(smooth + noise, 0, 4095).astype("<u2").tobytes()
    return pixels


def each(server: Server, ids: list[str], path: str) -> float:
    """Answers a second, each object once, on 4 connections."""

    def get(connection: Connection, identifier: str) -> None:
        status, body = connection.request("GET", path.format(identifier))
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
    """Both must show the same."""
    for kind in ("preview", "rendered"):
        found = [Connection(s.port).request("GET", f"/instances/{identifier}/{kind}")[1] for s in servers]
        pictures = [np.asarray(Image.open(io.BytesIO(body))).astype(int) for body in found]
        if any(np.abs(pictures[0] - other).max() > 1 for other in pictures):
            raise SystemExit(f"{kind}: the pictures differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--objects", type=int, default=100)
    parser.add_argument("--only", choices=["orthanctw", "Orthanc"])
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else ["orthanctw", "Orthanc"]
    source = ObjectSource(512, 512, PixelData=ct_pixels())
    bodies = [source.make(number) for number in range(arguments.objects)]
    rates: dict[str, dict[str, list[float]]] = {}
    with running(names[0]) as first, running(names[-1]) as last:
        servers = [first, last][: len(names)]
        for server in servers:
            answers = [post(Connection(server.port), body) for body in bodies]
        ids, series = [answer["ID"] for answer in answers], answers[0]["ParentSeries"]
        check_equal(servers, ids[0])
        measures: dict[str, Callable[[Server], float]] = {
            "preview": lambda server: each(server, ids, "/instances/{}/preview"),
            "rendered": lambda server: each(server, ids, "/instances/{}/rendered"),
            "series numpy": lambda server: series_numpy(server, series, len(ids)),
        }
        for what, measure in measures.items():
            for _ in range(arguments.runs):
                for server in servers:
                    rates.setdefault(what, {}).setdefault(server.name, []).append(measure(server))
    rows: list[list[object]] = [["what", *names, "ratio", "reference"]]
    for what, found in rates.items():
        values = [median(found[name]) for name in names]
        shown = [f"{value:.1f}/s" for value in values]
        rows.append([what, *shown, f"{values[0] / values[-1]:.1f}", REFERENCE.get(what, "-")])
    table(rows)


if __name__ == "__main__":
    main()
