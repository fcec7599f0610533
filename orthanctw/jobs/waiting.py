"""Jobs that wait for a slot."""

from __future__ import annotations

import heapq
from typing import Final

from orthanctw.jobs.record import JobRecord
from orthanctw.model import JobState

#: Stale entries that are not worth a new heap.
_SLACK: Final = 64


class WaitingJobs:
    """A queue: jobs of higher priority first, then those that came first. A job leaves it from any place."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, JobRecord]] = []
        #: The ticket of each job that waits; entries of the heap with another one are stale.
        self._tickets: dict[JobRecord, int] = {}
        self._last_ticket = 0
        self._aside: list[JobRecord] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, record: JobRecord) -> bool:
        return record in self._tickets

    def add(self, record: JobRecord) -> None:
        """To the end of those of its priority; one that waits already keeps its place."""
        if record in self._tickets:
            return
        self._last_ticket += 1
        self._tickets[record] = self._last_ticket
        heapq.heappush(self._heap, (-record.priority, self._last_ticket, record))

    def put_aside(self, record: JobRecord) -> None:
        """As `add`, but not before `bring_back`."""
        self._aside.append(record)

    def bring_back(self) -> None:
        """Let those wait that were put aside and are still pending."""
        aside, self._aside = self._aside, []
        for record in aside:
            if record.state is JobState.PENDING:
                self.add(record)

    def remove(self, record: JobRecord) -> None:
        """Take a job out, if it waits."""
        if self._tickets.pop(record, None) is None or len(self._heap) < 2 * len(self._tickets) + _SLACK:
            return
        # Jobs that are paused and resumed again and again must not fill the memory.
        self._heap = [entry for entry in self._heap if self._tickets.get(entry[2]) == entry[1]]
        heapq.heapify(self._heap)

    def take(self) -> JobRecord | None:
        """The next one, which waits no longer; None when there is none."""
        while self._heap:
            _, ticket, record = heapq.heappop(self._heap)
            if self._tickets.get(record) == ticket:
                del self._tickets[record]
                return record
        return None
