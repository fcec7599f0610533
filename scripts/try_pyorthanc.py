"""Call every method of pyorthanc's client against a running server, and tell which ones fail.

Usage: python -m scripts.try_pyorthanc URL [FOLDER]

The server's content changes: give it one of your own for this. It needs a DICOM server that answers everybody, with
``DicomAlwaysAllow...``, worklists, ``ExecuteLuaEnabled`` and ``RestApiWriteToFileSystemEnabled``; FOLDER is where it
may export a file to.
"""

from __future__ import annotations

import sys

from test.pyorthanc_tour import LAST, MISSING, MISTAKEN, Tour, methods


def main(url: str, folder: str = "/tmp") -> int:
    """Number of methods that fail and should not."""
    tour = Tour(url.rstrip("/"), folder)
    failures = 0
    try:
        for name in methods():
            if name in LAST:
                continue
            expected = f"{501 if name in MISSING else MISTAKEN[name]}" if name in MISSING or name in MISTAKEN else "ok"
            try:
                seen = "ok" if expected == "ok" and [tour.call(name)] else str(tour.status_of(name))
            except Exception as e:  # noqa: BLE001 - whatever pyorthanc makes of an answer
                seen = f"{type(e).__name__}: {e}"
            if "_jobs_" in name:
                tour.end_jobs()
            failures += seen != expected
            print(f"{name}: {seen}" + ("" if seen == expected else f"  <- {expected} expected"))
    finally:
        tour.close()
    print(f"{failures} failures")
    return failures


if __name__ == "__main__":
    sys.exit(min(1, main(*sys.argv[1:])))
