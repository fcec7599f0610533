"""Options that are objects: modalities, peers, dictionary entries, users, names of metadata and attachments."""
# The calls below declare fields, they make no shared defaults.
# ruff: noqa: RUF009

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from orthanctw.model import ATTACHMENT_NAMES, METADATA_NAMES, USER_DEFINED, ResourceLevel
from orthanctw.settings.kinds import (
    Kind,
    Place,
    Refused,
    ae_title,
    boolean,
    expect,
    list_of,
    matching,
    member,
    object_of,
    path,
    read,
    seconds,
    text,
    unsigned,
)
from orthanctw.settings.options import (
    LATER,
    WORKS,
    names_of,
    object_kind,
    option,
    options_of,
    read_section,
    required,
    unset,
    warn_unknown,
)


class RetrieveMethod(enum.Enum):
    """How a remote modality is asked for objects (PS3.4 annex C)."""

    C_MOVE = "C-MOVE"
    C_GET = "C-GET"
    SYSTEM_DEFAULT = "SystemDefault"


class Manufacturer(enum.Enum):
    """Families of modalities with quirks of their own."""

    GENERIC = "Generic"
    GENERIC_NO_WILDCARD_IN_DATES = "GenericNoWildcardInDates"
    GENERIC_NO_UNIVERSAL_WILDCARD = "GenericNoUniversalWildcard"
    VITREA = "Vitrea"
    GE = "GE"
    SIEMENS_SYNGO_CT = "SiemensSyngoCT"


_OBSOLETE_MANUFACTURERS: Final[Mapping[object, Manufacturer]] = {
    "AgfaImpax": Manufacturer.GENERIC_NO_WILDCARD_IN_DATES,
    "SyngoVia": Manufacturer.GENERIC_NO_WILDCARD_IN_DATES,
    "EFilm2": Manufacturer.GENERIC,
    "MedInria": Manufacturer.GENERIC,
    "ClearCanvas": Manufacturer.GENERIC,
    "Dcm4Chee": Manufacturer.GENERIC,
}

_remote_port_number = unsigned("integer 1..65534, or the same as string", 1, 65534)


def _parse_remote_port(value: object, place: Place) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value):
        value = int(value)
    return _remote_port_number.parse(value, place)


remote_port: Final = Kind(_remote_port_number.label, _parse_remote_port, "104")
local_aet: Final = matching("string", r"[^\x00-\x1f\x7f\\]{0,16}", "an AE title of at most 16 characters")
host: Final = matching("string", r"\S+", "a host name or address")


@attrs.frozen(kw_only=True)
class Modality:
    """A remote DICOM application entity."""

    aet: str = required("AET", ae_title, "AE title of the modality")
    host: str = required("Host", host, "Host name or address")
    port: int = required("Port", remote_port, "TCP port")
    manufacturer: Manufacturer = option(
        "Manufacturer",
        member(Manufacturer, aliases=_OBSOLETE_MANUFACTURERS),
        "Generic",
        WORKS,
        "Family of quirks to respect",
    )
    allow_echo: bool = option(
        "AllowEcho", boolean, True, WORKS, "May send C-ECHO; matters without `DicomAlwaysAllowEcho`"
    )
    allow_store: bool = option(
        "AllowStore", boolean, True, WORKS, "May send C-STORE; matters without `DicomAlwaysAllowStore`"
    )
    allow_find: bool = option("AllowFind", boolean, True, WORKS, "May send C-FIND")
    allow_find_worklist: bool = option("AllowFindWorklist", boolean, True, WORKS, "May ask for worklists")
    allow_get: bool = option("AllowGet", boolean, True, WORKS, "May send C-GET")
    allow_move: bool = option("AllowMove", boolean, True, WORKS, "May send C-MOVE")
    allow_storage_commitment: bool = option(
        "AllowStorageCommitment", boolean, True, WORKS, "Sets `AllowNAction` and `AllowEventReport` at once"
    )
    allow_n_action: bool = option("AllowNAction", boolean, True, WORKS, "May ask for storage commitment")
    allow_event_report: bool = option("AllowEventReport", boolean, True, WORKS, "May report storage commitment")
    allow_transcoding: bool = option("AllowTranscoding", boolean, True, WORKS, "Objects may be transcoded for it")
    use_dicom_tls: bool = option("UseDicomTls", boolean, False, WORKS, "Connect to it by TLS")
    local_aet: str = option("LocalAet", local_aet, "", WORKS, "Our AE title towards it; empty: `DicomAet`")
    timeout: int = option("Timeout", seconds, 0, WORKS, "Seconds to wait for it; 0: `DicomScuTimeout`")
    retrieve_method: RetrieveMethod = option(
        "RetrieveMethod", member(RetrieveMethod), "SystemDefault", WORKS, "How objects are retrieved from it"
    )


