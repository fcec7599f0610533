"""``/plugins``: clients look here for what a server has beyond the core."""

from __future__ import annotations

from orthanctw.errors import EmptyAnswer
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import route
from orthanctw.rest.reply import Reply, json_reply

_EXPLORER = "explorer.js"
_JAVASCRIPT = "application/javascript"


class PluginRoutes:
    """There are none: of an Orthanc without plugins this is the list, too."""

    @route("GET", "/plugins")
    async def plugins(self, call: Call) -> Reply:
        """Names of the plugins, and of the script that extends the page for people."""
        return json_reply([_EXPLORER])

    @route("GET", "/plugins/explorer.js", answers=[_JAVASCRIPT])
    async def explorer(self, call: Call) -> Reply:
        """What plugins add to the page for people."""
        return Reply(b"// No plugin extends the page.\n", _JAVASCRIPT, compressible=True)

    @route("GET", "/plugins/<id>")
    async def plugin(self, call: Call) -> Reply:
        """One plugin."""
        raise EmptyAnswer(404)
