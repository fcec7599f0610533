"""``/tools/create-dicom``: tags, images, documents, parents, series, and what must be refused."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset

from orthanctw.dicom.pixels.images import JPEG, PAM, PNG, encode
from test.rest_samples import NOBODY, SPOOL, Answer, RestCase, dicom_object

CREATE = "/tools/create-dicom"
GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOURS = np.stack([GREY, GREY[::-1], 255 - GREY], -1)
PDF = "application/pdf"
_OCTETS = "application/octet-stream"


def data_uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def image_uri(pixels: Any, mime: str = PNG) -> str:
    return data_uri(mime, encode(pixels, mime, 90))


def png_uri(mode: str, pixels: Any) -> str:
    """A PNG as Pillow writes it, in one of its modes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return data_uri(PNG, buffer.getvalue())


def forged_png(rows: int, columns: int, depth: int = 8, colours: int = 0, data: bytes = b"") -> str:
    """A PNG that tells of any size, with these bytes of pixels."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, depth, colours, 0, 0, 0)),
        (b"IDAT", zlib.compress(data)),
        (b"IEND", b""),
    )
    parts = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    ]
    return data_uri(PNG, b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def pam_uri(head: str, data: bytes) -> str:
    return data_uri(PAM, f"P7\n{head}\nENDHDR\n".encode() + data)


class CreationCase(RestCase):
    """A server that is asked to make objects."""

    async def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request that must succeed."""
        answer = await self.client.post(CREATE, dict(body))
        self.assertEqual(answer.status, 200, answer.text)
        result: dict[str, Any] = answer.json()
        return result

    async def file(self, path: str) -> Dataset:
        answer = await self.client.get(f"{path}/file")
        return pydicom.dcmread(io.BytesIO(answer.body))

    async def made(self, tags: Mapping[str, Any] | None = None, **fields: Any) -> Dataset:
        """The object that a request makes."""
        return await self.file((await self.create({"Tags": tags or {}, **fields}))["Path"])

    async def refused(self, code: int, tags: Mapping[str, Any] | None = None, **fields: Any) -> Answer:
        """A request must be refused, and leave nothing."""
        before = self.files()
        answer = await self.client.post(CREATE, {"Tags": tags or {}, **fields})
        self.assertError(answer, 400, code)
        self.assertEqual(self.files(), before)
        return answer

    async def count(self) -> int:
        return len(await self.client.json("/instances"))


