"""An object of 2 GB up and down: how fast, and in how much memory of the server.

Usage: python -m benchmarks.large [--frames N] [--orthanc]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from benchmarks.common import running, table
from test.rest_samples import LargeObject, peak_memory
from test.test_rest_large import download, upload

#: Resident memory that the server may reach, in MB.
LIMIT = 200


def timed(size: int, work: Callable[[], object]) -> str:
    """How fast `work` moves `size` bytes."""
    started = time.perf_counter()
    work()
    return f"{size / 1e6 / (time.perf_counter() - started):.0f} MB/s"


def measure(name: str, large: LargeObject) -> tuple[object, ...]:
    with running(name) as server:
        answers: list[bytes] = []
        up = timed(large.size, lambda: answers.append(upload(server.port, large)))
        path = f"/instances/{json.loads(answers[0])['ID']}/file"
        down = timed(large.size, lambda: download(server.port, path))
        if download(server.port, path) != (large.size, large.md5()):
            raise SystemExit(f"{name} gives back something else")
        memory = peak_memory(server.process.pid)
    if name == "orthanctw" and memory > LIMIT:
        raise SystemExit(f"{memory} MB of memory are more than {LIMIT}")
    return name, f"{large.size / 1e9:.2f} GB", up, down, f"{memory} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1000, help="frames of 2 MB")
    parser.add_argument("--orthanc", action="store_true", help="the real Orthanc too: it needs much memory")
    options = parser.parse_args()
    large = LargeObject(options.frames)
    names = ["orthanctw", *(["Orthanc"] if options.orthanc else [])]
    table([("server", "object", "up", "down", "memory"), *(measure(name, large) for name in names)])


if __name__ == "__main__":
    main()
