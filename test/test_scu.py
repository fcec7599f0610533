"""Outgoing DICOM operations with real peers: C-ECHO, C-STORE, and the associations that stay open."""

from __future__ import annotations

import io
import os
import resource
import struct
import threading
from typing import Any

from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom import evt
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from orthanctw.dicom import dimse
from orthanctw.dicom.scu.objects import storage_proposals
from orthanctw.dicom.uids import STUDY_ROOT_FIND
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import CorruptedFile, InexistentFile, OrthancError, ServiceUnavailable
from orthanctw.interfaces import IDicomScu, ITranscoder
from orthanctw.remote import Originator, Outgoing
from test.dicom_files import encapsulated, meta
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, VERIFICATION, sop_instance, without_meta
from test.scu_case import Connection, Script, ScuCase, pynetdicom_server
from test.servers import ct_image

MR = "1.2.840.10008.5.1.4.1.1.4"
JPEG = "1.2.840.10008.1.2.4.50"
#: Options of ``storescp`` and the transfer syntax that it then takes.
COMPRESSED = {
    "+xs": "1.2.840.10008.1.2.4.70",
    "+xy": JPEG,
    "+xx": "1.2.840.10008.1.2.4.51",
    "+xv": "1.2.840.10008.1.2.4.90",
    "+xw": "1.2.840.10008.1.2.4.91",
    "+xt": "1.2.840.10008.1.2.4.80",
    "+xu": "1.2.840.10008.1.2.4.81",
    "+xm": "1.2.840.10008.1.2.4.100",
    "+xh": "1.2.840.10008.1.2.4.101",
    "+xr": "1.2.840.10008.1.2.5",
}


@implementer(ITranscoder)
class UncompressedTranscoder:
    """Writes explicit objects in implicit VR, and nothing else; `asked` are the syntaxes that it was given."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def transcode(self, outgoing: Outgoing, accepted: Any, **options: Any) -> Deferred[Outgoing | None]:
        self.asked.append(tuple(accepted))
        if IMPLICIT not in accepted:
            return succeed(None)
        dataset = dcmread(outgoing.path)
        dataset.file_meta.TransferSyntaxUID = UID(IMPLICIT)
        buffer = io.BytesIO()
        dataset.save_as(buffer, implicit_vr=True, little_endian=True, enforce_file_format=True)
        return succeed(
            Outgoing(
                sop_class_uid=outgoing.sop_class_uid,
                sop_instance_uid=outgoing.sop_instance_uid,
                transfer_syntax=IMPLICIT,
                content=buffer.getvalue(),
            )
        )

    def release(self, outgoing: Outgoing) -> None:
        pass


class EchoTests(ScuCase):
    async def test_echo(self) -> None:
        """C-ECHO proposes nothing but Verification."""
        with pynetdicom_server([(VERIFICATION, [IMPLICIT])]) as (port, seen):
            scu = self.scu()
            verifyObject(IDicomScu, scu)
            await scu.echo(self.remote(port))
            self.assertEqual([abstract for abstract, _ in seen.contexts[0]], [VERIFICATION])

    async def test_echo_that_checks_find(self) -> None:
        """With DicomEchoChecksFind a C-FIND follows that matches nothing."""
        asked = []

        def find(event: evt.Event) -> Any:
            asked.append(event.identifier)
            yield 0x0000, None

        contexts = [(VERIFICATION, [IMPLICIT]), (STUDY_ROOT_FIND, [EXPLICIT])]
        with pynetdicom_server(contexts, [(evt.EVT_C_FIND, find)]) as (port, _):
            await self.scu().echo(self.remote(port), checks_find=True)
        self.assertEqual(asked[0].QueryRetrieveLevel, "STUDY")
        self.assertEqual(len(asked[0].PatientID), 32)

    async def test_a_refused_echo(self) -> None:
        """A failure status is an error with the status as its payload, and the association stays."""
        with pynetdicom_server([(VERIFICATION, [IMPLICIT])], [(evt.EVT_C_ECHO, lambda _: 0x0211)]) as (port, seen):
            scu = self.scu()
            for _ in range(2):
                error = await self.assertFailure(scu.echo(self.remote(port)), OrthancError)
                self.assertIs(error.code, ErrorCode.NETWORK_PROTOCOL)
                self.assertEqual(error.payload, {"Type": "Dimse", "Content": {"DimseErrorStatus": 0x0211}})
            self.assertEqual(seen.associations, 1)

    async def test_by_name(self) -> None:
        """A host may be a name."""
        with pynetdicom_server([(VERIFICATION, [IMPLICIT])]) as (port, _):
            await self.scu().echo(self.remote(port, host="localhost"))

    async def test_many_descriptors(self) -> None:
        """A process with 1,500 open descriptors sends as others do."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(2048, hard)), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with self.storescp() as (port, target):
            held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1500)]
            try:
                scu = self.scu()
                await scu.echo(self.remote(port))
                await scu.store(self.remote(port), self.outgoing(), [(CT, EXPLICIT)])
                await scu.close()
            finally:
                for descriptor in held:
                    os.close(descriptor)
            self.assertEqual(len(list(target.iterdir())), 1)


