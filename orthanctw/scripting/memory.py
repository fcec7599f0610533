"""``Python.DisplayMemoryUsage``."""

from __future__ import annotations

import tracemalloc
from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log: Final = Logger(namespace="orthanctw.plugins")
#: Seconds between two lines of the log.
_INTERVAL: Final = 1.0


class MemoryDisplay:
    """Logs what the interpreter has allocated. Everything is slower meanwhile."""

    def __init__(self, reactor: Any) -> None:
        self._loop = LoopingCall(self._show)
        self._loop.clock = reactor

    def start(self) -> None:
        """Begin to count."""
        tracemalloc.start()
        self._loop.start(_INTERVAL)

    def stop(self) -> None:
        """End; without a start, too."""
        if self._loop.running:
            self._loop.stop()
            tracemalloc.stop()

    def _show(self) -> None:
        now, peak = tracemalloc.get_traced_memory()
        _log.warn("Python memory: {now} bytes, at most {peak} bytes so far", now=now, peak=peak)
