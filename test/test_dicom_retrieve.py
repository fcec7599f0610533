"""C-MOVE SCP with real peers: what is sent, where and in which order, what is told of it; servers that are ended."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pydicom
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom import dimse
from orthanctw.dicom.upper import pdus
from test.dicom_files import element
from test.dicom_peers import in_thread, run, without_meta
from test.dicom_queries import GET, MOVE, AskingPeer, cancel, identifier, request
from test.dicom_retrievals import GETTING, STUDY, Ended, RetrieveCase, sink
from test.rest_samples import LargeObject, dicom_object, peak_memory
from test.scu_case import Connection, Script, program
from test.servers import ServerProcess, free_port
from test.test_rest_large import upload


class MoveTest(RetrieveCase):
    """C-MOVE."""

    async def test_movescu(self) -> None:
        """DCMTK's movescu receives the very data sets on a port of its own."""
        await self.fill()
        port = free_port()
        await self.know(port, "MOVESCU")
        ran = await run(
            *("movescu", "-v", "-S", "-aet", "MOVESCU", "-aem", "MOVESCU", "-aec", "ORTHANC", "+P", str(port)),
            *("-od", str(self.work), "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.1"),
            *("127.0.0.1", str(self.dicom_port)),
        )
        self.assertEqual(ran.status, 0, ran.output)
        self.assertIn("Received Final Move Response (Success)", ran.output)
        received = {pydicom.dcmread(path).SOPInstanceUID: path.read_bytes() for path in self.work.iterdir()}
        self.assertEqual(sorted(received), ["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"])
        self.assertEqual(
            without_meta(received["1.2.1.1.2"]), without_meta(dicom_object("P1", "1.2.1", "1.2.1.1", "1.2.1.1.2"))
        )

    async def test_storescp(self) -> None:
        """DCMTK's storescp receives what movescu asks for."""
        await self.fill()
        port = free_port()
        await self.know(port)
        target = self.work / "received"
        target.mkdir()
        with program(port, "/usr/bin/storescp", "-aet", "SINK", "-od", str(target), str(port), cwd=self.work):
            ran = await run(
                *("movescu", "-v", "-P", "-aem", "SINK", "-aec", "ORTHANC", "-k", "QueryRetrieveLevel=PATIENT"),
                *("-k", "PatientID=P1", "127.0.0.1", str(self.dicom_port)),
            )
            self.assertEqual(ran.status, 0, ran.output)
        self.assertEqual(len(list(target.iterdir())), 3)

    async def test_keys(self) -> None:
        """Objects are named by the keys of every level, one or several; keys above narrow down, others do not."""
        await self.fill()
        uid, series, sop = 0x0020000D, 0x0020000E, 0x00080018
        with sink() as target:
            await self.know(target.port)
            for count, level, *values in (
                (3, "PATIENT", element(0x00100020, "LO", "P1")),
                (4, "PATIENT", element(0x00100020, "LO", "P1\\P2")),
                (3, "STUDY", element(uid, "UI", "1.2.1")),
                (4, "STUDY", element(uid, "UI", "1.2.1\\1.2.2\\1.2.9")),
                (3, "STUDY", element(0x00080050, "SH", "ACC-1")),
                (4, "STUDY", element(0x00080050, "SH", "ACC-1\\acc-2")),
                (2, "SERIES", element(series, "UI", "1.2.1.1")),
                (2, "SERIES", element(uid, "UI", "1.2.1"), element(series, "UI", "1.2.1.1")),
                (3, "SERIES", element(series, "UI", "1.2.1.1\\1.2.1.2")),
                (2, "IMAGE", element(sop, "UI", "1.2.1.1.2\\1.2.2.1.1")),
                (1, "IMAGE", element(sop, "UI", "1.2.1.1.2\\1.2.2.1.1"), element(uid, "UI", "1.2.1")),
                (1, "", element(sop, "UI", "1.2.1.1.2")),
            ):
                target.stored.clear()
                ended = await self.move(identifier(level, *values))
                self.assertEqual((ended.status, ended.numbers), (0, (count, 0, 0)), (level, values))
                self.assertEqual(len(target.stored), count, (level, values))
            target.stored.clear()
            for level, *values in (
                ("STUDY", element(uid, "UI", "1.2.9")),
                ("STUDY", element(uid, "UI", "*")),
                ("STUDY", element(0x00080050, "SH", "acc-1")),
                ("STUDY", element(uid, "UI", "")),
                ("STUDY", element(0x00100020, "LO", "P1")),
                ("SERIES", element(uid, "UI", "1.2.2"), element(series, "UI", "1.2.1.1")),
                ("WARD", element(uid, "UI", "1.2.1")),
                ("",),
            ):
                ended = await self.move(identifier(level, *values))
                self.assertEqual((ended.status, bool(ended.comment)), (0xC000, True), (level, values))
            self.assertEqual(target.stored, [])

    async def test_many_uids(self) -> None:
        """Thousands of UIDs in one key are looked for, in implicit VR, where they find room."""
        await self.fill()
        uids = "\\".join([f"1.2.840.99.{number}" for number in range(5000)] + ["1.2.1.1.1", "1.2.1.2.1"])
        data = element(0x00080052, "CS", "IMAGE", False) + element(0x00080018, "UI", uids, False)
        with sink() as target:
            await self.know(target.port)

            def ask() -> int:
                with AskingPeer(self.dicom_port) as peer:
                    peer.send(request(13, data, field=dimse.C_MOVE_RQ, destination="SINK"))
                    return peer.final().number(dimse.STATUS)

            self.assertEqual(await in_thread(ask), 0)
            self.assertEqual(sorted(target.sops), ["1.2.1.1.1", "1.2.1.2.1"])

    async def test_order_originator_and_progress(self) -> None:
        """Series come whole, objects by their numbers, each is told of; the destination learns who has asked."""
        numbers = [("2", 10), ("1", 3), ("2", 9), ("1", 2), ("1", 11)]
        for series, number in numbers:
            sop = f"1.2.1.{series}.{number}"
            await self.client.store(dicom_object(series=f"1.2.1.{series}", sop=sop, InstanceNumber=str(number)))
        with sink() as target:
            await self.know(target.port)
            ended = await self.move(message_id=4711)
            self.assertEqual(ended, Ended(0, (5, 0, 0), "", ""))
            by_series = {"1": ["1.2.1.1.2", "1.2.1.1.3", "1.2.1.1.11"], "2": ["1.2.1.2.9", "1.2.1.2.10"]}
            self.assertIn(target.sops, (by_series["1"] + by_series["2"], by_series["2"] + by_series["1"]))
            self.assertEqual(set(target.originators), {("MOVER", 4711)})
            # Who asks and is the destination itself waits for that.
            await self.until(lambda: target.seen.events[-1] == "released")
            self.assertEqual(target.seen.associations, 1)
            told = [(c.number(dimse.REMAINING), c.number(dimse.COMPLETED)) for c in self.pending]
            self.assertEqual(told, [(4, 1), (3, 2), (2, 3), (1, 4), (0, 5)])

    async def test_partial_failure(self) -> None:
        """Some failures are 0xB000 with the list of them, only failures 0xC000; warnings are no failures."""
        await self.fill()
        with sink() as target:
            await self.know(target.port)
            target.statuses = {"1.2.1.1.1": 0xA700, "1.2.1.2.1": 0xB007}
            self.assertEqual(
                await self.move(), Ended(0xB000, (1, 1, 1), "1 sub-operations failed", "1.2.1.1.1")
            )
            target.statuses = dict.fromkeys(("1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"), 0xC123)
            ended = await self.move()
            self.assertEqual((ended.status, ended.numbers), (0xC000, (0, 3, 0)))
            self.assertEqual(sorted(ended.failed.split("\\")), sorted(target.statuses))

    async def test_class_that_is_not_taken(self) -> None:
        """A destination that does not take one SOP class gets the objects of the others."""
        mr = "1.2.840.10008.5.1.4.1.1.4"
        for number in range(1, 4):
            await self.client.store(dicom_object(sop=f"1.2.1.1.{number}", SOPClassUID=mr))
        await self.client.store(dicom_object(series="1.2.1.2", sop="1.2.1.2.1"))
        with sink() as target:
            await self.know(target.port)
            ended = await self.move()
            self.assertEqual((ended.status, ended.numbers, target.sops), (0xB000, (1, 3, 0), ["1.2.1.2.1"]))

    async def test_unknown_destination(self) -> None:
        """An AE title that nobody knows, or none, is refused; titles are compared without case, or with."""
        await self.fill()
        for destination in ("NOBODY", "", "SINKS"):
            ended = await self.move(destination=destination)
            self.assertEqual((ended.status, bool(ended.comment)), (0xA801, True))
        with sink() as target:
            for strict, status in ((False, 0), (True, 0xA801)):
                await self.restart(StrictAetComparison=strict)
                await self.know(target.port)
                self.assertEqual((await self.move(destination="sink")).status, status)

    async def test_unreachable_destination(self) -> None:
        """When nobody listens at the destination, all objects have failed."""
        await self.fill()
        await self.know(free_port())
        ended = await self.move()
        self.assertEqual((ended.status, ended.numbers), (0xC000, (0, 3, 0)))
        self.assertEqual(len(ended.failed.split("\\")), 3)

    async def test_silent_destination(self) -> None:
        """A destination that does not answer costs its time limit twice, not once an object."""
        await self.zipped(dicom_object(sop=f"1.2.1.1.{number}") for number in range(1, 31))

        def serve(connection: Connection) -> None:
            connection.accept()
            connection.until_end()

        async with Script(serve) as target:
            await self.know(target.port, Timeout=1)
            ended = await self.move()
            self.assertEqual((ended.status, ended.numbers, target.connections), (0xC000, (0, 30, 0), 2))

    async def test_destination_that_breaks_off(self) -> None:
        """A destination that breaks off in the middle fails what it got last, and is asked again for the next."""
        await self.fill()
        broken = threading.Event()

        def serve(connection: Connection) -> None:
            connection.accept()
            while True:
                command = connection.command()
                connection.data_set()
                if command.text(dimse.AFFECTED_SOP_INSTANCE) == "1.2.1.1.2" and not broken.is_set():
                    broken.set()
                    return
                connection.respond(dimse.C_STORE_RQ | dimse.RESPONSE, command.number(dimse.MESSAGE_ID), 0)

        async with Script(serve) as target:
            await self.know(target.port)
            ended = await self.move()
            self.assertEqual((ended.status, ended.numbers, ended.failed), (0xB000, (2, 1, 0), "1.2.1.1.2"))
            await self.stop()

    async def test_cancel(self) -> None:
        """A C-CANCEL ends a C-MOVE after the present object; what remains is told."""
        await self.fill()
        may_go_on = threading.Event()
        arrived = threading.Event()

        def serve(connection: Connection) -> None:
            connection.accept()
            while True:
                command = connection.command()
                connection.data_set()
                arrived.set()
                may_go_on.wait(30)
                connection.respond(dimse.C_STORE_RQ | dimse.RESPONSE, command.number(dimse.MESSAGE_ID), 0)

        def begin() -> AskingPeer:
            peer = AskingPeer(self.dicom_port)
            peer.send(request(MOVE, STUDY, 3, destination="SINK"))
            arrived.wait(30)
            peer.send(cancel(MOVE, 3))
            return peer

        async with Script(serve) as target:
            await self.know(target.port)
            peer = await in_thread(begin)
            await self.until(self.is_cancelled)
            may_go_on.set()
            command = await in_thread(peer.final)
            peer.socket.close()
            self.assertEqual(command.number(dimse.STATUS), dimse.CANCELLED)
            self.assertEqual((command.number(dimse.COMPLETED), command.number(dimse.REMAINING)), (1, 2))
            await self.stop()

    async def test_to_ourselves(self) -> None:
        """More transfers to ourselves than there are threads end."""
        await self.fill()
        await self.restart(DicomThreadsCount=1)
        await self.know(self.dicom_port, "ORTHANC")
        ended = await gatherResults([in_thread(self._blocking_move) for _ in range(5)], consumeErrors=True)
        self.assertEqual(ended, [(0, 3)] * 5)

    def _blocking_move(self) -> tuple[int, int]:
        with AskingPeer(self.dicom_port) as peer:
            peer.send(request(MOVE, STUDY, destination="ORTHANC"))
            final = peer.final()
            peer.release()
            return final.number(dimse.STATUS), final.number(dimse.COMPLETED)

    async def test_asynchronous(self) -> None:
        """Without ``SynchronousCMove`` a C-MOVE is a job, and answered when that is submitted."""
        await self.restart(SynchronousCMove=False)
        await self.fill()
        with sink() as target:
            await self.know(target.port)
            ended = await self.move()
            self.assertEqual((ended.status, ended.numbers), (0, (3, 0, 0)))
            (job,) = await self.client.json("/jobs", expand="")
            await self.until(lambda: len(target.stored) == 3)
            self.assertEqual(job["Type"], "DicomModalityStore")
            content = {
                name: job["Content"][name]
                for name in ("Description", "InstancesCount", "RemoteAet", "MoveOriginatorAET", "MoveOriginatorID")
            }
            self.assertEqual(
                content,
                {
                    "Description": "C-MOVE",
                    "InstancesCount": 3,
                    "RemoteAet": "SINK",
                    "MoveOriginatorAET": "MOVER",
                    "MoveOriginatorID": 7,
                },
            )
            self.assertEqual(set(target.originators), {("MOVER", 7)})

    async def test_permissions(self) -> None:
        """Only modalities with ``AllowMove`` may, unless ``DicomAlwaysAllowMove``."""
        await self.fill()
        with sink() as target:
            for always, allowed, status in ((True, False, 0), (False, False, 0x124), (False, True, 0)):
                await self.restart(
                    DicomAlwaysAllowMove=always,
                    DicomModalities={
                        "sink": ["SINK", "127.0.0.1", target.port],
                        "mover": {"AET": "MOVER", "Host": "127.0.0.1", "Port": 104, "AllowMove": allowed},
                    },
                )
                self.assertEqual((await self.move()).status, status)

    async def test_log_of_exports(self) -> None:
        """With ``LogExportedResources`` each object that is sent elsewhere is logged, without it none."""
        await self.fill()
        with sink() as target:
            for enabled in (False, True):
                await self.restart(LogExportedResources=enabled)
                await self.know(target.port)
                await self.move()
                exported = (await self.client.json("/exports"))["Exports"]
                self.assertEqual(len(exported), 3 * enabled)
        self.assertEqual({entry["SOPInstanceUID"] for entry in exported}, {"1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"})
        entry = exported[0]
        self.assertEqual(
            (entry["RemoteModality"], entry["ResourceType"], entry["PatientID"], entry["StudyInstanceUID"]),
            ("SINK", "Instance", "P1", "1.2.1"),
        )


