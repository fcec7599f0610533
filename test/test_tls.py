"""Configurations of TLS: what is refused, told of, and exchanged while the server runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from orthanctw.errors import ConfigurationError
from orthanctw.log import LogLevels
from orthanctw.settings import Settings
from orthanctw.tls import Encryption
from test.certificates import certificates
from test.log_lines import log_lines
from test.servers import ORTHANCTW, TWISTD, ServerProcess
from test.test_lifecycle import DAEMON, run_to_end


def https(**options: object) -> Encryption:
    """What is made of a configuration with HTTPS."""
    given = {"SslEnabled": True, "SslCertificate": certificates().server.combined, **options}
    return Encryption.of(Settings.parse(given, "/nowhere").security)


def dicom(**options: object) -> Encryption:
    """What is made of a configuration with TLS for DICOM."""
    given = {"DicomTlsEnabled": True, **certificates().dicom_tls(), **options}
    return Encryption.of(Settings.parse(given, "/nowhere").security)


class ConfigurationTests(SynchronousTestCase):
    """Whatever is wrong is told with the name of the option, before the server starts."""

    def setUp(self) -> None:
        self.work = Path(self.mktemp()).absolute()
        self.work.mkdir()

    def file(self, content: bytes) -> str:
        path = self.work / "file.pem"
        path.write_bytes(content)
        return str(path)

    def problem(self, make: Callable[..., Encryption], **options: object) -> str:
        error = self.assertRaises(ConfigurationError, make, **options)
        (problem,) = error.problems
        return str(problem)

    def test_files(self) -> None:
        """Missing files, folders, and files that hold something else."""
        nothing = self.file(b"nothing")
        for make, option, value, text in (
            (https, "SslCertificate", "certificate.pem", "/nowhere/certificate.pem: No such file or directory"),
            (https, "SslCertificate", str(self.work), "Is a directory"),
            (https, "SslCertificate", nothing, "the file holds no certificate"),
            (https, "SslCertificate", certificates().server.certificate, "the file holds no private key"),
            (dicom, "DicomTlsCertificate", "absent", "/nowhere/absent: No such file or directory"),
            (dicom, "DicomTlsCertificate", "", "missing"),
            (dicom, "DicomTlsPrivateKey", "absent", "No such file or directory"),
            (dicom, "DicomTlsPrivateKey", "", "missing"),
            (dicom, "DicomTlsPrivateKey", nothing, "the file holds no private key"),
            (dicom, "DicomTlsPrivateKey", certificates().client.private_key, "is not that of the certificate"),
            (dicom, "DicomTlsTrustedCertificates", nothing, "the file holds no certificate"),
        ):
            problem = self.problem(make, **{option: value})
            self.assertTrue(problem.startswith(f"{option}: "), problem)
            self.assertIn(text, problem)
        trusted = self.problem(https, SslVerifyPeers=True)
        self.assertIn("SslTrustedClientCertificates: cannot be read: /nowhere/trusted", trusted)

    def test_key_of_another_certificate(self) -> None:
        """The certificate and the key of one file do not belong together."""
        parts = (certificates().server.certificate, certificates().client.private_key)
        mixed = b"".join(Path(part).read_bytes() for part in parts)
        self.assertIn("is not that of the certificate", self.problem(https, SslCertificate=self.file(mixed)))

    def test_key_with_a_passphrase(self) -> None:
        """Nobody is asked for a passphrase."""
        target = str(self.work / "locked.key")
        locking = ["/usr/bin/openssl", "pkey", "-aes256", "-passout", "pass:secret", "-out", target]
        subprocess.run([*locking, "-in", certificates().server.private_key], check=True, capture_output=True)
        self.assertIn("or one with a passphrase", self.problem(dicom, DicomTlsPrivateKey=target))

    def test_ciphers(self) -> None:
        """A list without any cipher that there is is refused; what there is not beside others is told."""
        log = log_lines(self, LogLevels())
        self.assertIn("SslCiphersAccepted: OpenSSL has none", self.problem(https, SslCiphersAccepted=["A", "RC4-SHA"]))
        self.assertIn("SslCiphersAccepted[1]: OpenSSL has no such cipher", log.getvalue())
        self.assertIn("DicomTlsCiphersAccepted: OpenSSL has none", self.problem(dicom, DicomTlsCiphersAccepted=["A"]))
        https(SslCiphersAccepted=["ECDHE+AESGCM", "!AES256", "A", "TLS_AES_128_GCM_SHA256"])
        https(SslCiphersAccepted=["TLS_AES_128_GCM_SHA256"])

    def test_all_problems(self) -> None:
        """Problems of HTTPS and of DICOM are told together, each once."""
        both = {"SslEnabled": True, "DicomTlsEnabled": True, "DicomTlsTrustedCertificates": "absent"}
        with self.assertRaises(ConfigurationError) as raised:
            Encryption.of(Settings.parse(both, "/nowhere").security)
        options = [problem.partition(":")[0] for problem in raised.exception.problems]
        self.assertEqual(options, ["SslCertificate", "DicomTlsCertificate", "DicomTlsTrustedCertificates"])

    def test_the_start(self) -> None:
        """The process ends with 1 and the reason, before it becomes a daemon; `--check` tells it, too."""
        server = ServerProcess(self.work, options={"SslEnabled": True, "SslCertificate": "absent.pem"})
        server.configure()
        for command in (ORTHANCTW, (*ORTHANCTW, "--check"), TWISTD, DAEMON):
            done = run_to_end(command, server.configuration)
            self.assertEqual(done.returncode, 1, done)
            self.assertIn(f"SslCertificate: cannot be read: {self.work}/absent.pem: No such file", done.stderr)
            self.assertNotIn("Traceback", done.stderr)
        self.assertFalse((self.work / "twistd.pid").exists())

    def test_what_needs_a_restart(self) -> None:
        """Certificates may be exchanged, to switch TLS on or off needs a restart."""
        self.assertTrue(https().take(https(SslCertificate=certificates().renewed.combined)))
        self.assertFalse(https().take(dicom()))
        self.assertFalse(Encryption().take(https()))
