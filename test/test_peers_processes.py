"""Peers as processes of their own: the real Orthanc, ours over HTTPS, and servers that are killed."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from test.certificates import certificates
from test.job_servers import JobsCase
from test.servers import ORTHANC, ServerProcess, ct_image, wait_until


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HoldingPeer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.server.takes(body):
            return
        answer = b'{"Status":"Success"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class HoldingPeer(ThreadingHTTPServer):
    """Takes `free` objects, and answers for no more until `release`."""

    daemon_threads = True

    def __init__(self, free: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[bytes] = []
        self.held = 0
        self._free = free
        self._lock = threading.Lock()
        self._released = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def takes(self, body: bytes) -> bool:
        """Whether an object is acknowledged; asked in a thread of the connection."""
        with self._lock:
            is_free = self._released.is_set() or len(self.taken) < self._free
            if is_free:
                self.taken.append(body)
                return True
            self.held += 1
        self._released.wait()
        # Who asked has died meanwhile.
        return False

    def release(self) -> None:
        """Answer from now on."""
        self._released.set()

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections may break: that is what the test is about."""

    def close(self) -> None:
        """End."""
        self.release()
        self.shutdown()
        self.server_close()


class ProcessCase(JobsCase):
    """Several servers."""

    def second(self, name: str, command: tuple[str, ...] | None = None, **options: Any) -> ServerProcess:
        """Another server, running."""
        arguments = {} if command is None else {"command": command}
        server = ServerProcess(Path(self.mktemp()) / name, **arguments)
        server.configure(**options)
        self.addCleanup(server.kill)
        server.start()
        return server

    def fill(self, server: ServerProcess, count: int) -> list[str]:
        return [server.upload(ct_image(number)) for number in range(1, count + 1)]

    def store(self, server: ServerProcess, peer: str, **body: object) -> dict[str, Any]:
        answer = server.request("POST", f"/peers/{peer}/store", json.dumps(body))
        self.assertEqual(answer.status, 200, (answer.body, server.printed()))
        content: dict[str, Any] = answer.json()
        return content

    def assertSame(self, ids: list[str], *servers: ServerProcess) -> None:
        """All have these objects, to the byte."""
        for public_id in ids:
            files = {server.request("GET", f"/instances/{public_id}/file").body for server in servers}
            self.assertEqual(len(files), 1, public_id)


class OrthancTests(ProcessCase):
    """With the real one."""

    def test_both_ways(self) -> None:
        """Objects go there and come from there, plain and compressed; contents of jobs and configurations are alike."""
        theirs = ServerProcess(Path(self.mktemp()), ORTHANC)
        ours = self.own_server(OrthancPeers={"other": [f"http://127.0.0.1:{theirs.port}/"]})
        theirs.configure(OrthancPeers={"other": [f"http://127.0.0.1:{ours.port}/"]})
        self.addCleanup(theirs.kill)
        theirs.start()
        first = self.fill(ours, 6)
        mine = self.store(ours, "other", Resources=first, Compress=True)
        self.assertSame(first, ours, theirs)
        # They know all by now; so what follows goes the other way.
        for public_id in first:
            ours.request("DELETE", f"/instances/{public_id}")
        their = self.store(theirs, "other", Resources=first, Compress=True)
        self.assertSame(first, ours, theirs)
        mine.pop("Resources")
        for content in (mine, their):
            content["Peer"] = content["Peer"][0].rpartition(":")[0]
            # Compressed by others.
            self.assertLess(int(content.pop("Size")), 6 * 600)
        mine["ParentResources"].sort()
        self.assertEqual(mine, their)
        for path in ("/peers", "/peers/other"):
            self.assertEqual(ours.get(path), theirs.get(path))
        self.assertEqual(
            {**ours.get("/peers/other/configuration"), "Url": ""},
            {**theirs.get("/peers/other/configuration"), "Url": ""},
        )
        self.assertEqual(ours.get("/peers/other/system"), theirs.get("/system"))
        straight = theirs.request("POST", "/peers/other/store-straight", ct_image(99)).json()
        self.assertEqual(straight["Status"], "Success")
        self.assertEqual(ours.request("POST", "/peers/other/store-straight", ct_image(99)).json(), straight)

    def test_transcoded(self) -> None:
        """What is transcoded on the way has the same pixels there."""
        theirs = self.second("orthanc", ORTHANC)
        ours = self.own_server(OrthancPeers={"other": [f"http://127.0.0.1:{theirs.port}/"]})
        (public_id,) = self.fill(ours, 1)
        self.store(ours, "other", Resources=[public_id], Transcode="1.2.840.10008.1.2.4.70")
        self.assertEqual(theirs.get(f"/instances/{public_id}/header?simplify")["TransferSyntaxUID"][-3:], ".70")
        headers = {"Accept": "image/x-portable-arbitrarymap"}
        images = [
            server.request("GET", f"/instances/{public_id}/image-uint16", headers=headers) for server in (ours, theirs)
        ]
        self.assertEqual([image.status for image in images], [200, 200])
        self.assertEqual(images[0].body, images[1].body)


