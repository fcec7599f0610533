"""A server in the process of the tests, an HTTP client for it, and the objects that it is given."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import attrs
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from orthanctw.log import LogLevels
from orthanctw.server import Server
from orthanctw.settings import Settings

IMAGE_CLASS = "1.2.840.10008.5.1.4.1.1.2"
#: An identifier of the right form that no object has.
NOBODY = "00000000-11111111-22222222-33333333-44444444"
SPOOL = "orthanctw-spool"
#: Bytes of a frame of a `LargeObject`.
_FRAME = 1024 * 1024 * 2


def dicom_object(
    patient: str = "P1", study: str = "1.2.1", series: str = "1.2.1.1", sop: str = "1.2.1.1.1", **values: object
) -> bytes:
    """A DICOM file with these identifiers, and further elements by keyword; None leaves an element out."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = IMAGE_CLASS
    dataset.SOPInstanceUID = sop
    dataset.StudyDate = "20240102"
    dataset.StudyTime = "101112"
    dataset.AccessionNumber = "ACC-1"
    dataset.Modality = "CT"
    dataset.StudyDescription = "HEAD"
    dataset.SeriesDescription = "AXIAL"
    dataset.PatientName = "DOE^JOHN"
    dataset.PatientID = patient
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "M"
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = series
    dataset.StudyID = "1"
    dataset.SeriesNumber = "1"
    dataset.InstanceNumber = sop.rpartition(".")[2]
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = IMAGE_CLASS
    dataset.file_meta.MediaStorageSOPInstanceUID = sop
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def item(**values: object) -> Dataset:
    """An item of a sequence, by keyword."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def pixels(rows: int, columns: int, fill: int = 7) -> dict[str, Any]:
    """Keywords of an 8-bit image for `dicom_object`."""
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "PixelData": bytes([fill]) * (rows * columns),
    }


@attrs.frozen
class LargeObject:
    """A multi-frame object of 2 MB a frame that is made while it is read."""

    frames: int
    sop: str = "1.2.1.1.1"

    @property
    def head(self) -> bytes:
        """All before the pixels."""
        image = pixels(1024, 1024)
        image |= {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelData": b""}
        data = dicom_object(sop=self.sop, NumberOfFrames=str(self.frames), **image)
        # The last element is that of the pixels, still empty.
        return data[:-4] + (self.frames * _FRAME).to_bytes(4, "little")

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.head) + self.frames * _FRAME

    def chunks(self) -> Iterator[bytes]:
        """The file."""
        yield self.head
        for number in range(self.frames):
            yield number.to_bytes(2, "little") * (_FRAME // 2)

    def md5(self) -> str:
        """The digest of the file."""
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


def peak_memory(pid: int) -> int:
    """The most memory that a process has had, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    raise AssertionError("The process has no memory")


def hierarchy() -> Iterator[bytes]:
    """Two patients: P1 with a study of two series (two instances and one), P2 with one of each."""
    yield dicom_object("P1", "1.2.1", "1.2.1.1", "1.2.1.1.1")
    yield dicom_object("P1", "1.2.1", "1.2.1.1", "1.2.1.1.2")
    yield dicom_object("P1", "1.2.1", "1.2.1.2", "1.2.1.2.1", Modality="MR", SeriesDescription="SAG", SeriesNumber="2")
    yield dicom_object(
        "P2",
        "1.2.2",
        "1.2.2.1",
        "1.2.2.1.1",
        PatientName="MÜLLER^ANNA",
        PatientSex="F",
        AccessionNumber="acc-2",
        StudyDate="20250607",
        StudyDescription="KNEE",
    )


