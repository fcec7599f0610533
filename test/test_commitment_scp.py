"""Storage commitment that others ask for: what is confirmed, who is told and how, who may ask; hostile peers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt

from orthanctw.dicom import dimse
from orthanctw.dicom.commitment import CommitmentRequest, decode_report, encode_request
from orthanctw.dicom.scp import commitment
from orthanctw.model import AttachmentType
from test.dicom_commitments import (
    INSTANCE,
    MODEL,
    MR,
    CommitmentCase,
    Pair,
    RawCommitter,
    Told,
    n_command,
    peer,
    wanted,
)
from test.dicom_files import element
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, data_pdus, in_thread
from test.rest_samples import dicom_object
from test.scu_case import Connection, Script, pynetdicom_server
from test.servers import free_port

FIRST = (CT, "1.2.1.1.1")
SECOND = (CT, "1.2.1.1.2")


def explicit(transaction: str, *pairs: Pair) -> bytes:
    """The data set of a request."""
    return encode_request(CommitmentRequest(transaction_uid=transaction, references=pairs), explicit=True)


class ReportTests(CommitmentCase):
    """What is reported."""

    async def asked(self, *pairs: Pair) -> Told:
        """What the report says of these objects."""
        with peer() as sink:
            await self.know(sink.port, "PEER")
            self.assertEqual(await self.ask(wanted("1.2.3", pairs)), 0)
            await self.until(lambda: sink.told)
            return sink.told[0]

    async def stored_file(self, sop: str) -> Path:
        """The file of an instance in the storage area."""
        (public_id,) = await self.client.find("Instance", {"SOPInstanceUID": sop})
        attachments = await self.server.index.instance_attachments([public_id])
        return Path(self.server.storage.path(attachments[public_id][AttachmentType.DICOM].uuid))

    async def test_all(self) -> None:
        """All objects are there: event 1, from the title that was called, in the role of an SCP; the job says so."""
        await self.fill()
        with peer() as sink:
            await self.know(sink.port, "PEER")
            self.assertEqual(await self.ask(wanted("1.2.3.4", [FIRST, SECOND]), called="ELSE"), 0)
            await self.until(lambda: sink.told)
            self.assertEqual(
                sink.told, [Told("1.2.3.4", 1, [FIRST, SECOND], {}, ("ELSE", "PEER"), (False, True))]
            )
            job = await self.job("Success")
            self.assertEqual((job["Type"], job["Progress"], job["ErrorCode"]), ("StorageCommitmentScp", 100, 0))
            shown = {"CalledAet": "ELSE", "RemoteAet": "PEER", "RemoteIp": "127.0.0.1", "TransactionUid": "1.2.3.4"}
            self.assertEqual(job["Content"], {"Description": "", **shown})
            await self.until(lambda: sink.seen.events[-1] == "released")
            self.assertEqual(sink.seen.contexts, [[(MODEL, [IMPLICIT, EXPLICIT])]])

    async def test_failures(self) -> None:
        """Missing objects and other classes are told apart; the same object twice is told once, and by each class."""
        await self.fill()
        told = await self.asked(FIRST, (CT, "1.2.9"), (MR, "1.2.1.1.1"), FIRST, (MR, "1.2.9"), SECOND)
        self.assertEqual((told.event_type, told.committed), (2, [FIRST, SECOND]))
        self.assertEqual(told.failed, {(CT, "1.2.9"): 0x0112, (MR, "1.2.1.1.1"): 0x0119, (MR, "1.2.9"): 0x0112})

    async def test_no_objects(self) -> None:
        """As with Orthanc, who asks for nothing is told so."""
        told = await self.asked()
        self.assertEqual((told.event_type, told.committed, told.failed), (1, [], {}))

    async def test_same_uid_in_two_series(self) -> None:
        """One whole object of the UID and class is enough."""
        await self.client.store(dicom_object())
        self.flip(await self.stored_file("1.2.1.1.1"))
        await self.client.store(dicom_object(series="1.2.1.7"))
        self.assertEqual(len(await self.instances()), 2)
        self.assertEqual((await self.asked(FIRST)).committed, [FIRST])

    def flip(self, path: Path) -> None:
        """Change a bit in the middle of a file."""
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    async def damages(self) -> None:
        """One file is changed, one is shorter, one is gone; the fourth is whole."""
        await self.fill()
        self.flip(await self.stored_file("1.2.1.1.1"))
        path = await self.stored_file("1.2.1.1.2")
        os.truncate(path, path.stat().st_size - 2)
        (await self.stored_file("1.2.1.2.1")).unlink()
        # What is in memory counts for nothing.
        pairs = [(CT, sop) for sop in ("1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1", "1.2.2.1.1")]
        told = await self.asked(*pairs)
        self.assertEqual(told.committed, pairs[3:])
        self.assertEqual(told.failed, dict.fromkeys(pairs[:3], 0x0110))

    async def test_damage(self) -> None:
        """Files are read back, and compared with their digests."""
        await self.damages()

    async def test_damage_of_compressed_files(self) -> None:
        """The same with compressed files."""
        await self.restart(StorageCompression=True)
        await self.damages()

    async def test_damage_without_digests(self) -> None:
        """Without MD5 the checksum tells."""
        await self.restart(StoreMD5ForAttachments=False)
        await self.damages()

    async def test_files_that_are_not_kept(self) -> None:
        """What is in the index alone is not there."""
        await self.restart(StoreDicom=False)
        await self.fill()
        self.assertEqual((await self.asked(FIRST)).failed, {FIRST: 0x0112})

    async def test_many(self) -> None:
        """A hundred thousand objects in one request, answered at once, checked and told of."""
        await self.restart(DicomScuTimeout=60)
        await self.fill()
        pairs = [FIRST, *((CT, f"1.2.3.{number}") for number in range(99_999))]
        told: list[bytes] = []

        def event(event: evt.Event) -> tuple[int, None]:
            told.append(event.request.EventInformation.getvalue())
            return 0, None

        with pynetdicom_server([(MODEL, [EXPLICIT])], [(evt.EVT_N_EVENT_REPORT, event)]) as (port, _):
            await self.know(port, "PEER")
            self.assertEqual(await self.raw(dimse.N_ACTION_RQ, explicit("1.2.3", *pairs)), 0)
            await self.until(lambda: told)
            await self.job("Success")
        report = decode_report(told[0], explicit=True)
        self.assertEqual((report.committed, report.failed), (pairs[:1], [(pair, 0x0112) for pair in pairs[1:]]))


class DeliveryTests(CommitmentCase):
    """How reports come to those who asked."""

    async def again(self) -> None:
        """Have the waiting job make its next attempt now."""
        job = (await self.job("Retry"))["ID"]
        for action in ("pause", "resume"):
            self.assertEqual((await self.client.post(f"/jobs/{job}/{action}")).status, 200)

    async def test_peer_away(self) -> None:
        """Who cannot be reached is told later, of how things are then."""
        await self.fill()
        port = free_port()
        await self.know(port, "PEER")
        self.assertEqual(await self.ask(wanted("1.2.3", [FIRST, SECOND])), 0)
        await self.job("Retry")
        (public_id,) = await self.client.find("Instance", {"SOPInstanceUID": SECOND[1]})
        await self.client.ask("DELETE", f"/instances/{public_id}")
        with peer(port=port) as sink:
            await self.again()
            await self.job("Success")
            self.assertEqual([(one.committed, one.failed) for one in sink.told], [([FIRST], {SECOND: 0x0112})])

    async def test_report_refused(self) -> None:
        """A status that is no success leads to another attempt."""
        await self.fill()
        with peer() as sink:
            sink.status = 0x0110
            await self.know(sink.port, "PEER")
            self.assertEqual(await self.ask(wanted("1.2.3", [FIRST])), 0)
            await self.job("Retry")
            sink.status = 0
            await self.again()
            await self.job("Success")
            self.assertEqual(len(sink.told), 2)

    async def test_peer_without_roles(self) -> None:
        """A peer that says nothing of roles is told all the same."""
        await self.fill()

        def serve(connection: Connection) -> None:
            connection.accept(knows_roles=False)
            command = connection.command()
            connection.data_set()
            connection.respond(command.field | dimse.RESPONSE, command.number(dimse.MESSAGE_ID), 0)
            connection.until_end()

        async with Script(serve) as script:
            await self.know(script.port, "PEER")
            self.assertEqual(await self.ask(wanted("1.2.3", [FIRST])), 0)
            await self.job("Success")
        self.assertEqual((script.failures, script.connections), ([], 1))

    async def test_modality_gone(self) -> None:
        """A modality that was removed meanwhile is not told; the job says why."""
        await self.know(free_port(), "PEER")
        self.assertEqual(await self.ask(wanted("1.2.3", [FIRST])), 0)
        await self.job("Retry")
        await self.client.ask("DELETE", "/modalities/peer")
        await self.again()
        job = await self.job("Failure")
        self.assertIn("PEER", job["ErrorDetails"])

    async def test_same_transaction(self) -> None:
        """A transaction that is not over is a duplicate, but for another peer it is another one."""
        await self.know(free_port(), "PEER")
        await self.know(free_port(), "OTHER")
        self.assertEqual(await self.ask(wanted("1.2.3", [FIRST])), 0)
        self.assertEqual(await self.ask(wanted("1.2.3", [FIRST])), 0x0131)
        self.assertEqual(await self.ask(wanted("1.2.3", [FIRST]), calling="OTHER"), 0)
        self.assertEqual(len(await self.client.json("/jobs")), 2)

    async def test_on_the_association_of_the_request(self) -> None:
        """Who cannot be reached by a new association is told on the one that is open."""
        await self.fill()
        await self.know(free_port(), "PEER")
        told: list[Any] = []

        def event(event: evt.Event) -> tuple[int, None]:
            told.append(Told.of(event))
            return 0, None

        entity = AE(ae_title="PEER")
        entity.add_requested_context(MODEL, [EXPLICIT])
        handlers = [(evt.EVT_N_EVENT_REPORT, event)]
        association = await in_thread(
            lambda: entity.associate("127.0.0.1", self.dicom_port, ae_title="ORTHANC", evt_handlers=handlers)
        )
        try:
            data = wanted("1.2.3", [FIRST, (CT, "1.2.9")])
            status, _ = await in_thread(association.send_n_action, data, 1, MODEL, INSTANCE)
            self.assertEqual(status.Status, 0)
            await self.job("Success")
            # The association is as good as before.
            status, _ = await in_thread(association.send_n_action, wanted("1.2.4", [FIRST]), 1, MODEL, INSTANCE)
            self.assertEqual(status.Status, 0)
            await self.until(lambda: len(told) == 2)
        finally:
            await in_thread(association.release)
        self.assertEqual((told[0].committed, told[0].failed), ([FIRST], {(CT, "1.2.9"): 0x0112}))
        self.assertEqual((told[0].event_type, told[1].transaction), (2, "1.2.4"))

    async def test_association_gone(self) -> None:
        """A peer that breaks off when it is told on its own association is told later."""
        await self.fill()
        port = free_port()
        await self.know(port, "PEER")

        def leave() -> None:
            with RawCommitter(self.dicom_port) as raw:
                self.assertEqual(raw.ask(dimse.N_ACTION_RQ, explicit("1.2.3", FIRST)), 0)
                self.assertEqual(raw.response().field, dimse.N_EVENT_REPORT_RQ)

        await in_thread(leave)
        await self.job("Retry")
        with peer(port=port) as sink:
            await self.again()
            await self.job("Success")
            self.assertEqual(len(sink.told), 1)


class PermissionTests(CommitmentCase):
    """Who may ask, and report."""

    async def test_strangers(self) -> None:
        """Unknown application entities are refused, whatever they send; no job is made."""
        for field in (dimse.N_ACTION_RQ, dimse.N_EVENT_REPORT_RQ):
            for data in (explicit("1.2.3", FIRST), None, b"\xff" * 100_000):
                self.assertEqual(await self.raw(field, data, calling="STRANGER"), dimse.NOT_AUTHORIZED)
        self.assertEqual(await self.client.json("/jobs"), [])
        self.assertEqual(self.spooled(), [])

    async def test_options_of_modalities(self) -> None:
        """Each of both can be forbidden, or both at once."""
        request = explicit("1.2.3", FIRST)
        for fields, action, event in (
            ({"AllowStorageCommitment": False}, dimse.NOT_AUTHORIZED, dimse.NOT_AUTHORIZED),
            ({"AllowNAction": False}, dimse.NOT_AUTHORIZED, dimse.INVALID_ARGUMENT_VALUE),
            ({"AllowEventReport": False}, 0, dimse.NOT_AUTHORIZED),
        ):
            await self.know(free_port(), "PEER", **fields)
            self.assertEqual(await self.raw(dimse.N_ACTION_RQ, request), action, fields)
            self.assertEqual(await self.raw(dimse.N_EVENT_REPORT_RQ, request), event, fields)

    async def test_forbidden_meanwhile(self) -> None:
        """A modality that is removed before its request is whole is refused, and nothing of the request is left."""
        await self.know(free_port(), "PEER")
        raw = await in_thread(RawCommitter, self.dicom_port)
        with raw:
            await in_thread(raw.send, data_pdus(1, n_command(dimse.N_ACTION_RQ), True))
            await self.until(lambda: any(one._assembler._sink for one in self.server.dicom._connections))
            await self.client.ask("DELETE", "/modalities/peer")
            await in_thread(raw.send, data_pdus(1, explicit("1.2.3", FIRST), False))
            response = await in_thread(raw.response)
        self.assertEqual(response.number(dimse.STATUS), dimse.NOT_AUTHORIZED)

    async def test_other_services(self) -> None:
        """The context is for these two requests, and they have no other one."""
        await self.know(free_port(), "PEER")

        def other() -> list[int]:
            with RawCommitter(self.dicom_port) as raw:
                return [raw.ask(field, explicit("1.2.3", FIRST)) for field in (dimse.C_FIND_RQ, 0x0110, 0x0140)]

        self.assertEqual(await in_thread(other), [dimse.UNRECOGNIZED_OPERATION] * 3)


class HostileTests(CommitmentCase):
    """Requests that are none."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.know(free_port(), "PEER")

    async def test_statuses(self) -> None:
        """Each mistake has its status, and the association goes on."""
        good = explicit("1.2.3", FIRST)
        argument = dimse.INVALID_ARGUMENT_VALUE
        transaction = element(0x00081195, "UI", "1.2.3")
        cases: list[tuple[bytes | None, dict[str, int | str], int]] = [
            (None, {}, argument),
            (b"", {}, argument),
            (b"\xff" * 10_000, {}, argument),
            (good[:-3], {}, argument),
            (transaction, {}, argument),
            (explicit("", FIRST), {}, argument),
            (explicit("one", FIRST), {}, argument),
            (explicit("1" * 65, FIRST), {}, argument),
            (explicit("1.2.3", (CT, "")), {}, argument),
            (explicit("1.2.3", (CT, "1.2 3")), {}, argument),
            (explicit("1.2.3", ("CT", "1.2")), {}, argument),
            (transaction + element(0x00081199, "UI", "1.2.3"), {}, argument),
            (good, {"kind": 2}, dimse.NO_SUCH_ACTION),
            (good, {"instance": "1.2.3"}, dimse.NO_SUCH_OBJECT_INSTANCE),
            (good, {"model": "1.2.3"}, dimse.NO_SUCH_SOP_CLASS),
        ]

        def act() -> list[int]:
            with RawCommitter(self.dicom_port) as raw:
                return [raw.ask(dimse.N_ACTION_RQ, data, **values) for data, values, _ in cases]

        self.assertEqual(await in_thread(act), [status for _, _, status in cases])
        self.assertEqual(await self.client.json("/jobs"), [])

    async def test_too_long(self) -> None:
        """What is longer than any request is not gathered."""
        self.patch(commitment, "COMMITMENT_LIMIT", 1000)
        pairs = [(CT, f"1.2.{number}") for number in range(100)]
        status = await self.raw(dimse.N_ACTION_RQ, explicit("1.2.3", *pairs))
        self.assertEqual(status, dimse.RESOURCE_LIMITATION)

    async def test_broken_off(self) -> None:
        """A peer that leaves in the middle of a request leaves nothing."""
        await self.restart(Orthanctw={"SpoolThresholdKB": 0})
        await self.know(free_port(), "PEER")
        data = explicit("1.2.3", *((CT, f"1.2.{number}") for number in range(5000)))

        def leave() -> None:
            with RawCommitter(self.dicom_port) as raw:
                raw.send(data_pdus(1, n_command(dimse.N_ACTION_RQ), True))
                raw.send(data_pdus(1, data[: len(data) // 2], False, last=False))

        await in_thread(leave)
        await self.until(lambda: not self.server.dicom._connections)
        await self.until(lambda: not self.spooled())
        self.assertEqual(await self.client.json("/jobs"), [])

    async def test_spooled(self) -> None:
        """What does not find room in memory goes through a file."""
        await self.restart(Orthanctw={"SpoolThresholdKB": 0})
        await self.know(free_port(), "PEER")
        data = explicit("1.2.3", *((CT, f"1.2.{number}") for number in range(5000)))
        self.assertEqual(await self.raw(dimse.N_ACTION_RQ, data), 0)
        await self.job("Retry")
        await self.until(lambda: not self.spooled())
