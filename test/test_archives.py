"""The bytes of archives: records of the ZIP format, places, names, and the DICOMDIR."""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from isal import isal_zlib
from pydicom import dcmread
from pydicom.dataset import Dataset
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from orthanctw.archives.directory import DirectoryWriter, Filed
from orthanctw.archives.layout import Layout, LayoutReader, Member
from orthanctw.archives.names import Unique, clean, file_names, folder
from orthanctw.archives.records import KEYS, record_type
from orthanctw.archives.selection import Group, Instance
from orthanctw.archives.streaming import Source, Stream, StreamReader
from orthanctw.archives.zipformat import Entry, central_size, dos_stamp, end_records, local_size
from orthanctw.dicom.header import encode
from orthanctw.dicom.scanner import scan
from orthanctw.errors import CorruptedFile, InexistentFile
from orthanctw.model import Attachment, Compression, Resource, ResourceLevel
from orthanctw.storage.filesystem import FilesystemStorage
from orthanctw.threads import NamedPool
from test.rest_samples import dicom_object, pixels

_GIGABYTE = 1 << 30


class ThreadlessStorage:
    """Runs what is for storage threads at once."""

    def call(self, function: Callable[..., object], *arguments: object) -> Deferred[Any]:
        return maybeDeferred(function, *arguments)

    def reader_blocking(self, attachment: Attachment, offset: int = 0, length: int | None = None) -> Any:
        raise InexistentFile()


def member(name: str, content: bytes = b"content", **values: Any) -> Member:
    known = {
        "name": name.encode("utf-8"),
        "stamp": dos_stamp("20240131T101112"),
        "size": len(content),
        "crc32": isal_zlib.crc32(content),
        "content": content,
    }
    return Member(**{**known, **values})


def whole(layout: Layout, offset: int = 0, length: int | None = None, step: int = 100_000) -> bytes:
    reader = LayoutReader(layout, ThreadlessStorage(), offset, length)  # type: ignore[arg-type]
    parts = []
    while reader.remaining:
        parts.append(reader.read_blocking(step))
    return b"".join(parts)


