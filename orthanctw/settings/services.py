"""Sections that concern the network: DICOM, HTTP, remote servers and security."""
# The calls below declare fields, they make no shared defaults.
# ruff: noqa: RUF009

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from orthanctw.settings.kinds import (
    ae_title,
    boolean,
    choice,
    list_of,
    megabytes,
    member,
    path,
    paths,
    port,
    proxy,
    seconds,
    text,
    texts,
    uid,
    uid_pattern,
    uid_patterns,
    unsigned,
)
from orthanctw.settings.options import ACCEPTED, ADVANCED, LATER, WORKS, derived, option, unset
from orthanctw.settings.structures import (
    DictionaryEntry,
    Modality,
    Peer,
    Pkcs11,
    RetrieveMethod,
    dictionary,
    modalities,
    peers,
    pkcs11,
    users,
)

#: Names of the character sets of ``DefaultEncoding``.
ENCODINGS: Final = (
    "Ascii",
    "Utf8",
    "Latin1",
    "Latin2",
    "Latin3",
    "Latin4",
    "Latin5",
    "Cyrillic",
    "Windows1251",
    "Arabic",
    "Greek",
    "Hebrew",
    "Thai",
    "Japanese",
    "Chinese",
    "JapaneseKanji",
    "Korean",
    "SimplifiedChinese",
)
_COUNT: Final = unsigned()
_TLS_VERSION: Final = unsigned("unsigned 0..5", 0, 5)
_AS_LISTED: Final = "as `AcceptedTransferSyntaxes` says"


def _syntax_group(prefix: str, members: str) -> bool | None:
    return unset(
        f"{prefix}TransferSyntaxAccepted",
        boolean,
        None,
        WORKS,
        f"Accept or refuse {members}, whatever `AcceptedTransferSyntaxes` says",
        note=_AS_LISTED,
    )


