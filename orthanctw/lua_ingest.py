"""Lua's filters of what comes in (level 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from zope.interface import implementer

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import DIMSE_OUT_OF_RESOURCES, OrthancError, ParameterOutOfRange
from orthanctw.interfaces import IIngestFilter, Received
from orthanctw.lua import LuaEngine
from orthanctw.model import Origin, OriginKind

_FILTER: Final = "ReceivedInstanceFilter"
_STORE_FILTER: Final = "ReceivedCStoreInstanceFilter"
_ORIGIN_FIELDS: Final[Mapping[OriginKind, Sequence[tuple[str, str]]]] = {
    OriginKind.DICOM_PROTOCOL: (
        ("RemoteIp", "remote_ip"),
        ("RemoteAet", "remote_aet"),
        ("CalledAet", "called_aet"),
    ),
    OriginKind.REST_API: (("RemoteIp", "remote_ip"), ("Username", "username")),
}


def origin_table(origin: Origin) -> dict[str, str]:
    """Where an object comes from, as scripts are told."""
    table = {"RequestOrigin": origin.kind.value}
    for name, field in _ORIGIN_FIELDS.get(origin.kind, ()):
        table[name] = getattr(origin, field)
    return table


@implementer(IIngestFilter)
class LuaIngestFilter:
    """Asks ``ReceivedInstanceFilter`` and ``ReceivedCStoreInstanceFilter``.

    Whatever goes wrong leaves the object out, and a peer may send it again (0xA700), as Orthanc has it.
    """

    def __init__(self, engine: LuaEngine) -> None:
        self._engine = engine

    def is_needed(self) -> bool:
        return self._engine.has(_FILTER) or self._engine.has(_STORE_FILTER)

    async def accepts(self, received: Received) -> bool:
        answer = await self._ask(_FILTER, received)
        return answer is not False

    async def store_status(self, received: Received) -> int:
        answer = await self._ask(_STORE_FILTER, received)
        return 0 if answer is None else _status_of(answer)

    async def _ask(self, name: str, received: Received) -> Any:
        if not self._engine.has(name):
            return None
        info: dict[str, object] = {"HasPixelData": received.has_pixel_data}
        if received.transfer_syntax:
            info["TransferSyntaxUID"] = received.transfer_syntax
        try:
            return await self._engine.call_filter(name, received.tags, origin_table(received.origin), info)
        except OrthancError as e:
            e.dimse_status = DIMSE_OUT_OF_RESOURCES
            raise


def _status_of(answer: object) -> int:
    """A DIMSE status. OrthancError for what is no integer, ParameterOutOfRange for what has more than 16 bits."""
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    if not isinstance(answer, int) or isinstance(answer, bool):
        raise OrthancError(
            f"{_STORE_FILTER} must return an integer",
            code=ErrorCode.LUA_BAD_OUTPUT,
            dimse_status=DIMSE_OUT_OF_RESOURCES,
        )
    if not 0 <= answer <= 0xFFFF:
        raise ParameterOutOfRange(
            f"{_STORE_FILTER} must return 0 to 65535", dimse_status=DIMSE_OUT_OF_RESOURCES
        )
    return answer
