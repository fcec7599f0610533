"""The DICOM server against peers that mean no good, and against its own sudden end."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom import dimse
from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import Pdv, ProposedContext
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
    rejection,
    request_pdu,
    sop_instance,
    store_command,
)
from test.rest_samples import SPOOL
from test.servers import ServerProcess, ct_image, free_port, wait_until

SUCCESS = "Received Store Response (Success)"
ABORT = int(pdus.PduType.ABORT)
TLS_HELLO = bytes.fromhex("16030102000100 01fc0303".replace(" ", "")) + bytes(200)


class GarbageTest(DicomCase):
    """Octets that are no DICOM."""

    async def answer(self, data: bytes, *, associated: bool = False) -> int:
        """The type of the PDU that answers some octets; 0 when the connection just ends."""

        def peer() -> int:
            with RawPeer(self.dicom_port) as raw:
                if associated:
                    raw.associate()
                raw.send(data)
                return raw.pdu()[0]

        return await in_thread(peer)

    async def still_serves(self) -> None:
        self.assertIsNone(await in_thread(rejection, self.dicom_port))

    async def test_other_protocols(self) -> None:
        """An HTTP request, a TLS hello, zeros and a PDU that announces 4 GB are answered by an abort at once."""
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", TLS_HELLO, bytes(6), b"\4\0\xff\xff\xff\xff", b"\xff" * 64):
            self.assertEqual(await self.answer(data), ABORT, data[:8])
        await self.still_serves()

    async def test_pdus_at_the_wrong_time(self) -> None:
        """Every PDU but a request is aborted before an association, an abort ends the connection."""
        empty = pdus.encode_data([])
        for data in (empty, pdus.RELEASE_RQ, pdus.RELEASE_RP, pdus.encode_reject(pdus.AssociateReject(1, 1, 1))):
            self.assertEqual(await self.answer(data), ABORT)
        self.assertEqual(await self.answer(pdus.encode_abort(pdus.Abort(0, 0))), 0)
        self.assertEqual(await self.answer(request_pdu(), associated=True), ABORT)
        await self.still_serves()

    async def test_bad_values(self) -> None:
        """Values longer than their PDU, in contexts that were not accepted, or in a wrong order are aborted."""
        store = store_command(sop_instance(1))
        wrong = store.replace(b"\0\0\0\1\2\0\0\0\1\0", b"\0\0\0\1\4\0\0\0\1\0\0\0")
        self.assertNotEqual(wrong, store)
        for data in (
            pdus.pdu(pdus.PduType.DATA, b"\xff\xff\xff\xff\1\3abc"),
            pdus.pdu(pdus.PduType.DATA, b"\0\0\0\1\1"),
            data_pdus(5, echo_command(), True),
            data_pdus(0, echo_command(), True),
            data_pdus(3, data_set(1), False),
            data_pdus(3, store, True) + data_pdus(1, data_set(1), False),
            data_pdus(3, store, True) + data_pdus(3, store, True),
            data_pdus(3, wrong, True),
            data_pdus(3, b"", True),
            data_pdus(3, bytes(70000), True),
        ):
            self.assertEqual(await self.answer(data, associated=True), ABORT, data[:20])
        self.assertEqual((self.files(), await self.instances()), ([], []))
        await self.still_serves()

    async def test_nothing_follows_an_abort(self) -> None:
        """A message after a bad value in the same PDU opens nothing."""
        values = [
            Pdv(99, True, True, echo_command()),
            Pdv(3, True, True, store_command(sop_instance(1))),
            Pdv(3, False, False, data_set(1)),
        ]
        self.assertEqual(await self.answer(pdus.encode_data(values), associated=True), ABORT)
        await self.until(lambda: not self.server.dicom._connections)
        self.assertEqual(self.server.body_limits.budget.used, 0)

    async def test_octet_by_octet(self) -> None:
        """A peer that sends an octet per segment is served."""

        def peer() -> int:
            with RawPeer(self.dicom_port) as raw:
                stream = request_pdu() + data_pdus(1, echo_command(), True)
                for at in range(len(stream)):
                    raw.send(stream[at : at + 1])
                raw.pdu()
                return raw.response().number(dimse.STATUS)

        self.assertEqual(await in_thread(peer), 0)

    async def test_contexts(self) -> None:
        """No contexts, even identifiers and duplicates are survived; more than an association can have are aborted."""

        def results(*contexts: ProposedContext) -> list[tuple[int, int, str]]:
            with RawPeer(self.dicom_port) as raw:
                return raw.associate(contexts=contexts)

        self.assertEqual(await in_thread(results), [])
        even = ProposedContext(2, CT, (IMPLICIT,))
        self.assertEqual(await in_thread(results, even), [(2, 0, IMPLICIT)])
        twice = [ProposedContext(1, CT, (EXPLICIT,)), ProposedContext(1, VERIFICATION, (IMPLICIT,))]
        self.assertEqual(await in_thread(results, *twice), [(1, 0, EXPLICIT)])
        empty = [ProposedContext(1, CT, ()), ProposedContext(3, "", (IMPLICIT,))]
        self.assertEqual([result for _, result, _ in await in_thread(results, *empty)], [4, 3])
        many = [ProposedContext(1, CT, (IMPLICIT,))] * 129
        self.assertEqual(await self.answer(request_pdu(many)), ABORT)

    async def test_duplicate_is_no_way_in(self) -> None:
        """The second context of an identifier does not change what the first one is for."""
        contexts = [ProposedContext(3, VERIFICATION, (IMPLICIT,)), ProposedContext(3, CT, (EXPLICIT,))]

        def peer() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.associate(contexts=contexts)
                return raw.store(data_set(1), sop_instance(1)).number(dimse.STATUS)

        self.assertEqual(await in_thread(peer), dimse.SOP_CLASS_NOT_SUPPORTED)


class PatienceTest(DicomCase):
    """Peers that do not do their part."""

    async def test_peer_that_does_not_read(self) -> None:
        """Requests of a peer that reads no answers are not taken any more; it ends with its silence."""
        await self.restart(DicomScpTimeout=1)
        echoes = data_pdus(1, echo_command(), True) * 500

        def flood() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.socket.setsockopt(6, 10, 1)
                raw.associate()
                raw.socket.settimeout(0.5)
                sent = 0
                try:
                    while sent < 64 << 20:
                        sent += raw.socket.send(echoes)
                except (TimeoutError, ConnectionError):
                    pass
                self.assertLess(sent, 64 << 20)
                association = next(iter(self.server.dicom._connections.values()))
                self.assertLess(sum(map(len, association.transport._tempDataBuffer)), 1 << 20)
                raw.socket.settimeout(30)
                try:
                    while raw.socket.recv(1 << 20):
                        pass
                except ConnectionError:
                    pass
                return sent

        await in_thread(flood)
        await self.until(lambda: not self.server.dicom._connections)

    async def test_abandoned_connections(self) -> None:
        """After a thousand connections that were opened and given up the next association is served, none is left."""
        before = len(os.listdir("/proc/self/fd"))

        def peer() -> None:
            for number in range(1000):
                with RawPeer(self.dicom_port) as raw:
                    if number % 3 == 1:
                        raw.send(request_pdu()[: number % 80 + 1])
                    elif number % 3 == 2:
                        raw.send(request_pdu(), data_pdus(3, store_command("1.2"), True))

        await in_thread(peer)
        self.assertIsNone(await in_thread(rejection, self.dicom_port))
        await self.until(lambda: not self.server.dicom._connections)
        self.assertLess(len(os.listdir("/proc/self/fd")), before + 20)
        self.assertEqual((self.server.dicom.association_count, self.spooled()), (0, []))

    async def test_silent_connections(self) -> None:
        """Connections that ask for nothing take no descriptors without end: the oldest are cut, associations stay."""
        await self.restart(Orthanctw={"MaximumAssociations": 2})

        def peer() -> tuple[int, int]:
            with contextlib.ExitStack() as stack:
                raw = stack.enter_context(RawPeer(self.dicom_port))
                raw.associate()
                silent = [stack.enter_context(RawPeer(self.dicom_port)) for _ in range(300)]
                cut = [each.pdu()[0] for each in silent[:150]]
                self.assertEqual(cut, [0] * 150)
                self.assertIsNone(rejection(self.dicom_port))
                return raw.echo(), len(self.server.dicom._connections)

        status, connections = await in_thread(peer)
        self.assertEqual(status, 0)
        self.assertLessEqual(connections, 103)

    async def test_abort_while_a_store_runs(self) -> None:
        """A whole object that was taken is stored though its sender is gone; nothing is left over."""

        def peer() -> None:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                raw.send(
                    data_pdus(3, store_command(sop_instance(1)), True),
                    data_pdus(3, data_set(1), False),
                    pdus.encode_abort(pdus.Abort(0, 0)),
                )

        await in_thread(peer)
        await self.until(lambda: not self.server.dicom._connections)
        self.assertEqual((len(await self.instances()), len(self.files())), (1, 1))

    async def test_release_while_stores_run(self) -> None:
        """A release that was asked for too early is answered after the answers to the stores."""

        def peer() -> list[int]:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                for number in range(1, 9):
                    raw.send(
                        data_pdus(3, store_command(sop_instance(number), message_id=number), True),
                        data_pdus(3, data_set(number), False),
                    )
                raw.send(pdus.RELEASE_RQ)
                return [raw.response().number(dimse.STATUS) for _ in range(8)] + [raw.pdu()[0]]

        self.assertEqual(await in_thread(peer), [0] * 8 + [pdus.PduType.RELEASE_RP])

    def held_store(self) -> tuple[Deferred[None], Deferred[None]]:
        """Have the next store wait: fires when it has begun, and is fired to let it go on."""
        begun: Deferred[None] = Deferred()
        going_on: Deferred[None] = Deferred()
        store = self.server.ingest.store

        async def held(*arguments: Any, **options: Any) -> Any:
            begun.callback(None)
            await going_on
            return await store(*arguments, **options)

        self.patch(self.server.ingest, "store", held)
        return begun, going_on

    async def stop_within(self, begun: Deferred[None], going_on: Deferred[None]) -> None:
        """Stop the server while a store is held."""
        await begun
        stopping = Deferred.fromCoroutine(self.stop())
        going_on.callback(None)
        await stopping

    async def test_stop_while_a_store_runs(self) -> None:
        """A server that stops ends what it has begun, answers it, and aborts the rest."""
        raw = RawPeer(self.dicom_port)
        idle = RawPeer(self.dicom_port)
        fresh = RawPeer(self.dicom_port)
        for peer in (raw, idle, fresh):
            self.addCleanup(peer.socket.close)
        await in_thread(raw.associate)
        await in_thread(idle.associate)
        begun, going_on = self.held_store()
        await in_thread(
            raw.send, data_pdus(3, store_command(sop_instance(1)), True), data_pdus(3, data_set(1), False)
        )
        await self.stop_within(begun, going_on)
        self.assertEqual(raw.response().number(dimse.STATUS), 0)
        self.assertEqual([raw.pdu()[0], idle.pdu()[0], fresh.pdu()[0]], [ABORT, ABORT, 0])
        await self._start(self.SETTINGS)
        self.assertEqual(len(await self.instances()), 1)

    async def test_stop_after_the_sender_has_gone(self) -> None:
        """A store whose sender has gone is waited for, too."""

        def peer() -> None:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                raw.send(data_pdus(3, store_command(sop_instance(1)), True), data_pdus(3, data_set(1), False))

        begun, going_on = self.held_store()
        await in_thread(peer)
        await self.stop_within(begun, going_on)
        await self._start(self.SETTINGS)
        self.assertEqual(len(await self.instances()), 1)
        self.assertEqual(len(self.files()), 1)


class _Transport(StringTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing."""

    def abortConnection(self) -> None:
        self.disconnecting = True

    def unregisterProducer(self) -> None:
        self.producer = None


