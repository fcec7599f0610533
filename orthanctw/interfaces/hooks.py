"""The contracts of what decides on behalf of scripts, in Lua or Python.

A hook that raises ServiceUnavailable has given no answer in time; any other failure is that of the script.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs
from zope.interface import Interface

from orthanctw.model import Origin


class IContent(Protocol):
    """The bytes of an object that is not stored yet; they are gone after the hook has answered."""

    def read(self) -> Awaitable[bytes]:
        """All of them."""


@attrs.frozen(kw_only=True)
class Received:
    """An object that came in and is not stored yet.

    Parameters
    ----------
    tags : callable
        Makes the tags, as ``/simplified-tags`` has them.
    transfer_syntax : str
        Empty when it is not known.
    size : int
        Bytes of the file.
    """

    origin: Origin
    tags: Callable[[], Mapping[str, object]]
    transfer_syntax: str
    has_pixel_data: bool
    size: int
    content: IContent


class IReceivedHook(Interface):
    """Changes received objects before anything else looks at them, whatever protocol brought them."""

    def is_needed() -> bool:
        """Whether there is anything to ask at the moment; cheap."""

    async def revise(content: bytes, origin: Origin) -> bytes | None:
        """The file in place of the one that came in: itself, another one, or None to drop it."""


class IIngestFilter(Interface):
    """Decides about a received object before it is stored."""

    def is_needed() -> bool:
        """Whether there is anything to ask at the moment; cheap."""

    async def accepts(received: Received) -> bool:
        """False filters the object out, whatever protocol brought it."""

    async def store_status(received: Received) -> int:
        """About objects of a C-STORE, after `accepts`: 0 stores it, another DIMSE status refuses it with that."""


@attrs.frozen(kw_only=True)
class HttpQuestion:
    """A request that somebody who is known now wants answered.

    `headers` have names in lower case; `uri` is the path without the query, whose arguments are in `arguments`.
    """

    method: str
    uri: str
    ip: str
    username: str
    headers: Mapping[str, str]
    arguments: Sequence[tuple[str, str]]


class IHttpFilter(Interface):
    """Decides about requests over HTTP, after authentication and before a byte of the body is taken."""

    def is_needed() -> bool:
        """Whether there is anything to ask at the moment; cheap."""

    async def allows(question: HttpQuestion) -> bool:
        """False answers with 403."""


@attrs.frozen(kw_only=True)
class FindPeer:
    """Who asks by C-FIND. `manufacturer` is that of the configured modality."""

    remote_ip: str
    remote_aet: str
    called_aet: str
    manufacturer: str


class IFindFilter(Interface):
    """Changes queries. A query maps tags as ``gggg,eeee`` to texts, sequences to lists of such mappings."""

    def is_needed(kind: str) -> bool:
        """Whether there is anything to ask at the moment; `kind` is ``find``, ``outgoing`` or ``worklist``."""

    async def incoming_find(query: Mapping[str, Any], peer: FindPeer) -> Mapping[str, Any]:
        """The query in place of one that came in."""

    async def incoming_worklist(query: Mapping[str, Any], peer: FindPeer) -> Mapping[str, Any]:
        """The query in place of one for worklists that came in."""

    async def outgoing_find(query: Mapping[str, Any], modality: str) -> Mapping[str, Any]:
        """The query in place of one that goes out; `modality` is the AE title asked."""


class IStoreFilter(Interface):
    """Decides about objects that go out by C-STORE."""

    def is_needed() -> bool:
        """Whether there is anything to ask at the moment; cheap."""

    async def sends(tags: Mapping[str, object], host: str, aet: str) -> bool:
        """False leaves the object out, and it counts as sent."""


@attrs.frozen(kw_only=True)
class ScriptRequest:
    """What a script asks of the REST API of this server, or of another one by HTTP.

    With `is_builtin` the request goes past what scripts have put in place of a route. No `timeout` (s) means the usual
    one.
    """

    method: str
    uri: str
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    is_builtin: bool = False
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    timeout: int = 0
