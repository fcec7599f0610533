"""Storage commitment as data sets: requests and reports (PS3.4 annex J, PS3.3 section C.14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from orthanctw.dicom import dimse
from orthanctw.dicom.datasets import DatasetReader
from orthanctw.dicom.dictionary import STANDARD
from orthanctw.dicom.elements import Element, Elements, Encoding
from orthanctw.dicom.encoding import encode_dataset
from orthanctw.dicom.received import is_uid
from orthanctw.errors import BadFileFormat, OrthancError
from orthanctw.remote import CommitmentReport, Reference

#: The push model, and its only instance.
STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
#: The only action, and both events: all objects are committed to, or some are not.
REQUEST_COMMITMENT: Final = 1
ALL_COMMITTED: Final = 1
SOME_FAILED: Final = 2
#: Octets of a request or report: some 250,000 objects.
COMMITMENT_LIMIT: Final = 32 << 20
_ELEMENTS: Final = 1_500_000
_DEPTH: Final = 8

_SOP_CLASS: Final = 0x00081150
_SOP_INSTANCE: Final = 0x00081155
_TRANSACTION: Final = 0x00081195
_REASON: Final = 0x00081197
_FAILED: Final = 0x00081198
_REFERENCED: Final = 0x00081199


@attrs.frozen(kw_only=True)
class CommitmentRequest:
    """Which objects somebody wants to be sure of; each once."""

    transaction_uid: str
    references: Sequence[Reference]


def check_action(command: dimse.Command) -> None:
    """See that an N-ACTION-RQ asks for storage commitment. OrthancError, with the status of the answer, otherwise."""
    _check_object(command, dimse.REQUESTED_SOP_CLASS, dimse.REQUESTED_SOP_INSTANCE)
    if command.number(dimse.ACTION_TYPE) != REQUEST_COMMITMENT:
        raise OrthancError("There is no such action", dimse_status=dimse.NO_SUCH_ACTION)


def check_event(command: dimse.Command) -> None:
    """See that an N-EVENT-REPORT-RQ is about storage commitment; otherwise as `check_action`."""
    _check_object(command, dimse.AFFECTED_SOP_CLASS, dimse.AFFECTED_SOP_INSTANCE)
    if command.number(dimse.EVENT_TYPE) not in (ALL_COMMITTED, SOME_FAILED):
        raise OrthancError("There is no such event", dimse_status=dimse.NO_SUCH_EVENT_TYPE)


def _check_object(command: dimse.Command, sop_class: int, sop_instance: int) -> None:
    if command.text(sop_class) != STORAGE_COMMITMENT:
        raise OrthancError("The SOP class is not that of the context", dimse_status=dimse.NO_SUCH_SOP_CLASS)
    if command.text(sop_instance) != COMMITMENT_INSTANCE:
        raise OrthancError("There is no such SOP instance", dimse_status=dimse.NO_SUCH_OBJECT_INSTANCE)


def _elements(data: bytes, explicit: bool) -> dict[int, Element]:
    reader = DatasetReader(data, "Ascii", STANDARD, _DEPTH, _ELEMENTS)
    return {element[0]: element for element in reader.dataset(0, len(data), Encoding(explicit))}


def _transaction(elements: dict[int, Element]) -> str:
    text = _text(elements.get(_TRANSACTION))
    if not is_uid(text):
        raise BadFileFormat("TransactionUID is missing, or no UID")
    return text


def _text(element: Element | None) -> str:
    return str(element[2]) if element is not None and len(element) == 3 else ""


def _items(elements: dict[int, Element], tag: int) -> list[dict[int, str]] | None:
    """Texts of each item of a sequence; None without the sequence."""
    element = elements.get(tag)
    if element is None:
        return None
    if not isinstance(element[2], list):
        raise BadFileFormat("What should be a sequence is none")
    return [{item[0]: _text(item) for item in items} for items in element[2]]


def _reference(item: dict[int, str]) -> Reference:
    pair = item.get(_SOP_CLASS, ""), item.get(_SOP_INSTANCE, "")
    if not (is_uid(pair[0]) and is_uid(pair[1])):
        raise BadFileFormat("The reference to an object lacks a UID, or has something else in its place")
    return pair


def decode_request(data: bytes, *, explicit: bool) -> CommitmentRequest:
    """What the data set of an N-ACTION-RQ asks for. Raises BadFileFormat."""
    elements = _elements(data, explicit)
    transaction_uid = _transaction(elements)
    items = _items(elements, _REFERENCED)
    if items is None:
        raise BadFileFormat("ReferencedSOPSequence is missing")
    return CommitmentRequest(
        transaction_uid=transaction_uid, references=tuple(dict.fromkeys(_reference(item) for item in items))
    )


def encode_request(request: CommitmentRequest, *, explicit: bool) -> bytes:
    """The data set of an N-ACTION-RQ."""
    return encode_dataset(
        [
            (_TRANSACTION, "UI", request.transaction_uid),
            (_REFERENCED, "SQ", [_item(reference) for reference in request.references]),
        ],
        explicit=explicit,
    )


def decode_report(data: bytes, *, explicit: bool) -> CommitmentReport:
    """What the data set of an N-EVENT-REPORT-RQ tells. Raises BadFileFormat."""
    elements = _elements(data, explicit)
    return CommitmentReport(
        transaction_uid=_transaction(elements),
        committed=[_reference(item) for item in _items(elements, _REFERENCED) or ()],
        failed=[(_reference(item), _reason(item)) for item in _items(elements, _FAILED) or ()],
    )


def encode_report(report: CommitmentReport, *, explicit: bool) -> bytes:
    """The data set of an N-EVENT-REPORT-RQ."""
    elements: Elements = [(_TRANSACTION, "UI", report.transaction_uid)]
    if report.failed:
        items = [[*_item(reference), (_REASON, "US", str(reason))] for reference, reason in report.failed]
        elements.append((_FAILED, "SQ", items))
    if report.committed or not report.failed:
        elements.append((_REFERENCED, "SQ", [_item(reference) for reference in report.committed]))
    return encode_dataset(elements, explicit=explicit)


def _item(reference: Reference) -> Elements:
    return [(_SOP_CLASS, "UI", reference[0]), (_SOP_INSTANCE, "UI", reference[1])]


def _reason(item: dict[int, str]) -> int:
    text = item.get(_REASON, "")
    if not text.isdigit():
        raise BadFileFormat("An object has failed without a reason")
    return int(text)
