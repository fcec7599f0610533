"""Lua decides about objects that go out by C-STORE."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final

import pydicom

from orthanctw.dicom import dimse
from test.dicom_commitments import MODEL
from test.dicom_commitments import peer as commitment_peer
from test.dicom_peers import CT, EXPLICIT, IMPLICIT
from test.dicom_retrievals import RetrieveCase, sink
from test.lua_servers import LuaServerCase
from test.rest_samples import dicom_object
from test.scu_case import program
from test.servers import free_port

_FILTER: Final = """
function OutgoingCStoreInstanceFilter(tags, destination)
  note(tags, destination)
  if tags.Modality == 'US' then error('bang') end
  if tags.Modality == 'XA' then while true do end end
  return tags.Modality ~= 'MR'
end
"""


class OutgoingCase(LuaServerCase, RetrieveCase):
    """A server that keeps MR at home."""

    SETTINGS: ClassVar = {**RetrieveCase.SETTINGS, **LuaServerCase.SETTINGS}

    async def setUp(self) -> None:
        await super().setUp()
        await self.scripted(_FILTER)

    async def send(self, *instances: str, **fields: object) -> Any:
        """The job that has sent instances, when it is over."""
        body = {"Resources": instances, "Asynchronous": True, **fields}
        answer = await self.client.post("/modalities/sink/store", body)
        path = f"/jobs/{answer.json()['ID']}"
        job = await self.client.json(path)
        while job["State"] not in ("Success", "Failure"):
            job = await self.client.json(path)
        return job


class JobTests(OutgoingCase):
    """``/modalities/.../store``."""

    async def test_storescp(self) -> None:
        """What the filter refuses does not go out, and counts as sent; it is told tags and destination."""
        stored = await self.fill()
        port, target = free_port(), self.work / "received"
        target.mkdir()
        with program(port, "/usr/bin/storescp", "-aet", "SINK", "-od", str(target), str(port), cwd=self.work):
            await self.know(port)
            job = await self.send(*(item["ID"] for item in stored))
        self.assertEqual((job["State"], job["Content"]["FailedInstancesCount"]), ("Success", 0))
        sent = sorted(pydicom.dcmread(path).SOPInstanceUID for path in Path(target).iterdir())
        self.assertEqual(sent, ["1.2.1.1.1", "1.2.1.1.2", "1.2.2.1.1"])
        told = await self.told()
        self.assertEqual(len(told), 4)
        tags = await self.client.json(f"/instances/{stored[3]['ID']}/simplified-tags")
        self.assertIn([tags, {"RemoteAet": "SINK", "RemoteIp": "127.0.0.1"}], told)

    async def test_commitment(self) -> None:
        """Storage commitment is asked for what was sent, and not at all where nothing was."""
        stored = await self.fill()
        contexts = [(MODEL, (IMPLICIT,)), (CT, (EXPLICIT,))]
        with commitment_peer(contexts) as other:
            await self.know(other.port)
            for instances in (stored[1:3], stored[2:3]):
                job = await self.send(*(item["ID"] for item in instances), StorageCommitment=True)
                self.assertEqual(job["State"], "Success", job)
            (request,) = other.asked
        self.assertEqual([item.ReferencedSOPInstanceUID for item in request.ReferencedSOPSequence], ["1.2.1.1.2"])

    async def test_straight(self) -> None:
        """Files that are sent without being stored are asked about, too."""
        with sink() as peer:
            await self.know(peer.port)
            for modality, status in (("MR", 200), ("US", 500), ("CT", 200)):
                data = dicom_object(sop=f"1.2.1.1.{status}", Modality=modality)
                answer = await self.client.post("/modalities/sink/store-straight", data)
                self.assertEqual(answer.status, status, answer.text)
            self.assertEqual(answer.json()["SOPInstanceUID"], "1.2.1.1.200")
            self.assertEqual(peer.sops, ["1.2.1.1.200"])
        self.assertEqual(
            [tags["Modality"] for tags, destination in await self.told()], ["MR", "US", "CT"]
        )

    async def test_nothing_to_send(self) -> None:
        """Where all is kept here, the destination is not even asked."""
        stored = await self.client.store(dicom_object(Modality="MR"))
        await self.know(free_port())
        self.assertEqual((await self.send(stored["ID"]))["State"], "Success")

    async def test_failures(self) -> None:
        """A script that fails, or is too slow, fails the job, or one object of a permissive one; nothing goes out."""
        await self.scripted(_FILTER, Orthanctw={"LuaFilterTimeout": 1})
        ids = [
            (await self.client.store(dicom_object(sop=f"1.2.1.1.{number}", Modality=modality)))["ID"]
            for number, modality in enumerate(("US", "XA", "CT"), 1)
        ]
        with sink() as peer:
            await self.know(peer.port)
            for instance, code, details in ((ids[0], 2031, "bang"), (ids[1], 16, "no answer")):
                job = await self.send(instance)
                self.assertEqual((job["State"], job["ErrorCode"]), ("Failure", code))
                self.assertIn(details, job["ErrorDetails"])
            self.assertEqual(peer.sops, [])
            job = await self.send(*ids, Permissive=True)
            self.assertEqual((job["State"], job["Content"]["FailedInstancesCount"]), ("Success", 2))
            self.assertEqual(peer.sops, ["1.2.1.1.3"])


class MoveTests(OutgoingCase):
    """C-MOVE."""

    async def test_skipped(self) -> None:
        """What the filter refuses counts as completed; what it fails for is a failed sub-operation, and no more."""
        for number, modality in enumerate(("MR", "US", "US", "US", "CT"), 1):
            await self.client.store(dicom_object(sop=f"1.2.1.1.{number}", Modality=modality))
        with sink() as peer:
            await self.know(peer.port)
            ended = await self.move()
        self.assertEqual((ended.status, ended.numbers), (dimse.SOME_SUB_OPERATIONS_FAILED, (2, 3, 0)))
        self.assertEqual(sorted(ended.failed.split("\\")), ["1.2.1.1.2", "1.2.1.1.3", "1.2.1.1.4"])
        self.assertEqual(peer.sops, ["1.2.1.1.5"])
        self.assertEqual((await self.told())[0][1], {"RemoteAet": "SINK", "RemoteIp": "127.0.0.1"})
