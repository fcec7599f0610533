"""Children that scripts make by ``fork``, as ``multiprocessing`` does.

They begin with copies of all descriptors of the server. A child that outlives the server would keep its ports, the lock
of its folder and its connections. So the copies are replaced, as the first thing in the child. Their numbers stay
taken, since objects that the child has inherited, too, may close or write to them. All else stays: what scripts have
opened, the pipes of ``multiprocessing``, the log.

SQLite's locks belong to a process and are not inherited; but a connection that is closed in the child would believe
that it has them. Without its file it can do nothing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import stat
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

import attrs

_DESCRIPTORS: Final = "/proc/self/fd"
#: Handlers of these are the server's; scripts cannot set any in its process.
_SIGNALS: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


@attrs.frozen(kw_only=True, eq=False)
class Belongings:
    """What a server has open.

    Attributes
    ----------
    reactor : reactor
        Its readers, writers and its own descriptors.
    folders : collection of str
        All files below them.
    ports : callable
        Numbers of ports: listening sockets, and connections that have come to them.
    """

    reactor: Any
    folders: Collection[str]
    ports: Callable[[], Collection[int]]

    def descriptors(self) -> set[int]:
        """Their numbers, in this process."""
        ports = set(self.ports()) - {0}
        folders = tuple(os.path.join(os.path.realpath(folder), "") for folder in self.folders)
        return {
            *(number for number in _of_reactor(self.reactor) if number > 0),
            *(number for number in _open() if _is_below(number, folders) or _has_port(number, ports)),
        }


_servers: weakref.WeakSet[Belongings] = weakref.WeakSet()


def part_from_children(belongings: Belongings) -> None:
    """From now on, children do not get what belongs to a server. It is forgotten with its last reference."""
    _register()
    _servers.add(belongings)


@functools.cache
def _register() -> None:
    os.register_at_fork(after_in_child=_part)


def _part() -> None:
    """In the child: let go of what belongs to servers."""
    if not _servers:
        return
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for belongings in list(_servers):
            for descriptor in belongings.descriptors() - {0, 1, 2, nothing}:
                with contextlib.suppress(OSError):
                    os.dup2(nothing, descriptor, inheritable=False)
    finally:
        os.close(nothing)


def _of_reactor(reactor: Any) -> Iterator[int]:
    # The reactor may have been in the middle of anything when its thread was left behind.
    with contextlib.suppress(Exception):
        for one in (*reactor.getReaders(), *reactor.getWriters()):
            yield one.fileno()
            # Wakers have a second end.
            yield getattr(one, "o", -1)
    poller = getattr(reactor, "_poller", None)
    if poller is not None:
        yield poller.fileno()


def _open() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for name in os.listdir(_DESCRIPTORS):
            yield int(name)


def _is_below(descriptor: int, folders: tuple[str, ...]) -> bool:
    try:
        return os.readlink(f"{_DESCRIPTORS}/{descriptor}").startswith(folders)
    except OSError:
        return False


def _has_port(descriptor: int, ports: Collection[int]) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        # A copy: the one that it is made of is not to be closed with the object.
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            return copy.family in _INTERNET and copy.getsockname()[1] in ports
    except OSError:
        return False
