"""The configuration as frozen sections (level 0: values); all errors are reported together with their path."""

from orthanctw.settings.core import DecoderOrder, StorageAccess
from orthanctw.settings.options import Option, Sample, State, options_of
from orthanctw.settings.own import Orthanctw
from orthanctw.settings.python import PythonSection
from orthanctw.settings.run_options import LOG_CATEGORIES, RunOptions
from orthanctw.settings.sections import OWN_SECTION, SECTIONS, Settings
from orthanctw.settings.structures import (
    DictionaryEntry,
    Manufacturer,
    Modality,
    Peer,
    RetrieveMethod,
    UserContentType,
)
from orthanctw.settings.worklists import Worklists

__all__ = [
    "LOG_CATEGORIES",
    "OWN_SECTION",
    "SECTIONS",
    "DecoderOrder",
    "DictionaryEntry",
    "Manufacturer",
    "Modality",
    "Option",
    "Orthanctw",
    "Peer",
    "PythonSection",
    "RetrieveMethod",
    "RunOptions",
    "Sample",
    "Settings",
    "State",
    "StorageAccess",
    "UserContentType",
    "Worklists",
    "options_of",
]
