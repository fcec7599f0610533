"""``/system``, ``/statistics``, ``/tools`` as a list, and the page for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from orthanctw.errors import EmptyAnswer
from orthanctw.interfaces import IIndex
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import TEXT, route
from orthanctw.rest.reply import Reply, json_reply
from orthanctw.rest.serialisers import system_statistics

_EXPLORER = {
    "explorer.html": "text/html",
    "explorer.js": "application/javascript",
    "images/favicon.ico": "image/svg+xml",
    "images/unsupported.png": "image/png",
}
#: The page loads nothing from elsewhere.
_POLICY = ("Content-Security-Policy", "default-src 'self'; style-src 'self' 'unsafe-inline'")


def _redirect(location: str) -> Reply:
    return Reply(status=307, headers=(("Location", location),))


class SystemRoutes:
    """The server itself.

    Parameters
    ----------
    system : callable
        Gives ``/system`` as JSON.
    routes : callable
        Gives the paths of all routes, to list ``/tools``.
    """

    def __init__(
        self, index: IIndex, system: Callable[[], Mapping[str, Any]], routes: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._index = index
        self._system = system
        self._routes = routes

    @route("GET", "/system")
    async def system(self, call: Call) -> Reply:
        """What the server is and how it is configured."""
        return json_reply(self._system())

    @route("GET", "/statistics")
    async def statistics(self, call: Call) -> Reply:
        """Counts and sizes of everything."""
        return json_reply(system_statistics(await self._index.statistics()))

    @route("GET", "/tools")
    async def tools(self, call: Call) -> Reply:
        """Names of the tools."""
        return json_reply(sorted(path.split("/")[2] for path in self._routes() if path.startswith("/tools/")))

    @route("GET", "/", answers=[TEXT])
    async def root(self, call: Call) -> Reply:
        """Redirect to the page for people."""
        return _redirect("app/explorer.html")

    @route("GET", "/favicon.ico", answers=[TEXT])
    async def favicon(self, call: Call) -> Reply:
        """Redirect to the icon of the page."""
        return _redirect("app/images/favicon.ico")


class ExplorerRoutes:
    """The page for people (``OrthancExplorerEnabled``)."""

    def __init__(self) -> None:
        folder = resources.files("orthanctw.rest") / "explorer"
        self._files = {name: folder.joinpath(name).read_bytes() for name in _EXPLORER}

    @route("GET", "/app", "/app/<path:name>", answers=sorted(set(_EXPLORER.values())))
    async def file(self, call: Call) -> Reply:
        """A file of the page."""
        name = call.parameters.get("name", "")
        if name not in self._files:
            raise EmptyAnswer(404)
        return Reply(self._files[name], _EXPLORER[name], headers=(_POLICY,), compressible=True)
