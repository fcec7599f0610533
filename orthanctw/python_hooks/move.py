"""C-MOVE carried out by a script (level 4)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

from twisted.logger import Logger

from orthanctw.dicom.elements import Elements
from orthanctw.dicom.scuqueries import (
    ACCESSION_NUMBER,
    PATIENT_ID,
    QUERY_RETRIEVE_LEVEL,
    SERIES_INSTANCE_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
)
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadRequest, OrthancError, ServiceUnavailable
from orthanctw.python_hooks.answers import described
from orthanctw.python_hooks.busy import Busy
from orthanctw.querying import LEVELS, text_of
from orthanctw.scripting import Host, Kind, Registration
from orthanctw.scripting.connection import Asker, DicomConnection

log = Logger(namespace="orthanctw.plugins")
_KIND: Final = Kind.MOVE.value
_KEYS: Final = {
    "PatientID": PATIENT_ID,
    "AccessionNumber": ACCESSION_NUMBER,
    "StudyInstanceUID": STUDY_INSTANCE_UID,
    "SeriesInstanceUID": SERIES_INSTANCE_UID,
    "SOPInstanceUID": SOP_INSTANCE_UID,
}
#: The first form has one callback, which does all.
_WHOLE: Final = 1
#: The third one is given a connection in place of two AE titles.
_CONNECTED: Final = 3


class ScriptMove:
    """A C-MOVE: `begin`, then `apply` for each of the `size` sub-operations, then `end`, whatever happened."""

    def __init__(
        self, host: Host, busy: Busy, registration: Registration, asker: Asker, keywords: Mapping[str, Any]
    ) -> None:
        self.size = 1
        self._host = host
        self._busy = busy
        self._callbacks = registration.callbacks
        self._version = registration.version
        self._connection = DicomConnection(asker)
        self._keywords = keywords
        # What was given up may still run: the driver is let go after that.
        self._lock = threading.Lock()
        self._driver: Any = None
        self._is_made = False
        self._is_over = False

    async def begin(self) -> None:
        """Have the driver made, and asked for its size. OrthancError."""
        self._busy.check()
        if self._version == _WHOLE:
            return
        try:
            await self._ask(self._make)
        finally:
            self._connection.end()
        size = await self._ask(lambda: self._callbacks[1](self._driver))
        if not isinstance(size, int) or size < 0:
            log.error("A script must tell the number of sub-operations of a C-MOVE, not {size}", size=described(size))
            raise OrthancError("A script has told no number of sub-operations", code=ErrorCode.PLUGIN)
        self.size = size

    async def apply(self) -> None:
        """One sub-operation. OrthancError."""
        if self._version == _WHOLE:
            # All of the C-MOVE may take longer than a decision.
            await self._host.call(_KIND, self._busy.run, self._callbacks[0], urgent=True, **self._keywords)
        else:
            await self._ask(self._apply)

    def end(self) -> None:
        """Let the driver go, when nothing uses it any more."""
        self._is_over = True
        if self._version != _WHOLE:
            done = self._host.call(_KIND, self._busy.run, self._free, urgent=True)
            # It is in the log.
            done.addErrback(lambda _: None)

    async def _ask(self, function: Any) -> Any:
        try:
            return await self._host.ask(_KIND, self._busy.run, function)
        except ServiceUnavailable as e:
            raise OrthancError(e.details, code=ErrorCode.TIMEOUT) from e

    # On threads of scripts

    def _make(self) -> None:
        with self._lock:
            if self._is_over:
                return
            who = (self._connection,) if self._version == _CONNECTED else ()
            self._driver = self._callbacks[0](*who, **self._keywords)
            self._is_made = True

    def _apply(self) -> None:
        with self._lock:
            if self._is_made:
                self._callbacks[2](self._driver)

    def _free(self) -> None:
        with self._lock:
            if self._is_made:
                self._is_made = False
                self._callbacks[3](self._driver)


class PythonMove:
    """``RegisterMoveCallback``, in place of the server's C-MOVE SCP."""

    def __init__(self, host: Host, busy: Busy) -> None:
        self._host = host
        self._busy = busy

    def move(self, identifier: Elements, asker: Asker, target: str, message_id: int) -> ScriptMove | None:
        """A C-MOVE of a script, if there is one for it. BadRequest when the level is unknown or missing."""
        registration = self._host.registry.one(Kind.MOVE)
        if registration is None:
            return None
        level = LEVELS.get(text_of(identifier, QUERY_RETRIEVE_LEVEL).upper())
        if level is None:
            raise BadRequest("QueryRetrieveLevel is missing or unknown")
        keywords: dict[str, Any] = {"Level": level.name}
        keywords.update({name: text_of(identifier, tag) for name, tag in _KEYS.items()})
        if registration.version != _CONNECTED:
            keywords.update(OriginatorAET=asker.calling_aet, SourceAET=asker.called_aet)
        keywords.update(TargetAET=target, OriginatorID=message_id)
        return ScriptMove(self._host, self._busy, registration, asker, keywords)
