"""What tests of storage commitment share: peers that ask and that are told, in pynetdicom and raw, and a case."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import attrs
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from orthanctw.dicom import dimse
from orthanctw.dicom.upper.pdus import ProposedContext
from test.dicom_peers import EXPLICIT, IMPLICIT, RawPeer, data_pdus, in_thread
from test.dicom_retrievals import RetrieveCase
from test.rest_samples import item
from test.scu_case import Seen, pynetdicom_server

MODEL: Final = "1.2.840.10008.1.20.1"
INSTANCE: Final = "1.2.840.10008.1.20.1.1"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"
CONTEXT: Final = ProposedContext(1, MODEL, (EXPLICIT,))
Pair = tuple[str, str]


def named(pairs: Sequence[Pair], reason: int | None = None) -> list[Dataset]:
    """Items of a sequence that refers to objects, by class and instance."""
    more = {} if reason is None else {"FailureReason": reason}
    return [item(ReferencedSOPClassUID=one, ReferencedSOPInstanceUID=two, **more) for one, two in pairs]


def wanted(transaction: str, pairs: Sequence[Pair]) -> Dataset:
    """The data set of a request, or of a report without failures."""
    return item(TransactionUID=transaction, ReferencedSOPSequence=named(pairs))


@attrs.frozen
class Told:
    """A report, as a peer has seen it."""

    transaction: str
    event_type: int
    committed: list[Pair]
    failed: dict[Pair, int]
    titles: tuple[str, str]
    roles: tuple[bool | None, bool | None]

    @classmethod
    def of(cls, event: evt.Event) -> Told:
        data, assoc = event.event_information, event.assoc
        role = assoc.requestor.role_selection.get(MODEL)
        return cls(
            str(data.TransactionUID),
            event.event_type,
            [_pair(one) for one in data.get("ReferencedSOPSequence", ())],
            {_pair(one): int(one.FailureReason) for one in data.get("FailedSOPSequence", ())},
            (str(assoc.requestor.ae_title), str(assoc.acceptor.ae_title)),
            (None, None) if role is None else (role.scu_role, role.scp_role),
        )


def _pair(one: Dataset) -> Pair:
    return str(one.ReferencedSOPClassUID), str(one.ReferencedSOPInstanceUID)


@attrs.define
class Peer:
    """A peer of pynetdicom: what it was told, asked and sent; what it answers, and which object it does not take."""

    port: int = 0
    seen: Seen = attrs.field(factory=Seen)
    told: list[Told] = attrs.field(factory=list)
    asked: list[Dataset] = attrs.field(factory=list)
    stored: list[str] = attrs.field(factory=list)
    status: int = 0
    refused: str = ""

    def event(self, event: evt.Event) -> tuple[int, None]:
        self.told.append(Told.of(event))
        return self.status, None

    def action(self, event: evt.Event) -> tuple[int, None]:
        if (event.action_type, event.request.RequestedSOPInstanceUID) != (1, INSTANCE):
            return 0x0110, None
        self.asked.append(event.action_information)
        return self.status, None

    def store(self, event: evt.Event) -> int:
        sop = str(event.request.AffectedSOPInstanceUID)
        self.stored.append(sop)
        return 0xA700 if sop == self.refused else 0


@contextlib.contextmanager
def peer(contexts: Sequence[Any] = ((MODEL, (IMPLICIT, EXPLICIT)),), port: int = 0) -> Iterator[Peer]:
    """A peer that runs."""
    made = Peer()
    handlers = [
        (evt.EVT_N_EVENT_REPORT, made.event),
        (evt.EVT_N_ACTION, made.action),
        (evt.EVT_C_STORE, made.store),
    ]
    with pynetdicom_server(contexts, handlers, port=port) as (made.port, made.seen):
        yield made


def n_command(field: int, message_id: int = 1, **values: int | str) -> bytes:
    """An N-ACTION-RQ or N-EVENT-REPORT-RQ; `kind`, `model` and `instance` other than usual."""
    is_action = field == dimse.N_ACTION_RQ
    command: dict[int, int | str] = {
        dimse.REQUESTED_SOP_CLASS if is_action else dimse.AFFECTED_SOP_CLASS: values.get("model", MODEL),
        dimse.COMMAND_FIELD: field,
        dimse.MESSAGE_ID: message_id,
        dimse.DATA_SET_TYPE: values.get("data_set", 1),
        dimse.REQUESTED_SOP_INSTANCE if is_action else dimse.AFFECTED_SOP_INSTANCE: values.get("instance", INSTANCE),
        dimse.ACTION_TYPE if is_action else dimse.EVENT_TYPE: values.get("kind", 1),
    }
    return dimse.encode_command(command)


class RawCommitter(RawPeer):
    """A raw peer with a context for storage commitment."""

    def __init__(self, port: int, calling: str = "PEER") -> None:
        super().__init__(port)
        self.associate(contexts=(CONTEXT,), calling=calling)

    def ask(self, field: int, data: bytes | None, **values: int | str) -> int:
        """A request; the status of its answer."""
        if data is None:
            values["data_set"] = dimse.NO_DATA_SET
        self.send(data_pdus(1, n_command(field, **values), True))
        if data is not None:
            self.send(data_pdus(1, data, False))
        return self.response().number(dimse.STATUS)


class CommitmentCase(RetrieveCase):
    """A server that knows a modality of the title PEER, once `know` was told its port."""

    SETTINGS: ClassVar[Mapping[str, object]] = {**RetrieveCase.SETTINGS, "DicomAssociationCloseDelay": 0}

    async def ask(self, data: Dataset, calling: str = "PEER", called: str = "ORTHANC") -> int:
        """N-ACTION of pynetdicom; the status of the answer."""

        def act() -> int:
            association = _associated(self.dicom_port, calling, called)
            try:
                return int(association.send_n_action(data, 1, MODEL, INSTANCE)[0].Status)
            finally:
                association.release()

        return await in_thread(act)

    async def tell(self, data: Dataset, calling: str = "PEER", event_type: int = 1) -> int:
        """N-EVENT-REPORT of pynetdicom; the status of the answer."""

        def report() -> int:
            association = _associated(self.dicom_port, calling, "ORTHANC", [build_role(MODEL, scp_role=True)])
            try:
                return int(association.send_n_event_report(data, event_type, MODEL, INSTANCE)[0].Status)
            finally:
                association.release()

        return await in_thread(report)

    async def job(self, *states: str) -> dict[str, Any]:
        """The only job, once it is in one of these states."""
        while True:
            (job,) = await self.client.json("/jobs", expand=1)
            if job["State"] in states:
                found: dict[str, Any] = job
                return found

    async def raw(self, field: int, data: bytes | None, calling: str = "PEER", **values: int | str) -> int:
        """A request of a raw peer; the status of its answer."""

        def act() -> int:
            with RawCommitter(self.dicom_port, calling) as raw:
                status = raw.ask(field, data, **values)
                raw.release()
                return status

        return await in_thread(act)


def _associated(port: int, calling: str, called: str, roles: Sequence[Any] = ()) -> Any:
    entity = AE(ae_title=calling)
    entity.add_requested_context(MODEL, [EXPLICIT])
    association = entity.associate("127.0.0.1", port, ae_title=called, ext_neg=list(roles))
    if not association.is_established:
        raise AssertionError("associated in vain")
    return association
