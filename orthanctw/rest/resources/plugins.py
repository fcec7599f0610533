"""``/plugins``: clients look here for what a server has beyond the core."""

from __future__ import annotations

from collections.abc import Callable

from orthanctw.errors import EmptyAnswer
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import route
from orthanctw.rest.reply import Reply, json_reply
from orthanctw.scripting.presentation import PLUGIN, Presentation

_EXPLORER = "explorer.js"
_JAVASCRIPT = "application/javascript"


class PluginRoutes:
    """Scripts in Python are the plugin that there can be. Without them this is what an Orthanc without plugins tells.

    Parameters
    ----------
    scripts : callable
        Gives how scripts present themselves; None when there are none.
    """

    def __init__(self, scripts: Callable[[], Presentation | None]) -> None:
        self._scripts = scripts

    @route("GET", "/plugins")
    async def plugins(self, call: Call) -> Reply:
        """Names of the plugins, and of the script that extends the page for people."""
        return json_reply([_EXPLORER] if self._scripts() is None else [_EXPLORER, PLUGIN])

    @route("GET", "/plugins/explorer.js", answers=[_JAVASCRIPT])
    async def explorer(self, call: Call) -> Reply:
        """What plugins add to the page for people."""
        scripts = self._scripts()
        text = "" if scripts is None else scripts.javascript()
        body = text or "// No plugin extends the page.\n"
        return Reply(body.encode("utf-8", "replace"), _JAVASCRIPT, compressible=True)

    @route("GET", "/plugins/<id>")
    async def plugin(self, call: Call) -> Reply:
        """One plugin."""
        scripts = self._scripts()
        if scripts is None or call.parameters["id"] != PLUGIN:
            raise EmptyAnswer(404)
        return json_reply(scripts.shown())
