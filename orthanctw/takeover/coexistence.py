"""Living beside the Orthanc whose folder was taken over: what it writes later is not ours to remove."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Final

#: The index of an Orthanc, in the folder of its files or of its index.
FOREIGN_DATABASE: Final = "index"
#: What SQLite keeps beside a database that is in use, or was when its program died.
JOURNAL_SUFFIXES: Final = ("-wal", "-journal")
#: Global property that holds when the index of an Orthanc was taken over, in seconds since 1970.
TAKEN_OVER: Final = 1002


def last_written(folders: Iterable[str]) -> float | None:
    """When an Orthanc last wrote its index in any of `folders`, in seconds since 1970; None when there is no index."""
    times = []
    for folder in set(folders):
        for suffix in ("", *JOURNAL_SUFFIXES):
            with contextlib.suppress(OSError):
                times.append(os.stat(os.path.join(folder, FOREIGN_DATABASE + suffix)).st_mtime)
    return max(times, default=None)
