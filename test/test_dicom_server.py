"""The DICOM server with real peers: its services, what is stored, streaming, a full disk, its stop."""

from __future__ import annotations

import io
import struct
from typing import ClassVar

import pydicom
from twisted.logger import LogEvent, globalLogPublisher

from orthanctw.dicom import dimse
from orthanctw.dicom.scp.negotiation import IMPLEMENTATION_CLASS_UID
from orthanctw.dicom.upper import pdus
from test.dicom_case import DicomCase
from test.dicom_peers import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    RawPeer,
    data_pdus,
    data_set,
    echo_command,
    in_thread,
    pynetdicom_peer,
    run,
    sop_instance,
    store_command,
    without_meta,
)
from test.rest_samples import dicom_object
from test.servers import ct_image


class ServiceTest(DicomCase):
    """C-ECHO and C-STORE."""

    async def test_echo(self) -> None:
        """DCMTK's echoscu, repeated on one association, is answered with success."""
        ran = await run("echoscu", "-v", "--repeat", "3", "127.0.0.1", str(self.dicom_port))
        self.assertEqual((ran.status, ran.output.count("Received Echo Response (Success)")), (0, 3), ran.output)

    async def test_echo_proposals(self) -> None:
        """Echo works however many contexts and transfer syntaxes are proposed for it."""
        ran = await run("echoscu", "-v", "-pts", "38", "-ppc", "100", "127.0.0.1", str(self.dicom_port))
        self.assertEqual(ran.status, 0, ran.output)

    async def test_store(self) -> None:
        """An object is stored with the data set that was sent and file meta information of ours."""
        await self.storescu(self.file(ct_image(1)))
        file = await self.stored()
        self.assertEqual(without_meta(file), data_set(1))
        meta = pydicom.dcmread(io.BytesIO(file)).file_meta
        self.assertEqual(
            (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID),
            (CT, sop_instance(1), EXPLICIT),
        )
        self.assertEqual(meta.ImplementationClassUID, IMPLEMENTATION_CLASS_UID)

    async def test_origin(self) -> None:
        """The instance tells where it came from."""
        await self.storescu("-aet", "SENDER", "-aec", "OTHER", self.file(ct_image(1)))
        (instance,) = await self.instances()
        metadata = {
            name: (await self.client.get(f"/instances/{instance}/metadata/{name}")).text
            for name in ("Origin", "RemoteAET", "CalledAET", "RemoteIP", "TransferSyntax", "SopClassUid")
        }
        self.assertEqual(
            metadata,
            {
                "Origin": "DicomProtocol",
                "RemoteAET": "SENDER",
                "CalledAET": "OTHER",
                "RemoteIP": "127.0.0.1",
                "TransferSyntax": EXPLICIT,
                "SopClassUid": CT,
            },
        )

    async def test_second_time(self) -> None:
        """An object that is stored already is a success, too, and is stored once."""
        path = self.file(ct_image(1))
        await self.storescu(path, path)
        self.assertEqual(len(await self.instances()), 1)
        self.assertEqual(len(self.files()), 1)

    async def test_pynetdicom(self) -> None:
        """pynetdicom stores and verifies on one association, which it then releases."""

        def peer() -> tuple[list[int], bool]:
            association = pynetdicom_peer(self.dicom_port, [(VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT])])
            statuses = [association.send_c_echo().Status]
            images = [pydicom.dcmread(io.BytesIO(ct_image(number))) for number in range(1, 4)]
            statuses += [association.send_c_store(image).Status for image in images]
            association.release()
            return statuses, association.is_released

        self.assertEqual(await in_thread(peer), ([0, 0, 0, 0], True))
        self.assertEqual(len(await self.instances()), 3)

    async def test_dcmsend(self) -> None:
        """DCMTK's dcmsend sends a folder."""
        for number in range(1, 6):
            self.file(ct_image(number), f"{number}.dcm")
        ran = await run("dcmsend", "-v", "--scan-directories", "127.0.0.1", str(self.dicom_port), str(self.work))
        self.assertEqual(ran.status, 0, ran.output)
        self.assertEqual(len(await self.instances()), 5)

    async def test_statuses(self) -> None:
        """What contradicts itself is 0xA900, what cannot be read 0xC000; each with a comment, and nothing is stored."""

        def peer() -> list[tuple[int, bool]]:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                data, sop = data_set(1), sop_instance(1)
                other_class = "1.2.840.10008.5.1.4.1.1.4"
                no_study = data.replace(struct.pack("<HH", 0x20, 0xD), struct.pack("<HH", 0x20, 0xC))
                answers = [
                    raw.store(data, "1.2.3"),
                    raw.store(data, sop, sop_class=other_class),
                    raw.store(b"", sop),
                    raw.store(b"not a data set at all", sop),
                    raw.store(data[:-10], sop),
                    raw.store(no_study, sop),
                    raw.store(data, "../../x"),
                    raw.store(data, "1." * 33),
                    raw.store(data, sop, sop_class="x"),
                ]
                raw.release()
                return [(a.number(dimse.STATUS), bool(a.text(dimse.ERROR_COMMENT))) for a in answers]

        self.assertEqual(
            await in_thread(peer),
            [(s, True) for s in (0xA900, 0xA900, 0xC000, 0xC000, 0xC000, 0xC000, 0x0117, 0x0117, 0x0117)],
        )
        self.assertEqual((await self.instances(), self.files()), ([], []))

    async def test_comments_name_nobody(self) -> None:
        """An error comment has nothing of the data set and no path of the server."""

        def peer() -> str:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                return raw.store(data_set(1, name="SECRET^NAME", patient="SECRET"), "1.2.3").text(dimse.ERROR_COMMENT)

        comment = await in_thread(peer)
        self.assertNotIn("SECRET", comment)
        self.assertNotIn("/", comment)

    async def test_other_operations(self) -> None:
        """Operations that are not offered, and messages nobody waits for, do not end an association."""

        def peer() -> list[int]:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                find = dimse.encode_command(
                    {dimse.COMMAND_FIELD: dimse.C_FIND_RQ, dimse.MESSAGE_ID: 5, dimse.DATA_SET_TYPE: 1}
                )
                raw.send(data_pdus(3, find, True), data_pdus(3, bytes(50), False))
                statuses = [raw.response().number(dimse.STATUS)]
                unasked = dimse.encode_command(
                    {
                        dimse.COMMAND_FIELD: dimse.C_STORE_RQ | dimse.RESPONSE,
                        dimse.RESPONDED_TO: 5,
                        dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
                        dimse.STATUS: 0,
                    }
                )
                cancel = dimse.encode_command(
                    {dimse.COMMAND_FIELD: dimse.C_CANCEL_RQ, dimse.RESPONDED_TO: 5, dimse.DATA_SET_TYPE: 0x101}
                )
                raw.send(data_pdus(3, unasked, True), data_pdus(3, cancel, True))
                statuses.append(raw.echo())
                return statuses

        self.assertEqual(await in_thread(peer), [dimse.UNRECOGNIZED_OPERATION, 0])

    async def test_store_without_a_data_set(self) -> None:
        """A C-STORE that announces no data set, and one on the context of C-ECHO, are refused."""

        def peer() -> list[int]:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                command = store_command("1.2.3")
                at = command.index(struct.pack("<HHI", 0, dimse.DATA_SET_TYPE, 2)) + 8
                raw.send(data_pdus(3, command[:at] + b"\1\1" + command[at + 2 :], True))
                statuses = [raw.response().number(dimse.STATUS)]
                statuses.append(raw.store(data_set(1), sop_instance(1), context_id=1).number(dimse.STATUS))
                statuses.append(raw.echo())
                return statuses

        self.assertEqual(await in_thread(peer), [0xC000, dimse.SOP_CLASS_NOT_SUPPORTED, 0])

    async def test_requests_ahead(self) -> None:
        """A peer that sends a store and hundreds of requests without waiting gets every answer, in order."""

        def peer() -> list[int]:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                raw.send(
                    data_pdus(3, store_command(sop_instance(1), message_id=1), True),
                    data_pdus(3, data_set(1), False),
                    *(data_pdus(1, echo_command(number), True) for number in range(2, 1002)),
                    pdus.RELEASE_RQ,
                )
                answers = [raw.response().number(dimse.RESPONDED_TO) for _ in range(1001)]
                return [*answers, raw.pdu()[0]]

        self.assertEqual(await in_thread(peer), [*range(1, 1002), pdus.PduType.RELEASE_RP])

    async def test_logs(self) -> None:
        """An association is logged with the title, the address and the number of requests, and without a patient."""
        lines: list[str] = []

        def observe(event: LogEvent) -> None:
            if str(event.get("log_namespace")).startswith("orthanctw"):
                lines.append(str(event.get("log_format", "")).format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        await self.storescu("-aet", "SENDER", self.file(ct_image(1, name="SECRET^NAME", patient="SECRET")))
        await self.until(lambda: self.server.dicom.association_count == 0)
        text = "\n".join(lines)
        self.assertIn("Association of SENDER at 127.0.0.1 ended: 1 C-STORE", text)
        self.assertNotIn("SECRET", text)


class StreamingTest(DicomCase):
    """Data sets that go to disk while they come."""

    SETTINGS: ClassVar = {"Orthanctw": {"SpoolThresholdKB": 16}, "MaximumPduLength": 131072}

    async def test_spooled(self) -> None:
        """A data set over the threshold is in a spool file while it comes, and becomes the stored file."""
        data = data_set(1, side=1200)

        def peer(stop: int) -> int:
            raw.send(data_pdus(3, store_command(sop_instance(1)), True), data_pdus(3, data[:stop], False, last=False))
            return 0

        raw = RawPeer(self.dicom_port)
        self.addCleanup(raw.socket.close)
        await in_thread(raw.associate)
        await in_thread(peer, 2_000_000)
        await self.until(self.spooled)
        self.assertEqual(self.server.body_limits.budget.used, 0)
        await in_thread(raw.send, data_pdus(3, data[2_000_000:], False))
        answer = await in_thread(raw.response)
        self.assertEqual(answer.number(dimse.STATUS), 0)
        self.assertEqual(without_meta(await self.stored()), data)
        self.assertEqual(self.spooled(), [])

    async def test_tiny_values(self) -> None:
        """Data in values of one octet, many in a PDU, arrive as they are."""
        data = data_set(1)
        values = [pdus.Pdv(3, False, at == len(data) - 1, data[at : at + 1]) for at in range(len(data))]

        def peer() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                raw.send(
                    data_pdus(3, store_command(sop_instance(1)), True, 1),
                    *(pdus.encode_data(values[at : at + 300]) for at in range(0, len(values), 300)),
                )
                return raw.response().number(dimse.STATUS)

        self.assertEqual(await in_thread(peer), 0)
        self.assertEqual(without_meta(await self.stored()), data)

    async def test_cut_off(self) -> None:
        """A data set that an abort, a release or a lost connection cuts off leaves nothing behind."""
        data = data_set(1, side=1200)

        def peer(last: bytes) -> None:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                raw.send(
                    data_pdus(3, store_command(sop_instance(1)), True), data_pdus(3, data, False, last=False), last
                )
                if last == pdus.RELEASE_RQ:
                    self.assertEqual(raw.pdu()[0], pdus.PduType.RELEASE_RP)

        before = await self.client.json("/statistics")
        for last in (pdus.encode_abort(pdus.Abort(0, 0)), pdus.RELEASE_RQ, b"", b"\x99\0\0\0\0\0"):
            await in_thread(peer, last)
            await self.until(lambda: not self.server.dicom._connections and not self.spooled())
        self.assertEqual(await self.client.json("/statistics"), before)
        self.assertEqual((self.files(), self.server.dicom.association_count), ([], 0))


class FullTest(DicomCase):
    """A server without room."""

    async def test_quota(self) -> None:
        """``MaximumStorageMode`` Reject: 0xA700, and what was there stays."""
        await self.restart(MaximumPatientCount=1, MaximumStorageMode="Reject")
        await self.client.store(dicom_object("FIRST"))

        def peer() -> tuple[int, str]:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                answer = raw.store(data_set(1), sop_instance(1))
                return answer.number(dimse.STATUS), answer.text(dimse.ERROR_COMMENT)

        status, comment = await in_thread(peer)
        self.assertEqual((status, bool(comment)), (0xA700, True))
        self.assertEqual((len(await self.instances()), len(self.files())), (1, 1))
