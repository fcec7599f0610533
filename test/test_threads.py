"""Pools, the serial worker, the bridge and the shield."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.threads import Bridge, Call, Handover, NamedPool, SerialWorker, shield


class PoolTests(TestCase):
    def pool(self, size: int = 2) -> NamedPool:
        pool = NamedPool(reactor, "test-pool", size)  # type: ignore[arg-type]
        self.addCleanup(pool.stop)
        return pool

    async def test_results_and_failures_come_in_the_reactors_thread(self) -> None:
        """A call's result, or its exception, reaches the caller in the thread of the reactor."""
        pool = self.pool()
        pool.start()
        name = await pool.call(lambda: threading.current_thread().name)
        self.assertTrue(name.startswith("test-pool-"))
        self.assertIs(threading.current_thread(), threading.main_thread())
        with self.assertRaises(ZeroDivisionError):
            await pool.call(divmod, 1, 0)

    async def test_no_thread_before_start(self) -> None:
        """Calls made before `start` wait, and no thread exists until then."""
        before = threading.active_count()
        pool = self.pool()
        waiting = pool.call(len, "abc")
        self.assertEqual((threading.active_count(), pool.waiting), (before, 1))
        pool.start()
        self.assertEqual(await waiting, 3)

    async def test_gauges_count_waiting_and_running(self) -> None:
        """The gauges tell what waits and what runs."""
        pool = self.pool(1)
        begun, go_on = threading.Event(), threading.Event()

        def block() -> None:
            begun.set()
            go_on.wait(30)

        pool.start()
        calls = [pool.call(block), pool.call(len, "")]
        await deferToThread(begun.wait, 30)
        self.assertEqual((pool.running, pool.waiting), (1, 1))
        go_on.set()
        await gatherResults(calls)
        await pool.stop()
        self.assertEqual((pool.running, pool.waiting), (0, 0))

    async def test_stop_finishes_what_waits(self) -> None:
        """Calls that wait are done before the threads end; later ones fail."""
        pool = self.pool(1)
        pool.start()
        calls = [pool.call(int, str(number)) for number in range(20)]
        await pool.stop()
        self.assertEqual(await gatherResults(calls), list(range(20)))
        with self.assertRaises(ServiceUnavailable):
            await pool.call(int, "1")

    async def test_stop_of_a_pool_that_never_started(self) -> None:
        """Its calls fail, rather than wait for ever."""
        pool = self.pool()
        call = pool.call(int, "1")
        await pool.stop()
        with self.assertRaises(ServiceUnavailable):
            await call

    async def test_a_serial_worker_keeps_the_order(self) -> None:
        """Calls of a serial worker are done one after the other, in their order."""
        worker = SerialWorker(reactor, "test-worker", bound=7)  # type: ignore[arg-type]
        self.addCleanup(worker.stop)
        seen: list[int] = []
        calls = [worker.call(seen.append, number) for number in range(100)]
        worker.start()
        await gatherResults(calls)
        self.assertEqual(seen, list(range(100)))


    async def test_a_defect_of_the_pool_itself_reaches_the_callers(self) -> None:
        """Nobody waits for ever, whatever a subclass does wrong, and the thread goes on."""

        class Broken(SerialWorker):
            def process(self, calls: Sequence[Call[Any]]) -> None:
                raise ZeroDivisionError

            def delivered(self) -> None:
                raise KeyError

        worker = Broken(reactor, "test-worker")  # type: ignore[arg-type]
        self.addCleanup(worker.stop)
        worker.start()
        for _ in range(2):
            with self.assertRaises(ZeroDivisionError):
                await worker.call(int)
        await worker.stop()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)


class SynchronousPoolTests(SynchronousTestCase):
    def test_calls_are_done_at_once(self) -> None:
        """In the synchronous mode the caller does the work and has the answer."""
        pool = NamedPool(reactor, "test-pool", 2, synchronous=True)  # type: ignore[arg-type]
        pool.start()
        self.assertEqual(self.successResultOf(pool.call(threading.get_ident)), threading.get_ident())
        self.failureResultOf(pool.call(divmod, 1, 0), ZeroDivisionError)
        self.successResultOf(pool.stop())


