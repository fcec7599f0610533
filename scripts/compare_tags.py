"""Compare our tags, headers and main tags with those of an installed Orthanc, file by file.

Usage: python scripts/compare_tags.py [--orthanc PATH] [--cache FILE] [--show N] [FILE...]

Without files, those of pydicom's wheel and of the package pydicom-data are taken. The answers of Orthanc are kept in
the cache file, so a second run needs no server.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
from typing import Any

ROUTES = ("tags", "tags?short", "tags?whole", "simplified-tags", "header", "metadata?expand", "")
LEVELS = ("patient", "study", "series")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A real Orthanc on a free loopback port, with its own storage folder."""

    def __init__(self, program: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.port = free_port()
        config = pathlib.Path(self.folder.name) / "orthanc.json"
        config.write_text(
            json.dumps(
                {
                    "StorageDirectory": self.folder.name,
                    "IndexDirectory": self.folder.name,
                    "HttpPort": self.port,
                    "DicomPort": free_port(),
                    "DicomServerEnabled": False,
                    "RemoteAccessAllowed": False,
                    "AuthenticationEnabled": False,
                    "OverwriteInstances": True,
                    "Plugins": [],
                }
            )
        )
        self.process = subprocess.Popen([program, str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                self.get("/system")
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("the server does not start")

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    def get(self, path: str) -> Any:
        status, data = self.request("GET", path)
        return json.loads(data.decode("utf-8", "surrogateescape")) if status == 200 else {"HttpStatus": status}

    def facts(self, data: bytes) -> dict[str, Any]:
        """What Orthanc answers about one file, which is removed again."""
        status, body = self.request("POST", "/instances", data)
        answer = json.loads(body)
        if status != 200 or "ID" not in answer:
            return {"status": status, "code": answer.get("OrthancStatus")}
        path = f"/instances/{answer['ID']}"
        result: dict[str, Any] = {"status": status, "answer": answer}
        for route in ROUTES:
            result[route] = self.get(f"{path}/{route}" if route else path)
        for level in LEVELS:
            result[level] = self.get(f"{path}/{level}")
        result["series-metadata"] = self.get(f"/series/{answer['ParentSeries']}/metadata?expand")
        self.request("DELETE", path)
        return result

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.folder.cleanup()


def default_files() -> list[str]:
    from pydicom.data import get_testdata_files

    return sorted({str(pathlib.Path(name).resolve()) for name in get_testdata_files()})


def collect(program: str, files: list[str]) -> dict[str, Any]:
    server = Server(program)
    try:
        results = {}
        for name in files:
            try:
                results[name] = server.facts(pathlib.Path(name).read_bytes())
            except OSError as error:
                print("the server broke off", name, error)
                server.stop()
                server = Server(program)
                results[name] = {"status": -1}
        return results
    finally:
        server.stop()
