"""Warnings about stored objects, each with a switch of its own (``Warnings``) (level 2)."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

from orthanctw.settings.structures import LogWarnings

log = Logger(namespace="orthanctw.generic")


class StoredWarnings:
    """Logs those of the warnings that are switched on. Tags are named by numbers, so that no value shows."""

    def __init__(self, switches: LogWarnings | None = None) -> None:
        self._switches = switches or LogWarnings()

    def tags_read(self, level: str, tags: Iterable[int]) -> None:
        """W001: tags are no main tags."""
        if self._switches.w001_tags_being_read_from_storage:
            log.warn(
                "W001: tags of {resources} are read from stored headers: {tags}; ExtraMainDicomTags would save that",
                resources=level,
                tags=_named(tags),
            )

    def inconsistent_tags(self, level: str, public_id: str) -> None:
        """W002: a resource was stored when other tags were main tags."""
        if self._switches.w002_inconsistent_dicom_tags_in_db:
            log.warn(
                "W002: {resources} {id} was stored with other main tags; /{resources}/{id}/reconstruct reads them anew",
                resources=level,
                id=public_id,
            )

    def decoder_failure(self, reason: object) -> None:
        """W003: a frame could not be decoded."""
        if self._switches.w003_decoder_failure:
            log.warn("W003: a frame could not be decoded: {reason}", reason=reason)

    def no_signature(self, level: str, public_id: str) -> None:
        """W004: a resource does not say which main tags it has."""
        if self._switches.w004_no_main_dicom_tags_signature:
            log.warn(
                "W004: {resources} {id} does not tell its main tags; /{resources}/{id}/reconstruct lets it",
                resources=level,
                id=public_id,
            )

    def tags_of_lower_levels(self, level: str, tags: Iterable[int]) -> None:
        """W005: tags belong to resources below."""
        if self._switches.w005_requesting_tag_from_lower_resource_level:
            log.warn(
                "W005: tags of lower levels are asked of {resources}, and taken from one instance: {tags}",
                resources=level,
                tags=_named(tags),
            )

    def tags_of_meta_header(self, tags: Iterable[int]) -> None:
        """W006: tags of the file meta information are asked for, which no resource has."""
        if self._switches.w006_requesting_tag_from_meta_header:
            log.warn("W006: tags of the file meta information are left out: {tags}", tags=_named(tags))

    def tags_left_out(self, level: str, tags: Iterable[int]) -> None:
        """W007: only the index's own tags may be used (``StorageAccessOnFind``)."""
        if self._switches.w007_missing_requested_tags_not_read_from_disk:
            log.warn(
                "W007: tags of {resources} are left out, since StorageAccessOnFind is Never: {tags}",
                resources=level,
                tags=_named(tags),
            )


def _named(tags: Iterable[int]) -> str:
    return "; ".join(sorted({f"{tag >> 16:04x},{tag & 0xFFFF:04x}" for tag in tags}))
