"""What tests of query and retrieve share: identifiers, pynetdicom's and DCMTK's queries, raw requests."""

from __future__ import annotations

import socket
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import attrs
import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE

from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import Command
from orthanctw.dicom.scp.negotiation import (
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
)
from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import ProposedContext
from test.dicom_case import DicomCase
from test.dicom_files import element
from test.dicom_peers import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    RawPeer,
    data_pdus,
    in_thread,
    run,
)
from test.servers import PATIENCE

#: Contexts of a raw peer that asks.
ASKING: Final = (
    ProposedContext(1, VERIFICATION, (IMPLICIT,)),
    ProposedContext(3, CT, (EXPLICIT,)),
    ProposedContext(5, STUDY_ROOT_FIND, (EXPLICIT,)),
    ProposedContext(7, STUDY_ROOT_MOVE, (EXPLICIT,)),
    ProposedContext(9, STUDY_ROOT_GET, (EXPLICIT,)),
    ProposedContext(11, PATIENT_ROOT_FIND, (IMPLICIT,)),
    ProposedContext(13, PATIENT_ROOT_MOVE, (IMPLICIT,)),
    ProposedContext(15, PATIENT_ROOT_GET, (IMPLICIT,)),
)
FIND: Final = 5
MOVE: Final = 7
GET: Final = 9
_FIELDS: Final = {FIND: dimse.C_FIND_RQ, MOVE: dimse.C_MOVE_RQ, GET: dimse.C_GET_RQ, 11: dimse.C_FIND_RQ}
_CLASSES: Final = {context.context_id: context.abstract_syntax for context in ASKING}


def keys(level: str, **values: object) -> Dataset:
    """An identifier, by keywords; `level` may be empty for none."""
    identifier = Dataset()
    if level:
        identifier.QueryRetrieveLevel = level
    with warnings.catch_warnings():
        # Queries have values that objects have not.
        warnings.simplefilter("ignore")
        for keyword, value in values.items():
            setattr(identifier, keyword, value)
    return identifier


def identifier(level: str, *elements: bytes, explicit: bool = True) -> bytes:
    """An identifier as bytes, the level before the given elements."""
    return element(0x00080052, "CS", level, explicit) + b"".join(elements)


def request(context_id: int, data: bytes | None, message_id: int = 1, **values: int | str) -> bytes:
    """The PDUs of a C-FIND, C-MOVE or C-GET; `destination`, `field` and `sop_class` instead of the usual ones."""
    command: dict[int, int | str] = {
        dimse.AFFECTED_SOP_CLASS: values.get("sop_class", _CLASSES[context_id]),
        dimse.COMMAND_FIELD: values.get("field", _FIELDS.get(context_id, dimse.C_FIND_RQ)),
        dimse.MESSAGE_ID: message_id,
        dimse.PRIORITY: 0,
        dimse.DATA_SET_TYPE: dimse.NO_DATA_SET if data is None else 0,
    }
    if "destination" in values:
        command[dimse.MOVE_DESTINATION] = values["destination"]
    pdu = data_pdus(context_id, dimse.encode_command(command), True)
    return pdu if data is None else pdu + data_pdus(context_id, data, False)


def cancel(context_id: int, message_id: int = 1) -> bytes:
    """The PDU of a C-CANCEL."""
    command: dict[int, int | str] = {
        dimse.COMMAND_FIELD: dimse.C_CANCEL_RQ,
        dimse.RESPONDED_TO: message_id,
        dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
    }
    return data_pdus(context_id, dimse.encode_command(command), True)


