"""The scanner on files built for the purpose: encodings, nesting, limits, refusals."""

from __future__ import annotations

import mmap
import pathlib
import struct
import zlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.header import decode, encode
from orthanctw.dicom.jsonforms import TagFormat, tags
from orthanctw.dicom.maintags import MainTags, expected_number_of_instances, search_tags
from orthanctw.dicom.scanner import ScannedFile, scan
from orthanctw.errors import BadFileFormat, CorruptedFile, InexistentTag, OrthancError
from orthanctw.model import ResourceLevel
from test.dicom_files import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_BASELINE,
    dicom_file,
    element,
    encapsulated,
    head,
    identifiers,
    item,
    meta,
    sequence,
    uids,
)

STEP_DESCRIPTION = 0x00400007
REQUESTS = 0x00400275
IMAGE = (
    element(0x00280002, "US", b"\1\0")
    + element(0x00280010, "US", b"\4\0")
    + element(0x00280011, "US", b"\4\0")
    + element(0x00280100, "US", b"\x08\0")
)


def _values(scanned: ScannedFile) -> dict[int, object]:
    return {entry[0]: entry[2] for entry in scanned.elements}


class Encodings(SynchronousTestCase):
    """Every transfer syntax and every kind of start that Orthanc accepts."""

    def test_explicit(self) -> None:
        """The meta header, the identifiers and the transfer syntax of an explicit file are found."""
        scanned = scan(dicom_file())
        self.assertEqual(scanned.transfer_syntax, EXPLICIT)
        self.assertEqual(scanned.identifiers(), ("ID", "1.2.3.1", "1.2.3.2", "1.2.3.4"))
        self.assertEqual(scanned.meta[0][0], 0x00020000)
        self.assertIsNone(scanned.pixels)

    def test_implicit(self) -> None:
        """VRs of an implicit file are those of the dictionary, also below private creators."""
        parts = element(0x00280010, "US", b"\0\2", False)
        parts += element(0x00290010, "LO", "SIEMENS CSA HEADER", False) + element(0x00291008, "CS", "IMAGE", False)
        scanned = scan(dicom_file(parts, transfer_syntax=IMPLICIT))
        self.assertEqual(scanned.elements[-3], (0x00280010, "US", "512"))
        self.assertEqual(scanned.elements[-1], (0x00291008, "CS", "IMAGE"))

    def test_big_endian(self) -> None:
        """Numbers and lengths of a big endian data set are swapped."""
        data = meta(BIG_ENDIAN)
        for tag, vr, value in ((0x00080018, b"UI", b"1.2.3.4\0"), (0x00280010, b"US", b"\2\0")):
            data += struct.pack(">HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
        self.assertEqual(_values(scan(data)), {0x00080018: "1.2.3.4", 0x00280010: "512"})

    def test_deflated(self) -> None:
        """A deflated data set is inflated; its pixel data has no offset in the file."""
        deflater = zlib.compressobj(wbits=-15)
        dataset = identifiers() + uids() + IMAGE + element(0x7FE00010, "OW", b"\0" * 16)
        scanned = scan(meta(DEFLATED) + deflater.compress(dataset) + deflater.flush())
        self.assertEqual(scanned.text(0x00280010), "4")
        self.assertIsNotNone(scanned.pixels)
        self.assertIsNone(scanned.pixel_data_offset)

    def test_deflated_bomb(self) -> None:
        """A deflated data set that inflates beyond its allowance raises BadFileFormat."""
        deflater = zlib.compressobj(9, wbits=-15)
        bomb = deflater.compress(element(0x00420011, "OB", b"\0" * (40 << 20))) + deflater.flush()
        self.assertRaises(BadFileFormat, scan, meta(DEFLATED) + bomb)

    def test_without_meta_header(self) -> None:
        """Without preamble and meta header the transfer syntax is detected."""
        self.assertEqual(scan(identifiers() + uids()).transfer_syntax, EXPLICIT)
        self.assertEqual(scan(identifiers(False) + uids(False)).transfer_syntax, IMPLICIT)
        self.assertEqual(scan(meta()[132:] + identifiers() + uids()).transfer_syntax, EXPLICIT)

    def test_mapped_file(self) -> None:
        """A mapped file gives the same as its bytes."""
        data = dicom_file(IMAGE, element(0x7FE00010, "OW", b"\0" * 100_000))
        path = pathlib.Path(self.mktemp())
        path.write_bytes(data)
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            self.assertEqual(scan(mapped), scan(data))
        self.assertEqual(scan(memoryview(data)), scan(data))

    def test_beyond_the_window(self) -> None:
        """Text beyond the first kilobytes is read as well as before."""
        parts = [element(STEP_DESCRIPTION, "LO", f"é {number}") for number in range(3000)]
        scanned = scan(dicom_file(sequence(REQUESTS, parts), charset="ISO_IR 192"))
        items = _values(scanned)[REQUESTS]
        assert isinstance(items, list)
        self.assertEqual(len(items), 3000)
        self.assertEqual([entry[0][2] for entry in items], [f"é {number}" for number in range(3000)])


class Values(SynchronousTestCase):
    """Text, numbers and what stays in the file."""

    def test_padding(self) -> None:
        """Trailing spaces and what follows a NUL are dropped, leading spaces stay; UIDs lose both."""
        data = dicom_file(
            element(0x00204000, "LT", b" a b \r\n\t \0\0"),
            element(0x00321060, "LO", b"   "),
            element(0x00324000, "LT", b"in\0ner "),
            element(0x00400009, "SH", b"a \\ b "),
            element(0x0040A124, "UI", b" 1.2  \0"),
        )
        values = _values(scan(data))
        self.assertEqual(values[0x00204000], " a b \r\n\t ")
        self.assertEqual(values[0x00321060], "")
        self.assertEqual(values[0x00324000], "in")
        self.assertEqual(values[0x00400009], "a \\ b")
        self.assertEqual(values[0x0040A124], "1.2")

    def test_numbers(self) -> None:
        """Binary numbers become decimal text, tags hexadecimal; empty or short ones have no value."""
        data = dicom_file(
            element(0x00280009, "AT", struct.pack("<4H", 0x54, 0x10, 0x54, 0x20)),
            element(0x00281101, "US", struct.pack("<3H", 256, 0, 16)),
            element(0x00289099, "US", b""),
            element(0x00700022, "FL", struct.pack("<2f", 0.1, 1e10)),
            element(0x00720074, "FD", struct.pack("<2d", 0.1, -2)),
            element(0x00720078, "UL", b"\1\0"),
            element(0x0072007C, "SL", struct.pack("<i", -5)),
            element(0x00720082, "SV", struct.pack("<q", -(2**63))),
        )
        values = _values(scan(data))
        self.assertEqual(values[0x00280009], "0054,0010\\0054,0020")
        self.assertEqual(values[0x00281101], "256\\0\\16")
        self.assertIsNone(values[0x00289099])
        self.assertEqual(values[0x00700022], "0.100000001\\1e+10")
        self.assertEqual(values[0x00720074], "0.10000000000000001\\-2")
        self.assertIsNone(values[0x00720078])
        self.assertEqual(values[0x0072007C], "-5")
        self.assertEqual(values[0x00720082], str(-(2**63)))

    def test_large_values_stay_in_the_file(self) -> None:
        """Binary values, long text and long lists of numbers are kept as offset and length."""
        text, numbers = b"x" * 70_000, b"\1\0" * 5000
        data = dicom_file(
            element(0x00281201, "OW", b"abcd"), element(0x00283006, "US", numbers), element(0x0040A160, "UT", text)
        )
        for entry, value in zip(scan(data).elements[-3:], (b"abcd", numbers, text), strict=True):
            self.assertEqual(len(entry), 4)
            self.assertEqual(data[entry[2] : entry[2] + entry[3]], value)

    def test_unknown_vr(self) -> None:
        """UN of a tag that is known as text is text; of others it stays binary."""
        data = dicom_file(
            element(0x00280010, "UN", b"\1\2"),
            element(0x00290010, "LO", "SIEMENS CSA HEADER"),
            element(0x00291008, "UN", "IMAGE NUM 4"),
            element(0x00291108, "UN", "unknown"),
            element(0x00402001, "UN", "reason"),
        )
        elements = {entry[0]: entry for entry in scan(data).elements}
        self.assertEqual(len(elements[0x00280010]), 4)
        self.assertEqual(elements[0x00291008], (0x00291008, "CS", "IMAGE NUM 4"))
        self.assertEqual(len(elements[0x00291108]), 4)
        self.assertEqual(elements[0x00402001], (0x00402001, "LO", "reason"))

    def test_order(self) -> None:
        """Elements out of order are sorted; of two with one tag the first stays; trailing padding is dropped."""
        data = dicom_file(
            element(0x00281050, "DS", "1"),
            element(0x00104000, "LT", "late"),
            element(0x00281050, "DS", "2"),
            element(0xFFFCFFFC, "OB", b"\0" * 8),
        )
        scanned = scan(data)
        self.assertEqual([entry[0] for entry in scanned.elements], sorted({entry[0] for entry in scanned.elements}))
        self.assertEqual(scanned.text(0x00281050), "1")
        self.assertNotIn(0xFFFCFFFC, _values(scanned))


class Nesting(SynchronousTestCase):
    """Sequences of every kind (PS3.5 section 7.5)."""

    def test_lengths(self) -> None:
        """Sequences and items of defined and undefined length give the same items, empty ones too."""
        content = [element(STEP_DESCRIPTION, "LO", "a"), b""]
        for defined in (True, False):
            for items_defined in (True, False):
                part = sequence(REQUESTS, content, defined=defined, items_defined=items_defined)
                after = element(0x00402001, "LO", "after")
                scanned = scan(dicom_file(part, after))
                self.assertEqual(_values(scanned)[REQUESTS], [[(STEP_DESCRIPTION, "LO", "a")], []])
                self.assertEqual(scanned.text(0x00402001), "after")

    def test_unknown_sequence(self) -> None:
        """A UN of undefined length is a sequence with implicit VRs (PS3.5 section 6.2.2)."""
        part = sequence(REQUESTS, [element(STEP_DESCRIPTION, "LO", "a", False)], defined=False, vr="UN")
        scanned = scan(dicom_file(part, element(0x00402001, "LO", "after")))
        self.assertEqual(_values(scanned)[REQUESTS], [[(STEP_DESCRIPTION, "LO", "a")]])
        self.assertEqual(scanned.text(0x00402001), "after")

    def test_depth(self) -> None:
        """64 levels are read and stored; 65 raise BadFileFormat."""
        for undefined in (True, False):
            part = element(STEP_DESCRIPTION, "LO", "deep")
            for _ in range(64):
                part = sequence(REQUESTS, [part], defined=not undefined, items_defined=not undefined)
            scanned = scan(dicom_file(part))
            self.assertEqual(tags(decode(encode(scanned)), TagFormat.FULL), tags(scanned, TagFormat.FULL))
            deeper = sequence(REQUESTS, [part], defined=not undefined)
            self.assertRaises(BadFileFormat, scan, dicom_file(deeper))

    def test_very_deep(self) -> None:
        """Thousands of levels raise BadFileFormat, not an error of Python's stack."""
        opening = head(REQUESTS, "SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        self.assertRaises(BadFileFormat, scan, dicom_file(opening * 50_000))

    def test_too_many_elements(self) -> None:
        """More elements than the limit, flat or as items, raise BadFileFormat."""
        flat = dicom_file(*[element(0x00400000 + number, "LO", "") for number in range(1, 300)])
        nested = dicom_file(sequence(REQUESTS, [b""] * 300))
        for data in (flat, nested):
            self.assertTrue(scan(data, element_limit=400).elements)
            self.assertRaises(BadFileFormat, scan, data, element_limit=200)

    def test_character_set_of_an_item(self) -> None:
        """An item's own character set holds for that item alone."""
        own = element(0x00080005, "CS", "ISO_IR 192") + element(STEP_DESCRIPTION, "LO", "é")
        part = sequence(REQUESTS, [own, element(STEP_DESCRIPTION, "LO", b"\xe9")])
        items = _values(scan(dicom_file(part, charset="ISO_IR 100")))[REQUESTS]
        assert isinstance(items, list)
        self.assertEqual([entry[-1][2] for entry in items], ["é", "é"])


class PixelData(SynchronousTestCase):
    """Offsets, fragments and frames."""

    def test_native(self) -> None:
        """The offset is that of the element, frames are computed, and elements after it are read."""
        data = dicom_file(
            element(0x00280008, "IS", "2") + IMAGE,
            element(0x7FE00010, "OB", bytes(range(32))),
            element(0x7FE10010, "LO", "after"),
        )
        scanned = scan(data)
        assert scanned.pixels is not None
        self.assertEqual(scanned.pixel_data_offset, data.index(b"\xe0\x7f\x10\0"))
        self.assertEqual(scanned.pixels.vr, "OB")
        (piece,) = scanned.pixels.frame(1)
        self.assertEqual(data[piece[0] : sum(piece)], bytes(range(16, 32)))
        self.assertEqual(scanned.pixels.frame(2), [])
        self.assertEqual(scanned.text(0x7FE10010), "after")

    def test_icon_is_not_the_image(self) -> None:
        """Pixel data within a sequence does not count."""
        icon = sequence(0x00880200, [IMAGE + element(0x7FE00010, "OW", b"\0" * 16)])
        self.assertIsNone(scan(dicom_file(icon)).pixels)

    def _frames(self, frames: int, fragments: list[bytes], offsets: bytes = b"", extra: bytes = b"") -> list[bytes]:
        number = element(0x00280008, "IS", str(frames))
        data = dicom_file(number + IMAGE, extra, encapsulated(fragments, offsets), transfer_syntax=JPEG_BASELINE)
        pixels = decode(encode(scan(data))).pixels
        assert pixels is not None
        self.assertEqual(len(pixels.blocks()), len(fragments) + 1)
        return [b"".join(data[at : at + size] for at, size in pixels.frame(frame)) for frame in range(frames)]

    def test_fragments(self) -> None:
        """One fragment per frame, all for one frame, or as the offset tables and ends of JPEG streams tell."""
        self.assertEqual(self._frames(2, [b"aa", b"bb"]), [b"aa", b"bb"])
        self.assertEqual(self._frames(1, [b"aa", b"bb"]), [b"aabb"])
        basic = struct.pack("<2I", 0, 20)
        self.assertEqual(self._frames(2, [b"aa", b"bb", b"cc"], basic), [b"aabb", b"cc"])
        extended = element(0x7FE00001, "OV", struct.pack("<2Q", 0, 10))
        self.assertEqual(self._frames(2, [b"aa", b"bb", b"cc"], extra=extended), [b"aa", b"bbcc"])
        jpeg = [b"aa", b"b\xff\xd9\0", b"c\0\xff\xd9"]
        self.assertEqual(self._frames(2, jpeg), [b"aab\xff\xd9\0", b"c\0\xff\xd9"])

    def test_lying_tables(self) -> None:
        """An offset table that points nowhere is not believed, and too many frames are empty."""
        self.assertEqual(self._frames(2, [b"aa", b"bb", b"cc"], struct.pack("<2I", 0, 7)), [b"aa", b"bbcc"])
        self.assertEqual(self._frames(3, [b"aa", b"bb"], b""), [b"aa", b"bb", b""])
        self.assertEqual(self._frames(2, []), [b"", b""])


class Refusals(SynchronousTestCase):
    """What is not stored, and with which code: as Orthanc does."""

    def _refused(self, data: bytes) -> None:
        self.assertRaises(BadFileFormat, scan, data)

    def test_no_dicom(self) -> None:
        """Nothing, text and noise raise BadFileFormat."""
        self._refused(b"")
        self._refused(b"hello world, this is no DICOM file at all\n" * 20)
        self._refused(b"\xff" * 500)
        self._refused(b"DICM" + meta()[132:] + identifiers() + uids())

    def test_truncated(self) -> None:
        """A file that ends anywhere within an element, a sequence or pixel data raises BadFileFormat."""
        whole = dicom_file(IMAGE)
        for missing in (1, 5, 9):
            self._refused(whole[:-missing])
        self._refused(dicom_file(element(0x7FE00010, "OW", b"\0" * 160))[:-100])
        part = sequence(REQUESTS, [element(STEP_DESCRIPTION, "LO", "a")], defined=False)
        self._refused(dicom_file(part[:-8]))
        pixels = encapsulated([b"\xff\xd8\xff\xd9", b"abcd"])
        for missing in (4, 8, 10):
            self._refused(dicom_file(pixels[:-missing], transfer_syntax=JPEG_BASELINE))
        self._refused(whole + b"\0\0\0\0")

    def test_lies(self) -> None:
        """A wrong transfer syntax, and lengths that pass their end, raise BadFileFormat."""
        self._refused(meta(EXPLICIT) + identifiers(False) + uids(False))
        self._refused(meta(IMPLICIT) + identifiers() + uids())
        self._refused(dicom_file(head(REQUESTS, "SQ", 10) + b"0123456789"))
        self._refused(dicom_file(head(REQUESTS, "SQ", 100) + item(b"")))
        inner = struct.pack("<HHI", 0xFFFE, 0xE000, 10) + head(STEP_DESCRIPTION, "LO", 20) + b"ab"
        self._refused(dicom_file(head(REQUESTS, "SQ", 18) + inner + element(0x00402001, "LO", "abcdefghijkl")))
        self._refused(dicom_file(element(0x7FE00010, "OW", b"\0" * 16), transfer_syntax=JPEG_BASELINE))

    def test_identifiers(self) -> None:
        """A missing UID raises InexistentTag, an empty one BadFileFormat; PatientID may be missing."""
        instance = element(0x00080018, "UI", "1.2.3.4")
        self.assertEqual(scan(meta() + instance + uids()).identifiers()[0], "")
        self.assertRaises(InexistentTag, scan(meta() + uids()).identifiers)
        self.assertRaises(InexistentTag, scan(meta() + instance).identifiers)
        self.assertRaises(BadFileFormat, scan(meta() + element(0x00080018, "UI", "") + uids()).identifiers)
        self.assertEqual(scan(dicom_file(patient="  ID ")).identifiers()[0], "  ID")


SAMPLES = [
    dicom_file(
        IMAGE,
        sequence(REQUESTS, [element(STEP_DESCRIPTION, "LO", "a"), b""], defined=False, items_defined=False),
        element(0x0040A730, "SQ", b""),
        element(0x00720074, "FD", b"\0" * 16),
        element(0x7FE00010, "OW", b"\0" * 16),
        charset="\\ISO 2022 IR 87",
    ),
    dicom_file(
        sequence(REQUESTS, [element(STEP_DESCRIPTION, "LO", "a", False)], explicit=False), transfer_syntax=IMPLICIT
    ),
    dicom_file(
        element(0x00280008, "IS", "2") + IMAGE, encapsulated([b"a" * 6, b"b" * 8]), transfer_syntax=JPEG_BASELINE
    ),
]
MUTATION = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6)
BOUNDED = settings(max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))


