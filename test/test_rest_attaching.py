"""Metadata and attachments over HTTP, writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from orthanctw.errors import FullStorage
from test.rest_samples import NOBODY, SPOOL, Answer, RestCase, dicom_object, pixels, wire
from test.test_rest_attached import LEVELS, md5

NAMES = {"UserMetadata": {"mine": 1024}, "UserContentType": {"report": [1025, "application/pdf"], "raw": 1026}}
UNSEEN = '"9-00000000000000000000000000000000"'
#: An attachment that does not stay in memory while it is received.
LONG = bytes(range(256)) * 1200


def tag(revision: int, data: bytes) -> str:
    return f'"{revision}-{md5(data)}"'


class AttachingCase(RestCase):
    """A server with one object."""

    SETTINGS: ClassVar = {**NAMES, "Orthanctw": {"SpoolThresholdKB": 64}}

    async def setUp(self) -> None:
        await super().setUp()
        self.data = dicom_object(**pixels(40, 40))
        self.stored = await self.client.store(self.data)
        self.path = self.stored["Path"]
        self.paths = [
            self.path,
            *(f"/{level}/{self.stored[parent]}" for level, parent in zip(LEVELS, _PARENTS, strict=False)),
        ]
        await self.client.ask("DELETE", "/changes")

    async def write(self, method: str, path: str, body: bytes | str = b"", match: str | None = None) -> Answer:
        headers = {} if match is None else {"If-Match": match}
        return await self.client.ask(method, path, body, headers=headers)

    async def put(self, path: str, body: bytes | str, revision: int, match: str | None = None) -> None:
        """A PUT that must succeed; what it writes has this revision."""
        answer = await self.write("PUT", path, body, match)
        data = body.encode() if isinstance(body, str) else body
        self.assertEqual((answer.status, answer.headers["etag"]), (200, tag(revision, data)), answer.body)

    async def changes(self) -> list[tuple[str, str]]:
        """Types and paths, without those of stability."""
        found = (await self.client.json("/changes", limit=1000))["Changes"]
        return [(item["ChangeType"], item["Path"]) for item in found if "Stable" not in item["ChangeType"]]

    async def uuid(self, name: str) -> str:
        return str((await self.client.json(f"{self.path}/attachments/{name}/info"))["Uuid"])

    def file(self, uuid: str) -> Path:
        return self.folder / uuid[:2] / uuid[2:4] / uuid

    async def until(self, condition: Any) -> None:
        while not condition():
            await deferLater(reactor, 0.005)


_PARENTS = ("ParentPatient", "ParentStudy", "ParentSeries")


class MetadataTests(AttachingCase):
    """``PUT`` and ``DELETE`` of ``/metadata``."""

    async def test_write_read_delete(self) -> None:
        """Metadata are written, replaced and removed at every level, and each time a change is logged."""
        for path in self.paths:
            name = f"{path}/metadata/mine"
            await self.put(name, " ä\n", 0)
            await self.put(f"{path}/metadata/1024", "", 1)
            answer = await self.client.get(name)
            self.assertEqual((answer.body, answer.headers["etag"]), (b"", tag(1, b"")))
            answer = await self.write("DELETE", name)
            self.assertEqual((answer.status, answer.body, answer.headers["content-type"]), (200, b"", "text/plain"))
            self.assertEmpty(await self.client.get(name), 404)
            self.assertError(await self.write("DELETE", name), 404, 17)
        self.assertEqual(await self.changes(), [("UpdatedMetadata", path) for path in self.paths for _ in range(3)])

    async def test_text_stays_as_it_is(self) -> None:
        """Not a byte of a value is changed, and a restart keeps it."""
        await self.put(f"{self.path}/metadata/65535", " \tä\r\n ", 0)
        await self.restart()
        self.assertEqual((await self.client.get(f"{self.path}/metadata/65535")).text, " \tä\r\n ")

    async def test_own_metadata_of_the_server(self) -> None:
        """What the server writes itself, and what has no number of a user's, is forbidden."""
        for name in ("0", "RemoteAET", "LastUpdate", "1023", "65536", "99999999999", "-5"):
            self.assertEmpty(await self.write("PUT", f"{self.path}/metadata/{name}", "x"), 403)
            self.assertEmpty(await self.write("DELETE", f"{self.path}/metadata/{name}"), 403)
        for method in ("PUT", "DELETE"):
            self.assertError(await self.write(method, f"{self.path}/metadata/nothing", "x"), 404, 7)
            self.assertError(await self.write(method, f"/instances/{NOBODY}/metadata/1024", "x"), 404, 17)
            self.assertError(await self.write(method, f"/studies/{self.stored['ID']}/metadata/1024", "x"), 404, 17)
        self.assertEqual(await self.changes(), [])

    async def test_if_match(self) -> None:
        """Who names a version changes that one only; what is not there yet has none."""
        name = f"{self.path}/metadata/mine"
        await self.put(name, "a", 0, UNSEEN)
        for match in (UNSEEN, tag(0, b"b"), tag(1, b"a"), "0-x"):
            self.assertError(await self.write("PUT", name, "b", match), 409, 43)
            self.assertError(await self.write("DELETE", name, match=match), 409, 43)
        for match in ("x", "*", '"-1-x"', '"x-1"', '""', '"99999999999999999999-x"'):
            self.assertError(await self.write("PUT", name, "b", match), 400, 3)
            self.assertError(await self.write("DELETE", name, match=match), 400, 3)
        await self.put(name, "b", 1, tag(0, b"a"))
        self.assertEqual((await self.write("DELETE", name, match=tag(1, b"b").strip('"'))).status, 200)
        self.assertError(await self.write("DELETE", name, match=tag(1, b"b")), 404, 17)

    async def test_check_revisions(self) -> None:
        """With CheckRevisions, what is there is changed only by those who name its version."""
        await self.restart(CheckRevisions=True)
        name = f"{self.path}/metadata/mine"
        await self.put(name, "a", 0)
        self.assertError(await self.write("PUT", name, "b"), 409, 43)
        self.assertError(await self.write("DELETE", name), 409, 43)
        self.assertError(await self.write("DELETE", f"{self.path}/metadata/1030"), 409, 43)
        self.assertError(await self.write("DELETE", f"{self.path}/metadata/1030", match=UNSEEN), 404, 17)
        await self.put(name, "b", 1, tag(0, b"a"))
        self.assertEqual((await self.write("DELETE", name, match=tag(1, b"b"))).status, 200)

    async def test_clients_at_once(self) -> None:
        """Of many who change the same version one succeeds; of those who name none all do, one after the other."""
        name = f"{self.path}/metadata/mine"
        await self.put(name, "x", 0)
        answers = await gatherResults(
            [Deferred.fromCoroutine(self.write("PUT", name, f"{n}", tag(0, b"x"))) for n in range(8)]
        )
        self.assertEqual(sorted(answer.status for answer in answers), [200] + [409] * 7)
        answers = await gatherResults([Deferred.fromCoroutine(self.write("PUT", name, f"{n}")) for n in range(8)])
        revisions = sorted(int(answer.headers["etag"][1:].partition("-")[0]) for answer in answers)
        self.assertEqual(revisions, list(range(2, 10)))

    async def test_bad_values(self) -> None:
        """What is no text, or too long for metadata, is refused."""
        name = f"{self.path}/metadata/mine"
        self.assertError(await self.write("PUT", name, b"\xff"), 400, 15)
        self.assertEmpty(await self.write("PUT", name, b"x" * (16 * 1024 * 1024 + 1)), 413)
        self.assertEmpty(await self.client.get(name), 404)


