"""Watching and disturbing the system calls of a process by strace."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs

from test.servers import PATIENCE, wait_until

_LINE = re.compile(r"^(?P<thread>\d+) +(?P<text>.*)$")
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>")
_CALLED = re.compile(r"^(?P<name>\w+)\(")


@attrs.define
class SystemCall:
    """One call. `begun` and `ended` are places in the order of all; `ended` is None when it never returned."""

    name: str
    text: str
    begun: int
    ended: int | None = None


def parse_calls(trace: str) -> list[SystemCall]:
    """The calls of a trace of several threads, in the order in which they began."""
    calls: list[SystemCall] = []
    unfinished: dict[str, SystemCall] = {}
    for place, line in enumerate(trace.splitlines()):
        match = _LINE.match(line)
        if match is None:
            continue
        thread, text = match["thread"], match["text"]
        if _RESUMED.match(text):
            if thread in unfinished and not text.endswith("= ?"):
                unfinished.pop(thread).ended = place
            continue
        called = _CALLED.match(text)
        if called is None:
            continue
        call = SystemCall(called["name"], text, place)
        calls.append(call)
        if text.endswith("<unfinished ...>"):
            unfinished[thread] = call
        elif not text.endswith("= ?"):
            call.ended = place
    return calls


class Trace:
    """strace on a running process and all its threads.

    Parameters
    ----------
    pid : int
        The process.
    folder : Path
        Where the trace is kept.
    names : sequence of str
        The calls to look at.
    path : Path, optional
        Only calls on this file or folder.
    inject : str
        What to do to them, as ``rename:signal=SIGKILL:when=1``.
    """

    def __init__(
        self, pid: int, folder: Path, names: Sequence[str], *, path: Path | None = None, inject: str = ""
    ) -> None:
        self._log = folder / "strace.txt"
        messages = folder / "strace-messages.txt"
        command = ["strace", "-f", "-y", "-s", "16", "-o", str(self._log), "-e", f"trace={','.join(names)}"]
        command += ["-P", str(path)] if path is not None else []
        command += ["-e", f"inject={inject}"] if inject else []
        with messages.open("wb") as stream:
            self._process = subprocess.Popen([*command, "-p", str(pid)], stdin=subprocess.DEVNULL, stderr=stream)
        wait_until(lambda: "attached" in messages.read_text(encoding="utf-8"), lambda: f"strace on {command}")

    def stop(self) -> list[SystemCall]:
        """Let the process go; what it has done meanwhile."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        finally:
            self.abandon()
        return self.calls()

    def abandon(self) -> None:
        """End strace, whose process may be dead and then keeps it waiting."""
        self._process.kill()
        self._process.wait()

    def calls(self) -> list[SystemCall]:
        return parse_calls(self._log.read_text(encoding="utf-8", errors="replace"))
