"""Manners of HTTP after RFC 9110 and RFC 9112: HEAD, OPTIONS, expectations, bodies in pieces, names of downloads."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from typing import ClassVar

from orthanctw.rest.reply import content_disposition
from orthanctw.rest.site import accepted_encoding
from test.rest_samples import NOBODY, RestCase, dicom_object, pixels, wire


class MannersCase(RestCase):
    """Questions on plain connections: twisted's client does not tell the length that HEAD is answered."""

    async def plain(self, method: str, path: str, *headers: str) -> tuple[bytes, bytes]:
        """Head and body of an answer."""
        lines = "".join(f"{header}\r\n" for header in ("Host: x", "Connection: close", *headers))
        answer = await self.exchange(f"{method} {path} HTTP/1.1\r\n{lines}\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        return head, body

    async def assert_same(self, path: str, *headers: str) -> None:
        """HEAD has the head of GET, and nothing else."""
        head, _ = await self.plain("GET", path, *headers)
        self.assertEqual(await self.plain("HEAD", path, *headers), (head, b""), path)


class HeadTests(MannersCase):
    """HEAD is GET without the body (RFC 9110 section 9.3.2)."""

    async def test_headers(self) -> None:
        """Status and headers are those of GET, the length included."""
        stored = await self.client.store(dicom_object(**pixels(16, 16)))
        instance, study = stored["Path"], f"/studies/{stored['ParentStudy']}"
        for path in ("", "/file", "/tags", "/attachments/dicom/data", "/preview", "/frames/0/raw", "/numpy"):
            await self.assert_same(f"{instance}{path}")
        for path in ("/system", "/instances?expand", "/", "/app/explorer.html", "/changes", f"{study}/archive"):
            await self.assert_same(path)
        for path in ("/nothing", f"/instances/{NOBODY}", f"/studies/{NOBODY}/series", "/tools/reset", "/changes?to=x"):
            await self.assert_same(path)
        tag = (await self.client.get(f"{study}/archive")).headers["etag"]
        await self.assert_same(f"{study}/archive", f"If-None-Match: {tag}")

    async def test_connection(self) -> None:
        """The connection serves on; no byte of a body comes in between."""
        stored = await self.client.store(dicom_object())
        for path in ("/system", "/nothing", f"{stored['Path']}/file", f"/studies/{stored['ParentStudy']}/archive"):
            answer = await self.exchange(
                f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\nHEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            heads = answer.split(b"\r\n\r\n")
            self.assertEqual([head[:9] for head in heads], [b"HTTP/1.1 ", b"HTTP/1.1 ", b""], answer)

    async def test_without_work(self) -> None:
        """Neither is a file opened, nor is a download listed among the jobs."""
        stored = await self.client.store(dicom_object())
        archive = f"/studies/{stored['ParentStudy']}/archive"
        size = len((await self.client.get(f"{stored['Path']}/file")).body)
        (name,) = self.files()
        (self.folder / name).unlink()
        for path in ("/file", "/attachments/dicom/data", "/attachments/dicom/compressed-data"):
            head, _ = await self.plain("HEAD", f"{stored['Path']}{path}")
            self.assertIn(f"Content-Length: {size}".encode(), head)
        for path in (archive, f"{archive}?transcode=1.2.840.10008.1.2.4.70"):
            self.assertEqual((await self.client.ask("HEAD", path)).status, 200)
        self.assertEqual(await self.client.json("/jobs"), [])

    async def test_is_safe(self) -> None:
        """An argument makes another method of GET alone."""
        stored = await self.client.store(dicom_object())
        self.assertEqual((await self.client.ask("HEAD", f"{stored['Path']}?_method=DELETE")).status, 200)
        self.assertEqual((await self.client.get(stored["Path"])).status, 200)

    async def test_override(self) -> None:
        """A header makes any method of HEAD, but never a body of its answer."""
        stored = await self.client.store(dicom_object())
        answer = await self.exchange(
            f"HEAD {stored['Path']} HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: DELETE\r\nConnection: close\r\n\r\n"
        )
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n"), answer)
        self.assertEqual(await self.client.json("/instances"), [])


class OptionsTests(RestCase):
    """OPTIONS tells what a path can be asked (RFC 9110 section 9.3.7)."""

    async def test_paths(self) -> None:
        """Known paths, existing resources or not, list their methods; the server lists its own."""
        for path, allowed in (
            ("/system", "GET,HEAD,OPTIONS"),
            ("//instances/", "GET,POST,HEAD,OPTIONS"),
            (f"/patients/{NOBODY}", "GET,DELETE,HEAD,OPTIONS"),
            ("/tools/dicom-echo", "POST,OPTIONS"),
            ("*", "GET,POST,PUT,DELETE,HEAD,OPTIONS"),
        ):
            answer = await self.exchange(f"OPTIONS {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertTrue(answer.startswith(b"HTTP/1.1 204 "), answer)
            self.assertTrue(answer.endswith(b"\r\n\r\n"))
            self.assertIn(f"Allow: {allowed}\r\n".encode(), answer)
            self.assertNotIn(b"Content-Length", answer)

    async def test_nothing(self) -> None:
        """Unknown paths are not found."""
        self.assertEmpty(await self.client.ask("OPTIONS", "/nothing"), 404)

    async def test_strangers(self) -> None:
        """Who may not ask is not answered."""
        await self.restart(AuthenticationEnabled=True, RegisteredUsers={"a": "b"})
        self.assertEmpty(await self.client.ask("OPTIONS", "/system"), 401)


class ExpectationTests(RestCase):
    """``Expect: 100-continue`` (RFC 9110 section 10.1.1)."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"MaximumRequestBodySizeMB": 8}

    async def test_continue(self) -> None:
        """Who waits for it is told to go on, and then is answered."""
        data = dicom_object(**pixels(1500, 1500))
        connection = await wire(self.port)
        connection.write(
            b"POST /instances HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(data)
        )
        self.assertEqual(await connection.until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.write(data)
        self.assertIn(b"Success", await connection.lost)

    async def test_too_large(self) -> None:
        """Who would send too much is told so instead."""
        answer = await self.exchange(
            b"POST /instances HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"
            b"Content-Length: 9000000\r\n\r\n" + b"x" * 9000000
        )
        self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer[:40])
        self.assertNotIn(b"100 Continue", answer)


class BodyTests(RestCase):
    """How the body of a request is delimited (RFC 9112 sections 6 and 7)."""

    async def test_chunks(self) -> None:
        """A body comes in chunks of any size, with extensions and trailers."""
        data = dicom_object()
        chunks = [data[:1], data[1:200], data[200:]]
        body = b"".join(b"%x;name=value\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        answer = await self.exchange(
            b"POST /instances HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
            body,
            b"0\r\nTrailer: x\r\n\r\n",
        )
        self.assertIn(b"Success", answer)
        stored = await self.client.store(data)
        self.assertEqual((await self.client.get(f"{stored['Path']}/file")).body, data)

    async def test_broken(self) -> None:
        """A body without a clear end is refused, and nothing of it is kept."""
        for headers, body in (
            ("Content-Length: x", b""),
            ("Content-Length: -1", b""),
            ("Content-Length: 5\r\nContent-Length: 6", b"12345"),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
            ("Transfer-Encoding: gzip", b""),
            ("Transfer-Encoding: chunked", b"zz\r\n"),
            ("Transfer-Encoding: chunked", b"-1\r\n"),
        ):
            answer = await self.exchange(
                f"POST /instances HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\r\n", body
            )
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), (headers, answer[:40]))
        self.assertEqual(self.files(), [])

    async def test_gzip(self) -> None:
        """Objects may come within gzip."""
        data = dicom_object()
        answer = await self.client.post("/instances", gzip.compress(data), Content_Encoding="gzip")
        self.assertEqual(answer.json()["Status"], "Success")
        self.assertEqual((await self.client.get(f"{answer.json()['Path']}/file")).body, data)
        self.assertError(await self.client.post("/instances", data, Content_Encoding="gzip"), 400, 15)


class ConnectionTests(RestCase):
    """Headers of connections, and forms of the request line."""

    async def test_close(self) -> None:
        """``close`` counts wherever it stands in the list."""
        for value in ("close", "Close", "TE, close", "close,TE", "TE\r\nConnection: close"):
            answer = await self.exchange(f"GET /system HTTP/1.1\r\nHost: x\r\nConnection: {value}\r\n\r\n")
            self.assertIn(b"Connection: close\r\n", answer, value)

    async def test_absolute(self) -> None:
        """A whole URL in the request line, as proxies send it, names the path that it names."""
        for target, status in (
            ("http://other:99/system", 200),
            ("HTTP://other//system/", 200),
            ("http://other", 307),
            ("http://other/nothing?x=http://y/system", 404),
        ):
            answer = await self.exchange(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertTrue(answer.startswith(f"HTTP/1.1 {status} ".encode()), (target, answer[:40]))


class CompressionTests(MannersCase):
    """``HttpCompressionEnabled`` and what clients accept."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"HttpCompressionEnabled": True}

    async def test_qualities(self) -> None:
        """A quality of nothing refuses; the order and other qualities do not matter."""
        for accepted, encoding in (
            (None, ""),
            ("", ""),
            ("gzip", "gzip"),
            ("deflate, gzip", "gzip"),
            ("gzip;q=0.1, deflate;q=0.9", "gzip"),
            ("gzip;q=0", ""),
            ("gzip; Q=0.000, deflate", "deflate"),
            ("gzip;q=0.001", "gzip"),
            ("br;q=1, identity, *;q=0", ""),
            (";;,,;q=0,", ""),
        ):
            self.assertEqual(accepted_encoding(accepted), encoding, accepted)

    async def test_large(self) -> None:
        """What is compressed on a thread is complete, and HEAD gives its length."""
        await self.client.store(dicom_object(TextValue="x" * 400_000))
        (instance,) = await self.client.json("/instances")
        path = f"/instances/{instance}/tags?ignore-length=TextValue"
        plain = await self.client.ask("GET", path, headers={"Accept-Encoding": "identity"})
        self.assertGreater(len(plain.body), 256 * 1024)
        for name, decompress in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
            answer = await self.client.ask("GET", path, headers={"Accept-Encoding": name})
            self.assertEqual(answer.headers["content-encoding"], name)
            self.assertEqual(decompress(answer.body), plain.body)
            await self.assert_same(path, f"Accept-Encoding: {name}")


class VersionTests(RestCase):
    """ETag and If-None-Match (RFC 9110 sections 8.8.3 and 13.1.2)."""

    async def test_lists(self) -> None:
        """What the client has may be one of several versions, weak ones too, or any."""
        stored = await self.client.store(dicom_object())
        for path in (f"{stored['Path']}/metadata/ReceptionDate", f"/studies/{stored['ParentStudy']}/archive"):
            tag = (await self.client.get(path)).headers["etag"]
            for value, status in (
                (tag, 304),
                (f'"x", {tag}', 304),
                (f'W/{tag},"x"', 304),
                ("*", 304),
                ('"x"', 200),
                (tag.strip('"'), 200),
                ("", 200),
            ):
                answer = await self.client.ask("GET", path, headers={"If-None-Match": value})
                self.assertEqual((answer.status, answer.headers["etag"]), (status, tag), value)


class DownloadTests(RestCase):
    """Parts and names of downloads."""

    async def test_beyond_the_end(self) -> None:
        """A range behind the last byte is answered with how many there are (RFC 9110 section 15.5.17)."""
        data = dicom_object()
        stored = await self.client.store(data)
        for path in (f"{stored['Path']}/attachments/dicom/data", f"{stored['Path']}/file"):
            answer = await self.client.ask("GET", path, headers={"Range": f"bytes={len(data)}-"})
            self.assertEqual((answer.status, answer.headers["content-range"]), (416, f"bytes */{len(data)}"))

    def test_names(self) -> None:
        """Names cannot leave their header; those that are no ASCII come in a second form (RFC 6266)."""
        for name, value in (
            ("a.dcm", 'filename="a.dcm"'),
            ('a".dcm', 'filename="a.dcm"'),
            ("a\\\".dcm\r\nX-Evil: 1\x00\x7f", 'filename="a.dcmX-Evil: 1"'),
            ("Müller.zip", "filename=\"M?ller.zip\"; filename*=UTF-8''M%C3%BCller.zip"),
            ("東京;a=b.zip", "filename=\"??;a=b.zip\"; filename*=UTF-8''%E6%9D%B1%E4%BA%AC%3Ba%3Db.zip"),
            ("\u2028\u202e\ud800x", 'filename="x"'),
        ):
            self.assertEqual(content_disposition(name), ("Content-Disposition", value))

    async def test_given_name(self) -> None:
        """Arguments are UTF-8; what is none does not fail."""
        stored = await self.client.store(dicom_object())
        for query, name in (
            ("M%C3%BCller", "filename=\"M?ller\"; filename*=UTF-8''M%C3%BCller"),
            ("%E6%9D%B1+%2B", "filename=\"? +\"; filename*=UTF-8''%E6%9D%B1%20%2B"),
            ("%ff", "filename=\"?\"; filename*=UTF-8''%EF%BF%BD"),
        ):
            request = f"GET {stored['Path']}/file?filename={query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            self.assertIn(f"Content-Disposition: {name}\r\n".encode(), await self.exchange(request))

    async def test_hostile_name(self) -> None:
        """A name that a client gives makes no header of its own."""
        stored = await self.client.store(dicom_object())
        for path in (f"{stored['Path']}/file", f"/studies/{stored['ParentStudy']}/archive"):
            answer = await self.client.get(path, filename='x"\r\nX-Evil: 1\r\n\r\n')
            self.assertEqual(answer.headers["content-disposition"], 'filename="xX-Evil: 1"')
            self.assertNotIn("x-evil", answer.headers)
