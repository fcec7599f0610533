"""A script in Python keeps files in place of the storage directory."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import zipfile
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase

from test.dicom_case import DicomCase
from test.dicom_peers import run, without_meta
from test.dicom_retrievals import sink
from test.python_case import PythonCase, example
from test.rest_samples import Answer, dicom_object, pixels
from test.servers import ServerProcess, ct_image, wait_until

#: Keeps files in a folder; ``mode`` names what goes wrong, ``note`` tells of each call.
_COMMON: Final = """
import os, threading
kept = folder + '/kept/'
os.makedirs(kept, exist_ok=True)
gate = threading.Event()

def mode():
    try:
        return open(folder + '/mode').read()
    except FileNotFoundError:
        return ''

def write(uuid, content):
    with open(kept + uuid, 'wb') as file:
        file.write(content)

def content(uuid):
    with open(kept + uuid, 'rb') as file:
        return file.read()
"""
PLAIN: Final = (
    _COMMON
    + """
def create(uuid, kind, data):
    note('create', uuid, kind, len(data))
    if mode() == 'create raises':
        raise ValueError('no')
    if mode() == 'create waits':
        write(uuid, data)
        gate.wait(60)
    write(uuid, data)

def read(uuid, kind):
    note('read', uuid, kind)
    return {
        'read raises': lambda: 1 / 0,
        'read text': lambda: 'text',
        'read waits': lambda: gate.wait(60),
        'read short': lambda: content(uuid)[:-1],
    }.get(mode(), lambda: content(uuid))()

def remove(uuid, kind):
    note('remove', uuid, kind)
    if mode() == 'remove raises':
        raise ValueError('no')
    os.remove(kept + uuid)

orthanc.RegisterStorageArea(create, read, remove)
"""
)
RANGES: Final = (
    _COMMON
    + """
def create(uuid, kind, compression, data, instance):
    try:
        size = instance.GetInstanceSize()
    except orthanc.OrthancException as e:
        size = e.args[0]
    note('create', uuid, kind, compression, len(data), size)
    write('x' + uuid, data)
    return {
        'create full': (orthanc.ErrorCode.FULL_STORAGE, None),
        'create none': None,
        'create text': (orthanc.ErrorCode.SUCCESS, 'text'),
        'create plain': (orthanc.ErrorCode.SUCCESS, None),
    }.get(mode(), (orthanc.ErrorCode.SUCCESS, b'x' + uuid.encode()))

def read(uuid, kind, start, size, custom):
    note('read', uuid, kind, start, size, custom.decode())
    return {
        'read missing': lambda: (orthanc.ErrorCode.INEXISTENT_FILE, b''),
        'read short': lambda: (0, content('x' + uuid)[start:start + size - 1]),
        'read long': lambda: (0, content('x' + uuid)[start:start + size] + b'x'),
        'read none': lambda: (0, None),
    }.get(mode(), lambda: (orthanc.ErrorCode.SUCCESS, content(custom.decode())[start:start + size]))()

def remove(uuid, kind, custom):
    note('remove', uuid, kind, custom.decode())
    if mode() == 'remove fails':
        return orthanc.ErrorCode.CANNOT_WRITE_FILE
    os.remove(kept + (custom.decode() or 'x' + uuid))
    return orthanc.ErrorCode.SUCCESS

orthanc.RegisterStorageArea3(create, read, remove)
"""
)
#: What a callback does first: writes and reads. Another thread runs the callbacks of that, which do nothing.
_NESTED: Final = """
other = open(folder + '/object', 'rb').read()
lock = threading.Lock()

def call(name, uuid):
    if not lock.acquire(blocking=False):
        return
    try:
        orthanc.StoreKeyValue('calls', name + uuid, b'x')
        stored = json.loads(orthanc.RestApiPost('/instances', other))['ID']
        note('called', name, orthanc.RestApiGet('/instances/' + stored + '/file') == other)
    finally:
        lock.release()
