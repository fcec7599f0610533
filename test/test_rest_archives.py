"""Archives over HTTP: what is in them, ranges, options, jobs, and what goes wrong in the middle."""

from __future__ import annotations

import io
import json
import os
import socket
import sqlite3
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.archives.building import ArchiveOptions
from orthanctw.model import AttachmentType, ResourceLevel
from test.rest_samples import (
    NOBODY,
    SPOOL,
    Answer,
    LargeObject,
    RestCase,
    dicom_object,
    exchange,
    peak_memory,
    pixels,
    wire,
)
from test.servers import ORTHANC, PATIENCE, ServerProcess, request
from test.test_rest_large import LIMIT, upload

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
LOSSLESS = "1.2.840.10008.1.2.4.70"
LOSSY = "1.2.840.10008.1.2.4.50"
MEGABYTE = 1 << 20


def members(answer: Answer) -> dict[str, bytes]:
    """The files of an archive, which must be whole and of the right type."""
    if answer.status != 200 or answer.headers["content-type"] != "application/zip":
        raise AssertionError(f"{answer.status} {answer.headers} {answer.body[:500]!r}")
    return opened(answer.body)


def opened(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


class ArchiveCase(RestCase):
    """With the objects of two patients."""

    async def setUp(self) -> None:
        await super().setUp()
        uploads = await self.fill()
        self.instances = [upload["ID"] for upload in uploads]
        self.patient = uploads[0]["ParentPatient"]
        self.study = uploads[0]["ParentStudy"]
        self.series = uploads[0]["ParentSeries"]
        self.other = uploads[3]["ParentPatient"]

    async def file(self, instance: str) -> bytes:
        return (await self.client.get(f"/instances/{instance}/file")).body

    async def files_of(self, *numbers: int) -> list[bytes]:
        return [await self.file(self.instances[number]) for number in numbers]

    def held(self) -> list[str]:
        """Files of the storage area that this process has open."""
        paths = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        inside = [path for path in paths if path.startswith(str(self.folder.resolve())) and not os.path.isdir(path)]
        return [path for path in inside if "orthanctw.db" not in path and "orthanctw.lock" not in path]

    def spooled(self) -> list[str]:
        return [name for name in self.files() if name.startswith(SPOOL)]

    async def until(self, condition: Any) -> None:
        """Return when `condition` holds: the server is in this process, and does its work in between."""
        while not condition():
            await deferLater(reactor, 0)

    async def large(self, count: int = 3) -> str:
        """A patient with some objects of 8 MB; more than sockets hold."""
        for number in range(count):
            sop = f"1.8.1.1.{number}"
            await self.client.store(dicom_object("P8", "1.8.1", "1.8.1.1", sop, **pixels(2048, 4096, fill=number)))
        (patient,) = await self.client.find("Patient", {"PatientID": "P8"})
        return str(patient)

    async def job(self, answer: Answer) -> dict[str, Any]:
        """A job that was submitted, once it has ended."""
        self.assertEqual(answer.status, 200, answer.body)
        path = answer.json()["Path"]
        record = self.server.jobs.job(answer.json()["ID"])
        assert record is not None
        await self.server.jobs.wait(record)
        job: dict[str, Any] = await self.client.json(path)
        return job


class ArchiveTests(ArchiveCase):
    async def test_levels(self) -> None:
        """Every level gives what lies below it, byte for byte, and the same bytes each time."""
        first, second, third, fourth = await self.files_of(0, 1, 2, 3)
        study = "P1 - DOE JOHN/ACC-1 - HEAD/"
        one, two = {f"{study}1 - CT - AXIAL/CT00000{n}.dcm": f for n, f in ((1, first), (2, second))}, third
        for path, expected in (
            (f"/series/{self.series}", one),
            (f"/studies/{self.study}", {**one, f"{study}2 - MR - SAG/MR000001.dcm": two}),
            (f"/patients/{self.patient}", {**one, f"{study}2 - MR - SAG/MR000001.dcm": two}),
            (f"/patients/{self.other}", {"P2 - MLLER ANNA/acc-2 - KNEE/1 - CT - AXIAL/CT000001.dcm": fourth}),
        ):
            answer = await self.client.get(f"{path}/archive")
            self.assertEqual(members(answer), expected)
            self.assertEqual(list(members(answer)), list(expected))
            name = path.rpartition("/")[2]
            self.assertEqual(answer.headers["content-disposition"], f'filename="{name}.zip"')
            self.assertEqual(answer.headers["content-length"], str(len(answer.body)))
            self.assertEqual((await self.client.get(f"{path}/archive")).body, answer.body)
            self.assertEqual((await self.client.post(f"{path}/archive", {})).body, answer.body)
            saved = self.folder / "x.zip"
            saved.write_bytes(answer.body)
            subprocess.run(["/usr/bin/unzip", "-tqq", saved], check=True)

    async def test_media(self) -> None:
        """A file-set has its files in one folder, and a DICOMDIR that tells of them."""
        files = await self.files_of(0, 1, 2)
        sizes = []
        for path in ("media", "media?extended=0"):
            answer = await self.client.get(f"/patients/{self.patient}/{path}")
            found = members(answer)
            self.assertEqual(list(found), ["IMAGES/IM0", "IMAGES/IM1", "IMAGES/IM2", "DICOMDIR"])
            self.assertEqual(list(found.values())[:3], files)
            directory = dcmread(io.BytesIO(found["DICOMDIR"]))
            kinds = [record.DirectoryRecordType for record in directory.DirectoryRecordSequence]
            self.assertEqual(kinds, ["PATIENT", "STUDY", "SERIES", "IMAGE", "IMAGE", "SERIES", "IMAGE"])
            sizes.append(len(found["DICOMDIR"]))
            saved = self.folder / "DICOMDIR"
            saved.write_bytes(found["DICOMDIR"])
            told = subprocess.run(["/usr/bin/dciodvfy", saved], capture_output=True, text=True, check=False)
            self.assertNotIn("Error", told.stderr)
            self.assertEqual((await self.client.get(f"/patients/{self.patient}/{path}")).body, answer.body)
        self.assertLess(*sizes)

    async def test_several(self) -> None:
        """Resources of any level together, each instance once."""
        files = await self.files_of(0, 1, 2, 3)
        for resources, expected in (
            ([self.patient, self.other], files),
            ([self.other, self.patient], [files[3], *files[:3]]),
            ([self.instances[1]], [files[1]]),
            ([self.instances[1], self.series, self.series, self.instances[2]], files[:3]),
            ([], []),
        ):
            listed = ",".join(resources)
            for path, extra in (("archive", 0), ("media", 1), ("media-extended", 1)):
                for answer in (
                    await self.client.get(f"/tools/create-{path}", resources=listed),
                    await self.client.post(f"/tools/create-{path}", resources),
                    await self.client.post(f"/tools/create-{path}", {"Resources": resources}),
                ):
                    found = list(members(answer).values())
                    self.assertEqual(found[: len(found) - extra], expected)
                    self.assertEqual(answer.headers["content-disposition"], 'filename="Archive.zip"')
        plain, extended, told = [
            (await self.client.post(f"/tools/create-{path}", {"Resources": [self.patient], **more})).body
            for path, more in (("media", {}), ("media-extended", {}), ("media", {"Extended": True}))
        ]
        self.assertLess(len(plain), len(extended))
        self.assertEqual(told, extended)

    async def test_names(self) -> None:
        """Names are UTF-8 when a request or ZipUseUtf8 says so, with the flag for it, and ASCII otherwise."""
        path = f"/patients/{self.other}/archive"
        for answer, name, flag in (
            (await self.client.post(path, {}), "MLLER", 0),
            (await self.client.post(path, {"Utf8": False}), "MLLER", 0),
            (await self.client.post(path, {"Utf8": True}), "MÜLLER", 0x800),
        ):
            with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
                (info,) = archive.infolist()
            self.assertIn(name, info.filename)
            self.assertEqual(info.flag_bits, flag)
        await self.restart(ZipUseUtf8=True)
        self.assertIn("MÜLLER", next(iter(members(await self.client.get(path)))))
        self.assertIn("MLLER", next(iter(members(await self.client.post(path, {"Utf8": False})))))

    async def test_strange_names(self) -> None:
        """Unknown, repeated and dangerous names stay within the archive's folder."""
        for number, values in enumerate(
            (
                {"PatientName": "", "StudyDescription": "", "AccessionNumber": "", "Modality": None},
                {"PatientName": "^", "StudyDescription": "../..", "AccessionNumber": "..", "Modality": "CT"},
                {"PatientName": "^", "StudyDescription": "../..", "AccessionNumber": "..", "Modality": "CT"},
            )
        ):
            series = f"1.7.{number}.1"
            data = dicom_object(
                "", f"1.7.{number}", series, f"{series}.1", SeriesNumber=None, SeriesDescription="", **values
            )
            await self.client.store(data)
        (patient,) = set(await self.client.json("/patients")) - {self.patient, self.other}
        self.assertEqual(
            sorted(members(await self.client.get(f"/patients/{patient}/archive"))),
            [
                "Unknown Patient/Unknown Study-2/CT/CT000001.dcm",
                "Unknown Patient/Unknown Study-3/CT/CT000001.dcm",
                "Unknown Patient/Unknown Study/Unknown Series/00000001.dcm",
            ],
        )

    async def test_ranges(self) -> None:
        """A download goes on at any border of the archive, and only while it is the same."""
        path = f"/patients/{self.patient}/media"
        whole = await self.client.get(path)
        size, tag = len(whole.body), whole.headers["etag"]
        self.assertEqual(whole.headers["accept-ranges"], "bytes")
        selected = await self.server.archives.select([self.patient], ArchiveOptions(media=True))
        borders = (await self.server.archives.layout(selected)).borders()
        for start in sorted({p + d for p in borders for d in (-1, 0, 1) if 0 <= p + d < size}):
            answer = await self.client.ask("GET", path, headers={"Range": f"bytes={start}-", "If-Range": tag})
            self.assertEqual((answer.status, answer.body), (206, whole.body[start:]))
            self.assertEqual(answer.headers["content-range"], f"bytes {start}-{size - 1}/{size}")
        answer = await self.client.ask("GET", path, headers={"Range": "bytes=10-19"})
        self.assertEqual((answer.body, answer.headers["content-length"]), (whole.body[10:20], "10"))
        for headers, status in (
            ({"Range": f"bytes={size}-"}, 416),
            ({"Range": "bytes=x"}, 400),
            ({"Range": "bytes=5-", "If-Range": '"other"'}, 200),
            ({"If-None-Match": tag}, 304),
        ):
            self.assertEqual((await self.client.ask("GET", path, headers=headers)).status, status, headers)
        answer = await self.client.post(path, {}, Range="bytes=5-6")
        self.assertEqual((answer.status, answer.body), (200, whole.body))
        told = await self.exchange(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertIn(f"Content-Length: {size}\r\n".encode(), told)
        self.assertTrue(told.endswith(b"\r\n\r\n"))
        await self.client.store(dicom_object("P1", "1.2.1", "1.2.1.2", "1.2.1.2.2", Modality="MR"))
        answer = await self.client.ask("GET", path, headers={"Range": "bytes=5-", "If-Range": tag})
        self.assertEqual(answer.status, 200)

    async def test_file_names_of_downloads(self) -> None:
        """A request may name the download."""
        path = f"/series/{self.series}/archive"
        for answer in (
            await self.client.get(path, filename="mine.zip"),
            await self.client.post(path, {"Filename": "mine.zip"}),
        ):
            self.assertEqual(answer.headers["content-disposition"], 'filename="mine.zip"')
        job = await self.client.post(path, {"Filename": "mine.zip", "Asynchronous": True})
        output = await self.client.get((await self.job(job))["ID"].join(("/jobs/", "/archive")))
        self.assertEqual(output.headers["content-disposition"], 'filename="mine.zip"')

    async def test_errors(self) -> None:
        """Unknown resources, wrong types and impossible options have Orthanc's errors, and leave no job."""
        for level in ("patients", "studies", "series"):
            for name in ("archive", "media"):
                self.assertError(await self.client.get(f"/{level}/{NOBODY}/{name}"), 404, 17)
                for body in ({}, {"Asynchronous": True}):
                    self.assertError(await self.client.post(f"/{level}/{NOBODY}/{name}", body), 404, 17)
        self.assertEqual((await self.client.get(f"/instances/{self.instances[0]}/archive")).status, 404)
        path = f"/series/{self.series}/media"
        for fields, code in (
            ({"Synchronous": 1}, 15),
            ({"Asynchronous": "x"}, 15),
            ({"Transcode": 3}, 15),
            ({"Transcode": "nope"}, 3),
            ({"Priority": "x"}, 15),
            ({"Extended": 3}, 15),
            ({"Utf8": 3}, 15),
            ({"Filename": 3}, 15),
            ({"LossyQuality": "x"}, 15),
            ({"LossyQuality": 0}, 3),
            ({"LossyQuality": 101}, 3),
        ):
            self.assertError(await self.client.post(path, fields), 400, code)
        for arguments, code in (({"transcode": ""}, 3), ({"lossy-quality": "x"}, 5), ({"lossy-quality": "0"}, 3)):
            self.assertError(await self.client.get(path, **arguments), 400, code)
        for body in (b"", b"nope"):
            self.assertError(await self.client.post(path, body), 400, 15)
        for body in ([], 3, {"Permissive": 3}, {"UserData": 3}):
            members(await self.client.post(path, json.dumps(body)))
        for name in ("archive", "media", "media-extended"):
            tool = f"/tools/create-{name}"
            self.assertError(await self.client.get(tool), 400, 8)
            self.assertError(await self.client.get(tool, resources=NOBODY), 404, 17)
            for wrong in (b"", b"nope", b'"x"', b"3", b"{}", b'{"Resources": "x"}', b'{"Resources": [3]}', b"[3]"):
                self.assertError(await self.client.post(tool, wrong), 400, 15)
            for unknown in ([NOBODY], {"Resources": [self.series, NOBODY], "Asynchronous": True}):
                self.assertError(await self.client.post(tool, unknown), 404, 17)
        states = {job["State"] for job in await self.client.json("/jobs", expand="")}
        self.assertEqual(states, {"Success"})


class StorageTests(ArchiveCase):
    """What lies in the storage area."""

    async def test_compressed(self) -> None:
        """Files that are stored in compressed form are inflated on the way, from any place."""
        await self.restart(StorageCompression=True)
        data = dicom_object("P9", "1.9.1", "1.9.1.1", "1.9.1.1.1", **pixels(600, 600))
        await self.client.store(data)
        (patient,) = await self.client.find("Patient", {"PatientID": "P9"})
        answer = await self.client.get(f"/patients/{patient}/archive")
        self.assertEqual(list(members(answer).values()), [data])
        part = await self.client.ask("GET", f"/patients/{patient}/archive", headers={"Range": "bytes=300000-"})
        self.assertEqual(part.body, answer.body[300000:])

    def database(self, statement: str) -> list[Any]:
        connection = sqlite3.connect(self.folder / "orthanctw.db", isolation_level=None)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    async def test_checksums(self) -> None:
        """Checksums that the index does not have are computed once."""
        known = self.database("SELECT uuid, crc32 FROM attachments ORDER BY uuid")
        before = await self.client.get(f"/patients/{self.patient}/archive")
        self.database("UPDATE attachments SET crc32 = -1")
        after = await self.client.get(f"/patients/{self.patient}/archive")
        self.assertEqual(after.body, before.body)
        await self.client.get(f"/patients/{self.other}/archive")
        self.assertEqual(self.database("SELECT uuid, crc32 FROM attachments ORDER BY uuid"), known)

    async def cut(self, path: str) -> bytes:
        """What comes of an answer that ends too early."""
        received = await exchange(self.port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = received.partition(b"\r\n\r\n")
        self.assertIn(b" 200 ", head)
        if b"Content-Length: " in head:
            self.assertLess(len(body), int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        else:
            self.assertFalse(body.endswith(b"0\r\n\r\n"))
        with self.assertRaises(zipfile.BadZipFile):
            zipfile.ZipFile(io.BytesIO(body))
        return body

    async def test_damaged_files(self) -> None:
        """A file that is gone, short or changed cuts the connection; nothing that comes looks whole."""
        paths = [self.folder / name for name in self.files()]
        for damage in (
            lambda path: os.truncate(path, 300),
            lambda path: path.write_bytes(b"x" * path.stat().st_size),
            os.unlink,
        ):
            for path in paths:
                damage(path)  # type: ignore[no-untyped-call]
            for name in ("archive", "media"):
                await self.cut(f"/patients/{self.patient}/{name}")
                answer = await self.client.post(f"/patients/{self.patient}/{name}", {"Asynchronous": True})
                job = await self.job(answer)
                self.assertEqual(job["State"], "Failure")
                self.assertIn(job["ErrorCode"], (13, 20), job)
        self.assertEqual((self.held(), self.spooled()), ([], []))

    async def test_damaged_stream(self) -> None:
        """The same with archives whose length is not known."""
        await self.restart(Orthanctw={"ArchiveDeflate": True})
        for name in self.files():
            os.truncate(self.folder / name, 300)
        await self.cut(f"/patients/{self.patient}/archive")
        self.assertEqual(self.held(), [])

    async def begin(self, path: str) -> Any:
        """A connection on which an answer has begun, and that is not read from."""
        connection = await wire(self.port)
        connection.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await connection.until(b"PK")
        connection.transport.pauseProducing()
        return connection

    async def test_leaving(self) -> None:
        """A client that leaves in the middle leaves nothing open, and a failed job."""
        patient = await self.large()
        for query in ("archive", f"archive?transcode={IMPLICIT}", "media"):
            connection = await self.begin(f"/patients/{patient}/{query}")
            connection.abort()
            await self.until(lambda: not self.held())
            await self.until(lambda: self.server.api.active == 0)
        await self.until(lambda: len([job for job in self.server.jobs.jobs() if job.is_finished]) == 3)
        jobs = await self.client.json("/jobs", expand="")
        self.assertEqual({(job["State"], job["ErrorCode"]) for job in jobs}, {("Failure", 9)})
        self.assertEqual(self.spooled(), [])

    async def test_given_up(self) -> None:
        """Who gives up before a file is open leaves none open."""
        await self.restart(MaximumStorageCacheSize=0)
        (instance, *_) = await self.client.json("/instances")
        attachments = await self.server.index.attachments(ResourceLevel.INSTANCE, instance)
        assert attachments is not None
        opened: list[bool] = []
        for _ in range(8):
            reading = self.server.storage.reader(attachments[AttachmentType.DICOM])
            reading.addBoth(lambda found: opened.append(not isinstance(found, Failure)))
            reading.cancel()
        self.assertEqual(opened, [False] * 8)
        # The pool stops once all that waits is done.
        await self.stop()
        self.assertEqual(self.held(), [])

    async def test_deleted_meanwhile(self) -> None:
        """What is deleted while it is downloaded cuts the connection, unless it was open already."""
        patient = await self.large(4)
        connection = await self.begin(f"/patients/{patient}/archive")
        self.assertEqual((await self.client.ask("DELETE", f"/patients/{patient}")).status, 200)
        connection.transport.resumeProducing()
        received = await connection.lost
        with self.assertRaises(zipfile.BadZipFile):
            zipfile.ZipFile(io.BytesIO(received.partition(b"\r\n\r\n")[2]))
        self.assertEqual(self.held(), [])


class TranscodingTests(ArchiveCase):
    """Archives that are made on the way."""

    async def check(self, answer: Answer, count: int) -> None:
        found = members(answer)
        self.assertEqual(len(found), count)
        for name, data in found.items():
            if name != "DICOMDIR":
                self.assertEqual(dcmread(io.BytesIO(data)).file_meta.TransferSyntaxUID, IMPLICIT)

    async def test_transcode(self) -> None:
        """Members are in the transfer syntax that is asked for; the length is not announced."""
        path = f"/patients/{self.patient}/archive"
        for answer in (
            await self.client.get(path, transcode=IMPLICIT, **{"lossy-quality": "80"}),
            await self.client.post(path, {"Transcode": IMPLICIT, "LossyQuality": 80}),
        ):
            await self.check(answer, 3)
            self.assertNotIn("content-length", answer.headers)
        job = await self.job(await self.client.post(path, {"Transcode": IMPLICIT, "Asynchronous": True}))
        self.assertEqual(job["Content"]["Transcode"], IMPLICIT)
        await self.check(await self.client.get(f"/jobs/{job['ID']}/archive"), 3)

    async def test_impossible(self) -> None:
        """What cannot be transcoded, or is in that transfer syntax already, stays as it is."""
        files = await self.files_of(0, 1, 2)
        for syntax in (EXPLICIT, "1.2.840.10008.1.2.4.107"):
            answer = await self.client.get(f"/patients/{self.patient}/archive", transcode=syntax)
            self.assertEqual(list(members(answer).values()), files)

    async def test_media(self) -> None:
        """The DICOMDIR tells the transfer syntax that files have now."""
        found = members(await self.client.get(f"/patients/{self.patient}/media", transcode=IMPLICIT))
        directory = dcmread(io.BytesIO(found["DICOMDIR"]))
        syntaxes = {
            record.ReferencedTransferSyntaxUIDInFile
            for record in directory.DirectoryRecordSequence
            if record.DirectoryRecordType == "IMAGE"
        }
        self.assertEqual(syntaxes, {IMPLICIT})

    async def test_codecs(self) -> None:
        """Pixels are compressed; what loses something is another instance, which the DICOMDIR knows."""
        values = {**pixels(64, 64), "PixelData": bytes(range(64)) * 64}
        await self.client.store(dicom_object("P9", "1.9.1", "1.9.1.1", "1.9.1.1.1", **values))
        (patient,) = await self.client.find("Patient", {"PatientID": "P9"})
        sizes = []
        for threshold, syntax, quality in ((1024, LOSSLESS, 90), (0, LOSSLESS, 90), (0, LOSSY, 90), (0, LOSSY, 10)):
            await self.restart(Orthanctw={"SpoolThresholdKB": threshold})
            options = {"Transcode": syntax, "LossyQuality": quality}
            found = members(await self.client.post(f"/patients/{patient}/media", options))
            image = dcmread(io.BytesIO(found["IMAGES/IM0"]))
            self.assertEqual(image.file_meta.TransferSyntaxUID, syntax)
            self.assertEqual(image.SOPInstanceUID == "1.9.1.1.1", syntax == LOSSLESS)
            record = dcmread(io.BytesIO(found["DICOMDIR"])).DirectoryRecordSequence[-1]
            self.assertEqual(record.ReferencedTransferSyntaxUIDInFile, syntax)
            self.assertEqual(record.ReferencedSOPInstanceUIDInFile, image.SOPInstanceUID)
            sizes.append(len(found["IMAGES/IM0"]))
            await self.until(lambda: not self.spooled())
            self.assertEqual(self.held(), [])
        self.assertEqual(sizes[0], sizes[1])
        self.assertGreater(sizes[2], sizes[3])

    async def test_old_clients(self) -> None:
        """To HTTP/1.0 the end of the connection is the end of the archive."""
        path = f"/patients/{self.patient}/archive?transcode={IMPLICIT}"
        received = await exchange(self.port, f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = received.partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", head)
        self.assertEqual(len(opened(body)), 3)

    async def test_buffered(self) -> None:
        """Without SynchronousZipStream an archive is made first: its length is announced. POST makes jobs then."""
        await self.restart(SynchronousZipStream=False)
        path = f"/patients/{self.patient}/archive"
        answer = await self.client.get(path, transcode=IMPLICIT)
        await self.check(answer, 3)
        self.assertEqual(answer.headers["content-length"], str(len(answer.body)))
        self.assertEqual((self.spooled(), self.held()), ([], []))
        self.assertEqual((await self.job(await self.client.post(path, {})))["State"], "Success")
        await self.check(await self.client.post(path, {"Synchronous": True, "Transcode": IMPLICIT}), 3)

    async def test_buffering_is_left(self) -> None:
        """A client that leaves while its archive is made leaves no file."""
        await self.restart(SynchronousZipStream=False)
        path = f"/patients/{await self.large()}/archive"
        body = json.dumps({"Synchronous": True, "Transcode": IMPLICIT})
        for text in (
            f"GET {path}?transcode={IMPLICIT} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}",
        ):
            connection = await wire(self.port)
            connection.write(text.encode())
            await self.until(self.spooled)
            connection.abort()
            await self.until(lambda: not self.spooled() and not self.held() and not self.server.api.active)

    async def test_deflated(self) -> None:
        """With ArchiveDeflate members are deflated."""
        await self.restart(Orthanctw={"ArchiveDeflate": True})
        data = dicom_object("P9", "1.9.1", "1.9.1.1", "1.9.1.1.1", **pixels(600, 600))
        await self.client.store(data)
        (patient,) = await self.client.find("Patient", {"PatientID": "P9"})
        for path in ("archive", "media", f"archive?transcode={EXPLICIT}"):
            answer = await self.client.get(f"/patients/{patient}/{path}")
            self.assertEqual(next(iter(members(answer).values())), data)
            self.assertLess(len(answer.body), 10_000)
            saved = self.folder / "x.zip"
            saved.write_bytes(answer.body)
            subprocess.run(["/usr/bin/unzip", "-tqq", saved], check=True)


class JobTests(ArchiveCase):
    """Archives made by jobs."""

    async def submit(self, path: str = "archive", **fields: Any) -> dict[str, Any]:
        answer = await self.client.post(f"/patients/{self.patient}/{path}", {"Asynchronous": True, **fields})
        return await self.job(answer)

    async def test_life(self) -> None:
        """A job tells what it makes; its output is the archive, until it is dropped."""
        for path, kind in (("archive", "Archive"), ("media", "Media")):
            job = await self.submit(path, Priority=3, UserData="mine", Utf8=True)
            self.assertEqual((job["Type"], job["State"], job["Priority"]), (kind, "Success", 3))
            self.assertEqual((job["UserData"], job["Progress"]), ("mine", 100))
            whole = (await self.client.post(f"/patients/{self.patient}/{path}", {"Utf8": True})).body
            size = sum(map(len, await self.files_of(0, 1, 2)))
            self.assertEqual(
                job["Content"],
                {
                    "Description": "REST API",
                    "InstancesCount": 3,
                    "UncompressedSize": str(size),
                    "UncompressedSizeMB": 0,
                    "ArchiveSize": str(len(whole)),
                    "ArchiveSizeMB": 0,
                    "Utf8": True,
                },
            )
            output = await self.client.get(f"/jobs/{job['ID']}/archive")
            self.assertEqual(output.body, whole)
            self.assertEqual(output.headers["content-type"], "application/zip")
            self.assertEqual(output.headers["content-length"], str(len(whole)))
            self.assertEqual(output.headers["content-disposition"], f'filename="{self.patient}.zip"')
            self.assertEqual((await self.client.get(f"/jobs/{job['ID']}/other")).status, 404)
            self.assertEqual((await self.client.ask("DELETE", f"/jobs/{job['ID']}/archive")).status, 200)
            self.assertEqual((await self.client.get(f"/jobs/{job['ID']}/archive")).status, 404)
            self.assertEqual((await self.client.ask("DELETE", f"/jobs/{job['ID']}/archive")).status, 404)
            self.assertEqual(self.spooled(), [])

    async def test_ranges(self) -> None:
        """Parts of an archive that a job has made are given as those of a file, and HEAD tells its size."""
        path = f"/jobs/{(await self.submit())['ID']}/archive"
        kept = self.held()
        whole = (await self.client.get(path)).body
        size = len(whole)
        for asked, first, last in (
            ("bytes=0-0", 0, 0),
            ("bytes=10-99", 10, 99),
            (f"bytes={size - 7}-", size - 7, size - 1),
            (f"bytes=5-{size + 5}", 5, size - 1),
        ):
            answer = await self.client.get(path, headers={"Range": asked})
            self.assertEqual((answer.status, answer.body), (206, whole[first : last + 1]), asked)
            self.assertEqual(answer.headers["content-range"], f"bytes {first}-{last}/{size}")
            self.assertEqual(answer.headers["content-length"], str(last - first + 1))
        self.assertError(await self.client.get(path, headers={"Range": f"bytes={size}-"}), 416, 41)
        self.assertError(await self.client.get(path, headers={"Range": "lines=0-1"}), 400, 8)
        head = await self.exchange(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK") and head.endswith(b"\r\n\r\n"))
        self.assertIn(f"Content-Length: {size}\r\n".encode(), head)
        await self.until(lambda: self.held() == kept)

    async def test_user_data(self) -> None:
        """Only text is kept."""
        self.assertNotIn("UserData", await self.submit(UserData={"a": 1}))

    async def test_what_is_kept(self) -> None:
        """The last ones are kept, as many as MediaArchiveSize says; a job that is forgotten takes its file along."""
        await self.restart(MediaArchiveSize=2)
        jobs = [await self.submit() for _ in range(3)]
        answers = [(await self.client.get(f"/jobs/{job['ID']}/archive")).status for job in jobs]
        self.assertEqual((answers, len(self.spooled())), ([404, 200, 200], 2))
        self.assertEqual((await self.client.ask("DELETE", f"/jobs/{jobs[2]['ID']}")).status, 200)
        self.assertEqual(len(self.spooled()), 1)
        await self.restart()
        self.assertEqual((self.spooled(), await self.client.json("/jobs")), ([], []))

    async def begun(self, submitted: Answer) -> Any:
        """A job that is in the middle of its archive."""
        record = self.server.jobs.job(submitted.json()["ID"])
        assert record is not None
        await self.until(lambda: record.position.get("ArchiveSize"))
        self.assertEqual(len(self.spooled()), 1)
        return record

    async def test_stop(self) -> None:
        """A server that stops while a job makes an archive holds and leaves nothing."""
        patient = await self.large()
        await self.begun(await self.client.post(f"/patients/{patient}/archive", {"Asynchronous": True}))
        await self.stop()
        self.assertEqual((self.held(), self.spooled()), ([], []))

    async def test_cancel(self) -> None:
        """A job that is cancelled or paused in the middle leaves no file; one that goes on begins again."""
        patient = await self.large()
        for action in ("cancel", "pause"):
            submitted = await self.client.post(f"/patients/{patient}/archive", {"Asynchronous": True})
            record = await self.begun(submitted)
            self.assertTrue(0 < record.progress < 1)
            self.assertEqual((await self.client.post(f"/jobs/{record.job_id}/{action}")).status, 200)
            await self.until(lambda record=record: record.state.value != "Running" and not self.spooled())
            self.assertEqual(self.held(), [])
        self.assertEqual(record.state.value, "Paused")
        self.assertEqual((await self.client.post(f"/jobs/{record.job_id}/resume")).status, 200)
        job = await self.job(submitted)
        self.assertEqual(job["State"], "Success")
        self.assertEqual(len(members(await self.client.get(f"/jobs/{job['ID']}/archive"))), 3)
        failed = await self.client.json("/jobs", status="Failure")
        self.assertEqual((await self.client.post(f"/jobs/{failed[0]}/resubmit")).status, 400)

    async def test_downloads_are_listed(self) -> None:
        """Downloads are jobs that have ended; parts of one are none, and neither is a question for its size."""
        for path in ("archive", "media", f"archive?transcode={IMPLICIT}"):
            await self.client.get(f"/patients/{self.patient}/{path}")
        await self.client.ask("HEAD", f"/patients/{self.patient}/archive")
        await self.client.ask("GET", f"/patients/{self.patient}/archive", headers={"Range": "bytes=5-"})
        records = self.server.jobs.jobs()
        for record in records:
            await self.server.jobs.wait(record)
        jobs = await self.client.json("/jobs", expand="")
        told = sorted((job["Type"], job["State"], job["Content"]["InstancesCount"]) for job in jobs)
        self.assertEqual(told, [("Archive", "Success", 3)] * 2 + [("Media", "Success", 3)])
        self.assertTrue(all(int(job["Content"]["ArchiveSize"]) > 1000 for job in jobs))
        self.assertEqual((await self.client.get(f"/jobs/{jobs[0]['ID']}/archive")).status, 404)


class OrthancTests(SynchronousTestCase):
    """The same objects in the real Orthanc."""

    def test_same_names(self) -> None:
        """Where its version agrees with the later one, names and contents of archives are the same."""
        objects = [
            dicom_object(
                "P1", "1.2.1", f"1.2.1.{series}", f"1.2.1.{series}.{number}",
                AccessionNumber="", SeriesNumber=None, InstanceNumber=None, SeriesDescription="", **values,
            )
            for series, values in enumerate(_SERIES)
            for number in range(1 if series else 3)
        ]  # fmt: skip
        found: list[list[dict[str, bytes]]] = []
        for command in (None, ORTHANC):
            server = ServerProcess(Path(self.mktemp()), *([] if command is None else [command]))
            server.start()
            self.addCleanup(server.stop)
            for data in objects:
                server.upload(data)
            (patient,) = server.get("/patients")
            found.append(self.archives(server, patient))
        ours, theirs = found
        self.assertEqual(sorted(ours[0]), sorted(theirs[0]))
        for one, other in zip(ours, theirs, strict=True):
            self.assertEqual(sorted(map(len, one.values()))[:-1], sorted(map(len, other.values()))[:-1])
            files = [sorted(data for name, data in item.items() if name != "DICOMDIR") for item in (one, other)]
            self.assertEqual(files[0], files[1])
        self.assertEqual(list(ours[1]), list(theirs[1]))
        for one, other in zip(ours[1:], theirs[1:], strict=True):
            self.assertEqual(_records(one["DICOMDIR"]), _records(other["DICOMDIR"]))

    def archives(self, server: ServerProcess, patient: str) -> list[dict[str, bytes]]:
        return [
            opened(request(server.port, "GET", f"/patients/{patient}/{name}").body)
            for name in ("archive", "media")
        ]


_SERIES: Sequence[Mapping[str, Any]] = (
    {"Modality": "CT", "PatientName": "", "StudyDescription": "HEAD"},
    {"Modality": "MR", "PatientName": "", "StudyDescription": "HEAD"},
    {"Modality": "MR", "PatientName": "", "StudyDescription": "HEAD"},
    {"Modality": "M", "PatientName": "", "StudyDescription": "HEAD"},
)


def _records(directory: bytes) -> list[str]:
    """What the records of a DICOMDIR tell, but for offsets, and which file is which."""
    told = []
    for record in dcmread(io.BytesIO(directory)).DirectoryRecordSequence:
        for keyword in (
            *("OffsetOfTheNextDirectoryRecord", "OffsetOfReferencedLowerLevelDirectoryEntity", "ReferencedFileID"),
            # Numbers that must be there are made up by one of both only.
            *("SeriesNumber", "InstanceNumber"),
        ):
            if keyword in record:
                del record[keyword]
        told.append(str(record))
    return sorted(told)


class MemoryTests(SynchronousTestCase):
    """A server of its own, with files of several GB that take no room on the disk."""

    def test_memory(self) -> None:
        """An archive of more than 4 GB needs little memory, also when a client does not read it."""
        server = ServerProcess(Path(self.mktemp()))
        server.start()
        for number in range(3):
            upload(server.port, LargeObject(1, f"1.2.1.1.{number + 1}"))
        server.stop()
        size = 2200 * MEGABYTE
        files = [path for path in server.storage.rglob("*-*-*") if path.is_file()][:2]
        connection = sqlite3.connect(server.storage / "orthanctw.db", isolation_level=None)
        for path in files:
            os.truncate(path, size)
            connection.execute(
                "UPDATE attachments SET size = ?1, compressed_size = ?1, crc32 = -1 WHERE uuid = ?2", (size, path.name)
            )
        connection.close()
        server.start()
        self.addCleanup(server.stop)
        (study,) = server.get("/studies")
        path = f"/studies/{study}/archive"
        stalled = _connect(server.port, path)
        self.addCleanup(stalled.close)
        self.assertTrue(stalled.recv(15).startswith(b"HTTP/1.1 200 OK"))
        reading = _connect(server.port, path)
        self.addCleanup(reading.close)
        head = reading.recv(4096).partition(b"\r\n\r\n")[0].decode("ascii")
        total = int(head.split("Content-Length: ")[1].split("\r\n")[0])
        self.assertGreater(total, 2 * size)
        left = 400 * MEGABYTE
        while left > 0:
            left -= len(reading.recv(MEGABYTE))
        end = request(server.port, "GET", path, headers={"Range": f"bytes={total - 3 * MEGABYTE}-"})
        self.assertEqual((end.status, len(end.body)), (206, 3 * MEGABYTE))
        self.assertIn(b"PK\5\6", end.body[-100:])
        self.assertLess(peak_memory(server.pid), LIMIT)


def _connect(port: int, path: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10 * PATIENCE)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return connection