class AttachmentTests(AttachingCase):
    """``PUT`` and ``DELETE`` of ``/attachments``."""

    async def test_write_read_delete(self) -> None:
        """Attachments are written, replaced and removed at every level, with their files, and changes are logged."""
        before = self.files()
        for path in self.paths:
            base = f"{path}/attachments/report"
            for revision, data in enumerate((b"%PDF", LONG, b"")):
                await self.put(base, data, revision)
                answer = await self.client.get(f"{base}/data")
                self.assertEqual((answer.body, answer.headers["content-type"]), (data, "application/pdf"))
                self.assertEqual((await self.client.get(f"{base}/md5")).text, md5(data))
                self.assertEqual(len([name for name in self.files() if SPOOL not in name]), len(before) + 1)
            answer = await self.write("DELETE", base)
            self.assertEqual((answer.status, answer.body, answer.headers["content-type"]), (200, b"", "text/plain"))
            self.assertError(await self.client.get(f"{base}/data"), 404, 17)
            self.assertError(await self.write("DELETE", base), 404, 17)
        await self.until(lambda: self.files() == before)
        self.assertEqual(await self.changes(), [("UpdatedAttachment", path) for path in self.paths for _ in range(4)])
        statistics = await self.client.json("/statistics")
        self.assertEqual(statistics["TotalDiskSize"], str(len(self.data)))

    async def test_answer(self) -> None:
        """A PUT is answered by an empty object and the ETag."""
        answer = await self.write("PUT", f"{self.path}/attachments/raw", b"x")
        self.assertEqual((answer.body, answer.headers["content-type"]), (b"{}", "application/json"))
        await self.restart()
        self.assertEqual((await self.client.get(f"{self.path}/attachments/raw/data")).body, b"x")
        part = await self.client.ask("GET", f"{self.path}/attachments/raw/data", headers={"Range": "bytes=0-0"})
        self.assertEqual((part.status, part.body, part.headers["content-range"]), (206, b"x", "bytes 0-0/1"))

    async def test_own_attachments_of_the_server(self) -> None:
        """Files of the server's own, unknown names and unknown resources are refused, and nothing is left of them."""
        before = self.files()
        for name in ("dicom", "0", "1023", "65536", "99999999999", "-5"):
            self.assertEmpty(await self.write("PUT", f"{self.path}/attachments/{name}", "x"), 403)
            self.assertEmpty(await self.write("DELETE", f"{self.path}/attachments/{name}"), 403)
        for method in ("PUT", "DELETE"):
            self.assertError(await self.write(method, f"{self.path}/attachments/nothing", LONG), 404, 7)
            self.assertError(await self.write(method, f"/studies/{NOBODY}/attachments/1024", LONG), 404, 17)
        await self.until(lambda: self.files() == before)

    async def test_if_match(self) -> None:
        """As with metadata; what is refused leaves no file."""
        name = f"{self.path}/attachments/raw"
        await self.put(name, b"a", 0, UNSEEN)
        before = self.files()
        self.assertError(await self.write("PUT", name, LONG, UNSEEN), 409, 43)
        self.assertError(await self.write("PUT", name, LONG, "x"), 400, 3)
        self.assertError(await self.write("DELETE", name, match=UNSEEN), 409, 43)
        await self.restart(CheckRevisions=True)
        self.assertError(await self.write("PUT", name, LONG), 409, 43)
        self.assertError(await self.write("DELETE", name), 409, 43)
        await self.until(lambda: self.files() == before)
        await self.put(name, b"b", 1, tag(0, b"a"))
        self.assertEqual((await self.write("DELETE", name, match=tag(1, b"b"))).status, 200)

    async def test_clients_at_once(self) -> None:
        """Many replace one attachment while others read it: every answer is whole, one file is left."""
        name = f"{self.path}/attachments/raw"
        before = len(self.files())
        bodies = [bytes([65 + n]) * 100_000 for n in range(8)]
        await self.put(name, bodies[0], 0)
        answers = await gatherResults(
            [Deferred.fromCoroutine(self.write("PUT", name, body)) for body in bodies]
            + [Deferred.fromCoroutine(self.client.get(f"{name}/data")) for _ in range(16)]
        )
        self.assertEqual({answer.status for answer in answers}, {200})
        for answer in answers[8:]:
            self.assertIn(answer.body, bodies)
        self.assertEqual((await self.client.json(f"{name}/info"))["Uuid"], await self.uuid("raw"))
        await self.until(lambda: len(self.files()) == before + 1)
        self.assertIn((await self.client.get(f"{name}/data")).headers["etag"][:2], '"8')

    async def test_client_leaves(self) -> None:
        """Of an upload that breaks off neither file nor row is left."""
        before = self.files()
        connection = await wire(self.port)
        connection.write(
            f"PUT {self.path}/attachments/raw HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n".encode()
        )
        # More than is gathered in memory.
        connection.write(LONG * 8)
        await self.until(lambda: any(SPOOL in name for name in self.files()))
        connection.abort()
        await self.until(lambda: self.files() == before)
        self.assertEqual(await self.client.json(f"{self.path}/attachments"), ["dicom"])

    async def test_quota(self) -> None:
        """An attachment over the quota of a patient that cannot be recycled is refused without trace."""
        await self.restart(MaximumStorageSize=1)
        before = self.files()
        answer = await self.write("PUT", f"{self.path}/attachments/raw", b"x" * 1_100_000)
        self.assertError(answer, 507, int(FullStorage.code))
        await self.until(lambda: self.files() == before)

    async def test_compression(self) -> None:
        """With StorageCompression attachments are compressed on the disk, and read as they were."""
        await self.restart(StorageCompression=True)
        name = f"{self.path}/attachments/raw"
        for revision, data in enumerate((LONG, b"small", b"")):
            await self.put(name, data, revision)
            self.assertEqual((await self.client.get(f"{name}/is-compressed")).text, "1")
            self.assertEqual((await self.client.get(f"{name}/data")).body, data)
            raw = (await self.client.get(f"{name}/compressed-data")).body
            self.assertEqual(self.file(await self.uuid("raw")).read_bytes(), raw)


