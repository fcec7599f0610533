"""Files, digests and compression: work that needs no server."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from typing import Final

from orthanctw.error_codes import ErrorCode
from orthanctw.scripting.exposure import Data, exposed, failure
from orthanctw.scripting.host import Host

#: Bytes that may come out of a decompression.
_MAXIMUM: Final = 1 << 31
_CHUNK: Final = 1 << 20
_SIZE: Final = struct.Struct("<Q")
#: Numbers of ``CompressionType``.
_ZLIB, _ZLIB_WITH_SIZE, _GZIP, _GZIP_WITH_SIZE = range(4)
#: What zlib calls the frames of gzip.
_GZIP_FRAMES: Final = 16 + zlib.MAX_WBITS
_UNKNOWN: Final = "application/octet-stream"
_MIME_TYPES: Final = {
    ".css": "text/css",
    ".dcm": "application/dicom",
    ".gif": "image/gif",
    ".gz": "application/gzip",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "application/javascript",
    ".json": "application/json",
    ".mtl": "model/mtl",
    ".nexe": "application/x-nacl",
    ".nmf": "application/json",
    ".obj": "model/obj",
    ".pam": "image/x-portable-arbitrarymap",
    ".pdf": "application/pdf",
    ".pexe": "application/x-pnacl",
    ".png": "image/png",
    ".stl": "model/stl",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
    ".woff": "application/x-font-woff",
    ".woff2": "font/woff2",
    ".xml": "application/xml",
    ".zip": "application/zip",
}


class FileArea:
    """``orthanc.ReadFile``, ``orthanc.ComputeMd5`` and the like, in the thread of the caller."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def AutodetectMimeType(self, path: str, /) -> str:
        """The content type of a file, by its name."""
        name = os.path.basename(path)
        return _MIME_TYPES.get(name[name.rfind(".") :].lower() if "." in name else "", _UNKNOWN)

    @exposed
    def ComputeMd5(self, buffer: Data, /) -> str:
        """The digest as hexadecimal digits."""
        return hashlib.md5(buffer, usedforsecurity=False).hexdigest()

    @exposed
    def ComputeSha1(self, buffer: Data, /) -> str:
        """The digest in the form of the identifiers of resources."""
        digest = hashlib.sha1(buffer, usedforsecurity=False).hexdigest()
        return "-".join(digest[start : start + 8] for start in range(0, len(digest), 8))

    @exposed
    def ReadFile(self, path: str, /) -> bytes:
        """The content of a file. OrthancException when it is none, or cannot be read."""
        if not os.path.isfile(path):
            raise failure(ErrorCode.REGULAR_FILE_EXPECTED, path)
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as e:
            raise failure(ErrorCode.INEXISTENT_FILE, f"{path}: {e.strerror}") from None

    @exposed
    def WriteFile(self, path: str, data: Data, /) -> None:
        """Write a file, in the place of one that is there. OrthancException when that cannot be."""
        try:
            with open(path, "wb") as file:
                file.write(data)
        except OSError as e:
            raise failure(ErrorCode.CANNOT_WRITE_FILE, f"{path}: {e.strerror}") from None

    @exposed
    def BufferCompression(self, source: Data, compression: int, uncompress: int, /) -> bytes:
        """`source` compressed, or uncompressed, by a number of ``CompressionType``.

        OrthancException for a number of no compression, and for what cannot be uncompressed: what is damaged, and
        zlib without the size.
        """
        if compression not in (_ZLIB, _ZLIB_WITH_SIZE, _GZIP, _GZIP_WITH_SIZE):
            raise failure(ErrorCode.PARAMETER_OUT_OF_RANGE, f"No compression: {compression}")
        is_sized = compression in (_ZLIB_WITH_SIZE, _GZIP_WITH_SIZE)
        is_gzip = compression in (_GZIP, _GZIP_WITH_SIZE)
        if uncompress:
            return _uncompressed(source, is_sized=is_sized, is_gzip=is_gzip)
        if not source and not is_gzip:
            return b""
        packed = zlib.compress(source, wbits=_GZIP_FRAMES if is_gzip else zlib.MAX_WBITS)
        return _SIZE.pack(len(source)) + packed if is_sized else packed


def _uncompressed(source: bytes, *, is_sized: bool, is_gzip: bool) -> bytes:
    if not source:
        return b""
    if not (is_sized or is_gzip):
        raise failure(ErrorCode.INTERNAL_ERROR, "zlib data without the size cannot be uncompressed")
    size = _MAXIMUM
    if is_sized:
        if len(source) < _SIZE.size:
            raise failure(ErrorCode.CORRUPTED_FILE, "The size is missing")
        (size,) = _SIZE.unpack_from(source)
        if size > _MAXIMUM:
            raise failure(ErrorCode.NOT_ENOUGH_MEMORY, f"More than {_MAXIMUM} bytes")
        source = source[_SIZE.size :]
    damage = ErrorCode.CORRUPTED_FILE if is_sized else ErrorCode.BAD_FILE_FORMAT
    unpacked = _inflated(source, size, _GZIP_FRAMES if is_gzip else zlib.MAX_WBITS, damage)
    if is_sized and len(unpacked) != size:
        raise failure(damage, "Another size than the data says")
    return unpacked


def _inflated(source: bytes, size: int, frames: int, damage: ErrorCode) -> bytes:
    """`source` uncompressed, in pieces: nobody knows whether the size is true."""
    decompressor = zlib.decompressobj(frames)
    pieces: list[bytes] = []
    left = size
    try:
        while not decompressor.eof and left >= 0:
            piece = decompressor.decompress(source, min(left + 1, _CHUNK))
            source = decompressor.unconsumed_tail
            if not piece and not source and not decompressor.eof:
                raise failure(damage, "The data is cut off")
            left -= len(piece)
            pieces.append(piece)
    except zlib.error as e:
        raise failure(damage, str(e)) from None
    if left < 0:
        raise failure(damage, f"More than {size} bytes")
    return b"".join(pieces)
