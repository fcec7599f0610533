"""Storage commitment between servers: with the real Orthanc, after a power cut, and when a peer stays away."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pynetdicom import AE
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.commitment import CommitmentRequest
from orthanctw.dicom.scu.failures import PeerFailure
from orthanctw.errors import BadFileFormat, OrthancError
from orthanctw.jobs.contract import JobRequest
from orthanctw.jobs.kinds.commitment import (
    COMMITMENT,
    DELAYS,
    CommitmentServices,
    commitment_kind,
    commitment_parameters,
)
from orthanctw.jobs.record import JobRecord
from orthanctw.remote import CommitmentReport, FailureReason, Reference, Remote
from orthanctw.threads import at_once
from test.dicom_commitments import INSTANCE, MODEL, peer, wanted
from test.dicom_peers import CT, EXPLICIT, sop_instance
from test.job_samples import EngineCase
from test.servers import ORTHANC, TWISTD, ServerProcess, ct_image, free_port, wait_until

OBJECT = (CT, sop_instance(1))
ABSENT = (CT, "1.2.3.4")


class PairCase(SynchronousTestCase):
    """Servers with DICOM that know each other."""

    def server(self, name: str, dicom_port: int, known: Mapping[str, int], command: tuple[str, ...]) -> ServerProcess:
        """A server that runs; its title is its name, as are those of the modalities that it knows."""
        options: dict[str, Any] = {
            "DicomServerEnabled": True,
            "DicomAet": name,
            "DicomPort": dicom_port,
            "DicomModalities": {other.lower(): [other, "127.0.0.1", port] for other, port in known.items()},
        }
        if command is ORTHANC:
            options["Plugins"] = []
        server = ServerProcess(Path(self.mktemp()), command, options)
        self.addCleanup(server.kill)
        server.start()
        return server

    def post(self, server: ServerProcess, path: str, body: object = None) -> Any:
        answer = server.request("POST", path, json.dumps(body))
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json()

    def settled(self, server: ServerProcess, transaction: str) -> Any:
        """What the API tells of a transaction, once it is reported on."""
        path = f"/storage-commitment/{transaction}"
        wait_until(lambda: server.get(path)["Status"] != "Pending", server.printed)
        return server.get(path)


class OrthancTests(PairCase):
    """Each side is ours, and the real Orthanc."""

    def check(self, command: tuple[str, ...], other_command: tuple[str, ...]) -> None:
        """The first one sends an object with storage commitment, asks for one that is not there, and removes."""
        port, other_port = free_port(), free_port()
        asking = self.server("ASKING", port, {"ASKED": other_port}, command)
        asked = self.server("ASKED", other_port, {"ASKING": port}, other_command)
        public_id = asking.upload(ct_image(1))
        stored = self.post(asking, "/modalities/asked/store", {"Resources": [public_id], "StorageCommitment": True})
        transaction = stored["StorageCommitmentTransactionUID"]
        pair = dict(zip(("SOPClassUID", "SOPInstanceUID"), OBJECT, strict=True))
        report = {"RemoteAET": "ASKED", "Status": "Success", "Success": [pair], "Failures": []}
        self.assertEqual(self.settled(asking, transaction), report)
        self.assertEqual(asked.get("/instances"), [public_id])
        pairs = [list(OBJECT), list(ABSENT), ["1.2.840.10008.5.1.4.1.1.4", OBJECT[1]]]
        second = self.post(asking, "/modalities/asked/storage-commitment", {"DicomInstances": pairs})["ID"]
        report = self.settled(asking, second)
        self.assertEqual((report["Status"], report["Success"]), ("Failure", [pair]))
        reasons = {(item["SOPClassUID"], item["SOPInstanceUID"]): item["FailureReason"] for item in report["Failures"]}
        self.assertEqual(reasons, {ABSENT: 0x0112, tuple(pairs[2]): 0x0119})
        self.post(asking, f"/storage-commitment/{transaction}/remove")
        self.assertEqual((asking.get("/instances"), len(asked.get("/instances"))), ([], 1))

    def test_asking_orthanc(self) -> None:
        """Orthanc commits to what we have sent."""
        self.check(TWISTD, ORTHANC)

    def test_asked_by_orthanc(self) -> None:
        """We commit to what Orthanc has sent."""
        self.check(ORTHANC, TWISTD)


class PowerCutTests(PairCase):
    """Requests that were accepted outlive the process."""

    def test_kill(self) -> None:
        """The report comes from the next process; so it does when that one is stopped in the usual way."""
        port, sink_port = free_port(), free_port()
        server = self.server("ORTHANC", port, {"PEER": sink_port}, TWISTD)
        server.upload(ct_image(1))
        self.assertEqual(self.ask(port), 0)
        wait_until(lambda: self.state(server) == "Retry", server.printed)
        server.kill()
        server.start()
        wait_until(lambda: self.state(server) == "Retry", server.printed)
        server.stop()
        with peer(port=sink_port) as sink:
            server.start()
            wait_until(lambda: self.state(server) == "Success", server.printed)
            (told,) = sink.told
            self.assertEqual((told.committed, told.failed), ([OBJECT], {ABSENT: 0x0112}))

    def ask(self, port: int) -> int:
        entity = AE(ae_title="PEER")
        entity.add_requested_context(MODEL, [EXPLICIT])
        association = entity.associate("127.0.0.1", port, ae_title="ORTHANC")
        status, _ = association.send_n_action(wanted("1.2.3", [OBJECT, ABSENT]), 1, MODEL, INSTANCE)
        association.release()
        return int(status.Status)

    def state(self, server: ServerProcess) -> str:
        (job,) = server.get("/jobs?expand")
        return str(job["State"])


class AttemptTests(EngineCase):
    """Attempts to report, on a clock."""

    def setUp(self) -> None:
        super().setUp()
        self.checked: list[int] = []
        self.reported: list[CommitmentReport] = []
        self.failures: list[OrthancError] = []
        self.kinds = [
            commitment_kind(
                CommitmentServices(
                    inspection=self,  # type: ignore[arg-type]
                    remote_of=lambda aet, local_aet: Remote(aet=aet, host="", port=1, local_aet=local_aet, timeout=0),
                    report=self.report,
                    call=at_once,
                )
            )
        ]
        self.restart()

    async def reasons(self, references: Sequence[Reference]) -> list[FailureReason]:
        """In place of an inspection: nothing is there."""
        self.checked.append(len(references))
        return [FailureReason.NO_SUCH_OBJECT_INSTANCE] * len(references)

    async def report(self, remote: Remote, report: CommitmentReport, aet: str) -> None:
        """Fail as the test wants it."""
        self.assertEqual((remote.aet, remote.local_aet, aet), ("PEER", "OURS", "PEER"))
        if self.failures:
            raise self.failures.pop(0)
        self.reported.append(report)

    def submitted(self, count: int = 120) -> JobRecord:
        references = tuple((CT, f"1.2.{number}") for number in range(count))
        request = CommitmentRequest(transaction_uid="1.2.3", references=references)
        parameters = commitment_parameters(request, remote_aet="PEER", remote_ip="::1", called_aet="OURS")
        record = self.do(self.engine.submit(JobRequest(kind=COMMITMENT, parameters=parameters)))
        self.turn()
        return record

    def test_given_up(self) -> None:
        """After the last delay the job fails, as the last attempt did; everything was checked for each of them."""
        self.failures = [PeerFailure(f"failure {number}") for number in range(len(DELAYS) + 1)]
        record = self.submitted()
        for place, delay in enumerate(DELAYS):
            self.assertState(record, "Retry")
            self.turn(delay - 0.1)
            self.assertEqual(len(self.checked), 3 * (place + 1))
            self.turn(0.1)
        self.assertState(record, "Failure", 9)
        self.assertEqual(record.error_details, f"failure {len(DELAYS)}")
        self.assertEqual((self.checked, self.reported), ([50, 50, 20] * (len(DELAYS) + 1), []))

    def test_later(self) -> None:
        """An attempt that succeeds ends it."""
        self.failures = [PeerFailure("away")]
        record = self.submitted()
        self.turn(DELAYS[0])
        self.assertState(record, "Success")
        self.assertEqual([len(report.failed) for report in self.reported], [120])

    def test_other_failures(self) -> None:
        """What is not the peer's fault is not tried again."""
        self.failures = [OrthancError("a defect")]
        self.assertState(self.submitted(), "Failure", -1)

    def test_in_the_middle(self) -> None:
        """A job that goes on in another process checks everything again."""
        record = self.submitted(0)
        self.assertState(record, "Success")
        self.failures = [PeerFailure("away")]
        record = self.submitted()
        self.checked.clear()
        self.restart()
        self.turn()
        self.assertState(record, "Success")
        self.assertEqual(self.checked, [50, 50, 20])

    def test_parameters_of_another_version(self) -> None:
        """A job that is not understood fails."""
        for parameters in ({}, {"TransactionUid": "1.2.3"}):
            failed = self.engine.submit(JobRequest(kind=COMMITMENT, parameters=parameters))
            self.failureResultOf(Deferred.fromCoroutine(failed), BadFileFormat)
