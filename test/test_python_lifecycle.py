"""The life of scripts: loaded anew, with threads, timers and processes of their own, and the end of it all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import tracemalloc
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from test.log_lines import log_lines
from test.python_case import PythonCase, example
from test.servers import ORTHANCTW, TWISTD, ServerProcess, ct_image, free_port, wait_until
from test.storage_checks import check_agreement

_VERSION = """
import orthanc, json
def changed(change, level, resource):
    if change in (orthanc.ChangeType.ORTHANC_STARTED, orthanc.ChangeType.ORTHANC_STOPPED):
        open('notes', 'a').write(json.dumps([VERSION, change]) + '\\n')

def answer(output, uri, **request):
    import beside
    output.AnswerBuffer(str(VERSION + beside.value), 'text/plain')

orthanc.RegisterOnChangeCallback(changed)
orthanc.RegisterRestCallback('/version', answer)
orthanc.SetDescription('Version %d' % VERSION)
"""
#: Tells which pools of which process work, and what descriptors the children have.
_POOL = """
import multiprocessing, os, time, orthanc

def work(number):
    links = []
    for name in os.listdir('/proc/self/fd'):
        try:
            links.append(os.readlink('/proc/self/fd/' + name))
        except OSError:
            pass
    try:
        orthanc.GenerateUuid()
        error = ''
    except orthanc.OrthancException as e:
        error = e.args[1]
    with open('children.part%d' % os.getpid(), 'w') as file:
        json.dump([os.getpid(), links, error], file)
    os.rename(file.name, 'child-%d-%d' % (number, os.getpid()))
    time.sleep(600)

import json
pool = multiprocessing.Pool(2)
pool.map_async(work, range(2))

def late(output, uri, **request):
    child = multiprocessing.Process(target=work, args=(2,), daemon=True)
    child.start()
    output.AnswerBuffer(str(child.pid), 'text/plain')

