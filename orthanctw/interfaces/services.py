"""The contracts of listeners, outgoing DICOM and transcoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Interface

from orthanctw.model import Change, JobEvent
from orthanctw.remote import Originator, Outgoing, Remote, RetrieveResult


class IChangeListener(Interface):
    """A hook that is told of changes, after their commit, in order; its errors are logged."""

    def changed(change: Change) -> None:
        """Must not block and not raise."""


class IJobListener(Interface):
    """A hook that is told of jobs, in order; its errors are logged."""

    def job_changed(event: JobEvent) -> None:
        """Must not block and not raise."""


class IDicomScu(Interface):
    """Outgoing DICOM operations. Associations are pooled and used again for ``DicomAssociationCloseDelay`` seconds.

    What a peer refuses, breaks off or does not answer fails with an OrthancError of code NETWORK_PROTOCOL. Elements
    are those of `orthanctw.dicom.elements`. Cancelling a Deferred ends the operation: a C-CANCEL, then an abort.
    """

    def echo(remote: Remote, *, checks_find: bool = False) -> Deferred[None]:
        """C-ECHO, and with `checks_find` a C-FIND that matches nothing after it (``DicomEchoChecksFind``)."""

    def find(remote: Remote, sop_class_uid: str, query: Sequence[Any]) -> Deferred[list[list[Any]]]:
        """C-FIND: the identifiers of all matches; text is Unicode."""

    def move(
        remote: Remote, query: Sequence[Any], target_aet: str, progress: Callable[[RetrieveResult], None]
    ) -> Deferred[RetrieveResult]:
        """C-MOVE in the Study Root (PatientRoot at the patient level); told of pending responses by `progress`."""

    def get(
        remote: Remote,
        query: Sequence[Any],
        sop_class_uids: Sequence[str],
        progress: Callable[[RetrieveResult], None],
    ) -> Deferred[tuple[RetrieveResult, list[str]]]:
        """C-GET into the one ingest; the last answer, and the Orthanc ids of the instances received."""

    def store(
        remote: Remote, outgoing: Outgoing, contexts: Sequence[tuple[str, str]], originator: Originator | None = None
    ) -> Deferred[int]:
        """C-STORE; the status when it is success or a warning.

        `contexts` are the SOP classes and transfer syntaxes of all objects that will follow: they are proposed at once.
        """

    def close() -> Deferred[None]:
        """Release idle associations, end running operations, stop the threads."""


class ITranscoder(Interface):
    """Changes the transfer syntax of objects."""

    def transcode(
        outgoing: Outgoing,
        accepted: Sequence[str],
        *,
        quality: int | None = None,
        allows_new_uid: bool = False,
        spools: bool = False,
    ) -> Deferred[Outgoing | None]:
        """The object in one of the `accepted` transfer syntaxes, the first that is possible; None when none is.

        `quality` is that of lossy JPEG and JPEG 2000, 1 to 100. What loses something makes another instance, with a
        SOPInstanceUID of its own, and is only possible with `allows_new_uid`. With `spools` the result may be a
        temporary file, which the caller has removed by `release`; else it is in memory. Raises BadFileFormat when the
        object cannot be read.
        """

    def release(outgoing: Outgoing) -> None:
        """Remove a temporary file that `transcode` has made; nothing happens to any other object."""
