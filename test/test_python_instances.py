"""Scripts in Python change what comes in, and are told of what is stored."""

from __future__ import annotations

import io
from typing import Any

from pydicom import dcmread
from twisted.internet.defer import Deferred, gatherResults

from orthanctw.dicom import dimse
from test.dicom_case import DicomCase
from test.dicom_peers import RawPeer, in_thread, without_meta
from test.log_lines import log_lines
from test.python_case import PythonCase, example
from test.rest_samples import dicom_object, pixels

#: What is done depends on the ImageComments; `note` tells of each call.
RECEIVED = """
import io, pydicom, threading
gate = threading.Event()
KEEP, MODIFY, DISCARD = (
    orthanc.ReceivedInstanceAction.KEEP_AS_IS,
    orthanc.ReceivedInstanceAction.MODIFY,
    orthanc.ReceivedInstanceAction.DISCARD,
)

def changed(dicom, **values):
    dataset = pydicom.dcmread(io.BytesIO(dicom))
    for name, value in values.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()

def received(dicom, origin):
    is_dicom = dicom[128:132] == b'DICM'
    what = str(pydicom.dcmread(io.BytesIO(dicom), stop_before_pixels=True).ImageComments) if is_dicom else ''
    note(what, origin, len(dicom), type(dicom) is bytes)
    if what == 'wait':
        gate.wait(60)
    if what == 'open':
        gate.set()
    if what == 'nested':
        inner = changed(dicom, SOPInstanceUID='1.2.1.1.77', ImageComments='inner')
        note(json.loads(orthanc.RestApiPost('/instances', inner))['Status'])
    return {
        'keep': lambda: (KEEP, None),
        'modify': lambda: (MODIFY, changed(dicom, PatientID='NEW', ImageComments='done')),
        'sop': lambda: (MODIFY, changed(dicom, SOPInstanceUID='1.2.1.1.99')),
        'discard': lambda: (DISCARD, None),
        'open': lambda: (DISCARD, None),
        'raise': lambda: 1 / 0,
        'none': lambda: None,
        'list': lambda: [DISCARD, None],
        'one': lambda: (DISCARD,),
        'text': lambda: ('discard', None),
        'unknown': lambda: (9, None),
        'nothing': lambda: (MODIFY, None),
        'str': lambda: (MODIFY, 'x' * 1000),
        'empty': lambda: (MODIFY, b''),
        'junk': lambda: (MODIFY, b'junk'),
        'large': lambda: (MODIFY, changed(dicom, PatientID='LARGE')),
    }.get(what, lambda: (KEEP, None))()

orthanc.RegisterReceivedInstanceCallback(received)
"""


def wanting(what: str, **values: Any) -> bytes:
    """An object with which `RECEIVED` does something."""
    return dicom_object(ImageComments=what, **values)


