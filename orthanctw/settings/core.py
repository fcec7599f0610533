"""Sections that concern the program, its storage and its database."""
# The calls below declare fields, they make no shared defaults.
# ruff: noqa: RUF009

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

import attrs

from orthanctw.model import OverwriteMode, ResourceLevel, StorageMode
from orthanctw.settings.kinds import (
    boolean,
    choice,
    megabytes,
    member,
    path,
    paths,
    seconds,
    text,
    uid,
    unsigned,
)
from orthanctw.settings.options import ACCEPTED, ADVANCED, NONE, WORKS, derived, option, options_of, unset
from orthanctw.settings.structures import (
    NO_EXTRA_TAGS,
    JobThreads,
    LogWarnings,
    UserContentType,
    extra_main_dicom_tags,
    job_threads,
    log_warnings,
    user_content_types,
    user_metadata,
)

_READING: Final = "files are read by the pool of `Orthanctw.StorageThreads`"
_MEMORY: Final = "memory is limited by `Orthanctw.MemoryBudgetMB`"
_PARSING: Final = "headers are stored with the index, so that files are seldom parsed"
_ORDERED: Final = "answers of several objects are streamed from the storage area without preloading"
_COUNT: Final = unsigned()


class StorageAccess(enum.Enum):
    """When a search may read files."""

    ALWAYS = "Always"
    ANSWERS = "Answers"
    NEVER = "Never"


class DecoderOrder(enum.Enum):
    """When the built-in decoder is tried."""

    BEFORE = "Before"
    AFTER = "After"
    DISABLED = "Disabled"


@attrs.frozen(kw_only=True)
class General:
    """The server as a whole."""

    name: str = option("Name", text, "MyOrthanc", WORKS, "Name of the server, shown by `/system` and the web page")
    plugins: tuple[str, ...] = option(
        "Plugins",
        paths,
        [],
        ACCEPTED,
        "Shared libraries to load, or folders of them",
        reason="libraries made for another program cannot be loaded; a warning tells so",
    )
    stable_age: int = option(
        "StableAge", seconds, 60, WORKS, "A resource is stable when nothing has arrived for it during this time"
    )
    metrics_enabled: bool = option("MetricsEnabled", boolean, True, WORKS, "Collect the figures of `/tools/metrics`")
    deidentify_logs: bool = option(
        "DeidentifyLogs", boolean, True, WORKS, "Hide what tells of patients where queries are logged"
    )
    deidentify_logs_dicom_version: str = option(
        "DeidentifyLogsDicomVersion",
        choice("2008", "2017c", "2021b", "2023b"),
        "2023b",
        WORKS,
        "Edition of the confidentiality profile (PS3.15 annex E) that decides what patients' data are",
    )
    log_exported_resources: bool = option(
        "LogExportedResources", boolean, False, WORKS, "List what was sent under `/exports`", sample=ADVANCED
    )
    locale: str = unset(
        "Locale",
        text,
        "",
        ACCEPTED,
        "Locale of comparisons that ignore case",
        note="that of the environment",
        reason="case and accents are those of Unicode, whatever the locale",
    )
    warnings: LogWarnings = option(
        "Warnings",
        log_warnings,
        {declared.name: declared.default for _, declared in options_of(LogWarnings)},
        WORKS,
        "Switches of single warnings about stored objects",
        sample=ADVANCED,
    )


@attrs.frozen(kw_only=True)
class Storage:
    """Files and quotas."""

    storage_directory: str = option(
        "StorageDirectory", path, "OrthancStorage", WORKS, "Folder of the stored files; made when absent"
    )
    index_directory: str = derived(
        "IndexDirectory",
        path,
        lambda section: str(section.storage_directory),
        WORKS,
        "Folder of the index; made when absent",
        note="`StorageDirectory`",
    )
    storage_compression: bool = option("StorageCompression", boolean, False, WORKS, "Compress new files by zlib")
    maximum_storage_size: int = option(
        "MaximumStorageSize", megabytes, 0, WORKS, "Quota of the size of all files on disk; 0: none"
    )
    maximum_patient_count: int = option("MaximumPatientCount", _COUNT, 0, WORKS, "Quota of patients; 0: none")
    maximum_storage_mode: StorageMode = option(
        "MaximumStorageMode",
        member(StorageMode),
        "Recycle",
        WORKS,
        "At a quota, the oldest patients that are not protected go, or new objects are refused",
    )
    store_dicom: bool = option("StoreDicom", boolean, True, WORKS, "Keep the files, and not their index only")
    overwrite_instances: OverwriteMode = option(
        "OverwriteInstances",
        member(OverwriteMode, "string or boolean", {False: OverwriteMode.NEVER, True: OverwriteMode.ALWAYS}),
        "Never",
        WORKS,
        "Whether an object that is stored already is replaced; booleans stand for `Never` and `Always`",
    )
    store_md5_for_attachments: bool = option(
        "StoreMD5ForAttachments", boolean, True, WORKS, "Keep the MD5 digests of files", sample=ADVANCED
    )
    sync_storage_area: bool = option(
        "SyncStorageArea",
        boolean,
        True,
        WORKS,
        "Have each file on the disk before it is acknowledged; without, a power failure can lose objects",
        sample=ADVANCED,
    )
    temporary_directory: str = unset(
        "TemporaryDirectory",
        path,
        "",
        WORKS,
        "Existing folder of archives that jobs make, and of other large files that do not become stored ones. What is "
        "received is written into the storage directory, where it is renamed",
        note="`StorageDirectory`",
        sample=ADVANCED,
    )


