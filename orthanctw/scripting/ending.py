"""The end of the process, which threads and children of scripts must not hold up."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def end_within(seconds: float, code: int, flush: Callable[[], None]) -> None:
    """End this process after a time, unless it has ended by itself.

    Python waits for threads and for children of ``multiprocessing``; this thread runs while it does.
    """

    def end() -> None:
        time.sleep(seconds)
        for child in _children():
            child.terminate()
        flush()
        os._exit(code)

    threading.Thread(target=end, name="python-end", daemon=True).start()


def _children() -> list[Any]:
    multiprocessing = sys.modules.get("multiprocessing")
    return list(multiprocessing.active_children()) if multiprocessing is not None else []
