"""Memory for what was read, drawn or transcoded lately, by the file that it was made of (level 2).

Files are named by UUIDs that are never used again, so what is kept of one never becomes wrong. Whoever asks has looked
the file up in the index before: nothing is found of an object that was deleted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from functools import partial
from threading import Lock
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import attrs

from orthanctw.metrics import Metrics

T = TypeVar("T")
#: What an entry costs beside its value, in bytes: key, places in the tables, small fields.
OVERHEAD: Final = 1024
#: Part of a cache that one value may take.
_SHARE: Final = 16
_MEGABYTE: Final = 1 << 20

Key = tuple[str, Hashable]


class Cache(Generic[T]):
    """Values of bounded size together, of which those go first that were not asked for longest. Any thread may ask.

    Parameters
    ----------
    limit : int
        Bytes of all values and their keys; 0 keeps nothing, and counts nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        #: Bytes of the largest value that is kept.
        self.largest = max(0, limit // _SHARE - OVERHEAD)
        #: Bytes that are taken.
        self.size = 0
        self.hits = 0
        self.misses = 0
        self._lock = Lock()
        self._values: OrderedDict[Key, tuple[T, int]] = OrderedDict()
        self._details: dict[str, set[Hashable]] = {}
        #: Values that are being made, by the file that they are made of.
        self._making: dict[str, set[Entry[T]]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def takes(self, size: int) -> bool:
        """Whether a value of so many bytes would be kept."""
        return 0 <= size <= self.largest and self.limit > 0

    def find(self, uuid: str, detail: Hashable = None) -> T | None:
        """What is kept of a file; `detail` says what of it. Not to be found is no miss yet."""
        with self._lock:
            found = self._values.get((uuid, detail))
            if found is None:
                return None
            self._values.move_to_end((uuid, detail))
            self.hits += 1
            return found[0]

    def entry(self, uuid: str, detail: Hashable = None) -> Entry[T]:
        """For a ``with`` block that uses a value, or makes it and has it kept."""
        return Entry(self, uuid, detail)

    def drop(self, uuids: Iterable[str]) -> None:
        """These files are gone: nothing of them is kept, nor will be what is being made of them."""
        with self._lock:
            for uuid in uuids:
                for detail in tuple(self._details.get(uuid, ())):
                    self._remove((uuid, detail))
                for entry in self._making.pop(uuid, ()):
                    entry.is_stale = True

    # For entries

    def begin(self, entry: Entry[T]) -> None:
        """A value is about to be made."""
        if self.limit > 0:
            with self._lock:
                self.misses += 1
                self._making.setdefault(entry.uuid, set()).add(entry)

    def end(self, entry: Entry[T]) -> None:
        """A value is made, or could not be."""
        with self._lock:
            making = self._making.get(entry.uuid)
            if making is not None:
                making.discard(entry)
                if not making:
                    del self._making[entry.uuid]

    def put(self, entry: Entry[T], value: T, size: int) -> None:
        """Keep a value, unless it is too large, or its file has gone meanwhile."""
        key = (entry.uuid, entry.detail)
        with self._lock:
            if entry.is_stale or not self.takes(size):
                return
            if key in self._values:
                self._remove(key)
            size += OVERHEAD
            while self.size + size > self.limit:
                self._remove(next(iter(self._values)))
            self._values[key] = (value, size)
            self._details.setdefault(entry.uuid, set()).add(entry.detail)
            self.size += size

    def _remove(self, key: Key) -> None:
        self.size -= self._values.pop(key)[1]
        details = self._details[key[0]]
        details.discard(key[1])
        if not details:
            del self._details[key[0]]


class Entry(Generic[T]):
    """A place in a cache, within a ``with`` block. `value` is None when it is to be made."""

    def __init__(self, cache: Cache[T], uuid: str, detail: Hashable) -> None:
        self._cache = cache
        self.uuid = uuid
        self.detail = detail
        self.is_stale = False
        self.value: T | None = None

    def __enter__(self) -> Entry[T]:
        self.value = self._cache.find(self.uuid, self.detail)
        if self.value is None:
            self._cache.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cache.end(self)

    def keep(self, value: T, size: int) -> None:
        """Have the value kept; `size` is that of its bytes."""
        self._cache.put(self, value, size)


@attrs.frozen(kw_only=True)
class Caches:
    """The caches of a server: of uncompressed files, of frames as pictures and numbers, of transcoded objects."""

    storage: Cache[Any]
    parser: Cache[Any]
    transcoder: Cache[Any]

    @classmethod
    def of_megabytes(cls, *, storage: int, parser: int, transcoder: int) -> Caches:
        """Caches of these sizes."""
        sizes = {"storage": storage, "parser": parser, "transcoder": transcoder}
        return cls(**{name: Cache(size * _MEGABYTE) for name, size in sizes.items()})

    def drop(self, uuids: Iterable[str]) -> None:
        """See `Cache.drop`."""
        gone = tuple(uuids)
        for cache in (self.storage, self.parser, self.transcoder):
            cache.drop(gone)

    def publish(self, metrics: Metrics) -> None:
        """Have the metrics tell of all caches."""
        named = {"storage": self.storage, "dicom_parser": self.parser, "transcoder": self.transcoder}
        for name, cache in named.items():
            metrics.gauge(f"orthanc_{name}_cache_count", partial(len, cache))
            metrics.gauge(f"orthanc_{name}_cache_hit_count", partial(getattr, cache, "hits"))
            metrics.gauge(f"orthanc_{name}_cache_miss_count", partial(getattr, cache, "misses"))
            metrics.gauge(f"orthanc_{name}_cache_size_mb", partial(_megabytes, cache))


def _megabytes(cache: Cache[Any]) -> float:
    return cache.size / _MEGABYTE
