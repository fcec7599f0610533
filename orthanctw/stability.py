"""When patients, studies and series count as stable: no new instance for ``StableAge`` seconds (level 4)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from orthanctw.errors import BadRequest, UnknownResource
from orthanctw.events import EventBus
from orthanctw.interfaces import IChangeListener, IIndex
from orthanctw.model import Change, ChangeType, ResourceLevel

log = Logger(namespace="orthanctw.generic")
_STABLE = {
    ResourceLevel.PATIENT: ChangeType.STABLE_PATIENT,
    ResourceLevel.STUDY: ChangeType.STABLE_STUDY,
    ResourceLevel.SERIES: ChangeType.STABLE_SERIES,
}


def timestamp(clock: Callable[[], float]) -> str:
    """Now, as ``yyyymmddThhmmss`` in UTC."""
    return _text_of_second(int(clock()))


@functools.lru_cache(maxsize=4)
def _text_of_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%S")


@implementer(IChangeListener)
class StabilityMonitor:
    """Remembers what received an instance lately; logs the Stable changes.

    One timer for all: resources are kept in the order of their last instance. What was unstable when the server
    stopped counts as stable after the start, as in Orthanc.

    Parameters
    ----------
    age : int
        ``StableAge`` in seconds.
    """

    def __init__(
        self, index: IIndex, events: EventBus, reactor: IReactorTime, age: int, wall_clock: Callable[[], float]
    ) -> None:
        self._index = index
        self._events = events
        self._reactor = reactor
        self._age = age
        self._wall_clock = wall_clock
        self._unstable: dict[str, tuple[float, ResourceLevel]] = {}
        self._timer: IDelayedCall | None = None
        self._stopped = False

    def touch(self, public_ids: tuple[str, str, str]) -> None:
        """A patient, study and series received an instance."""
        now = self._reactor.seconds()
        for level, public_id in zip(_STABLE, public_ids, strict=True):
            self._unstable.pop(public_id, None)
            self._unstable[public_id] = (now, level)
        self._schedule()

    def is_stable(self, public_id: str) -> bool:
        return public_id not in self._unstable

    async def decide(self, public_id: str, stable: bool) -> bool:
        """As `set_stable`, of whatever level. UnknownResource, BadRequest for an instance."""
        level = await self._index.lookup_level(public_id)
        if level is None:
            raise UnknownResource(public_id)
        if level is ResourceLevel.INSTANCE:
            raise BadRequest("Instances are never unstable")
        return self.set_stable(public_id, stable, level)

    def set_stable(self, public_id: str, stable: bool, level: ResourceLevel) -> bool:
        """Decide by hand; True when that changed something."""
        known = self._unstable.pop(public_id, None)
        if not stable:
            self._unstable[public_id] = (self._reactor.seconds(), level)
            self._schedule()
            return known is None
        if known is not None:
            self._log([(public_id, level)])
        return known is not None

    def changed(self, change: Change) -> None:
        """What is deleted cannot become stable."""
        if change.change_type is ChangeType.DELETED:
            self._unstable.pop(change.public_id, None)

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        if self._timer is None and not self._stopped and self._unstable:
            oldest = next(iter(self._unstable.values()))[0]
            # A hair later, so that the oldest is surely due.
            wait = max(0.0, oldest + self._age - self._reactor.seconds()) + 0.01
            self._timer = self._reactor.callLater(wait, self._expire)

    def _expire(self) -> None:
        self._timer = None
        limit = self._reactor.seconds() - self._age
        due: list[tuple[str, ResourceLevel]] = []
        for public_id, (touched, level) in self._unstable.items():
            if touched > limit:
                break
            due.append((public_id, level))
        for public_id, _ in due:
            del self._unstable[public_id]
        # Children are told before their parents.
        due.sort(key=lambda item: -item[1])
        self._log(due)
        self._schedule()

    def _log(self, due: list[tuple[str, ResourceLevel]]) -> None:
        if not due:
            return
        date = timestamp(self._wall_clock)
        changes = [
            Change(change_type=_STABLE[level], level=level, public_id=public_id, date=date)
            for public_id, level in due
        ]
        logged: Deferred[list[Change]] = self._index.log_changes(changes, {})
        logged.addCallbacks(self._events.publish, self._failed)

    def _failed(self, failure: Failure) -> None:
        log.failure("Stable resources could not be logged", failure)