_modality_object = object_kind(Modality)
_MODALITY_ARRAY: Final = ("AET", "Host", "Port", "Manufacturer")


def _parse_modality(value: object, place: Place) -> Modality:
    if isinstance(value, list):
        if len(value) not in (3, 4):
            raise Refused("an array of AET, Host, Port and maybe Manufacturer is needed")
        value = dict(zip(_MODALITY_ARRAY, value, strict=False))
    result = _modality_object.parse(value, place)
    if isinstance(value, dict) and "AllowStorageCommitment" in value:
        allowed = result.allow_storage_commitment
        result = attrs.evolve(result, allow_n_action=allowed, allow_event_report=allowed)
    return result


#: Fields that the API shows: `AllowStorageCommitment` only sets others.
_SHOWN: Final = tuple(
    (field, declared.name) for field, declared in options_of(Modality) if declared.name != "AllowStorageCommitment"
)


def modality_json(value: Modality) -> dict[str, Any]:
    """A modality as the API shows it, and as a request gives it."""
    shown = ((name, getattr(value, field)) for field, name in _SHOWN)
    return {name: item.value if isinstance(item, enum.Enum) else item for name, item in shown}


modality: Final = Kind("array or object", _parse_modality, '[ "AET", "192.0.2.1", 104 ]')


def _parse_url(value: object, place: Place) -> str:
    url = expect(value, str)
    if not re.fullmatch(r"https?://[^\s/]\S*", url):
        raise Refused("a URL that begins with http:// or https:// is needed")
    return url if url.endswith("/") else url + "/"


_header_value: Final = matching("string", r"[^\x00-\x08\x0a-\x1f\x7f]*", "the value of a header")


def _header_name(name: str) -> None:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise Refused("this is no name of a header")


#: The address of a peer, and its obsolete spelling.
_URL: Final = ("Url", "URL")



def _parse_no_smart_card(value: object, place: Place) -> bool:
    if expect(value, bool):
        raise Refused("smart cards are not available; use CertificateFile and CertificateKeyFile")
    return False


_no_smart_card: Final = Kind("boolean", _parse_no_smart_card, "false")


@attrs.frozen(kw_only=True)
class Peer:
    """A remote server with the same REST API."""

    url: str = unset(
        _URL[0],
        Kind("string", _parse_url),
        "",
        WORKS,
        "Base URL; a final slash is added",
        note="required",
        aliases=_URL[1:],
    )
    username: str = option("Username", text, "", WORKS, "User name of HTTP basic authentication; empty: none")
    password: str = option("Password", text, "", WORKS, "Password of it", secret=True)
    http_headers: Mapping[str, str] = option(
        "HttpHeaders",
        object_of(_header_value, "object (string -> string)", name=_header_name),
        {},
        WORKS,
        "Headers to send",
        secret=True,
    )
    certificate_file: str = option("CertificateFile", path, "", WORKS, "PEM file of our client certificate")
    certificate_key_file: str = option("CertificateKeyFile", path, "", WORKS, "PEM file of its private key")
    certificate_key_password: str = option(
        "CertificateKeyPassword", text, "", WORKS, "Password of the private key", secret=True
    )
    pkcs11: bool = option("Pkcs11", _no_smart_card, False, LATER, "Use a smart card; `true` is refused")
    timeout: int = option("Timeout", seconds, 0, WORKS, "Seconds to wait for it; 0: `HttpTimeout`")
    #: Every other key of the object, as text.
    properties: Mapping[str, str] = attrs.field(default=MappingProxyType({}))


def _parse_property(value: object, place: Place) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise Refused("a string, a number or a boolean is needed")
    return str(value)


_property: Final = Kind("string, number or boolean", _parse_property)
_PEER_ARRAY: Final = ("Url", "Username", "Password")


