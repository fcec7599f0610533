"""TLS: what connections are secured by, made from the configuration, and why one failed (level 2).

OpenSSL comes by pyOpenSSL for everything, the threads of the SCU too, so that versions, cipher suites and messages are
the same on all ways.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from orthanctw.errors import ConfigurationError
from orthanctw.settings.services import Security

log = Logger(namespace="orthanctw.generic")
#: TLS 1.3 as a value of ``SslMinimumProtocolVersion``; OpenSSL offers TLS 1.2 for whatever is below.
_NEWEST: Final = 5
#: What ``SslCiphersAccepted`` is without the option.
_HTTPS_CIPHERS: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "DHE-RSA-AES256-SHA",
    "DHE-RSA-AES128-SHA",
    "AES256-SHA",
    "AES128-SHA",
)
#: Suites of BCP 195 (RFC 9325 section 4.2), the profile of PS3.15 section B.
_BCP_195_CIPHERS: Final = ("ECDHE+AESGCM", "DHE+AESGCM")
#: Octets of the longest record (RFC 8446 section 5.1), and of what is taken in one piece.
_RECORD: Final = 16384
_GATHERED: Final = 256 * 1024
#: First octet of a record with a handshake (RFC 8446 section 5.1).
_HANDSHAKE: Final = 0x16
#: Why a certificate is not good, by OpenSSL's codes.
VERDICTS: Final = {
    9: "is not valid yet",
    10: "has expired",
    18: "is of an unknown authority (signed by itself)",
    19: "is of an unknown authority",
    20: "is of an unknown authority",
    21: "is of an unknown authority",
    26: "is not meant for this purpose",
    66: "has a key that is too weak",
    68: "is signed by a weak algorithm",
}
#: What OpenSSL's reasons mean; the first that is part of the reason counts.
_REASONS: Final = (
    ("peer did not return a certificate", "the peer has sent no certificate"),
    ("alert unknown ca", "the peer does not trust our certificate: unknown authority"),
    ("alert certificate required", "the peer requires a certificate of ours"),
    ("alert certificate expired", "the peer finds that our certificate has expired"),
    ("alert bad certificate", "the peer refuses our certificate"),
    ("alert certificate unknown", "the peer refuses our certificate"),
    ("alert unsupported certificate", "the peer refuses our certificate"),
    ("alert protocol version", "no version of TLS in common"),
    ("unsupported protocol", "no version of TLS in common"),
    ("alert handshake failure", "the peer finds no common cipher suite, or misses a certificate of ours"),
    ("no shared cipher", "no cipher suite in common"),
    ("wrong version number", "the peer does not speak TLS"),
    ("packet length too long", "the peer does not speak TLS"),
    ("record layer failure", "the peer does not speak TLS"),
    ("unexpected eof", "the peer has broken off"),
    ("econnreset", "the peer has broken off"),
    ("epipe", "the peer has broken off"),
)


@attrs.frozen(kw_only=True)
class TlsRules:
    """What connections of one kind are secured by. Paths and ciphers are pairs of an option and its value.

    `requires_certificate`: of clients. `minimum` is that of ``SslMinimumProtocolVersion``.
    """

    certificate: tuple[str, str]
    private_key: tuple[str, str]
    trusted: tuple[str, str]
    requires_certificate: bool
    minimum: int
    ciphers: tuple[str, Sequence[str]]

    @classmethod
    def of_https(cls, options: Security) -> TlsRules:
        """Those of the HTTP server."""
        return cls(
            certificate=("SslCertificate", options.ssl_certificate),
            private_key=("SslCertificate", options.ssl_certificate),
            trusted=(
                "SslTrustedClientCertificates",
                options.ssl_trusted_client_certificates if options.ssl_verify_peers else "",
            ),
            requires_certificate=options.ssl_verify_peers,
            minimum=options.ssl_minimum_protocol_version,
            ciphers=("SslCiphersAccepted", options.ssl_ciphers_accepted or _HTTPS_CIPHERS),
        )

    @classmethod
    def of_dicom(cls, options: Security) -> TlsRules:
        """Those of associations, both ways."""
        return cls(
            certificate=("DicomTlsCertificate", options.dicom_tls_certificate),
            private_key=("DicomTlsPrivateKey", options.dicom_tls_private_key),
            trusted=("DicomTlsTrustedCertificates", options.dicom_tls_trusted_certificates),
            requires_certificate=options.dicom_tls_remote_certificate_required,
            minimum=options.dicom_tls_minimum_protocol_version,
            ciphers=("DicomTlsCiphersAccepted", options.dicom_tls_ciphers_accepted or _BCP_195_CIPHERS),
        )


class TlsConnection(SSL.Connection):
    """A connection that remembers in words why it failed, for logs and error messages.

    Over memory, what was received is taken in one piece, not record by record: a PDU may need two of them.
    """

    failure = ""

    def __init__(self, context: SSL.Context, handle: socket.socket | None = None) -> None:
        super().__init__(context, handle)
        self._gathers = handle is None
        self._late: SSL.Error | None = None

    def do_handshake(self) -> None:
        """See `SSL.Connection.do_handshake`."""
        try:
            super().do_handshake()
        except SSL.Error as e:
            self._note(e)
            raise

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """See `SSL.Connection.recv`. With TLS 1.3, a server's opinion of our certificate comes that late."""
        if self._late is not None:
            raise self._late
        try:
            data = super().recv(bufsiz, flags)
        except SSL.Error as e:
            self._note(e)
            raise
        return self._gathered(data) if self._gathers else data

    def _gathered(self, first: bytes) -> bytes:
        pieces = [first]
        size = len(first)
        try:
            while size < _GATHERED:
                pieces.append(super().recv(_RECORD))
                size += len(pieces[-1])
        except SSL.WantReadError:
            pass
        except SSL.Error as e:
            # After what came before.
            self._note(e)
            self._late = e
        return b"".join(pieces)

    def _note(self, error: SSL.Error) -> None:
        if not self.failure and not isinstance(error, SSL.WantReadError | SSL.WantWriteError | SSL.ZeroReturnError):
            self.failure = described(error, self.get_app_data())


