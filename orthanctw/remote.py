"""Remote application entities, and what is asked of them (level 0: values)."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs

from orthanctw.settings.structures import Manufacturer, Modality, RetrieveMethod


@attrs.frozen(kw_only=True)
class Remote:
    """A remote application entity as one operation addresses it; `timeout` in seconds, 0 for none."""

    aet: str
    host: str
    port: int
    local_aet: str
    timeout: int
    manufacturer: Manufacturer = Manufacturer.GENERIC
    allow_transcoding: bool = True
    use_dicom_tls: bool = False
    retrieve_method: RetrieveMethod = RetrieveMethod.SYSTEM_DEFAULT


def remote_of(
    modality: Modality, *, default_aet: str, default_timeout: int, local_aet: str = "", timeout: int | None = None
) -> Remote:
    """A modality with the AE title and time limit of one request, else its own, else the server's."""
    return Remote(
        aet=modality.aet,
        host=modality.host,
        port=modality.port,
        local_aet=local_aet or modality.local_aet or default_aet,
        timeout=timeout if timeout is not None else modality.timeout or default_timeout,
        manufacturer=modality.manufacturer,
        allow_transcoding=modality.allow_transcoding,
        use_dicom_tls=modality.use_dicom_tls,
        retrieve_method=modality.retrieve_method,
    )


@attrs.frozen
class Originator:
    """Who asked for the C-MOVE that an outgoing C-STORE belongs to (PS3.7 section 9.3.1.1)."""

    aet: str
    message_id: int


@attrs.frozen(kw_only=True)
class Outgoing:
    """An object to send: the file in the storage area, or its bytes, and what its header says of it.

    A file that `is_temporary` is there for this value alone; `ITranscoder.release` removes it. `uuid` is that of the
    stored file whose content this is; empty for all else.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax: str
    path: str = ""
    content: bytes = b""
    is_temporary: bool = False
    uuid: str = ""


class RetrieveLevel(enum.Enum):
    """Query/retrieve levels; the value is that of the tag (PS3.4 section C.6)."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


@attrs.frozen(kw_only=True)
class RetrieveResult:
    """How a C-MOVE or C-GET ended: its last status, and the numbers of sub-operations."""

    status: int
    completed: int = 0
    failed: int = 0
    warnings: int = 0
    comment: str = ""


#: SOP class UID and SOP instance UID of an object that somebody else may or may not have.
Reference = tuple[str, str]


class FailureReason(enum.IntEnum):
    """Why an object is not committed to (PS3.3 section C.14.1.1)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    DUPLICATE_TRANSACTION_UID = 0x0131
    RESOURCE_LIMITATION = 0x0213


@attrs.frozen(kw_only=True)
class CommitmentReport:
    """What a storage commitment has come to; `failed` has the reasons, which may be others than are known here."""

    transaction_uid: str
    committed: Sequence[Reference]
    failed: Sequence[tuple[Reference, int]]
