"""What DICOM needs of a TCP connection: quick acknowledgements, and no answers piled up for a peer that does not read.

A sender with Nagle's algorithm waits for our ACK before its next small segment, and Linux delays ACKs by up to 40 ms
unless it is told otherwise after every read.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)


def do_nothing() -> None:
    """Where there are no quick acknowledgements."""


def quick_ack_of(transport: Any) -> Callable[[], None]:
    """A function that makes the kernel acknowledge at once what came, to be called after every read."""
    handle = getattr(transport, "socket", None)
    if _QUICKACK is None or not isinstance(handle, socket.socket):
        return do_nothing
    option = _QUICKACK

    def acknowledge() -> None:
        # The kernel forgets the option after a while, so it is set after every read.
        with contextlib.suppress(OSError):
            handle.setsockopt(socket.IPPROTO_TCP, option, 1)

    return acknowledge


@implementer(IPushProducer)
class Outflow:
    """What a transport pauses while its peer does not read our answers: the taking of requests from it.

    Parameters
    ----------
    inflow : IPushProducer
        Paused and resumed once each, however often the transport repeats itself.
    """

    def __init__(self, inflow: IPushProducer) -> None:
        self._inflow = inflow
        self.is_paused = False
        self._waiters: list[Deferred[None]] = []

    def pauseProducing(self) -> None:
        if not self.is_paused:
            self.is_paused = True
            self._inflow.pauseProducing()

    def resumeProducing(self) -> None:
        if self.is_paused:
            self.is_paused = False
            self._inflow.resumeProducing()
            self.release()

    def stopProducing(self) -> None:
        """The connection is gone; it tells so itself."""

    def drained(self) -> Deferred[None]:
        """Fires when the peer reads, or its connection is gone."""
        waiter: Deferred[None] = Deferred()
        if self.is_paused:
            self._waiters.append(waiter)
        else:
            waiter.callback(None)
        return waiter

    def release(self) -> None:
        """Let everybody go on who waits."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)
