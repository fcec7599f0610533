"""Python scripts decide about objects of C-STORE (level 4)."""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import DIMSE_OUT_OF_RESOURCES, OrthancError
from orthanctw.interfaces import IIngestFilter, Received
from orthanctw.python_hooks.answers import described
from orthanctw.scripting import Host, Kind
from orthanctw.scripting.instances import DicomInstance

log = Logger(namespace="orthanctw.plugins")
_KIND: Final = Kind.CSTORE_FILTER


@implementer(IIngestFilter)
class PythonStoreFilter:
    """Asks the callbacks of ``RegisterIncomingCStoreInstanceFilter``, in the order of the scripts.

    Whatever goes wrong leaves the object out, and a peer may send it again (0xA700), as Orthanc has it.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def is_needed(self) -> bool:
        return self._host.registry.has(_KIND)

    async def accepts(self, received: Received) -> bool:
        return True

    async def store_status(self, received: Received) -> int:
        for registration in self._host.registry.all(_KIND):
            instance = DicomInstance(
                self._host, lambda: self._host.wait(received.content.read), origin=received.origin
            )
            try:
                answer = await self._host.ask(_KIND.value, registration.callbacks[0], instance)
            except OrthancError as e:
                e.dimse_status = DIMSE_OUT_OF_RESOURCES
                raise
            finally:
                instance.end()
            if status := _status(answer):
                return status
        return 0


def _status(answer: object) -> int:
    if isinstance(answer, int) and 0 <= answer <= 0xFFFF:
        return int(answer)
    log.error("A filter of C-STORE must answer 0 to 65535, not {answer}", answer=described(answer))
    raise OrthancError(
        "A script has answered no DIMSE status", code=ErrorCode.PLUGIN, dimse_status=DIMSE_OUT_OF_RESOURCES
    )
