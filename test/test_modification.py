"""Modification: what requests may say, and what becomes of the elements of an object."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from pydicom import Sequence
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.dictionary import STANDARD
from orthanctw.dicom.editing.modification import Modification
from orthanctw.dicom.editing.parsing import implied_level, parse_anonymization
from orthanctw.dicom.editing.paths import TagPath
from orthanctw.dicom.elements import Encoding
from orthanctw.dicom.reencode import reencode
from orthanctw.dicom.scanner import meta_end, scan
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.model import ResourceLevel
from test.dicom_files import BIG_ENDIAN, DEFLATED, IMPLICIT, UNDEFINED, dicom_file, element, head, item, meta, sequence
from test.editing_samples import anonymization, edited, modification, modified, read
from test.rest_samples import dicom_object
from test.rest_samples import item as dataset_item

_IMAGE_SEQUENCE = 0x00081140
_REFERENCED = 0x00081155


class PathTests(SynchronousTestCase):
    """Paths to elements."""

    def test_forms(self) -> None:
        """A path is written by names or numbers, with the number of an item or a wildcard."""
        for text, steps, tag in (
            ("PatientName", (), 0x00100010),
            ("0010-0010", (), 0x00100010),
            ("00100010", (), 0x00100010),
            ("ReferencedImageSequence[0].0008,1155", ((_IMAGE_SEQUENCE, 0),), _REFERENCED),
            ("0008,1140[ * ].ReferencedSOPInstanceUID", ((_IMAGE_SEQUENCE, None),), _REFERENCED),
            ("0008,1140[1].0008,2112[*].0008,1155", ((_IMAGE_SEQUENCE, 1), (0x00082112, None)), _REFERENCED),
        ):
            path = TagPath.parse(text)
            self.assertEqual((path.steps, path.tag), (steps, tag))
            self.assertEqual(TagPath.parse(str(path)), path)

    def test_no_paths(self) -> None:
        """What is no path, or names no tag, is refused as Orthanc does."""
        for text, code in (
            ("Nope", ErrorCode.UNKNOWN_DICOM_TAG),
            ("", ErrorCode.UNKNOWN_DICOM_TAG),
            ("PatientName.", ErrorCode.PARAMETER_OUT_OF_RANGE),
            ("0008,1140[*]", ErrorCode.UNKNOWN_DICOM_TAG),
            ("0008,1140.0008,1155", ErrorCode.PARAMETER_OUT_OF_RANGE),
            ("0008,1140[-1].0008,1155", ErrorCode.PARAMETER_OUT_OF_RANGE),
            ("0008,1140[x].0008,1155", ErrorCode.PARAMETER_OUT_OF_RANGE),
            ("[0].0008,1155", ErrorCode.PARAMETER_OUT_OF_RANGE),
        ):
            self.assertIs(self.assertRaises(OrthancError, TagPath.parse, text).code, code, text)


class RequestTests(SynchronousTestCase):
    """What bodies of requests say."""

    def refused(self, body: dict[str, Any], code: ErrorCode, kind: Any = modification) -> None:
        error = self.assertRaises(OrthancError, kind, body)
        self.assertEqual((error.code, error.http_status), (code, 400), body)

    def test_identifiers_need_force(self) -> None:
        """Identifiers are replaced or kept with Force only, and never removed."""
        for kind in (modification, anonymization):
            for tag in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                for fields in ({"Replace": {tag: "1"}}, {"Keep": [tag]}, {"Remove": [tag]}):
                    self.refused(fields, ErrorCode.BAD_REQUEST, kind)
                self.refused({"Remove": [tag], "Force": True}, ErrorCode.BAD_REQUEST, kind)
                self.assertTrue(kind({"Replace": {tag: "1"}, "Force": True}).replaces(TagPath.parse(tag).tag))
        kept = modification({"Keep": ["0008,1140[*].SOPInstanceUID"]})
        self.assertEqual(len(kept.keeps), 1, "within items they are no identifiers")

    def test_wrong_fields(self) -> None:
        """Fields of a wrong kind are refused as in Orthanc."""
        for body, code in (
            ({"Replace": []}, ErrorCode.BAD_REQUEST),
            ({"Remove": "PatientName"}, ErrorCode.BAD_REQUEST),
            ({"Keep": [3]}, ErrorCode.BAD_REQUEST),
            ({"Force": 3}, ErrorCode.BAD_FILE_FORMAT),
            ({"PrivateCreator": 3}, ErrorCode.BAD_FILE_FORMAT),
            ({"RemovePrivateTags": "yes"}, ErrorCode.BAD_FILE_FORMAT),
            ({"Transcode": 3}, ErrorCode.BAD_FILE_FORMAT),
            ({"Transcode": "1.2"}, ErrorCode.PARAMETER_OUT_OF_RANGE),
            ({"LossyQuality": 0}, ErrorCode.PARAMETER_OUT_OF_RANGE),
            ({"LossyQuality": True}, ErrorCode.BAD_FILE_FORMAT),
            ({"Remove": ["Nope"]}, ErrorCode.UNKNOWN_DICOM_TAG),
            ({"Replace": {"Nope": "1"}}, ErrorCode.UNKNOWN_DICOM_TAG),
            ({"Replace": {"PatientName": 3}}, ErrorCode.BAD_PARAMETER_TYPE),
            ({"Replace": {"PatientName": ["a"]}}, ErrorCode.BAD_PARAMETER_TYPE),
            ({"Replace": {"Rows": "many"}}, ErrorCode.BAD_FILE_FORMAT),
            ({"Replace": {"ReferencedImageSequence": "x"}}, ErrorCode.BAD_FILE_FORMAT),
            ({"Replace": {"ReferencedImageSequence[0].Rows": "many"}}, ErrorCode.BAD_FILE_FORMAT),
            ({"Replace": {"SpecificCharacterSet": "FOO"}}, ErrorCode.PARAMETER_OUT_OF_RANGE),
        ):
            self.refused(body, code)
        self.refused({"DicomVersion": "2050"}, ErrorCode.PARAMETER_OUT_OF_RANGE, anonymization)
        self.refused({"DicomVersion": 2008}, ErrorCode.BAD_FILE_FORMAT, anonymization)
        self.refused({"KeepPrivateTags": None}, ErrorCode.BAD_FILE_FORMAT, anonymization)

    def test_json(self) -> None:
        """A modification becomes JSON, as which a job keeps it, and is the same afterwards."""
        body = {
            "Replace": {"PatientName": "A", "0008,1140[*].0008,1155": "1.2", "ReferencedStudySequence": [{}]},
            "Remove": ["StudyDate"],
            "Keep": ["0009,1001"],
            "PrivateCreator": "C",
            "KeepSource": False,
            "KeepLabels": True,
            "Transcode": IMPLICIT,
            "LossyQuality": 50,
        }
        for made in (modification(body), anonymization(body).named("Anonymized7")):
            self.assertEqual(Modification.from_json(made.to_json()), made)

    def test_implied_level(self) -> None:
        """Without a level, that of the highest replaced identifier is meant."""
        for body, level in (
            ({}, ResourceLevel.INSTANCE),
            ({"Replace": {"SeriesInstanceUID": "1", "StudyInstanceUID": "1"}}, ResourceLevel.STUDY),
            ({"Replace": {"0010,0020": "1"}}, ResourceLevel.PATIENT),
            ({"Replace": {"PatientID": "1"}, "Level": "Series"}, ResourceLevel.SERIES),
        ):
            self.assertIs(implied_level(body, STANDARD), level)
        self.assertRaises(OrthancError, implied_level, {"Level": "Room"}, STANDARD)

    def test_overwriting(self) -> None:
        """What keeps all identifiers would lose its source, unless instances may be overwritten."""
        keep = {"Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"], "Force": True}
        self.assertRaises(OrthancError, modification(keep).check_overwriting, overwrites=False)
        self.assertRaises(OrthancError, modification({**keep, "KeepSource": False}).check_overwriting, overwrites=True)
        modification(keep).check_overwriting(overwrites=True)
        modification({**keep, "Replace": {"PatientID": "new"}}).check_overwriting(overwrites=False)
        parse_anonymization(keep, ResourceLevel.STUDY, STANDARD).check_overwriting(overwrites=False)


class ElementTests(SynchronousTestCase):
    """What becomes of elements."""

    def setUp(self) -> None:
        items = [dataset_item(ReferencedSOPInstanceUID=uid) for uid in ("1.5", "1.6")]
        self.data = dicom_object(ReferencedImageSequence=Sequence(items), PatientComments="old")

    def test_precedence(self) -> None:
        """What is kept stays whatever else is asked, what is replaced is not removed."""
        found = modified(
            self.data,
            {
                "Replace": {"PatientName": "New", "PatientComments": "new"},
                "Remove": ["PatientName", "StudyDate", "StudyTime"],
                "Keep": ["PatientComments", "StudyTime"],
            },
        )
        self.assertEqual((found.PatientName, found.PatientComments, found.StudyTime), ("New", "old", "101112"))
        self.assertNotIn("StudyDate", found)

    def test_identifiers_by_level(self) -> None:
        """Identifiers of the modified level and below are new, those above stay."""
        before = read(self.data)
        names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        for level, kept in zip(ResourceLevel, (1, 1, 2, 3), strict=True):
            found = modified(self.data, {}, level)
            self.assertEqual([found[name].value == before[name].value for name in names], [n < kept for n in range(4)])
            self.assertEqual(found.file_meta.MediaStorageSOPInstanceUID, found.SOPInstanceUID)
        found = modified(self.data, {"Keep": ["SOPInstanceUID"], "Force": True}, ResourceLevel.STUDY)
        self.assertEqual(found.SOPInstanceUID, before.SOPInstanceUID)
        found = modified(self.data, {"Replace": {"StudyInstanceUID": "1.9"}, "Force": True}, ResourceLevel.STUDY)
        self.assertEqual(found.StudyInstanceUID, "1.9")

    def test_paths(self) -> None:
        """Paths reach into items: one, all or none; nothing is made where there is no item."""
        for path, expected in (
            ("0008,1140[*].0008,1155", ["2.5", "2.5"]),
            ("0008,1140[1].0008,1155", ["1.5", "2.5"]),
            ("0008,1140[7].0008,1155", ["1.5", "1.6"]),
            ("SourceImageSequence[*].0008,1155", ["1.5", "1.6"]),
            ("PatientName[*].0008,1155", ["1.5", "1.6"]),
        ):
            found = modified(self.data, {"Replace": {path: "2.5"}})
            self.assertEqual([one.ReferencedSOPInstanceUID for one in found.ReferencedImageSequence], expected, path)
            self.assertNotIn("SourceImageSequence", found)
        body = {"Replace": {"0008,1140[*].PatientName": "X"}, "Remove": ["0008,1140[0].0008,1155"]}
        found = modified(self.data, body).ReferencedImageSequence
        self.assertEqual([list(one.keys()) for one in found], [[0x00100010], [0x00081155, 0x00100010]])

    def test_new_elements(self) -> None:
        """Values of any VR are added where their tag belongs."""
        source = {"ReferencedSOPInstanceUID": "1.7", "PurposeOfReferenceCodeSequence": [{"CodeValue": "1"}]}
        values = {
            "SmallestImagePixelValue": "12\\13",
            "WindowCenter": "40",
            "SourceImageSequence": [source],
            "ICCProfile": "data:application/octet-stream;base64,AAECAw==",
            "FrameIncrementPointer": "NumberOfFrames",
            "DigitalSignaturesSequence": [],
        }
        found = modified(self.data, {"Replace": values})
        self.assertEqual(found["SmallestImagePixelValue"].value, [12, 13])
        self.assertEqual(found.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue, "1")
        self.assertEqual((found.ICCProfile, found.WindowCenter), (b"\0\1\2\3", 40))
        self.assertEqual(found.FrameIncrementPointer, 0x00280008)
        tags = [int(tag) for tag in found.keys()]  # noqa: SIM118 - the order of the file
        self.assertEqual(tags, sorted(tags))

    def test_private(self) -> None:
        """RemovePrivateTags removes those of the top level, but what is kept stays with its creator."""
        data = dicom_file(
            element(0x00290010, "LO", "ONE") + element(0x00290011, "LO", "TWO"),
            element(0x00291001, "LO", "a") + element(0x00291002, "LO", "b") + element(0x00291101, "LO", "c"),
        )
        self.assertEqual([tag for tag in modified(data, {"RemovePrivateTags": True}).keys() if tag.is_private], [])  # noqa: SIM118
        found = modified(data, {"RemovePrivateTags": True, "Keep": ["0029,1002"]})
        self.assertEqual([int(one.tag) for one in found if one.tag.is_private], [0x00290010, 0x00291002])
        found = modified(data, {"Replace": {"0029,1001": "new"}, "PrivateCreator": "ONE"})
        self.assertEqual(found[0x00291001].value, b"new\0")

    def test_meta(self) -> None:
        """File meta information follows the object; what a request says of it is left alone, as group lengths are."""
        found = modified(self.data, {"Replace": {"TransferSyntaxUID": "1.2", "0008,0000": "7", "SOPClassUID": "1.2.3"}})
        self.assertEqual(found.file_meta.TransferSyntaxUID, "1.2.840.10008.1.2.1")
        self.assertEqual(found.file_meta.MediaStorageSOPClassUID, "1.2.3")
        self.assertNotIn(0x00080000, found)


class EncodingTests(SynchronousTestCase):
    """Encodings of objects, and what is copied."""

    def test_the_rest_is_copied(self) -> None:
        """Octets that nobody asked to change stay, however odd: padding, unknown VRs, undefined lengths."""
        odd = (
            element(0x00181000, "LO", "serial\0"),
            struct.pack("<HH2sHI", 0x0018, 0x1001, b"ZZ", 0, 4) + b"abcd",
            sequence(0x00400275, [element(0x00401001, "SH", "x\0")], defined=False, items_defined=False),
            sequence(0x00400280, [element(0x00401001, "SH", "y", False)], defined=False, vr="UN"),
            head(0x7FE00010, "OB", UNDEFINED) + item(b"") + item(b"\1\2\3\4") + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0),
        )
        data = dicom_file(*odd, transfer_syntax="1.2.840.10008.1.2.5")
        body = {"Replace": {"PatientName": "A"}, "Keep": ["SOPInstanceUID"], "Force": True}
        result = edited(data, modification(body))
        before, after = data[meta_end(data) :], result[meta_end(result) :]
        patient_id = element(0x00100020, "LO", "ID")
        self.assertEqual(after, before.replace(patient_id, element(0x00100010, "PN", "A") + patient_id))

    def test_transfer_syntaxes(self) -> None:
        """Whatever the encoding is, the result keeps it, within items too."""
        body = {"Replace": {"PatientName": "A", "Rows": "258", "0008,1140[0].0008,1160": "3"}}
        for data in (_implicit(), _big_endian(), _deflated()):
            syntax = scan(data).transfer_syntax
            found = modified(data, body)
            self.assertEqual(found.file_meta.TransferSyntaxUID, syntax)
            self.assertEqual((found.PatientName, found.Rows), ("A", 258))
            self.assertEqual(found.ReferencedImageSequence[0].ReferencedFrameNumber, 3)
            self.assertEqual(found.ReferencedImageSequence[0].ReferencedSOPInstanceUID, "1.5")

    def test_text_fits(self) -> None:
        """New text is written in the character set of the object, or all text in UTF-8 when it does not fit."""
        latin = element(0x00104000, "LT", "Größe".encode("latin-1"))
        nested = sequence(0x00400275, [element(0x00400007, "LO", "Füße".encode("latin-1"))])
        data = dicom_file(latin, nested, charset="ISO_IR 100")
        for name, charset in (("Jérôme", "ISO_IR 100"), ("山田", "ISO_IR 192")):
            found = modified(data, {"Replace": {"PatientName": name}, "Keep": ["PatientComments"]})
            self.assertEqual((found.SpecificCharacterSet, str(found.PatientName)), (charset, name))
            self.assertEqual(found.PatientComments, "Größe")
            step = found.RequestAttributesSequence[0].ScheduledProcedureStepDescription
            self.assertEqual(step, "Füße")
        found = modified(dicom_file(latin), {"Replace": {"PatientName": "Jérôme"}})
        self.assertEqual((found.SpecificCharacterSet, found.PatientComments), ("ISO_IR 100", "Größe"))

    def test_another_character_set(self) -> None:
        """A replaced SpecificCharacterSet is that of all text; what does not fit is an error and not lost."""
        data = dicom_file(element(0x00104000, "LT", "Größe".encode("latin-1")), charset="ISO_IR 100")
        found = modified(data, {"Replace": {"SpecificCharacterSet": "ISO_IR 192"}})
        self.assertEqual((found.SpecificCharacterSet, found.PatientComments), ("ISO_IR 192", "Größe"))
        for body in (
            {"Replace": {"SpecificCharacterSet": "ISO_IR 144"}},
            {"Replace": {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "山"}},
        ):
            error = self.assertRaises(OrthancError, edited, data, modification(body))
            self.assertIs(error.code, ErrorCode.BAD_FILE_FORMAT)


class BrokenTests(SynchronousTestCase):
    """Objects that are damaged."""

    def test_errors(self) -> None:
        """A damaged object is a clear error, never anything else."""
        good = dicom_file(sequence(0x00400275, [element(0x00401001, "SH", "x")]))
        for data in (
            b"",
            good[:-3],
            dicom_file(head(0x00400275, "SQ", 100) + item(b"")),
            dicom_file(head(0x00400275, "SQ", UNDEFINED) + item(b"")),
            dicom_file(head(0x00400275, "SQ", 16) + struct.pack("<HHI", 0xFFFE, 0xE000, 400) + bytes(8)),
            dicom_file(element(0x00400275, "SQ", "no items at all ")),
            dicom_file(head(0x00401001, "SH", 200) + b"x"),
        ):
            for made in (modification({"Replace": {"PatientName": "A"}}), anonymization({})):
                error = self.assertRaises(OrthancError, edited, data, made)
                self.assertIs(error.code, ErrorCode.BAD_FILE_FORMAT)

    def test_contradictions(self) -> None:
        """What can be understood in several ways is not changed, lest something is lost."""
        inner = element(0x00401001, "SH", "x")
        for part in (
            struct.pack("<HH2sH", 0xFFFE, 0xE00D, b"LO", 0) + element(0x00401001, "SH", "x"),
            head(0x00400275, "SQ", 8 + len(inner) - 10) + item(inner) + element(0x00401002, "LO", "y"),
        ):
            data = dicom_file(part)
            scan(data)
            error = self.assertRaises(OrthancError, edited, data, modification({}))
            self.assertIs(error.code, ErrorCode.BAD_FILE_FORMAT)

    def test_identifiers_are_missing(self) -> None:
        """An object without one of its identifiers is refused."""
        error = self.assertRaises(OrthancError, edited, meta() + element(0x00100020, "LO", "ID"), anonymization({}))
        self.assertIs(error.code, ErrorCode.INEXISTENT_TAG)

    def test_every_cut(self) -> None:
        """Wherever an object is cut off, the answer is a result or a clear error."""
        nested = sequence(0x00081140, [element(0x00081155, "UI", "1.5")], defined=False, items_defined=False)
        data = dicom_file(nested, element(0x00104000, "LT", "x"))
        made = anonymization({})
        for end in range(len(data)):
            try:
                edited(data[:end], made)
            except OrthancError as e:
                self.assertIn(e.code, (ErrorCode.BAD_FILE_FORMAT, ErrorCode.INEXISTENT_TAG))


def _body(explicit: bool) -> bytes:
    """A data set with a sequence, in little endian."""
    data = dicom_file(transfer_syntax="1.2.840.10008.1.2.1" if explicit else IMPLICIT)
    references = sequence(0x00081140, [element(_REFERENCED, "UI", "1.5", explicit)], explicit)
    start = data[meta_end(data) :]
    place = start.index(element(0x00100020, "LO", "ID", explicit))
    return start[:place] + references + start[place:]


def _implicit() -> bytes:
    return meta(IMPLICIT) + _body(False)


def _deflated() -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return meta(DEFLATED) + deflater.compress(_body(True)) + deflater.flush()


def _big_endian() -> bytes:
    body = _body(True)
    return meta(BIG_ENDIAN) + reencode(body, 0, len(body), Encoding(True), Encoding(True, ">"))