def described(error: SSL.Error, verdict: int | None) -> str:
    """Why TLS failed, in words; `verdict` is OpenSSL's on the certificate of the peer."""
    if isinstance(error, SSL.SysCallError):
        reason = str(error.args[-1])
    else:
        reason = str(error.args[0][-1][-1]) if error.args and error.args[0] else "unexpected eof"
    if "certificate verify failed" in reason and verdict is not None:
        return f"the certificate of the peer {VERDICTS.get(verdict, f'is refused (code {verdict})')}"
    # Old releases of OpenSSL write "sslv3 alert", new ones "ssl/tls alert".
    plain = reason.casefold()
    return next((text for part, text in _REASONS if part in plain), reason)


def _judge(connection: SSL.Connection, certificate: X509, code: int, depth: int, good: int) -> bool:
    """Keep OpenSSL's verdict on a certificate, which its error does not tell."""
    if not good:
        connection.set_app_data(code)
    return bool(good)


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class Tls:
    """Secures connections of one kind, of clients or of servers. Any thread may use it.

    Raises ConfigurationError with all problems.
    """

    def __init__(self, rules: TlsRules, *, is_client: bool = False) -> None:
        self.is_client = is_client
        self._context = _context(rules, is_client)

    def take(self, other: Tls) -> None:
        """From the next connection on, be secured as `other` is."""
        self._context = other._context

    def connection(self, handle: socket.socket | None = None) -> TlsConnection:
        """TLS over a socket, or without one over memory. The handshake has not begun."""
        connection = TlsConnection(self._context, handle)
        if self.is_client:
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        return connection

    def serverConnectionForTLS(self, protocol: object) -> TlsConnection:
        return self.connection()

    def clientConnectionForTLS(self, protocol: object) -> TlsConnection:
        return self.connection()


