"""Names in folders: kept, since a name can only be told from all that lies in its folder (level 4).

What is kept grows by what is new, and loses what is deleted. Values that change otherwise are read anew after a while.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import attrs
from twisted.internet.defer import DeferredLock
from zope.interface import implementer

from orthanctw.archives.names import Unique
from orthanctw.interfaces import IChangeListener
from orthanctw.model import Change, ChangeType

_T = TypeVar("_T")
#: Resources that are read, named or shown between two turns of the reactor.
_BATCH: Final = 100
#: Names in one folder; what is beyond is not shown.
MAXIMUM_NAMES: Final = 100_000
#: Folders, and names in all of them, that are kept.
_FOLDERS_KEPT: Final = 100
_NAMES_KEPT: Final = 200_000
#: Seconds for which names are kept.
_LIFETIME: Final = 60.0


@attrs.frozen
class Named:
    """The name that a resource would have alone in its folder, and which of several folders that is."""

    public_id: str
    name: str
    group: str = ""


class Listing:
    """The names in one folder, or in several that are filled together, in the order of creation.

    Parameters
    ----------
    identify : callable
        Public ids of all that is there.
    describe : callable
        What a few of them are called; those that have no name are left out.
    """

    def __init__(
        self,
        identify: Callable[[], Awaitable[Sequence[str] | None]],
        describe: Callable[[Sequence[str]], Awaitable[Sequence[Named]]],
    ) -> None:
        self._identify = identify
        self._describe = describe
        #: Public ids by name, by folder.
        self._groups: dict[str, dict[str, str]] = {}
        self._taken: dict[str, Unique] = {}
        #: Folder and name by public id; None for what has no name.
        self._known: dict[str, tuple[str, str] | None] = {}
        self._lock = DeferredLock()

    def __len__(self) -> int:
        return len(self._known)

    async def refresh(self) -> None:
        """Take up what is new."""
        # Two at once would give everything a second name.
        await self._lock.acquire()
        try:
            new = [public_id for public_id in await self._identify() or () if public_id not in self._known]
            for batch in batches(new[: MAXIMUM_NAMES - len(self._known)]):
                described = await self._describe(batch)
                self._known.update(dict.fromkeys(batch))
                for named in described:
                    self._add(named)
        finally:
            self._lock.release()

    def _add(self, named: Named) -> None:
        taken = self._taken.setdefault(named.group, Unique(" ({})", first=1))
        name = taken.take(named.name)
        self._known[named.public_id] = (named.group, name)
        self._groups.setdefault(named.group, {})[name] = named.public_id

    def forget(self, public_id: str) -> None:
        """A resource was deleted."""
        place = self._known.pop(public_id, None)
        if place is not None:
            group, name = place
            del self._groups[group][name]
            self._taken[group].give_back(name)
            if not self._groups[group]:
                del self._groups[group], self._taken[group]

    async def groups(self) -> list[str]:
        """The folders that are not empty."""
        await self.refresh()
        return list(self._groups)

    async def names(self, group: str = "") -> Mapping[str, str]:
        """Public ids by name."""
        await self.refresh()
        return dict(self._groups.get(group, {}))

    async def find(self, name: str, group: str = "") -> str | None:
        """The public id that a name stands for."""
        if name not in self._groups.get(group, {}):
            await self.refresh()
        return self._groups.get(group, {}).get(name)


@implementer(IChangeListener)
class Listings:
    """The listings that were asked for lately.

    Parameters
    ----------
    clock : callable
        Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[float, Listing]] = OrderedDict()

    def get(self, key: tuple[str, str], make: Callable[[], Listing]) -> Listing:
        """The listing of a folder, which may be older than what has just been stored."""
        now = self._clock()
        made, listing = self._kept.get(key) or (now, make())
        if now - made > _LIFETIME:
            made, listing = now, make()
        self._kept[key] = (made, listing)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self._are_too_many():
            self._kept.popitem(last=False)
        return listing

    def _are_too_many(self) -> bool:
        return len(self._kept) > _FOLDERS_KEPT or sum(len(listing) for _, listing in self._kept.values()) > _NAMES_KEPT

    def changed(self, change: Change) -> None:
        if change.change_type is ChangeType.DELETED:
            for _, listing in self._kept.values():
                listing.forget(change.public_id)


def batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """As many at a time as may be worked on without a break."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
