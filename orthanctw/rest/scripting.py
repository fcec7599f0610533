"""The REST API for scripts: the same routes, without a socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from werkzeug.exceptions import HTTPException

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError, UnknownResource
from orthanctw.model import Origin
from orthanctw.rest.app import RestApi
from orthanctw.rest.call import Call
from orthanctw.rest.reply import Reply

_PIECE: Final = 1 << 20


class ScriptDispatcher:
    """Asks the routes on behalf of scripts.

    Parameters
    ----------
    origin : Origin
        What objects that are stored so are told to come from.
    maximum : int
        Bytes of the answer's body at most.
    """

    def __init__(self, api: RestApi, origin: Origin, maximum: int) -> None:
        self._api = api
        self._origin = origin
        self._maximum = maximum

    async def ask(self, method: str, uri: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The body of the answer to a request. OrthancError when the answer is no success (200)."""
        path, _, query = uri.partition("?")
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
            reply = await self._api.dispatch(call)
        except HTTPException as e:
            # There is no such path, or not with this method.
            raise UnknownResource(f"{method} {path}", http_status=e.code) from e
        content = await self._content(reply)
        if reply.status != 200:
            raise OrthancError(f"{method} {path} is answered with {reply.status}", http_status=reply.status)
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
