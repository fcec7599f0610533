"""A connection used by a thread that may block: time limits, cancellation, quick acknowledgements.

`poll` waits, since `select` fails in a process with more than 1023 descriptors.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
import time
from typing import Final

from OpenSSL import SSL

from orthanctw.dicom.upper.sockets import quick_ack_of
from orthanctw.tls import Tls, TlsConnection

#: How often a thread that waits looks whether its operation was cancelled, in seconds.
_LOOK_INTERVAL: Final = 0.05
_READ_SIZE: Final = 64 * 1024


class Cancelled(OSError):
    """The operation is to end."""


def deadline_after(timeout: float) -> float:
    """The moment when `timeout` seconds are over; 0 is no limit."""
    return time.monotonic() + timeout if timeout else math.inf


def seconds_until(deadline: float) -> float:
    """How long it is until then, but a moment at least."""
    return max(deadline - time.monotonic(), 0.001)


class Wire:
    """A connected socket. Every method but `shutdown` is for one thread at a time.

    Parameters
    ----------
    handle : socket.socket
        Made non-blocking here.
    cancelled : threading.Event
        Once set, whatever waits raises Cancelled.
    """

    def __init__(self, handle: socket.socket, cancelled: threading.Event) -> None:
        handle.setblocking(False)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.cancelled = cancelled
        #: Octets handed to the kernel since this was last set to 0.
        self.sent = 0
        self.socket = handle
        self._tls: TlsConnection | None = None
        self._stream: socket.socket | TlsConnection = handle
        self._buffer = bytearray()
        self._quick_ack = quick_ack_of(self)

    def secure(self, tls: Tls, deadline: float) -> None:
        """Begin TLS. Raises OSError."""
        connection = self._stream = self._tls = tls.connection(self.socket)
        while True:
            self._quick_ack()
            try:
                connection.do_handshake()
                return
            except SSL.WantReadError:
                self._wait(select.POLLIN, deadline)
            except SSL.WantWriteError:
                self._wait(select.POLLOUT, deadline)
            except SSL.Error:
                raise ConnectionError(self.failure) from None

    @property
    def failure(self) -> str:
        """Why TLS failed; empty when it did not."""
        return f"TLS: {self._tls.failure}" if self._tls is not None and self._tls.failure else ""

    @property
    def is_readable(self) -> bool:
        """Whether the peer has sent something, or has closed."""
        if self._buffer or self._pending():
            return True
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        return bool(poller.poll(0))

    def _pending(self) -> bool:
        return self._tls is not None and self._tls.pending() > 0

    def _wait(self, events: int, deadline: float) -> None:
        wait_for(self.socket, events, deadline, self.cancelled)

    def read(self, count: int, deadline: float) -> bytes:
        """Exactly `count` octets. Raises TimeoutError at the deadline, ConnectionError at the end of the stream."""
        while len(self._buffer) < count:
            self._fill(deadline)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _fill(self, deadline: float) -> None:
        if self.cancelled.is_set():
            raise Cancelled
        self._quick_ack()
        try:
            data = self._stream.recv(_READ_SIZE)
        except (BlockingIOError, SSL.WantReadError):
            self._wait(select.POLLIN, deadline)
            return
        except SSL.WantWriteError:
            self._wait(select.POLLOUT, deadline)
            return
        except SSL.ZeroReturnError:
            data = b""
        except SSL.Error:
            raise ConnectionError(self.failure) from None
        self._quick_ack()
        if not data:
            raise ConnectionError("the peer has closed the connection")
        self._buffer += data

    def write(self, data: bytes, timeout: float) -> None:
        """All of `data`; `timeout` is the time within which the peer must take some of it. Raises OSError."""
        if self._tls is not None and not self._buffer:
            # A peer that refuses our certificate says so and closes; what it said is lost after a write that failed.
            self._take_waiting()
        view = memoryview(data)
        while view:
            deadline = deadline_after(timeout)
            try:
                count = self._stream.send(view)
            except (BlockingIOError, SSL.WantWriteError):
                self._wait(select.POLLOUT, deadline)
                continue
            except SSL.WantReadError:
                self._wait(select.POLLIN, deadline)
                continue
            except SSL.Error:
                raise ConnectionError(self.failure or "the peer has closed the connection") from None
            self.sent += count
            view = view[count:]

    def _take_waiting(self) -> None:
        """Take what is there, without waiting. Raises ConnectionError when it tells that TLS has failed."""
        try:
            self._buffer += self._stream.recv(_READ_SIZE)
        except (SSL.WantReadError, SSL.WantWriteError, SSL.ZeroReturnError):
            return
        except SSL.Error:
            raise ConnectionError(self.failure) from None

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """End the connection; a thread that waits for it notices."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(how)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._tls is not None:
            with contextlib.suppress(SSL.Error):
                self._tls.shutdown()
        self.shutdown()
        with contextlib.suppress(OSError):
            self.socket.close()


def wait_for(handle: socket.socket, events: int, deadline: float, cancelled: threading.Event) -> None:
    """Wait until `handle` is ready. Raises TimeoutError or Cancelled."""
    poller = select.poll()
    poller.register(handle, events)
    while True:
        if cancelled.is_set():
            raise Cancelled
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer within the time limit")
        if poller.poll(min(left, _LOOK_INTERVAL) * 1000):
            return


def connect(host: str, port: int, deadline: float, cancelled: threading.Event) -> Wire:
    """A connection to the first address of a host that takes one. Raises OSError."""
    failure: OSError = OSError("the host has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            handle = socket.socket(family, kind, protocol)
        except OSError as e:
            failure = e
            continue
        try:
            _connect(handle, address, deadline, cancelled)
            return Wire(handle, cancelled)
        except (Cancelled, TimeoutError):
            handle.close()
            raise
        except OSError as e:
            handle.close()
            failure = e
    raise failure


def _connect(handle: socket.socket, address: object, deadline: float, cancelled: threading.Event) -> None:
    handle.setblocking(False)
    try:
        handle.connect(address)  # type: ignore[arg-type]
    except BlockingIOError:
        wait_for(handle, select.POLLOUT, deadline, cancelled)
        error = handle.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "the connection failed") from None
