"""``/storage-commitment``, and the request for it of ``/modalities``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orthanctw.commitment import Commitments, Transaction, new_transaction_uid
from orthanctw.dicom.received import is_uid
from orthanctw.errors import BadFileFormat
from orthanctw.modalities import Modalities
from orthanctw.remote import FailureReason, Reference
from orthanctw.rest.arguments import TIMEOUT
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import Argument, Body, route
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.reply import EMPTY_JSON, Reply, json_reply
from orthanctw.rest.resources.modalities import needed_object, timeout_of
from orthanctw.retrieval import Retrieval

_ASKED: Final = (
    Argument("Resources", "array", "Identifiers of resources of any level"),
    Argument("DicomInstances", "array", "Objects of SOPClassUID and SOPInstanceUID, or arrays of these two"),
    TIMEOUT,
)
_DESCRIPTIONS: Final = {
    FailureReason.SUCCESS: "No reason was given",
    FailureReason.PROCESSING_FAILURE: "Something went wrong, or nothing was said of the object",
    FailureReason.NO_SUCH_OBJECT_INSTANCE: "The object is not there",
    FailureReason.CLASS_INSTANCE_CONFLICT: "The object is there, but of another SOP class",
    FailureReason.SOP_CLASS_NOT_SUPPORTED: "Objects of this SOP class are not supported",
    FailureReason.DUPLICATE_TRANSACTION_UID: "The transaction UID is in use already",
    FailureReason.RESOURCE_LIMITATION: "There is not room enough",
}


class CommitmentRoutes:
    """Storage commitment that modalities are asked for."""

    def __init__(
        self, commitments: Commitments, modalities: Modalities, retrieval: Retrieval, encoder: JsonEncoder
    ) -> None:
        self._commitments = commitments
        self._modalities = modalities
        self._retrieval = retrieval
        self._encoder = encoder

    @route("POST", "/modalities/<id>/storage-commitment", body=Body(fields=_ASKED))
    async def ask(self, call: Call) -> Reply:
        """Ask a modality to commit to objects."""
        modality = self._modalities.get(call["id"])
        body = await needed_object(call)
        if "Resources" not in body and "DicomInstances" not in body:
            raise BadFileFormat("One of the fields Resources and DicomInstances is needed")
        remote = self._modalities.remote(modality, timeout=timeout_of(body))
        resources = field(body, "Resources", list, [], BadFileFormat)
        if not all(isinstance(public_id, str) for public_id in resources):
            raise BadFileFormat("Resources must be an array of strings")
        named = [_reference(item) for item in field(body, "DicomInstances", list, [], BadFileFormat)]
        stored = await self._retrieval.of_ids(resources)
        references = [(item.sop_class_uid, item.sop_instance_uid) for item in stored] + named
        transaction_uid = new_transaction_uid()
        await self._commitments.ask(remote, references, transaction_uid)
        return json_reply({"ID": transaction_uid, "Path": f"/storage-commitment/{transaction_uid}"})

    @route("GET", "/storage-commitment/<id>")
    async def report(self, call: Call) -> Reply:
        """What a modality has reported so far."""
        transaction = self._commitments.get(call["id"])
        return await self._encoder.reply_of(len(transaction.references), lambda: _shown(transaction))

    @route("POST", "/storage-commitment/<id>/remove")
    async def remove(self, call: Call) -> Reply:
        """Delete the objects here, since the modality has committed to all of them."""
        await self._commitments.remove(call["id"])
        return EMPTY_JSON


def _reference(item: object) -> Reference:
    if isinstance(item, dict):
        item = [item.get("SOPClassUID"), item.get("SOPInstanceUID")]
    if not (isinstance(item, list) and len(item) == 2 and all(isinstance(uid, str) and is_uid(uid) for uid in item)):
        raise BadFileFormat("Each of DicomInstances must be a SOPClassUID with a SOPInstanceUID")
    return item[0], item[1]


def _shown(transaction: Transaction) -> Mapping[str, Any]:
    shown: dict[str, Any] = {"RemoteAET": transaction.remote_aet, "Status": "Pending"}
    report = transaction.report
    if report is None:
        return shown
    return {
        **shown,
        "Status": "Success" if transaction.is_confirmed else "Failure",
        "Success": [_uids(reference) for reference in report.committed],
        "Failures": [
            {**_uids(reference), "FailureReason": reason, "Description": _described(reason)}
            for reference, reason in report.failed
        ],
    }


def _uids(reference: Reference) -> Mapping[str, str]:
    return {"SOPClassUID": reference[0], "SOPInstanceUID": reference[1]}


def _described(reason: int) -> str:
    try:
        return _DESCRIPTIONS[FailureReason(reason)]
    except ValueError:
        return "The reason is unknown"
