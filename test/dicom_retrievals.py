"""What tests of C-MOVE and C-GET share: destinations, final responses, a case."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import attrs
from pynetdicom import evt

from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import Command
from orthanctw.dicom.encoding import decode_dataset
from test.dicom_files import element
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, in_thread
from test.dicom_queries import MOVE, AskingPeer, QueryCase, identifier, request
from test.scu_case import Seen, pynetdicom_server

#: Identifier of the study that `RestCase.fill` and `dicom_object` make.
STUDY: Final = identifier("STUDY", element(0x0020000D, "UI", "1.2.1"))
#: What a raw peer proposes to get CT images.
GETTING: Final[Mapping[str, Any]] = {"roles": {CT: (True, True)}}


@attrs.define
class Sink:
    """A destination of pynetdicom: what came, and how it is answered."""

    port: int
    seen: Seen
    stored: list[tuple[str, bytes]] = attrs.field(factory=list)
    originators: list[tuple[str, int]] = attrs.field(factory=list)
    statuses: dict[str, int] = attrs.field(factory=dict)

    def store(self, event: evt.Event) -> int:
        sop = str(event.request.AffectedSOPInstanceUID)
        self.stored.append((sop, event.request.DataSet.getvalue()))
        aet = event.request.MoveOriginatorApplicationEntityTitle
        self.originators.append((str(aet), event.request.MoveOriginatorMessageID))
        return self.statuses.get(sop, 0)

    @property
    def sops(self) -> list[str]:
        return [sop for sop, _ in self.stored]


@contextlib.contextmanager
def sink(contexts: Any = ((CT, (EXPLICIT, IMPLICIT)),)) -> Iterator[Sink]:
    """A destination that runs."""
    found: list[Sink] = []
    with pynetdicom_server(contexts, [(evt.EVT_C_STORE, lambda event: found[0].store(event))], "SINK") as (port, seen):
        found.append(Sink(port, seen))
        yield found[0]


@attrs.frozen
class Ended:
    """The final response of a retrieval."""

    status: int
    numbers: tuple[int, int, int]
    comment: str
    failed: str

    @classmethod
    def of(cls, command: Command, data: bytes) -> Ended:
        failed = dict(item[:3:2] for item in decode_dataset(data, explicit=True)) if data else {}
        return cls(
            command.number(dimse.STATUS),
            tuple(command.number(number) for number in (dimse.COMPLETED, dimse.FAILED, dimse.WARNING)),  # type: ignore
            command.text(dimse.ERROR_COMMENT),
            str(failed.get(0x00080058, "")),
        )


class RetrieveCase(QueryCase):
    SETTINGS: ClassVar[Mapping[str, object]] = {**QueryCase.SETTINGS, "DicomScuTimeout": 2}

    async def know(self, port: int, aet: str = "SINK", **fields: object) -> None:
        """Make a destination known."""
        value = {"AET": aet, "Host": "127.0.0.1", "Port": port, **fields}
        self.assertEqual((await self.client.ask("PUT", f"/modalities/{aet.lower()}", value)).status, 200)

    async def move(self, data: bytes = STUDY, destination: str = "SINK", message_id: int = 7) -> Ended:
        """A C-MOVE of a raw peer."""

        def ask() -> Ended:
            with AskingPeer(self.dicom_port, calling="MOVER") as peer:
                peer.send(request(MOVE, data, message_id, destination=destination))
                self.pending = []
                while True:
                    command, answer = peer.message()
                    if command.number(dimse.STATUS) != dimse.PENDING:
                        peer.release()
                        return Ended.of(command, answer)
                    self.pending.append(command)

        return await in_thread(ask)

    def is_cancelled(self) -> bool:
        """Whether a request that runs knows that it is to end."""
        found = [association._current for association in self.server.dicom._connections]
        return any(current is not None and current.is_cancelled for current in found)
