"""Raw access to the elements of a file."""

from __future__ import annotations

import struct
import zlib

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.content import ByteRange, Children, InlineValue, resolve
from orthanctw.dicom.scanner import scan
from orthanctw.errors import EmptyAnswer, OrthancError, UnknownDicomTag
from test.dicom_files import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    JPEG_BASELINE,
    dicom_file,
    element,
    encapsulated,
    identifiers,
    meta,
    sequence,
    uids,
)


def _nested(explicit: bool = True, defined: bool = True) -> bytes:
    inner = sequence(
        0x0040A043, [element(0x00080100, "SH", "code ", explicit)], explicit, defined, items_defined=defined
    )
    items = [inner + element(0x0040A160, "UT", "text", explicit), b""]
    return sequence(0x0040A730, items, explicit, defined, items_defined=defined)


class Resolve(SynchronousTestCase):
    """Paths of tags and indexes lead to children or to bytes."""

    def _bytes(self, data: bytes, syntax: str, path: str) -> bytes:
        found = resolve(data, syntax, [part for part in path.split("/") if part])
        if isinstance(found, InlineValue):
            return found.value
        assert isinstance(found, ByteRange)
        return found.little_endian(data[found.offset : found.offset + found.length])

    def _names(self, data: bytes, syntax: str, path: str) -> tuple[str, ...]:
        found = resolve(data, syntax, [part for part in path.split("/") if part])
        assert isinstance(found, Children)
        return found.names

    def test_paths(self) -> None:
        """The data set, sequences, items and values, in either encoding and with either kind of length."""
        for syntax in (EXPLICIT, IMPLICIT):
            for defined in (True, False):
                data = dicom_file(_nested(syntax == EXPLICIT, defined), transfer_syntax=syntax)
                self.assertEqual(self._names(data, syntax, "")[-1], "0040-a730")
                self.assertEqual(self._names(data, syntax, "0040-a730"), ("0", "1"))
                self.assertEqual(self._names(data, syntax, "ContentSequence/0"), ("0040-a043", "0040-a160"))
                self.assertEqual(self._names(data, syntax, "0040-a730/1"), ())
                self.assertEqual(self._bytes(data, syntax, "0040-a730/0/0040,a160"), b"text")
                self.assertEqual(self._bytes(data, syntax, "0040-a730/0/0040-a043/0/CodeValue"), b"code  ")
                self.assertEqual(self._bytes(data, syntax, "PatientID"), b"ID")

    def test_missing(self) -> None:
        """A missing tag or index, and a path that goes on after a value, answer 404; a bad name UnknownDicomTag."""
        data = dicom_file(_nested(), element(0x7FE00010, "OW", b"\0" * 16))
        for path in (
            "0099-0099",
            "PatientID/0",
            "0040-a730/2",
            "0040-a730/x",
            "0040-a730/-1",
            "0040-a730/0/0040-a043/1",
            "7fe0-0010/1",
            "7fe0-0010/0/0",
        ):
            error = self.assertRaises(EmptyAnswer, resolve, data, EXPLICIT, path.split("/"))
            self.assertEqual(error.http_status, 404)
        self.assertRaises(UnknownDicomTag, resolve, data, EXPLICIT, ["nope"])

    def test_pixel_data(self) -> None:
        """Native pixel data is one block; encapsulated the offset table and the fragments."""
        data = dicom_file(element(0x7FE00010, "OW", b"ab" * 8))
        self.assertEqual(self._names(data, EXPLICIT, "PixelData"), ("0",))
        self.assertEqual(self._bytes(data, EXPLICIT, "PixelData/0"), b"ab" * 8)
        data = dicom_file(encapsulated([b"aaaa", b"bb"]), transfer_syntax=JPEG_BASELINE)
        self.assertEqual(self._names(data, JPEG_BASELINE, "PixelData"), ("0", "1", "2"))
        blocks = [self._bytes(data, JPEG_BASELINE, f"PixelData/{index}") for index in range(3)]
        self.assertEqual(blocks, [b"", b"aaaa", b"bb"])
        pixels = scan(data).pixels
        assert pixels is not None
        self.assertEqual([data[at : at + size] for at, size in pixels.blocks()], blocks)

    def test_deflated_and_big_endian(self) -> None:
        """Values of a deflated data set are given themselves; big endian numbers are swapped."""
        deflater = zlib.compressobj(wbits=-15)
        data = meta(DEFLATED) + deflater.compress(identifiers() + uids()) + deflater.flush()
        self.assertEqual(self._bytes(data, DEFLATED, "PatientID"), b"ID")
        swapped = meta(BIG_ENDIAN) + struct.pack(">HH2sH", 0x28, 0x10, b"US", 4) + b"\1\2\3\4"
        self.assertEqual(self._bytes(swapped, BIG_ENDIAN, "Rows"), b"\2\1\4\3")

    def test_unknown_sequence(self) -> None:
        """A UN of undefined length is walked as a sequence with implicit VRs."""
        part = sequence(0x00400275, [element(0x00400007, "LO", "ab", False)], defined=False, vr="UN")
        data = dicom_file(part, element(0x00400555, "LO", "after"))
        self.assertEqual(self._bytes(data, EXPLICIT, "0040-0275/0/0040-0007"), b"ab")
        self.assertEqual(self._names(data, EXPLICIT, "")[-1], "0040-0555")

    @settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=5),
        st.booleans(),
        st.sampled_from(["", "0040-a730", "0040-a730/0/0040-a160", "0040-a730/0/0040-a043/0", "7fe0-0010/1"]),
    )
    def test_hostile(self, changes: list[tuple[int, int]], defined: bool, path: str) -> None:
        """Changed files raise nothing else than OrthancError, and ranges lie within the file."""
        data = bytearray(dicom_file(_nested(defined=defined), encapsulated([b"ab"]), transfer_syntax=JPEG_BASELINE))
        for position, value in changes:
            data[position % len(data)] = value
        try:
            found = resolve(bytes(data), JPEG_BASELINE, [part for part in path.split("/") if part])
        except OrthancError:
            return
        if isinstance(found, ByteRange):
            self.assertLessEqual(found.offset + found.length, len(data))
