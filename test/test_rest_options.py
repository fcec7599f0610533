"""Options that take routes away, keep files out, or let clients write files: each with another value than usual."""

from __future__ import annotations

import os
from pathlib import Path

from test.dicom_case import DicomCase
from test.dicom_peers import RawPeer, in_thread, run
from test.rest_samples import NOBODY, RestCase, dicom_object, pixels
from test.servers import ct_image
from test.test_rest_attached import LEVELS


class ReadOnlyTests(DicomCase):
    """``ReadOnly``."""

    async def test_routes(self) -> None:
        """Routes that change resources are absent; those that read, and those of metadata, are there."""
        stored = await self.fill()
        path, patient = stored[0]["Path"], f"/patients/{stored[0]['ParentPatient']}"
        before = self.files()
        await self.restart(ReadOnly=True)
        absent = [
            ("POST", "/instances"),
            ("PUT", f"{patient}/protected"),
            ("POST", "/tools/reconstruct"),
            ("POST", "/tools/invalidate-tags"),
            ("POST", "/tools/bulk-delete"),
            ("POST", "/jobs"),
            ("POST", f"/studies/{NOBODY}/split"),
            ("POST", f"/studies/{NOBODY}/merge"),
            *(("POST", f"/tools/bulk-{verb}") for verb in ("modify", "anonymize")),
            *(("POST", f"/{level}/{NOBODY}/{verb}") for level in LEVELS[:3] for verb in ("modify", "anonymize")),
            ("PUT", f"{path}/attachments/1024"),
            ("DELETE", f"{path}/attachments/1024"),
            ("POST", f"{path}/attachments/dicom/compress"),
            ("POST", f"{path}/attachments/dicom/uncompress"),
            *(("DELETE", f"/{level}/{NOBODY}") for level in LEVELS),
            *(("POST", f"/{level}/{NOBODY}/reconstruct") for level in LEVELS),
            *((method, f"/{level}/{NOBODY}/labels/a") for level in LEVELS for method in ("PUT", "DELETE")),
        ]
        for method, each in absent:
            answer = await self.client.ask(method, each, "x")
            self.assertIn(answer.status, (404, 405), (method, each))
        self.assertEqual((await self.client.ask("PUT", f"{path}/metadata/1024", "x")).status, 200)
        self.assertEqual((await self.client.ask("DELETE", f"{path}/metadata/1024")).status, 200)
        self.assertEqual((await self.client.post(f"{path}/attachments/dicom/verify-md5")).status, 200)
        self.assertEqual((await self.client.get(f"{path}/file")).status, 200)
        self.assertEqual((await self.client.post(f"{path}/anonymize", {})).status, 200)
        self.assertEqual(await self.client.find("Patient", {}), await self.client.json("/patients"))
        self.assertEqual(self.files(), before)
        self.assertIs((await self.client.json("/system"))["ReadOnly"], True)

    async def test_store(self) -> None:
        """A C-STORE is refused for want of resources, so that senders try again elsewhere; others are served."""
        await self.restart(ReadOnly=True)
        file = self.file(ct_image(1))
        ran = await run("storescu", "-v", "-aec", "ORTHANC", "127.0.0.1", str(self.dicom_port), file)
        self.assertIn("refused: outofresources", ran.output.lower())
        self.assertEqual(await self.instances(), [])
        await self.until(lambda: self.files() == [])

        def echo() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                return raw.echo()

        self.assertEqual(await in_thread(echo), 0)

    async def test_nothing_is_recycled(self) -> None:
        """A quota that was lowered costs nothing while nothing may change."""
        await self.fill()
        await self.restart(ReadOnly=True, MaximumPatientCount=1)
        self.assertEqual(len(await self.client.json("/patients")), 2)
        await self.restart(MaximumPatientCount=1)
        self.assertEqual(len(await self.client.json("/patients")), 1)


class PatientLevelTests(RestCase):
    """``PatientLevelEnabled``."""

    async def test_routes(self) -> None:
        """Everything below ``/patients`` is absent; patients are still told of and found."""
        stored = (await self.fill())[0]
        await self.restart(PatientLevelEnabled=False)
        patient = f"/patients/{stored['ParentPatient']}"
        for method, path in (
            ("GET", "/patients"),
            ("GET", patient),
            ("GET", f"{patient}/protected"),
            ("GET", f"{patient}/studies"),
            ("DELETE", patient),
            ("PUT", f"{patient}/metadata/1024"),
            ("POST", f"{patient}/reconstruct"),
            ("GET", f"{patient}/archive"),
        ):
            self.assertError(await self.client.ask(method, path), 404, 17)
        study = await self.client.json(f"/studies/{stored['ParentStudy']}")
        self.assertEqual(study["ParentPatient"], stored["ParentPatient"])
        self.assertEqual((await self.client.json(f"{stored['Path']}/patient"))["ID"], stored["ParentPatient"])
        self.assertEqual(len(await self.client.find("Patient", {})), 2)
        self.assertIs((await self.client.json("/system"))["PatientLevelEnabled"], False)


