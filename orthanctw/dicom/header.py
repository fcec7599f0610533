"""The stored form of a header: what the index keeps of every instance.

Compressed JSON: ``[version, transfer syntax, order, charset, meta, elements, pixels]``, with elements as in
`orthanctw.dicom.elements.Element`. Text is UTF-8 already; binary and large values are an offset and a length.
"""

from __future__ import annotations

from typing import Any, Final, cast

import orjson
from isal import isal_zlib

from orthanctw.dicom.frames import PixelFacts
from orthanctw.dicom.scanner import ScannedFile
from orthanctw.errors import CorruptedFile

VERSION: Final = 1
_ERRORS: Final = (ValueError, TypeError, IndexError, cast("type[Exception]", isal_zlib.error))

#: A header as it comes out of the index.
Header = ScannedFile


def encode(scanned: ScannedFile) -> bytes:
    """The stored form of a scanned file."""
    pixels = scanned.pixels
    facts = None
    if pixels is not None:
        facts = (
            pixels.start,
            pixels.vr,
            pixels.offset,
            pixels.length,
            pixels.frames,
            pixels.frame_bits,
            pixels.lengths,
            pixels.starts,
        )
    content = (
        VERSION,
        scanned.transfer_syntax,
        scanned.order,
        scanned.charset,
        scanned.meta,
        scanned.elements,
        facts,
    )
    return isal_zlib.compress(orjson.dumps(content), 1)


def decode(stored: bytes) -> Header:
    """The header of a stored form. Raises CorruptedFile."""
    try:
        content: Any = orjson.loads(isal_zlib.decompress(stored))
        if content[0] != VERSION:
            raise ValueError("version")
        _, transfer_syntax, order, charset, meta, elements, facts = content
        return Header(
            meta=meta,
            elements=elements,
            transfer_syntax=transfer_syntax,
            order=order,
            charset=charset,
            pixels=None if facts is None else PixelFacts(*facts),
        )
    except _ERRORS:
        raise CorruptedFile("a stored header cannot be read") from None
