"""Outgoing operations and peers that break off, keep silent, or say what they should not."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.acse import ACSE
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent, globalLogPublisher

from orthanctw.dicom import dimse
from orthanctw.dicom.encoding import IDENTIFIER_LIMIT
from orthanctw.dicom.scu.scu import DicomScu
from orthanctw.dicom.uids import STUDY_ROOT_FIND
from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import AcceptedContext, AssociateAccept, ContextResult, PduType, UserInformation
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.remote import Outgoing
from test.dicom_files import meta
from test.dicom_peers import CT, EXPLICIT, data_pdus, sop_instance
from test.scu_case import SHORT, Connection, Script, ScuCase
from test.servers import free_port

QUERY = [(0x00080052, "CS", "STUDY"), (0x00100010, "PN", "SECRET^NAME")]
ABORT = pdus.encode_abort(pdus.Abort(2, 1))
RUBBISH = (
    b"HTTP/1.0 400 Bad Request\r\n\r\n",
    b"\x04\0\xff\xff\xff\xff",
    b"\x02\0\0\0\0\4\0\0\0\0",
    b"\xff" * 64,
    b"\x04\0\0\0\0\4\0\0\0\1",
)
Act = Callable[[Connection], None]


def sockets() -> set[str]:
    """The sockets of this process."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def says(*parts: bytes) -> Act:
    """Says this after the request, and then nothing until the connection ends."""

    def act(connection: Connection) -> None:
        connection.send(*parts)
        connection.until_end()

    return act


def leaves(*parts: bytes) -> Act:
    """Says this, and closes."""
    return lambda connection: connection.send(*parts)


class HostileCase(ScuCase):
    def setUp(self) -> None:
        super().setUp()
        self.sockets_before = sockets()

    async def clean(self, scu: DicomScu) -> None:
        """End the SCU; nothing of it is left."""
        await scu.close()
        left = [t.name for t in threading.enumerate() if t not in self.threads_before]
        # Those of pynetdicom have the names that Python gives.
        self.assertEqual([name for name in left if name.startswith(("scu-", "Thread-", "Requestor"))], [])

    async def meet(
        self, act: Act, operation: Callable[[DicomScu, int], Deferred[Any]] | None = None, **options: Any
    ) -> OrthancError:
        """The error with which an operation ends; by default a C-FIND with a short time limit."""
        async with Script(act) as peer:
            scu = self.scu(**options)
            if operation is None:
                asked: Deferred[Any] = scu.find(self.remote(peer.port, timeout=SHORT), STUDY_ROOT_FIND, QUERY)
            else:
                asked = operation(scu, peer.port)
            error = await self.assertFailure(asked, OrthancError)
            self.assertEqual(scu._associations.idle_count, 0)
            await self.clean(scu)
        self.assertEqual(peer.failures, [])
        self.assertIs(error.code, ErrorCode.NETWORK_PROTOCOL)
        self.assertNotIn("SECRET", str(error))
        self.assertLessEqual(sockets(), self.sockets_before)
        result: OrthancError = error
        return result


