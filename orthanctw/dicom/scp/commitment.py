"""Storage commitment SCP, and reports on what others were asked to commit to (PS3.4 annex J)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger

from orthanctw.bodies import Body, BodyLimits
from orthanctw.commitment import Transactions
from orthanctw.dicom import dimse
from orthanctw.dicom.commitment import (
    COMMITMENT_LIMIT,
    CommitmentRequest,
    check_action,
    check_event,
    decode_report,
    decode_request,
    encode_report,
)
from orthanctw.dicom.encoding import is_explicit
from orthanctw.dicom.scp.exchange import Carrier, Exchange, Outcome
from orthanctw.dicom.scu.commitment import CommitmentScu, event_command
from orthanctw.dicom.scu.failures import PeerFailure, StatusFailure
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadFileFormat, OrthancError
from orthanctw.remote import CommitmentReport, Remote

log = Logger(namespace="orthanctw.dicom")
_T = TypeVar("_T")
#: Of our own request: one at a time is under way, and its numbers are no concern of the peer's.
_MESSAGE_ID: Final = 1


class ReceivedAttributes:
    """The data set of an N-ACTION-RQ or N-EVENT-REPORT-RQ, of at most `COMMITMENT_LIMIT` octets; a `DataSink`."""

    def __init__(self, limits: BodyLimits, producer: IPushProducer) -> None:
        self._body = Body(attrs.evolve(limits, maximum=COMMITMENT_LIMIT), producer)

    def write(self, data: bytes) -> None:
        self._body.write(data)

    def discard(self) -> None:
        self._body.discard()

    async def data(self, call: Callable[..., Deferred[Any]]) -> bytes:
        """All of it; `call` runs work on a thread. OrthancError when it was too long."""
        if self._body.too_large:
            raise OrthancError("The request is too long", dimse_status=dimse.RESOURCE_LIMITATION)
        await self._body.complete()
        content = self._body.content()
        if isinstance(content, bytes):
            return content
        await content.flush()
        data: bytes = await call(lambda: bytes(content.map()))
        return data


@attrs.frozen
class Asked:
    """A request for storage commitment, and where it came in."""

    request: CommitmentRequest
    exchange: Exchange


class CommitmentService:
    """Takes requests, and reports on ours.

    Parameters
    ----------
    submit : callable
        Makes a job of a request; durable then.
    refusal : callable
        ``refusal(calling_aet, transaction_uid)``: the status with which a request is not taken at the moment, or 0.
    call : callable
        Runs work on a thread.
    """

    def __init__(
        self,
        submit: Callable[[Asked], Awaitable[None]],
        refusal: Callable[[str, str], int],
        transactions: Transactions,
        call: Callable[..., Deferred[Any]],
    ) -> None:
        self._submit = submit
        self._refusal = refusal
        self._transactions = transactions
        self._call = call
        #: Requests on their way into the index.
        self._taking: set[tuple[str, str]] = set()

    async def __call__(self, exchange: Exchange) -> Outcome:
        """One request, or one report."""
        if exchange.command.field == dimse.N_ACTION_RQ:
            await self._requested(exchange)
        else:
            check_event(exchange.command)
            report = await self._decoded(exchange, decode_report)
            await self._transactions.receive(report, exchange.carrier.calling_aet)
        return Outcome()

    async def _requested(self, exchange: Exchange) -> None:
        check_action(exchange.command)
        request = await self._decoded(exchange, decode_request)
        key = exchange.carrier.calling_aet, request.transaction_uid
        status = dimse.DUPLICATE_TRANSACTION_UID if key in self._taking else self._refusal(*key)
        if status:
            raise OrthancError("The transaction is known, or too many are waiting", dimse_status=status)
        self._taking.add(key)
        try:
            await self._submit(Asked(request, exchange))
        finally:
            self._taking.discard(key)

    async def _decoded(self, exchange: Exchange, decode: Callable[..., _T]) -> _T:
        if not isinstance(exchange.sink, ReceivedAttributes):
            raise OrthancError("The request has no data set", dimse_status=dimse.INVALID_ARGUMENT_VALUE)
        data = await exchange.sink.data(self._call)
        try:
            decoded: _T = await self._call(decode, data, explicit=is_explicit(exchange.transfer_syntax))
        except BadFileFormat as e:
            raise OrthancError(e.details, dimse_status=dimse.INVALID_ARGUMENT_VALUE) from e
        return decoded


class Reporter:
    """Reports to those who have asked: on a new association, or on theirs when they cannot be reached by one."""

    def __init__(self, scu: CommitmentScu, call: Callable[..., Deferred[Any]]) -> None:
        self._scu = scu
        self._call = call
        #: Context and transfer syntax of what was asked on an association, by AE title and transaction.
        self._open: WeakKeyDictionary[Carrier, dict[tuple[str, str], tuple[int, str]]] = WeakKeyDictionary()

    def remember(self, asked: Asked) -> None:
        """A request has come in, whose association may stay open."""
        exchange = asked.exchange
        key = exchange.carrier.calling_aet, asked.request.transaction_uid
        self._open.setdefault(exchange.carrier, {})[key] = exchange.context_id, exchange.transfer_syntax

    async def report(self, remote: Remote, report: CommitmentReport, calling_aet: str) -> None:
        """Tell of a transaction. Fails with an OrthancError of code NETWORK_PROTOCOL when that is not possible."""
        key = calling_aet, report.transaction_uid
        able = (carrier for carrier, asked in self._open.items() if key in asked and not carrier.is_over)
        carrier = next(able, None)
        try:
            await self._scu.report(remote, report)
        except OrthancError as e:
            is_answer = isinstance(e, StatusFailure)
            if carrier is None or carrier.is_over or is_answer or e.code is not ErrorCode.NETWORK_PROTOCOL:
                raise
            log.info("{aet} is told on its own association: {why}", aet=calling_aet, why=e.details)
            await self._report_on(carrier, *self._open[carrier][key], report)
        if carrier is not None:
            self._open.get(carrier, {}).pop(key, None)

    async def _report_on(self, carrier: Carrier, context_id: int, syntax: str, report: CommitmentReport) -> None:
        pieces = [await self._call(encode_report, report, explicit=is_explicit(syntax)), b""]
        command = dimse.encode_command(event_command(report, _MESSAGE_ID))

        async def data() -> bytes:
            piece: bytes = pieces.pop(0)
            return piece

        try:
            response = await carrier.ask_between(context_id, _MESSAGE_ID, command, data)
        except OrthancError as e:
            raise PeerFailure(e.details) from e
        if response.number(dimse.STATUS) != dimse.SUCCESS:
            raise StatusFailure("N-EVENT-REPORT", response.number(dimse.STATUS))
