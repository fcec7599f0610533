"""What the benchmarks share: objects to send, both servers, a lean HTTP client, medians."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

ROOT = Path(__file__).resolve().parent.parent
_PLACE = "1.2.826.0.1.3680043.9.7433.5.0000000000"
_BLOCK = 1024 * 1024


class ObjectSource:
    """CT objects that differ in their SOP instance UID; `tags` are those of all, by keyword."""

    def __init__(self, rows: int, columns: int, **tags: Any) -> None:
        self._template = _template(rows, columns, **tags)
        self._places = _find_all(self._template, _PLACE.encode())

    def make(self, number: int) -> bytes:
        """The object of a number."""
        uid = f"{_PLACE[:-10]}{number:010d}".encode()
        data = bytearray(self._template)
        for place in self._places:
            data[place : place + len(uid)] = uid
        return bytes(data)


def _find_all(data: bytes, wanted: bytes) -> list[int]:
    places, start = [], data.find(wanted)
    while start >= 0:
        places.append(start)
        start = data.find(wanted, start + 1)
    return places


def _template(rows: int, columns: int, **tags: Any) -> bytes:
    """A CT image with about 100 elements in its header."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = _PLACE
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = _PLACE
    dataset.StudyInstanceUID = "1.2.826.0.1.3680043.9.7433.1"
    dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.9.7433.2"
    dataset.PatientID = "BENCH1"
    dataset.PatientName = "Bench^Mark"
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = "20240131"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "101112"
    dataset.AccessionNumber = "A1"
    dataset.StudyID = "S1"
    dataset.StudyDescription = "Benchmark"
    dataset.SeriesDescription = "Axial"
    dataset.Modality = "CT"
    dataset.Manufacturer = "orthanctw"
    dataset.InstanceNumber = "1"
    dataset.SeriesNumber = "1"
    dataset.ImagePositionPatient = [0.0, 0.0, 1.0]
    dataset.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    dataset.PixelSpacing = [0.5, 0.5]
    block = dataset.private_block(0x0029, "ORTHANCTW BENCH", create=True)
    for element in range(1, 60):
        block.add_new(element, "LO", f"private value {element}")
    dataset.Rows, dataset.Columns = rows, columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleIntercept, dataset.RescaleSlope = "-1024", "1"
    dataset.PixelData = os.urandom(rows * columns * 2)
    for name, value in tags.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def temporary_folder(prefix: str) -> str:
    """A folder that goes when the benchmark ends.

    Not earlier: ext4 avoids inodes that were freed in the last minutes, and looking for others slows down every file
    that is made meanwhile, by a factor of three and more.
    """
    folder = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@attrs.define
class Server:
    """A running server."""

    name: str
    port: int
    dicom_port: int
    process: subprocess.Popen[bytes]
    folder: str

    def memory(self) -> float:
        """Resident memory in MB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextlib.contextmanager
def running(name: str, **options: Any) -> Iterator[Server]:
    """Start ``orthanctw`` or ``Orthanc`` with an empty storage, and stop it by its process id."""
    folder = temporary_folder(f"bench-{name}-")
    port, dicom_port = free_port(), free_port()
    configuration = {
        "Name": name,
        "HttpPort": port,
        "DicomPort": dicom_port,
        "DicomServerEnabled": False,
        "StorageDirectory": f"{folder}/storage",
        "IndexDirectory": f"{folder}/storage",
        "Plugins": [],
        "KeepAlive": True,
        "HttpCompressionEnabled": False,
        **options,
    }
    path = Path(folder, "orthanc.json")
    path.write_text(json.dumps(configuration), "utf-8")
    if name == "Orthanc":
        command = ["/usr/sbin/Orthanc", str(path)]
    else:
        twistd = ROOT / ".venv/bin/twistd"
        command = [str(twistd), "-n", "--pidfile=", "orthanc", "-c", str(path)]
    with open(f"{folder}/log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        _wait_until_up(process, port, folder)
        yield Server(name, port, dicom_port, process, folder)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(process: subprocess.Popen[bytes], port: int, folder: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            raise SystemExit(Path(folder, "log").read_text("utf-8", "replace"))
        time.sleep(0.05)
    raise SystemExit("The server does not answer")


class Connection:
    """A persistent HTTP connection that costs the client next to nothing."""

    def __init__(self, port: int, timeout: float = 60) -> None:
        self._port = port
        self._timeout = timeout
        self._socket: socket.socket | None = None

    def _connect(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), self._timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def request(self, method: str, path: str, content: bytes = b"") -> tuple[int, bytes | bytearray]:
        """Status and body of the answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n".encode()
        connection = self._connect()
        connection.sendall(head + content if len(content) < 65536 else head)
        if len(content) >= 65536:
            connection.sendall(content)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            received = connection.recv(65536)
            if not received:
                raise ConnectionError("closed before an answer")
            data += received
        lines = data[:end].decode("latin-1").lower().split("\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
        # Into one buffer: pieces that are put together later cost the client more than some servers need.
        body, have = bytearray(length), len(data) - end - 4
        body[:have] = data[end + 4 :]
        view = memoryview(body)
        while have < length:
            received = connection.recv_into(view[have:])
            if not received:
                raise ConnectionError("closed within an answer")
            have += received
        if "connection: close" in lines:
            self.close()
        return int(lines[0].split()[1]), body

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def in_parallel(workers: int, items: Sequence[Any], work: Callable[[Connection, Any], None], port: int) -> float:
    """Seconds that `workers` connections need for all items."""
    source = iter(items)
    lock = threading.Lock()
    failures: list[BaseException] = []

    def loop() -> None:
        connection = Connection(port)
        try:
            while True:
                with lock:
                    item = next(source, None)
                if item is None:
                    return
                work(connection, item)
        except BaseException as e:  # noqa: BLE001 - told by the caller's thread
            failures.append(e)
        finally:
            connection.close()

    threads = [threading.Thread(target=loop) for _ in range(workers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - started
    if failures:
        raise failures[0]
    return elapsed


def table(rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns."""
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)))
    sys.stdout.flush()


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
