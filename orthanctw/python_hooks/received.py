"""Python scripts change what comes in, before it is stored (level 4)."""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ServiceUnavailable
from orthanctw.interfaces import IReceivedHook
from orthanctw.model import Origin
from orthanctw.scripting import Host, Kind
from orthanctw.scripting.instances import origin_number

log = Logger(namespace="orthanctw.plugins")
#: Numbers of ``ReceivedInstanceAction``.
_KEEP_AS_IS, _MODIFY, _DISCARD = 1, 2, 3
_KIND: Final = "received instance"


@implementer(IReceivedHook)
class PythonReceived:
    """Asks the callbacks of ``RegisterReceivedInstanceCallback``, in the order of the scripts.

    One that fails, or does not answer with an action, leaves the object as it is.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def is_needed(self) -> bool:
        return self._host.registry.has(Kind.RECEIVED_INSTANCE)

    async def revise(self, content: bytes, origin: Origin) -> bytes | None:
        revised: bytes | None = content
        for registration in self._host.registry.all(Kind.RECEIVED_INSTANCE):
            if revised is not None:
                try:
                    answer = await self._host.ask(_KIND, registration.callbacks[0], revised, origin_number(origin))
                except ServiceUnavailable:
                    raise
                except OrthancError:
                    # It is in the log.
                    continue
                revised = _result(answer, revised)
        return revised


def _result(answer: object, content: bytes) -> bytes | None:
    """What a callback has made of an object. OrthancError when it changes it into no bytes, or by an unknown action."""
    action, data = answer if isinstance(answer, tuple) and len(answer) == 2 else (None, None)
    if not isinstance(action, int):
        log.error("The Python callback for received instances has answered no action; the object stays as it is")
        return content
    if action == _KEEP_AS_IS:
        return content
    if action == _DISCARD:
        return None
    if action != _MODIFY or not isinstance(data, bytes) or not data:
        raise OrthancError("A script has changed an object into nothing, or in an unknown way", code=ErrorCode.PLUGIN)
    return data