_COMMANDS = (
    echo_command(),
    store_command("1.2.3"),
    store_command("../../x"),
    dimse.encode_command({0x100: 0x20, 0x110: 1, 0x800: 1}),
    dimse.encode_command({0x100: 0x8001, 0x120: 1, 0x800: 0x101, 0x900: 0}),
    dimse.encode_command({0x100: 0xFFFF, 0x110: 0xFFFF, 0x800: 0xFFFF}),
    b"",
    b"\0" * 20,
)
_VALUES = st.builds(
    Pdv,
    st.sampled_from((1, 3, 3, 5)),
    st.booleans(),
    st.booleans(),
    st.sampled_from(_COMMANDS) | st.binary(max_size=40),
)
_PDUS = st.one_of(
    st.lists(_VALUES, max_size=4).map(pdus.encode_data),
    st.sampled_from((pdus.RELEASE_RQ, pdus.RELEASE_RP, pdus.encode_abort(pdus.Abort(0, 0)), request_pdu())),
    st.binary(max_size=12),
)


class FuzzTest(DicomCase):
    """Streams of PDUs that were made at random from good and bad parts."""

    async def test_streams(self) -> None:
        """Nothing that is not handled is raised, each connection ends cleanly, and nothing is kept."""
        factory = self.server.dicom
        streams: list[list[bytes]] = []

        @settings(
            max_examples=250,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(st.lists(_PDUS, max_size=8))
        def one(parts: list[bytes]) -> None:
            streams.append(parts)
            layer = factory.buildProtocol(None)
            transport = _Transport()
            layer.makeConnection(transport)
            layer.dataReceived(request_pdu())
            for part in parts:
                layer.dataReceived(part)
            layer.connectionLost()

        one()
        await self.until(lambda: not factory._connections)
        self.assertEqual((factory.association_count, self.spooled(), self.files()), (0, [], []))
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertGreater(len(streams), 200)


def _resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    match = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert match is not None
    return int(match[1]) * 1024


def _peak(pid: int) -> int:
    """The most that was resident of a process so far, in bytes."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert match is not None
    return int(match[1]) * 1024


class ProcessTest(SynchronousTestCase):
    """Servers as processes: memory, and ends of every kind."""

    def start(self, **options: Any) -> ServerProcess:
        folder = tempfile.TemporaryDirectory(prefix="orthanctw-test-")
        self.addCleanup(folder.cleanup)
        port = free_port()
        server = ServerProcess(
            Path(folder.name), options={"DicomServerEnabled": True, "DicomPort": port, **options}
        )
        self.dicom_port = port
        server.start()
        self.addCleanup(server.kill)
        return server

    def objects(self, server: ServerProcess, count: int) -> str:
        folder = server.folder / "objects"
        folder.mkdir()
        for number in range(1, count + 1):
            (folder / f"{number:04}.dcm").write_bytes(ct_image(number))
        return str(folder)

    def cut_short(self, count: int, end: Callable[[ServerProcess], object]) -> None:
        """Send objects, end the server in the midst of it, start it again: it has each one that it acknowledged."""
        server = self.start()
        sender = subprocess.Popen(
            ["storescu", "-v", "-R", "+sd", "127.0.0.1", str(self.dicom_port), self.objects(server, count)],
            # Only the log: both in one pipe would cut its lines.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert sender.stderr is not None
        lines = []
        for line in sender.stderr:
            lines.append(line)
            if SUCCESS in line and len(lines) > count // 2:
                break
        end(server)
        # Not by `communicate`, which does not know what the iteration has read ahead.
        output = "".join(lines) + sender.stderr.read()
        sender.wait(60)
        sender.stderr.close()
        server.start()
        acknowledged = re.findall(r"Sending file: \S*/(\d+)\.dcm(?:(?!Sending file)[\s\S])*?\(Success\)", output)
        self.assertGreater(len(acknowledged), 10)
        self.assertEqual(len(acknowledged), output.count(SUCCESS))
        self.assertLess(len(acknowledged), count)
        for number in acknowledged:
            found = server.request(
                "POST", "/tools/lookup", f"1.2.826.0.1.3680043.9.7433.1.1.{int(number)}"
            ).json()
            self.assertEqual([each["Type"] for each in found], ["Instance"], number)
            self.assertEqual(
                server.request("GET", f"/instances/{found[0]['ID']}/file").body[-20:], ct_image(int(number))[-20:]
            )
        self.assertEqual(os.listdir(server.storage / SPOOL), [])
        self.assertNotIn("Traceback", server.printed())

    def test_killed(self) -> None:
        """After kill -9 a restarted server has every object that it acknowledged."""
        self.cut_short(500, lambda server: server.kill())

    def test_stopped(self) -> None:
        """SIGTERM lets the running store end, and a restarted server has every object that it acknowledged."""
        self.cut_short(200, lambda server: self.assertIn(server.stop(), (0, 143, -signal.SIGTERM)))

    def test_large_object(self) -> None:
        """An object far larger than the memory that is used for it is stored."""
        server = self.start()
        before = _peak(server.pid)
        data = data_set(1, side=16)
        head, tail = data[: data.rindex(b"OW") - 4], 200 << 20
        with RawPeer(self.dicom_port) as raw:
            raw.associate()
            raw.send(data_pdus(3, store_command(sop_instance(1)), True))
            raw.send(data_pdus(3, head + b"\xe0\x7f\x10\0OW\0\0" + tail.to_bytes(4, "little"), False, last=False))
            block = data_pdus(3, bytes(16372), False, last=False) * 64
            left = tail
            while left > 16372 * 64:
                raw.send(block)
                left -= 16372 * 64
            raw.send(data_pdus(3, bytes(left), False))
            self.assertEqual(raw.response().number(dimse.STATUS), 0)
        self.assertLess(_peak(server.pid) - before, 60 << 20)
        self.assertEqual(server.get("/statistics")["CountInstances"], 1)

    def test_idle_associations(self) -> None:
        """Five hundred idle associations cost less than 100 KB each."""
        server = self.start(Orthanctw={"MaximumAssociations": 1000})
        before = _resident(server.pid)
        contexts = [ProposedContext(2 * i + 1, CT, (IMPLICIT, EXPLICIT)) for i in range(128)]
        peers = [RawPeer(self.dicom_port) for _ in range(500)]
        for peer in peers:
            self.addCleanup(peer.socket.close)
            peer.associate(contexts=contexts)
        self.assertLess((_resident(server.pid) - before) / len(peers), 100_000)

    def test_full_disk(self) -> None:
        """A file that the system refuses to write is 0xA700, nothing is left of it, and the next object is stored."""
        server = self.start(Orthanctw={"SpoolThresholdKB": 64})
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
        with RawPeer(self.dicom_port) as raw:
            raw.associate()
            answer = raw.store(data_set(1, side=2000), sop_instance(1))
            self.assertEqual((answer.number(dimse.STATUS), bool(answer.text(dimse.ERROR_COMMENT))), (0xA700, True))
            wait_until(lambda: not os.listdir(server.storage / SPOOL), lambda: "an empty spool folder")
            self.assertEqual(server.get("/statistics")["CountInstances"], 0)
            self.assertEqual(raw.store(data_set(1), sop_instance(1)).number(dimse.STATUS), 0)


