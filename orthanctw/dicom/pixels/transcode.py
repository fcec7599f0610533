"""Objects in other transfer syntaxes: the data set element by element, the pixel data frame by frame."""

from __future__ import annotations

import struct
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, Final

import attrs
import numpy as np

from orthanctw.dicom.dictionary import Dictionary, dictionary_of
from orthanctw.dicom.elements import (
    DEFLATED_LITTLE_ENDIAN,
    ITEM,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    Buffer,
    Encoding,
)
from orthanctw.dicom.filemeta import file_head
from orthanctw.dicom.frames import PixelFacts
from orthanctw.dicom.pixelrequest import content_request, pixel_format
from orthanctw.dicom.pixels.decode import check_format, decode_frame
from orthanctw.dicom.pixels.encode import Encoder, encoder_for
from orthanctw.dicom.pixels.model import DecodedFrame, PixelFormat
from orthanctw.dicom.pixels.sink import Sink
from orthanctw.dicom.pixels.source import mapped_file
from orthanctw.dicom.pixels.syntaxes import DECODABLE, ENCODABLE, LOSSY, NATIVE
from orthanctw.dicom.reencode import Changes, reencode
from orthanctw.dicom.scanner import ScannedFile, encoding_of, inflate, meta_end, scan
from orthanctw.errors import BadFileFormat

_CHUNK: Final = 1 << 20
#: Frames that are encoded stay in memory up to so many bytes.
_MEMORY: Final = 16 << 20
_IMAGE_TYPE: Final = 0x00080008
_SOP_CLASS_UID: Final = 0x00080016
_SOP_INSTANCE_UID: Final = 0x00080018
_DERIVATION_DESCRIPTION: Final = 0x00082111
_SOURCE_IMAGES: Final = 0x00082112
_PHOTOMETRIC_INTERPRETATION: Final = 0x00280004
_PLANAR_CONFIGURATION: Final = 0x00280006
_BITS_STORED: Final = 0x00280101
_HIGH_BIT: Final = 0x00280102
_LOSSY: Final = 0x00282110
_LOSSY_RATIO: Final = 0x00282112
_LOSSY_METHOD: Final = 0x00282114
#: Offset table, lengths and total of the value that pixel data had (PS3.3 section C.7.6.3.1.8).
_EXTENDED_OFFSETS: Final = (0x7FE00001, 0x7FE00002, 0x7FE00003)
_LONGEST: Final = 0xFFFFFFFE
#: Characters of VR ST.
_SHORT_TEXT: Final = 1024


@attrs.frozen(kw_only=True)
class _Object:
    """The object to be transcoded. `data` holds its data set from `start` on."""

    scanned: ScannedFile
    data: Buffer
    start: int
    dictionary: Dictionary

    @property
    def pixels(self) -> PixelFacts:
        pixels = self.scanned.pixels
        assert pixels is not None
        return pixels

    @property
    def encoding(self) -> Encoding:
        return encoding_of(self.scanned.transfer_syntax)

    def frame(self, frame_format: PixelFormat, number: int) -> DecodedFrame:
        """Decode a frame. Raises BadFileFormat."""
        request = content_request(self.scanned, len(self.data), number)
        pieces = [bytes(self.data[offset : offset + length]) for offset, length in request["Fragments"]]
        return decode_frame(
            frame_format,
            self.scanned.transfer_syntax,
            pieces[0] if len(pieces) == 1 else b"".join(pieces),
            order=self.scanned.order,
            vr=self.pixels.vr,
            skip_bits=request["SkipBits"],
        )


