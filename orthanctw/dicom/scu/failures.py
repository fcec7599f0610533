"""How what goes wrong at a peer is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orthanctw.dicom.scu.wire import Cancelled
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError


class PeerFailure(OrthancError):
    """The peer cannot be reached, refuses, breaks off, does not answer, or answers what is no answer."""

    code = ErrorCode.NETWORK_PROTOCOL


class TlsMissing(PeerFailure):
    """A peer is to be connected to by TLS, and nothing says whom to trust."""

    def __init__(self, aet: str) -> None:
        super().__init__(f"{aet} needs TLS, for which DicomTlsTrustedCertificates is not set")


class StatusFailure(PeerFailure):
    """The peer has answered by a status that is a failure; its association is as good as before."""

    def __init__(self, operation: str, status: int) -> None:
        super().__init__(
            f"{operation} failed with DIMSE status {status:#06x}",
            payload={"Type": "Dimse", "Content": {"DimseErrorStatus": status}},
        )


@contextmanager
def telling(doing: str) -> Iterator[None]:
    """Failures of a connection within the block are PeerFailures."""
    try:
        yield
    except Cancelled:
        raise
    except TimeoutError:
        raise PeerFailure(f"{doing}: no answer within the time limit") from None
    except OSError as e:
        # No text of the system's: it may name what was sent.
        raise PeerFailure(f"{doing}: {e.strerror or e}") from None
