"""Every option that works has a test that sets it to another value than its default; so says a table."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from orthanctw.settings.options import State, options_of
from orthanctw.settings.sections import SECTIONS

_DATA, _NETWORK, _MODALITIES = "test_options_of_data", "test_options_of_network", "test_options_of_modalities"
#: Options, in the order of their sections, with the test of each.
TESTS: Final = {
    # General
    "Name": "test_rest_system.SystemTests.test_configured",
    "StableAge": "test_rest_changes.NewServerTests.test_stable",
    "MetricsEnabled": "test_metrics.ShownTests.test_configured_off",
    "DeidentifyLogs": f"{_DATA}.LogTests.test_shown",
    "DeidentifyLogsDicomVersion": f"{_DATA}.LogTests.test_edition",
    "LogExportedResources": "test_rest_modalities.OperationTest.test_exports",
    "Warnings": f"{_DATA}.WarningTests.test_tags_of_headers",
    # Storage
    "StorageDirectory": "test_lifecycle.PlaceTests.test_relative_path",
    "IndexDirectory": "test_takeover_failures.PlaceTests.test_index_elsewhere",
    "StorageCompression": "test_rest_system.SystemTests.test_statistics_of_compressed_storage",
    "MaximumStorageSize": "test_rest_browsing.ProtectionTests.test_reject_by_size",
    "MaximumPatientCount": "test_dicom_server.FullTest.test_quota",
    "MaximumStorageMode": "test_rest_browsing.ProtectionTests.test_reject",
    "StoreDicom": "test_rest_options.StoreDicomTests.test_index_only",
    "OverwriteInstances": "test_rest_uploads.PlainTests.test_overwrite",
    "StoreMD5ForAttachments": "test_rest_attached.AttachmentTests.test_without_digests",
    "SyncStorageArea": "test_durability.OrderTests.test_without_sync",
    "TemporaryDirectory": f"{_DATA}.TemporaryTests.test_archives",
    # Database
    "CheckRevisions": "test_rest_attaching.MetadataTests.test_check_revisions",
    "ReadOnly": "test_rest_options.ReadOnlyTests.test_routes",
    "DatabaseServerIdentifier": f"{_NETWORK}.ServerTests.test_identifier",
    "ExtraMainDicomTags": "test_rest_reconstruct.TagTests.test_more_main_tags",
    "UserMetadata": "test_rest_attaching.MetadataTests.test_write_read_delete",
    "UserContentType": "test_rest_attaching.AttachmentTests.test_write_read_delete",
    "PatientLevelEnabled": "test_rest_options.PatientLevelTests.test_routes",
    # Http
    "HttpServerEnabled": f"{_NETWORK}.ServerTests.test_disabled",
    "OrthancExplorerEnabled": "test_rest_system.PageTests.test_disabled",
    "HttpPort": "test_lifecycle.SharedServerTests.test_port_in_use",
    "HttpBindAddresses": f"{_NETWORK}.ServerTests.test_bind_addresses",
    "WebDavEnabled": "test_webdav_uploads.AccessTests.test_disabled",
    "WebDavDeleteAllowed": "test_webdav.DeletionTests.test_not_allowed",
    "WebDavUploadAllowed": "test_webdav_uploads.UploadTests.test_not_allowed",
    "SynchronousZipStream": "test_rest_archives.TranscodingTests.test_buffered",
    "ZipUseUtf8": "test_rest_archives.ArchiveTests.test_names",
    "HttpDescribeErrors": "test_rest_http.ErrorTests.test_not_described",
    "HttpCompressionEnabled": "test_rest_http.CompressionTests.test_disabled",
    "KeepAlive": "test_rest_http.ConnectionTests.test_no_keep_alive",
    "KeepAliveTimeout": "test_lifecycle.EndTests.test_idle",
    "TcpNoDelay": f"{_NETWORK}.ConnectionTests.test_no_delay",
    "HttpRequestTimeout": f"{_NETWORK}.ConnectionTests.test_request_timeout",
    "MaximumRequestBodySizeMB": "test_rest_bad_input.LimitTests.test_announced",
    "MaximumFileSizeInArchiveMB": f"{_NETWORK}.ConnectionTests.test_files_of_archives",
    # Security
    "RemoteAccessAllowed": f"{_NETWORK}.ServerTests.test_remote_access",
    "AuthenticationEnabled": "test_rest_manners.OptionsTests.test_strangers",
    "RegisteredUsers": "test_lifecycle.ReloadTests.test_users",
    "SslEnabled": "test_https.ReloadTests.test_exchange",
    "SslCertificate": "test_https.ReloadTests.test_exchange",
    "SslMinimumProtocolVersion": "test_https.ClientTests.test_versions",
    "SslCiphersAccepted": "test_https.ClientTests.test_ciphers",
    "SslVerifyPeers": "test_https.ClientTests.test_clients_with_certificates",
    "SslTrustedClientCertificates": "test_https.ClientTests.test_certificates_of_one_client",
    "DicomTlsEnabled": f"{_NETWORK}.DicomTlsTests.test_certificate",
    "DicomTlsCertificate": f"{_NETWORK}.DicomTlsTests.test_certificate",
    "DicomTlsPrivateKey": f"{_NETWORK}.DicomTlsTests.test_certificate",
    "DicomTlsTrustedCertificates": "test_dicom_tls.PeerTests.test_exchanged_certificates",
    "DicomTlsRemoteCertificateRequired": "test_dicom_tls.PeerTests.test_anonymous",
    "DicomTlsMinimumProtocolVersion": "test_dicom_tls.PeerTests.test_versions_and_ciphers",
    "DicomTlsCiphersAccepted": "test_dicom_tls.PeerTests.test_versions_and_ciphers",
    "RestApiWriteToFileSystemEnabled": "test_rest_options.ExportTests.test_export",
    # Dicom
    "DicomServerEnabled": "test_dicom_options.OptionTest.test_server_disabled",
    "DicomAet": "test_dicom_options.OptionTest.test_called_aet",
    "DicomCheckCalledAet": "test_dicom_options.OptionTest.test_called_aet",
    "DicomPort": "test_dicom_options.OptionTest.test_port",
    "DefaultEncoding": "test_dicom_options.OptionTest.test_default_encoding",
    "AcceptedTransferSyntaxes": "test_dicom_options.OptionTest.test_transfer_syntaxes",
    **{
        f"{group}TransferSyntaxAccepted": f"{_MODALITIES}.TransferSyntaxTests.test_groups"
        for group in ("Deflated", "Jpeg", "Jpeg2000", "JpegLossless", "Jpip", "Mpeg2", "Rle", "Mpeg4", "H265")
    },
    "UnknownSopClassAccepted": "test_dicom_options.OptionTest.test_sop_classes",
    "AcceptedSopClasses": "test_dicom_options.OptionTest.test_sop_classes",
    "RejectedSopClasses": "test_dicom_options.OptionTest.test_sop_classes",
    "DicomAlwaysAllowEcho": "test_dicom_options.OptionTest.test_always_allowed",
    "DicomAlwaysAllowStore": "test_dicom_options.OptionTest.test_always_allowed",
    "DicomAlwaysAllowFind": "test_dicom_find_hostile.PermissionTest.test_always",
    "DicomAlwaysAllowFindWorklist": "test_worklists.OptionTests.test_permissions",
    "DicomAlwaysAllowGet": "test_dicom_get.GetTest.test_permissions",
    "DicomAlwaysAllowMove": "test_dicom_retrieve.MoveTest.test_permissions",
    "DicomCheckModalityHost": "test_dicom_options.OptionTest.test_echo_and_store_of_modalities",
    "DicomEchoChecksFind": f"{_MODALITIES}.AskingTests.test_echo_checks_find",
    "DicomDefaultRetrieveMethod": f"{_MODALITIES}.AskingTests.test_retrieve_method",
    "DicomScuPreferredTransferSyntax": f"{_MODALITIES}.SendingTests.test_preferred_transfer_syntax",
    "DicomThreadsCount": "test_dicom_options.OptionTest.test_threads_count",
    "StrictAetComparison": "test_dicom_options.OptionTest.test_called_aet",
    "LimitFindResults": "test_dicom_find.MatchingTest.test_limits",
    "LimitFindInstances": "test_dicom_find.MatchingTest.test_limits",
    "QueryRetrieveSize": "test_rest_queries.QueryTest.test_size",
    "CaseSensitivePN": "test_dicom_find.MatchingTest.test_case",
    "LoadPrivateDictionary": "test_transcode_dictionary.DictionaryTests.test_no_private_dictionary",
    "Dictionary": "test_transcode_dictionary.DictionaryTests.test_configured",
    "ExternalDictionaries": "test_external_dictionaries.ServerTests.test_names_and_vrs",
    "SynchronousCMove": "test_dicom_retrieve.MoveTest.test_asynchronous",
    "DefaultPrivateCreator": "test_rest_creation.TagTests.test_private_tags",
    "StorageCommitmentReportsSize": "test_commitment_scu.AskingTests.test_kept",
    "DicomScpTimeout": "test_dicom_options.OptionTest.test_scp_timeout",
    "DicomScuTimeout": f"{_MODALITIES}.AskingTests.test_scu_timeout",
    "MaximumPduLength": "test_dicom_options.OptionTest.test_maximum_pdu_length",
    # Network
    "DicomModalities": "test_dicom_options.OptionTest.test_echo_and_store_of_modalities",
    "DicomModalitiesInDatabase": "test_rest_modalities.ConfigurationTest.test_restart",
    "OrthancPeers": "test_rest_peers.ConfigurationTests.test_restart",
    "OrthancPeersInDatabase": "test_rest_peers.ConfigurationTests.test_restart",
    "HttpProxy": "test_rest_peers.StoreTests.test_proxy",
    "HttpVerbose": f"{_NETWORK}.OutgoingTests.test_verbose",
    "HttpTimeout": f"{_NETWORK}.OutgoingTests.test_timeout",
    "HttpsVerifyPeers": f"{_NETWORK}.OutgoingTests.test_certificates",
    "HttpsCACertificates": f"{_NETWORK}.OutgoingTests.test_certificates",
    # Transcoding
    "TranscodeDicomProtocol": f"{_DATA}.DecoderTests.test_transcoding_for_peers",
    "BuiltinDecoderTranscoderOrder": f"{_DATA}.DecoderTests.test_disabled",
    "IngestTranscoding": "test_ingest_transcoding.StoredFormTests.test_native",
    "IngestTranscodingOfUncompressed": "test_ingest_transcoding.StoredFormTests.test_companions",
    "IngestTranscodingOfCompressed": "test_ingest_transcoding.StoredFormTests.test_companions",
    "DicomLossyTranscodingQuality": f"{_MODALITIES}.SendingTests.test_lossy_quality",
    # Jobs
    "ConcurrentJobs": "test_rest_modalities.OperationTest.test_steering",
    "JobsHistorySize": "test_rest_long_jobs.LongJobTests.test_history",
    "SaveJobs": "test_rest_long_jobs.LongJobTests.test_saving_switched_off",
    "MediaArchiveSize": "test_rest_archives.JobTests.test_what_is_kept",
    "JobsEngineThreadsCount": "test_editing_jobs.OptionTests.test_more",
    # Lua
    "LuaScripts": "test_lua_rest.StartTests.test_scripts",
    "LuaHeartBeatPeriod": "test_lua_events.HeartBeatTests.test_heart_beat",
    "ExecuteLuaEnabled": "test_lua_rest.ExecuteTests.test_output",
    "DicomAssociationCloseDelay": f"{_MODALITIES}.AskingTests.test_association_close_delay",
    # Python
    "PythonScript": "test_python_loading.LoadingTests.test_no_file",
    "PythonVerbose": "test_python_loading.LoadingTests.test_verbose",
    # Performance
    "MaximumStorageCacheSize": "test_caches.ServerTests.test_off",
    "StorageAccessOnFind": f"{_DATA}.AccessTests.test_never",
    "DicomParserCacheSize": "test_caches.ServerTests.test_off",
    "TranscoderCacheSize": "test_caches.ServerTests.test_off",
}


@functools.cache
def _module(name: str) -> tuple[ast.Module, str]:
    text = (Path(__file__).parent / f"{name}.py").read_text("utf-8")
    return ast.parse(text), text


def _source(text: str, node: ast.AST) -> str:
    return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])  # type: ignore[attr-defined]


def problem_of(option: str, test: str) -> str | None:
    """Why a test cannot be the one of an option: it is not there, or neither it nor what stands around it sets it."""
    module, class_name, method = test.split(".")
    try:
        tree, text = _module(module)
    except OSError:
        return "there is no such module"
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name), None)
    if found is None:
        return "there is no such class"
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    methods = {node.name: node for node in found.body if isinstance(node, functions)}
    if method not in methods:
        return "there is no such method"
    around = [
        node for node in (*tree.body, *found.body) if not isinstance(node, (ast.ClassDef, *functions))
    ] + [node for name, node in methods.items() if name == method or not name.startswith("test")]
    setting = re.compile(rf"\b{option}\b(\"?|'?)\s*[=:\]]")
    if not any(setting.search(_source(text, node)) for node in around):
        return "it does not set the option"
    return None


class CoverageTests(SynchronousTestCase):
    """The table and the options."""

    def test_every_option_has_a_test(self) -> None:
        """The table names each option that works, and no other."""
        working = {
            declared.name
            for section in SECTIONS.values()
            for _, declared in options_of(section)
            if declared.state is State.WORKS
        }
        self.assertEqual(working - TESTS.keys(), set(), "write a test that sets it, and name it in TESTS")
        self.assertEqual(TESTS.keys() - working, set())

    def test_every_test_is_there(self) -> None:
        """Each test exists and sets its option."""
        problems = {f"{option}: {test}": problem_of(option, test) for option, test in TESTS.items()}
        self.assertEqual({name: problem for name, problem in problems.items() if problem is not None}, {})

    def test_problems_are_found(self) -> None:
        """What is not there, or says nothing of an option, is no test of it."""
        for test in ("test_nothing.A.test_b", "test_rest_system.Nobody.test_a", "test_rest_system.SystemTests.test_a"):
            self.assertIn("there is no such", str(problem_of("Name", test)))
        self.assertEqual(
            problem_of("HttpPort", "test_rest_system.SystemTests.test_configured"), "it does not set the option"
        )
