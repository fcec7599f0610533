"""The pool of child processes: sharing, limits, deaths, ends."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.framing import HEAD, HEADER_LIMIT, PAYLOAD_LIMIT, FrameReader, frame
from orthanctw.processes import ProcessPool
from test.servers import PATIENCE, wait_until

_PROGRAM = ("-m", "test.child_program")
_MEMORY = 1 << 30
_ROOT = Path(__file__).resolve().parent.parent

#: A server with a child that is busy for ever: prints the process of the child.
_SERVER = """
from twisted.internet import reactor
from orthanctw.processes import ProcessPool
pool = ProcessPool(reactor, ("-m", "test.child_program"), size=1, memory=1 << 30, timeout=600)
def begin():
    pool.call("{operation}", {{}}).addErrback(lambda failure: None)
    print(pool.pids[0], flush=True)
def begun(result):
    pool.call("hang", {{}}).addErrback(lambda failure: None)
    print(pool.pids[0], flush=True)
reactor.callWhenRunning(lambda: pool.call("echo", {{}}).addCallback({then}))
reactor.run()
"""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class PoolTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def pool(self, size: int = 2, memory: int = _MEMORY) -> ProcessPool:
        pool = ProcessPool(reactor, _PROGRAM, size=size, memory=memory, timeout=60, clock=self.clock)
        self.addCleanup(pool.close)
        return pool

    async def refusal(self, work: Deferred[Any]) -> OrthancError:
        """The OrthancError that work fails with."""
        with self.assertRaises(OrthancError) as caught:
            await work
        return caught.exception

    async def test_answers(self) -> None:
        """Header and payload go both ways; a child is started by the first request and stays for the next."""
        pool = self.pool()
        self.assertEqual(pool.pids, [])
        payload = os.urandom(3_000_000)
        header, back = await pool.call("echo", {"a": [1, "é"]}, payload)
        self.assertEqual((header["a"], back), ([1, "é"], payload))
        again, _ = await pool.call("echo", {"b": 2})
        self.assertEqual((again["Process"], pool.pids), (header["Process"], [header["Process"]]))

    async def test_children_work_at_once(self) -> None:
        """As many requests run as there may be children, the others wait in their order."""
        pool = self.pool(2)
        work = [pool.call("echo", {"n": number}) for number in range(6)]
        self.assertEqual((pool.running, pool.waiting), (2, 4))
        answers = await gatherResults(work)
        self.assertEqual([header["n"] for header, _ in answers], list(range(6)))
        self.assertEqual(len({header["Process"] for header, _ in answers} | set(pool.pids)), 2)

    async def test_sharing(self) -> None:
        """Callers that ask for the same share the work; another payload is other work."""
        pool = self.pool(1)
        work = [pool.call("echo", {"x": 1, "y": 2}, b"p"), pool.call("echo", {"y": 2, "x": 1}, b"p")]
        other = pool.call("echo", {"x": 1, "y": 2}, b"q")
        self.assertEqual((pool.running, pool.waiting), (1, 1))
        self.assertEqual(*await gatherResults(work))
        self.assertEqual((await other)[1], b"q")

    async def test_cancelling(self) -> None:
        """A request that waits is dropped when its last caller gives up; others get their answers."""
        pool = self.pool(1)
        first = pool.call("echo", {"n": 1})
        shared = [pool.call("echo", {"n": 2}), pool.call("echo", {"n": 2})]
        lonely = pool.call("hang", {})
        for work in (lonely, shared[0], first):
            work.cancel()
            self.failureResultOf(work, CancelledError)
        self.assertEqual(pool.waiting, 1)
        self.assertEqual((await shared[1])[0]["n"], 2)
        self.assertEqual(pool.running, 0)

    async def test_errors(self) -> None:
        """Errors of the child reach the caller with code and details; unknown ones do not tell what they hold."""
        pool = self.pool(1)
        refused = await self.refusal(pool.call("refuse", {}))
        self.assertEqual((refused.code, refused.details), (ErrorCode.BAD_FILE_FORMAT, "so it is"))
        stumbled = await self.refusal(pool.call("stumble", {}))
        self.assertEqual(stumbled.code, ErrorCode.INTERNAL_ERROR)
        self.assertNotIn("secret", str(stumbled))
        unknown = await self.refusal(pool.call("nothing", {}))
        self.assertEqual(unknown.code, ErrorCode.INTERNAL_ERROR)
        # It is the same child all along, and it still works.
        pids = pool.pids
        self.assertEqual([(await pool.call("echo", {}))[0]["Process"]], pids)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_death(self) -> None:
        """A child that dies fails its own request; another one takes the next."""
        pool = self.pool(1)
        dying, waiting = pool.call("die", {}), pool.call("echo", {"n": 1})
        (pid,) = pool.pids
        error = await self.refusal(dying)
        self.assertEqual(error.code, ErrorCode.NOT_ENOUGH_MEMORY)
        self.assertNotEqual((await waiting)[0]["Process"], pid)

    async def test_kill(self) -> None:
        """kill -9 of a busy child fails its request only, whatever the child was at; of an idle one nothing."""
        pool = self.pool(2)
        idle = (await pool.call("echo", {}))[0]["Process"]
        hanging, working = pool.call("hang", {}), pool.call("echo", {"n": 2})
        os.kill(idle, signal.SIGKILL)
        await self.refusal(hanging)
        survivor = (await working)[0]["Process"]
        os.kill(survivor, signal.SIGKILL)
        while pool.pids:
            await self.turn()
        self.assertEqual((await pool.call("echo", {"n": 3}))[0]["n"], 3)

    def turn(self) -> Deferred[None]:
        """A turn of the reactor."""
        done: Deferred[None] = Deferred()
        reactor.callLater(0.001, done.callback, None)  # type: ignore[attr-defined]
        return done

    async def test_time_limit(self) -> None:
        """A request over its time fails, its child is killed, and the next one has another child."""
        pool = self.pool(1)
        hanging, waiting = pool.call("hang", {}), pool.call("echo", {})
        (pid,) = pool.pids
        self.clock.advance(59)
        self.assertNoResult(hanging)
        self.clock.advance(1)
        error = self.failureResultOf(hanging, OrthancError).value
        self.assertEqual(error.code, ErrorCode.TIMEOUT)
        self.assertNotEqual((await waiting)[0]["Process"], pid)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        wait_until(lambda: not is_alive(pid), lambda: "the end of a child")

    async def test_memory_limit(self) -> None:
        """A child cannot have more memory than it may; it says so and goes on."""
        pool = self.pool(1)
        error = await self.refusal(pool.call("allocate", {"Bytes": 2 << 30}))
        self.assertEqual(error.code, ErrorCode.NOT_ENOUGH_MEMORY)
        self.assertEqual((await pool.call("allocate", {"Bytes": 1 << 20}))[0], {"Length": 1 << 20})

    async def test_chatter(self) -> None:
        """What a codec prints neither gets between the answers nor into the log."""
        pool = self.pool(1)
        self.assertEqual(await pool.call("chatter", {}), ({}, b"done"))
        self.assertEqual((await pool.call("echo", {}, b"x"))[1], b"x")

    async def test_wrong_answers(self) -> None:
        """A child that answers something else than a frame is killed, its request fails."""
        pool = self.pool(1)
        for raw in (
            "\xff" * 12,
            (HEAD.pack(2, 0) + b"[]").decode("latin-1"),
            (HEAD.pack(2, 0) + b"{}").decode("latin-1"),
            (HEAD.pack(9, 0) + b'{"Code":"').decode("latin-1"),
            (HEAD.pack(11, 0) + b'{"Code":"x"').decode("latin-1"),
            (HEAD.pack(13, 0) + b'{"Header":{}}' + b"more").decode("latin-1"),
        ):
            error = await self.refusal(pool.call("lie", {"Bytes": raw}))
            self.assertIn("wrong answer", error.details)

    async def test_descriptors(self) -> None:
        """Children have neither the listening sockets nor the lock of the server, even when these can be inherited."""
        pool = self.pool(1)
        with socket.socket() as listener, open(self.mktemp(), "w", encoding="ascii") as lock:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            fcntl.flock(lock, fcntl.LOCK_EX)
            for descriptor in (listener.fileno(), lock.fileno()):
                os.set_inheritable(descriptor, True)
            header, _ = await pool.call("descriptors", {})
        self.assertEqual({name.partition(":")[0] for name in header["Descriptors"]} - {"pipe"}, set())

    async def test_close(self) -> None:
        """The end fails what runs and what waits, leaves no process, and refuses what comes later."""
        pool = self.pool(2)
        await gatherResults([pool.call("echo", {"n": number}) for number in range(2)])
        work = [pool.call("hang", {}), pool.call("echo", {}), pool.call("hang", {"n": 2})]
        pids = pool.pids
        closing = gatherResults([pool.close(), pool.close()])
        for one in work:
            self.failureResultOf(one, ServiceUnavailable)
        await closing
        self.assertEqual([pid for pid in pids if is_alive(pid)], [])
        self.failureResultOf(pool.call("echo", {}), ServiceUnavailable)

    async def test_close_of_nothing(self) -> None:
        """A pool that never had work ends at once."""
        self.assertIsNone(self.successResultOf(self.pool().close()))

    async def test_no_program(self) -> None:
        """A program that cannot be run is an error for each caller, not a loop."""
        pool = ProcessPool(reactor, ("-m", "test.no_such_program"), size=1, memory=_MEMORY, timeout=60)
        self.addCleanup(pool.close)
        await self.refusal(pool.call("echo", {}))
        await self.refusal(pool.call("echo", {}))


class EndTests(SynchronousTestCase):
    """Children outlive no server."""

    def kill_server(self, then: str) -> None:
        program = _SERVER.format(operation="hang", then=then)
        server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            pid = int(server.stdout.readline())
            self.assertTrue(is_alive(pid))
        finally:
            server.kill()
            server.wait()
            assert server.stdout is not None
            server.stdout.close()
        wait_until(lambda: not is_alive(pid), lambda: "the end of a child")

    def test_kill_of_a_server_with_busy_children(self) -> None:
        """kill -9 of the server ends a child at work."""
        self.kill_server("begun")

    def test_kill_of_a_server_with_idle_children(self) -> None:
        """kill -9 of the server ends a child without work."""
        self.kill_server("lambda result: print(pool.pids[0], flush=True)")

    def child(self, seconds: int) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, *_PROGRAM, str(_MEMORY), str(seconds)],
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

        def end() -> None:
            assert child.stdin is not None
            child.kill()
            child.wait()
            child.stdin.close()

        self.addCleanup(end)
        return child

    def test_end_of_input(self) -> None:
        """A child ends by itself when its input closes, also within a request or after nonsense."""
        for data in (b"", b"\0\0", HEAD.pack(10, 0), HEAD.pack(0xFFFFFFFF, 0), HEAD.pack(1, 1 << 60)):
            child = self.child(60)
            assert child.stdin is not None
            child.stdin.write(data)
            child.stdin.close()
            self.assertEqual(child.wait(PATIENCE), 0)

    def test_signals_of_a_group(self) -> None:
        """SIGTERM and SIGINT, which a terminal or systemd sends to all at once, leave a child to its server."""
        child = self.child(60)
        assert child.stdin is not None
        wait_until(lambda: self.ignores(child.pid, signal.SIGTERM), lambda: "a child")
        child.send_signal(signal.SIGTERM)
        child.send_signal(signal.SIGINT)
        child.stdin.close()
        self.assertEqual(child.wait(PATIENCE), 0)

    def ignores(self, pid: int, number: int) -> bool:
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
        (ignored,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn"))
        return bool(ignored >> number - 1 & 1)

    def test_own_time_limit(self) -> None:
        """A child that nobody waits for any more ends by itself, whatever it is at."""
        child = self.child(1)
        assert child.stdin is not None
        child.stdin.write(b"".join(frame(b'{"Operation":"hang","Header":{}}', b"")))
        child.stdin.flush()
        self.assertEqual(child.wait(PATIENCE), -signal.SIGALRM)


class FramingTests(SynchronousTestCase):
    def test_pieces(self) -> None:
        """A frame is the same in whatever pieces it comes, and another one may follow."""
        raw = b"".join(frame(b'{"a":1}', b"payload"))
        for size in range(1, len(raw) + 1):
            reader = FrameReader()
            for _ in range(2):
                found = [reader.feed(raw[start : start + size]) for start in range(0, len(raw), size)]
                frames = [(item[0], b"".join(item[1])) for item in found if item is not None]
                self.assertEqual(frames, [(b'{"a":1}', b"payload")])

    def test_limits(self) -> None:
        """Lengths over the limits are refused before anything else comes."""
        for lengths in ((HEADER_LIMIT + 1, 0), (0, PAYLOAD_LIMIT + 1)):
            with self.assertRaises(ValueError):
                FrameReader().feed(HEAD.pack(*lengths))

    def test_too_much(self) -> None:
        """What follows a frame within one piece is an error: there is one answer for each request."""
        with self.assertRaises(ValueError):
            FrameReader().feed(b"".join(frame(b"{}", b"x")) + b"y")