class AssociationTests(HostileCase):
    """Before there is an association."""

    async def test_silence(self) -> None:
        """A peer that takes the connection and says nothing, or half an answer, is given up in time."""
        for part in (b"", b"\x02\0", b"\x02\0\0\0\1\0\0\1"):
            await self.meet(says(part))

    async def test_words_before_the_request(self) -> None:
        """What comes before the request, as the session tickets of TLS do, does not keep it from leaving."""
        send = ACSE.send_request

        def late(acse: Any) -> None:
            while not acse.socket._wire.is_readable:
                time.sleep(0.001)
            # pynetdicom's other thread looks for data every millisecond.
            time.sleep(0.1)
            send(acse)

        self.patch(ACSE, "send_request", late)
        asked: list[int] = []

        def act(connection: Connection) -> None:
            connection.send(b"\x02\0")
            asked.append(connection.pdu()[0])

        await self.meet(act)
        self.assertEqual(asked, [PduType.ASSOCIATE_RQ])

    async def test_leaving(self) -> None:
        """A peer that closes before its answer, within it or right after it, is an error."""

        def leaves_after_the_request(connection: Connection) -> None:
            connection.pdu()

        def leaves_within_the_answer(connection: Connection) -> None:
            connection.pdu()
            connection.send(b"\x02\0\0\0\1\0\0\1")

        def leaves_after_the_answer(connection: Connection) -> None:
            connection.accept()

        for act in (
            leaves(),
            leaves_after_the_request,
            leaves_within_the_answer,
            leaves_after_the_answer,
            leaves(ABORT),
        ):
            await self.meet(act)

    async def test_rubbish(self) -> None:
        """What is no answer is an error."""
        for rubbish in RUBBISH:

            def act(connection: Connection, rubbish: bytes = rubbish) -> None:
                connection.pdu()
                says(rubbish)(connection)

            await self.meet(act)

    async def test_rejection(self) -> None:
        """Why an association is rejected is told."""

        def act(connection: Connection) -> None:
            connection.pdu()
            says(pdus.encode_reject(pdus.AssociateReject(1, 1, 7)))(connection)

        self.assertIn("Called AE title not recognised", (await self.meet(act)).details)

    async def test_no_context(self) -> None:
        """An association without a context is none."""

        def act(connection: Connection) -> None:
            request = pdus.decode_associate_request(connection.pdu()[1])
            contexts = [
                AcceptedContext(c.context_id, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, "1.2.840.10008.1.2")
                for c in request.contexts
            ]
            answer = AssociateAccept(
                called_aet=request.called_aet,
                calling_aet=request.calling_aet,
                contexts=tuple(contexts),
                user=UserInformation(maximum_length=16384, implementation_class_uid="1.2.3"),
            )
            says(pdus.encode_associate_accept(answer))(connection)

        self.assertIn("none of the presentation contexts", (await self.meet(act)).details)

    async def test_nobody_is_there(self) -> None:
        """A refused connection, an unknown host and one that does not answer are errors."""
        scu = self.scu()
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = [socket.socket() for _ in range(4)]
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            for remote in (
                self.remote(free_port()),
                self.remote(104, host="host.invalid"),
                self.remote(full.getsockname()[1], timeout=SHORT),
            ):
                error = await self.assertFailure(scu.echo(remote), OrthancError)
                self.assertIs(error.code, ErrorCode.NETWORK_PROTOCOL)
                self.assertIn("cannot connect", error.details)
            for one in waiting:
                one.close()
        await self.clean(scu)

    async def test_cancellation(self) -> None:
        """An operation that waits for an association without a time limit can be cancelled."""
        arrived = threading.Event()

        def act(connection: Connection) -> None:
            connection.pdu()
            arrived.set()
            connection.until_end()

        async with Script(act) as peer:
            scu = self.scu()
            asked = scu.echo(self.remote(peer.port, timeout=0))
            await self.until(arrived.is_set)
            asked.cancel()
            await self.assertFailure(asked, CancelledError)
            await self.clean(scu)

    async def test_bad_titles(self) -> None:
        """An AE title that is none is an error, not a defect."""
        await self.meet(leaves(), lambda scu, port: scu.echo(self.remote(port, aet="A\\B" * 9)))


