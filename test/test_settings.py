"""The configuration as values: declarations of options, parsing and checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.errors import ConfigurationError
from orthanctw.model import OverwriteMode, ResourceLevel, StorageMode
from orthanctw.settings import (
    SECTIONS,
    Manufacturer,
    Modality,
    Orthanctw,
    Peer,
    RetrieveMethod,
    Settings,
    State,
    UserContentType,
    options_of,
)
from orthanctw.settings.kinds import Place
from orthanctw.settings.plugin_sections import PLUGIN_SECTIONS
from orthanctw.settings.services import ENCODINGS

FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "options.json").read_text(encoding="utf-8"))
DECLARED = {
    declared.name: (group, field, declared)
    for group, section in SECTIONS.items()
    # Those of Python are a plugin's.
    if group != "python"
    for field, declared in options_of(section)
}
#: What replaces the warning of the default that has no effect yet.
QUIET = {"DicomServerEnabled": False}
MODALITY = {"AET": "A", "Host": "h", "Port": 104}


def parsed(**options: object) -> Settings:
    return Settings.parse({**QUIET, **options}, "/base")


class TableTests(SynchronousTestCase):
    """The declarations against the list of options of the original."""

    def test_every_option_is_declared_in_its_group(self) -> None:
        """The declared options are those of the original, in its groups."""
        expected = {entry["name"]: entry["group"] for entry in FACTS["options"]}
        self.assertEqual(len(expected), 147)
        self.assertEqual({name: group for name, (group, _, _) in DECLARED.items()}, expected)

    def test_types(self) -> None:
        """Each option is named by the original's type and has its allowed values."""
        for entry in FACTS["options"]:
            _, _, declared = DECLARED[entry["name"]]
            self.assertEqual(declared.kind.label, entry["type"], entry["name"])
            if isinstance(entry.get("values"), list):
                self.assertEqual(list(declared.kind.values), entry["values"], entry["name"])

    def test_defaults(self) -> None:
        """Each option has the original's default, both as declared and as the value of its section."""
        for entry in FACTS["options"]:
            group, field, declared = DECLARED[entry["name"]]
            if declared.default is not None or entry["default"] is None:
                self.assertEqual(declared.default, entry["default"], entry["name"])
            if entry["default"] is not None:
                value = getattr(SECTIONS[group](), field)
                self.assertEqual(value, declared.kind.parse(entry["default"], Place()), entry["name"])

    def test_samples(self) -> None:
        """Each option is shown in the sample where the original has it."""
        for entry in FACTS["options"]:
            _, _, declared = DECLARED[entry["name"]]
            self.assertEqual(declared.sample.value, entry["file"].removesuffix(" (commented out)"), entry["name"])

    def test_reasons(self) -> None:
        """Exactly the options that never have an effect say why, and exactly the unset ones say what holds then."""
        for name, (_, _, declared) in DECLARED.items():
            self.assertEqual(bool(declared.reason), declared.state is State.ACCEPTED, name)
            self.assertEqual(bool(declared.note), declared.default is None, name)

    def test_worklists(self) -> None:
        """Worklists lie in one place; their folder is below that of the file, under its old name, too."""
        section = Settings.parse({"Worklists": {"Enable": True, "Database": "lists"}}, "/etc/orthanctw").worklists
        self.assertEqual((section.directory, section.limit_answers), ("/etc/orthanctw/lists", 0))
        for wrong, place in (({}, "Directory"), ({"Directory": "x", "SaveInOrthancDatabase": True}, "SaveInOrthanc")):
            with self.assertRaises(ConfigurationError) as caught:
                parsed(Worklists={"Enable": True, **wrong})
            self.assertIn(f"Worklists.{place}", str(caught.exception))
        self.assertEqual(parsed(Worklists={"SaveInOrthancDatabase": True, "Directory": "x"}).warnings, ())
        unknown = parsed(Worklists={"Enable": True, "Directory": "x", "DeleteWorklistsDelay": 1, "Limit": 1})
        told = [text.partition(":")[0] for text in unknown.warnings]
        self.assertEqual(told, ["Worklists.Limit", "Worklists.DeleteWorklistsDelay"])

    def test_obsolete_spellings(self) -> None:
        """The obsolete spellings of the original are read."""
        aliases = {alias: name for name, (_, _, declared) in DECLARED.items() for alias in declared.aliases}
        self.assertEqual(aliases, FACTS["aliases"])

    def test_members_of_structures(self) -> None:
        """Modalities and peers have the original's members and defaults."""
        for section, facts in ((Modality, FACTS["modality"]), (Peer, FACTS["peer"])):
            found = {declared.name: declared.default for _, declared in options_of(section)}
            self.assertEqual(found, {entry["name"]: entry["default"] for entry in facts})

    def test_manufacturers(self) -> None:
        """Each manufacturer's name, obsolete ones too, stands for the one of the original."""
        for name, meant in FACTS["manufacturers"].items():
            entry = parsed(DicomModalities={"m": ["A", "h", 104, name]}).network.dicom_modalities["m"]
            self.assertIs(entry.manufacturer, Manufacturer(meant))

    def test_encodings_and_plugins(self) -> None:
        """Names of encodings and plugin sections are the original's."""
        self.assertEqual(list(ENCODINGS), FACTS["encodings"])
        self.assertEqual(sorted(PLUGIN_SECTIONS), FACTS["plugin_sections"])