def transcode_operation(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    """Encode an object in the first possible one of ``Targets``.

    Other fields: those of `file_request`; ``Quality`` of what is lossy; ``AllowsNewUid``, without which nothing lossy
    is made; ``Dictionary``, the description of the server's; ``Output``, the path of a file to make when the result
    has more than ``Threshold`` bytes. The answer has ``TransferSyntax``, which is null when none is possible,
    ``SOPInstanceUID`` and ``Size``; its payload is the object unless it is in the file.
    """
    with mapped_file(header, payload) as data:
        source = _opened(data, dictionary_of(header["Dictionary"]))
        for target in header["Targets"]:
            work = _work_for(source, target, int(header["Quality"]), bool(header["AllowsNewUid"]))
            if work is not None:
                with Sink(header["Output"], int(header["Threshold"])) as sink:
                    instance = work(sink)
                    return {
                        "TransferSyntax": target,
                        "SOPInstanceUID": instance,
                        "Size": sink.size,
                    }, sink.content()
    return {"TransferSyntax": None}, b""


def _opened(data: Buffer, dictionary: Dictionary) -> _Object:
    scanned = scan(data, dictionary=dictionary)
    start = meta_end(data)
    if scanned.transfer_syntax == DEFLATED_LITTLE_ENDIAN:
        data, start = inflate(data, start), 0
    return _Object(scanned=scanned, data=data, start=start, dictionary=dictionary)


Work = Callable[[Sink], str]


def _work_for(source: _Object, target: str, quality: int, allows_new_uid: bool) -> Work | None:
    """What makes the object in a transfer syntax; None when that is not possible."""
    scanned = source.scanned
    is_native = not (scanned.pixels and scanned.pixels.encapsulated)
    if target in NATIVE and is_native:
        return lambda sink: _write_native(source, target, sink)
    is_known = is_native or scanned.transfer_syntax in DECODABLE
    is_image = scanned.pixels is not None
    if not is_known or not is_image or target not in ENCODABLE | NATIVE or (target in LOSSY and not allows_new_uid):
        return None
    frame_format = pixel_format(scanned)
    check_format(frame_format)
    if target in NATIVE:
        return lambda sink: _write_decoded(source, target, frame_format, sink)
    first = source.frame(frame_format, 0)
    encoder = encoder_for(target, frame_format, first.photometric_interpretation, quality)
    if encoder is None:
        return None
    return lambda sink: _write_encoded(source, target, frame_format, first, encoder, sink)


# What is written


class _Writer:
    """Writes an object piece by piece; deflates the data set if its syntax wants it so."""

    def __init__(self, source: _Object, target: str, sink: Sink, changes: Changes) -> None:
        self.encoding = encoding_of(target)
        self._source = source
        self._changes = changes
        self._sink = sink
        self._deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS) if target == DEFLATED_LITTLE_ENDIAN else None
        scanned = source.scanned
        new = changes.get(_SOP_INSTANCE_UID)
        self.instance = new[1].decode("ascii").strip("\0") if new else scanned.text(_SOP_INSTANCE_UID) or ""
        sink.write(file_head(scanned.text(_SOP_CLASS_UID) or "", self.instance, target))

    def write(self, data: bytes | memoryview) -> None:
        self._sink.write(data if self._deflater is None else self._deflater.compress(data))

    def header(self) -> None:
        """Everything before the pixel data."""
        source = self._source
        end = source.scanned.pixels.start if source.scanned.pixels else len(source.data)
        self.write(self._reencoded(source.start, end, self._changes))

    def pixel_head(self, vr: str, length: int) -> None:
        """Tag, VR and length of the pixel data."""
        order, group, element = self.encoding.order, PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF
        if self.encoding.explicit:
            self.write(struct.pack(f"{order}HH2sHI", group, element, vr.encode("ascii"), 0, length))
        else:
            self.write(struct.pack(f"{order}HHI", group, element, length))

    def finish(self) -> str:
        """Everything after the pixel data; the SOPInstanceUID of the result."""
        if self._source.scanned.pixels:
            pixels = self._source.pixels
            self.write(self._reencoded(pixels.offset + pixels.length, len(self._source.data), None))
        if self._deflater is not None:
            self._sink.write(self._deflater.flush())
            self._sink.write(bytes(self._sink.size % 2))
        return self.instance

    def _reencoded(self, start: int, end: int, changes: Changes | None) -> bytes:
        source = self._source
        return reencode(source.data, start, end, source.encoding, self.encoding, source.dictionary, changes)


