"""Large JSON is encoded off the reactor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orthanctw.rest.reply import JSON, Reply, encode, json_reply
from orthanctw.threads import NamedPool

#: Items of a list from which a thread encodes it; below, the hop would cost more.
THRESHOLD = 200


class JsonEncoder:
    """Encodes lists, the long ones on a thread."""

    def __init__(self, pool: NamedPool) -> None:
        self._pool = pool

    async def reply(self, items: Sequence[Any]) -> Reply:
        """A JSON answer that is an array."""
        if len(items) < THRESHOLD:
            return json_reply(items)
        return Reply(await self._pool.call(encode, items), JSON, compressible=True)
