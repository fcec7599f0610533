"""Answering an association request: presentation contexts, roles, our own user information (PS3.7 annex D)."""

from __future__ import annotations

from collections.abc import Container, Iterable, Set

from orthanctw.acceptance import Acceptance
from orthanctw.dicom import dimse
from orthanctw.dicom.commitment import STORAGE_COMMITMENT
from orthanctw.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from orthanctw.dicom.uids import (
    PATIENT_ROOT_FIND,
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    WORKLIST_FIND,
)
from orthanctw.dicom.upper.pdus import (
    AcceptedContext,
    AssociateAccept,
    AssociateRequest,
    ContextResult,
    ProposedContext,
    UserInformation,
)

_IMPLICIT = "1.2.840.10008.1.2"
#: Requests of queries and retrievals, by their SOP class (PS3.4 tables C.4-1 and on, section K.6).
QUERY_RETRIEVE = {
    PATIENT_ROOT_FIND: dimse.C_FIND_RQ,
    STUDY_ROOT_FIND: dimse.C_FIND_RQ,
    PATIENT_ROOT_MOVE: dimse.C_MOVE_RQ,
    STUDY_ROOT_MOVE: dimse.C_MOVE_RQ,
    PATIENT_ROOT_GET: dimse.C_GET_RQ,
    STUDY_ROOT_GET: dimse.C_GET_RQ,
    WORKLIST_FIND: dimse.C_FIND_RQ,
}
#: The same of storage commitment: a request, and the report on one of ours (PS3.4 section J.3).
COMMITTING = (dimse.N_ACTION_RQ, dimse.N_EVENT_REPORT_RQ)
FOR_QUERIES = frozenset(("1.2.840.10008.1.2.1", _IMPLICIT))
FOR_VERIFICATION = frozenset(("1.2.840.10008.1.2.1", _IMPLICIT, "1.2.840.10008.1.2.2"))
_PREFERENCE = {uid: rank for rank, uid in enumerate(TRANSFER_SYNTAXES)}
_UNKNOWN_RANK = len(TRANSFER_SYNTAXES)


def belongs(abstract_syntax: str, field: int) -> bool:
    """Whether a request that is no storage and no C-ECHO is of the service of a presentation context."""
    if abstract_syntax == STORAGE_COMMITMENT:
        return field in COMMITTING
    return QUERY_RETRIEVE.get(abstract_syntax) == field


def choose_syntax(proposed: Iterable[str], accepted: Set[str]) -> str | None:
    """The transfer syntax of those proposed that we like best, or None."""
    candidates = [uid for uid in proposed if uid in accepted]
    return min(candidates, key=lambda uid: _PREFERENCE.get(uid, _UNKNOWN_RANK), default=None)


def _answer(context: ProposedContext, acceptance: Acceptance, offered: Container[str]) -> AcceptedContext:
    if context.abstract_syntax == VERIFICATION:
        accepted: Set[str] = FOR_VERIFICATION
    elif context.abstract_syntax in offered:
        accepted = FOR_QUERIES
    elif acceptance.accepts_storage_of(context.abstract_syntax):
        accepted = acceptance.transfer_syntaxes
    else:
        return AcceptedContext(context.context_id, ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, _IMPLICIT)
    syntax = choose_syntax(context.transfer_syntaxes, accepted)
    if syntax is None:
        return AcceptedContext(
            context.context_id, ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, _IMPLICIT
        )
    return AcceptedContext(context.context_id, ContextResult.ACCEPTED, syntax)


def distinct_contexts(request: AssociateRequest) -> dict[int, ProposedContext]:
    """Contexts by identifier; of several with the same one the first counts."""
    found: dict[int, ProposedContext] = {}
    for context in request.contexts:
        found.setdefault(context.context_id, context)
    return found


def negotiate(
    request: AssociateRequest, acceptance: Acceptance, maximum_length: int, offered: Container[str]
) -> AssociateAccept:
    """The answer to a request that is to be accepted; `offered` are the classes of queries and retrievals."""
    proposed = distinct_contexts(request)
    contexts = tuple(_answer(context, acceptance, offered) for context in proposed.values())
    accepted = {proposed[item.context_id].abstract_syntax for item in contexts if item.result is ContextResult.ACCEPTED}
    return AssociateAccept(
        called_aet=request.called_aet,
        calling_aet=request.calling_aet,
        contexts=contexts,
        user=UserInformation(
            maximum_length=maximum_length,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
            # We take both roles of storage classes, where the peer's are those of a C-GET, and of storage commitment
            # (PS3.7 annex D.3.3.4).
            roles={
                uid: roles
                for uid, roles in request.user.roles.items()
                if uid in accepted and uid not in QUERY_RETRIEVE and uid != VERIFICATION
            },
        ),
    )
