"""Options of what is received from and asked of modalities, each watched by a real peer."""

from __future__ import annotations

import io
from collections.abc import Iterable

from PIL import Image
from pynetdicom import evt

from orthanctw.dicom.uids import STUDY_ROOT_FIND, TRANSFER_SYNTAX_GROUPS, TRANSFER_SYNTAXES
from orthanctw.dicom.upper.pdus import ProposedContext
from test.dicom_case import DicomCase
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, VERIFICATION, RawPeer, in_thread
from test.rest_samples import dicom_object, pixels
from test.scu_case import Connection, Script, Seen, pynetdicom_server
from test.servers import ct_image

_JPEG, _JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
#: Options that add a group of transfer syntaxes to what is accepted, or take it away.
_GROUPS = {
    "DeflatedTransferSyntaxAccepted": "Deflated",
    "JpegTransferSyntaxAccepted": "Jpeg",
    "Jpeg2000TransferSyntaxAccepted": "Jpeg2000",
    "JpegLosslessTransferSyntaxAccepted": "JpegLossless",
    "JpipTransferSyntaxAccepted": "Jpip",
    "Mpeg2TransferSyntaxAccepted": "Mpeg2",
    "Mpeg4TransferSyntaxAccepted": "Mpeg4",
    "H265TransferSyntaxAccepted": "H265",
    "RleTransferSyntaxAccepted": "Rle",
}


class TransferSyntaxTests(DicomCase):
    """Groups of transfer syntaxes."""

    def accepted(self) -> set[str]:
        """The transfer syntaxes in which CT images may come (blocking)."""
        with RawPeer(self.dicom_port) as raw:
            asked = [ProposedContext(2 * i + 1, CT, (uid,)) for i, uid in enumerate(TRANSFER_SYNTAXES)]
            answers = raw.associate(contexts=asked)
        return {uid for uid, (_, result, _) in zip(TRANSFER_SYNTAXES, answers, strict=True) if result == 0}

    async def test_groups(self) -> None:
        """Each option of a group takes just its members away, or brings just them."""
        usual = await in_thread(self.accepted)
        self.assertEqual(set(_GROUPS.values()), set(TRANSFER_SYNTAX_GROUPS))
        for option, group in _GROUPS.items():
            members = set(TRANSFER_SYNTAX_GROUPS[group])
            await self.restart(**{option: False})
            self.assertEqual(await in_thread(self.accepted), usual - members, option)
            await self.restart(AcceptedTransferSyntaxes=[EXPLICIT], **{option: True})
            self.assertEqual(await in_thread(self.accepted), {EXPLICIT} | members, option)