class ResponseTests(HostileCase):
    """In an association."""

    def then(self, *parts: bytes, closes: bool = False) -> Act:
        """Accepts, takes the request, says this."""

        def act(connection: Connection) -> None:
            connection.accept()
            connection.data_set()
            (leaves if closes else says)(*parts)(connection)

        return act

    def pending(self, data: bytes = b"", message_id: int = 1, context_id: int = 1, field: int = 0x8020) -> bytes:
        command: dict[int, int | str] = {
            dimse.COMMAND_FIELD: field,
            dimse.RESPONDED_TO: message_id,
            dimse.DATA_SET_TYPE: 1,
            dimse.STATUS: 0xFF00,
        }
        return data_pdus(context_id, dimse.encode_command(command), True) + data_pdus(context_id, data, False)

    async def test_silence(self) -> None:
        """A peer that says nothing, or stops between responses or within one, is given up in time and aborted."""
        answer = self.pending(b"\x10\0\x10\0PN\0\0")
        for part in (b"", answer, answer + answer[:9], answer[:60]):
            kinds: list[int] = []

            def act(connection: Connection, part: bytes = part, kinds: list[int] = kinds) -> None:
                connection.accept()
                connection.data_set()
                connection.send(part)
                kinds.extend(connection.until_end())

            self.assertIn("time limit", (await self.meet(act)).details)
            self.assertEqual(kinds, [PduType.ABORT])

    async def test_leaving(self) -> None:
        """A peer that closes, aborts or releases at any point is an error."""
        answer = self.pending()
        for part in (b"", answer, answer[:3], answer[:60], ABORT, answer + ABORT, pdus.RELEASE_RQ):
            await self.meet(self.then(part, closes=True))

    async def test_rubbish(self) -> None:
        """What is no response is an error, and an abort."""
        command = dimse.encode_command({dimse.COMMAND_FIELD: 0x8020, dimse.STATUS: 0})
        for rubbish in (
            *RUBBISH,
            self.pending(message_id=2),
            self.pending(context_id=9),
            self.pending(field=0x0001),
            self.pending(field=0x8001),
            self.pending(b"\x10\0\x10\0PN\xff\0A"),
            data_pdus(1, command, True),
            data_pdus(1, b"no command", True),
            data_pdus(1, b"no command", False),
            pdus.RELEASE_RP,
        ):
            await self.meet(self.then(rubbish))

    async def test_identifiers_that_are_too_long(self) -> None:
        """An answer over the limit is refused while it arrives."""
        data = bytes(IDENTIFIER_LIMIT + 2)
        self.assertIn("too long", (await self.meet(self.then(self.pending(data)))).details)

    async def test_too_many_answers(self) -> None:
        """A peer that does not stop is cancelled and aborted."""
        kinds: list[int] = []

        def act(connection: Connection) -> None:
            connection.accept()
            connection.data_set()
            connection.send(self.pending() * 11)
            kinds.extend(connection.until_end())

        self.assertIn("too many", (await self.meet(act, answers_limit=10)).details)
        self.assertEqual(kinds, [PduType.DATA, PduType.ABORT])

    async def test_a_peer_that_speaks_first(self) -> None:
        """Messages that nobody asked for are an error."""

        def act(connection: Connection) -> None:
            connection.accept()
            connection.send(self.pending(message_id=7) * 3)
            connection.until_end()

        await self.meet(act)

    async def test_nothing_of_it_is_logged(self) -> None:
        """No text that a peer sends is in the log."""
        events: list[LogEvent] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        bad = self.pending(b"\x10\0\x10\0PN\x0b\0SECRET^NAME\x10\0\x20\0LO\xff\xffX")
        await self.meet(self.then(bad))
        self.assertEqual([event for event in events if "SECRET" in repr(event)], [])


