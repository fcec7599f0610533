"""Profiles of anonymisation (PS3.15 table E.1-1)."""

from __future__ import annotations

from typing import Final

#: ``DicomVersion``.
PROFILES: Final = ("2008", "2017c", "2021b", "2023b")
DEFAULT_PROFILE: Final = "2023b"