orthanc.RegisterRestCallback('/late', late)
"""


def is_alive(pid: int) -> bool:
    """Whether a process is there, and has not ended unnoticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class ProcessCase(SynchronousTestCase):
    """Servers with scripts, as processes."""

    def server(self, text: str, command: tuple[str, ...] = TWISTD, **options: Any) -> ServerProcess:
        """A server with a script, not started; it runs in its folder."""
        server = ServerProcess(Path(self.mktemp()), command, {"PythonScript": "script.py", **options})
        self.write(server, text)
        self.addCleanup(server.kill)
        return server

    def write(self, server: ServerProcess, text: str) -> None:
        """Another script for a server."""
        (server.folder / "script.py").write_text(text)

    def noted(self, server: ServerProcess) -> list[Any]:
        path = server.folder / "notes"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class ReloadTests(ProcessCase):
    """SIGHUP."""

    def reload(self, server: ServerProcess, line: str) -> None:
        """Have a server load its scripts anew, and wait for a line of its log."""
        before = server.printed().count(line)
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.printed().count(line) > before, server.printed)

    def check_version(self, server: ServerProcess, version: bytes, description: str) -> None:
        self.assertEqual(server.request("GET", "/version").body, version)
        self.assertEqual(server.get("/plugins/python")["Description"], description)

    def test_reload(self) -> None:
        """The scripts before are told of the end, those that follow of a start; modules beside them are new, too."""
        server = self.server("VERSION = 1" + _VERSION)
        (server.folder / "beside.py").write_text("value = 10")
        server.start()
        self.check_version(server, b"11", "Version 1")
        self.write(server, "VERSION = 2" + _VERSION)
        # Of another size: a file of bytecode is taken for that of a source of the same second and size.
        (server.folder / "beside.py").write_text("value = 1000")
        self.reload(server, "have been loaded again")
        self.check_version(server, b"1002", "Version 2")
        server.stop()
        self.assertEqual(self.noted(server), [[1, 10], [1, 11], [2, 10], [2, 11]])

    def test_broken(self) -> None:
        """A script that cannot be loaded leaves those before as they are, and is told in the log with its line."""
        server = self.server("VERSION = 1" + _VERSION)
        (server.folder / "beside.py").write_text("value = 10")
        server.start()
        self.write(server, "VERSION = 2" + _VERSION + "\n1 / 0\n")
        self.reload(server, "those before go on")
        self.check_version(server, b"11", "Version 1")
        self.assertRegex(server.printed(), r"script\.py:\d+: ZeroDivisionError")
        self.write(server, "VERSION = 3" + _VERSION)
        self.reload(server, "have been loaded again")
        self.check_version(server, b"13", "Version 3")
        server.stop()
        self.assertEqual(self.noted(server), [[1, 10], [1, 11], [3, 10], [3, 11]])

    def test_hasty(self) -> None:
        """A script that has become another one of the same size in the same moment."""
        server = self.server("VERSION = 1" + _VERSION)
        (server.folder / "beside.py").write_text("value = 10")
        server.start()
        script = server.folder / "script.py"
        times = script.stat()
        self.write(server, "VERSION = 2" + _VERSION)
        os.utime(script, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.reload(server, "have been loaded again")
        self.check_version(server, b"12", "Version 2")

    def test_while_loading(self) -> None:
        """Those before answer until the others are ready."""
        server = self.server("VERSION = 1" + _VERSION)
        (server.folder / "beside.py").write_text("value = 10")
        server.start()
        loading = "import os, time\nopen('loading', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
        self.write(server, "VERSION = 2" + _VERSION + loading)
        server.signal(signal.SIGHUP)
        wait_until((server.folder / "loading").exists, server.printed)
        self.check_version(server, b"11", "Version 1")
        (server.folder / "go").touch()
        wait_until(lambda: "have been loaded again" in server.printed(), server.printed)
        self.check_version(server, b"12", "Version 2")


class EndTests(ProcessCase):
    """What scripts leave behind."""

    def test_endless_threads(self) -> None:
        """A thread, a callback and a child that never end hold up nothing beyond ``ShutdownTimeout``."""
        text = """
            import multiprocessing, threading, time, orthanc
            def endless(*arguments):
                while True:
                    time.sleep(600)
            threading.Thread(target=endless).start()
            pool = multiprocessing.Pool(2)
            pool.map_async(endless, range(2))
            multiprocessing.Process(target=endless).start()
            open('notes', 'w').write(str([child.pid for child in multiprocessing.active_children()]))
            orthanc.RegisterOnChangeCallback(endless)
        """
        for command in (TWISTD, ORTHANCTW):
            server = self.server("if True:" + text, command, Orthanctw={"ShutdownTimeout": 1})
            server.start()
            server.stop()
            self.assertIn("The server has stopped", server.printed())
            self.assertIn("have not ended in time", server.printed())
            (children,) = self.noted(server)
            self.assertEqual(len(children), 3)
            self.check_ended(children)

    def check_ended(self, pids: list[int]) -> None:
        wait_until(lambda: not any(is_alive(pid) for pid in pids), lambda: f"the end of {pids}")

    def test_late_calls(self) -> None:
        """A thread that goes on calling gets exceptions, and the end comes at once."""
        text = """
            import threading, time, orthanc
            def call():
                while True:
                    try:
                        orthanc.RestApiGet('/system')
                    except orthanc.OrthancException as e:
                        return open('notes', 'a').write(str(e.args[0]) + '\\n')
            threading.Thread(target=call).start()
        """
        server = self.server("if True:" + text, Orthanctw={"ShutdownTimeout": 25})
        server.start()
        server.stop()
        self.assertEqual(len(self.noted(server)), 1)


class ForkTests(ProcessCase):
    """``multiprocessing``."""

    def children(self, server: ServerProcess, number: int) -> list[tuple[int, list[str], str]]:
        """Process, descriptors and error of the children that work, once there are so many; they end with the test."""
        wait_until(lambda: len(list(server.folder.glob("child-*"))) >= number, server.printed)
        found = [json.loads(path.read_text()) for path in sorted(server.folder.glob("child-*"))]
        for pid, _, _ in found:
            self.addCleanup(self.end, pid)
        return [(pid, links, error) for pid, links, error in found]

    def end(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def test_kill(self) -> None:
        """A server that is killed while a pool works can start again at once, on the same ports and folder."""
        port = free_port()
        server = self.server(_POOL, DicomServerEnabled=True, DicomPort=port)
        server.start()
        instance = server.upload(ct_image(1))
        server.request("GET", "/late")
        before = self.children(server, 3)
        server.kill()
        self.assertTrue(all(is_alive(pid) for pid, _, _ in before))
        server.start()
        self.assertEqual(server.get("/instances"), [instance])
        self.assertIn(f"port {port}", server.printed())
        self.assertTrue(all(is_alive(pid) for pid, _, _ in before))
        self.children(server, 5)
        server.upload(ct_image(2))
        check_agreement(self, server)

    def test_descriptors(self) -> None:
        """Children, also those that are made while the server serves, have nothing of it, and cannot call it."""
        server = self.server(_POOL)
        server.start()
        server.request("GET", "/late")
        for _, links, error in self.children(server, 3):
            self.assertEqual([link for link in links if link.startswith((str(server.storage), "anon_inode"))], [])
            self.assertEqual([link for link in links if link.startswith("socket")], [])
            self.assertIn("child process", error)
        server.stop()

    def test_end_of_pools(self) -> None:
        """The example of the documentation: the pool works, and ends when the server does."""
        server = self.server(example("Pools"), Orthanctw={"ShutdownTimeout": 25})
        server.start()
        self.assertEqual(server.request("GET", "/sum").body, b"6")
        server.stop()
        self.assertNotIn("not ended in time", server.printed())


class TimerTests(PythonCase):
    """Timers, and what is logged in turn."""

    async def test_example(self) -> None:
        """That of the documentation: it works at once, and its timer ends with the server."""
        log = log_lines(self, self.levels)
        before = set(threading.enumerate())
        await self.start_scripts(example("Timers"))
        await self.until(lambda: "CountInstances" in log.getvalue())
        await self.stop()
        timers = [one for one in threading.enumerate() if isinstance(one, threading.Timer) and one not in before]
        for timer in timers:
            timer.join(10)
        self.assertEqual([timer for timer in timers if timer.is_alive()], [])

    async def test_repeated(self) -> None:
        """A timer that starts itself again calls the server each time."""
        await self.start_scripts(
            """
            import threading
            count = 0
            def work():
                global count
                count += 1
                note(json.loads(orthanc.RestApiGet('/statistics'))['CountInstances'])
                if count < 3:
                    threading.Timer(0.01, work).start()
            threading.Timer(0.01, work).start()
            """
        )
        await self.until(lambda: len(self.noted()) == 3)

    async def test_memory(self) -> None:
        """``Python.DisplayMemoryUsage`` logs each second."""
        log = log_lines(self, self.levels)
        await self.start_scripts("kept = bytes(5000000)", Python={"DisplayMemoryUsage": True})
        await self.until(lambda: log.getvalue().count("Python memory") == 2)
        await self.start_scripts("", Python={"DisplayMemoryUsage": False})
        self.assertFalse(tracemalloc.is_tracing())
