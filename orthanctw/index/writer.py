"""The thread that writes: what waits goes into one transaction, and one commit makes all of it durable."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.index.connection import translate
from orthanctw.index.transaction import Transaction
from orthanctw.threads import Call, SerialWorker

_log = Logger()
#: Operations of one transaction at most: bounds the time until the first of them is answered.
GROUP: Final = 128
#: Rows written after which the journal is copied into the database when nothing waits, and when something does:
#: else the journal would grow for as long as the load lasts.
CHECKPOINT_ROWS: Final = 5000
CHECKPOINT_ROWS_BUSY: Final = 40000
#: Seconds without work after which it is copied in any case.
IDLE_SECONDS: Final = 0.2

Operation = Callable[..., Any]
Sync = Callable[[], None]


class IndexWriter(SerialWorker):
    """Operations are called as ``operation(transaction, *args)``, each in its savepoint, in order.

    Parameters
    ----------
    reactor : IReactorFromThreads
    transaction : Transaction
        Used, and its connection closed, by the thread alone.
    synchronous : bool
        No thread: each operation is a transaction, made by `write` itself.
    """

    def __init__(
        self, reactor: IReactorFromThreads, transaction: Transaction, *, synchronous: bool = False
    ) -> None:
        super().__init__(reactor, "index-writer", bound=GROUP, synchronous=synchronous)
        self._transaction = transaction
        self._connection = transaction.connection
        self._stale = True
        self._checkpointed = 0

    def process(self, calls: Sequence[Call[Any]]) -> None:
        """One transaction for all; one for each where that fails."""
        ready = self._sync_folders(calls)
        if ready and not self._commit(ready) and len(ready) > 1:
            for call in ready:
                self._commit([call])

    def delivered(self) -> None:
        rows = self._connection.total_changes - self._checkpointed
        if rows >= (CHECKPOINT_ROWS_BUSY if self.waiting else CHECKPOINT_ROWS):
            self._checkpoint("PASSIVE")

    def idle_delay(self) -> float | None:
        return IDLE_SECONDS if self._connection.total_changes > self._checkpointed else None

    def idle(self) -> None:
        self._checkpoint("PASSIVE")

    def finished(self) -> None:
        self._checkpoint("TRUNCATE")
        self._connection.close()

    def _sync_folders(self, calls: Sequence[Call[Any]]) -> list[Call[Any]]:
        """Make folders durable, each once, and answer the calls whose folder is."""
        outcomes: dict[Sync, Failure | None] = {}
        ready = []
        for call in calls:
            sync: Sync | None = call.kwargs.get("sync")
            if sync is not None and sync not in outcomes:
                outcomes[sync] = _attempt(sync)
            failure = None if sync is None else outcomes[sync]
            if failure is None:
                ready.append(call)
            else:
                call.outcome = failure
        return ready

    def _commit(self, calls: Sequence[Call[Any]]) -> bool:
        """Carry out `calls` in one transaction; False when nothing of it was kept."""
        try:
            if self._stale:
                self._transaction.load()
                self._stale = False
            self._connection.execute("BEGIN IMMEDIATE")
            for call in calls:
                self._carry_out(call)
            self._transaction.flush()
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, the writer goes on
            self._roll_back()
            failure = Failure(_told(error))
            for call in calls:
                call.outcome = failure
            return False
        return True

    def _carry_out(self, call: Call[Any]) -> None:
        transaction = self._transaction
        state = transaction.savepoint()
        try:
            call.outcome = call.function(transaction, *call.args)
        except Exception as error:
            if isinstance(error, sqlite3.Error) or not self._connection.in_transaction:
                # SQLite may have rolled back the neighbours too: each of them gets a transaction of its own.
                raise
            transaction.undo(state)
            call.outcome = Failure(_told(error))
        else:
            transaction.release()

    def _roll_back(self) -> None:
        self._stale = True
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                _log.failure("The index could not roll back")

    def _checkpoint(self, mode: str) -> None:
        self._checkpointed = self._connection.total_changes
        try:
            self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error:
            # The journal stays, and with it everything that was committed.
            _log.failure("The journal of the index could not be copied into the database")


def _attempt(sync: Sync) -> Failure | None:
    try:
        sync()
    except Exception as error:  # noqa: BLE001 - it fails the objects of this folder and nobody else
        return Failure(_told(error))
    return None


def _told(error: Exception) -> OrthancError:
    told = translate(error)
    if told is not error:
        told.__cause__ = error
        if told.code is ErrorCode.INTERNAL_ERROR:
            _log.failure("An operation of the index failed", Failure(error))
    return told

