"""An HTTP client for the length of a test, and bodies for its requests."""

from __future__ import annotations

import io
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase

from orthanctw.errors import InexistentFile
from orthanctw.httpclient import ClientOptions, HttpAnswer, HttpClient, HttpFailure, HttpRequest
from orthanctw.threads import at_once
from test.http_servers import HttpServer


class Body:
    """A body that is read in pieces, at most `piece` octets at a time; it may fail after some."""

    def __init__(self, content: bytes, piece: int = 1 << 20, fails_after: int | None = None) -> None:
        self._file = io.BytesIO(content)
        self._piece = piece
        self._fails_after = fails_after
        self.remaining = len(content)
        self.is_closed = False

    def read(self, length: int) -> Deferred[bytes]:
        if self._fails_after is not None and self._file.tell() >= self._fails_after:
            raise InexistentFile("gone")
        data = self._file.read(min(length, self._piece))
        self.remaining -= len(data)
        return succeed(data)

    def close(self) -> None:
        self.is_closed = True


class ClientCase(TestCase):
    """A client of its own for each test."""

    timeout = 60

    def setUp(self) -> None:
        self.server = HttpServer()
        self.client = self.make()

    def make(self, **options: Any) -> HttpClient:
        client = HttpClient(reactor, at_once, ClientOptions(**{"timeout": 30, **options}))
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client

    def ask(
        self, url: str, method: str = "GET", client: HttpClient | None = None, **fields: Any
    ) -> Deferred[HttpAnswer]:
        return (client or self.client).request(HttpRequest(method=method, url=url, **fields))

    async def fails(self, url: str, method: str = "GET", **fields: Any) -> HttpFailure:
        """How a request fails, which it must."""
        failure = await self.assertFailure(self.ask(url, method, **fields), HttpFailure)
        self.assertEqual(failure.http_status, 500)
        return failure  # type: ignore[no-any-return]
