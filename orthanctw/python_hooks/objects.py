"""Work on DICOM files for Python scripts: reading, showing, decoding, making, transcoding (level 4)."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final

from orthanctw.catalog import Catalog
from orthanctw.contents import Contents
from orthanctw.dicom.authoring import ValueOptions
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.creation import SOP_CLASS_UID, SOP_INSTANCE_UID, Draft, PictureFacts
from orthanctw.dicom.dictionary import UNKNOWN_NAME, DictionaryEntry
from orthanctw.dicom.display import display_of
from orthanctw.dicom.elements import DEFLATED_LITTLE_ENDIAN, PIXEL_DATA
from orthanctw.dicom.flaggedforms import TagFlags, flagged_form
from orthanctw.dicom.header import Header
from orthanctw.dicom.jsonforms import FormOptions, TagFormat, tags
from orthanctw.dicom.pixelrequest import content_request, has_pixels, pixel_format
from orthanctw.dicom.scanner import encoding_of, inflate, meta_end, scan
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadFileFormat, NotImplementedHere, OrthancError, ParameterOutOfRange, UnknownDicomTag
from orthanctw.interfaces import ITranscoder
from orthanctw.model import ResourceLevel
from orthanctw.processes import ProcessPool
from orthanctw.remote import Outgoing
from orthanctw.scripting.objects import EMPTY_PIXEL_DATA, UNTIL_PIXEL_DATA, WHOLE_DICOM, DictionaryTag, JsonForm
from orthanctw.scripting.pictures import (
    FLOAT32,
    GRAYSCALE8,
    GRAYSCALE16,
    GRAYSCALE32,
    GRAYSCALE64,
    RGB24,
    RGB48,
    RGBA32,
    SIGNED_GRAYSCALE16,
    Raster,
    pixels_of,
    row_size,
)

_PIXEL_REPRESENTATION: Final = 0x00280103
#: Pixel formats by what a child calls the samples, and their number.
_DECODED: Final = {
    ("<u1", 1): GRAYSCALE8,
    ("<u2", 1): GRAYSCALE16,
    ("<i2", 1): SIGNED_GRAYSCALE16,
    ("<u4", 1): GRAYSCALE32,
    ("<u8", 1): GRAYSCALE64,
    ("<f4", 1): FLOAT32,
    ("<u1", 3): RGB24,
    ("<u2", 3): RGB48,
    ("<u1", 4): RGBA32,
}
#: Pixel formats of which an object can be made, and bits of a sample.
_EMBEDDED: Final = {GRAYSCALE8: 8, GRAYSCALE16: 16, SIGNED_GRAYSCALE16: 16, RGB24: 8, RGBA32: 8}
#: By the numbers of ``DicomToJsonFormat``.
_FORMATS: Final = {1: TagFormat.FULL, 2: TagFormat.SHORT, 3: TagFormat.SIMPLIFY}
_ALL_FLAGS: Final = 0xFF
#: Header and payload of a request to a child.
FrameRequest = tuple[dict[str, Any], bytes]
#: ``CreateDicomFlags``.
_DECODE_DATA_URI_SCHEME, _GENERATE_IDENTIFIERS = 1, 2


class ScriptObjects:
    """See `orthanctw.scripting.objects.ObjectWork`.

    Parameters
    ----------
    nesting : int
        How deeply sequences of tags may be nested.
    decodes : bool
        False without a decoder for pictures (``BuiltinDecoderTranscoderOrder``).
    """

    def __init__(
        self,
        catalog: Catalog,
        contents: Contents,
        processes: ProcessPool,
        transcoder: ITranscoder,
        default_encoding: DefaultEncoding,
        *,
        nesting: int,
        decodes: bool,
    ) -> None:
        self._catalog = catalog
        self._contents = contents
        self._processes = processes
        self._transcoder = transcoder
        self._dictionary = catalog.dictionary
        self._default_encoding = default_encoding
        self._nesting = nesting
        self._decodes = decodes
        self._registered: set[DictionaryTag] = set()

    # Reading

    def header(self, content: bytes) -> Header:
        return scan(
            content,
            default_encoding=self._default_encoding.name,
            dictionary=self._dictionary,
            depth_limit=self._nesting,
        )

    def transfer_syntax(self, header: Header) -> str:
        return header.transfer_syntax

    def has_pixels(self, header: Header) -> bool:
        return has_pixels(header)

    def frames(self, header: Header) -> int:
        return pixel_format(header).number_of_frames

    def json(self, header: Header, content: bytes, form: JsonForm) -> str:
        if form.format not in _FORMATS:
            raise ParameterOutOfRange("There is no such format of tags")
        data = _data_of(header, content)
        shown = flagged_form(
            header,
            _FORMATS[form.format],
            TagFlags(form.flags & _ALL_FLAGS),
            lambda offset, length: data[offset : offset + length],
            maximum_length=form.maximum_length,
            dictionary=self._dictionary,
            default_encoding=self._default_encoding.name,
        )
        return _text(shown)

    def file_json(self, header: Header, content: bytes, *, is_simplified: bool) -> str:
        options = FormOptions(dictionary=self._dictionary, default_encoding=self._default_encoding.name)
        form = TagFormat.SIMPLIFY if is_simplified else TagFormat.FULL
        return _text(tags(header, form, options, whole=True))

    # Pixels

    def raw_frame(self, header: Header, content: bytes, number: int) -> bytes:
        if header.pixels is None:
            raise OrthancError("The object has no pixel data", code=ErrorCode.NOT_IMPLEMENTED)
        pieces = header.pixels.frame(number)
        if not pieces:
            raise ParameterOutOfRange("There is no such frame")
        data = _data_of(header, content)
        return b"".join(data[offset : offset + length] for offset, length in pieces)

    def frame(self, header: Header, content: bytes, number: int) -> FrameRequest:
        if not self._decodes:
            raise NotImplementedHere("There is no decoder: BuiltinDecoderTranscoderOrder is Disabled")
        request = content_request(header, len(content), number)
        fields = {"Display": display_of(header, number), "Kind": "raster", "Rescale": False}
        return _trimmed({**request, **fields}, content)

    async def decoded(self, frame: FrameRequest) -> Raster:
        return _raster(*await self._processes.call("array", *frame))

    async def picture(self, content: bytes, mime: str) -> Raster:
        request = {"Mime": mime, "Encapsulate": False, "KeepsAlpha": True}
        answer, data = await self._processes.call("read", request, content)
        shape = (answer["rows"], answer["columns"], answer["samples"])
        return _raster({"Kind": f"<u{answer['bits'] // 8}", "Shape": shape}, data)

    async def transcoded(self, header: Header, content: bytes, transfer_syntax: str) -> bytes:
        outgoing = Outgoing(
            sop_class_uid=header.text(SOP_CLASS_UID) or "",
            sop_instance_uid=header.text(SOP_INSTANCE_UID) or "",
            transfer_syntax=header.transfer_syntax,
            content=content,
        )
        made: Outgoing | None = await self._transcoder.transcode(outgoing, (transfer_syntax,), allows_new_uid=True)
        if made is None:
            raise NotImplementedHere("The object cannot be transcoded to this transfer syntax")
        return made.content

    # Making

    def created(self, tags: str, picture: Raster | None, flags: int, creator: str) -> bytes:
        options = ValueOptions(
            dictionary=self._dictionary,
            private_creator=creator,
            interprets_binary=bool(flags & _DECODE_DATA_URI_SCHEME),
            depth=self._nesting,
        )
        draft = Draft(self._default_encoding.term, self._dictionary)
        if flags & _GENERATE_IDENTIFIERS:
            draft.identify(*ResourceLevel)
        draft.add(_object(tags), options, force=True)
        if draft.content is not None:
            draft.add_document(draft.content)
        if picture is not None:
            _embed(draft, picture)
        return b"".join(draft.file_parts())

    # Stored objects

    async def load(self, public_id: str, mode: int) -> bytes:
        if mode not in (WHOLE_DICOM, UNTIL_PIXEL_DATA, EMPTY_PIXEL_DATA):
            raise ParameterOutOfRange("There is no such mode")
        attachment = await self._contents.attachment(public_id)
        storage = self._contents.storage
        if mode == WHOLE_DICOM:
            content: bytes = await storage.read(attachment)
            return content
        header = await self._catalog.header(public_id)
        start = None if header.pixels is None else header.pixels.start
        is_deflated = header.transfer_syntax == DEFLATED_LITTLE_ENDIAN
        content = await storage.read(attachment, 0, None if is_deflated else start)
        if start is None:
            return content
        end = _empty_pixels(header) if mode == EMPTY_PIXEL_DATA else b""
        if is_deflated:
            content = await storage.call(_shortened, content, start, end)
            end = b""
        return content + end

    # The dictionary

    def lookup(self, name: str) -> DictionaryTag:
        tag = self._dictionary.parse(name)
        known = self._dictionary.name(tag, None)
        if known == UNKNOWN_NAME:
            raise UnknownDicomTag(name[:64])
        least, most = self._dictionary.multiplicity(tag)
        return DictionaryTag(tag=tag, vr=self._dictionary.vr(tag), name=known, least=least, most=most)

    def name(self, tag: int, creator: str) -> str:
        return self._dictionary.name(tag, creator or None)

    async def register(self, entry: DictionaryTag) -> None:
        if entry in self._registered:
            return
        self._dictionary.register(
            DictionaryEntry(
                tag=entry.tag,
                vr=entry.vr,
                name=entry.name,
                private_creator=entry.creator,
                least=entry.least,
                most=entry.most,
            )
        )
        self._registered.add(entry)


def _text(shown: Mapping[str, Any]) -> str:
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise OrthancError("The tags are no JSON", code=ErrorCode.BAD_JSON) from None
    if not isinstance(found, dict):
        raise OrthancError("The tags must be an object", code=ErrorCode.BAD_PARAMETER_TYPE)
    return found


def _data_of(header: Header, content: bytes) -> bytes:
    """What offsets of a header count in."""
    if header.transfer_syntax == DEFLATED_LITTLE_ENDIAN:
        return inflate(content, meta_end(content))
    return content


def _trimmed(request: dict[str, Any], content: bytes) -> FrameRequest:
    """A request with no more of the file than the frame, when nothing else lies in it: children get all by a pipe."""
    fragments = request["Fragments"]
    if request["TransferSyntax"] == DEFLATED_LITTLE_ENDIAN or "Palette" in request["Display"]:
        return request, content
    start, end = fragments[0][0], sum(fragments[-1])
    shifted = [[offset - start, length] for offset, length in fragments]
    return {**request, "Fragments": shifted}, content[start:end]


def _raster(answer: Mapping[str, Any], data: bytes) -> Raster:
    height, width, samples = answer["Shape"]
    format = _DECODED.get((answer["Kind"], samples))
    if format is None:
        raise OrthancError("There is no pixel format for such pixels", code=ErrorCode.INCOMPATIBLE_IMAGE_FORMAT)
    pitch = row_size(format, width)
    if len(data) != pitch * height:
        raise BadFileFormat("The image has another size than its header tells")
    return Raster(format, width, height, pitch, data)


def _embed(draft: Draft, picture: Raster) -> None:
    bits = _EMBEDDED.get(picture.format)
    if bits is None:
        raise OrthancError("An object cannot have this pixel format", code=ErrorCode.NOT_IMPLEMENTED)
    if not 0 < picture.width <= 0xFFFF or not 0 < picture.height <= 0xFFFF:
        raise OrthancError("An image has from 1 to 65535 rows and columns", code=ErrorCode.INCOMPATIBLE_IMAGE_SIZE)
    pixels = pixels_of(picture)
    if pixels.ndim == 3:
        pixels = pixels[..., :3]
    facts = PictureFacts(
        rows=picture.height,
        columns=picture.width,
        samples=1 if pixels.ndim == 2 else 3,
        bits=bits,
        photometric_interpretation="MONOCHROME2" if pixels.ndim == 2 else "RGB",
    )
    draft.add_picture(facts, [pixels.tobytes()])
    if picture.format == SIGNED_GRAYSCALE16:
        draft.replace(_PIXEL_REPRESENTATION, "1")


def _empty_pixels(header: Header) -> bytes:
    """PixelData without a value, as the transfer syntax writes it (PS3.5 sections 7.1 and A.4)."""
    assert header.pixels is not None
    encoding = encoding_of(header.transfer_syntax)
    order = encoding.order
    tag = struct.pack(f"{order}HH", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF)
    vr = header.pixels.vr.encode() + b"\0\0" if encoding.explicit else b""
    if not header.pixels.encapsulated:
        return tag + vr + bytes(4)
    return tag + vr + struct.pack("<IHHIHHI", 0xFFFFFFFF, 0xFFFE, 0xE000, 0, 0xFFFE, 0xE0DD, 0)


def _shortened(content: bytes, length: int, end: bytes) -> bytes:
    """A deflated file whose data set is cut (blocking)."""
    start = meta_end(content)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflater.compress(inflate(content, start)[:length] + end) + deflater.flush()
    return content[:start] + data + bytes(len(data) % 2)
