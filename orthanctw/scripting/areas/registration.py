"""Registering callbacks."""

from __future__ import annotations

from typing import Any

from orthanctw.scripting.exposure import exposed
from orthanctw.scripting.host import Host
from orthanctw.scripting.registry import Kind


class RegistrationArea:
    """``orthanc.Register...``: ValueError for what cannot be called, RuntimeError for a second one of its kind."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @exposed
    def RegisterRestCallback(self, path_regular_expression: Any, callback: Any, /) -> None:
        """Answer requests whose whole path matches a regular expression; the one registered first wins."""
        if not isinstance(path_regular_expression, str):
            raise ValueError("A regular expression is needed")
        self._host.registering.add_route(path_regular_expression, self._host.registration(callback))

    @exposed
    def RegisterOnChangeCallback(self, callback: Any, /) -> None:
        """Be told of changes, in their order, on one thread."""
        self._host.register(Kind.CHANGE, callback)

    @exposed
    def RegisterOnStoredInstanceCallback(self, callback: Any, /) -> None:
        """Be told of each new instance, after it is stored."""
        self._host.register(Kind.STORED_INSTANCE, callback)

    @exposed
    def RegisterReceivedInstanceCallback(self, callback: Any, /) -> None:
        """Keep, change or discard what comes in, before it is stored."""
        self._host.register(Kind.RECEIVED_INSTANCE, callback)

    @exposed
    def RegisterIncomingHttpRequestFilter(self, callback: Any, /) -> None:
        """Decide which requests are let in."""
        self._host.register(Kind.HTTP_FILTER, callback)

    @exposed
    def RegisterIncomingCStoreInstanceFilter(self, callback: Any, /) -> None:
        """Decide which objects are stored that come by C-STORE."""
        self._host.register(Kind.CSTORE_FILTER, callback)

    @exposed
    def RegisterFindCallback(self, callback: Any, /) -> None:
        """Answer C-FIND, in place of the server."""
        self._host.register(Kind.FIND, callback)

    @exposed
    def RegisterFindCallback2(self, callback: Any, /) -> None:
        """Answer C-FIND, in place of the server; the callback gets a connection."""
        self._host.register(Kind.FIND, callback, version=2)

    @exposed
    def RegisterMoveCallback(self, callback: Any, /) -> None:
        """Carry out C-MOVE, in place of the server."""
        self._host.register(Kind.MOVE, callback)

    @exposed
    def RegisterMoveCallback2(self, callback: Any, get_move_size: Any, apply_move: Any, free_move: Any, /) -> None:
        """Carry out C-MOVE, in place of the server, one sub-operation after the other."""
        self._host.register(Kind.MOVE, callback, get_move_size, apply_move, free_move, version=2)

    @exposed
    def RegisterMoveCallback3(self, callback: Any, get_move_size: Any, apply_move: Any, free_move: Any, /) -> None:
        """As `RegisterMoveCallback2`; the callback gets a connection."""
        self._host.register(Kind.MOVE, callback, get_move_size, apply_move, free_move, version=3)

    @exposed
    def RegisterWorklistCallback(self, callback: Any, /) -> None:
        """Answer queries for worklists."""
        self._host.register(Kind.WORKLIST, callback)

    @exposed
    def RegisterWorklistCallback2(self, callback: Any, /) -> None:
        """Answer queries for worklists; the callback gets a connection."""
        self._host.register(Kind.WORKLIST, callback, version=2)

    @exposed
    def RegisterStorageCommitmentScpCallback(self, callback: Any, lookup: Any, /) -> None:
        """Answer requests for storage commitment."""
        self._host.register(Kind.COMMITMENT, callback, lookup)

    @exposed
    def RegisterStorageCommitmentScpCallback2(self, callback: Any, lookup: Any, /) -> None:
        """Answer requests for storage commitment; the callback gets a connection."""
        self._host.register(Kind.COMMITMENT, callback, lookup, version=2)

    @exposed
    def RegisterStorageArea(self, create: Any, read: Any, remove: Any, /) -> None:
        """Keep files in place of the server."""
        self._host.register(Kind.STORAGE_AREA, create, read, remove)

    @exposed
    def RegisterStorageArea3(self, create: Any, read: Any, remove: Any, /) -> None:
        """Keep files in place of the server, with data of one's own, and read ranges of them."""
        self._host.register(Kind.STORAGE_AREA, create, read, remove, version=3)
