"""Metadata and attachments over HTTP, reading."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from test.rest_samples import NOBODY, RestCase, dicom_object, pixels

OPERATIONS = [
    "compress",
    "compressed-data",
    "compressed-md5",
    "compressed-size",
    "data",
    "info",
    "is-compressed",
    "md5",
    "size",
    "uncompress",
    "verify-md5",
]
LEVELS = ("patients", "studies", "series", "instances")


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


class MetadataTests(RestCase):
    """``/metadata``."""

    SETTINGS: ClassVar = {"UserMetadata": {"mine": 1024}}

    async def setUp(self) -> None:
        await super().setUp()
        self.stored = await self.client.store(dicom_object(**pixels(2, 2)))
        self.path = self.stored["Path"]

    async def test_names(self) -> None:
        """Names in the order of their numbers."""
        self.assertEqual(
            await self.client.json(f"{self.path}/metadata"),
            [
                "IndexInSeries",
                "ReceptionDate",
                "RemoteAET",
                "Origin",
                "TransferSyntax",
                "SopClassUid",
                "RemoteIP",
                "HttpUsername",
                "PixelDataOffset",
                "MainDicomTagsSignature",
                "PixelDataVR",
            ],
        )
        series = await self.client.json(f"/series/{self.stored['ParentSeries']}/metadata")
        self.assertEqual(series, ["RemoteAET", "LastUpdate", "MainDicomTagsSignature"])

    async def test_numbers(self) -> None:
        """Numbers in place of names."""
        numbers = await self.client.json(f"{self.path}/metadata?numeric")
        self.assertEqual(numbers, [1, 2, 3, 8, 9, 10, 11, 13, 14, 15, 17])
        both = await self.client.json(f"{self.path}/metadata?numeric&expand")
        self.assertEqual((both["8"], both["9"]), ("RestApi", "1.2.840.10008.1.2.1"))

    async def test_values(self) -> None:
        """All values at once, and each as text."""
        values = await self.client.json(f"{self.path}/metadata?expand")
        self.assertEqual((values["Origin"], values["RemoteIP"], values["RemoteAET"]), ("RestApi", "127.0.0.1", ""))
        for name, value in values.items():
            answer = await self.client.get(f"{self.path}/metadata/{name}")
            self.assertEqual((answer.text, answer.headers["content-type"]), (value, "text/plain"))
        self.assertEqual((await self.client.get(f"{self.path}/metadata/8")).text, "RestApi")

    async def test_etag(self) -> None:
        """A value carries its revision and digest; a client that has it is told so."""
        path = f"{self.path}/metadata/Origin"
        tag = f'"0-{md5(b"RestApi")}"'
        self.assertEqual((await self.client.get(path)).headers["etag"], tag)
        answer = await self.client.ask("GET", path, headers={"If-None-Match": tag})
        self.assertEmpty(answer, 304)
        self.assertEqual(answer.headers["etag"], tag)
        for other in ('"1-x"', tag.strip('"'), ""):
            self.assertEqual((await self.client.ask("GET", path, headers={"If-None-Match": other})).status, 200, other)

    async def test_nothing_there(self) -> None:
        """Unset metadata has no answer; an unknown name or resource is an error."""
        for name in ("ModifiedFrom", "mine", "1024", "65535", "5", "99999"):
            self.assertEmpty(await self.client.get(f"{self.path}/metadata/{name}"), 404)
        for name in ("Nothing", "origin", "-1", "1.5", "%c2%b2", "1" * 5000):
            self.assertError(await self.client.get(f"{self.path}/metadata/{name}"), 404, 7)
        for level in LEVELS:
            for route in ("metadata", "metadata?expand", "metadata/Origin"):
                self.assertError(await self.client.get(f"/{level}/{NOBODY}/{route}"), 404, 17)

    async def test_bad_expand(self) -> None:
        """``expand`` is a boolean."""
        self.assertError(await self.client.get(f"{self.path}/metadata?expand=x"), 400, 3)


class AttachmentTests(RestCase):
    """``/attachments``."""

    async def setUp(self) -> None:
        await super().setUp()
        self.data = dicom_object(**pixels(100, 100))
        self.path = f"{(await self.client.store(self.data))['Path']}/attachments"
        self.tag = f'"0-{md5(self.data)}"'

    async def test_list(self) -> None:
        """Names, or numbers by name; upper levels have none."""
        self.assertEqual(await self.client.json(self.path), ["dicom"])
        self.assertEqual(await self.client.json(f"{self.path}?full"), {"dicom": 1})
        (study,) = await self.client.json("/studies")
        self.assertEqual(await self.client.json(f"/studies/{study}/attachments"), [])
        self.assertEqual(await self.client.json(f"/studies/{study}/attachments?full"), {})

    async def test_operations(self) -> None:
        """What can be done with an attachment, found by its name or number."""
        for name in ("dicom", "1"):
            answer = await self.client.get(f"{self.path}/{name}")
            self.assertEqual((answer.json(), answer.headers["etag"]), (OPERATIONS, self.tag))

    async def test_facts(self) -> None:
        """Sizes and digests as text."""
        size, digest = str(len(self.data)), md5(self.data)
        for name, text in (
            ("size", size),
            ("compressed-size", size),
            ("md5", digest),
            ("compressed-md5", digest),
            ("is-compressed", "0"),
        ):
            answer = await self.client.get(f"{self.path}/dicom/{name}")
            self.assertEqual((answer.text, answer.headers["etag"]), (text, self.tag), name)

    async def test_info(self) -> None:
        """All facts at once."""
        info = await self.client.json(f"{self.path}/dicom/info")
        self.assertIn(info.pop("Uuid"), [path.rpartition("/")[2] for path in self.files()])
        size, digest = len(self.data), md5(self.data)
        self.assertEqual(
            info,
            {
                "CompressedMD5": digest,
                "CompressedSize": size,
                "ContentType": 1,
                "UncompressedMD5": digest,
                "UncompressedSize": size,
            },
        )

    async def test_data(self) -> None:
        """The bytes, under the name of the file on the disk."""
        uuid = (await self.client.json(f"{self.path}/dicom/info"))["Uuid"]
        for route in ("data", "compressed-data"):
            answer = await self.client.get(f"{self.path}/dicom/{route}")
            self.assertEqual((answer.body, answer.headers["content-type"]), (self.data, "application/dicom"))
            self.assertEqual(answer.headers["content-disposition"], f'filename="{uuid}"')

    async def test_etag(self) -> None:
        """A client that has this revision is told so at every operation, and gets no bytes."""
        for route in ("", "/data", "/size", "/info", "/compressed-data"):
            answer = await self.client.ask("GET", f"{self.path}/dicom{route}", headers={"If-None-Match": self.tag})
            self.assertEmpty(answer, 304)
            self.assertEqual(answer.headers["etag"], self.tag)
            answer = await self.client.ask("GET", f"{self.path}/dicom{route}", headers={"If-None-Match": '"1-x"'})
            self.assertEqual(answer.status, 200)

    async def test_nothing_there(self) -> None:
        """Absent attachments, unknown names and unknown resources are errors."""
        for name in ("dicom-as-json", "3000", "2", "99999"):
            for route in ("", "/data", "/size", "/info"):
                self.assertError(await self.client.get(f"{self.path}/{name}{route}"), 404, 17)
        self.assertError(await self.client.get(f"{self.path}/nothing"), 404, 7)
        self.assertError(await self.client.get(f"{self.path}/dicom/nothing"), 404, 17)
        for level in LEVELS:
            for route in ("attachments", "attachments/dicom", "attachments/dicom/data"):
                self.assertError(await self.client.get(f"/{level}/{NOBODY}/{route}"), 404, 17)

    async def test_compressed(self) -> None:
        """A file that is compressed on the disk: its size before and after, and both forms of its bytes."""
        await self.restart(StorageCompression=True)
        data = dicom_object(sop="1.2.1.1.5", **pixels(100, 100))
        path = f"{(await self.client.store(data))['Path']}/attachments/dicom"
        raw = (await self.client.get(f"{path}/compressed-data")).body
        self.assertEqual(raw[:8], len(data).to_bytes(8, "little"))
        self.assertLess(len(raw), len(data))
        for name, text in (
            ("size", str(len(data))),
            ("compressed-size", str(len(raw))),
            ("md5", md5(data)),
            ("compressed-md5", md5(raw)),
            ("is-compressed", "1"),
        ):
            self.assertEqual((await self.client.get(f"{path}/{name}")).text, text, name)
        self.assertEqual((await self.client.get(f"{path}/data")).body, data)

    async def test_without_digests(self) -> None:
        """Without digests there are none to read; everything else works."""
        await self.restart(StoreMD5ForAttachments=False)
        data = dicom_object(sop="1.2.1.1.5")
        path = f"{(await self.client.store(data))['Path']}/attachments/dicom"
        for route in ("md5", "compressed-md5"):
            self.assertError(await self.client.get(f"{path}/{route}"), 404, 7)
        self.assertEqual((await self.client.get(f"{path}/data")).body, data)
        self.assertEqual((await self.client.json(f"{path}/info"))["UncompressedMD5"], "")
