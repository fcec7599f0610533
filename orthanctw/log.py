"""Logs by twisted.logger, with Orthanc's categories and levels (level 2: base).

A logger's namespace is ``orthanctw.CATEGORY``; what Twisted itself logs counts as ``generic``. Nothing that is
logged at the default level (warnings and errors) names a patient.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    eventAsText,
    formatTime,
)
from zope.interface import implementer

CATEGORIES = ("generic", "plugins", "http", "sqlite", "dicom", "jobs", "lua")
#: The texts of ``/tools/log-level``, from the quietest.
LEVELS = ("default", "verbose", "trace")
_PREFIX = "orthanctw."
_LETTERS = {
    LogLevel.critical: "E",
    LogLevel.error: "E",
    LogLevel.warn: "W",
    LogLevel.info: "I",
    LogLevel.debug: "T",
}
#: Rank of an event, and the highest rank that a level shows.
_RANKS = {LogLevel.critical: 0, LogLevel.error: 0, LogLevel.warn: 0, LogLevel.info: 1, LogLevel.debug: 2}


def category_of(namespace: str) -> str:
    """The category of a logger's namespace."""
    if namespace.startswith(_PREFIX):
        category = namespace[len(_PREFIX) :].partition(".")[0]
        if category in CATEGORIES:
            return category
    return "generic"


class LogLevels:
    """What is shown of each category; changed while the server runs."""

    def __init__(self, levels: Mapping[str, str] | None = None) -> None:
        self._shown = dict.fromkeys(CATEGORIES, 0)
        #: Events since the start, shown or not.
        self.errors = 0
        self.warnings = 0
        for category, level in (levels or {}).items():
            if category == "*":
                self.set_all(level)
            else:
                self.set(category, level)

    def set(self, category: str, level: str) -> None:
        """Show `level` of a category. ValueError or KeyError when either is unknown."""
        rank = LEVELS.index(level)
        if category not in self._shown:
            raise KeyError(category)
        self._shown[category] = rank

    def set_all(self, level: str) -> None:
        for category in CATEGORIES:
            self.set(category, level)

    def get(self, category: str) -> str:
        return LEVELS[self._shown[category]]

    def overall(self) -> str:
        """The level of ``/tools/log-level``: the one of the generic category."""
        return self.get("generic")

    def count(self, event: LogEvent) -> None:
        """Note that something was logged."""
        level = event.get("log_level")
        self.errors += level in (LogLevel.error, LogLevel.critical)
        self.warnings += level is LogLevel.warn

    def shows(self, event: LogEvent) -> bool:
        """Whether an event is written."""
        namespace = event.get("log_namespace") or ""
        if namespace == "stdout":
            # What scripts print, which ``twistd`` logs.
            return True
        rank = _RANKS.get(event.get("log_level"), 0)
        if rank == 1 and not namespace.startswith(_PREFIX):
            # What Twisted tells about itself ("Site starting on 8042") is a detail to our users.
            rank = 2
        return rank <= self._shown[category_of(namespace)]


class Stream(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


@implementer(ILogObserver)
class LineObserver:
    """Writes a line for each event that its levels show, a traceback below it."""

    def __init__(self, stream: Stream, levels: LogLevels) -> None:
        self._stream = stream
        self._levels = levels

    def __call__(self, event: LogEvent) -> None:
        self._levels.count(event)
        if not self._levels.shows(event):
            return
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if not text:
            return
        stamp = formatTime(event["log_time"], timeFormat="%m%d %H:%M:%S.%f")
        letter = _LETTERS.get(event.get("log_level"), "W")
        category = category_of(event.get("log_namespace") or "")
        thread = threading.current_thread().name[:16]
        text = text.replace("\n", "\n\t").rstrip()
        self._stream.write(f"{letter}{stamp} {thread:>16} ({category}) {text}\n")
        self._stream.flush()

