"""What tests of outgoing DICOM operations share: peers that run, remotes to them, an SCU that ends with its test."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from pynetdicom import AE, evt
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from orthanctw.dicom import dimse
from orthanctw.dicom.scu.scu import DicomScu
from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import AcceptedContext, AssociateAccept, ContextResult, UserInformation
from orthanctw.remote import Outgoing, Remote
from test.dicom_peers import CT, EXPLICIT, data_pdus, in_thread, sop_instance
from test.servers import PATIENCE, ct_image, free_port, wait_until

#: Seconds after which an SCU gives up on a peer that is meant to be silent; the tests wait for as long.
SHORT: Final = 1


def is_listening(port: int) -> bool:
    """Whether somebody takes connections, as the kernel tells it: the listener notices nothing."""
    wanted = f":{port:04X} "
    lines = [line for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text("ascii").splitlines()]
    return any(line.partition(wanted)[2].split()[1:2] == ["0A"] for line in lines)


@contextlib.contextmanager
def program(port: int, *command: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One of DCMTK's servers, listening on a port."""
    output = cwd / f"{Path(command[0]).name}-{port}.txt"
    with output.open("wb") as log:
        process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: is_listening(port) or process.poll() is not None, lambda: output.read_text())
        yield process
    finally:
        process.kill()
        process.wait()


@attrs.define
class Seen:
    """What a pynetdicom peer was asked, in order; `associations` counts those that it accepted."""

    events: list[str] = attrs.field(factory=list)
    associations: int = 0
    requests: list[Any] = attrs.field(factory=list)
    contexts: list[Any] = attrs.field(factory=list)

    def note(self, name: str) -> Callable[[evt.Event], None]:
        return lambda event: self.events.append(name)


@contextlib.contextmanager
def pynetdicom_server(
    contexts: Sequence[tuple[str, Sequence[str]]],
    handlers: Sequence[Any] = (),
    title: str = "PEER",
    port: int = 0,
) -> Iterator[tuple[int, Seen]]:
    """A server of pynetdicom in threads; its port, any one unless one is given, and what it has seen."""
    seen = Seen()

    def accepted(event: evt.Event) -> None:
        seen.associations += 1
        seen.events.append("accepted")
        seen.contexts.append([(c.abstract_syntax, c.transfer_syntax) for c in event.assoc.requestor.requested_contexts])

    entity = AE(ae_title=title)
    for abstract_syntax, syntaxes in contexts:
        entity.add_supported_context(abstract_syntax, list(syntaxes), scu_role=True, scp_role=True)
    bound = [
        (evt.EVT_ACCEPTED, accepted),
        (evt.EVT_RELEASED, seen.note("released")),
        (evt.EVT_ABORTED, seen.note("aborted")),
        *handlers,
    ]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=bound)
    try:
        yield server.socket.getsockname()[1], seen
    finally:
        server.shutdown()


class Script:
    """A peer that takes one connection after the other and does with each what a function tells it to.

    Parameters
    ----------
    serve : callable
        ``serve(connection)``, in a thread for each connection.
    """

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, name="peer")

    async def __aenter__(self) -> Script:
        self._accepting.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await in_thread(self._join)

    def _join(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in (self._accepting, *self._threads):
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while True:
            try:
                handle, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._run, name="peer", args=(handle,))
            self._threads.append(thread)
            thread.start()

    def _run(self, handle: socket.socket) -> None:
        handle.settimeout(PATIENCE)
        with handle:
            try:
                self._serve(Connection(handle))
            except (ConnectionError, struct.error):
                # The SCU has closed: what it should do is looked at from its side.
                return
            except Exception as e:  # noqa: BLE001 - the test looks at it
                self.failures.append(e)


