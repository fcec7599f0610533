"""Requests, answers and failures of the HTTP client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import attrs
import orjson

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.interfaces import IReader, ScriptRequest

_MEGABYTE: Final = 1 << 20


class HttpFailure(OrthancError):
    """The other side cannot be reached, refuses, breaks off, keeps silent, or answers what is no answer.

    `is_transient`: it may be over when one tries again later.
    """

    code = ErrorCode.NETWORK_PROTOCOL

    def __init__(self, details: str, *, is_transient: bool = False) -> None:
        super().__init__(details)
        self.is_transient = is_transient


@attrs.frozen(kw_only=True)
class ClientCertificate:
    """PEM files of a certificate and its private key, which may be in the same file; the key's password, if any."""

    certificate: str
    key: str = ""
    password: str = attrs.field(default="", repr=False)


@attrs.frozen
class Authority:
    """Host and port of a URL, and the user and password that it names."""

    host: str
    port: int
    username: str = ""
    password: str = attrs.field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> Authority:
        """Those of a URL. HttpFailure when it has none."""
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise HttpFailure("The URL cannot be used") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise HttpFailure("The URL cannot be used")
        return cls(parts.hostname, port, unquote(parts.username or ""), unquote(parts.password or ""))


@attrs.frozen(kw_only=True)
class Proxy:
    """A proxy for HTTP, and by CONNECT for HTTPS (RFC 9110 section 9.3.6)."""

    authority: Authority

    @classmethod
    def parse(cls, text: str) -> Proxy | None:
        """What ``HttpProxy`` says, ``[user:password@]host:port``; None when it is empty."""
        if not text:
            return None
        return cls(authority=Authority.of(text if "://" in text else f"http://{text}"))


@attrs.frozen(kw_only=True)
class ClientOptions:
    """What all requests have in common. `timeout` in seconds, 0 for none; an empty `authorities` is the system's."""

    timeout: float = 60
    verifies: bool = True
    authorities: str = ""
    proxy: Proxy | None = None
    is_verbose: bool = False


#: Opens the body of a request; called again when the request is sent once more.
OpenBody = Callable[[], Awaitable[IReader]]


@attrs.frozen(kw_only=True)
class HttpRequest:
    """A request. The body is bytes, or a reader whose length is known.

    `timeout` is that of `ClientOptions` when it is None: seconds in which nothing moves. `maximum` are the bytes of the
    answer's body that are taken. A request that `is_repeatable` is sent once more when a connection that was used
    before turns out to be closed.
    """

    method: str
    url: str
    headers: Mapping[str, str] = attrs.field(default=MappingProxyType({}), repr=False)
    body: bytes | OpenBody = attrs.field(default=b"", repr=False)
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    certificate: ClientCertificate | None = None
    timeout: float | None = None
    maximum: int = 16 * _MEGABYTE
    is_repeatable: bool = True

    @classmethod
    def of_script(cls, asked: ScriptRequest, maximum: int) -> HttpRequest:
        """What a script asks for."""
        return cls(
            method=asked.method,
            url=asked.uri,
            headers=asked.headers,
            body=asked.body,
            username=asked.username,
            password=asked.password,
            timeout=asked.timeout or None,
            maximum=maximum,
            is_repeatable=asked.method in ("GET", "PUT", "DELETE"),
        )


@attrs.frozen
class HttpAnswer:
    """An answer, whatever its status; names of `headers` are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON. HttpFailure when it is none."""
        try:
            return orjson.loads(self.body)
        except ValueError:
            kind = self.headers.get("content-type", "").partition(";")[0] or "none"
            raise HttpFailure(f"The answer is no JSON (its type is {kind[:100]})") from None
