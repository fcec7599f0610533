"""A Python script keeps files (level 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.logger import Logger
from zope.interface import implementer

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import CorruptedFile, FullStorage, InexistentFile, OrthancError, ServiceUnavailable
from orthanctw.interfaces import IIndex, IScriptedFiles
from orthanctw.model import Attachment, AttachmentType, Compression
from orthanctw.scripting import Host, Kind, Registration
from orthanctw.scripting.instances import DicomInstance

log = Logger(namespace="orthanctw.plugins")
#: Numbers of ``CompressionType``.
_COMPRESSIONS: Final = {Compression.NONE: 4, Compression.ZLIB_WITH_SIZE: 1}
_CREATE, _READ, _REMOVE = "storage create", "storage read", "storage remove"
#: What is removed until the index is told of it.
_BATCH: Final = 50


@implementer(IScriptedFiles)
class PythonFiles:
    """Calls the callbacks of ``RegisterStorageArea`` or ``RegisterStorageArea3``.

    Before a script is given something, the index has noted it as one to be removed: of whatever is interrupted between
    there and the commit, the next start has the script remove it.
    """

    def __init__(self, host: Host, index: IIndex) -> None:
        self._host = host
        self._index = index

    @property
    def _registration(self) -> Registration | None:
        return self._host.registry.one(Kind.STORAGE_AREA)

    def is_active(self) -> bool:
        return self._registration is not None

    def reads_ranges(self) -> bool:
        registration = self._registration
        return registration is not None and registration.version >= 3

    def create(self, uuid: str, content_type: int, compression: Compression, stored: bytes, content: bytes) -> bytes:
        registration = self._there()
        create = registration.callbacks[0]
        kind = _content_type(content_type)
        self._host.wait(self._index.note_scripted, uuid, content_type, b"")
        try:
            if registration.version < 3:
                self._ask(_CREATE, create, uuid, kind, stored)
                return b""
            instance = DicomInstance(self._host, content if content_type == AttachmentType.DICOM else None)
            answer = self._ask(_CREATE, _borrowing, create, uuid, kind, _COMPRESSIONS[compression], stored, instance)
            code, custom_data = _pair(answer, _CREATE)
            _check(code, _CREATE)
        except ServiceUnavailable:
            # It may be there nevertheless, or come to be there.
            raise
        except OrthancError:
            self._host.wait(self._index.forget_scripted, [uuid])
            raise
        if custom_data is not None and not isinstance(custom_data, bytes):
            raise _wrong(_CREATE)
        if custom_data:
            self._host.wait(self._index.note_scripted, uuid, content_type, custom_data)
        return custom_data or b""

    def read(self, attachment: Attachment, offset: int, length: int) -> bytes:
        registration = self._there()
        read = registration.callbacks[1]
        kind = _content_type(attachment.content_type)
        if registration.version < 3:
            content = self._ask(_READ, read, attachment.uuid, kind)
            if not isinstance(content, bytes):
                raise _wrong(_READ)
            if len(content) != attachment.compressed_size:
                raise CorruptedFile("The script has not as many bytes as the index says")
            return content[offset : offset + length] if length < len(content) else content
        answer = self._ask(_READ, read, attachment.uuid, kind, offset, length, attachment.custom_data)
        code, piece = _pair(answer, _READ)
        _check(code, _READ)
        if not isinstance(piece, bytes) or len(piece) != length:
            raise _wrong(_READ)
        return piece

    def remove(self, uuids: Sequence[str]) -> Mapping[str, bool]:
        noted: Mapping[str, tuple[int, bytes]] = self._host.wait(self._index.scripted_removals, uuids)
        if noted and self._registration is None:
            # Scripts are not loaded yet, or there is none any more that keeps files.
            log.info("{count} files wait for the script that keeps them, to be removed", count=len(noted))
            return dict.fromkeys(noted, False)
        removed: dict[str, bool] = {}
        gone: list[str] = []
        for uuid, (content_type, custom_data) in noted.items():
            removed[uuid] = self._remove(uuid, _content_type(content_type), custom_data)
            if removed[uuid]:
                gone.append(uuid)
            if len(gone) == _BATCH:
                self._host.wait(self._index.forget_scripted, gone)
                gone = []
        if gone:
            self._host.wait(self._index.forget_scripted, gone)
        return removed

    def _remove(self, uuid: str, kind: int, custom_data: bytes) -> bool:
        """Whether it is gone; if not, the next start tries again."""
        try:
            registration = self._there()
            remove = registration.callbacks[2]
            if registration.version < 3:
                self._ask(_REMOVE, remove, uuid, kind)
            else:
                _check(self._ask(_REMOVE, remove, uuid, kind, custom_data), _REMOVE)
        except OrthancError as e:
            log.error("What the script keeps as {uuid} cannot be removed now: {reason}", uuid=uuid, reason=e)
            return False
        return True

    def _there(self) -> Registration:
        registration = self._registration
        if registration is None:
            raise InexistentFile("It was kept by a script, and no script has registered a storage area")
        return registration

    def _ask(self, kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._host.wait(self._host.ask, kind, function, *arguments)


def _borrowing(create: Callable[..., Any], *arguments: Any) -> Any:
    """Call with a `DicomInstance` at the end, which is borrowed."""
    try:
        return create(*arguments)
    finally:
        arguments[-1].end()


def _content_type(number: int) -> int:
    """The number of ``ContentType``; those of users are unknown to it."""
    return number if number <= AttachmentType.DICOM_UNTIL_PIXEL_DATA else int(AttachmentType.UNKNOWN)


def _pair(answer: object, kind: str) -> tuple[Any, Any]:
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise _wrong(kind)
    return answer


def _check(code: object, kind: str) -> None:
    """OrthancError for an ``ErrorCode`` that is none of success."""
    if not isinstance(code, int):
        raise _wrong(kind)
    if code == ErrorCode.FULL_STORAGE:
        raise FullStorage("The script has no room left")
    if code != ErrorCode.SUCCESS:
        raise OrthancError(f"The Python {kind} callback has failed", code=ErrorCode.of(code))


def _wrong(kind: str) -> OrthancError:
    log.error("The Python {kind} callback has not answered what it should", kind=kind)
    return OrthancError(f"Wrong answer of the Python {kind} callback", code=ErrorCode.PLUGIN)
