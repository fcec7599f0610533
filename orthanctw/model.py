"""Levels, enumerations and the frozen values that cross between the layers (level 0: values).

Tags are integers, ``0x00100010``; the edges print them as ``gggg,eeee``. Values of tags are text in UTF-8 as
Orthanc shows it, several values joined by a backslash.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs


class ResourceLevel(enum.IntEnum):
    """The four levels of the DICOM hierarchy, numbered as in Orthanc."""

    PATIENT = 1
    STUDY = 2
    SERIES = 3
    INSTANCE = 4

    @property
    def title(self) -> str:
        """``Patient``, ``Study``, ``Series`` or ``Instance``."""
        return _LEVEL_TITLES[self]

    @property
    def plural(self) -> str:
        """``patients``, ``studies``, ``series`` or ``instances``, as in URLs."""
        return _LEVEL_PLURALS[self]

    @classmethod
    def parse(cls, text: str) -> ResourceLevel | None:
        """The level that `text` names (``Study``, ``STUDIES``, ``image`` ...), or None."""
        return _LEVEL_NAMES.get(text.upper())


_LEVEL_TITLES = {1: "Patient", 2: "Study", 3: "Series", 4: "Instance"}
_LEVEL_PLURALS = {1: "patients", 2: "studies", 3: "series", 4: "instances"}
_LEVEL_NAMES = {
    "PATIENT": ResourceLevel.PATIENT,
    "PATIENTS": ResourceLevel.PATIENT,
    "STUDY": ResourceLevel.STUDY,
    "STUDIES": ResourceLevel.STUDY,
    "SERIES": ResourceLevel.SERIES,
    "INSTANCE": ResourceLevel.INSTANCE,
    "INSTANCES": ResourceLevel.INSTANCE,
    "IMAGE": ResourceLevel.INSTANCE,
    "IMAGES": ResourceLevel.INSTANCE,
}


class MetadataType(enum.IntEnum):
    """Metadata that the server writes; users write 1024 to 65535."""

    INDEX_IN_SERIES = 1
    RECEPTION_DATE = 2
    REMOTE_AET = 3
    EXPECTED_NUMBER_OF_INSTANCES = 4
    MODIFIED_FROM = 5
    ANONYMIZED_FROM = 6
    LAST_UPDATE = 7
    ORIGIN = 8
    TRANSFER_SYNTAX = 9
    SOP_CLASS_UID = 10
    REMOTE_IP = 11
    CALLED_AET = 12
    HTTP_USERNAME = 13
    PIXEL_DATA_OFFSET = 14
    MAIN_DICOM_TAGS_SIGNATURE = 15
    MAIN_DICOM_SEQUENCES = 16
    PIXEL_DATA_VR = 17
    IS_PROTECTED = 18
    PATIENT_RECYCLING_ORDER = 19


METADATA_NAMES: Final[Mapping[int, str]] = {
    1: "IndexInSeries",
    2: "ReceptionDate",
    3: "RemoteAET",
    4: "ExpectedNumberOfInstances",
    5: "ModifiedFrom",
    6: "AnonymizedFrom",
    7: "LastUpdate",
    8: "Origin",
    9: "TransferSyntax",
    10: "SopClassUid",
    11: "RemoteIP",
    12: "CalledAET",
    13: "HttpUsername",
    14: "PixelDataOffset",
    15: "MainDicomTagsSignature",
    16: "MainDicomSequences",
    17: "PixelDataVR",
    18: "IsProtected",
    19: "PatientRecyclingOrder",
}

#: First and last number that users may give to metadata and attachments.
USER_DEFINED: Final = (1024, 65535)


class AttachmentType(enum.IntEnum):
    """Files that the server attaches to a resource; users attach 1024 to 65535."""

    UNKNOWN = 0
    DICOM = 1
    DICOM_AS_JSON = 2
    DICOM_UNTIL_PIXEL_DATA = 3


ATTACHMENT_NAMES: Final[Mapping[int, str]] = {
    0: "unknown",
    1: "dicom",
    2: "dicom-as-json",
    3: "dicom-until-pixel-data",
}


class Compression(enum.IntEnum):
    """How a file lies in the storage area."""

    NONE = 1
    ZLIB_WITH_SIZE = 2


class ChangeType(enum.IntEnum):
    """Kinds of entries of ``/changes``; `title` is the name that clients see."""

    COMPLETED_SERIES = 1
    NEW_INSTANCE = 2
    NEW_PATIENT = 3
    NEW_SERIES = 4
    NEW_STUDY = 5
    ANONYMIZED_STUDY = 6
    ANONYMIZED_SERIES = 7
    MODIFIED_STUDY = 8
    MODIFIED_SERIES = 9
    ANONYMIZED_PATIENT = 10
    MODIFIED_PATIENT = 11
    STABLE_PATIENT = 12
    STABLE_STUDY = 13
    STABLE_SERIES = 14
    UPDATED_ATTACHMENT = 15
    UPDATED_METADATA = 16
    # Told to listeners, never logged:
    DELETED = 4096
    NEW_CHILD_INSTANCE = 4097

    @property
    def title(self) -> str:
        return _CHANGE_TITLES[self]

    @property
    def logged(self) -> bool:
        return self < 4095

    @classmethod
    def parse(cls, title: str) -> ChangeType | None:
        return _CHANGES_BY_TITLE.get(title)


_CHANGE_TITLES = {c: "".join(word.capitalize() for word in c.name.split("_")) for c in ChangeType}
_CHANGES_BY_TITLE = {title: change for change, title in _CHANGE_TITLES.items()}


class StoreStatus(enum.Enum):
    """What became of a received object; the value is the text of the REST answer."""

    SUCCESS = "Success"
    ALREADY_STORED = "AlreadyStored"
    FILTERED_OUT = "FilteredOut"
    FAILURE = "Failure"


class OverwriteMode(enum.Enum):
    """``OverwriteInstances``: what happens to an object that is stored already."""

    NEVER = "Never"
    ALWAYS = "Always"
    IF_CHANGED = "IfChanged"


class StorageMode(enum.Enum):
    """``MaximumStorageMode``: what happens when a quota is reached."""

    RECYCLE = "Recycle"
    REJECT = "Reject"


class OriginKind(enum.Enum):
    """Where a request comes from; the value is the text of metadata and callbacks."""

    UNKNOWN = "Unknown"
    DICOM_PROTOCOL = "DicomProtocol"
    REST_API = "RestApi"
    PLUGINS = "Plugins"
    LUA = "Lua"
    WEB_DAV = "WebDav"


@attrs.frozen(kw_only=True)
class Origin:
    """Who sent an object; a field that does not apply is empty."""

    kind: OriginKind
    remote_ip: str = ""
    remote_aet: str = ""
    called_aet: str = ""
    username: str = ""


@attrs.frozen
class MetadataValue:
    value: str
    revision: int = 0


@attrs.frozen(kw_only=True)
class Attachment:
    """A file of the storage area that belongs to a resource. Sizes are bytes, digests lower-case hexadecimal.

    `crc32` is of the uncompressed bytes, None when nobody has computed it; the MD5 digests are empty when
    ``StoreMD5ForAttachments`` is false. `is_scripted` when a script keeps the bytes, in place of a file; `custom_data`
    is what scripts have noted of it.
    """

    content_type: int
    uuid: str
    size: int
    md5: str
    crc32: int | None = None
    compression: Compression = Compression.NONE
    compressed_size: int
    compressed_md5: str
    revision: int = 0
    is_scripted: bool = False
    custom_data: bytes = b""

    @property
    def is_plain_file(self) -> bool:
        """Whether there is a file with the bytes as they are."""
        return self.compression is Compression.NONE and not self.is_scripted


@attrs.frozen(kw_only=True)
class Change:
    """An entry of ``/changes``; `date` is ``yyyymmddThhmmss`` in UTC, `seq` 0 when it is not logged."""

    seq: int = 0
    change_type: ChangeType
    level: ResourceLevel
    public_id: str
    date: str


@attrs.frozen(kw_only=True)
class ExportedResource:
    """An entry of ``/exports``."""

    seq: int = 0
    level: ResourceLevel
    public_id: str
    remote_modality: str
    date: str
    patient_id: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""


@attrs.frozen(kw_only=True)
class Resource:
    """One patient, study, series or instance as the index knows it."""

    internal_id: int
    level: ResourceLevel
    public_id: str
    parent_id: str | None
    main_tags: Mapping[int, str]
    metadata: Mapping[int, MetadataValue]
    labels: tuple[str, ...] = ()
    is_protected: bool = False


@attrs.frozen(kw_only=True)
class Expanded:
    """A resource with its surroundings; a part that was not asked for is empty.

    `children` are the ids one level below, `indices` the IndexInSeries of every instance of a series.
    """

    resource: Resource
    children: tuple[str, ...] = ()
    attachments: Mapping[int, Attachment] = attrs.field(factory=dict)
    indices: tuple[str | None, ...] = ()


@attrs.frozen(kw_only=True)
class NewResource:
    """What the index must know of one level of an object that is stored.

    `main_tags` are shown, `search_tags` (identifier tags, normalised) are looked up; `metadata` is written
    when the resource is new (an instance always is).
    """

    public_id: str
    main_tags: Mapping[int, str]
    search_tags: Mapping[int, str]
    metadata: Mapping[int, str]

    def make(self) -> NewResource:
        """Itself: it stands in the place of a `LazyResource`."""
        return self


@attrs.frozen
class LazyResource:
    """A `NewResource` that is made when it turns out to be new: most objects come to a series that is known."""

    public_id: str
    make: Callable[[], NewResource]


@attrs.frozen(kw_only=True)
class NewInstance:
    """An object whose file is safe in the storage area, ready for the index. Its parents may be made in any thread."""

    patient: NewResource | LazyResource
    study: NewResource | LazyResource
    series: NewResource | LazyResource
    instance: NewResource
    header: bytes
    attachments: tuple[Attachment, ...]
    date: str
    overwrite: OverwriteMode = OverwriteMode.NEVER
    #: Kept at an overwritten instance of the same identifier only when told so.
    skip_quota: bool = False


@attrs.frozen(kw_only=True)
class Stored:
    """What the index did with a `NewInstance`. `removed_files` are the UUIDs that nothing refers to any more."""

    status: StoreStatus
    changes: tuple[Change, ...] = ()
    removed_files: tuple[str, ...] = ()
    #: Levels of which this object was the first.
    created: frozenset[ResourceLevel] = frozenset()


@attrs.frozen(kw_only=True)
class Deleted:
    """What a deletion did: the nearest ancestor that remains, told changes, files to remove."""

    remaining: tuple[ResourceLevel, str] | None
    changes: tuple[Change, ...] = ()
    removed_files: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Statistics:
    """Totals, from counters. Sizes are bytes."""

    patients: int
    studies: int
    series: int
    instances: int
    disk_size: int
    uncompressed_size: int
    dicom_disk_size: int = 0
    dicom_uncompressed_size: int = 0


@attrs.frozen(kw_only=True)
class Constraint:
    """One normalised condition on a search tag: a set of exact values, a wildcard, or a range (inclusive)."""

    tag: int
    level: ResourceLevel
    equal: tuple[str, ...] | None = None
    wildcard: str | None = None
    lower: str | None = None
    upper: str | None = None


class SeriesStatus(enum.Enum):
    """Whether a series has all the instances that it announces."""

    COMPLETE = "Complete"
    MISSING = "Missing"
    INCONSISTENT = "Inconsistent"
    UNKNOWN = "Unknown"


def series_status(expected: int | None, indices: Iterable[str | None]) -> SeriesStatus:
    """The status of a series that expects so many instances and has those of the given IndexInSeries."""
    if expected is None:
        return SeriesStatus.UNKNOWN
    seen: dict[int, str] = {}
    inconsistent = False
    for text in indices:
        try:
            number = int(text or "")
        except ValueError:
            return SeriesStatus.UNKNOWN
        assert text is not None
        # The same index twice is fine; "1" beside "01" is not.
        if not 0 < number <= expected or seen.setdefault(number, text) != text:
            inconsistent = True
    if inconsistent:
        return SeriesStatus.INCONSISTENT
    return SeriesStatus.COMPLETE if len(seen) == expected else SeriesStatus.MISSING


class JobState(enum.Enum):
    """States of a job; the value is the name that clients see."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCESS = "Success"
    FAILURE = "Failure"
    PAUSED = "Paused"
    RETRY = "Retry"


@attrs.frozen
class SavedJob:
    """A job as the index keeps it, as JSON texts: what it is, written once, and how far it came.

    `parameters` may be long: they are not read together with the rest.
    """

    number: int
    definition: bytes
    status: bytes
    parameters: bytes = b""


class JobEventType(enum.Enum):
    """What listeners are told of jobs."""

    SUBMITTED = "JobSubmitted"
    SUCCESS = "JobSuccess"
    FAILURE = "JobFailure"


@attrs.frozen
class JobEvent:
    event_type: JobEventType
    job_id: str
