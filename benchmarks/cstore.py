"""C-STORE by DCMTK's unmodified ``storescu``: orthanctw and the real Orthanc on the same objects, in turn.

Objects of 12 KB and 525 KB, 1, 4 and 16 associations. Prints the median rate of each and the ratio; `reference` is
the rate of Orthanc 1.13.0 on a like machine. The more associations, the more objects: else the start of the senders,
which needs the same two cores, is what is measured. With ``--tls`` both are measured over TLS, with certificates of
both sides, and orthanctw without it in turn, too; `of plain` is the ratio of its rates. At the end a crowd of senders
starts at once, and the times of the first and the last to be done are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.common import Connection, ObjectSource, Server, median, running, table, temporary_folder
from benchmarks.ingest import SIZES

#: Objects in a run by size and number of associations.
COUNTS = {
    "small": {1: 320, 4: 960, 16: 2400},
    "CT": {1: 160, 4: 640, 16: 1600},
}
#: Senders of the crowd, and what each sends.
CROWD = (50, 20)
REFERENCE = {("small", 1): 11, ("CT", 1): 18, ("CT", 4): 58}
STORESCU = "/usr/bin/storescu"


@attrs.frozen
class Way:
    """A server, and how it is sent to."""

    server: str
    options: dict[str, Any] = attrs.field(factory=lambda: {"DicomServerEnabled": True})
    arguments: Sequence[str] = ()
    label: str = attrs.field(default=attrs.Factory(lambda self: self.server, takes_self=True))


def over_tls(name: str, certificate: str, key: str) -> Way:
    """Everybody has one certificate and trusts in it."""
    options = {
        "DicomServerEnabled": True,
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": certificate,
        "DicomTlsPrivateKey": key,
        "DicomTlsTrustedCertificates": certificate,
    }
    return Way(name, options, ("+tls", key, certificate, "+cf", certificate), f"{name} by TLS")


def make_certificate() -> tuple[str, str]:
    """Paths of a certificate that is signed by itself, and of its key."""
    folder = temporary_folder("bench-tls-")
    certificate, key = f"{folder}/certificate.pem", f"{folder}/key.pem"
    command = ["/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bench"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


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


def send(server: Server, folders: list[Path], arguments: Sequence[str]) -> list[float]:
    """Seconds until each sender has ended with success, in the order of their ends."""
    command = [STORESCU, *arguments, "--scan-directories", "127.0.0.1", str(server.dicom_port)]
    ends: list[float] = []
    failures: list[str] = []
    started = time.perf_counter()

    def run(folder: Path) -> None:
        done = subprocess.run([*command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        ends.append(time.perf_counter() - started)
        if done.returncode or done.stderr.strip():
            failures.append(repr(done.stderr[:500]))

    threads = [threading.Thread(target=run, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"{len(failures)} storescu failed: {failures[0]}")
    return ends


def check(server: Server, expected: int) -> None:
    """Everything that was sent must be there."""
    _, body = Connection(server.port).request("GET", "/statistics")
    if json.loads(body)["CountInstances"] != expected:
        raise SystemExit(f"{server.name} has {body!r} in place of {expected} instances")


def crowd(ways: list[Way]) -> None:
    """Many senders at once."""
    senders, objects = CROWD
    folders = write_objects(
        Path(temporary_folder("bench-objects-")), ObjectSource(*SIZES["small"]), senders, senders * objects
    )
    for way in ways:
        with running(way.server, **way.options) as server:
            ends = send(server, folders, way.arguments)
            check(server, senders * objects)
        print(f"{way.label}: {senders} senders of {objects} objects; first {ends[0]:.2f} s, last {ends[-1]:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["orthanctw", "Orthanc"])
    parser.add_argument("--tls", action="store_true", help="over TLS, and orthanctw without it, too")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else ["orthanctw", "Orthanc"]
    ways = [Way(name) for name in names]
    if arguments.tls:
        certificate = make_certificate()
        ways = [*(over_tls(name, *certificate) for name in names), Way("orthanctw")]
    titles = ["ratio", *(["of plain"] if arguments.tls else []), "reference", "to it"]
    rows: list[list[object]] = [["objects", "associations", *(way.label for way in ways), *titles]]
    for size, (height, width) in SIZES.items():
        source = ObjectSource(height, width)
        for associations, count in COUNTS[size].items():
            rates: dict[str, list[float]] = {way.label: [] for way in ways}
            folders = write_objects(Path(temporary_folder("bench-objects-")), source, associations, count)
            for _ in range(arguments.runs):
                for way in ways:
                    with running(way.server, **way.options) as server:
                        elapsed = send(server, folders, way.arguments)[-1]
                        check(server, count)
                        rates[way.label].append(count / elapsed)
            medians = [median(values) for values in rates.values()]
            ratios = [f"{medians[0] / medians[len(names) - 1]:.1f}"]
            if arguments.tls:
                ratios.append(f"{medians[0] / medians[-1]:.2f}")
            reference = REFERENCE.get((size, associations))
            to_it = f"{medians[0] / reference:.1f}" if reference else "-"
            rates_text = [f"{rate:.0f}/s" for rate in medians]
            rows.append([size, associations, *rates_text, *ratios, reference or "-", to_it])
            table(rows[-1:])
    print()
    table(rows)
    crowd(ways)


if __name__ == "__main__":
    main()
