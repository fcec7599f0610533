"""Reading objects anew from their files."""

from __future__ import annotations

import io
from typing import Any, ClassVar

import attrs
from pydicom import dcmread
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from orthanctw.dicom.pixels.syntaxes import JPEG_BASELINE, JPEG_LS_LOSSLESS
from orthanctw.versions import Reconstructed
from test.index_samples import attachment, ids, new_instance
from test.pixel_samples import grey, image, wave
from test.rest_samples import NOBODY, SPOOL, Answer, RestCase, dicom_object, pixels
from test.test_index import INSTANCE, IndexTestCase

FILES = {"ReconstructFiles": True}


class ReconstructCase(RestCase):
    """A series of two instances, which tell different things of their parents."""

    #: What lies on the disk counts, and nothing else.
    SETTINGS: ClassVar = {"MaximumStorageCacheSize": 0}

    async def setUp(self) -> None:
        await super().setUp()
        self.first = await self.client.store(
            dicom_object(sop="1.2.1.1.1", StudyDescription="ONE", PatientName="ONE", **pixels(32, 32))
        )
        self.second = await self.client.store(
            dicom_object(
                sop="1.2.1.1.2", StudyDescription="TWO", PatientName="TWO", DerivationDescription="C", **pixels(32, 32)
            )
        )
        self.series = f"/series/{self.first['ParentSeries']}"
        self.study = f"/studies/{self.first['ParentStudy']}"

    async def reconstruct(self, path: str, body: object = b"") -> None:
        answer = await self.client.post(f"{path}/reconstruct", body)
        self.assertEqual(
            (answer.status, answer.body, answer.headers["content-type"]), (200, b"", "text/plain"), answer.body
        )

    async def told(self) -> tuple[str, str]:
        """What the study says of itself and its patient."""
        study = await self.client.json(self.study)
        patient = await self.client.json(f"/patients/{study['ParentPatient']}")
        self.assertEqual(study["PatientMainDicomTags"], patient["MainDicomTags"])
        return study["MainDicomTags"]["StudyDescription"], patient["MainDicomTags"]["PatientName"]

    async def state(self) -> Any:
        """All that is told of everything, but the names of files and what time changes."""
        state = []
        for path in (self.first["Path"], self.second["Path"], self.series, self.study):
            resource = await self.client.json(path)
            state.append((resource, await self.client.json(f"{path}/metadata", expand="")))
            for name in ("FileUuid", "FileSize", "IsStable"):
                resource.pop(name, None)
        return state

    def file(self, uuid: str) -> Any:
        return self.folder / uuid[:2] / uuid[2:4] / uuid

    async def info(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.client.json(f"{path}/attachments/dicom/info")
        return found

    async def until(self, condition: Any) -> None:
        while not condition():
            await deferLater(reactor, 0.005)


class TagTests(ReconstructCase):
    """Main tags, metadata and headers."""

    async def test_nothing_changes_without_a_reason(self) -> None:
        """Where the files say what the index says, everything stays, metadata of users included."""
        await self.client.ask("PUT", f"{self.first['Path']}/metadata/1024", "mine")
        await self.client.ask("DELETE", "/changes")
        before = await self.state()
        for path in (self.first["Path"], self.series, self.study, "/tools"):
            await self.reconstruct(path)
        self.assertEqual((await self.client.post("/tools/invalidate-tags")).status, 200)
        self.assertEqual(await self.state(), before)
        changes = (await self.client.json("/changes"))["Changes"]
        self.assertEqual([item for item in changes if "Stable" not in item["ChangeType"]], [])

    async def test_parents(self) -> None:
        """Parents say what the first instance of the resource says; searches find that."""
        self.assertEqual(await self.told(), ("ONE", "ONE"))
        await self.reconstruct(self.second["Path"])
        self.assertEqual(await self.told(), ("TWO", "TWO"))
        self.assertEqual(await self.client.find("Study", {"StudyDescription": "TWO"}), [self.first["ParentStudy"]])
        self.assertEqual(await self.client.find("Patient", {"PatientName": "ONE"}), [])
        await self.restart()
        self.assertEqual(await self.told(), ("TWO", "TWO"))
        await self.reconstruct(self.series, {})
        self.assertEqual(await self.told(), ("ONE", "ONE"))
        await self.reconstruct(self.second["Path"])
        self.assertEqual((await self.client.post("/tools/reconstruct", {})).status, 200)
        self.assertEqual(await self.told(), ("ONE", "ONE"))

    async def test_more_main_tags(self) -> None:
        """What ExtraMainDicomTags adds is known of old objects after it."""
        await self.restart(ExtraMainDicomTags={"Instance": ["DerivationDescription"]})
        path = self.second["Path"]
        self.assertNotIn("DerivationDescription", (await self.client.json(path))["MainDicomTags"])
        signature = (await self.client.get(f"{path}/metadata/MainDicomTagsSignature")).text
        await self.reconstruct(self.series)
        self.assertEqual((await self.client.json(path))["MainDicomTags"]["DerivationDescription"], "C")
        answer = await self.client.get(f"{path}/metadata/MainDicomTagsSignature")
        self.assertNotEqual(answer.text, signature)
        # It has been written twice, the rest once.
        self.assertEqual(answer.headers["etag"][:3], '"1-')
        answer = await self.client.get(f"{path}/metadata/TransferSyntax")
        self.assertEqual(answer.headers["etag"][:3], '"0-')

    async def test_one_level(self) -> None:
        """LimitToThisLevelMainDicomTags touches the resource alone, and the files of its instances not at all."""
        await self.restart(ExtraMainDicomTags={"Instance": ["DerivationDescription"]})
        await self.reconstruct(self.second["Path"])
        uuid = (await self.info(self.second["Path"]))["Uuid"]
        self.file(uuid).unlink()
        await self.reconstruct(self.study, {"LimitToThisLevelMainDicomTags": True})
        self.assertEqual(await self.told_study(), "ONE")
        patient = await self.client.json(f"/patients/{self.first['ParentPatient']}")
        self.assertEqual(patient["MainDicomTags"]["PatientName"], "TWO")

    async def told_study(self) -> str:
        return str((await self.client.json(self.study))["MainDicomTags"]["StudyDescription"])

    async def test_mistakes(self) -> None:
        """Unknown resources and wrong bodies."""
        for level in ("patients", "studies", "series", "instances"):
            self.assertError(await self.client.post(f"/{level}/{NOBODY}/reconstruct"), 404, 17)
        for body in ("x", "{", '{"ReconstructFiles": 1}', '{"LimitToThisLevelMainDicomTags": "yes"}'):
            self.assertError(await self.client.post(f"{self.series}/reconstruct", body), 400, 15)
        self.assertError(await self.client.post("/tools/reconstruct", "x"), 400, 15)
        self.assertError(await self.client.post("/tools/reconstruct", "[]"), 400, 8)

    async def test_files_that_cannot_be_read(self) -> None:
        """One that is gone, damaged or of somebody else is told of; the others are done."""
        await self.restart(ExtraMainDicomTags={"Instance": ["DerivationDescription"]})
        file = self.file((await self.info(self.first["Path"]))["Uuid"])
        good = file.read_bytes()
        cases: list[tuple[bytes | None, int, int]] = [
            (None, 404, 13),
            (b"", 404, 13),
            (b"x" * 100, 400, 15),
            (good[:-100], 400, 15),
            (dicom_object(sop="1.2.9"), 500, 20),
        ]
        for data, status, code in cases:
            file.unlink(missing_ok=True)
            if data is not None:
                file.write_bytes(data)
            for path in (self.first["Path"], self.series, "/tools"):
                self.assertError(await self.client.post(f"{path}/reconstruct"), status, code)
            self.assertError(await self.client.post("/tools/invalidate-tags"), status, code)
        tags = (await self.client.json(self.second["Path"]))["MainDicomTags"]
        self.assertEqual(tags["DerivationDescription"], "C")


class FileTests(ReconstructCase):
    """``ReconstructFiles``."""

    async def rewritten(self, path: str, **options: object) -> Answer:
        """The file of an instance after its reconstruction with other options; all that is told of it is true."""
        await self.restart(**options)
        self.server.retirement.delay = 0
        old = self.file((await self.info(path))["Uuid"])
        await self.reconstruct(path, FILES)
        await self.until(lambda: not old.exists())
        answer = await self.client.get(f"{path}/file")
        told = await self.info(path)
        self.assertEqual(told["UncompressedSize"], len(answer.body))
        self.assertEqual((await self.client.post(f"{path}/attachments/dicom/verify-md5")).status, 200)
        self.assertEqual(self.file(told["Uuid"]).stat().st_size, told["CompressedSize"])
        disk = sum((self.folder / name).stat().st_size for name in self.files() if SPOOL not in name)
        self.assertEqual((await self.client.json("/statistics"))["TotalDiskSize"], str(disk))
        return answer

    async def test_compression(self) -> None:
        """Files get the compression that is configured, and keep their bytes."""
        path = self.first["Path"]
        data = (await self.client.get(f"{path}/file")).body
        before = await self.state()
        for compressed in (True, False, False):
            answer = await self.rewritten(path, StorageCompression=compressed)
            self.assertEqual(answer.body, data)
            flag = (await self.client.get(f"{path}/attachments/dicom/is-compressed")).text
            self.assertEqual(flag, "1" if compressed else "0")
        self.assertEqual(await self.state(), before)

    async def test_transcoding(self) -> None:
        """Files get the transfer syntax of IngestTranscoding; header, offsets and metadata follow."""
        described = grey(64, 64)
        stored = await self.client.store(image(described, wave(described).tobytes()))
        path = stored["Path"]
        raw = (await self.client.get(f"{path}/frames/0/image-uint8")).body
        answer = await self.rewritten(path, IngestTranscoding=JPEG_LS_LOSSLESS)
        self.assertEqual(dcmread(io.BytesIO(answer.body)).file_meta.TransferSyntaxUID, JPEG_LS_LOSSLESS)
        self.assertEqual((await self.client.get(f"{path}/metadata/TransferSyntax")).text, JPEG_LS_LOSSLESS)
        header = await self.client.json(f"{path}/header", simplify="")
        self.assertEqual(header["TransferSyntaxUID"], JPEG_LS_LOSSLESS)
        self.assertEqual((await self.client.get(f"{path}/frames/0/image-uint8")).body, raw)
        self.assertEqual((await self.client.get(f"{path}/frames/0/raw")).body[:2], b"\xff\xd8")

    async def test_other_instance(self) -> None:
        """A lossy transfer syntax would make another instance: the object stays as it is."""
        data = (await self.client.get(f"{self.first['Path']}/file")).body
        answer = await self.rewritten(self.first["Path"], IngestTranscoding=JPEG_BASELINE)
        self.assertEqual(answer.body, data)
        self.assertEqual(len(await self.client.json("/instances")), 2)

    async def test_everything_while_others_work(self) -> None:
        """Uploads, downloads and a deletion in the meantime lose nothing, and nobody finds a file missing."""
        await self.restart(StorageCompression=True)
        self.server.retirement.delay = 0
        objects = {}
        for number in range(3, 40):
            data = dicom_object(sop=f"1.2.1.1.{number}", **pixels(16, 16))
            objects[(await self.client.store(data))["ID"]] = data
        await self.restart(StorageCompression=False)
        doomed = next(iter(objects))
        running = [
            Deferred.fromCoroutine(self.client.post("/tools/reconstruct", FILES)),
            Deferred.fromCoroutine(self.client.post(f"{self.series}/reconstruct", FILES)),
            Deferred.fromCoroutine(self.client.ask("DELETE", f"/instances/{doomed}")),
            Deferred.fromCoroutine(self.client.post("/instances", dicom_object(sop="1.2.1.1.99"))),
            *(Deferred.fromCoroutine(self.client.get(f"/instances/{instance}/file")) for instance in objects),
        ]
        answers = await gatherResults(running)
        self.assertEqual([answer.status for answer in answers[:4]], [200] * 4)
        for (instance, data), answer in zip(objects.items(), answers[4:], strict=True):
            if instance != doomed:
                self.assertEqual(answer.body, data)
        del objects[doomed]
        for instance, data in objects.items():
            self.assertEqual((await self.client.get(f"/instances/{instance}/file")).body, data)
            self.assertEqual(
                (await self.client.get(f"/instances/{instance}/attachments/dicom/is-compressed")).text, "0"
            )
        await self.stop()
        await self._start(self.SETTINGS)
        self.assertEqual(len(self.files()), len(objects) + 3)

    async def test_damage(self) -> None:
        """A damaged file is not written anew under a new digest."""
        path = self.first["Path"]
        info = await self.info(path)
        file = self.file(info["Uuid"])
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        self.assertError(await self.client.post(f"{path}/reconstruct", FILES), 500, 20)
        self.assertEqual((await self.info(path))["Uuid"], info["Uuid"])
        file.unlink()
        self.assertError(await self.client.post(f"{path}/reconstruct", FILES), 404, 13)
        self.assertEqual([name for name in self.files() if SPOOL in name], [])

    async def test_stop(self) -> None:
        """A server that stops ends a long reconstruction, and what it has done stays."""
        await self.restart(StorageCompression=True)
        self.server.reconstruction.stop()
        self.assertError(await self.client.post("/tools/reconstruct", FILES), 503, 36)


class IndexTests(IndexTestCase):
    """What the index does with it."""

    def item(self, uuid: str) -> Reconstructed:
        new = new_instance()
        replacement = attachment(1, size=30)
        return Reconstructed(
            instance=ids(new)[3],
            uuid=uuid,
            resources={INSTANCE: attrs.evolve(new.instance, main_tags={0x00200013: "77"}, metadata={9: "1.2"})},
            header=b"new",
            attachment=replacement,
        )

    def test_files_that_old_versions_have_derived(self) -> None:
        """They go with the file that they were made of."""
        files = [attachment(number, size=10) for number in (1, 2, 3, 1024)]
        self.store(attrs.evolve(new_instance(), attachments=tuple(files)))
        item = self.item(files[0].uuid)
        removed = self.result(self.index.reconstruct([item]))
        self.assertEqual(sorted(removed), sorted(file.uuid for file in files[:3]))
        self.assertEqual(set(self.result(self.index.pending_removals())), set(removed))
        found = self.result(self.index.attachments(INSTANCE, item.instance))
        self.assertEqual({number: (each.uuid, each.revision) for number, each in found.items()}, {
            1: (item.attachment.uuid if item.attachment else "", 1),
            1024: (files[3].uuid, 0),
        })
        self.assertEqual(self.result(self.index.header(item.instance)), b"new")
        self.assertEqual(self.result(self.index.resource(INSTANCE, item.instance)).main_tags, {0x00200013: "77"})
        statistics = self.result(self.index.statistics())
        self.assertEqual((statistics.disk_size, statistics.dicom_disk_size), (40, 30))

    def test_file_that_is_not_the_one(self) -> None:
        """An instance that is gone, or has another file by now, stays as it is; the new file is not needed."""
        self.store(new_instance())
        before = self.result(self.index.resource(INSTANCE, ids(new_instance())[3]))
        item = self.item("another")
        assert item.attachment is not None
        for each in (item, attrs.evolve(item, instance="unknown")):
            self.assertEqual(self.result(self.index.reconstruct([each])), (item.attachment.uuid,))
        self.assertEqual(self.result(self.index.resource(INSTANCE, item.instance)), before)
        self.assertEqual(self.result(self.index.pending_removals()), ())