@attrs.frozen(kw_only=True)
class Dicom:
    """DICOM services and data."""

    dicom_server_enabled: bool = option("DicomServerEnabled", boolean, True, WORKS, "Start the DICOM server")
    dicom_aet: str = option("DicomAet", ae_title, "ORTHANC", WORKS, "AE title of the server")
    dicom_check_called_aet: bool = option(
        "DicomCheckCalledAet", boolean, False, WORKS, "Refuse associations to another AE title than `DicomAet`"
    )
    dicom_port: int = option("DicomPort", port, 4242, WORKS, "TCP port of the DICOM server; 0: any free one")
    default_encoding: str = option(
        "DefaultEncoding",
        choice(*ENCODINGS, ignore_case=True),
        "Latin1",
        WORKS,
        "Character set of files that name none, and of answers to C-FIND",
    )
    accepted_transfer_syntaxes: tuple[str, ...] = option(
        "AcceptedTransferSyntaxes",
        list_of(uid_pattern, "array of UID patterns (or one string)", single=True),
        ["1.2.840.10008.1.*"],
        WORKS,
        "Transfer syntaxes in which objects are received; `*` and `?` are wildcards",
    )
    deflated_transfer_syntax_accepted: bool | None = _syntax_group("Deflated", "deflated explicit little endian")
    jpeg_transfer_syntax_accepted: bool | None = _syntax_group("Jpeg", "JPEG")
    jpeg2000_transfer_syntax_accepted: bool | None = _syntax_group("Jpeg2000", "JPEG 2000")
    jpeg_lossless_transfer_syntax_accepted: bool | None = _syntax_group("JpegLossless", "JPEG-LS")
    jpip_transfer_syntax_accepted: bool | None = _syntax_group("Jpip", "JPIP")
    mpeg2_transfer_syntax_accepted: bool | None = _syntax_group("Mpeg2", "MPEG-2")
    rle_transfer_syntax_accepted: bool | None = _syntax_group("Rle", "RLE")
    mpeg4_transfer_syntax_accepted: bool | None = _syntax_group("Mpeg4", "MPEG-4")
    h265_transfer_syntax_accepted: bool | None = _syntax_group("H265", "HEVC")
    unknown_sop_class_accepted: bool = option(
        "UnknownSopClassAccepted", boolean, False, WORKS, "Receive objects of SOP classes that nobody knows"
    )
    accepted_sop_classes: tuple[str, ...] | None = unset(
        "AcceptedSopClasses", uid_patterns, None, WORKS, "Storage SOP classes to receive", note="the standard's"
    )
    rejected_sop_classes: tuple[str, ...] = unset(
        "RejectedSopClasses",
        uid_patterns,
        (),
        WORKS,
        "Storage SOP classes not to receive",
        note="none",
        aliases=("RejectSopClasses",),
    )
    dicom_always_allow_echo: bool = option(
        "DicomAlwaysAllowEcho", boolean, True, WORKS, "Anybody may send C-ECHO, not known modalities only"
    )
    dicom_always_allow_store: bool = option(
        "DicomAlwaysAllowStore", boolean, True, WORKS, "Anybody may send C-STORE, not known modalities only"
    )
    dicom_always_allow_find: bool = option(
        "DicomAlwaysAllowFind", boolean, False, WORKS, "Anybody may send C-FIND, not known modalities only"
    )
    dicom_always_allow_find_worklist: bool = option(
        "DicomAlwaysAllowFindWorklist", boolean, False, WORKS, "Anybody may ask for worklists"
    )
    dicom_always_allow_get: bool = option(
        "DicomAlwaysAllowGet", boolean, False, WORKS, "Anybody may send C-GET, not known modalities only"
    )
    dicom_always_allow_move: bool = option(
        "DicomAlwaysAllowMove", boolean, False, WORKS, "Anybody may send C-MOVE, not known modalities only"
    )
    dicom_check_modality_host: bool = option(
        "DicomCheckModalityHost", boolean, False, WORKS, "A modality must also call from its address"
    )
    dicom_echo_checks_find: bool = option(
        "DicomEchoChecksFind", boolean, False, WORKS, "Testing a modality also sends it a C-FIND"
    )
    dicom_default_retrieve_method: RetrieveMethod = option(
        "DicomDefaultRetrieveMethod",
        member(RetrieveMethod, only=(RetrieveMethod.C_MOVE, RetrieveMethod.C_GET)),
        "C-MOVE",
        WORKS,
        "How found objects are retrieved from modalities",
    )
    dicom_scu_preferred_transfer_syntax: str = option(
        "DicomScuPreferredTransferSyntax",
        uid,
        "1.2.840.10008.1.2.1",
        WORKS,
        "Transfer syntax that is tried first when an object is transcoded to be sent",
    )
    dicom_threads_count: int = option("DicomThreadsCount", _COUNT, 4, WORKS, "DICOM operations served at once")
    strict_aet_comparison: bool = option(
        "StrictAetComparison", boolean, False, WORKS, "AE titles that differ in case only are different"
    )
    limit_find_results: int = option(
        "LimitFindResults", _COUNT, 0, WORKS, "Answers of a search for patients, studies or series; 0: no limit"
    )
    limit_find_instances: int = option(
        "LimitFindInstances", _COUNT, 0, WORKS, "Answers of a search for instances; 0: no limit"
    )
    query_retrieve_size: int = option("QueryRetrieveSize", _COUNT, 100, WORKS, "Queries kept under `/queries`")
    case_sensitive_pn: bool = option("CaseSensitivePN", boolean, False, WORKS, "C-FIND minds the case of names")
    load_private_dictionary: bool = option(
        "LoadPrivateDictionary", boolean, True, WORKS, "Know the private tags of usual manufacturers"
    )
    dictionary: Mapping[str, DictionaryEntry] = option(
        "Dictionary", dictionary, {}, WORKS, "Entries to add to the DICOM dictionary"
    )
    external_dictionaries: tuple[str, ...] | None = unset(
        "ExternalDictionaries",
        paths,
        None,
        WORKS,
        "Dictionary files in DCMTK's format, in place of the built-in dictionaries",
        note="those built in",
    )
    synchronous_c_move: bool = option(
        "SynchronousCMove", boolean, True, WORKS, "Answer a C-MOVE when it is done, rather than make a job of it"
    )
    default_private_creator: str = option(
        "DefaultPrivateCreator", text, "", WORKS, "Private creator when a request names none (PS3.5 section 7.8.1)"
    )
    storage_commitment_reports_size: int = option(
        "StorageCommitmentReportsSize", _COUNT, 100, WORKS, "Requests for storage commitment to keep; 0 for no limit"
    )
    dicom_scp_timeout: int = option(
        "DicomScpTimeout",
        seconds,
        30,
        WORKS,
        "Idle time after which an incoming association is closed; 0: never",
        sample=ADVANCED,
    )
    dicom_scu_timeout: int = option(
        "DicomScuTimeout", seconds, 10, WORKS, "Time to wait for a modality; 0: for ever", sample=ADVANCED
    )
    maximum_pdu_length: int = option(
        "MaximumPduLength",
        unsigned("unsigned 4096..131072", 4096, 131072),
        16384,
        WORKS,
        "Largest PDU to receive, in bytes (PS3.8 section D.1)",
        sample=ADVANCED,
    )