class ParseTests(SynchronousTestCase):
    """Typed values of documents."""

    def refused(self, document: dict[str, object]) -> tuple[str, ...]:
        return self.assertRaises(ConfigurationError, Settings.parse, {**QUIET, **document}, "/base").problems

    def test_defaults(self) -> None:
        """Without options all is at its default, and paths are below the base."""
        settings = Settings.defaults("/base")
        self.assertEqual(settings.http.http_port, 8042)
        self.assertEqual(settings.storage.storage_directory, "/base/OrthancStorage")
        self.assertEqual(settings.storage.index_directory, "/base/OrthancStorage")
        self.assertEqual(settings.network.https_ca_certificates, "")
        self.assertIs(settings.storage.maximum_storage_mode, StorageMode.RECYCLE)
        self.assertEqual(settings.orthanctw, Orthanctw())
        self.assertEqual(settings.warnings, ())

    def test_every_default_may_be_written(self) -> None:
        """A document that gives every option its default gives the default settings without a warning."""
        defaults = {name: declared.default for name, (_, _, declared) in DECLARED.items()}
        document = {name: default for name, default in defaults.items() if default is not None}
        settings = parsed(**{**document, **QUIET})
        self.assertEqual(settings, parsed())
        self.assertEqual(settings.warnings, ())

    def test_frozen(self) -> None:
        """Sections and mappings of the settings cannot be changed."""
        settings = parsed(UserMetadata={"a": 1024})
        self.assertRaises(attrs.exceptions.FrozenInstanceError, setattr, settings.http, "http_port", 1)
        with self.assertRaises(TypeError):
            settings.database.user_metadata["b"] = 1025  # type: ignore[index]

    def test_paths(self) -> None:
        """Relative paths are below the base, or below the folder of their option; absolute ones stay."""
        document = {**QUIET, "StorageDirectory": "../s", "IndexDirectory": "/i", "LuaScripts": ["a.lua"]}
        settings = Settings.parse(document, "/base", {"LuaScripts": "/other"})
        self.assertEqual(settings.storage.storage_directory, "/base/../s")
        self.assertEqual(settings.storage.index_directory, "/i")
        self.assertEqual(settings.lua.lua_scripts, ("/other/a.lua",))

    def test_all_problems_together(self) -> None:
        """Every problem is told, with the path to its key."""
        problems = self.refused(
            {
                "HttpPort": 65536,
                "Name": 3,
                "StorageCompression": 1,
                "StableAge": -1,
                "MaximumStorageMode": "recycle",
                "DicomAet": "12345678901234567",
                "DicomModalities": {"sample": {"AET": "A", "Host": "h", "Port": 0}, "b c": ["A", "h", 1]},
                "OrthancPeers": {"p": ["ftp://x"], "q": {"Username": "u", "Tag": []}},
                "LuaScripts": ["a", 2],
                "Orthanctw": {"ReaderThreads": 0},
                "Worklists": [],
            }
        )
        self.assertEqual(
            sorted(problems),
            [
                "DicomAet: an AE title of 1 to 16 characters is needed",
                "DicomModalities.b c: the name may contain letters, digits, - and _ only",
                "DicomModalities.sample.Port: a number from 1 to 65534 is needed",
                "HttpPort: a number from 0 to 65535 is needed",
                "LuaScripts[1]: a string is needed, not an integer",
                "MaximumStorageMode: one of Recycle, Reject is needed, did you mean Recycle?",
                "Name: a string is needed, not an integer",
                "OrthancPeers.p.Url: a URL that begins with http:// or https:// is needed",
                "OrthancPeers.q.Tag: a string, a number or a boolean is needed",
                "OrthancPeers.q.Url: missing",
                "Orthanctw.ReaderThreads: a number from 1 to 256 is needed",
                "StableAge: a number from 0 to 4294967295 is needed",
                "StorageCompression: a boolean is needed, not an integer",
                "Worklists: an object is needed, not an array",
            ],
        )

    def test_wrong_types(self) -> None:
        """No option takes a value of another type, and the problem names the option."""
        for name in DECLARED:
            problems = self.refused({name: None})
            self.assertTrue(problems[0].startswith(f"{name}: "), problems)

    def test_numbers_are_integers(self) -> None:
        """Neither a boolean nor a fraction nor a text is a number."""
        for value in (True, 1.5, 8042.0, "8042"):
            self.assertEqual(len(self.refused({"HttpPort": value})), 1)

    def test_unknown_options(self) -> None:
        """An unknown option is warned of, with the name that was meant when one is like it."""
        settings = parsed(HttpPrt=1, httpport=1, Bananas=1, Orthanctw={"ReaderThread": 1})
        self.assertEqual(
            settings.warnings,
            (
                "HttpPrt: unknown option, did you mean HttpPort?",
                "httpport: unknown option, did you mean HttpPort?",
                "Bananas: unknown option",
                "Orthanctw.ReaderThread: unknown option, did you mean ReaderThreads?",
            ),
        )

    def test_nothing_to_warn_of(self) -> None:
        """Options that have an effect, or need none, are not warned of."""
        self.assertEqual(parsed(LuaHeartBeatPeriod=5).warnings, ())
        self.assertEqual(parsed(Locale="", SslCertificate="certificate.pem", HttpThreadsCount=3).warnings, ())

    def test_plugin_sections(self) -> None:
        """Sections of plugins are kept, and warned of unless they are empty or switched off."""
        settings = parsed(DicomWeb={"Root": "/x/"}, Worklists={"Enable": False}, ServeFolders={})
        self.assertEqual(
            dict(settings.plugin_sections),
            {"DicomWeb": {"Root": "/x/"}, "Worklists": {"Enable": False}, "ServeFolders": {}},
        )
        self.assertEqual(settings.warnings, ("DicomWeb: has no effect yet",))

    def test_obsolete_spellings(self) -> None:
        """Obsolete spellings are read, and lose against the present one."""
        self.assertEqual(parsed(RejectSopClasses=["1.2"]).dicom.rejected_sop_classes, ("1.2",))
        both = parsed(RejectSopClasses=["1.2"], RejectedSopClasses=["1.3"])
        self.assertEqual(both.dicom.rejected_sop_classes, ("1.3",))
        self.assertIn("RejectSopClasses: ignored, because RejectedSopClasses is given", both.warnings)

    def test_overwrite_instances(self) -> None:
        """Booleans stand for Never and Always."""
        for value, mode in ((False, OverwriteMode.NEVER), (True, OverwriteMode.ALWAYS)):
            self.assertIs(parsed(OverwriteInstances=value).storage.overwrite_instances, mode)
        self.assertEqual(len(self.refused({"OverwriteInstances": 1})), 1)

    def test_encoding(self) -> None:
        """The name of an encoding is read in any case."""
        self.assertEqual(parsed(DefaultEncoding="japanesekanji").dicom.default_encoding, "JapaneseKanji")

    def test_derived_defaults(self) -> None:
        """Options that are absent follow those that they depend on."""
        settings = parsed(ZipLoaderThreads=7, StorageLoaderThreadsCount=9, StorageDirectory="/s")
        self.assertEqual(settings.performance.loader_threads, 7)
        self.assertEqual(settings.performance.sequential_dicom_reader_window_size, 7)
        self.assertEqual(settings.performance.sequential_dicom_reader_threads_count, 9)
        self.assertEqual(settings.storage.index_directory, "/s")

    def test_server_identifier(self) -> None:
        """The identifier of the server is the configured one, or a digest of titles, ports and addresses."""
        self.assertEqual(parsed(DatabaseServerIdentifier="me").server_identifier([]), "me")
        self.assertEqual(
            parsed(HttpPort=18977).server_identifier(["02:fc:00:00:00:01"]),
            "a39aea7a-24913cc5-1b5a7575-d460f8d6-251c500b",
        )

    @hypothesis_settings(deadline=None, max_examples=60)
    @given(
        st.dictionaries(
            st.sampled_from([*DECLARED, *PLUGIN_SECTIONS, "Orthanctw", "Other"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                max_leaves=8,
            ),
            max_size=8,
        )
    )
    def test_anything(self, document: dict[str, object]) -> None:
        """Whatever stands in a document, it is parsed or refused with problems."""
        try:
            settings = Settings.parse(document, "/base")
        except ConfigurationError as error:
            self.assertTrue(error.problems)
        else:
            self.assertIsInstance(settings.warnings, tuple)


class StructureTests(SynchronousTestCase):
    """Options that are objects."""

    def problem(self, **options: object) -> str:
        problems = self.assertRaises(ConfigurationError, parsed, **options).problems
        self.assertEqual(len(problems), 1, problems)
        return str(problems[0])

    def test_modalities(self) -> None:
        """A modality is an array or an object, and its port may be a text."""
        found = parsed(
            DicomModalities={
                "a": ["A", "h", 104],
                "b": ["A", "h", 104, "GE"],
                "c": {**MODALITY, "Port": "105", "AllowFind": False, "RetrieveMethod": "C-GET"},
            }
        ).network.dicom_modalities
        self.assertEqual(found["a"], Modality(aet="A", host="h", port=104))
        self.assertEqual(found["b"], Modality(aet="A", host="h", port=104, manufacturer=Manufacturer.GE))
        self.assertEqual(
            found["c"],
            Modality(aet="A", host="h", port=105, allow_find=False, retrieve_method=RetrieveMethod.C_GET),
        )

    def test_storage_commitment_of_a_modality(self) -> None:
        """AllowStorageCommitment stands for both of its parts."""
        settings = parsed(DicomModalities={"a": {**MODALITY, "AllowStorageCommitment": False}})
        entry = settings.network.dicom_modalities["a"]
        self.assertEqual((entry.allow_n_action, entry.allow_event_report), (False, False))

    def test_wrong_modalities(self) -> None:
        """What is wrong in a modality is named by the path to it."""
        for entry, problem in (
            (["A", "h"], "DicomModalities.a: an array of AET, Host, Port and maybe Manufacturer is needed"),
            (["", "h", 1], "DicomModalities.a.AET: an AE title of 1 to 16 characters is needed"),
            (["A", "h", 65535], "DicomModalities.a.Port: a number from 1 to 65534 is needed"),
            ({**MODALITY, "AllowEcho": 1}, "DicomModalities.a.AllowEcho: a boolean is needed, not an integer"),
            (7, "DicomModalities.a: an object is needed, not an integer"),
        ):
            self.assertEqual(self.problem(DicomModalities={"a": entry}), problem)

    def test_unknown_member_of_a_modality(self) -> None:
        """An unknown member of a modality is warned of."""
        warnings = parsed(DicomModalities={"a": {**MODALITY, "AllowFnd": True}}).warnings
        self.assertIn("DicomModalities.a.AllowFnd: unknown option, did you mean AllowFind?", warnings)

    def test_peers(self) -> None:
        """A peer is an array or an object; other keys of the object are properties."""
        found = parsed(
            OrthancPeers={
                "a": ["http://h:1"],
                "b": ["https://h/x/", "u", "p"],
                "c": {"URL": "http://h", "HttpHeaders": {"K": "v"}, "RemoteSelf": "me", "N": 3, "B": True},
            }
        ).network.orthanc_peers
        self.assertEqual(found["a"], Peer(url="http://h:1/"))
        self.assertEqual(found["b"], Peer(url="https://h/x/", username="u", password="p"))
        self.assertEqual(
            found["c"],
            Peer(url="http://h/", http_headers={"K": "v"}, properties={"RemoteSelf": "me", "N": "3", "B": "true"}),
        )

    def test_wrong_peer(self) -> None:
        """A peer with a user name but no password is refused."""
        self.assertIn("OrthancPeers.a: an array of the URL", self.problem(OrthancPeers={"a": ["http://h", "u"]}))
        for field, value in (("Pkcs11", True), ("HttpHeaders", {"a b": "c"}), ("HttpHeaders", {"a": "b\nc"})):
            problem = self.problem(OrthancPeers={"a": {"Url": "http://h", field: value}})
            self.assertIn(f"OrthancPeers.a.{field}", problem)
        self.assertIn("Pkcs11: smart cards", self.problem(Pkcs11={"Module": "m"}))

    def test_proxy(self) -> None:
        """A proxy has a host and a port, maybe credentials before them."""
        for value in ("", "h:3128", "http://h:1", "http://u:p@h:1/", "u:p@[::1]:80"):
            self.assertEqual(parsed(HttpProxy=value).network.http_proxy, value)
        for value in ("h", "h:", "ftp://h:1", "h:1/x", "u:p@", "a b:1", "h:65536", "u:p#@h:1", "[x]:1"):
            self.assertIn("HttpProxy: [user:password@]host:port is needed", self.problem(HttpProxy=value))

    def test_secrets_stay_out_of_texts(self) -> None:
        """Neither the text form of settings nor a problem shows a password."""
        peers = {"b": ["http://h", "u", "hush"]}
        settings = parsed(RegisteredUsers={"u": "hush"}, OrthancPeers=peers, HttpProxy="u:hush@h:1")
        self.assertNotIn("hush", repr(settings))
        self.assertNotIn("hush", self.problem(OrthancPeers={"b": ["http://h", "u", ["hush"]]}))

    def test_dictionary(self) -> None:
        """Entries of the dictionary have 2 to 5 elements, and private ones the low byte of the tag."""
        found = parsed(
            Dictionary={
                "0014,1020": ["DA", "ValidationExpiryDate"],
                "00e1,c2": ["UI", "PET-CT", 1, 0, "ELSCINT1"],
                "7053,1003": ["ST", "Name", 2],
            }
        ).dicom.dictionary
        entry = found["0014,1020"]
        self.assertEqual((entry.tag, entry.vr, entry.minimum, entry.maximum), (0x00141020, "DA", 1, 1))
        entry = found["00e1,c2"]
        self.assertEqual((entry.tag, entry.maximum, entry.private_creator), (0x00E100C2, 0, "ELSCINT1"))
        self.assertEqual((found["7053,1003"].minimum, found["7053,1003"].maximum), (2, 2))

    def test_wrong_dictionary(self) -> None:
        """Malformed tags, VRs and multiplicities are refused."""
        for tag, entry in (
            ("x.0014,1020", ["DA", "N"]),
            ("0014", ["DA", "N"]),
            ("0014,1020", ["da", "N"]),
            ("0014,1020", ["DA"]),
            ("0014,1020", ["DA", "N", 3, 2]),
            ("0014,1020", ["DA", "N", 1, 1, "P", 1]),
        ):
            self.assertTrue(self.problem(Dictionary={tag: entry}).startswith(f"Dictionary.{tag}: "))

    def test_users(self) -> None:
        """Passwords are texts, and a user's name has no colon."""
        problem = self.problem(RegisteredUsers={"u": 1})
        self.assertEqual(problem, "RegisteredUsers.u: a string is needed, not an integer")
        self.assertIn("no colon", self.problem(RegisteredUsers={"a:b": "p"}))

    def test_user_metadata(self) -> None:
        """Numbers of metadata are in the range of users, unique, and their names are not the server's."""
        self.assertEqual(dict(parsed(UserMetadata={"a": 1024}).database.user_metadata), {"a": 1024})
        self.assertIn("1024 to 65535", self.problem(UserMetadata={"a": 1023}))
        self.assertIn("same number", self.problem(UserMetadata={"a": 1024, "b": 1024}))
        self.assertIn("taken", self.problem(UserMetadata={"LastUpdate": 1024}))
        self.assertIn("slide", " ".join(parsed(UserMetadata={"a": 4200}).warnings))

    def test_user_content_types(self) -> None:
        """Attachments have a number, or a number and a MIME type."""
        found = parsed(UserContentType={"a": 1024, "b": [1025, "text/plain"]}).database.user_content_type
        self.assertEqual(found["a"], UserContentType(1024, "application/octet-stream"))
        self.assertEqual(found["b"], UserContentType(1025, "text/plain"))
        self.assertIn("same number", self.problem(UserContentType={"a": 1024, "b": [1024, "x/y"]}))
        self.assertIn("taken", self.problem(UserContentType={"dicom": 1024}))
        self.assertIn("MIME", self.problem(UserContentType={"a": [1024]}))

    def test_extra_main_dicom_tags(self) -> None:
        """Tags of a level are names or numbers, each once."""
        found = parsed(ExtraMainDicomTags={"Series": ["Rows", "0028,0011"]}).database.extra_main_dicom_tags
        self.assertEqual(found[ResourceLevel.SERIES], ("Rows", "0028,0011"))
        self.assertEqual(found[ResourceLevel.PATIENT], ())
        twice = self.problem(ExtraMainDicomTags={"Series": ["0028,0011", "00280011"]})
        self.assertEqual(twice, "ExtraMainDicomTags.Series: 0028,0011 is given twice")
        self.assertIn("name of a tag", self.problem(ExtraMainDicomTags={"Study": ["0028"]}))
        self.assertIn("did you mean Study", " ".join(parsed(ExtraMainDicomTags={"Studi": []}).warnings))

    def test_accepted_transfer_syntaxes(self) -> None:
        """One pattern may stand without an array."""
        self.assertEqual(parsed(AcceptedTransferSyntaxes="1.2.*").dicom.accepted_transfer_syntaxes, ("1.2.*",))

    def test_warnings(self) -> None:
        """Switches that are not given keep their default."""
        warnings = parsed(Warnings={"W001_TagsBeingReadFromStorage": False}).general.warnings
        self.assertFalse(warnings.w001_tags_being_read_from_storage)
        self.assertTrue(warnings.w002_inconsistent_dicom_tags_in_db)


class CheckTests(SynchronousTestCase):
    """Options that depend on one another."""

    def problems(self, **options: object) -> tuple[str, ...]:
        return tuple(self.assertRaises(ConfigurationError, parsed, **options).problems)

    def test_remote_access_without_users(self) -> None:
        """Remote access with authentication is refused unless users are given."""
        expected = ("RegisteredUsers: missing, although remote access is allowed and authentication is on",)
        self.assertEqual(self.problems(RemoteAccessAllowed=True), expected)
        self.assertEqual(self.problems(RemoteAccessAllowed=True, AuthenticationEnabled=True), expected)
        self.assertIn("every HTTP request", parsed(RemoteAccessAllowed=True, RegisteredUsers={}).warnings[0])
        self.assertIn("every HTTP request", parsed(AuthenticationEnabled=True).warnings[0])

    def test_authentication_follows_remote_access(self) -> None:
        """Authentication is on where remote access is allowed, unless it is switched off."""
        self.assertFalse(parsed().security.authentication_enabled)
        self.assertTrue(parsed(RemoteAccessAllowed=True, RegisteredUsers={"u": "p"}).security.authentication_enabled)
        unsafe = parsed(RemoteAccessAllowed=True, AuthenticationEnabled=False)
        self.assertFalse(unsafe.security.authentication_enabled)
        self.assertIn("everybody", unsafe.warnings[0])

    def test_http_server_secure(self) -> None:
        """The server is not secure when it is open to all, or has an account that everybody knows."""
        users = {"u": "p"}
        self.assertTrue(parsed().security.http_server_secure)
        self.assertTrue(parsed(RemoteAccessAllowed=True, RegisteredUsers=users).security.http_server_secure)
        self.assertFalse(parsed(RemoteAccessAllowed=True, AuthenticationEnabled=False).security.http_server_secure)
        for account in ({"orthanc": "orthanc"}, {"alice": "orthanctest"}, {"alice": "alicePassword"}):
            known = parsed(AuthenticationEnabled=True, RegisteredUsers=account)
            self.assertFalse(known.security.http_server_secure)
            self.assertIn("everybody knows", known.warnings[0])

    def test_quotas_need_the_patient_level(self) -> None:
        """A quota is refused without the patient level."""
        self.assertEqual(
            self.problems(PatientLevelEnabled=False, MaximumPatientCount=1, MaximumStorageSize=1),
            (
                "MaximumPatientCount: a quota needs PatientLevelEnabled",
                "MaximumStorageSize: a quota needs PatientLevelEnabled",
            ),
        )
        self.assertFalse(parsed(PatientLevelEnabled=False).database.patient_level_enabled)

    def test_comparison_needs_digests(self) -> None:
        """IfChanged is refused without MD5 digests."""
        self.assertEqual(
            self.problems(OverwriteInstances="IfChanged", StoreMD5ForAttachments=False),
            ("OverwriteInstances: IfChanged needs StoreMD5ForAttachments",),
        )
        self.assertIs(parsed(OverwriteInstances="IfChanged").storage.overwrite_instances, OverwriteMode.IF_CHANGED)

    def test_ae_title(self) -> None:
        """The AE title has 1 to 16 characters."""
        self.assertEqual(len(self.problems(DicomAet="")), 1)
        self.assertEqual(parsed(DicomAet="1234567890123456").dicom.dicom_aet, "1234567890123456")

    def test_dicom_tls(self) -> None:
        """TLS with required certificates needs trusted ones, and a minimum version needs ciphers."""
        self.assertEqual(
            self.problems(DicomTlsEnabled=True, DicomTlsMinimumProtocolVersion=4),
            (
                "DicomTlsTrustedCertificates: missing, although DicomTlsRemoteCertificateRequired is on",
                "DicomTlsCiphersAccepted: missing, although DicomTlsMinimumProtocolVersion is not 0",
            ),
        )
        self.assertTrue(parsed(DicomTlsEnabled=True, DicomTlsTrustedCertificates="t").security.dicom_tls_enabled)

    def test_checks_see_beside_wrong_values(self) -> None:
        """A wrong value does not hide that other options of its section contradict each other."""
        problems = self.problems(RemoteAccessAllowed=True, DicomTlsEnabled=True, DicomTlsCertificate=1)
        self.assertEqual(len(problems), 3)

    def test_old_protocols(self) -> None:
        """Versions that are not offered any more are told, where TLS is used."""
        self.assertEqual(parsed(SslMinimumProtocolVersion=3, DicomTlsMinimumProtocolVersion=1).warnings, ())
        old = {"SslMinimumProtocolVersion": 3, "DicomTlsMinimumProtocolVersion": 1, "DicomTlsCiphersAccepted": ["x"]}
        new = {"SslMinimumProtocolVersion": 4, "DicomTlsMinimumProtocolVersion": 0}
        used: dict[str, object] = {"SslEnabled": True, "DicomTlsEnabled": True, "DicomTlsTrustedCertificates": "t"}
        text = "protocols before TLS 1.2 are broken and not offered; TLS 1.2 is the oldest"
        told = (f"SslMinimumProtocolVersion: {text}", f"DicomTlsMinimumProtocolVersion: {text}")
        self.assertEqual(parsed(**used, **old).warnings, told)
        self.assertEqual(parsed(**used, **new).warnings, ())

    def test_modalities_by_tls(self) -> None:
        """Modalities that nothing could be trusted at are told of."""
        modality = {"AET": "A", "Host": "h", "Port": 1, "UseDicomTls": True}
        warned = parsed(DicomModalities={"m": modality}).warnings
        self.assertEqual(warned, ("DicomModalities.m.UseDicomTls: needs DicomTlsTrustedCertificates",))
        self.assertEqual(parsed(DicomModalities={"m": modality}, DicomTlsTrustedCertificates="t").warnings, ())

    def test_plugins_are_warned_of(self) -> None:
        """Shared libraries are told to be left out."""
        self.assertEqual(parsed(Plugins=["/usr/lib/x.so"]).warnings, ("Plugins: shared libraries cannot be loaded",))