class TagTests(CreationCase):
    """What becomes of tags."""

    async def test_answer_and_generated_tags(self) -> None:
        """An object without content has identifiers, dates and a character set; the answer is that of an upload."""
        answer = await self.create({"Tags": {"PatientName": "A^B"}})
        self.assertEqual(answer["Status"], "Success")
        self.assertEqual(answer["Path"], f"/instances/{answer['ID']}")
        instance = await self.client.json(answer["Path"])
        self.assertEqual(instance["ParentSeries"], answer["ParentSeries"])
        made = await self.file(answer["Path"])
        self.assertEqual(made.file_meta.TransferSyntaxUID, "1.2.840.10008.1.2.1")
        self.assertEqual(made.file_meta.MediaStorageSOPInstanceUID, made.SOPInstanceUID)
        self.assertEqual((made.SpecificCharacterSet, made.PatientName), ("ISO_IR 100", "A^B"))
        self.assertNotIn("SOPClassUID", made)
        self.assertEqual(len(made.PatientID), 36)
        moments = ("Study", "Series", "Content", "Acquisition", "InstanceCreation")
        dates = {made[f"{name}Date"].value for name in moments}
        self.assertEqual(len(dates), 1)
        self.assertRegex(made.StudyTime, r"^\d{6}\.000000$")
        metadata = await self.client.json(f"{answer['Path']}/metadata", expand="")
        self.assertEqual(metadata["Origin"], "RestApi")

    async def test_given_dates_and_patient_stay(self) -> None:
        """What is generated otherwise may be given, and identifiers too with Force."""
        made = await self.made({"StudyDate": "20010203", "PatientID": "", "SeriesTime": "1"})
        self.assertEqual((made.StudyDate, made.PatientID, made.SeriesTime), ("20010203", "", "1"))
        uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "SOPInstanceUID": "1.4"}
        for name, uid in uids.items():
            await self.refused(2020, {name: uid})
        made = await self.made(uids, Force=True)
        self.assertEqual({name: made[name].value for name in uids}, uids)

    async def test_values_by_vr(self) -> None:
        """Names and numbers of tags, numbers, tags as values, sequences, no values."""
        made = await self.made(
            {
                "0010,0010": "A^B",
                "00080060": "MR",
                "Rows": "12",
                "PixelSpacing": "0.5\\0.25",
                "LUTDescriptor": "256\\0\\16",
                "RecommendedDisplayFrameRateInFloat": "1.5",
                "ReferencePixelX0": "-3",
                "FrameIncrementPointer": "SliceThickness",
                "PatientSex": None,
                "ReferencedImageSequence": [
                    {"ReferencedSOPClassUID": "1.2", "PurposeOfReferenceCodeSequence": [{"CodeValue": "é"}]},
                    {},
                ],
                "ProcedureCodeSequence": [],
                "OverlayRows": "7",
                "0010,0000": "12",
                "TransferSyntaxUID": "1.2.840.10008.1.2.4.50",
            }
        )
        self.assertEqual((made.PatientName, made.Modality, made.Rows), ("A^B", "MR", 12))
        self.assertEqual(list(made.PixelSpacing), [0.5, 0.25])
        self.assertEqual(list(made.LUTDescriptor), [256, 0, 16])
        self.assertEqual((made.RecommendedDisplayFrameRateInFloat, made.ReferencePixelX0), (1.5, -3))
        self.assertEqual(made.FrameIncrementPointer, 0x00180050)
        self.assertIn("PatientSex", made)
        first, second = made.ReferencedImageSequence
        self.assertEqual(first.PurposeOfReferenceCodeSequence[0].CodeValue, "é")
        self.assertEqual((len(second), len(made.ProcedureCodeSequence)), (0, 0))
        self.assertEqual(made[0x60000010].value, 7)
        self.assertNotIn(0x00100000, made)
        self.assertEqual(made.file_meta.TransferSyntaxUID, "1.2.840.10008.1.2.1")

    async def test_binary_values(self) -> None:
        """Data URIs of octets are decoded, if that is wanted; others are text."""
        octets = data_uri(_OCTETS, b"\0\1\2")
        made = await self.made({"ICCProfile": octets, "StudyDescription": data_uri("image/png", b"x")})
        self.assertEqual(made.ICCProfile, b"\0\1\2\0")
        self.assertEqual(made.StudyDescription, data_uri("image/png", b"x"))
        made = await self.made({"ICCProfile": octets}, InterpretBinaryTags=False)
        self.assertEqual(made.ICCProfile.rstrip(b"\0").decode(), octets)
        # Words cannot have an odd number of bytes.
        await self.refused(15, {"6000,3000": octets})
        await self.refused(15, {"ICCProfile": f"data:{_OCTETS};base64,AAE"})
        await self.refused(15, {"ICCProfile": f"data:{_OCTETS};base64,AA EC"})

    async def test_private_tags(self) -> None:
        """The creator beside a private tag, of the request, or of the configuration, tells its VR."""
        made = await self.made({"0009,0010": "GEMS_IDEN_01", "0009,1027": "12"})
        self.assertEqual((made[0x00090010].value, made[0x00091027].VR), ("GEMS_IDEN_01", "SL"))
        made = await self.made({"0009,1027": "12"}, PrivateCreator="GEMS_IDEN_01")
        self.assertEqual(made[0x00091027].value, 12)
        made = await self.made({"0009,1027": "12"})
        self.assertEqual(made[0x00091027].VR, "UN")
        await self.restart(DefaultPrivateCreator="GEMS_IDEN_01")
        made = await self.made({"0009,1027": "12"})
        self.assertEqual(made[0x00091027].value, 12)

    async def test_character_sets(self) -> None:
        """Text is in the character set that is asked for, the default one, or in one that can hold it."""
        for tags, term, raw in (
            ({"PatientName": "é"}, "ISO_IR 100", b"\xe9 "),
            ({"PatientName": "漢"}, "ISO_IR 192", "漢 ".encode()),
            ({"PatientName": "é", "SpecificCharacterSet": "ISO_IR 192"}, "ISO_IR 192", "é".encode()),
            ({"PatientName": "Ж", "SpecificCharacterSet": "ISO_IR 144"}, "ISO_IR 144", b"\xb6 "),
        ):
            answer = await self.create({"Tags": tags})
            made = await self.file(answer["Path"])
            self.assertEqual(made.SpecificCharacterSet, term)
            stored = await self.client.get(f"{answer['Path']}/content/0010-0010")
            self.assertEqual(stored.body, raw)
            shown = await self.client.json(f"{answer['Path']}/simplified-tags")
            self.assertEqual(shown["PatientName"], tags["PatientName"])
        await self.refused(3, {"SpecificCharacterSet": "NOPE"})
        await self.restart(DefaultEncoding="Cyrillic")
        self.assertEqual((await self.made({"PatientName": "Ж"})).SpecificCharacterSet, "ISO_IR 144")

    async def test_refused_tags(self) -> None:
        """What a tag cannot have is refused, with Orthanc's codes."""
        await self.refused(27, {"NoSuchTag": "x"})
        for value in (12, True, 1.5, [], ["x"], {"vr": "PN"}):
            await self.refused(5, {"PatientName": value})
        for value in (["x"], [None], {}, [[]]):
            await self.refused(5, {"ReferencedImageSequence": value})
        await self.refused(15, {"ReferencedImageSequence": "x"})
        for value in ("abc", "-1", "65536", "1_0", "٣"):
            await self.refused(15, {"Rows": value})
        await self.refused(15, {"StudyInstanceUID": "é"}, Force=True)
        await self.refused(3, {"PatientName": "x" * 70000})
        await self.refused(2021, {"PixelData": "x"}, Force=True)
        await self.refused(2020, {"PatientName": "x", "00100010": "y"})
        for tag in ("fffe,e000", "0000,0010", "ffff,ffff", "0001,0010"):
            await self.refused(3, {tag: "x"})
        deep: dict[str, Any] = {}
        for _ in range(70):
            deep = {"ReferencedImageSequence": [deep]}
        await self.refused(15, deep)

    async def test_refused_requests(self) -> None:
        """Bodies and fields of a wrong form."""
        for body in (b"", b"[]", b"{", b"\xff", b"[" * 5000):
            self.assertError(await self.client.post(CREATE, body), 400, 8)
        for field, value in (("Force", "x"), ("InterpretBinaryTags", 1), ("PrivateCreator", 1), ("Tags", [])):
            self.assertError(await self.client.post(CREATE, {"Tags": {}, field: value}), 400, 8)

    async def test_old_form(self) -> None:
        """A body without Tags is the tags: text alone, identifiers among them, and pixels."""
        answer = await self.create({"PatientName": "é", "StudyInstanceUID": "1.2.3", "PixelData": image_uri(GREY)})
        made = await self.file(answer["Path"])
        self.assertEqual((made.PatientName, made.StudyInstanceUID), ("é", "1.2.3"))
        self.assertNotIn("StudyDate", made)
        np.testing.assert_array_equal(made.pixel_array, GREY)
        self.assertError(await self.client.post(CREATE, {"PatientName": None}), 400, 2019)


