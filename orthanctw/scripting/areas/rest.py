"""The REST API of this server."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from orthanctw.error_codes import ErrorCode
from orthanctw.interfaces import ScriptRequest
from orthanctw.scripting.exposure import Data, exposed, failure
from orthanctw.scripting.host import Host

_NOTHING: Mapping[str, str] = MappingProxyType({})


class RestArea:
    """``orthanc.RestApi...``: without a name in ``AfterPlugins``, past what scripts have put in place of a route."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def RestApiGet(self, uri: str, /) -> bytes:
        """The answer to a GET."""
        return self._ask("GET", uri)

    @exposed
    def RestApiGetAfterPlugins(self, uri: str, /) -> bytes:
        """The answer to a GET, by scripts, too."""
        return self._ask("GET", uri, is_builtin=False)

    @exposed
    def RestApiPost(self, uri: str, body: Data, /) -> bytes:
        """The answer to a POST."""
        return self._ask("POST", uri, body)

    @exposed
    def RestApiPostAfterPlugins(self, uri: str, body: Data, /) -> bytes:
        """The answer to a POST, by scripts, too."""
        return self._ask("POST", uri, body, is_builtin=False)

    @exposed
    def RestApiPut(self, uri: str, body: Data, /) -> bytes:
        """The answer to a PUT."""
        return self._ask("PUT", uri, body)

    @exposed
    def RestApiPutAfterPlugins(self, uri: str, body: Data, /) -> bytes:
        """The answer to a PUT, by scripts, too."""
        return self._ask("PUT", uri, body, is_builtin=False)

    @exposed
    def RestApiDelete(self, uri: str, /) -> None:
        """A DELETE."""
        self._ask("DELETE", uri)

    @exposed
    def RestApiDeleteAfterPlugins(self, uri: str, /) -> None:
        """A DELETE, by scripts, too."""
        self._ask("DELETE", uri, is_builtin=False)

    @exposed
    def GenerateRestApiAuthorizationToken(self) -> str:
        """A value of the header ``Authorization``, for programs that call the REST API."""
        token: str = self._host.wait(self._host.services.token)
        return token

    def _ask(self, method: str, uri: str, body: bytes = b"", *, is_builtin: bool = True) -> bytes:
        if not uri.startswith("/"):
            raise failure(ErrorCode.URI_SYNTAX)
        request = ScriptRequest(method=method, uri=uri, body=body, headers=_NOTHING, is_builtin=is_builtin)
        answer: bytes = self._host.wait(self._host.services.rest, request)
        return answer
