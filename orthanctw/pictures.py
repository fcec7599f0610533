"""Frames as pictures and as numbers: what the index knows of them, and what child processes make of it (level 4)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from orthanctw.caches import Cache
from orthanctw.catalog import Catalog
from orthanctw.dicom.display import display_of
from orthanctw.dicom.elements import DEFLATED_LITTLE_ENDIAN
from orthanctw.dicom.header import Header
from orthanctw.dicom.pixelrequest import frame_request, pixel_format
from orthanctw.dicom.scanner import inflate, meta_end
from orthanctw.errors import BadRequest, NotImplementedHere, OrthancError, ParameterOutOfRange, UnknownResource
from orthanctw.interfaces import IIndex, IReader, IStorageArea
from orthanctw.model import Attachment, AttachmentType, Resource, ResourceLevel
from orthanctw.processes import Pieces, ProcessPool
from orthanctw.sending import file_of
from orthanctw.slices import in_order
from orthanctw.storage.reader import MemoryReader
from orthanctw.storedwarnings import StoredWarnings
from orthanctw.threads import NamedPool

_ENCAPSULATED_DOCUMENT: Final = 0x00420011
_MIME_TYPE: Final = 0x00420012


@attrs.frozen(kw_only=True)
class Picture:
    """How a frame is wanted. `kind` is preview, rendered, uint8, uint16 or int16."""

    kind: str
    mime: str
    quality: int = 90
    width: int | None = None
    height: int | None = None
    smooth: bool = True
    window_center: float | None = None
    window_width: float | None = None


@attrs.frozen(kw_only=True)
class Numbers:
    """The numbers of one frame: bytes of a numpy type, little endian, of rows, columns and channels, in pieces."""

    kind: str
    shape: tuple[int, ...]
    pieces: Sequence[bytes]

    @property
    def size(self) -> int:
        """Number of bytes."""
        return sum(map(len, self.pieces))


@attrs.frozen
class Image:
    """An instance, ready for requests about its frames."""

    header: Header
    attachment: Attachment

    @property
    def frames(self) -> int:
        return pixel_format(self.header).number_of_frames


class Pictures:
    """Asks child processes for frames, and keeps their answers in `cache`.

    Parameters
    ----------
    decodes : bool
        False without a decoder for pictures (``BuiltinDecoderTranscoderOrder``).
    """

    def __init__(
        self,
        index: IIndex,
        catalog: Catalog,
        storage: IStorageArea,
        processes: ProcessPool,
        pool: NamedPool,
        cache: Cache[Pieces],
        *,
        warnings: StoredWarnings,
        decodes: bool = True,
    ) -> None:
        self._cache = cache
        self._warnings = warnings
        self._decodes = decodes
        self._pool = pool
        self._index = index
        self._catalog = catalog
        self._storage = storage
        self._processes = processes

    async def image(self, public_id: str) -> Image:
        """An instance. UnknownResource when there is none."""
        header = await self._catalog.header(public_id)
        attachments: Mapping[int, Attachment] | None
        attachments = await self._index.attachments(ResourceLevel.INSTANCE, public_id)
        if not attachments or AttachmentType.DICOM not in attachments:
            raise UnknownResource()
        return Image(header, attachments[AttachmentType.DICOM])

    async def ordered(self, public_ids: Sequence[str]) -> list[Image]:
        """The instances of a series, from slice to slice: by their position, else by their number."""
        ids = tuple(public_ids)
        instances: Sequence[Resource] = await self._index.resources(ResourceLevel.INSTANCE, ids)
        headers = await self._catalog.any_headers(ResourceLevel.INSTANCE, ids)
        attachments = await self._index.instance_attachments(ids)
        images = []
        for instance in in_order(instances):
            attachment = attachments.get(instance.public_id, {}).get(AttachmentType.DICOM)
            if attachment is not None and instance.public_id in headers:
                images.append(Image(headers[instance.public_id], attachment))
        return images

    async def npz(self, content: bytes) -> bytes:
        """A ``.npz`` file with the member ``arr_0``."""
        packed: bytes = await self._pool.call(_npz, content)
        return packed

    async def _ask(
        self, operation: str, image: Image, frame: int, fields: Mapping[str, Any], display: Mapping[str, Any]
    ) -> Pieces:
        """What a child makes of a frame, now or when it was asked for before.

        `display` is what differs from the header in how the frame is to be shown.
        """
        uuid = image.attachment.uuid
        detail = (operation, frame, *fields.values(), *display.items())
        with self._cache.entry(uuid, detail) as entry:
            if entry.value is not None:
                return entry.value
            shown = {**display_of(image.header, frame), **display}
            async with file_of(self._storage, image.attachment) as (attachment, path):
                request = frame_request(image.header, attachment, path, frame)
                try:
                    answer = await self._processes.call_for_pieces(operation, {**request, "Display": shown, **fields})
                except OrthancError as e:
                    self._warnings.decoder_failure(e)
                    raise
            entry.keep(answer, sum(map(len, answer[1])))
            return answer

    def _check_decoder(self) -> None:
        """Numbers for numpy need no decoder of pictures, in Orthanc neither."""
        if not self._decodes:
            raise NotImplementedHere("There is no decoder: BuiltinDecoderTranscoderOrder is Disabled")

    async def picture(self, image: Image, frame: int, wanted: Picture) -> bytes:
        """A frame as an image file. BadFileFormat and the like when it cannot be decoded."""
        self._check_decoder()
        window = {"Center": wanted.window_center, "Width": wanted.window_width}
        fields = {
            "Kind": wanted.kind,
            "Mime": wanted.mime,
            "Quality": wanted.quality,
            "Width": wanted.width,
            "Height": wanted.height,
            "Smooth": wanted.smooth,
        }
        display = {name: value for name, value in window.items() if value is not None}
        _, pieces = await self._ask("picture", image, frame, fields, display)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def matlab(self, image: Image, frame: int) -> bytes:
        """A frame as text of an Octave matrix."""
        self._check_decoder()
        _, pieces = await self._ask("array", image, frame, {"Kind": "matlab"}, {})
        return b"".join(pieces)

    async def numbers(self, image: Image, frame: int, *, rescale: bool) -> Numbers:
        """The numbers of a frame."""
        header, pieces = await self._ask("array", image, frame, {"Kind": "numpy", "Rescale": rescale}, {})
        return Numbers(kind=header["Kind"], shape=tuple(header["Shape"]), pieces=pieces)

    async def raw(self, image: Image, frame: int) -> tuple[IReader, Sequence[tuple[int, int]]]:
        """A reader over the place of a frame, as it is stored, and the pieces that are the frame.

        Pieces are offsets in what the reader has, and lengths. BadRequest without pixel data, ParameterOutOfRange for
        no frame.
        """
        if image.header.pixels is None:
            raise BadRequest("The instance has no pixel data")
        pieces: Sequence[tuple[int, int]] = image.header.pixels.frame(frame)
        if not pieces:
            raise ParameterOutOfRange("There is no such frame")
        start = pieces[0][0]
        reader = await self._range(image, start, sum(pieces[-1]) - start)
        return reader, [(offset - start, length) for offset, length in pieces]

    async def _range(self, image: Image, offset: int, length: int) -> IReader:
        """A reader over what the stored header gives a place of."""
        if image.header.transfer_syntax == DEFLATED_LITTLE_ENDIAN:
            content = await self._storage.call(_inflated, self._storage, image.attachment, offset, length)
            return MemoryReader(content, 0, None)
        reader: IReader = await self._storage.reader(image.attachment, offset, length)
        return reader

    async def pdf(self, image: Image) -> IReader | None:
        """A reader over the PDF that an instance encapsulates (PS3.3 section C.24.2), or None."""
        element = image.header.by_tag.get(_ENCAPSULATED_DOCUMENT)
        if (image.header.text(_MIME_TYPE) or "").lower() != "application/pdf" or element is None or len(element) != 4:
            return None
        return await self._range(image, element[2], element[3])


def _inflated(storage: IStorageArea, attachment: Attachment, offset: int, length: int) -> bytes:
    """A range of a deflated data set."""
    with storage.map(attachment) as buffer:
        return inflate(buffer, meta_end(buffer))[offset : offset + length]


def _npz(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("arr_0", content)
    return buffer.getvalue()
