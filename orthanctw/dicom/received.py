"""Objects as they arrive over an association, in either role: the data set of a C-STORE-RQ streams into a body."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Final, Protocol, TypeVar

import attrs
from twisted.internet.interfaces import IPushProducer

from orthanctw.bodies import Body, BodyLimits
from orthanctw.dicom.dimse import AFFECTED_SOP_CLASS, AFFECTED_SOP_INSTANCE, INVALID_OBJECT_INSTANCE, Command
from orthanctw.dicom.filemeta import file_head
from orthanctw.errors import OrthancError
from orthanctw.interfaces import ISpool
from orthanctw.model import Origin

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*\Z")
_T = TypeVar("_T", covariant=True)


class Receive(Protocol[_T]):
    """Lets a received object in; fails with an OrthancError whose `dimse_status` is the answer."""

    def __call__(
        self, content: bytes | ISpool, origin: Origin, *, announced: tuple[str, str]
    ) -> Awaitable[_T]:
        """`announced` are the SOP class and instance UID of the request, which the object must have."""


def is_uid(text: str) -> bool:
    """Whether text has the form of a UID (PS3.5 section 9.1)."""
    return len(text) <= 64 and _UID.match(text) is not None


class ReceivedObject:
    """The data set of one C-STORE-RQ; a `DataSink`.

    Parameters
    ----------
    producer : IPushProducer
        The connection, paused while the disk is behind.
    """

    def __init__(
        self, command: Command, transfer_syntax: str, limits: BodyLimits, producer: IPushProducer
    ) -> None:
        self.sop_class = command.text(AFFECTED_SOP_CLASS)
        self.sop_instance = command.text(AFFECTED_SOP_INSTANCE)
        self._body = Body(limits, producer)
        self._refused = not (is_uid(self.sop_class) and is_uid(self.sop_instance))
        if not self._refused:
            self._body.write(file_head(self.sop_class, self.sop_instance, transfer_syntax))

    def write(self, data: bytes) -> None:
        if not self._refused:
            self._body.write(data)

    def discard(self) -> None:
        self._body.discard()

    async def deliver(self, receive: Receive[_T], origin: Origin) -> _T:
        """Let the object in. Fails with an OrthancError whose `dimse_status` is the answer."""
        try:
            if self._refused:
                raise OrthancError("A UID of the request is not one", dimse_status=INVALID_OBJECT_INSTANCE)
            await self._body.complete()
            return await receive(self._body.content(), origin, announced=(self.sop_class, self.sop_instance))
        finally:
            self._body.discard()


@attrs.frozen
class Unwanted:
    """Takes the data set of a request that will be refused, and forgets it; a `DataSink`.

    `status` and `comment` are the answer to a C-STORE.
    """

    status: int = 0
    comment: str = ""

    def write(self, data: bytes) -> None:
        """Nothing is kept."""

    def discard(self) -> None:
        """Nothing was kept."""
