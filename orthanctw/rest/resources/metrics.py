"""``/tools/metrics`` and ``/tools/metrics-prometheus``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from orthanctw.errors import BadRequest
from orthanctw.metrics import Metrics
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import TEXT, Body, route
from orthanctw.rest.reply import EMPTY, Reply, text_reply

#: Prometheus' text format.
_PROMETHEUS = "text/plain; version=0.0.4"
_SWITCH = {"0": False, "1": True}
_SWITCH_BODY = Body(content=(TEXT,), summary="1 to collect metrics, 0 not to")


class MetricsRoutes:
    """Figures of the server for programs that watch it.

    Parameters
    ----------
    measure : callable
        Gives the metrics that the index has to be asked for.
    """

    def __init__(self, metrics: Metrics, measure: Callable[[], Awaitable[Mapping[str, float]]]) -> None:
        self._metrics = metrics
        self._measure = measure

    @route("GET", "/tools/metrics", answers=[TEXT])
    async def is_enabled(self, call: Call) -> Reply:
        """1 when metrics are collected, else 0."""
        return text_reply("1" if self._metrics.enabled else "0")

    @route("PUT", "/tools/metrics", body=_SWITCH_BODY, answers=[TEXT])
    async def enable(self, call: Call) -> Reply:
        """Switch the collection of metrics on or off."""
        enabled = _SWITCH.get(await call.text())
        if enabled is None:
            raise BadRequest("The body must be 0 or 1")
        self._metrics.enabled = enabled
        return EMPTY

    @route("GET", "/tools/metrics-prometheus", answers=[TEXT])
    async def prometheus(self, call: Call) -> Reply:
        """All metrics in Prometheus' text format; nothing while they are not collected."""
        if not self._metrics.enabled:
            return Reply(b"", _PROMETHEUS)
        measured = await self._measure()
        values = self._metrics.snapshot()
        now = values.pop("orthanc_up_time_s")
        values.update({name: (value, now[1]) for name, value in measured.items()})
        values["orthanc_up_time_s"] = now
        lines = [f"{name} {value:.12g} {round(when * 1000)}\n" for name, (value, when) in sorted(values.items())]
        return Reply(("".join(lines) + self._metrics.histograms()).encode("utf-8"), _PROMETHEUS, compressible=True)