class ShieldTests(SynchronousTestCase):
    def test_a_cancelled_caller_does_not_cancel_the_work(self) -> None:
        """The caller sees its cancellation, the work goes on to its end."""
        cancelled: list[object] = []
        work: Deferred[int] = Deferred(cancelled.append)
        waiting = shield(work)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual((cancelled, work.called), ([], False))
        work.callback(1)

    def test_a_failure_after_the_cancellation_is_logged(self) -> None:
        """Nobody else can see such a failure."""
        work: Deferred[int] = Deferred()
        waiting = shield(work)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        work.errback(ValueError("late"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_results_pass(self) -> None:
        """Coroutines and Deferreds pass their result and their failure on."""

        async def answer(wanted: int) -> int:
            return 10 // wanted

        self.assertEqual(self.successResultOf(shield(answer(5))), 2)
        self.failureResultOf(shield(answer(0)), ZeroDivisionError)


class BridgeTests(TestCase):
    def setUp(self) -> None:
        self.bridge = Bridge(reactor)  # type: ignore[arg-type]

    def in_thread(self, timeout: float, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        return deferToThread(self.bridge.call, timeout, function, *args)

    async def test_values_deferreds_and_coroutines(self) -> None:
        """The thread gets the result of whatever the function answers."""

        async def coroutine(value: int) -> int:
            return value + 1

        later: Deferred[int] = Deferred()
        waiting = self.in_thread(30, lambda: later)
        later.callback(3)
        self.assertEqual(await waiting, 3)
        self.assertEqual(await self.in_thread(30, coroutine, 1), 2)
        self.assertIs(await self.in_thread(30, threading.current_thread), threading.main_thread())
        with self.assertRaises(ZeroDivisionError):
            await self.in_thread(30, divmod, 1, 0)

    async def test_a_time_limit(self) -> None:
        """A call that gets no answer ends with TIMEOUT, and the answer that comes later disturbs nobody."""
        never: Deferred[int] = Deferred()
        with self.assertRaises(OrthancError) as caught:
            await self.in_thread(0.01, lambda: never)
        self.assertIs(caught.exception.code, ErrorCode.TIMEOUT)
        never.callback(1)

    async def test_a_failure_after_the_time_limit_is_logged(self) -> None:
        """The thread has gone, so nobody else can see it."""
        never: Deferred[int] = Deferred()
        with self.assertRaises(OrthancError):
            await self.in_thread(0.3, lambda: never)
        never.errback(ValueError("late"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_stop_ends_every_wait(self) -> None:
        """Waiting calls and later ones fail when the bridge stops."""
        begun: Deferred[None] = Deferred()
        never: Deferred[int] = Deferred()

        def function() -> Deferred[int]:
            begun.callback(None)
            return never

        waiting = self.in_thread(30, function)
        await begun
        self.bridge.stop()
        for call in (waiting, self.in_thread(30, len, "")):
            with self.assertRaises(ServiceUnavailable):
                await call
        never.callback(1)

    def test_the_reactor_may_not_wait_for_itself(self) -> None:
        """A call in the reactor's thread is refused at once."""
        with self.assertRaises(OrthancError) as caught:
            self.bridge.call(30, len, "")
        self.assertIs(caught.exception.code, ErrorCode.BAD_SEQUENCE_OF_CALLS)


class HandoverTests(SynchronousTestCase):
    """A value from one thread to another."""

    def test_value(self) -> None:
        """The taker waits until the value is made."""
        handover: Handover[int] = Handover()
        taken: list[int] = []
        taker = threading.Thread(target=lambda: taken.append(handover.get()))
        taker.start()
        handover.run(int, "7")
        taker.join(30)
        self.assertEqual(taken, [7])

    def test_failure(self) -> None:
        """What the maker raises is raised to the taker."""
        handover: Handover[int] = Handover()
        handover.run(int, "no number")
        self.assertRaises(ValueError, handover.get)
