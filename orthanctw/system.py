"""``/system``: what the server is (level 4)."""

from __future__ import annotations

import platform
import sqlite3
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from orthanctw import __version__
from orthanctw.dicom.maintags import MainTags
from orthanctw.model import OverwriteMode, ResourceLevel
from orthanctw.names import Names
from orthanctw.settings import Settings

#: The Orthanc whose behaviour clients find here: they decide by these what they may ask for.
ORTHANC_VERSION = "1.13.0"
API_VERSION = 31
#: Orthanc's number of its own database schema; clients only compare it.
DATABASE_VERSION = 6
_LIBRARIES = ("Twisted", "klein", "pydicom", "pynetdicom", "pyOpenSSL")


def system_information(
    settings: Settings, main_tags: MainTags, names: Names, identifier: str
) -> Mapping[str, Any]:
    """The answer of ``/system``."""
    storage = settings.storage
    return {
        "ApiVersion": API_VERSION,
        "Capabilities": {
            "HasExtendedChanges": True,
            "HasExtendedFind": True,
            "HasKeyValueStores": True,
            "HasQueues": True,
            "HasReserveQueueValue": True,
        },
        "CheckRevisions": settings.database.check_revisions,
        "DatabaseBackendPlugin": None,
        "DatabaseServerIdentifier": identifier,
        "DatabaseVersion": DATABASE_VERSION,
        "DicomAet": settings.dicom.dicom_aet,
        "DicomDefaultRetrieveMethod": settings.dicom.dicom_default_retrieve_method.value,
        "DicomPort": settings.dicom.dicom_port,
        "HasLabels": True,
        "HttpPort": settings.http.http_port,
        "IngestTranscoding": settings.transcoding.ingest_transcoding or "",
        "IsHttpServerSecure": settings.security.http_server_secure,
        "MainDicomTags": {level.title: main_tags.signature(level) for level in ResourceLevel},
        "MaximumPatientCount": storage.maximum_patient_count,
        "MaximumStorageMode": storage.maximum_storage_mode.value,
        "MaximumStorageSize": storage.maximum_storage_size,
        "Name": settings.general.name,
        "OrthanctwVersion": __version__,
        "OverwriteInstances": storage.overwrite_instances is not OverwriteMode.NEVER,
        "OverwriteInstancesMode": storage.overwrite_instances.value,
        "PatientLevelEnabled": settings.database.patient_level_enabled,
        "Performance": _performance(settings),
        "PluginsEnabled": bool(settings.python_scripts),
        "ReadOnly": settings.database.read_only,
        "StorageAreaPlugin": None,
        "StorageCompression": storage.storage_compression,
        "StoreMD5ForAttachments": storage.store_md5_for_attachments,
        "ThirdPartyPatches": [],
        "ThirdPartyVersions": {
            "Python": platform.python_version(),
            "SQLite": sqlite3.sqlite_version,
            **{name: version(name) for name in _LIBRARIES},
        },
        "UserMetadata": names.user_metadata,
        "Version": ORTHANC_VERSION,
    }


def _performance(settings: Settings) -> Mapping[str, Any]:
    performance = settings.performance
    return {
        "ConcurrentJobs": settings.jobs.concurrent_jobs,
        "DicomParserCacheSize": performance.dicom_parser_cache_size,
        "DicomParserMemoryCapacity": performance.dicom_parser_memory_capacity,
        "DicomParserThreadsCount": performance.dicom_parser_threads_count,
        "DicomThreadsCount": settings.dicom.dicom_threads_count,
        "HttpThreadsCount": settings.http.http_threads_count,
        "MaximumStorageCacheSize": performance.maximum_storage_cache_size,
        "SequentialDicomReaderThreadsCount": performance.sequential_dicom_reader_threads_count,
        "StorageLoaderThreadsCount": performance.storage_loader_threads_count,
        "StorageMemoryCapacity": performance.storage_memory_capacity,
        "TranscoderCacheSize": performance.transcoder_cache_size,
        "TranscoderMemoryCapacity": performance.transcoder_memory_capacity,
        "TranscoderThreadsCount": performance.transcoder_threads_count,
    }
