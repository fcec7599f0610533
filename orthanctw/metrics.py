"""Counters, gauges and histograms, as ``/tools/metrics-prometheus`` shows them (level 2: base).

Orthanc's names keep Orthanc's form, a value and a time stamp; what it has no name for are histograms of
prometheus_client, whose names begin with ``orthanctw_``. Any thread may report.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, generate_latest

#: Seconds for which the greatest value of a metric is shown.
_PEAK_TIME: Final = 10.0
#: Upper bounds of the classes of durations, in seconds.
_DURATIONS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Named numbers.

    Parameters
    ----------
    clock : callable
        Seconds since 1970.
    enabled : bool
        ``MetricsEnabled``; what is reported while it is off is dropped.
    """

    def __init__(self, clock: Callable[[], float], enabled: bool = True) -> None:
        self._clock = clock
        self._values: dict[str, tuple[float, float]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        self.enabled = enabled

    def set(self, name: str, value: float) -> None:
        if self.enabled:
            self._values[name] = (value, self._clock())

    def add(self, name: str, value: float = 1) -> None:
        if self.enabled:
            with self._lock:
                self._values[name] = (self._values.get(name, (0.0, 0.0))[0] + value, self._clock())

    def peak(self, name: str, value: float) -> None:
        """The greatest value of the last 10 s."""
        if not self.enabled:
            return
        now = self._clock()
        with self._lock:
            before, when = self._values.get(name, (value, now))
            if value >= before or now - when > _PEAK_TIME:
                self._values[name] = (value, now)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """The `peak` of the time that a block takes, in ms; a block that fails counts too."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.peak(name, (time.monotonic() - started) * 1000)

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """A number that is read when somebody looks."""
        self._gauges[name] = read

    def durations(self, name: str, summary: str, labels: Sequence[str] = ()) -> Durations:
        """A histogram of durations, by the values of `labels`, of which there must be few."""
        return Durations(self, Histogram(name, summary, labels, buckets=_DURATIONS, registry=self._registry))

    def snapshot(self) -> dict[str, tuple[float, float]]:
        """Value and time stamp (s since 1970) of every metric that is no histogram."""
        now = self._clock()
        return {**self._values, **{name: (read(), now) for name, read in self._gauges.items()}}

    def histograms(self) -> str:
        """The histograms in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry).decode("utf-8")


class Durations:
    """A histogram of seconds."""

    def __init__(self, metrics: Metrics, histogram: Histogram) -> None:
        self._metrics = metrics
        self._histogram = histogram

    def observe(self, seconds: float, *labels: str) -> None:
        """Count one duration."""
        if self._metrics.enabled:
            (self._histogram.labels(*labels) if labels else self._histogram).observe(seconds)
