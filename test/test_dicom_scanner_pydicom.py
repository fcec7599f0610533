"""The scanner against pydicom, element by element, on every file of pydicom's wheel and of pydicom-data."""

from __future__ import annotations

import math
import pathlib
import struct
from typing import Any

import pydicom
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.data import get_testdata_files
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.elements import NUMBERS, TEXT_VRS
from orthanctw.dicom.scanner import ScannedFile, scan
from orthanctw.errors import BadFileFormat

#: Files that are refused, as by Orthanc, though pydicom reads them at least in part.
REFUSED = {
    "emri_small_jpeg_2k_lossless_too_short.dcm": "encapsulated pixel data is truncated",
    "MR_truncated.dcm": "pixel data is truncated",
    "SC_rgb_jpeg.dcm": "pixel data of an encapsulated transfer syntax is native",
    "rtplan_truncated.dcm": "the header is truncated",
    "no_meta.dcm": "an element passes the end of the file",
    "DICOMDIR-nooffset": "an item passes the end of the file",
}
#: Tags whose VR pydicom derives from PixelRepresentation; ours, as Orthanc's, is US or OW in files without VRs.
AMBIGUOUS = {"US or SS", "OB or OW", "US or OW", "US or SS or OW"}


def _files() -> list[pathlib.Path]:
    paths = {pathlib.Path(name).resolve() for name in get_testdata_files()}
    return sorted(path for path in paths if path.is_file())


def _is_dicom(path: pathlib.Path) -> bool:
    return path.suffix in {".dcm", ""} and not path.name.startswith("README")


class PydicomComparison(SynchronousTestCase):
    """Tags, VRs, values and nesting are those that pydicom finds."""

    maxDiff = None

    def test_every_file_agrees(self) -> None:
        """Each element of each file has pydicom's tag, VR, value and items."""
        compared = 0
        for path in _files():
            if not _is_dicom(path) or path.name in REFUSED:
                continue
            data = path.read_bytes()
            scanned = scan(data)
            theirs = pydicom.dcmread(path, force=True)
            self.name, self.data, self.scanned = path.name, data, scanned
            self._compare("", scanned.elements, theirs)
            compared += len(scanned.elements)
        self.assertGreater(compared, 5000)

    def test_refused_files(self) -> None:
        """Truncated files and those that break their own transfer syntax raise BadFileFormat."""
        found = set()
        for path in _files():
            if path.name in REFUSED:
                found.add(path.name)
                self.assertRaises(BadFileFormat, scan, path.read_bytes())
        self.assertEqual(found, set(REFUSED))

    def test_other_files(self) -> None:
        """What is no DICOM file raises BadFileFormat."""
        count = 0
        for path in _files():
            if not _is_dicom(path):
                self.assertRaises(BadFileFormat, scan, path.read_bytes())
                count += 1
        self.assertGreater(count, 5)

    def _compare(self, where: str, ours: list[Any], theirs: Dataset) -> None:
        expected = sorted(int(tag) for tag in theirs._dict if int(tag) != 0xFFFCFFFC)
        self.assertEqual([element[0] for element in ours], expected, f"{self.name} {where}")
        for element in ours:
            place = f"{self.name} {where}/{element[0]:08x}"
            tag = Tag(element[0])
            raw = theirs.get_item(tag)
            if element[1] == "SQ" and len(element) == 3:
                items = theirs[tag].value
                self.assertEqual(len(element[2]), len(items), place)
                for index, (mine, item) in enumerate(zip(element[2], items, strict=True)):
                    self._compare(f"{where}/{element[0]:08x}[{index}]", mine, item)
                continue
            self._compare_leaf(place, element, raw, theirs)

    def _compare_leaf(self, place: str, element: Any, raw: Any, theirs: Dataset) -> None:
        vr = element[1]
        if raw.VR is not None and raw.VR not in AMBIGUOUS and raw.VR != "UN":
            self.assertEqual(vr, raw.VR, place)
        elif raw.VR is None and not raw.tag.is_private and dictionary_has_tag(raw.tag):
            self.assertIn(dictionary_VR(raw.tag), {vr, *AMBIGUOUS}, place)
        if len(element) == 4:
            self._compare_place(place, element, raw)
        elif vr in TEXT_VRS:
            self.assertEqual(element[2].strip(), self._text(raw, vr, theirs), place)
        else:
            self._compare_numbers(place, vr, element[2], raw, theirs)

    def _text(self, raw: Any, vr: str, theirs: Dataset) -> str:
        if not isinstance(raw, RawDataElement):
            # pydicom has converted it while reading.
            parts = [raw.value] if isinstance(raw.value, str) else raw.value or []
            return "\\".join(parts).strip()
        charsets = convert_encodings(theirs.get("SpecificCharacterSet", self.scanned.charset or "ISO_IR 100"))
        delimiters = {"\\", "^", "=", "\r", "\n"} if vr == "PN" else {"\\"}
        return decode_bytes(raw.value or b"", charsets, delimiters).split("\0")[0].strip()

    def _compare_place(self, place: str, element: Any, raw: Any) -> None:
        if self.scanned.transfer_syntax.endswith(".1.99") or element[0] == 0x7FE00010:
            return
        value = raw.value or b""
        if isinstance(value, bytes):
            self.assertEqual(self.data[element[2] : element[2] + element[3]], value, place)

    def _compare_numbers(self, place: str, vr: str, text: str | None, raw: Any, theirs: Dataset) -> None:
        if text is None:
            self.assertIn(raw.value, (None, b"", ""), place)
            return
        if not isinstance(raw, RawDataElement):
            # pydicom has converted it while reading.
            self.assertEqual(text, str(raw.value), place)
            return
        if vr == "AT":
            words = "<" if self.scanned.order == "<" else ">"
            pairs = struct.unpack(f"{words}{len(raw.value) // 2}H", raw.value)
            tags = [f"{pairs[at]:04x},{pairs[at + 1]:04x}" for at in range(0, len(pairs), 2)]
            self.assertEqual(text.split("\\"), tags, place)
            return
        value = raw.value or b""
        order = "little" if self.scanned.order == "<" else "big"
        if vr in ("US", "UL", "UV", "SS", "SL", "SV"):
            size = NUMBERS[vr][1]
            numbers = [
                int.from_bytes(value[at : at + size], order, signed=vr[0] == "S")  # type: ignore[arg-type]
                for at in range(0, len(value), size)
            ]
            self.assertEqual([int(part) for part in text.split("\\")], numbers, place)
        elif vr in ("FL", "FD", "OF"):
            shown = theirs[raw.tag].value
            known = shown if isinstance(shown, (list, pydicom.multival.MultiValue)) else [shown]
            if vr != "OF":
                for mine, their in zip(text.split("\\"), known, strict=True):
                    self.assertTrue(math.isclose(float(mine), float(their), rel_tol=1e-8), place)


