"""The one exception tree: every failure carries an Orthanc code, an HTTP status and a DIMSE status.

Level 0: values. The REST edge renders these as Orthanc's error JSON, the DICOM edge as a failure status with an
error comment; nobody else translates errors.
"""

from __future__ import annotations

from typing import Any, ClassVar

from orthanctw.error_codes import ErrorCode, ForeignCode

#: C-STORE "Refused: Out of Resources" (PS3.4 table B.2-1).
DIMSE_OUT_OF_RESOURCES = 0xA700
#: "Error: Data Set does not match SOP Class" (PS3.4 table B.2-1).
DIMSE_DATA_SET_MISMATCH = 0xA900
#: "Error: Cannot understand" / "unable to process", the general failure (PS3.4 table B.2-1).
DIMSE_CANNOT_UNDERSTAND = 0xC000


class OrthancError(Exception):
    """A failure that a client is told of.

    Parameters
    ----------
    details : str
        Free text about this very failure; shown to the client, so never patient data or a path of the server.
    code : ErrorCode, optional
        When the class does not fix it.
    http_status : int, optional
        When it differs from the default of the code.
    dimse_status : int, optional
        When it differs from the class's (PS3.7 annex C).
    payload : JSON value, optional
        More about the failure, shown to the client as ``ErrorPayload``.
    """

    code: ErrorCode | ForeignCode = ErrorCode.INTERNAL_ERROR
    dimse_status: int = DIMSE_CANNOT_UNDERSTAND
    #: Headers of the answer to a client of the REST API.
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(
        self,
        details: str = "",
        *,
        code: ErrorCode | ForeignCode | None = None,
        http_status: int | None = None,
        dimse_status: int | None = None,
        payload: Any = None,
    ) -> None:
        if code is not None:
            self.code = code
        self.details = details
        self.payload = payload
        self.http_status = self.code.http_status if http_status is None else http_status
        if dimse_status is not None:
            self.dimse_status = dimse_status
        super().__init__(f"{self.code.message}: {details}" if details else self.code.message)


class EmptyAnswer(OrthancError):
    """A failure that Orthanc answers with a bare HTTP status: no error JSON, but maybe headers."""

    def __init__(self, http_status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(http_status=http_status)
        self.headers = headers


class BadRequest(OrthancError):
    code = ErrorCode.BAD_REQUEST


class BadParameterType(OrthancError):
    code = ErrorCode.BAD_PARAMETER_TYPE


class ParameterOutOfRange(OrthancError):
    code = ErrorCode.PARAMETER_OUT_OF_RANGE


class BadFileFormat(OrthancError):
    code = ErrorCode.BAD_FILE_FORMAT


class UnknownResource(OrthancError):
    code = ErrorCode.UNKNOWN_RESOURCE


class InexistentItem(OrthancError):
    code = ErrorCode.INEXISTENT_ITEM


class InexistentTag(OrthancError):
    code = ErrorCode.INEXISTENT_TAG


class UnknownDicomTag(OrthancError):
    """An unknown tag name: the client's mistake, so 400 where Orthanc answers 500 (docs/compatibility.md)."""

    code = ErrorCode.UNKNOWN_DICOM_TAG

    def __init__(self, details: str = "") -> None:
        super().__init__(details, http_status=400)


class BadRange(OrthancError):
    """A range of bytes that begins beyond their end; `size` is how many there are, if that is known."""

    code = ErrorCode.BAD_RANGE

    def __init__(self, details: str = "", size: int | None = None) -> None:
        super().__init__(details)
        if size is not None:
            self.headers = (("Content-Range", f"bytes */{size}"),)


class RevisionMismatch(OrthancError):
    code = ErrorCode.REVISION


class ForbiddenAccess(OrthancError):
    code = ErrorCode.FORBIDDEN_ACCESS


class NotImplementedHere(OrthancError):
    """A route or option that is known but not built."""

    code = ErrorCode.NOT_IMPLEMENTED

    def __init__(self, details: str = "") -> None:
        super().__init__(details, http_status=501)


class FullStorage(OrthancError):
    """A quota in ``Reject`` mode, or a disk without room: nothing was stored."""

    code = ErrorCode.FULL_STORAGE
    dimse_status = DIMSE_OUT_OF_RESOURCES

    def __init__(self, details: str = "") -> None:
        super().__init__(details, http_status=507)


class ReadOnly(OrthancError):
    """``ReadOnly`` is on: nothing is stored. A sender may try another server."""

    code = ErrorCode.READ_ONLY
    dimse_status = DIMSE_OUT_OF_RESOURCES

    def __init__(self, details: str = "") -> None:
        super().__init__(details, http_status=403)


class CannotWriteFile(OrthancError):
    code = ErrorCode.CANNOT_WRITE_FILE
    dimse_status = DIMSE_OUT_OF_RESOURCES


class InexistentFile(OrthancError):
    code = ErrorCode.INEXISTENT_FILE


class CorruptedFile(OrthancError):
    code = ErrorCode.CORRUPTED_FILE


class DatabaseError(OrthancError):
    code = ErrorCode.DATABASE


class RequestTooLarge(EmptyAnswer):
    """A body over ``MaximumRequestBodySizeMB`` (413, empty)."""

    status: ClassVar[int] = 413

    def __init__(self) -> None:
        super().__init__(self.status)


class ServiceUnavailable(OrthancError):
    """The server gives no answer now: it stops, is over its budget, or a deciding script was too slow. Repeat later."""

    code = ErrorCode.DATABASE_UNAVAILABLE
    dimse_status = DIMSE_OUT_OF_RESOURCES


class ConfigurationError(OrthancError):
    """The configuration cannot be used; ``problems`` are all of them, each with the path to its key."""

    code = ErrorCode.BAD_FILE_FORMAT

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)
