"""Images for tests: those of pydicom, and files with pixels of any form."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import data_store
import numpy as np
import pydicom

from orthanctw.dicom.dictionary import STANDARD
from orthanctw.dicom.header import Header
from orthanctw.dicom.pixelrequest import content_request, has_pixels, pixel_format
from orthanctw.dicom.pixels.decode import load_frame
from orthanctw.dicom.pixels.model import DecodedFrame, PixelFormat
from orthanctw.dicom.scanner import scan
from orthanctw.errors import OrthancError
from test.dicom_files import EXPLICIT, UNDEFINED, element, head, meta

#: What is on the disk: nothing is fetched.
_FOLDERS = (Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent / "data")
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
INSTANCE = "1.2.826.0.1.3680043.9.7433.7"


def samples(limit: int = 1 << 30) -> Iterator[tuple[str, bytes, Header]]:
    """Name, content and header of every image of pydicom that can be scanned, up to a size."""
    for folder in _FOLDERS:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.stat().st_size > limit:
                continue
            data = path.read_bytes()
            if data[128:132] != b"DICM" and path.suffix != ".dcm":
                continue
            try:
                header = scan(data)
                pixel_format(header)
            except OrthancError:
                continue
            if has_pixels(header):
                yield path.name, data, header


def grey(rows: int = 4, columns: int = 6, **changes: Any) -> PixelFormat:
    """A description of grey pixels of 8 bits, changed."""
    usual = PixelFormat(
        rows=rows,
        columns=columns,
        samples_per_pixel=1,
        bits_allocated=8,
        bits_stored=8,
        high_bit=7,
        is_signed=False,
        photometric_interpretation="MONOCHROME2",
    )
    return attrs.evolve(usual, **changes)


def coloured(rows: int = 4, columns: int = 6, **changes: Any) -> PixelFormat:
    """A description of pixels of three samples of 8 bits, changed."""
    return grey(rows, columns, **{"samples_per_pixel": 3, "photometric_interpretation": "RGB", **changes})


def _elements(pixels: PixelFormat) -> bytes:
    short = {
        0x00280002: pixels.samples_per_pixel,
        0x00280006: pixels.planar_configuration,
        0x00280010: pixels.rows,
        0x00280011: pixels.columns,
        0x00280100: pixels.bits_allocated,
        0x00280101: pixels.bits_stored,
        0x00280102: pixels.high_bit,
        0x00280103: int(pixels.is_signed),
    }
    found = {tag: element(tag, "US", struct.pack("<H", value)) for tag, value in short.items()}
    found[0x00280004] = element(0x00280004, "CS", pixels.photometric_interpretation)
    found[0x00280008] = element(0x00280008, "IS", str(pixels.number_of_frames))
    return b"".join(found[tag] for tag in sorted(found))


def image(
    pixels: PixelFormat,
    content: bytes | Sequence[bytes],
    syntax: str = EXPLICIT,
    *,
    tag: int = 0x7FE00010,
    vr: str = "OW",
    table: bytes = b"",
) -> bytes:
    """A DICOM file: with native pixels, or with these fragments behind an offset table."""
    if isinstance(content, bytes):
        value = element(tag, vr, content)
    else:
        items = [table, *(fragment + bytes(len(fragment) % 2) for fragment in content)]
        value = head(0x7FE00010, "OB", UNDEFINED)
        value += b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
        value += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return (
        meta(syntax, SECONDARY_CAPTURE, INSTANCE)
        + element(0x00080016, "UI", SECONDARY_CAPTURE)
        + element(0x00080018, "UI", INSTANCE)
        + element(0x00100010, "PN", "A^B")
        + element(0x0020000D, "UI", "1.2.3")
        + element(0x0020000E, "UI", "1.2.3.4")
        + _elements(pixels)
        + value
        + element(0xFFFCFFFC, "OB", bytes(4))
    )


def frame(data: bytes, number: int = 0) -> DecodedFrame:
    """A frame of a DICOM file, as a child decodes it."""
    return load_frame(content_request(scan(data), len(data), number), data)


def frames(data: bytes) -> Any:
    """All frames of a DICOM file as one array."""
    header = scan(data)
    count = pixel_format(header).number_of_frames
    return np.stack([load_frame(content_request(header, len(data), index), data).pixels for index in range(count)])


def wave(pixels: PixelFormat) -> Any:
    """A smooth picture with a little noise that uses all values of a format."""
    low, high = 0, (1 << pixels.bits_stored) - 1
    if pixels.is_signed:
        low, high = -(1 << pixels.bits_stored - 1), (1 << pixels.bits_stored - 1) - 1
    y, x = np.mgrid[0 : pixels.rows, 0 : pixels.columns]
    noise = np.random.default_rng(1).normal(0, 0.01, x.shape)
    plane = low + np.clip((np.sin(x / 9) + np.cos(y / 7)) / 4 + 0.5 + noise, 0, 1) * (high - low)
    if pixels.samples_per_pixel == 3:
        plane = np.stack([plane, plane[::-1], low + high - plane], -1)
    size = 1 if pixels.bits_stored <= 8 else 2 if pixels.bits_stored <= 16 else 4
    return plane.round().astype(f"{'i' if pixels.is_signed else 'u'}{size}")


def name_of(tag: int) -> str:
    """For messages."""
    return STANDARD.names.get(tag, f"{tag:08x}")
