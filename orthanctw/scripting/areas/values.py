"""Values that scripts keep: global properties, key-value stores; and whether resources are stable."""

from __future__ import annotations

from collections import deque
from typing import Final

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.scripting.exposure import Data, exposed, exposed_class, failure
from orthanctw.scripting.host import Host

#: Global properties below belong to the server.
_FIRST_PROPERTY: Final = 1024
#: Keys that are read at a time.
_BATCH: Final = 100


class ValueArea:
    """``orthanc.StoreKeyValue`` and the like. What is written is durable when a function returns."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._index = host.services.index

    @exposed
    def GetGlobalProperty(self, property: int, default_value: str, /) -> str:
        """A global property, or what is given for one that is not set."""
        if property < _FIRST_PROPERTY:
            return default_value
        value: str | None = self._host.wait(self._index.global_property, property)
        return default_value if value is None else value

    @exposed
    def SetGlobalProperty(self, property: int, value: str, /) -> None:
        """Write a global property; their numbers begin at 1024."""
        if property < _FIRST_PROPERTY:
            raise failure(ErrorCode.UNKNOWN_PLUGIN_SERVICE, "Numbers of global properties begin at 1024")
        self._host.wait(self._index.set_global_property, property, value)

    @exposed
    def StoreKeyValue(self, store_id: str, key: str, value: Data, /) -> None:
        """Write a value into a store."""
        self._host.wait(self._index.store_value, store_id, key, value)

    @exposed
    def GetKeyValue(self, store_id: str, key: str, /) -> bytes | None:
        """The value of a key, or None."""
        value: bytes | None = self._host.wait(self._index.value, store_id, key)
        return value

    @exposed
    def DeleteKeyValue(self, store_id: str, key: str, /) -> None:
        """Delete a key; nothing happens when it is not there."""
        self._host.wait(self._index.delete_value, store_id, key)

    @exposed
    def CreateKeysValuesIterator(self, store_id: str, /) -> KeysValuesIterator:
        """An iterator over a store, before its first key."""
        return KeysValuesIterator(self._host, store_id)

    @exposed
    def SetStableStatus(self, resource_id: str, stable_status: int, /) -> tuple[int, int]:
        """Call a resource stable or unstable: an ``ErrorCode``, and whether that changed something (0 or 1)."""
        if stable_status not in (0, 1):
            return int(ErrorCode.PARAMETER_OUT_OF_RANGE), 0
        try:
            changed = self._host.wait(self._host.services.set_stable, resource_id, stable_status == 0)
        except OrthancError as e:
            return int(e.code), 0
        return int(ErrorCode.SUCCESS), int(changed)


class KeysValuesIterator:
    """The keys of a store in their order, with the values that they have when their turn comes."""

    def __init__(self, host: Host, store: str) -> None:
        self._host = host
        self._store = store
        self._keys: deque[str] = deque()
        self._last: str | None = None
        self._item: tuple[str, bytes] | None = None

    @exposed
    def Next(self) -> bool:
        """Go to the next key; False at the end."""
        self._item = None
        while self._item is None:
            if not self._keys:
                index = self._host.services.index
                self._keys.extend(self._host.wait(index.keys, self._store, self._last, _BATCH))
            if not self._keys:
                return False
            self._last = self._keys.popleft()
            value: bytes | None = self._host.wait(self._host.services.index.value, self._store, self._last)
            # One that was deleted meanwhile is left out.
            if value is not None:
                self._item = (self._last, value)
        return True

    @exposed
    def GetKey(self) -> str | None:
        """The present key; None before the first and after the last one."""
        return None if self._item is None else self._item[0]

    @exposed
    def GetValue(self) -> bytes:
        """The present value."""
        if self._item is None:
            raise failure(ErrorCode.BAD_SEQUENCE_OF_CALLS, "There is no present key")
        return self._item[1]


exposed_class(KeysValuesIterator)