def _parse_peer(value: object, place: Place) -> Peer:
    if isinstance(value, list):
        if len(value) not in (1, 3):
            raise Refused("an array of the URL, or of the URL, the user name and the password, is needed")
        value = dict(zip(_PEER_ARRAY, value, strict=False))
    document: dict[str, object] = expect(value, dict)
    known = names_of([Peer])
    before = len(place.problems)
    properties = {key: read(_property, entry, place.key(key)) for key, entry in document.items() if key not in known}
    result = read_section(Peer, document, place.key)
    if document.keys().isdisjoint(_URL):
        place.key(_URL[0]).problem("missing")
    if result is None or len(place.problems) > before:
        raise Refused
    return attrs.evolve(
        result, properties=MappingProxyType({key: entry for key, entry in properties.items() if entry is not None})
    )


def peer_json(value: Peer) -> dict[str, Any]:
    """A peer with all its secrets, as a request gives it."""
    document: dict[str, Any] = {**value.properties}
    for field, declared in options_of(Peer):
        entry = getattr(value, field)
        document[declared.name] = dict(entry) if isinstance(entry, Mapping) else entry
    return document


peer: Final = Kind("array or object", _parse_peer, '[ "http://192.0.2.1:8042/" ]')


def _symbolic_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise Refused("the name may contain letters, digits, - and _ only")


modalities: Final = object_of(modality, "object (name -> entry)", name=_symbolic_name)
peers: Final = object_of(peer, "object (name -> entry)", name=_symbolic_name)


@attrs.frozen(kw_only=True)
class DictionaryEntry:
    """An entry that is added to the DICOM dictionary (PS3.6); `maximum` 0 is any multiplicity.

    The element of a private tag is its low byte, the block being that of `private_creator` (PS3.5 section 7.8.1).
    """

    tag: int
    vr: str
    name: str
    minimum: int = 1
    maximum: int = 1
    private_creator: str = ""


_multiplicity = unsigned()


def _tag_key(name: str) -> None:
    if not re.fullmatch(r"[0-9A-Fa-f]{4},([0-9A-Fa-f]{2}|[0-9A-Fa-f]{4})", name):
        raise Refused("the tag must be written as gggg,eeee")


def _parse_entry(value: object, place: Place) -> DictionaryEntry:
    elements = expect(value, list)
    if not 2 <= len(elements) <= 5:
        raise Refused("an array of VR, name, and maybe multiplicities and private creator, is needed")
    vr, name = expect(elements[0], str), expect(elements[1], str)
    if not re.fullmatch(r"[A-Z]{2}", vr) or not name:
        raise Refused("a VR of two capital letters and a name are needed")
    group, _, element = place.path.rpartition(".")[2].partition(",")
    minimum, maximum = (_multiplicity.parse(entry, place) for entry in [*elements[2:4], 1, 1][:2])
    if len(elements) == 3:
        maximum = max(minimum, 1)
    if maximum and maximum < minimum:
        raise Refused("the maximum multiplicity is below the minimum")
    creator = expect(elements[4], str) if len(elements) == 5 else ""
    return DictionaryEntry(
        tag=int(group + element.rjust(4, "0"), 16),
        vr=vr,
        name=name,
        minimum=minimum,
        maximum=maximum,
        private_creator=creator,
    )


dictionary: Final = object_of(Kind("array", _parse_entry), "object (tag -> array)", name=_tag_key)


def _user_name(name: str) -> None:
    if not name or ":" in name:
        raise Refused("a user name is not empty and has no colon")


users: Final = object_of(text, "object (user -> password)", name=_user_name)


@attrs.frozen
class UserContentType:
    """The number of a user-defined attachment and the MIME type that it is served with."""

    number: int
    mime: str = "application/octet-stream"


_user_number = unsigned("1024..65535", *USER_DEFINED)


def _parse_content_type(value: object, place: Place) -> UserContentType:
    if not isinstance(value, list):
        return UserContentType(_user_number.parse(value, place))
    if len(value) != 2:
        raise Refused("a number, or an array of a number and a MIME type, is needed")
    return UserContentType(_user_number.parse(value[0], place), expect(value[1], str))


def _once(names: Mapping[str, int], taken: Mapping[int, str]) -> None:
    """Refuse names of the server itself and numbers that have several names."""
    used: dict[int, str] = {}
    for name, number in names.items():
        if not name or name in taken.values():
            raise Refused(f'the name "{name}" is taken by the server')
        if number in used:
            raise Refused(f"{used[number]} and {name} have the same number {number}")
        used[number] = name