class AskingPeer(RawPeer):
    """A raw peer that takes whole messages apart, with an association.

    Parameters
    ----------
    reads_little : bool
        Its kernel takes little that it does not read.
    request : optional
        See `request_pdu`.
    """

    def __init__(self, port: int, *, reads_little: bool = False, **request: Any) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if reads_little:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))
        self.associate(**{"contexts": ASKING, **request})

    def message(self) -> tuple[Command, bytes]:
        """The next message: its command, and its data set, empty when it has none."""
        command, encoded, data = None, b"", b""
        while True:
            kind, body = self.pdu()
            if kind != pdus.PduType.DATA:
                raise AssertionError(f"no message: {kind} {body!r}")
            for value in pdus.decode_data(memoryview(body)):
                if value.is_command:
                    encoded += value.data
                    if not value.is_last:
                        continue
                    command = dimse.decode_command(encoded)
                    if not command.has_data_set:
                        return command, data
                else:
                    data += value.data
                    if value.is_last:
                        assert command is not None
                        return command, data

    def answers(self) -> list[tuple[int, bytes]]:
        """Status and data set of all responses up to the final one."""
        found = []
        while not found or found[-1][0] == dimse.PENDING:
            command, data = self.message()
            found.append((command.number(dimse.STATUS), data))
        return found

    def final(self) -> Command:
        """The final response; pending ones before it are passed over."""
        while True:
            command, _ = self.message()
            if command.number(dimse.STATUS) != dimse.PENDING:
                return command


@attrs.frozen
class Found:
    """How a C-FIND of pynetdicom ended."""

    status: int
    answers: list[Dataset]
    comment: str = ""

    def values(self, keyword: str) -> list[Any]:
        """One value of all answers, sorted."""
        return sorted(str(answer.get(keyword, "")) for answer in self.answers)


class QueryCase(DicomCase):
    """A test that asks a server which answers everybody."""

    SETTINGS: ClassVar[Mapping[str, object]] = {
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
    }

    async def find(
        self,
        *identifiers: Dataset,
        model: str = STUDY_ROOT_FIND,
        syntaxes: Sequence[str] = (EXPLICIT,),
        calling: str = "PYNETDICOM",
    ) -> list[Found]:
        """Queries of pynetdicom, one after the other on one association."""

        def ask() -> list[Found]:
            entity = AE(ae_title=calling)
            entity.add_requested_context(model, list(syntaxes))
            association = entity.associate("127.0.0.1", self.dicom_port, ae_title="ORTHANC")
            if not association.is_established:
                raise AssertionError("no association")
            found = []
            for asked in identifiers:
                *pending, last = list(association.send_c_find(asked, model))
                comment = str(last[0].get("ErrorComment", ""))
                found.append(Found(last[0].Status, [answer for _, answer in pending], comment))
            association.release()
            return found

        return await in_thread(ask)

    async def find_one(self, level: str, *, model: str = STUDY_ROOT_FIND, **values: object) -> Found:
        """A query that must end with success."""
        (found,) = await self.find(keys(level, **values), model=model)
        self.assertEqual((found.status, found.comment), (0, ""))
        return found

    async def matches(self, level: str, wanted: str, **values: object) -> list[Any]:
        """Values of the keyword `wanted` that a query finds."""
        values.setdefault(wanted, "")
        return (await self.find_one(level, **values)).values(wanted)

    async def findscu(self, *arguments: str, status: str = "Success") -> list[Dataset]:
        """Answers to DCMTK's ``findscu``."""
        target = self.work / "answers"
        target.mkdir(exist_ok=True)
        for old in target.iterdir():
            old.unlink()
        port = str(self.dicom_port)
        ran = await run(
            "findscu", "-v", "-X", "-od", str(target), "-aec", "ORTHANC", "127.0.0.1", port, *arguments
        )
        self.assertEqual(ran.status, 0, ran.output)
        self.assertIn(f"Received Final Find Response ({status})", ran.output)
        return [pydicom.dcmread(path, force=True) for path in sorted(target.iterdir())]

    async def raw(self, *parts: bytes, contexts: Sequence[ProposedContext] = ASKING) -> list[tuple[int, bytes]]:
        """Statuses and data sets that answer a raw request."""

        def ask() -> list[tuple[int, bytes]]:
            with AskingPeer(self.dicom_port, contexts=contexts) as peer:
                peer.send(*parts)
                found = peer.answers()
                peer.release()
                return found

        return await in_thread(ask)
