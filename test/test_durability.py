"""What is acknowledged stays, what is not leaves no trace: real processes, killed and disturbed at every step."""

from __future__ import annotations

import http.client
import itertools
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.servers import ServerProcess, ct_image, shared_server
from test.storage_checks import DATABASE, SPOOL, check_agreement
from test.system_calls import SystemCall, Trace

_WRITES = ("mkdir", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "sendto", "writev", "sendmsg")
#: A spool file of this many KB and more comes from bodies that are not kept in memory.
_THRESHOLD_KB = 64


class OrderTests(SynchronousTestCase):
    """The order of system calls."""

    def trace_upload(self, server: ServerProcess, data: bytes) -> list[SystemCall]:
        trace = Trace(server.pid, server.folder, _WRITES)
        try:
            self.instance = server.upload(data)
        finally:
            calls = trace.stop()
        return calls

    def last(self, calls: list[SystemCall], name: str, *fragments: str) -> SystemCall:
        """The last of `calls` with a name whose text has all the fragments."""
        found = [call for call in calls if call.name == name and all(part in call.text for part in fragments)]
        self.assertNotEqual(found, [], f"no {name} of {fragments}")
        return found[-1]

    def check_order(self, server: ServerProcess, data: bytes) -> None:
        calls = self.trace_upload(server, data)
        uuid = server.get(f"/instances/{self.instance}/attachments/dicom/info")["Uuid"]
        path = server.storage / uuid[:2] / uuid[2:4] / uuid
        answer = next(call for call in calls if "HTTP/1.1 200" in call.text)
        before = [call for call in calls if call.begun < answer.begun]
        journal = f"/{DATABASE}-wal>"
        steps = [
            self.last(before, "write", f"/{SPOOL}/"),
            self.last(before, "fsync", f"/{SPOOL}/"),
            self.last(before, "rename", f"/{SPOOL}/", f'"{path}"'),
            self.last(before, "fsync", f"<{path.parent}>"),
            self.last(before, "pwrite64", journal),
            self.last(before, "fdatasync", journal),
            answer,
        ]
        for one, other in itertools.pairwise(steps):
            self.assertTrue(one.ended is not None and one.ended < other.begun, (one.text, other.text))

    def server(self) -> ServerProcess:
        return shared_server(type(self), {"Orthanctw": {"SpoolThresholdKB": _THRESHOLD_KB}})

    def test_small(self) -> None:
        """File, its folder and the index are durable, in this order, before the answer leaves."""
        server = self.server()
        server.upload(ct_image(1))
        self.check_order(server, ct_image(2))

    def test_large(self) -> None:
        """The same holds for a body that does not stay in memory."""
        server = self.server()
        server.upload(ct_image(3))
        self.check_order(server, ct_image(4, side=512))

    def test_new_folder(self) -> None:
        """A new folder is made durable in the one above it before a file goes into it."""
        server = self.server()
        server.stop()
        server.start()
        calls = self.trace_upload(server, ct_image(5))
        uuid = server.get(f"/instances/{self.instance}/attachments/dicom/info")["Uuid"]
        root, outer = server.storage, server.storage / uuid[:2]
        steps = [
            self.last(calls, "mkdir", f'"{outer}"'),
            self.last(calls, "fsync", f"<{root}>"),
            self.last(calls, "mkdir", f'"{outer / uuid[2:4]}"'),
            self.last(calls, "fsync", f"<{outer}>"),
            self.last(calls, "rename", uuid),
        ]
        self.assertEqual(steps, sorted(steps, key=lambda call: call.begun))

    def test_without_sync(self) -> None:
        """Without SyncStorageArea no file or folder of the storage area is synced; the index still is."""
        server = ServerProcess(Path(self.mktemp()), options={"SyncStorageArea": False})
        self.addCleanup(server.kill)
        server.start()
        calls = self.trace_upload(server, ct_image(1))
        synced = [call.text for call in calls if call.name in ("fsync", "fdatasync")]
        self.assertNotEqual(synced, [])
        self.assertEqual([text for text in synced if DATABASE not in text], [])


