"""PDUs as values, and their encoding (PS3.8 section 9.3, user information of PS3.7 annex D.3.3).

Whatever a peer sends that does not fit raises `InvalidPdu`, and nothing else.
"""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import attrs

from orthanctw.dicom.uids import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES, VERIFICATION
from orthanctw.errors import OrthancError

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
#: Octets before the variable part of an association request or answer, without the PDU head.
_ASSOCIATE_FIXED: Final = 68
#: Presentation contexts that an association can have: odd identifiers of one octet (PS3.8 section 9.3.2.2).
_CONTEXT_LIMIT: Final = 128
#: So that an association with many contexts holds no strings of its own.
_KNOWN_UIDS: Final = {
    uid.encode("ascii"): uid for uid in (APPLICATION_CONTEXT, VERIFICATION, *TRANSFER_SYNTAXES, *STORAGE_SOP_CLASSES)
}
_HEAD: Final = struct.Struct(">BxI")
_ITEM: Final = struct.Struct(">BxH")
_PDV: Final = struct.Struct(">IBB")


class InvalidPdu(OrthancError):
    """A PDU that is not one: the answer is A-ABORT. `reason` is that of PS3.8 table 9-26."""

    def __init__(self, details: str, reason: int = 6) -> None:
        super().__init__(details)
        self.reason = reason