class Connection:
    """The acceptor's end of a connection, which may say anything."""

    def __init__(self, handle: socket.socket) -> None:
        self.socket = handle

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise ConnectionError("closed")
            data += piece
        return data

    def pdu(self) -> tuple[int, bytes]:
        """Type and body of the next PDU. ConnectionError when the connection has ended."""
        kind, length = struct.unpack(">BxI", self._exactly(6))
        return kind, self._exactly(length)

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def accept(self, maximum_length: int = 16384, *, knows_roles: bool = True) -> pdus.AssociateRequest:
        """Take the association with all its contexts, in the first transfer syntax of each, and in all roles."""
        request = pdus.decode_associate_request(self.pdu()[1])
        answer = AssociateAccept(
            called_aet=request.called_aet,
            calling_aet=request.calling_aet,
            contexts=tuple(
                AcceptedContext(c.context_id, ContextResult.ACCEPTED, c.transfer_syntaxes[0]) for c in request.contexts
            ),
            user=UserInformation(
                maximum_length=maximum_length,
                implementation_class_uid="1.2.3",
                roles=request.user.roles if knows_roles else {},
            ),
        )
        self.send(pdus.encode_associate_accept(answer))
        return request

    def respond(self, field: int, message_id: int, status: int, data: bytes | None = None, context_id: int = 1) -> None:
        """A response, with a data set if one is given."""
        command: dict[int, int | str] = {
            dimse.COMMAND_FIELD: field,
            dimse.RESPONDED_TO: message_id,
            dimse.DATA_SET_TYPE: dimse.NO_DATA_SET if data is None else 0,
            dimse.STATUS: status,
        }
        self.send(data_pdus(context_id, dimse.encode_command(command), True))
        if data is not None:
            self.send(data_pdus(context_id, data, False))

    def command(self) -> dimse.Command:
        """The next command, which must come in a PDU of its own."""
        (value,) = pdus.decode_data(memoryview(self.pdu()[1]))
        return dimse.decode_command(bytes(value.data))

    def data_set(self) -> int:
        """Take a message with a data set; the octets of the data set."""
        size = 0
        while True:
            for value in pdus.decode_data(memoryview(self.pdu()[1])):
                if not value.is_command:
                    size += len(value.data)
                    if value.is_last:
                        return size

    def until_end(self) -> list[int]:
        """Types of the PDUs that come until the peer closes; a release is answered."""
        kinds = []
        try:
            while True:
                kinds.append(self.pdu()[0])
                if kinds[-1] == pdus.PduType.RELEASE_RQ:
                    self.send(pdus.RELEASE_RP)
        except (ConnectionError, struct.error):
            return kinds


class ScuCase(TestCase):
    """A test of a `DicomScu`."""

    timeout = 120

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.threads_before = set(threading.enumerate())

    def scu(self, **options: Any) -> DicomScu:
        scu = DicomScu(reactor, **options)
        self.addCleanup(scu.close)
        return scu

    def remote(self, port: int, **values: Any) -> Remote:
        return Remote(
            **{"aet": "PEER", "host": "127.0.0.1", "port": port, "local_aet": "ORTHANCTW", "timeout": 20, **values}
        )

    def outgoing(self, number: int = 1, **names: Any) -> Outgoing:
        """A CT image in a file."""
        path = self.folder / f"ct-{number}.dcm"
        path.write_bytes(ct_image(number, **names))
        return Outgoing(
            sop_class_uid=CT, sop_instance_uid=sop_instance(number), transfer_syntax=EXPLICIT, path=str(path)
        )

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a peer to notice something."""
        while not condition():
            await deferLater(reactor, 0.005)

    @contextlib.contextmanager
    def storescp(self, *options: str) -> Iterator[tuple[int, Path]]:
        """DCMTK's ``storescp``; its port, and the folder that it writes into."""
        port = free_port()
        target = self.folder / f"received-{port}"
        target.mkdir()
        command = ("/usr/bin/storescp", *options, "-aet", "PEER", "-od", str(target), str(port))
        with program(port, *command, cwd=self.folder):
            yield port, target