@attrs.frozen
class Encryption:
    """What the connections of a server are secured by; None for what is not."""

    https: Tls | None = None
    dicom_server: Tls | None = None
    dicom_client: Tls | None = None

    @classmethod
    def of(cls, options: Security) -> Encryption:
        """Raises ConfigurationError with all problems, each with the path to its key."""
        problems: list[str] = []

        def make(rules: TlsRules, is_wanted: bool, *, is_client: bool) -> Tls | None:
            try:
                return Tls(rules, is_client=is_client) if is_wanted else None
            except ConfigurationError as e:
                problems.extend(problem for problem in e.problems if problem not in problems)
                return None

        https = make(TlsRules.of_https(options), options.ssl_enabled, is_client=False)
        dicom = TlsRules.of_dicom(options)
        server = make(dicom, options.dicom_tls_enabled, is_client=False)
        # Without anybody to trust no connection could be made.
        client = make(dicom, bool(dicom.trusted[1]), is_client=True)
        if problems:
            raise ConfigurationError(problems)
        return cls(https, server, client)

    def take(self, other: Encryption) -> bool:
        """Exchange certificates and rules; whether nothing was switched on or off, which needs a restart."""
        pairs = [
            (self.https, other.https),
            (self.dicom_server, other.dicom_server),
            (self.dicom_client, other.dicom_client),
        ]
        for mine, new in pairs:
            if mine is not None and new is not None:
                mine.take(new)
        return all((mine is None) == (new is None) for mine, new in pairs)


# Contexts


def _context(rules: TlsRules, is_client: bool) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    # Nothing is kept for each client; what is resumed was checked by a ticket of this context.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"orthanctw")
    problems: list[str] = []
    only_newest = _set_ciphers(context, *rules.ciphers, problems)
    newest = only_newest or rules.minimum >= _NEWEST
    context.set_min_proto_version(SSL.TLS1_3_VERSION if newest else SSL.TLS1_2_VERSION)
    if rules.certificate[1] or not is_client:
        _load_own(context, rules, problems)
    if rules.trusted[1] or rules.requires_certificate:
        _load_trusted(context, *rules.trusted, problems, is_client)
    if problems:
        raise ConfigurationError(problems)
    if is_client:
        context.set_verify(SSL.VERIFY_PEER, _judge)
    elif rules.trusted[1]:
        required = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if rules.requires_certificate else 0
        context.set_verify(SSL.VERIFY_PEER | required, _judge)
        # A ticket would let in whose certificate has expired meanwhile.
        context.set_options(SSL.OP_NO_TICKET)
    return context


def _set_ciphers(context: SSL.Context, option: str, names: Sequence[str], problems: list[str]) -> bool:
    """Whether the list allows nothing but TLS 1.3. Names that OpenSSL does not know are left out with a warning."""
    old: list[str] = []
    new: list[str] = []
    for number, name in enumerate(names):
        # What takes others away means nothing without them.
        if name.startswith(("!", "-", "+", "@")):
            old.append(name)
        elif name.startswith("TLS_") and _takes(SSL.Context.set_tls13_ciphersuites, name):
            new.append(name)
        elif _takes(SSL.Context.set_cipher_list, name):
            old.append(name)
        else:
            log.warn("{option}[{number}]: OpenSSL has no such cipher", option=option, number=number)
    if new:
        context.set_tls13_ciphersuites(":".join(new).encode())
        if not old:
            return True
    try:
        context.set_cipher_list(":".join(old).encode())
    except SSL.Error:
        problems.append(f"{option}: OpenSSL has none of these ciphers")
    return False


def _takes(set_ciphers: Callable[[SSL.Context, bytes], None], name: str) -> bool:
    try:
        set_ciphers(SSL.Context(SSL.TLS_METHOD), name.encode())
    except (SSL.Error, ValueError):
        return False
    return bool(name)


def _load_own(context: SSL.Context, rules: TlsRules, problems: list[str]) -> None:
    # Else OpenSSL would ask for it on the terminal.
    context.set_passwd_cb(lambda *_: b"")
    if not _load(context.use_certificate_chain_file, *rules.certificate, "certificate", problems):
        return
    option, path = rules.private_key
    try:
        context.use_privatekey_file(path)
    except SSL.Error as e:
        if "mismatch" in str(e):
            problems.append(f"{option}: the private key is not that of the certificate: {path}")
        else:
            _load(context.use_privatekey_file, option, path, "private key, or one with a passphrase", problems)