class ContentTests(CreationCase):
    """Images and documents."""

    async def test_images(self) -> None:
        """Grey of 8 and 16 bits and RGB, from each type, whatever tags tell of them; odd sizes are padded."""
        deep = GREY.astype(np.uint16) * 257
        for pixels, mime in (
            *((GREY, mime) for mime in (PNG, PAM)),
            *((deep, mime) for mime in (PNG, PAM)),
            *((COLOURS, mime) for mime in (PNG, PAM)),
            (GREY[:3, :3], PNG),
        ):
            made = await self.made({"Rows": "77", "PixelRepresentation": "1"}, Content=image_uri(pixels, mime))
            np.testing.assert_array_equal(made.pixel_array, pixels)
            self.assertEqual(made.BitsStored, pixels.dtype.itemsize * 8)
            self.assertEqual(made.PhotometricInterpretation, "RGB" if pixels.ndim == 3 else "MONOCHROME2")
            self.assertEqual(len(made.PixelData) % 2, 0)
        made = await self.made({"PhotometricInterpretation": "MONOCHROME1"}, Content=image_uri(GREY))
        self.assertEqual(made.PhotometricInterpretation, "MONOCHROME1")

    async def test_jpeg(self) -> None:
        """A JPEG is decoded, or kept as it is."""
        for pixels in (GREY, COLOURS):
            content = encode(pixels, JPEG, 90)
            decoded = np.asarray(Image.open(io.BytesIO(content)))
            made = await self.made(Content=data_uri(JPEG, content))
            np.testing.assert_array_equal(made.pixel_array, decoded)
            made = await self.made(Content=data_uri(JPEG, content), Encapsulate=True)
            self.assertEqual(made.file_meta.TransferSyntaxUID, "1.2.840.10008.1.2.4.50")
            self.assertEqual(made.LossyImageCompression, "01")
            self.assertIn(content, made.PixelData)
            np.testing.assert_array_equal(made.pixel_array, decoded)

    async def test_other_modes(self) -> None:
        """Palettes become colours, transparency is dropped, single bits become bytes."""
        for mode, expected in (("P", COLOURS), ("RGBA", COLOURS), ("LA", GREY), ("1", GREY)):
            made = await self.made(Content=png_uri(mode, expected))
            self.assertEqual(made.pixel_array.shape, expected.shape)
            if mode in ("RGBA", "LA"):
                np.testing.assert_array_equal(made.pixel_array, expected)

    async def test_documents(self) -> None:
        """A PDF and models are encapsulated, with what their class needs; tags that are given stay."""
        made = await self.made({"DocumentTitle": "t"}, Content=data_uri(PDF, b"%PDF-1.4 abc"))
        self.assertEqual(made.SOPClassUID, "1.2.840.10008.5.1.4.1.1.104.1")
        self.assertEqual((made.Modality, made.ConversionType, made.MIMETypeOfEncapsulatedDocument), ("OT", "WSD", PDF))
        self.assertEqual((made.EncapsulatedDocument, made.DocumentTitle), (b"%PDF-1.4 abc", "t"))
        for number, kind in ((3, "stl"), (4, "obj"), (5, "mtl")):
            made = await self.made({"Modality": "CT"} if number == 4 else {}, Content=data_uri(f"model/{kind}", b"abc"))
            self.assertEqual(made.SOPClassUID, f"1.2.840.10008.5.1.4.1.1.104.{number}")
            self.assertEqual(made.Modality, "CT" if number == 4 else "M3D")
            self.assertEqual(made.EncapsulatedDocument, b"abc\0")
        answer = await self.create({"Tags": {"EncapsulatedDocument": data_uri(PDF, b"%PDF-1.5")}})
        pdf = await self.client.get(f"{answer['Path']}/pdf")
        self.assertEqual(pdf.body, b"%PDF-1.5")

    async def test_refused_contents(self) -> None:
        """What is no data URI, of a wrong type, damaged, or announces what it does not have."""
        for content in (12, None, {}):
            await self.refused(2023, Content=content)
        png, jpeg = image_uri(GREY), encode(GREY, JPEG, 90)
        damaged = [
            *("", "abc", "data:image/png,abc", "data:;base64,AAAA", f"{PNG};base64,AAAA"),
            *(png[:-7], png[:60], png.replace("base64,", "base64,#"), data_uri(PNG, jpeg), data_uri(JPEG, b"\x89PNG")),
            *(data_uri(JPEG, jpeg[:200]), data_uri(PDF, b"hello"), data_uri(JPEG, b""), data_uri(PAM, b"P7\n")),
            pam_uri("WIDTH 2\nHEIGHT 2\nDEPTH 1\nMAXVAL 255", b"123"),
            pam_uri("WIDTH 2\nHEIGHT 2\nDEPTH 1\nMAXVAL 255", b"12345"),
            pam_uri(f"WIDTH {'9' * 2000}\nHEIGHT 2\nDEPTH 1\nMAXVAL 255", b"1"),
            pam_uri("WIDTH 60000\nHEIGHT 60000\nDEPTH 1\nMAXVAL 255", b"1"),
            pam_uri("WIDTH 0\nHEIGHT 2\nDEPTH 1\nMAXVAL 255", b""),
            forged_png(60000, 60000),
            forged_png(30000, 30000, 8, 2, bytes(20_000_000)),
            forged_png(0, 0),
            forged_png(1, 70000, data=bytes(70001)),
            forged_png(10, 10, data=bytes(50)),
            data_uri(JPEG, jpeg.replace(struct.pack(">HH", 6, 8), struct.pack(">HH", 60000, 60000))),
        ]
        for content in damaged:
            await self.refused(15, Content=content)
        for content in (
            data_uri("image/gif", b"x"),
            forged_png(2, 2, 16, 2, bytes(26)),
            pam_uri("WIDTH 2\nHEIGHT 2\nDEPTH 1\nMAXVAL 100", b"1234"),
            pam_uri("WIDTH 2\nHEIGHT 2\nDEPTH 2\nMAXVAL 255", bytes(8)),
        ):
            await self.refused(2, Content=content)
        self.assertEqual(await self.count(), 0)
        self.assertEqual([name for name in self.files() if SPOOL in name], [])

    async def test_progressive_jpeg_is_not_encapsulated(self) -> None:
        """Only baseline has a transfer syntax of 8 bits that everybody reads; it can be decoded all the same."""
        buffer = io.BytesIO()
        Image.fromarray(COLOURS).save(buffer, "JPEG", progressive=True)
        content = data_uri(JPEG, buffer.getvalue())
        await self.refused(2, Content=content, Encapsulate=True)
        self.assertEqual((await self.made(Content=content)).pixel_array.shape, COLOURS.shape)

    async def test_large_content(self) -> None:
        """What does not stay in memory on its way is the same."""
        pixels = np.random.default_rng(1).integers(0, 65536, (900, 1000), dtype=np.uint16)
        made = await self.made(Content=image_uri(pixels))
        np.testing.assert_array_equal(made.pixel_array, pixels)
        document = b"%PDF-" + bytes(range(256)) * 8000
        made = await self.made(Content=data_uri(PDF, document))
        self.assertEqual(made.EncapsulatedDocument.rstrip(b"\0"), document.rstrip(b"\0"))
        self.assertEqual([name for name in self.files() if SPOOL in name], [])

    async def test_large_bodies_of_many_values(self) -> None:
        """Values take far more memory than their text: too many of them are not even parsed."""
        body = b'{"Tags":{"ReferencedImageSequence":[' + b"{}," * 600_000 + b"{}]}}"
        self.assertEqual((await self.client.post(CREATE, body)).status, 413)


