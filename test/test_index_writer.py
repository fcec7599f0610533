"""Group commits, failures of the disk, opening and closing, and what survives a killed process."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
import threading
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import DatabaseError, FullStorage, OrthancError, ServiceUnavailable
from orthanctw.index import schema, writer
from orthanctw.index.connection import extend_journal
from orthanctw.index.database import SqliteIndex
from orthanctw.index.transaction import Transaction
from orthanctw.model import OverwriteMode, ResourceLevel
from test.index_samples import ids, new_instance

INSTANCE = ResourceLevel.INSTANCE


def fill(transaction: Transaction, pages: int) -> None:
    """Make the disk full: no more than `pages` pages besides those in use."""
    (used,) = transaction.execute("PRAGMA page_count").fetchone()
    transaction.execute(f"PRAGMA max_page_count = {used + pages}")


class ThreadedTestCase(TestCase):
    def new_index(self, path: str | None = None, **options: Any) -> SqliteIndex:
        index = SqliteIndex(reactor, path or self.mktemp(), **options)  # type: ignore[arg-type]
        self.addCleanup(index.close)
        return index


class GroupTests(ThreadedTestCase):
    async def test_many_stores_at_once(self) -> None:
        """Objects are stored in the order of the calls."""
        index = self.new_index()
        await index.open()
        answered: list[int] = []
        calls = []
        for number in range(300):
            call = index.store(new_instance(instance=str(number)))
            calls.append(call.addCallback(lambda stored, n=number: answered.append(n) or stored))
        stored = await gatherResults(calls)
        self.assertEqual(answered, list(range(300)))
        seqs = [change.seq for item in stored for change in item.changes]
        self.assertEqual(seqs, list(range(1, 304)))
        self.assertEqual((await index.statistics()).instances, 300)

    async def test_a_failing_operation_leaves_its_neighbours_alone(self) -> None:
        """Of several writes at once only the one that fails is undone."""
        index = self.new_index()
        await index.open()

        def failing(transaction: Transaction) -> None:
            transaction.counters.count(INSTANCE, 5)
            transaction.execute("DELETE FROM resources")
            raise FullStorage("on purpose")

        calls = [index.store(new_instance(instance="1")), index._write(failing)]
        calls.append(index.store(new_instance(instance="2")))
        first, second, third = [await _outcome(call) for call in calls]
        self.assertIsInstance(second, FullStorage)
        self.assertEqual([len(first.changes), len(third.changes)], [4, 1])
        self.assertEqual((await index.statistics()).instances, 2)
        self.assertEqual(len(await index.list_ids(INSTANCE)), 2)

    async def test_several_failing_operations(self) -> None:
        """Wherever they stand in a group, the others are done, each once and in the order of the calls."""
        index = self.new_index()
        await index.open()

        def failing(transaction: Transaction, error: Exception) -> None:
            transaction.execute("DELETE FROM queues")
            raise error

        def constraint(transaction: Transaction) -> None:
            transaction.execute("INSERT INTO schema_history VALUES (1, 'again')")

        hold = threading.Event()
        self.addCleanup(hold.set)
        index._write(lambda transaction: hold.wait(10))
        calls: list[Deferred[Any]] = []
        for number in range(30):
            calls.append(index.enqueue("numbers", b"%d" % number))
            if number % 7 == 0:
                calls.append(index._write(failing, FullStorage("on purpose")))
            if number == 20:
                calls.append(index._write(constraint))
        hold.set()
        outcomes = [await _outcome(call) for call in calls]
        failures = [type(item).__name__ for item in outcomes if item is not None]
        self.assertEqual(failures, ["FullStorage"] * 3 + ["DatabaseError"] + ["FullStorage"] * 2)
        taken = [await index.dequeue("numbers", True) for _ in range(31)]
        self.assertEqual(taken, [b"%d" % number for number in range(30)] + [None])

    async def test_the_same_object_several_times_in_a_group(self) -> None:
        """The first is stored; the others are there already, or replace it, as each one says."""
        index = self.new_index()
        await index.open()
        hold = threading.Event()
        self.addCleanup(hold.set)
        index._write(lambda transaction: hold.wait(10))
        calls = [index.store(new_instance(instance=number)) for number in "1213"]
        calls.append(index.store(new_instance(instance="2", overwrite=OverwriteMode.ALWAYS)))
        hold.set()
        stored = await gatherResults(calls)
        statuses = [item.status.value for item in stored]
        self.assertEqual(statuses, ["Success", "Success", "AlreadyStored", "Success", "Success"])
        self.assertEqual(len(stored[4].removed_files), 1)
        self.assertEqual((await index.statistics()).instances, 3)
        seqs = [change.seq for item in stored for change in item.changes if change.change_type.logged]
        self.assertEqual(seqs, list(range(1, 8)))

    async def test_a_group_of_many_new_patients(self) -> None:
        """More rows than one statement takes are still one transaction."""
        index = self.new_index()
        await index.open()
        names = [str(number) for number in range(100)]
        await gatherResults([index.store(new_instance(patient=name, study=name)) for name in names])
        totals = await index.statistics()
        self.assertEqual((totals.patients, totals.series, totals.instances), (100, 100, 100))
        self.assertEqual(len(await index.candidates(ResourceLevel.STUDY, [])), 100)

    async def test_an_identifier_of_another_level(self) -> None:
        """An object whose identifier is that of a series is refused, and nothing of it is kept."""
        index = self.new_index()
        await index.open()
        await index.store(new_instance())
        strange = new_instance(patient="Q", study="2")
        taken = attrs.evolve(strange.instance, public_id=ids(new_instance())[2])
        error = await _outcome(index.store(attrs.evolve(strange, instance=taken)))
        self.assertIsInstance(error, DatabaseError)
        self.assertEqual((await index.statistics()).patients, 1)

    async def test_a_defect_is_told_as_an_internal_error(self) -> None:
        """An exception that nobody foresaw is logged, and does not end the writer."""
        index = self.new_index()
        await index.open()

        def defect(transaction: Transaction) -> None:
            raise ZeroDivisionError

        error = await _outcome(index._write(defect))
        self.assertIs(error.code, ErrorCode.INTERNAL_ERROR)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        await index.store(new_instance())

    async def test_a_full_disk(self) -> None:
        """Writes fail with FullStorage while the disk is full, and work when it is not; nothing is half done."""
        index = self.new_index()
        await index.open()
        await index.store(new_instance(instance="first"))
        await index._write(fill, 4)
        calls = [index.store(new_instance(instance=str(number))) for number in range(100)]
        outcomes = [await _outcome(call) for call in calls]
        failed = [item for item in outcomes if isinstance(item, OrthancError)]
        self.assertTrue(failed)
        self.assertEqual({(type(item), item.http_status) for item in failed}, {(FullStorage, 507)})
        stored = 1 + len(outcomes) - len(failed)
        self.assertEqual(len(await index.list_ids(INSTANCE)), stored)
        await index._write(fill, 100000)
        self.assertEqual((await index.statistics()).instances, stored)
        again = await gatherResults(
            [index.store(new_instance(instance=str(number))) for number in range(100)]
        )
        self.assertEqual((await index.statistics()).instances, 101)
        seqs = [change.seq for item in again for change in item.changes]
        self.assertEqual(seqs, sorted(set(seqs)))

    async def test_a_second_writer_in_the_way(self) -> None:
        """A lock of another program is told, and the next write works when it is gone."""
        path = self.mktemp()
        index = self.new_index(path, busy_timeout=0.0)
        await index.open()
        other = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        error = await _outcome(index.store(new_instance()))
        self.assertIsInstance(error, DatabaseError)
        self.assertIn("locked", error.details)
        other.execute("ROLLBACK")
        await index.store(new_instance())
        self.assertEqual((await index.statistics()).instances, 1)


async def _outcome(call: Deferred[Any]) -> Any:
    try:
        return await call
    except OrthancError as error:
        return error


class LifeCycleTests(ThreadedTestCase):
    async def test_close_finishes_what_waits(self) -> None:
        """Writes made before `close` are kept; later calls fail; the journal is gone."""
        path = self.mktemp()
        index = self.new_index(path)
        await index.open()
        calls = [index.store(new_instance(instance=str(number))) for number in range(50)]
        await index.close()
        await gatherResults(calls)
        for late in (index.store(new_instance()), index.statistics(), index.candidates(INSTANCE, [])):
            self.assertIsInstance(await _outcome(late), ServiceUnavailable)
        self.assertFalse(os.path.exists(path + "-wal"))
        again = self.new_index(path)
        await again.open()
        self.assertEqual((await again.statistics()).instances, 50)

    async def test_state_goes_on_after_a_restart(self) -> None:
        """Row numbers and sequence numbers are not used twice."""
        path = self.mktemp()
        index = self.new_index(path)
        await index.open()
        await index.store(new_instance())
        before = await index.resource(INSTANCE, ids(new_instance())[3])
        assert before is not None
        await index.delete(INSTANCE, before.public_id)
        await index.close()
        index = self.new_index(path)
        await index.open()
        stored = await index.store(new_instance())
        self.assertEqual([change.seq for change in stored.changes], [5, 6, 7, 8])
        after = await index.resource(INSTANCE, before.public_id)
        assert after is not None
        self.assertGreater(after.internal_id, before.internal_id)

    async def test_point_reads_without_a_thread(self) -> None:
        """If wanted, a read of one resource has its answer at once."""
        index = self.new_index(inline_point_reads=True)
        await index.open()
        await index.store(new_instance())
        public_id = ids(new_instance())[3]
        found = self.successResultOf(index.resource(INSTANCE, public_id))
        assert found is not None
        reading = index.expand(INSTANCE, [public_id], children=False, attachments=True, indices=False)
        self.assertEqual([item.resource for item in self.successResultOf(reading)], [found])
        await index.close()
        self.assertIsInstance(await _outcome(index.resource(INSTANCE, public_id)), ServiceUnavailable)

    async def test_the_journal_is_copied_while_the_index_is_busy(self) -> None:
        """The journal does not grow for as long as objects arrive."""
        self.patch(writer, "CHECKPOINT_ROWS", 50)
        self.patch(writer, "CHECKPOINT_ROWS_BUSY", 50)
        self.patch(writer, "extend_journal", lambda connection: None)
        path = self.mktemp()
        index = self.new_index(path)
        await index.open()
        for number in range(200):
            await index.store(new_instance(instance=str(number)))
        frames = os.path.getsize(path + "-wal") // 4120
        self.assertLess(frames, 600)
        self.assertGreater(os.path.getsize(path), 100000)

    async def test_a_journal_of_its_usual_size(self) -> None:
        """An idle index gives its journal room; what is written then survives a crash, and a close removes it."""
        self.patch(writer, "IDLE_SECONDS", 0.0)
        extended: Deferred[None] = Deferred()

        def extend(connection: sqlite3.Connection) -> None:
            extend_journal(connection)
            reactor.callFromThread(extended.callback, None)  # type: ignore[attr-defined]

        self.patch(writer, "extend_journal", extend)
        path, copy = self.mktemp(), self.mktemp()
        index = self.new_index(path)
        await index.open()
        await extended
        size = os.path.getsize(path + "-wal")
        self.assertGreater(size, 8 << 20)
        self.patch(writer, "IDLE_SECONDS", 3600.0)
        for number in range(20):
            await index.store(new_instance(instance=str(number)))
        self.assertEqual(os.path.getsize(path + "-wal"), size)
        for ending in ("", "-wal"):
            shutil.copyfile(path + ending, copy + ending)
        crashed = self.new_index(copy)
        await crashed.open()
        self.assertEqual((await crashed.statistics()).instances, 20)
        await index.close()
        self.assertFalse(os.path.exists(path + "-wal"))

    async def test_a_lower_quota_counts_from_the_start(self) -> None:
        """What is over the quota is recycled when the index opens, except what is protected."""
        path = self.mktemp()
        index = self.new_index(path)
        await index.open()
        objects = [new_instance(patient=name, study=name) for name in "123"]
        for item in objects:
            await index.store(item)
        await index.set_protected(ids(objects[0])[0], True)
        await index.close()
        for options, wanted in (({"maximum_patients": 2}, [0, 2]), ({"maximum_size": 1}, [0])):
            index = self.new_index(path, **options)
            await index.open()
            patients = await index.list_ids(ResourceLevel.PATIENT)
            self.assertEqual(patients, [ids(objects[position])[0] for position in wanted])
            await index.close()

    async def test_closing_while_it_opens(self) -> None:
        """Neither waits for ever, and no thread is left."""
        index = self.new_index()
        opening = index.open()
        await index.close()
        self.assertIsInstance(await _outcome(opening), ServiceUnavailable)
        self.assertEqual([item.name for item in threading.enumerate() if item.name.startswith("index-")], [])

    async def test_calls_before_open(self) -> None:
        """An index that is not open refuses, rather than wait."""
        index = self.new_index()
        self.assertIsInstance(await _outcome(index.statistics()), ServiceUnavailable)
        self.assertIsInstance(await _outcome(index.clear_changes()), ServiceUnavailable)


class OpenTests(SynchronousTestCase):
    def refused(self, path: str) -> OrthancError:
        index = SqliteIndex(reactor, path, synchronous=True, busy_timeout=0.0)  # type: ignore[arg-type]
        error = self.failureResultOf(index.open(), OrthancError).value
        self.failureResultOf(index.statistics(), ServiceUnavailable)
        return error

    def made(self) -> str:
        path = self.mktemp()
        index = SqliteIndex(reactor, path, synchronous=True)  # type: ignore[arg-type]
        self.successResultOf(index.open())
        self.successResultOf(index.close())
        return path

    def test_a_file_that_is_no_database(self) -> None:
        """It is left as it is."""
        path = self.mktemp()
        with open(path, "wb") as stream:
            stream.write(b"not a database at all" * 100)
        self.assertIn("not a database", self.refused(path).details)

    def test_a_database_of_another_program(self) -> None:
        """It is refused before any table is made."""
        path = self.mktemp()
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE theirs (x)")
        connection.close()
        self.assertIn("another program", self.refused(path).details)
        connection = sqlite3.connect(path)
        self.assertEqual(connection.execute("SELECT name FROM sqlite_schema").fetchall(), [("theirs",)])
        connection.close()

    def test_a_newer_version(self) -> None:
        """A file of a later version of the program is refused."""
        path = self.made()
        connection = sqlite3.connect(path)
        connection.execute(f"PRAGMA user_version = {len(schema.STEPS) + 1}")
        connection.close()
        self.assertIs(self.refused(path).code, ErrorCode.INCOMPATIBLE_DATABASE_VERSION)

    def test_a_locked_file(self) -> None:
        """Another program that holds the file is named as the reason."""
        path = self.made()
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        self.assertIn("locked", self.refused(path).details)
        connection.close()

    def test_a_missing_folder(self) -> None:
        """The file cannot be made there."""
        self.assertIn("cannot be opened", self.refused(os.path.join(self.mktemp(), "index.db")).details)

    def test_migration(self) -> None:
        """Later steps run once, in one transaction, and are written down."""
        connection = sqlite3.connect(self.made(), isolation_level=None)
        self.addCleanup(connection.close)

        def second(database: sqlite3.Connection) -> None:
            database.execute("CREATE TABLE later (x)")

        def failing(database: sqlite3.Connection) -> None:
            database.execute("DROP TABLE later")
            raise DatabaseError("on purpose")

        steps, known = (*schema.STEPS, second), len(schema.STEPS)
        self.assertEqual(schema.migrate(connection, "d2", steps), known)
        self.assertEqual(schema.migrate(connection, "d3", steps), known + 1)
        self.assertRaises(DatabaseError, schema.migrate, connection, "d4", (*steps, failing))
        history = connection.execute("SELECT version, date FROM schema_history ORDER BY version").fetchall()
        self.assertEqual((len(history), history[-1]), (known + 1, (known + 1, "d2")))
        self.assertEqual(connection.execute("SELECT COUNT(*) FROM later").fetchone(), (0,))


class _Storing(ProcessProtocol):
    """Collects the ids that a child says are stored, and kills it after some."""

    def __init__(self, enough: int) -> None:
        self.ended: Deferred[Any] = Deferred()
        self.received = b""
        self.errors = b""
        self._enough = enough

    def outReceived(self, data: bytes) -> None:
        self.received += data
        if self.received.count(b"\n") >= self._enough and self.transport is not None:
            self.transport.signalProcess("KILL")

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(reason.value)


class CrashTests(ThreadedTestCase):
    async def test_a_killed_process_loses_nothing_that_it_acknowledged(self) -> None:
        """Every id that was printed after its store is found when the file is opened again."""
        path = os.path.abspath(self.mktemp())
        protocol = _Storing(400)
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
        reactor.spawnProcess(  # type: ignore[attr-defined]
            protocol, sys.executable, [sys.executable, "-m", "test.test_index_writer", path], os.environ, path=root
        )
        ended = await protocol.ended
        self.assertIsInstance(ended, ProcessTerminated)
        self.assertEqual(ended.signal, signal.SIGKILL, protocol.errors)
        acknowledged = protocol.received.decode().split("\n")[:-1]
        self.assertGreaterEqual(len(acknowledged), 400)
        index = self.new_index(path)
        await index.open()
        found = {item.public_id for item in await index.resources(INSTANCE, acknowledged)}
        self.assertEqual(found, set(acknowledged))
        totals = await index.statistics()
        self.assertEqual(totals.instances, len(await index.list_ids(INSTANCE)))
        self.assertEqual(totals.disk_size, 1000 * totals.instances)


def store_for_ever(path: str) -> None:
    """The child of `CrashTests`: stores, and prints each id once it is durable."""
    index = SqliteIndex(reactor, path)  # type: ignore[arg-type]

    async def lane(number: int) -> None:
        count = 0
        while True:
            instance = new_instance(series=str(number), instance=str(count))
            await index.store(instance)
            os.write(1, ids(instance)[3].encode() + b"\n")
            count += 1

    async def main() -> None:
        await index.open()
        await gatherResults([Deferred.fromCoroutine(lane(number)) for number in range(8)])

    Deferred.fromCoroutine(main())
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    store_for_ever(sys.argv[1])
