"""The one client for HTTP and HTTPS of the server: persistent connections, limits, time limits (level 3)."""

from orthanctw.httpclient.client import HttpClient
from orthanctw.httpclient.values import (
    Authority,
    ClientCertificate,
    ClientOptions,
    HttpAnswer,
    HttpFailure,
    HttpRequest,
    Proxy,
)

__all__ = [
    "Authority",
    "ClientCertificate",
    "ClientOptions",
    "HttpAnswer",
    "HttpClient",
    "HttpFailure",
    "HttpRequest",
    "Proxy",
]