class ParentTests(CreationCase):
    """Objects of a patient, study or series that is there."""

    async def setUp(self) -> None:
        await super().setUp()
        self.stored = await self.client.store(
            dicom_object(PatientAge="030Y", BodyPartExamined="HEAD", InstitutionName="I", PatientName="Ж")
        )

    async def child(self, level: str, tags: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        return await self.create({"Parent": self.stored[f"Parent{level}"], "Tags": tags or {}, **fields})

    async def test_inherits_modules(self) -> None:
        """The modules of the level and of those above are taken over, with their character set."""
        for level, inherited, new in (
            ("Patient", {"PatientID", "PatientName"}, {"StudyDescription", "SeriesDescription"}),
            ("Study", {"PatientSex", "StudyInstanceUID", "StudyDate", "StudyDescription"}, {"SeriesDescription"}),
            ("Series", {"PatientID", "StudyID", "SeriesInstanceUID", "Modality", "BodyPartExamined"}, set()),
        ):
            answer = await self.child(level)
            self.assertEqual(answer[f"Parent{level}"], self.stored[f"Parent{level}"])
            made, parent = await self.file(answer["Path"]), await self.file(self.stored["Path"])
            self.assertEqual({name: made[name].value for name in inherited}, {n: parent[n].value for n in inherited})
            self.assertEqual([name for name in new if name in made], [])
            self.assertNotIn("InstitutionName", made)
            self.assertNotEqual(made.SOPInstanceUID, parent.SOPInstanceUID)
            self.assertEqual((made.SpecificCharacterSet, made.PatientName), ("ISO_IR 192", "Ж"))

    async def test_inherited_tags_are_not_replaced(self) -> None:
        """Unless it is forced, what comes from the parent cannot be given; dates can."""
        study = self.stored["ParentStudy"]
        for name in ("PatientName", "StudyDescription", "StudyInstanceUID", "SeriesInstanceUID"):
            await self.refused(2020, {name: "1"}, Parent=study)
        answer = await self.child("Study", {"SeriesDescription": "new", "StudyDate": "20010101"})
        made = await self.file(answer["Path"])
        self.assertEqual((made.SeriesDescription, made.StudyDate), ("new", "20010101"))
        made = await self.file((await self.child("Study", {"StudyDescription": "new"}, Force=True))["Path"])
        self.assertEqual(made.StudyDescription, "new")

    async def test_no_parent(self) -> None:
        """An unknown parent, an instance, or no identifier."""
        for parent in (NOBODY, "x", "", None, 12):
            await self.refused(2024, Parent=parent)
        await self.refused(2025, Parent=self.stored["ID"])


class SeriesTests(CreationCase):
    """A list of contents is a series."""

    async def members(self, answer: Mapping[str, Any]) -> list[Dataset]:
        """The objects of a series, by their numbers."""
        ids = (await self.client.json(answer["Path"]))["Instances"]
        made = [await self.file(f"/instances/{public_id}") for public_id in ids]
        return sorted(made, key=lambda item: int(item.InstanceNumber))

    async def test_series(self) -> None:
        """Images are numbered in their order, each with tags of its own; the answer is the series."""
        contents = [
            {"Content": image_uri(GREY), "Tags": {"SliceLocation": "5"}},
            image_uri(GREY[::-1]),
            {"Content": image_uri(COLOURS)},
        ]
        answer = await self.create({"Tags": {"PatientName": "A", "InstanceNumber": "9"}, "Content": contents})
        self.assertEqual(answer, {"ID": answer["ID"], "Path": f"/series/{answer['ID']}", "Status": "Success"})
        made = await self.members(answer)
        self.assertEqual([int(item.InstanceNumber) for item in made], [1, 2, 3])
        self.assertEqual([int(item.ImageIndex) for item in made], [1, 2, 3])
        self.assertEqual({int(item.ImagesInAcquisition) for item in made}, {3})
        self.assertEqual(len({item.SOPInstanceUID for item in made}), 3)
        self.assertEqual([item.get("SliceLocation") for item in made], [5, None, None])
        np.testing.assert_array_equal(made[1].pixel_array, GREY[::-1])

    async def test_of_a_study(self) -> None:
        """With a study as the parent, a new series of it."""
        stored = await self.client.store(dicom_object())
        answer = await self.create({"Parent": stored["ParentStudy"], "Tags": {}, "Content": [image_uri(GREY)]})
        series = await self.client.json(answer["Path"])
        self.assertEqual(series["ParentStudy"], stored["ParentStudy"])
        self.assertNotEqual(answer["ID"], stored["ParentSeries"])

    async def test_empty_list(self) -> None:
        """Without contents, one instance is made."""
        self.assertIn("ParentSeries", await self.create({"Tags": {}, "Content": []}))

    async def test_nothing_stays_of_a_series_that_fails(self) -> None:
        """When one image cannot be read, or is wrong from the beginning, the others are not there; the parent stays."""
        stored = await self.client.store(dicom_object())
        await self.client.store(dicom_object(sop="1.2.1.1.2"))
        good, bad = image_uri(GREY), forged_png(10, 10, data=bytes(50))
        for code, contents in (
            (15, [good, good, good, bad, good]),
            (2023, [good, 12]),
            (2022, [{"Tags": {}}]),
            (2022, [None]),
            (5, [{"Content": good, "Tags": []}]),
            (27, [good, {"Content": good, "Tags": {"NoSuchTag": "x"}}]),
            (2020, [{"Content": good, "Tags": {"SOPInstanceUID": "1.2"}}]),
            (2020, [{"Content": good, "Tags": {"StudyDescription": "x"}}]),
        ):
            fields = {"Parent": stored["ParentSeries"], "Content": contents}
            answer = await self.client.post(CREATE, {"Tags": {}, **fields})
            self.assertError(answer, 400, code)
            self.assertEqual(await self.count(), 2)
        self.assertEqual(len([name for name in self.files() if SPOOL not in name]), 2)
