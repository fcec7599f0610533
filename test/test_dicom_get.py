"""C-GET SCP with real peers: what is sent, in which encoding, what is told of it, and its ends."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy
import pydicom
from pydicom.data import get_testdata_file
from pynetdicom import AE, build_role, evt

from orthanctw.dicom import dimse
from orthanctw.dicom.dimse import Command
from orthanctw.dicom.scp.negotiation import STUDY_ROOT_GET
from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import ProposedContext
from test.dicom_files import BIG_ENDIAN, element, meta
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, data_pdus, echo_command, in_thread, run, without_meta
from test.dicom_queries import ASKING, GET, AskingPeer, cancel, identifier, keys, request
from test.dicom_retrievals import GETTING, STUDY, Ended, RetrieveCase
from test.rest_samples import LargeObject, dicom_object
from test.servers import ct_image

_JPEG = "1.2.840.10008.1.2.4.50"


@attrs.define
class Getter:
    """A peer that asks by C-GET and answers the sub-operations."""

    peer: AskingPeer
    #: Called for each object; the status to answer.
    store: Callable[[str, bytes], int] = lambda sop, data: 0
    received: dict[str, bytes] = attrs.field(factory=dict)

    def run(self) -> Ended:
        """Answer until the final response."""
        while True:
            command, data = self.peer.message()
            if command.field == dimse.C_STORE_RQ:
                sop = command.text(dimse.AFFECTED_SOP_INSTANCE)
                status = self.store(sop, data)
                self.received[sop] = data
                self.respond(command, status)
            elif command.number(dimse.STATUS) != dimse.PENDING and command.field == dimse.C_GET_RQ | dimse.RESPONSE:
                return Ended.of(command, data)

    def respond(self, command: Command, status: int) -> None:
        self.peer.send(data_pdus(3, dimse.response(command, status), True))


class GetTest(RetrieveCase):
    """C-GET."""

    SETTINGS: ClassVar[Mapping[str, object]] = {**RetrieveCase.SETTINGS, "DicomScpTimeout": 1}

    async def get(
        self, store: Callable[[str, bytes], int] = lambda sop, data: 0, **association: Any
    ) -> tuple[Ended, dict[str, bytes]]:
        """A C-GET of a raw peer, and what it received."""

        def ask() -> tuple[Ended, dict[str, bytes]]:
            with AskingPeer(self.dicom_port, **{**GETTING, **association}) as peer:
                getter = Getter(peer, store)
                peer.send(request(GET, STUDY))
                ended = getter.run()
                peer.release()
                return ended, getter.received

        return await in_thread(ask)

    async def test_getscu(self) -> None:
        """DCMTK's getscu receives the very data sets."""
        await self.fill()
        ran = await run(
            *("getscu", "-v", "-S", "-aec", "ORTHANC", "-od", str(self.work), "-k", "QueryRetrieveLevel=STUDY"),
            *("-k", "StudyInstanceUID=1.2.1", "127.0.0.1", str(self.dicom_port)),
        )
        self.assertEqual(ran.status, 0, ran.output)
        self.assertIn("Number of Completed Suboperations : 3", ran.output)
        received = {pydicom.dcmread(path).SOPInstanceUID: path.read_bytes() for path in self.work.iterdir()}
        self.assertEqual(
            without_meta(received["1.2.1.1.2"]), without_meta(dicom_object("P1", "1.2.1", "1.2.1.1", "1.2.1.1.2"))
        )
        self.assertEqual(len(received), 3)

    async def test_getscu_that_fails(self) -> None:
        """DCMTK's getscu gets over objects of which it has not proposed the class."""
        await self.client.store(dicom_object(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.99.1"))
        await self.client.store(dicom_object(sop="1.2.1.1.2"))
        ran = await run(
            *("getscu", "-v", "-S", "-aec", "ORTHANC", "-od", str(self.work), "-k", "QueryRetrieveLevel=STUDY"),
            *("-k", "StudyInstanceUID=1.2.1", "127.0.0.1", str(self.dicom_port)),
        )
        self.assertIn("Number of Completed Suboperations : 1", ran.output)
        self.assertIn("Number of Failed Suboperations    : 1", ran.output)
        self.assertIn("Releasing Association", ran.output)

    async def test_pynetdicom(self) -> None:
        """pynetdicom receives with role selection; without it nothing is sent, and that is told."""
        await self.fill()

        def ask(with_role: bool) -> tuple[int, int, list[str]]:
            entity = AE(ae_title="GETTER")
            entity.add_requested_context(STUDY_ROOT_GET)
            entity.add_requested_context(CT, EXPLICIT)
            found: list[str] = []

            def store(event: evt.Event) -> int:
                found.append(str(event.dataset.SOPInstanceUID))
                return 0

            roles = [build_role(CT, scp_role=True)] if with_role else []
            association = entity.associate(
                "127.0.0.1", self.dicom_port, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, store)]
            )
            *_, (status, _) = association.send_c_get(keys("STUDY", StudyInstanceUID="1.2.1"), STUDY_ROOT_GET)
            association.release()
            return status.Status, status.NumberOfFailedSuboperations, found

        self.assertEqual(await in_thread(ask, True), (0, 0, ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"]))
        self.assertEqual(await in_thread(ask, False), (0xA702, 3, []))

    async def test_refused_objects(self) -> None:
        """Objects that the peer refuses are counted, others still sent; warnings are no failures."""
        await self.fill()
        ended, received = await self.get(lambda sop, _: {"1.2.1.1.1": 0xA700, "1.2.1.1.2": 0xB007}.get(sop, 0))
        self.assertEqual((ended.status, ended.numbers, len(received)), (0xB000, (1, 1, 1), 3))
        ended, received = await self.get(lambda *_: 0xC000)
        self.assertEqual((ended.status, ended.numbers, len(received)), (0xA702, (0, 3, 0), 3))

    async def test_cancel(self) -> None:
        """A C-CANCEL ends a C-GET after the present object; the association goes on."""
        await self.fill()

        def ask() -> tuple[Ended, int, int]:
            with AskingPeer(self.dicom_port, **GETTING) as peer:
                getter = Getter(peer, lambda *_: (peer.send(cancel(GET)), 0)[1])
                peer.send(request(GET, STUDY))
                ended = getter.run()
                echo = peer.echo()
                peer.release()
                return ended, len(getter.received), echo

        ended, received, echo = await in_thread(ask)
        self.assertEqual((ended.status, ended.numbers, received, echo), (dimse.CANCELLED, (1, 0, 0), 1, 0))

    async def test_cancel_at_the_end(self) -> None:
        """A C-CANCEL that comes when all is sent makes no cancelled C-GET."""
        await self.client.store(dicom_object())

        def ask() -> Ended:
            with AskingPeer(self.dicom_port, **GETTING) as peer:
                peer.send(request(GET, STUDY))
                return Getter(peer, lambda *_: (peer.send(cancel(GET)), 0)[1]).run()

        self.assertEqual((await in_thread(ask)).status, 0)

    async def test_leaving_in_the_middle(self) -> None:
        """A peer that aborts, releases or disconnects in the middle leaves nothing behind, without any time limit."""
        await self.fill()
        await self.restart(DicomScpTimeout=0)
        for last in (pdus.encode_abort(pdus.Abort(0, 0)), pdus.RELEASE_RQ, b""):

            def ask(last: bytes = last) -> None:
                with AskingPeer(self.dicom_port, **GETTING) as peer:
                    peer.send(request(GET, STUDY))
                    peer.message()
                    peer.send(last)
                    if last == pdus.RELEASE_RQ:
                        # We may not release while it is our turn: the server sees that no response can come.
                        self.assertEqual(peer.pdu()[0], pdus.PduType.ABORT)

            await in_thread(ask)
            await self.until(lambda: not self.server.dicom._connections)

    async def test_requests_ahead(self) -> None:
        """Requests that come during a C-GET are answered after it; too many of them are an abort."""
        await self.fill()
        def ask(count: int) -> list[int]:
            with AskingPeer(self.dicom_port, **GETTING) as peer:
                peer.send(request(GET, STUDY))
                first, _ = peer.message()
                peer.send(*(data_pdus(1, echo_command(number), True) for number in range(100, 100 + count)))
                getter = Getter(peer)
                getter.respond(first, 0)
                getter.run()
                return [peer.message()[0].number(dimse.RESPONDED_TO) for _ in range(count)]

        self.assertEqual(await in_thread(ask, 50), list(range(100, 150)))
        with self.assertRaises(AssertionError):
            await in_thread(ask, 500)

    async def test_silent_peers(self) -> None:
        """Peers that never answer a sub-operation are aborted after ``DicomScpTimeout``; then it is others' turn."""
        await self.fill()

        def begin() -> AskingPeer:
            peer = AskingPeer(self.dicom_port, **GETTING)
            peer.send(request(GET, STUDY))
            return peer

        peers = [await in_thread(begin) for _ in range(6)]
        ended, received = await self.get()
        self.assertEqual((ended.status, len(received)), (0, 3))
        kinds = [await in_thread(self._last_pdu, peer) for peer in peers]
        self.assertEqual(kinds, [pdus.PduType.ABORT] * 6)

    def _last_pdu(self, peer: AskingPeer) -> int:
        with peer:
            kind = peer.pdu()[0]
            while kind == pdus.PduType.DATA:
                kind = peer.pdu()[0]
            return kind

    async def test_peer_that_does_not_read(self) -> None:
        """A peer that does not read a large object is aborted after the time limit."""
        await self.client.store(LargeObject(8).head + bytes(8 << 21))

        def begin() -> AskingPeer:
            peer = AskingPeer(self.dicom_port, reads_little=True, **GETTING)
            peer.send(request(GET, STUDY))
            return peer

        peer = await in_thread(begin)
        await self.until(lambda: not self.server.dicom.association_count)
        peer.socket.close()

    async def test_response_before_the_end(self) -> None:
        """A peer that answers before it has read an object gets the rest of it, and the next one."""
        await self.client.store(LargeObject(4).head + bytes(4 << 21))
        await self.client.store(dicom_object(sop="1.2.1.1.2"))

        def ask() -> tuple[Ended, int]:
            with AskingPeer(self.dicom_port, reads_little=True, **GETTING) as peer:
                peer.send(request(GET, STUDY))
                kind, body = peer.pdu()
                self.assertEqual(kind, pdus.PduType.DATA)
                (value,) = pdus.decode_data(memoryview(body))
                Getter(peer).respond(dimse.decode_command(bytes(value.data)), 0xA700)
                size, last = 0, False
                while not last:
                    (value,) = pdus.decode_data(memoryview(peer.pdu()[1]))
                    size, last = size + len(value.data), value.is_last
                return Getter(peer).run(), size

        ended, size = await in_thread(ask)
        self.assertEqual((ended.status, ended.numbers), (0xB000, (1, 1, 0)))
        self.assertEqual(size, len(without_meta(LargeObject(4).head)) + (4 << 21))

    async def test_tiny_pdus(self) -> None:
        """A peer that takes a few octets at a time gets its objects; others are served meanwhile."""
        await self.client.store(ct_image(1, side=64))
        study = identifier("STUDY", element(0x0020000D, "UI", "1.2.826.0.1.3680043.9.7433.1"))

        def ask() -> bytes:
            with AskingPeer(self.dicom_port, maximum_length=10, **GETTING) as peer:
                peer.send(request(GET, study))
                getter = Getter(peer)
                getter.run()
                (data,) = getter.received.values()
                return data

        self.assertEqual(await in_thread(ask), without_meta(ct_image(1, side=64)))

    async def test_encodings(self) -> None:
        """Objects are encoded anew for peers that do not take them as they are, compressed on the disk or not."""
        expected = pydicom.dcmread(io.BytesIO(ct_image(1))).pixel_array
        study = identifier("STUDY", element(0x0020000D, "UI", "1.2.826.0.1.3680043.9.7433.1"))
        for compression in (False, True):
            await self.restart(StorageCompression=compression)
            await self.client.store(ct_image(1))
            for syntax in (EXPLICIT, IMPLICIT, BIG_ENDIAN):
                contexts = (*(c for c in ASKING if c.context_id != 3), ProposedContext(3, CT, (syntax,)))

                def ask(contexts: Any = contexts) -> bytes:
                    with AskingPeer(self.dicom_port, contexts=contexts, **GETTING) as peer:
                        peer.send(request(GET, study))
                        getter = Getter(peer)
                        self.assertEqual(getter.run().status, 0)
                        (data,) = getter.received.values()
                        return data

                data = await in_thread(ask)
                dataset = pydicom.dcmread(io.BytesIO(meta(syntax, CT, "1.2.3") + data))
                self.assertTrue(numpy.array_equal(dataset.pixel_array, expected), syntax)
                self.assertEqual(dataset.PatientName, "A^B")
            for instance in await self.instances():
                await self.client.ask("DELETE", f"/instances/{instance}")

    async def test_choice_of_contexts(self) -> None:
        """Of several contexts that one is taken that the object fits into, whichever comes first."""
        await self.client.store(dicom_object())
        jpeg = Path(str(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm"))).read_bytes()
        await self.client.store(jpeg)
        image = pydicom.dcmread(io.BytesIO(jpeg))
        others = tuple(c for c in ASKING if c.context_id != 3)
        contexts = (ProposedContext(31, CT, (_JPEG,)), *others, ProposedContext(3, CT, (IMPLICIT,)))
        ended, received = await self.get(contexts=contexts)
        self.assertEqual((ended.status, list(received)), (0, ["1.2.1.1.1"]))
        query = identifier("STUDY", element(0x0020000D, "UI", image.StudyInstanceUID))
        secondary = image.SOPClassUID

        def ask(syntax: str) -> tuple[int, list[bytes]]:
            contexts = (*others, ProposedContext(3, secondary, (syntax,)))
            with AskingPeer(self.dicom_port, contexts=contexts, roles={secondary: (False, True)}) as peer:
                peer.send(request(GET, query))
                getter = Getter(peer)
                return getter.run().status, list(getter.received.values())

        # A compressed object goes as it is, to who takes that.
        self.assertEqual(await in_thread(ask, _JPEG), (0, [without_meta(jpeg)]))

    async def test_leaving_within_an_object(self) -> None:
        """A peer that leaves before it has read all of an object leaves nothing behind."""
        await self.client.store(LargeObject(4).head + bytes(4 << 21))

        def ask() -> None:
            with AskingPeer(self.dicom_port, reads_little=True, **GETTING) as peer:
                peer.send(request(GET, STUDY))
                peer.pdu()
                peer.pdu()

        await in_thread(ask)
        await self.until(lambda: not self.server.dicom._connections)

    async def test_file_that_is_gone(self) -> None:
        """An object whose file is gone has failed, alone."""
        await self.fill()
        found = await self.client.find("Instance", {"SOPInstanceUID": "1.2.1.1.1"})
        info = await self.client.json(f"/instances/{found[0]}/attachments/dicom/info")
        uuid = info["Uuid"]
        (self.folder / uuid[:2] / uuid[2:4] / uuid).unlink()
        ended, received = await self.get()
        self.assertEqual((ended.status, ended.numbers, len(received)), (0xB000, (2, 1, 0), 2))

    async def test_permissions(self) -> None:
        """Only modalities with ``AllowGet`` may, unless ``DicomAlwaysAllowGet``."""
        await self.fill()
        for always, allowed, status in ((True, False, 0), (False, False, 0x124), (False, True, 0)):
            known = {"raw": {"AET": "RAW", "Host": "127.0.0.1", "Port": 104, "AllowGet": allowed}}
            await self.restart(DicomAlwaysAllowGet=always, DicomModalities=known)
            self.assertEqual((await self.get())[0].status, status)

    async def test_log_of_exports(self) -> None:
        """With ``LogExportedResources`` the objects of a C-GET are logged with who has asked."""
        await self.restart(LogExportedResources=True)
        await self.fill()
        await self.get()
        exported = (await self.client.json("/exports"))["Exports"]
        self.assertEqual([entry["RemoteModality"] for entry in exported], ["RAW"] * 3)
