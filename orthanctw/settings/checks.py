"""What options must fulfil together."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orthanctw.model import OverwriteMode
from orthanctw.settings.kinds import Place
from orthanctw.settings.options import State, options_of
from orthanctw.settings.plugin_sections import BUILT_IN, wanted

if TYPE_CHECKING:
    from orthanctw.settings.sections import Settings

#: Numbers of metadata and attachments that usual plugins take.
_RESERVED_METADATA = {4200: "the whole-slide imaging plugin"}
_RESERVED_ATTACHMENTS = {4301: "the DICOMweb plugin"}
#: TLS 1.2 as a value of `SslMinimumProtocolVersion`.
_OLDEST_TLS = 4


def check(settings: Settings, given: Mapping[str, object], place: Place) -> None:
    """Report contradictions as problems and pitfalls as warnings; `given` is the document."""
    _check_storage(settings, place)
    _check_accounts(settings, given, place)
    _check_encryption(settings, place)
    _check_smart_card(settings, place)
    _check_reserved(settings, place)
    _check_worklists(settings, place)
    _check_python(settings, place)
    _warn_without_effect(settings, given, place)


def _check_storage(settings: Settings, place: Place) -> None:
    storage = settings.storage
    if not settings.database.patient_level_enabled:
        if storage.maximum_patient_count:
            place.key("MaximumPatientCount").problem("a quota needs PatientLevelEnabled")
        if storage.maximum_storage_size:
            place.key("MaximumStorageSize").problem("a quota needs PatientLevelEnabled")
    if storage.overwrite_instances is OverwriteMode.IF_CHANGED and not storage.store_md5_for_attachments:
        place.key("OverwriteInstances").problem("IfChanged needs StoreMD5ForAttachments")


def _check_accounts(settings: Settings, given: Mapping[str, object], place: Place) -> None:
    security = settings.security
    users = place.key("RegisteredUsers")
    if not security.authentication_enabled:
        if security.remote_access_allowed:
            place.key("AuthenticationEnabled").warn("off although remote access is allowed: everybody may do all")
    elif "RegisteredUsers" not in given and security.remote_access_allowed:
        users.problem("missing, although remote access is allowed and authentication is on")
    elif not security.registered_users:
        users.warn("empty: every HTTP request will be refused")
    for user in security.well_known_accounts:
        users.warn(f'everybody knows the password of "{user}"; choose another')


def _check_encryption(settings: Settings, place: Place) -> None:
    security = settings.security
    if security.ssl_enabled:
        _warn_of_version(place.key("SslMinimumProtocolVersion"), security.ssl_minimum_protocol_version)
    if not security.dicom_tls_trusted_certificates:
        for name, modality in settings.network.dicom_modalities.items():
            if modality.use_dicom_tls:
                place.key("DicomModalities").key(name).key("UseDicomTls").warn("needs DicomTlsTrustedCertificates")
    if not security.dicom_tls_enabled:
        return
    minimum = security.dicom_tls_minimum_protocol_version
    if security.dicom_tls_remote_certificate_required and not security.dicom_tls_trusted_certificates:
        place.key("DicomTlsTrustedCertificates").problem("missing, although DicomTlsRemoteCertificateRequired is on")
    if minimum and not security.dicom_tls_ciphers_accepted:
        place.key("DicomTlsCiphersAccepted").problem("missing, although DicomTlsMinimumProtocolVersion is not 0")
    # 0 is a profile.
    _warn_of_version(place.key("DicomTlsMinimumProtocolVersion"), minimum or _OLDEST_TLS)


def _warn_of_version(place: Place, minimum: int) -> None:
    if minimum < _OLDEST_TLS:
        place.warn("protocols before TLS 1.2 are broken and not offered; TLS 1.2 is the oldest")


def _check_smart_card(settings: Settings, place: Place) -> None:
    if settings.network.pkcs11 is not None:
        place.key("Pkcs11").problem("smart cards are not available; give peers CertificateFile and CertificateKeyFile")


def _check_reserved(settings: Settings, place: Place) -> None:
    for name, number in settings.database.user_metadata.items():
        if number in _RESERVED_METADATA:
            place.key("UserMetadata").key(name).warn(f"{number} is used by {_RESERVED_METADATA[number]}")
    for name, entry in settings.database.user_content_type.items():
        if entry.number in _RESERVED_ATTACHMENTS:
            user = _RESERVED_ATTACHMENTS[entry.number]
            place.key("UserContentType").key(name).warn(f"{entry.number} is used by {user}")


def _check_worklists(settings: Settings, place: Place) -> None:
    worklists = settings.worklists
    if not worklists.enable:
        return
    section = place.key("Worklists")
    if worklists.directory and worklists.save_in_orthanc_database:
        section.key("SaveInOrthancDatabase").problem("worklists lie in Directory or in the index, not in both")
    if not worklists.directory and not worklists.save_in_orthanc_database:
        section.key("Directory").problem("missing, although worklists are not kept in the index")
    if worklists.delete_worklists_delay and worklists.directory:
        section.key("DeleteWorklistsDelay").warn("concerns worklists in the index only")


def _check_python(settings: Settings, place: Place) -> None:
    names: dict[str, str] = {}
    for script in settings.python_scripts:
        name, extension = os.path.splitext(os.path.basename(script))
        where = place.key("PythonScript")
        if extension != ".py":
            where.problem(f"a script in Python ends in .py: {script}")
        elif name == "orthanc":
            where.problem(f"a script named orthanc.py would hide the module that it imports: {script}")
        elif name in names:
            where.problem(f"two scripts of the same name: {names[name]} and {script}")
        names[name] = script


def _warn_without_effect(settings: Settings, given: Mapping[str, object], place: Place) -> None:
    if settings.general.plugins:
        place.key("Plugins").warn("shared libraries cannot be loaded")
    for section in settings.sections:
        defaults = type(section)()
        for field, declared in options_of(type(section)):
            if declared.state is not State.LATER:
                continue
            if getattr(section, field) != getattr(defaults, field):
                # A path may differ from its default by its folder only: so what is written is compared, too.
                for name in declared.names:
                    if given.get(name, declared.default) != declared.default:
                        place.key(name).warn("has no effect yet")
    for name, value in settings.plugin_sections.items():
        if name not in BUILT_IN and wanted(value):
            place.key(name).warn("has no effect yet")