class Facts(SynchronousTestCase):
    """Facts about whole files that pydicom tells too."""

    def test_identity(self) -> None:
        """Transfer syntax and UIDs are those of pydicom."""
        for path in _files():
            if not _is_dicom(path) or path.name in REFUSED:
                continue
            scanned: ScannedFile = scan(path.read_bytes())
            theirs = pydicom.dcmread(path, force=True)
            syntax = theirs.file_meta.get("TransferSyntaxUID", None)
            if syntax is not None:
                self.assertEqual(scanned.transfer_syntax, str(syntax), path.name)
            uid = theirs.get("SOPInstanceUID", None)
            self.assertEqual(scanned.text(0x00080018), None if uid is None else str(uid), path.name)

    def test_frames(self) -> None:
        """The pieces of each frame of encapsulated pixel data are those that pydicom yields."""
        from pydicom.encaps import generate_frames

        compared = 0
        for path in _files():
            if not _is_dicom(path) or path.name in REFUSED:
                continue
            data = path.read_bytes()
            pixels = scan(data).pixels
            if pixels is None or not pixels.encapsulated:
                continue
            theirs = pydicom.dcmread(path, force=True)
            if not theirs.file_meta.TransferSyntaxUID.is_encapsulated:
                continue
            for number, frame in enumerate(generate_frames(theirs.PixelData, number_of_frames=pixels.frames)):
                mine = b"".join(data[offset : offset + length] for offset, length in pixels.frame(number))
                self.assertEqual(mine, frame, f"{path.name} frame {number}")
                compared += 1
        self.assertGreater(compared, 50)
