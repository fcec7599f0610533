"""C-FIND SCP with peers that ask for nonsense or for too much, do not read, leave, cancel, or may not ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from orthanctw.dicom import dimse
from orthanctw.dicom.encoding import decode_dataset
from orthanctw.dicom.scp.negotiation import PATIENT_ROOT_FIND
from orthanctw.dicom.upper import pdus
from orthanctw.querying import Querying
from test.dicom_files import element
from test.dicom_peers import IMPLICIT, in_thread, pynetdicom_peer
from test.dicom_queries import FIND, MOVE, AskingPeer, QueryCase, cancel, identifier, keys, request
from test.rest_samples import dicom_object


class HostileTest(QueryCase):
    """Peers that ask for nonsense, for too much, do not read, or leave."""

    SETTINGS: ClassVar[Mapping[str, object]] = {**QueryCase.SETTINGS, "DicomScpTimeout": 1}

    async def _many(self, count: int = 400) -> None:
        """So many objects, whose answers are 30 KB each when their comment is asked for."""
        await self.zipped(dicom_object(sop=f"1.2.1.1.{n}", ImageComments="x" * 30_000) for n in range(1, count + 1))

    def _peer(self) -> AskingPeer:
        return AskingPeer(self.dicom_port, reads_little=True)

    _LONG = identifier("IMAGE", element(0x00080018, "UI", ""), element(0x00204000, "LT", ""))

    async def test_cancel(self) -> None:
        """A C-CANCEL ends the answers before all are told, by one last response; the association goes on."""
        await self._many()

        def ask() -> tuple[list[int], int]:
            with self._peer() as peer:
                peer.send(request(FIND, self._LONG, 7))
                first, _ = peer.message()
                peer.send(cancel(FIND, 7))
                statuses = [status for status, _ in peer.answers()]
                echo = peer.echo()
                peer.release()
                return [first.number(dimse.STATUS), *statuses], echo

        statuses, echo = await in_thread(ask)
        self.assertEqual((set(statuses[:-1]), statuses[-1], echo), ({dimse.PENDING}, dimse.CANCELLED, 0))
        self.assertLess(len(statuses), 400)

    async def test_cancel_of_something_else(self) -> None:
        """A C-CANCEL of another message, and one after the end, change nothing."""
        await self.fill()
        query = identifier("IMAGE", element(0x00080018, "UI", ""))

        def ask() -> list[list[int]]:
            with AskingPeer(self.dicom_port) as peer:
                found = []
                for number in (1, 2):
                    peer.send(cancel(FIND, 1), request(FIND, query, number + 10), cancel(FIND, 1))
                    found.append([status for status, _ in peer.answers()])
                peer.release()
                return found

        self.assertEqual(await in_thread(ask), [[dimse.PENDING] * 4 + [0]] * 2)

    async def test_peers_that_do_not_read(self) -> None:
        """Peers that do not read their answers keep nobody from anything, and are aborted after the time limit."""
        await self._many()
        peers = []

        def ask() -> int:
            for _ in range(5):
                peers.append(self._peer())
                peers[-1].send(request(FIND, self._LONG))
            with AskingPeer(self.dicom_port) as other:
                return other.echo()

        self.assertEqual(await in_thread(ask), 0)
        await self.until(lambda: not self.server.dicom.association_count)
        for peer in peers:
            peer.socket.close()
        (found,) = await self.find(keys("PATIENT", PatientID=""))
        self.assertEqual((found.status, found.values("PatientID")), (0, ["P1"]))

    async def test_release_without_reading(self) -> None:
        """A peer that asks, asks for a release and does not read is aborted after the time limit, too."""
        await self._many()

        def ask() -> AskingPeer:
            peer = self._peer()
            peer.send(request(FIND, self._LONG), pdus.RELEASE_RQ)
            return peer

        peer = await in_thread(ask)
        await self.until(lambda: not self.server.dicom.association_count)
        peer.socket.close()

    async def test_disconnect(self) -> None:
        """A peer that leaves in the middle of its answers, with or without an abort, leaves nothing behind."""
        await self._many(100)

        def ask() -> None:
            for last in (b"", pdus.encode_abort(pdus.Abort(0, 0))):
                with self._peer() as peer:
                    peer.send(request(FIND, self._LONG))
                    peer.message()
                    peer.send(last)

        await in_thread(ask)
        await self.until(lambda: not self.server.dicom._connections)

    async def test_levels(self) -> None:
        """A level that is missing or unknown is a failure with a comment, and the association goes on."""
        await self.fill()
        found = await self.find(
            keys("", PatientID=""), keys("WARD", PatientID=""), keys("study", StudyInstanceUID=""), keys("STUDY ")
        )
        self.assertEqual([item.status for item in found], [0xC000, 0xC000, 0, 0])
        self.assertEqual([bool(item.comment) for item in found], [True, True, False, False])

    async def test_wildcards_and_dates(self) -> None:
        """A wildcard within a date is a failure; a date that is none matches nothing."""
        await self.fill()
        found = await self.find(
            *(keys("STUDY", StudyDate=date) for date in ("2024*", "tomorrow", "20240102-20240101", "--"))
        )
        self.assertEqual([(item.status, len(item.answers)) for item in found], [(0xC000, 0), (0, 0), (0, 0), (0, 0)])
        self.assertTrue(found[0].comment)

    async def test_long_queries(self) -> None:
        """Thousands of values, however encoded, and of keys are answered; wildcards without end end."""
        await self.fill()
        many = "\\".join([f"1.2.840.99.{number}" for number in range(4000)] + ["1.2.1"])
        study = b"" + element(0x00080052, "CS", "STUDY", False)
        listed = await self.raw(request(11, study + element(0x0020000D, "UI", many, False)))
        self.assertEqual([status for status, _ in listed], [dimse.PENDING, 0])
        wild = identifier("PATIENT", element(0x00100010, "PN", "*a" * 16_000))
        self.assertEqual([status for status, _ in await self.raw(request(FIND, wild))], [0])
        private = b"".join(element(0x00111000 + number, "LO", "") for number in range(4000))
        answers = await self.raw(request(FIND, identifier("IMAGE", element(0x00110010, "LO", "X"), private)))
        self.assertEqual([status for status, _ in answers], [dimse.PENDING] * 4 + [0])
        self.assertEqual(len(decode_dataset(answers[0][1], explicit=True)), 4004)

    async def test_bad_identifiers(self) -> None:
        """An identifier that is too long, garbage, absent, or in another context is refused; the association lives."""
        await self.fill()
        long = identifier("STUDY", *(element(0x00204000, "LT", "x" * 65000) for _ in range(17)))
        deep = identifier("STUDY") + b"\x32\x00\x64\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 100
        crowd = identifier("STUDY", *(element(0x00110000 + number, "LO", "") for number in range(0x1000, 0x5000)))
        good = identifier("STUDY", element(0x0020000D, "UI", "1.2.1"))

        def ask() -> tuple[list[tuple[int, bool]], int]:
            with AskingPeer(self.dicom_port) as peer:
                found = []
                for pdu in (
                    request(FIND, long),
                    request(FIND, b"\xff" * 1000),
                    request(FIND, good[:-3]),
                    request(FIND, deep),
                    request(FIND, crowd),
                    request(FIND, None),
                    request(MOVE, good, field=dimse.C_FIND_RQ),
                    request(3, good, field=dimse.C_FIND_RQ),
                    request(1, good, field=dimse.C_FIND_RQ),
                ):
                    peer.send(pdu)
                    answer = peer.final()
                    found.append((answer.number(dimse.STATUS), bool(answer.text(dimse.ERROR_COMMENT))))
                peer.send(request(FIND, good))
                alive = [status for status, _ in peer.answers()]
                peer.release()
                return found, alive

        found, alive = await in_thread(ask)
        self.assertEqual(found, [(0xA900, True)] * 6 + [(0x0211, True)] * 3)
        self.assertEqual(alive, [dimse.PENDING, 0])

    async def test_deleted_meanwhile(self) -> None:
        """What is deleted while answers are told is left out, what comes after it is not."""
        for series in (1, 2, 3):
            # Answers come in the order of storing, and members of an archive are stored in any.
            await self.zipped(
                dicom_object(series=f"1.2.1.{series}", sop=f"1.2.1.{series}.{number}") for number in range(1, 51)
            )
        querying = Querying(self.server.finder, self.server.catalog, aet="X", case_sensitive_names=False)
        answers = await querying.begin([(0x00080052, "CS", "IMAGE"), (0x0020000E, "UI", "")])
        found = [item[2] for answer in await answers.next() for item in answer if item[0] == 0x0020000E]
        self.assertEqual(found, ["1.2.1.1"] * 50)
        (second,) = await self.client.find("Series", {"SeriesInstanceUID": "1.2.1.2"})
        await self.client.ask("DELETE", f"/series/{second}")
        found = [item[2] for answer in await answers.next() for item in answer if item[0] == 0x0020000E]
        self.assertEqual((found, await answers.next()), (["1.2.1.3"] * 50, []))

    async def test_pipelined(self) -> None:
        """Queries that are sent ahead are answered one after the other."""
        await self.fill()
        good = identifier("STUDY", element(0x0020000D, "UI", ""))

        def ask() -> list[int]:
            with AskingPeer(self.dicom_port) as peer:
                peer.send(*(request(FIND, good, number) for number in range(1, 51)))
                found = []
                for _ in range(50):
                    command = peer.final()
                    found.append(command.number(dimse.RESPONDED_TO))
                peer.release()
                return found

        self.assertEqual(await in_thread(ask), list(range(1, 51)))


class PermissionTest(QueryCase):
    """Who may ask."""

    async def _status(self, calling: str) -> int:
        (found,) = await self.find(keys("STUDY", StudyInstanceUID=""), calling=calling)
        return found.status

    async def test_always(self) -> None:
        """Everybody may, unless ``DicomAlwaysAllowFind`` is false: then modalities whose ``AllowFind`` is not."""
        known = {"a": ["KNOWN", "127.0.0.1", 104], "b": {"AET": "BARRED", "Host": "h", "Port": 104, "AllowFind": False}}
        await self.restart(DicomAlwaysAllowFind=True, DicomModalities=known)
        self.assertEqual([await self._status(aet) for aet in ("STRANGER", "KNOWN", "BARRED")], [0, 0, 0])
        await self.restart(DicomAlwaysAllowFind=False, DicomModalities=known)
        self.assertEqual([await self._status(aet) for aet in ("STRANGER", "KNOWN", "BARRED")], [0x124, 0, 0x124])

    async def test_host(self) -> None:
        """With ``DicomCheckModalityHost`` a modality must also come from its address."""
        known = {"a": ["NEAR", "127.0.0.1", 104], "b": ["FAR", "192.0.2.1", 104]}
        for checked, expected in ((False, [0, 0]), (True, [0, 0x124])):
            await self.restart(
                DicomAlwaysAllowFind=False, DicomCheckModalityHost=checked, DicomModalities=known
            )
            self.assertEqual([await self._status(aet) for aet in ("NEAR", "FAR")], expected)

    async def test_called_aet(self) -> None:
        """With ``DicomCheckCalledAet`` who addresses somebody else is rejected."""

        def associates(called: str) -> bool:
            association = pynetdicom_peer(self.dicom_port, [(PATIENT_ROOT_FIND, [IMPLICIT])], called)
            established = association.is_established
            if established:
                association.release()
            return bool(established)

        for checked in (False, True):
            await self.restart(DicomCheckCalledAet=checked)
            self.assertEqual(
                [await in_thread(associates, called) for called in ("ORTHANC", "OTHER")], [True, not checked]
            )

