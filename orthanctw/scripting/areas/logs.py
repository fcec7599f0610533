"""The log."""

from __future__ import annotations

from typing import Any, Final

from twisted.logger import Logger

from orthanctw.scripting.exposure import exposed
from orthanctw.scripting.host import Host

_log: Final = Logger(namespace="orthanctw.plugins")
#: Numbers of ``LogLevel``; of ``LogCategory`` with the name that the server's log has.
_LEVELS: Final = {0: "error", 1: "warn", 2: "info", 3: "debug"}
_CATEGORIES: Final = {1: "generic", 2: "plugins", 4: "http", 8: "sqlite", 16: "dicom", 32: "jobs", 64: "lua"}


class LogArea:
    """``orthanc.Log...``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def LogError(self, message: str, /) -> None:
        """Log an error."""
        _log.error("{text}", text=message)

    @exposed
    def LogWarning(self, message: str, /) -> None:
        """Log a warning."""
        _log.warn("{text}", text=message)

    @exposed
    def LogInfo(self, message: str, /) -> None:
        """Log something for those who want to know more."""
        _log.info("{text}", text=message)

    @exposed
    def LogMessage(self, message: str, plugin: str, file: str, line: int, category: int, level: int, /) -> None:
        """Log with a place, by the numbers of ``LogCategory`` and ``LogLevel``."""
        logger: Any = Logger(namespace=f"orthanctw.{_CATEGORIES.get(category, 'plugins')}")
        write = getattr(logger, _LEVELS.get(level, "error"))
        write("{plugin}: {file}:{line}: {text}", plugin=plugin, file=file, line=line, text=message)
