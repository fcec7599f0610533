"""Frames of any transfer syntax as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from orthanctw.dicom.elements import is_encapsulated
from orthanctw.dicom.pixels.codecs import Decoded, decode_stream
from orthanctw.dicom.pixels.model import DecodedFrame, PixelFormat
from orthanctw.dicom.pixels.native import decode_native
from orthanctw.dicom.pixels.source import read_frame
from orthanctw.errors import BadFileFormat

#: Bytes of a decoded frame.
DECODED_LIMIT: Final = 1 << 30
#: Photometric interpretations (PS3.3 section C.7.6.3.1.2), and the samples of their pixels.
PHOTOMETRIC_INTERPRETATIONS: Final[Mapping[str, int]] = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "HSV": 3,
    "ARGB": 4,
    "CMYK": 4,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_PARTIAL_422": 3,
    "YBR_PARTIAL_420": 3,
    "YBR_RCT": 3,
    "YBR_ICT": 3,
    "XYB": 3,
}
#: The pixel data of this one of GE alone is big endian.
_GE: Final = "1.2.840.113619.5.2"


def load_frame(header: Mapping[str, Any], payload: bytes = b"") -> DecodedFrame:
    """The frame that a request is about (`orthanctw.dicom.pixelrequest.frame_request`).

    `payload` is the DICOM file when the request names no path. Raises an OrthancError for whatever cannot be decoded.
    """
    frame_format = PixelFormat(**header["Format"])
    check_format(frame_format)
    data = read_frame(header, payload)
    return decode_frame(
        frame_format,
        header["TransferSyntax"],
        data,
        order=header["Order"],
        vr=header["VR"],
        skip_bits=header["SkipBits"],
    )


def decode_frame(
    frame_format: PixelFormat,
    transfer_syntax: str,
    data: bytes,
    *,
    order: str = "<",
    vr: str = "OW",
    skip_bits: int = 0,
) -> DecodedFrame:
    """The frame whose encoded form is `data`, native with `skip_bits` before it. Raises BadFileFormat."""
    check_format(frame_format)
    if is_encapsulated(transfer_syntax):
        decoded = decode_stream(transfer_syntax, frame_format, data)
    else:
        order = ">" if transfer_syntax == _GE else order
        swaps = order == ">" and vr == "OW" and frame_format.bits_allocated <= 8
        photometric = frame_format.photometric_interpretation
        if photometric == "YBR_FULL_422":
            photometric = "YBR_FULL"
        pixels = decode_native(frame_format, data, order=order, skip_bits=skip_bits, swaps=swaps)
        decoded = Decoded(pixels=pixels, photometric_interpretation=photometric)
    expected: tuple[int, ...] = (frame_format.rows, frame_format.columns)
    if frame_format.samples_per_pixel > 1:
        expected = (*expected, frame_format.samples_per_pixel)
    if decoded.pixels.shape != expected:
        raise BadFileFormat("A frame has another size than the header tells")
    return DecodedFrame(
        format=frame_format,
        photometric_interpretation=decoded.photometric_interpretation,
        pixels=normalised(decoded.pixels, frame_format, decoded.precision),
    )


def check_format(frame_format: PixelFormat) -> None:
    """Raise BadFileFormat when a description of pixels contradicts itself or is too large."""
    rows, columns, samples = frame_format.rows, frame_format.columns, frame_format.samples_per_pixel
    allocated, stored = frame_format.bits_allocated, frame_format.bits_stored
    if not (0 < rows <= 0xFFFF and 0 < columns <= 0xFFFF):
        raise BadFileFormat("The image has no rows or columns")
    expected = PHOTOMETRIC_INTERPRETATIONS.get(frame_format.photometric_interpretation)
    if expected is None:
        raise BadFileFormat("The photometric interpretation is unknown")
    if expected != samples:
        raise BadFileFormat("The samples of a pixel contradict the photometric interpretation")
    if not 1 <= stored <= allocated <= 64 or not stored - 1 <= frame_format.high_bit < allocated:
        raise BadFileFormat("The bits of the pixels contradict each other")
    if rows * columns * samples * ((allocated + 7) // 8) > DECODED_LIMIT:
        raise BadFileFormat("The image is too large to be decoded")


def normalised(pixels: Any, frame_format: PixelFormat, precision: int = 0) -> Any:
    """Samples in the smallest type that holds them, unused bits cleared or extended by the sign.

    `precision` is that of a stream when it is known; it may be less than the bits stored, or count unused ones.
    """
    if frame_format.is_float or pixels.dtype.kind == "f":
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    stored = frame_format.bits_stored
    if precision and precision < stored:
        # The sign is then in another place.
        bits, shift = precision, 0
    else:
        shift = frame_format.high_bit + 1 - stored if not precision or precision > stored else 0
        bits = stored
    width = pixels.dtype.itemsize * 8
    if shift:
        pixels = pixels >> shift
    kind = "i" if frame_format.is_signed else "u"
    native = pixels.astype(np.dtype(f"{kind}{pixels.dtype.itemsize}"), copy=False)
    if bits < width:
        if frame_format.is_signed:
            native = (native << (width - bits)) >> (width - bits)
        elif not shift or pixels.dtype.kind == "i":
            native = native & ((1 << bits) - 1)
    size = 1 if stored <= 8 else 2 if stored <= 16 else 4 if stored <= 32 else 8
    return native.astype(np.dtype(f"{kind}{size}"), copy=False)


def decode_operation(header: Mapping[str, Any], payload: bytes) -> tuple[Mapping[str, Any], bytes]:
    """A frame as samples in little endian, those of a pixel together."""
    decoded = load_frame(header, payload)
    pixels = decoded.pixels.astype(decoded.pixels.dtype.newbyteorder("<"), copy=False)
    return {
        "PhotometricInterpretation": decoded.photometric_interpretation,
        "Shape": list(pixels.shape),
        "Type": pixels.dtype.str,
    }, pixels.tobytes()
