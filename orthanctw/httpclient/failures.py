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
from orthanctw.tls import described


def told(reasons: list[Any]) -> HttpFailure:
    """The failure for some exceptions, the innermost last."""
    for reason in reversed(reasons):
        if isinstance(reason, HttpFailure):
            return reason
        if isinstance(reason, SSL.Error):
            return HttpFailure(f"TLS: {described(reason, None)}", is_transient=isinstance(reason, SSL.SysCallError))
    for reason in reversed(reasons):
        for kind, details in _DETAILS:
            if isinstance(reason, kind):
                return HttpFailure(details, is_transient=True)
    if any(isinstance(reason, ResponseFailed) for reason in reasons):
        return HttpFailure("The other side does not speak HTTP")
    if any(isinstance(reason, (InvalidHeaderName, ValueError)) for reason in reasons):
        return HttpFailure("The request cannot be sent as it is: its URL or a header")
    return HttpFailure("The request has failed")


#: From the particular to the general.
_DETAILS: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "The connection was refused"),
    (DNSLookupError, "The host is unknown"),
    (TimeoutError, "No connection within the time limit"),
    (SSLError, "TLS has failed"),
    (ConnectError, "No connection is possible"),
    (ConnectionClosed, "The connection was closed before the answer was complete"),
)