class HttpsTests(ProcessCase):
    """Between two of ours, with certificates on both sides."""

    def test_client_certificates(self) -> None:
        """A server that wants client certificates takes objects from who has one, and from nobody else."""
        known = certificates()
        theirs = ServerProcess(Path(self.mktemp()))
        theirs.configure(
            SslEnabled=True,
            SslCertificate=known.server.combined,
            SslVerifyPeers=True,
            SslTrustedClientCertificates=known.trusted,
        )
        self.addCleanup(theirs.kill)
        process = theirs.launch()
        wait_until(lambda: process.poll() is not None or "HTTPS server" in theirs.printed(), theirs.printed)
        url = f"https://localhost:{theirs.port}/"
        files = {"CertificateFile": known.client.certificate, "CertificateKeyFile": known.client.private_key}
        ours = self.own_server(
            HttpsCACertificates=known.trusted,
            OrthancPeers={"good": {"Url": url, **files}, "bad": [url]},
        )
        ids = self.fill(ours, 8)
        answer = ours.request("POST", "/peers/bad/store", json.dumps(ids))
        self.assertError(answer, 500, 9)
        self.assertIn("certificate", answer.json()["Details"])
        content = self.store(ours, "good", Resources=ids)
        self.assertEqual(content["FailedInstancesCount"], 0)
        self.assertEqual(ours.get("/peers/good/system")["Version"], ours.get("/system")["Version"])
        for number in range(1, 9):
            answer = ours.request("POST", "/peers/good/store-straight", ct_image(number))
            self.assertEqual(answer.json()["Status"], "AlreadyStored")


class KilledTests(ProcessCase):
    """Servers that end at once in the middle of a transfer."""

    def test_sender(self) -> None:
        """A sender that is killed goes on where it was, after its restart, and nothing is missing at the peer."""
        peer = HoldingPeer(free=10)
        self.addCleanup(peer.close)
        ours = self.own_server(OrthancPeers={"peer": [f"http://127.0.0.1:{peer.server_port}/"]})
        ids = self.fill(ours, 24)
        answer = ours.request("POST", "/peers/peer/store", json.dumps({"Resources": ids, "Asynchronous": True}))
        job = answer.json()["ID"]
        wait_until(lambda: peer.held, lambda: f"objects: {len(peer.taken)} {ours.printed()}")
        ours.kill()
        peer.release()
        # Without its peers in the configuration: the job knows where it was going.
        self.restart(OrthancPeers={})
        self.wait_for(job, "Success")
        self.assertEqual(self.job(job)["Content"]["FailedInstancesCount"], 0)
        self.assertEqual(set(peer.taken), {ct_image(number) for number in range(1, 25)})

    def test_receiver(self) -> None:
        """A receiver that is killed is tried again, and has everything once it is back."""
        theirs = self.second("other")
        ours = self.own_server(
            OrthancPeers={"peer": [f"http://127.0.0.1:{theirs.port}/"]}, Orthanctw={"PeerRetries": [1] * 60}
        )
        ids = self.fill(ours, 30)
        answer = ours.request("POST", "/peers/peer/store", json.dumps({"Resources": ids, "Asynchronous": True}))
        job = answer.json()["ID"]
        wait_until(lambda: theirs.get("/statistics")["CountInstances"] >= 3, theirs.printed)
        theirs.kill()
        # On a slow machine it may have been too late.
        self.wait_for(job, "Retry", "Success")
        theirs.start()
        self.wait_for(job, "Success")
        self.assertSame(ids, ours, theirs)
