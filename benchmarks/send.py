"""C-STORE of CT objects from our SCU to DCMTK's ``storescp``, one after the other over one association.

Usage: python -m benchmarks.send [--count 200] [--runs 3]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.task import react

from benchmarks.common import ObjectSource, free_port, temporary_folder
from orthanctw.dicom.scu.scu import DicomScu
from orthanctw.errors import OrthancError
from orthanctw.remote import Outgoing, Remote

_CT = "1.2.840.10008.5.1.4.1.1.2"
_PIXELS = 512 * 512 * 2
_EXPLICIT = "1.2.840.10008.1.2.1"


def _objects(count: int) -> list[Outgoing]:
    source, folder = ObjectSource(512, 512), Path(temporary_folder("bench-send-"))
    made = []
    for number in range(count):
        path = folder / f"{number}.dcm"
        path.write_bytes(source.make(number))
        uid = f"1.2.826.0.1.3680043.9.7433.5.{number:010d}"
        made.append(
            Outgoing(sop_class_uid=_CT, sop_instance_uid=uid, transfer_syntax=_EXPLICIT, path=str(path))
        )
    return made


async def _run(reactor: Any, objects: Sequence[Outgoing]) -> float:
    """Objects per second."""
    port, received = free_port(), Path(temporary_folder("bench-received-"))
    peer = subprocess.Popen(["/usr/bin/storescp", "-od", str(received), str(port)])
    scu = DicomScu(reactor)
    try:
        remote = Remote(aet="STORESCP", host="127.0.0.1", port=port, local_aet="BENCH", timeout=10)
        # The peer needs a moment to listen.
        for _ in range(100):
            try:
                await scu.echo(remote)
                break
            except OrthancError:
                time.sleep(0.05)
        start = time.perf_counter()
        for outgoing in objects:
            await scu.store(remote, outgoing, [(_CT, _EXPLICIT)])
        rate = len(objects) / (time.perf_counter() - start)
        await scu.close()
    finally:
        peer.kill()
        peer.wait()
    # A data set lies behind a meta header, whose length differs.
    contents = {path.read_bytes()[-_PIXELS:] for path in received.iterdir()}
    expected = {Path(outgoing.path).read_bytes()[-_PIXELS:] for outgoing in objects}
    if len(list(received.iterdir())) != len(objects) or contents != expected:
        raise AssertionError("the peer has not received what was sent")
    return rate


async def _main(reactor: Any) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    objects = _objects(arguments.count)
    rates = [await _run(reactor, objects) for _ in range(arguments.runs)]
    print(f"C-STORE SCU to storescp: {statistics.median(rates):.0f} CT/s (runs: {[round(rate) for rate in rates]})")


if __name__ == "__main__":
    react(_main)
