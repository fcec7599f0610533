"""What a route answers with: a value that the site writes, and a script can read without a socket."""

from __future__ import annotations

from typing import Any

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

    `compressible` says that HttpCompressionEnabled applies.
    """

    body: bytes = b""
    content_type: str | None = TEXT
    status: int = 200
    headers: Headers = ()
    reader: IReader | None = None
    compressible: bool = False


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
    """The header that names a download; quotes and control characters cannot leave the value."""
    safe = "".join(c for c in file_name if c not in '"\\' and c.isprintable())
    return ("Content-Disposition", f'filename="{safe.encode("latin-1", "replace").decode("latin-1")}"')
