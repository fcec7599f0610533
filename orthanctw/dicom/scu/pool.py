"""Associations that stay open for a while, so that the next operation finds them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from orthanctw.dicom.scu.failures import PeerFailure, StatusFailure
from orthanctw.dicom.scu.link import Link
from orthanctw.dicom.scu.operations import NotAccepted
from orthanctw.dicom.scu.proposals import Proposal
from orthanctw.dicom.scu.wire import Cancelled
from orthanctw.errors import OrthancError
from orthanctw.remote import Remote
from orthanctw.tls import Tls

log = Logger(namespace="orthanctw.dicom")
_T = TypeVar("_T")
#: Seconds that a peer has to answer a release.
_RELEASE_TIME = 2.0
Key = tuple[str, str, int, str, bool]


@attrs.frozen
class _Idle:
    link: Link
    since: float


def _key(remote: Remote) -> Key:
    return remote.aet, remote.host, remote.port, remote.local_aet, remote.use_dicom_tls


class Associations:
    """Lends associations to operations. Safe in any thread.

    Parameters
    ----------
    clock : IReactorTime
        Tells how long an association is idle.
    delay : float
        Seconds after which an idle association is released.
    """

    def __init__(
        self, clock: IReactorTime, *, delay: float, tls: Tls | None, maximum_length: int
    ) -> None:
        self._clock = clock
        self._delay = delay
        self._tls = tls
        self._maximum_length = maximum_length
        self._lock = threading.Lock()
        self._idle: dict[Key, list[_Idle]] = {}
        self._closed = False

    @property
    def idle_count(self) -> int:
        with self._lock:
            return sum(map(len, self._idle.values()))

    def run(
        self,
        remote: Remote,
        proposals: Sequence[Proposal],
        operation: Callable[[Link], _T],
        cancelled: threading.Event,
        *,
        repeatable: bool,
    ) -> _T:
        """Carry out an operation (blocking).

        `proposals` are the contexts of a new association; one that is there must have the first of them. What fails
        on an association of before is done once more on a new one when nothing was sent, or when it is `repeatable`.
        """
        if cancelled.is_set():
            raise Cancelled
        link = self._take(remote, proposals[0])
        if link is not None:
            try:
                return self._use(link, remote, operation, cancelled)
            except (StatusFailure, Cancelled):
                raise
            except PeerFailure:
                if link.wire.sent and not repeatable:
                    raise
                log.debug("An association of {aet} had ended; another one is made", aet=remote.aet)
        # Late: pynetdicom brings pydicom and numpy with it, which would double the time that a start takes.
        from orthanctw.dicom.scu.negotiation import associate

        link = associate(remote, proposals, cancelled, tls=self._tls, maximum_length=self._maximum_length)
        log.info("Association with {aet} made: {count} contexts", aet=remote.aet, count=len(link.contexts))
        return self._use(link, remote, operation, cancelled)

    def _use(
        self, link: Link, remote: Remote, operation: Callable[[Link], _T], cancelled: threading.Event
    ) -> _T:
        link.timeout = remote.timeout
        link.wire.cancelled = cancelled
        link.wire.sent = 0
        try:
            result = operation(link)
        except (StatusFailure, NotAccepted):
            self._give_back(link, remote)
            raise
        except OrthancError as e:
            if isinstance(e, PeerFailure) or link.wire.sent:
                link.abort()
            else:
                self._give_back(link, remote)
            raise
        except BaseException:
            link.abort()
            raise
        self._give_back(link, remote)
        return result

    def _take(self, remote: Remote, needed: Proposal) -> Link | None:
        """An idle association with a context; those of the same remote without it are released."""
        wanted = (needed.abstract_syntax, needed.transfer_syntaxes[0])
        unfit: list[Link] = []
        found = None
        with self._lock:
            idle = self._idle.pop(_key(remote), [])
            while idle and found is None:
                link = idle.pop().link
                if wanted in link.proposed and link.is_usable:
                    found = link
                else:
                    unfit.append(link)
            if found is not None and idle:
                self._idle[_key(remote)] = idle
        for link in unfit:
            release(link)
        return found

    def _give_back(self, link: Link, remote: Remote) -> None:
        with self._lock:
            if not self._closed and self._delay:
                self._idle.setdefault(_key(remote), []).append(_Idle(link, self._clock.seconds()))
                return
        release(link)

    def seconds_left(self) -> float | None:
        """Seconds until the first idle association expires; None without any."""
        with self._lock:
            since = [one.since for idle in self._idle.values() for one in idle]
        return max(min(since) + self._delay - self._clock.seconds(), 0.0) if since else None

    def expired(self) -> list[Link]:
        """Associations whose time is over; the caller releases them."""
        limit = self._clock.seconds() - self._delay
        return self._remove(lambda idle: idle.since <= limit)

    def close(self) -> list[Link]:
        """All idle ones; those in use are released when they are given back."""
        with self._lock:
            self._closed = True
        return self._remove(lambda _: True)

    def _remove(self, chosen: Callable[[_Idle], bool]) -> list[Link]:
        removed: list[Link] = []
        with self._lock:
            for key, idle in list(self._idle.items()):
                removed += [one.link for one in idle if chosen(one)]
                self._idle[key] = [one for one in idle if not chosen(one)]
                if not self._idle[key]:
                    del self._idle[key]
        return removed


def release(link: Link) -> None:
    """End an association in the usual way, or cut it when its peer does not (blocking)."""
    link.wire.cancelled = threading.Event()
    link.timeout = min(link.timeout or _RELEASE_TIME, _RELEASE_TIME)
    link.release()
