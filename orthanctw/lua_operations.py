"""What scripts ask for by ``SendToModality`` and the like, as a job has it (level 4)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.editing.modification import Modification
from orthanctw.dicom.editing.parsing import parse_modification
from orthanctw.errors import BadRequest, InexistentItem, OrthancError
from orthanctw.jobs.contract import JobRequest
from orthanctw.jobs.kinds.modification import KEY_LENGTH
from orthanctw.jobs.kinds.parameters import remote_to_json
from orthanctw.jobs.kinds.scripted import DELETE, MODIFY, STORE_PEER, STORE_SCU, SYSTEM_CALL
from orthanctw.jobs.kinds.sequence import CHAIN, SEQUENCE
from orthanctw.modalities import Modalities
from orthanctw.model import ResourceLevel
from orthanctw.peers import Peers
from orthanctw.settings.structures import peer_json

_MODIFICATION: Final = ("Replace", "Remove", "RemovePrivateTags")


class LuaOperations:
    """Makes jobs of what callbacks have asked for.

    Parameters
    ----------
    call : callable
        Runs blocking work on a thread.
    private_creator : str
        ``DefaultPrivateCreator``.
    """

    def __init__(
        self,
        modalities: Modalities,
        peers: Peers,
        dictionary: Dictionary,
        call: Callable[..., Deferred[Any]],
        *,
        private_creator: str,
    ) -> None:
        self._modalities = modalities
        self._peers = peers
        self._dictionary = dictionary
        self._call = call
        self._private_creator = private_creator
        self._types: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
            "store-scu": self._store_scu,
            "store-peer": self._store_peer,
            "modify": self._modify,
            "call-system": self._call_system,
            "delete": lambda asked: {"Type": DELETE},
        }

    async def job(self, asked: Sequence[Mapping[str, Any]]) -> tuple[JobRequest | None, OrthancError | None]:
        """The job of a callback, and why it ends before the operations do, if one of them cannot be understood."""
        operations, error = await self._call(self._operations, asked)
        if not operations:
            return None, error
        parameters = {CHAIN: operations, "Key": secrets.token_hex(KEY_LENGTH), "Description": "Lua"}
        return JobRequest(kind=SEQUENCE, parameters=parameters), error

    def _operations(self, asked: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], OrthancError | None]:
        operations: list[Mapping[str, Any]] = []
        for item in asked:
            try:
                operation = self._types[item["Operation"]](item)
                operations.append({**operation, "Resource": _text(item, "Resource")})
            except OrthancError as e:
                return operations, e
        return operations, None

    def _store_scu(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        name = _text(asked, "Modality")
        try:
            modality = self._modalities.get(name)
        except InexistentItem as e:
            raise InexistentItem(f"No modality has the name {name!r}") from e
        remote = self._modalities.remote(modality, local_aet=_text(asked, "LocalAet"))
        return {"Type": STORE_SCU, "Remote": remote_to_json(remote)}

    def _store_peer(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        name = _text(asked, "Peer")
        try:
            peer = self._peers.get(name)
        except InexistentItem as e:
            raise InexistentItem(f"No peer has the name {name!r}") from e
        return {"Type": STORE_PEER, "Peer": peer_json(peer)}

    def _modify(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        body = {name: asked[name] for name in _MODIFICATION if asked.get(name) is not None}
        if body.get("Replace") == []:
            # An empty table of Lua is an array.
            del body["Replace"]
        elif "Replace" in body:
            body["Replace"] = _written(body["Replace"])
        modification: Modification = parse_modification(
            body, ResourceLevel.INSTANCE, self._dictionary, private_creator=self._private_creator
        )
        return {"Type": MODIFY, "Modification": modification.to_json()}

    def _call_system(self, asked: Mapping[str, Any]) -> Mapping[str, Any]:
        command, arguments = _text(asked, "Command"), asked.get("Arguments") or []
        if not isinstance(arguments, list) or not all(isinstance(argument, str) for argument in arguments):
            raise BadRequest("CallSystem(): the arguments must be an array of strings")
        if not command or any("\0" in argument for argument in (command, *arguments)):
            raise BadRequest("CallSystem(): this is no command")
        return {"Type": SYSTEM_CALL, "Arguments": [command, *arguments]}


def _written(value: Any) -> Any:
    """A value of a replacement as DICOM has it: numbers are text."""
    if isinstance(value, dict):
        return {name: _written(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_written(member) for member in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _text(asked: Mapping[str, Any], name: str) -> str:
    """An argument, empty when there is none. BadRequest."""
    value = asked.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a string")
    return value
