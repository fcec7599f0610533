"""Composition of the REST API: the routes over the parts of a server (level 6)."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred

from orthanctw.bulk import Bulk
from orthanctw.configuration import mac_addresses
from orthanctw.creation import Creation, CreationOptions
from orthanctw.dicom_parts import conformance_of
from orthanctw.editing_parts import editing_routes
from orthanctw.fileexport import FileExport
from orthanctw.log import LogLevels
from orthanctw.metrics_parts import measurement
from orthanctw.queries import QueryArchive
from orthanctw.rest.app import RestApi
from orthanctw.rest.authentication import Authenticator
from orthanctw.rest.availability import is_available
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.extensions import Extensions
from orthanctw.rest.resources.acceptance import AcceptanceRoutes
from orthanctw.rest.resources.archives import ArchiveRoutes
from orthanctw.rest.resources.attached import AttachedRoutes
from orthanctw.rest.resources.attaching import AttachingRoutes
from orthanctw.rest.resources.browsing import BrowsingRoutes
from orthanctw.rest.resources.bulk import BulkRoutes
from orthanctw.rest.resources.changes import ChangeRoutes
from orthanctw.rest.resources.commitment import CommitmentRoutes
from orthanctw.rest.resources.contents import ContentRoutes
from orthanctw.rest.resources.creation import CreationRoutes
from orthanctw.rest.resources.images import ImageRoutes
from orthanctw.rest.resources.jobs import JobRoutes
from orthanctw.rest.resources.labels import LabelRoutes
from orthanctw.rest.resources.metrics import MetricsRoutes
from orthanctw.rest.resources.modalities import ModalityRoutes
from orthanctw.rest.resources.peers import PeerRoutes
from orthanctw.rest.resources.plugins import PluginRoutes
from orthanctw.rest.resources.queries import QueryRoutes
from orthanctw.rest.resources.reconstruction import ExportRoutes, ReconstructionRoutes
from orthanctw.rest.resources.search import SearchRoutes
from orthanctw.rest.resources.system import ExplorerRoutes, SystemRoutes
from orthanctw.rest.resources.tools import ToolRoutes
from orthanctw.rest.resources.uploads import UploadRoutes
from orthanctw.rest.resources.views import ViewRoutes
from orthanctw.rest.resources.worklists import WorklistRoutes
from orthanctw.rest.serialisers import ResourceSerialiser
from orthanctw.rest.site import HttpOptions
from orthanctw.rest.submission import Submission
from orthanctw.rest.webdav.routes import WebDavRoutes
from orthanctw.settings import Settings
from orthanctw.system import system_information
from orthanctw.webdav.listings import Listings
from orthanctw.webdav.tree import Tree
from orthanctw.webdav.uploading import UploadFolder

if TYPE_CHECKING:
    from orthanctw.parts import Parts

MEGABYTE = 1024 * 1024


def _statement(parts: Parts) -> Deferred[str]:
    """The conformance statement, as things are."""
    return parts.storage_pool.call(conformance_of(parts).statement)


def _system_routes(parts: Parts, settings: Settings) -> SystemRoutes:
    identifier = settings.server_identifier(mac_addresses())
    system = system_information(settings, parts.main_tags, parts.names, identifier)
    return SystemRoutes(
        parts.index,
        # Scripts are loaded later.
        lambda: {**system, "StorageAreaPlugin": parts.python.storage_script},
        lambda: parts.api.routes,
    )


def build_api(
    parts: Parts, reactor: Any, levels: LogLevels, shut_down: Callable[[], None], reset: Callable[[], None]
) -> RestApi:
    """Every route."""
    settings, names = parts.settings, parts.names
    serialiser = ResourceSerialiser(parts.dictionary, names.metadata_name, parts.catalog.patient_tags)
    encoder = JsonEncoder(parts.encoder_pool)
    submission = Submission(parts.jobs)
    owners: list[object] = [
        _system_routes(parts, settings),
        UploadRoutes(parts.uploads),
        BrowsingRoutes(parts.catalog, parts.removal, serialiser, encoder),
        *_content_routes(parts),
        ImageRoutes(parts.pictures, parts.index),
        AttachedRoutes(parts.index, parts.storage, names),
        AttachingRoutes(parts.attaching, names),
        ReconstructionRoutes(parts.reconstruction),
        ExportRoutes(_file_export(parts)),
        ChangeRoutes(parts.index),
        SearchRoutes(parts.catalog, parts.finder, names, serialiser, encoder),
        LabelRoutes(parts.index, encoder),
        AcceptanceRoutes(parts.acceptance),
        CreationRoutes(_creation(parts), parts.storage),
        BulkRoutes(Bulk(parts.catalog, parts.removal), serialiser, encoder),
        ToolRoutes(levels, parts.wall_clock, shut_down, reset, parts.default_encoding, lambda: _statement(parts)),
        PluginRoutes(lambda: parts.python.presentation),
        JobRoutes(parts.jobs, submission, encoder, clock=reactor.seconds, wall_clock=parts.wall_clock),
        ArchiveRoutes(
            parts.archives,
            parts.shelf,
            submission,
            utf8=settings.http.zip_use_utf8,
            is_streaming=settings.http.synchronous_zip_stream,
        ),
        MetricsRoutes(parts.metrics, measurement(parts)),
        *editing_routes(parts, submission),
        *_network_routes(parts, submission, encoder),
        parts.lua.routes(),
    ]
    if parts.worklists is not None:
        owners.append(WorklistRoutes(parts.worklists, parts.dictionary, encoder))
    if settings.http.orthanc_explorer_enabled:
        owners.append(ExplorerRoutes())
    if settings.http.web_dav_enabled:
        owners.append(_web_dav(parts, reactor, serialiser))
    return RestApi(
        owners,
        metrics=parts.metrics,
        clock=reactor.seconds,
        encoder=encoder,
        describe_errors=settings.http.http_describe_errors,
        is_available=partial(
            is_available,
            read_only=settings.database.read_only,
            patients=settings.database.patient_level_enabled,
        ),
        overriding=Extensions(parts.python.host).find if parts.python.is_used else _nothing,
    )


def _nothing(_: str) -> None:
    """No script answers a path."""


def _content_routes(parts: Parts) -> list[object]:
    contents, views = parts.contents, parts.views
    return [ContentRoutes(parts.catalog, contents, views, parts.transcoder), ViewRoutes(parts.catalog, views)]


def _creation(parts: Parts) -> Creation:
    options, own = parts.settings.dicom, parts.settings.orthanctw
    return Creation(
        parts.ingest,
        parts.catalog,
        parts.storage,
        parts.processes,
        parts.removal,
        parts.wall_clock,
        CreationOptions(
            default_encoding=parts.default_encoding,
            private_creator=options.default_private_creator,
            nesting=own.maximum_nesting,
            threshold=own.spool_threshold_kb * 1024,
            # Some are stored while others are decoded.
            at_once=2 * (own.codec_processes or os.cpu_count() or 1),
        ),
    )


def _web_dav(parts: Parts, reactor: Any, serialiser: ResourceSerialiser) -> WebDavRoutes:
    options, read_only = parts.settings.http, parts.settings.database.read_only
    uploads = UploadFolder(parts.uploads) if options.web_dav_upload_allowed and not read_only else None
    listings = Listings(reactor.seconds)
    parts.events.subscribe(listings)
    return WebDavRoutes(
        Tree(parts.index, listings, uploads, utf8=options.zip_use_utf8),
        parts.catalog,
        parts.storage,
        serialiser,
        uploads=uploads,
        bulk=Bulk(parts.catalog, parts.removal) if options.web_dav_delete_allowed and not read_only else None,
        wall_clock=parts.wall_clock,
    )


def _file_export(parts: Parts) -> FileExport | None:
    settings = parts.settings
    if not settings.security.rest_api_write_to_file_system_enabled:
        return None
    return FileExport(
        parts.index,
        parts.storage,
        [path for path in (settings.storage.storage_directory, settings.storage.index_directory) if path],
    )


def _network_routes(parts: Parts, submission: Submission, encoder: JsonEncoder) -> list[object]:
    options = parts.settings.dicom
    queries = QueryArchive(
        parts.scu, parts.modalities, parts.dictionary, options.query_retrieve_size, parts.query_filters
    )
    return [
        ModalityRoutes(
            parts.modalities,
            parts.scu,
            queries,
            parts.retrieval,
            submission,
            parts.exports,
            parts.index,
            parts.dictionary,
            parts.store_filters,
            checks_find=options.dicom_echo_checks_find,
            default_encoding=parts.default_encoding,
        ),
        QueryRoutes(
            queries,
            parts.modalities,
            submission,
            parts.dictionary,
            encoder,
            aet=options.dicom_aet,
            retrieve_method=options.dicom_default_retrieve_method,
        ),
        PeerRoutes(
            parts.peers,
            parts.peer_client,
            parts.retrieval,
            submission,
            parts.exports,
            parts.index,
            parts.storage,
        ),
        CommitmentRoutes(parts.commitment.commitments, parts.modalities, parts.retrieval, encoder),
    ]


def http_options(parts: Parts, settings: Settings) -> HttpOptions:
    """How the site behaves."""
    own, http, security = settings.orthanctw, settings.http, settings.security
    return HttpOptions(
        authenticator=Authenticator(
            remote_access=security.remote_access_allowed,
            enabled=security.authentication_enabled,
            users=security.registered_users,
            token=parts.python.token,
        ),
        limits=attrs.evolve(parts.body_limits, maximum=http.maximum_request_body_size_mb * MEGABYTE),
        compression=http.http_compression_enabled,
        keep_alive=http.keep_alive,
        keep_alive_timeout=http.keep_alive_timeout,
        request_timeout=http.http_request_timeout,
        body_timeout=own.request_body_timeout,
        tcp_no_delay=http.tcp_no_delay,
        maximum_connections=own.maximum_connections,
        pool=parts.encoder_pool,
        filters=parts.http_filters,
    )