def _write_native(source: _Object, target: str, sink: Sink) -> str:
    """Pixels stay what they are, in another encoding."""
    writer = _Writer(source, target, sink, {})
    writer.header()
    if source.scanned.pixels:
        pixels = source.pixels
        writer.pixel_head(pixels.vr if pixels.vr in ("OB", "OW") else "OW", pixels.length)
        size = _word_size(source) if source.encoding.order != writer.encoding.order else 1
        end = pixels.offset + pixels.length
        for position in range(pixels.offset, end, _CHUNK):
            chunk = bytes(source.data[position : min(position + _CHUNK, end)])
            if size > 1 and len(chunk) % size == 0:
                chunk = np.frombuffer(chunk, f"u{size}").byteswap().tobytes()
            writer.write(chunk)
    return writer.finish()


def _word_size(source: _Object) -> int:
    """Bytes that change their order together."""
    if source.pixels.vr == "OB":
        return 1
    bits = source.scanned.text(0x00280100) or ""
    # As everybody reads them: whole pixels, not the words that the VR speaks of.
    return int(bits) // 8 if bits in ("32", "64") else 2


def _write_decoded(source: _Object, target: str, frame_format: PixelFormat, sink: Sink) -> str:
    first = source.frame(frame_format, 0)
    changes = _changes(frame_format, first.photometric_interpretation, frame_format.bits_stored, encoding_of(target))
    writer = _Writer(source, target, sink, changes)
    size = frame_format.bits_allocated // 8
    length = first.pixels.size * size * frame_format.number_of_frames
    if length > _LONGEST:
        raise BadFileFormat("The pixel data is too large to be uncompressed")
    kind = "i" if frame_format.is_signed else "u"
    writer.header()
    writer.pixel_head("OB" if size == 1 else "OW", length + length % 2)
    for decoded in _frames(source, frame_format, first):
        writer.write(decoded.pixels.astype(f"{writer.encoding.order}{kind}{size}").tobytes())
    writer.write(bytes(length % 2))
    return writer.finish()


