"""``/tools/accepted-...``: what the DICOM server receives, read and changed while it runs."""

from __future__ import annotations

from orthanctw.acceptance import Acceptance
from orthanctw.dicom.uids import TRANSFER_SYNTAXES
from orthanctw.errors import BadFileFormat
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import KINDS, TEXT, Body, route
from orthanctw.rest.reply import EMPTY, Reply, json_reply, text_reply

#: Transfer syntaxes as they are listed: implicit little endian, which is everybody's default, comes first.
_LISTED = (TRANSFER_SYNTAXES[1], TRANSFER_SYNTAXES[0], *TRANSFER_SYNTAXES[2:])
_BOOLEANS = {"0": False, "false": False, "1": True, "true": True}


class AcceptanceRoutes:
    """Transfer syntaxes and SOP classes of C-STORE."""

    def __init__(self, acceptance: Acceptance) -> None:
        self._acceptance = acceptance

    @route("GET", "/tools/accepted-transfer-syntaxes")
    async def transfer_syntaxes(self, call: Call) -> Reply:
        """UIDs of the transfer syntaxes that are accepted, in the order of the standard's list."""
        return json_reply(sorted(self._acceptance.transfer_syntaxes, key=_LISTED.index))

    @route("PUT", "/tools/accepted-transfer-syntaxes", body=Body(schema=KINDS["strings"]))
    async def set_transfer_syntaxes(self, call: Call) -> Reply:
        """Choose the accepted transfer syntaxes by UIDs or patterns; answers what is accepted now."""
        patterns = await call.json()
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            raise BadFileFormat("The body must be an array of UIDs")
        self._acceptance.set_transfer_syntaxes(patterns)
        return await self.transfer_syntaxes(call)

    @route("GET", "/tools/accepted-sop-classes")
    async def sop_classes(self, call: Call) -> Reply:
        """UIDs of the SOP classes that are accepted, sorted."""
        return json_reply(sorted(self._acceptance.sop_classes))

    @route("GET", "/tools/unknown-sop-class-accepted", answers=[TEXT])
    async def unknown_sop_class(self, call: Call) -> Reply:
        """Whether unknown SOP classes are accepted: 0 or 1."""
        return text_reply("1" if self._acceptance.unknown_sop_class_accepted else "0")

    @route("PUT", "/tools/unknown-sop-class-accepted", body=Body(content=(TEXT,)), answers=[TEXT])
    async def set_unknown_sop_class(self, call: Call) -> Reply:
        """Accept unknown SOP classes (1), or not (0)."""
        accepted = _BOOLEANS.get(await call.text())
        if accepted is None:
            raise BadFileFormat("The body must be 0 or 1")
        self._acceptance.unknown_sop_class_accepted = accepted
        return EMPTY
