"""Metrics: what is collected, how it is shown, and the switch."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.metrics import Metrics
from test.dicom_case import DicomCase
from test.test_dicom_senders import sample

_LINE = re.compile(r"(orthanc\w+) (-?[0-9.e+-]+) ([0-9]{13})")


class MetricsTests(SynchronousTestCase):
    """The registry alone."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics(self.clock.seconds)

    def test_peak(self) -> None:
        """The greatest value is shown for ten seconds, then the newest."""
        shown = []
        for advance, value in ((0, 5), (1, 3), (8, 7), (9, 2), (2, 2)):
            self.clock.advance(advance)
            self.metrics.peak("x", value)
            shown.append(self.metrics.snapshot()["x"][0])
        self.assertEqual(shown, [5, 5, 7, 7, 2])

    def test_failing_block(self) -> None:
        """The time of a block that fails counts."""

        def fail() -> None:
            with self.metrics.timed("x"):
                raise ValueError

        self.assertRaises(ValueError, fail)
        self.assertGreaterEqual(self.metrics.snapshot()["x"][0], 0)

    def test_disabled(self) -> None:
        """Nothing is kept while it is switched off."""
        durations = self.metrics.durations("y_seconds", "Y", ["kind"])
        self.metrics.enabled = False
        self.metrics.set("a", 1)
        self.metrics.add("b")
        self.metrics.peak("c", 1)
        durations.observe(1, "z")
        self.assertEqual(self.metrics.snapshot(), {})
        self.assertNotIn("kind=", self.metrics.histograms())


class ShownTests(DicomCase):
    """Over REST."""

    async def shown(self) -> str:
        answer = await self.client.get("/tools/metrics-prometheus")
        self.assertEqual(answer.headers["content-type"], "text/plain; version=0.0.4")
        return answer.body.decode("utf-8")

    async def test_values(self) -> None:
        """Orthanc's names, with the time in milliseconds; histograms beside them; all as Prometheus reads it."""
        await self.storescu(str(sample("CT_small.dcm")))
        text = await self.shown()
        values = {match[1]: float(match[2]) for match in map(_LINE.fullmatch, text.splitlines()) if match}
        for level in ("patients", "studies", "series", "instances"):
            self.assertEqual(values[f"orthanc_count_{level}"], 1, level)
        size = (await self.client.json("/statistics"))["TotalDiskSize"]
        self.assertAlmostEqual(values["orthanc_disk_size_mb"], int(size) / 1024 / 1024)
        last = (await self.client.json("/changes?last"))["Last"]
        self.assertEqual(values["orthanc_last_change"], last)
        self.assertEqual(values["orthanc_rest_api_active_requests"], 1)
        self.assertEqual(values["orthanc_jobs_running"], 0)
        for name in ("store_dicom_duration_ms", "storage_create_duration_ms", "storage_written_bytes"):
            self.assertGreater(values[f"orthanc_{name}"], 0, name)
        counted = {
            (item.name, *sorted(item.labels.items())): item.value
            for family in text_string_to_metric_families(await self.shown())
            for item in family.samples
        }
        self.assertEqual(counted["orthanctw_dicom_operation_seconds_count", ("operation", "store_dicom")], 1)
        self.assertGreaterEqual(counted["orthanctw_http_request_seconds_count", ("method", "GET")], 3)

    async def test_switch(self) -> None:
        """Nothing is shown while collection is off; anything but 0 and 1 is refused."""
        self.assertEqual((await self.client.get("/tools/metrics")).body, b"1")
        self.assertEqual((await self.client.ask("PUT", "/tools/metrics", b"0")).status, 200)
        self.assertEqual((await self.client.get("/tools/metrics")).body, b"0")
        self.assertEqual(await self.shown(), "")
        self.assertError(await self.client.ask("PUT", "/tools/metrics", b"yes"), 400, 8)
        self.assertEqual((await self.client.get("/tools/metrics")).body, b"0")
        await self.client.ask("PUT", "/tools/metrics", b"1")
        self.assertIn("orthanc_count_instances 0 ", await self.shown())

    async def test_configured_off(self) -> None:
        """``MetricsEnabled``."""
        await self.restart(MetricsEnabled=False)
        self.assertEqual((await self.client.get("/tools/metrics")).body, b"0")
        self.assertEqual(await self.shown(), "")
