"""Storage commitment answered by a script in Python."""

from __future__ import annotations

import sys
from typing import Any

from test.dicom_commitments import MR, CommitmentCase, Pair, Told, peer, wanted
from test.dicom_peers import CT
from test.python_case import PythonCase, example
from test.rest_samples import dicom_object
from test.servers import free_port

_SCRIPT = """
import threading
gate = threading.Event()

def create(*arguments):
    job, transaction, classes, instances, *peer = arguments
    if not isinstance(peer[0], str):
        peer = [peer[0].GetConnectionRemoteAet(), peer[0].GetConnectionRemoteIp(), peer[0].GetConnectionCalledAet()]
    note('create', job, transaction, classes, instances, peer)
    if transaction == '1.2.9':
        1 / 0
    return {'job': job}

def lookup(sop_class, instance, driver):
    note('lookup', sop_class, instance, driver['job'])
    number = int(instance.rpartition('.')[2])
    if number == 90:
        1 / 0
    if number == 91:
        return 'x'
    if number == 92:
        gate.wait(60)
    if number == 93:
        found = json.loads(orthanc.RestApiPost('/tools/find', '{"Level": "Instance", "Query": {}}'))
        stored = json.loads(orthanc.RestApiPost('/instances', open(folder + '/object', 'rb').read()))
        note('server', len(found), stored['Status'])
        return 0
    return number

orthanc.REGISTER(create, lookup)
"""
FIRST = _SCRIPT.replace("REGISTER", "RegisterStorageCommitmentScpCallback")
SECOND = _SCRIPT.replace("REGISTER", "RegisterStorageCommitmentScpCallback2")


def pair(number: int) -> Pair:
    """An object of which the script says this."""
    return CT, f"1.2.{number}"


class CommitmentTests(PythonCase, CommitmentCase):
    """``RegisterStorageCommitmentScpCallback``."""

    async def told(self, *pairs: Pair, transaction: str = "1.2.3") -> Told:
        """What a peer is told of these objects."""
        with peer() as sink:
            await self.know(sink.port, "PEER")
            self.assertEqual(await self.ask(wanted(transaction, pairs)), 0)
            await self.job("Success")
            (told,) = sink.told
        return told

    def lookups(self) -> list[Any]:
        """Instances that the script was asked about."""
        return [values[2] for values in self.noted() if values[0] == "lookup"]

    async def test_reasons(self) -> None:
        """The script answers by the numbers of its enumeration; what is no answer is a failure of the processing."""
        await self.start_scripts(FIRST)
        numbers = [0, 1, 2, 3, 4, 5, 6, 7, 90, 91]
        told = await self.told(*map(pair, numbers))
        self.assertEqual(told.committed, [pair(0)])
        reasons = [0x0110, 0x0112, 0x0213, 0x0122, 0x0119, 0x0131, 0x0110, 0x0110, 0x0110]
        self.assertEqual(told.failed, dict(zip(map(pair, numbers[1:]), reasons, strict=True)))
        self.flushLoggedErrors(ZeroDivisionError)

    async def test_arguments(self) -> None:
        """The script is told the job, the transaction, all objects and who asks; lookups are given its driver."""
        for script, who in ((FIRST, ["PEER", "ORTHANC"]), (SECOND, ["PEER", "127.0.0.1", "ORTHANC"])):
            self.set_aside()
            await self.start_scripts(script)
            told = await self.told((CT, "1.2.0"), (MR, "1.3.0"))
            self.assertEqual(told.failed, {})
            (job,) = await self.client.json("/jobs")
            await self.stop()
            create, *lookups = self.noted()
            self.assertEqual(create, ["create", job, "1.2.3", [CT, MR], ["1.2.0", "1.3.0"], who])
            self.assertEqual(lookups, [["lookup", CT, "1.2.0", job], ["lookup", MR, "1.3.0", job]])
            await self.forget_jobs()

    async def forget_jobs(self) -> None:
        """Go on with a server that knows of no job."""
        await self._start({**self.SETTINGS, "JobsHistorySize": 0})

    async def test_example(self) -> None:
        """The script of the documentation."""
        await self.start_scripts(example("Storage commitment"))
        await self.client.store(dicom_object())
        told = await self.told((CT, "1.2.1.1.1"), (CT, "1.2.9"))
        self.assertEqual((told.committed, told.failed), ([(CT, "1.2.1.1.1")], {(CT, "1.2.9"): 0x0112}))

    async def test_server(self) -> None:
        """A script finds and stores within its callback."""
        (self.scripts / "object").write_bytes(dicom_object())
        await self.start_scripts(FIRST)
        self.assertEqual((await self.told(pair(93))).committed, [pair(93)])
        self.assertIn(["server", 0, "Success"], self.noted())

    async def test_no_driver(self) -> None:
        """Without a driver the job fails, and nothing is told."""
        await self.start_scripts(FIRST)
        with peer() as sink:
            await self.know(sink.port, "PEER")
            self.assertEqual(await self.ask(wanted("1.2.9", [pair(0)])), 0)
            job = await self.job("Failure")
            self.assertEqual((job["ErrorCode"], sink.told), (1, []))
        self.flushLoggedErrors(ZeroDivisionError)

    async def test_deadline(self) -> None:
        """A lookup that takes too long is no answer: the job fails, and may be resubmitted."""
        await self.start_scripts(FIRST, Orthanctw={"PythonFilterTimeout": 1})
        with peer() as sink:
            await self.know(sink.port, "PEER")
            self.assertEqual(await self.ask(wanted("1.2.3", [pair(92)])), 0)
            job = await self.job("Failure")
            self.assertEqual(sink.told, [])
            sys.modules["script0"].gate.set()
            await self.client.post(f"/jobs/{job['ID']}/resubmit")
            await self.job("Success")
            self.assertEqual(sink.told[0].failed, {pair(92): 0x0110})

    async def test_attempts(self) -> None:
        """The driver is kept for further attempts to report, and made anew by the next process."""
        port = free_port()
        known = {"DicomModalities": {"peer": ["PEER", "127.0.0.1", port]}}
        await self.start_scripts(FIRST, **known)
        self.assertEqual(await self.ask(wanted("1.2.3", [pair(0)])), 0)
        job = (await self.job("Retry"))["ID"]
        for action in ("pause", "resume"):
            self.assertEqual((await self.client.post(f"/jobs/{job}/{action}")).status, 200)
        await self.until(lambda: len(self.lookups()) == 2)
        await self.job("Retry")
        self.assertEqual([values[0] for values in self.noted()], ["create", "lookup", "lookup"])
        self.set_aside()
        with peer(port=port) as sink:
            await self.start_scripts(FIRST, **known)
            for action in ("pause", "resume"):
                await self.client.post(f"/jobs/{job}/{action}")
            await self.job("Success")
            self.assertEqual([one.committed for one in sink.told], [[pair(0)]])
        self.assertEqual([(values[0], values[1]) for values in self.noted()][:1], [("create", job)])
        await self.until(lambda: not self.server.python.dicom.commitment._kept)
