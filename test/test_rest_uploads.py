"""``POST /instances``: plain objects and everything that they come wrapped in."""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.utils import getProcessOutputAndValue

from orthanctw.identifiers import orthanc_id
from test.dicom_files import dicom_file
from test.rest_samples import RestCase, dicom_object, hierarchy, pixels

CURL = shutil.which("curl") or "curl"


def archive(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def form(parts: Sequence[bytes], boundary: str = "limit") -> bytes:
    """A body of ``multipart/form-data`` (RFC 7578)."""
    head = 'Content-Disposition: form-data; name="file"; filename="f"\r\nContent-Type: application/octet-stream'
    return b"".join(f"--{boundary}\r\n{head}\r\n\r\n".encode() + part + b"\r\n" for part in parts) + (
        f"--{boundary}--\r\n".encode()
    )


class PlainTests(RestCase):
    """One object as it is."""

    async def test_answer(self) -> None:
        """The answer names the object and its family."""
        answer = await self.client.post("/instances", dicom_object())
        self.assertEqual(answer.headers["content-type"], "application/json; charset=utf-8")
        body = answer.json()
        self.assertEqual(set(body), {"ID", "ParentPatient", "ParentStudy", "ParentSeries", "Path", "Status"})
        self.assertEqual((body["Path"], body["Status"]), (f"/instances/{body['ID']}", "Success"))
        self.assertEqual(body["ParentPatient"], orthanc_id("P1"))

    async def test_content_types(self) -> None:
        """What the client calls the body does not matter; a form of curl's is no form."""
        for number, content_type in enumerate(
            (
                "application/dicom",
                "application/octet-stream",
                "application/x-www-form-urlencoded",
                "application/json",
                "text/plain; charset=utf-8",
                "application/zip",
                "multipart/mixed; boundary=x",
                "nonsense",
                "",
            )
        ):
            data = dicom_object(sop=f"1.2.1.1.{number}")
            answer = await self.client.post("/instances", data, Content_Type=content_type)
            self.assertEqual(answer.json()["Status"], "Success", content_type)
            self.assertEqual((await self.client.get(f"{answer.json()['Path']}/file")).body, data)

    async def test_again(self) -> None:
        """A second time the object is stored already, and the first one stays."""
        first = await self.client.store(dicom_object(ImageComments="first"))
        files = self.files()
        second = await self.client.store(dicom_object(ImageComments="second"))
        self.assertEqual(second, {**first, "Status": "AlreadyStored"})
        self.assertEqual(self.files(), files)
        self.assertEqual((await self.client.json(f"{first['Path']}/simplified-tags"))["ImageComments"], "first")
        self.assertEqual(len((await self.client.json("/changes"))["Changes"]), 4)

    async def test_overwrite(self) -> None:
        """OverwriteInstances: always, never, or only by another content."""
        first, second = dicom_object(ImageComments="first"), dicom_object(ImageComments="second")
        for mode, again, other in (
            (True, "Success", "Success"),
            ("Always", "Success", "Success"),
            ("IfChanged", "AlreadyStored", "Success"),
            (False, "AlreadyStored", "AlreadyStored"),
            ("Never", "AlreadyStored", "AlreadyStored"),
        ):
            await self.restart(OverwriteInstances=mode)
            for path in await self.client.json("/patients"):
                await self.client.ask("DELETE", f"/patients/{path}")
            stored = await self.client.store(first)
            self.assertEqual((await self.client.store(first))["Status"], again, mode)
            self.assertEqual((await self.client.store(second))["Status"], other, mode)
            kept = second if other == "Success" else first
            self.assertEqual((await self.client.get(f"{stored['Path']}/file")).body, kept)
            self.assertEqual(len(self.files()), 1)
            self.assertEqual((await self.client.json("/statistics"))["TotalDiskSize"], str(len(kept)))

    async def test_without_preamble(self) -> None:
        """An object without preamble and meta header is stored byte for byte."""
        bare = dicom_file()
        bare = bare[bare.index(b"\x08\x00\x16\x00") :]
        stored = await self.client.store(bare)
        self.assertEqual((await self.client.get(f"{stored['Path']}/file")).body, bare)

    async def test_missing_identifiers(self) -> None:
        """A patient without an identifier is fine, other levels need theirs."""
        stored = await self.client.store(dicom_object(PatientID=None))
        self.assertEqual(stored["ParentPatient"], "da39a3ee-5e6b4b0d-3255bfef-95601890-afd80709")
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            answer = await self.client.post("/instances", dicom_object(sop="1.2.1.1.9", **{keyword: None}))
            self.assertError(answer, 404, 21)

    async def test_large(self) -> None:
        """A body beyond what stays in memory goes through a file, and back as it came."""
        data = dicom_object(**pixels(3000, 1000))
        for chunked in (False, True):
            answer = await self.client.ask("POST", "/instances", data, chunked=chunked)
            self.assertEqual(answer.status, 200)
            self.assertEqual((await self.client.get(f"{answer.json()['Path']}/file")).body, data)
        self.assertEqual(len(self.files()), 1)

    async def test_chunked(self) -> None:
        """A body of chunks is a body, one of a byte each too."""
        data = dicom_object()
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in data) + b"0\r\n\r\n"
        answer = await self.exchange(
            "POST /instances HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", chunks
        )
        self.assertIn(b'"Success"', answer)

    async def test_expect(self) -> None:
        """A client that asks before it sends is told to go on."""
        data = dicom_object()
        head = f"POST /instances HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(data)}\r\n"
        answer = await self.exchange(head, "Connection: close\r\n\r\n", data)
        self.assertTrue(answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), answer)

    async def test_methods(self) -> None:
        """Without being told to, other methods do not store."""
        answer = await self.client.ask("PUT", "/instances", dicom_object())
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET,POST"))
        self.assertEqual(self.files(), [])


