"""The section ``Orthanctw``: options that only this program has."""

from __future__ import annotations

from typing import Final

import attrs

from orthanctw.settings.kinds import boolean, list_of, path, paths, seconds, text, unsigned
from orthanctw.settings.options import ADVANCED, WORKS, option

#: More threads than this only cost memory.
_THREADS: Final = unsigned("threads 1..256", 1, 256)
_SOME_SECONDS: Final = unsigned("seconds 1..86400", 1, 86400)
_SOME_MEGABYTES: Final = unsigned("MB 1..1048576", 1, 1048576)


@attrs.frozen(kw_only=True)
class Orthanctw:
    """Limits, threads and deadlines."""

    spool_threshold_kb: int = option(
        "SpoolThresholdKB",
        unsigned("KB 0..1048576", 0, 1048576),
        1024,
        WORKS,
        "Bodies of requests up to this size stay in memory, larger ones go to a file of the storage directory",
        sample=ADVANCED,
    )
    memory_budget_mb: int = option(
        "MemoryBudgetMB",
        _SOME_MEGABYTES,
        256,
        WORKS,
        "Memory of all bodies of requests together; beyond it they go to files",
        sample=ADVANCED,
    )
    reader_threads: int = option(
        "ReaderThreads", _THREADS, 4, WORKS, "Threads that read the index", sample=ADVANCED
    )
    storage_threads: int = option(
        "StorageThreads", _THREADS, 4, WORKS, "Threads that read and write files", sample=ADVANCED
    )
    inflate_ratio_limit: int = option(
        "InflateRatioLimit",
        unsigned("ratio 10..1000000", 10, 1000000),
        200,
        WORKS,
        "An uploaded gzip or ZIP that grows more than so many times is refused",
        sample=ADVANCED,
    )
    archive_members_limit: int = option(
        "ArchiveMembersLimit",
        unsigned("unsigned 1..10000000", 1, 10000000),
        100000,
        WORKS,
        "Files that an uploaded ZIP may have",
        sample=ADVANCED,
    )
    archive_deflate: bool = option(
        "ArchiveDeflate",
        boolean,
        False,
        WORKS,
        "Deflate the files of archives: smaller, but slower, without a length and without ranges",
        sample=ADVANCED,
    )
    maximum_nesting: int = option(
        "MaximumNesting",
        unsigned("unsigned 1..256", 1, 256),
        64,
        WORKS,
        "Depth of sequences in a DICOM object (PS3.5 section 7.5); deeper ones are refused",
        sample=ADVANCED,
    )
    header_limit_mb: int = option(
        "HeaderLimitMB",
        _SOME_MEGABYTES,
        64,
        WORKS,
        "Largest header of a DICOM object, that is all before its pixel data",
        sample=ADVANCED,
    )
    shutdown_timeout: int = option(
        "ShutdownTimeout", seconds, 10, WORKS, "Time that running requests have at the end, in s", sample=ADVANCED
    )
    request_body_timeout: int = option(
        "RequestBodyTimeout",
        _SOME_SECONDS,
        60,
        WORKS,
        "Time without a byte of a request's body after which the connection is closed, in s",
        sample=ADVANCED,
    )
    maximum_associations: int = option(
        "MaximumAssociations",
        unsigned("unsigned 1..100000", 1, 100000),
        200,
        WORKS,
        "Incoming DICOM associations at once; further ones are rejected as transient",
        sample=ADVANCED,
    )
    maximum_connections: int = option(
        "MaximumConnections",
        unsigned("unsigned 1..1000000", 1, 1000000),
        1000,
        WORKS,
        "HTTP connections at once; further ones wait",
        sample=ADVANCED,
    )
    scu_threads: int = option(
        "ScuThreads", _THREADS, 8, WORKS, "Outgoing DICOM operations at once, C-GET aside", sample=ADVANCED
    )
    scu_answers_limit: int = option(
        "ScuAnswersLimit",
        unsigned("unsigned 1..10000000", 1, 10000000),
        100000,
        WORKS,
        "Matches of an outgoing C-FIND after which it fails",
        sample=ADVANCED,
    )
    peer_transfers: int = option(
        "PeerTransfers",
        unsigned("unsigned 1..64", 1, 64),
        4,
        WORKS,
        "Objects that one job sends to a peer at once",
        sample=ADVANCED,
    )
    peer_retries: tuple[int, ...] = option(
        "PeerRetries",
        list_of(seconds, "array of unsigned (s)"),
        [],
        WORKS,
        "Seconds after which an object is sent again to a peer that is not reached: as often as there are numbers",
        sample=ADVANCED,
    )
    codec_processes: int = option(
        "CodecProcesses",
        unsigned("processes 0..256", 0, 256),
        0,
        WORKS,
        "Processes that decode, transcode and render images, started when first needed; 0: one per core",
        sample=ADVANCED,
    )
    codec_memory_mb: int = option(
        "CodecMemoryMB",
        unsigned("MB 256..1048576", 256, 1048576),
        2048,
        WORKS,
        "Address space of each process that works on images",
        sample=ADVANCED,
    )
    codec_timeout: int = option(
        "CodecTimeout",
        _SOME_SECONDS,
        120,
        WORKS,
        "Time that one piece of work on an image may take before its process is ended, in s",
        sample=ADVANCED,
    )
    lua_filter_timeout: int = option(
        "LuaFilterTimeout",
        _SOME_SECONDS,
        10,
        WORKS,
        "Time that a Lua filter has to answer, in s; without an answer nothing is stored, sent or answered",
        sample=ADVANCED,
    )
    lua_timeout: int = option(
        "LuaTimeout",
        _SOME_SECONDS,
        60,
        WORKS,
        "Time that any other Lua callback or script may run, in s; what it waits for does not count",
        sample=ADVANCED,
    )
    lua_wait_timeout: int = option(
        "LuaWaitTimeout",
        _SOME_SECONDS,
        600,
        WORKS,
        "Time that Lua waits for one answer of the REST API or one program, in s",
        sample=ADVANCED,
    )
    lua_memory_mb: int = option(
        "LuaMemoryMB",
        unsigned("MB 16..1048576", 16, 1048576),
        256,
        WORKS,
        "Memory of all Lua scripts together",
        sample=ADVANCED,
    )
    lua_rest_scripts_trusted: bool = option(
        "LuaRestScriptsTrusted",
        boolean,
        False,
        WORKS,
        "Scripts of `/tools/execute-script` may use files, programs and modules, as those of `LuaScripts` may",
        sample=ADVANCED,
    )
    lua_keep_strings: bool = option(
        "LuaKeepStrings",
        boolean,
        False,
        WORKS,
        "Replacements of `ModifyInstance` stay strings; Orthanc makes numbers of those that look like numbers",
        sample=ADVANCED,
    )
    python_scripts: tuple[str, ...] = option(
        "PythonScripts", paths, [], WORKS, "Further scripts in Python, run in their order", sample=ADVANCED
    )
    python_virtual_environment: str = option(
        "PythonVirtualEnvironment",
        path,
        "",
        WORKS,
        "Folder of a virtual environment whose packages Python scripts may import",
        sample=ADVANCED,
    )
    python_threads: int = option(
        "PythonThreads", _THREADS, 32, WORKS, "Requests that scripts in Python answer at once", sample=ADVANCED
    )
    python_filter_timeout: int = option(
        "PythonFilterTimeout",
        _SOME_SECONDS,
        30,
        WORKS,
        "Time that a script in Python has to decide, in s; without an answer nothing is stored or answered",
        sample=ADVANCED,
    )
    deidentification_key: str = option(
        "DeidentificationKey",
        text,
        "",
        WORKS,
        "Anonymisation derives new identifiers from this secret: the same source then gets the same ones in every job;"
        " empty: other ones in each job",
        sample=ADVANCED,
        secret=True,
    )
