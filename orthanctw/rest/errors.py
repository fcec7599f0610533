"""The one renderer of errors: any exception becomes a reply with Orthanc's error JSON."""

from __future__ import annotations

from collections.abc import Collection
from http.client import responses
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from orthanctw.errors import EmptyAnswer, OrthancError, UnknownResource
from orthanctw.rest.reply import TEXT, Reply, encode

log = Logger(namespace="orthanctw.http")
#: In the order of Allow.
METHODS = ("GET", "POST", "PUT", "DELETE")
#: Those that few paths have: one that knows nothing of them is not found. Any other is a mistake.
_ELSEWHERE = ("OPTIONS", "PROPFIND", "PROPPATCH", "MKCOL", "LOCK", "UNLOCK")
#: All others that a route may be declared for.
FURTHER_METHODS = (*_ELSEWHERE, "COPY", "MOVE")


def describe(error: OrthancError, method: str, path: str) -> bytes:
    """The body of an error: code, HTTP status, texts and the request it belongs to."""
    body: dict[str, Any] = {
        # Scripts may answer with any number.
        "HttpError": responses.get(error.http_status, "Unknown"),
        "HttpStatus": error.http_status,
        "Message": error.code.message,
        "Method": method,
        "OrthancError": error.code.message,
        "OrthancStatus": int(error.code),
        "Uri": path,
    }
    if error.details:
        body["Details"] = error.details
    if error.payload is not None:
        body["ErrorPayload"] = error.payload
    return encode(body)


def not_allowed(methods: Collection[str]) -> Reply:
    """405, with the methods that the path has, as Orthanc lists them: HEAD goes with GET, OPTIONS always."""
    allowed = ",".join(m for m in (*METHODS, *_ELSEWHERE) if m in methods)
    return Reply(content_type=None, status=405, headers=(("Allow", allowed),))


def options_reply(methods: Collection[str]) -> Reply:
    """The answer to OPTIONS (RFC 9110 section 9.3.7): all that a path can be asked."""
    allowed = [m for m in METHODS if m in methods]
    if "GET" in allowed:
        allowed.append("HEAD")
    return Reply(content_type=None, status=204, headers=(("Allow", ",".join([*allowed, "OPTIONS"])),))


def render_failure(failure: Failure, method: str, path: str, *, described: bool = True) -> Reply:
    """The reply to a request whose route failed.

    Parameters
    ----------
    described : bool
        ``HttpDescribeErrors``; without it error bodies are empty.
    """
    error = failure.value
    if isinstance(error, HTTPException) and method not in METHODS:
        error = EmptyAnswer(404 if method in _ELSEWHERE else 400)
    if isinstance(error, MethodNotAllowed):
        return not_allowed(set(error.valid_methods or ()))
    if isinstance(error, EmptyAnswer):
        return Reply(content_type=None, status=error.http_status, headers=error.headers)
    if isinstance(error, HTTPException):
        error = UnknownResource()
    if not isinstance(error, OrthancError):
        log.failure("Unexpected error in {method} {path}", failure, method=method, path=path)
        error = OrthancError()
    elif error.http_status >= 500:
        log.error("{method} {path}: {reason}", method=method, path=path, reason=str(error))
    body = describe(error, method, path) if described else b""
    return Reply(body, TEXT, error.http_status, error.headers)
