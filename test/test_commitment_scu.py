"""Storage commitment that we ask others for: requests, reports on both kinds of associations, removal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from orthanctw.dicom import dimse
from orthanctw.dicom.commitment import decode_request, encode_report
from orthanctw.dicom.upper import pdus
from orthanctw.remote import CommitmentReport
from test.dicom_commitments import MODEL, MR, CommitmentCase, Pair, Peer, n_command, named, peer, wanted
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, data_pdus
from test.rest_samples import NOBODY, Answer
from test.scu_case import Connection, Script
from test.servers import free_port

FIRST = (CT, "1.2.1.1.1")
SECOND = (CT, "1.2.1.1.2")
OTHER_CLASS = (MR, "1.2.1.1.1")


def shown(*pairs: Pair) -> list[dict[str, str]]:
    """References as the API has them."""
    return [{"SOPClassUID": one, "SOPInstanceUID": two} for one, two in pairs]


class AskingCase(CommitmentCase):
    """A test of the routes."""

    async def asked(self, *pairs: Pair, **fields: object) -> str:
        """Ask the modality; the transaction."""
        answer = await self.request({"DicomInstances": shown(*pairs), **fields})
        self.assertEqual(answer.status, 200, answer.text)
        transaction: str = answer.json()["ID"]
        self.assertEqual(answer.json(), {"ID": transaction, "Path": f"/storage-commitment/{transaction}"})
        return transaction

    async def request(self, body: object) -> Answer:
        return await self.client.post("/modalities/peer/storage-commitment", body)

    async def report(self, transaction: str) -> Any:
        return await self.client.json(f"/storage-commitment/{transaction}")

    async def remove(self, transaction: str) -> Answer:
        return await self.client.post(f"/storage-commitment/{transaction}/remove")


class AskingTests(AskingCase):
    """Requests."""

    async def test_what_is_sent(self) -> None:
        """Objects are named by UIDs or found below resources; each is asked for once."""
        await self.fill()
        (study,) = await self.client.find("Study", {"StudyInstanceUID": "1.2.1"})
        with peer() as other:
            await self.know(other.port, "PEER", LocalAet="LOCAL")
            both = {"Resources": [study], "DicomInstances": [list(FIRST), *shown((CT, "1.2.9"))], "Timeout": 5}
            transaction = (await self.request(both)).json()["ID"]
            (asked,) = other.asked
            self.assertEqual(asked.TransactionUID, transaction)
            self.assertRegex(transaction, r"2\.25\.[1-9]\d{30,}\Z")
            pairs = [(one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in asked.ReferencedSOPSequence]
            self.assertEqual(pairs, [FIRST, SECOND, (CT, "1.2.1.2.1"), (CT, "1.2.9")])
            self.assertEqual(await self.report(transaction), {"RemoteAET": "PEER", "Status": "Pending"})
            for nothing in ({"Resources": []}, {"DicomInstances": []}):
                self.assertEqual((await self.request(nothing)).status, 200)
            self.assertEqual([len(one.ReferencedSOPSequence) for one in other.asked], [4, 0, 0])
            await self.until(lambda: other.seen.events.count("released") == 3)

    async def test_bad_requests(self) -> None:
        """Mistakes have the answers of Orthanc, and nobody is asked."""
        with peer() as other:
            await self.know(other.port, "PEER")
            good = {"DicomInstances": [list(FIRST)]}
            for body, status, code in (
                (b"", 400, 15),
                (b"{", 400, 15),
                ([], 400, 15),
                ({}, 400, 15),
                ({"DicomInstances": "x"}, 400, 15),
                ({"DicomInstances": [["a"]]}, 400, 15),
                ({"DicomInstances": [[1, 2]]}, 400, 15),
                ({"DicomInstances": [["1.2", "1.2", "1.2"]]}, 400, 15),
                ({"DicomInstances": [["1.2", "x"]]}, 400, 15),
                ({"DicomInstances": [["1.2", "1" * 65]]}, 400, 15),
                ({"DicomInstances": [{"SOPClassUID": "1.2"}]}, 400, 15),
                ({"DicomInstances": ["1.2"]}, 400, 15),
                ({"Resources": {}}, 400, 15),
                ({"Resources": [1]}, 400, 15),
                ({"Resources": ["nope"]}, 404, 17),
                ({"Resources": [NOBODY]}, 404, 17),
                ({**good, "Timeout": "a"}, 400, 15),
                ({**good, "Timeout": -1}, 400, 3),
            ):
                self.assertError(await self.request(body), status, code)
            answer = await self.client.post("/modalities/nobody/storage-commitment", good)
            self.assertError(answer, 404, 7)
            self.assertEqual(other.seen.events, [])

    async def test_unknown_transactions(self) -> None:
        """Nobody has heard of them."""
        for path in ("/storage-commitment/1.2.3", "/storage-commitment/%20"):
            self.assertError(await self.client.get(path), 404, 7)
            self.assertError(await self.client.post(f"{path}/remove"), 404, 7)

    async def test_refusals(self) -> None:
        """A peer that is away, offers something else or refuses is told of; no transaction is left."""
        await self.know(free_port(), "PEER")
        self.assertError(await self.request({"DicomInstances": []}), 500, 9)
        with peer() as other:
            await self.know(other.port, "PEER")
            other.status = 0x0213
            error = self.assertError(await self.request({"DicomInstances": []}), 500, 9)
            self.assertEqual(error["ErrorPayload"], {"Type": "Dimse", "Content": {"DimseErrorStatus": 0x0213}})
            (asked,) = other.asked
            self.assertEqual((await self.client.get(f"/storage-commitment/{asked.TransactionUID}")).status, 404)
        with peer(contexts=[(CT, (EXPLICIT,))]) as other:
            await self.know(other.port, "PEER")
            self.assertError(await self.request({"DicomInstances": []}), 500, 9)

    async def test_kept(self) -> None:
        """So many are kept as the option says; the oldest one goes."""
        await self.restart(StorageCommitmentReportsSize=2)
        with peer() as other:
            await self.know(other.port, "PEER")
            transactions = [await self.asked(FIRST) for _ in range(3)]
            statuses = [(await self.client.get(f"/storage-commitment/{uid}")).status for uid in transactions]
            self.assertEqual(statuses, [404, 200, 200])


class ReportedTests(AskingCase):
    """Reports, and what follows."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.fill()

    async def test_success(self) -> None:
        """All objects are confirmed: these are removed, no others, and only when a client wants it."""
        with peer() as other:
            await self.know(other.port, "PEER")
            transaction = await self.asked(FIRST, SECOND)
            self.assertError(await self.remove(transaction), 400, 6)
            self.assertEqual(await self.tell(wanted(transaction, [SECOND, FIRST])), 0)
            success = {"RemoteAET": "PEER", "Status": "Success", "Success": shown(FIRST, SECOND), "Failures": []}
            self.assertEqual(await self.report(transaction), success)
            self.assertEqual(len(await self.instances()), 4)
            answer = await self.remove(transaction)
            self.assertEqual((answer.status, answer.json()), (200, {}))
            left = [await self.client.json(f"/instances/{one}/simplified-tags") for one in await self.instances()]
            self.assertEqual(sorted(tags["SOPInstanceUID"] for tags in left), ["1.2.1.2.1", "1.2.2.1.1"])
            # Again there is nothing to do.
            self.assertEqual((await self.remove(transaction)).status, 200)
            self.assertEqual(await self.report(transaction), success)

    async def test_other_class(self) -> None:
        """An object of ours that has another class than the one confirmed stays."""
        with peer() as other:
            await self.know(other.port, "PEER")
            transaction = await self.asked(OTHER_CLASS)
            self.assertEqual(await self.tell(wanted(transaction, [OTHER_CLASS])), 0)
            self.assertEqual((await self.remove(transaction)).status, 200)
            self.assertEqual(len(await self.instances()), 4)

    async def test_failures(self) -> None:
        """What failed is told with its reason; nothing is removed."""
        with peer() as other:
            await self.know(other.port, "PEER")
            transaction = await self.asked(FIRST, SECOND, (CT, "1.2.3"))
            data = wanted(transaction, [FIRST])
            data.FailedSOPSequence = [*named([SECOND], 0x0112), *named([(CT, "1.2.3")], 0x0FFF)]
            self.assertEqual(await self.tell(data, event_type=2), 0)
            report = await self.report(transaction)
            self.assertEqual((report["Status"], report["Success"]), ("Failure", shown(FIRST)))
            described = [failure.pop("Description") for failure in report["Failures"]]
            self.assertEqual(
                report["Failures"],
                [
                    {**shown(SECOND)[0], "FailureReason": 0x0112},
                    {**shown((CT, "1.2.3"))[0], "FailureReason": 0x0FFF},
                ],
            )
            self.assertEqual(len(set(described)), 2)
            self.assertError(await self.remove(transaction), 400, 6)
            self.assertEqual(len(await self.instances()), 4)

    async def test_doubtful_reports(self) -> None:
        """What a report leaves out, or says both of, has failed; what was not asked for is nothing."""
        stranger = (CT, "1.2.2.1.1")
        with peer() as other:
            await self.know(other.port, "PEER")
            for committed, failed, status, success in (
                ([FIRST], [], "Failure", [FIRST]),
                ([], [], "Failure", []),
                ([FIRST, SECOND], [FIRST], "Failure", [SECOND]),
                ([FIRST, OTHER_CLASS], [], "Failure", [FIRST]),
                ([FIRST, SECOND, stranger], [], "Success", [FIRST, SECOND]),
                ([FIRST, SECOND], [stranger], "Success", [FIRST, SECOND]),
            ):
                transaction = await self.asked(FIRST, SECOND)
                data = wanted(transaction, committed)
                data.FailedSOPSequence = named(failed, 0x0110)
                self.assertEqual(await self.tell(data, event_type=2 if failed else 1), 0)
                report = await self.report(transaction)
                self.assertEqual((report["Status"], report["Success"]), (status, shown(*success)))
                self.assertEqual(len(report["Failures"]), 2 - len(success))
            await self.remove(transaction)
            self.assertEqual(len(await self.instances()), 2)

    async def test_later_report(self) -> None:
        """The last word of the peer counts."""
        with peer() as other:
            await self.know(other.port, "PEER")
            transaction = await self.asked(FIRST)
            self.assertEqual(await self.tell(wanted(transaction, [FIRST])), 0)
            self.assertEqual(await self.tell(wanted(transaction, [])), 0)
            self.assertError(await self.remove(transaction), 400, 6)

    async def test_reports_that_nobody_wants(self) -> None:
        """Unknown transactions, and those of somebody else, change nothing."""
        with peer() as other:
            await self.know(other.port, "PEER")
            await self.know(other.port, "OTHER")
            transaction = await self.asked(FIRST)
            self.assertEqual(await self.tell(wanted("1.2.3", [FIRST])), dimse.INVALID_ARGUMENT_VALUE)
            self.assertEqual((await self.client.get("/storage-commitment/1.2.3")).status, 404)
            for aet in ("OTHER", "STRANGER"):
                status = await self.tell(wanted(transaction, [FIRST]), calling=aet)
                self.assertEqual(status, dimse.NOT_AUTHORIZED)
            self.assertEqual((await self.report(transaction))["Status"], "Pending")
            # Without StrictAetComparison.
            self.assertEqual(await self.tell(wanted(transaction, [FIRST]), calling="peer"), 0)
            self.assertEqual((await self.report(transaction))["Status"], "Success")

    async def test_hostile_reports(self) -> None:
        """Reports that are none have a status, and change nothing."""
        with peer() as other:
            await self.know(other.port, "PEER")
            transaction = await self.asked(FIRST)
            good = reported(transaction, FIRST)
            for data, values, status in (
                (None, {}, dimse.INVALID_ARGUMENT_VALUE),
                (b"", {}, dimse.INVALID_ARGUMENT_VALUE),
                (b"\xff" * 1000, {}, dimse.INVALID_ARGUMENT_VALUE),
                (good[:-1], {}, dimse.INVALID_ARGUMENT_VALUE),
                (good, {"kind": 3}, dimse.NO_SUCH_EVENT_TYPE),
                (good, {"instance": "1.2"}, dimse.NO_SUCH_OBJECT_INSTANCE),
                (good, {"model": "1.2"}, dimse.NO_SUCH_SOP_CLASS),
            ):
                self.assertEqual(await self.raw(dimse.N_EVENT_REPORT_RQ, data, **values), status, (data, values))
            self.assertEqual((await self.report(transaction))["Status"], "Pending")


