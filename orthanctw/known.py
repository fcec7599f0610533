"""Remote servers by the names that they are known by: those of the configuration, or those kept in the index (level 4).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, TypeVar

import attrs
import orjson
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from orthanctw.errors import BadFileFormat, InexistentItem, ParameterOutOfRange
from orthanctw.interfaces import IIndex

T = TypeVar("T")
log = Logger(namespace="orthanctw.generic")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+\Z")


@attrs.frozen(kw_only=True)
class Kept(Generic[T]):
    """How remote servers are kept in the index.

    Parameters
    ----------
    title : str
        What they are called in the log.
    number : int
        Global property that they are kept in.
    parse, write : callable
        From JSON and to it. `parse` raises BadFileFormat or ParameterOutOfRange.
    """

    title: str
    number: int
    parse: Callable[[object], T]
    write: Callable[[T], Any]


class Known(Generic[T]):
    """Remote servers by name. What is changed lasts until the next start, or for good when the index keeps them.

    `kept` is None unless it does; then `configured` does not count.
    """

    def __init__(self, index: IIndex, kept: Kept[T] | None, configured: Mapping[str, T]) -> None:
        self._index = index
        self._kept = kept
        self._known: dict[str, T] = dict(configured) if kept is None else {}
        self._strange: dict[str, Any] = {}
        self._lock = DeferredLock()
        #: Called after a change.
        self.changed: Callable[[], None] = lambda: None

    async def load(self) -> None:
        """Read what the index keeps."""
        if self._kept is None:
            return
        text: str | None = await self._index.global_property(self._kept.number)
        try:
            stored = orjson.loads(text) if text else {}
        except ValueError:
            stored = None
        if not isinstance(stored, dict):
            log.error("{title} in the index: they cannot be read", title=self._kept.title)
            return
        for name, value in stored.items():
            try:
                self._known[name] = self._kept.parse(value)
            except (BadFileFormat, ParameterOutOfRange) as e:
                # Kept as it is: another version may understand it.
                self._strange[name] = value
                log.error(
                    "{title} in the index: {name} cannot be used: {reason}",
                    title=self._kept.title,
                    name=name,
                    reason=e.details,
                )

    def all(self) -> Mapping[str, T]:
        """Those known now."""
        return self._known

    def get(self, name: str) -> T:
        """One of them. InexistentItem when it is unknown."""
        found = self._known.get(name)
        if found is None:
            raise InexistentItem("Nothing of this name is known")
        return found

    async def put(self, name: str, value: T) -> None:
        """Add or replace. BadFileFormat for a name that cannot be one."""
        if not _NAME.match(name):
            raise BadFileFormat("A name has letters, digits, - and _ only")
        await self._keep(name, value)

    async def delete(self, name: str) -> None:
        """Remove. InexistentItem when it is unknown."""
        self.get(name)
        await self._keep(name, None)

    async def _keep(self, name: str, value: T | None) -> None:
        """Set or drop one; durable first."""
        await self._lock.acquire()
        try:
            known = {key: other for key, other in self._known.items() if key != name}
            if value is not None:
                known[name] = value
            if self._kept is not None:
                self._strange.pop(name, None)
                stored = {**self._strange, **{key: self._kept.write(other) for key, other in known.items()}}
                await self._index.set_global_property(self._kept.number, orjson.dumps(stored).decode("utf-8"))
            self._known = known
            self.changed()
        finally:
            self._lock.release()
