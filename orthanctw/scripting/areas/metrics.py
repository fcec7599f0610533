"""Metrics of scripts."""

from __future__ import annotations

import re
from typing import Final

from twisted.logger import Logger

from orthanctw.scripting.exposure import exposed
from orthanctw.scripting.host import Host

_log: Final = Logger(namespace="orthanctw.plugins")
#: Names of metrics in Prometheus' text format.
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
#: Numbers of ``MetricsType``.
_DEFAULT, _TIMER = 0, 1


class MetricsArea:
    """``orthanc.SetMetrics...``: shown by ``/tools/metrics-prometheus``. What cannot be shown is told in the log."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def SetMetricsValue(self, name: str, value: float, type: int, /) -> None:
        """Report a number: the present one, or with ``TIMER`` the greatest of the last 10 s."""
        metrics = self._host.metrics
        if _NAME.fullmatch(name) is None or type not in (_DEFAULT, _TIMER):
            _log.error("This is no metric: {name!r} of type {type}", name=name, type=type)
        elif type == _TIMER:
            metrics.peak(name, value)
        else:
            metrics.set(name, value)

    @exposed
    def SetMetricsIntegerValue(self, name: str, value: int, type: int, /) -> None:
        """As `SetMetricsValue`."""
        self.SetMetricsValue(name, value, type)
