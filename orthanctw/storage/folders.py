"""Folders of the storage area: made, and made durable, each sync shared by all the files that wait for it."""

from __future__ import annotations

import contextlib
import os
from threading import Condition, Lock


def sync_folder(path: str) -> None:
    """Make the entries of a folder durable (blocking)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folders(root: str, names: tuple[str, ...], *, sync: bool) -> None:
    """Make nested folders below `root`, each durable in its parent (blocking)."""
    parent = root
    for name in names:
        path = os.path.join(parent, name)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o750)
        if sync:
            sync_folder(parent)
        parent = path


class SharedSync:
    """Makes one folder durable for many threads: a sync that starts now serves all who came before it."""

    def __init__(self, path: str) -> None:
        # Kept open: to open and close it each time would be two more waits for the interpreter.
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._condition = Condition(Lock())
        self._running = False
        self._started = 0
        self._finished = 0
        self._failure: OSError | None = None

    def sync(self) -> None:
        """Return when everything that was in the folder before the call is durable (blocking). OSError."""
        with self._condition:
            # One that runs already may have missed our entry.
            wanted = self._started + 1
            while self._running and self._finished < wanted:
                self._condition.wait()
            if self._finished >= wanted:
                if self._failure is not None:
                    raise self._failure
                return
            self._running = True
            self._started += 1
            number = self._started
        failure: OSError | None = None
        try:
            os.fsync(self._fd)
        except OSError as e:
            failure = e
        with self._condition:
            self._running = False
            self._finished = number
            self._failure = failure
            self._condition.notify_all()
        if failure is not None:
            raise failure

    def __del__(self) -> None:
        fd = getattr(self, "_fd", -1)
        if fd >= 0:
            os.close(fd)


class FolderSyncs:
    """The shared syncs of all folders in use; the last ones are remembered."""

    _REMEMBERED = 64

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._lock = Lock()
        self._shared: dict[str, SharedSync] = {}

    def sync(self, path: str) -> None:
        """As `SharedSync.sync`; nothing when ``SyncStorageArea`` is off."""
        if not self._enabled:
            return
        with self._lock:
            shared = self._shared.pop(path, None) or SharedSync(path)
            self._shared[path] = shared
            if len(self._shared) > self._REMEMBERED:
                # Whoever is at it still holds it.
                del self._shared[next(iter(self._shared))]
        shared.sync()
