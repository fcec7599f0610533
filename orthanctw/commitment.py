"""Storage commitment: what we can commit to, and what others have committed to (PS3.4 annex J) (level 4)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
from isal import isal_zlib
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from orthanctw.attaching import Attaching
from orthanctw.bulk import Bulk
from orthanctw.dicom import dimse
from orthanctw.dicom.commitment import CommitmentRequest
from orthanctw.dicom.scu.commitment import CommitmentScu
from orthanctw.dicom.scuqueries import SOP_INSTANCE_UID
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import InexistentItem, OrthancError, ServiceUnavailable, UnknownResource
from orthanctw.identifiers import normalize_identifier
from orthanctw.interfaces import IIndex, IStorageArea
from orthanctw.model import Attachment, AttachmentType, Compression, Constraint, ResourceLevel
from orthanctw.remote import CommitmentReport, FailureReason, Reference, Remote
from orthanctw.retrieval import Retrieval, StoredObject
from orthanctw.rewriting import PIECE

log = Logger(namespace="orthanctw.dicom")
#: Objects that are looked up at a time.
BATCH: Final = 200


class Inspection:
    """Looks whether objects are stored: in the index, of the SOP class, and whole on the disk."""

    def __init__(self, index: IIndex, retrieval: Retrieval, attaching: Attaching, storage: IStorageArea) -> None:
        self._index = index
        self._retrieval = retrieval
        self._attaching = attaching
        self._storage = storage

    async def reasons(self, references: Sequence[Reference]) -> list[FailureReason]:
        """For each of some references, of which there should be no more than `BATCH`, why we cannot commit to it."""
        known = await self.find([sop_instance_uid for _, sop_instance_uid in references])
        checked: dict[str, FailureReason] = {}
        found = []
        for sop_class_uid, sop_instance_uid in references:
            candidates = known.get(sop_instance_uid, ())
            reason = FailureReason.CLASS_INSTANCE_CONFLICT if candidates else FailureReason.NO_SUCH_OBJECT_INSTANCE
            # The same UID may be in several series, by mistake.
            for item in candidates:
                if item.sop_class_uid == sop_class_uid and reason is not FailureReason.SUCCESS:
                    if item.public_id not in checked:
                        checked[item.public_id] = await self._reason(item)
                    reason = checked[item.public_id]
            found.append(reason)
        return found

    async def find(self, sop_instance_uids: Sequence[str]) -> Mapping[str, Sequence[StoredObject]]:
        """The stored objects of these SOP instance UIDs."""
        equal = tuple({normalize_identifier(uid): None for uid in sop_instance_uids})
        constraint = Constraint(tag=SOP_INSTANCE_UID, level=ResourceLevel.INSTANCE, equal=equal)
        instances = await self._index.candidates(ResourceLevel.INSTANCE, [constraint])
        known: dict[str, list[StoredObject]] = {}
        for item in await self._retrieval.below([(ResourceLevel.INSTANCE, one.public_id) for one in instances]):
            known.setdefault(item.sop_instance_uid, []).append(item)
        return known

    async def _reason(self, item: StoredObject) -> FailureReason:
        try:
            is_whole = await self._is_whole(item)
        except UnknownResource:
            # It was deleted meanwhile, or its file is not kept.
            return FailureReason.NO_SUCH_OBJECT_INSTANCE
        except ServiceUnavailable:
            raise
        except (OrthancError, OSError) as e:
            log.error("The file of instance {id} cannot be read: {reason}", id=item.public_id, reason=str(e))
            return FailureReason.PROCESSING_FAILURE
        if not is_whole:
            log.error("Instance {id} cannot be committed to: its file is damaged", id=item.public_id)
        return FailureReason.SUCCESS if is_whole else FailureReason.PROCESSING_FAILURE

    async def _is_whole(self, item: StoredObject) -> bool:
        if item.attachment.md5:
            return await self._attaching.verify(ResourceLevel.INSTANCE, item.public_id, AttachmentType.DICOM)
        return await self._has_checksum(item.attachment)

    async def _has_checksum(self, attachment: Attachment) -> bool:
        """Without ``StoreMD5ForAttachments`` there is a CRC-32; it is no less than what an archive has."""
        reader = await self._storage.reader(attachment, raw=attachment.compression is Compression.NONE)
        checksum, size = 0, 0
        try:
            while data := await reader.read(PIECE):
                checksum = await self._storage.call(isal_zlib.crc32, data, checksum)
                size += len(data)
        finally:
            reader.close()
        return size == attachment.size and attachment.crc32 in (None, checksum)


@attrs.define(kw_only=True)
class Transaction:
    """A request of ours; `report` is None as long as the other side is silent."""

    remote_aet: str
    references: Sequence[Reference]
    report: CommitmentReport | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether the other side has all that it was asked for."""
        return self.report is not None and not self.report.failed


