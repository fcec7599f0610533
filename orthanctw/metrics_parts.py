"""Composition of the metrics: what each part of a server shows of itself (level 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import DeferredSemaphore

from orthanctw.log import LogLevels
from orthanctw.model import JobState

if TYPE_CHECKING:
    from orthanctw.parts import Parts

_MEGABYTE = 1024 * 1024
_JOBS = {
    "orthanc_jobs_pending": (JobState.PENDING,),
    "orthanc_jobs_running": (JobState.RUNNING,),
    "orthanc_jobs_total_completed": (JobState.SUCCESS, JobState.FAILURE),
    "orthanc_jobs_total_failed": (JobState.FAILURE,),
    "orthanc_jobs_total_success": (JobState.SUCCESS,),
}


def publish_metrics(parts: Parts, reactor: Any, levels: LogLevels) -> None:
    """Have the metrics ask the parts whenever somebody looks."""
    started = reactor.seconds()
    gauge = parts.metrics.gauge
    for name, states in _JOBS.items():
        gauge(name, partial(parts.jobs.count, *states))
    gauge("orthanc_up_time_s", lambda: int(reactor.seconds() - started))
    gauge("orthanc_logged_errors_count", lambda: levels.errors)
    gauge("orthanc_logged_warnings_count", lambda: levels.warnings)
    gauge("orthanc_rest_api_active_requests", lambda: parts.api.active)
    gauge("orthanc_storage_available_threads", lambda: parts.storage_pool.size - parts.storage_pool.running)
    gauge("orthanc_transcoder_available_threads", lambda: parts.processes.size - parts.processes.running)
    gauge("orthanctw_http_connections", lambda: len(parts.site.connections))
    gauge("orthanctw_dicom_associations", lambda: parts.dicom.association_count)
    gauge("orthanctw_upload_memory_mb", lambda: parts.body_limits.budget.used / _MEGABYTE)


def publish_operations(parts: Parts, operations: DeferredSemaphore) -> None:
    """Show how many more DICOM operations could be carried out at once."""
    parts.metrics.gauge("orthanc_available_dicom_threads", lambda: operations.tokens)


def measurement(parts: Parts) -> Callable[[], Any]:
    """What the index has to be asked for."""

    async def measure() -> Mapping[str, float]:
        statistics = await parts.index.statistics()
        _, last_change = await parts.index.last_change()
        return {
            "orthanc_count_patients": statistics.patients,
            "orthanc_count_studies": statistics.studies,
            "orthanc_count_series": statistics.series,
            "orthanc_count_instances": statistics.instances,
            "orthanc_disk_size_mb": statistics.disk_size / _MEGABYTE,
            "orthanc_uncompressed_size_mb": statistics.uncompressed_size / _MEGABYTE,
            "orthanc_last_change": last_change,
        }

    return measure
