"""Certificates of HTTPS: our own, and whose we believe."""

from __future__ import annotations

import ipaddress
import os
from typing import Any

import attrs
from OpenSSL import SSL
from OpenSSL.crypto import X509StoreFlags
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from orthanctw.httpclient.values import ClientCertificate, HttpFailure
from orthanctw.tls import VERDICTS


@attrs.frozen
class Trust:
    """What a TLS connection begins with; `files` are the versions of the files, so that changed ones are read anew."""

    certificate: ClientCertificate | None
    authorities: str
    verifies: bool
    files: tuple[tuple[int, int], ...] = ()

    def current(self) -> Trust:
        """The same, with the files as they are now (blocking)."""
        paths = [self.authorities] if self.verifies else []
        if self.certificate is not None:
            paths += [self.certificate.certificate, self.certificate.key]
        return attrs.evolve(self, files=tuple(_version(path) for path in paths if path))

    def context(self) -> SSL.Context:
        """A context for connections (blocking). HttpFailure when a file cannot be used."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        if self.verifies:
            self._trust(context)
            context.set_verify(SSL.VERIFY_PEER, _verified)
            context.set_info_callback(_told)
        if self.certificate is not None:
            _use(context, self.certificate)
        return context

    def _trust(self, context: SSL.Context) -> None:
        if not self.authorities:
            context.set_default_verify_paths()
            return
        try:
            context.load_verify_locations(self.authorities)
        except SSL.Error as e:
            raise HttpFailure("The file of HttpsCACertificates cannot be used") from e
        store = context.get_cert_store()
        assert store is not None
        # What is in the file is believed, be it an authority or the certificate of a server.
        store.set_flags(X509StoreFlags.PARTIAL_CHAIN)


def _version(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_ino


def _use(context: SSL.Context, certificate: ClientCertificate) -> None:
    try:
        context.use_certificate_chain_file(certificate.certificate)
    except SSL.Error as e:
        raise HttpFailure("CertificateFile cannot be used") from e
    # Without one, OpenSSL would ask on the terminal for a password that is missing.
    context.set_passwd_cb(lambda *_: certificate.password.encode())
    path = certificate.key or certificate.certificate
    try:
        with open(path, "rb"):
            context.use_privatekey_file(path)
    except OSError as e:
        raise HttpFailure("CertificateKeyFile cannot be read") from e
    except SSL.Error as e:
        if "mismatch" in str(e):
            raise HttpFailure("CertificateKeyFile is not the key of CertificateFile") from e
        raise HttpFailure("CertificateKeyFile cannot be used: it is no key, or CertificateKeyPassword is wrong") from e


class _Connection(SSL.Connection):
    """A connection that knows what it is to be verified for, and who is told."""

    protocol: Any
    host: str
    is_address: bool

    def fail(self, details: str) -> None:
        """End the connection for a reason."""
        self.protocol.failVerification(Failure(HttpFailure(details)))


def _verified(connection: Any, _: object, error: int, depth: int, is_good: int) -> bool:
    """Tell what is wrong with a certificate: afterwards OpenSSL only knows that something was."""
    if not is_good:
        whose = "The certificate of the server" if depth == 0 else "A certificate above that of the server"
        meaning = VERDICTS.get(error, f"is refused (X.509 error {error})")
        connection.fail(f"{whose} {meaning}")
    return bool(is_good)


def _told(connection: Any, where: int, _: int) -> None:
    if not where & SSL.SSL_CB_HANDSHAKE_DONE:
        return
    verify = verify_ip_address if connection.is_address else verify_hostname
    try:
        verify(connection, connection.host)
    except (VerificationError, CertificateError):
        connection.fail("The certificate of the server is that of another host")
    except Exception:  # noqa: BLE001 - whatever a certificate makes of the library, it is not believed
        connection.fail("The certificate of the server cannot be verified")


@implementer(IOpenSSLClientConnectionCreator)
class ConnectionCreator:
    """Begins TLS connections to a host."""

    def __init__(self, context: SSL.Context, host: str) -> None:
        self._context = context
        self._host = host
        try:
            ipaddress.ip_address(host)
            self._is_address = True
        except ValueError:
            self._is_address = False

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = _Connection(self._context, None)
        connection.protocol, connection.host, connection.is_address = protocol, self._host, self._is_address
        if not self._is_address:
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        return connection
