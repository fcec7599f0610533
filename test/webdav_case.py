"""Tests of WebDAV: what PROPFIND answers, taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import unquote
from xml.etree import ElementTree

import attrs

from test.rest_samples import Answer, RestCase

ROOT = "/webdav"
#: The folders that are always there.
VIEWS = ["by-dates", "by-patients", "by-studies", "by-uids"]


@attrs.frozen
class Entry:
    """One response of a multistatus: the path, decoded, and the properties that are there and those that are not."""

    path: str
    found: Mapping[str, str]
    is_folder: bool
    missing: tuple[str, ...]


def entries(answer: Answer) -> list[Entry]:
    """The responses in the body of an answer."""
    return [_entry(response) for response in ElementTree.fromstring(answer.body).findall("{DAV:}response")]


def _entry(response: ElementTree.Element) -> Entry:
    found: dict[str, str] = {}
    missing: list[str] = []
    is_folder = False
    for group in response.findall("{DAV:}propstat"):
        for item in group.findall("{DAV:}prop/*"):
            if "200" in group.findtext("{DAV:}status", ""):
                found[item.tag.removeprefix("{DAV:}")] = (item.text or "").strip()
                is_folder |= item.find("{DAV:}collection") is not None
            else:
                missing.append(item.tag)
    return Entry(unquote(response.findtext("{DAV:}href", "")), found, is_folder, tuple(missing))


class WebDavCase(RestCase):
    """A server on which WebDAV may do all."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"WebDavDeleteAllowed": True}

    async def dav(self, method: str, path: str, body: bytes | str = b"", **headers: str) -> Answer:
        """Any request below the root."""
        return await self.client.ask(method, ROOT + path, body, headers=headers)

    async def propfind(self, path: str, body: str = "", depth: str = "1") -> list[Entry]:
        """The node and, with depth 1, what lies in it."""
        answer = await self.dav("PROPFIND", path, body, Depth=depth)
        self.assertEqual((answer.status, answer.headers["content-type"]), (207, "application/xml; charset=UTF-8"))
        return entries(answer)

    async def names(self, path: str) -> list[str]:
        """Names of what lies in a folder."""
        return [entry.found["displayname"] for entry in (await self.propfind(path))[1:]]

    async def walk(self, path: str = "/") -> dict[str, int | None]:
        """Sizes of all files and None for folders, by their paths below the root."""
        answer = await self.dav("PROPFIND", path, Depth="1")
        result: dict[str, int | None] = {}
        hrefs = [item.text or "" for item in ElementTree.fromstring(answer.body).iter("{DAV:}href")]
        for href, entry in list(zip(hrefs, entries(answer), strict=True))[1:]:
            place = entry.path.removeprefix(ROOT)
            self.assertNotIn(place, result)
            result[place] = None if entry.is_folder else int(entry.found["getcontentlength"])
            if entry.is_folder:
                result |= await self.walk(href.removeprefix(ROOT))
        return result
