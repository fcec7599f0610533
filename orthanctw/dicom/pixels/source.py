"""The bytes of a frame, out of a file of the storage area, or of a request's payload."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import resource
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, BinaryIO, Final, Protocol

from orthanctw.dicom.elements import DEFLATED_LITTLE_ENDIAN, Buffer
from orthanctw.dicom.scanner import meta_end
from orthanctw.errors import BadFileFormat, CorruptedFile, InexistentFile
from orthanctw.model import Compression
from orthanctw.storage.compression import Inflater

#: Bytes of the encoded form of one frame.
FRAME_LIMIT: Final = 1 << 30
_CHUNK: Final = 256 * 1024
#: Meta headers are read whole; real ones have some 500 bytes.
_META_LIMIT: Final = 64 * 1024


class _Forwards(Protocol):
    """Bytes that are read once, from the first to the last."""

    def read(self, length: int) -> bytes: ...

    def skip(self, length: int) -> None: ...


class _Plain:
    """A file that can be read anywhere."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, length: int) -> bytes:
        return self._file.read(length)

    def skip(self, length: int) -> None:
        self._file.seek(length, io.SEEK_CUR)


class _Deflated:
    """A deflated data set (PS3.5 section A.5): no more is inflated at a time than is asked for."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._pending = b""

    def read(self, length: int) -> bytes:
        chunks = []
        while length > 0 and not self._inflater.eof:
            data = self._pending or self._read(_CHUNK)
            try:
                piece = self._inflater.decompress(data, length)
            except zlib.error:
                raise BadFileFormat("A deflated data set cannot be inflated") from None
            self._pending = self._inflater.unconsumed_tail
            if not piece and not data:
                break
            chunks.append(piece)
            length -= len(piece)
        return b"".join(chunks)

    def skip(self, length: int) -> None:
        while length > 0:
            data = self.read(min(length, _CHUNK))
            if not data:
                return
            length -= len(data)


def open_file(header: Mapping[str, Any], payload: bytes = b"") -> BinaryIO:
    """The file that a request names, as it lies on the disk, or its payload."""
    if not header["Path"]:
        return io.BytesIO(payload)
    try:
        return open(header["Path"], "rb")
    except OSError as e:
        raise InexistentFile("A file of the storage area cannot be opened") from e


def read_frame(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """The encoded form of the frame that a request is about: its fragments, put together.

    Raises BadFileFormat, CorruptedFile, InexistentFile.
    """
    fragments = [(int(offset), int(length)) for offset, length in header["Fragments"]]
    if any(offset < 0 or length < 0 for offset, length in fragments):
        raise BadFileFormat("A fragment of pixel data lies nowhere")
    if sum(length for _, length in fragments) > FRAME_LIMIT:
        raise BadFileFormat("A frame is too large")
    with open_file(header, payload) as file:
        source = _data_of(header, file, payload)
        position, pieces = 0, []
        for offset, length in fragments:
            if offset < position:
                raise BadFileFormat("The fragments of a frame overlap")
            source.skip(offset - position)
            piece = source.read(length)
            if len(piece) != length:
                raise CorruptedFile("The file ends within its pixel data")
            pieces.append(piece)
            position = offset + length
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@contextlib.contextmanager
def mapped_file(header: Mapping[str, Any], payload: bytes = b"") -> Iterator[Buffer]:
    """The DICOM file that a request names as a buffer; what is compressed on the disk is inflated into another file."""
    if not header["Path"]:
        yield payload
        return
    with open_file(header) as file, contextlib.ExitStack() as stack:
        if header["StorageCompression"] == Compression.ZLIB_WITH_SIZE:
            folder = os.path.dirname(header.get("Output") or "") or None
            plain: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            inflater = Inflater(file.read)
            while chunk := inflater.read(_CHUNK):
                plain.write(chunk)
            plain.flush()
        else:
            plain = file
        size = os.fstat(plain.fileno()).st_size
        if size == 0:
            yield b""
            return
        stack.enter_context(_more_address_space(size))
        mapped = mmap.mmap(plain.fileno(), 0, prot=mmap.PROT_READ)
        try:
            yield mapped
        finally:
            # Views of it may hang on a traceback; it goes with them.
            with contextlib.suppress(BufferError):
                mapped.close()


@contextlib.contextmanager
def _more_address_space(size: int) -> Iterator[None]:
    """The limit on address space is about what codecs allocate: a file that is read through it comes on top."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (soft + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _data_of(header: Mapping[str, Any], file: BinaryIO, payload: bytes) -> _Forwards:
    """What offsets of the stored header count in: the DICOM file, or its inflated data set."""
    plain: _Forwards = _Plain(file)
    size = os.fstat(file.fileno()).st_size if header["Path"] else len(payload)
    if header["StorageCompression"] == Compression.ZLIB_WITH_SIZE and header["Path"]:
        plain = Inflater(file.read)
        size = plain.size
    if header["TransferSyntax"] == DEFLATED_LITTLE_ENDIAN:
        return _deflated(plain)
    # Before anything is allocated.
    if any(offset + length > size for offset, length in header["Fragments"]):
        raise CorruptedFile("The file ends within its pixel data")
    return plain


def _deflated(file: _Forwards) -> _Deflated:
    head = file.read(_META_LIMIT)
    rest = [head[meta_end(head) :]]
    return _Deflated(lambda length: rest.pop() if rest and rest[0] else file.read(length))