"""
#: Everything is read by the script again.
_NO_CACHE: Final = {"MaximumStorageCacheSize": 0}
_IMPLICIT: Final = "1.2.840.10008.1.2"


class StorageCase(PythonCase, DicomCase):
    """Tests of a script that keeps files."""

    def kept(self) -> list[str]:
        """Names of what the script keeps."""
        folder = self.scripts / "kept"
        return sorted(os.listdir(folder)) if folder.exists() else []

    def set_mode(self, mode: str = "") -> None:
        """What goes wrong from now on."""
        (self.scripts / "mode").write_text(mode)

    def calls(self, name: str) -> list[Any]:
        """Arguments of the calls of one callback."""
        return [values[1:] for values in self.noted() if values[0] == name]

    async def file(self, public_id: str, **headers: str) -> Answer:  # type: ignore[override]
        """The file of an instance."""
        return await self.client.ask("GET", f"/instances/{public_id}/file", headers=headers)


class ConsumerTests(StorageCase):
    """Whoever reads files reads those of the script."""

    async def check_consumers(self, script: str, **options: Any) -> None:
        """Upload, read in every way, delete."""
        await self.start_scripts(script, **_NO_CACHE, DicomAlwaysAllowGet=True, **options)
        data = dicom_object(**pixels(16, 16))
        stored = await self.client.store(data)
        path = f"/instances/{stored['ID']}"
        self.assertEqual(self.files(), [])
        self.assertEqual(len(self.kept()), 1)
        self.assertEqual((await self.file(stored["ID"])).body, data)
        part = await self.file(stored["ID"], Range="bytes=200-299")
        self.assertEqual((part.status, part.body), (206, data[200:300]))
        self.assertTrue((await self.client.get(f"{path}/preview")).body.startswith(b"\x89PNG"))
        self.assertEqual((await self.client.get(f"{path}/frames/0/raw")).body, bytes([7]) * 256)
        self.assertEqual((await self.client.get(f"{path}/content/7fe0-0010/0")).body, bytes([7]) * 256)
        transcoded = await self.client.get(f"{path}/file?transcode={_IMPLICIT}")
        self.assertEqual(dcmread(io.BytesIO(transcoded.body)).file_meta.TransferSyntaxUID, _IMPLICIT)
        archive = await self.client.get(f"/studies/{stored['ParentStudy']}/archive")
        with zipfile.ZipFile(io.BytesIO(archive.body)) as members:
            self.assertEqual([members.read(name) for name in members.namelist()], [data])
        await self.check_sent(stored["ID"], data)
        for operation in ("compress", "uncompress"):
            await self.client.post(f"{path}/attachments/dicom/{operation}")
            self.assertEqual((await self.client.post(f"{path}/attachments/dicom/verify-md5")).status, 200)
            self.assertEqual((await self.file(stored["ID"])).body, data)
        await self.client.post(f"{path}/reconstruct")
        await self.client.post(f"/studies/{stored['ParentStudy']}/anonymize", {"Synchronous": True})
        self.assertEqual(len(await self.instances()), 2)
        await self.client.post("/tools/bulk-delete", {"Resources": [stored["ParentPatient"]]})
        self.assertEqual(len(await self.instances()), 1)

    async def check_sent(self, public_id: str, data: bytes) -> None:
        """By C-GET and C-STORE."""
        folder = Path(self.mktemp())
        folder.mkdir()
        where = ("-od", str(folder), "127.0.0.1", str(self.dicom_port))
        await run("/usr/bin/getscu", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.1", *where)
        (file,) = folder.iterdir()
        self.assertEqual(dcmread(file).PixelData, dcmread(io.BytesIO(data)).PixelData)
        with sink() as peer:
            await self.client.ask("PUT", "/modalities/sink", {"AET": "SINK", "Host": "127.0.0.1", "Port": peer.port})
            self.assertEqual((await self.client.post("/modalities/sink/store", public_id)).status, 200)
            self.assertEqual(peer.stored, [("1.2.1.1.1", without_meta(data))])

    async def test_whole_files(self) -> None:
        """``RegisterStorageArea``."""
        await self.check_consumers(PLAIN)

    async def test_ranges(self) -> None:
        """``RegisterStorageArea3``."""
        await self.check_consumers(RANGES)

    async def test_compressed(self) -> None:
        """With ``StorageCompression`` the script keeps compressed bytes, and is told so."""
        await self.check_consumers(RANGES, StorageCompression=True)
        _, kind, compression, stored, size = self.calls("create")[0]
        self.assertEqual((kind, compression, size), (1, 1, len(dicom_object(**pixels(16, 16)))))
        self.assertLess(stored, size)

    async def test_example(self) -> None:
        """That of the documentation, also after a restart; ``/system`` names the script."""
        self.assertIsNone((await self.client.json("/system"))["StorageAreaPlugin"])
        folder = self.scripts / "example"
        folder.mkdir()
        script = example("Storage area").replace("/var/lib/orthanctw-scripted", str(folder))
        await self.start_scripts(script)
        self.assertEqual((await self.client.json("/system"))["StorageAreaPlugin"], "script0.py")
        data = dicom_object(**pixels(16, 16))
        stored = await self.client.store(data)
        self.assertEqual([path.read_bytes() for path in folder.iterdir()], [data])
        await self.start_scripts(script)
        self.assertEqual((await self.file(stored["ID"])).body, data)
        await self.client.ask("DELETE", f"/instances/{stored['ID']}")
        self.assertEqual(list(folder.iterdir()), [])

    async def test_large(self) -> None:
        """What came into a file is given to the script; of large ones, pieces are read."""
        await self.start_scripts(RANGES, **_NO_CACHE, Orthanctw={"SpoolThresholdKB": 16})
        data = dicom_object(**pixels(3000, 3000))
        stored = await self.client.store(data)
        await self.until(lambda: self.files() == [])
        self.assertEqual((await self.file(stored["ID"])).body, data)
        self.assertEqual(sum(size for _, _, _, size, _ in self.calls("read")), len(data))
        self.assertGreater(len(self.calls("read")), 1)
        self.set_aside()
        await self.file(stored["ID"], Range="bytes=5000-5099")
        self.assertEqual([(start, size) for _, _, start, size, _ in self.calls("read")], [(5000, 100)])
        self.assertTrue((await self.client.get(f"/instances/{stored['ID']}/preview")).body.startswith(b"\x89PNG"))
        await self.until(lambda: self.files() == [])

    async def test_attachments(self) -> None:
        """Attachments of users are the script's, too; their type is unknown to it, and there is no object."""
        await self.start_scripts(RANGES)
        stored = await self.client.store(dicom_object())
        path = f"/instances/{stored['ID']}/attachments/1025"
        self.assertEqual((await self.client.ask("PUT", path, b"hello")).status, 200)
        self.assertEqual(self.calls("create")[1][1:], [0, 4, 5, 35])
        self.assertEqual((await self.client.get(f"{path}/data")).body, b"hello")
        self.assertEqual((await self.client.ask("PUT", path, b"hello again")).status, 200)
        self.assertEqual(len(self.kept()), 2)
        await self.client.ask("DELETE", path)
        self.assertEqual(len(self.kept()), 1)

    async def test_mixed(self) -> None:
        """Files from before the script are read and removed as before; those of a script that is gone are missing."""
        old = await self.client.store(dicom_object())
        await self.start_scripts(RANGES)
        new = await self.client.store(dicom_object(sop="1.2.1.1.2"))
        self.assertEqual((await self.file(old["ID"])).body, dicom_object())
        self.assertEqual((len(self.files()), len(self.kept())), (1, 1))
        await self.restart()
        self.assertError(await self.file(new["ID"]), 404, 13)
        for stored in (old, new):
            await self.client.ask("DELETE", f"/instances/{stored['ID']}")
        self.assertEqual((len(self.files()), len(self.kept())), (0, 1))
        await self.start_scripts(RANGES)
        await self.until(lambda: not self.kept())