class StoreTests(ScuCase):
    async def test_the_object_arrives_as_it_is(self) -> None:
        """storescp receives the very data set."""
        with self.storescp("--bit-preserving") as (port, target):
            status = await self.scu().store(self.remote(port), self.outgoing(), [(CT, EXPLICIT)])
            self.assertEqual(status, 0)
            (received,) = target.iterdir()
            self.assertEqual(without_meta(received.read_bytes()), without_meta(ct_image(1)))

    async def test_from_memory(self) -> None:
        """An object may lie in memory."""
        outgoing = Outgoing(
            sop_class_uid=CT, sop_instance_uid=sop_instance(2), transfer_syntax=EXPLICIT, content=ct_image(2)
        )
        with self.storescp() as (port, target):
            await self.scu().store(self.remote(port), outgoing, [])
            self.assertEqual(len(list(target.iterdir())), 1)

    async def test_compressed_syntaxes(self) -> None:
        """Compressed objects are sent as they are to a storescp that takes their syntax."""
        for option, syntax in COMPRESSED.items():
            outgoing = self.compressed(syntax)
            with self.storescp(option, "--bit-preserving") as (port, target):
                await self.scu().store(self.remote(port), outgoing, [(CT, syntax)])
                (received,) = target.iterdir()
                self.assertIn(syntax.encode(), received.read_bytes()[:400], option)

    async def test_uncompressed_syntaxes(self) -> None:
        """An explicit object is sent as it is where that is possible, and transcoded where it is not."""
        transcoder = UncompressedTranscoder()
        for option, syntax in (("+x=", EXPLICIT), ("+xe", EXPLICIT), ("+xi", IMPLICIT), ("+xa", EXPLICIT)):
            with self.storescp(option, "--bit-preserving") as (port, target):
                scu = self.scu(transcoder=transcoder)
                await scu.store(self.remote(port), self.outgoing(), [(CT, EXPLICIT)])
                await scu.close()
                (received,) = target.iterdir()
                self.assertEqual(dcmread(received).file_meta.TransferSyntaxUID, syntax, option)
        self.assertEqual(transcoder.asked, [(IMPLICIT,)])

    def compressed(self, syntax: str) -> Outgoing:
        pixels = encapsulated([b"\xff\xd8\xff\xd9" * 8])
        plain = without_meta(ct_image(1))
        head = plain[: plain.index(struct.pack("<HH", 0x7FE0, 0x0010))]
        path = self.folder / f"{syntax}.dcm"
        path.write_bytes(meta(syntax, CT, sop_instance(1)) + head + pixels)
        return Outgoing(
            sop_class_uid=CT, sop_instance_uid=sop_instance(1), transfer_syntax=syntax, path=str(path)
        )

    async def test_what_cannot_be_transcoded(self) -> None:
        """An object whose syntax the peer does not take fails with an error that tells so."""
        with self.storescp("+xi") as (port, target):
            remote = self.remote(port)
            for scu, other in (
                (self.scu(), remote),
                (self.scu(transcoder=UncompressedTranscoder()), self.remote(port, allow_transcoding=False)),
            ):
                error = await self.assertFailure(scu.store(other, self.outgoing(), [(CT, EXPLICIT)]), OrthancError)
                self.assertIs(error.code, ErrorCode.NETWORK_PROTOCOL)
                await scu.close()
            scu = self.scu(transcoder=UncompressedTranscoder())
            await scu.store(remote, self.outgoing(), [(CT, EXPLICIT)])
            self.assertEqual(len(list(target.iterdir())), 1)

    async def test_statuses(self) -> None:
        """Warnings, and that the object was there before, count as success; other statuses are errors."""
        statuses = [0x0000, 0xB000, 0xB006, 0xB007, 0x0111, 0xA700, 0xC000, 0x0122]
        answers = iter(statuses)
        with pynetdicom_server([(CT, [EXPLICIT])], [(evt.EVT_C_STORE, lambda _: next(answers))]) as (port, seen):
            scu = self.scu()
            for status in statuses[:5]:
                self.assertEqual(await scu.store(self.remote(port), self.outgoing(), []), status)
            for status in statuses[5:]:
                error = await self.assertFailure(scu.store(self.remote(port), self.outgoing(), []), OrthancError)
                self.assertEqual(error.payload, {"Type": "Dimse", "Content": {"DimseErrorStatus": status}})
            self.assertEqual(seen.associations, 1)

    async def test_the_originator(self) -> None:
        """Who asked for the C-MOVE is told when it is known."""
        requests: list[Any] = []

        def store(event: evt.Event) -> int:
            request = event.request
            requests.append((request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID))
            return 0

        with pynetdicom_server([(CT, [EXPLICIT])], [(evt.EVT_C_STORE, store)]) as (port, _):
            scu = self.scu()
            await scu.store(self.remote(port), self.outgoing(), [])
            await scu.store(self.remote(port), self.outgoing(), [], Originator("ASKER", 77))
        self.assertEqual(requests, [(None, None), ("ASKER", 77)])

    async def test_files_that_cannot_be_sent(self) -> None:
        """A file that is gone or is no DICOM fails before anything is sent; the association stays."""
        with pynetdicom_server([(CT, [EXPLICIT])], [(evt.EVT_C_STORE, lambda _: 0)]) as (port, seen):
            scu, outgoing = self.scu(), self.outgoing()
            await scu.store(self.remote(port), outgoing, [])
            with open(outgoing.path, "wb") as file:
                file.write(b"no DICOM at all")
            await self.assertFailure(scu.store(self.remote(port), outgoing, []), CorruptedFile)
            os.unlink(outgoing.path)
            await self.assertFailure(scu.store(self.remote(port), outgoing, []), InexistentFile)
            await scu.store(self.remote(port), self.outgoing(2), [])
            self.assertEqual(seen.associations, 1)

    async def test_a_large_object_streams(self) -> None:
        """An object of 300 MB is read as it is sent."""
        size = 300 << 20
        path = self.folder / "large.dcm"
        head = meta(EXPLICIT, CT, sop_instance(1)) + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size)
        with path.open("wb") as file:
            file.write(head)
            file.truncate(len(head) + size)
        outgoing = Outgoing(
            sop_class_uid=CT, sop_instance_uid=sop_instance(1), transfer_syntax=EXPLICIT, path=str(path)
        )
        received = []

        def serve(connection: Connection) -> None:
            connection.accept(maximum_length=0)
            received.append(connection.data_set())
            connection.respond(dimse.C_STORE_RQ | dimse.RESPONSE, 1, 0)
            connection.until_end()

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with Script(serve) as peer:
            scu = self.scu()
            await scu.store(self.remote(peer.port), outgoing, [])
            await scu.close()
        self.assertEqual(received, [size + 12])
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 60 * 1024)


