"""Composition: builds every part of a server from its settings, by constructor arguments (level 6)."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from orthanctw.acceptance import Acceptance
from orthanctw.archives.building import Archives
from orthanctw.archives.shelf import Shelf
from orthanctw.attaching import Attaching
from orthanctw.bodies import BodyLimits, MemoryBudget
from orthanctw.caches import Caches
from orthanctw.catalog import Catalog
from orthanctw.commitment_parts import CommitmentParts
from orthanctw.contents import Contents
from orthanctw.conversion import Conversion, ConversionOptions
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.dictionary import Dictionary, DictionaryEntry
from orthanctw.dicom.identifierlog import IdentifierLog
from orthanctw.dicom.keeping import KeepingTranscoder
from orthanctw.dicom.maintags import MainTags
from orthanctw.dicom.scu.scu import DicomScu
from orthanctw.dicom.transcode import NativeTranscoder, NoTranscoder
from orthanctw.dicom.transcoder import CodecTranscoder
from orthanctw.dicom.uids import TRANSFER_SYNTAXES
from orthanctw.dicom_parts import build_dicom
from orthanctw.editing_parts import build_editing, editing_kinds
from orthanctw.errors import ConfigurationError
from orthanctw.events import EventBus
from orthanctw.exports import ExportLog
from orthanctw.finder import Finder
from orthanctw.httpclient import ClientOptions, HttpClient, Proxy
from orthanctw.index.database import SqliteIndex
from orthanctw.ingest import Ingest, IngestOptions
from orthanctw.interfaces import IFindFilter, IHttpFilter, ISpool, ITranscoder
from orthanctw.jobs.contract import JobKind
from orthanctw.jobs.engine import JobsEngine
from orthanctw.jobs.kinds.archive import archive_kinds
from orthanctw.jobs.kinds.peers import PeerStoreOptions, peer_store_kind
from orthanctw.jobs.kinds.retrieve import retrieve_kinds
from orthanctw.jobs.kinds.scripted import ScriptSequence, ScriptServices
from orthanctw.jobs.kinds.sequence import Operations, sequence_kind
from orthanctw.jobs.kinds.store import store_kind
from orthanctw.log import LogLevels
from orthanctw.lua_parts import LuaParts
from orthanctw.metrics import Metrics
from orthanctw.metrics_parts import publish_metrics
from orthanctw.modalities import Modalities
from orthanctw.model import Compression, Origin
from orthanctw.names import Names
from orthanctw.peers import PeerClient, Peers
from orthanctw.pictures import Pictures
from orthanctw.processes import ProcessPool
from orthanctw.programs import Programs
from orthanctw.python_parts import PythonParts
from orthanctw.queryfilters import QueryFilters
from orthanctw.reconstruction import Reconstruction
from orthanctw.removal import Removal
from orthanctw.replication import Replication
from orthanctw.rest.site import OrthancSite
from orthanctw.rest_parts import MEGABYTE, build_api, http_options
from orthanctw.retrieval import Retrieval
from orthanctw.rewriting import Retirement
from orthanctw.sending import Sender, Senders
from orthanctw.settings import DecoderOrder, Settings
from orthanctw.stability import StabilityMonitor
from orthanctw.storage.filesystem import FilesystemStorage
from orthanctw.storage.indexonly import IndexOnlyStorage
from orthanctw.storage.scripted import ScriptedIndexOnlyStorage, ScriptedStorage
from orthanctw.storedwarnings import StoredWarnings
from orthanctw.storefilters import StoreFilters
from orthanctw.tagviews import TagViews
from orthanctw.threads import NamedPool
from orthanctw.tls import Encryption
from orthanctw.uploads import UploadLimits, Uploads
from orthanctw.worklist_parts import build_worklists

DATABASE = "orthanctw.db"
#: Seconds that the associations of a C-MOVE stay open: they end with it.
_WHOLE_MOVE = 3600.0


def index_folder(settings: Settings) -> str:
    """Where the database lies."""
    return settings.storage.index_directory or settings.storage.storage_directory


class Parts:
    """What a server is made of. Nothing is started yet.

    Parameters
    ----------
    shut_down, reset : callable
        End the process, and start anew; called by the routes of these names.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        levels: LogLevels,
        shut_down: Callable[[], None],
        reset: Callable[[], None],
        wall_clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self.wall_clock = wall_clock
        own, storage = settings.orthanctw, settings.storage
        self.encryption = Encryption.of(settings.security)
        self.storage_pool = NamedPool(reactor, "storage", own.storage_threads)
        self.encoder_pool = NamedPool(reactor, "json", 1)
        self.metrics = Metrics(wall_clock, settings.general.metrics_enabled)
        self.caches = Caches.of_megabytes(
            storage=settings.performance.maximum_storage_cache_size,
            parser=settings.performance.dicom_parser_cache_size,
            transcoder=settings.performance.transcoder_cache_size,
        )
        self.caches.publish(self.metrics)
        self.storage = _storage_area(settings)(
            storage.storage_directory,
            self.storage_pool,
            sync=storage.sync_storage_area,
            md5=storage.store_md5_for_attachments,
            cache=self.caches.storage,
            temporary=storage.temporary_directory,
            metrics=self.metrics,
        )
        self._index_folder = index_folder(settings)
        self.index = SqliteIndex(
            reactor,
            os.path.join(self._index_folder, DATABASE),
            readers=own.reader_threads,
            # Nothing is recycled where nothing may change.
            maximum_size=0 if settings.database.read_only else storage.maximum_storage_size * MEGABYTE,
            maximum_patients=0 if settings.database.read_only else storage.maximum_patient_count,
            mode=storage.maximum_storage_mode,
            clock=wall_clock,
        )
        self.dictionary = dictionary_of(settings)
        self.default_encoding = DefaultEncoding(settings.dicom.default_encoding)
        self.identifiers = identifier_log_of(settings, self.dictionary)
        self.body_limits = BodyLimits(
            maximum=0,
            threshold=own.spool_threshold_kb * 1024,
            budget=MemoryBudget(own.memory_budget_mb * MEGABYTE),
            spool=self.storage.spool,
        )
        self._build_domain()
        self.acceptance = Acceptance(settings.dicom, self.modalities.all)
        self.worklists, self.housekeeping = build_worklists(self, reactor)
        self.dicom = build_dicom(self, reactor)
        self.api = build_api(self, reactor, levels, shut_down, reset)
        self.site = OrthancSite(http_options(self, settings), self.api.render, self.api.fail, reactor)
        publish_metrics(self, reactor, levels)

    def _build_domain(self) -> None:
        settings = self.settings
        own = settings.orthanctw
        self.main_tags = main_tags_of(settings, self.dictionary)
        self.events = EventBus()
        self.stability = StabilityMonitor(
            self.index, self.events, self._reactor, settings.general.stable_age, self.wall_clock
        )
        self.events.subscribe(self.stability)
        self.removal = Removal(self.index, self.storage, self.events, self.caches)
        self._build_transcoder()
        self._build_ingest()
        self.uploads = Uploads(
            self.ingest,
            self.storage,
            UploadLimits(
                maximum_member=settings.http.maximum_file_size_in_archive_mb * MEGABYTE,
                ratio=own.inflate_ratio_limit,
                members=own.archive_members_limit,
                threshold=own.spool_threshold_kb * 1024,
            ),
        )
        warnings = StoredWarnings(settings.general.warnings)
        self.catalog = Catalog(
            self.index,
            self.stability,
            self.main_tags,
            self.dictionary,
            access=settings.performance.storage_access_on_find,
            warnings=warnings,
        )
        self.finder = Finder(
            self.catalog,
            limit_results=settings.dicom.limit_find_results,
            limit_instances=settings.dicom.limit_find_instances,
        )
        content_types = settings.database.user_content_type.items()
        self.exports = ExportLog(self.index, self.wall_clock, enabled=settings.general.log_exported_resources)
        self.names = Names(
            settings.database.user_metadata, {name: (item.number, item.mime) for name, item in content_types}
        )
        self.modalities = Modalities(self.index, settings.network, settings.dicom)
        self._build_peers()
        self.retrieval = Retrieval(self.index, self.catalog)
        self.pictures = Pictures(
            self.index,
            self.catalog,
            self.storage,
            self.processes,
            self.encoder_pool,
            self.caches.parser,
            warnings=warnings,
            decodes=settings.transcoding.builtin_decoder_transcoder_order is not DecoderOrder.DISABLED,
        )
        self.scu = self._build_scu(own.scu_threads, settings.lua.dicom_association_close_delay)
        self._build_filters()
        self.commitment = CommitmentParts(self, self._reactor)
        self.jobs = self._build_jobs()
        self.python = PythonParts(self, self._reactor)
        self.lua = LuaParts(self, self._reactor)

    def _build_filters(self) -> None:
        """What scripts are asked by, and what sends objects.

        Scripts add themselves to the lists, in the order in which they are asked.
        """
        self.http_filters: list[IHttpFilter] = []
        self.find_filters: list[IFindFilter] = []
        self.query_filters = QueryFilters(self.find_filters, self.dictionary, self.modalities.manufacturer_of)
        self.contents = Contents(self.catalog, self.storage)
        self.views = TagViews(self.catalog, self.contents, self.encoder_pool, self.default_encoding)
        self.store_filters = StoreFilters(self.views)
        self.sender = Sender(self.scu, self.storage, self.store_filters)
        self.senders = Senders(partial(self._build_scu, 1, _WHOLE_MOVE), self.storage, self.store_filters)

    def _build_peers(self) -> None:
        """What goes out over HTTP."""
        network = self.settings.network
        self.http = HttpClient(
            self._reactor,
            self.storage_pool.call,
            ClientOptions(
                timeout=network.http_timeout,
                verifies=network.https_verify_peers,
                authorities=network.https_ca_certificates,
                proxy=Proxy.parse(network.http_proxy),
                is_verbose=network.http_verbose,
            ),
        )
        self.peers = Peers(self.index, network)
        self.peer_client = PeerClient(self.http)

    def _build_ingest(self) -> None:
        settings, storage = self.settings, self.settings.storage
        conversion = self._build_conversion()
        compression = Compression.ZLIB_WITH_SIZE if storage.storage_compression else Compression.NONE
        self.ingest = Ingest(
            self.index,
            self.storage,
            main_tags=self.main_tags,
            dictionary=self.dictionary,
            events=self.events,
            stability=self.stability,
            removal=self.removal,
            metrics=self.metrics,
            wall_clock=self.wall_clock,
            options=IngestOptions(
                compression=compression,
                overwrite=storage.overwrite_instances,
                default_encoding=self.default_encoding,
                nesting=settings.orthanctw.maximum_nesting,
                read_only=settings.database.read_only,
            ),
            conversion=conversion,
        )
        self._build_edits(conversion, compression)

    def _build_edits(self, conversion: Conversion | None, compression: Compression) -> None:
        """What changes objects that are stored."""
        settings = self.settings
        self.retirement = Retirement(self.removal, self._reactor)
        self.attaching = Attaching(
            self.index,
            self.storage,
            self.events,
            self.removal,
            self.retirement,
            compression=compression,
            check_revisions=settings.database.check_revisions,
        )
        self.reconstruction = Reconstruction(
            self.index,
            self.storage,
            self.main_tags,
            self.ingest.read,
            self.retirement,
            compression=compression,
            conversion=conversion,
        )

    def _build_transcoder(self) -> None:
        own = self.settings.orthanctw
        self.processes = ProcessPool(
            self._reactor,
            ("-m", "orthanctw.dicom.pixels.child"),
            size=own.codec_processes or os.cpu_count() or 1,
            memory=own.codec_memory_mb * MEGABYTE,
            timeout=own.codec_timeout,
        )
        transcoder = CodecTranscoder(
            self.processes,
            self.storage_pool,
            NativeTranscoder(self.storage_pool, self.dictionary),
            self.storage.spool_path,
            quality=self.settings.transcoding.dicom_lossy_transcoding_quality,
            threshold=own.spool_threshold_kb * 1024,
        )
        self.transcoder: ITranscoder = KeepingTranscoder(transcoder, self.caches.transcoder, self.storage_pool)
        if self.settings.transcoding.builtin_decoder_transcoder_order is DecoderOrder.DISABLED:
            self.transcoder = NoTranscoder()

    def _build_conversion(self) -> Conversion | None:
        """None unless received objects are to be transcoded. Raises ConfigurationError."""
        options, own = self.settings.transcoding, self.settings.orthanctw
        if not options.ingest_transcoding:
            return None
        if options.ingest_transcoding not in TRANSFER_SYNTAXES:
            raise ConfigurationError([f"IngestTranscoding: no known transfer syntax: {options.ingest_transcoding}"])
        return Conversion(
            self.transcoder,
            self.storage,
            ConversionOptions(
                transfer_syntax=options.ingest_transcoding,
                of_uncompressed=options.ingest_transcoding_of_uncompressed,
                of_compressed=options.ingest_transcoding_of_compressed,
            ),
            # Some are read back while others are encoded.
            at_once=2 * (own.codec_processes or os.cpu_count() or 1),
            threshold=own.spool_threshold_kb * 1024,
        )

    def _build_scu(self, threads: int, close_delay: float) -> DicomScu:
        options = self.settings.dicom
        return DicomScu(
            self._reactor,
            threads=threads,
            close_delay=close_delay,
            default_encoding=self.default_encoding,
            answers_limit=self.settings.orthanctw.scu_answers_limit,
            identifiers=self.identifiers,
            transcoder=self.transcoder if self.settings.transcoding.transcode_dicom_protocol else None,
            preferred_transfer_syntax=options.dicom_scu_preferred_transfer_syntax,
            maximum_length=options.maximum_pdu_length,
            tls=self.encryption.dicom_client,
            receive=self._receive,
            limits=self.body_limits,
            transfer_syntaxes=lambda: [uid for uid in TRANSFER_SYNTAXES if uid in self.acceptance.transfer_syntaxes],
        )

    async def _receive(
        self, content: bytes | ISpool, origin: Origin, *, announced: tuple[str, str]
    ) -> str | None:
        """What a C-GET of ours brings; the identifier of the instance."""
        return (await self.ingest.store(content, origin, announced=announced)).instance

    def _build_jobs(self) -> JobsEngine:
        options = self.settings.jobs
        self.archives = Archives(
            self.index, self.storage, self.transcoder, deflate=self.settings.orthanctw.archive_deflate
        )
        self.shelf = Shelf(self.storage, options.media_archive_size)
        self.editing = build_editing(self)
        operations = Operations(
            self.ingest,
            self.removal,
            self.index,
            self.names,
            self.attaching,
            self.editing,
            self.dictionary,
            self.storage.call,
        )
        store = store_kind(self.retrieval, self.sender, self.commitment.commitments)
        peer_store = self._peer_store_kind()
        scripts = ScriptServices(
            index=self.index,
            storage=self.storage,
            editing=self.editing,
            removal=self.removal,
            programs=Programs(self._reactor),
            timeout=self.settings.orthanctw.lua_wait_timeout,
            store=store,
            peer_store=peer_store,
        )
        return JobsEngine(
            self.index,
            [
                sequence_kind(operations, partial(ScriptSequence, scripts)),
                store,
                self.commitment.kind(),
                *retrieve_kinds(self.scu, self.dictionary),
                peer_store,
                *archive_kinds(self.archives, self.shelf),
                *editing_kinds(self),
            ],
            clock=self._reactor,
            wall_clock=self.wall_clock,
            slots=options.concurrent_jobs or os.cpu_count() or 1,
            history=options.jobs_history_size,
            is_saving=options.save_jobs,
            notify=self.events.publish_job,
        )

    def _peer_store_kind(self) -> JobKind:
        own = self.settings.orthanctw
        replication = Replication(self.peer_client, self.storage, self.transcoder)
        options = PeerStoreOptions(at_once=own.peer_transfers, retries=own.peer_retries)
        return peer_store_kind(self.retrieval, replication, options)


