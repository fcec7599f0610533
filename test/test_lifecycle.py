"""The life of the process: start, signals, a second process, logs, reset, end."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from test.servers import (
    ORTHANC,
    ORTHANCTW,
    PATIENCE,
    TWISTD,
    ServerProcess,
    ct_image,
    is_answering,
    shared_server,
    wait_until,
)
from test.storage_checks import check_agreement, files_below

DAEMON = (TWISTD[0], "--pidfile=twistd.pid", "--logfile=daemon.log", "orthanc", "-c")
_SECONDS = 60


def run_to_end(command: tuple[str, ...], configuration: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself, in the folder of its configuration."""
    return subprocess.run(
        [*command, str(configuration)],
        cwd=configuration.parent,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )


class Daemon:
    """A twistd that has gone into the background; `pid` is of the process that stays."""

    def __init__(self, folder: Path) -> None:
        self.pid = int((folder / "twistd.pid").read_text(encoding="ascii"))
        self._folder = folder

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: not (self._folder / "twistd.pid").exists(), lambda: "the end of the daemon")


class SharedServerTests(SynchronousTestCase):
    """What one running server shows."""

    def setUp(self) -> None:
        self.server = shared_server(SharedServerTests)
        self.addCleanup(self.check_unharmed)

    def check_unharmed(self) -> None:
        self.assertTrue(is_answering(self.server.port))

    def second(self) -> Path:
        """A configuration of another server on the same storage folder."""
        other = ServerProcess(Path(self.mktemp()), options={"StorageDirectory": str(self.server.storage)})
        other.configure()
        return other.configuration

    def check_refused(self, command: tuple[str, ...], configuration: Path, fragment: str) -> None:
        """Fail unless a command ends with 1 and tells why, without a traceback."""
        done = run_to_end(command, configuration)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn(fragment, done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_second_process(self) -> None:
        """A second process on the same storage folder is refused, and the first goes on."""
        for command in (TWISTD, ORTHANCTW, (*ORTHANCTW, "--logdir=.")):
            self.check_refused(command, self.second(), "another process is using")

    def test_second_daemon(self) -> None:
        """The same holds for one that would go into the background: it tells before it does."""
        configuration = self.second()
        self.check_refused(DAEMON, configuration, "another process is using")
        self.assertFalse((configuration.parent / "twistd.pid").exists())

    def test_port_in_use(self) -> None:
        """A port that somebody listens on ends the start with a message."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for command in (TWISTD, ORTHANCTW, (*ORTHANCTW, "--logdir=.")):
                other = ServerProcess(Path(self.mktemp()), options={"HttpPort": listener.getsockname()[1]})
                other.configure()
                self.check_refused(command, other.configuration, "HttpPort: cannot listen on")

    def test_log_that_cannot_be_written(self) -> None:
        """A log file that cannot be opened ends the start with a message."""
        other = ServerProcess(Path(self.mktemp()))
        other.configure()
        twistd = (*TWISTD[:3], "--logfile=none/x.log", *TWISTD[3:])
        for command in (twistd, (*ORTHANCTW, "--logfile=none/x.log"), (*ORTHANCTW, "--logdir=none")):
            self.check_refused(command, other.configuration, "none")

    def test_no_patient_in_the_log(self) -> None:
        """At the default level, neither an upload nor a search nor an error writes about the patient."""
        name, patient = "Secretname^Of", "Secretid"
        self.server.upload(ct_image(1, name=name, patient=patient))
        query = {"Level": "Study", "Query": {"PatientName": name, "PatientID": patient}, "Expand": True}
        self.assertEqual(len(self.server.request("POST", "/tools/find", json.dumps(query)).json()), 1)
        self.assertEqual(len(self.server.request("POST", "/tools/lookup", patient).json()), 1)
        broken = {"Level": "Study", "Query": {name: patient}}
        self.assertEqual(self.server.request("POST", "/tools/find", json.dumps(broken)).status, 400)
        truncated = ct_image(2, name=name, patient=patient)[:700]
        self.assertEqual(self.server.request("POST", "/instances", truncated).status, 400)
        self.assertEqual(self.server.request("POST", f"/tools/{patient}", name).status, 404)
        self.assertIn("starting", self.server.printed())
        self.assertNotIn("Secret", self.server.printed())


class FolderOfOrthancTests(SynchronousTestCase):
    """A folder that an Orthanc has used."""

    def test_refused(self) -> None:
        """Its index is not ours: the start is refused with a hint, and nothing is written."""
        theirs = ServerProcess(Path(self.mktemp()), command=ORTHANC)
        self.addCleanup(theirs.kill)
        theirs.start()
        theirs.upload(ct_image(1))
        self.assertEqual(theirs.stop(), 0)
        before = files_below(theirs.storage)
        for command in (TWISTD, ORTHANCTW, DAEMON):
            done = run_to_end(command, theirs.configuration)
            self.assertEqual(done.returncode, 1, done)
            self.assertIn("--import", done.stderr)
            self.assertNotIn("Traceback", done.stderr)
            self.assertEqual(files_below(theirs.storage), before)
            self.assertFalse((theirs.storage / "orthanctw-spool").exists())


class EndTests(SynchronousTestCase):
    """How a process ends."""

    def server(self, command: tuple[str, ...] = ORTHANCTW, **options: Any) -> ServerProcess:
        server = ServerProcess(Path(self.mktemp()), command, options)
        self.addCleanup(server.kill)
        server.start()
        return server

    def test_idle(self) -> None:
        """SIGTERM ends an idle process at once, well; connections that are kept open do not hold it up."""
        server = self.server(KeepAliveTimeout=3600, Orthanctw={"ShutdownTimeout": 3600})
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self.addCleanup(idle.close)
        idle.request("GET", "/system")
        idle.getresponse().read()
        self.assertEqual(server.stop(), 0)
        self.assertIn("The server has stopped", server.printed())

    def test_interrupt(self) -> None:
        """SIGINT does the same."""
        server = self.server()
        server.signal(signal.SIGINT)
        self.assertEqual(server.wait(), 0)

    def test_while_uploads_run(self) -> None:
        """Uploads that run at SIGTERM are acknowledged and stored, or fail as a server that stops does."""
        server = self.server(Orthanctw={"ShutdownTimeout": 25})
        acknowledged: dict[str, bytes] = {}
        statuses: list[int] = []
        enough = threading.Event()

        def send(first: int) -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                for number in range(first, 100_000, 4):
                    data = ct_image(number, side=128)
                    answer = server.request("POST", "/instances", data)
                    statuses.append(answer.status)
                    if answer.status != 200:
                        return
                    acknowledged[answer.json()["ID"]] = data
                    if len(acknowledged) >= 40:
                        enough.set()

        senders = [threading.Thread(target=send, args=(first,)) for first in range(4)]
        for sender in senders:
            sender.start()
        self.assertTrue(enough.wait(_SECONDS), server.printed())
        self.assertEqual(server.stop(), 0)
        for sender in senders:
            sender.join()
        self.assertLessEqual(set(statuses), {200, 503})
        self.assertNotIn("Traceback", server.printed())
        server.start()
        check_agreement(self, server)
        self.assertEqual(set(server.get("/instances")), set(acknowledged))
        for instance, data in acknowledged.items():
            self.assertEqual(server.request("GET", f"/instances/{instance}/file").body, data)

    def test_while_a_body_comes(self) -> None:
        """A body that never ends is cut after ``ShutdownTimeout``, and leaves nothing."""
        server = self.server(Orthanctw={"ShutdownTimeout": 1, "SpoolThresholdKB": 0})
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as stalled:
            head = b"POST /instances HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n"
            stalled.sendall(head + bytes(2_000_000))
            spool = server.storage / "orthanctw-spool"
            wait_until(lambda: files_below(spool), lambda: "the file of the body")
            self.assertEqual(server.stop(), 0)
            # A reset is an end as well.
            with contextlib.suppress(ConnectionError):
                self.assertEqual(stalled.recv(100), b"")
        self.assertNotIn("Traceback", server.printed())
        server.start()
        check_agreement(self, server)

    def test_shutdown(self) -> None:
        """``/tools/shutdown`` is answered, then the process ends well."""
        for command in (ORTHANCTW, TWISTD):
            server = self.server(command)
            answer = server.request("POST", "/tools/shutdown", b"")
            self.assertEqual((answer.status, answer.body), (200, b""))
            self.assertEqual(server.wait(), 0)


class ReloadTests(SynchronousTestCase):
    """SIGHUP and ``/tools/reset``."""

    def setUp(self) -> None:
        users = {"AuthenticationEnabled": True, "RegisteredUsers": {"first": "x"}}
        self.server = ServerProcess(Path(self.mktemp()), (*ORTHANCTW, "--logdir=."), users)
        self.log = self.server.folder / "orthanctw.log"
        self.addCleanup(self.server.kill)
        self.server.start()

    def status(self, user: str) -> int:
        token = base64.b64encode(f"{user}:x".encode()).decode()
        return self.server.request("GET", "/system", headers={"Authorization": f"Basic {token}"}).status

    def wait_for_log(self, fragment: str) -> None:
        wait_until(
            lambda: self.log.exists() and fragment in self.log.read_text(encoding="utf-8"),
            lambda: f"{fragment} in {self.log.read_text(encoding='utf-8')}",
        )

    def test_users(self) -> None:
        """SIGHUP takes over the users, and opens the log file anew after it was moved away."""
        self.assertEqual((self.status("first"), self.status("second")), (200, 401))
        self.server.configure(RegisteredUsers={"second": "x"})
        moved = self.log.rename(self.log.with_suffix(".1"))
        self.server.signal(signal.SIGHUP)
        self.wait_for_log("has been read again")
        self.assertEqual((self.status("first"), self.status("second")), (401, 200))
        self.assertNotIn("has been read again", moved.read_text(encoding="utf-8"))

    def test_broken(self) -> None:
        """A configuration that is broken at SIGHUP is told of in the log, and the old one stays."""
        self.server.configuration.write_text('{"HttpPort": "x"}', encoding="utf-8")
        self.server.signal(signal.SIGHUP)
        self.wait_for_log("HttpPort: an integer is needed")
        self.assertEqual((self.status("first"), self.status("second")), (200, 401))
        self.assertEqual(self.server.stop(), 0)

    def test_needs_restart(self) -> None:
        """An option that cannot change while the server runs is told of at SIGHUP."""
        self.server.configure(StorageCompression=True)
        self.server.signal(signal.SIGHUP)
        self.wait_for_log("need a restart")

    def test_reset(self) -> None:
        """A reset starts the server anew within the process, with the configuration as it is now and the same data."""
        server = ServerProcess(Path(self.mktemp()), options={"Name": "before"})
        self.addCleanup(server.kill)
        server.start()
        instance = server.upload(ct_image(1))
        server.configure(Name="after")
        self.assertEqual(server.request("POST", "/tools/reset", b"").status, 200)
        wait_until(lambda: _name(server) == "after", server.printed)
        self.assertEqual(server.request("GET", f"/instances/{instance}/file").body, ct_image(1))
        server.upload(ct_image(2))
        check_agreement(self, server)
        self.assertNotIn("Traceback", server.printed())
        server.configuration.write_text("{", encoding="utf-8")
        self.assertEqual(server.request("POST", "/tools/reset", b"").status, 500)
        self.assertEqual(_name(server), "after")


def _name(server: ServerProcess) -> object:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.get("/system")["Name"]
    return None


class PlaceTests(SynchronousTestCase):
    """From where a server is started, and where its log goes."""

    def test_relative_path(self) -> None:
        """A relative path of the configuration counts from the current folder, what it names from its own."""
        server = ServerProcess(Path(self.mktemp()), options={"StorageDirectory": "store"})
        server.configure()
        for command in (TWISTD, ORTHANCTW):
            process = subprocess.Popen(
                [*command, os.path.relpath(server.configuration, "/usr/lib")],
                cwd="/usr/lib",
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                wait_until(lambda: is_answering(server.port), lambda: "a server in a foreign folder")
                self.assertTrue((server.folder / "store" / "orthanctw.db").exists())
            finally:
                process.terminate()
                process.wait(PATIENCE)
        self.assertFalse(Path("/usr/lib/twistd.pid").exists())

    def daemon(self, server: ServerProcess) -> Daemon:
        done = run_to_end(server.command, server.configuration)
        self.assertEqual(done.returncode, 0, done)
        daemon = Daemon(server.folder)
        self.addCleanup(daemon.end)
        wait_until(lambda: is_answering(server.port), lambda: "a daemon")
        return daemon

    def test_daemon(self) -> None:
        """A server in the background serves, writes its log, refuses a second one, and ends on SIGTERM."""
        server = ServerProcess(Path(self.mktemp()), command=DAEMON)
        server.configure()
        daemon = self.daemon(server)
        server.upload(ct_image(1))
        log = server.folder / "daemon.log"
        self.assertIn("HTTP server: port", log.read_text(encoding="utf-8"))
        second = ServerProcess(Path(self.mktemp()), options={"StorageDirectory": str(server.storage)})
        second.configure()
        done = run_to_end((*DAEMON[:1], "--pidfile=other.pid", *DAEMON[2:]), second.configuration)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("another process is using", done.stderr)
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: "has been read again" in log.read_text(encoding="utf-8"), lambda: "the reload")
        check_agreement(self, server)
        daemon.end()
        self.assertIn("The server has stopped", log.read_text(encoding="utf-8"))
        self.assertFalse(is_answering(server.port))

    def test_unit_of_a_distribution(self) -> None:
        """A folder of files as configuration and a folder of logs: as a distribution's unit starts it."""
        server = ServerProcess(Path(self.mktemp()))
        logs = server.folder / "logs"
        logs.mkdir()
        configuration = server.folder / "etc"
        configuration.mkdir()
        options = dict(server.options)
        (configuration / "b.json").write_text(json.dumps({"Name": options.pop("Name", "unit")}), encoding="utf-8")
        (configuration / "a.json").write_text(json.dumps(options), encoding="utf-8")
        server.configuration = configuration
        server.command = (*ORTHANCTW, f"--logdir={logs}")
        self.addCleanup(server.kill)
        server.start()
        self.assertEqual(server.get("/system")["Name"], "unit")
        self.assertEqual(server.stop(), 0)
        self.assertEqual([path.name for path in logs.iterdir()], ["orthanctw.log"])
        self.assertIn("The server has stopped", (logs / "orthanctw.log").read_text(encoding="utf-8"))
        self.assertEqual(server.printed(), "")