def _write_encoded(
    source: _Object, target: str, frame_format: PixelFormat, first: DecodedFrame, encoder: Encoder, sink: Sink
) -> str:
    with tempfile.SpooledTemporaryFile(_MEMORY, dir=sink.folder) as spool:
        lengths = []
        for decoded in _frames(source, frame_format, first):
            stream = encoder.encode(decoded.pixels)
            lengths.append(len(stream) + len(stream) % 2)
            spool.write(stream)
            spool.write(bytes(len(stream) % 2))
        encoding = encoding_of(target)
        changes = _changes(frame_format, encoder.photometric_interpretation, encoder.bits_stored, encoding)
        if encoder.method:
            native = first.pixels.size * ((frame_format.bits_allocated + 7) // 8) * frame_format.number_of_frames
            changes |= _lossy_changes(source.scanned, encoder.method, native / sum(lengths))
        writer = _Writer(source, target, sink, changes)
        writer.header()
        writer.pixel_head("OB", UNDEFINED)
        _write_fragments(writer, spool, lengths)
        return writer.finish()


def _write_fragments(writer: _Writer, spool: IO[bytes], lengths: Sequence[int]) -> None:
    """Offset table, a fragment for each frame, delimiter (PS3.5 section A.4)."""
    offsets = []
    if len(lengths) > 1:
        position = 0
        for length in lengths:
            offsets.append(position)
            position += length + 8
        # What 32 bits cannot tell is found by reading the fragments.
        offsets = offsets if offsets[-1] <= _LONGEST else []
    writer.write(_item_head(4 * len(offsets)) + struct.pack(f"<{len(offsets)}I", *offsets))
    spool.seek(0)
    for length in lengths:
        writer.write(_item_head(length))
        writer.write(spool.read(length))
    writer.write(struct.pack("<HHI", SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0))


def _item_head(length: int) -> bytes:
    return struct.pack("<HHI", ITEM >> 16, ITEM & 0xFFFF, length)


def _frames(source: _Object, frame_format: PixelFormat, first: DecodedFrame) -> Iterator[DecodedFrame]:
    yield first
    for number in range(1, frame_format.number_of_frames):
        decoded = source.frame(frame_format, number)
        if decoded.photometric_interpretation != first.photometric_interpretation:
            raise BadFileFormat("The frames have different colour spaces")
        yield decoded


def _changes(
    frame_format: PixelFormat, photometric_interpretation: str, bits_stored: int, encoding: Encoding
) -> dict[int, tuple[str, bytes] | None]:
    """What the header says of the pixels from now on."""
    changes: dict[int, tuple[str, bytes] | None] = dict.fromkeys(_EXTENDED_OFFSETS)
    number = struct.Struct(f"{encoding.order}H").pack
    if photometric_interpretation != frame_format.photometric_interpretation:
        changes[_PHOTOMETRIC_INTERPRETATION] = "CS", _padded(photometric_interpretation)
    if frame_format.samples_per_pixel > 1:
        changes[_PLANAR_CONFIGURATION] = "US", number(0)
    if bits_stored != frame_format.bits_stored:
        changes[_BITS_STORED] = "US", number(bits_stored)
    if frame_format.high_bit != bits_stored - 1:
        changes[_HIGH_BIT] = "US", number(bits_stored - 1)
    return changes


def _lossy_changes(scanned: ScannedFile, method: str, ratio: float) -> dict[int, tuple[str, bytes] | None]:
    """Another instance, derived from the one before, whose history of losses is longer (PS3.3 section C.7.6.1.1.5)."""
    new = uuid.uuid4().int
    kind = (scanned.text(_IMAGE_TYPE) or "ORIGINAL\\SECONDARY").split("\\")
    description = f"Lossy compression {method}, ratio {ratio:.6g}"
    before = scanned.text(_DERIVATION_DESCRIPTION) or ""
    # Other text would need the encoding of its character set.
    if before and before.isascii():
        description = f"{description} [{before}]"[:_SHORT_TEXT]
    changes: dict[int, tuple[str, bytes] | None] = {}
    if _SOURCE_IMAGES not in scanned.by_tag:
        changes[_SOURCE_IMAGES] = "SQ", _source_image(scanned)
    return changes | {
        _IMAGE_TYPE: ("CS", _padded("\\".join(["DERIVED", *kind[1:]]))),
        _SOP_INSTANCE_UID: ("UI", _padded(f"2.25.{new}", b"\0")),
        _DERIVATION_DESCRIPTION: ("ST", _padded(description)),
        _LOSSY: ("CS", b"01"),
        _LOSSY_RATIO: ("DS", _appended(scanned, _LOSSY_RATIO, f"{ratio:.6g}")),
        _LOSSY_METHOD: ("CS", _appended(scanned, _LOSSY_METHOD, method)),
    }


def _source_image(scanned: ScannedFile) -> bytes:
    """An item that names the instance before, in explicit VR little endian as all lossy syntaxes are."""
    item = b""
    for tag, source in ((0x00081150, _SOP_CLASS_UID), (0x00081155, _SOP_INSTANCE_UID)):
        value = _padded(scanned.text(source) or "", b"\0")
        item += struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"UI", len(value)) + value
    return _item_head(len(item)) + item


def _appended(scanned: ScannedFile, tag: int, value: str) -> bytes:
    before = scanned.text(tag)
    return _padded(f"{before}\\{value}" if before else value)


def _padded(text: str, padding: bytes = b" ") -> bytes:
    raw = text.encode("latin-1", "replace")
    return raw + padding * (len(raw) % 2)
