"""Programs that scripts run: on a thread of their own, so that whoever waits can stop waiting, and end them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from concurrent.futures import Future
from typing import Any, Final

_PIECE: Final = 65536


class Program:
    """A command of the shell.

    Parameters
    ----------
    text : bytes
        What it reads.
    captures : bool
        Whether its standard output is answered; else it goes where the server's goes.
    maximum : int
        Bytes of output after which it is ended.
    """

    def __init__(self, command: bytes, text: bytes, *, captures: bool, maximum: int) -> None:
        self._command = command
        self._text = text
        self._captures = captures
        self._maximum = maximum
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._killed = False
        #: Output and exit status, as `subprocess` has it.
        self.result: Future[tuple[bytes, int]] = Future()

    def start(self) -> None:
        """Run it."""
        threading.Thread(target=self._run, name="lua-program", daemon=True).start()

    def kill(self) -> None:
        """End it, and all that it has started and that has not left its group."""
        with self._lock:
            self._killed = True
            if self._process is not None and self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def _run(self) -> None:
        try:
            self.result.set_result(self._outcome())
        except Exception as e:  # noqa: BLE001 - it is raised where the result is taken
            self.result.set_exception(e)

    def _outcome(self) -> tuple[bytes, int]:
        with self._lock:
            if self._killed:
                return b"", -signal.SIGKILL
            process = self._process = subprocess.Popen(
                [b"/bin/sh", b"-c", self._command],
                stdin=subprocess.PIPE if self._text else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._captures else None,
                start_new_session=True,
            )
        if self._text:
            threading.Thread(target=_feed, args=(process, self._text), name="lua-program-input", daemon=True).start()
        pieces = []
        size = 0
        while process.stdout is not None and (piece := process.stdout.read1(_PIECE)):  # type: ignore[attr-defined]
            pieces.append(piece)
            size += len(piece)
            if size > self._maximum:
                self.kill()
                break
        status = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        with self._lock:
            # Its number may be another's from now on.
            self._process = None
        return b"".join(pieces), status


def _feed(process: subprocess.Popen[bytes], text: bytes) -> None:
    stdin: Any = process.stdin
    with contextlib.suppress(OSError):
        stdin.write(text)
    with contextlib.suppress(OSError):
        stdin.close()
