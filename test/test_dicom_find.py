"""C-FIND SCP with real peers: matching, answers, character sets, limits, cancellation, permissions, bad queries."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from typing import Any, ClassVar

import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from orthanctw.dicom import dimse
from orthanctw.dicom.encoding import decode_dataset
from orthanctw.dicom.scp.negotiation import PATIENT_ROOT_FIND, STUDY_ROOT_FIND
from orthanctw.dicom.upper import pdus
from orthanctw.querying import Querying
from test.dicom_files import element
from test.dicom_peers import IMPLICIT, in_thread, pynetdicom_peer
from test.dicom_queries import FIND, MOVE, AskingPeer, QueryCase, cancel, identifier, keys, request
from test.rest_samples import dicom_object

_KANJI = "Yamada^Tarou=山田^太郎=やまだ^たろう"
_POLISH = "ŁĄCZYŃSKI^ŻÓŁĆ"


def _code(value: str, meaning: str = "") -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodeMeaning = meaning
    return item


def _rich() -> bytes:
    """An object with sequences and private elements."""
    outer = Dataset()
    outer.ScheduledProcedureStepID = "SPS-1"
    outer.ScheduledProtocolCodeSequence = Items([_code("HEAD-CT", "Head"), _code("CONTRAST", "With")])
    data = pydicom.dcmread(
        io.BytesIO(
            dicom_object(
                "P3",
                "1.2.3",
                "1.2.3.1",
                "1.2.3.1.1",
                RequestAttributesSequence=Items([outer]),
                ProcedureCodeSequence=Items([_code("1", "One"), _code("2", "Two")]),
                ImageComments="far from the index",
                WindowCenter="40",
                Rows=512,
            )
        )
    )
    block = data.private_block(0x0009, "ACME 1.0", create=True)
    block.add_new(0x01, "LO", "private value")
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


class MatchingTest(QueryCase):
    """What matches, and what is answered."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.fill()

    async def test_levels(self) -> None:
        """Both models answer all levels; the level is told as it was asked, with our AE title."""
        counts = []
        for option in ("-S", "-P"):
            for level, key in (
                ("PATIENT", "PatientID"),
                ("STUDY", "StudyInstanceUID"),
                ("SERIES", "SeriesInstanceUID"),
                ("IMAGE", "SOPInstanceUID"),
                ("INSTANCE", "SOPInstanceUID"),
            ):
                found = await self.findscu(option, "-k", f"QueryRetrieveLevel={level}", "-k", key)
                self.assertEqual({(a.QueryRetrieveLevel, a.RetrieveAETitle) for a in found}, {(level, "ORTHANC")})
                self.assertTrue(all(str(a[key].value).startswith(("1.2.", "P")) for a in found))
                counts.append(len(found))
        self.assertEqual(counts, [2, 2, 3, 4, 4] * 2)

    async def test_keys_of_upper_levels(self) -> None:
        """Series tell of their study and patient, and are found by them."""
        found = await self.find_one("SERIES", PatientName="DOE^JOHN", StudyDate="", Modality="MR", PatientID="")
        (answer,) = found.answers
        self.assertEqual(
            (answer.PatientName, answer.StudyDate, answer.Modality, answer.PatientID),
            ("DOE^JOHN", "20240102", "MR", "P1"),
        )

    async def test_single_values_and_lists(self) -> None:
        """UIDs and identifiers match as single values and as lists, to the letter."""
        wanted = "StudyInstanceUID"
        for expected, values in (
            (["1.2.1"], {wanted: "1.2.1"}),
            (["1.2.1", "1.2.2"], {wanted: ["1.2.1", "1.2.2", "1.2.9"]}),
            (["1.2.1", "1.2.2"], {"PatientID": ["P1", "P2"]}),
            (["1.2.2"], {"AccessionNumber": "acc-2"}),
            ([], {"AccessionNumber": "ACC-2"}),
            ([], {wanted: "1.2"}),
            ([], {"PatientID": "p1"}),
        ):
            self.assertEqual(await self.matches("STUDY", wanted, **values), expected, values)

    async def test_wildcards(self) -> None:
        """Asterisk and question mark mean what the standard says, brackets nothing; an asterisk alone is universal."""
        for expected, name in (
            (["P1"], "DOE*"),
            (["P1"], "?OE^J*N"),
            (["P2"], "*ANNA"),
            (["P1", "P2"], "*"),
            (["P1", "P2"], "**"),
            ([], "[DM]*"),
            ([], "DOE"),
            ([], "DOE^JOHN?"),
        ):
            self.assertEqual(await self.matches("PATIENT", "PatientID", PatientName=name), expected, name)
        self.assertEqual(await self.matches("STUDY", "StudyDate", StudyDate="*"), ["20240102", "20250607"])
        self.assertEqual(await self.matches("STUDY", "StudyInstanceUID", StudyInstanceUID="*"), ["1.2.1", "1.2.2"])

    async def test_ranges(self) -> None:
        """Ranges of dates and times may be open at either end."""
        for count, date in (
            (1, "20240102"),
            (1, "20240101-20240131"),
            (2, "20240101-"),
            (1, "-20240102"),
            (0, "-20240101"),
            (0, "20250608-"),
            (2, "-"),
        ):
            found = await self.findscu("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyDate={date}")
            self.assertEqual(len(found), count, date)
        for count, time in ((2, "101112"), (2, "100000-110000"), (0, "110000-"), (2, "-101112"), (0, "-101111")):
            found = await self.findscu("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyTime={time}")
            self.assertEqual(len(found), count, time)

    async def test_case(self) -> None:
        """Names are compared without their case unless ``CaseSensitivePN`` says otherwise, all else with it."""
        for sensitive in (False, True):
            await self.restart(CaseSensitivePN=sensitive)
            by_name = [await self.matches("PATIENT", "PatientID", PatientName=name) for name in ("doe^john", "Doe*")]
            self.assertEqual(by_name, [[], []] if sensitive else [["P1"], ["P1"]])
            self.assertEqual(await self.matches("STUDY", "StudyID", StudyDescription="head"), [])
            self.assertEqual(await self.matches("STUDY", "StudyID", StudyDescription="H*"), ["1"])

    async def test_accents(self) -> None:
        """Letters with accents have a case, and are other letters than those without."""
        names = {"MÜLLER*": 1, "müller^anna": 1, "M?LLER*": 1, "MULLER*": 0, "MUELLER*": 0}
        for name, count in names.items():
            found = await self.find_one("PATIENT", SpecificCharacterSet="ISO_IR 192", PatientName=name)
            self.assertEqual(found.values("PatientName"), ["MÜLLER^ANNA"] * count, name)

    async def test_computed(self) -> None:
        """What is counted can be asked for, and modalities be looked for."""
        found = await self.find_one(
            "STUDY",
            StudyInstanceUID="1.2.1",
            ModalitiesInStudy="",
            SOPClassesInStudy="",
            NumberOfStudyRelatedSeries="",
            NumberOfStudyRelatedInstances="",
            InstanceAvailability="",
            NumberOfPatientRelatedStudies="",
        )
        (answer,) = found.answers
        self.assertEqual(list(answer.ModalitiesInStudy), ["CT", "MR"])
        self.assertEqual(answer.SOPClassesInStudy, "1.2.840.10008.5.1.4.1.1.2")
        self.assertEqual((answer.NumberOfStudyRelatedSeries, answer.NumberOfStudyRelatedInstances), (2, 3))
        # Of another level: empty.
        self.assertIsNone(answer.NumberOfPatientRelatedStudies)
        patient = (await self.find_one("PATIENT", PatientID="P1", NumberOfPatientRelatedInstances="")).answers[0]
        self.assertEqual(patient.NumberOfPatientRelatedInstances, 3)
        instance = (await self.find_one("IMAGE", SOPInstanceUID="1.2.1.1.1", InstanceAvailability="")).answers[0]
        self.assertEqual(instance.InstanceAvailability, "ONLINE")
        for expected, modalities in (
            (["1.2.1"], "MR"),
            (["1.2.1", "1.2.2"], "CT"),
            (["1.2.1"], ["MR", "US"]),
            ([], "US"),
            (["1.2.1"], "M*"),
        ):
            found = await self.matches("STUDY", "StudyInstanceUID", ModalitiesInStudy=modalities)
            self.assertEqual(found, expected, modalities)

    async def test_sequences(self) -> None:
        """A key in an item, however deep, matches when one item has it; sequences are answered whole."""
        await self.client.store(_rich())
        for count, inner in (
            (1, {"ScheduledProcedureStepID": "SPS-1"}),
            (1, {"ScheduledProcedureStepID": "SPS-*"}),
            (0, {"ScheduledProcedureStepID": "SPS-2"}),
            (1, {"ScheduledProtocolCodeSequence": Items([_code("CONTRAST")])}),
            (0, {"ScheduledProtocolCodeSequence": Items([_code("CONTRAST", "Head")])}),
            (1, {"ScheduledProcedureStepID": "SPS-1", "ScheduledProtocolCodeSequence": Items([_code("HEAD-CT")])}),
            (4 + 1, {"ScheduledProcedureStepID": ""}),
        ):
            item = keys("", **inner)
            found = await self.matches("IMAGE", "SOPInstanceUID", RequestAttributesSequence=Items([item]))
            self.assertEqual(len(found), count, inner)
        (answer,) = (
            await self.find_one("STUDY", StudyInstanceUID="1.2.3", ProcedureCodeSequence=Items([]))
        ).answers
        self.assertEqual([item.CodeMeaning for item in answer.ProcedureCodeSequence], ["One", "Two"])
        (other,) = (await self.find_one("STUDY", StudyInstanceUID="1.2.1", ProcedureCodeSequence=Items([]))).answers
        self.assertEqual(list(other.ProcedureCodeSequence), [])

    async def test_without_the_files(self) -> None:
        """Tags outside the index, private ones included, are answered and matched though no file can be read."""
        await self.client.store(_rich())
        for path in self.folder.iterdir():
            if path.is_dir() and len(path.name) == 2:
                shutil.rmtree(path)
        block = identifier(
            "IMAGE",
            element(0x00090010, "LO", "ACME 1.0"),
            element(0x00091001, "LO", "private*"),
            element(0x00180050, "DS", ""),
            element(0x00204000, "LT", "far from*"),
            element(0x00280010, "US", b""),
        )
        (_, data), (status, _) = await self.raw(request(FIND, block))
        self.assertEqual(status, dimse.SUCCESS)
        answer = {item[0]: item[2] for item in decode_dataset(data, explicit=True)}
        self.assertEqual(
            [answer[tag] for tag in (0x00090010, 0x00091001, 0x00180050, 0x00204000, 0x00280010)],
            ["ACME 1.0", "private value", "", "far from the index", "512"],
        )

    async def test_private_key_of_unknown_vr(self) -> None:
        """A private key whose VR nobody knows is compared all the same, in explicit and in implicit contexts."""
        await self.client.store(_rich())
        for context, explicit in ((FIND, True), (11, False)):
            for value, count in (("private value", 1), ("another value", 0)):
                query = identifier(
                    "IMAGE",
                    element(0x00090010, "LO", "ACME 1.0", explicit),
                    element(0x00091001, "UN", value.encode() + b" ", explicit),
                    explicit=explicit,
                )
                self.assertEqual(len(await self.raw(request(context, query))) - 1, count, (explicit, value))

    async def test_what_is_no_condition(self) -> None:
        """Group lengths, private creators, the timezone and the AE title are no conditions."""
        query = (
            element(0x00080000, "UL", b"\x10\0\0\0")
            + identifier(
                "STUDY",
                element(0x00080054, "AE", "ELSEWHERE"),
                element(0x00080201, "SH", "+0500"),
                element(0x00090010, "LO", "NOBODY HAS THIS"),
                element(0x0020000D, "UI", ""),
            )
        )  # fmt: skip
        answers = await self.raw(request(FIND, query))
        self.assertEqual([status for status, _ in answers], [dimse.PENDING] * 2 + [dimse.SUCCESS])

    async def test_what_is_unknown(self) -> None:
        """Keys that no object has are answered empty; as conditions they match nothing."""
        (answer,) = (await self.find_one("STUDY", StudyInstanceUID="1.2.1", ReasonForStudy="")).answers
        self.assertEqual(answer.ReasonForStudy, "")
        self.assertEqual(await self.matches("STUDY", "StudyInstanceUID", ReasonForStudy="x"), [])

    async def test_implicit_contexts(self) -> None:
        """Queries in implicit VR are read and answered in it."""
        (found,) = await self.find(
            keys("STUDY", PatientName="DOE*", StudyDate="-20241231", Rows=None), syntaxes=(IMPLICIT,)
        )
        self.assertEqual((found.status, found.values("StudyDate")), (0, ["20240102"]))

    async def test_limits(self) -> None:
        """A query with more matches than ``LimitFindResults`` or ``LimitFindInstances`` ends as a cancelled one."""
        await self.restart(LimitFindResults=2, LimitFindInstances=3)
        found = await self.find(keys("PATIENT"), keys("SERIES"), keys("IMAGE"), keys("IMAGE", Modality="CT"))
        self.assertEqual(
            [(item.status, len(item.answers)) for item in found],
            [(0, 2), (dimse.CANCELLED, 2), (dimse.CANCELLED, 3), (0, 3)],
        )
        self.assertTrue(found[1].comment)