def _load_trusted(context: SSL.Context, option: str, path: str, problems: list[str], is_client: bool) -> None:
    if not _load(context.load_verify_locations, option, path, "certificate", problems):
        return
    store = context.get_cert_store()
    assert store is not None
    # What is in the file is trusted, be it an authority or the certificate of a peer.
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    if not is_client:
        # Clients with several certificates choose by the names in it.
        context.load_client_ca(path.encode())


def _load(load: Callable[[str], object], option: str, path: str, what: str, problems: list[str]) -> bool:
    if not path:
        problems.append(f"{option}: missing")
        return False
    try:
        with open(path, "rb"):
            load(path)
    except OSError as e:
        problems.append(f"{option}: cannot be read: {path}: {e.strerror}")
    except SSL.Error:
        problems.append(f"{option}: the file holds no {what}: {path}")
    else:
        return True
    return False


# Connections on the reactor


class TlsProtocol(TLSMemoryBIOProtocol):
    """TLS between a transport and a protocol, which knows of it from the first moment.

    So its time limits and those who count connections see handshakes, too. Who listens must not write before it was
    asked, and who asks must wait for `IHandshakeListener.handshakeCompleted`: data that wait for a handshake pause
    producers, and a producer that pauses reading never sees the handshake end.
    """

    factory: TlsFactory
    transport: Any
    #: Hides the socket below: what is set after each read is set by us, after reads of less than a record, too.
    socket = None
    _is_new = True
    _is_stranger = False

    def makeConnection(self, transport: Any) -> None:
        self._after_read = self.factory.after_read(transport)
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    @property
    def bufferSize(self) -> int:
        """Octets read at a time."""
        return int(self.transport.bufferSize)

    @bufferSize.setter
    def bufferSize(self, size: int) -> None:
        self.transport.bufferSize = size

    def dataReceived(self, data: bytes) -> None:
        self._after_read()
        if self._is_new:
            self._is_new = False
            if data[0] != _HANDSHAKE and not self.factory.tls.is_client:
                self._refuse()
        if not self._is_stranger:
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def _refuse(self) -> None:
        self._is_stranger = True
        log.info("{address} does not speak TLS", address=self._address())
        self.transport.write(self.factory.refusal)
        self.transport.loseConnection()

    def _address(self) -> str:
        return str(getattr(self.transport.getPeer(), "host", ""))

    def loseConnection(self) -> None:
        """Close once everything was sent. Producers must have been unregistered before."""
        super().loseConnection()  # type: ignore[no-untyped-call]
        # Not when the peer has said goodbye, too: who never does would keep the connection.
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        failure = failure_of(self)
        if failure and not self._is_stranger:
            log.warn("TLS with {address} failed: {failure}", address=self._address(), failure=failure)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


def failure_of(transport: object) -> str:
    """Why a connection failed, if it was one of TLS and did. To be asked before it is gone for good."""
    if not isinstance(transport, TlsProtocol):
        return ""
    connection: TlsConnection | None = transport.getHandle()  # type: ignore[no-untyped-call]
    return "" if connection is None else connection.failure


class TlsFactory(TLSMemoryBIOFactory):
    """Makes connections of TLS for another factory.

    Parameters
    ----------
    after_read : callable
        ``after_read(transport)`` answers what is called after every read from the network.
    refusal : bytes
        What those are told who do not speak TLS.
    """

    protocol = TlsProtocol

    def __init__(
        self,
        tls: Tls,
        factory: IProtocolFactory,
        clock: IReactorTime,
        *,
        after_read: Callable[[Any], Callable[[], None]] = lambda transport: lambda: None,
        refusal: bytes = b"",
    ) -> None:
        super().__init__(tls, tls.is_client, factory, clock)
        self.tls = tls
        self.after_read = after_read
        self.refusal = refusal

    def buildProtocol(self, addr: IAddress | None) -> Any:
        inner = self.wrappedFactory.buildProtocol(addr)
        return None if inner is None else TlsProtocol(self, inner)  # type: ignore[no-untyped-call]
