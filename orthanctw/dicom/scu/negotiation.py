"""Making an association: pynetdicom asks for it, then its threads end and the connection is ours.

Its two threads for each association poll every millisecond, read without a time limit and gather whatever a peer
sends, so they are kept for the few milliseconds of the negotiation only.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Sequence
from typing import Any, Final

from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context, build_role
from pynetdicom.transport import AddressInformation, AssociationSocket

from orthanctw.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from orthanctw.dicom.scu.failures import PeerFailure, TlsMissing, telling
from orthanctw.dicom.scu.link import Link
from orthanctw.dicom.scu.proposals import Proposal
from orthanctw.dicom.scu.wire import Cancelled, Wire, connect, deadline_after, seconds_until
from orthanctw.remote import Remote
from orthanctw.tls import Tls

#: Octets of the longest answer to a request for an association; 128 contexts need some 4,000.
_ANSWER_LIMIT: Final = 1 << 20
#: Seconds that pynetdicom's thread has to end once its connection is cut.
_END_TIME: Final = 5.0
#: pynetdicom resolves an address again; the connection has been made before.
_NOWHERE: Final = "127.0.0.1"
#: State 6, association established (PS3.8 table 9-3).
_ESTABLISHED: Final = "Sta6"


def _silence_libraries() -> None:
    """Set what pynetdicom and pydicom have as options of the process: their logs and warnings show what peers send."""
    _config.LOG_HANDLER_LEVEL = "none"
    for name in ("pynetdicom", "pydicom"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.setLevel(logging.CRITICAL + 1)
    for module in (r"pydicom\b", r"pynetdicom\b"):
        warnings.filterwarnings("ignore", module=module)


_silence_libraries()


class _Socket(AssociationSocket):
    """The end of a connection that is there already, as pynetdicom's thread wants it."""

    def __init__(self, assoc: Association, address: AddressInformation, wire: Wire, deadline: float) -> None:
        self._wire = wire
        self._deadline = deadline
        self._has_asked = False
        super().__init__(assoc, address=address)

    def _create_socket(self, address: AddressInformation) -> Any:
        return self._wire

    def connect(self, primitive: Any) -> None:
        self._is_connected = True
        primitive.result = "Evt2"
        self.provider_queue.put(primitive)
        self._ready.set()

    @property
    def ready(self) -> bool:
        # What comes before the request was sent, session tickets of TLS or the words of a peer that does not wait, must
        # not be read then: pynetdicom's thread would wait for the rest of it, and the request would never leave.
        # Reading tells of the cancellation.
        return self._has_asked and (self._wire.is_readable or self._wire.cancelled.is_set())

    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > _ANSWER_LIMIT:
            raise OSError("the answer is too long")
        return bytearray(self._wire.read(nr_bytes, self._deadline))

    def send(self, bytestream: bytes) -> None:
        try:
            self._wire.write(bytestream, seconds_until(self._deadline))
            self._has_asked = True
        except OSError:
            self.event_queue.put("Evt17")


class _Entity(ApplicationEntity):
    """An application entity whose next association uses a given connection."""

    def __init__(self, title: str, wire: Wire, deadline: float) -> None:
        super().__init__(ae_title=title)
        self._wire = wire
        self._deadline = deadline
        self.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        # Silence is looked for by the connection's own deadline.
        self.network_timeout = None
        self.dimse_timeout = None

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> AssociationSocket:
        return _Socket(assoc, address, self._wire, self._deadline)


def associate(
    remote: Remote,
    proposals: Sequence[Proposal],
    cancelled: threading.Event,
    *,
    tls: Tls | None,
    maximum_length: int,
) -> Link:
    """A new association. Raises PeerFailure, or Cancelled."""
    deadline = deadline_after(remote.timeout)
    wire = _open(remote, tls, deadline, cancelled)
    try:
        accepted, peer_maximum = _negotiate(remote, proposals, wire, deadline, maximum_length)
        return Link(
            wire,
            contexts={
                context.context_id: (str(context.abstract_syntax), str(context.transfer_syntax[0]))
                for context in accepted
                if context.context_id is not None
            },
            proposed=frozenset((p.abstract_syntax, syntax) for p in proposals for syntax in p.transfer_syntaxes),
            peer_maximum=peer_maximum,
            maximum_length=maximum_length,
        )
    except BaseException:
        wire.close()
        raise


def _open(remote: Remote, tls: Tls | None, deadline: float, cancelled: threading.Event) -> Wire:
    if remote.use_dicom_tls and tls is None:
        raise TlsMissing(remote.aet)
    with telling(f"cannot connect to {remote.aet} at {remote.host}:{remote.port}"):
        wire = connect(remote.host, remote.port, deadline, cancelled)
        if remote.use_dicom_tls and tls is not None:
            try:
                wire.secure(tls, deadline)
            except BaseException:
                wire.close()
                raise
    return wire


def _negotiate(
    remote: Remote, proposals: Sequence[Proposal], wire: Wire, deadline: float, maximum_length: int
) -> tuple[list[PresentationContext], int]:
    contexts = [build_context(p.abstract_syntax, list(p.transfer_syntaxes)) for p in proposals]
    made: list[Association] = []

    def remember(event: evt.Event) -> None:
        made.append(event.assoc)

    def take_over(event: evt.Event) -> None:
        # The thread that would serve the association ends before its first turn.
        event.assoc._kill = True

    try:
        entity = _Entity(remote.local_aet, wire, deadline)
        entity.acse_timeout = seconds_until(deadline) if remote.timeout else None
        association = entity.associate(
            _NOWHERE,
            remote.port,
            contexts=contexts,
            ae_title=remote.aet,
            max_pdu=maximum_length,
            ext_neg=[build_role(p.abstract_syntax, scp_role=True) for p in proposals if p.is_scp],
            evt_handlers=[(evt.EVT_REQUESTED, remember), (evt.EVT_ESTABLISHED, take_over)],
        )
    except Exception as e:
        raise PeerFailure(f"{remote.aet}: the association failed ({type(e).__name__})") from e
    finally:
        for association in made:
            _end_threads(association, wire)
    if wire.cancelled.is_set():
        raise Cancelled
    if not association.accepted_contexts or association.dul.state_machine.current_state != _ESTABLISHED:
        raise PeerFailure(f"{remote.aet} {_refusal(association, wire)}")
    return association.accepted_contexts, association.acceptor.maximum_length or 0


def _end_threads(association: Association, wire: Wire) -> None:
    """Have pynetdicom's threads end; the connection stays, unless they hang in it."""
    thread = association.dul
    thread.kill_dul()
    if not association.accepted_contexts:
        wire.shutdown()
    thread.join(_END_TIME)
    if thread.is_alive():
        wire.shutdown()
        thread.join()


def _refusal(association: Association, wire: Wire) -> str:
    answer = association.acceptor.primitive
    if association.is_rejected and answer is not None:
        return f"has rejected the association: {answer.result_str}, {answer.source_str}, {answer.reason_str}"
    if association.rejected_contexts:
        return "accepts none of the presentation contexts"
    reason = f": {wire.failure}" if wire.failure else ""
    return f"has not answered the request for an association, or has broken it off{reason}"
