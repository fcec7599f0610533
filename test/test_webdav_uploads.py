"""The folder of uploads of WebDAV, and what clients must not be able to do."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Mapping
from unittest.mock import patch

from orthanctw.errors import FullStorage
from orthanctw.rest.webdav import requests
from orthanctw.webdav import uploading
from test.rest_samples import NOBODY, LargeObject, dicom_object, hierarchy, wire
from test.webdav_case import WebDavCase

PROPFIND = '<propfind xmlns="DAV:"><prop>{}</prop></propfind>'


def archive(members: Mapping[str, bytes]) -> bytes:
    """A ZIP archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


class UploadTests(WebDavCase):
    """PUT and MKCOL."""

    async def instances(self) -> list[str]:
        found: list[str] = await self.client.json("/instances")
        return found

    async def test_objects(self) -> None:
        """An object is stored when the answer comes, and does not lie in the folder of uploads."""
        for data in hierarchy():
            self.assertEmpty(await self.dav("PUT", "/uploads/any%20name", data), 201)
        stored = await self.instances()
        self.assertEqual(len(stored), 4)
        self.assertEqual((await self.client.get(f"/instances/{stored[0]}/file")).body, next(hierarchy()))
        self.assertEqual((await self.client.get(f"/instances/{stored[0]}/metadata/Origin")).text, "WebDav")
        self.assertEqual(await self.names("/uploads"), [])
        for method in ("PROPFIND", "GET", "HEAD"):
            self.assertEmpty(await self.dav(method, "/uploads/any%20name", Depth="0"), 404)
        # Again, and in pieces of a length that is not told.
        answer = await self.client.ask("PUT", "/webdav/uploads/a", next(hierarchy()), chunked=True)
        self.assertEmpty(answer, 201)
        self.assertEqual(await self.instances(), stored)

    async def test_wrapped(self) -> None:
        """An archive brings what is in it; gzip is taken off when the header tells of it."""
        data = archive({"a/1": next(hierarchy()), "a/readme.txt": b"text", "b": dicom_object("Z", "2", "2.1", "2.1.1")})
        self.assertEmpty(await self.dav("PUT", "/uploads/a.zip", data), 201)
        self.assertEqual(len(await self.instances()), 2)
        packed = gzip.compress(dicom_object("Y", "3", "3.1", "3.1.1"))
        self.assertEmpty(await self.dav("PUT", "/uploads/a", packed, **{"Content-Encoding": "gzip"}), 201)
        self.assertEqual(len(await self.instances()), 3)

    async def test_large(self) -> None:
        """An object that goes through a file is the same afterwards."""
        large = LargeObject(2)
        self.assertEmpty(await self.dav("PUT", "/uploads/large", b"".join(large.chunks())), 201)
        (stored,) = await self.instances()
        self.assertEqual((await self.client.get(f"/instances/{stored}/attachments/dicom/md5")).text, large.md5())
        path = f"/by-patients/P1%20-%20DOE%20JOHN/20240102%20-%20HEAD/CT%20-%20AXIAL/{stored}.dcm"
        self.assertEqual((await self.dav("GET", path)).body, b"".join(large.chunks()))

    async def test_other_files(self) -> None:
        """What is no DICOM is taken and thrown away; so is what is damaged, and nothing of it stays on the disk."""
        for data in (b"", b"\0\0\0\1Bud1", b"x" * 300_000, next(hierarchy())[:400], archive({"a": b"b"}), b"PK\3\4"):
            self.assertEmpty(await self.dav("PUT", "/uploads/.DS_Store", data), 201)
        self.assertEqual((await self.instances(), await self.names("/uploads")), ([], []))
        await self.until(lambda: self.files() == [])

    async def test_folders(self) -> None:
        """Folders can be made, filled and removed, one in another; nothing goes where there is no folder."""
        for path, status in (("a", 201), ("a", 403), ("a/b", 201), ("x/y", 403), ("c%26%3Cd%3E", 201), ("", 403)):
            self.assertEmpty(await self.dav("MKCOL", f"/uploads/{path}"), status)
        self.assertEqual(await self.names("/uploads"), ["a", "c&<d>"])
        self.assertEqual(await self.names("/uploads/a/"), ["b"])
        for path, status in (("a/b/1", 201), ("a", 403), ("x/1", 403), ("", 403), ("a/b/1/2", 403)):
            data = dicom_object(sop=f"1.2.1.1.{status}")
            self.assertEmpty(await self.dav("PUT", f"/uploads/{path}", data), status)
        self.assertEqual(len(await self.instances()), 1)
        self.assertEmpty(await self.dav("DELETE", "/uploads/a"), 204)
        self.assertEmpty(await self.dav("DELETE", "/uploads/a"), 403)
        self.assertEqual(list(await self.walk("/uploads")), ["/uploads/c&<d>"])
        with patch.multiple(uploading, _MAXIMUM_FOLDERS=3, _MAXIMUM_DEPTH=1):
            self.assertEmpty(await self.dav("MKCOL", "/uploads/c%26%3Cd%3E/e"), 403)
            self.assertEmpty(await self.dav("MKCOL", "/uploads/f"), 201)
            self.assertEmpty(await self.dav("MKCOL", "/uploads/g"), 403)

    async def test_elsewhere(self) -> None:
        """Nothing is put anywhere else, nor a piece of a file, nor a folder with a body."""
        await self.fill()
        for path in ("", "/x", "/by-uids", "/by-uids/1.dcm", "/by-uids/1.2.1/1.2.1.1/1.2.1.1.1.dcm", "/uploadsx/a"):
            self.assertEmpty(await self.dav("PUT", path, dicom_object(sop="9")), 403)
            self.assertEmpty(await self.dav("MKCOL", path), 403)
        part = {"Content-Range": "bytes 0-9/20"}
        self.assertError(await self.dav("PUT", "/uploads/a", dicom_object(sop="9"), **part), 400, 8)
        self.assertEmpty(await self.dav("MKCOL", "/uploads/a", "<x/>"), 415)
        self.assertEqual(len(await self.instances()), 4)

    async def test_failures(self) -> None:
        """When nothing can be stored, the client is told."""

        await self.restart(MaximumPatientCount=1, MaximumStorageMode="Reject")
        self.assertEmpty(await self.dav("PUT", "/uploads/a", dicom_object("1")), 201)
        answer = await self.dav("PUT", "/uploads/a", dicom_object("2"))
        self.assertError(answer, 507, int(FullStorage.code))
        bomb = archive({"a": bytes(70_000_000)})
        self.assertError(await self.dav("PUT", "/uploads/a", bomb), 413, 15)

    async def test_not_allowed(self) -> None:
        """Without ``WebDavUploadAllowed``, and with ``ReadOnly``, there is no such folder."""
        for settings in ({"WebDavUploadAllowed": False}, {"ReadOnly": True}):
            await self.restart(**settings)
            self.assertNotIn("uploads", await self.names(""))
            self.assertEmpty(await self.dav("PROPFIND", "/uploads", Depth="0"), 404)
            self.assertEmpty(await self.dav("PUT", "/uploads/a", next(hierarchy())), 403)
            self.assertEmpty(await self.dav("MKCOL", "/uploads/a"), 403)
            self.assertEmpty(await self.dav("DELETE", "/uploads"), 403)
            self.assertEqual(await self.instances(), [])
            await self.until(lambda: self.files() == [])


