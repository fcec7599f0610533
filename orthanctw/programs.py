"""Programs of others, in processes of their own (level 2)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError

#: Makes a group of processes, which can be ended as one, and becomes the program. Python ignores SIGPIPE.
_START: Final = (
    "import os, signal, sys\n"
    "os.setsid()\n"
    "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
    "try:\n    os.execvp(sys.argv[1], sys.argv[1:])\n"
    "except OSError:\n    os._exit(127)\n"
)
_NOT_FOUND: Final = 127


class Programs:
    """Runs programs. They read nothing, and write where the server writes."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def run(self, arguments: Sequence[str], timeout: float) -> Deferred[None]:
        """Run a program to its end; the first of the arguments is its name or path. No shell is involved.

        Fails with SYSTEM_COMMAND when it cannot be started, ends with another status than 0, or lasts longer than
        `timeout` seconds; then, and when it is cancelled, the program is killed with all that it has started.
        """
        running = _Running()
        devnull = os.open(os.devnull, os.O_RDONLY)
        try:
            self._reactor.spawnProcess(
                running,
                sys.executable,
                [os.fsencode(argument) for argument in (sys.executable, "-I", "-S", "-c", _START, *arguments)],
                env=None,
                childFDs={0: devnull, 1: 1, 2: 2},
            )
        except OSError as e:
            running.fail(f"the program cannot be started: {e.strerror}")
        finally:
            os.close(devnull)
        late = self._reactor.callLater(timeout, running.kill, f"the program has not ended within {timeout:g} s")

        def ended(result: Any) -> Any:
            if late.active():
                late.cancel()
            return result

        return running.ended.addBoth(ended)


class _Running(ProcessProtocol):
    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred(lambda _: self.kill(""))

    def fail(self, details: str) -> None:
        self.ended.errback(OrthancError(details, code=ErrorCode.SYSTEM_COMMAND))

    def kill(self, reason: str) -> None:
        """End it; `reason` is what is told, if that is not for the caller to say."""
        process: Any = self.transport
        if process is not None and process.pid is not None:
            # Until it has made its group, it is alone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessExitedAlready):
                process.signalProcess("KILL")
        if reason and not self.ended.called:
            self.fail(reason)

    def processExited(self, reason: Failure) -> None:
        if self.ended.called:
            return
        value: Any = reason.value
        if value.exitCode == 0:
            self.ended.callback(None)
        elif value.exitCode == _NOT_FOUND:
            self.fail("the program cannot be found or run")
        elif value.exitCode is None:
            self.fail(f"the program has ended by signal {value.signal}")
        else:
            self.fail(f"the program has ended with status {value.exitCode}")
