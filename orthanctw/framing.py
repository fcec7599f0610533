"""Frames on the pipes between the server and its children (level 0: no Twisted, children import it).

A frame is the length of a header (4 bytes, big endian), the length of a payload (8 bytes), the header as JSON, and the
payload.
"""

from __future__ import annotations

import struct
from typing import Final

HEAD: Final = struct.Struct(">IQ")
#: The longest header and payload that either end takes.
HEADER_LIMIT: Final = 16 << 20
PAYLOAD_LIMIT: Final = 1 << 30


def frame(header: bytes, payload: bytes) -> list[bytes]:
    """A frame, in pieces: a payload is not copied."""
    return [HEAD.pack(len(header), len(payload)), header, payload]


class FrameReader:
    """Puts the frames of a stream together. Never allocates by a length that the other end announces."""

    def __init__(self) -> None:
        self._start = b""
        self._lengths: tuple[int, int] | None = None
        self._header = b""
        self._payload: list[bytes] = []
        self._left = 0

    def feed(self, data: bytes) -> tuple[bytes, list[bytes]] | None:
        """Take bytes; the header and the pieces of the payload when they are complete.

        Raises ValueError when a frame is too long, or followed by something.
        """
        if self._lengths is None or len(self._header) < self._lengths[0]:
            data = self._feed_header(data)
        if self._lengths is None or len(self._header) < self._lengths[0]:
            return None
        self._payload.append(data)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("something follows a frame")
        if self._left:
            return None
        result = self._header, self._payload
        self._start, self._lengths, self._header, self._payload = b"", None, b"", []
        return result

    def _feed_header(self, data: bytes) -> bytes:
        """Take what belongs to the lengths and the header; the rest."""
        self._start += data
        if self._lengths is None:
            if len(self._start) < HEAD.size:
                return b""
            lengths = HEAD.unpack_from(self._start)
            if lengths[0] > HEADER_LIMIT or lengths[1] > PAYLOAD_LIMIT:
                raise ValueError("a frame is too long")
            self._lengths, self._left = lengths, lengths[1]
        end = HEAD.size + self._lengths[0]
        if len(self._start) < end:
            return b""
        self._header, rest = self._start[HEAD.size : end], self._start[end:]
        self._start = b""
        return rest
