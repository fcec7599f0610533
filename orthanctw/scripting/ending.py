"""The end of the process, which threads and children of scripts must not hold up."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable


def end_children(seconds: float) -> None:
    """End children of ``multiprocessing`` (blocking): daemons and pools at once, others when they have had that time.

    Python does the same at its end, but waits without a limit; and there is no such end after a signal.
    """
    multiprocessing = sys.modules.get("multiprocessing")
    util = sys.modules.get("multiprocessing.util")
    if multiprocessing is None or util is None:
        return
    ending = threading.Thread(target=util._exit_function, name="python-children", daemon=True)
    ending.start()
    ending.join(seconds)
    for child in multiprocessing.active_children():
        child.kill()


def end_within(seconds: float, code: int, flush: Callable[[], None]) -> None:
    """End this process after a time, unless it has ended by itself: Python waits for threads without a limit."""

    def end() -> None:
        time.sleep(seconds)
        flush()
        os._exit(code)

    threading.Thread(target=end, name="python-end", daemon=True).start()
