"""Native transfer syntaxes into each other: nothing of an object changes but its encoding."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pydicom
from pydicom.dataset import Dataset
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from orthanctw.dicom.scanner import inflate, meta_end, scan
from orthanctw.dicom.transcode import NATIVE, NativeTranscoder, encode_anew
from orthanctw.errors import BadFileFormat, InexistentFile, OrthancError
from orthanctw.remote import Outgoing
from orthanctw.threads import NamedPool
from test.dicom_files import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, element, meta, sequence
from test.dicom_peers import run

_CT = "1.2.840.10008.5.1.4.1.1.2"
_SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"


def _outgoing(data: bytes, syntax: str, path: str = "") -> Outgoing:
    return Outgoing(sop_class_uid=_CT, sop_instance_uid="1.2.3", transfer_syntax=syntax, content=data, path=path)


def _file(*elements: bytes, syntax: str = EXPLICIT) -> bytes:
    return meta(syntax, _CT, "1.2.3") + b"".join(elements)


def _data_set(outgoing: Outgoing) -> bytes:
    """The data set of an object, inflated."""
    start = meta_end(outgoing.content)
    if outgoing.transfer_syntax == DEFLATED:
        return inflate(outgoing.content, start)
    return outgoing.content[start:]


def _samples() -> Iterator[tuple[str, bytes, str]]:
    """Name, bytes and transfer syntax of pydicom's native files that we would store."""
    for path in sorted(_SAMPLES.rglob("*.dcm")):
        data = path.read_bytes()
        try:
            syntax = scan(data).transfer_syntax
        except OrthancError:
            continue
        if syntax in NATIVE:
            yield path.name, data, syntax


def _values(dataset: Dataset, swapped: bool) -> dict[Any, Any]:
    """Values by place, without group lengths and private ones; words in the other order of bytes when `swapped`."""
    found: dict[Any, Any] = {}
    for item in dataset:
        if item.tag.element == 0 or item.tag == 0x7FE00010 or item.tag.is_private:
            continue
        if item.VR == "SQ":
            found[item.tag] = [_values(inner, swapped) for inner in item.value]
        elif item.VR == "OW" and swapped:
            words = bytearray(item.value)
            words[::2], words[1::2] = item.value[1::2], item.value[::2]
            found[item.tag] = bytes(words)
        else:
            found[item.tag] = item.value
    return found


class SamplesTest(SynchronousTestCase):
    """The files of pydicom."""

    def test_values_and_pixels(self) -> None:
        """Every native file keeps the values of its elements and its pixels in every other native transfer syntax."""
        count = 0
        for name, data, syntax in _samples():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for target in sorted(NATIVE - {syntax}):
                    before = pydicom.dcmread(io.BytesIO(data), force=True)
                    after = pydicom.dcmread(io.BytesIO(encode_anew(_outgoing(data, syntax), target).content))
                    swapped = (syntax == BIG_ENDIAN) != (target == BIG_ENDIAN)
                    self.assertEqual(_values(after, False), _values(before, swapped), (name, target))
                    self.assertEqual(
                        {e.tag for e in before if e.tag.element}, {e.tag for e in after}, (name, target)
                    )
                    self._compare_pixels(before, after, (name, target))
                    count += 1
        self.assertGreater(count, 60)

    def _compare_pixels(self, before: Dataset, after: Dataset, what: object) -> None:
        if "PixelData" not in before:
            return
        try:
            expected = before.pixel_array
        except (AttributeError, ValueError, NotImplementedError):
            return
        self.assertTrue(numpy.array_equal(after.pixel_array, expected), what)

    def test_there_and_back(self) -> None:
        """Explicit little endian, big endian and back is the same data set to the octet, group lengths aside."""
        count = 0
        for name, data, syntax in _samples():
            if syntax == EXPLICIT:
                whole = encode_anew(_outgoing(data, EXPLICIT), EXPLICIT)
                big = encode_anew(whole, BIG_ENDIAN)
                self.assertEqual(_data_set(encode_anew(big, EXPLICIT)), _data_set(whole), name)
                if not any(item[0] & 0xFFFF == 0 for item in scan(data).elements):
                    self.assertEqual(_data_set(whole), data[meta_end(data) :], name)
                    count += 1
        self.assertGreater(count, 10)