def _check_content_types(types: Mapping[str, UserContentType]) -> None:
    _once({name: entry.number for name, entry in types.items()}, ATTACHMENT_NAMES)


user_metadata: Final = object_of(
    _user_number, "object (name -> 1024..65535)", whole=lambda names: _once(names, METADATA_NAMES)
)
user_content_types: Final = object_of(
    Kind("number or [number, MIME]", _parse_content_type),
    "object (name -> number or [number, MIME])",
    whole=_check_content_types,
)

_main_tag: Final = matching(
    "tag", r"[0-9A-Fa-f]{4}[,-]?[0-9A-Fa-f]{4}|[A-Za-z][A-Za-z0-9]*", "the name of a tag, or gggg,eeee,"
)
_main_tags: Final = list_of(_main_tag, "array of tags")
_EXTRA_LEVELS: Final = {level.title: level for level in ResourceLevel}


def _parse_extra_tags(value: object, place: Place) -> Mapping[ResourceLevel, tuple[str, ...]]:
    document: dict[str, object] = expect(value, dict)
    warn_unknown(document, _EXTRA_LEVELS, place.key)
    before = len(place.problems)
    result: dict[ResourceLevel, tuple[str, ...]] = {}
    for title, level in _EXTRA_LEVELS.items():
        tags = read(_main_tags, document.get(title, []), place.key(title)) or ()
        folded = [tag.casefold().replace("-", "").replace(",", "") for tag in tags]
        for tag in sorted({tag for tag in folded if folded.count(tag) > 1}):
            place.key(title).problem(f"{tags[folded.index(tag)]} is given twice")
        result[level] = tags
    if len(place.problems) > before:
        raise Refused
    return MappingProxyType(result)


extra_main_dicom_tags: Final[Kind[Mapping[ResourceLevel, tuple[str, ...]]]] = Kind(
    "object (level -> array of tags)", _parse_extra_tags, "{}"
)
NO_EXTRA_TAGS: Final[Mapping[ResourceLevel, tuple[str, ...]]] = MappingProxyType(dict.fromkeys(ResourceLevel, ()))


@attrs.frozen(kw_only=True)
class Pkcs11:
    """A smart card for outgoing HTTPS."""

    module: str = required("Module", path, "Shared library of the card's driver")
    pin: str = option("Pin", text, "", WORKS, "PIN of the card", secret=True)
    verbose: bool = option("Verbose", boolean, False, WORKS, "Log what the driver does")


pkcs11: Final[Kind[Pkcs11]] = object_kind(Pkcs11)


@attrs.frozen(kw_only=True)
class LogWarnings:
    """Which warnings about stored objects are logged."""

    w001_tags_being_read_from_storage: bool = option(
        "W001_TagsBeingReadFromStorage", boolean, True, WORKS, "A tag that is no main tag had to be read"
    )
    w002_inconsistent_dicom_tags_in_db: bool = option(
        "W002_InconsistentDicomTagsInDb", boolean, True, WORKS, "A resource was stored with another list of main tags"
    )
    w003_decoder_failure: bool = option("W003_DecoderFailure", boolean, True, WORKS, "A frame could not be decoded")
    w004_no_main_dicom_tags_signature: bool = option(
        "W004_NoMainDicomTagsSignature", boolean, True, WORKS, "A resource does not say which main tags it has"
    )
    w005_requesting_tag_from_lower_resource_level: bool = option(
        "W005_RequestingTagFromLowerResourceLevel", boolean, True, WORKS, "A tag of a lower level was asked for"
    )
    w006_requesting_tag_from_meta_header: bool = option(
        "W006_RequestingTagFromMetaHeader", boolean, True, WORKS, "A tag of the file meta information was asked for"
    )
    w007_missing_requested_tags_not_read_from_disk: bool = option(
        "W007_MissingRequestedTagsNotReadFromDisk", boolean, True, WORKS, "A tag that is no main tag was left out"
    )


log_warnings: Final[Kind[LogWarnings]] = object_kind(LogWarnings, "object (id -> boolean)")


@attrs.frozen(kw_only=True)
class JobThreads:
    """How much of one job is done at once, by its type; 0 is one for each core."""

    resource_modification: int = option(
        "ResourceModification",
        unsigned(),
        1,
        WORKS,
        "Jobs that modify, anonymize, split or merge: four objects at once for each",
    )


job_threads: Final[Kind[JobThreads]] = object_kind(JobThreads, "object (job type -> unsigned)")