class Hostile(SynchronousTestCase):
    """Whatever the bytes: an answer or an OrthancError."""

    def _all(self, data: bytes) -> None:
        try:
            header = decode(encode(scan(data)))
            for form in TagFormat:
                tags(header, form, whole=True)
            for level in ResourceLevel:
                MainTags().values(header, level)
                search_tags(header, level)
            expected_number_of_instances(header)
            if header.pixels is not None:
                header.pixels.frame(0)
            header.identifiers()
        except OrthancError:
            pass

    @BOUNDED
    @given(st.sampled_from(SAMPLES), MUTATION, st.integers(0, 2000))
    def test_mutated_files(self, sample: bytes, changes: list[tuple[int, int]], cut: int) -> None:
        """Changed and cut files raise nothing else than OrthancError, in any step."""
        data = bytearray(sample)
        for position, value in changes:
            data[position % len(data)] = value
        self._all(bytes(data[: len(data) - cut % 300]))
        self._all(bytes(data))

    @BOUNDED
    @given(st.binary(max_size=300))
    def test_noise(self, noise: bytes) -> None:
        """Noise after a good start, or alone, raises nothing else than OrthancError."""
        self._all(noise)
        self._all(dicom_file() + noise)
        self._all(meta(IMPLICIT) + noise)

    def test_stored_form(self) -> None:
        """A damaged stored header raises CorruptedFile."""
        stored = encode(scan(dicom_file()))
        self.assertRaises(CorruptedFile, decode, stored[:-5])
        self.assertRaises(CorruptedFile, decode, b"")
        self.assertRaises(CorruptedFile, decode, zlib.compress(b"[1]"))
        self.assertRaises(CorruptedFile, decode, zlib.compress(b"[99,0]"))