@attrs.frozen(kw_only=True)
class Database:
    """What the index knows and permits."""

    check_revisions: bool = option(
        "CheckRevisions", boolean, False, WORKS, "Changing metadata and attachments takes the header `If-Match`"
    )
    read_only: bool = option("ReadOnly", boolean, False, WORKS, "Refuse whatever changes stored resources")
    database_server_identifier: str = unset(
        "DatabaseServerIdentifier",
        text,
        "",
        WORKS,
        "Identifier of this server among those that share a database",
        note="a digest of AE title, ports and network addresses",
    )
    extra_main_dicom_tags: Mapping[ResourceLevel, tuple[str, ...]] = unset(
        "ExtraMainDicomTags",
        extra_main_dicom_tags,
        NO_EXTRA_TAGS,
        WORKS,
        "Further tags to keep in the index, by level: `Patient`, `Study`, `Series`, `Instance`",
        note="none",
    )
    user_metadata: Mapping[str, int] = option(
        "UserMetadata", user_metadata, {}, WORKS, "Names of metadata of the user's own", sample=ADVANCED
    )
    user_content_type: Mapping[str, UserContentType] = option(
        "UserContentType",
        user_content_types,
        {},
        WORKS,
        "Names of attachments of the user's own, maybe with a MIME type",
        sample=ADVANCED,
    )
    patient_level_enabled: bool = option(
        "PatientLevelEnabled",
        boolean,
        True,
        WORKS,
        "Offer the routes of patients; must stay on with a quota",
        sample=ADVANCED,
    )


@attrs.frozen(kw_only=True)
class Jobs:
    """The jobs engine."""

    concurrent_jobs: int = option("ConcurrentJobs", _COUNT, 2, WORKS, "Jobs that run at once; 0: one per core")
    jobs_history_size: int = option("JobsHistorySize", _COUNT, 10, WORKS, "Finished jobs to remember")
    save_jobs: bool = option("SaveJobs", boolean, True, WORKS, "Go on with the jobs after a restart")
    media_archive_size: int = option("MediaArchiveSize", _COUNT, 1, WORKS, "Archives made by jobs to keep")
    jobs_engine_threads_count: JobThreads = option(
        "JobsEngineThreadsCount",
        job_threads,
        {declared.name: declared.default for _, declared in options_of(JobThreads)},
        WORKS,
        "How much of one job is done at once, by its type; 0: as many as there are cores",
        sample=ADVANCED,
    )


@attrs.frozen(kw_only=True)
class Lua:
    """Lua scripts."""

    lua_scripts: tuple[str, ...] = option("LuaScripts", paths, [], WORKS, "Lua files to run at the start, in order")
    lua_heart_beat_period: int = option(
        "LuaHeartBeatPeriod", seconds, 0, WORKS, "Time between calls of `OnHeartBeat`; 0: never", sample=ADVANCED
    )
    execute_lua_enabled: bool = option(
        "ExecuteLuaEnabled", boolean, False, WORKS, "Allow `/tools/execute-script`", sample=ADVANCED
    )
    dicom_association_close_delay: int = option(
        "DicomAssociationCloseDelay",
        seconds,
        5,
        WORKS,
        "Idle time after which an outgoing association is closed",
        sample=ADVANCED,
    )