class ZipFormatTests(SynchronousTestCase):
    def test_large_members(self) -> None:
        """Sizes and places from 4 GB on have 64 bits; zipfile and zipinfo find everything."""
        path = Path(self.mktemp())
        layout = Layout(
            [
                member("a", size=5 * _GIGABYTE),
                member("b/c"),
                member("d", size=0x100000000),
                member("e", size=0xFFFFFFFE),
                member("f"),
            ],
            utf8=False,
        )
        borders = layout.borders()
        with path.open("wb") as file:
            # What is between is left out: the file is sparse.
            for number, start in enumerate(borders[:-1]):
                if layout.data_of(number) is None:
                    os.pwrite(file.fileno(), layout.record(number), start)
                elif layout.members[number // 2].size < 100:
                    os.pwrite(file.fileno(), b"content", start)
            file.truncate(layout.size)
        with zipfile.ZipFile(path) as archive:
            self.assertEqual([info.file_size for info in archive.infolist()], [m.size for m in layout.members])
            self.assertEqual((archive.read("b/c"), archive.read("f")), (b"content", b"content"))
        listed = subprocess.run(["/usr/bin/zipinfo", "-1", path], capture_output=True, check=True, text=True)
        self.assertEqual(listed.stdout.split(), ["a", "b/c", "d", "e", "f"])
        told = subprocess.run(["/usr/bin/unzip", "-p", path, "f"], capture_output=True, check=True)
        self.assertEqual(told.stdout, b"content")

    def test_every_record_fits_its_place(self) -> None:
        """Places are computed before records are made, and both agree, also around 4 GB."""
        for size in (0, 7, 0xFFFFFFFE, 0xFFFFFFFF, 0x100000000):
            for first in (0, 0xFFFFFF00, 0xFFFFFFFF - 31, 0xFFFFFFFF - 30, 0xFFFFFFFF):
                layout = Layout([member("x", size=first), member("y", size=size), member("z")], utf8=True)
                for number, (start, end) in enumerate(pairwise(layout.borders())):
                    if layout.data_of(number) is None:
                        self.assertEqual(len(layout.record(number)), end - start, (size, first, number))

    def test_many_members(self) -> None:
        """More than 65,535 members need a ZIP64 end, which zipfile and unzip read."""
        for count in (65_534, 65_535, 65_536):
            layout = Layout([member(str(number), b"") for number in range(count)], utf8=False)
            data = whole(layout)
            self.assertEqual(len(data), layout.size)
            self.assertEqual(b"PK\6\6" in data, count >= 65_535)
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                self.assertEqual(len(archive.namelist()), count)
        path = Path(self.mktemp())
        path.write_bytes(data)
        subprocess.run(["/usr/bin/unzip", "-tqq", path], check=True)

    def test_ranges(self) -> None:
        """A range that starts or ends at, before or after any border is that part of the whole."""
        layout = Layout([member("a", b""), member("ü"), member("c", b"x" * 30)], utf8=True)
        data = whole(layout)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.assertEqual(archive.namelist(), ["a", "ü", "c"])
            self.assertIsNone(archive.testzip())
        places = sorted({p + d for p in layout.borders() for d in (-1, 0, 1) if 0 <= p + d <= len(data)})
        for start in places:
            for end in places:
                if start <= end:
                    self.assertEqual(whole(layout, start, end - start, step=7), data[start:end])

    def test_empty(self) -> None:
        """An archive of nothing is one."""
        self.assertEqual(whole(Layout([], utf8=False)), end_records(0, 0, 0))
        self.assertEqual(zipfile.ZipFile(io.BytesIO(end_records(0, 0, 0))).namelist(), [])

    def test_same_bytes_same_digest(self) -> None:
        """The digest changes with any name, time, size or content."""
        layouts = [
            Layout([member("a")], utf8=False),
            Layout([member("a")], utf8=True),
            Layout([member("b")], utf8=False),
            Layout([member("a", b"CONTENT")], utf8=False),
            Layout([member("a", stamp=1)], utf8=False),
        ]
        self.assertEqual(len({layout.digest for layout in layouts}), len(layouts))
        self.assertEqual(layouts[0].digest, Layout([member("a")], utf8=False).digest)

    def test_times(self) -> None:
        """Times are those that ZIP can tell; others are its first day."""
        first = dos_stamp("")
        for text in ("x", "19700101T000000", "99991231T000000", "20240231T000000"):
            self.assertEqual(dos_stamp(text), first)
        self.assertLess(first, dos_stamp("20240131T101112"))

    def test_lengths_of_records(self) -> None:
        """Lengths are known without the records."""
        entry = Entry(name=b"name", utf8=False, stamp=0, crc32=0, size=1 << 33, compressed_size=1 << 33, large=True)
        self.assertEqual(len(entry.local()), local_size(b"name", True))
        self.assertEqual(len(entry.central(1 << 34)), central_size(b"name", 1 << 33, 1 << 34))


class FileTests(TestCase):
    """Members that lie in the storage area."""

    async def setUp(self) -> None:
        self.pool = NamedPool(reactor, "storage", 1)  # type: ignore[arg-type]
        self.pool.start()
        self.storage = FilesystemStorage(self.mktemp(), self.pool)
        await self.storage.open()

    async def tearDown(self) -> None:
        await self.storage.close()
        await self.pool.stop()

    async def layout(self, *contents: bytes) -> Layout:
        members = []
        for number, content in enumerate(contents):
            stored = await self.storage.create(content, 1, Compression(1 + number % 2))
            members.append(
                member(str(number), size=stored.size, crc32=stored.crc32, content=b"", attachment=stored)
            )
        return Layout(members, utf8=False)

    async def read(self, reader: Any, step: int) -> bytes:
        parts = []
        while reader.remaining:
            parts.append(await reader.read(step))
        reader.close()
        return b"".join(parts)

    async def test_ranges(self) -> None:
        """Plain and compressed files are read from any place, without those before."""
        layout = await self.layout(b"a" * 1000, os.urandom(500), b"", b"bc" * 300)
        data = await self.read(LayoutReader(layout, self.storage), 333)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            self.assertEqual([archive.read(name) for name in archive.namelist()][::3], [b"a" * 1000, b"bc" * 300])
        for start in layout.borders():
            for distance in (-1, 0, 1, 100):
                if 0 <= start + distance <= len(data):
                    reader = LayoutReader(layout, self.storage, start + distance, 400)
                    self.assertEqual(await self.read(reader, 99), data[start + distance :][:400])
        for number in range(3):
            os.unlink(self.storage.path(layout.members[number].attachment.uuid))  # type: ignore[union-attr]
        start = layout.borders()[6]
        self.assertEqual(await self.read(LayoutReader(layout, self.storage, start), 1 << 20), data[start:])

    async def test_damage(self) -> None:
        """A file that is gone, shorter or another one fails the reading; other bytes of it do not matter."""
        for damage, error in (
            (os.unlink, InexistentFile),
            (lambda path: os.truncate(path, 100), CorruptedFile),
            (lambda path: Path(path).write_bytes(b"b" * 1000), CorruptedFile),
        ):
            layout = await self.layout(b"a" * 1000, b"c")
            damage(self.storage.path(layout.members[0].attachment.uuid))  # type: ignore[operator, union-attr]
            reader = LayoutReader(layout, self.storage)
            with self.assertRaises(error):
                await self.read(reader, 1 << 20)
            reader.close()
            await self.read(LayoutReader(layout, self.storage, layout.borders()[2]), 1 << 20)

    async def test_closing(self) -> None:
        """A reader that is closed, also while it is read, holds no file; who asked is told once how far it came."""
        layout = await self.layout(b"a" * 1000)
        told: list[bool] = []
        for read in (0, 100, layout.size):
            reader = LayoutReader(layout, self.storage, ended=told.append)
            if read:
                await reader.read(read)
            reader.close()
            reader.close()
        self.assertEqual(told, [False, True])
        reader = LayoutReader(layout, self.storage)
        reading = reader.read(100)
        reader.close()
        self.assertEqual(len(await reading), 100)
        held = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        path = self.storage.path(layout.members[0].attachment.uuid)  # type: ignore[union-attr]
        self.assertNotIn(os.path.realpath(path), held)

    def stream(self, contents: Iterable[bytes], *, deflate: bool) -> Stream:
        async def sources() -> AsyncGenerator[Source, None]:
            for number, content in enumerate(contents):
                yield Source(name=str(number).encode(), stamp=dos_stamp(""), open=self._opened(content))

        return Stream(sources, self.storage, utf8=False, deflate=deflate)

    def _opened(self, content: bytes) -> Any:
        async def opened() -> tuple[Any, int | None]:
            if content.startswith(b"file"):
                stored = await self.storage.create(content, 1, Compression.NONE)
                return self.storage.reader_blocking(stored), stored.crc32
            return content, None

        return opened

    async def test_streams(self) -> None:
        """What is made on the way is the same in the end, stored or deflated, in steps of any size."""
        contents = [b"", b"in memory" * 500_000, b"file", b"file" * 700_000]
        for deflate in (False, True):
            for step in (1000, 10 << 20):
                reader = StreamReader(self.stream(contents, deflate=deflate))
                self.assertEqual(reader.remaining, -1)
                data = await self.read(reader, step)
                self.assertEqual(reader.remaining, 0)
                with zipfile.ZipFile(io.BytesIO(data)) as archive:
                    self.assertEqual([archive.read(name) for name in archive.namelist()], contents)
                path = Path(self.mktemp())
                path.write_bytes(data)
                subprocess.run(["/usr/bin/unzip", "-tqq", path], check=True)
                self.assertEqual(len(data) < 100_000, deflate)

    async def test_stream_is_left(self) -> None:
        """A stream that nobody reads any more lets its sources go, also when it is at work."""
        for wait in (False, True):
            left: list[str] = []

            async def sources(left: list[str] = left) -> AsyncGenerator[Source, None]:
                try:
                    yield Source(name=b"x", stamp=0, open=self._opened(b"file" * 1_000_000))
                finally:
                    left.append("left")

            told: list[bool] = []
            reader = StreamReader(Stream(sources, self.storage, utf8=False, deflate=False), told.append)
            reading = reader.read(100)
            if wait:
                await reading
            reader.close()
            if not wait:
                await reading
            self.assertEqual((left, told), (["left"], [False] if wait else []))

    async def test_stream_fails(self) -> None:
        """A failure in the middle is the failure of the reading."""

        async def sources() -> AsyncGenerator[Source, None]:
            yield Source(name=b"x", stamp=0, open=self._opened(b"abc"))
            raise InexistentFile()

        reader = StreamReader(Stream(sources, self.storage, utf8=False, deflate=False))
        with self.assertRaises(InexistentFile):
            await self.read(reader, 10)
        reader.close()


class NameTests(SynchronousTestCase):
    def test_clean(self) -> None:
        """What file systems refuse becomes one space, what is not ASCII goes unless names are UTF-8."""
        for text, expected, utf8 in (
            ("DOE^JOHN", "DOE JOHN", "DOE JOHN"),
            ('a\\b/c:d*e?f"g<h>i|j', "a b c d e f g h i j", "a b c d e f g h i j"),
            ("  a \t\r\n b\0c\x7f\x85 ", "a b c", "a b c"),
            ("MÜLLER^Änne", "MLLER nne", "MÜLLER Änne"),
            ("山田^太郎", "", "山田 太郎"),
            ("^^ ^", "", ""),
            ("", "", ""),
            (".", "", ""),
            (". .. .", "", ""),
            ("a..b", "a..b", "a..b"),
            ("a\u2028b\ud800c", "abc", "a b c"),
        ):
            self.assertEqual((clean(text, utf8=False), clean(text, utf8=True)), (expected, utf8), ascii(text))

    def test_folder(self) -> None:
        """Missing parts go together with their separators."""
        for parts, expected in (
            (("P1", "DOE^JOHN"), "P1 - DOE JOHN"),
            (("", "DOE^JOHN"), "DOE JOHN"),
            (("P1", "^"), "P1"),
            (("", ""), "Unknown"),
            (("..", "/"), "Unknown"),
            (("1", "CT", "AXIAL"), "1 - CT - AXIAL"),
            (("1", "", "AXIAL"), "1 - AXIAL"),
        ):
            self.assertEqual(folder(parts, "Unknown", utf8=False), expected)

    def test_unique(self) -> None:
        """A name that is taken gets the next number, and never one that is a name itself."""
        unique = Unique()
        names = [unique.take(name) for name in ("a", "b", "a", "a-3", "a", "a", "b")]
        self.assertEqual(names, ["a", "b", "a-2", "a-3", "a-4", "a-5", "b-2"])

    def test_file_names(self) -> None:
        """Letters of the modality, and the InstanceNumber where it is unique."""
        for modality, numbers, expected in (
            ("CT", [1, 2], ["CT000001.dcm", "CT000002.dcm"]),
            ("m", [5], ["M0000005.dcm"]),
            ("", [5], ["00000005.dcm"]),
            ("RTSTRUCT", [None], ["RT000000.dcm"]),
            ("é1", [12_345_678_901], ["12345678901.dcm"]),
            ("CT", [7, 7, 0, None, -3], [f"CT00000{number}.dcm" for number in (1, 2, 0, 3, 4)]),
        ):
            self.assertEqual(file_names(modality, numbers), expected)


def resource(level: ResourceLevel, public_id: str) -> Resource:
    return Resource(
        internal_id=1, level=level, public_id=public_id, parent_id=None, main_tags={}, metadata={}
    )


def _referenced() -> Dataset:
    """A series with an image that a presentation state is about."""
    image, series = Dataset(), Dataset()
    image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    series.SeriesInstanceUID, series.ReferencedImageSequence = "1.2", [image]
    return series


#: SOP classes with records of their own, with what their objects must have.
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "1.2.840.10008.5.1.4.1.1.2": ("IMAGE", pixels(2, 2)),
    "1.2.840.10008.5.1.4.1.1.7": ("IMAGE", pixels(2, 2)),
    "1.2.840.10008.5.1.4.1.1.481.1": ("IMAGE", pixels(2, 2)),
    "1.2.840.10008.5.1.4.1.1.481.2": ("RT DOSE", {"DoseSummationType": "PLAN"}),
    "1.2.840.10008.5.1.4.1.1.481.3": ("RT STRUCTURE SET", {"StructureSetLabel": "L"}),
    "1.2.840.10008.5.1.4.1.1.481.5": ("RT PLAN", {"RTPlanLabel": "L"}),
    "1.2.840.10008.5.1.4.1.1.481.9": ("RT TREAT RECORD", {}),
    "1.2.840.10008.5.1.4.1.1.11.1": ("PRESENTATION", {"ReferencedSeriesSequence": [_referenced()]}),
    "1.2.840.10008.5.1.4.1.1.9.1.1": ("WAVEFORM", {"ContentDate": "20240101", "ContentTime": "10"}),
    "1.2.840.10008.5.1.4.1.1.88.11": ("SR DOCUMENT", {"CompletionFlag": "COMPLETE"}),
    "1.2.840.10008.5.1.4.1.1.88.59": ("KEY OBJECT DOC", {}),
    "1.2.840.10008.5.1.4.1.1.66": ("RAW DATA", {}),
    "1.2.840.10008.5.1.4.1.1.66.1": ("REGISTRATION", {}),
    "1.2.840.10008.5.1.4.1.1.104.1": ("ENCAP DOC", {"MIMETypeOfEncapsulatedDocument": "application/pdf"}),
    "1.2.840.10008.5.1.4.1.1.67": ("VALUE MAP", {}),
    "1.2.3.4.5": ("IMAGE", {}),
}