class WrappedTests(RestCase):
    """Archives, compression, forms."""

    async def _stored(self) -> int:
        count: int = (await self.client.json("/statistics"))["CountInstances"]
        return count

    async def test_zip(self) -> None:
        """The objects of an archive, whatever their names and folders; the rest is skipped."""
        objects = list(hierarchy())
        members = {
            "a.dcm": objects[0],
            "folder/b": objects[1],
            "folder/deeper/../é\\c.dcm": objects[2],
            "/absolute/d": objects[3],
            "readme.txt": b"no DICOM",
            "empty": b"",
            "folder/": b"",
            "cut.dcm": objects[0][:300],
        }
        for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            answer = await self.client.post("/instances", archive(members, compression))
            self.assertEqual(answer.status, 200)
            status = "Success" if compression == zipfile.ZIP_DEFLATED else "AlreadyStored"
            self.assertEqual([item["Status"] for item in answer.json()], [status] * 4)
        self.assertEqual(len(self.files()), 4)
        self.assertEqual(list(self.folder.parent.rglob("c.dcm")), [])

    async def test_zip_order(self) -> None:
        """Answers come in the order of the archive."""
        members = {f"{number}": dicom_object(sop=f"1.2.1.1.{number + 1}") for number in range(40)}
        members["twice"] = members["0"]
        answer = (await self.client.post("/instances", archive(members))).json()
        self.assertEqual(
            [item["ID"] for item in answer],
            [orthanc_id("P1", "1.2.1", "1.2.1.1", f"1.2.1.1.{number}") for number in (*range(1, 41), 1)],
        )
        self.assertEqual(answer[-1]["Status"], "AlreadyStored")

    async def test_zip_without_objects(self) -> None:
        """An archive may be empty, or hold nothing of use."""
        for members in ({}, {"a.txt": b"text", "nested.zip": archive({"a": b"b"}), "folder/": b""}):
            answer = await self.client.post("/instances", archive(members))
            self.assertEqual((answer.status, answer.json()), (200, []))

    async def test_zip_of_large_objects(self) -> None:
        """Members beyond what stays in memory go through files, none of which remains."""
        members = {f"{n}": dicom_object(sop=f"1.2.1.1.{n}", **pixels(1500, 1000)) for n in range(3)}
        self.assertEqual(len((await self.client.post("/instances", archive(members))).json()), 3)
        self.assertEqual(len(self.files()), 3)

    async def test_gzip(self) -> None:
        """A compressed body, of an object or an archive, is told by its header alone."""
        data = dicom_object()
        for name in ("gzip", "GZIP"):
            answer = await self.client.post("/instances", gzip.compress(data), Content_Encoding=name)
            self.assertEqual(answer.status, 200)
        self.assertEqual((await self.client.get(f"{answer.json()['Path']}/file")).body, data)
        zipped = gzip.compress(archive({"a": dicom_object(sop="1.2.1.1.2")}))
        answer = await self.client.post("/instances", zipped, Content_Encoding="gzip")
        self.assertEqual([item["Status"] for item in answer.json()], ["Success"])
        self.assertError(await self.client.post("/instances", gzip.compress(data)), 400, 15)

    async def test_gzip_in_parts(self) -> None:
        """Several compressed members after each other are one body (RFC 1952 section 2.2)."""
        data = dicom_object(**pixels(2000, 1000))
        parts = gzip.compress(data[:1000]) + gzip.compress(data[1000:])
        answer = await self.client.post("/instances", parts, Content_Encoding="gzip")
        self.assertEqual((await self.client.get(f"{answer.json()['Path']}/file")).body, data)

    async def test_form(self) -> None:
        """Every part of a form is stored, and the answer is empty."""
        parts = [dicom_object(sop="1.2.1.1.1"), dicom_object(sop="1.2.1.1.2", **pixels(1200, 1000))]
        answer = await self.client.post(
            "/instances", form(parts), Content_Type='multipart/form-data; boundary="limit"'
        )
        self.assertEmpty(answer, 200)
        self.assertEqual(await self._stored(), 2)
        self.assertEqual(len(self.files()), 2)
        stored = await self.client.json("/instances")
        self.assertEqual({(await self.client.get(f"/instances/{item}/file")).body for item in stored}, set(parts))

    async def test_form_of_archives(self) -> None:
        """A part may be an archive."""
        part = archive({"a": dicom_object(sop="1.2.1.1.1"), "b": dicom_object(sop="1.2.1.1.2")})
        answer = await self.client.post("/instances", form([part]), Content_Type="multipart/form-data; boundary=limit")
        self.assertEmpty(answer, 200)
        self.assertEqual(await self._stored(), 2)


