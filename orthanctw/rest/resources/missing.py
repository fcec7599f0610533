"""Routes of Orthanc that do nothing here: clients are told so, instead of that there is no such path."""

from __future__ import annotations

from orthanctw.errors import NotImplementedHere
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import route
from orthanctw.rest.reply import Reply


class MissingRoutes:
    """Each answers 501, whatever the body. Routes without answers are no part of the OpenAPI document."""

    @route("POST", "/tools/execute-script", answers=())
    async def scripts(self, call: Call) -> Reply:
        """Lua."""
        raise NotImplementedHere("Scripts are not available")
