"""Uploads and requests that are wrong, broken or hostile: refused, without trace, and the server goes on."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydicom import dcmread
from twisted.internet import reactor
from twisted.internet.task import deferLater

from test.dicom_files import UNDEFINED, dicom_file, element, head, sequence
from test.rest_samples import SPOOL, Answer, RestCase, dicom_object, pixels, wire
from test.test_rest_uploads import archive, form

FORM = "multipart/form-data; boundary=limit"


class UnharmedCase(RestCase):
    """A server with one object, which must be as it was after each test."""

    async def setUp(self) -> None:
        await super().setUp()
        self.good = dicom_object("GOOD", "1.9", "1.9.1", "1.9.1.1")
        await self.client.store(self.good)
        self.before = await self._state()

    async def _state(self) -> Any:
        return self.files(), await self.client.json("/statistics"), await self.client.json("/changes")

    async def _spool_is_empty(self) -> None:
        """The file of a refused body goes on a thread, a moment after the answer."""
        for _ in range(1000):
            if not any(SPOOL in name for name in self.files()):
                return
            await deferLater(reactor, 0.005)

    async def tearDown(self) -> None:
        try:
            if self.running:
                await self._spool_is_empty()
                self.assertEqual(await self._state(), self.before)
                self.assertEqual((await self.client.store(self.good))["Status"], "AlreadyStored")
        finally:
            await super().tearDown()

    async def refused(self, body: bytes, status: int = 400, code: int = 15, **headers: str) -> Answer:
        """An upload that must be refused."""
        answer = await self.client.post("/instances", body, **headers)
        self.assertError(answer, status, code)
        return answer


def damaged_files() -> Iterator[tuple[str, bytes]]:
    """Names and bytes of files that cannot be stored."""
    good = dicom_object(**pixels(8, 8))
    start = good.index(b"\x08\x00\x05\x00")
    yield "empty", b""
    yield "text", b"Hello, world!\n" * 100
    yield "html", b"<!DOCTYPE html><html></html>"
    yield "json", b'{"PatientID": "x"}'
    yield "zeros", b"\0" * 4096
    yield "prefix alone", b"\0" * 128 + b"DICM"
    yield "meta header alone", good[:start]
    yield "random", bytes((index * 7919) % 256 for index in range(5000))
    yield "png", b"\x89PNG\r\n\x1a\n" + b"\0" * 500
    yield "one byte", b"\x08"
    yield "long value", dicom_file(head(0x00400275, "UT", 0x7FFFFFFE) + b"x")
    yield "longest value", dicom_file(head(0x00400275, "UN", 0xFFFFFFFE) + b"x")
    yield "text of undefined length", dicom_file(head(0x00400275, "UT", UNDEFINED) + b"x")
    yield "sequence without an end", dicom_file(head(0x00400275, "SQ", UNDEFINED))
    yield "item beyond its sequence", dicom_file(
        head(0x00400275, "SQ", 16) + struct.pack("<HHI", 0xFFFE, 0xE000, 5000) + b"x" * 8
    )
    yield "cut pixels", good[:-10]


class DamagedObjectTests(UnharmedCase):
    """What is no DICOM object, or only a part of one."""

    async def test_files(self) -> None:
        """Files that are something else, or lie about their lengths."""
        for name, data in damaged_files():
            answer = await self.client.post("/instances", data)
            self.assertIn(answer.status, (400, 404), name)
            body = answer.json()
            self.assertIn((body["HttpStatus"], body["OrthancStatus"]), ((400, 15), (404, 21)), name)
            self.assertNotIn("Traceback", answer.text)

    async def test_cut_anywhere(self) -> None:
        """A file that ends within an element, whichever, is not stored."""
        data = dicom_object(sop="1.2.1.1.2", ImageComments="", **pixels(8, 8))
        for item in dcmread(io.BytesIO(data)).iterall():
            place = item.file_tell
            assert place is not None
            for length in (place - 1, place + 1) if item.value not in (None, "") else (place - 1,):
                answer = await self.client.post("/instances", data[:length])
                self.assertIn(answer.status, (400, 404), item.keyword)

    async def test_same_without_memory(self) -> None:
        """Files that do not stay in memory are judged alike."""
        await self.restart(Orthanctw={"SpoolThresholdKB": 0})
        for name, data in damaged_files():
            answer = await self.client.post("/instances", data)
            self.assertIn(answer.status, (400, 404), name)
            self.assertIn(answer.json()["OrthancStatus"], (15, 21), name)

    async def test_nested_sequences(self) -> None:
        """5000 sequences within each other, of either kind of length."""
        for defined in (False, True):
            content = b""
            for _ in range(5000 if not defined else 1000):
                content = sequence(0x00400275, [content], defined=defined, items_defined=defined)
            await self.refused(dicom_file(content))

    async def test_compressed_header(self) -> None:
        """A deflated data set (PS3.5 annex A.5) that inflates without end, or not at all."""
        syntax = "1.2.840.10008.1.2.1.99"
        meta = dicom_file(transfer_syntax=syntax)
        meta = meta[: meta.index(b"\x08\x00\x16\x00")]
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = deflater.compress(element(0x00080016, "UI", "1.2")) + b"".join(
            deflater.compress(b"\0" * 1_000_000) for _ in range(200)
        )
        for body in (bomb + deflater.flush(), b"no deflate", b"", bomb[:1000]):
            answer = await self.client.post("/instances", meta + body)
            self.assertIn(answer.status, (400, 404, 413))


class DamagedWrappingTests(UnharmedCase):
    """Archives, compression and forms that are broken or bombs."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"Orthanctw": {"InflateRatioLimit": 10, "ArchiveMembersLimit": 1000}}

    async def test_damaged_archives(self) -> None:
        """An archive that is cut, changed, encrypted or no archive at all stores nothing."""
        data = archive({"a": dicom_object(sop="1.2.1.1.2", ImageComments="x" * 1000)})
        encrypted = bytearray(data)
        entry = data.rindex(b"PK\x01\x02")
        encrypted[6] |= 1
        encrypted[entry + 8] |= 1
        changed = bytearray(data)
        changed[data.index(b"PK\x03\x04") + 60] ^= 0xFF
        method = bytearray(data)
        method[8] = method[entry + 10] = 14
        offset = bytearray(data)
        offset[entry + 42 : entry + 46] = struct.pack("<I", 0x7FFFFFFF)
        for name, body in (
            ("cut", data[:-30]),
            ("half", data[: len(data) // 2]),
            ("signature", b"PK\x03\x04"),
            ("text", b"PK\x03\x04" + b"text" * 100),
            ("end alone", b"PK\x05\x06" + b"\xff" * 18),
            ("encrypted", bytes(encrypted)),
            ("changed", bytes(changed)),
            ("lzma", bytes(method)),
            ("offset", bytes(offset)),
            ("zeros", data[:4] + bytes(len(data))),
        ):
            answer = await self.client.post("/instances", body)
            self.assertEqual(answer.status, 400, name)
            self.assertError(answer, 400, 15)

    async def test_lying_sizes(self) -> None:
        """A member that holds more or less than the archive says, before or after it is inflated."""
        data = archive({"a": dicom_object(sop="1.2.1.1.2")})
        entry = data.rindex(b"PK\x01\x02")
        for size, status in ((0, 400), (10, 400), (0xFFFFFFFE, 413)):
            body = bytearray(data)
            body[entry + 24 : entry + 28] = struct.pack("<I", size)
            await self.refused(bytes(body), status)
        for size in (0, 10, len(data) * 2, 0xFFFFFFFE):
            body = bytearray(data)
            body[entry + 20 : entry + 24] = struct.pack("<I", size)
            self.assertIn((await self.client.post("/instances", bytes(body))).status, (400, 413), size)

    async def test_archive_bomb(self) -> None:
        """An archive that inflates beyond its ratio is refused at once."""
        bomb = archive({f"{number}": b"\0" * 10_000_000 for number in range(8)})
        self.assertLess(len(bomb), 100_000)
        await self.refused(bomb, 413)

    async def test_overlapping_members(self) -> None:
        """Members that share their bytes are refused."""
        data = archive({"a": dicom_object(sop="1.2.1.1.2")})
        entry, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
        directory = data[entry:end] * 50
        tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 50, 50, len(directory), entry, 0)
        await self.refused(data[:entry] + directory + tail)

    async def test_many_members(self) -> None:
        """An archive of more members than are allowed is refused before they are listed."""
        await self.refused(archive({f"{number}": b"" for number in range(1001)}, zipfile.ZIP_STORED), 413)

    async def test_damaged_gzip(self) -> None:
        """What is not gzip, ends early, or goes on behind its end."""
        data = gzip.compress(dicom_object(sop="1.2.1.1.2"))
        changed = bytearray(data)
        changed[-6] ^= 0xFF
        for body in (
            b"",
            b"text",
            b"\x1f\x8b",
            data[:5],
            data[:-1],
            data[:-9],
            data[: len(data) // 2],
            bytes(changed),
            data + b"more",
            gzip.compress(b""),
            gzip.compress(b"text"),
            gzip.compress(data),
        ):
            await self.refused(body, Content_Encoding="gzip")

    async def test_endless_gzip(self) -> None:
        """What inflates beyond its ratio is stopped on the way."""
        buffer = io.BytesIO()
        with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9) as stream:
            for _ in range(100):
                stream.write(b"\0" * 1_000_000)
        await self.refused(buffer.getvalue(), 413, Content_Encoding="gzip")

    async def test_damaged_forms(self) -> None:
        """Forms without a boundary, cut, or with parts that are no objects."""
        good = form([dicom_object(sop="1.2.1.1.2")])
        for body, content_type in (
            (good, "multipart/form-data"),
            (good, "multipart/form-data; boundary="),
            (good, "multipart/form-data; boundary=other"),
            (good, 'multipart/form-data; boundary="' + "x" * 5000 + '"'),
            (good, "multipart/form-data; boundary=\u00e9"),
            (good, "multipart/form-data;;;=;boundary"),
            (good[:-4], FORM),
            (good[: len(good) // 2], FORM),
            (good[:20], FORM),
            (b"", FORM),
            (b"--limit", FORM),
            (b"--limit--", "multipart/form-data; boundary=x"),
            (b"--limit\r\n" * 1000, FORM),
            (b"--limit\r\n" + b"X: y\r\n" * 5000 + b"\r\n", FORM),
            (b"--limit\r\n" + b"X" * 100_000 + b"\r\n\r\n\r\n--limit--\r\n", FORM),
            (b"--limit\r\nNo header\r\n\r\nx\r\n--limit--\r\n", FORM),
            (form([b"text"]), FORM),
            (form([b""]), FORM),
        ):
            await self.refused(body, Content_Type=content_type)

    async def test_many_parts(self) -> None:
        """A form of more parts than are allowed."""
        await self.refused(form([b"x"] * 1001), 413, Content_Type=FORM)


class LimitTests(UnharmedCase):
    """``MaximumRequestBodySizeMB``."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"MaximumRequestBodySizeMB": 1}

    async def test_announced(self) -> None:
        """A body that says how long it is, is refused before it comes; one that asks first, without being sent."""
        for expect in ("", "Expect: 100-continue\r\n"):
            connection = await wire(self.port)
            connection.write(
                f"POST /instances HTTP/1.1\r\nHost: x\r\n{expect}Content-Length: 1048577\r\n\r\n".encode()
            )
            if not expect:
                connection.write(b"x" * 1048577)
            answer = await connection.until(b"\r\n\r\n")
            self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer[:40])
            connection.abort()
            await connection.lost

    async def test_chunked(self) -> None:
        """A body that does not say is refused when it passes the limit."""
        answer = await self.client.ask("POST", "/instances", b"x" * 1_200_000, chunked=True)
        self.assertEmpty(answer, 413)

    async def test_endless(self) -> None:
        """A body without end is answered, and cut."""
        connection = await wire(self.port)
        connection.write(b"POST /instances HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        for _ in range(4):
            connection.write(chunk)
        answer = await connection.until(b"\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer[:40])
        connection.abort()
        await connection.lost

    async def test_within(self) -> None:
        """A body of exactly the limit is taken for what it is."""
        await self.refused(b"x" * 1048576)


class BrokenRequestTests(UnharmedCase):
    """Requests that are no HTTP, or end in the middle."""

    async def _gone(self) -> None:
        """Wait until the server has noticed that a client left."""
        while any(channel.requests for channel in self.server.site.connections):
            await self.client.get("/tools/now")
        while any(SPOOL in path for path in self.files()):
            await self.client.get("/tools/now")

    async def test_cut_body(self) -> None:
        """A client that leaves in the middle of a body leaves nothing behind, whatever it was sending."""
        data = dicom_object(sop="1.2.1.1.2", **pixels(3000, 1000))
        for sent in (0, 1, 1000, 1_500_000, len(data) - 1):
            for start, kind in (
                (f"Content-Length: {len(data)}", data),
                ("Transfer-Encoding: chunked", b"%x\r\n" % len(data) + data),
            ):
                connection = await wire(self.port)
                connection.write(f"POST /instances HTTP/1.1\r\nHost: x\r\n{start}\r\n\r\n".encode() + kind[:sent])
                connection.close()
                await connection.lost
                await self._gone()

    async def test_garbage(self) -> None:
        """What is not HTTP is refused and cut."""
        for data in (
            b"\r\n\r\n\r\nnonsense\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /system\r\n\r\n",
            b"GET /system HTTP/9.9\r\n\r\n",
            b"GET /system FTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50 + b"\r\n\r\n",
            b"\xff" * 1000 + b"\r\n\r\n",
            b"GET /system HTTP/1.1\r\nNo colon\r\n\r\n",
            b"GET /system HTTP/1.1\r\n: empty\r\n\r\n",
            b"GET /system HTTP/1.1\r\nA B: c\r\n\r\n",
            b"GET /system HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            b"POST /instances HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"POST /instances HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"POST /instances HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST /instances HTTP/1.1\r\nTransfer-Encoding: nonsense\r\n\r\n",
            b"POST /instances HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            b"POST /instances HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
            b"POST /instances HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        ):
            connection = await wire(self.port)
            connection.write(data + b"Connection: close\r\n\r\n")
            connection.close()
            answer = await connection.lost
            self.assertNotIn(b"HTTP/1.1 2", answer, data)
            self.assertNotIn(b"HTTP/1.1 5", answer, data)
            self.assertNotIn(b"Traceback", answer, data)

    async def test_huge_heads(self) -> None:
        """Lines and heads without end are cut."""
        for data in (
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /system HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
            b"GET /system HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % number for number in range(20_000)) + b"\r\n",
            b"a" * 1_000_000,
        ):
            answer = await self.exchange(data)
            self.assertNotIn(b"HTTP/1.1 2", answer, data[:50])
            self.assertNotIn(b"HTTP/1.1 5", answer, data[:50])

    async def test_bytes_that_are_no_text(self) -> None:
        """Paths, arguments and headers in no encoding."""
        for line in (
            b"GET /instances/\xff\xfe HTTP/1.1",
            b"GET /system?\xff=\xfe HTTP/1.1",
            b"GET /patients?expand=\xff HTTP/1.1",
            b"GET /patients?requested-tags=\xff HTTP/1.1",
            b"GET /instances/%ff%fe/content/%ff HTTP/1.1",
            b"GET /instances/\0 HTTP/1.1",
            b"GET /patients?since=%d9%a1&limit=%d9%a1 HTTP/1.1",
            b"GET /system HTTP/1.1\r\nAuthorization: \xff\r\nRange: \xff\r\nIf-None-Match: \xff\r\nAccept: \xff",
        ):
            answer = await self.exchange(line, b"\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertNotIn(b"HTTP/1.1 5", answer, line)
            self.assertNotIn(b"Traceback", answer, line)

    async def test_bodies_where_none_belongs(self) -> None:
        """A body of a GET or DELETE is taken and ignored."""
        for method in ("GET", "HEAD"):
            answer = await self.exchange(
                f"{method} /system HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
            )
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer[:30])

    async def test_large_texts(self) -> None:
        """A body that is no upload, and too long for a text."""
        for path in ("/tools/find", "/tools/lookup"):
            answer = await self.client.post(path, b"x" * (65 * 1024 * 1024))
            self.assertEmpty(answer, 413)