def reported(transaction: str, *pairs: Pair, explicit: bool = True) -> bytes:
    """The data set of a report that all is well."""
    report = CommitmentReport(transaction_uid=transaction, committed=pairs, failed=())
    return encode_report(report, explicit=explicit)


class SameAssociationTests(AskingCase):
    """Peers that report on the association of the request."""

    SETTINGS: ClassVar[Mapping[str, object]] = {**AskingCase.SETTINGS, "DicomAssociationCloseDelay": 60}

    async def reported_by(self, *script: str) -> tuple[list[int], dict[str, Any]]:
        """What a peer gets as answers that does what a script says, and what is known of the transaction then."""
        statuses: list[int] = []

        def serve(connection: Connection) -> None:
            connection.accept()
            command = connection.command()
            (value,) = pdus.decode_data(memoryview(connection.pdu()[1]))
            transaction = decode_request(bytes(value.data), explicit=False).transaction_uid
            for word in script:
                if word == "answer":
                    connection.respond(dimse.N_ACTION_RQ | dimse.RESPONSE, command.number(dimse.MESSAGE_ID), 0)
                    continue
                uid = transaction if word == "report" else "1.2.3"
                data = b"x" if word == "garbage" else reported(uid, FIRST, explicit=False)
                connection.send(data_pdus(1, n_command(dimse.N_EVENT_REPORT_RQ, 9), True))
                connection.send(data_pdus(1, data, False))
                response = connection.command()
                self.assertEqual(response.field, dimse.N_EVENT_REPORT_RQ | dimse.RESPONSE)
                self.assertEqual(response.number(dimse.RESPONDED_TO), 9)
                statuses.append(response.number(dimse.STATUS))
            if script[-1] != "answer":
                self.assertEqual(connection.until_end(), [pdus.PduType.RELEASE_RQ])

        async with Script(serve) as script_peer:
            await self.know(script_peer.port, "PEER")
            transaction = await self.asked(FIRST)
            await self.until(lambda: len(statuses) == len(script) - 1)
        self.assertEqual(script_peer.failures, [])
        return statuses, await self.report(transaction)

    async def test_after_the_answer(self) -> None:
        """A report that follows the answer is taken, and the association released."""
        statuses, report = await self.reported_by("answer", "report")
        self.assertEqual((statuses, report["Status"]), ([0], "Success"))

    async def test_before_the_answer(self) -> None:
        """So is one that comes before it."""
        statuses, report = await self.reported_by("report", "answer")
        self.assertEqual((statuses, report["Status"]), ([0], "Success"))

    async def test_bad_reports(self) -> None:
        """Others are refused."""
        for word in ("unknown", "garbage"):
            statuses, report = await self.reported_by("answer", word)
            self.assertEqual((statuses, report["Status"]), ([dimse.INVALID_ARGUMENT_VALUE], "Pending"))

    async def test_peer_leaves(self) -> None:
        """A peer that breaks off after its answer has accepted the request."""
        statuses, report = await self.reported_by("answer")
        self.assertEqual((statuses, report["Status"]), ([], "Pending"))


