"""C-FIND SCP with real peers: what matches, what is answered, in which character set."""

from __future__ import annotations

import io
import shutil
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from orthanctw.dicom import dimse
from orthanctw.dicom.encoding import decode_dataset
from orthanctw.dicom.scp.negotiation import STUDY_ROOT_FIND
from test.dicom_files import element
from test.dicom_peers import IMPLICIT
from test.dicom_queries import FIND, QueryCase, identifier, keys, request
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
