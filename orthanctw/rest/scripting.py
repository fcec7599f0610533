"""The REST API for scripts: the same routes, without a socket."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final
from urllib.parse import parse_qsl

from werkzeug.exceptions import HTTPException

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import EmptyAnswer, OrthancError, UnknownResource
from orthanctw.model import Origin
from orthanctw.rest.app import RestApi
from orthanctw.rest.call import Call
from orthanctw.rest.reply import Reply

_PIECE: Final = 1 << 20
#: What statuses of answers mean to scripts; others are BAD_REQUEST.
_CODES: Final = {
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.UNAUTHORIZED,
    404: ErrorCode.UNKNOWN_RESOURCE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}


class ScriptDispatcher:
    """Asks the routes on behalf of scripts.

    Parameters
    ----------
    origin : Origin
        What objects that are stored so are told to come from.
    maximum : int
        Bytes of the answer's body at most.
    successes : container of int
        Statuses that are no failures.
    """

    def __init__(self, api: RestApi, origin: Origin, maximum: int, successes: Container[int] = (200,)) -> None:
        self._api = api
        self._origin = origin
        self._maximum = maximum
        self._successes = successes

    async def ask(
        self, method: str, uri: str, body: bytes, headers: Mapping[str, str], *, is_builtin: bool
    ) -> bytes:
        """The body of the answer to a request. OrthancError when the answer is no success (200).

        Parameters
        ----------
        is_builtin : bool
            Ask the routes of the server even where scripts have put something in their place.
        """
        path, _, query = uri.partition("?")
        if "//" in path:
            raise OrthancError("An empty part of a path", code=ErrorCode.URI_SYNTAX)
        arguments = dict(parse_qsl(query, keep_blank_values=True, errors="replace")) if method == "GET" else {}
        call = Call(
            method=method,
            path=path,
            arguments=arguments,
            headers={name.lower(): value for name, value in headers.items()},
            body=body,
            origin=self._origin,
        )
        try:
            reply = await self._api.dispatch(call, is_builtin=is_builtin)
        except HTTPException as e:
            # There is no such path, or not with this method.
            raise UnknownResource(f"{method} {path}", http_status=e.code) from e
        except EmptyAnswer as e:
            raise _failure(method, path, e.http_status) from e
        content = await self._content(reply)
        if reply.status not in self._successes:
            raise _failure(method, path, reply.status)
        return content

    async def _content(self, reply: Reply) -> bytes:
        reader = reply.reader
        if reader is None:
            return reply.body
        pieces = []
        size = 0
        try:
            while piece := await reader.read(_PIECE):
                pieces.append(bytes(piece))
                size += len(piece)
                if size > self._maximum:
                    raise OrthancError("The answer is too long for a script", code=ErrorCode.NOT_ENOUGH_MEMORY)
        finally:
            reader.close()
        return b"".join(pieces)


def _failure(method: str, path: str, status: int) -> OrthancError:
    code = _CODES.get(status, ErrorCode.BAD_REQUEST)
    return OrthancError(f"{method} {path} is answered with {status}", code=code, http_status=status)
