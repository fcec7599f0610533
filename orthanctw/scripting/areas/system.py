"""The server itself, its errors and its log of actions."""

from __future__ import annotations

import os
import threading
import uuid
from typing import Final

from twisted.logger import Logger

from orthanctw.error_codes import ErrorCode, ForeignCode
from orthanctw.scripting.exposure import Data, exposed, failure
from orthanctw.scripting.host import Host

_log: Final = Logger(namespace="orthanctw.plugins")
#: Statuses that mean a failure.
_FAILURES: Final = range(400, 600)


class SystemArea:
    """``orthanc.CheckVersion``, ``orthanc.Get...`` of the server, ``orthanc.RegisterErrorCode`` and the like."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._facts = host.services.facts

    @exposed
    def CheckVersion(self, /) -> int:
        """1: the server has what the module offers."""
        return 1

    @exposed
    def CheckVersionAdvanced(self, expected_major: int, expected_minor: int, expected_revision: int, /) -> int:
        """1 when the version that clients see is that one or a later one, else 0."""
        return int(self._facts.version >= (expected_major, expected_minor, expected_revision))

    @exposed
    def GenerateUuid(self, /) -> str:
        """A random UUID."""
        return str(uuid.uuid4())

    @exposed
    def GetCommandLineArgument(self, argument: int, /) -> str:
        """An argument of the command line, from 0."""
        if not 0 <= argument < len(self._facts.arguments):
            raise failure(ErrorCode.INTERNAL_ERROR, "There is no such argument")
        return self._facts.arguments[argument]

    @exposed
    def GetCommandLineArgumentsCount(self, /) -> int:
        """Number of arguments of the command line, without the program."""
        return len(self._facts.arguments)

    @exposed
    def GetConfiguration(self, /) -> str:
        """The configuration as JSON, as it was read: all files merged, with passwords."""
        return self._facts.configuration

    @exposed
    def GetConfigurationPath(self, /) -> str:
        """The file or folder of the configuration. OrthancException when there is none."""
        if not self._facts.configuration_path:
            raise failure(ErrorCode.INTERNAL_ERROR, "The server runs without a configuration file")
        return self._facts.configuration_path

    @exposed
    def GetDatabaseServerIdentifier(self, /) -> str:
        """``DatabaseServerIdentifier``."""
        return self._facts.identifier

    @exposed
    def GetErrorDescription(self, error: int, /) -> str:
        """The text of an error code, of those of scripts, too."""
        known = self._host.registry.codes.get(error) or ErrorCode._value2member_map_.get(error)
        return str(getattr(known, "message", "Unknown error code"))

    @exposed
    def GetExpectedDatabaseVersion(self, /) -> int:
        """``DatabaseVersion`` of ``/system``."""
        return self._facts.database_version

    @exposed
    def GetOrthancDirectory(self, /) -> str:
        """The folder of the program."""
        return os.path.dirname(self._facts.program)

    @exposed
    def GetOrthancPath(self, /) -> str:
        """The program."""
        return self._facts.program

    @exposed
    def SetCurrentThreadName(self, thread_name: str, /) -> None:
        """Name the present thread."""
        threading.current_thread().name = thread_name

    @exposed
    def ClearCurrentThreadName(self, /) -> None:
        """Take the name of the present thread away."""
        thread = threading.current_thread()
        thread.name = f"Thread-{thread.ident}"

    @exposed
    def RegisterErrorCode(self, code: int, http_status: int, message: str, /) -> None:
        """Add an error: a callback that raises ``OrthancException(code, details)`` is answered with it.

        OrthancException when the status is none of a failure.
        """
        if http_status not in _FAILURES:
            raise failure(ErrorCode.PARAMETER_OUT_OF_RANGE, f"Not the HTTP status of a failure: {http_status}")
        self._host.registering.codes[code] = ForeignCode(code, http_status, message)

    @exposed
    def EmitAuditLog(
        self,
        source_plugin: str,
        user_id: str,
        resource_type: int,
        resource_id: str,
        action: str,
        log_data: Data,
        /,
    ) -> None:
        """Tell who has done what, in the log; `log_data` may say anything and is not shown."""
        _log.info(
            "Audit: {plugin}: {user}: {action} {kind}/{resource} ({size} bytes of data)",
            plugin=source_plugin,
            user=user_id,
            action=action,
            kind=resource_type,
            resource=resource_id,
            size=len(log_data),
        )