class ElementsTest(SynchronousTestCase):
    """What needs care."""

    def test_values_are_not_interpreted(self) -> None:
        """Numbers that are none, text in a character set that is none, and odd lengths stay as they are."""
        content = (
            element(0x00080005, "CS", "NONSENSE"),
            element(0x00100010, "PN", b"\xe4\xff^\x1b$X"),
            element(0x00200013, "IS", "one"),
            element(0x00281050, "DS", "1,5 "),
            b"\x28\x00\x02\x11US\x05\x00abcde",
        )
        for target in (IMPLICIT, BIG_ENDIAN, DEFLATED):
            there = encode_anew(_outgoing(_file(*content), EXPLICIT), target)
            self.assertEqual(_data_set(encode_anew(there, EXPLICIT)), b"".join(content), target)

    def test_signed_values(self) -> None:
        """What may be signed becomes so in explicit VR when the pixels are."""
        for representation, vr in ((0, b"US"), (1, b"SS")):
            parts = (
                element(0x00280100, "US", b"\x10\0", False),
                element(0x00280103, "US", struct.pack("<H", representation), False),
                element(0x00280106, "SS", b"\x18\xfc", False),
                sequence(0x00289110, [element(0x00280107, "SS", b"\x18\xfc", False)], False),
            )
            encoded = _data_set(encode_anew(_outgoing(_file(*parts, syntax=IMPLICIT), IMPLICIT), EXPLICIT))
            self.assertIn(b"\x28\0\x06\x01" + vr + b"\x02\0\x18\xfc", encoded)
            self.assertIn(b"\x28\0\x07\x01" + vr + b"\x02\0\x18\xfc", encoded)

    def test_private_elements(self) -> None:
        """Private elements get the VR that their creator's dictionary knows, else UN; their sequences are SQ."""
        inner = element(0x00080100, "SH", "A ", False)
        parts = (
            element(0x00090010, "LO", "GEMS_IDEN_01", False),
            element(0x00091002, "SH", "CT01", False),
            element(0x00110010, "LO", "NOBODY", False),
            element(0x00111001, "LO", "text", False),
            sequence(0x00111002, [inner], False, defined=False),
        )
        encoded = _data_set(encode_anew(_outgoing(_file(*parts, syntax=IMPLICIT), IMPLICIT), EXPLICIT))
        self.assertIn(element(0x00091002, "SH", "CT01"), encoded)
        self.assertIn(element(0x00111001, "UN", b"text"), encoded)
        self.assertIn(sequence(0x00111002, [element(0x00080100, "SH", "A ")], defined=False), encoded)

    def test_unknown_sequences_in_big_endian(self) -> None:
        """A sequence that lies in an explicit data set as UN of undefined length is read as implicit little endian."""
        inner = element(0x00080100, "SH", "A ", False)
        part = sequence(0x00111002, [inner], True, defined=False, vr="UN")
        encoded = encode_anew(_outgoing(_file(part), EXPLICIT), BIG_ENDIAN)
        self.assertEqual(
            _data_set(encode_anew(encoded, EXPLICIT)),
            sequence(0x00111002, [element(0x00080100, "SH", "A ")], defined=False),
        )

    def test_group_lengths(self) -> None:
        """Group lengths, which would be wrong, are left out."""
        parts = (element(0x00080000, "UL", b"\x10\0\0\0"), element(0x00080060, "CS", "CT"))
        for target in sorted(NATIVE - {EXPLICIT}):
            there = encode_anew(_outgoing(_file(*parts), EXPLICIT), target)
            self.assertEqual(_data_set(encode_anew(there, EXPLICIT)), parts[1])

    def test_long_values(self) -> None:
        """Values that are too long for their VR become UN in explicit VR."""
        value = "1\\" * 40_000
        part = element(0x00201000, "IS", "x", False) + element(0x00201013, "IS", value, False)
        encoded = _data_set(encode_anew(_outgoing(_file(part, syntax=IMPLICIT), IMPLICIT), EXPLICIT))
        self.assertIn(element(0x00201013, "UN", value), encoded)

    def test_what_cannot_be_read(self) -> None:
        """Damaged data sets are refused, never half encoded; so are those that are compressed, and absent files."""
        good = sequence(0x00081140, [element(0x00080100, "SH", "A ")], defined=False)
        for bad in (
            good[:-4],
            good[:-8],
            good + b"\x08",
            element(0x00080060, "CS", "CT")[:-1],
            struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + bytes(16),
            b"".join(struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\0\xe0" + b"\xff" * 4
                     for _ in range(200)),
        ):  # fmt: skip
            self.assertRaises(BadFileFormat, encode_anew, _outgoing(_file(bad), EXPLICIT), IMPLICIT)
        absent = str(Path(self.mktemp()))
        self.assertRaises(InexistentFile, encode_anew, _outgoing(b"", EXPLICIT, absent), IMPLICIT)


class TranscoderTest(TestCase):
    """The transcoder, and what others read of its work."""

    async def test_choice(self) -> None:
        """The first native transfer syntax that is accepted is taken, for what is compressed none."""
        pool = NamedPool(reactor, "test", 1)
        pool.start()
        self.addCleanup(pool.stop)
        transcoder = NativeTranscoder(pool)
        path = Path(self.mktemp())
        path.write_bytes(_file(element(0x00080060, "CS", "CT")))
        source = _outgoing(b"", EXPLICIT, str(path))
        jpeg = "1.2.840.10008.1.2.4.50"
        self.assertIs(await transcoder.transcode(source, (jpeg, EXPLICIT)), source)
        found = await transcoder.transcode(source, (jpeg, BIG_ENDIAN, IMPLICIT))
        assert found is not None
        self.assertEqual((found.transfer_syntax, found.path), (BIG_ENDIAN, ""))
        self.assertIsNone(await transcoder.transcode(source, (jpeg,)))
        self.assertIsNone(await transcoder.transcode(_outgoing(b"x", jpeg), (IMPLICIT,)))

    async def test_dcmtk(self) -> None:
        """DCMTK reads what comes out, and converts it to what was put in."""
        count = 0
        names = ("MR_small.dcm", "CT_small.dcm", "waveform_ecg.dcm", "examples_overlay.dcm")
        for name, data, syntax in _samples():
            if name not in names or syntax != EXPLICIT:
                continue
            count += 1
            big = Path(self.mktemp())
            big.write_bytes(encode_anew(_outgoing(data, syntax), BIG_ENDIAN).content)
            back = Path(self.mktemp())
            ran = await run("dcmconv", "+te", "-g", str(big), str(back))
            self.assertEqual(ran.status, 0, ran.output)
            one, other = (pydicom.dcmread(source, force=True) for source in (io.BytesIO(data), back))
            self.assertEqual(_values(other, False), _values(one, False), name)
            self.assertEqual(other.PixelData if "PixelData" in one else None, one.get("PixelData"), name)
        self.assertEqual(count, len(names))
