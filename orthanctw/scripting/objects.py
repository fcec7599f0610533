"""What scripts need of those who know DICOM."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol

import attrs

from orthanctw.scripting.pictures import Raster

#: Modes of ``LoadDicomInstance``.
WHOLE_DICOM, UNTIL_PIXEL_DATA, EMPTY_PIXEL_DATA = 1, 2, 3


@attrs.frozen(kw_only=True)
class JsonForm:
    """How tags are shown, by the numbers of ``DicomToJsonFormat`` and ``DicomToJsonFlags``; 0 is no limit."""

    format: int
    flags: int
    maximum_length: int


@attrs.frozen(kw_only=True)
class DictionaryTag:
    """An entry of the dictionary; it has from `least` to `most` values, 0 being any number."""

    tag: int
    vr: str
    name: str
    least: int = 1
    most: int = 1
    creator: str = ""


class ObjectWork(Protocol):
    """Work on DICOM files. Failures are OrthancErrors. `header` is what `header` has answered.

    What answers an awaitable is called in the reactor's thread, all else on threads of scripts, which it may block.
    """

    def header(self, content: bytes) -> Any:
        """What a file tells about itself. BadFileFormat when it is no DICOM file."""

    def transfer_syntax(self, header: Any) -> str:
        """A UID."""

    def has_pixels(self, header: Any) -> bool:
        """Whether there is pixel data."""

    def frames(self, header: Any) -> int:
        """NumberOfFrames."""

    def json(self, header: Any, content: bytes, form: JsonForm) -> str:
        """The tags as JSON."""

    def file_json(self, header: Any, content: bytes, *, is_simplified: bool) -> str:
        """The tags as the server shows them of stored objects, full or simplified."""

    def raw_frame(self, header: Any, content: bytes, number: int) -> bytes:
        """A frame as it lies in the file."""

    def frame(self, header: Any, content: bytes, number: int) -> Any:
        """What `decoded` needs of a frame."""

    def decoded(self, frame: Any) -> Awaitable[Raster]:
        """The pixels of a frame."""

    def transcoded(self, header: Any, content: bytes, transfer_syntax: str) -> Awaitable[bytes]:
        """The file in another transfer syntax."""

    def picture(self, content: bytes, mime: str) -> Awaitable[Raster]:
        """The pixels of a PNG or JPEG."""

    def created(self, tags: str, picture: Raster | None, flags: int, creator: str) -> bytes:
        """A file made of tags as JSON, by the flags of ``CreateDicomFlags``."""

    def load(self, public_id: str, mode: int) -> Awaitable[bytes]:
        """The file of a stored object, or what comes before its pixel data. UnknownResource."""

    def lookup(self, name: str) -> DictionaryTag:
        """The entry of a name, or of a tag as text. UnknownDicomTag."""

    def name(self, tag: int, creator: str) -> str:
        """The name of a tag."""

    async def register(self, entry: DictionaryTag) -> None:
        """Have the whole server know a tag, from now on and for good.

        ALREADY_EXISTING_TAG, unless it is exactly what a script has registered before.
        """
