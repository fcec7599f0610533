"""Answers with the bytes of a stored file, whole or in part (RFC 9110 section 14, with Orthanc's readings)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import partial

from orthanctw.errors import BadRange, BadRequest
from orthanctw.interfaces import IReader, IStorageArea
from orthanctw.model import Attachment
from orthanctw.rest.call import Call
from orthanctw.rest.reply import BINARY, Headers, Reply

_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,40})-([0-9]{0,40})\s*\Z", re.IGNORECASE)


def parse_range(text: str, size: int) -> tuple[int, int]:
    """First and last byte of ``bytes=a-b``.

    Raises
    ------
    BadRequest
        Another unit, or no numbers.
    BadRange
        The start lies beyond the end.
    """
    match = _RANGE.match(text)
    if match is None:
        raise BadRequest("Only a single range of bytes can be asked for")
    first_text, last_text = match.groups()
    # A missing start is 0: clients of Orthanc depend on it, though RFC 9110 means the last bytes.
    first = int(first_text or 0)
    last = min(int(last_text or size), size - 1)
    if first > last:
        raise BadRange("The range starts beyond the end", size)
    return first, last


async def file_reply(
    storage: IStorageArea,
    attachment: Attachment,
    call: Call,
    content_type: str,
    headers: Headers = (),
    *,
    raw: bool = False,
) -> Reply:
    """The file of an attachment: uncompressed, or `raw` as it lies on the disk."""
    size = attachment.compressed_size if raw else attachment.size
    open_part = partial(storage.reader, attachment, raw=raw)
    return await ranged_reply(size, open_part, call, content_type, headers)


async def ranged_reply(
    size: int,
    open_part: Callable[[int, int], Awaitable[IReader]],
    call: Call,
    content_type: str,
    headers: Headers = (),
) -> Reply:
    """A file of `size` bytes, or the range of it that is asked for; `open_part` takes an offset and a length."""
    # HEAD has no ranges (RFC 9110 section 14.2), and what it tells of a file the index knows.
    if call.is_head:
        return Reply(content_type=content_type, headers=headers, length=size)
    asked = call.headers.get("range")
    if asked is None:
        return Reply(content_type=content_type, headers=headers, reader=await open_part(0, size))
    first, last = parse_range(asked, size)
    reader = await open_part(first, last - first + 1)
    headers = (("Content-Range", f"bytes {first}-{last}/{size}"), *headers)
    return Reply(content_type=BINARY, status=206, headers=headers, reader=reader)
