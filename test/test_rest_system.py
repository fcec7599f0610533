"""The server itself over HTTP: what it is, its totals, its logs, its small services and the page for people."""

from __future__ import annotations

import re
from typing import Any

from test.rest_samples import RestCase, dicom_object

KEYS = frozenset(
    [
        "ApiVersion",
        "Capabilities",
        "CheckRevisions",
        "DatabaseBackendPlugin",
        "DatabaseServerIdentifier",
        "DatabaseVersion",
        "DicomAet",
        "DicomDefaultRetrieveMethod",
        "DicomPort",
        "HasLabels",
        "HttpPort",
        "IngestTranscoding",
        "IsHttpServerSecure",
        "MainDicomTags",
        "MaximumPatientCount",
        "MaximumStorageMode",
        "MaximumStorageSize",
        "Name",
        "OverwriteInstances",
        "OverwriteInstancesMode",
        "PatientLevelEnabled",
        "Performance",
        "PluginsEnabled",
        "ReadOnly",
        "StorageAreaPlugin",
        "StorageCompression",
        "StoreMD5ForAttachments",
        "ThirdPartyPatches",
        "ThirdPartyVersions",
        "UserMetadata",
        "Version",
    ]
)
PERFORMANCE = frozenset(
    [
        "ConcurrentJobs",
        "DicomParserCacheSize",
        "DicomParserMemoryCapacity",
        "DicomParserThreadsCount",
        "DicomThreadsCount",
        "HttpThreadsCount",
        "MaximumStorageCacheSize",
        "SequentialDicomReaderThreadsCount",
        "StorageLoaderThreadsCount",
        "StorageMemoryCapacity",
        "TranscoderCacheSize",
        "TranscoderMemoryCapacity",
        "TranscoderThreadsCount",
    ]
)
STAMP = re.compile(r"\d{8}T\d{6}\Z")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+\Z")


class SystemTests(RestCase):
    """``/system`` and ``/statistics``."""

    async def test_keys(self) -> None:
        """Every key of an Orthanc is there, and one of ours."""
        system = await self.client.json("/system")
        self.assertEqual(set(system), KEYS | {"OrthanctwVersion"})
        self.assertEqual(set(system["Performance"]), PERFORMANCE)
        self.assertEqual(set(system["MainDicomTags"]), {"Patient", "Study", "Series", "Instance"})
        self.assertEqual(
            set(system["Capabilities"]),
            {"HasExtendedChanges", "HasExtendedFind", "HasKeyValueStores", "HasQueues", "HasReserveQueueValue"},
        )

    async def test_defaults(self) -> None:
        """Values and their types without a configuration."""
        system = await self.client.json("/system")
        expected: dict[str, Any] = {
            "ApiVersion": 31,
            "CheckRevisions": False,
            "DatabaseBackendPlugin": None,
            "DatabaseVersion": 6,
            "DicomAet": "ORTHANC",
            "HasLabels": True,
            "IngestTranscoding": "",
            "IsHttpServerSecure": True,
            "MaximumPatientCount": 0,
            "MaximumStorageMode": "Recycle",
            "OverwriteInstances": False,
            "OverwriteInstancesMode": "Never",
            "PatientLevelEnabled": True,
            "ReadOnly": False,
            "StorageAreaPlugin": None,
            "StorageCompression": False,
            "StoreMD5ForAttachments": True,
            "UserMetadata": {},
            "Version": "1.13.0",
        }
        self.assertEqual({key: system[key] for key in expected}, expected)
        self.assertRegex(system["DatabaseServerIdentifier"], r"^[0-9a-f]{8}(-[0-9a-f]{8}){4}$")
        self.assertEqual(system["MainDicomTags"]["Patient"], "0010,0010;0010,0020;0010,0030;0010,0040;0010,1000")

    async def test_configured(self) -> None:
        """The configuration shows."""
        await self.restart(
            Name="here",
            DicomAet="AET",
            OverwriteInstances="IfChanged",
            StorageCompression=True,
            UserMetadata={"mine": 1024},
            RemoteAccessAllowed=True,
            AuthenticationEnabled=False,
            ExtraMainDicomTags={"Patient": ["PatientComments"]},
        )
        system = await self.client.json("/system")
        self.assertEqual((system["Name"], system["DicomAet"]), ("here", "AET"))
        self.assertEqual((system["OverwriteInstances"], system["OverwriteInstancesMode"]), (True, "IfChanged"))
        self.assertEqual((system["StorageCompression"], system["UserMetadata"]), (True, {"mine": 1024}))
        self.assertIs(system["IsHttpServerSecure"], False)
        self.assertTrue(system["MainDicomTags"]["Patient"].endswith(";0010,4000"))

    async def test_statistics(self) -> None:
        """Totals grow with each object, and are zero without."""
        empty = await self.client.json("/statistics")
        self.assertEqual(
            empty,
            {
                "CountInstances": 0,
                "CountPatients": 0,
                "CountSeries": 0,
                "CountStudies": 0,
                "TotalDiskSize": "0",
                "TotalDiskSizeMB": 0,
                "TotalUncompressedSize": "0",
                "TotalUncompressedSizeMB": 0,
            },
        )
        data = dicom_object()
        await self.client.store(data)
        full = await self.client.json("/statistics")
        self.assertEqual((full["CountInstances"], full["CountPatients"]), (1, 1))
        self.assertEqual((full["TotalDiskSize"], full["TotalUncompressedSize"]), (str(len(data)), str(len(data))))

    async def test_statistics_of_compressed_storage(self) -> None:
        """Compressed files count with their size on the disk, and with what they hold."""
        await self.restart(StorageCompression=True)
        data = dicom_object(ImageComments="x" * 5000)
        await self.client.store(data)
        full = await self.client.json("/statistics")
        self.assertEqual(full["TotalUncompressedSize"], str(len(data)))
        self.assertLess(int(full["TotalDiskSize"]), len(data) - 4000)


