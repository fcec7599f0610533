"""A script in Python decides about objects that come by C-STORE."""

from __future__ import annotations

import sys

from twisted.internet.defer import Deferred, gatherResults

from orthanctw.dicom import dimse
from test.dicom_case import DicomCase
from test.dicom_peers import RawPeer, in_thread, run, without_meta
from test.python_case import PythonCase, example
from test.rest_samples import dicom_object
from test.servers import free_port

_FILTER = """
import threading
gate, answers, kept = threading.Event(), {}, []

def decide(instance):
    tags = json.loads(instance.GetInstanceSimplifiedJson())
    number = tags['InstanceNumber']
    note(number, instance.GetInstanceOrigin(), instance.GetInstanceRemoteAet(), instance.GetInstanceSize())
    kept[:] = [instance]
    if number == '7':
        1 / 0
    if number == '8':
        gate.wait(60)
    if number == '9':
        note(json.loads(orthanc.RestApiPost('/tools/find', '{"Level": "Instance", "Query": {}}')))
        note(json.loads(orthanc.RestApiPost('/instances', instance.GetInstanceData()))['Status'])
    return answers.get(int(number), 0)

orthanc.RegisterIncomingCStoreInstanceFilter(decide)
"""


def image(number: int) -> bytes:
    """An object with this InstanceNumber."""
    return dicom_object(sop=f"1.2.1.1.{number}")


class StoreFilterTests(PythonCase, DicomCase):
    """``RegisterIncomingCStoreInstanceFilter``."""

    async def send(self, *numbers: int) -> list[int]:
        """Statuses that answer the C-STORE of objects with these numbers."""

        def store() -> list[int]:
            with RawPeer(self.dicom_port) as peer:
                peer.associate(calling="SENDER")
                found = [peer.store(without_meta(image(number)), f"1.2.1.1.{number}") for number in numbers]
                peer.release()
                return [one.number(dimse.STATUS) for one in found]

        return await in_thread(store)

    async def test_statuses(self) -> None:
        """0 stores; others of 16 bits are answered and refuse; what is no such number is an error."""
        await self.start_scripts(_FILTER)
        answers = {2: 0xA700, 3: 0xB000, 4: 0x0001, 5: 70000, 6: -1, 10: "x", 11: None, 12: 1.0, 13: 0xFFFF, 14: False}
        sys.modules["script0"].answers.update(answers)
        wanted = {1: 0, 2: 0xA700, 3: 0xB000, 4: 1, 5: 0xA700, 6: 0xA700, 7: 0xA700}
        wanted |= {10: 0xA700, 11: 0xA700, 12: 0xA700, 13: 0xFFFF, 14: 0}
        self.assertEqual(await self.send(*wanted), list(wanted.values()))
        self.assertEqual(len(await self.instances()), 2)
        self.assertEqual(self.spooled(), [])
        (size,) = {len((await self.client.get(f"/instances/{one}/file")).body) for one in await self.instances()}
        self.assertEqual(self.noted()[0], ["1", 2, "SENDER", size])
        self.flushLoggedErrors(ZeroDivisionError)

    async def test_dcmtk(self) -> None:
        """The example of the documentation counts objects, and refuses what is too many for now."""
        await self.start_scripts(example("C-STORE"))
        files = [self.file(image(number), f"{number}.dcm") for number in range(1, 5)]
        ran = await run("storescu", "-v", "-aec", "ORTHANC", "127.0.0.1", str(self.dicom_port), *files[:3])
        self.assertEqual(ran.output.count("Received Store Response (Success)"), 2)
        self.assertIn("Refused: OutOfResources", ran.output)
        self.assertEqual(len(await self.instances()), 2)

    async def test_uploads(self) -> None:
        """Uploads are none of its business."""
        await self.start_scripts(_FILTER)
        sys.modules["script0"].answers.update({1: 0xA700})
        self.assertEqual((await self.client.store(image(1)))["Status"], "Success")
        self.assertEqual(self.noted(), [])

    async def test_several(self) -> None:
        """All scripts are asked in their order, until one refuses; Lua comes last."""
        path = self.work / "script.lua"
        path.write_text("function ReceivedCStoreInstanceFilter(dicom) return 0xC123 end")
        second = "orthanc.RegisterIncomingCStoreInstanceFilter(lambda instance: note('second') and 0)"
        await self.start_scripts(_FILTER, second, LuaScripts=[str(path)])
        sys.modules["script0"].answers.update({1: 0xC001})
        self.assertEqual(await self.send(1, 2), [0xC001, 0xC123])
        self.assertEqual([values[0] for values in self.noted()], ["1", "2", "second"])

    async def test_deadline(self) -> None:
        """A script that takes too long has given no answer: the peer may send again. Others are served meanwhile."""
        await self.start_scripts(_FILTER, Orthanctw={"PythonFilterTimeout": 1})
        late, other = await gatherResults([Deferred.fromCoroutine(self.send(number)) for number in (8, 1)])
        self.assertEqual((late, other), ([0xA700], [0]))
        self.assertEqual(len(await self.instances()), 1)
        sys.modules["script0"].gate.set()

    async def test_server(self) -> None:
        """A script finds and stores within its callback, even the very object."""
        await self.start_scripts(_FILTER)
        self.assertEqual(await self.send(9), [0])
        self.assertEqual([values[0] for values in self.noted()], ["9", [], "Success"])
        self.assertEqual(len(await self.instances()), 1)

    async def test_borrowed(self) -> None:
        """The object is there during the callback only."""
        await self.start_scripts(_FILTER)
        await self.send(1)
        (instance,) = sys.modules["script0"].kept

        def use() -> int:
            try:
                return int(instance.GetInstanceSize())
            except sys.modules["script0"].orthanc.OrthancException as e:
                return -int(e.args[0])

        self.assertEqual(await in_thread(use), -35)


class ReplacementTests(PythonCase):
    """The DICOM server is one of pynetdicom, which a script runs."""

    async def test_pynetdicom(self) -> None:
        """It stores what DCMTK sends, and ends with the server."""
        port = free_port()
        text = example("C-STORE", 1).replace("('', 4242)", f"('127.0.0.1', {port})")
        await self.start_scripts(text, DicomServerEnabled=False)
        path = self.scripts / "a.dcm"
        path.write_bytes(image(1))
        send = ("storescu", "-v", "-aec", "ORTHANC", "127.0.0.1", str(port), str(path))
        self.assertIn("Received Store Response (Success)", (await run(*send)).output)
        (instance,) = await self.client.json("/instances")
        origin = await self.client.get(f"/instances/{instance}/metadata/Origin")
        self.assertEqual(origin.text, "Plugins")
        await self.stop()
        self.assertNotEqual((await run(*send)).status, 0)
