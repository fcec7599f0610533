"""Telling listeners of changes, after the commit and in its order (level 4)."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from orthanctw.interfaces import IChangeListener
from orthanctw.model import Change

log = Logger(namespace="orthanctw.generic")


class EventBus:
    """Listeners are told on the reactor, each change once; an error of one listener is logged and stops nobody."""

    def __init__(self) -> None:
        self._listeners: list[IChangeListener] = []

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
