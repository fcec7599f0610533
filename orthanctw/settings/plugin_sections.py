"""Top-level keys that belong to plugins: known, and kept as they are."""

from __future__ import annotations

from typing import Final

#: Sections of usual plugins.
PLUGIN_SECTIONS: Final = (
    "AdvancedStorage",
    "AwsS3Storage",
    "AzureBlobStorage",
    "DelayedDeletion",
    "DicomWeb",
    "GoogleCloudStorage",
    "Housekeeper",
    "Indexer",
    "MultitenantDicom",
    "MySQL",
    "OrthancExplorer2",
    "PostgreSQL",
    "Python",
    "ServeFolders",
    "Transfers",
    "Worklists",
)
#: Those of which the options do what they say.
BUILT_IN: Final = frozenset({"Python", "Worklists"})


def wanted(value: object) -> bool:
    """Whether a section asks for something: not when it is empty or switched off."""
    if isinstance(value, dict):
        return bool(value) and value.get("Enable", True) is not False
    return bool(value)