@attrs.frozen(kw_only=True)
class Performance:
    """Threads, caches and memory."""

    maximum_storage_cache_size: int = option(
        "MaximumStorageCacheSize",
        megabytes,
        128,
        WORKS,
        "Memory for files that were read lately, of those that are small or compressed on the disk; 0: none",
    )
    storage_loader_threads_count: int = option(
        "StorageLoaderThreadsCount", _COUNT, 4, ACCEPTED, "Threads that read files", reason=_READING
    )
    storage_memory_capacity: int = option(
        "StorageMemoryCapacity", megabytes, 512, ACCEPTED, "Memory of the threads that read files", reason=_MEMORY
    )
    storage_access_on_find: StorageAccess = option(
        "StorageAccessOnFind",
        member(StorageAccess),
        "Always",
        WORKS,
        "Whether tags that are no main tags may be searched for and answered, answered only, or neither; they are read "
        "from the headers in the index, never from files",
    )
    malloc_arena_max: int = option(
        "MallocArenaMax",
        _COUNT,
        5,
        ACCEPTED,
        "Arenas of the C library's allocator; 0: as it likes",
        reason="Python allocates by itself; set the environment variable `MALLOC_ARENA_MAX` instead",
        sample=ADVANCED,
    )
    dicom_parser_threads_count: int = option(
        "DicomParserThreadsCount", _COUNT, 2, ACCEPTED, "Threads that parse files", reason=_PARSING, sample=ADVANCED
    )
    dicom_parser_memory_capacity: int = option(
        "DicomParserMemoryCapacity",
        megabytes,
        256,
        ACCEPTED,
        "Memory of the threads that parse files",
        reason=_PARSING,
        sample=ADVANCED,
    )
    dicom_parser_cache_size: int = option(
        "DicomParserCacheSize",
        megabytes,
        256,
        WORKS,
        "Memory for pictures and arrays of frames that were asked for lately; 0: none",
        sample=ADVANCED,
    )
    transcoder_threads_count: int = option(
        "TranscoderThreadsCount",
        _COUNT,
        4,
        ACCEPTED,
        "Transcodings at once",
        reason="processes transcode; see `CodecProcesses`",
        sample=ADVANCED,
    )
    transcoder_memory_capacity: int = option(
        "TranscoderMemoryCapacity",
        megabytes,
        256,
        ACCEPTED,
        "Memory of all transcodings",
        reason="it is bounded for each process; see `CodecMemoryMB`",
        sample=ADVANCED,
    )
    transcoder_cache_size: int = option(
        "TranscoderCacheSize",
        megabytes,
        256,
        WORKS,
        "Memory for files that were transcoded lately; 0: none",
        sample=ADVANCED,
    )
    zip_loader_threads: int = unset(
        "ZipLoaderThreads", _COUNT, 0, ACCEPTED, "Old name of `LoaderThreads`", note="0", reason=_ORDERED, sample=NONE
    )
    loader_threads: int = derived(
        "LoaderThreads",
        _COUNT,
        lambda section: int(section.zip_loader_threads),
        ACCEPTED,
        "Old name of `SequentialDicomReaderWindowSize`",
        note="`ZipLoaderThreads`",
        reason=_ORDERED,
        sample=NONE,
    )
    sequential_dicom_reader_window_size: int = derived(
        "SequentialDicomReaderWindowSize",
        _COUNT,
        lambda section: int(section.loader_threads) or 4,
        ACCEPTED,
        "Objects that one ordered reader loads ahead",
        note="`LoaderThreads`",
        reason=_ORDERED,
        sample=ADVANCED,
    )
    sequential_dicom_reader_window_capacity: int = option(
        "SequentialDicomReaderWindowCapacity",
        megabytes,
        128,
        ACCEPTED,
        "Memory of one ordered reader",
        reason=_ORDERED,
        sample=ADVANCED,
    )
    sequential_dicom_reader_threads_count: int = derived(
        "SequentialDicomReaderThreadsCount",
        _COUNT,
        lambda section: int(section.storage_loader_threads_count),
        ACCEPTED,
        "Threads that load ahead for ordered readers",
        note="`StorageLoaderThreadsCount`",
        reason=_ORDERED,
        sample=ADVANCED,
    )


@attrs.frozen(kw_only=True)
class Transcoding:
    """Changes of the transfer syntax."""

    transcode_dicom_protocol: bool = option(
        "TranscodeDicomProtocol", boolean, True, WORKS, "Transcode for peers that do not know the syntax of a file"
    )
    builtin_decoder_transcoder_order: DecoderOrder = option(
        "BuiltinDecoderTranscoderOrder",
        member(DecoderOrder),
        "After",
        WORKS,
        "`Disabled`: neither pictures are made nor objects transcoded; `Before` and `After` are the same, as there is "
        "no other decoder",
    )
    ingest_transcoding: str = unset(
        "IngestTranscoding", uid, "", WORKS, "Transfer syntax in which received objects are stored", note="as received"
    )
    ingest_transcoding_of_uncompressed: bool = option(
        "IngestTranscodingOfUncompressed", boolean, True, WORKS, "`IngestTranscoding` concerns uncompressed objects"
    )
    ingest_transcoding_of_compressed: bool = option(
        "IngestTranscodingOfCompressed", boolean, True, WORKS, "`IngestTranscoding` concerns compressed objects"
    )
    dicom_lossy_transcoding_quality: int = option(
        "DicomLossyTranscodingQuality",
        unsigned("unsigned 1..100", 1, 100),
        90,
        WORKS,
        "Quality of lossy JPEG, in percent",
    )
    maximum_concurrent_dcmtk_transcoders: int = option(
        "MaximumConcurrentDcmtkTranscoders",
        _COUNT,
        0,
        ACCEPTED,
        "Transcodings by DCMTK at once; 0: one per core",
        reason="DCMTK is not used; see `CodecProcesses`",
        sample=ADVANCED,
    )
