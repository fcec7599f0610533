"""Callbacks that run for requests over DICOM (level 4)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError


class Busy:
    """Counts callbacks: a peer that cancels what it asks for must not have all threads of scripts taken."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._count = 0

    def check(self) -> None:
        """OrthancError when there are as many as may be."""
        if self._count >= self._limit:
            raise OrthancError("Scripts are still at too many requests", code=ErrorCode.TIMEOUT)

    def run(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call one, on its thread."""
        with self._lock:
            self._count += 1
        try:
            return function(*arguments, **keywords)
        finally:
            with self._lock:
                self._count -= 1
