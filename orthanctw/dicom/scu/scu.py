"""Outgoing DICOM operations: threads and associations behind `IDicomScu`."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from orthanctw.bodies import BodyLimits
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.elements import EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN, Element, Elements
from orthanctw.dicom.identifierlog import IdentifierLog
from orthanctw.dicom.received import Receive
from orthanctw.dicom.scu.failures import PeerFailure
from orthanctw.dicom.scu.link import Link
from orthanctw.dicom.scu.objects import storage_proposals
from orthanctw.dicom.scu.operations import (
    Finding,
    Moving,
    NotAccepted,
    Storing,
    echo,
)
from orthanctw.dicom.scu.pool import Associations, release
from orthanctw.dicom.scu.proposals import Proposal
from orthanctw.dicom.scu.quirks import adapt_query
from orthanctw.dicom.scu.retrieve import Retrieval, RetrievalServices
from orthanctw.dicom.scu.wire import Cancelled
from orthanctw.dicom.scuqueries import PATIENT_ID, QUERY_RETRIEVE_LEVEL
from orthanctw.dicom.uids import (
    PATIENT_ROOT_GET,
    PATIENT_ROOT_MOVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    VERIFICATION,
)
from orthanctw.errors import NotImplementedHere, ServiceUnavailable
from orthanctw.interfaces import IDicomScu, ITranscoder
from orthanctw.remote import Originator, Outgoing, Remote, RetrieveLevel, RetrieveResult
from orthanctw.threads import NamedPool
from orthanctw.tls import Tls

log = Logger(namespace="orthanctw.dicom")
_T = TypeVar("_T")
#: Seconds that `close` waits for peers and threads.
_CLOSE_TIME: Final = 5.0
_UNCOMPRESSED: Final = (EXPLICIT_LITTLE_ENDIAN, IMPLICIT_LITTLE_ENDIAN)


@implementer(IDicomScu)
class DicomScu:
    """The service class user.

    Parameters
    ----------
    reactor : IReactorTime, IReactorTCP and IReactorFromThreads
    clock : IReactorTime, optional
        Tells how long associations are idle; the reactor without it.
    threads : int
        Operations at once (``ScuThreads``), C-GET aside; further ones wait.
    close_delay : float
        ``DicomAssociationCloseDelay``: seconds after which an idle association is released.
    default_encoding : DefaultEncoding, optional
        Of queries, and of answers that name none.
    answers_limit : int
        ``ScuAnswersLimit``: matches of a C-FIND after which it fails.
    transcoder : ITranscoder, optional
        Asked when a peer does not take an object as it is; None when there is none, or without
        ``TranscodeDicomProtocol``.
    preferred_transfer_syntax : str
        ``DicomScuPreferredTransferSyntax``.
    receive : callable, optional
        ``receive(content, origin, announced=...)``: lets an object of a C-GET in; its Orthanc id. Without it, and the
        `limits` of what is received, there is no C-GET.
    transfer_syntaxes : callable
        In which ones a C-GET may receive, those that are liked best first.
    tls : Tls, optional
        For peers with ``UseDicomTls``; host names are not checked, as usual for DICOM.
    maximum_length : int
        ``MaximumPduLength``.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        threads: int = 8,
        close_delay: float = 5.0,
        default_encoding: DefaultEncoding | None = None,
        answers_limit: int = 100_000,
        transcoder: ITranscoder | None = None,
        preferred_transfer_syntax: str = EXPLICIT_LITTLE_ENDIAN,
        receive: Receive[str | None] | None = None,
        limits: BodyLimits | None = None,
        transfer_syntaxes: Callable[[], Sequence[str]] = lambda: _UNCOMPRESSED,
        tls: Tls | None = None,
        maximum_length: int = 16384,
        clock: IReactorTime | None = None,
        identifiers: IdentifierLog | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock = clock or reactor
        self._default_encoding = default_encoding or DefaultEncoding()
        self._identifiers = identifiers or IdentifierLog()
        self._answers_limit = answers_limit
        self._transcoder = transcoder
        self._preferred = preferred_transfer_syntax
        self._pool = NamedPool(reactor, "scu", threads)
        self._associations = Associations(self._clock, delay=close_delay, tls=tls, maximum_length=maximum_length)
        self._retrieving = None
        if receive is not None and limits is not None:
            self._retrieving = RetrievalServices(
                reactor=reactor,
                receive=receive,
                limits=limits,
                maximum_length=maximum_length,
                character_sets=self._character_sets,
                transfer_syntaxes=transfer_syntaxes,
                tls=tls,
            )
        self._retrievals: set[Retrieval] = set()
        self._all_left: Deferred[None] | None = None
        self._running: set[threading.Event] = set()
        self._timer: IDelayedCall | None = None
        self._closed: Deferred[None] | None = None

    def _character_sets(self) -> tuple[str, ...]:
        """Those of queries."""
        term = self._default_encoding.term
        # Code extensions need a first set to extend (PS3.3 section C.12.1.1.2).
        return ("\\" + term,) if term.startswith("ISO 2022") else (term,)

    # Operations

    def echo(self, remote: Remote, *, checks_find: bool = False) -> Deferred[None]:
        """See `IDicomScu`."""
        return Deferred.fromCoroutine(self._echo(remote, checks_find))

    async def _echo(self, remote: Remote, checks_find: bool) -> None:
        await self.run(remote, [Proposal(VERIFICATION, _UNCOMPRESSED)], echo, repeatable=True)
        if checks_find:
            nobody: Elements = [(QUERY_RETRIEVE_LEVEL, "CS", "STUDY"), (PATIENT_ID, "LO", uuid.uuid4().hex)]
            await self.find(remote, STUDY_ROOT_FIND, nobody)

    def find(self, remote: Remote, sop_class_uid: str, query: Sequence[Element]) -> Deferred[list[Elements]]:
        """See `IDicomScu`."""
        adapted = adapt_query(list(query), remote.manufacturer)
        self._identifiers.sent("C-FIND", remote.aet, adapted)
        operation = Finding(
            sop_class_uid,
            adapted,
            character_sets=self._character_sets(),
            default_encoding=self._default_encoding.name,
            limit=self._answers_limit,
        )
        return self.run(remote, [Proposal(sop_class_uid, _UNCOMPRESSED)], operation, repeatable=True)

    def move(
        self,
        remote: Remote,
        query: Sequence[Element],
        target_aet: str,
        progress: Callable[[RetrieveResult], None],
    ) -> Deferred[RetrieveResult]:
        """See `IDicomScu`."""
        sop_class_uid = PATIENT_ROOT_MOVE if _is_of_patients(query) else STUDY_ROOT_MOVE
        self._identifiers.sent("C-MOVE", remote.aet, list(query))

        def told(result: RetrieveResult) -> None:
            self._reactor.callFromThread(progress, result)

        operation = Moving(sop_class_uid, list(query), target_aet, self._character_sets(), told)
        return self.run(remote, [Proposal(sop_class_uid, _UNCOMPRESSED)], operation, repeatable=False)

    def store(
        self,
        remote: Remote,
        outgoing: Outgoing,
        contexts: Sequence[tuple[str, str]],
        originator: Originator | None = None,
    ) -> Deferred[int]:
        """See `IDicomScu`."""
        return Deferred.fromCoroutine(self._store(remote, outgoing, contexts, originator))

    async def _store(
        self,
        remote: Remote,
        outgoing: Outgoing,
        contexts: Sequence[tuple[str, str]],
        originator: Originator | None,
    ) -> int:
        transcoder = self._transcoder if remote.allow_transcoding else None
        first = (outgoing.sop_class_uid, outgoing.transfer_syntax)
        proposals = storage_proposals(first, contexts, self._preferred, transcoding=transcoder is not None)
        try:
            return await self.run(remote, proposals, Storing(outgoing, originator), repeatable=False)
        except NotAccepted as e:
            accepted = sorted(e.transfer_syntaxes, key=lambda syntax: syntax != self._preferred)
        if not accepted:
            raise PeerFailure(f"{remote.aet} does not take objects of SOP class {outgoing.sop_class_uid}")
        other = await transcoder.transcode(outgoing, accepted, spools=True) if transcoder is not None else None
        if transcoder is None or other is None:
            raise PeerFailure(
                f"{remote.aet} does not take transfer syntax {outgoing.transfer_syntax}, and the object cannot be "
                "transcoded for it"
            )
        try:
            return await self.run(remote, proposals, Storing(other, originator), repeatable=False)
        except NotAccepted:
            raise PeerFailure(f"{remote.aet} does not take transfer syntax {other.transfer_syntax}") from None
        finally:
            transcoder.release(other)

    def get(
        self,
        remote: Remote,
        query: Sequence[Element],
        sop_class_uids: Sequence[str],
        progress: Callable[[RetrieveResult], None],
    ) -> Deferred[tuple[RetrieveResult, list[str]]]:
        """See `IDicomScu`."""
        if self._closed is not None:
            return fail(ServiceUnavailable("the server is stopping"))
        if self._retrieving is None:
            return fail(NotImplementedHere("nothing receives objects"))
        model = PATIENT_ROOT_GET if _is_of_patients(query) else STUDY_ROOT_GET
        self._identifiers.sent("C-GET", remote.aet, list(query))
        retrieval = Retrieval(
            self._retrieving, remote, model, list(query), sop_class_uids, progress, self._retrieval_left
        )
        self._retrievals.add(retrieval)
        return retrieval.start()

    # Running

    def run(
        self,
        remote: Remote,
        proposals: Sequence[Proposal],
        operation: Callable[[Link], _T],
        *,
        repeatable: bool,
    ) -> Deferred[_T]:
        """Carry out an operation in a thread, as `Associations.run` says; cancelling the Deferred ends it."""
        if self._closed is not None:
            return fail(ServiceUnavailable("the server is stopping"))
        # Not earlier: no thread may be there before the daemon has forked.
        self._pool.start()
        cancelled = threading.Event()
        self._running.add(cancelled)
        result: Deferred[_T] = Deferred(lambda _: cancelled.set())

        def done(outcome: _T | Failure) -> None:
            self._running.discard(cancelled)
            self._arm()
            if isinstance(outcome, Failure) and outcome.check(Cancelled):
                outcome = Failure(ServiceUnavailable("the server is stopping"))
            if not result.called:
                result.callback(outcome)

        work = self._pool.call(
            self._associations.run, remote, proposals, operation, cancelled, repeatable=repeatable
        )
        work.addBoth(done)
        return result

    def _arm(self) -> None:
        """See to it that idle associations are released in time."""
        left = self._associations.seconds_left()
        if left is not None and self._timer is None and self._closed is None:
            self._timer = self._clock.callLater(left, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._release(self._associations.expired())
        self._arm()

    def _release(self, links: Sequence[Link]) -> None:
        for link in links:
            self._pool.call(release, link).addErrback(_release_failed)

    def close(self) -> Deferred[None]:
        """See `IDicomScu`."""
        if self._closed is None:
            self._closed = Deferred.fromCoroutine(self._close())
        waiter: Deferred[None] = Deferred()
        self._closed.addBoth(lambda _: waiter.callback(None))
        return waiter

    async def _close(self) -> None:
        for cancelled in self._running:
            cancelled.set()
        for retrieval in list(self._retrievals):
            retrieval.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._release(self._associations.close())
        waited = [self._pool.stop()]
        if self._retrievals:
            self._all_left = Deferred()
            waited.append(self._all_left)
        everything = gatherResults(waited)
        # A thread may hang in what nothing interrupts, such as the resolver; it keeps no process alive.
        timer = self._reactor.callLater(_CLOSE_TIME, everything.cancel)
        try:
            await everything
        except Exception:  # noqa: BLE001 - see above
            log.warn("An outgoing DICOM operation did not end in time")
        if timer.active():
            timer.cancel()

    def _retrieval_left(self, retrieval: Retrieval) -> None:
        self._retrievals.discard(retrieval)
        if self._all_left is not None and not self._retrievals:
            left, self._all_left = self._all_left, None
            left.callback(None)


def _is_of_patients(query: Sequence[Element]) -> bool:
    return any(
        element[0] == QUERY_RETRIEVE_LEVEL and str(element[2]).strip() == RetrieveLevel.PATIENT.value
        for element in query
    )


def _release_failed(failure: Failure) -> None:
    log.failure("An idle association could not be released", failure)