class CharacterSetTest(QueryCase):
    """Names that are not ASCII."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.client.store(
            dicom_object("JP", "1.2.4", "1.2.4.1", "1.2.4.1.1", SpecificCharacterSet=["", "ISO 2022 IR 87"],
                         PatientName=_KANJI)
        )  # fmt: skip
        await self.client.store(
            dicom_object("PL", "1.2.5", "1.2.5.1", "1.2.5.1.1", SpecificCharacterSet="ISO_IR 101",
                         PatientName=_POLISH)
        )  # fmt: skip

    async def _asked(self, character_set: str | list[str] | None, name: str) -> list[tuple[str, Any]]:
        """Names found by a name in a character set, with the character set of each answer."""
        values = {} if character_set is None else {"SpecificCharacterSet": character_set}
        found = await self.find_one("PATIENT", **values, PatientName=name, PatientID="")
        return [(str(a.PatientName), a.get("SpecificCharacterSet")) for a in found.answers]

    async def test_japanese(self) -> None:
        """A name in kanji is found and answered in the asker's character set, escape sequences and all."""
        kanji = ["", "ISO 2022 IR 87"]
        self.assertEqual(await self._asked(kanji, "*山田*"), [(_KANJI, kanji)])
        self.assertEqual(await self._asked(kanji, _KANJI), [(_KANJI, kanji)])
        self.assertEqual(await self._asked("ISO_IR 192", "*太郎*"), [(_KANJI, "ISO_IR 192")])
        self.assertEqual(await self._asked(kanji, "*本田*"), [])
        # It cannot be said in the asker's Latin-1, nor in the server's: it is not mutilated, but in UTF-8.
        self.assertEqual(await self._asked("ISO_IR 100", "Yamada*"), [(_KANJI, "ISO_IR 192")])

    async def test_latin2(self) -> None:
        """A Polish name is found and answered in Latin-2, and by one who asks in UTF-8 in that."""
        self.assertEqual(await self._asked("ISO_IR 101", "łączyński*"), [(_POLISH, "ISO_IR 101")])
        self.assertEqual(await self._asked("ISO_IR 192", "ŁĄ*"), [(_POLISH, "ISO_IR 192")])

    async def test_default_encoding(self) -> None:
        """A query that names no character set is in ``DefaultEncoding``, and so is its answer."""
        await self.restart(DefaultEncoding="Latin2")
        query = identifier("PATIENT", element(0x00100010, "PN", "ŁĄ*".encode("iso8859-2")))
        (_, data), (status, _) = await self.raw(request(FIND, query))
        self.assertEqual(status, 0)
        self.assertIn(_POLISH.encode("iso8859-2"), data)
        self.assertIn(b"ISO_IR 101", data)
        await self.restart(DefaultEncoding="JapaneseKanji")
        query = identifier("PATIENT", element(0x00100010, "PN", "Yamada*"))
        (_, data), (status, _) = await self.raw(request(FIND, query))
        self.assertIn(b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=", data)
        self.assertIn(b"ISO 2022 IR 87", data)

    async def test_findscu(self) -> None:
        """DCMTK's findscu finds and reads both names."""
        for terms, codec, shown, patient in (
            ("\\ISO 2022 IR 87", "iso2022_jp", _KANJI, "JP"),
            ("ISO_IR 101", "iso8859-2", _POLISH, "PL"),
        ):
            query = keys("PATIENT", SpecificCharacterSet=terms.split("\\"), PatientID="")
            query.add_new(0x00100010, "PN", shown.encode(codec))
            path = self.work / "query.dcm"
            query.file_meta = pydicom.dataset.FileMetaDataset()
            query.file_meta.TransferSyntaxUID = IMPLICIT
            query.file_meta.MediaStorageSOPClassUID = STUDY_ROOT_FIND
            query.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
            pydicom.dcmwrite(path, query, enforce_file_format=True)
            (answer,) = await self.findscu("-S", str(path))
            self.assertEqual((answer.PatientID, str(answer.PatientName)), (patient, shown))

    async def test_unknown_character_set(self) -> None:
        """A character set that nobody knows does not come back, and does not fail the query."""
        for terms in ("NONSENSE", "ISO 2022 IR 6\\NONSENSE", "\\"):
            query = identifier("PATIENT", element(0x00100020, "LO", ""))
            query = element(0x00080005, "CS", terms) + query
            *answers, (status, _) = await self.raw(request(FIND, query))
            self.assertEqual((status, len(answers)), (0, 2), terms)
            self.assertNotIn(b"NONSENSE", b"".join(data for _, data in answers))


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
        await self.zipped(
            dicom_object(series=f"1.2.1.{series}", sop=f"1.2.1.{series}.{number}")
            for series in (1, 2, 3)
            for number in range(1, 51)
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

