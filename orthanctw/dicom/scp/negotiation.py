"""Answering an association request: presentation contexts, roles, our own user information (PS3.7 annex D)."""

from __future__ import annotations

from collections.abc import Iterable, Set

from orthanctw.acceptance import Acceptance
from orthanctw.dicom.uids import TRANSFER_SYNTAXES, VERIFICATION
from orthanctw.dicom.upper.pdus import (
    AcceptedContext,
    AssociateAccept,
    AssociateRequest,
    ContextResult,
    ProposedContext,
    UserInformation,
)

#: Identifies this implementation (PS3.7 annex D.3.3.2): a UUID-derived UID, which nobody has to register.
IMPLEMENTATION_CLASS_UID = "2.25.205312897541094519047261373829604357821"
IMPLEMENTATION_VERSION_NAME = "ORTHANCTW_010"
_IMPLICIT = "1.2.840.10008.1.2"
_FOR_VERIFICATION = frozenset(("1.2.840.10008.1.2.1", _IMPLICIT, "1.2.840.10008.1.2.2"))
_PREFERENCE = {uid: rank for rank, uid in enumerate(TRANSFER_SYNTAXES)}
_UNKNOWN_RANK = len(TRANSFER_SYNTAXES)


def choose_syntax(proposed: Iterable[str], accepted: Set[str]) -> str | None:
    """The transfer syntax of those proposed that we like best, or None."""
    candidates = [uid for uid in proposed if uid in accepted]
    return min(candidates, key=lambda uid: _PREFERENCE.get(uid, _UNKNOWN_RANK), default=None)


def _answer(context: ProposedContext, acceptance: Acceptance) -> AcceptedContext:
    if context.abstract_syntax == VERIFICATION:
        accepted: Set[str] = _FOR_VERIFICATION
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


def negotiate(request: AssociateRequest, acceptance: Acceptance, maximum_length: int) -> AssociateAccept:
    """The answer to a request that is to be accepted."""
    return AssociateAccept(
        called_aet=request.called_aet,
        calling_aet=request.calling_aet,
        contexts=tuple(_answer(context, acceptance) for context in distinct_contexts(request).values()),
        user=UserInformation(
            maximum_length=maximum_length,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        ),
    )
