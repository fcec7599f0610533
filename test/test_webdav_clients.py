"""Clients of WebDAV that others have written: cadaver, curl, and webdavclient3 in Python."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from unittest import SkipTest

from webdav3.client import Client as PythonClient

from test.dicom_peers import in_thread
from test.rest_samples import hierarchy
from test.webdav_case import VIEWS, WebDavCase

_BY_UIDS = "by-uids/1.2.1/1.2.1.1/1.2.1.1.1.dcm"
_BY_PATIENTS = "by-patients/P1 - DOE JOHN/20240102 - HEAD/CT - AXIAL"


class ClientCase(WebDavCase):
    """Folders on this side."""

    async def setUp(self) -> None:
        await super().setUp()
        self.here = Path(self.mktemp()).absolute()
        self.sent = self.here / "sent"
        self.sent.mkdir(parents=True)
        for number, data in enumerate(hierarchy()):
            (self.sent / f"{number} file.dcm").write_bytes(data)
        (self.sent / ".DS_Store").write_bytes(b"Bud1")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webdav/"

    async def count(self) -> int:
        """How many objects there are."""
        return len(await self.client.json("/instances"))

    async def run_program(self, *command: str, typed: str = "") -> str:
        """What a program prints, which reads what is typed."""
        if not Path(command[0]).exists():
            raise SkipTest(f"{command[0]} is not installed")

        def run() -> subprocess.CompletedProcess[str]:
            environment = {"HOME": str(self.here), "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
            return subprocess.run(
                command, input=typed, capture_output=True, text=True, cwd=self.here, env=environment, timeout=60
            )

        done = await in_thread(run)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout


class ProgramTests(ClientCase):
    """Programs of Debian."""

    async def cadaver(self, *lines: str) -> str:
        return await self.run_program("/usr/bin/cadaver", self.url, typed="\n".join((*lines, "quit", "")))

    async def test_cadaver_reads(self) -> None:
        """Folders are listed, properties shown, files are fetched byte for byte."""
        await self.fill()
        printed = await self.cadaver(
            "ls",
            'cd "by-patients/P1 - DOE JOHN"',
            "ls",
            f"get /webdav/{_BY_UIDS} got.dcm",
            "get /webdav/by-uids/1.2.1/study.json got.json",
            f"propget /webdav/{_BY_UIDS}",
        )
        for name in (*VIEWS, "uploads", "20240102 - HEAD"):
            self.assertRegex(printed, rf"Coll: +{name} +0")
        self.assertIn("DAV: getcontenttype = application/dicom", printed)
        self.assertNotIn("failed", printed)
        self.assertEqual((self.here / "got.dcm").read_bytes(), next(hierarchy()))
        described = await self.dav("GET", "/by-uids/1.2.1/study.json")
        self.assertEqual((self.here / "got.json").read_bytes(), described.body)

    async def test_cadaver_writes(self) -> None:
        """Files and a folder of files are uploaded, objects and folders deleted; nothing is moved."""
        printed = await self.cadaver("cd uploads", "lcd sent", 'put "0 file.dcm"', "mkcol a", "ls", "cd a", "mput *")
        self.assertIn("Creating `a': succeeded.", printed)
        self.assertRegex(printed, r"Coll: +a +0")
        self.assertEqual(printed.count(".dcm': [") - printed.count("failed"), 5, printed)
        self.assertEqual(await self.count(), 4)
        printed = await self.cadaver(
            "rmcol uploads/a", f"delete {_BY_UIDS}", "rmcol by-uids/1.2.2", "move by-uids/1.2.1 uploads/b", "ls uploads"
        )
        self.assertEqual((printed.count("succeeded."), printed.count("405 Method Not Allowed")), (3, 1), printed)
        self.assertIn("collection is empty", printed)
        self.assertEqual(await self.count(), 2)

    async def test_cadaver_locks(self) -> None:
        """Locks are given, known to the client, and given back."""
        await self.fill()
        printed = await self.cadaver(f"lock {_BY_UIDS}", "showlocks", f"unlock {_BY_UIDS}", "showlocks")
        self.assertEqual((printed.count("succeeded."), printed.count("No owned locks.")), (2, 1), printed)
        self.assertIn("opaquelocktoken:0x", printed)

    async def test_curl(self) -> None:
        """PROPFIND, and an upload from a pipe."""
        await self.fill()
        found = await self.run_program(
            "/usr/bin/curl", "-sS", "-i", "-X", "PROPFIND", "-H", "Depth: 1", f"{self.url}by-uids/1.2.1"
        )
        self.assertIn("HTTP/1.1 207 Multi-Status", found)
        self.assertEqual(found.count("<D:response>"), 4)
        await self.client.ask("DELETE", f"/instances/{(await self.client.json('/instances'))[0]}")
        whole = await self.run_program(
            *("/usr/bin/curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-T", str(self.sent / "0 file.dcm")),
            f"{self.url}uploads/",
        )
        self.assertEqual((whole, await self.count()), ("201", 4))


class LibraryTests(ClientCase):
    """webdavclient3, as its users call it."""

    async def ask(self, method: str, *arguments: Any) -> Any:
        client = PythonClient({"webdav_hostname": f"http://127.0.0.1:{self.port}", "webdav_root": "/webdav/"})
        return await in_thread(getattr(client, method), *arguments)

    async def test_reading(self) -> None:
        """Lists, questions, a file and a whole folder."""
        await self.fill()
        self.assertEqual(await self.ask("list"), [f"{name}/" for name in (*VIEWS, "uploads")])
        self.assertEqual(await self.ask("list", "by-patients"), ["P1 - DOE JOHN/", "P2 - MLLER ANNA/"])
        self.assertEqual(await self.ask("is_dir", _BY_PATIENTS), True)
        self.assertEqual(await self.ask("is_dir", _BY_UIDS), False)
        self.assertEqual([await self.ask("check", path) for path in (_BY_PATIENTS, _BY_UIDS, "x")], [True, True, False])
        info = await self.ask("info", _BY_UIDS)
        self.assertEqual((info["size"], info["content_type"]), (str(len(next(hierarchy()))), "application/dicom"))
        await self.ask("download_sync", _BY_UIDS, str(self.here / "got.dcm"))
        self.assertEqual((self.here / "got.dcm").read_bytes(), next(hierarchy()))
        await self.ask("download_sync", "by-uids", str(self.here / "all"))
        got = {path.read_bytes() for path in (self.here / "all").rglob("*.dcm")}
        self.assertEqual(got, set(hierarchy()))

    async def test_writing(self) -> None:
        """A file, a folder of files, and deleting."""
        await self.ask("upload_sync", "uploads/0.dcm", str(self.sent / "0 file.dcm"))
        self.assertEqual(await self.count(), 1)
        await self.ask("upload_sync", "uploads/sent", str(self.sent))
        self.assertEqual((await self.count(), await self.ask("list", "uploads")), (4, ["sent/"]))
        await self.ask("clean", "uploads/sent")
        await self.ask("clean", "by-uids/1.2.1/1.2.1.1/1.2.1.1.1.dcm")
        await self.ask("clean", "by-patients/P2 - MLLER ANNA")
        self.assertEqual((await self.count(), await self.ask("list", "uploads")), (2, []))
