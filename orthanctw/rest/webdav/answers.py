"""XML that clients are answered (RFC 4918 sections 14 and 15), in the layout of Orthanc."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from twisted.web.http import datetimeToString

from orthanctw.rest.reply import DICOM, PLAIN_JSON
from orthanctw.rest.webdav.requests import DAV, Name, Wanted
from orthanctw.rest.xml import escaped
from orthanctw.webdav.tree import Kind, Node, Path

ROOT: Final = "webdav"
CONTENT_TYPE: Final = "application/xml; charset=UTF-8"
_DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
OPENING: Final = f'{_DECLARATION}<D:multistatus xmlns:D="DAV:">\n'
CLOSING: Final = "</D:multistatus>\n"
#: Types of files, by their kind.
MEDIA_TYPES: Final[Mapping[Kind, str]] = {Kind.DICOM: DICOM, Kind.JSON: PLAIN_JSON}
_TIME: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})\Z")


def href_of(path: Path, *, is_folder: bool = False) -> str:
    """The path of a node on the server."""
    href = "/" + "/".join(quote(name, "") for name in (ROOT, *path))
    return href + "/" if is_folder else href


def http_date(time: str) -> str:
    """A time of the index as in headers of HTTP."""
    match = _TIME.match(time)
    numbers = [int(text) for text in match.groups()] if match else [1970, 1, 1, 0, 0, 0]
    date: bytes = datetimeToString(timegm(tuple(numbers)))
    return date.decode("ascii")


def response(node: Node, href: str, size: int, now: str, wanted: Wanted) -> str:
    """The properties of one node; `size` is that of a file, `now` the time for what has none of its own."""
    properties = _properties(node, size, node.modified or now)
    if wanted.names_only:
        properties = dict.fromkeys(properties, None)
    missing: Sequence[Name] = ()
    if wanted.properties is not None:
        missing = [name for name in wanted.properties if name[0] != DAV or name[1] not in properties]
        properties = {name: value for name, value in properties.items() if (DAV, name) in wanted.properties}
    groups = []
    if properties or not missing:
        groups.append(_group("200 OK", [_property(name, value) for name, value in properties.items()]))
    if missing:
        groups.append(_group("404 Not Found", [_unknown(name) for name in missing]))
    return f"  <D:response>\n    <D:href>{escaped(href)}</D:href>\n{''.join(groups)}  </D:response>\n"


def _properties(node: Node, size: int, time: str) -> dict[str, str | None]:
    """XML of the properties of a node, by name."""
    properties: dict[str, str | None] = {
        "displayname": escaped(node.path[-1] if node.path else ROOT),
        "creationdate": _TIME.sub(r"\1-\2-\3T\4:\5:\6Z", time),
        "getlastmodified": http_date(time),
    }
    if node.kind is Kind.FOLDER:
        return {**properties, "resourcetype": "\n          <D:collection />\n        "}
    return {
        **properties,
        "resourcetype": None,
        "getcontentlength": str(size),
        "getcontenttype": MEDIA_TYPES[node.kind],
    }


def _property(name: str, value: str | None) -> str:
    return f"        <D:{name} />\n" if value is None else f"        <D:{name}>{value}</D:{name}>\n"


def _unknown(name: Name) -> str:
    namespace, local = name
    return f"        <{local} xmlns={quoteattr(namespace)} />\n"


def _group(status: str, properties: Sequence[str]) -> str:
    return (
        f"    <D:propstat>\n      <D:status>HTTP/1.1 {status}</D:status>\n"
        f"      <D:prop>\n{''.join(properties)}      </D:prop>\n    </D:propstat>\n"
    )


def unchanged(path: Path) -> str:
    """The answer to a PROPPATCH: nothing was done, and nothing failed."""
    return (
        f"{OPENING}  <D:response>\n    <D:href>{escaped(href_of(path))}</D:href>\n"
        f"    <D:propstat />\n  </D:response>\n{CLOSING}"
    )


def lock(path: Path, token: str) -> str:
    """What a client is told of the lock that it asked for."""
    return f"""{_DECLARATION}<D:prop xmlns:D="DAV:">
  <D:lockdiscovery>
    <D:activelock>
      <D:locktype>
        <D:write />
      </D:locktype>
      <D:lockscope>
        <D:exclusive />
      </D:lockscope>
      <D:depth>0</D:depth>
      <D:timeout>Second-3599</D:timeout>
      <D:lockroot>
        <D:href>{escaped(href_of(path))}</D:href>
      </D:lockroot>
      <D:owner />
      <D:locktoken>
        <D:href>{token}</D:href>
      </D:locktoken>
    </D:activelock>
  </D:lockdiscovery>
</D:prop>
"""