class StoreTests(AskingCase):
    """``/modalities/{id}/store`` with ``StorageCommitment``."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.fill()
        (self.study,) = await self.client.find("Study", {"StudyInstanceUID": "1.2.1"})

    async def store(self, **fields: object) -> Any:
        body = {"Resources": [self.study], "StorageCommitment": True, **fields}
        answer = await self.client.post("/modalities/peer/store", body)
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json()

    async def test_whole(self) -> None:
        """After the last object the peer is asked for all of them; each job has a transaction of its own."""
        contexts = [(MODEL, (IMPLICIT,)), (CT, (EXPLICIT,))]
        with peer(contexts) as other:
            await self.know(other.port, "PEER")
            transactions = [(await self.store())["StorageCommitmentTransactionUID"] for _ in range(2)]
            self.assertEqual([one.TransactionUID for one in other.asked], transactions)
            self.assertEqual(len(set(transactions)), 2)
            sops = [one.ReferencedSOPInstanceUID for one in other.asked[0].ReferencedSOPSequence]
            self.assertEqual((sops, len(other.stored)), (["1.2.1.1.1", "1.2.1.1.2", "1.2.1.2.1"], 6))
            self.assertEqual(await self.tell(wanted(transactions[0], [(CT, sop) for sop in sops])), 0)
            self.assertEqual((await self.remove(transactions[0])).status, 200)
            self.assertEqual(len(await self.instances()), 1)
            self.assertNotIn("StorageCommitmentTransactionUID", await self.without(other))

    async def without(self, other: Peer) -> Any:
        """The same without storage commitment, which nobody is asked for."""
        self.study = (await self.client.json("/studies"))[0]
        answer = await self.store(StorageCommitment=False)
        self.assertEqual(len(other.asked), 2)
        return answer

    async def test_permissive(self) -> None:
        """Objects that could not be sent are not asked for."""
        contexts = [(MODEL, (IMPLICIT,)), (CT, (EXPLICIT,))]
        with peer(contexts) as other:
            other.refused = "1.2.1.1.2"
            await self.know(other.port, "PEER")
            stored = await self.store(Permissive=True)
            self.assertEqual(stored["FailedInstancesCount"], 1)
            sops = [one.ReferencedSOPInstanceUID for one in other.asked[0].ReferencedSOPSequence]
            self.assertEqual(sops, ["1.2.1.1.1", "1.2.1.2.1"])

    async def test_refused(self) -> None:
        """A job whose peer knows nothing of it fails, and asks anew when it is submitted again."""
        with peer([(CT, (EXPLICIT,))]) as other:
            await self.know(other.port, "PEER")
            body = {"Resources": [self.study], "StorageCommitment": True}
            self.assertError(await self.client.post("/modalities/peer/store", body), 500, 9)
            job = await self.job("Failure")
            first = job["Content"]["StorageCommitmentTransactionUID"]
            self.assertEqual((await self.client.get(f"/storage-commitment/{first}")).status, 404)
        with peer([(MODEL, (IMPLICIT,)), (CT, (EXPLICIT,))], port=other.port) as other:
            self.assertEqual((await self.client.post(f"/jobs/{job['ID']}/resubmit")).status, 200)
            job = await self.job("Success")
            second = job["Content"]["StorageCommitmentTransactionUID"]
            self.assertEqual(other.asked[0].TransactionUID, second)
            self.assertNotEqual(first, second)
