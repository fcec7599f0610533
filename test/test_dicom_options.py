"""Options of the DICOM server, each tried both ways by a real peer."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from twisted.internet.defer import gatherResults

from orthanctw.dicom import dimse
from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import ProposedContext
from test.dicom_case import DicomCase
from test.dicom_peers import (
    CT,
    EXPLICIT,
    IMPLICIT,
    VERIFICATION,
    RawPeer,
    data_pdus,
    data_set,
    in_thread,
    rejection,
    request_pdu,
    sop_instance,
    store_command,
)
from test.servers import ct_image, free_port

CALLED_REFUSED, CALLING_REFUSED, LIMIT = (1, 1, 7), (1, 1, 3), (2, 3, 2)


class OptionTest(DicomCase):
    """Options, each tried both ways."""

    async def echo(self, called: str = "ORTHANC", calling: str = "RAW") -> object:
        """The status of a C-ECHO, or the rejection of its association."""

        def peer() -> object:
            refused = rejection(self.dicom_port, called=called, calling=calling)
            if refused is not None:
                return refused
            with RawPeer(self.dicom_port) as raw:
                raw.associate(called=called, calling=calling)
                return raw.echo()

        return await in_thread(peer)

    async def store(self, number: int = 1, calling: str = "RAW", **arguments: Any) -> int:
        def peer() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.associate(calling=calling)
                return raw.store(data_set(number), sop_instance(number), **arguments).number(dimse.STATUS)

        return await in_thread(peer)

    async def contexts(self, *proposed: tuple[str, tuple[str, ...]]) -> list[tuple[int, str]]:
        """Results and transfer syntaxes of presentation contexts."""

        def peer() -> list[tuple[int, str]]:
            with RawPeer(self.dicom_port) as raw:
                asked = [ProposedContext(2 * i + 1, *one) for i, one in enumerate(proposed)]
                return [(result, syntax) for _, result, syntax in raw.associate(contexts=asked)]

        return await in_thread(peer)

    async def test_server_disabled(self) -> None:
        """``DicomServerEnabled`` false: nobody listens."""
        port = self.dicom_port
        await self.restart(DicomServerEnabled=False)
        self.assertEqual(self.dicom_port, 0)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port))

    async def test_port(self) -> None:
        """``DicomPort`` is where the server listens."""
        port = free_port()
        await self.restart(DicomPort=port)
        self.assertEqual((self.dicom_port, await self.echo()), (port, 0))

    async def test_called_aet(self) -> None:
        """``DicomCheckCalledAet`` refuses other titles than ``DicomAet``; case matters with strict comparison."""
        self.assertEqual(await self.echo("OTHER"), 0)
        await self.restart(DicomCheckCalledAet=True, DicomAet="ME")
        self.assertEqual([await self.echo(t) for t in ("ME", "me", "ORTHANC")], [0, 0, CALLED_REFUSED])
        await self.restart(DicomCheckCalledAet=True, DicomAet="ME", StrictAetComparison=True)
        self.assertEqual([await self.echo(t) for t in ("ME", "me")], [0, CALLED_REFUSED])

    async def test_empty_titles(self) -> None:
        """Titles of blanks only are refused."""
        self.assertEqual(await self.echo(called=""), CALLED_REFUSED)
        self.assertEqual(await self.echo(calling=""), CALLING_REFUSED)

    async def test_echo_and_store_of_modalities(self) -> None:
        """Without ``DicomAlwaysAllow...`` only known modalities associate, and do what they are allowed to."""
        modalities = {
            "a": {"AET": "BOTH", "Host": "127.0.0.1", "Port": 104},
            "b": {"AET": "ECHO", "Host": "127.0.0.1", "Port": 104, "AllowStore": False},
            "c": {"AET": "STORE", "Host": "10.1.2.3", "Port": 104, "AllowEcho": False},
        }
        never = {"DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False, "DicomModalities": modalities}
        await self.restart(**never)
        self.assertEqual(
            [await self.echo(calling=title) for title in ("BOTH", "both", "ECHO", "STORE", "STRANGER")],
            [0, 0, 0, dimse.NOT_AUTHORIZED, CALLING_REFUSED],
        )
        self.assertEqual(
            [await self.store(calling=title) for title in ("BOTH", "ECHO", "STORE")], [0, dimse.NOT_AUTHORIZED, 0]
        )
        await self.restart(**never, DicomCheckModalityHost=True)
        self.assertEqual([await self.echo(calling=title) for title in ("BOTH", "STORE")], [0, CALLING_REFUSED])
        await self.restart(**never, StrictAetComparison=True)
        self.assertEqual([await self.echo(calling=title) for title in ("BOTH", "both")], [0, CALLING_REFUSED])

    async def test_always_allowed(self) -> None:
        """``DicomAlwaysAllowEcho`` and ``DicomAlwaysAllowStore`` open one operation each to strangers."""
        await self.restart(DicomAlwaysAllowEcho=False)
        self.assertEqual((await self.echo(), await self.store()), (dimse.NOT_AUTHORIZED, 0))
        await self.restart(DicomAlwaysAllowStore=False)
        self.assertEqual((await self.echo(), await self.store()), (0, dimse.NOT_AUTHORIZED))

    async def test_refused_store_keeps_nothing(self) -> None:
        """The data set of a store that is not allowed is not kept while it comes."""
        await self.restart(DicomAlwaysAllowStore=False, Orthanctw={"SpoolThresholdKB": 1})
        data = data_set(1, side=1000)

        def peer() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                raw.send(data_pdus(3, store_command(sop_instance(1)), True), data_pdus(3, data, False, last=False))
                raw.send(data_pdus(3, b"", False))
                return raw.response().number(dimse.STATUS)

        self.assertEqual(await in_thread(peer), dimse.NOT_AUTHORIZED)
        self.assertEqual((self.spooled(), self.files()), ([], []))

    async def test_transfer_syntaxes(self) -> None:
        """``AcceptedTransferSyntaxes`` and ``...TransferSyntaxAccepted`` decide in which syntax objects may come."""
        jpeg, rle, deflated = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99"
        asked = [(CT, (uid,)) for uid in (EXPLICIT, IMPLICIT, jpeg, rle, deflated)]
        self.assertEqual([result for result, _ in await self.contexts(*asked)], [0, 0, 0, 0, 0])
        await self.restart(JpegTransferSyntaxAccepted=False, DeflatedTransferSyntaxAccepted=False)
        self.assertEqual([result for result, _ in await self.contexts(*asked)], [0, 0, 4, 0, 4])
        await self.restart(AcceptedTransferSyntaxes=["1.2.840.10008.1.2.?"], JpegTransferSyntaxAccepted=True)
        self.assertEqual([result for result, _ in await self.contexts(*asked)], [0, 4, 0, 0, 4])
        await self.restart(AcceptedTransferSyntaxes=[IMPLICIT])
        self.assertEqual([result for result, _ in await self.contexts(*asked)], [4, 0, 4, 4, 4])
        self.assertEqual(await self.contexts((VERIFICATION, (EXPLICIT,))), [(0, EXPLICIT)])

    async def test_choice_of_transfer_syntax(self) -> None:
        """Of several syntaxes explicit little endian is chosen, then implicit, whatever their order."""
        big, jpeg, j2k = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
        chosen = await self.contexts(
            (CT, (IMPLICIT, big, jpeg, EXPLICIT)), (CT, (jpeg, big, IMPLICIT)), (CT, (j2k, jpeg)), (CT, ("1.2.3",))
        )
        self.assertEqual(chosen, [(0, EXPLICIT), (0, IMPLICIT), (0, jpeg), (4, IMPLICIT)])

    async def test_sop_classes(self) -> None:
        """``UnknownSopClassAccepted``, ``AcceptedSopClasses`` and ``RejectedSopClasses`` decide what may come."""
        mr, unknown = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.5"
        # The last one is printing, which is not offered.
        asked = [(uid, (IMPLICIT,)) for uid in (CT, mr, unknown, "1.2.840.10008.5.1.1.9")]
        results = {}
        for name, options in {
            "default": {},
            "unknown": {"UnknownSopClassAccepted": True},
            "accepted": {"AcceptedSopClasses": [CT, unknown]},
            "rejected": {"RejectedSopClasses": [mr]},
            "rejected unknown": {"RejectedSopClasses": ["1.2.3.*"], "UnknownSopClassAccepted": True},
        }.items():
            await self.restart(**options)
            results[name] = [result for result, _ in await self.contexts(*asked)]
        self.assertEqual(
            results,
            {
                "default": [0, 0, 3, 3],
                "unknown": [0, 0, 0, 3],
                "accepted": [0, 3, 0, 3],
                "rejected": [0, 3, 3, 3],
                "rejected unknown": [0, 0, 3, 3],
            },
        )

    async def test_rejected_class_in_another_context(self) -> None:
        """An object of a rejected class is refused in the context of an accepted one, too."""
        mr = "1.2.840.10008.5.1.4.1.1.4"
        await self.restart(RejectedSopClasses=[mr])
        self.assertEqual(await self.store(sop_class=mr), dimse.SOP_CLASS_NOT_SUPPORTED)

    async def test_maximum_pdu_length(self) -> None:
        """``MaximumPduLength`` is told to peers, and longer PDUs end the association."""

        def told() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.send(request_pdu())
                return pdus.decode_associate_accept(raw.pdu()[1]).user.maximum_length

        def long() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                raw.send(data_pdus(3, bytes(20000), False, 20000))
                return raw.pdu()[0]

        self.assertEqual(await in_thread(told), 16384)
        self.assertEqual(await in_thread(long), pdus.PduType.ABORT)
        await self.restart(MaximumPduLength=4096)
        self.assertEqual(await in_thread(told), 4096)
        await self.storescu(self.file(ct_image(1)))

    async def test_maximum_of_the_peer(self) -> None:
        """A peer that takes small PDUs gets responses cut for it."""

        def peer() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.associate(maximum_length=20)
                return raw.store(data_set(1), sop_instance(1)).number(dimse.STATUS)

        self.assertEqual(await in_thread(peer), 0)

    async def test_scp_timeout(self) -> None:
        """``DicomScpTimeout`` ends silent associations and connections."""
        await self.restart(DicomScpTimeout=1)

        def peer(first: bytes) -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.send(first)
                if first:
                    raw.pdu()
                return raw.pdu()[0]

        ends = await gatherResults([in_thread(peer, request_pdu()), in_thread(peer, b"")])
        self.assertEqual(ends, [pdus.PduType.ABORT, 0])

    async def test_default_encoding(self) -> None:
        """``DefaultEncoding`` is the character set of objects that name none."""
        data = data_set(1, name="\u00e4").replace("\u00e4".encode(), b"\xcc ")

        def peer() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                return raw.store(data, sop_instance(1)).number(dimse.STATUS)

        names = []
        for encoding in ("Latin1", "Cyrillic"):
            await self.restart(DefaultEncoding=encoding, OverwriteInstances=True)
            self.assertEqual(await in_thread(peer), 0)
            (instance,) = await self.instances()
            tags = await self.client.json(f"/instances/{instance}/simplified-tags")
            names.append(tags["PatientName"])
        self.assertEqual(names, ["\u00cc", "\u042c"])

    async def test_threads_count(self) -> None:
        """With one operation at once, several associations are still served, one after the other."""
        await self.restart(DicomThreadsCount=1)
        statuses = await gatherResults([in_thread(self._one_store, number) for number in range(1, 6)])
        self.assertEqual(statuses, [0] * 5)

    def _one_store(self, number: int) -> int:
        with RawPeer(self.dicom_port) as raw:
            raw.associate()
            return raw.store(data_set(number), sop_instance(number)).number(dimse.STATUS)

    async def test_maximum_associations(self) -> None:
        """Further associations are rejected as transient; when one ends there is room again."""
        await self.restart(Orthanctw={"MaximumAssociations": 2})

        def peer() -> list[object]:
            seen: list[object] = []
            with RawPeer(self.dicom_port) as one:
                one.associate()
                with RawPeer(self.dicom_port) as two:
                    two.associate()
                    seen.append(rejection(self.dicom_port))
                    seen.append(two.release())
                    seen.append(rejection(self.dicom_port))
            return seen

        self.assertEqual(await in_thread(peer), [LIMIT, pdus.PduType.RELEASE_RP, None])

    async def test_rejected_ones_take_no_place(self) -> None:
        """Rejected peers that keep their connection do not count as associations."""
        await self.restart(Orthanctw={"MaximumAssociations": 1}, DicomCheckCalledAet=True)

        def peer() -> object:
            with contextlib.ExitStack() as stack:
                for _ in range(3):
                    raw = stack.enter_context(RawPeer(self.dicom_port))
                    raw.send(request_pdu(called="OTHER"))
                    self.assertEqual(raw.pdu()[0], pdus.PduType.ASSOCIATE_RJ)
                return rejection(self.dicom_port)

        self.assertIsNone(await in_thread(peer))