class ToolTests(RestCase):
    """The small services below ``/tools``."""

    async def test_list(self) -> None:
        """``/tools`` is the sorted list of its sub-routes."""
        tools = await self.client.json("/tools")
        self.assertEqual(tools, sorted(tools))
        for name in ("find", "lookup", "now", "now-local", "generate-uid", "log-level", "log-level-http", "reset"):
            self.assertIn(name, tools)

    async def test_time(self) -> None:
        """Times are text in UTC and in the zone of the server."""
        for name in ("now", "now-local"):
            answer = await self.client.get(f"/tools/{name}")
            self.assertRegex(answer.text, STAMP)
            self.assertEqual(answer.headers["content-type"], "text/plain")

    async def test_generate_uid(self) -> None:
        """A UID for a study, series or instance, a UUID for a patient; never the same twice."""
        for level in ("study", "series", "instance"):
            texts = [(await self.client.get("/tools/generate-uid", level=level)).text for _ in range(3)]
            self.assertEqual(len(set(texts)), 3)
            for text in texts:
                self.assertRegex(text, UID)
                self.assertLessEqual(len(text), 64)
        self.assertRegex((await self.client.get("/tools/generate-uid", level="patient")).text, UUID)

    async def test_generate_uid_of_nothing(self) -> None:
        """Without a level, or with one that is not spelt as it must be, there is no answer."""
        for query in ("", "?level", "?level=", "?level=Patient", "?level=studies", "?level=x"):
            self.assertEmpty(await self.client.get(f"/tools/generate-uid{query}"), 404)

    async def test_log_levels(self) -> None:
        """The level of each category is read and written apart, and all at once."""
        self.assertEqual((await self.client.get("/tools/log-level")).text, "default")
        self.assertEmpty(await self.client.ask("PUT", "/tools/log-level-http", "verbose"), 200)
        self.assertEqual((await self.client.get("/tools/log-level-http")).text, "verbose")
        self.assertEqual((await self.client.get("/tools/log-level-dicom")).text, "default")
        self.assertEmpty(await self.client.ask("PUT", "/tools/log-level", "trace"), 200)
        for category in ("generic", "plugins", "http", "sqlite", "dicom", "jobs", "lua"):
            self.assertEqual((await self.client.get(f"/tools/log-level-{category}")).text, "trace")
            self.assertEqual(self.levels.get(category), "trace")

    async def test_bad_log_levels(self) -> None:
        """Other texts are refused and change nothing; there are no other categories."""
        for text in ("", "debug", "VERBOSE", '"verbose"', b"\xff\xfe", "verbose\0"):
            self.assertError(await self.client.ask("PUT", "/tools/log-level", text), 400, 3)
        self.assertEqual((await self.client.get("/tools/log-level")).text, "default")
        self.assertError(await self.client.get("/tools/log-level-nothing"), 404, 17)

    async def test_life(self) -> None:
        """Shutdown and reset are answered before they happen."""
        self.assertEmpty(await self.client.post("/tools/reset"), 200)
        self.assertEmpty(await self.client.post("/tools/shutdown"), 200)
        self.assertEqual(self.ended, ["reset", "shutdown"])


class PageTests(RestCase):
    """The page for people."""

    async def test_redirects(self) -> None:
        """The root leads to the page, the icon to where it lies; both relative."""
        for path, location in (("/", "app/explorer.html"), ("/favicon.ico", "app/images/favicon.ico")):
            answer = await self.client.get(path)
            self.assertEmpty(answer, 307)
            self.assertEqual(answer.headers["location"], location)
            self.assertEqual((await self.client.get(f"/{location}")).status, 200)

    async def test_page(self) -> None:
        """The page is HTML that loads nothing from elsewhere; all that it names is there."""
        answer = await self.client.get("/app/explorer.html")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/html"))
        self.assertNotRegex(answer.text, r"(src|href)=\"?https?:")
        for name in re.findall(r"(?:src|href)=\"([\w./-]+)\"", answer.text):
            self.assertEqual((await self.client.get(f"/app/{name}")).status, 200, name)

    async def test_nothing_else(self) -> None:
        """Folders, unknown files and ways out of the folder are not found; writing is not allowed."""
        for path in ("/app", "/app/", "/app/none.html", "/app/images", "/app/%2e%2e/server.py", "/app/..%2fserver.py"):
            self.assertEqual((await self.client.get(path)).status, 404, path)
        self.assertEmpty(await self.client.get("/app/none.html"), 404)
        answer = await self.client.post("/app/explorer.html")
        self.assertEmpty(answer, 405)
        self.assertEqual(answer.headers["allow"], "GET")

    async def test_disabled(self) -> None:
        """Without the page, its paths are unknown."""
        await self.restart(OrthancExplorerEnabled=False)
        self.assertError(await self.client.get("/app/explorer.html"), 404, 17)