class ProposalTests(SynchronousTestCase):
    def proposed(self, *arguments: Any, transcoding: bool = False) -> list[tuple[str, tuple[str, ...]]]:
        proposals = storage_proposals(*arguments, transcoding=transcoding)
        return [(p.abstract_syntax, p.transfer_syntaxes) for p in proposals]

    def test_uncompressed(self) -> None:
        """The stored syntax has a context of its own, and so has the preferred one."""
        self.assertEqual(
            self.proposed((CT, EXPLICIT), [(CT, EXPLICIT)], EXPLICIT), [(CT, (EXPLICIT,)), (CT, (IMPLICIT,))]
        )
        self.assertEqual(
            self.proposed((CT, EXPLICIT), [], IMPLICIT), [(CT, (EXPLICIT,)), (CT, (IMPLICIT,))]
        )

    def test_compressed(self) -> None:
        """Alternatives of compressed objects are proposed only when they can be made."""
        self.assertEqual(self.proposed((CT, JPEG), [], EXPLICIT), [(CT, (JPEG,))])
        self.assertEqual(
            self.proposed((CT, JPEG), [], EXPLICIT, transcoding=True),
            [(CT, (JPEG,)), (CT, (EXPLICIT,)), (CT, (IMPLICIT,))],
        )

    def test_no_more_than_an_association_has(self) -> None:
        """Of too many contexts those of the objects come first, and that of the first object before all."""
        pairs = [(f"1.2.{number}", EXPLICIT) for number in range(200)]
        proposed = self.proposed(("1.2.199", EXPLICIT), pairs, EXPLICIT)
        self.assertEqual(len(proposed), 128)
        self.assertEqual(proposed[0], ("1.2.199", (EXPLICIT,)))


