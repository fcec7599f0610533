"""What a child must know to read a frame of a stored object, out of its stored header alone: no file is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from orthanctw.dicom.elements import PIXEL_DATA
from orthanctw.dicom.header import Header
from orthanctw.dicom.pixels.model import SUBSAMPLED, PixelFormat
from orthanctw.errors import BadFileFormat, ParameterOutOfRange
from orthanctw.model import Attachment, Compression

_FLOAT_PIXEL_DATA: Final = 0x7FE00008
_DOUBLE_FLOAT_PIXEL_DATA: Final = 0x7FE00009
_PHOTOMETRIC_INTERPRETATION: Final = 0x00280004


def pixel_format(header: Header) -> PixelFormat:
    """How the pixels of an object are described. Raises BadFileFormat when it is no image."""
    is_float = header.pixels is None and _float_data(header) is not None
    samples = _number(header, 0x00280002, 1)
    default = 0 if not is_float else 64 if _DOUBLE_FLOAT_PIXEL_DATA in header.by_tag else 32
    allocated = _number(header, 0x00280100, default)
    stored = _number(header, 0x00280101, allocated)
    photometric = header.text(_PHOTOMETRIC_INTERPRETATION) or ""
    return PixelFormat(
        rows=_number(header, 0x00280010, 0),
        columns=_number(header, 0x00280011, 0),
        samples_per_pixel=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=_number(header, 0x00280102, max(0, stored - 1)),
        is_signed=_number(header, 0x00280103, 0) == 1,
        photometric_interpretation=photometric.split("\\")[0].strip(),
        planar_configuration=_number(header, 0x00280006, 0),
        number_of_frames=max(1, _number(header, 0x00280008, 1)),
        is_float=is_float,
    )


def file_request(attachment: Attachment, path: str) -> dict[str, Any]:
    """The fields that name the file of an object."""
    return {
        "Path": path,
        "StorageCompression": int(attachment.compression),
        "Size": attachment.size,
    }


def frame_request(header: Header, attachment: Attachment, path: str, number: int) -> dict[str, Any]:
    """The header of a request about one frame, from 0, of a stored object.

    ``Fragments`` are offsets and lengths in the DICOM file; ``SkipBits`` lie before the first pixel in them. An
    operation may add fields of its own. Raises BadFileFormat when the object is no image, ParameterOutOfRange when it
    has no such frame.
    """
    frame_format = pixel_format(header)
    if not 0 <= number < frame_format.number_of_frames:
        raise ParameterOutOfRange("There is no such frame")
    skip = 0
    fragments: Sequence[tuple[int, int]]
    pixels = header.pixels
    if pixels is not None and pixels.encapsulated:
        fragments = pixels.frame(number)
    else:
        fragments, skip = _native_frame(header, frame_format, number)
    if not fragments:
        raise BadFileFormat("The pixel data has fewer frames than the header tells")
    return {
        **file_request(attachment, path),
        "TransferSyntax": header.transfer_syntax,
        "Order": header.order,
        "VR": pixels.vr if pixels is not None else "",
        "FrameNumber": number,
        "Fragments": [list(fragment) for fragment in fragments],
        "SkipBits": skip,
        "Format": attrs.asdict(frame_format),
    }


def content_request(header: Header, content_size: int, number: int) -> dict[str, Any]:
    """As `frame_request`, of an object whose file is the payload of the request."""
    whole = Attachment(
        content_type=1,
        uuid="",
        size=content_size,
        md5="",
        compression=Compression.NONE,
        compressed_size=content_size,
        compressed_md5="",
    )
    return frame_request(header, whole, "", number)


def native_frame_bits(frame_format: PixelFormat, length: int) -> int:
    """Bits of a frame that is not compressed, when all frames together have `length` bytes."""
    pixels = frame_format.rows * frame_format.columns
    full = pixels * frame_format.samples_per_pixel * frame_format.bits_allocated
    if frame_format.photometric_interpretation not in SUBSAMPLED or frame_format.samples_per_pixel != 3:
        return full
    # Some writers name it so and subsample nothing.
    if length * 8 >= full * frame_format.number_of_frames:
        return full
    return pixels * 2 * frame_format.bits_allocated


def _float_data(header: Header) -> tuple[int, int] | None:
    for tag in (_FLOAT_PIXEL_DATA, _DOUBLE_FLOAT_PIXEL_DATA):
        element = header.by_tag.get(tag)
        if element is not None and len(element) == 4:
            return element[2], element[3]
    return None


def _native_frame(header: Header, frame_format: PixelFormat, number: int) -> tuple[list[tuple[int, int]], int]:
    """Where a frame lies, and the bits before it."""
    if header.pixels is not None:
        place = header.pixels.offset, header.pixels.length
    else:
        found = _float_data(header)
        if found is None:
            raise BadFileFormat("The object has no pixel data")
        place = found
    offset, length = place
    bits = native_frame_bits(frame_format, length)
    start = number * bits
    # Even: bytes of 8-bit pixels may lie in words of big endian.
    first = start // 16 * 2
    last = min((start + bits + 15) // 16 * 2, length)
    if first >= last:
        return [], 0
    return [(offset + first, last - first)], start - first * 8


def _number(header: Header, tag: int, default: int) -> int:
    text = header.text(tag)
    if not text:
        return default
    try:
        return max(0, min(int(text.split("\\")[0]), 0xFFFFFFFF))
    except ValueError:
        raise BadFileFormat("A number that describes the pixels is none") from None


def has_pixels(header: Header) -> bool:
    """Whether the object has pixel data of any kind."""
    return header.pixels is not None or PIXEL_DATA in header.by_tag or _float_data(header) is not None
