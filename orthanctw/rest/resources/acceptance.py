"""``/tools/accepted-...``: what the DICOM server receives, read and changed while it runs."""

from __future__ import annotations

from orthanctw.acceptance import Acceptance
from orthanctw.errors import BadFileFormat
from orthanctw.rest.app import route
from orthanctw.rest.call import Call
from orthanctw.rest.reply import EMPTY, Reply, json_reply, text_reply


class AcceptanceRoutes:
    """Transfer syntaxes and SOP classes of C-STORE."""

    def __init__(self, acceptance: Acceptance) -> None:
        self._acceptance = acceptance

    @route("GET", "/tools/accepted-transfer-syntaxes")
    async def transfer_syntaxes(self, call: Call) -> Reply:
        """UIDs, sorted."""
        return json_reply(sorted(self._acceptance.transfer_syntaxes))

    @route("PUT", "/tools/accepted-transfer-syntaxes")
    async def set_transfer_syntaxes(self, call: Call) -> Reply:
        """An array of UIDs or patterns; answers what is accepted now."""
        patterns = await call.json()
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            raise BadFileFormat("The body must be an array of UIDs")
        self._acceptance.set_transfer_syntaxes(patterns)
        return await self.transfer_syntaxes(call)

    @route("GET", "/tools/accepted-sop-classes")
    async def sop_classes(self, call: Call) -> Reply:
        """UIDs, sorted."""
        return json_reply(sorted(self._acceptance.sop_classes))

    @route("GET", "/tools/unknown-sop-class-accepted")
    async def unknown_sop_class(self, call: Call) -> Reply:
        """0 or 1."""
        return text_reply("1" if self._acceptance.unknown_sop_class_accepted else "0")

    @route("PUT", "/tools/unknown-sop-class-accepted")
    async def set_unknown_sop_class(self, call: Call) -> Reply:
        """0 or 1."""
        text = await call.text()
        if text not in ("0", "1"):
            raise BadFileFormat("The body must be 0 or 1")
        self._acceptance.unknown_sop_class_accepted = text == "1"
        return EMPTY