class ReuseTests(ScuCase):
    contexts = ((VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT]), (MR, [EXPLICIT]))

    async def test_one_association_for_several_operations(self) -> None:
        """Operations one after the other share an association."""
        with pynetdicom_server(self.contexts, [(evt.EVT_C_STORE, lambda _: 0)]) as (port, seen):
            scu = self.scu()
            for number in range(1, 4):
                await scu.store(self.remote(port), self.outgoing(number), [(CT, EXPLICIT)])
            self.assertEqual(seen.associations, 1)
            await scu.store(self.remote(port, local_aet="OTHER"), self.outgoing(), [(CT, EXPLICIT)])
            self.assertEqual(seen.associations, 2)

    async def test_not_shared(self) -> None:
        """Operations at once have an association each."""
        barrier = threading.Barrier(2)

        def store(event: evt.Event) -> int:
            barrier.wait(20)
            return 0

        with pynetdicom_server(self.contexts, [(evt.EVT_C_STORE, store)]) as (port, seen):
            scu = self.scu()
            await gatherResults([scu.store(self.remote(port), self.outgoing(number), []) for number in (1, 2)])
            self.assertEqual(seen.associations, 2)
            await gatherResults([scu.store(self.remote(port), self.outgoing(number), []) for number in (3, 4)])
            self.assertEqual(seen.associations, 2)

    async def test_replaced_for_a_context(self) -> None:
        """An association without a context that is needed is released before another one is made."""
        with pynetdicom_server(self.contexts, [(evt.EVT_C_STORE, lambda _: 0)]) as (port, seen):
            scu = self.scu()
            await scu.echo(self.remote(port))
            await scu.store(self.remote(port), self.outgoing(), [(CT, EXPLICIT), (MR, EXPLICIT)])
            self.assertEqual(seen.events, ["accepted", "released", "accepted"])
            self.assertEqual([abstract for abstract, _ in seen.contexts[1]], [CT, MR, CT, MR])

    async def test_released_in_time(self) -> None:
        """An idle association is released after DicomAssociationCloseDelay, not earlier."""
        clock = Clock()
        with pynetdicom_server(self.contexts) as (port, seen):
            scu = self.scu(close_delay=5, clock=clock)
            await scu.echo(self.remote(port))
            clock.advance(3)
            await scu.echo(self.remote(port))
            clock.advance(3)
            await scu.echo(self.remote(port))
            self.assertEqual(seen.events, ["accepted"])
            clock.advance(3)
            clock.advance(3)
            await self.until(lambda: seen.events == ["accepted", "released"])
            await scu.echo(self.remote(port))
            self.assertEqual(seen.associations, 2)

    async def test_released_at_once(self) -> None:
        """Without a delay every operation has an association of its own."""
        with pynetdicom_server(self.contexts) as (port, seen):
            scu = self.scu(close_delay=0)
            await scu.echo(self.remote(port))
            await self.until(lambda: seen.events == ["accepted", "released"])
            await scu.echo(self.remote(port))
            self.assertEqual(seen.associations, 2)

    async def test_a_peer_that_closes_meanwhile(self) -> None:
        """An idle association that has ended at the peer is replaced unnoticed."""
        for end in (b"", b"\x07\0\0\0\0\4\0\0\2\0", b"\x05\0\0\0\0\4\0\0\0\0"):
            left = threading.Event()

            def serve(connection: Connection, end: bytes = end, left: threading.Event = left) -> None:
                connection.accept()
                connection.pdu()
                connection.respond(dimse.C_ECHO_RQ | dimse.RESPONSE, 1, 0)
                if peer.connections == 1:
                    connection.send(end)
                    if end[:1] != b"\x05":
                        connection.socket.close()
                        left.set()
                        return
                    left.set()
                connection.until_end()

            async with Script(serve) as peer:
                scu = self.scu()
                await scu.echo(self.remote(peer.port))
                await self.until(left.is_set)
                await scu.echo(self.remote(peer.port))
                await scu.close()
            self.assertEqual(peer.connections, 2)
            self.assertEqual(peer.failures, [])

    async def test_close(self) -> None:
        """At the end idle associations are released, running ones aborted, and no thread is left."""
        held = threading.Event()
        started = threading.Event()

        def store(event: evt.Event) -> int:
            started.set()
            held.wait(20)
            return 0

        with pynetdicom_server(self.contexts, [(evt.EVT_C_STORE, store)]) as (port, seen):
            scu = self.scu()
            await scu.echo(self.remote(port, local_aet="IDLE"))
            running = scu.store(self.remote(port), self.outgoing(), [])
            self.assertFailure(running, ServiceUnavailable)
            await self.until(started.is_set)
            await scu.close()
            await running
            await scu.close()
            held.set()
            await self.until(lambda: sorted(seen.events) == ["aborted", "accepted", "accepted", "released"])
        self.assertFalse([t.name for t in threading.enumerate() if t.name.startswith("scu-")])
        await self.assertFailure(scu.echo(self.remote(port)), ServiceUnavailable)

    async def test_cancelled_while_it_waits(self) -> None:
        """An operation that is cancelled before a thread takes it never begins."""
        held, started = threading.Event(), threading.Event()

        def store(event: evt.Event) -> int:
            started.set()
            held.wait(20)
            return 0

        with pynetdicom_server(self.contexts, [(evt.EVT_C_STORE, store)]) as (port, seen):
            scu = self.scu(threads=1)
            first = scu.store(self.remote(port), self.outgoing(), [])
            second = scu.echo(self.remote(port))
            await self.until(started.is_set)
            second.cancel()
            await self.assertFailure(second, CancelledError)
            held.set()
            await first
            await scu.close()
            self.assertEqual(seen.associations, 1)

    def test_the_reactor_is_left_clean(self) -> None:
        """An SCU that nobody uses has no thread and no timer."""
        self.scu()
        self.assertFalse([t.name for t in threading.enumerate() if t.name.startswith("scu-")])
        self.assertEqual(reactor.getDelayedCalls(), [])  # type: ignore[attr-defined]
