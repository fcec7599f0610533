"""What is inside an instance, over HTTP: tags in all formats, raw elements, the file."""

from __future__ import annotations

import hashlib
import io

from pydicom import dcmread, dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian

from test.dicom_files import JPEG_BASELINE, dicom_file, encapsulated
from test.dicom_files import element as element_of
from test.rest_samples import IMAGE_CLASS, NOBODY, RestCase, dicom_object, item, pixels


def _nested() -> dict[str, object]:
    deepest = item(CodeValue="C", CodeMeaning="Meaning")
    inner = [item(ReferencedSOPInstanceUID="1.9", PurposeOfReferenceCodeSequence=Sequence([deepest]))]
    outer = [item(ReferencedSOPClassUID="1.8"), item(SourceImageSequence=Sequence(inner))]
    return {"ReferencedImageSequence": Sequence(outer), "ReferencedStudySequence": Sequence([])}


class TagsTests(RestCase):
    """``tags``, ``simplified-tags`` and ``header``."""

    async def setUp(self) -> None:
        await super().setUp()
        data = dicom_object(
            ImageComments="é" * 100,
            PatientComments="x" * 257,
            AdditionalPatientHistory="x" * 256,
            OtherPatientIDs=["a", "b"],
            AcquisitionTime="",
            **_nested(),
            **pixels(4, 4),
        )
        self.path = f"/instances/{(await self.client.store(data))['ID']}"

    async def test_full(self) -> None:
        """The full format names the tag, its kind and value."""
        tags = await self.client.json(f"{self.path}/tags")
        for key, name, kind, value in (
            ("0010,0010", "PatientName", "String", "DOE^JOHN"),
            ("0010,1000", "OtherPatientIDs", "String", "a\\b"),
            ("0008,0032", "AcquisitionTime", "String", ""),
            ("0020,4000", "ImageComments", "String", "é" * 100),
            ("0010,21b0", "AdditionalPatientHistory", "String", "x" * 256),
            ("0010,4000", "PatientComments", "TooLong", None),
            ("7fe0,0010", "PixelData", "Null", None),
            ("0008,1110", "ReferencedStudySequence", "Sequence", []),
            ("0028,0010", "Rows", "String", "4"),
        ):
            self.assertEqual(tags[key], {"Name": name, "Type": kind, "Value": value})
        self.assertEqual(
            tags["0008,1140"]["Value"][0],
            {"0008,1150": {"Name": "ReferencedSOPClassUID", "Type": "String", "Value": "1.8"}},
        )
        self.assertNotIn("0002,0010", tags)

    async def test_short_and_simple(self) -> None:
        """Bare values, by number or keyword; simplify before short before full."""
        short = await self.client.json(f"{self.path}/tags?short")
        self.assertEqual((short["0010,0020"], short["7fe0,0010"], short["0010,4000"]), ("P1", None, None))
        self.assertEqual(short["0008,1140"][0], {"0008,1150": "1.8"})
        simple = await self.client.json(f"{self.path}/simplified-tags")
        self.assertEqual(simple["ReferencedImageSequence"][0], {"ReferencedSOPClassUID": "1.8"})
        self.assertEqual(
            simple["ReferencedImageSequence"][1]["SourceImageSequence"][0]["PurposeOfReferenceCodeSequence"],
            [{"CodeMeaning": "Meaning", "CodeValue": "C"}],
        )
        full = await self.client.json(f"{self.path}/tags")
        for query, expected in (
            ("simplify", simple),
            ("short&simplify", simple),
            ("full&short", short),
            ("full", full),
            ("short=0", short),
        ):
            self.assertEqual(await self.client.json(f"{self.path}/tags?{query}"), expected, query)

    async def test_ignore_length(self) -> None:
        """Long texts are shown when they are named."""
        for route in ("tags?short&", "simplified-tags?"):
            tags = await self.client.json(f"{self.path}/{route}ignore-length=PatientComments,0010-0010")
            self.assertEqual(tags.get("0010,4000", tags.get("PatientComments")), "x" * 257)
        answer = await self.client.get(f"{self.path}/tags?ignore-length=Nothing")
        self.assertEqual((answer.status, answer.json()["OrthancStatus"]), (400, 27))

    async def test_whole(self) -> None:
        """What follows the pixels is shown on demand only."""
        tail = element_of(0x7FE20010, "LO", "AFTER") + element_of(0x7FE21001, "LO", "late")
        stored = await self.client.store(dicom_file(element_of(0x7FE00010, "OB", b"\1\2"), tail))
        path = f"/instances/{stored['ID']}/tags"
        self.assertNotIn("7fe2,1001", await self.client.json(path))
        self.assertIn("7fe2,1001", await self.client.json(f"{path}?whole"))
        self.assertIn("7fe2,1001", await self.client.json(f"{path}?whole=1&short"))
        self.assertError(await self.client.get(f"{path}?whole=x"), 400, 3)

    async def test_header(self) -> None:
        """Group 0002, in the same formats."""
        header = await self.client.json(f"{self.path}/header")
        self.assertEqual(
            header["0002,0010"], {"Name": "TransferSyntaxUID", "Type": "String", "Value": "1.2.840.10008.1.2.1"}
        )
        self.assertTrue(all(tag.startswith("0002,") for tag in header))
        self.assertEqual((await self.client.json(f"{self.path}/header?short"))["0002,0002"], IMAGE_CLASS)
        self.assertIn("TransferSyntaxUID", await self.client.json(f"{self.path}/header?simplify"))

    async def test_frames(self) -> None:
        """Numbers of frames from 0; an object without pixels has one too."""
        self.assertEqual(await self.client.json(f"{self.path}/frames"), [0])
        many = dicom_object(sop="1.2.1.1.7", NumberOfFrames="3", **pixels(3, 2))
        frames = await self.client.json(f"/instances/{(await self.client.store(many))['ID']}/frames")
        self.assertEqual(frames, [0, 1, 2])
        empty = await self.client.store(dicom_object(sop="1.2.1.1.8"))
        self.assertEqual(await self.client.json(f"/instances/{empty['ID']}/frames"), [0])

    async def test_unknown(self) -> None:
        """An unknown instance is an error with a body."""
        for route in ("tags", "simplified-tags", "header", "frames", "content", "file", "content/PatientID"):
            self.assertError(await self.client.get(f"/instances/{NOBODY}/{route}"), 404, 17)