class DirectoryTests(SynchronousTestCase):
    def write(self, *, extended: bool, **values: Any) -> Path:
        """A DICOMDIR with an object of each class, two patients, and as many series as instances."""
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113000", "DCM", "Of Interest"
        writer = DirectoryWriter(extended=extended)
        for number, (sop_class, (_, more)) in enumerate(CLASSES.items()):
            patient = "P1" if number < 5 else "P2"
            data = dicom_object(
                patient,
                **{"SOPClassUID": sop_class, "ConceptNameCodeSequence": [code], **more, **values},  # type: ignore[arg-type]
            )
            self.add(writer, patient, number, sop_class, data)
        path = Path(self.mktemp())
        path.mkdir()
        (path / "DICOMDIR").write_bytes(writer.finish())
        return path / "DICOMDIR"

    def add(self, writer: DirectoryWriter, patient: str, number: int, sop_class: str, data: bytes) -> None:
        attachment = Attachment(content_type=1, uuid="u", size=1, md5="", compressed_size=1, compressed_md5="")
        instance = Instance(
            public_id=f"i{number}",
            number=number,
            received="",
            sop_class_uid=sop_class,
            sop_instance_uid=f"1.2.{number}",
            transfer_syntax="1.2.840.10008.1.2.1",
            attachment=attachment,
        )
        group = Group(
            patient=resource(ResourceLevel.PATIENT, patient),
            study=resource(ResourceLevel.STUDY, patient),
            series=resource(ResourceLevel.SERIES, f"s{number}"),
            instances=[instance],
        )
        file = Filed(
            number=number,
            instance=instance,
            sop_instance_uid=instance.sop_instance_uid,
            transfer_syntax=instance.transfer_syntax,
        )
        writer.add(group, [file], {instance.public_id: encode(scan(data))})

    def verify(self, path: Path) -> None:
        """dciodvfy finds no error, dcmdump and pydicom read all records."""
        told = subprocess.run(["/usr/bin/dciodvfy", path], capture_output=True, text=True, check=False)
        errors = [line for line in told.stderr.splitlines() if line.startswith("Error")]
        self.assertEqual(errors, [])
        self.assertIn("BasicDirectory", told.stderr)
        dumped = subprocess.run(["/usr/bin/dcmdump", path], capture_output=True, encoding="latin-1", check=True)
        self.assertEqual(dumped.stderr, "")
        self.assertEqual(dumped.stdout.count('"Directory Record" IMAGE'), 4)

    def test_verified(self) -> None:
        """All kinds of records hold what they must, extended ones too."""
        for extended in (False, True):
            self.verify(self.write(extended=extended))

    def test_objects_that_lack_things(self) -> None:
        """Values that records must have are made up where objects have none."""
        empty = ("PatientID", "PatientName", "StudyID", "StudyDate", "StudyTime", "SeriesNumber", "InstanceNumber")
        for extended in (False, True):
            self.verify(self.write(extended=extended, **dict.fromkeys(empty, "")))

    def test_old_dates_and_verified_reports(self) -> None:
        """Dates of ACR-NEMA lose their separators; a verified report tells when it was verified."""
        observer = Dataset()
        observer.VerificationDateTime = "20240102030405"
        values = {"VerificationFlag": "VERIFIED", "VerifyingObserverSequence": [observer]}
        path = self.write(extended=False, StudyDate="1997.04.24", StudyTime="14:04:38", **values)
        self.verify(path)
        self.assertIn(b"19970424", path.read_bytes())
        self.assertIn(b"20240102030405", path.read_bytes())

    def test_hierarchy(self) -> None:
        """Records lie where the offsets say: those of a level follow each other, the first one below is found."""
        path = self.write(extended=True, PatientName="MÜLLER^ANNA")
        directory = dcmread(path)
        records = {record.seq_item_tell: record for record in directory.DirectoryRecordSequence}

        def chain(offset: int) -> Iterator[Dataset]:
            while offset:
                yield records[offset]
                offset = records[offset].OffsetOfTheNextDirectoryRecord

        patients = list(chain(directory.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity))
        last = records[directory.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity]
        self.assertEqual([patient.PatientID for patient in patients], ["P1", "P2"])
        self.assertIs(last, patients[-1])
        self.assertEqual({str(patient.PatientName) for patient in patients}, {"MÜLLER^ANNA"})
        found = []
        for patient in patients:
            (study,) = chain(patient.OffsetOfReferencedLowerLevelDirectoryEntity)
            for series in chain(study.OffsetOfReferencedLowerLevelDirectoryEntity):
                (instance,) = chain(series.OffsetOfReferencedLowerLevelDirectoryEntity)
                found.append((instance.DirectoryRecordType, list(instance.ReferencedFileID)))
        expected = [(kind, ["IMAGES", f"IM{number}"]) for number, (kind, _) in enumerate(CLASSES.values())]
        self.assertEqual(found, expected)
        self.assertEqual(len(records), 2 + 2 + 2 * len(CLASSES))

    def test_character_sets(self) -> None:
        """Text is in the character set of its object."""
        path = self.write(extended=False, SpecificCharacterSet="ISO_IR 100", PatientName="MÜLLER")
        self.assertIn("MÜLLER".encode("latin-1"), path.read_bytes())
        self.assertNotIn("MÜLLER".encode(), path.read_bytes())

    def test_same_bytes(self) -> None:
        """The same content gives the same bytes; nothing gives a directory of nothing."""
        self.assertEqual(self.write(extended=True).read_bytes(), self.write(extended=True).read_bytes())
        path = Path(self.mktemp())
        path.write_bytes(DirectoryWriter(extended=False).finish())
        subprocess.run(["/usr/bin/dcmdump", path], capture_output=True, check=True)

    def test_types(self) -> None:
        """Every class has a type that has keys."""
        for sop_class, (kind, _) in CLASSES.items():
            self.assertEqual(record_type(sop_class), kind)
            self.assertIn(kind, KEYS)


