"""HTTPS with real clients and with those that are none."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import attrs
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.errors import ConfigurationError
from orthanctw.log import LogLevels
from orthanctw.settings import Settings
from test.certificates import Identity, certificates, s_client
from test.dicom_peers import Ran, in_thread
from test.log_lines import log_lines
from test.rest_samples import LargeObject, RestCase, peak_memory, wire
from test.servers import ORTHANCTW, PATIENCE, ServerProcess, wait_until

CURL = "/usr/bin/curl"
#: Frames of 2 MB of the object that shows how much memory it takes.
_FRAMES = 150
_GET = b"GET /system HTTP/1.1\r\nHost: localhost\r\n\r\n"


class HttpsCase(RestCase):
    """A server with HTTPS in the process of the tests."""

    async def setUp(self) -> None:
        self.SETTINGS = {  # type: ignore[misc]
            "SslEnabled": True,
            "SslCertificate": certificates().server.combined,
            "SslTrustedClientCertificates": certificates().trusted,
        }
        self.log = log_lines(self, LogLevels())
        await super().setUp()

    def url(self, path: str = "/system") -> str:
        return f"https://localhost:{self.port}{path}"

    async def curl(self, *arguments: str, identity: Identity | None = None) -> Ran:
        """What curl, which trusts the authority, prints."""
        own = ("--cert", identity.certificate, "--key", identity.private_key) if identity else ()
        command = ("-sS", "--noproxy", "*", "--max-time", str(PATIENCE), "--cacert", certificates().trusted, *own)
        out, err, status = await getProcessOutputAndValue(CURL, (*command, *arguments), env={})
        return Ran((out + err).decode("utf-8", "replace"), status)

    async def status(self, *arguments: str, identity: Identity | None = None) -> str:
        """The status of an answer; 000 without any."""
        ran = await self.curl("-o", "/dev/null", "-w", "%{http_code}", *arguments, self.url(), identity=identity)
        return ran.output[:3]

    def tunnel(self) -> ssl.SSLSocket:
        """A connection of a client that blocks, to be made in a thread."""
        context = ssl.create_default_context(cafile=certificates().trusted)
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        return context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)

    async def reload(self, **settings: object) -> list[str]:
        """What SIGHUP does."""
        document = {"StorageDirectory": str(self.folder), "HttpPort": 0, "DicomPort": 0, **self.SETTINGS, **settings}
        return self.server.reload(Settings.parse(document, str(self.folder)))

    async def certificate_name(self) -> str:
        """The common name of what a new connection is shown."""

        def look() -> str:
            with self.tunnel() as tunnel:
                subject = tunnel.getpeercert()["subject"]  # type: ignore[index]
            return str(subject[0][0][1])

        return await in_thread(look)


def _until_end(tunnel: ssl.SSLSocket) -> bytes:
    """All that comes until the server says goodbye."""
    received = b""
    while piece := tunnel.recv(65536):
        received += piece
    return received


class ClientTests(HttpsCase):
    """curl."""

    async def test_transfers(self) -> None:
        """An object goes in after 100 Continue and comes out as a whole and in part, over one connection."""
        large = self.folder / "large.dcm"
        large.write_bytes(b"".join(LargeObject(2).chunks()))
        ran = await self.curl("-v", "--data-binary", f"@{large}", "-H", "Expect: 100-continue", self.url("/instances"))
        self.assertIn("HTTP/1.1 100 Continue", ran.output)
        self.assertIn('"Status": "Success"', ran.output)
        (instance,) = (await self.curl(self.url("/instances"))).output.split('"')[1::2]
        target, part = self.folder / "whole", self.folder / "part"
        file = self.url(f"/instances/{instance}/file")
        ran = await self.curl("-v", "-o", str(target), file, "-o", "/dev/null", self.url())
        self.assertIn("Re-using existing connection", ran.output)
        await self.curl("-r", "1000000-2999999", "-o", str(part), file)
        self.assertEqual(target.read_bytes(), large.read_bytes())
        self.assertEqual(part.read_bytes(), large.read_bytes()[1000000:3000000])

    async def test_versions(self) -> None:
        """Nothing older than TLS 1.2, and than TLS 1.3 where that is the minimum."""
        self.assertEqual(await self.status("--tlsv1.2", "--tls-max", "1.2"), "200")
        self.assertEqual(await self.status("--tlsv1.3"), "200")
        old = ("--tlsv1.1", "--tls-max", "1.1", "--ciphers", "DEFAULT:@SECLEVEL=0")
        self.assertEqual(await self.status(*old), "000")
        await self.restart(SslMinimumProtocolVersion=0)
        self.assertEqual(await self.status(*old), "000")
        await self.restart(SslMinimumProtocolVersion=5)
        self.assertEqual(await self.status("--tlsv1.2", "--tls-max", "1.2"), "000")
        self.assertEqual(await self.status("--tlsv1.3"), "200")
        self.assertIn("no version of TLS in common", self.log.getvalue())

    async def test_ciphers(self) -> None:
        """Cipher suites that were not accepted are not used."""
        await self.restart(SslCiphersAccepted=["ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"])
        for version, names in (
            ("-tls1_2", ["-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"]),
            ("-tls1_3", []),
        ):
            chosen = "ECDHE-ECDSA-AES128-GCM-SHA256" if names else "TLS_AES_128_GCM_SHA256"
            self.assertIn(chosen, await in_thread(s_client, self.port, "-brief", version, *names))
        old = ("--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384")
        self.assertEqual(await self.status(*old), "000")
        self.assertIn("no cipher suite in common", self.log.getvalue())

    async def test_clients_with_certificates(self) -> None:
        """Only clients with a good certificate are served; the log tells what is wrong with others."""
        self.assertEqual(await self.status(identity=certificates().foreign), "200")
        await self.restart(SslVerifyPeers=True)
        self.assertEqual(await self.status(identity=certificates().client), "200")
        for identity, reason in (
            (None, "the peer has sent no certificate"),
            (certificates().foreign, "the certificate of the peer is of an unknown authority"),
            (certificates().expired, "the certificate of the peer has expired"),
        ):
            self.assertEqual(await self.status(identity=identity), "000")
            self.assertIn(f"TLS with 127.0.0.1 failed: {reason}", self.log.getvalue())

    async def test_certificates_of_one_client(self) -> None:
        """What is trusted may be the certificate of a client and nothing else."""
        await self.restart(SslVerifyPeers=True, SslTrustedClientCertificates=certificates().foreign.certificate)
        self.assertEqual(await self.status(identity=certificates().foreign), "200")
        self.assertEqual(await self.status(identity=certificates().client), "000")


class StrangerTests(HttpsCase):
    """Those who do not speak HTTPS as they should."""

    async def test_something_else(self) -> None:
        """Plain HTTP is answered by 400, whatever else with the same, and the connection is closed."""
        for data in (_GET, b"\0" * 40, b"\x80\x2e\x01", b"x"):
            answer = await self.exchange(data)
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
        for data in (b"\x16\x03\x01\x02\0" + bytes(512), b"\x16" * 600):
            self.assertNotIn(b"HTTP", await self.exchange(data))
        self.assertEqual(await self.status(), "200")
        await self.until(lambda: not self.server.site.connections)

    async def test_unfinished_handshakes(self) -> None:
        """Who begins a handshake and never ends it keeps nobody else waiting, and is cut after the time limit."""
        await self.restart(HttpRequestTimeout=2)
        silent, half = await wire(self.port), await wire(self.port)
        half.write(b"\x16\x03\x01\x02\0\x01\0")
        await self.until(lambda: len(self.server.site.connections) == 2)
        self.assertEqual(await self.status(), "200")
        self.assertEqual((await silent.lost, await half.lost), (b"", b""))
        await self.until(lambda: not self.server.site.connections)

    async def test_no_goodbye(self) -> None:
        """A client that keeps its side open when ours has said goodbye keeps no connection of the server."""

        def ask() -> ssl.SSLSocket:
            tunnel = self.tunnel()
            tunnel.sendall(_GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            return tunnel

        tunnel = await in_thread(ask)
        with contextlib.closing(tunnel):
            await self.until(lambda: not self.server.site.connections)
            self.assertIn(b"200 OK", await in_thread(_until_end, tunnel))

    async def test_limit_of_connections(self) -> None:
        """Connections within their handshake are counted like others."""
        self.server.site.options = attrs.evolve(self.server.site.options, maximum_connections=1)
        first = await wire(self.port)
        await self.until(lambda: self.server.site.connections)
        self.assertEqual(await self.status(), "000")
        first.abort()
        await self.until(lambda: not self.server.site.connections)
        self.assertEqual(await self.status(), "200")


class ReloadTests(HttpsCase):
    """Certificates exchanged."""

    async def test_exchange(self) -> None:
        """Connections go on, new ones see the new certificate; a file that is no good changes nothing."""
        self.assertEqual(await self.certificate_name(), "server")
        tunnel = await in_thread(self.tunnel)
        with contextlib.closing(tunnel):
            self.assertEqual(await self.reload(SslCertificate=certificates().renewed.combined), [])
            self.assertEqual(await self.certificate_name(), "renewed")
            tunnel.sendall(_GET)
            self.assertIn(b"200 OK", await in_thread(_until_end, tunnel))
        with self.assertRaises(ConfigurationError):
            await self.reload(SslCertificate="absent.pem")
        self.assertEqual(await self.certificate_name(), "renewed")
        self.assertEqual(await self.reload(SslEnabled=False), ["Security"])
        self.assertEqual(await self.status(), "200")


class ProcessTests(SynchronousTestCase):
    """A process of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.pem = self.folder / "certificate.pem"
        self.certify(certificates().server)
        options = {"SslEnabled": True, "SslCertificate": str(self.pem)}
        self.server = ServerProcess(self.folder / "server", ORTHANCTW, options)
        self.addCleanup(self.server.kill)
        self.server.launch()
        wait_until(lambda: "HTTPS server: port" in self.server.printed(), self.server.printed)

    def certify(self, identity: Identity) -> None:
        self.pem.write_bytes(Path(identity.combined).read_bytes())

    def curl(self, *arguments: str, path: str) -> bytes:
        command = [CURL, "-sS", "--fail", "--noproxy", "*", "--cacert", certificates().trusted, *arguments]
        url = f"https://localhost:{self.server.port}{path}"
        return subprocess.run([*command, url], check=True, capture_output=True).stdout

    def shown(self) -> str:
        """The subject of the certificate."""
        return next(line for line in s_client(self.server.port).splitlines() if line.startswith("subject="))

    def test_sighup(self) -> None:
        """SIGHUP takes the file as it is now, unless it is broken."""
        self.assertIn("server", self.shown())
        self.certify(certificates().renewed)
        self.server.signal(signal.SIGHUP)
        wait_until(lambda: "has been read again" in self.server.printed(), self.server.printed)
        self.assertIn("renewed", self.shown())
        self.pem.write_bytes(b"")
        self.server.signal(signal.SIGHUP)
        text = "not taken over: SslCertificate: the file holds no certificate"
        wait_until(lambda: text in self.server.printed(), self.server.printed)
        self.assertIn("renewed", self.shown())
        self.assertEqual(self.server.stop(), 0)

    def test_large_object(self) -> None:
        """300 MB in and out need no memory to speak of."""
        large = LargeObject(_FRAMES)
        source, target = self.folder / "large.dcm", self.folder / "back.dcm"
        with source.open("wb") as file:
            for chunk in large.chunks():
                file.write(chunk)
        answer = self.curl("-T", str(source), "-X", "POST", path="/instances")
        instance = answer.decode().split('"ID": "')[1][:44]
        self.curl("-o", str(target), path=f"/instances/{instance}/file")
        same = subprocess.run(["/usr/bin/cmp", str(source), str(target)], check=False).returncode
        self.assertEqual(same, 0)
        self.assertLess(peak_memory(self.server.pid), 200)
        source.unlink()
        target.unlink()