class StoreDicomTests(DicomCase):
    """``StoreDicom``."""

    async def test_index_only(self) -> None:
        """Objects are indexed and their files are not kept; tags are known nevertheless."""
        await self.restart(StoreDicom=False, Orthanctw={"SpoolThresholdKB": 64})
        small, large = dicom_object(**pixels(20, 20)), dicom_object(sop="1.2.1.1.2", **pixels(400, 400))
        for data in (small, large):
            stored = await self.client.store(data)
            path = stored["Path"]
            self.assertEqual(stored["Status"], "Success")
            info = await self.client.json(f"{path}/attachments/dicom/info")
            self.assertEqual(info["UncompressedSize"], len(data))
            self.assertEqual((await self.client.json(f"{path}/simplified-tags"))["PatientName"], "DOE^JOHN")
            for route in ("file", "attachments/dicom/data", "attachments/dicom/compressed-data", "frames/0/raw"):
                self.assertError(await self.client.get(f"{path}/{route}"), 404, 17)
            for route in ("attachments/dicom/verify-md5", "attachments/dicom/compress", "reconstruct"):
                self.assertError(await self.client.post(f"{path}/{route}"), 404, 17)
            self.assertEqual((await self.client.store(data))["Status"], "AlreadyStored")
        self.assertError(await self.client.post("/tools/reconstruct"), 404, 17)
        await self.until(lambda: self.files() == [])

    async def test_attachments_are_kept(self) -> None:
        """What is attached by clients has its file."""
        await self.restart(StoreDicom=False)
        path = (await self.client.store(dicom_object()))["Path"]
        await self.client.ask("PUT", f"{path}/attachments/1024", "x")
        self.assertEqual((await self.client.get(f"{path}/attachments/1024/data")).body, b"x")
        self.assertEqual(len(self.files()), 1)
        self.assertEqual((await self.client.ask("DELETE", path)).status, 200)
        await self.until(lambda: self.files() == [])

    async def test_peer(self) -> None:
        """A C-STORE is a success."""
        await self.restart(StoreDicom=False)
        await self.storescu(self.file(ct_image(1)))
        self.assertEqual(len(await self.instances()), 1)
        await self.until(lambda: self.files() == [])

    async def test_files_of_before(self) -> None:
        """Objects that were kept before the option was set are still read."""
        data = dicom_object()
        path = (await self.client.store(data))["Path"]
        await self.restart(StoreDicom=False)
        self.assertEqual((await self.client.get(f"{path}/file")).body, data)
        self.assertEqual((await self.client.post(f"{path}/reconstruct")).status, 200)


class ExportTests(RestCase):
    """``RestApiWriteToFileSystemEnabled``."""

    async def setUp(self) -> None:
        await super().setUp()
        self.data = dicom_object(**pixels(1000, 1000))
        self.path = (await self.client.store(self.data))["Path"]
        self.target = Path(self.mktemp()).absolute()
        self.target.mkdir()

    async def test_forbidden(self) -> None:
        """By default nothing is written."""
        for path in (self.path, f"/instances/{NOBODY}"):
            self.assertEmpty(await self.client.post(f"{path}/export", str(self.target / "a.dcm")), 403)
        self.assertEqual(os.listdir(self.target), [])

    async def test_export(self) -> None:
        """The file is written whole, uncompressed, in the place of another one."""
        for compressed in (False, True):
            await self.restart(RestApiWriteToFileSystemEnabled=True, StorageCompression=compressed)
            file = self.target / "ä b.dcm"
            file.write_bytes(b"another")
            if compressed:
                await self.client.post(f"{self.path}/attachments/dicom/compress")
            answer = await self.client.post(f"{self.path}/export", str(file))
            self.assertEqual((answer.status, answer.body), (200, b""))
            self.assertEqual(file.read_bytes(), self.data)
            self.assertEqual(os.listdir(self.target), [file.name])

    async def test_mistakes(self) -> None:
        """Paths that are none, folders, folders that are not there, and those of the server itself."""
        await self.restart(RestApiWriteToFileSystemEnabled=True)
        (self.target / "link").symlink_to(self.folder)
        folders = (str(self.target), f"{self.target}/")
        for path in ("", "a.dcm", "../a.dcm", *folders, "/nowhere/a.dcm", "/a\0b", "/" * 5000):
            self.assertError(await self.client.post(f"{self.path}/export", path), 400, 14)
        for own in ("orthanctw.db", "a/../b", "../" + self.folder.name + "/x"):
            answer = await self.client.post(f"{self.path}/export", f"{self.folder}/{own}")
            self.assertEqual(answer.status, 403, answer.text)
            answer = await self.client.post(f"{self.path}/export", f"{self.target}/link/{own.rpartition('/')[2]}")
            self.assertEqual(answer.status, 403, answer.text)
        self.assertError(await self.client.post(f"/instances/{NOBODY}/export", "/tmp/x"), 404, 17)
        self.assertEqual(os.listdir(self.target), ["link"])
        self.assertEqual((await self.client.get(f"{self.path}/file")).body, self.data)

    async def test_damaged_file(self) -> None:
        """What cannot be read to its end leaves nothing at the target."""
        await self.restart(RestApiWriteToFileSystemEnabled=True, MaximumStorageCacheSize=0)
        (name,) = self.files()
        (self.folder / name).write_bytes(self.data[:-10])
        self.assertError(await self.client.post(f"{self.path}/export", str(self.target / "a.dcm")), 500, 20)
        (self.folder / name).unlink()
        self.assertError(await self.client.post(f"{self.path}/export", str(self.target / "a.dcm")), 404, 13)
        self.assertEqual(os.listdir(self.target), [])