class ProcessTest(SynchronousTestCase):
    """A server of its own."""

    def _server(self, **options: Any) -> ServerProcess:
        server = ServerProcess(Path(self.mktemp()))
        self.port = free_port()
        server.configure(
            DicomServerEnabled=True,
            DicomPort=self.port,
            DicomAlwaysAllowGet=True,
            DicomAlwaysAllowMove=True,
            Orthanctw={"ShutdownTimeout": 1},
            **options,
        )
        server.start()
        self.addCleanup(server.kill)
        return server

    def test_large_object(self) -> None:
        """An object of 300 MB leaves in little memory."""
        server = self._server()
        large = LargeObject(150)
        upload(server.port, large)
        with AskingPeer(self.port, maximum_length=131072, **GETTING) as peer:
            peer.send(request(GET, STUDY))
            peer.pdu()
            size = 0
            last = False
            while not last:
                for value in pdus.decode_data(memoryview(peer.pdu()[1])):
                    size, last = size + len(value.data), value.is_last
        self.assertEqual(size, large.size - len(large.head) + len(without_meta(large.head)))
        self.assertLess(peak_memory(server.pid), 130)

    def test_end_in_the_middle(self) -> None:
        """SIGTERM ends the server in the middle of a C-GET and a C-MOVE whose peers say nothing."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        server = self._server(DicomModalities={"silent": ["SILENT", "127.0.0.1", listener.getsockname()[1]]})
        server.upload(dicom_object())
        getter, mover = AskingPeer(self.port, **GETTING), AskingPeer(self.port)
        self.addCleanup(getter.socket.close)
        self.addCleanup(mover.socket.close)
        getter.send(request(GET, STUDY))
        self.assertEqual(getter.message()[0].field, dimse.C_STORE_RQ)
        mover.send(request(MOVE, STUDY, destination="SILENT"))
        connection, _ = listener.accept()
        self.addCleanup(connection.close)
        server.signal(signal.SIGTERM)
        server.wait()
        self.assertTrue(server.printed().rstrip().endswith("The server has stopped"), server.printed())
        self.assertNotIn("Traceback", server.printed())
