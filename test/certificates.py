"""Certificates for tests of TLS: an authority, whom it has certified, and whom it has not."""

from __future__ import annotations

import datetime
import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY: Final = datetime.timedelta(days=1)


@attrs.frozen
class Identity:
    """Paths of PEM files: a certificate, its private key, and both with the certificate of who has signed it."""

    certificate: str
    private_key: str
    combined: str


class Authority:
    """Signs certificates for ``localhost`` and 127.0.0.1; `certificate` is the path of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        built = self._builder(self._name, self._key.public_key(), 2)
        signed = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
            self._key, hashes.SHA256()
        )
        self._pem = signed.public_bytes(serialization.Encoding.PEM)
        self.certificate = self._write(f"{name}.pem", self._pem)

    def _write(self, name: str, data: bytes) -> str:
        path = self._folder / name
        path.write_bytes(data)
        return str(path)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - 10 * _DAY,
            not_valid_after=now + days * _DAY,
        )

    def issue(self, name: str, days: int = 2) -> Identity:
        """A new identity, valid for some more days; fewer than none when it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.DNSName(name)])
        built = self._builder(subject, key.public_key(), days).add_extension(names, critical=False)
        certificate = built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Identity(
            self._write(f"{name}.crt", certificate),
            self._write(f"{name}.key", private),
            self._write(f"{name}-all.pem", certificate + private + self._pem),
        )


class Certificates:
    """`renewed` is another server's, `foreign` is signed by another authority, `folder` is for more of them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="orthanctw-test-")
        self.folder = Path(self._folder.name)
        self.authority = Authority(self.folder, "authority")
        self.other_authority = Authority(self.folder, "other-authority")
        self.server = self.authority.issue("server")
        self.renewed = self.authority.issue("renewed")
        self.client = self.authority.issue("client")
        self.expired = self.authority.issue("expired", -1)
        self.foreign = self.other_authority.issue("foreign")

    @property
    def trusted(self) -> str:
        """Path of the certificate of the authority."""
        return self.authority.certificate

    def dicom_tls(self, identity: Identity | None = None) -> dict[str, object]:
        """Options of a server, or of one that connects only, by its certificate."""
        own = identity or self.server
        return {
            "DicomTlsCertificate": own.certificate,
            "DicomTlsPrivateKey": own.private_key,
            "DicomTlsTrustedCertificates": self.trusted,
        }


@functools.cache
def certificates() -> Certificates:
    """Those that all tests of a process share."""
    return Certificates()


def s_client(port: int, *arguments: str) -> str:
    """What ``openssl s_client`` prints of a handshake with a port of this machine (blocking)."""
    command = ["/usr/bin/openssl", "s_client", *arguments, "-connect", f"127.0.0.1:{port}"]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return (ran.stdout + ran.stderr).decode("utf-8", "replace")
