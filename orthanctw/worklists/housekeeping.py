"""Removing worklists whose time is over: their study is stable, or they are too old."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.interfaces import IChangeListener, IIndex
from orthanctw.model import Change, ChangeType, Resource, ResourceLevel
from orthanctw.settings import Worklists as WorklistOptions
from orthanctw.stability import timestamp
from orthanctw.worklists.model import STUDY_INSTANCE_UID, Source, Wanted

log = Logger(namespace="orthanctw.dicom")
_HOUR = 3600


@implementer(IChangeListener)
class Housekeeping:
    """Removes worklists by itself.

    Parameters
    ----------
    wall_clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        source: Source,
        index: IIndex,
        options: WorklistOptions,
        reactor: IReactorTime,
        wall_clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._index = index
        self._options = options
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._timer: IDelayedCall | None = None
        self._running: set[Deferred[None]] = set()
        self._stopped = False

    def start(self) -> None:
        """Begin to look for old ones."""
        if self._source.dates and self._options.delete_worklists_delay:
            self._look()

    def _look(self) -> None:
        self._timer = self._reactor.callLater(self._options.housekeeping_interval, self._look)
        latest = timestamp(lambda: self._wall_clock() - self._options.delete_worklists_delay * _HOUR)
        self._begin(self._remove(lambda worklist: worklist.created <= latest, "that were too old"))

    def changed(self, change: Change) -> None:
        """What a stable study was scheduled by is done."""
        if change.change_type is ChangeType.STABLE_STUDY and self._options.delete_worklists_on_stable_study:
            self._begin(self._remove_of_study(change.public_id))

    async def _remove_of_study(self, public_id: str) -> None:
        study: Resource | None = await self._index.resource(ResourceLevel.STUDY, public_id)
        uid = study.main_tags.get(STUDY_INSTANCE_UID) if study is not None else None
        if uid:
            await self._remove(lambda worklist: uid in worklist.common.get(STUDY_INSTANCE_UID, ()), "of a stable study")

    async def _remove(self, wanted: Wanted, which: str) -> None:
        found = await self._source.select(wanted)
        removed = [await self._source.remove(worklist.identifier) for worklist in found]
        if any(removed):
            log.info("{count} worklists {which} were removed", count=sum(removed), which=which)

    def _begin(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        if self._stopped:
            work.close()
            return
        done = Deferred.fromCoroutine(work)
        self._running.add(done)
        done.addErrback(lambda failure: log.failure("Worklists could not be removed", failure))
        done.addBoth(lambda _: self._running.discard(done))

    async def stop(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiters: list[Deferred[None]] = []
        for done in self._running:
            waiter: Deferred[None] = Deferred()
            done.addBoth(waiter.callback)
            waiters.append(waiter)
        await gatherResults(waiters)
