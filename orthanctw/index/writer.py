"""The thread that writes: what waits goes into one transaction, and one commit makes all of it durable."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import FullStorage, OrthancError
from orthanctw.index.connection import extend_journal, translate
from orthanctw.index.transaction import Transaction
from orthanctw.threads import Call, SerialWorker

_log = Logger()
#: Operations of one transaction at most: bounds the time until the first of them is answered.
GROUP: Final = 128
#: Rows written after which the journal is copied into the database when nothing waits, and when something does. It
#: then starts again at its beginning, so these also bound its size, to some 15 and 45 MB.
CHECKPOINT_ROWS: Final = 2000
CHECKPOINT_ROWS_BUSY: Final = 6000
#: Seconds without work after which it is copied in any case.
IDLE_SECONDS: Final = 0.2

Operation = Callable[..., Any]


class IndexWriter(SerialWorker):
    """Operations are called as ``operation(transaction, *args)``, in order; one that fails may be called again.

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
        self._is_extended = False

    def process(self, calls: Sequence[Call[Any]]) -> None:
        """One transaction for all; where that fails, without the operation that fails, and it alone."""
        self._transaction.is_careful = self._transaction.met_known_object
        self._transaction.met_known_object = False
        waiting: list[Sequence[Call[Any]]] = [_prepared(calls)]
        while waiting:
            group = waiting.pop()
            if not group:
                continue
            error, place = self._commit(group)
            if isinstance(error, sqlite3.IntegrityError) and not self._transaction.is_careful:
                # Nearly always: an object that is stored already.
                self._transaction.is_careful = True
                waiting.append(group)
            elif error is not None and len(group) == 1:
                group[0].outcome = Failure(_told(error))
            elif error is not None:
                if place is None or isinstance(error, sqlite3.Error):
                    parts = [[call] for call in group]
                else:
                    parts = [list(group[:place]), [group[place]], list(group[place + 1 :])]
                waiting += [part for part in reversed(parts) if part]

    def delivered(self) -> None:
        rows = self._connection.total_changes - self._checkpointed
        if rows >= (CHECKPOINT_ROWS_BUSY if self.waiting else CHECKPOINT_ROWS):
            self._checkpoint("PASSIVE")

    def idle_delay(self) -> float | None:
        is_due = self._connection.total_changes > self._checkpointed or not self._is_extended
        return IDLE_SECONDS if is_due else None

    def idle(self) -> None:
        self._checkpoint("PASSIVE")
        if not self._is_extended:
            self._is_extended = True
            try:
                extend_journal(self._connection)
            except (OSError, sqlite3.Error):
                _log.failure("The journal of the index could not be given its usual size")

    def finished(self) -> None:
        self._checkpoint("TRUNCATE")
        self._connection.close()

    def _commit(self, calls: Sequence[Call[Any]]) -> tuple[Exception | None, int | None]:
        """Carry out `calls` in one transaction; answers why nothing was kept of it, and at which call."""
        place: int | None = None
        try:
            if self._stale:
                self._transaction.load()
                self._stale = False
            for number, call in enumerate(calls):
                place = number
                call.outcome = call.function(self._transaction, *call.args)
            place = None
            self._transaction.commit()
        except Exception as error:  # noqa: BLE001 - whatever it is, the writer goes on
            self._roll_back()
            if place is None and isinstance(translate(error), FullStorage):
                self._cover_failed_commit()
            return error, place
        return None, None

    def _roll_back(self) -> None:
        self._stale = True
        try:
            self._transaction.roll_back()
        except sqlite3.Error:
            _log.failure("The index could not roll back")

    def _cover_failed_commit(self) -> None:
        """Write over what a commit may have left in the journal.

        Where only the sync has failed it is complete there, and would be taken as valid after a sudden death.
        """
        try:
            self._transaction.skip_row_number()
        except sqlite3.Error:
            # Its pages may be in place although it failed too, and that is all that it is for.
            self._roll_back()

    def _checkpoint(self, mode: str) -> None:
        self._checkpointed = self._connection.total_changes
        try:
            self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error:
            # The journal stays, and with it everything that was committed.
            _log.failure("The journal of the index could not be copied into the database")


def _prepared(calls: Sequence[Call[Any]]) -> list[Call[Any]]:
    """The calls whose arguments are ready; what is still to be made is made here, before the transaction."""
    ready = []
    for call in calls:
        if len(call.args) == 1 and callable(call.args[0]):
            try:
                call.args = (call.args[0](),)
            except Exception as error:  # noqa: BLE001 - it fails this call and nobody else
                call.outcome = Failure(_told(error))
                continue
        ready.append(call)
    return ready


def _told(error: Exception) -> OrthancError:
    told = translate(error)
    if told is not error:
        told.__cause__ = error
        if told.code is ErrorCode.INTERNAL_ERROR:
            _log.failure("An operation of the index failed", Failure(error))
    return told

