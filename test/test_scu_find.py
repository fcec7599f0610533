"""C-FIND and C-MOVE with real peers."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import build_context, evt
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom import dimse
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.scu.quirks import adapt_query
from orthanctw.dicom.uids import PATIENT_ROOT_MOVE, STUDY_ROOT_FIND, STUDY_ROOT_MOVE
from orthanctw.dicom.upper import pdus
from orthanctw.errors import OrthancError
from orthanctw.remote import RetrieveResult
from orthanctw.settings.structures import Manufacturer
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, sop_instance
from test.scu_case import Connection, Script, ScuCase, program, pynetdicom_server
from test.servers import ORTHANC, ServerProcess, ct_image, free_port

STUDY = "1.2.826.0.1.3680043.9.7433.1"
LEVEL, NAME, PATIENT_ID, STUDY_UID = 0x00080052, 0x00100010, 0x00100020, 0x0020000D
CZECH = "Dvořák^Antonín"
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"
_QRSCP = """\
NetworkTCPPort  = {port}
MaxPDUSize      = 16384
MaxAssociations = 16
HostTable BEGIN
scu = (ORTHANCTW, 127.0.0.1, 1)
target = (TARGET, 127.0.0.1, {target})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
PEER {folder} RW (100, 1024mb) ANY
AETable END
"""


def query(*elements: tuple[int, str, str], level: str = "STUDY") -> Elements:
    return [(LEVEL, "CS", level), *elements]


def value(answer: Elements, tag: int) -> object:
    return next((element[2] for element in answer if element[0] == tag), None)


class FindTests(ScuCase):
    async def asked(self, sent: Elements, *answers: Dataset, **options: Any) -> tuple[Dataset, list[Elements]]:
        """What a peer has understood of a query, and what came of its answers."""
        seen: list[Dataset] = []

        def handle(event: evt.Event) -> Any:
            seen.append(event.identifier)
            for answer in answers:
                yield 0xFF00, answer
            yield 0x0000, None

        with pynetdicom_server([(STUDY_ROOT_FIND, [EXPLICIT, IMPLICIT])], [(evt.EVT_C_FIND, handle)]) as (port, _):
            scu = self.scu(**options)
            found = await scu.find(self.remote(port), STUDY_ROOT_FIND, sent)
            await scu.close()
        return seen[0], found

    async def test_text_goes_out_in_the_default_encoding(self) -> None:
        """Text of a query is in the character set of DefaultEncoding, or in UTF-8 where that does not have it."""
        for encoding, name, term in (
            ("Latin2", CZECH, "ISO_IR 101"),
            ("Latin1", CZECH, "ISO_IR 192"),
            ("Latin1", JAPANESE, "ISO_IR 192"),
            ("JapaneseKanji", "山田^太郎", ["", "ISO 2022 IR 87"]),
        ):
            seen, _ = await self.asked(query((NAME, "PN", name)), default_encoding=DefaultEncoding(encoding))
            self.assertEqual((str(seen.PatientName), seen.SpecificCharacterSet), (name, term))

    async def test_text_comes_in_whatever_encoding(self) -> None:
        """Answers are Unicode, each from the character set that it names."""
        answers = []
        for name, terms in ((CZECH, "ISO_IR 101"), (JAPANESE, ["", "ISO 2022 IR 87"]), (JAPANESE, "ISO_IR 192")):
            answer = Dataset()
            answer.SpecificCharacterSet = terms
            answer.PatientName = name
            answer.StudyInstanceUID = STUDY
            answers.append(answer)
        _, found = await self.asked(query((NAME, "PN", "")), *answers)
        self.assertEqual([value(one, NAME) for one in found], [CZECH, JAPANESE, JAPANESE])
        self.assertEqual(value(found[0], STUDY_UID), STUDY)

    async def test_answers_that_name_no_encoding(self) -> None:
        """They are in DefaultEncoding."""

        def serve(connection: Connection) -> None:
            connection.accept()
            connection.data_set()
            name = CZECH.encode("iso8859-2")
            answer = b"\x10\0\x10\0PN" + len(name).to_bytes(2, "little") + name
            connection.respond(dimse.C_FIND_RQ | dimse.RESPONSE, 1, 0xFF00, answer)
            connection.respond(dimse.C_FIND_RQ | dimse.RESPONSE, 1, 0)
            connection.until_end()

        async with Script(serve) as peer:
            scu = self.scu(default_encoding=DefaultEncoding("Latin2"))
            found = await scu.find(self.remote(peer.port), STUDY_ROOT_FIND, query())
            await scu.close()
        self.assertEqual([value(one, NAME) for one in found], [CZECH])

    async def test_quirks(self) -> None:
        """What the manufacturer does not understand is not sent."""
        sent = query((0x00080020, "DA", "*"), (NAME, "PN", "*"))
        seen = []

        def handle(event: evt.Event) -> Any:
            seen.append((event.identifier.StudyDate, str(event.identifier.PatientName)))
            yield 0x0000, None

        with pynetdicom_server([(STUDY_ROOT_FIND, [IMPLICIT])], [(evt.EVT_C_FIND, handle)]) as (port, _):
            scu = self.scu()
            for manufacturer in (
                Manufacturer.GENERIC,
                Manufacturer.GENERIC_NO_WILDCARD_IN_DATES,
                Manufacturer.GENERIC_NO_UNIVERSAL_WILDCARD,
            ):
                await scu.find(self.remote(port, manufacturer=manufacturer), STUDY_ROOT_FIND, sent)
        self.assertEqual(seen, [("*", "*"), ("", "*"), ("", "")])

    async def test_a_failure_status(self) -> None:
        """A failure is an error; that the peer has stopped early is none."""

        def handle(event: evt.Event) -> Any:
            answer = Dataset()
            answer.StudyInstanceUID = STUDY
            yield 0xFF00, answer
            yield (0xA700 if event.identifier.PatientID == "BAD" else 0xFE00), None

        with pynetdicom_server([(STUDY_ROOT_FIND, [IMPLICIT])], [(evt.EVT_C_FIND, handle)]) as (port, seen):
            scu = self.scu()
            bad = scu.find(self.remote(port), STUDY_ROOT_FIND, query((PATIENT_ID, "LO", "BAD")))
            error = await self.assertFailure(bad, OrthancError)
            self.assertEqual(error.payload, {"Type": "Dimse", "Content": {"DimseErrorStatus": 0xA700}})
            found = await scu.find(self.remote(port), STUDY_ROOT_FIND, query((PATIENT_ID, "LO", "GOOD")))
            self.assertEqual(len(found), 1)
            self.assertEqual(seen.associations, 1)

    async def test_another_model_than_the_peer_has(self) -> None:
        """A model that the peer does not offer is an error."""
        with pynetdicom_server([(CT, [IMPLICIT])]) as (port, _):
            finding = self.scu().find(self.remote(port), STUDY_ROOT_FIND, query())
            error = await self.assertFailure(finding, OrthancError)
            self.assertIn("none of the presentation contexts", error.details)

    async def test_cancellation(self) -> None:
        """A C-CANCEL goes out, then an abort, while the peer goes on."""
        order: list[object] = []
        begun = threading.Event()

        def serve(connection: Connection) -> None:
            connection.accept()
            connection.data_set()
            connection.respond(dimse.C_FIND_RQ | dimse.RESPONSE, 1, 0xFF00, b"")
            begun.set()
            command = connection.command()
            order.append((command.field, command.number(dimse.RESPONDED_TO)))
            order.extend(connection.until_end())

        async with Script(serve) as peer:
            scu = self.scu()
            finding = scu.find(self.remote(peer.port, timeout=0), STUDY_ROOT_FIND, query())
            await self.until(begun.is_set)
            finding.cancel()
            await self.assertFailure(finding, CancelledError)
            await self.until(lambda: len(order) == 2)
            await scu.close()
        self.assertEqual(order, [(dimse.C_CANCEL_RQ, 1), pdus.PduType.ABORT])


class MoveTests(ScuCase):
    async def test_progress(self) -> None:
        """Counters of pending responses are told in order, before the result."""
        told: list[Any] = []
        dataset = dcmread(io.BytesIO(ct_image(1)))
        moves = []

        def handle(event: evt.Event) -> Any:
            moves.append((event.move_destination, event.identifier.StudyInstanceUID))
            yield "127.0.0.1", target, {"contexts": [build_context(CT, EXPLICIT)]}
            yield 2
            yield 0xFF00, dataset
            yield 0xFF00, dataset

        stored = [(evt.EVT_C_STORE, lambda _: 0)]
        with (
            pynetdicom_server([(CT, [EXPLICIT])], stored) as (target, _),
            pynetdicom_server([(STUDY_ROOT_MOVE, [EXPLICIT])], [(evt.EVT_C_MOVE, handle)]) as (port, _),
        ):
            scu = self.scu()
            result = await scu.move(
                self.remote(port), query((STUDY_UID, "UI", STUDY)), "TARGET", lambda result: told.append(result)
            )
        self.assertEqual(moves, [("TARGET", STUDY)])
        self.assertEqual([(p.status, p.completed) for p in told], [(0xFF00, 1), (0xFF00, 2)])
        self.assertEqual(result, RetrieveResult(status=0, completed=2))

    async def test_ends(self) -> None:
        """Failures of some objects are told by the result; that of the whole is an error."""
        statuses = [0xB000, 0xA801]

        def serve(connection: Connection) -> None:
            request = connection.accept()
            self.assertEqual(request.contexts[0].abstract_syntax, PATIENT_ROOT_MOVE)
            connection.data_set()
            connection.respond(dimse.C_MOVE_RQ | dimse.RESPONSE, 1, statuses[peer.connections - 1])
            connection.until_end()

        async with Script(serve) as peer:
            scu = self.scu(close_delay=0)
            sent = query((PATIENT_ID, "LO", "ID"), level="PATIENT")
            result = await scu.move(self.remote(peer.port), sent, "TARGET", lambda _: None)
            self.assertEqual(result.status, 0xB000)
            moving = scu.move(self.remote(peer.port), sent, "NOBODY", lambda _: None)
            error = await self.assertFailure(moving, OrthancError)
            self.assertEqual(error.payload, {"Type": "Dimse", "Content": {"DimseErrorStatus": 0xA801}})
            await scu.close()
        self.assertEqual(peer.failures, [])


class RealPeerTests(ScuCase):
    @contextlib.contextmanager
    def qrscp(self, target: int) -> Iterator[int]:
        """DCMTK's ``dcmqrscp``, which knows the AE title TARGET; its port."""
        port = free_port()
        database = self.folder / "database"
        database.mkdir()
        configuration = self.folder / "dcmqrscp.cfg"
        configuration.write_text(_QRSCP.format(port=port, target=target, folder=database))
        command = ("/usr/bin/dcmqrscp", "-c", str(configuration))
        with program(port, *command, cwd=self.folder):
            yield port

    async def test_dcmqrscp(self) -> None:
        """What we have stored in dcmqrscp is found there, and moved to storescp."""
        with self.storescp() as (target, received), self.qrscp(target) as port:
            scu, remote = self.scu(), self.remote(port)
            for number in (1, 2):
                await scu.store(remote, self.outgoing(number), [(CT, EXPLICIT)])
            found = await scu.find(remote, STUDY_ROOT_FIND, query((PATIENT_ID, "LO", "I*"), (STUDY_UID, "UI", "")))
            self.assertEqual([(value(one, PATIENT_ID), value(one, STUDY_UID)) for one in found], [("ID", STUDY)])
            nothing = await scu.find(remote, STUDY_ROOT_FIND, query((PATIENT_ID, "LO", "OTHER")))
            self.assertEqual(nothing, [])
            sent = query((STUDY_UID, "UI", STUDY))
            result = await scu.move(remote, sent, "TARGET", lambda _: None)
            self.assertEqual((result.status, result.completed, result.failed), (0, 2, 0))
            self.assertEqual(len(list(received.iterdir())), 2)
            await scu.close()

    async def test_orthanc(self) -> None:
        """The real Orthanc takes, finds and moves objects."""
        with self.storescp() as (target, received):
            server = ServerProcess(self.folder / "orthanc", ORTHANC, self.orthanc_options(target))
            server.start()
            self.addCleanup(server.stop)
            scu, remote = self.scu(), self.remote(server.options["DicomPort"], aet="ORTHANC")
            await scu.echo(remote, checks_find=True)
            for number in (1, 2):
                await scu.store(remote, self.outgoing(number), [(CT, EXPLICIT)])
            self.assertEqual(len(server.get("/instances")), 2)
            found = await scu.find(
                remote,
                STUDY_ROOT_FIND,
                query((STUDY_UID, "UI", STUDY), (0x0020000E, "UI", ""), (0x00080018, "UI", ""), level="IMAGE"),
            )
            self.assertEqual(sorted(str(value(one, 0x00080018)) for one in found), [sop_instance(1), sop_instance(2)])
            result = await scu.move(remote, query((STUDY_UID, "UI", STUDY)), "TARGET", lambda _: None)
            self.assertEqual(result.status, 0)
            await self.until(lambda: len(list(received.iterdir())) == 2)
            await scu.close()

    def orthanc_options(self, target: int) -> dict[str, Any]:
        return {
            "DicomServerEnabled": True,
            "DicomPort": free_port(),
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {
                "us": ["ORTHANCTW", "127.0.0.1", 1],
                "target": ["TARGET", "127.0.0.1", target],
            },
        }


class QuirkTests(SynchronousTestCase):
    def test_within_sequences(self) -> None:
        """Wildcards within items are treated as others."""
        item = [(0x00400002, "DA", "*"), (0x00400001, "AE", "*")]
        adapted = adapt_query([(0x00400100, "SQ", [item])], Manufacturer.GENERIC_NO_WILDCARD_IN_DATES)
        self.assertEqual(adapted, [(0x00400100, "SQ", [[(0x00400002, "DA", ""), (0x00400001, "AE", "*")]])])

    def test_values_that_only_contain_a_wildcard(self) -> None:
        """They are left alone."""
        sent = [(NAME, "PN", "A*"), (0x00080020, "DA", "2024*")]
        for manufacturer in Manufacturer:
            self.assertEqual(adapt_query(sent, manufacturer), sent)
