"""The module ``orthanc``, put together."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Final

from orthanctw.scripting.areas.dicom import DicomArea
from orthanctw.scripting.areas.dictionary import DictionaryArea
from orthanctw.scripting.areas.explorer import ExplorerArea
from orthanctw.scripting.areas.files import FileArea
from orthanctw.scripting.areas.http import HttpArea
from orthanctw.scripting.areas.images import ImageArea
from orthanctw.scripting.areas.logs import LogArea
from orthanctw.scripting.areas.lookups import LookupArea
from orthanctw.scripting.areas.matching import MatchingArea
from orthanctw.scripting.areas.metrics import MetricsArea
from orthanctw.scripting.areas.peers import PeerArea
from orthanctw.scripting.areas.queues import QueueArea
from orthanctw.scripting.areas.registration import RegistrationArea
from orthanctw.scripting.areas.rest import RestArea
from orthanctw.scripting.areas.storage import StorageArea, StorageValues
from orthanctw.scripting.areas.system import SystemArea
from orthanctw.scripting.areas.values import KeysValuesIterator, ValueArea
from orthanctw.scripting.connection import DicomConnection
from orthanctw.scripting.enumerations import enumerations
from orthanctw.scripting.exposure import OrthancException, exposed_functions
from orthanctw.scripting.hidden import DicomWebNode, ServerChunkedRequestReader, WebDavCollection
from orthanctw.scripting.host import Host
from orthanctw.scripting.images import Image
from orthanctw.scripting.instances import DicomInstance
from orthanctw.scripting.jobs import Job
from orthanctw.scripting.output import RestOutput
from orthanctw.scripting.peers import Peers
from orthanctw.scripting.queries import FindAnswers, FindMatcher, FindQuery, WorklistAnswers, WorklistQuery

_AREAS: Final[tuple[Any, ...]] = (
    DicomArea,
    DictionaryArea,
    ExplorerArea,
    FileArea,
    HttpArea,
    ImageArea,
    LogArea,
    LookupArea,
    MatchingArea,
    MetricsArea,
    PeerArea,
    QueueArea,
    RegistrationArea,
    RestArea,
    StorageValues,
    SystemArea,
    ValueArea,
)
_CLASSES: Final[tuple[type, ...]] = (
    DicomConnection,
    DicomInstance,
    DicomWebNode,
    FindAnswers,
    FindMatcher,
    FindQuery,
    Image,
    Job,
    KeysValuesIterator,
    Peers,
    RestOutput,
    ServerChunkedRequestReader,
    StorageArea,
    WebDavCollection,
    WorklistAnswers,
    WorklistQuery,
)


def build_module(host: Host) -> ModuleType:
    """A new module with the functions and classes that scripts use."""
    module = ModuleType("orthanc", "The server, for scripts.")
    content = vars(module)
    content.update(enumerations())
    content["OrthancException"] = OrthancException
    for area in _AREAS:
        content.update(exposed_functions(area(host)))
    content.update((each.__name__, each) for each in _CLASSES)
    return module
