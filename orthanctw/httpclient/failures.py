"""What went wrong with a request, in words."""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import (
    ConnectError,
    ConnectionClosed,
    ConnectionRefusedError,
    DNSLookupError,
    SSLError,
    TimeoutError,
)
from twisted.web.client import ResponseFailed
from twisted.web.http_headers import InvalidHeaderName

from orthanctw.httpclient.values import HttpFailure


def told(reasons: list[Any]) -> HttpFailure:
    """The failure for some exceptions, the innermost last."""
    for reason in reversed(reasons):
        if isinstance(reason, HttpFailure):
            return reason
        if isinstance(reason, SSL.Error):
            return HttpFailure(f"TLS: {_words(reason)}")
    for reason in reversed(reasons):
        for kind, details in _DETAILS:
            if isinstance(reason, kind):
                return HttpFailure(details, is_transient=True)
    if any(isinstance(reason, ResponseFailed) for reason in reasons):
        return HttpFailure("The other side does not speak HTTP")
    if any(isinstance(reason, (InvalidHeaderName, ValueError)) for reason in reasons):
        return HttpFailure("The request cannot be sent as it is: its URL or a header")
    return HttpFailure("The request has failed")


def _words(error: SSL.Error) -> str:
    """OpenSSL's own texts; they quote nothing."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else ()
    texts = [entry[2] for entry in entries if isinstance(entry, tuple) and len(entry) == 3 and entry[2]]
    return "; ".join(dict.fromkeys(texts)) or "the connection is not secure"


#: From the particular to the general.
_DETAILS: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "The connection was refused"),
    (DNSLookupError, "The host is unknown"),
    (TimeoutError, "No connection within the time limit"),
    (SSLError, "TLS has failed"),
    (ConnectError, "No connection is possible"),
    (ConnectionClosed, "The connection was closed before the answer was complete"),
)