class ReceivedTests(PythonCase, DicomCase):
    """``RegisterReceivedInstanceCallback``."""

    async def send(self, data: bytes, sop: str = "1.2.1.1.1") -> int:
        """The status that answers a C-STORE of an object."""

        def store() -> int:
            with RawPeer(self.dicom_port) as peer:
                peer.associate()
                found = peer.store(without_meta(data), sop)
                peer.release()
                return found.number(dimse.STATUS)

        return await in_thread(store)

    async def assertNothingStored(self) -> None:
        """There is neither a row nor a file."""
        self.assertEqual(await self.client.json("/instances"), [])
        await self.until(lambda: not self.files())

    async def test_example(self) -> None:
        """That of the documentation."""
        await self.start_scripts(example("Received instances"))
        stored = await self.client.store(dicom_object())
        tags = await self.client.json(f"/instances/{stored['ID']}/simplified-tags")
        self.assertEqual(tags["PatientID"], "SITE-P1")
        answer = await self.client.post("/instances", dicom_object(sop="1.2.1.1.2", Modality="OT"))
        self.assertEqual(answer.json()["Status"], "FilteredOut")
        self.assertEqual(await self.client.json("/instances"), [stored["ID"]])

    async def test_kept(self) -> None:
        """What is kept is stored byte for byte, also where a script raises or answers no action."""
        await self.start_scripts(RECEIVED)
        for number, what in enumerate(("keep", "raise", "none", "list", "one", "text")):
            data = wanting(what, sop=f"1.2.1.1.{number}")
            stored = await self.client.store(data)
            self.assertEqual((await self.client.get(f"/instances/{stored['ID']}/file")).body, data)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.noted()[0], ["keep", 3, len(wanting("keep", sop="1.2.1.1.0")), True])

    async def test_modified(self) -> None:
        """What a script has made is what is stored, with its identifiers."""
        await self.start_scripts(RECEIVED)
        stored = await self.client.store(wanting("modify", **pixels(2, 2)))
        tags = await self.client.json(f"/instances/{stored['ID']}/simplified-tags")
        self.assertEqual((tags["PatientID"], tags["ImageComments"]), ("NEW", "done"))
        file = dcmread(io.BytesIO((await self.client.get(f"/instances/{stored['ID']}/file")).body))
        self.assertEqual((file.PatientID, file.PixelData), ("NEW", bytes([7] * 4)))
        patient = await self.client.json(f"/patients/{stored['ParentPatient']}")
        self.assertEqual(patient["MainDicomTags"]["PatientID"], "NEW")
        self.assertEqual((await self.client.get(f"/instances/{stored['ID']}/metadata/Origin")).text, "RestApi")

    async def test_discarded(self) -> None:
        """Nothing is left, and to senders that is no failure."""
        await self.start_scripts(RECEIVED)
        answer = await self.client.post("/instances", wanting("discard"))
        body = answer.json()
        self.assertEqual((answer.status, body["Status"], body["ID"]), (200, "FilteredOut", ""))
        self.assertEqual(await self.send(wanting("discard")), 0)
        await self.assertNothingStored()
        self.assertEqual([(what, origin) for what, origin, *_ in self.noted()], [("discard", 3), ("discard", 2)])

    async def test_no_object(self) -> None:
        """What is no DICOM fails the upload, before the script or after it; what is no bytes is the script's error."""
        await self.start_scripts(RECEIVED)
        for what, status, code in (
            ("junk", 400, 15),
            ("unknown", 500, 1),
            ("nothing", 500, 1),
            ("str", 500, 1),
            ("empty", 500, 1),
        ):
            self.assertError(await self.client.post("/instances", wanting(what)), status, code)
        self.assertNotEqual(await self.send(wanting("junk")), 0)
        self.assertNotEqual(await self.send(wanting("nothing")), 0)
        self.assertError(await self.client.post("/instances", b"no DICOM"), 400, 15)
        await self.assertNothingStored()

    async def test_announced(self) -> None:
        """The UIDs that a C-STORE announces are those of what comes in."""
        await self.start_scripts(RECEIVED)
        self.assertEqual(await self.send(wanting("sop")), 0)
        (public_id,) = await self.client.json("/instances")
        tags = await self.client.json(f"/instances/{public_id}/simplified-tags")
        self.assertEqual(tags["SOPInstanceUID"], "1.2.1.1.99")
        self.assertEqual(await self.send(wanting("keep", sop="1.2.1.1.98"), sop="1.2.1.1.97"), 0xA900)
        self.assertEqual(len(await self.client.json("/instances")), 1)

    async def test_deadline(self) -> None:
        """No answer in time: the sender may repeat, and nothing is stored."""
        await self.start_scripts(RECEIVED, Orthanctw={"PythonFilterTimeout": 1})
        self.assertError(await self.client.post("/instances", wanting("wait")), 503, 36)
        self.assertEqual(await self.send(wanting("wait")), 0xA700)
        await self.client.post("/instances", wanting("open"))
        await self.assertNothingStored()

    async def test_several(self) -> None:
        """Each script gets what the one before has left; after one that discards nobody is asked."""
        second = """
            def received(dicom, origin):
                note('second', b'NEW' in dicom)
                return orthanc.ReceivedInstanceAction.KEEP_AS_IS, None

            orthanc.RegisterReceivedInstanceCallback(received)
            """
        await self.start_scripts(RECEIVED, second)
        for what in ("modify", "discard", "keep"):
            await self.client.post("/instances", wanting(what))
        asked = [values for values in self.noted() if values[0] == "second"]
        self.assertEqual(asked, [["second", True], ["second", False]])

    async def test_large(self) -> None:
        """An object that was received into a file can be kept and be modified."""
        await self.start_scripts(RECEIVED, Orthanctw={"SpoolThresholdKB": 16})
        kept = wanting("keep", **pixels(512, 512))
        stored = await self.client.store(kept)
        self.assertEqual((await self.client.get(f"/instances/{stored['ID']}/file")).body, kept)
        stored = await self.client.store(wanting("large", sop="1.2.1.1.2", **pixels(2048, 1024)))
        tags = await self.client.json(f"/instances/{stored['ID']}/simplified-tags")
        self.assertEqual(tags["PatientID"], "LARGE")
        frame = (await self.client.get(f"/instances/{stored['ID']}/frames/0/raw")).body
        self.assertEqual(frame, bytes([7]) * (2048 * 1024))
        await self.until(lambda: len(self.files()) == 2)

    async def test_nested(self) -> None:
        """The callback uploads another object, which is asked about in turn; two clients at once."""
        await self.start_scripts(RECEIVED)
        uploads = [
            Deferred.fromCoroutine(self.client.store(wanting("nested", sop=f"1.2.1.1.{number}"))) for number in (1, 2)
        ]
        await gatherResults(uploads, consumeErrors=True)
        self.assertEqual(len(await self.client.json("/instances")), 3)
        inner = [values[1] for values in self.noted() if values[0] == "inner"]
        self.assertEqual(inner, [4, 4])


