"""What a route answers with: a value that the site writes, and a script can read without a socket."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import attrs
import orjson

from orthanctw.interfaces import IReader

JSON = "application/json; charset=utf-8"
#: Literal ``{}`` answers carry the bare type.
PLAIN_JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"
DICOM = "application/dicom"

Headers = tuple[tuple[str, str], ...]


@attrs.frozen
class Reply:
    """An answer. `reader` streams a body of `reader.remaining` bytes in place of `body`; chunked when that is unknown.

    `compressible` says that HttpCompressionEnabled applies. `length` is that of a body which nobody made, since HEAD
    asks for its length alone; -1 when it would have to be made to know.
    """

    body: bytes = b""
    content_type: str | None = TEXT
    status: int = 200
    headers: Headers = ()
    reader: IReader | None = None
    compressible: bool = False
    length: int | None = None


def encode(value: Any) -> bytes:
    """JSON text of a value: UTF-8, indented by 2, keys sorted."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def json_reply(value: Any, status: int = 200, headers: Headers = ()) -> Reply:
    """A JSON answer."""
    return Reply(encode(value), JSON, status, headers, compressible=True)


def text_reply(text: str, headers: Headers = ()) -> Reply:
    """A plain text answer."""
    return Reply(text.encode("utf-8"), TEXT, headers=headers, compressible=True)


#: "200 OK, empty" answers carry a content type in Orthanc.
EMPTY = Reply()
EMPTY_JSON = Reply(b"{}", PLAIN_JSON)


def content_disposition(file_name: str) -> tuple[str, str]:
    """The header that names a download; quotes and control characters cannot leave the value.

    A name that is no ASCII comes in a second form, too (RFC 6266, RFC 8187).
    """
    safe = "".join(c for c in file_name if c not in '"\\' and c.isprintable())
    value = f'filename="{safe.encode("ascii", "replace").decode("ascii")}"'
    if not safe.isascii():
        value += f"; filename*=UTF-8''{quote(safe, safe='')}"
    return ("Content-Disposition", value)
