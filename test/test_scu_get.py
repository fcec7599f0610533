"""C-GET with real peers and with hostile ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from pydicom import dcmread
from pynetdicom import evt
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from orthanctw.bodies import BodyLimits, MemoryBudget
from orthanctw.dicom import dimse
from orthanctw.dicom.scanner import scan
from orthanctw.dicom.scu.retrieve import usual_classes
from orthanctw.dicom.scu.scu import DicomScu
from orthanctw.dicom.uids import PATIENT_ROOT_GET, STUDY_ROOT_GET
from orthanctw.dicom.upper import pdus
from orthanctw.errors import DIMSE_DATA_SET_MISMATCH, BadFileFormat, FullStorage, OrthancError, ServiceUnavailable
from orthanctw.interfaces import ISpool
from orthanctw.model import Origin
from orthanctw.remote import RetrieveResult
from orthanctw.settings.structures import Manufacturer
from orthanctw.storage.filesystem import FilesystemStorage
from orthanctw.threads import NamedPool
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, data_pdus, data_set, sop_instance, store_command
from test.rest_samples import SPOOL
from test.scu_case import SHORT, Connection, Script, ScuCase, pynetdicom_server
from test.servers import ORTHANC, ServerProcess, ct_image, free_port

STUDY = "1.2.826.0.1.3680043.9.7433.1"
QUERY = [(0x00080052, "CS", "STUDY"), (0x0020000D, "UI", STUDY)]
#: Context of CT in what `GetCase` proposes.
CT_CONTEXT = 3


@attrs.define
class Kept:
    """Takes objects as the ingest does; `failure` is raised instead."""

    objects: dict[str, bytes] = attrs.field(factory=dict)
    origins: list[Origin] = attrs.field(factory=list)
    failure: OrthancError | None = None

    async def receive(
        self, content: bytes | ISpool, origin: Origin, *, announced: tuple[str, str]
    ) -> str | None:
        if self.failure is not None:
            raise self.failure
        data = content if isinstance(content, bytes) else content.read_at(0, content.size)
        scanned = scan(data)
        if announced != (scanned.text(0x00080016), scanned.text(0x00080018)):
            raise BadFileFormat("another object", dimse_status=DIMSE_DATA_SET_MISMATCH)
        self.objects[announced[1]] = data
        self.origins.append(origin)
        return f"id-{announced[1]}"


class GetCase(ScuCase):
    def setUp(self) -> None:
        super().setUp()
        self.kept = Kept()
        self.told: list[RetrieveResult] = []
        self.spooled: list[Any] = []
        self.budget = MemoryBudget(1 << 20)

    def tearDown(self) -> None:
        self.assertEqual(self.budget.used, 0)

    def getter(self, **options: Any) -> DicomScu:
        limits = BodyLimits(maximum=0, threshold=1 << 20, budget=self.budget, spool=self.no_spool)
        return self.scu(**{"receive": self.kept.receive, "limits": limits, **options})

    async def spooling(self, **options: Any) -> tuple[DicomScu, Path]:
        """An SCU whose objects go through files of a storage area, and the folder of these."""
        root = self.folder / "storage"
        pool = NamedPool(reactor, "storage", 1, synchronous=True)  # type: ignore[arg-type]
        storage = FilesystemStorage(str(root), pool)
        await storage.open()
        self.addCleanup(storage.close)
        limits = BodyLimits(maximum=0, threshold=0, budget=self.budget, spool=storage.spool)
        return self.getter(limits=limits, **options), root / SPOOL

    def no_spool(self) -> ISpool:
        raise AssertionError("a spool file for what fits into memory")

    def get(self, port: int, scu: DicomScu | None = None, **remote: Any) -> Deferred[tuple[RetrieveResult, list[str]]]:
        return (scu or self.getter()).get(self.remote(port, **remote), QUERY, [CT], self.told.append)


class RealPeerTests(GetCase):
    async def test_orthanc(self) -> None:
        """A study comes from the real Orthanc."""
        server = ServerProcess(self.folder / "orthanc", ORTHANC, self.orthanc_options())
        server.start()
        self.addCleanup(server.stop)
        for number in (1, 2, 3):
            server.upload(ct_image(number))
        result, ids = await self.get(server.options["DicomPort"], aet="ORTHANC")
        self.assertEqual((result.status, result.completed, result.failed), (0, 3, 0))
        self.assertEqual(sorted(ids), [f"id-{sop_instance(number)}" for number in (1, 2, 3)])
        self.assertEqual([p.completed for p in self.told], sorted(p.completed for p in self.told))
        origin = self.kept.origins[0]
        self.assertEqual(
            (origin.remote_ip, origin.remote_aet, origin.called_aet), ("127.0.0.1", "ORTHANC", "ORTHANCTW")
        )
        result, ids = await self.scu_of_unknown_classes(server.options["DicomPort"])
        self.assertEqual((result.completed, len(ids)), (3, 3))

    def scu_of_unknown_classes(self, port: int) -> Deferred[tuple[RetrieveResult, list[str]]]:
        return self.getter().get(self.remote(port, aet="ORTHANC"), QUERY, [], self.told.append)

    def orthanc_options(self) -> dict[str, Any]:
        return {
            "DicomServerEnabled": True,
            "DicomPort": free_port(),
            "DicomAlwaysAllowGet": True,
            "DicomModalities": {"us": ["ORTHANCTW", "127.0.0.1", 1]},
        }

    async def test_pynetdicom(self) -> None:
        """Objects in the syntax that was agreed upon, and answers that are pending, come from pynetdicom."""
        datasets = [dcmread(io.BytesIO(ct_image(number))) for number in (1, 2)]

        def handle(event: evt.Event) -> Any:
            yield len(datasets)
            for dataset in datasets:
                yield 0xFF00, dataset

        contexts = [(PATIENT_ROOT_GET, [IMPLICIT]), (CT, [EXPLICIT])]
        query = [(0x00080052, "CS", "PATIENT"), (0x00100020, "LO", "ID")]
        with pynetdicom_server(contexts, [(evt.EVT_C_GET, handle)]) as (port, seen):
            result, ids = await self.getter().get(self.remote(port), query, [CT], self.told.append)
            await self.until(lambda: "released" in seen.events)
        self.assertEqual((result.status, result.completed, len(ids)), (0, 2, 2))

    async def test_what_the_ingest_refuses(self) -> None:
        """The status of what could not be stored goes to the peer, which counts it."""
        dataset = dcmread(io.BytesIO(ct_image(1)))

        def handle(event: evt.Event) -> Any:
            yield 1
            yield 0xFF00, dataset

        self.kept.failure = FullStorage()
        contexts = [(STUDY_ROOT_GET, [IMPLICIT]), (CT, [EXPLICIT])]
        with pynetdicom_server(contexts, [(evt.EVT_C_GET, handle)]) as (port, _):
            await self.assertFailure(self.get(port), OrthancError)
        self.assertEqual(self.kept.objects, {})

    def test_usual_classes(self) -> None:
        """The usual classes fit into an association, the most usual are among them."""
        classes = usual_classes()
        self.assertEqual(len(set(classes)), 126)
        for ending in ("1.1", "2", "4", "6.1", "7", "12.1", "20", "128", "481.3", "88.22", "104.1", "66.4"):
            self.assertIn(f"1.2.840.10008.5.1.4.1.1.{ending}", classes)


class SpoolTests(GetCase):
    async def test_through_a_file(self) -> None:
        """What does not fit into memory goes through a file of ours, which is gone afterwards, stored or not."""
        seen: list[list[str]] = []

        async def receive(content: bytes | ISpool, origin: Origin, *, announced: tuple[str, str]) -> str | None:
            await content.flush()  # type: ignore[union-attr]
            seen.append([path.name for path in folder.iterdir()])
            return await self.kept.receive(content, origin, announced=announced)

        scu, folder = await self.spooling(receive=receive)

        def serve(connection: Connection) -> None:
            asked(connection)
            for number in (1, 2):
                connection.send(store(sop_instance(number), data_set(1)))
                connection.command()
            connection.send(store("../../x", data_set(1)))
            connection.command()
            connection.send(store(sop_instance(3), data_set(3))[:-100])

        async with Script(serve) as peer:
            await self.assertFailure(self.get(peer.port, scu), OrthancError)
            await scu.close()
        self.assertEqual(peer.failures, [])
        self.assertEqual(list(self.kept.objects), [sop_instance(1)])
        self.assertEqual([len(names) for names in seen], [1, 1])
        self.assertEqual([name for names in seen for name in names if "x" in name], [])
        self.assertEqual(list(folder.iterdir()), [])


class HostilePeerTests(GetCase):
    """Each peer gets what it deserves, and nothing is kept that should not be."""

    async def meet(self, serve: Callable[[Connection], None], **remote: Any) -> OrthancError:
        """The error with which a C-GET from a peer ends."""
        async with Script(serve) as peer:
            scu = self.getter()
            error = await self.assertFailure(self.get(peer.port, scu, **{"timeout": SHORT, **remote}), OrthancError)
            await scu.close()
        self.assertEqual(peer.failures, [])
        result: OrthancError = error
        return result

    async def statuses(self, *stores: bytes) -> list[int]:
        """The statuses that C-STORE requests are answered by, before a good end."""
        found: list[int] = []

        def serve(connection: Connection) -> None:
            asked(connection)
            for store in stores:
                connection.send(store)
                found.append(connection.command().number(dimse.STATUS))
            final(connection)
            connection.until_end()

        async with Script(serve) as peer:
            result, _ = await self.get(peer.port)
            self.assertEqual(result.status, 0)
        self.assertEqual(peer.failures, [])
        return found

    async def test_uids_that_are_none(self) -> None:
        """UIDs that are paths are refused; nothing is stored."""
        bad = "../../x"
        found = await self.statuses(
            store(bad, data_set()), store(sop_instance(), data_set(), sop_class=bad), store("1." * 40 + "1", data_set())
        )
        self.assertEqual(found, [dimse.INVALID_OBJECT_INSTANCE] * 3)
        self.assertEqual(self.kept.objects, {})

    async def test_another_object_than_announced(self) -> None:
        """An object that contradicts its request is refused, and so is one of a class that was not asked for."""
        found = await self.statuses(
            store(sop_instance(2), data_set(1)),
            store(sop_instance(1), data_set(1), sop_class="1.2.840.10008.5.1.4.1.1.4"),
            store(sop_instance(1), data_set(1), context_id=1),
            store(sop_instance(1), b"rubbish!"),
            data_pdus(CT_CONTEXT, without_data_set(), True),
        )
        self.assertEqual(found[:3], [DIMSE_DATA_SET_MISMATCH] + [dimse.SOP_CLASS_NOT_SUPPORTED] * 2)
        self.assertTrue(all(found))
        self.assertEqual(self.kept.objects, {})

    async def test_an_unknown_context(self) -> None:
        """A context that was not accepted is an abort."""
        kinds: list[int] = []

        def serve(connection: Connection) -> None:
            asked(connection)
            connection.send(store(sop_instance(), data_set(), context_id=99))
            kinds.extend(connection.until_end())

        await self.meet(serve)
        self.assertEqual(kinds, [pdus.PduType.ABORT])
        self.assertEqual(self.kept.objects, {})

    async def test_a_request_after_the_end(self) -> None:
        """After the last response an object is not taken: the association is aborted, the result stands."""
        kinds: list[int] = []

        def serve(connection: Connection) -> None:
            asked(connection)
            final(connection, store(sop_instance(), data_set()))
            kinds.extend(connection.until_end())

        async with Script(serve) as peer:
            result, ids = await self.get(peer.port)
        self.assertEqual((result.status, ids, self.kept.objects), (0, [], {}))
        self.assertIn(pdus.PduType.ABORT, kinds)

    async def test_half_an_object(self) -> None:
        """An object that breaks off is not kept, however the peer leaves."""
        half = data_pdus(CT_CONTEXT, store_command(sop_instance()), True) + data_pdus(
            CT_CONTEXT, data_set(), False, last=False
        )
        for end in (b"", pdus.encode_abort(pdus.Abort(0, 0)), pdus.RELEASE_RQ, b"\x04\0\0\0"):

            def serve(connection: Connection, end: bytes = end) -> None:
                asked(connection)
                connection.send(half, end)

            await self.meet(serve)
            self.assertEqual(self.kept.objects, {})

    async def test_silence(self) -> None:
        """A peer that says nothing, or stops to, is given up in time and aborted."""
        half = data_pdus(CT_CONTEXT, store_command(sop_instance()), True)

        def never(connection: Connection) -> None:
            connection.until_end()

        def after_the_request(connection: Connection) -> None:
            asked(connection)
            connection.until_end()

        def within_an_object(connection: Connection) -> None:
            asked(connection)
            connection.send(half)
            connection.until_end()

        for serve in (never, after_the_request, within_an_object):
            self.assertIn("time limit", (await self.meet(serve)).details)

    async def test_rejections_and_rubbish(self) -> None:
        """What is no association is an error."""

        def rejects(connection: Connection) -> None:
            connection.pdu()
            connection.send(pdus.encode_reject(pdus.AssociateReject(1, 1, 7)))
            connection.until_end()

        def says_rubbish(connection: Connection) -> None:
            connection.pdu()
            connection.send(b"GET / HTTP/1.0\r\n\r\n")
            connection.until_end()

        def answers_something_else(connection: Connection) -> None:
            asked(connection)
            connection.respond(dimse.C_FIND_RQ | dimse.RESPONSE, 1, 0)
            connection.until_end()

        for serve in (rejects, says_rubbish, answers_something_else):
            error = await self.meet(serve)
            self.assertEqual(error.http_status, 500)

    async def test_nobody_listens(self) -> None:
        """A port that nobody listens on is an error."""
        error = await self.assertFailure(self.get(free_port()), OrthancError)
        self.assertIn("cannot connect", error.details)

    async def test_a_failure_status(self) -> None:
        """The last status is the payload of the error."""

        def serve(connection: Connection) -> None:
            asked(connection)
            connection.respond(dimse.C_GET_RQ | dimse.RESPONSE, 1, 0xA701)
            connection.until_end()

        error = await self.meet(serve)
        self.assertEqual(error.payload, {"Type": "Dimse", "Content": {"DimseErrorStatus": 0xA701}})

    async def test_cancellation(self) -> None:
        """A C-CANCEL goes out, then an abort."""
        order: list[object] = []

        def serve(connection: Connection) -> None:
            asked(connection)
            connection.respond(dimse.C_GET_RQ | dimse.RESPONSE, 1, 0xFF00)
            order.append(connection.command().field)
            order.extend(connection.until_end())

        async with Script(serve) as peer:
            scu = self.getter()
            getting = self.get(peer.port, scu)
            await self.until(lambda: self.told)
            getting.cancel()
            await self.assertFailure(getting, CancelledError)
            await scu.close()
        self.assertEqual(order, [dimse.C_CANCEL_RQ, pdus.PduType.ABORT])
        self.assertEqual(peer.failures, [])

    async def test_close(self) -> None:
        """A C-GET ends with the server."""

        def serve(connection: Connection) -> None:
            asked(connection)
            connection.respond(dimse.C_GET_RQ | dimse.RESPONSE, 1, 0xFF00)
            connection.until_end()

        async with Script(serve) as peer:
            scu = self.getter()
            getting = self.get(peer.port, scu)
            await self.until(lambda: self.told)
            closing = scu.close()
            await self.assertFailure(getting, ServiceUnavailable)
            await closing
        await self.assertFailure(self.get(1, scu), ServiceUnavailable)

    async def test_roles(self) -> None:
        """We are the SCP of storage, and for SiemensSyngoCT the SCU as well."""
        found = []

        def serve(connection: Connection) -> None:
            found.append(dict(asked(connection).user.roles))
            final(connection)
            connection.until_end()

        async with Script(serve) as peer:
            await self.get(peer.port)
            await self.get(peer.port, manufacturer=Manufacturer.SIEMENS_SYNGO_CT)
        self.assertEqual(found, [{CT: (False, True)}, {CT: (True, True)}])


def asked(connection: Connection) -> pdus.AssociateRequest:
    """Accept the association and take the C-GET."""
    request = connection.accept()
    connection.data_set()
    return request


def final(connection: Connection, behind: bytes = b"") -> None:
    """The last response, and what comes right behind it."""
    command = {
        dimse.COMMAND_FIELD: dimse.C_GET_RQ | dimse.RESPONSE,
        dimse.RESPONDED_TO: 1,
        dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
        dimse.STATUS: 0,
    }
    connection.send(data_pdus(1, dimse.encode_command(command), True), behind)


def store(sop: str, data: bytes, *, context_id: int = CT_CONTEXT, sop_class: str = CT) -> bytes:
    """A C-STORE-RQ with its data set."""
    return data_pdus(context_id, store_command(sop, sop_class), True) + data_pdus(context_id, data, False)


def without_data_set() -> bytes:
    """A C-STORE-RQ that has none."""
    return dimse.encode_command(
        {
            dimse.AFFECTED_SOP_CLASS: CT,
            dimse.COMMAND_FIELD: dimse.C_STORE_RQ,
            dimse.MESSAGE_ID: 1,
            dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
            dimse.AFFECTED_SOP_INSTANCE: sop_instance(),
        }
    )