def _storage_area(settings: Settings) -> type[FilesystemStorage]:
    if settings.python_scripts:
        return ScriptedStorage if settings.storage.store_dicom else ScriptedIndexOnlyStorage
    return FilesystemStorage if settings.storage.store_dicom else IndexOnlyStorage


def identifier_log_of(settings: Settings, dictionary: Dictionary) -> IdentifierLog:
    """How queries are logged."""
    general = settings.general
    return IdentifierLog(dictionary, hides=general.deidentify_logs, version=general.deidentify_logs_dicom_version)


def dictionary_of(settings: Settings) -> Dictionary:
    """The dictionary with what the configuration adds."""
    entries = [
        DictionaryEntry(
            tag=item.tag,
            vr=item.vr,
            name=item.name,
            private_creator=item.private_creator,
            least=item.minimum,
            most=item.maximum,
        )
        for item in settings.dicom.dictionary.values()
    ]
    options = settings.dicom
    return Dictionary(entries, private=options.load_private_dictionary, files=options.external_dictionaries or ())


def main_tags_of(settings: Settings, dictionary: Dictionary) -> MainTags:
    """The main tags with those that the configuration adds. Raises ConfigurationError."""
    extra = {
        level: tuple(dictionary.parse(tag) for tag in tags)
        for level, tags in settings.database.extra_main_dicom_tags.items()
    }
    return MainTags(extra, dictionary=dictionary)