class Transactions:
    """Our requests, the last ones of them, in memory.

    Parameters
    ----------
    size : int
        ``StorageCommitmentReportsSize``: how many are kept; 0 for no limit.
    is_same_title : callable
        Whether two AE titles are the same (``StrictAetComparison``).
    call : callable
        Runs work on a thread.
    """

    def __init__(
        self, size: int, is_same_title: Callable[[str, str], bool], call: Callable[..., Deferred[Any]]
    ) -> None:
        self._size = size
        self._is_same_title = is_same_title
        self._call = call
        self._kept: dict[str, Transaction] = {}

    def add(self, transaction_uid: str, transaction: Transaction) -> None:
        """Keep a request; the oldest one goes when there are too many."""
        self._kept[transaction_uid] = transaction
        while self._size and len(self._kept) > self._size:
            del self._kept[next(iter(self._kept))]

    def drop(self, transaction_uid: str) -> None:
        """Forget a request."""
        self._kept.pop(transaction_uid, None)

    def get(self, transaction_uid: str) -> Transaction:
        """A request. InexistentItem when it is not kept."""
        found = self._kept.get(transaction_uid)
        if found is None:
            raise InexistentItem("No such transaction of storage commitment")
        return found

    async def receive(self, report: CommitmentReport, calling_aet: str) -> None:
        """Take a report; a later one of the same transaction replaces it.

        Raises an OrthancError with the status of the answer when the transaction is unknown, or of somebody else.
        """
        transaction = self._kept.get(report.transaction_uid)
        if transaction is None:
            log.warn("{aet} reports on a storage commitment that nobody waits for", aet=calling_aet)
            raise OrthancError("The transaction is unknown", dimse_status=dimse.INVALID_ARGUMENT_VALUE)
        if not self._is_same_title(transaction.remote_aet, calling_aet):
            log.warn("{aet} reports on a storage commitment of {owner}", aet=calling_aet, owner=transaction.remote_aet)
            raise OrthancError("The transaction is not that of the caller", dimse_status=dimse.NOT_AUTHORIZED)
        transaction.report = await self._call(_judged, transaction.references, report)


def _judged(references: Sequence[Reference], report: CommitmentReport) -> CommitmentReport:
    """A report as far as it is about what was asked. What it says nothing of, or both, has failed."""
    failed = dict(report.failed)
    committed = set(report.committed) - failed.keys()
    return CommitmentReport(
        transaction_uid=report.transaction_uid,
        committed=[item for item in references if item in committed],
        failed=[
            (item, failed.get(item, FailureReason.PROCESSING_FAILURE)) for item in references if item not in committed
        ],
    )


class Commitments:
    """Asks others for storage commitment, and removes what they have committed to."""

    def __init__(self, scu: CommitmentScu, transactions: Transactions, inspection: Inspection, bulk: Bulk) -> None:
        self._scu = scu
        self._transactions = transactions
        self._inspection = inspection
        self._bulk = bulk

    async def ask(self, remote: Remote, references: Sequence[Reference], transaction_uid: str) -> None:
        """Ask a remote application entity; the answer comes later. Fails when it does not take the request."""
        wanted = tuple(dict.fromkeys(references))
        request = CommitmentRequest(transaction_uid=transaction_uid, references=wanted)
        # Before the request: the report may be faster than its answer.
        self._transactions.add(transaction_uid, Transaction(remote_aet=remote.aet, references=wanted))
        try:
            await self._scu.ask(
                remote, request, lambda report: self._transactions.receive(report, remote.aet)
            )
        except BaseException:
            self._transactions.drop(transaction_uid)
            raise

    def get(self, transaction_uid: str) -> Transaction:
        """A request. InexistentItem when it is not kept."""
        return self._transactions.get(transaction_uid)

    async def remove(self, transaction_uid: str) -> None:
        """Delete the objects of a transaction here, since the other side has them all.

        Raises InexistentItem, and an OrthancError of code BAD_SEQUENCE_OF_CALLS unless the transaction was confirmed.
        """
        transaction = self.get(transaction_uid)
        if not transaction.is_confirmed:
            raise OrthancError(
                "Not all objects of the transaction are committed to",
                code=ErrorCode.BAD_SEQUENCE_OF_CALLS,
                http_status=400,
            )
        for start in range(0, len(transaction.references), BATCH):
            references = transaction.references[start : start + BATCH]
            known = await self._inspection.find([sop_instance_uid for _, sop_instance_uid in references])
            await self._bulk.delete(
                [
                    item.public_id
                    for sop_class_uid, sop_instance_uid in references
                    for item in known.get(sop_instance_uid, ())
                    if item.sop_class_uid == sop_class_uid
                ]
            )


def new_transaction_uid() -> str:
    """A UID that nobody can guess (PS3.5 section B.2)."""
    return f"2.25.{uuid.uuid4().int}"
