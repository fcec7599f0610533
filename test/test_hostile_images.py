"""Clients that look at good images while another one asks for hostile ones."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from PIL import Image
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.pixels.encode import encoder_for
from orthanctw.dicom.pixels.syntaxes import (
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    RLE,
)
from test.dicom_files import EXPLICIT
from test.pixel_samples import INSTANCE, grey, image, wave
from test.servers import PATIENCE, ServerProcess, wait_until

#: Each shown as it is: its values are all of 0 to 255.
_RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
_SYNTAXES = (JPEG_LOSSLESS_SV1, JPEG_LS_LOSSLESS, JPEG_2000_LOSSLESS, RLE)
#: Files are read from the disk each time, and by their bytes: a pipe can stand in the place of one.
_OPTIONS = {"StorageCompression": True, "MaximumStorageCacheSize": 0, "DicomParserCacheSize": 0}


def _encoded(pixels: Any, syntax: str) -> bytes:
    """A frame of 8 bits."""
    encoder = encoder_for(syntax, grey(*pixels.shape), "MONOCHROME2", 90)
    assert encoder is not None
    return encoder.encode(pixels)


def _named(data: bytes, number: int) -> bytes:
    """A file of `image` as another instance, by a number of four digits."""
    return data.replace(INSTANCE.encode(), INSTANCE.replace("7433", str(number)).encode())


def _hostile() -> Iterator[tuple[str, bytes]]:
    """What an image may say of itself, or leave out."""
    noise = np.random.default_rng(1).integers(0, 256, 4000, "u1").tobytes()
    large, small = grey(60000, 60000), grey(64, 64)
    yield "native, announced 60000 x 60000", image(large, bytes(4096))
    for syntax in (*_SYNTAXES, JPEG_BASELINE, JPEG_EXTENDED):
        stream = _encoded(wave(small), syntax)
        yield f"{syntax}, announced 60000 x 60000", image(large, [stream], syntax)
        yield f"{syntax}, truncated", image(small, [stream[: len(stream) // 3]], syntax)
        yield f"{syntax}, noise", image(small, [noise], syntax)
        yield f"{syntax}, a head and noise", image(small, [stream[:80] + noise], syntax)
        yield f"{syntax}, empty", image(small, [b""], syntax)


class _Viewer(Thread):
    """A client that asks for one preview after the other, until it is told to stop."""

    def __init__(self, server: ServerProcess, pictures: dict[str, Any], first: int) -> None:
        super().__init__()
        self._server = server
        ids = list(pictures)
        self._ids = ids[first:] + ids[:first]
        self._pictures = pictures
        self._over = Event()
        self.answered = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self._over.is_set():
            for identifier in self._ids:
                try:
                    answer = self._server.request("GET", f"/instances/{identifier}/preview")
                    shown = np.asarray(Image.open(io.BytesIO(answer.body))) if answer.status == 200 else answer.status
                    if not np.array_equal(shown, self._pictures[identifier]):
                        self.wrong.append(f"{identifier}: {shown}")
                except Exception as e:  # noqa: BLE001 - told by the thread of the test
                    self.wrong.append(repr(e))
                self.answered += 1

    def stop(self) -> None:
        self._over.set()
        self.join(PATIENCE)


class _Asker(Thread):
    """A client that asks for one thing, and waits for it longer than others do."""

    def __init__(self, server: ServerProcess, path: str) -> None:
        super().__init__()
        self._server = server
        self._path = path
        self.answer: tuple[int, bytes] | None = None

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._server.port, timeout=10 * PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", self._path)
            response = connection.getresponse()
            self.answer = (response.status, response.read())

    def result(self) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self.join(PATIENCE)
        assert self.answer is not None, self._path
        return self.answer


class HostileImagesTest(SynchronousTestCase):
    """Only who asks for a hostile image sees anything of it."""

    def setUp(self) -> None:
        self.viewers: list[_Viewer] = []

    def start(self, viewers: int, **options: object) -> ServerProcess:
        """A server with good images, and clients that look at them."""
        server = ServerProcess(Path(self.mktemp()), options={**_OPTIONS, "Orthanctw": options})
        self.addCleanup(server.kill)
        server.start()
        pictures = {}
        for number, syntax in enumerate((EXPLICIT, *_SYNTAXES), 1000):
            picture = np.roll(_RAMP, number * 7)
            content = picture.tobytes() if syntax == EXPLICIT else [_encoded(picture, syntax)]
            pictures[server.upload(_named(image(grey(16, 16), content, syntax), number))] = picture
        # A process is there before anything is measured against its time limit.
        first = next(iter(pictures))
        wait_until(lambda: server.request("GET", f"/instances/{first}/preview").status == 200, server.printed)
        self.viewers = [_Viewer(server, pictures, number) for number in range(viewers)]
        for viewer in self.viewers:
            self.addCleanup(viewer.stop)
            viewer.start()
        return server

    def hang(self, server: ServerProcess) -> tuple[str, Path]:
        """A stored image whose bytes never come: its path of the API, and the pipe in the place of its file."""
        before = set(server.storage.glob("??/??/*"))
        instance = server.upload(_named(image(grey(16, 16), bytes(256)), 2000))
        (pipe,) = set(server.storage.glob("??/??/*")) - before
        pipe.unlink()
        os.mkfifo(pipe)
        return f"/instances/{instance}", pipe

    def see_more(self, count: int) -> None:
        """Wait until each viewer has had so many more answers."""
        wanted = [viewer.answered + count for viewer in self.viewers]
        wait_until(
            lambda: all(viewer.answered >= least for viewer, least in zip(self.viewers, wanted, strict=True)),
            lambda: f"answers: {[viewer.answered for viewer in self.viewers]} of {wanted}",
        )

    def check_viewers(self) -> None:
        for viewer in self.viewers:
            viewer.stop()
            self.assertEqual(viewer.wrong, [])

    def reader(self, server: ServerProcess, pipe: Path) -> int:
        """The child that waits for a pipe."""
        found: list[int] = []

        def look() -> bool:
            for text in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text("ascii").split():
                descriptors = Path(f"/proc/{text}/fd")
                if any(str(pipe) == os.readlink(path) for path in descriptors.iterdir()):
                    found.append(int(text))
            return bool(found)

        wait_until(look, lambda: "a child that reads the file")
        return found[0]

    def test_while_one_hangs_and_is_killed(self) -> None:
        """One child hangs and is killed, others meet bad images of all kinds: viewers never notice."""
        server = self.start(3, CodecProcesses=3)
        path, pipe = self.hang(server)
        hanging = _Asker(server, f"{path}/preview")
        hanging.start()
        # Returns when the child has opened the other end; nothing is ever written.
        descriptor = os.open(pipe, os.O_WRONLY)
        self.addCleanup(os.close, descriptor)
        child = self.reader(server, pipe)
        for number, (name, data) in enumerate(_hostile(), 3000):
            instance = server.upload(_named(data, number))
            for operation, status in (("preview", 415), ("numpy", 400)):
                answer = server.request("GET", f"/instances/{instance}/{operation}")
                self.assertEqual(answer.status, status, f"{name}: {operation}: {answer.body!r}")
            answer = server.request("GET", f"/instances/{instance}/file?transcode={EXPLICIT}")
            self.assertEqual(answer.status, 200 if name.startswith("native") else 400, name)
        self.see_more(20)
        self.assertTrue(hanging.is_alive())
        os.kill(child, signal.SIGKILL)
        self.assertEqual(hanging.result(), (415, b""))
        self.see_more(20)
        self.check_viewers()

    def test_time_limit(self) -> None:
        """Children that hang are ended after their time, and answer for nobody else."""
        # Much for a good image, whose child may have to be started: on a machine that has other things to do.
        server = self.start(1, CodecProcesses=3, CodecTimeout=10)
        path, _ = self.hang(server)
        hanging = [_Asker(server, f"{path}/{operation}") for operation in ("preview", "numpy")]
        for asker in hanging:
            asker.start()
        self.see_more(5)
        (preview, nothing), (numbers, error) = (asker.result() for asker in hanging)
        self.assertEqual((preview, nothing), (415, b""))
        self.assertEqual((numbers, json.loads(error)["OrthancStatus"]), (500, 16))
        self.see_more(5)
        self.check_viewers()
