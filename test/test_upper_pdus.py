"""PDUs: ours and pynetdicom's are the same octets; damaged ones are refused."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynetdicom import pdu as their_pdus
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.uids import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES
from orthanctw.dicom.upper import pdus
from orthanctw.dicom.upper.pdus import (
    Abort,
    AcceptedContext,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextResult,
    InvalidPdu,
    Pdv,
    ProposedContext,
    UserInformation,
)
from test.upper_bench import AC, REQUEST, RQ

_uids = st.lists(st.integers(0, 2**40), min_size=2, max_size=5).map(lambda parts: ".".join(["1", *map(str, parts)]))
_titles = st.text(st.sampled_from("ABCZ019 _-"), min_size=1, max_size=16).map(str.strip).filter(bool)
_version_names = st.text(st.sampled_from("ABC019_"), min_size=1, max_size=16)
_roles = st.dictionaries(_uids, st.tuples(st.booleans(), st.booleans()).filter(any), max_size=3)
_users = st.builds(
    UserInformation,
    maximum_length=st.integers(0, 0xFFFFFFFF),
    implementation_class_uid=_uids,
    implementation_version_name=_version_names,
    asynchronous_window=st.none() | st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
    roles=_roles,
    extended=st.dictionaries(_uids, st.binary(min_size=1, max_size=8), max_size=2),
)
_proposed = st.lists(
    st.tuples(_uids, st.lists(_uids, min_size=1, max_size=4, unique=True)), min_size=1, max_size=128
).map(lambda pairs: tuple(ProposedContext(2 * i + 1, uid, tuple(ts)) for i, (uid, ts) in enumerate(pairs)))
_requests = st.builds(
    AssociateRequest, called_aet=_titles, calling_aet=_titles, contexts=_proposed, user=_users
)
_accepted = st.lists(st.tuples(st.sampled_from(ContextResult), _uids), min_size=1, max_size=128).map(
    lambda pairs: tuple(AcceptedContext(2 * i + 1, result, uid) for i, (result, uid) in enumerate(pairs))
)
_answers = st.builds(AssociateAccept, called_aet=_titles, calling_aet=_titles, contexts=_accepted, user=_users)
_values = st.lists(
    st.builds(Pdv, st.integers(1, 255), st.booleans(), st.booleans(), st.binary(max_size=64)), min_size=1, max_size=8
)
_bounded = settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)


def _their_user(item: Any) -> UserInformation:
    """User information as pynetdicom has read it."""
    found: dict[str, Any] = {"roles": {}, "extended": {}}
    for each in item.user_data:
        kind = type(each).__name__
        if kind == "MaximumLengthSubItem":
            found["maximum_length"] = each.maximum_length_received
        elif kind == "ImplementationClassUIDSubItem":
            found["implementation_class_uid"] = str(each.implementation_class_uid)
        elif kind == "ImplementationVersionNameSubItem":
            found["implementation_version_name"] = str(each.implementation_version_name)
        elif kind == "AsynchronousOperationsWindowSubItem":
            found["asynchronous_window"] = (
                each.maximum_number_operations_invoked,
                each.maximum_number_operations_performed,
            )
        elif kind == "SCP_SCU_RoleSelectionSubItem":
            found["roles"][str(each.sop_class_uid)] = (bool(each.scu_role), bool(each.scp_role))
        elif kind == "SOPClassExtendedNegotiationSubItem":
            found["extended"][str(each.sop_class_uid)] = each.service_class_application_information
    return UserInformation(**found)


class CodecTest(SynchronousTestCase):
    """Our PDUs and pynetdicom's are the same octets."""

    @_bounded
    @given(_requests)
    def test_requests(self, request: AssociateRequest) -> None:
        """pynetdicom reads our request as it was meant, and we read what it writes of it."""
        theirs = their_pdus.A_ASSOCIATE_RQ()
        theirs.decode(pdus.encode_associate_request(request))
        self.assertEqual(
            (theirs.called_ae_title.strip(), theirs.calling_ae_title.strip()), (request.called_aet, request.calling_aet)
        )
        self.assertEqual(
            tuple(
                ProposedContext(
                    item.presentation_context_id, str(item.abstract_syntax), tuple(map(str, item.transfer_syntax))
                )
                for item in theirs.presentation_context
            ),
            request.contexts,
        )
        self.assertEqual(_their_user(theirs.user_information), request.user)
        self.assertEqual(pdus.decode_associate_request(theirs.encode()[6:]), request)

    @_bounded
    @given(_answers)
    def test_answers(self, answer: AssociateAccept) -> None:
        """The same for the answer to a request."""
        theirs = their_pdus.A_ASSOCIATE_AC()
        theirs.decode(pdus.encode_associate_accept(answer))
        self.assertEqual(
            [(item.presentation_context_id, item.result, str(item.transfer_syntax))
             for item in theirs.presentation_context],
            [(context.context_id, context.result, context.transfer_syntax) for context in answer.contexts],
        )
        self.assertEqual(_their_user(theirs.user_information), answer.user)
        self.assertEqual(pdus.decode_associate_accept(theirs.encode()[6:]), answer)

    @_bounded
    @given(_values)
    def test_data(self, values: list[Pdv]) -> None:
        """The same for presentation data values."""
        theirs = their_pdus.P_DATA_TF()
        theirs.decode(pdus.encode_data(values))
        self.assertEqual(
            [(each.presentation_context_id, each.presentation_data_value)
             for each in theirs.presentation_data_value_items],
            [(v.context_id, bytes(((1 if v.is_command else 0) | (2 if v.is_last else 0),)) + v.data) for v in values],
        )
        decoded = pdus.decode_data(memoryview(theirs.encode()[6:]))
        self.assertEqual([attrs.evolve(value, data=bytes(value.data)) for value in decoded], values)

    def test_small_pdus(self) -> None:
        """Rejections, aborts and releases are pynetdicom's octet by octet."""
        for result, source, reason in ((1, 1, 7), (2, 3, 2), (1, 2, 2)):
            theirs = their_pdus.A_ASSOCIATE_RJ()
            theirs.result, theirs.source, theirs.reason_diagnostic = result, source, reason
            self.assertEqual(pdus.encode_reject(AssociateReject(result, source, reason)), theirs.encode())
            self.assertEqual(pdus.decode_reject(theirs.encode()[6:]), AssociateReject(result, source, reason))
        for source, reason in ((0, 0), (2, 6)):
            abort = their_pdus.A_ABORT_RQ()
            abort.source, abort.reason_diagnostic = source, reason
            self.assertEqual(pdus.encode_abort(Abort(source, reason)), abort.encode())
            self.assertEqual(pdus.decode_abort(abort.encode()[6:]), Abort(source, reason))
        self.assertEqual(pdus.RELEASE_RQ, their_pdus.A_RELEASE_RQ().encode())
        self.assertEqual(pdus.RELEASE_RP, their_pdus.A_RELEASE_RP().encode())

    def test_identity(self) -> None:
        """User identity goes through as it is."""
        user = attrs.evolve(REQUEST.user, identity=b"\1\0\0\3abc\0\0")
        request = attrs.evolve(REQUEST, user=user)
        self.assertEqual(pdus.decode_associate_request(pdus.encode_associate_request(request)[6:]), request)

    def test_many_contexts(self) -> None:
        """128 presentation contexts are read, one more is refused."""
        syntaxes = tuple(TRANSFER_SYNTAXES)
        classes = sorted(STORAGE_SOP_CLASSES)[:128]
        contexts = [ProposedContext(2 * i + 1, uid, syntaxes) for i, uid in enumerate(classes)]
        request = attrs.evolve(REQUEST, contexts=tuple(contexts))
        encoded = pdus.encode_associate_request(request)
        self.assertEqual(pdus.decode_associate_request(encoded[6:]), request)
        more = attrs.evolve(REQUEST, contexts=(*contexts, contexts[0]))
        self.assertRaises(InvalidPdu, pdus.decode_associate_request, pdus.encode_associate_request(more)[6:])

    def test_titles(self) -> None:
        """What an AE title must not have is shown as question marks, so that no log line is made of it."""
        body = bytearray(RQ[6:])
        body[20:36] = b"A\nB\x1b[2J\xff           "[:16]
        self.assertEqual(pdus.decode_associate_request(bytes(body)).calling_aet, "A?B?[2J?")

    @_bounded
    @given(st.sampled_from((RQ, AC)), st.data())
    def test_damaged(self, encoded: bytes, data: st.DataObject) -> None:
        """A damaged request or answer is read somehow or refused as invalid; nothing else happens."""
        body = bytearray(encoded[6:])
        for _ in range(data.draw(st.integers(1, 4))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        cut = bytes(body[: data.draw(st.integers(0, len(body)))])
        for decode in (pdus.decode_associate_request, pdus.decode_associate_accept):
            try:
                decode(cut)
            except InvalidPdu as e:
                self.assertEqual(e.reason, 6)
