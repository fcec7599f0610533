"""The program of a child that works on images: requests in, answers out, until the input closes.

``python -m orthanctw.dicom.pixels.child MEMORY SECONDS``: bytes of address space, and the time that one request may
take at the very most. See `orthanctw.framing` for the frames.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Final

import orjson

from orthanctw.dicom.pixels.operations import OPERATIONS, Operation
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.framing import HEAD, HEADER_LIMIT, PAYLOAD_LIMIT, frame

_CHUNK: Final = 1 << 20
_SET_PARENT_DEATH_SIGNAL: Final = 1


def limit_resources(memory: int) -> None:
    """Give up what a codec must not have: more memory, core files, a life after that of the server."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # These go to all processes of a terminal or of a systemd unit; a server that stops ends its children itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def read_exactly(stream: BinaryIO, length: int) -> bytes:
    """The next bytes, gathered as they come. EOFError when the stream ends before."""
    chunks = []
    while length > 0:
        data = stream.read(min(length, _CHUNK))
        if not data:
            raise EOFError
        chunks.append(data)
        length -= len(data)
    return b"".join(chunks)


def read_request(stream: BinaryIO) -> tuple[bytes, bytes]:
    """The next request. EOFError at the end, or when it is no request."""
    header_length, payload_length = HEAD.unpack(read_exactly(stream, HEAD.size))
    if header_length > HEADER_LIMIT or payload_length > PAYLOAD_LIMIT:
        raise EOFError
    return read_exactly(stream, header_length), read_exactly(stream, payload_length)


def _error(code: int, details: str) -> bytes:
    return orjson.dumps({"Code": int(code), "Details": details})


def answer_to(raw: bytes, payload: bytes, operations: Mapping[str, Operation]) -> tuple[bytes, bytes]:
    """Carry a request out; an exception becomes an error answer."""
    try:
        content = orjson.loads(raw)
        header, result = operations[content["Operation"]](content["Header"], payload)
        return orjson.dumps({"Header": header}), result
    except OrthancError as e:
        return _error(e.code, e.details), b""
    except MemoryError:
        return _error(ErrorCode.NOT_ENOUGH_MEMORY, "An image needs more memory than `CodecMemoryMB` allows"), b""
    except Exception as e:  # noqa: BLE001 - codecs raise whatever they like; the server must get an answer
        # Seen in the log of a server that tells everything.
        traceback.print_exc()
        return _error(ErrorCode.INTERNAL_ERROR, f"An image cannot be worked on ({type(e).__name__})"), b""


def main(arguments: Sequence[str], operations: Mapping[str, Operation] = OPERATIONS) -> None:
    """Serve until the input closes."""
    memory, seconds = int(arguments[0]), int(arguments[1])
    limit_resources(memory)
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # What a codec prints must not get between the answers.
    os.dup2(2, 1)
    while True:
        try:
            request = read_request(requests)
        except EOFError:
            return
        # The server has its own timer; this one ends the child of a server that is gone, within any codec.
        signal.alarm(seconds)
        for piece in frame(*answer_to(*request, operations)):
            answers.write(piece)
        answers.flush()
        signal.alarm(0)


if __name__ == "__main__":
    main(sys.argv[1:])
