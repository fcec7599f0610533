"""CT objects to a peer by ``/peers/{id}/store``: ours to ours over HTTP and HTTPS, Orthanc to Orthanc over HTTP.

Usage: python -m benchmarks.peers [--count 200] [--runs 3] [--compress] [--small]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.common import Connection, ObjectSource, Server, in_parallel, median, running, table, temporary_folder

_EVERYBODY = ssl._create_unverified_context()
_UPLOADERS = 4


def _ask(url: str, method: str = "GET", body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, method=method)
    with urllib.request.urlopen(request, context=_EVERYBODY if url.startswith("https") else None) as answer:
        content: bytes = answer.read()
    return content


class Pair:
    """A sender and a receiver. Each run has objects of its own: to remove those of the last one would slow down."""

    def __init__(self, name: str, sender: Server, url: str) -> None:
        self.name = name
        self.rates: list[float] = []
        self._sender = f"http://127.0.0.1:{sender.port}"
        self._port = sender.port
        self._url = url

    def run(self, objects: list[bytes], compress: bool) -> None:
        """Upload objects to the sender, send them once, and look at what has arrived."""
        ids: list[str] = []

        def upload(connection: Connection, data: bytes) -> None:
            status, body = connection.request("POST", "/instances", data)
            if status != 200:
                raise AssertionError(body)
            ids.append(json.loads(body)["ID"])

        in_parallel(_UPLOADERS, objects, upload, self._port)
        _ask(f"{self._sender}/peers/other", "PUT", json.dumps([self._url]).encode())
        before = self._count()
        body = json.dumps({"Resources": ids, "Compress": compress}).encode()
        started = time.perf_counter()
        content = json.loads(_ask(f"{self._sender}/peers/other/store", "POST", body))
        self.rates.append(len(objects) / (time.perf_counter() - started))
        if (content["InstancesCount"], content["FailedInstancesCount"]) != (len(objects), 0):
            raise AssertionError(content)
        if self._count() != before + len(objects):
            raise AssertionError("objects are missing")
        sample = f"instances/{ids[0]}/file"
        if _ask(f"{self._url}{sample}") != _ask(f"{self._sender}/{sample}"):
            raise AssertionError("an object has changed on its way")

    def _count(self) -> int:
        return int(json.loads(_ask(f"{self._url}statistics"))["CountInstances"])


def _certificate() -> str:
    """A PEM file of a certificate for localhost, signed by itself, and its key."""
    folder = temporary_folder("bench-peers-")
    key, certificate, both = (Path(folder, name) for name in ("key", "certificate", "both.pem"))
    command = ["/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return str(both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--compress", action="store_true")
    parser.add_argument("--small", action="store_true", help="objects of 12 KB instead of 525 KB")
    arguments = parser.parse_args()
    source = ObjectSource(64, 64) if arguments.small else ObjectSource(512, 512)
    certificate = _certificate()
    with contextlib.ExitStack() as stack:

        def start(name: str, **options: Any) -> Server:
            return stack.enter_context(running(name, **options))

        ours, orthanc = start("orthanctw", HttpsCACertificates=certificate), start("Orthanc")
        plain, theirs = start("orthanctw"), start("Orthanc")
        secure = start("orthanctw", SslEnabled=True, SslCertificate=certificate)
        pairs = [
            Pair("orthanctw, HTTP", ours, f"http://127.0.0.1:{plain.port}/"),
            Pair("orthanctw, HTTPS", ours, f"https://localhost:{secure.port}/"),
            Pair("Orthanc, HTTP", orthanc, f"http://127.0.0.1:{theirs.port}/"),
        ]
        number = 0
        for _ in range(arguments.runs):
            for pair in pairs:
                objects = [source.make(number + place) for place in range(arguments.count)]
                number += arguments.count
                pair.run(objects, arguments.compress)
    rows: list[list[object]] = [["", "objects/s", "runs"]]
    rows += [[pair.name, f"{median(pair.rates):.0f}", [round(rate) for rate in pair.rates]] for pair in pairs]
    table(rows)


if __name__ == "__main__":
    main()