class OperationTests(AttachingCase):
    """``compress``, ``uncompress`` and ``verify-md5``."""

    async def operate(self, operation: str, name: str = "raw") -> Answer:
        return await self.client.post(f"{self.path}/attachments/{name}/{operation}")

    async def test_compress_and_back(self) -> None:
        """The bytes stay the same, the revision counts up, and the file of before goes."""
        await self.put(f"{self.path}/attachments/raw", LONG, 0)
        base = f"{self.path}/attachments/raw"
        for revision, (operation, flag) in enumerate((("compress", "1"), ("uncompress", "0")), 1):
            old = self.file(await self.uuid("raw"))
            for _ in range(2):
                # The second time there is nothing to do.
                answer = await self.operate(operation)
                self.assertEqual((answer.status, answer.body), (200, b"{}"))
                answer = await self.client.get(f"{base}/is-compressed")
                self.assertEqual((answer.text, answer.headers["etag"]), (flag, tag(revision, LONG)))
            self.assertFalse(old.exists())
            self.assertEqual((await self.client.get(f"{base}/data")).body, LONG)
            self.assertEqual((await self.operate("verify-md5")).body, b"{}")
        self.assertEqual(await self.changes(), [("UpdatedAttachment", self.path)] * 3)

    async def test_object(self) -> None:
        """The file of an object is replaced without a change; the old one stays for those who are about to read it."""
        self.server.retirement.delay = 0
        old = self.file(await self.uuid("dicom"))
        self.assertEqual((await self.operate("compress", "dicom")).status, 200)
        answer = await self.client.get(f"{self.path}/file")
        self.assertEqual(answer.body, self.data)
        size = (await self.client.json(f"{self.path}/attachments/dicom/info"))["CompressedSize"]
        self.assertLess(size, len(self.data))
        self.assertEqual((await self.client.json("/statistics"))["TotalDiskSize"], str(size))
        await self.until(lambda: not old.exists())
        self.assertEqual(await self.changes(), [])

    async def test_old_file_of_an_object_stays_for_a_while(self) -> None:
        """It goes at the next start when the server stops before."""
        old = self.file(await self.uuid("dicom"))
        await self.operate("compress", "dicom")
        await self.stop()
        self.assertTrue(old.exists())
        await self._start(self.SETTINGS)
        self.assertFalse(old.exists())
        self.assertEqual((await self.client.get(f"{self.path}/file")).body, self.data)

    async def test_clients_at_once(self) -> None:
        """Many who compress and uncompress at once all succeed; nothing is lost or left over."""
        await self.put(f"{self.path}/attachments/raw", LONG, 0)
        count = len(self.files())
        operations = ["compress", "uncompress"] * 4
        answers = await gatherResults([Deferred.fromCoroutine(self.operate(name)) for name in operations])
        self.assertEqual({answer.status for answer in answers}, {200})
        self.assertEqual((await self.client.get(f"{self.path}/attachments/raw/data")).body, LONG)
        await self.until(lambda: len(self.files()) == count)

    async def test_nothing_there(self) -> None:
        """Absent attachments, names and resources."""
        for operation in ("compress", "uncompress"):
            self.assertError(await self.operate(operation), 404, 17)
        self.assertEmpty(await self.operate("verify-md5"), 400)
        for operation in ("compress", "uncompress", "verify-md5"):
            self.assertError(await self.operate(operation, "nothing"), 404, 7)
            answer = await self.client.post(f"/series/{NOBODY}/attachments/raw/{operation}")
            self.assertError(answer, 404, 17)

    async def test_damage(self) -> None:
        """A file that has lost a bit, its end or itself is noticed, and never gets a new digest."""
        for compression in (False, True):
            await self.restart(StorageCompression=compression)
            await self.write("PUT", f"{self.path}/attachments/raw", LONG)
            other = "uncompress" if compression else "compress"
            file = self.file(await self.uuid("raw"))
            good = file.read_bytes()
            flipped = bytearray(good)
            flipped[len(good) // 2] ^= 1
            for damaged in (bytes(flipped), good[: len(good) // 2], good[:4], b""):
                file.write_bytes(damaged)
                self.assertEmpty(await self.operate("verify-md5"), 400)
                self.assertError(await self.operate(other), 500, 20)
            file.write_bytes(good + b"x")
            self.assertEmpty(await self.operate("verify-md5"), 400)
            file.unlink()
            self.assertEmpty(await self.operate("verify-md5"), 400)
            self.assertError(await self.operate(other), 404, 13)
            file.write_bytes(good)
            self.assertEqual((await self.operate("verify-md5")).status, 200)

    async def test_without_digests(self) -> None:
        """Without digests nothing can be verified; all else works, and the ETag has none."""
        await self.restart(StoreMD5ForAttachments=False)
        answer = await self.write("PUT", f"{self.path}/attachments/raw", LONG)
        self.assertEqual(answer.headers["etag"], '"0-"')
        self.assertEmpty(await self.operate("verify-md5"), 400)
        self.assertEqual((await self.operate("compress")).status, 200)
        answer = await self.write("PUT", f"{self.path}/attachments/raw", b"x", '"1-"')
        self.assertEqual((answer.status, answer.headers["etag"]), (200, '"2-"'))