@attrs.frozen(kw_only=True)
class Http:
    """The HTTP server."""

    http_server_enabled: bool = option("HttpServerEnabled", boolean, True, WORKS, "Start the HTTP server")
    orthanc_explorer_enabled: bool = option(
        "OrthancExplorerEnabled", boolean, True, WORKS, "Offer the built-in web page under `/app/`"
    )
    http_port: int = option("HttpPort", port, 8042, WORKS, "TCP port of the HTTP server; 0: any free one")
    http_bind_addresses: tuple[str, ...] = unset(
        "HttpBindAddresses", texts, (), WORKS, "Addresses to listen on", note="all"
    )
    http_threads_count: int = option(
        "HttpThreadsCount",
        _COUNT,
        50,
        ACCEPTED,
        "Threads that serve requests",
        reason="an event loop serves all connections; `Orthanctw.MaximumConnections` limits them",
    )
    web_dav_enabled: bool = option("WebDavEnabled", boolean, True, WORKS, "Offer WebDAV under `/webdav/`")
    web_dav_delete_allowed: bool = option("WebDavDeleteAllowed", boolean, False, WORKS, "WebDAV may delete")
    web_dav_upload_allowed: bool = option("WebDavUploadAllowed", boolean, True, WORKS, "WebDAV may upload")
    synchronous_zip_stream: bool = option(
        "SynchronousZipStream", boolean, True, WORKS, "Send an archive while it is being made"
    )
    zip_use_utf8: bool = option("ZipUseUtf8", boolean, False, WORKS, "File names of archives are UTF-8")
    http_describe_errors: bool = option(
        "HttpDescribeErrors", boolean, True, WORKS, "Error answers have a JSON body", sample=ADVANCED
    )
    http_compression_enabled: bool = option(
        "HttpCompressionEnabled", boolean, False, WORKS, "Compress answers for clients that accept it", sample=ADVANCED
    )
    keep_alive: bool = option(
        "KeepAlive", boolean, True, WORKS, "Serve several requests on a connection", sample=ADVANCED
    )
    keep_alive_timeout: int = option(
        "KeepAliveTimeout", seconds, 1, WORKS, "Idle time after which a connection is closed", sample=ADVANCED
    )
    tcp_no_delay: bool = option("TcpNoDelay", boolean, True, WORKS, "Send small answers at once", sample=ADVANCED)
    http_request_timeout: int = option(
        "HttpRequestTimeout", seconds, 30, WORKS, "Time for a client to send a request's headers", sample=ADVANCED
    )
    maximum_request_body_size_mb: int = option(
        "MaximumRequestBodySizeMB", megabytes, 8192, WORKS, "Largest body of a request; 0: no limit", sample=ADVANCED
    )
    maximum_file_size_in_archive_mb: int = option(
        "MaximumFileSizeInArchiveMB",
        megabytes,
        4096,
        WORKS,
        "Largest file inside an uploaded archive, uncompressed; 0: no limit",
        sample=ADVANCED,
    )