STORED = """
def stored(instance, public_id):
    global kept
    kept = instance
    note(
        public_id,
        instance.GetInstanceOrigin(),
        instance.GetInstanceRemoteAet(),
        instance.GetInstanceMetadata('Origin'),
        len(instance.GetInstanceData()),
        json.loads(instance.GetInstanceSimplifiedJson())['SOPInstanceUID'],
        json.loads(orthanc.RestApiGet('/instances/' + public_id))['MainDicomTags']['SOPInstanceUID'],
    )

orthanc.RegisterOnStoredInstanceCallback(stored)
"""


class StoredTests(PythonCase, DicomCase):
    """``RegisterOnStoredInstanceCallback``."""

    async def test_example(self) -> None:
        """That of the documentation."""
        log = log_lines(self, self.levels)
        await self.start_scripts(example("Stored instances"))
        await self.storescu("-aet", "SENDER", self.file(dicom_object()))
        (public_id,) = await self.client.json("/instances")
        await self.until(lambda: f"SENDER has sent {public_id}" in log.getvalue())

    async def test_stored(self) -> None:
        """Each new instance once, in order, with content, origin and metadata; duplicates are none."""
        await self.start_scripts(STORED)
        first, second = dicom_object(), dicom_object(sop="1.2.1.1.2", **pixels(2, 2))
        stored = await self.client.store(first)
        await self.client.post("/instances", first)
        await self.storescu("-aet", "SENDER", self.file(second))
        await self.stop()
        (uploaded, sent) = self.noted()
        self.assertEqual(
            uploaded, [stored["ID"], 3, "", "RestApi", len(first), "1.2.1.1.1", "1.2.1.1.1"]
        )
        self.assertEqual(sent[1:4] + sent[5:], [2, "SENDER", "DicomProtocol", "1.2.1.1.2", "1.2.1.1.2"])

    async def test_errors(self) -> None:
        """An error is logged and stops nobody; the object is gone with the callback."""
        failing = """
            def stored(instance, public_id):
                raise ValueError('no')

            orthanc.RegisterOnStoredInstanceCallback(stored)
            """
        await self.start_scripts(
            failing,
            STORED
            + """
def changed(change, level, resource):
    if change == orthanc.ChangeType.DELETED and level == orthanc.ResourceType.INSTANCE:
        try:
            kept.GetInstanceSize()
        except orthanc.OrthancException as e:
            note('gone', e.args[0])

orthanc.RegisterOnChangeCallback(changed)
""",
        )
        stored = await self.client.store(dicom_object())
        await self.until(lambda: self.noted())
        await self.client.ask("DELETE", f"/instances/{stored['ID']}")
        await self.until(lambda: ["gone", 35] in self.noted())
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    async def test_deleted(self) -> None:
        """One that is deleted before its turn is left out; the sender does not wait for the callback."""
        await self.start_scripts(
            """
            import threading
            gate = threading.Event()

            def stored(instance, public_id):
                note(instance.GetInstanceSize(), public_id)
                gate.wait(60)

            def changed(change, level, resource):
                if change == orthanc.ChangeType.DELETED and level == orthanc.ResourceType.INSTANCE:
                    gate.set()

            orthanc.RegisterOnStoredInstanceCallback(stored)
            orthanc.RegisterOnChangeCallback(changed)
            """
        )
        stored = [await self.client.store(dicom_object(sop=f"1.2.1.1.{number}")) for number in (1, 2, 3)]
        await self.client.ask("DELETE", f"/instances/{stored[1]['ID']}")
        await self.stop()
        self.assertEqual([public_id for _, public_id in self.noted()], [stored[0]["ID"], stored[2]["ID"]])
