"""Queues of values."""

from __future__ import annotations

from orthanctw.error_codes import ErrorCode
from orthanctw.scripting.exposure import Data, exposed, failure
from orthanctw.scripting.host import Host


class QueueArea:
    """``orthanc.EnqueueValue`` and the like. What is written is durable when a function returns.

    `origin` is a ``QueueOrigin``: 0 the front, 1 the back.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._index = host.services.index

    @exposed
    def EnqueueValue(self, queue_id: str, value: Data, /) -> None:
        """Append a value."""
        self._host.wait(self._index.enqueue, queue_id, value)

    @exposed
    def DequeueValue(self, queue_id: str, origin: int, /) -> bytes | None:
        """Take a value that nobody has reserved; None when there is none."""
        value: bytes | None = self._host.wait(self._index.dequeue, queue_id, _is_front(origin))
        return value

    @exposed
    def GetQueueSize(self, queue_id: str, /) -> int:
        """The number of values, reserved ones included."""
        size: int = self._host.wait(self._index.queue_size, queue_id)
        return size

    @exposed
    def ReserveQueueValue(self, queue_id: str, origin: int, release_timeout: int, /) -> tuple[bytes | None, int | None]:
        """Hide a value from others for so many seconds: it and its number, or two times None.

        It is gone after `AcknowledgeQueueValue`, and there again after the time.
        """
        if release_timeout < 0:
            raise failure(ErrorCode.PARAMETER_OUT_OF_RANGE, "A time cannot be negative")
        reserved: tuple[int, bytes] | None
        reserved = self._host.wait(self._index.reserve, queue_id, _is_front(origin), release_timeout)
        return (None, None) if reserved is None else (reserved[1], reserved[0])

    @exposed
    def AcknowledgeQueueValue(self, queue_id: str, value_id: int, /) -> None:
        """Remove a value that was reserved."""
        self._host.wait(self._index.acknowledge, queue_id, value_id)


def _is_front(origin: int) -> bool:
    if origin not in (0, 1):
        raise failure(ErrorCode.PARAMETER_OUT_OF_RANGE, "No QueueOrigin")
    return origin == 0
