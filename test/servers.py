"""Real servers as processes of their own: started, talked to, signalled, stopped; and small CT images for them."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from test.dicom_files import EXPLICIT, element, meta

_BIN: Final = Path(sys.executable).parent
#: Commands, to which the path of the configuration is appended.
TWISTD: Final = (str(_BIN / "twistd"), "-n", "--pidfile=", "orthanc", "-c")
ORTHANCTW: Final = (str(_BIN / "orthanctw"),)
ORTHANC: Final = ("/usr/sbin/Orthanc",)

#: Seconds after which something that should happen at once counts as a failure.
PATIENCE: Final = 30.0
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_running: set[subprocess.Popen[bytes]] = set()


@atexit.register
def _kill_all() -> None:
    for process in _running:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Return when `condition` holds. AssertionError, with what `what` tells, when it does not for `PATIENCE` seconds.

    Looks again and again: what other processes do wakes nobody here.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"In vain waited for: {what()}")
        time.sleep(0.01)


def is_answering(port: int) -> bool:
    """Whether an HTTP server answers on a port of 127.0.0.1."""
    try:
        request(port, "GET", "/system")
    except (OSError, http.client.HTTPException):
        return False
    return True


@attrs.frozen
class Answer:
    """What a server has answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Ask a server on 127.0.0.1. Raises OSError or HTTPException when no answer comes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


class ServerProcess:
    """A server with a folder of its own: ``orthanc.json``, ``output.txt`` (what it prints) and ``storage``.

    Parameters
    ----------
    folder : Path
        Made when it is missing.
    command : sequence of str
        What to run; the path of the configuration is appended.
    options : mapping
        Options of the configuration beside the usual ones.
    """

    def __init__(self, folder: Path, command: tuple[str, ...] = TWISTD, options: Mapping[str, Any] | None = None):
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.command = command
        self.storage = self.folder / "storage"
        self.configuration = self.folder / "orthanc.json"
        self.output = self.folder / "output.txt"
        self.port = free_port()
        self.options: dict[str, Any] = {
            "StorageDirectory": str(self.storage),
            "HttpPort": self.port,
            "HttpBindAddresses": ["127.0.0.1"],
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            **(options or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, **options: Any) -> None:
        """Write the configuration, changed by `options`; a server that runs does not see it yet."""
        self.options.update(options)
        self.configuration.write_text(json.dumps(self.options), encoding="utf-8")

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process and do not wait for it."""
        if not self.configuration.exists():
            self.configure()
        with self.output.open("ab") as output:
            process = subprocess.Popen(
                [*self.command, str(self.configuration)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.process = process
        _running.add(process)
        return process

    def start(self) -> None:
        """Start the process and wait until it answers."""
        process = self.launch()
        wait_until(lambda: process.poll() is not None or is_answering(self.port), lambda: f"a server: {self.printed()}")
        if process.poll() is not None:
            raise AssertionError(f"The server has ended with {process.returncode}: {self.printed()}")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit status, once the process has ended by itself."""
        assert self.process is not None
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"The server does not end: {self.printed()}") from None
        _running.discard(self.process)
        return status

    def stop(self) -> int:
        """Ask the process to end; its exit status."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End the process at once, as a power cut does to it."""
        if self.process is not None:
            self.process.kill()
            self.wait()

    def printed(self) -> str:
        """All that the process and those before it in this folder have printed."""
        return self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """See `request`."""
        return request(self.port, method, path, body, headers)

    def get(self, path: str) -> Any:
        """The JSON of a path, which must be answered by 200."""
        answer = self.request("GET", path)
        if answer.status != 200:
            raise AssertionError(f"GET {path}: {answer.status}: {self.printed()}")
        return answer.json()

    def upload(self, data: bytes) -> str:
        """Store an object, which must be new; the identifier of its instance."""
        answer = self.request("POST", "/instances", data)
        if answer.status != 200 or answer.json()["Status"] != "Success":
            raise AssertionError(f"POST /instances: {answer.status} {answer.body!r}: {self.printed()}")
        return str(answer.json()["ID"])


def ct_image(
    number: int, *, series: int = 1, study: int = 1, patient: str = "ID", name: str = "A^B", side: int = 16
) -> bytes:
    """A CT image as a DICOM file: its pixels depend on its number, its UIDs on the numbers."""
    root = f"1.2.826.0.1.3680043.9.7433.{study}"
    sop = f"{root}.{series}.{number}"
    short = {0x00280010: side, 0x00280011: side, 0x00280100: 16, 0x00280101: 16, 0x00280102: 15, 0x00280103: 1}
    return (
        meta(EXPLICIT, _CT, sop)
        + element(0x00080016, "UI", _CT)
        + element(0x00080018, "UI", sop)
        + element(0x00080020, "DA", "20240131")
        + element(0x00080060, "CS", "CT")
        + element(0x00100010, "PN", name)
        + element(0x00100020, "LO", patient)
        + element(0x0020000D, "UI", root)
        + element(0x0020000E, "UI", f"{root}.{series}")
        + element(0x00200013, "IS", str(number))
        + element(0x00280002, "US", struct.pack("<H", 1))
        + element(0x00280004, "CS", "MONOCHROME2")
        + b"".join(element(tag, "US", struct.pack("<H", value)) for tag, value in short.items())
        + element(0x7FE00010, "OW", struct.pack("<H", number & 0xFFFF) * (side * side))
    )


_shared: dict[type, tuple[tempfile.TemporaryDirectory[str], ServerProcess]] = {}


def shared_server(owner: type, options: Mapping[str, Any] | None = None) -> ServerProcess:
    """The server that the tests of a class share, running. It ends, and its folder goes, with the tests' process."""
    if owner not in _shared:
        folder = tempfile.TemporaryDirectory(prefix="orthanctw-test-")
        _shared[owner] = (folder, ServerProcess(Path(folder.name), options=options))
    server = _shared[owner][1]
    if server.process is None or server.process.poll() is not None:
        server.start()
    return server