class PduType(enum.IntEnum):
    """PS3.8 section 9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


class ContextResult(enum.IntEnum):
    """PS3.8 table 9-18."""

    ACCEPTED = 0
    USER_REJECTED = 1
    NO_REASON = 2
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


@attrs.frozen
class ProposedContext:
    """A presentation context of a request (PS3.8 section 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@attrs.frozen
class AcceptedContext:
    """A presentation context of an answer (PS3.8 section 9.3.3.2)."""

    context_id: int
    result: ContextResult
    transfer_syntax: str


@attrs.frozen(kw_only=True)
class UserInformation:
    """Sub-items of PS3.7 annex D.3.3; `roles` are (SCU, SCP) by SOP class."""

    maximum_length: int = 0
    implementation_class_uid: str = ""
    implementation_version_name: str = ""
    asynchronous_window: tuple[int, int] | None = None
    roles: Mapping[str, tuple[bool, bool]] = attrs.field(factory=dict)
    extended: Mapping[str, bytes] = attrs.field(factory=dict)
    identity: bytes | None = None


@attrs.frozen(kw_only=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ."""

    called_aet: str
    calling_aet: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation
    protocol_version: int = 1
    application_context: str = APPLICATION_CONTEXT


@attrs.frozen(kw_only=True)
class AssociateAccept:
    """A-ASSOCIATE-AC; the AE titles are those of the request."""

    called_aet: str
    calling_aet: str
    contexts: tuple[AcceptedContext, ...]
    user: UserInformation


@attrs.frozen
class AssociateReject:
    """A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    result: int
    source: int
    reason: int


@attrs.frozen
class Abort:
    """A-ABORT (PS3.8 table 9-26)."""

    source: int
    reason: int


@attrs.frozen
class Pdv:
    """A presentation data value (PS3.8 section 9.3.5.1, PS3.7 annex E.2)."""

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes | memoryview


# Decoding


def decode_data(body: memoryview) -> Iterator[Pdv]:
    """The values of a P-DATA-TF PDU; their data are views of `body`."""
    position, end = 0, len(body)
    while position < end:
        if end - position < _PDV.size:
            raise InvalidPdu("a presentation data value ends before its header")
        length, context_id, control = _PDV.unpack_from(body, position)
        stop = position + 4 + length
        if length < 2 or stop > end:
            raise InvalidPdu("a presentation data value is longer than its PDU")
        yield Pdv(context_id, bool(control & 1), bool(control & 2), body[position + 6 : stop])
        position = stop


def _items(body: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    end = len(body)
    while position < end:
        if end - position < _ITEM.size:
            raise InvalidPdu("an item ends before its header")
        kind, length = _ITEM.unpack_from(body, position)
        start = position + _ITEM.size
        if start + length > end:
            raise InvalidPdu("an item is longer than what holds it")
        yield kind, body[start : start + length]
        position = start + length


@functools.lru_cache(maxsize=1024)
def _uid(data: bytes) -> str:
    return _KNOWN_UIDS.get(data) or data.rstrip(b"\0 ").decode("ascii", "replace")


def _title(data: bytes) -> str:
    """An AE title; what its VR does not allow shows as a question mark (PS3.5 section 6.2)."""
    text = data.decode("ascii", "replace").strip(" \0")
    return text if text.isascii() and text.isprintable() else "".join(c if " " <= c <= "~" else "?" for c in text)


def _sized(data: bytes, position: int) -> tuple[bytes, int]:
    """A value after its length of two octets, and the position behind it."""
    if position + 2 > len(data):
        raise InvalidPdu("a sub-item is too short")
    (length,) = struct.unpack_from(">H", data, position)
    end = position + 2 + length
    if end > len(data):
        raise InvalidPdu("a sub-item is too short")
    return data[position + 2 : end], end


def _decode_user(data: bytes) -> UserInformation:
    values: dict[str, object] = {}
    roles: dict[str, tuple[bool, bool]] = {}
    extended: dict[str, bytes] = {}
    for kind, item in _items(data, 0):
        if kind == 0x51 and len(item) == 4:
            values["maximum_length"] = int.from_bytes(item, "big")
        elif kind == 0x52:
            values["implementation_class_uid"] = _uid(item)
        elif kind == 0x55:
            values["implementation_version_name"] = _title(item)
        elif kind == 0x53 and len(item) == 4:
            values["asynchronous_window"] = struct.unpack(">HH", item)
        elif kind == 0x54:
            uid, position = _sized(item, 0)
            if position + 2 > len(item):
                raise InvalidPdu("a role selection is too short")
            roles[_uid(uid)] = (bool(item[position]), bool(item[position + 1]))
        elif kind == 0x56:
            uid, position = _sized(item, 0)
            extended[_uid(uid)] = item[position:]
        elif kind == 0x58:
            values["identity"] = item
    return UserInformation(roles=roles, extended=extended, **values)  # type: ignore[arg-type]


def _decode_proposed(item: bytes) -> ProposedContext:
    if len(item) < 4:
        raise InvalidPdu("a presentation context is too short")
    abstract, transfer = "", []
    for kind, value in _items(item, 4):
        if kind == 0x30:
            abstract = _uid(value)
        elif kind == 0x40:
            transfer.append(_uid(value))
    return ProposedContext(item[0], abstract, tuple(transfer))


def decode_associate_request(body: bytes) -> AssociateRequest:
    """The body of an A-ASSOCIATE-RQ PDU."""
    if len(body) < _ASSOCIATE_FIXED:
        raise InvalidPdu("an association request is too short")
    contexts: list[ProposedContext] = []
    user = UserInformation()
    application_context = ""
    for kind, item in _items(body, _ASSOCIATE_FIXED):
        if kind == 0x20:
            if len(contexts) == _CONTEXT_LIMIT:
                raise InvalidPdu("an association request has too many presentation contexts")
            contexts.append(_decode_proposed(item))
        elif kind == 0x50:
            user = _decode_user(item)
        elif kind == 0x10:
            application_context = _uid(item)
    return AssociateRequest(
        protocol_version=int.from_bytes(body[:2], "big"),
        called_aet=_title(body[4:20]),
        calling_aet=_title(body[20:36]),
        application_context=application_context,
        contexts=tuple(contexts),
        user=user,
    )


def decode_associate_accept(body: bytes) -> AssociateAccept:
    """The body of an A-ASSOCIATE-AC PDU."""
    if len(body) < _ASSOCIATE_FIXED:
        raise InvalidPdu("an association answer is too short")
    contexts: list[AcceptedContext] = []
    user = UserInformation()
    for kind, item in _items(body, _ASSOCIATE_FIXED):
        if kind == 0x21:
            if len(item) < 4:
                raise InvalidPdu("a presentation context is too short")
            result = ContextResult(item[2]) if item[2] <= 4 else ContextResult.NO_REASON
            syntaxes = [_uid(value) for inner, value in _items(item, 4) if inner == 0x40]
            contexts.append(AcceptedContext(item[0], result, syntaxes[0] if syntaxes else ""))
        elif kind == 0x50:
            user = _decode_user(item)
    return AssociateAccept(
        called_aet=_title(body[4:20]),
        calling_aet=_title(body[20:36]),
        contexts=tuple(contexts),
        user=user,
    )


def decode_reject(body: bytes) -> AssociateReject:
    """The body of an A-ASSOCIATE-RJ PDU."""
    if len(body) != 4:
        raise InvalidPdu("a rejection has another length")
    return AssociateReject(body[1], body[2], body[3])


def decode_abort(body: bytes) -> Abort:
    """The body of an A-ABORT PDU."""
    if len(body) != 4:
        raise InvalidPdu("an abort has another length")
    return Abort(body[2], body[3])


# Encoding


def pdu(kind: PduType, body: bytes) -> bytes:
    """A whole PDU."""
    return _HEAD.pack(kind, len(body)) + body


def _item(kind: int, data: bytes) -> bytes:
    return _ITEM.pack(kind, len(data)) + data


def _encode_user(user: UserInformation) -> bytes:
    parts = [
        _item(0x51, user.maximum_length.to_bytes(4, "big")),
        _item(0x52, user.implementation_class_uid.encode("ascii")),
    ]
    if user.asynchronous_window is not None:
        parts.append(_item(0x53, struct.pack(">HH", *user.asynchronous_window)))
    for uid, (scu, scp) in user.roles.items():
        name = uid.encode("ascii", "replace")
        parts.append(_item(0x54, struct.pack(">H", len(name)) + name + bytes((scu, scp))))
    if user.implementation_version_name:
        parts.append(_item(0x55, user.implementation_version_name.encode("ascii")))
    for uid, data in user.extended.items():
        name = uid.encode("ascii", "replace")
        parts.append(_item(0x56, struct.pack(">H", len(name)) + name + data))
    if user.identity is not None:
        parts.append(_item(0x58, user.identity))
    return _item(0x50, b"".join(parts))


def _associate_head(called_aet: str, calling_aet: str) -> bytes:
    titles = [title.encode("ascii", "replace")[:16].ljust(16) for title in (called_aet, calling_aet)]
    return b"\0\1\0\0" + titles[0] + titles[1] + bytes(32) + _item(0x10, APPLICATION_CONTEXT.encode())


def encode_associate_request(request: AssociateRequest) -> bytes:
    """A whole A-ASSOCIATE-RQ PDU."""
    parts = [_associate_head(request.called_aet, request.calling_aet)]
    for context in request.contexts:
        syntaxes = b"".join(_item(0x40, uid.encode("ascii")) for uid in context.transfer_syntaxes)
        abstract = _item(0x30, context.abstract_syntax.encode("ascii"))
        parts.append(_item(0x20, bytes((context.context_id, 0, 0, 0)) + abstract + syntaxes))
    parts.append(_encode_user(request.user))
    return pdu(PduType.ASSOCIATE_RQ, b"".join(parts))


def encode_associate_accept(answer: AssociateAccept) -> bytes:
    """A whole A-ASSOCIATE-AC PDU."""
    parts = [_associate_head(answer.called_aet, answer.calling_aet)]
    for context in answer.contexts:
        # A transfer syntax is there even when the context is refused; it is not to be looked at.
        syntax = _item(0x40, context.transfer_syntax.encode("ascii", "replace"))
        parts.append(_item(0x21, bytes((context.context_id, 0, context.result, 0)) + syntax))
    parts.append(_encode_user(answer.user))
    return pdu(PduType.ASSOCIATE_AC, b"".join(parts))


def encode_reject(reject: AssociateReject) -> bytes:
    """A whole A-ASSOCIATE-RJ PDU."""
    return pdu(PduType.ASSOCIATE_RJ, bytes((0, reject.result, reject.source, reject.reason)))


def encode_abort(abort: Abort) -> bytes:
    """A whole A-ABORT PDU."""
    return pdu(PduType.ABORT, bytes((0, 0, abort.source, abort.reason)))


RELEASE_RQ: Final = pdu(PduType.RELEASE_RQ, bytes(4))
RELEASE_RP: Final = pdu(PduType.RELEASE_RP, bytes(4))


def encode_data(values: Sequence[Pdv]) -> bytes:
    """A whole P-DATA-TF PDU."""
    total = sum(len(value.data) + _PDV.size for value in values)
    pieces: list[bytes | memoryview] = [_HEAD.pack(PduType.DATA, total)]
    for value in values:
        control = (1 if value.is_command else 0) | (2 if value.is_last else 0)
        pieces += (_PDV.pack(len(value.data) + 2, value.context_id, control), value.data)
    return b"".join(pieces)