class CrashPointTests(SynchronousTestCase):
    """A process that dies between any two steps of an upload."""

    numbers = iter(range(1, 1000))

    def setUp(self) -> None:
        self.server = shared_server(type(self), {"Orthanctw": {"SpoolThresholdKB": _THRESHOLD_KB}})
        self.acknowledged: dict[str, bytes] = {}

    def crash(self, name: str, fragment: str, *, when: int = 1, path: Path | None = None, side: int = 16) -> None:
        """Die as the `when`-th call of a name begins, upload again after the start, and check everything."""
        data = ct_image(next(self.numbers), side=side)
        trace = Trace(
            self.server.pid, self.server.folder, _WRITES, path=path, inject=f"{name}:signal=SIGKILL:when={when}"
        )
        try:
            self.assertRaises((OSError, http.client.HTTPException), self.server.upload, data)
        finally:
            trace.abandon()
        self.server.wait()
        stopped = [call for call in trace.calls() if call.ended is None and call.name == name]
        self.assertEqual([call.text for call in stopped if fragment not in call.text], [])
        self.assertEqual(len({call.text for call in stopped}), 1)
        self.server.start()
        self.check()
        answer = self.server.request("POST", "/instances", data).json()
        self.assertIn(answer["Status"], ("Success", "AlreadyStored"))
        self.assertEqual(self.server.request("GET", f"/instances/{answer['ID']}/file").body, data)
        check_agreement(self, self.server)

    def check(self) -> None:
        """Fail when something acknowledged has changed, or something else has left a trace."""
        check_agreement(self, self.server)
        for instance, content in self.acknowledged.items():
            self.assertEqual(self.server.request("GET", f"/instances/{instance}/file").body, content)

    def cold(self) -> None:
        """Start anew, so that the next object needs a new folder."""
        self.server.stop()
        self.server.start()

    def warm(self) -> Path:
        """Upload an object, so that the folder of the next one exists; this folder."""
        content = ct_image(next(self.numbers))
        instance = self.server.upload(content)
        self.acknowledged[instance] = content
        uuid = str(self.server.get(f"/instances/{instance}/attachments/dicom/info")["Uuid"])
        return self.server.storage / uuid[:2] / uuid[2:4]

    def test_outer_folder(self) -> None:
        """Before the first folder is made."""
        self.cold()
        self.crash("mkdir", f"{self.server.storage}/")

    def test_inner_folder(self) -> None:
        """Between the two folders."""
        self.cold()
        self.crash("mkdir", f"{self.server.storage}/", when=2)

    def test_sync_of_the_root(self) -> None:
        """Before the root is made durable."""
        self.cold()
        self.crash("fsync", f"<{self.server.storage}>", path=self.server.storage)

    def test_write(self) -> None:
        """Before the file is written."""
        self.warm()
        self.crash("write", f"/{SPOOL}/")

    def test_write_of_a_large_body(self) -> None:
        """Between two writes of a body that does not stay in memory."""
        self.warm()
        self.crash("write", f"/{SPOOL}/", when=2, side=1536)

    def test_sync_of_the_file(self) -> None:
        """Before the file is made durable."""
        self.warm()
        self.crash("fsync", f"/{SPOOL}/")

    def test_rename(self) -> None:
        """Before the file gets its name."""
        self.warm()
        self.crash("rename", f"/{SPOOL}/")

    def test_sync_of_the_folder(self) -> None:
        """Before the name is made durable."""
        folder = self.warm()
        self.crash("fsync", f"<{folder}>", path=folder)

    def test_journal(self) -> None:
        """Before the index writes to its journal."""
        self.warm()
        self.crash("pwrite64", f"{DATABASE}-wal>", path=self.server.storage / f"{DATABASE}-wal")

    def test_middle_of_the_journal(self) -> None:
        """When a part of the transaction is in the journal."""
        self.warm()
        self.crash("pwrite64", f"{DATABASE}-wal>", when=6, path=self.server.storage / f"{DATABASE}-wal")

    def test_sync_of_the_journal(self) -> None:
        """Before the journal is made durable."""
        self.warm()
        self.crash("fdatasync", f"{DATABASE}-wal>", path=self.server.storage / f"{DATABASE}-wal")

    def test_answer(self) -> None:
        """Before the answer leaves."""
        self.warm()
        self.crash("sendto", "HTTP/1.1 200")

    def test_after_the_answer(self) -> None:
        """Right after the answer."""
        self.warm()
        self.server.kill()
        self.server.start()
        self.check()


class KillTests(SynchronousTestCase):
    """A process that is killed under load, and while it deletes."""

    def test_under_load(self) -> None:
        """Of objects that come on four connections at once, every acknowledged one is there after the death."""
        server = ServerProcess(Path(self.mktemp()))
        self.addCleanup(server.kill)
        server.start()
        objects = {number: ct_image(number, series=1 + number % 7, side=64) for number in range(500)}
        acknowledged: dict[str, bytes] = {}
        enough = threading.Event()

        def send(first: int) -> None:
            try:
                for number in range(first, len(objects), 4):
                    acknowledged[server.upload(objects[number])] = objects[number]
                    if len(acknowledged) >= 200:
                        enough.set()
            except (OSError, http.client.HTTPException):
                # The death that is wanted; anything else leaves the event unset.
                return

        senders = [threading.Thread(target=send, args=(first,)) for first in range(4)]
        for sender in senders:
            sender.start()
        self.assertTrue(enough.wait(60), server.printed())
        server.kill()
        for sender in senders:
            sender.join()
        self.assertLess(len(acknowledged), len(objects))
        server.start()
        check_agreement(self, server)
        for instance, data in acknowledged.items():
            self.assertEqual(server.request("GET", f"/instances/{instance}/file").body, data)

    def crash_deleting(self, name: str, when: int) -> None:
        """Die as the `when`-th call of a name begins, while one of two studies is deleted; check everything."""
        server = shared_server(type(self))
        instances = [server.upload(ct_image(number)) for number in range(10)]
        server.upload(ct_image(1, study=2))
        study = server.get(f"/instances/{instances[0]}/study")["ID"]
        trace = Trace(server.pid, server.folder, _WRITES, inject=f"{name}:signal=SIGKILL:when={when}")
        try:
            self.assertRaises((OSError, http.client.HTTPException), server.request, "DELETE", f"/studies/{study}")
        finally:
            trace.abandon()
        server.wait()
        server.start()
        check_agreement(self, server)
        self.assertEqual(len(server.get("/studies")), 1)
        self.assertEqual(server.request("GET", f"/studies/{study}").status, 404)
        server.request("DELETE", f"/studies/{server.get('/studies')[0]}")
        check_agreement(self, server)

    def test_delete_before_the_files(self) -> None:
        """A study that is deleted in the index only loses its files at the next start."""
        self.crash_deleting("unlink", 1)

    def test_delete_among_the_files(self) -> None:
        """A study of which some files are gone loses the others at the next start."""
        self.crash_deleting("unlink", 5)

    def test_delete_before_the_answer(self) -> None:
        """A study whose deletion was not told is gone as well."""
        self.crash_deleting("sendto", 1)