class AskingTests(DicomCase):
    """What modalities are asked."""

    async def test_echo_checks_find(self) -> None:
        """``DicomEchoChecksFind``: testing a modality is a C-FIND, too."""
        found = []

        def find(event: evt.Event) -> Iterable[tuple[int, None]]:
            found.append(event.identifier)
            yield 0, None

        contexts = [(VERIFICATION, [IMPLICIT]), (STUDY_ROOT_FIND, [IMPLICIT])]
        with pynetdicom_server(contexts, [(evt.EVT_C_FIND, find)]) as (port, _):
            for checks in (False, True):
                await self.restart(DicomEchoChecksFind=checks, DicomModalities={"peer": ["PEER", "127.0.0.1", port]})
                self.assertEqual((await self.client.post("/modalities/peer/echo")).status, 200)
                self.assertEqual(len(found), checks)
            await self.restart()

    async def test_retrieve_method(self) -> None:
        """``DicomDefaultRetrieveMethod``: what was found comes by a C-GET."""
        for method, kind in (("C-MOVE", "DicomMoveScu"), ("C-GET", "DicomGetScu")):
            ourselves = {"us": ["ORTHANC", "127.0.0.1", self.dicom_port]}
            await self.restart(
                DicomDefaultRetrieveMethod=method,
                DicomAlwaysAllowFind=True,
                DicomAlwaysAllowGet=True,
                DicomAlwaysAllowMove=True,
                DicomModalities=ourselves,
                DicomPort=self.dicom_port,
                OverwriteInstances=True,
            )
            await self.client.store(dicom_object())
            query = {"Level": "Study", "Query": {"PatientID": "P1"}}
            path = (await self.client.post("/modalities/us/query", query)).json()["Path"]
            job = (await self.client.post(f"{path}/answers/0/retrieve", {"Asynchronous": True})).json()["ID"]
            self.assertEqual((await self.client.json(f"/jobs/{job}"))["Type"], kind)

    async def test_scu_timeout(self) -> None:
        """``DicomScuTimeout``: a modality that does not answer is given up."""

        def serve(connection: Connection) -> None:
            connection.accept()
            connection.until_end()

        async with Script(serve) as silent:
            await self.restart(DicomScuTimeout=1, DicomModalities={"silent": ["S", "127.0.0.1", silent.port]})
            self.assertError(await self.client.post("/modalities/silent/echo"), 500, 9)
            await self.restart()

    async def test_association_close_delay(self) -> None:
        """``DicomAssociationCloseDelay``: an association is left at once, or serves the next operation."""
        for delay, associations in ((0, 2), (60, 1)):
            with pynetdicom_server([(VERIFICATION, [IMPLICIT])]) as (port, seen):
                await self.restart(
                    DicomAssociationCloseDelay=delay, DicomModalities={"peer": ["PEER", "127.0.0.1", port]}
                )
                await self.echo_twice(seen, is_left=delay == 0)
                self.assertEqual(seen.associations, associations)
                await self.restart()

    async def echo_twice(self, seen: Seen, *, is_left: bool) -> None:
        for number in (1, 2):
            self.assertEqual((await self.client.post("/modalities/peer/echo")).status, 200)
            if is_left:
                await self.until(lambda: seen.events.count("released") == number)  # noqa: B023 - awaited here


class SendingTests(DicomCase):
    """What modalities are sent."""

    async def test_preferred_transfer_syntax(self) -> None:
        """``DicomScuPreferredTransferSyntax`` is the one that objects are transcoded to, if the modality takes it."""
        arrived: list[str] = []

        def store(event: evt.Event) -> int:
            arrived.append(str(event.context.transfer_syntax))
            return 0

        image = ct_image(1)
        with pynetdicom_server([(CT, [IMPLICIT, _JPEG_2000])], [(evt.EVT_C_STORE, store)]) as (port, _):
            for preferred in (IMPLICIT, _JPEG_2000):
                await self.restart(
                    DicomScuPreferredTransferSyntax=preferred,
                    DicomModalities={"peer": ["PEER", "127.0.0.1", port]},
                    OverwriteInstances=True,
                )
                instance = (await self.client.store(image))["ID"]
                answer = await self.client.post("/modalities/peer/store", instance)
                self.assertEqual(answer.status, 200, answer.text)
            await self.restart()
        self.assertEqual(arrived, [IMPLICIT, _JPEG_2000])

    async def test_lossy_quality(self) -> None:
        """``DicomLossyTranscodingQuality``: what is encoded worse takes less."""
        sizes = []
        noise = bytes(number * 7919 % 256 for number in range(64 * 64))
        for quality in (100, 10):
            await self.restart(DicomLossyTranscodingQuality=quality)
            instance = (await self.client.store(dicom_object(**{**pixels(64, 64), "PixelData": noise})))["ID"]
            file = (await self.client.get(f"/instances/{instance}/file", transcode=_JPEG)).body
            image = file[file.index(b"\xff\xd8") :]
            self.assertEqual(Image.open(io.BytesIO(image)).size, (64, 64))
            sizes.append(len(file))
        self.assertLess(sizes[1], sizes[0] * 0.7)