class FailureTests(StorageCase):
    """What goes wrong."""

    async def nothing_is_stored(self) -> None:
        self.assertEqual(await self.instances(), [])
        await self.until(lambda: not self.files())

    async def check_uploads(self, cases: dict[str, tuple[int, int]]) -> None:
        """Uploads fail with statuses and codes, by what goes wrong; then one does not."""
        for mode, expected in cases.items():
            self.set_mode(mode)
            self.assertError(await self.client.post("/instances", dicom_object()), *expected)
            await self.nothing_is_stored()
        self.set_mode()
        await self.client.store(dicom_object())

    async def test_create(self) -> None:
        """An upload fails as the script says."""
        await self.start_scripts(PLAIN)
        await self.check_uploads({"create raises": (500, 1)})
        self.flushLoggedErrors(ValueError)
        await self.client.ask("DELETE", f"/instances/{(await self.instances())[0]}")
        await self.start_scripts(RANGES)
        await self.check_uploads({"create full": (507, 19), "create none": (500, 1), "create text": (500, 1)})

    async def check_reads(self, cases: dict[str, tuple[int, int]]) -> None:
        """Reads fail with statuses and codes, by what goes wrong."""
        (public_id,) = await self.instances()
        for mode, expected in cases.items():
            self.set_mode(mode)
            self.assertError(await self.file(public_id), *expected)
        self.set_mode()
        self.assertEqual((await self.file(public_id)).body, dicom_object())

    async def test_read(self) -> None:
        """Reading fails as the script says, and where it gives other bytes than those that are wanted."""
        await self.start_scripts(PLAIN, **_NO_CACHE)
        await self.client.store(dicom_object())
        await self.check_reads({"read raises": (500, 1), "read text": (500, 1), "read short": (500, 20)})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        await self.client.ask("DELETE", f"/instances/{(await self.instances())[0]}")
        await self.start_scripts(RANGES, **_NO_CACHE)
        await self.client.store(dicom_object())
        await self.check_reads(
            {"read missing": (404, 13), "read short": (500, 1), "read long": (500, 1), "read none": (500, 1)}
        )

    async def test_remove(self) -> None:
        """What cannot be removed is removed by the next start."""
        for script, mode in ((PLAIN, "remove raises"), (RANGES, "remove fails")):
            self.set_mode()
            await self.start_scripts(script)
            stored = await self.client.store(dicom_object())
            self.set_mode(mode)
            self.assertEqual((await self.client.ask("DELETE", f"/instances/{stored['ID']}")).status, 200)
            self.assertEqual(len(self.kept()), 1)
            self.set_mode()
            await self.start_scripts(script)
            await self.until(lambda: not self.kept())
        self.flushLoggedErrors(ValueError)

    async def test_known(self) -> None:
        """What the index does not take is removed at once: an object that is stored already, one beyond a quota."""
        await self.start_scripts(RANGES, MaximumPatientCount=1, MaximumStorageMode="Reject")
        await self.client.store(dicom_object())
        answer = await self.client.post("/instances", dicom_object())
        self.assertEqual(answer.json()["Status"], "AlreadyStored")
        await self.until(lambda: len(self.kept()) == 1)
        other = dicom_object("P2", "1.2.2", "1.2.2.1", "1.2.2.1.1")
        self.assertError(await self.client.post("/instances", other), 507, 19)
        await self.until(lambda: len(self.kept()) == 1)
        removed = [(uuid, custom) for uuid, _, custom in self.calls("remove")]
        self.assertEqual(removed, [(uuid, f"x{uuid}") for uuid, *_ in self.calls("create")[1:]])

    async def test_deadline(self) -> None:
        """No answer in time: the sender may repeat; what the script may have is removed by the next start."""
        await self.start_scripts(PLAIN, Orthanctw={"PythonFilterTimeout": 1})
        self.set_mode("create waits")
        self.assertError(await self.client.post("/instances", dicom_object()), 503, 36)
        await self.nothing_is_stored()
        self.assertEqual(len(self.kept()), 1)
        self.set_mode()
        await self.start_scripts(PLAIN)
        await self.until(lambda: not self.kept())


