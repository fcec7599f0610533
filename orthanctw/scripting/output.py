"""What scripts answer requests with."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Final

import attrs
from twisted.logger import Logger

from orthanctw.error_codes import ErrorCode
from orthanctw.interfaces import IReader
from orthanctw.scripting.exposure import Data, exposed, exposed_class, failure
from orthanctw.scripting.pictures import encode_jpeg, encode_png

log: Final = Logger(namespace="orthanctw.plugins")
#: Names of headers (RFC 9110 section 5.1).
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: How an answer is sent is the server's affair.
_OWN: Final = frozenset(("connection", "content-length", "keep-alive", "transfer-encoding"))
#: Statuses whose answers have no body.
_EMPTY: Final = (204, 304)


@attrs.frozen(kw_only=True)
class Answer:
    """What a script answers. `headers` are all that it sets; the body of a stream comes by the `reader`."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    is_stream: bool = False
    reader: IReader | None = None


class RestOutput:
    """Makes the answer to one request. The first answer counts; what is sent after it, or set, is told in the log.

    Parameters
    ----------
    give : callable
        Takes the answer.
    send : callable
        Takes bytes of an answer that is a stream, and waits for who reads them.
    """

    def __init__(self, give: Callable[[Answer], None], send: Callable[[bytes], None]) -> None:
        self._give = give
        self._send = send
        self._headers: list[tuple[str, str]] = []
        self._is_alive = True
        self._has_answered = False
        self._is_stream = False
        self._boundary = ""
        self._item_type = ""
        self.details = ""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Those that the script has set."""
        return tuple(self._headers)

    def complete(self) -> None:
        """The callback has returned; on its thread."""
        if self._boundary:
            self._send(f"--{self._boundary}--\r\n".encode())

    def end(self) -> None:
        """The callback has ended, in whatever way."""
        self._is_alive = False

    @exposed
    def AnswerBuffer(self, answer: Data, mime_type: str, /) -> None:
        """Answer with a body."""
        self._answer(200, answer, mime_type)

    @exposed
    def CompressAndAnswerPngImage(self, format: int, width: int, height: int, pitch: int, buffer: Data, /) -> None:
        """Answer with a PNG of pixels."""
        self._answer(200, encode_png(format, width, height, pitch, buffer), "image/png")

    @exposed
    def CompressAndAnswerJpegImage(
        self, format: int, width: int, height: int, pitch: int, buffer: Data, quality: int, /
    ) -> None:
        """Answer with a JPEG of pixels."""
        self._answer(200, encode_jpeg(format, width, height, pitch, buffer, quality), "image/jpeg")

    @exposed
    def Redirect(self, redirection: str, /) -> None:
        """Answer that it is elsewhere (301)."""
        self._answer(301, b"", further=("Location", redirection))

    @exposed
    def SendHttpStatus(self, status: int, body: Data, /) -> None:
        """Answer with a status and a body."""
        self._answer(status, body)

    @exposed
    def SendHttpStatusCode(self, status: int, /) -> None:
        """Answer with a status alone."""
        self._answer(status, b"")

    @exposed
    def SendMethodNotAllowed(self, allowed_methods: str, /) -> None:
        """Answer that there are other methods (405)."""
        self._answer(405, b"", further=("Allow", allowed_methods))

    @exposed
    def SendUnauthorized(self, realm: str, /) -> None:
        """Ask for credentials (401)."""
        quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
        self._answer(401, b"", further=("WWW-Authenticate", f'Basic realm="{quoted}"'))

    @exposed
    def SetCookie(self, cookie: str, value: str, /) -> None:
        """Add a cookie to the answer."""
        self._set("Set-Cookie", f"{cookie}={value}")

    @exposed
    def SetHttpHeader(self, key: str, value: str, /) -> None:
        """Add a header to the answer."""
        if key.lower() not in _OWN:
            self._set(key, value)

    @exposed
    def SetHttpErrorDetails(self, details: str, log: int, /) -> None:
        """Tell the client why, should the callback fail."""
        self._check()
        self.details = details
        if log:
            _log_details(details)

    @exposed
    def StartStreamAnswer(self, content_type: str, /) -> None:
        """Begin an answer whose body comes by `SendStreamChunk`."""
        self._start(content_type)
        self._is_stream = True

    @exposed
    def SendStreamChunk(self, answer: Data, /) -> None:
        """The next bytes; waits for the client to take those before."""
        self._check()
        if not self._is_stream:
            raise failure(ErrorCode.BAD_SEQUENCE_OF_CALLS)
        self._send(answer)

    @exposed
    def StartMultipartAnswer(self, sub_type: str, content_type: str, /) -> None:
        """Begin an answer of several parts (RFC 2046 section 5.1), which come by `SendMultipartItem`."""
        boundary = uuid.uuid4().hex
        kind = f'; type="{content_type}"' if content_type else ""
        self._start(f"multipart/{sub_type}{kind}; boundary={boundary}")
        self._item_type = _checked_value(content_type)
        self._boundary = boundary

    @exposed
    def SendMultipartItem(self, answer: Data, /) -> None:
        """The next part; waits for the client to take those before."""
        self._check()
        if not self._boundary:
            raise failure(ErrorCode.BAD_SEQUENCE_OF_CALLS)
        kind = f"Content-Type: {self._item_type}\r\n" if self._item_type else ""
        head = f"--{self._boundary}\r\n{kind}Content-Length: {len(answer)}\r\nMIME-Version: 1.0\r\n\r\n"
        self._send(head.encode("latin-1", "replace") + answer + b"\r\n")

    def _check(self) -> None:
        if not self._is_alive:
            raise failure(ErrorCode.NULL_POINTER, "The callback that this output belongs to has ended")

    def _set(self, name: str, value: str) -> None:
        self._check()
        if not _NAME.match(name):
            raise failure(ErrorCode.PARAMETER_OUT_OF_RANGE, "This is no name of a header")
        self._headers.append((name, _checked_value(value)))

    def _answer(self, status: int, body: bytes, content_type: str = "", further: tuple[str, str] | None = None) -> None:
        self._check()
        if not 200 <= status <= 599:
            raise failure(ErrorCode.PARAMETER_OUT_OF_RANGE, "This is no status of an answer")
        headers = self._headers_with(content_type, further)
        if self._has_answered:
            log.error("A REST callback in Python answers twice; the first answer counts")
            return
        self._has_answered = True
        self._give(Answer(status=status, headers=headers, body=b"" if status in _EMPTY else body))

    def _start(self, content_type: str) -> None:
        self._check()
        headers = self._headers_with(content_type)
        if self._has_answered:
            raise failure(ErrorCode.BAD_SEQUENCE_OF_CALLS)
        self._has_answered = True
        self._give(Answer(headers=headers, is_stream=True))

    def _headers_with(self, content_type: str, further: tuple[str, str] | None = None) -> tuple[tuple[str, str], ...]:
        """Those set before, with others that come in place of those of the same name."""
        added = [("Content-Type", content_type)] if content_type else []
        if further is not None:
            added.append(further)
        names = {name.lower() for name, _ in added}
        kept = [(name, value) for name, value in self._headers if name.lower() not in names]
        return (*kept, *((name, _checked_value(value)) for name, value in added))


exposed_class(RestOutput)


def _checked_value(value: str) -> str:
    """The value of a header, byte by byte as characters. PARAMETER_OUT_OF_RANGE when it would end the header."""
    if _CONTROL.search(value):
        raise failure(ErrorCode.PARAMETER_OUT_OF_RANGE, "The value of a header has a control character")
    return value.encode("utf-8", "replace").decode("latin-1")


def _log_details(details: str) -> None:
    log.error("{details}", details=details)
