"""DICOM objects of scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, ParameterOutOfRange
from orthanctw.model import Origin, OriginKind
from orthanctw.scripting.exposure import exposed, exposed_class, failure, gives_object
from orthanctw.scripting.host import Host
from orthanctw.scripting.images import Image, decoded_frame
from orthanctw.scripting.objects import JsonForm

#: Numbers of ``InstanceOrigin``.
_ORIGINS: Final = {
    OriginKind.UNKNOWN: 1,
    OriginKind.DICOM_PROTOCOL: 2,
    OriginKind.REST_API: 3,
    OriginKind.PLUGINS: 4,
    OriginKind.LUA: 5,
    OriginKind.WEB_DAV: 6,
}


def origin_number(origin: Origin) -> int:
    """The number of ``InstanceOrigin``."""
    return _ORIGINS[origin.kind]


class DicomInstance:
    """A DICOM object.

    Parameters
    ----------
    host : Host
    content : bytes, or callable
        The file, or what gives it when it is first needed, on the thread of a script; None for an object that there
        is not.
    origin : Origin
        Who has sent it.
    metadata : mapping of str to str
        By their names.
    public_id : str
        Orthanc identifier of a stored object.
    """

    def __init__(
        self,
        host: Host,
        content: bytes | Callable[[], bytes] | None,
        *,
        origin: Origin | None = None,
        metadata: Mapping[str, str] | None = None,
        public_id: str = "",
    ) -> None:
        self._host = host
        self._content = content
        self._origin = origin or Origin(kind=OriginKind.PLUGINS)
        self._metadata = metadata or {}
        self._header: Any = None
        self.public_id = public_id

    def end(self) -> None:
        """The callback that has borrowed the object is over: whatever a script asks of it now fails."""
        self._content = self._header = None

    def _bytes(self) -> bytes:
        content = self._content
        if content is None:
            raise failure(ErrorCode.NULL_POINTER, "This DICOM object is there during its callback only")
        if callable(content):
            content = content()
            if self._content is not None:
                self._content = content
        return content

    def _read(self) -> tuple[Any, bytes]:
        """Header and file."""
        content, header = self._bytes(), self._header
        if header is None:
            header = self._host.services.objects.header(content)
            if self._content is not None:
                self._header = header
        return header, content

    def _check(self) -> None:
        if self._content is None:
            self._bytes()

    @exposed
    def GetInstanceData(self) -> bytes:
        """The file."""
        return self._bytes()

    @exposed
    def GetInstanceSize(self) -> int:
        """Bytes of the file."""
        return len(self._bytes())

    @exposed
    def SerializeDicomInstance(self) -> bytes:
        """The file."""
        return self._bytes()

    @exposed
    def GetInstanceOrigin(self) -> int:
        """Who has sent the object, by the numbers of ``InstanceOrigin``."""
        self._check()
        return origin_number(self._origin)

    @exposed
    def GetInstanceRemoteAet(self) -> str:
        """The AE title of the sender; empty if it has none."""
        self._check()
        return self._origin.remote_aet

    @exposed
    def GetInstanceRemoteIp(self) -> str:
        """The address of the sender; empty if it has none."""
        self._check()
        return self._origin.remote_ip

    @exposed
    def GetInstanceCalledAet(self) -> str:
        """The AE title that the sender has called; empty if it has called none."""
        self._check()
        return self._origin.called_aet

    @exposed
    def HasInstanceMetadata(self, metadata: str, /) -> int:
        """1 if there is such metadata."""
        self._check()
        return int(metadata in self._metadata)

    @exposed
    def GetInstanceMetadata(self, metadata: str, /) -> str | None:
        """Metadata of a name; None if there is none."""
        self._check()
        return self._metadata.get(metadata)

    @exposed
    @gives_object
    def GetInstanceTransferSyntaxUid(self) -> str:
        """The transfer syntax."""
        return self._host.services.objects.transfer_syntax(self._read()[0])

    @exposed
    def HasInstancePixelData(self) -> int:
        """1 if there is pixel data, -1 for what is no DICOM file."""
        try:
            return int(self._host.services.objects.has_pixels(self._read()[0]))
        except OrthancError:
            return -1

    @exposed
    def GetInstanceFramesCount(self) -> int:
        """Number of frames, 0 for what is no DICOM file."""
        try:
            return self._host.services.objects.frames(self._read()[0])
        except OrthancError:
            return 0

    @exposed
    @gives_object
    def GetInstanceAdvancedJson(self, format: int, flags: int, max_string_length: int, /) -> str:
        """The tags as JSON, by the numbers of ``DicomToJsonFormat`` and ``DicomToJsonFlags``."""
        if max_string_length < 0:
            raise ParameterOutOfRange("A length is not negative")
        form = JsonForm(format=format, flags=flags, maximum_length=max_string_length)
        return self._host.services.objects.json(*self._read(), form)

    @exposed
    @gives_object
    def GetInstanceJson(self) -> str:
        """The tags as ``/tags`` shows them."""
        return self._host.services.objects.file_json(*self._read(), is_simplified=False)

    @exposed
    @gives_object
    def GetInstanceSimplifiedJson(self) -> str:
        """The tags as ``/simplified-tags`` shows them."""
        return self._host.services.objects.file_json(*self._read(), is_simplified=True)

    @exposed
    def GetInstanceRawFrame(self, frame_index: int, /) -> bytes:
        """A frame as it lies in the file."""
        return self._host.services.objects.raw_frame(*self._read(), frame_index)

    @exposed
    @gives_object
    def GetInstanceDecodedFrame(self, frame_index: int, /) -> Image:
        """A frame, decoded."""
        return decoded_frame(self._host, *self._read(), frame_index)


exposed_class(DicomInstance)
