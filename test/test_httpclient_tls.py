"""The HTTP client over TLS: whom it believes, how it shows who we are, and through a proxy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from orthanctw.httpclient import ClientCertificate, Proxy
from test.certificates import Certificates, Identity, certificates
from test.http_client_case import ClientCase
from test.http_servers import STORED, TlsContext, listen, proxy, talkers


def encrypted(identity: Identity, password: str, path: Path) -> str:
    """A copy of the private key of somebody, with a password."""
    key = load_pem_private_key(Path(identity.private_key).read_bytes(), None)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode()))
    )
    return str(path)


class TlsCase(ClientCase):
    """A client that believes the authority of the tests."""

    def setUp(self) -> None:
        self.certificates: Certificates = certificates()
        super().setUp()

    def make(self, **options: Any) -> Any:
        return super().make(**{"authorities": self.certificates.trusted, **options})

    def serve(self, identity: Identity | None = None, authority: str = "", host: str = "localhost") -> str:
        tls = TlsContext(identity or self.certificates.server, authority)
        return f"https://{host}:{listen(self, self.server.factory(), tls)}/"


class ServerCertificateTests(TlsCase):
    """Certificates of servers."""

    async def test_good(self) -> None:
        """A server of the authority is believed, and its connection kept; bodies arrive whole."""
        url = self.serve()
        content = os.urandom(3_000_000)
        for _ in range(2):
            self.assertEqual((await self.ask(url, "POST", body=content)).body, STORED)
        self.assertTrue(all(asked.body == content for asked in self.server.asked))
        self.assertEqual(self.server.connections, 1)

    async def test_bad(self) -> None:
        """An expired one, one of an unknown authority or signed by itself, that of another host are told apart."""
        known = self.certificates
        for identity, host, authorities, details in (
            (known.expired, "localhost", known.trusted, "has expired"),
            (known.foreign, "localhost", known.trusted, "unknown authority"),
            (known.server, "localhost", known.foreign.certificate, "unknown authority"),
            (known.server, "127.0.0.1", known.trusted, "another host"),
            (self.by_itself(), "localhost", known.trusted, "signed by itself"),
        ):
            client = self.make(authorities=authorities)
            failure = await self.fails(self.serve(identity, host=host), "POST", client=client, body=b"secret")
            self.assertIn(details, failure.details)
            self.assertFalse(failure.is_transient)
        self.assertEqual(self.server.asked, [])

    def by_itself(self) -> Identity:
        """The authority as a server."""
        authority = self.certificates.other_authority
        key = Path(self.mktemp())
        key.write_bytes(authority._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Identity(authority.certificate, str(key), "")

    async def test_one_that_is_trusted_itself(self) -> None:
        """The file of authorities may name the very certificate of the server."""
        client = self.make(authorities=self.certificates.foreign.certificate)
        self.assertEqual((await self.ask(self.serve(self.certificates.foreign), client=client)).status, 200)

    async def test_not_verifying(self) -> None:
        """Without ``HttpsVerifyPeers`` everybody is believed; what is broken is still broken."""
        client = self.make(verifies=False, authorities="/nowhere")
        for identity in (self.certificates.expired, self.certificates.foreign):
            self.assertEqual((await self.ask(self.serve(identity, host="127.0.0.1"), client=client)).status, 200)
        port, _ = talkers(self, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        self.assertIn("TLS", (await self.fails(f"https://127.0.0.1:{port}/", client=client)).details)

    async def test_unknown_to_the_system(self) -> None:
        """Without ``HttpsCACertificates`` the authorities of the system count."""
        failure = await self.fails(self.serve(), client=self.make(authorities=""))
        self.assertIn("unknown authority", failure.details)

    async def test_no_file(self) -> None:
        """A file of authorities that cannot be used is named."""
        failure = await self.fails(self.serve(), client=self.make(authorities=self.mktemp()))
        self.assertIn("HttpsCACertificates", failure.details)

    async def test_proxy(self) -> None:
        """HTTPS goes through a proxy by CONNECT; the server is verified all the same."""
        port, seen = proxy(self)
        client = self.make(proxy=Proxy.parse(f"user:pass@127.0.0.1:{port}"))
        url = self.serve()
        content = os.urandom(1_000_000)
        for _ in range(2):
            self.assertEqual((await self.ask(url, "POST", client=client, body=content)).status, 200)
        self.assertEqual(self.server.asked[1].body, content)
        self.assertEqual(len(seen), 1)
        self.assertIn("Proxy-Authorization: Basic dXNlcjpwYXNz", seen[0])
        self.assertNotIn("proxy-authorization", self.server.asked[0].headers)
        failure = await self.fails(self.serve(self.certificates.foreign), client=client)
        self.assertIn("unknown authority", failure.details)


class ClientCertificateTests(TlsCase):
    """Certificates of ours."""

    def setUp(self) -> None:
        super().setUp()
        self.url = self.serve(authority=self.certificates.trusted)

    def certificate(self, identity: Identity, **fields: str) -> ClientCertificate:
        return ClientCertificate(**{"certificate": identity.certificate, "key": identity.private_key, **fields})

    async def test_needed(self) -> None:
        """A server that wants one is told who we are, by separate files or one; without one it refuses."""
        self.assertIn("TLS", (await self.fails(self.url)).details)
        foreign = self.certificate(self.certificates.foreign)
        self.assertIn("TLS", (await self.fails(self.url, certificate=foreign)).details)
        for certificate in (
            self.certificate(self.certificates.client),
            ClientCertificate(certificate=self.certificates.client.combined),
        ):
            self.assertEqual((await self.ask(self.url, certificate=certificate)).status, 200)
        # Nobody goes over the connection of another.
        self.assertIn("TLS", (await self.fails(self.url)).details)

    async def test_password(self) -> None:
        """A key may have a password; a wrong one or none is told, and nobody is asked for it."""
        key = encrypted(self.certificates.client, "pässword", Path(self.mktemp()))
        good = self.certificate(self.certificates.client, key=key, password="pässword")
        self.assertEqual((await self.ask(self.url, certificate=good)).status, 200)
        for password in ("", "wrong"):
            bad = self.certificate(self.certificates.client, key=key, password=password)
            self.assertIn("CertificateKeyPassword is wrong", (await self.fails(self.url, certificate=bad)).details)
        needless = self.certificate(self.certificates.client, password="x")
        self.assertEqual((await self.ask(self.url, certificate=needless)).status, 200)

    async def test_unusable(self) -> None:
        """Files that are not there, are none, or do not fit, are named by their options only."""
        client, garbage = self.certificates.client, Path(self.mktemp())
        garbage.write_text("garbage")
        for fields, details in (
            ({"certificate": "/nowhere"}, "CertificateFile cannot be used"),
            ({"certificate": str(garbage)}, "CertificateFile cannot be used"),
            ({"key": "/nowhere"}, "CertificateKeyFile cannot be read"),
            ({"key": str(garbage)}, "CertificateKeyFile cannot be used"),
            ({"key": self.certificates.server.private_key}, "is not the key of"),
        ):
            failure = await self.fails(self.url, certificate=self.certificate(client, **fields))
            self.assertIn(details, failure.details)
            self.assertNotIn("/", failure.details)

    async def test_renewed(self) -> None:
        """A certificate that has changed on the disk is read anew."""
        path = Path(self.mktemp())
        shutil.copy(self.certificates.foreign.combined, path)
        certificate = ClientCertificate(certificate=str(path))
        await self.fails(self.url, certificate=certificate)
        shutil.copy(self.certificates.client.combined, path)
        self.assertEqual((await self.ask(self.url, certificate=certificate)).status, 200)
