"""Contracts between the layers (level 1). Imports only values.

Every method that returns a `Deferred` may fail with an `orthanctw.errors.OrthancError`; anything else is a defect.
"""

from __future__ import annotations

from orthanctw.interfaces.index import IIndex
from orthanctw.interfaces.services import IChangeListener, IDicomScu, IIngestFilter, IJobListener, ITranscoder
from orthanctw.interfaces.storage import IBlockingReader, IReader, ISpool, IStorageArea

__all__ = [
    "IBlockingReader",
    "IChangeListener",
    "IDicomScu",
    "IIndex",
    "IIngestFilter",
    "IJobListener",
    "IReader",
    "ISpool",
    "IStorageArea",
    "ITranscoder",
]
