"""The DICOM server: a factory of associations on the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import protocol
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from orthanctw.dicom.scp.association import Association, Services
from orthanctw.dicom.upper.protocol import UpperLayer
from orthanctw.dicom.upper.states import State

log = Logger(namespace="orthanctw.dicom")
#: Seconds of the ARTIM timer when ``DicomScpTimeout`` is off: a connection that asks for nothing must end.
_DEFAULT_ARTIM = 30.0
#: How often associations are looked at for silence, in seconds.
_SWEEP_INTERVAL = 1.0
_STOP_INTERVAL = 0.02
#: Connections beyond the associations that may be: those that ask for nothing yet, were rejected, or close.
_SPARE_CONNECTIONS = 100
_WITHOUT_ASSOCIATION = frozenset((State.AWAIT_ASSOCIATE_RQ, State.AWAIT_TRANSPORT_CLOSE))
_WITH_ASSOCIATION = frozenset((State.ESTABLISHED, State.AWAIT_LOCAL_RELEASE_RESPONSE))
#: Seconds that peers have to read our last answers when the server stops.
_CLOSE_TIME = 1.0


class DicomServer(protocol.ServerFactory):
    """Makes an association of every connection.

    Parameters
    ----------
    timeout : int
        ``DicomScpTimeout`` in seconds: silence after which an association is aborted; 0 for none.
    maximum_associations : int
        Associations at once; further ones are rejected as transient.
    """

    noisy = False

    def __init__(
        self, services: Services, reactor: IReactorTime, *, timeout: int, maximum_associations: int
    ) -> None:
        self._services = services
        self._reactor = reactor
        self._timeout = timeout
        self._maximum = maximum_associations
        self._connections: dict[Association, UpperLayer] = {}
        self._admitted: set[Association] = set()
        self._stopping = False
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor

    @property
    def association_count(self) -> int:
        return len(self._admitted)

    def startFactory(self) -> None:
        if self._timeout:
            self._sweeper.start(_SWEEP_INTERVAL, now=False)

    def stopFactory(self) -> None:
        if self._sweeper.running:
            self._sweeper.stop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self._stopping:
            return None
        if len(self._connections) >= self._maximum + _SPARE_CONNECTIONS:
            self._make_room()
        association = Association(self._services, self, getattr(addr, "host", ""))
        layer = UpperLayer(
            association,
            self._reactor,
            artim=float(self._timeout) or _DEFAULT_ARTIM,
            maximum_length=self._services.maximum_length,
        )
        association.layer = layer
        self._connections[association] = layer
        return layer

    def _make_room(self) -> None:
        """Cut the oldest connection that has no association: descriptors are few, and HTTP needs some, too."""
        for layer in self._connections.values():
            if layer.state in _WITHOUT_ASSOCIATION and not layer.closing:
                layer.cut()
                return

    # Associations tell

    def admit(self, association: Association) -> bool:
        if self._stopping or len(self._admitted) >= self._maximum:
            return False
        self._admitted.add(association)
        return True

    def ended(self, association: Association) -> None:
        self._admitted.discard(association)

    def left(self, association: Association) -> None:
        self._connections.pop(association, None)

    def _sweep(self) -> None:
        limit = self._reactor.seconds() - self._timeout
        for association, layer in list(self._connections.items()):
            silent = layer.state in _WITH_ASSOCIATION and layer.last_activity < limit
            if silent and association.waits_for_peer:
                log.info("Association of {aet} aborted after its time limit", aet=association.calling_aet)
                layer.abort()

    async def stop(self, deadline: float, sleep: Callable[..., Any] = deferLater) -> None:
        """Let running requests end until `deadline`, then cut what is left."""
        self._stopping = True
        for association in list(self._connections):
            association.stop()
        while any(a.is_busy for a in self._connections) and self._reactor.seconds() < deadline:
            await sleep(self._reactor, _STOP_INTERVAL)
        for layer in list(self._connections.values()):
            layer.close()
        # Answers to what has just ended are still on their way.
        deadline = min(deadline, self._reactor.seconds() + _CLOSE_TIME)
        while self._connections and self._reactor.seconds() < deadline:
            await sleep(self._reactor, _STOP_INTERVAL)
        for layer in list(self._connections.values()):
            layer.cut()
        # The transport tells of it in the next turn.
        await sleep(self._reactor, 0)