class RawTests(RestCase):
    """``/content``."""

    async def setUp(self) -> None:
        await super().setUp()
        data = dicom_object(ImageComments="odd", **_nested(), **pixels(3, 5))
        self.path = f"/instances/{(await self.client.store(data))['ID']}/content"

    async def test_list(self) -> None:
        """The data set is a list of tags, without group 0002."""
        tags = await self.client.json(self.path)
        self.assertEqual(tags, sorted(tags))
        self.assertEqual(tags[0], "0008-0005")
        self.assertIn("7fe0-0010", tags)
        self.assertEqual(await self.client.json(f"{self.path}/"), tags)

    async def test_values(self) -> None:
        """Bytes of an element, padding included, however the tag is written."""
        for tag in ("ImageComments", "0020-4000", "0020,4000", "00204000", "0020%2C4000"):
            answer = await self.client.get(f"{self.path}/{tag}")
            self.assertEqual((answer.status, answer.body), (200, b"odd "), tag)
            self.assertEqual(answer.headers["content-type"], "application/octet-stream")
        self.assertEqual((await self.client.get(f"{self.path}/SOPInstanceUID")).body, b"1.2.1.1.1\0")
        self.assertEqual((await self.client.get(f"{self.path}/Rows")).body, b"\3\0")

    async def test_sequences(self) -> None:
        """Items by number and elements by tag, to any depth."""
        path = f"{self.path}/ReferencedImageSequence"
        self.assertEqual(await self.client.json(path), ["0", "1"])
        self.assertEqual(await self.client.json(f"{path}/0"), ["0008-1150"])
        self.assertEqual((await self.client.get(f"{path}/0/0008-1150")).body, b"1.8\0")
        deep = f"{path}/1/SourceImageSequence/0/PurposeOfReferenceCodeSequence"
        self.assertEqual(await self.client.json(deep), ["0"])
        self.assertEqual(await self.client.json(f"{deep}/0"), ["0008-0100", "0008-0104"])
        self.assertEqual((await self.client.get(f"{deep}/0/CodeMeaning/")).body, b"Meaning ")
        self.assertEqual(await self.client.json(f"{self.path}/ReferencedStudySequence"), [])

    async def test_native_pixels(self) -> None:
        """Pixels that are not compressed are one block."""
        self.assertEqual(await self.client.json(f"{self.path}/PixelData"), ["0"])
        self.assertEqual((await self.client.get(f"{self.path}/7fe0-0010/0")).body, b"\7" * 15 + b"\0")
        large = dicom_object(sop="1.2.1.1.2", **pixels(2000, 1000))
        path = f"/instances/{(await self.client.store(large))['ID']}/content/7fe0-0010/0"
        self.assertEqual((await self.client.get(path)).body, b"\7" * 2_000_000)
        self.assertEmpty(await self.client.get(f"{self.path}/7fe0-0010/1"), 404)

    async def test_big_endian(self) -> None:
        """Numbers of a big endian file are given in little endian, texts as they are."""
        little = dcmread(io.BytesIO(dicom_object(sop="1.2.1.1.2", ImageComments="odd", **pixels(2, 3))))
        little.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        little["PixelData"].VR = "OB"
        buffer = io.BytesIO()
        dcmwrite(buffer, little, implicit_vr=False, little_endian=False)
        path = f"/instances/{(await self.client.store(buffer.getvalue()))['ID']}/content"
        for tag, expected in (("Columns", b"\3\0"), ("ImageComments", b"odd "), ("7fe0-0010/0", b"\7" * 6)):
            self.assertEqual((await self.client.get(f"{path}/{tag}")).body, expected)

    async def test_fragments(self) -> None:
        """Compressed pixels are an offset table and fragments."""
        fragments = [b"\xff\xd8one\xff\xd9", b"two!"]
        data = dicom_file(encapsulated(fragments, offsets=b"\0\0\0\0"), transfer_syntax=JPEG_BASELINE)
        path = f"/instances/{(await self.client.store(data))['ID']}/content/PixelData"
        self.assertEqual(await self.client.json(path), ["0", "1", "2"])
        bodies = [(await self.client.get(f"{path}/{number}")).body for number in range(3)]
        self.assertEqual(bodies[0], b"\0\0\0\0")
        self.assertEqual([body.rstrip(b"\0") for body in bodies[1:]], fragments)
        self.assertEmpty(await self.client.get(f"{path}/3"), 404)

    async def test_nothing_there(self) -> None:
        """Absent tags, items and children of values have no answer."""
        for path in (
            "0008-0099",
            "PatientID/0",
            "ReferencedImageSequence/2",
            "ReferencedImageSequence/x",
            "ReferencedImageSequence/-1",
            "ReferencedImageSequence/0/PatientID",
            f"ReferencedImageSequence/{'9' * 3000}",
            "ReferencedImageSequence/0/0008-1150/0",
            "7fe0-0010/x",
            "/".join(["ReferencedImageSequence", "0"] * 200),
        ):
            answer = await self.client.get(f"{self.path}/{path}")
            self.assertEqual(answer.status // 100, 4, path[:50])

    async def test_unknown_tag(self) -> None:
        """A tag that does not exist is the caller's mistake."""
        for tag in ("Nothing", "zzzz-zzzz", "%ff", "0010-00100", "ReferencedImageSequence/0/Nothing"):
            answer = await self.client.get(f"{self.path}/{tag}")
            self.assertEqual((answer.status, answer.json()["OrthancStatus"]), (400, 27), tag)


class FileTests(RestCase):
    """The file, whole and in part."""

    async def setUp(self) -> None:
        await super().setUp()
        self.data = dicom_object(ImageComments="comment", **pixels(200, 300))
        self.public_id = (await self.client.store(self.data))["ID"]
        self.paths = (f"/instances/{self.public_id}/file", f"/instances/{self.public_id}/attachments/dicom/data")

    async def test_whole(self) -> None:
        """The file comes byte for byte, under a name."""
        answer = await self.client.get(self.paths[0])
        self.assertEqual((answer.status, answer.body), (200, self.data))
        self.assertEqual(answer.headers["content-type"], "application/dicom")
        self.assertEqual(answer.headers["content-length"], str(len(self.data)))
        self.assertEqual(answer.headers["content-disposition"], f'filename="{self.public_id}.dcm"')

    async def test_name(self) -> None:
        """The name is the caller's choice, and cannot leave its header."""
        for path in self.paths:
            answer = await self.client.get(path, filename='a"b\r\nX-Evil: 1')
            self.assertEqual(answer.headers["content-disposition"], 'filename="abX-Evil: 1"')
            self.assertNotIn("x-evil", answer.headers)
            self.assertEqual((await self.client.get(path, filename="Ω")).status, 200)

    async def test_ranges(self) -> None:
        """Parts of the file, the end may be open or beyond the file."""
        size = len(self.data)
        for path in self.paths:
            for span, first, last in (
                ("0-0", 0, 0),
                ("10-19", 10, 19),
                ("10-", 10, size - 1),
                (f"{size - 1}-", size - 1, size - 1),
                (f"5-{size * 2}", 5, size - 1),
                ("-10", 0, 10),
                ("0-99999999999999999999999", 0, size - 1),
            ):
                answer = await self.client.ask("GET", path, headers={"Range": f"bytes={span}"})
                self.assertEqual((answer.status, answer.body), (206, self.data[first : last + 1]), span)
                self.assertEqual(answer.headers["content-range"], f"bytes {first}-{last}/{size}")
                self.assertEqual(answer.headers["content-type"], "application/octet-stream")
                self.assertEqual(answer.headers["content-length"], str(last + 1 - first))

    async def test_bad_ranges(self) -> None:
        """A start beyond the end, and what is no range."""
        size = len(self.data)
        for path in self.paths:
            for span in (f"{size}-", f"{size + 5}-{size + 9}", "9-3", "99999999999999999999999-"):
                self.assertError(await self.client.ask("GET", path, headers={"Range": f"bytes={span}"}), 416, 41)
            for text in ("bytes", "bytes=", "bytes=x-y", "bytes=1-2,4-5", "lines=1-2", "bytes=--5", "bytes=1-2-3"):
                answer = await self.client.ask("GET", path, headers={"Range": text})
                self.assertEqual(answer.status, 400, text)

    async def test_ranges_of_compressed_files(self) -> None:
        """A range counts uncompressed bytes, however the file lies on the disk."""
        await self.restart(StorageCompression=True)
        stored = await self.client.store(dicom_object(sop="1.2.1.1.9", **pixels(300, 300)))
        base = f"/instances/{stored['ID']}/attachments/dicom"
        data = (await self.client.get(f"{base}/data")).body
        self.assertEqual((await self.client.get(f"{base}/is-compressed")).text, "1")
        raw = await self.client.get(f"{base}/compressed-data")
        self.assertEqual(raw.headers["content-type"], "application/octet-stream")
        self.assertNotIn("content-disposition", raw.headers)
        self.assertLess(len(raw.body), len(data))
        for first, last in ((0, 9), (len(data) - 10, len(data) - 1), (1000, 80000)):
            answer = await self.client.ask("GET", f"{base}/data", headers={"Range": f"bytes={first}-{last}"})
            self.assertEqual(answer.body, data[first : last + 1])

    async def test_head(self) -> None:
        """HEAD gives the headers of GET and no body, of files, JSON and errors; it has no ranges (RFC 9110 14.2)."""
        for path in (self.paths[0], f"/instances/{self.public_id}", "/system", "/none", "/"):
            request = f" {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            whole = await self.exchange("GET", request, "\r\n")
            for more in ("", "Range: bytes=1-4\r\n"):
                head = await self.exchange("HEAD", request, more, "\r\n")
                self.assertEqual(head, whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

    async def test_file_is_gone(self) -> None:
        """A file that is missing on the disk is an error of the server, and the server goes on."""
        for path in self.files():
            (self.folder / path).unlink()
        answer = await self.client.get(self.paths[0])
        self.assertEqual((answer.status // 100, hashlib.md5(self.data).hexdigest() in answer.text), (4, False))
        self.assertEqual((await self.client.get("/system")).status, 200)
        self.assertEqual((await self.client.get(f"/instances/{self.public_id}/tags")).status, 200)
