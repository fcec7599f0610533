"""Counters and gauges by name, as ``/tools/metrics-prometheus`` shows them (level 2: base).

Only the reactor changes them; pools report through the reactor.
"""

from __future__ import annotations

from collections.abc import Callable


class Metrics:
    """Named numbers. `enabled` is the option ``MetricsEnabled``; a change while disabled is dropped."""

    def __init__(self, clock: Callable[[], float], enabled: bool = True) -> None:
        self._clock = clock
        self._values: dict[str, tuple[float, float]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self.enabled = enabled

    def set(self, name: str, value: float) -> None:
        if self.enabled:
            self._values[name] = (value, self._clock())

    def add(self, name: str, value: float = 1) -> None:
        if self.enabled:
            self._values[name] = (self._values.get(name, (0.0, 0.0))[0] + value, self._clock())

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """A number that is read when somebody looks."""
        self._gauges[name] = read

    def snapshot(self) -> dict[str, tuple[float, float]]:
        """Value and time stamp (s since 1970) of every metric."""
        now = self._clock()
        return {**self._values, **{name: (read(), now) for name, read in self._gauges.items()}}
