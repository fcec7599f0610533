"""Contracts between the layers (level 1). Imports only values.

Every method that returns a `Deferred` may fail with an `orthanctw.errors.OrthancError`; anything else is a defect.
"""

from __future__ import annotations

from orthanctw.interfaces.hooks import (
    FindPeer,
    HttpQuestion,
    IFindFilter,
    IHttpFilter,
    IIngestFilter,
    IReceivedHook,
    IStoreFilter,
    Received,
    ScriptRequest,
)
from orthanctw.interfaces.index import IIndex
from orthanctw.interfaces.services import IChangeListener, IDicomScu, IJobListener, ITranscoder
from orthanctw.interfaces.storage import IBlockingReader, IReader, IScriptedFiles, ISpool, IStorageArea

__all__ = [
    "FindPeer",
    "HttpQuestion",
    "IBlockingReader",
    "IChangeListener",
    "IDicomScu",
    "IFindFilter",
    "IHttpFilter",
    "IIndex",
    "IIngestFilter",
    "IJobListener",
    "IReader",
    "IReceivedHook",
    "IScriptedFiles",
    "ISpool",
    "IStorageArea",
    "IStoreFilter",
    "ITranscoder",
    "Received",
    "ScriptRequest",
]
