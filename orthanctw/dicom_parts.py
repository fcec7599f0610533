"""Composition of the DICOM server: its services over the parts of a server (level 6)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import DeferredSemaphore

from orthanctw import conformance
from orthanctw.dicom import dimse
from orthanctw.dicom.commitment import STORAGE_COMMITMENT
from orthanctw.dicom.scp.association import Services
from orthanctw.dicom.scp.exchange import Service
from orthanctw.dicom.scp.find import FindService
from orthanctw.dicom.scp.get import GetService
from orthanctw.dicom.scp.move import MoveService
from orthanctw.dicom.scp.negotiation import FOR_QUERIES, FOR_VERIFICATION, QUERY_RETRIEVE
from orthanctw.dicom.scp.server import DicomServer
from orthanctw.dicom.scp.worklist import WorklistService
from orthanctw.dicom.uids import VERIFICATION, WORKLIST_FIND
from orthanctw.jobs.contract import JobRequest
from orthanctw.jobs.kinds.store import STORE, store_parameters
from orthanctw.metrics_parts import publish_operations
from orthanctw.querying import Querying
from orthanctw.remote import Originator, Remote
from orthanctw.retrieval import StoredObject

if TYPE_CHECKING:
    from orthanctw.parts import Parts


def build_dicom(parts: Parts, reactor: Any) -> DicomServer:
    """The listening side of DICOM."""
    options = parts.settings.dicom
    operations = DeferredSemaphore(max(1, options.dicom_threads_count))
    publish_operations(parts, operations)
    by_class = _services(parts)
    worklists = WorklistService(
        parts.worklists,
        parts.default_encoding,
        parts.identifiers,
        parts.query_filters,
        scripted=parts.python.dicom.worklists,
    )

    def offered() -> Collection[str]:
        # A script may come and go while the server runs.
        return by_class.keys() if worklists.is_offered() else by_class.keys() - {WORKLIST_FIND}

    by_class[WORKLIST_FIND] = worklists
    services = Services(
        acceptance=parts.acceptance,
        ingest=parts.ingest,
        limits=parts.body_limits,
        operations=operations,
        queries=DeferredSemaphore(max(1, options.dicom_threads_count)),
        retrievals=DeferredSemaphore(max(1, options.dicom_threads_count)),
        maximum_length=options.maximum_pdu_length,
        metrics=parts.metrics,
        durations=parts.metrics.durations(
            "orthanctw_dicom_operation_seconds", "Work on requests of DICOM associations", ["operation"]
        ),
        services=by_class,
        offered=offered,
    )
    return DicomServer(
        services,
        reactor,
        timeout=options.dicom_scp_timeout,
        maximum_associations=parts.settings.orthanctw.maximum_associations,
    )


def conformance_of(parts: Parts) -> conformance.Conformance:
    """What is said of the services, provided and used at the moment."""
    settings = parts.settings
    has_worklists = settings.worklists.enable or parts.python.dicom.worklists.is_used()
    provided = [conformance.Service("Echo", (VERIFICATION,), FOR_VERIFICATION)]
    for name, command in (("Find", dimse.C_FIND_RQ), ("Move", dimse.C_MOVE_RQ), ("Get", dimse.C_GET_RQ)):
        classes = tuple(
            uid
            for uid, answered in QUERY_RETRIEVE.items()
            if answered == command and (uid != WORKLIST_FIND or has_worklists)
        )
        provided.append(conformance.Service(name, classes, FOR_QUERIES))
    provided.append(conformance.Service("Storage Commitment", (STORAGE_COMMITMENT,), FOR_QUERIES))
    return conformance.Conformance(
        parts.acceptance,
        provided if settings.dicom.dicom_server_enabled else None,
        aet=settings.dicom.dicom_aet,
        transcoding=settings.transcoding.transcode_dicom_protocol,
    )


def _services(parts: Parts) -> dict[str, Service]:
    """What carries out all requests but C-ECHO, C-STORE and queries for worklists, by their SOP class."""
    options = parts.settings.dicom

    async def submit_move(objects: Sequence[StoredObject], remote: Remote, originator: Originator) -> None:
        await parts.jobs.submit(JobRequest(kind=STORE, parameters=store_parameters(objects, remote, originator)))

    querying = Querying(
        parts.finder, parts.catalog, aet=options.dicom_aet, case_sensitive_names=options.case_sensitive_pn
    )
    by_command: dict[int, Service] = {
        dimse.C_FIND_RQ: FindService(
            querying,
            default_encoding=parts.default_encoding,
            ignored=parts.modalities.ignored_keys,
            identifiers=parts.identifiers,
            filters=parts.query_filters,
            scripted=parts.python.dicom.find,
        ),
        dimse.C_GET_RQ: GetService(
            parts.retrieval,
            parts.storage,
            parts.transcoder,
            parts.exports,
            default_encoding=parts.default_encoding,
            identifiers=parts.identifiers,
        ),
        dimse.C_MOVE_RQ: MoveService(
            parts.retrieval,
            parts.senders,
            parts.exports,
            remotes=parts.modalities.remote_of_aet,
            default_encoding=parts.default_encoding,
            identifiers=parts.identifiers,
            scripted=parts.python.dicom.move,
            submit=None if options.synchronous_c_move else submit_move,
        ),
    }
    services = {uid: by_command[command] for uid, command in QUERY_RETRIEVE.items()}
    del services[WORKLIST_FIND]
    services[STORAGE_COMMITMENT] = parts.commitment.service()
    return services