class QuotaTests(RestCase):
    """Archives that do not fit."""

    SETTINGS: ClassVar = {"MaximumStorageMode": "Reject", "MaximumPatientCount": 1}

    async def test_archive(self) -> None:
        """An object of an archive that is refused is the answer to the whole."""
        members = {f"{n}": dicom_object(f"P{n}", f"1.{n}", f"1.{n}.1", f"1.{n}.1.1") for n in range(1, 4)}
        self.assertError(await self.client.post("/instances", archive(members)), 507, 19)
        self.assertError(
            await self.client.post(
                "/instances", form(list(members.values())), Content_Type="multipart/form-data; boundary=limit"
            ),
            507,
            19,
        )
        self.assertEqual(len(self.files()), 1)


class CurlTests(RestCase):
    """What people really call."""

    async def _curl(self, *arguments: str) -> tuple[int, str]:
        """Status and body of an answer to curl."""
        url = f"http://127.0.0.1:{self.port}/instances"
        output, errors, code = await getProcessOutputAndValue(
            CURL.encode(),
            [item.encode() for item in ("-sS", "-w", "\n%{http_code}", *arguments, url)],
            reactor=reactor,
        )
        self.assertEqual((code, errors), (0, b""))
        body, _, status = output.decode().rpartition("\n")
        return int(status), body

    async def _file(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    async def test_uploads(self) -> None:
        """curl's ways to send a file: as data, as a form, as an upload, chunked, compressed."""
        small, large = dicom_object(), dicom_object(sop="1.2.1.1.2", **pixels(2000, 1000))
        paths = [await self._file("small.dcm", small), await self._file("large.dcm", large)]
        packed = await self._file("small.gz", gzip.compress(small))
        for path in paths:
            for arguments in (
                ("--data-binary", f"@{path}"),
                ("-X", "POST", "-T", path, "-H", "Content-Type: application/dicom"),
                ("--data-binary", f"@{path}", "-H", "Transfer-Encoding: chunked"),
                ("--data-binary", f"@{path}", "-H", "Expect: 100-continue"),
                ("--data-binary", f"@{path}", "-H", "Expect:"),
                ("--http1.0", "--data-binary", f"@{path}"),
            ):
                # curl appends the name of an uploaded file to a URL that ends with a slash only.
                status, body = await self._curl(*arguments)
                self.assertEqual(status, 200, arguments)
                self.assertIn('"ID"', body)
        status, body = await self._curl("--data-binary", f"@{packed}", "-H", "Content-Encoding: gzip")
        self.assertEqual(status, 200)
        self.assertEqual((await self.client.json("/statistics"))["CountInstances"], 2)

    async def test_form(self) -> None:
        """``curl -F`` with several files."""
        paths = [await self._file(f"{n}.dcm", dicom_object(sop=f"1.2.1.1.{n}")) for n in range(3)]
        arguments: list[Any] = []
        for number, path in enumerate(paths):
            arguments += ["-F", f"file{number}=@{path}"]
        self.assertEqual(await self._curl(*arguments), (200, ""))
        self.assertEqual((await self.client.json("/statistics"))["CountInstances"], 3)
