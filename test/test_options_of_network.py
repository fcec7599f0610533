"""Options of HTTP and of other networks, each set to another value before a real client watches what it does."""

from __future__ import annotations

import io
import socket
import zipfile

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.tcp import Server as Connection

from test.certificates import certificates, s_client
from test.dicom_case import DicomCase
from test.dicom_peers import in_thread, rejection
from test.http_servers import HttpServer, TlsContext, listen
from test.log_lines import log_lines
from test.rest_samples import RestCase, Wire, dicom_object, wire

_GET = b"GET /system HTTP/1.1\r\nHost: x\r\n\r\n"
#: An address of this machine that is no loopback address; nothing is sent by asking for the way to there.
_ELSEWHERE = ("198.51.100.1", 9)


def own_address() -> str:
    """An IPv4 address by which other machines may know this one; a loopback address if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


class ServerTests(DicomCase):
    """The HTTP server as a whole."""

    async def answer(self, address: str) -> bytes:
        """What the server answers at an address; nothing when nobody listens there."""
        try:
            connection: Wire = await connectProtocol(TCP4ClientEndpoint(reactor, address, self.port), Wire())
        except ConnectError:
            return b""
        connection.write(_GET)
        answer = await connection.until(b"\r\n\r\n")
        connection.abort()
        await connection.lost
        return answer

    async def test_disabled(self) -> None:
        """``HttpServerEnabled`` false: nobody listens, and DICOM works."""
        port = self.port
        await self.restart(HttpServerEnabled=False)
        self.assertEqual(self.server.http_port, 0)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port))
        self.assertIsNone(await in_thread(rejection, self.dicom_port))

    async def test_bind_addresses(self) -> None:
        """``HttpBindAddresses``: the server listens there, and nowhere else."""
        await self.restart(HttpBindAddresses=["127.0.0.2"])
        self.assertTrue((await self.answer("127.0.0.2")).startswith(b"HTTP/1.1 200 "))
        self.assertEqual(await self.answer("127.0.0.1"), b"")

    async def test_remote_access(self) -> None:
        """``RemoteAccessAllowed``: those who do not call from a loopback address are served, too."""
        address = own_address()
        local = address.startswith("127.")
        self.assertTrue((await self.answer(address)).startswith(b"HTTP/1.1 200 " if local else b"HTTP/1.1 401 "))
        await self.restart(RemoteAccessAllowed=True, AuthenticationEnabled=False)
        self.assertTrue((await self.answer(address)).startswith(b"HTTP/1.1 200 "))

    async def test_remote_access_asks_for_a_user(self) -> None:
        """``RemoteAccessAllowed`` alone switches authentication on."""
        await self.restart(RemoteAccessAllowed=True, RegisteredUsers={"u": "p"})
        self.assertTrue((await self.answer("127.0.0.1")).startswith(b"HTTP/1.1 401 "))

    async def test_identifier(self) -> None:
        """``DatabaseServerIdentifier`` is told by ``/system``."""
        await self.restart(DatabaseServerIdentifier="here")
        self.assertEqual((await self.client.json("/system"))["DatabaseServerIdentifier"], "here")


class ConnectionTests(RestCase):
    """Connections to the HTTP server."""

    async def delays(self) -> list[bool]:
        """Of each connection, whether TCP gathers small answers."""
        connection = await wire(self.port)
        connection.write(_GET)
        await connection.until(b"\r\n\r\n")
        sockets = [
            reader.getHandle()
            for reader in reactor.getReaders()  # type: ignore[attr-defined]
            if isinstance(reader, Connection) and reader.getHost().port == self.port
        ]
        found = [not handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for handle in sockets]
        connection.abort()
        await connection.lost
        return found

    async def test_no_delay(self) -> None:
        """``TcpNoDelay``: small answers leave at once, or wait for company."""
        self.assertEqual(await self.delays(), [False])
        await self.restart(TcpNoDelay=False)
        self.assertEqual(await self.delays(), [True])

    async def test_request_timeout(self) -> None:
        """``HttpRequestTimeout``: who does not finish the headers of a request is cut off."""
        await self.restart(HttpRequestTimeout=1)
        connection = await wire(self.port)
        connection.write(_GET[:-2])
        answer = await connection.lost
        self.assertNotIn(b" 200 ", answer)

    async def test_files_of_archives(self) -> None:
        """``MaximumFileSizeInArchiveMB``: a file in an uploaded archive that is larger is refused, smaller ones not."""
        large = dicom_object(sop="1.2.1.1.2", PixelData=bytes(1_100_000), Rows=1, Columns=1, BitsAllocated=8)
        for limit, status in ((1, 413), (2, 200)):
            await self.restart(MaximumFileSizeInArchiveMB=limit, Orthanctw={"InflateRatioLimit": 100000})
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("large", large)
            answer = await self.client.post("/instances", buffer.getvalue())
            self.assertEqual(answer.status, status, answer.text)


class OutgoingTests(RestCase):
    """Requests to peers."""

    async def test_timeout(self) -> None:
        """``HttpTimeout``: a peer that says nothing is given up."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            await self.restart(HttpTimeout=1, OrthancPeers={"silent": [url]})
            answer = await self.client.get("/peers/silent/system")
        self.assertGreaterEqual(answer.status, 500)

    async def test_verbose(self) -> None:
        """``HttpVerbose``: what is asked of peers is logged."""
        port = listen(self, HttpServer().factory())
        for is_on in (True, False):
            await self.restart(HttpVerbose=is_on, OrthancPeers={"peer": [f"http://127.0.0.1:{port}/"]})
            log = log_lines(self, self.levels)
            await self.client.get("/peers/peer/system")
            self.assertEqual("GET /system" in log.getvalue(), is_on, log.getvalue())

    async def test_certificates(self) -> None:
        """``HttpsVerifyPeers`` false, or ``HttpsCACertificates``: certificates that nobody else trusts will do."""
        port = listen(self, HttpServer().factory(), TlsContext(certificates().server))
        peers = {"OrthancPeers": {"peer": [f"https://localhost:{port}/"]}}
        statuses = []
        for settings in ({}, {"HttpsVerifyPeers": False}, {"HttpsCACertificates": certificates().trusted}):
            await self.restart(**peers, **settings)
            statuses.append((await self.client.get("/peers/peer/system")).status)
        self.assertGreaterEqual(statuses[0], 500)
        self.assertEqual(statuses[1:], [200, 200])


class DicomTlsTests(DicomCase):
    """TLS of the DICOM server."""

    async def test_certificate(self) -> None:
        """``DicomTlsCertificate`` and ``DicomTlsPrivateKey`` are those by which the server is known."""
        for identity in (certificates().server, certificates().renewed):
            await self.restart(
                DicomTlsEnabled=True,
                DicomTlsCertificate=identity.certificate,
                DicomTlsPrivateKey=identity.private_key,
                DicomTlsRemoteCertificateRequired=False,
            )
            shown = await in_thread(s_client, self.dicom_port, "-showcerts")
            with open(identity.certificate, encoding="ascii") as file:
                self.assertIn(file.read().strip(), shown)
