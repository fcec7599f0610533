"""Peers of the DICOM server: a raw one that says whatever it is told to, pynetdicom's, and DCMTK's programs."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

import attrs
from pynetdicom import AE
from pynetdicom.association import Association
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutputAndValue

from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import Command, decode_command, encode_command
from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import (
    AssociateRequest,
    Pdv,
    ProposedContext,
    UserInformation,
)
from test.servers import PATIENCE, ct_image

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION: Final = "1.2.840.10008.1.1"
#: Contexts of the raw peer unless it is given others.
CONTEXTS: Final = (ProposedContext(1, VERIFICATION, (IMPLICIT,)), ProposedContext(3, CT, (EXPLICIT,)))
_T = TypeVar("_T")


def in_thread(function: Callable[..., _T], *arguments: Any) -> Deferred[_T]:
    """Run a peer that blocks, while the reactor serves it."""
    result: Deferred[_T] = deferToThread(function, *arguments)
    return result


@attrs.frozen
class Ran:
    """What a program printed, and its exit status."""

    output: str
    status: int


async def run(program: str, *arguments: str) -> Ran:
    """Run one of DCMTK's programs until it ends."""
    out, err, status = await getProcessOutputAndValue(program, arguments, env={"PATH": "/usr/bin:/bin"})
    return Ran((out + err).decode("utf-8", "replace"), status)


def data_set(number: int = 1, **names: Any) -> bytes:
    """The data set of `test.servers.ct_image`, explicit VR little endian."""
    return without_meta(ct_image(number, **names))


def without_meta(file: bytes) -> bytes:
    """What follows the file meta information."""
    (length,) = struct.unpack_from("<I", file, 140)
    return file[144 + length :]


def sop_instance(number: int = 1, series: int = 1, study: int = 1) -> str:
    """The SOP instance UID of `ct_image`."""
    return f"1.2.826.0.1.3680043.9.7433.{study}.{series}.{number}"


def store_command(sop: str, sop_class: str = CT, message_id: int = 1) -> bytes:
    """A C-STORE-RQ."""
    values: dict[int, int | str] = {
        dimse.AFFECTED_SOP_CLASS: sop_class,
        dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
        dimse.MESSAGE_ID: message_id,
        0x0700: 0,
        dimse.DATA_SET_TYPE: 0,
        dimse.AFFECTED_SOP_INSTANCE: sop,
    }
    return encode_command(values)


def echo_command(message_id: int = 1) -> bytes:
    """A C-ECHO-RQ."""
    return encode_command(
        {
            dimse.AFFECTED_SOP_CLASS: VERIFICATION,
            dimse.COMMAND_FIELD: dimse.C_ECHO_RQ,
            dimse.MESSAGE_ID: message_id,
            dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
        }
    )


def request_pdu(
    contexts: Sequence[ProposedContext] = CONTEXTS,
    called: str = "ORTHANC",
    calling: str = "RAW",
    maximum_length: int = 16384,
    roles: Mapping[str, tuple[bool, bool]] | None = None,
) -> bytes:
    """An A-ASSOCIATE-RQ."""
    user = UserInformation(maximum_length=maximum_length, implementation_class_uid="1.2.3", roles=roles or {})
    return pdus.encode_associate_request(
        AssociateRequest(called_aet=called, calling_aet=calling, contexts=tuple(contexts), user=user)
    )


def data_pdus(context_id: int, data: bytes, is_command: bool, size: int = 16378, last: bool = True) -> bytes:
    """P-DATA-TF PDUs of one value each."""
    starts = range(0, max(len(data), 1), size)
    return b"".join(
        pdus.encode_data([Pdv(context_id, is_command, last and at + size >= len(data), data[at : at + size])])
        for at in starts
    )


class RawPeer:
    """A connection over which any octets can be sent. Blocking; ends with its ``with`` block."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                return data
            data += piece
        return data

    def pdu(self) -> tuple[int, bytes]:
        """Type and body of the next PDU; 0 when the connection has ended."""
        try:
            head = self._exactly(6)
            if len(head) < 6:
                return 0, head
            kind, length = struct.unpack(">BxI", head)
            return kind, self._exactly(length)
        except ConnectionError:
            return 0, b""

    def associate(self, **request: Any) -> list[tuple[int, int, str]]:
        """Identifier, result and transfer syntax of the contexts of the answer, which must accept."""
        self.send(request_pdu(**request))
        kind, body = self.pdu()
        if kind != pdus.PduType.ASSOCIATE_AC:
            raise AssertionError(f"associated in vain: {kind} {body!r}")
        return [(c.context_id, int(c.result), c.transfer_syntax) for c in pdus.decode_associate_accept(body).contexts]

    def response(self) -> Command:
        """The next response, which must be one."""
        encoded = b""
        while True:
            kind, body = self.pdu()
            if kind != pdus.PduType.DATA:
                raise AssertionError(f"no response: {kind} {body!r}")
            for value in pdus.decode_data(memoryview(body)):
                encoded += value.data
                if value.is_last:
                    return decode_command(encoded)

    def store(self, data: bytes, sop: str, *, context_id: int = 3, **command: Any) -> Command:
        """C-STORE; the response."""
        self.send(
            data_pdus(context_id, store_command(sop, **command), True), data_pdus(context_id, data, False)
        )
        return self.response()

    def echo(self) -> int:
        """C-ECHO; the status."""
        self.send(data_pdus(1, echo_command(), True))
        return self.response().number(dimse.STATUS)

    def release(self) -> int:
        """Ask for a release; the type of the PDU that answers."""
        self.send(pdus.RELEASE_RQ)
        return self.pdu()[0]


def rejection(port: int, **request: Any) -> tuple[int, int, int] | None:
    """Result, source and reason with which an association is rejected; None when it is accepted."""
    with RawPeer(port) as peer:
        peer.send(request_pdu(**request))
        kind, body = peer.pdu()
        if kind == pdus.PduType.ASSOCIATE_RJ:
            rejected = pdus.decode_reject(body)
            return rejected.result, rejected.source, rejected.reason
        if kind != pdus.PduType.ASSOCIATE_AC:
            raise AssertionError(f"neither accepted nor rejected: {kind} {body!r}")
        peer.release()
        return None


def pynetdicom_peer(
    port: int, contexts: Iterable[tuple[str, Sequence[str]]], called: str = "ORTHANC", calling: str = "PYNETDICOM"
) -> Association:
    """An association of pynetdicom, established or not."""
    entity = AE(ae_title=calling)
    for abstract_syntax, transfer_syntaxes in contexts:
        entity.add_requested_context(abstract_syntax, list(transfer_syntaxes))
    return entity.associate("127.0.0.1", port, ae_title=called)
