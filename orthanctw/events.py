"""Telling listeners of changes and jobs, after the commit and in its order (level 4)."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from orthanctw.interfaces import IChangeListener, IJobListener
from orthanctw.model import Change, JobEvent

log = Logger(namespace="orthanctw.generic")


class EventBus:
    """Listeners are told on the reactor, each change once; an error of one listener is logged and stops nobody."""

    def __init__(self) -> None:
        self._listeners: list[IChangeListener] = []
        self._job_listeners: list[IJobListener] = []

    def subscribe(self, listener: IChangeListener) -> None:
        self._listeners.append(listener)

    def publish(self, changes: Iterable[Change]) -> None:
        """To be called in the order of the commits."""
        for change in changes:
            for listener in self._listeners:
                try:
                    listener.changed(change)
                except Exception:  # noqa: BLE001 - a listener is foreign code
                    log.failure("A listener failed on {change}", change=change.change_type.title)

    def subscribe_to_jobs(self, listener: IJobListener) -> None:
        self._job_listeners.append(listener)

    def publish_job(self, event: JobEvent) -> None:
        """To be called when what happened is durable."""
        for listener in self._job_listeners:
            try:
                listener.job_changed(event)
            except Exception:  # noqa: BLE001 - a listener is foreign code
                log.failure("A listener failed on {event}", event=event.event_type.value)