class LifeTests(StorageCase):
    """From one start to the next."""

    async def test_jobs(self) -> None:
        """Jobs that go on wait until the script is loaded that keeps their files."""
        await self.start_scripts(PLAIN, **_NO_CACHE, Orthanctw={"ShutdownTimeout": 1})
        stored = await self.client.store(dicom_object())
        self.set_mode("read waits")
        body = {"Asynchronous": True}
        job = (await self.client.post(f"/studies/{stored['ParentStudy']}/anonymize", body)).json()["ID"]
        await self.until(lambda: self.calls("read"))
        await self.stop()
        self.set_mode()
        slow = f"import time; time.sleep(0.3)\n{PLAIN}\nnote('loaded')\n"
        self.set_aside()
        await self._start({"PythonScript": self.script(slow)})
        while (state := (await self.client.json(f"/jobs/{job}"))["State"]) in ("Pending", "Running"):
            await self.until(lambda: True)
        self.assertEqual(state, "Success")
        self.assertEqual(self.noted()[0], ["loaded"])
        self.assertEqual(len(await self.instances()), 2)


class CallTests(StorageCase):
    """Calls of the server within callbacks, and what scripts note of files."""

    async def test_nested(self) -> None:
        """Each callback reads and writes, with one storage thread; several clients at once."""
        nested = RANGES.replace("    note('create'", "    call('create', uuid)\n    note('create'")
        nested = nested.replace("    note('read'", "    call('read', uuid)\n    note('read'")
        nested = nested.replace("    note('remove'", "    call('remove', uuid)\n    note('remove'")
        self.assertEqual(nested.count("call("), 3)
        (self.scripts / "object").write_bytes(dicom_object(sop="1.2.1.1.77"))
        await self.start_scripts(
            nested.replace("gate = threading.Event()", "gate = threading.Event()" + _NESTED, 1),
            **_NO_CACHE,
            Orthanctw={"StorageThreads": 1},
        )
        objects = [dicom_object(sop=f"1.2.1.1.{number}") for number in (1, 2, 3)]
        stored = await self.at_once(self.client.store(data) for data in objects)
        files = await self.at_once(self.file(one["ID"]) for one in stored)
        self.assertEqual([answer.body for answer in files], objects)
        await self.at_once(self.client.ask("DELETE", f"/instances/{one['ID']}") for one in stored)
        self.assertEqual(len(self.kept()), 1)
        noted = [values[1:] for values in self.noted() if values[0] == "called"]
        self.assertEqual({name for name, _ in noted}, {"create", "read", "remove"})
        self.assertEqual({is_same for _, is_same in noted}, {True})

    @staticmethod
    async def at_once(work: Any) -> list[Any]:
        """Results of coroutines that run at once."""
        found: list[Any] = await gatherResults([Deferred.fromCoroutine(one) for one in work], consumeErrors=True)
        return found

    async def test_custom_data(self) -> None:
        """What is noted of a file can be read and changed; the script reads by it."""
        await self.start_scripts(
            RANGES
            + """
def changed(change, level, resource):
    if change == orthanc.ChangeType.NEW_INSTANCE:
        uuid = json.loads(orthanc.RestApiGet('/instances/' + resource + '/attachments/dicom/info'))['Uuid']
        before = orthanc.GetAttachmentCustomData(uuid)
        os.rename(kept + before.decode(), kept + 'y')
        orthanc.SetAttachmentCustomData(uuid, b'y')
        note('custom', before.decode() == 'x' + uuid, orthanc.GetAttachmentCustomData(uuid).decode())
        for function, *more in ((orthanc.GetAttachmentCustomData,), (orthanc.SetAttachmentCustomData, b'')):
            try:
                function('nowhere', *more)
            except orthanc.OrthancException as e:
                note('custom', e.args[0])
        area, kind = orthanc.StorageArea(), orthanc.ContentType.DICOM
        for function, *arguments in (
            (area.Create, uuid, b'', 0, kind), (area.Read, uuid, kind), (area.Remove, uuid, kind),
            (area.ReconstructMainDicomTags, orthanc.ResourceType.STUDY),
        ):
            try:
                function(*arguments)
            except orthanc.OrthancException as e:
                note('custom', e.args[0])

orthanc.RegisterOnChangeCallback(changed)
""",
            **_NO_CACHE,
        )
        stored = await self.client.store(dicom_object())
        await self.until(lambda: len(self.calls("custom")) == 7)
        self.assertEqual(self.calls("custom"), [[True, "y"], [17], [17], [2], [2], [2], [2]])
        self.assertEqual((await self.file(stored["ID"])).body, dicom_object())
        await self.client.ask("DELETE", f"/instances/{stored['ID']}")
        self.assertEqual(self.kept(), [])

    async def test_plain_files(self) -> None:
        """Scripts may note something of files that none of them keeps; they stay files."""
        await self.start_scripts(
            """
            def stored(instance, public_id):
                uuid = json.loads(orthanc.RestApiGet('/instances/' + public_id + '/attachments/dicom/info'))['Uuid']
                empty = orthanc.GetAttachmentCustomData(uuid)
                orthanc.SetAttachmentCustomData(uuid, b'mine')
                note(empty.decode(), orthanc.GetAttachmentCustomData(uuid).decode())

            orthanc.RegisterOnStoredInstanceCallback(stored)
            """
        )
        stored = await self.client.store(dicom_object())
        await self.until(lambda: self.noted())
        self.assertEqual(self.noted(), [["", "mine"]])
        await self.client.ask("DELETE", f"/instances/{stored['ID']}")
        self.assertEqual(self.files(), [])


class KilledTests(SynchronousTestCase):
    """A server that dies between `create` and the commit."""

    def test_killed(self) -> None:
        """What was acknowledged is there after the next start; of what was not, nothing is left with the script."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        script = folder / "script.py"
        before = f"import json, orthanc\nfolder = {str(folder)!r}\nnote = lambda *_: None\n"
        script.write_text(before + PLAIN)
        server = ServerProcess(folder / "server", options={"PythonScript": str(script), **_NO_CACHE})
        self.addCleanup(server.kill)
        server.start()
        public_id = server.upload(ct_image(1))
        (folder / "mode").write_text("create waits")
        body = ct_image(2)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as client:
            client.request("POST", "/instances", body)
            wait_until(lambda: len(os.listdir(folder / "kept")) == 2, server.printed)
            server.kill()
        (folder / "mode").write_text("")
        server.start()
        self.assertEqual(server.get("/instances"), [public_id])
        self.assertEqual(server.request("GET", f"/instances/{public_id}/file").body, ct_image(1))
        wait_until(lambda: len(os.listdir(folder / "kept")) == 1, server.printed)
        server.upload(body)
        server.stop()