@attrs.frozen
class Answer:
    """An answer over HTTP; names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")


class _ChunkedBody(FileBodyProducer):
    """A body of a length that is not told."""

    def _determineLength(self, fObj: Any) -> Any:
        return UNKNOWN_LENGTH


class Client:
    """Asks one server, each time on a new connection."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | object = b"",
        *,
        chunked: bool = False,
        headers: Mapping[str, str] | None = None,
        **arguments: object,
    ) -> Answer:
        """Any request. A body that is no text is sent as JSON; `arguments` make the query string."""
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        data = body.encode("utf-8") if isinstance(body, str) else body
        producer = _ChunkedBody if chunked else FileBodyProducer
        query = f"?{urlencode(arguments)}" if arguments else ""
        response = await self._agent.request(
            method.encode("ascii"),
            f"http://127.0.0.1:{self.port}{path}{query}".encode("ascii"),
            Headers({name: [value] for name, value in (headers or {}).items()}),
            producer(io.BytesIO(data)) if data or chunked else None,
        )
        received = await readBody(response)
        shown = {name.decode("latin-1").lower(): values[-1].decode("latin-1") for name, values in _all(response)}
        return Answer(response.code, shown, received)

    async def get(self, path: str, **arguments: object) -> Answer:
        return await self.ask("GET", path, **arguments)

    async def json(self, path: str, **arguments: object) -> Any:
        """The JSON of a GET that must succeed."""
        answer = await self.ask("GET", path, **arguments)
        if answer.status != 200:
            raise AssertionError(f"GET {path}: {answer.status} {answer.text}")
        return answer.json()

    async def post(self, path: str, body: bytes | str | object = b"", **headers: str) -> Answer:
        """A POST; names of `headers` with underscores for hyphens."""
        return await self.ask(
            "POST", path, body, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    async def find(self, level: str, query: object, **fields: object) -> Any:
        """``/tools/find`` that must succeed."""
        answer = await self.post("/tools/find", {"Level": level, "Query": query, **fields})
        if answer.status != 200:
            raise AssertionError(f"find {query}: {answer.status} {answer.text}")
        return answer.json()

    async def store(self, data: bytes) -> dict[str, str]:
        """Upload an object that must be taken."""
        answer = await self.post("/instances", data)
        if answer.status != 200:
            raise AssertionError(f"upload: {answer.status} {answer.text}")
        result: dict[str, str] = answer.json()
        return result


def _all(response: Any) -> Iterator[tuple[bytes, list[bytes]]]:
    yield from response.headers.getAllRawHeaders()
    if response.length is not UNKNOWN_LENGTH:
        # The agent takes Content-Length away as a header of the connection.
        yield b"content-length", [b"%d" % response.length]


class Wire(Protocol):
    """A plain connection: keeps what comes, tells of its end and of bytes that were waited for."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Deferred[bytes] = Deferred()
        self._wanted: tuple[bytes, int, Deferred[bytes]] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(bytes(self.received))
        self._look()

    def until(self, mark: bytes, count: int = 1) -> Deferred[bytes]:
        """What came, once `mark` came so often or the connection ended."""
        waiting: Deferred[bytes] = Deferred()
        self._wanted = (mark, count, waiting)
        self._look()
        return waiting

    def _look(self) -> None:
        if self._wanted is None:
            return
        mark, count, waiting = self._wanted
        if self.lost.called or self.received.count(mark) >= count:
            self._wanted = None
            waiting.callback(bytes(self.received))

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    def abort(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]


async def wire(port: int) -> Wire:
    """A new connection to a port of this machine."""
    connected: Wire = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Wire())
    return connected


async def exchange(port: int, data: bytes) -> bytes:
    """All that a server answers to some bytes, until it ends the connection."""
    connection = await wire(port)
    connection.write(data)
    return await connection.lost


class RestCase(TestCase):
    """A test with a server of its own, whose configuration is `SETTINGS` and what a test gives to `restart`."""

    SETTINGS: ClassVar[Mapping[str, object]] = {}
    timeout = 100

    async def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.levels = LogLevels()
        self.ended: list[str] = []
        await self._start(self.SETTINGS)

    async def _start(self, settings: Mapping[str, object]) -> None:
        document = {"StorageDirectory": str(self.folder), "HttpPort": 0, "DicomPort": 0, **settings}
        self.server = Server(
            reactor,
            Settings.parse(document, str(self.folder)),
            self.levels,
            lambda: self.ended.append("shutdown"),
            lambda: self.ended.append("reset"),
        )
        self.running = True
        await self.server.start()
        self.client = Client(self.server.http_port)

    async def restart(self, **settings: object) -> None:
        """Go on with another configuration and the same folder."""
        await self.server.stop()
        await self._start({**self.SETTINGS, **settings})

    async def stop(self) -> None:
        if self.running:
            self.running = False
            await self.server.stop()

    async def tearDown(self) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        return self.server.http_port

    async def exchange(self, *parts: str | bytes) -> bytes:
        """All that the server answers to some bytes, until it ends the connection."""
        return await exchange(self.port, b"".join(part if isinstance(part, bytes) else part.encode() for part in parts))

    async def fill(self) -> list[dict[str, str]]:
        """Store the objects of `hierarchy`; answers what the uploads answered."""
        return [await self.client.store(data) for data in hierarchy()]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for the server to notice what a client did."""
        while not condition():
            await deferLater(reactor, 0.005)

    def files(self) -> list[str]:
        """Files of the storage area, those being received included, without database and lock."""
        paths = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path) for path in paths if len(path.parts) > 1)

    def assertError(self, answer: Answer, status: int, code: int) -> dict[str, Any]:
        """The answer is Orthanc's error JSON with these numbers, and tells nothing of our inside."""
        self.assertEqual(answer.status, status, answer.body)
        body: dict[str, Any] = answer.json()
        self.assertEqual((body["HttpStatus"], body["OrthancStatus"]), (status, code), body)
        self.assertEqual(answer.headers["content-type"], "text/plain")
        self.assertNotIn("Traceback", answer.text)
        self.assertNotIn(str(self.folder), answer.text)
        return body

    def assertEmpty(self, answer: Answer, status: int) -> None:
        """The answer is a bare status."""
        self.assertEqual((answer.status, answer.body), (status, b""))
