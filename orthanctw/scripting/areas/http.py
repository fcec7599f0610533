"""Requests to other servers."""

from __future__ import annotations

from orthanctw.interfaces import ScriptRequest
from orthanctw.scripting.exposure import Data, exposed
from orthanctw.scripting.host import Host


class HttpArea:
    """``orthanc.Http...``: an answer that is no success is an exception."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def HttpGet(self, url: str, username: str | None, password: str | None, /) -> bytes:
        """The answer to a GET."""
        return self._ask("GET", url, username, password)

    @exposed
    def HttpPost(self, url: str, body: Data, username: str | None, password: str | None, /) -> bytes:
        """The answer to a POST."""
        return self._ask("POST", url, username, password, body)

    @exposed
    def HttpPut(self, url: str, body: Data, username: str | None, password: str | None, /) -> bytes:
        """The answer to a PUT."""
        return self._ask("PUT", url, username, password, body)

    @exposed
    def HttpDelete(self, url: str, username: str | None, password: str | None, /) -> None:
        """A DELETE."""
        self._ask("DELETE", url, username, password)

    def _ask(self, method: str, url: str, username: str | None, password: str | None, body: bytes = b"") -> bytes:
        request = ScriptRequest(
            method=method, uri=url, body=body, username=username or "", password=password or ""
        )
        answer: bytes = self._host.wait(self._host.services.http, request)
        return answer