class StoreTests(HostileCase):
    def large(self) -> Outgoing:
        """An object of 64 MB that is not there."""
        size = 64 << 20
        path = self.folder / "large.dcm"
        head = meta(EXPLICIT, CT, sop_instance(1)) + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size)
        with path.open("wb") as file:
            file.write(head)
            file.truncate(len(head) + size)
        return Outgoing(
            sop_class_uid=CT, sop_instance_uid=sop_instance(1), transfer_syntax=EXPLICIT, path=str(path)
        )

    async def test_a_peer_that_does_not_read(self) -> None:
        """It is given up in time."""
        done = threading.Event()

        def act(connection: Connection) -> None:
            connection.accept()
            done.wait(20)

        async with Script(act) as peer:
            scu = self.scu()
            storing = scu.store(self.remote(peer.port, timeout=SHORT), self.large(), [])
            error = await self.assertFailure(storing, OrthancError)
            done.set()
            self.assertIn("time limit", error.details)
            await self.clean(scu)
        self.assertLessEqual(sockets(), self.sockets_before)

    async def test_a_peer_that_leaves_within_the_object(self) -> None:
        """It is an error, whatever the way."""

        def act(*parts: bytes) -> Act:
            def leave(connection: Connection) -> None:
                connection.accept()
                connection.socket.recv(100_000)
                connection.send(*parts)

            return leave

        outgoing = self.large()
        for part in (b"", ABORT):
            await self.meet(act(part), lambda scu, port: scu.store(self.remote(port), outgoing, []))

    async def test_small_pdus(self) -> None:
        """A peer may take tiny PDUs, but not none."""
        received: list[int] = []

        def act(connection: Connection) -> None:
            connection.accept(maximum_length=20)
            while (value := next(pdus.decode_data(memoryview(connection.pdu()[1])))).is_command:
                continue
            received.append(len(value.data))
            while not value.is_last:
                value = next(pdus.decode_data(memoryview(connection.pdu()[1])))
                received.append(len(value.data))
            connection.respond(dimse.C_STORE_RQ | dimse.RESPONSE, 1, 0)
            connection.until_end()

        async with Script(act) as peer:
            scu = self.scu()
            outgoing = self.outgoing()
            await scu.store(self.remote(peer.port), outgoing, [])
            await self.clean(scu)
        self.assertLessEqual(max(received), 14)
        with open(outgoing.path, "rb") as file:
            size = file.seek(0, io.SEEK_END)
        self.assertGreater(size, sum(received))

        def takes_nothing(connection: Connection) -> None:
            connection.accept(maximum_length=6)
            connection.until_end()

        await self.meet(takes_nothing, lambda scu, port: scu.store(self.remote(port), outgoing, []))

    async def test_a_file_that_shrinks(self) -> None:
        """A file that becomes shorter while it is sent is an error and an abort."""
        outgoing = self.large()
        kinds: list[int] = []

        def act(connection: Connection) -> None:
            connection.accept()
            connection.pdu()
            os.truncate(outgoing.path, 1 << 20)
            kinds.extend(connection.until_end())

        error = await self.meet(act, lambda scu, port: scu.store(self.remote(port), outgoing, []))
        self.assertIn("ends before its end", error.details)
        self.assertIn(PduType.ABORT, kinds)

    async def test_a_store_is_not_repeated(self) -> None:
        """What was sent once on an association of before is not sent again when it breaks off."""

        def act(connection: Connection) -> None:
            connection.accept()
            connection.data_set()
            connection.respond(dimse.C_STORE_RQ | dimse.RESPONSE, 1, 0)
            connection.data_set()

        async with Script(act) as peer:
            scu = self.scu()
            await scu.store(self.remote(peer.port), self.outgoing(1), [])
            await self.assertFailure(scu.store(self.remote(peer.port), self.outgoing(2), []), OrthancError)
            await self.clean(scu)
            self.assertEqual(peer.connections, 1)

    async def test_a_question_is_repeated(self) -> None:
        """A C-ECHO is, since it changes nothing."""

        def act(connection: Connection) -> None:
            connection.accept()
            connection.pdu()
            connection.respond(dimse.C_ECHO_RQ | dimse.RESPONSE, 1, 0)
            if peer.connections == 1:
                connection.pdu()
                return
            connection.until_end()

        async with Script(act) as peer:
            scu = self.scu()
            await scu.echo(self.remote(peer.port))
            await scu.echo(self.remote(peer.port))
            await self.clean(scu)
            self.assertEqual(peer.connections, 2)
