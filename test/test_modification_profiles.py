"""Anonymisation: profiles, references between objects, and what makes identifiers the same again."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from pydicom import Dataset, Sequence
from pydicom.data import get_testdata_file
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.dictionary import format_tag, is_private
from orthanctw.dicom.editing.profiles import DEFAULT_PROFILE, PROFILES, Action, profile_of
from orthanctw.dicom.scanner import scan
from orthanctw.model import ResourceLevel
from test.dicom_files import dicom_file, element, sequence
from test.editing_samples import anonymization, anonymized, edited, modified, read
from test.rest_samples import dicom_object, item

_STUDY, _FRAME = "1.2.3", "1.2.3.9"
_IMAGES = ("1.2.3.1.1", "1.2.3.1.2")
_TALAIRACH = "1.2.840.10008.1.4.1.1"
_FILES = (
    *("CT_small.dcm", "rtplan.dcm", "reportsi.dcm", "liver_1frame.dcm", "MR_small_implicit.dcm", "ExplVR_BigEnd.dcm"),
    *("image_dfl.dcm", "JPEG2000.dcm", "test-SR.dcm", "examples_overlay.dcm"),
)


def _content(name: str) -> bytes:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    with open(path, "rb") as file:
        return file.read()


class ProfileTests(SynchronousTestCase):
    """The profiles and their data."""

    def test_data(self) -> None:
        """Every profile of the data file is known, and the default one."""
        content = json.loads(resources.files("orthanctw.dicom").joinpath("profiles.json").read_text(encoding="utf-8"))
        self.assertEqual((tuple(content["versions"]), content["default"]), (PROFILES, DEFAULT_PROFILE))
        for version, removed, cleared in (("2008", 39, 0), ("2017c", 216, 20), ("2021b", 317, 85), ("2023b", 408, 138)):
            actions = list(profile_of(version).actions.values())
            counts = actions.count(Action.REMOVE), actions.count(Action.CLEAR)
            self.assertEqual(counts, (removed, cleared), version)
        self.assertIs(profile_of("2023b").action(0x50020005), Action.REMOVE, "curves are a range")
        self.assertIs(profile_of("2023b").action(0x60023000), Action.REMOVE)
        self.assertIsNone(profile_of("2023b").action(0x60020010))
        self.assertIsNone(profile_of("2008").action(0x50020005))

    def test_top_level(self) -> None:
        """Elements of the top level are removed, emptied, get another UID or stay, as the profile says."""
        for name in _FILES:
            data = _content(name)
            before = {found[0]: found for found in scan(data).elements}
            for version in PROFILES:
                profile = profile_of(version)
                after = anonymized(data, {"DicomVersion": version})
                for tag in before:
                    action = Action.REMOVE if is_private(tag) else profile.action(tag)
                    where = f"{name} {version} {format_tag(tag)}"
                    if tag & 0xFFFF == 0 or action is Action.REMOVE:
                        self.assertNotIn(tag, after, where)
                        continue
                    self.assertIn(tag, after, where)
                    if action is Action.CLEAR:
                        self.assertTrue(after[tag].is_empty, where)
                    elif action is Action.REPLACE_UID and before[tag][2]:
                        self.assertNotEqual(after[tag].value, before[tag][2], where)

    def test_description(self) -> None:
        """The result says that it is anonymised and how; not by which table when the request departs from it."""
        data = dicom_object()
        for body, method in (
            ({}, "Orthanc 1.2.3 - PS 3.15-2023b Table E.1-1 Basic Profile"),
            ({"DicomVersion": "2008"}, "Orthanc 1.2.3 - PS 3.15-2008 Table E.1-1"),
            ({"Keep": ["StudyDate"]}, "Orthanc 1.2.3"),
            ({"KeepPrivateTags": True}, "Orthanc 1.2.3"),
            ({"Replace": {"DeidentificationMethod": "mine"}}, "mine"),
        ):
            found = anonymized(data, body)
            self.assertEqual((found.PatientIdentityRemoved, found.DeidentificationMethod), ("YES", method))
            self.assertNotIn("DeidentificationMethodCodeSequence", found)
        found = anonymized(data, {"Remove": ["DeidentificationMethod"]})
        self.assertNotIn("DeidentificationMethod", found)

    def test_nested(self) -> None:
        """Within items text is emptied, other things go, and what is kept by its path stays."""
        nested = item(
            PatientName="DOE^JOHN", PatientID="P1", StudyDate="20200101", AccessionNumber="A", InstitutionName="I"
        )
        nested.add_new(0x00090010, "LO", "CREATOR")
        nested.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        nested.FrameOfReferenceUID = _TALAIRACH
        data = dicom_object(SourceImageSequence=Sequence([nested, item(PatientID="P2", PatientName="X")]))
        found = anonymized(data, {"Keep": ["SourceImageSequence[*].StudyDate"]})
        first, other = found.SourceImageSequence
        self.assertEqual((first.PatientID, first.PatientName), (found.PatientID, found.PatientName))
        self.assertEqual((first.StudyDate, first.AccessionNumber), ("20200101", ""))
        self.assertNotIn("InstitutionName", first)
        self.assertNotIn(0x00090010, first)
        self.assertEqual(first.FrameOfReferenceUID, _TALAIRACH, "the standard's own UIDs name nobody")
        self.assertEqual(first.ReferencedSOPClassUID, "1.2.840.10008.5.1.4.1.1.2")
        self.assertEqual(len({str(other.PatientID), "P2", found.PatientID}), 3)
        self.assertNotEqual(other.PatientName, "X")

    def test_kept(self) -> None:
        """A kept sequence stays as it is, and KeepPrivateTags keeps private tags wherever they are."""
        nested = item(PatientName="DOE^JOHN", ReferencedSOPInstanceUID="1.5")
        nested.add_new(0x00090010, "LO", "CREATOR")
        data = dicom_object(SourceImageSequence=Sequence([nested]))
        found = anonymized(data, {"Keep": ["SourceImageSequence", "PatientName"]})
        self.assertEqual(found.SourceImageSequence[0], nested)
        self.assertEqual(found.PatientName, "DOE^JOHN")
        found = anonymized(data, {"KeepPrivateTags": True})
        self.assertEqual(found.SourceImageSequence[0][0x00090010].value, "CREATOR")

    def test_hidden(self) -> None:
        """What is encoded as UN is anonymised too; a sequence that cannot be read goes."""
        inner = element(0x00081155, "UI", "1.5", False) + element(0x00100010, "PN", "DOE", False)
        hidden = sequence(0x00082112, [inner], False)[8:]
        data = dicom_file(
            element(0x00200052, "UN", "1.2.3.9"),
            element(0x00082112, "UN", hidden),
        )
        found = anonymized(data)
        self.assertEqual(found.SourceImageSequence[0].PatientName == "DOE", False)
        self.assertNotIn(b"1.2.3.9\0", found[0x00200052].value.encode())
        found = anonymized(dicom_file(element(0x00082112, "UN", b"\1\2\3\4DOE ")))
        self.assertNotIn("SourceImageSequence", found)


class ReferenceTests(SynchronousTestCase):
    """References between the objects of a study."""

    def structure_set(self) -> bytes:
        contours = [item(ContourImageSequence=Sequence([item(ReferencedSOPInstanceUID=uid)])) for uid in _IMAGES]
        series = item(
            SeriesInstanceUID="1.2.3.1",
            ContourImageSequence=Sequence([item(ReferencedSOPInstanceUID=uid) for uid in _IMAGES]),
        )
        study = item(ReferencedSOPInstanceUID=_STUDY, RTReferencedSeriesSequence=Sequence([series]))
        frame = item(FrameOfReferenceUID=_FRAME, RTReferencedStudySequence=Sequence([study]))
        return dicom_object(
            "P1",
            _STUDY,
            "1.2.3.2",
            "1.2.3.2.1",
            FrameOfReferenceUID=_FRAME,
            ReferencedFrameOfReferenceSequence=Sequence([frame]),
            StructureSetROISequence=Sequence([item(ReferencedFrameOfReferenceUID=_FRAME)]),
            ROIContourSequence=Sequence([item(ContourSequence=Sequence(contours))]),
        )

    def segmentation(self) -> bytes:
        frames = [
            item(
                DerivationImageSequence=Sequence(
                    [item(SourceImageSequence=Sequence([item(ReferencedSOPInstanceUID=uid)]))]
                )
            )
            for uid in _IMAGES
        ]
        instances = Sequence([item(ReferencedSOPInstanceUID=uid) for uid in _IMAGES])
        series = item(SeriesInstanceUID="1.2.3.1", ReferencedInstanceSequence=instances)
        return dicom_object(
            "P1",
            _STUDY,
            "1.2.3.3",
            "1.2.3.3.1",
            FrameOfReferenceUID=_FRAME,
            VolumeFrameOfReferenceUID=_FRAME,
            ReferencedSeriesSequence=Sequence([series]),
            PerFrameFunctionalGroupsSequence=Sequence(frames),
        )

    def images(self, body: dict[str, Any]) -> list[Dataset]:
        return [
            anonymized(dicom_object("P1", _STUDY, "1.2.3.1", uid, FrameOfReferenceUID=_FRAME), body) for uid in _IMAGES
        ]

    def test_structure_set(self) -> None:
        """An RT structure set refers to the anonymised images, their series, study and frame of reference."""
        for version in PROFILES:
            body = {"DicomVersion": version}
            images, found = self.images(body), anonymized(self.structure_set(), body)
            frame = found.ReferencedFrameOfReferenceSequence[0]
            study = frame.RTReferencedStudySequence[0]
            series = study.RTReferencedSeriesSequence[0]
            self.assertEqual(study.ReferencedSOPInstanceUID, images[0].StudyInstanceUID)
            self.assertEqual(found.StudyInstanceUID, images[0].StudyInstanceUID)
            self.assertEqual(series.SeriesInstanceUID, images[0].SeriesInstanceUID)
            self.assertEqual(_references(series.ContourImageSequence), _instances(images))
            contours = [one.ContourImageSequence[0] for one in found.ROIContourSequence[0].ContourSequence]
            self.assertEqual(_references(contours), _instances(images))
            uids = {
                frame.FrameOfReferenceUID,
                found.StructureSetROISequence[0].ReferencedFrameOfReferenceUID,
                found.FrameOfReferenceUID,
                *(image.FrameOfReferenceUID for image in images),
            }
            self.assertEqual(len(uids - {_FRAME}), 1)
            self.assertNotIn(_FRAME, uids)

    def test_segmentation(self) -> None:
        """A segmentation refers to the anonymised images in its header and frame by frame."""
        images, found = self.images({}), anonymized(self.segmentation())
        series = found.ReferencedSeriesSequence[0]
        self.assertEqual(series.SeriesInstanceUID, images[0].SeriesInstanceUID)
        self.assertEqual(_references(series.ReferencedInstanceSequence), _instances(images))
        sources = [
            group.DerivationImageSequence[0].SourceImageSequence[0] for group in found.PerFrameFunctionalGroupsSequence
        ]
        self.assertEqual(_references(sources), _instances(images))
        self.assertEqual(found.VolumeFrameOfReferenceUID, images[0].FrameOfReferenceUID)

    def test_kept_identifiers(self) -> None:
        """What is kept is kept in references too, and what the request gives is what they become."""
        body = {"Keep": ["SOPInstanceUID", "FrameOfReferenceUID"], "Force": True}
        found = anonymized(self.structure_set(), body)
        frame = found.ReferencedFrameOfReferenceSequence[0]
        study = frame.RTReferencedStudySequence[0]
        self.assertEqual(frame.FrameOfReferenceUID, _FRAME)
        self.assertEqual(study.ReferencedSOPInstanceUID, found.StudyInstanceUID)
        self.assertNotEqual(found.StudyInstanceUID, _STUDY)
        self.assertEqual(_references(study.RTReferencedSeriesSequence[0].ContourImageSequence), list(_IMAGES))
        body = {"Keep": ["StudyInstanceUID"], "Force": True}
        frame = anonymized(self.structure_set(), body).ReferencedFrameOfReferenceSequence[0]
        study = frame.RTReferencedStudySequence[0]
        self.assertEqual(study.ReferencedSOPInstanceUID, _STUDY)
        body = {"Replace": {"StudyInstanceUID": "1.9"}, "Force": True}
        found = anonymized(self.structure_set(), body)
        study = found.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        self.assertEqual((found.StudyInstanceUID, study.ReferencedSOPInstanceUID), ("1.9", "1.9"))

    def test_modification_leaves_references(self) -> None:
        """As with Orthanc, only anonymisation follows references."""
        found = modified(self.structure_set(), {}, ResourceLevel.STUDY)
        self.assertNotEqual(found.StudyInstanceUID, _STUDY)
        study = found.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        self.assertEqual(study.ReferencedSOPInstanceUID, _STUDY)


class KeyTests(SynchronousTestCase):
    """What new identifiers depend on."""

    def test_keys(self) -> None:
        """With one key the same becomes the same, with another one something else; UIDs are valid ones."""
        data = dicom_object(FrameOfReferenceUID="1.2.1")
        one, again = anonymized(data), anonymized(data)
        self.assertEqual(one, again)
        other = anonymized(data, Key="ff" * 16)
        for name in ("PatientID", "PatientName", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            self.assertNotEqual(one[name].value, other[name].value, name)
        self.assertRegex(one.StudyInstanceUID, r"\A2\.25\.[1-9][0-9]{30,38}\Z")
        self.assertRegex(one.PatientID, r"\A[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
        self.assertEqual(one.FrameOfReferenceUID, one.StudyInstanceUID, "one UID becomes one, whatever it names")

    def test_names(self) -> None:
        """The name is the one that the job gives, or depends on the PatientID."""
        made = anonymization({}).named("Anonymized12")
        self.assertEqual(read(edited(dicom_object(), made)).PatientName, "Anonymized12")
        names = {str(anonymized(dicom_object(patient)).PatientName) for patient in ("P1", "P1 ", "P2")}
        self.assertEqual(len(names), 2)


def _references(items: Any) -> list[str]:
    return [str(one.ReferencedSOPInstanceUID) for one in items]


def _instances(images: list[Dataset]) -> list[str]:
    return [str(image.SOPInstanceUID) for image in images]