class AccessTests(WebDavCase):
    """Who may do what, and what is refused."""

    async def test_disabled(self) -> None:
        """Without ``WebDavEnabled`` nothing is there."""
        await self.restart(WebDavEnabled=False)
        for method in ("OPTIONS", "PROPFIND", "PROPPATCH", "MKCOL", "LOCK", "UNLOCK"):
            self.assertEmpty(await self.dav(method, "/uploads/a", Depth="0"), 404)
        for method in ("GET", "PUT", "DELETE"):
            self.assertError(await self.dav(method, "/uploads/a"), 404, 17)

    async def test_strangers(self) -> None:
        """Every method needs a user where there are users."""
        await self.restart(AuthenticationEnabled=True, RegisteredUsers={"a": "b"})
        for method in ("OPTIONS", "PROPFIND", "GET", "PUT", "DELETE", "MKCOL", "LOCK", "UNLOCK", "PROPPATCH", "MOVE"):
            self.assertEmpty(await self.dav(method, "/uploads/a", Depth="0"), 401)
        answer = await self.dav("PROPFIND", "/uploads", Depth="0", Authorization="Basic YTpi")
        self.assertEqual(answer.status, 207)

    async def test_depths(self) -> None:
        """A folder is never listed with all below it."""
        for depth in ("infinity", "2", "", "1,noroot", "-1"):
            self.assertError(await self.dav("PROPFIND", "", Depth=depth), 400, 5)
        self.assertError(await self.dav("PROPFIND", ""), 400, 9)

    async def test_bodies(self) -> None:
        """What is no XML, too much of it, and entities are refused by each method that takes XML."""
        entities = "".join(f'<!ENTITY a{number + 1} "{f"&a{number};" * 10}">' for number in range(8))
        bomb = f'<!DOCTYPE a [<!ENTITY a0 "aaaaaaaaaa">{entities}]><propfind xmlns="DAV:">&a8;</propfind>'
        external = '<!DOCTYPE propfind SYSTEM "file:///etc/passwd"><propfind xmlns="DAV:"/>'
        for body in (
            *("<", "x", "\0", '<propfind xmlns="DAV:">', "<propfind/>", '<a xmlns="DAV:"/>', '<?xml version="9"?><a/>'),
            *(bomb, external, '<propfind xmlns="DAV:">&a;</propfind>'),
            '<?xml version="1.0" encoding="nonsense"?><propfind xmlns="DAV:"/>',
            "<a>" * 1000 + "</a>" * 1000,
            b"\xff\xfe<\0",
            '<x:propfind xmlns="DAV:"/>',
        ):
            for method in ("PROPFIND", "PROPPATCH", "LOCK"):
                self.assertError(await self.dav(method, "/uploads", body, Depth="0"), 400, 8)
        many = PROPFIND.format("".join(f"<p{n}/>" for n in range(requests._MAXIMUM_PROPERTIES + 1)))
        self.assertError(await self.dav("PROPFIND", "", many, Depth="0"), 400, 8)
        for size in (requests._MAXIMUM_SIZE, 3_000_000):
            self.assertError(await self.dav("PROPFIND", "", PROPFIND.format(" " * size), Depth="0"), 413, 8)
        await self.until(lambda: self.files() == [])

    async def test_paths(self) -> None:
        """Control characters are refused, dots lead nowhere outside, and nothing is decoded twice."""
        await self.fill()

        async def ask(method: str, path: str) -> bytes:
            head = "Host: a\r\nDepth: 0\r\nConnection: close"
            return await self.exchange(f"{method} /webdav{path} HTTP/1.1\r\n{head}\r\n\r\n")

        for path in ("/uploads/%00", "/by-uids/1.2.1%01", "/%7f", "/uploads/%0d"):
            for method in ("PROPFIND", "GET", "PUT", "MKCOL", "DELETE", "LOCK", "UNLOCK", "PROPPATCH"):
                self.assertIn(b" 400 ", (await ask(method, path)).partition(b"\r\n")[0], (method, path))
        for path in ("/uploads/../by-uids", "/uploads/..%2fby-uids", "/./by-uids//", "/x/../../webdav/by-uids"):
            self.assertIn(b"<D:href>/webdav/by-uids/</D:href>", await ask("PROPFIND", path))
        for path in ("/../../../etc/passwd", "/..%2f%2e%2e/etc", "/%252e%252e/system", f"/by-uids/{NOBODY}", "/%ff"):
            self.assertIn(b" 404 ", (await ask("GET", path)).partition(b"\r\n")[0], path)

    async def test_cut_off(self) -> None:
        """A PUT that ends in the middle stores nothing and leaves nothing, small or large."""
        for data in (next(hierarchy()), b"".join(LargeObject(2).chunks())):
            connection = await wire(self.port)
            headers = f"Host: a\r\nExpect: 100-continue\r\nContent-Length: {len(data)}"
            connection.write(f"PUT /webdav/uploads/a HTTP/1.1\r\n{headers}\r\n\r\n".encode())
            await connection.until(b"\r\n\r\n")
            connection.write(data[:-1])
            if len(data) > 1_000_000:
                await self.until(self.files)
            connection.close()
            await self.until(lambda: not self.server.site.connections)
            await self.until(lambda: self.files() == [])
        self.assertEqual(await self.client.json("/instances"), [])