@attrs.frozen(kw_only=True)
class Security:
    """Who may do what, and encryption."""

    remote_access_allowed: bool = option(
        "RemoteAccessAllowed", boolean, False, WORKS, "Serve HTTP to other machines too"
    )
    authentication_enabled: bool = derived(
        "AuthenticationEnabled",
        boolean,
        lambda section: bool(section.remote_access_allowed),
        WORKS,
        "HTTP requests need a user and a password",
        note="`RemoteAccessAllowed`",
    )
    registered_users: Mapping[str, str] = unset(
        "RegisteredUsers", users, MappingProxyType({}), WORKS, "Users and their passwords", note="none", secret=True
    )
    ssl_enabled: bool = option("SslEnabled", boolean, False, WORKS, "Serve HTTPS instead of HTTP")
    ssl_certificate: str = option(
        "SslCertificate", path, "certificate.pem", WORKS, "PEM file of the certificate, its chain and the private key"
    )
    ssl_minimum_protocol_version: int = option(
        "SslMinimumProtocolVersion",
        _TLS_VERSION,
        4,
        WORKS,
        "Oldest protocol of HTTPS: 5 is TLS 1.3, all others are TLS 1.2",
        sample=ADVANCED,
    )
    ssl_ciphers_accepted: tuple[str, ...] | None = unset(
        "SslCiphersAccepted",
        texts,
        None,
        WORKS,
        "OpenSSL's names of the ciphers of HTTPS",
        note="a choice of AES ciphers",
        sample=ADVANCED,
    )
    ssl_verify_peers: bool = option("SslVerifyPeers", boolean, False, WORKS, "HTTPS clients need a certificate")
    ssl_trusted_client_certificates: str = option(
        "SslTrustedClientCertificates",
        path,
        "trustedClientCertificates.pem",
        WORKS,
        "PEM file of the certificates of clients, or of their authorities",
    )
    dicom_tls_enabled: bool = option("DicomTlsEnabled", boolean, False, WORKS, "The DICOM server uses TLS")
    dicom_tls_certificate: str = unset(
        "DicomTlsCertificate", path, "", WORKS, "PEM file of our certificate for DICOM", note="none"
    )
    dicom_tls_private_key: str = unset(
        "DicomTlsPrivateKey", path, "", WORKS, "PEM file of the private key of `DicomTlsCertificate`", note="none"
    )
    dicom_tls_trusted_certificates: str = unset(
        "DicomTlsTrustedCertificates",
        path,
        "",
        WORKS,
        "PEM file of the certificates of peers, or of their authorities",
        note="none",
    )
    dicom_tls_remote_certificate_required: bool = option(
        "DicomTlsRemoteCertificateRequired", boolean, True, WORKS, "DICOM peers need a certificate"
    )
    dicom_tls_minimum_protocol_version: int = option(
        "DicomTlsMinimumProtocolVersion",
        _TLS_VERSION,
        0,
        WORKS,
        "Oldest protocol of DICOM: 5 is TLS 1.3, all others are TLS 1.2; 0: the profile BCP 195 (PS3.15 section B)",
        sample=ADVANCED,
    )
    dicom_tls_ciphers_accepted: tuple[str, ...] = unset(
        "DicomTlsCiphersAccepted",
        texts,
        (),
        WORKS,
        "OpenSSL's names of the ciphers of DICOM; needed when `DicomTlsMinimumProtocolVersion` is not 0",
        note="those of BCP 195",
        sample=ADVANCED,
    )
    rest_api_write_to_file_system_enabled: bool = option(
        "RestApiWriteToFileSystemEnabled",
        boolean,
        False,
        WORKS,
        "Allow `/instances/{id}/export`, which writes files on the server",
        sample=ADVANCED,
    )

    @property
    def well_known_accounts(self) -> tuple[str, ...]:
        """Users with a password that everybody knows."""
        return tuple(user for user, password in self.registered_users.items() if (user, password) in _WELL_KNOWN)

    @property
    def http_server_secure(self) -> bool:
        """``IsHttpServerSecure`` of ``/system``."""
        open_to_all = self.remote_access_allowed and not self.authentication_enabled
        return not open_to_all and not self.well_known_accounts


_WELL_KNOWN: Final = {("orthanc", "orthanc"), ("alice", "orthanctest"), ("alice", "alicePassword")}


@attrs.frozen(kw_only=True)
class Network:
    """Remote servers and how to reach them."""

    dicom_modalities: Mapping[str, Modality] = option(
        "DicomModalities", modalities, {}, WORKS, "Known DICOM modalities, by a name of yours"
    )
    dicom_modalities_in_database: bool = option(
        "DicomModalitiesInDatabase", boolean, False, WORKS, "Keep modalities in the index, not in this file"
    )
    orthanc_peers: Mapping[str, Peer] = option(
        "OrthancPeers", peers, {}, WORKS, "Known servers with the same REST API, by a name of yours"
    )
    orthanc_peers_in_database: bool = option(
        "OrthancPeersInDatabase", boolean, False, WORKS, "Keep peers in the index, not in this file"
    )
    http_proxy: str = option(
        "HttpProxy", proxy, "", WORKS, "Proxy of outgoing HTTP: `[user:password@]host:port`", secret=True
    )
    http_verbose: bool = option("HttpVerbose", boolean, False, WORKS, "Log every request to remote servers")
    http_timeout: int = option(
        "HttpTimeout", seconds, 60, WORKS, "Time to wait for a remote server while nothing moves; 0: for ever"
    )
    https_verify_peers: bool = option(
        "HttpsVerifyPeers", boolean, True, WORKS, "Check the certificates of remote servers"
    )
    https_ca_certificates: str = option(
        "HttpsCACertificates", path, "", WORKS, "PEM file of certificate authorities; empty: those of the system"
    )
    pkcs11: Pkcs11 | None = unset(
        "Pkcs11", pkcs11, None, LATER, "Smart card for outgoing HTTPS; refused", note="none", sample=ADVANCED
    )
