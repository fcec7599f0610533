"""Asks the kernel whether anything in a folder has changed: inotify(7), which costs nothing until something does."""

from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from typing import Any, Final

#: File systems of this machine alone: others are changed without our kernel being told.
_LOCAL: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "f2fs", "tmpfs"})
_MOUNTS: Final = "/proc/self/mountinfo"
#: Modified, attributes, written to the end, moved from and to, created, deleted, deleted itself, moved itself.
_MASK: Final = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_EVENTS: Final = 65536


class FolderWatch:
    """Watches one folder, not what is below it. Used by one thread at a time."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._watched: tuple[int, int] | None = None
        self._fd: int | None = None
        self._close: Any = None

    def is_unchanged(self) -> bool:
        """Whether nothing has happened to the files since the last call; never when that cannot be known."""
        try:
            status = os.stat(self._folder)
        except OSError:
            self._stop()
            return False
        if self._watched != (status.st_dev, status.st_ino):
            self._stop()
            self._watched = (status.st_dev, status.st_ino)
            if _is_local(status.st_dev):
                self._start()
            return False
        return self._fd is not None and not self._drain(self._fd)

    def _start(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            return
        if libc.inotify_add_watch(fd, os.fsencode(self._folder), _MASK) < 0:
            os.close(fd)
            return
        self._fd, self._close = fd, weakref.finalize(self, os.close, fd)

    def _stop(self) -> None:
        if self._close is not None:
            self._close()
        self._watched = self._fd = self._close = None

    def _drain(self, fd: int) -> bool:
        """Whether there were events."""
        happened = False
        with contextlib.suppress(BlockingIOError):
            while os.read(fd, _EVENTS):
                happened = True
        return happened


def _is_local(device: int) -> bool:
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(_MOUNTS, encoding="utf-8", errors="replace") as mounts:
            kinds = {line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2] == wanted}
    except (OSError, IndexError):
        return False
    return bool(kinds) and kinds <= _LOCAL
